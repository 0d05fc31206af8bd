//! Running ahead of the disk: a chain of turns and entity batches goes on while nothing of it is written yet. What is
//! seen outside waits: answers, reads, activities. A crash loses an end of the chain, and it is done again.

use seriatim_durable::proto;
use seriatim_hub::core::{Answer, CoreConfig, Request, RequestId};

use crate::driver::*;

const A: &str = "@n@a";

fn start(hub: &mut Driver) -> RequestId {
    hub.ask(Request::StartInstance(proto::CreateInstanceRequest {
        instance_id: "a".into(),
        name: "any".into(),
        ..Default::default()
    }))
}

fn keeps_history(hub: &mut Driver) {
    hub.worker_with(proto::GetWorkItemsRequest {
        max_concurrent_orchestration_work_items: 9,
        max_concurrent_activity_work_items: 9,
        max_concurrent_entity_work_items: 9,
        capabilities: vec![proto::WorkerCapability::HistoryStreaming as i32],
        ..Default::default()
    });
}

/// Answers without waiting for the disk.
fn turn(hub: &mut Driver, actions: Vec<proto::OrchestratorAction>) -> RequestId {
    let turn = hub.turns.pop_front().expect("there is a turn");
    hub.ask(Request::CompleteOrchestrator(proto::OrchestratorResponse {
        actions,
        completion_token: turn.token,
        ..Default::default()
    }))
}

fn batch(hub: &mut Driver, state: &str) -> RequestId {
    let batch = hub.batches.pop_front().expect("there is a batch");
    hub.ask(Request::CompleteEntity(proto::EntityBatchResult {
        results: vec![success(state)],
        entity_state: Some(state.into()),
        completion_token: batch.token,
        ..Default::default()
    }))
}

fn driver(run_ahead: u64) -> Driver {
    let mut hub = Driver::with_config(CoreConfig { session: 1, run_ahead, ..CoreConfig::default() });
    hub.commit_at_once = false;
    keeps_history(&mut hub);
    hub
}

#[test]
fn a_chain_goes_on_while_nothing_of_it_is_on_disk_and_nobody_is_told() {
    let mut hub = driver(100);
    let mut asked = vec![start(&mut hub)];
    asked.push(turn(&mut hub, vec![call(1, A, "add")]));
    asked.push(batch(&mut hub, "1"));
    asked.push(turn(&mut hub, vec![call(2, A, "add")]));
    asked.push(batch(&mut hub, "2"));
    let look = hub.ask(Request::GetEntity(proto::GetEntityRequest { instance_id: A.into(), include_state: true }));
    assert!(asked.iter().all(|id| hub.answer(*id).is_none()) && hub.answer(look).is_none(), "nobody is told");
    assert_eq!(kinds(&hub.turns[0].request.new_events), ["(", "call done"]);
    hub.commit();
    assert!(asked.into_iter().all(|id| hub.answer(id).is_some_and(|outcome| outcome.is_ok())));
    let Some(Ok(Answer::Entity(seen))) = hub.answer(look) else { panic!("the entity can be read") };
    assert_eq!(seen.entity.unwrap().serialized_state.as_deref(), Some("2"));
}

#[test]
fn an_activity_waits_for_the_disk() {
    let mut hub = driver(100);
    start(&mut hub);
    turn(&mut hub, vec![task(1, "t")]);
    assert!(hub.activities.is_empty());
    hub.commit();
    assert_eq!(hub.activities.len(), 1);
}

#[test]
fn results_of_activities_that_are_under_way_together_come_together() {
    let mut hub = driver(100);
    start(&mut hub);
    turn(&mut hub, vec![task(1, "t"), task(2, "t"), task(3, "t")]);
    hub.commit();
    for _ in 0..2 {
        let activity = hub.activities.pop_front().unwrap();
        let response = proto::ActivityResponse { completion_token: activity.token, ..Default::default() };
        hub.ask(Request::CompleteActivity(response));
        assert!(hub.turns.is_empty(), "a third one is under way");
    }
    hub.commit();
    assert_eq!(kinds(&hub.turns[0].request.new_events), ["(", "task done", "task done"]);
}

#[test]
fn so_far_and_no_further() {
    let mut hub = driver(2);
    // However much is on disk already.
    for _ in 0..9 {
        hub.signal("@other@one", "op");
    }
    hub.batches.clear();
    start(&mut hub);
    turn(&mut hub, vec![call(1, A, "add")]);
    batch(&mut hub, "1");
    assert!(hub.turns.is_empty(), "two transitions before this one are not on disk");
    hub.commit();
    assert_eq!(hub.turns.len(), 1);
}

#[test]
fn a_worker_that_needs_the_history_waits_until_it_is_on_disk() {
    let mut hub = Driver::new();
    hub.commit_at_once = false;
    hub.worker();
    start(&mut hub);
    turn(&mut hub, vec![call(1, A, "add")]);
    batch(&mut hub, "1");
    assert!(hub.turns.is_empty());
    hub.commit();
    assert_eq!(hub.turns[0].request.past_events.len(), 4);
}

#[test]
fn a_crash_loses_the_end_of_a_chain_and_it_is_done_again() {
    let mut hub = driver(100);
    start(&mut hub);
    hub.commit();
    turn(&mut hub, vec![call(1, A, "add")]);
    batch(&mut hub, "1");
    let mut hub = hub.crash();
    assert!(hub.entity(A).is_none(), "it had never been told of");
    keeps_history(&mut hub);
    assert_eq!(kinds(&hub.turns[0].request.new_events), ["(", "start"]);
    turn(&mut hub, vec![call(1, A, "add")]);
    batch(&mut hub, "1");
    turn(&mut hub, vec![complete(2)]);
    hub.commit();
    assert_eq!(hub.status("a"), proto::OrchestrationStatus::Completed);
    assert_eq!(hub.entity(A).unwrap().serialized_state.as_deref(), Some("1"));
}
