//! Suspension, termination and continue-as-new: what happens to an orchestration from outside, and how it begins anew.

use std::time::Duration;

use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::proto::orchestrator_action::OrchestratorActionType as Action;
use seriatim_hub::core::Request;

use crate::driver::*;

#[test]
fn a_suspended_instance_gets_no_turns_and_loses_no_messages() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.worker();
    hub.play("a", vec![]);
    let suspend = || Request::SuspendInstance(proto::SuspendRequest { instance_id: "a".into(), reason: None });
    hub.ok(suspend());
    hub.ok(suspend());
    assert_eq!(hub.status("a"), Status::Suspended);
    hub.raise("a", "e").unwrap();
    assert!(hub.turns.is_empty());
    let mut hub = hub.crash();
    hub.worker();
    assert!(hub.turns.is_empty(), "it stays suspended when the hub is opened again");
    hub.ok(Request::ResumeInstance(proto::ResumeRequest { instance_id: "a".into(), reason: None }));
    assert_eq!(hub.status("a"), Status::Running);
    let turn = hub.turn_of("a");
    assert_eq!(kinds(&turn.request.new_events), ["(", "suspended", "raised", "resumed"]);
}

#[test]
fn a_suspension_during_a_turn_takes_effect_after_it() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.worker();
    let turn = hub.turn_of("a");
    hub.ok(Request::SuspendInstance(proto::SuspendRequest { instance_id: "a".into(), reason: None }));
    hub.finish_turn(&turn, vec![task(0, "t")]);
    let activity = hub.activities.pop_front().unwrap();
    hub.finish_activity(&activity, "1").unwrap();
    assert_eq!((hub.status("a"), hub.turns.len()), (Status::Suspended, 0));
}

#[test]
fn termination_needs_no_worker() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.terminate("a", false);
    let state = hub.state("a").unwrap();
    assert_eq!(state.orchestration_status(), Status::Terminated);
    assert_eq!(state.output.as_deref(), Some("\"stop\""));
    assert_eq!(kinds(&hub.history("a")), ["(", "start", "terminated", ")", "end"]);
    hub.terminate("a", false);
    hub.raise("a", "late").unwrap();
    hub.worker();
    assert!(hub.turns.is_empty(), "what comes after the end is dropped");
}

#[test]
fn termination_during_a_turn_happens_when_that_ends_in_any_way() {
    for way in 0..3 {
        let mut hub = Driver::new();
        hub.start("a", "any");
        let worker = hub.worker();
        let turn = hub.turn_of("a");
        hub.terminate("a", false);
        hub.terminate("a", false);
        assert_eq!(hub.status("a"), Status::Pending);
        match way {
            0 => hub.finish_turn(&turn, vec![task(0, "t")]),
            1 => hub.leave(worker),
            _ => hub = hub.crash(),
        }
        assert_eq!(hub.status("a"), Status::Terminated);
        assert!(hub.activities.is_empty(), "activities that nobody has begun are dropped");
        assert_eq!(kinds(&hub.history("a")).iter().filter(|kind| **kind == "terminated").count(), 1);
        hub.worker();
        assert!(hub.turns.is_empty() && hub.activities.is_empty());
    }
}

#[test]
fn an_orchestration_that_ends_in_the_turn_ends_as_it_said() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.worker();
    let turn = hub.turn_of("a");
    hub.terminate("a", false);
    hub.finish_turn(&turn, vec![complete(0)]);
    assert_eq!(hub.status("a"), Status::Completed);
}

#[test]
fn recursive_termination_reaches_all_descendants_and_only_then() {
    for recursive in [false, true] {
        let mut hub = Driver::new();
        hub.start("p", "any");
        hub.worker();
        hub.play("p", vec![sub(0, "any", "c")]);
        hub.play("c", vec![sub(0, "any", "g")]);
        hub.play("g", vec![]);
        hub.terminate("p", recursive);
        let expected = if recursive { Status::Terminated } else { Status::Running };
        assert_eq!((hub.status("c"), hub.status("g")), (expected, expected));
    }
}

#[test]
fn a_terminated_child_fails_its_parents_task() {
    let mut hub = Driver::new();
    hub.start("p", "any");
    hub.worker();
    hub.play("p", vec![sub(0, "any", "c")]);
    hub.play("c", vec![]);
    hub.terminate("c", false);
    let turn = hub.turn_of("p");
    let Some(EventType::SubOrchestrationInstanceFailed(failed)) = &turn.request.new_events[1].event_type else {
        panic!()
    };
    assert!(failed.failure_details.as_ref().unwrap().error_message.contains("stop"));
}

#[test]
fn an_orchestration_can_terminate_another_and_itself() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.start("b", "any");
    hub.worker();
    let terminate = |id, target: &str| {
        let action_type = proto::TerminateOrchestrationAction { instance_id: target.into(), ..Default::default() };
        action(id, Action::TerminateOrchestration(action_type))
    };
    hub.play("b", vec![]);
    hub.play("a", vec![terminate(0, "b"), terminate(1, "a"), task(2, "t")]);
    assert_eq!((hub.status("a"), hub.status("b")), (Status::Terminated, Status::Terminated));
    assert_eq!(kinds(&hub.history("a")).last(), Some(&"end"));
}

#[test]
fn continue_as_new_keeps_what_is_for_the_instance_and_drops_what_is_for_the_execution() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.worker();
    let due = hub.clock.plus(Duration::from_secs(5));
    hub.play("a", vec![task(0, "t"), timer(1, due), sub(2, "any", "c")]);
    hub.pass(Duration::from_secs(1));
    let began = hub.clock;
    hub.raise("a", "wake").unwrap();
    let turn = hub.turn_of("a");
    hub.pass(Duration::from_secs(1));
    // While the turn is out: a result for this execution, and an event for the instance.
    let activity = hub.activities.pop_front().unwrap();
    hub.finish_activity(&activity, "old").unwrap();
    hub.raise("a", "kept").unwrap();
    let old = hub.state("a").unwrap();
    let carried = EventType::EventRaised(proto::EventRaisedEvent { name: "carried".into(), input: None });
    let carried = proto::HistoryEvent { event_id: 7, event_type: Some(carried), ..Default::default() };
    let again = proto::CompleteOrchestrationAction {
        orchestration_status: Status::ContinuedAsNew as i32,
        result: Some("\"next\"".into()),
        new_version: Some("2".into()),
        carryover_events: vec![carried],
        tags: [("team".to_owned(), "blue".to_owned())].into(),
        ..Default::default()
    };
    hub.finish_turn(&turn, vec![action(3, Action::CompleteOrchestration(again))]);

    let turn = hub.turn_of("a");
    assert_eq!(kinds(&turn.request.new_events), ["(", "start", "raised", "raised"]);
    assert!(turn.request.past_events.is_empty());
    assert!(turn.request.new_events.iter().all(|event| event.event_id == -1), "no action has made them");
    let names: Vec<_> = turn.request.new_events[2..]
        .iter()
        .map(|event| match &event.event_type {
            Some(EventType::EventRaised(raised)) => raised.name.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["carried", "kept"]);
    let new = hub.state("a").unwrap();
    assert_eq!((new.input.as_deref(), new.version.as_deref()), (Some("\"next\""), Some("2")));
    assert_eq!(new.tags, [("team".to_owned(), "blue".to_owned())].into());
    assert_ne!(new.execution_id, old.execution_id);
    assert_eq!((new.created_timestamp, new.orchestration_status()), (old.created_timestamp, Status::Running));
    assert_eq!(new.last_updated_timestamp, Some(began.to_timestamp()));
    hub.finish_turn(&turn, vec![]);
    // The answer of the old execution's child would be taken for something else.
    hub.play("c", vec![complete(0)]);
    assert!(hub.turns.is_empty());
    assert_eq!(hub.wake, None, "the old timer is gone");
    assert_eq!(kinds(&hub.history("a")), ["(", "start", "raised", "raised", ")"]);
}

#[test]
fn children_of_later_executions_have_other_ids() {
    let mut hub = Driver::new();
    hub.start("p", "any");
    hub.worker();
    hub.play("p", vec![sub(0, "any", ""), end(1, Status::ContinuedAsNew, None)]);
    hub.play("p", vec![sub(0, "any", "")]);
    assert!(hub.state("p:0000").is_some() && hub.state("p:1:0000").is_some());
}
