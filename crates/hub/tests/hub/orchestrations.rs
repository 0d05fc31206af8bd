//! Orchestrations: start, turns, messages, timers, sub-orchestrations, suspension, termination, continue-as-new.

use std::time::Duration;

use seriatim_durable::hub::HubError;
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::proto::orchestrator_action::OrchestratorActionType as Action;
use seriatim_hub::core::{Answer, Input, Request};

use crate::driver::*;

#[test]
fn a_chain_of_two_activities() {
    let mut hub = Driver::new();
    hub.start("a", "chain");
    assert_eq!(hub.status("a"), Status::Pending);
    hub.worker();
    let first = hub.play("a", vec![task(0, "one")]);
    assert_eq!(kinds(&first.request.new_events), ["(", "start"]);
    assert!(first.request.past_events.is_empty());
    assert_eq!(hub.status("a"), Status::Running);

    let one = hub.activities.pop_front().unwrap();
    assert_eq!((one.request.name.as_str(), one.request.task_id), ("one", 0));
    hub.finish_activity(&one, "1").unwrap();
    let second = hub.play("a", vec![task(1, "two")]);
    assert_eq!(
        kinds(&second.request.past_events),
        ["(", "start", "task", ")"]
    );
    assert_eq!(kinds(&second.request.new_events), ["(", "task done"]);
    let Some(EventType::TaskCompleted(done)) = &second.request.new_events[1].event_type else {
        panic!()
    };
    assert_eq!(
        (done.task_scheduled_id, done.result.as_deref()),
        (0, Some("1"))
    );

    let two = hub.activities.pop_front().unwrap();
    hub.finish_activity(&two, "2").unwrap();
    hub.play("a", vec![complete(2)]);
    let state = hub.state("a").unwrap();
    assert_eq!(state.orchestration_status(), Status::Completed);
    assert_eq!(state.output.as_deref(), Some("\"out\""));
    assert!(state.completed_timestamp.is_some());
    let shape = [
        "(",
        "start",
        "task",
        ")",
        "(",
        "task done",
        "task",
        ")",
        "(",
        "task done",
        ")",
        "end",
    ];
    assert_eq!(kinds(&hub.history("a")), shape);
    assert!(hub.turns.is_empty() && hub.activities.is_empty());
}
