//! Orchestrations: start, turns, messages, timers, sub-orchestrations, waits.

use std::time::Duration;

use seriatim_durable::hub::HubError;
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::proto::orchestrator_action::OrchestratorActionType as Action;
use seriatim_hub::core::{Answer, CoreConfig, Input, PAST_EVENTS_PROPERTY, Request};

use crate::driver::*;

fn start(id: &str) -> proto::CreateInstanceRequest {
    proto::CreateInstanceRequest { instance_id: id.into(), name: "any".into(), ..Default::default() }
}

#[test]
fn a_chain_of_two_activities() {
    let mut hub = Driver::new();
    hub.start("a", "chain");
    assert_eq!(hub.status("a"), Status::Pending);
    hub.worker();
    let first = hub.play("a", vec![task(0, "one")]);
    assert_eq!(kinds(&first.request.new_events), ["(", "start"]);
    assert!(first.request.past_events.is_empty());
    assert_eq!(first.request.execution_id, hub.state("a").unwrap().execution_id);
    assert!(first.request.entity_parameters.is_some(), "without them, SDKs take entities to be unsupported");
    assert_eq!(hub.status("a"), Status::Running);

    let one = hub.activities.pop_front().unwrap();
    assert_eq!((one.request.name.as_str(), one.request.task_id), ("one", 0));
    hub.finish_activity(&one, "1").unwrap();
    let second = hub.play("a", vec![task(1, "two")]);
    assert_eq!(kinds(&second.request.past_events), ["(", "start", "task", ")"]);
    assert_eq!(kinds(&second.request.new_events), ["(", "task done"]);
    let Some(EventType::TaskCompleted(done)) = &second.request.new_events[1].event_type else { panic!() };
    assert_eq!((done.task_scheduled_id, done.result.as_deref()), (0, Some("1")));

    let two = hub.activities.pop_front().unwrap();
    hub.finish_activity(&two, "2").unwrap();
    hub.play("a", vec![complete(2)]);
    let state = hub.state("a").unwrap();
    assert_eq!(state.orchestration_status(), Status::Completed);
    assert_eq!((state.input.as_deref(), state.output.as_deref()), (Some("\"in\""), Some("\"out\"")));
    assert!(state.completed_timestamp.is_some());
    let shape = ["(", "start", "task", ")", "(", "task done", "task", ")", "(", "task done", ")", "end"];
    assert_eq!(kinds(&hub.history("a")), shape);
    assert!(hub.turns.is_empty() && hub.activities.is_empty());
}

#[test]
fn what_arrives_while_a_turn_is_out_stays_for_the_next_one() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.worker();
    let turn = hub.turn_of("a");
    hub.raise("a", "one").unwrap();
    hub.raise("a", "two").unwrap();
    assert!(hub.turns.is_empty(), "one turn at a time");
    hub.finish_turn(&turn, vec![]);
    let next = hub.turn_of("a");
    assert_eq!(kinds(&next.request.new_events), ["(", "raised", "raised"]);
}

#[test]
fn completions_that_arrive_during_a_commit_share_a_turn() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.worker();
    hub.play("a", (0..5).map(|n| task(n, "t")).collect());
    hub.commit_at_once = false;
    let activities: Vec<_> = hub.activities.drain(..).collect();
    for activity in &activities {
        let response = proto::ActivityResponse { completion_token: activity.token.clone(), ..Default::default() };
        hub.ask(Request::CompleteActivity(response));
    }
    assert!(hub.turns.is_empty(), "nothing is handed out before it is on disk");
    hub.commit();
    assert_eq!(hub.turn_of("a").request.new_events.len(), 6);
}

#[test]
fn a_turn_takes_only_what_is_on_disk_and_no_more_than_its_limit() {
    let mut hub = Driver::with_config(CoreConfig { events_per_turn: 2, ..CoreConfig::default() });
    hub.start("a", "any");
    for _ in 0..3 {
        hub.raise("a", "e").unwrap();
    }
    hub.commit_at_once = false;
    hub.ask(Request::RaiseEvent(proto::RaiseEventRequest { instance_id: "a".into(), ..Default::default() }));
    hub.worker();
    let first = hub.turn_of("a");
    assert_eq!(kinds(&first.request.new_events), ["(", "start", "raised"]);
    hub.finish_turn(&first, vec![]);
    let second = hub.turn_of("a");
    assert_eq!(kinds(&second.request.new_events), ["(", "raised", "raised"]);
    hub.finish_turn(&second, vec![]);
    assert_eq!(kinds(&hub.turn_of("a").request.new_events), ["(", "raised"]);
}

#[test]
fn a_turn_that_begins_during_a_commit_leaves_out_what_is_not_on_disk() {
    let mut hub = Driver::with_config(CoreConfig { run_ahead: 0, ..CoreConfig::default() });
    hub.start("a", "any");
    hub.commit_at_once = false;
    hub.ask(Request::RaiseEvent(proto::RaiseEventRequest { instance_id: "a".into(), ..Default::default() }));
    hub.worker();
    let turn = hub.turn_of("a");
    assert_eq!(kinds(&turn.request.new_events), ["(", "start"]);
    hub.finish_turn(&turn, vec![]);
    assert_eq!(kinds(&hub.turn_of("a").request.new_events), ["(", "raised"]);
}

#[test]
fn a_turn_begins_only_when_the_one_before_is_on_disk() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.worker();
    let turn = hub.turn_of("a");
    hub.raise("a", "e").unwrap();
    hub.commit_at_once = false;
    hub.ask(Request::CompleteOrchestrator(proto::OrchestratorResponse {
        completion_token: turn.token,
        ..Default::default()
    }));
    assert!(hub.turns.is_empty());
    hub.commit();
    assert_eq!(hub.turn_of("a").request.past_events.len(), 3);
}

#[test]
fn a_worker_that_processed_only_a_part_gets_the_rest_again() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.raise("a", "e").unwrap();
    hub.worker();
    let turn = hub.turn_of("a");
    assert_eq!(turn.request.new_events.len(), 3);
    hub.ok(Request::CompleteOrchestrator(proto::OrchestratorResponse {
        completion_token: turn.token,
        num_events_processed: Some(2),
        ..Default::default()
    }));
    let rest = hub.turn_of("a");
    assert_eq!(kinds(&rest.request.past_events), ["(", "start", ")"]);
    assert_eq!(kinds(&rest.request.new_events), ["(", "raised"]);
    // Whoever says nothing, or 0, has processed all.
    hub.ok(Request::CompleteOrchestrator(proto::OrchestratorResponse {
        completion_token: rest.token,
        num_events_processed: Some(0),
        ..Default::default()
    }));
    assert!(hub.turns.is_empty());
}

#[test]
fn failed_activities_are_told_with_their_details() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.worker();
    hub.play("a", vec![task(7, "t")]);
    let activity = hub.activities.pop_front().unwrap();
    let inner = proto::TaskFailureDetails { error_message: "inner".into(), ..Default::default() };
    let failure = proto::TaskFailureDetails {
        error_message: "outer".into(),
        inner_failure: Some(Box::new(inner)),
        ..Default::default()
    };
    hub.ok(Request::CompleteActivity(proto::ActivityResponse {
        completion_token: activity.token,
        failure_details: Some(failure.clone()),
        ..Default::default()
    }));
    let turn = hub.turn_of("a");
    let Some(EventType::TaskFailed(failed)) = &turn.request.new_events[1].event_type else { panic!() };
    assert_eq!((failed.task_scheduled_id, failed.failure_details.as_ref()), (7, Some(&failure)));
}

#[test]
fn a_failed_orchestration_says_why() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.worker();
    hub.play("a", vec![end(0, Status::Failed, None)]);
    let state = hub.state("a").unwrap();
    assert_eq!(state.orchestration_status(), Status::Failed);
    assert_eq!(state.failure_details.unwrap().error_message, "boom");
}

#[test]
fn actions_that_cannot_be_carried_out_fail_the_orchestration_and_do_nothing_else() {
    let malformed = [
        proto::OrchestratorAction { id: 1, orchestrator_action_type: None },
        task(1, ""),
        sub(1, "", ""),
        sub(1, "any", "@not@allowed"),
        call(1, "no entity", "op"),
        lock(1, "section", &["@ok@ok", "wrong"]),
        action(1, Action::CreateTimer(proto::CreateTimerAction { fire_at: None })),
        action(1, Action::SendEntityMessage(proto::SendEntityMessageAction { entity_message_type: None })),
        action(1, Action::RewindOrchestration(proto::RewindOrchestrationAction::default())),
    ];
    for wrong in malformed {
        let mut hub = Driver::new();
        hub.start("a", "any");
        hub.worker();
        hub.play("a", vec![task(0, "good"), wrong]);
        let state = hub.state("a").unwrap();
        assert_eq!(state.orchestration_status(), Status::Failed);
        assert!(state.failure_details.unwrap().error_message.contains("action 1"));
        assert!(hub.activities.is_empty(), "no part of the turn happened");
    }
}

#[test]
fn timers_fire_at_their_time_and_end_with_their_orchestration() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.worker();
    let due = hub.clock.plus(Duration::from_secs(10));
    let later = due.plus(Duration::from_secs(1));
    hub.play("a", vec![timer(0, due), timer(1, later)]);
    assert_eq!(hub.wake, Some(due));
    hub.pass(Duration::from_secs(9));
    assert!(hub.turns.is_empty());
    hub.pass(Duration::from_secs(1));
    let turn = hub.turn_of("a");
    let Some(EventType::TimerFired(fired)) = &turn.request.new_events[1].event_type else { panic!() };
    assert_eq!((fired.timer_id, fired.fire_at), (0, Some(due.to_timestamp())));
    hub.finish_turn(&turn, vec![complete(2)]);
    assert_eq!(hub.wake, None, "no timer outlives its orchestration");
}

#[test]
fn timers_survive_a_crash_and_still_end_with_their_orchestration() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.worker();
    let due = hub.clock.plus(Duration::from_secs(10));
    hub.play("a", vec![timer(0, due)]);
    let mut hub = hub.crash();
    assert_eq!(hub.wake, Some(due));
    hub.terminate("a", false);
    assert_eq!(hub.wake, None);
    assert_eq!(hub.crash().wake, None);
}

#[test]
fn a_timer_that_is_due_already_fires_in_the_same_transition() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.worker();
    let past = hub.clock;
    hub.play("a", vec![timer(0, past)]);
    assert_eq!(kinds(&hub.turn_of("a").request.new_events), ["(", "timer fired"]);
}

#[test]
fn a_scheduled_start_waits_and_keeps_early_events() {
    let mut hub = Driver::new();
    hub.worker();
    let at = hub.clock.plus(Duration::from_mins(1));
    hub.ok(Request::StartInstance(proto::CreateInstanceRequest {
        scheduled_start_timestamp: Some(at.to_timestamp()),
        ..start("a")
    }));
    hub.raise("a", "early").unwrap();
    assert!(hub.turns.is_empty());
    let mut hub = hub.crash();
    hub.worker();
    hub.pass(Duration::from_secs(59));
    assert_eq!((hub.status("a"), hub.turns.len()), (Status::Pending, 0));
    hub.pass(Duration::from_secs(1));
    assert_eq!(kinds(&hub.turn_of("a").request.new_events), ["(", "start", "raised"]);
}

#[test]
fn a_sub_orchestration_answers_its_parent() {
    let mut hub = Driver::new();
    hub.start("p", "parent");
    hub.worker();
    hub.play("p", vec![sub(3, "child", ""), sub(4, "child", "named")]);
    assert_eq!(hub.state("p:0003").unwrap().parent_instance_id.as_deref(), Some("p"));
    let child = hub.play("p:0003", vec![complete(0)]);
    let Some(EventType::ExecutionStarted(started)) = &child.request.new_events[1].event_type else { panic!() };
    let parent = started.parent_instance.as_ref().unwrap();
    assert_eq!((parent.task_scheduled_id, parent.name.as_deref()), (3, Some("parent")));
    let turn = hub.turn_of("p");
    let Some(EventType::SubOrchestrationInstanceCompleted(done)) = &turn.request.new_events[1].event_type else {
        panic!()
    };
    assert_eq!((done.task_scheduled_id, done.result.as_deref()), (3, Some("\"out\"")));
    hub.finish_turn(&turn, vec![]);
    hub.play("named", vec![end(0, Status::Failed, None)]);
    let turn = hub.turn_of("p");
    let Some(EventType::SubOrchestrationInstanceFailed(failed)) = &turn.request.new_events[1].event_type else {
        panic!()
    };
    assert_eq!(failed.task_scheduled_id, 4);
    assert_eq!(failed.failure_details.as_ref().unwrap().error_message, "boom");
}

#[test]
fn a_sub_orchestration_with_the_id_of_a_running_instance_fails() {
    let mut hub = Driver::new();
    hub.start("p", "parent");
    hub.start("taken", "other");
    hub.worker();
    hub.play("p", vec![sub(0, "child", "taken")]);
    let turn = hub.turn_of("p");
    assert_eq!(kinds(&turn.request.new_events), ["(", "sub failed"]);
    assert_eq!(hub.state("taken").unwrap().name, "other");
}

#[test]
fn events_go_between_instances_and_to_nobody() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.start("b", "any");
    hub.worker();
    let b = hub.turn_of("b");
    hub.finish_turn(&b, vec![]);
    let send = |id, target: &str| {
        let instance = Some(proto::OrchestrationInstance { instance_id: target.into(), execution_id: None });
        action(id, Action::SendEvent(proto::SendEventAction { instance, name: "e".into(), data: Some("1".into()) }))
    };
    hub.play("a", vec![send(0, "b"), send(1, "nobody"), send(2, "a")]);
    assert_eq!(kinds(&hub.history("a")), ["(", "start", "sent", "sent", "sent", ")"]);
    assert_eq!(kinds(&hub.turn_of("b").request.new_events), ["(", "raised"]);
    assert_eq!(kinds(&hub.turn_of("a").request.new_events), ["(", "raised"], "an instance can write to itself");
    assert!(hub.state("nobody").is_none());
}

#[test]
fn clients_are_told_when_there_is_no_such_instance() {
    let mut hub = Driver::new();
    let id = || "nobody".to_owned();
    let requests = [
        Request::RaiseEvent(proto::RaiseEventRequest { instance_id: id(), ..Default::default() }),
        Request::TerminateInstance(proto::TerminateRequest { instance_id: id(), ..Default::default() }),
        Request::SuspendInstance(proto::SuspendRequest { instance_id: id(), ..Default::default() }),
        Request::ResumeInstance(proto::ResumeRequest { instance_id: id(), ..Default::default() }),
    ];
    for request in requests {
        assert!(matches!(hub.call(request), Err(HubError::NotFound(message)) if message.contains("nobody")));
    }
    assert!(hub.history("nobody").is_empty());
}

#[test]
fn an_id_is_used_again_only_as_the_policy_says() {
    let mut hub = Driver::new();
    hub.start("a", "old");
    assert!(matches!(hub.call(Request::StartInstance(start("a"))), Err(HubError::AlreadyExists(_))));
    let replacing = |status: Status| proto::CreateInstanceRequest {
        orchestration_id_reuse_policy: Some(proto::OrchestrationIdReusePolicy {
            replaceable_status: vec![status as i32],
        }),
        ..start("a")
    };
    let refused = hub.call(Request::StartInstance(replacing(Status::Completed)));
    assert!(matches!(refused, Err(HubError::AlreadyExists(message)) if message.contains("pending")));
    hub.worker();
    let turn = hub.turn_of("a");
    hub.ok(Request::StartInstance(replacing(Status::Pending)));
    assert_eq!(hub.state("a").unwrap().name, "any");
    let stale = hub.try_turn(&turn, vec![complete(0)]);
    assert!(matches!(stale, Err(HubError::FailedPrecondition(_))), "the turn of the replaced instance is stale");
    hub.play("a", vec![complete(0)]);
    hub.ok(Request::StartInstance(replacing(Status::Completed)));
    assert_eq!(hub.status("a"), Status::Pending);
    assert_eq!(kinds(&hub.turn_of("a").request.new_events), ["(", "start"]);
}

#[test]
fn starts_are_checked_and_ids_are_made() {
    let mut hub = Driver::new();
    let unnamed = proto::CreateInstanceRequest { name: String::new(), ..start("a") };
    assert!(matches!(hub.call(Request::StartInstance(unnamed)), Err(HubError::InvalidArgument(_))));
    assert!(matches!(hub.call(Request::StartInstance(start("@a@b"))), Err(HubError::InvalidArgument(_))));
    let mut ids = Vec::new();
    for _ in 0..2 {
        match hub.ok(Request::StartInstance(start(""))) {
            Answer::Started(started) => ids.push(started.instance_id),
            other => panic!("{other:?}"),
        }
        hub = hub.crash();
    }
    assert!(ids[0] != ids[1] && ids[0].len() == 32, "{ids:?}");
}

#[test]
fn custom_status_tags_and_version_are_shown() {
    let mut hub = Driver::new();
    let trace = proto::TraceContext {
        trace_parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
        ..Default::default()
    };
    hub.ok(Request::StartInstance(proto::CreateInstanceRequest {
        tags: [("k".to_owned(), "v".to_owned())].into(),
        version: Some("1.2".into()),
        parent_trace_context: Some(trace.clone()),
        ..start("a")
    }));
    let state = hub.state("a").unwrap();
    let now = Some(hub.clock.to_timestamp());
    assert_eq!((state.created_timestamp, state.last_updated_timestamp), (now, now));
    hub.worker();
    let turn = hub.turn_of("a");
    let Some(EventType::ExecutionStarted(started)) = &turn.request.new_events[1].event_type else { panic!() };
    assert_eq!(started.parent_trace_context, Some(trace));
    hub.ok(Request::CompleteOrchestrator(proto::OrchestratorResponse {
        completion_token: turn.token,
        custom_status: Some("\"half\"".into()),
        ..Default::default()
    }));
    hub.raise("a", "e").unwrap();
    hub.play("a", vec![]);
    let state = hub.state("a").unwrap();
    assert_eq!(state.custom_status.as_deref(), Some("\"half\""), "a turn that says nothing leaves it");
    assert_eq!((state.tags["k"].as_str(), state.version.as_deref()), ("v", Some("1.2")));
}

#[test]
fn a_worker_that_keeps_history_gets_none_twice() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    let worker = hub.worker_with(proto::GetWorkItemsRequest {
        max_concurrent_orchestration_work_items: 1,
        capabilities: vec![proto::WorkerCapability::HistoryStreaming as i32],
        ..Default::default()
    });
    let past = |turn: &Turn| match turn.request.properties[PAST_EVENTS_PROPERTY].kind {
        Some(prost_types::value::Kind::NumberValue(number)) => number,
        ref other => panic!("{other:?}"),
    };
    let first = hub.play("a", vec![]);
    assert_eq!((past(&first), first.request.requires_history_streaming), (0.0, false));
    hub.raise("a", "e").unwrap();
    let second = hub.turn_of("a");
    assert_eq!((past(&second), second.request.requires_history_streaming), (3.0, true));
    assert!(second.request.past_events.is_empty());
    // It has lost its copy after all.
    hub.ok(Request::CompleteOrchestrator(proto::OrchestratorResponse {
        completion_token: second.token,
        requires_history: true,
        ..Default::default()
    }));
    let again = hub.turn_of("a");
    assert_eq!((past(&again), again.request.requires_history_streaming), (3.0, false));
    assert_eq!(again.request.past_events.len(), 3);
    hub.leave(worker);
    hub.worker();
    assert_eq!(hub.turn_of("a").request.past_events.len(), 3, "another worker gets all of it");
}

#[test]
fn waits_end_when_the_instance_begins_ends_or_is_gone() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    let ask = |id: &str| proto::GetInstanceRequest { instance_id: id.into(), get_inputs_and_outputs: true };
    let exists = |answer| match answer {
        Some(Ok(Answer::Instance(response))) => response.exists,
        other => panic!("{other:?}"),
    };
    assert!(!exists(Some(hub.call(Request::WaitForCompletion(ask("nobody"))))), "no wait for what does not exist");
    let begin = hub.ask(Request::WaitForStart(ask("a")));
    let end = hub.ask(Request::WaitForCompletion(ask("a")));
    let forgotten = hub.ask(Request::WaitForCompletion(ask("a")));
    hub.input(Input::Forget(forgotten));
    assert!(hub.answer(begin).is_none());
    hub.worker();
    hub.play("a", vec![end_again()]);
    assert!(exists(hub.answer(begin)) && hub.answer(end).is_none(), "continue-as-new is not the end");
    hub.play("a", vec![complete(0)]);
    match hub.answer(end) {
        Some(Ok(Answer::Instance(response))) => {
            assert_eq!(response.orchestration_state.unwrap().output.as_deref(), Some("\"out\""));
        }
        other => panic!("{other:?}"),
    }
    assert!(hub.answer(forgotten).is_none());
}

fn end_again() -> proto::OrchestratorAction {
    end(0, Status::ContinuedAsNew, None)
}
