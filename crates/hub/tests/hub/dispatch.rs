//! Who gets which work item, what happens to the items of workers that are lost, and what a completion token is worth.

use std::time::Duration;

use seriatim_durable::hub::HubError;
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_hub::core::{CoreConfig, Request};

use crate::driver::*;

const MINUTE: Duration = Duration::from_mins(1);

fn limits(orchestrations: i32, activities: i32, entities: i32) -> proto::GetWorkItemsRequest {
    proto::GetWorkItemsRequest {
        max_concurrent_orchestration_work_items: orchestrations,
        max_concurrent_activity_work_items: activities,
        max_concurrent_entity_work_items: entities,
        ..Default::default()
    }
}

fn is_stale<T: std::fmt::Debug>(outcome: &Result<T, HubError>) -> bool {
    matches!(outcome, Err(HubError::FailedPrecondition(message)) if message.contains("no longer with this worker"))
}

#[test]
fn the_items_of_a_lost_worker_go_to_another_at_once_and_its_results_count_no_more() {
    let mut hub = Driver::new();
    let lost = hub.worker();
    hub.start("a", "any");
    hub.play("a", vec![task(0, "t"), signal(1, "@e@a", "op")]);
    hub.start("b", "any");
    let (turn, activity, batch) = (hub.turns[0].clone(), hub.activities[0].clone(), hub.batches[0].clone());
    let other = hub.worker();
    assert!(hub.turns.iter().all(|turn| turn.worker != other));
    hub.leave(lost);
    assert_eq!((hub.turns[0].worker, hub.activities[0].worker, hub.batches[0].worker), (other, other, other));
    assert!(is_stale(&hub.try_turn(&turn, vec![complete(0)])));
    assert!(is_stale(&hub.finish_activity(&activity, "old")));
    assert!(is_stale(&hub.try_batch(&batch, vec![success("old")], Some("old"))));
    assert!(is_stale(&hub.call(Request::Abandon(turn.token.clone()))));
    assert_eq!((hub.status("b"), hub.entity("@e@a").unwrap().serialized_state), (Status::Pending, None));
    let again = hub.activities.pop_front().unwrap();
    hub.finish_activity(&again, "new").unwrap();
    assert!(is_stale(&hub.finish_activity(&again, "twice")), "an activity is recorded once");
    assert_eq!(kinds(&hub.turn_of("a").request.new_events), ["(", "task done"]);
}

#[test]
fn tokens_from_before_a_crash_or_of_another_kind_or_of_nothing_change_nothing() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    let old = hub.turn_of("a");
    let mut hub = hub.crash();
    hub.worker();
    let new = hub.turn_of("a");
    assert_ne!(old.token, new.token);
    assert!(is_stale(&hub.try_turn(&old, vec![complete(0)])));
    for token in ["", "x", "-", "0000000000000002-99", "0000000000000002-"] {
        assert!(is_stale(&hub.call(Request::Abandon(token.into()))), "{token}");
    }
    let wrong_kind = [
        Request::CompleteActivity(proto::ActivityResponse {
            completion_token: new.token.clone(),
            ..Default::default()
        }),
        Request::CompleteEntity(proto::EntityBatchResult { completion_token: new.token.clone(), ..Default::default() }),
        Request::CompleteOrchestrator(proto::OrchestratorResponse {
            completion_token: new.token.clone(),
            instance_id: "another".into(),
            ..Default::default()
        }),
    ];
    for request in wrong_kind {
        assert!(matches!(hub.call(request), Err(HubError::InvalidArgument(_))));
    }
    hub.finish_turn(&new, vec![task(0, "t"), call(1, "@e@k", "op")]);
    let (activity, batch) = (hub.activities.pop_front().unwrap(), hub.batches.pop_front().unwrap());
    for token in [&activity.token, &batch.token] {
        let turn = proto::OrchestratorResponse { completion_token: token.clone(), ..Default::default() };
        let error = hub.call(Request::CompleteOrchestrator(turn)).unwrap_err();
        assert!(matches!(&error, HubError::InvalidArgument(why) if why.contains(token.as_str())), "{error}");
    }
    hub.finish_activity(&activity, "1").unwrap();
    hub.try_batch(&batch, vec![success("1")], None).unwrap();
}

#[test]
fn leases_of_turns_and_batches_run_out_and_those_of_activities_only_if_told_to() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    hub.play("a", vec![task(0, "t"), signal(1, "@e@a", "op")]);
    hub.start("b", "any");
    let (turn, batch) = (hub.turn_of("b"), hub.batches.pop_front().unwrap());
    assert_eq!(hub.wake, Some(hub.clock.plus(MINUTE)), "the hub asks to be woken then");
    hub.pass(Duration::from_secs(59));
    assert!(hub.turns.is_empty() && hub.batches.is_empty());
    hub.pass(Duration::from_secs(1));
    assert_eq!((hub.turns.len(), hub.batches.len(), hub.activities.len()), (1, 1, 1));
    assert!(is_stale(&hub.try_turn(&turn, vec![])) && is_stale(&hub.try_batch(&batch, vec![success("")], None)));
    hub.pass(MINUTE * 60 * 24 * 365);
    let activity = hub.activities.pop_front().unwrap();
    hub.finish_activity(&activity, "in time").unwrap();

    let mut hub = Driver::with_config(CoreConfig { activity_lease: Some(MINUTE), ..CoreConfig::default() });
    hub.worker();
    hub.start("a", "any");
    hub.play("a", vec![task(0, "t")]);
    let activity = hub.activities.pop_front().unwrap();
    hub.pass(MINUTE);
    assert_eq!(hub.activities.len(), 1);
    assert!(is_stale(&hub.finish_activity(&activity, "late")));
}

#[test]
fn an_abandoned_item_goes_out_again() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    hub.play("a", vec![task(0, "t"), signal(1, "@e@a", "op")]);
    hub.raise("a", "e").unwrap();
    let tokens = [hub.turn().token, hub.activities.pop_front().unwrap().token, hub.batches.pop_front().unwrap().token];
    for token in tokens {
        hub.ok(Request::Abandon(token));
    }
    assert_eq!((hub.turns.len(), hub.activities.len(), hub.batches.len()), (1, 1, 1));
    assert_eq!(kinds(&hub.turn_of("a").request.new_events), ["(", "raised"]);
}

#[test]
fn a_worker_gets_no_more_than_it_asked_for_and_workers_share() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.worker_with(limits(1, 0, 0));
    hub.play("a", (0..6).map(|n| task(n, "t")).collect());
    assert!(hub.activities.is_empty(), "0 means none of that kind");
    hub.worker_with(limits(0, 2, 0));
    assert_eq!(hub.activities.len(), 2);
    hub.worker_with(limits(0, 2, 0));
    assert_eq!(hub.activities.len(), 4);
    let done = hub.activities.pop_front().unwrap();
    hub.finish_activity(&done, "").unwrap();
    assert_eq!(hub.activities.back().unwrap().worker, done.worker, "whoever is free gets the next one");
    hub.worker_with(limits(i32::MAX, i32::MAX, -1));
    assert_eq!(hub.activities.len(), 5);
}

#[test]
fn new_work_is_spread_over_the_workers_that_have_room() {
    let mut hub = Driver::new();
    for n in 0..4 {
        hub.start(&format!("o{n}"), "any");
    }
    hub.commit_at_once = false;
    let (one, two) = (hub.worker_with(limits(1, 100, 0)), hub.worker_with(limits(100, 100, 0)));
    assert_eq!(hub.turns.iter().filter(|turn| turn.worker == one).count(), 1);
    assert_eq!(hub.turns.iter().filter(|turn| turn.worker == two).count(), 3);
    let turn = hub.turn_of("o0");
    hub.finish_turn(&turn, (0..4).map(|n| task(n, "t")).collect());
    assert_eq!(hub.activities.iter().filter(|activity| activity.worker == one).count(), 2);
}

#[test]
fn a_worker_gets_only_what_its_filters_name() {
    let mut hub = Driver::new();
    let filters = proto::WorkItemFilters {
        orchestrations: vec![proto::OrchestrationFilter { name: "mine".into(), versions: vec![] }],
        activities: vec![proto::ActivityFilter { name: "t".into(), versions: vec!["2".into()] }],
        entities: vec![proto::EntityFilter { name: "Mine".into() }],
    };
    hub.worker_with(proto::GetWorkItemsRequest { work_item_filters: Some(filters), ..limits(9, 9, 9) });
    hub.start("a", "other");
    hub.start("b", "mine");
    hub.signal("@other@a", "op");
    hub.signal("@mine@a", "op");
    assert_eq!((hub.turns.len(), hub.batches.len()), (1, 1));
    hub.play("b", vec![task(0, "t")]);
    assert!(hub.activities.is_empty(), "the version does not match");
    hub.worker();
    assert_eq!((hub.turns.len(), hub.batches.len(), hub.activities.len()), (1, 2, 1));
}

/// The same, of a worker that keeps histories.
fn keeping(request: proto::GetWorkItemsRequest) -> proto::GetWorkItemsRequest {
    proto::GetWorkItemsRequest { capabilities: vec![proto::WorkerCapability::HistoryStreaming as i32], ..request }
}

#[test]
fn an_instance_stays_with_the_worker_that_keeps_its_history_until_that_leaves() {
    let mut hub = Driver::new();
    let first = hub.worker_with(keeping(limits(1, 0, 0)));
    hub.start("a", "any");
    hub.play("a", vec![]);
    let second = hub.worker_with(limits(9, 0, 0));
    hub.start("b", "any");
    let b = hub.turn_of("b");
    assert_eq!(b.worker, first);
    hub.raise("a", "e").unwrap();
    assert!(hub.turns.is_empty(), "its worker is busy, and nobody else knows it");
    hub.finish_turn(&b, vec![]);
    assert_eq!(hub.play("a", vec![]).worker, first);
    hub.raise("a", "e").unwrap();
    hub.leave(first);
    let turn = hub.turn_of("a");
    assert_eq!((turn.worker, kinds(&turn.request.new_events)), (second, vec!["(", "raised"]));
}

#[test]
fn a_turn_reserved_for_a_busy_worker_is_not_lost_when_it_leaves() {
    let mut hub = Driver::new();
    let busy = hub.worker_with(keeping(limits(1, 0, 0)));
    hub.start("a", "any");
    hub.play("a", vec![]);
    hub.start("b", "any");
    hub.raise("a", "e").unwrap();
    assert_eq!(hub.turns.len(), 1);
    hub.leave(busy);
    hub.worker();
    assert_eq!(hub.turns.len(), 2);
}

#[test]
fn activities_of_a_terminated_orchestration_are_dropped_unless_they_have_begun() {
    let mut hub = Driver::new();
    let worker = hub.worker_with(limits(1, 1, 0));
    hub.start("a", "any");
    hub.play("a", vec![task(0, "t"), task(1, "t")]);
    hub.terminate("a", false);
    let begun = hub.activities[0].clone();
    hub.finish_activity(&begun, "ignored").unwrap();
    assert_eq!((hub.activities.len(), hub.turns.len()), (1, 0));
    hub.start("b", "any");
    hub.play("b", vec![task(0, "t")]);
    hub.terminate("b", false);
    hub.leave(worker);
    hub.worker();
    assert!(hub.activities.is_empty(), "one that came back undone is not begun again");
    hub.start("c", "any");
    hub.play("c", vec![task(0, "t")]);
    hub.terminate("c", false);
    let mut hub = hub.crash();
    hub.worker();
    assert!(hub.activities.is_empty(), "nor one that was out when the hub died");
    hub.start("d", "any");
    let mut hub = hub.crash();
    hub.worker_with(limits(1, 0, 0));
    hub.play("d", vec![task(0, "t")]);
    let mut hub = hub.crash();
    hub.terminate("d", false);
    hub.worker();
    assert!(hub.activities.is_empty(), "nor one that waited then, of an orchestration that was terminated since");
}

#[test]
fn activities_of_an_orchestration_that_completed_still_run() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    hub.play("a", vec![task(0, "fire and forget"), complete(1)]);
    let activity = hub.activities.pop_front().unwrap();
    hub.finish_activity(&activity, "").unwrap();
    assert_eq!((hub.status("a"), hub.turns.len()), (Status::Completed, 0));
}

#[test]
fn an_instance_does_not_wait_for_a_busy_worker_that_keeps_nothing_of_it() {
    let mut hub = Driver::new();
    let one_at_a_time =
        || proto::GetWorkItemsRequest { max_concurrent_orchestration_work_items: 1, ..Default::default() };
    let busy = hub.worker_with(one_at_a_time());
    hub.start("a", "any");
    assert_eq!(hub.play("a", vec![]).worker, busy);
    hub.start("b", "any");
    assert_eq!(hub.turn_of("b").worker, busy);
    hub.raise("a", "e").unwrap();
    let idle = hub.worker_with(one_at_a_time());
    assert_eq!(hub.turn_of("a").worker, idle);
}
