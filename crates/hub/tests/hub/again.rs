//! Doing over what has failed (rewind, restart), forced ends, and completions that come in parts.

use std::time::Duration;

use seriatim_durable::hub::HubError;
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::history_event::EventType;
use seriatim_hub::core::{Answer, Request};

use crate::driver::*;

fn failed(id: i32) -> proto::OrchestratorAction {
    end(id, Status::Failed, None)
}

/// An instance that has failed because its second activity failed.
fn failed_instance(hub: &mut Driver, id: &str) {
    hub.start(id, "any");
    hub.play(id, vec![task(1, "first")]);
    let first = hub.activities.pop_front().unwrap();
    hub.finish_activity(&first, "1").unwrap();
    hub.play(id, vec![task(2, "second")]);
    let second = hub.activities.pop_front().unwrap();
    hub.fail_activity(&second);
    hub.play(id, vec![failed(3)]);
    assert_eq!(hub.status(id), Status::Failed);
}

#[test]
fn a_rewound_instance_does_again_what_had_failed_and_nothing_else() {
    let mut hub = Driver::new();
    hub.worker();
    failed_instance(&mut hub, "a");
    assert!(hub.rewind("a").unwrap());
    let state = hub.state("a").unwrap();
    assert_eq!((state.orchestration_status(), &state.failure_details), (Status::Running, &None));
    assert_eq!((state.completed_timestamp, state.output), (None, None));

    let mut hub = hub.crash();
    hub.worker();
    let again = hub.activities.pop_front().unwrap();
    assert_eq!((again.request.name.as_str(), again.request.task_id, hub.activities.len()), ("second", 2, 0));
    let turn = hub.turn_of("a");
    assert_eq!(kinds(&turn.request.past_events), ["(", "start", "task", ")", "(", "task done", "task", ")", "(", ")"]);
    assert_eq!(kinds(&turn.request.new_events), ["(", "rewound"]);
    let Some(EventType::ExecutionRewound(rewound)) = &turn.request.new_events[1].event_type else { panic!() };
    assert_eq!(rewound.reason.as_deref(), Some("again"));
    hub.finish_turn(&turn, vec![]);
    hub.finish_activity(&again, "2").unwrap();
    let turn = hub.play("a", vec![complete(3)]);
    assert_eq!(kinds(&turn.request.new_events), ["(", "task done"]);
    assert_eq!(hub.status("a"), Status::Completed);
}

#[test]
fn only_what_has_failed_and_is_still_so_can_be_rewound() {
    let mut hub = Driver::new();
    hub.worker();
    assert!(matches!(hub.rewind("a"), Err(HubError::NotFound(_))));
    hub.start("a", "any");
    assert!(matches!(hub.rewind("a"), Err(HubError::FailedPrecondition(_))));
    hub.play("a", vec![complete(1)]);
    assert!(matches!(hub.rewind("a"), Err(HubError::FailedPrecondition(_))));

    failed_instance(&mut hub, "b");
    let read_before = hub.rewind_plan("b").unwrap();
    // Meanwhile another one was faster, and the instance has failed anew.
    assert!(hub.rewind("b").unwrap());
    let again = hub.activities.pop_front().unwrap();
    hub.play("b", vec![]);
    hub.fail_activity(&again);
    hub.play("b", vec![failed(3)]);
    assert!(!hub.rewind_with("b", read_before).unwrap());
    assert!(!hub.rewind_with("b", vec![]).unwrap());
    assert_eq!(hub.status("b"), Status::Failed);
}

#[test]
fn a_rewind_gives_an_outcome_to_everything_that_the_code_waits_for() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    let at = hub.clock.plus(Duration::from_mins(1));
    hub.play("a", vec![task(1, "fails"), task(2, "late"), task(3, "under way"), timer(4, at), call(5, "@e@k", "op")]);
    let fails = hub.activities.pop_front().unwrap();
    let late = hub.activities.pop_front().unwrap();
    let under_way = hub.activities.pop_front().unwrap();
    hub.fail_activity(&fails);
    hub.play("a", vec![failed(6)]);
    // These come after the end: nobody keeps them, so the work is done again.
    hub.finish_activity(&late, "2").unwrap();
    hub.finish_batch(Some("1"));
    hub.pass(Duration::from_mins(2));
    assert!(hub.rewind("a").unwrap());
    let given: Vec<_> = hub.activities.iter().map(|activity| activity.request.name.as_str()).collect();
    assert_eq!(given, ["fails", "late"], "what is under way is not begun a second time");
    hub.finish_activity(&under_way, "3").unwrap();
    hub.finish_batch(Some("2"));
    let turn = hub.turn_of("a");
    hub.finish_turn(&turn, vec![]);
    let rest = hub.turn_of("a");
    let mut seen = kinds(&turn.request.new_events);
    seen.extend(kinds(&rest.request.new_events));
    for outcome in ["rewound", "timer fired", "task done", "call done"] {
        assert!(seen.contains(&outcome), "{outcome}: {seen:?}");
    }
}

#[test]
fn a_failure_that_the_code_dealt_with_stays() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    hub.play("a", vec![task(1, "t")]);
    let first = hub.activities.pop_front().unwrap();
    hub.fail_activity(&first);
    // The code tries again after a while, and gives up the second time, with a last word.
    let at = hub.clock.plus(Duration::from_secs(1));
    hub.play("a", vec![timer(2, at)]);
    hub.pass(Duration::from_secs(1));
    hub.play("a", vec![task(3, "t")]);
    let second = hub.activities.pop_front().unwrap();
    hub.fail_activity(&second);
    hub.play("a", vec![task(4, "last word"), failed(5)]);
    assert!(hub.rewind("a").unwrap());
    let turn = hub.turn_of("a");
    let past = kinds(&turn.request.past_events);
    let expected =
        ["(", "start", "task", ")", "(", "task failed", "timer", ")", "(", "timer fired", "task", ")", "(", ")"];
    assert_eq!(past, expected);
    let last = hub.activities.pop_back().unwrap();
    assert_eq!((last.request.name.as_str(), last.request.task_id), ("t", 3));
}

#[test]
fn failed_children_are_rewound_with_their_parent_and_lost_ones_begin_anew() {
    for purged in [false, true] {
        let mut hub = Driver::new();
        hub.worker();
        hub.start("a", "any");
        hub.play("a", vec![sub(1, "child", "c")]);
        hub.play("c", vec![task(1, "t")]);
        let activity = hub.activities.pop_front().unwrap();
        hub.fail_activity(&activity);
        hub.play("c", vec![failed(2)]);
        assert!(matches!(hub.rewind("c"), Err(HubError::FailedPrecondition(_))), "its parent knows already");
        hub.play("a", vec![failed(2)]);
        if purged {
            let what = proto::purge_instances_request::Request::InstanceId("c".into());
            hub.ok(Request::PurgeInstances(proto::PurgeInstancesRequest { request: Some(what), ..Default::default() }));
        }
        assert!(hub.rewind("a").unwrap());
        hub.play("a", vec![]);
        let turn = hub.turn_of("c");
        assert_eq!(kinds(&turn.request.new_events)[1], if purged { "start" } else { "rewound" });
        hub.finish_turn(&turn, vec![complete(2)]);
        let turn = hub.play("a", vec![complete(2)]);
        assert_eq!(kinds(&turn.request.new_events), ["(", "sub done"], "purged: {purged}");
        assert_eq!(hub.status("a"), Status::Completed);
    }
}

#[test]
fn what_the_code_asked_for_because_of_the_failure_is_taken_back() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    hub.play("a", vec![task(1, "t"), sub(2, "child", "c")]);
    let activity = hub.activities.pop_front().unwrap();
    hub.fail_activity(&activity);
    let at = hub.clock.plus(Duration::from_mins(1));
    let because = vec![sub(3, "repairs", "r"), task(4, "tidies"), timer(5, at), call(6, "@e@k", "op"), failed(7)];
    hub.play("a", because);
    let (repair, tidies) = (hub.turn_of("r"), hub.activities.pop_front().unwrap());
    assert!(hub.rewind("a").unwrap());
    assert_eq!(hub.state("r"), None);
    assert!(matches!(hub.try_turn(&repair, vec![complete(0)]), Err(HubError::FailedPrecondition(_))));
    assert!(matches!(hub.finish_activity(&tidies, "1"), Err(HubError::FailedPrecondition(_))));

    // The child that was there before the failure is the same one, and answers.
    hub.play("a", vec![]);
    hub.play("c", vec![complete(0)]);
    let turn = hub.play("a", vec![]);
    assert_eq!(kinds(&turn.request.new_events), ["(", "sub done"]);
    let again = hub.activities.pop_front().unwrap();
    assert_eq!((again.request.name.as_str(), hub.activities.len()), ("t", 0));
    hub.finish_activity(&again, "1").unwrap();
    let turn = hub.turn_of("a");
    assert_eq!(kinds(&turn.request.new_events), ["(", "task done"]);
    let past = kinds(&turn.request.past_events);
    assert!(!past.contains(&"call") && !past.contains(&"timer"), "{past:?}");
    hub.finish_turn(&turn, vec![]);
    hub.pass(Duration::from_mins(2));
    assert!(hub.turns.is_empty(), "the timer is gone");
}

#[test]
fn what_ended_after_the_failure_answers_when_it_is_rewound() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    hub.play("a", vec![task(1, "t"), sub(2, "child", "c"), call(3, "@e@k", "op")]);
    let activity = hub.activities.pop_front().unwrap();
    hub.fail_activity(&activity);
    hub.play("a", vec![failed(4)]);
    hub.play("c", vec![complete(0)]);
    assert!(hub.rewind("a").unwrap());
    let mut seen = kinds(&hub.play("a", vec![]).request.new_events);
    assert!(seen.contains(&"rewound"), "{seen:?}");
    hub.finish_batch(Some("1"));
    assert!(hub.batches.is_empty(), "the operation that waited is not sent a second time");
    while let Some(turn) = hub.turns.pop_front() {
        seen.extend(kinds(&turn.request.new_events));
        hub.finish_turn(&turn, vec![]);
    }
    for outcome in ["sub done", "call done"] {
        assert_eq!(seen.iter().filter(|kind| **kind == outcome).count(), 1, "{outcome}: {seen:?}");
    }
}

#[test]
fn failures_that_the_code_dealt_with_stay_whatever_failed() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    hub.play("a", vec![sub(1, "child", "c"), call(2, "@e@k", "op")]);
    hub.play("c", vec![failed(0)]);
    hub.play("a", vec![task(3, "in place of the child")]);
    let batch = hub.batches.pop_front().unwrap();
    hub.ok(Request::CompleteEntity(proto::EntityBatchResult {
        completion_token: batch.token,
        failure_details: Some(proto::TaskFailureDetails::default()),
        ..Default::default()
    }));
    hub.play("a", vec![task(4, "in place of the call")]);
    let first = hub.activities.pop_front().unwrap();
    hub.finish_activity(&first, "1").unwrap();
    hub.play("a", vec![]);
    let second = hub.activities.pop_front().unwrap();
    hub.fail_activity(&second);
    hub.play("a", vec![failed(5)]);
    assert!(hub.rewind("a").unwrap());
    let turn = hub.turn_of("a");
    let past = kinds(&turn.request.past_events);
    assert!(past.contains(&"sub failed") && past.contains(&"call failed"), "{past:?}");
    assert_eq!(hub.status("c"), Status::Failed, "its parent has done without it");
    assert!(hub.batches.is_empty());
    let again = hub.activities.pop_front().unwrap();
    assert_eq!((again.request.task_id, hub.activities.len()), (4, 0));
}

/// An id may have passed to an instance of somebody else.
#[test]
fn a_child_of_another_parent_is_not_taken_for_a_lost_one() {
    for theirs in [Status::Running, Status::Completed, Status::Failed] {
        let mut hub = Driver::new();
        hub.worker();
        hub.start("a", "any");
        hub.play("a", vec![sub(1, "child", "c")]);
        hub.play("c", vec![failed(1)]);
        hub.play("a", vec![failed(2)]);
        let what = proto::purge_instances_request::Request::InstanceId("c".into());
        hub.ok(Request::PurgeInstances(proto::PurgeInstancesRequest { request: Some(what), ..Default::default() }));
        hub.start("b", "any");
        hub.play("b", vec![sub(1, "child", "c")]);
        hub.play("c", if theirs == Status::Running { vec![] } else { vec![end(0, theirs, None)] });
        hub.turns.retain(|turn| turn.request.instance_id != "b");

        assert!(hub.rewind("a").unwrap(), "{theirs:?}");
        let again = kinds(&hub.play("a", vec![]).request.new_events);
        if theirs == Status::Running {
            assert_eq!(again, ["(", "rewound", "sub failed"], "its id is in use");
            continue;
        }
        assert_eq!(kinds(&hub.play("c", vec![complete(0)]).request.new_events), ["(", "start"], "{theirs:?}");
        assert_eq!(kinds(&hub.play("a", vec![]).request.new_events), ["(", "sub done"], "{theirs:?}");
    }
}

#[test]
fn a_child_of_an_execution_before_is_not_taken_for_one_of_this() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    hub.play("a", vec![sub(1, "child", "c"), end(2, Status::ContinuedAsNew, None)]);
    let child = hub.turn_of("c");
    hub.play("a", vec![sub(1, "child", "c")]);
    let turn = hub.play("a", vec![failed(2)]);
    assert_eq!(kinds(&turn.request.new_events), ["(", "sub failed"], "its id is in use");
    hub.finish_turn(&child, vec![complete(0)]);
    assert!(hub.rewind("a").unwrap());
    hub.play("a", vec![]);
    assert_eq!(kinds(&hub.play("c", vec![complete(0)]).request.new_events), ["(", "start"]);
    assert_eq!(kinds(&hub.play("a", vec![]).request.new_events), ["(", "sub done"]);
}

#[test]
fn what_failed_inside_a_critical_section_is_not_rewound() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    hub.play("a", vec![lock(1, "s", &["@e@k"])]);
    hub.play("a", vec![task(2, "t")]);
    let activity = hub.activities.pop_front().unwrap();
    hub.fail_activity(&activity);
    hub.play("a", vec![failed(3)]);
    let error = hub.rewind("a").unwrap_err();
    assert!(matches!(&error, HubError::FailedPrecondition(why) if why.contains("critical section")), "{error}");
    assert_eq!(hub.status("a"), Status::Failed);
}

#[test]
fn a_restart_begins_anew_with_the_same_input() {
    let mut hub = Driver::new();
    hub.worker();
    let restart = |new| {
        let request = proto::RestartInstanceRequest { instance_id: "a".into(), restart_with_new_instance_id: new };
        Request::RestartInstance(request)
    };
    assert!(matches!(hub.call(restart(false)), Err(HubError::NotFound(_))));
    let tags: std::collections::HashMap<_, _> = [("team".to_owned(), "blue".to_owned())].into();
    hub.ok(Request::StartInstance(proto::CreateInstanceRequest {
        instance_id: "a".into(),
        name: "any".into(),
        input: Some("\"in\"".into()),
        version: Some("2".into()),
        tags: tags.clone(),
        ..Default::default()
    }));
    assert!(matches!(hub.call(restart(false)), Err(HubError::FailedPrecondition(_))));
    hub.play("a", vec![complete(1)]);
    let Answer::Restarted(new) = hub.ok(restart(true)) else { panic!() };
    assert_ne!(new.instance_id, "a");
    assert_eq!(hub.status("a"), Status::Completed, "the old one stays under its own id");
    let other = hub.state(&new.instance_id).unwrap();
    assert_eq!((other.name.as_str(), other.input.as_deref()), ("any", Some("\"in\"")));
    assert_eq!((other.version.as_deref(), other.tags), (Some("2"), tags));
    hub.ok(restart(false));
    let turn = hub.turn_of("a");
    assert_eq!(kinds(&turn.request.new_events), ["(", "start"]);
    let Some(EventType::ExecutionStarted(started)) = &turn.request.new_events[1].event_type else { panic!() };
    let itself = started.orchestration_instance.as_ref().unwrap();
    assert_eq!((itself.instance_id.as_str(), &itself.execution_id), ("a", &turn.request.execution_id));
    assert_eq!(hub.state("a").unwrap().output, None);
}

#[test]
fn a_forced_end_waits_for_no_worker() {
    let mut hub = Driver::new();
    hub.worker();
    for id in ["at work", "asked already", "over"] {
        hub.start(id, "any");
    }
    hub.play("over", vec![complete(1)]);
    let turn = hub.turn_of("at work");
    hub.terminate("asked already", false);
    let ids = ["at work", "asked already", "over", "missing"].map(str::to_owned).to_vec();
    let answer = hub.ok(Request::SkipGracefulTerminations(proto::SkipGracefulOrchestrationTerminationsRequest {
        instance_batch: Some(proto::InstanceBatch { instance_ids: ids }),
        reason: Some("\"now\"".into()),
    }));
    let Answer::Skipped(response) = answer else { panic!() };
    assert_eq!(response.unterminated_instance_ids, ["over", "missing"]);
    assert_eq!((hub.status("at work"), hub.status("asked already")), (Status::Terminated, Status::Terminated));
    assert!(matches!(hub.try_turn(&turn, vec![task(1, "t")]), Err(HubError::FailedPrecondition(_))));
    assert!(hub.activities.is_empty());
}

#[test]
#[allow(deprecated)] // SDKs in use send completions so
fn a_completion_in_parts_takes_effect_as_a_whole() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    let turn = hub.turn_of("a");
    let part = |actions, is_partial, index| {
        Request::CompleteOrchestrator(proto::OrchestratorResponse {
            instance_id: "a".into(),
            actions,
            completion_token: turn.token.clone(),
            custom_status: (index == 0).then(|| "\"status\"".into()),
            is_partial,
            chunk_index: Some(index),
            ..Default::default()
        })
    };
    hub.ok(part(vec![task(1, "one")], true, 0));
    hub.ok(part(vec![task(2, "two")], true, 1));
    // The answer to a part was lost, and it is sent again.
    hub.ok(part(vec![task(2, "two")], true, 1));
    assert!(hub.activities.is_empty() && hub.state("a").unwrap().custom_status.is_none());
    hub.ok(part(vec![task(3, "three")], false, 2));
    let names: Vec<_> = hub.activities.iter().map(|activity| activity.request.name.as_str()).collect();
    assert_eq!(names, ["one", "two", "three"]);
    assert_eq!(hub.state("a").unwrap().custom_status.as_deref(), Some("\"status\""));
}

/// Of the parts of a completion one says how many events were processed, whichever it is.
#[test]
#[allow(deprecated)] // SDKs in use send completions so
fn the_parts_of_a_completion_say_once_how_much_was_processed() {
    for processed in [[Some(2), None], [Some(2), Some(0)], [Some(0), Some(2)], [None, Some(2)]] {
        let mut hub = Driver::new();
        hub.start("a", "any");
        hub.raise("a", "e").unwrap();
        hub.worker();
        let turn = hub.turn_of("a");
        for (index, num_events_processed) in (0..).zip(processed) {
            hub.ok(Request::CompleteOrchestrator(proto::OrchestratorResponse {
                completion_token: turn.token.clone(),
                num_events_processed,
                is_partial: index == 0,
                chunk_index: Some(index),
                ..Default::default()
            }));
        }
        let rest = hub.turn_of("a");
        assert_eq!(kinds(&rest.request.new_events), ["(", "raised"], "{processed:?}");
    }
}

#[test]
fn parts_of_a_worker_that_is_lost_are_forgotten() {
    let mut hub = Driver::new();
    let worker = hub.worker();
    hub.start("a", "any");
    let turn = hub.turn_of("a");
    #[allow(deprecated)] // SDKs in use send completions so
    let part = proto::OrchestratorResponse {
        actions: vec![task(1, "of the lost one")],
        completion_token: turn.token.clone(),
        is_partial: true,
        ..Default::default()
    };
    hub.ok(Request::CompleteOrchestrator(part));
    hub.leave(worker);
    hub.worker();
    hub.play("a", vec![task(1, "of the next one")]);
    let names: Vec<_> = hub.activities.iter().map(|activity| activity.request.name.as_str()).collect();
    assert_eq!(names, ["of the next one"]);
}

#[test]
fn the_span_of_a_turn_is_there_at_the_next_one() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    let turn = hub.turn_of("a");
    assert_eq!(turn.request.orchestration_trace_context, None);
    let span = proto::OrchestrationTraceContext { span_id: Some("00f067aa0ba902b7".into()), span_start_time: None };
    hub.ok(Request::CompleteOrchestrator(proto::OrchestratorResponse {
        completion_token: turn.token,
        orchestration_trace_context: Some(span.clone()),
        ..Default::default()
    }));
    let mut hub = hub.crash();
    hub.worker();
    hub.raise("a", "e").unwrap();
    assert_eq!(hub.turn_of("a").request.orchestration_trace_context, Some(span));
}
