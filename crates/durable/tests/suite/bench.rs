//! A bench for orchestrations: it plays the hub's part by hand. Every turn is taken three ways (by a copy that is shown
//! no history, by a copy that is shown all of it, and by a fresh replay), and all three must agree: so every test that
//! uses it also proves that sticky turns change nothing.

use std::sync::Arc;

use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::proto::orchestrator_action::OrchestratorActionType as Action;
use seriatim_durable::proto::send_entity_message_action::EntityMessageType as Message;
use seriatim_durable::proto::{self, HistoryEvent};
use seriatim_durable::replay::{Execution, Turn};
use seriatim_durable::{Failure, Registry};

/// 2026-01-01T00:00:00Z: where the bench's clock begins. Each turn is one second later.
pub(crate) const EPOCH: i64 = 1_767_225_600;

pub(crate) struct Bench {
    pub(crate) registry: Arc<Registry>,
    /// The committed history.
    pub(crate) past: Vec<HistoryEvent>,
    pub(crate) clock: i64,
    unshown: Execution,
    shown: Execution,
}

impl Bench {
    pub(crate) fn new(registry: Registry) -> Self {
        let registry = Arc::new(registry);
        let (unshown, shown) = (fresh(&registry), fresh(&registry));
        Self { registry, past: Vec::new(), clock: EPOCH, unshown, shown }
    }

    /// A bench with one orchestration, and its first turn.
    pub(crate) fn start(registry: Registry, name: &str, input: &str) -> (Self, Turn) {
        let mut bench = Self::new(registry);
        let turn = bench.turn(vec![started(name, input)]);
        (bench, turn)
    }

    /// Takes a turn over these events, and commits it.
    pub(crate) fn turn(&mut self, events: Vec<EventType>) -> Turn {
        let new = self.opened(events);
        let replayed = fresh(&self.registry).turn(&self.past, &new);
        assert!(self.shown.fits(&self.past), "a copy that took every turn fits");
        let shown = self.shown.turn(&self.past, &new);
        assert_eq!(replayed, shown, "a copy that is shown the history must do what a replay does");
        let unshown = if self.past.is_empty() {
            self.unshown.turn(&[], &new)
        } else {
            assert!(self.unshown.continues(self.past.len()), "a copy that took every turn continues");
            self.unshown.next_turn(self.past.len(), &new)
        };
        assert_eq!(replayed, unshown, "a copy that is not shown the history must do what a replay does");
        self.commit(new, &replayed);
        replayed
    }

    /// The events of a turn, opened as a hub does.
    pub(crate) fn opened(&mut self, events: Vec<EventType>) -> Vec<HistoryEvent> {
        self.clock += 1;
        let open = EventType::OrchestratorStarted(proto::OrchestratorStartedEvent {});
        std::iter::once(open).chain(events).map(|kind| event(-1, self.clock, kind)).collect()
    }

    /// Records a turn as a hub does: its events, one record for each action, and the mark that closes it.
    pub(crate) fn commit(&mut self, new: Vec<HistoryEvent>, turn: &Turn) {
        self.past.extend(new);
        for action in &turn.actions {
            if let Some(kind) = record(action) {
                self.past.push(event(action.id, self.clock, kind));
            }
        }
        let close = EventType::OrchestratorCompleted(proto::OrchestratorCompletedEvent {});
        self.past.push(event(-1, self.clock, close));
    }
}

pub(crate) fn fresh(registry: &Arc<Registry>) -> Execution {
    Execution::new(Arc::clone(registry), "instance", "execution")
}

pub(crate) fn event(event_id: i32, seconds: i64, kind: EventType) -> HistoryEvent {
    HistoryEvent { event_id, timestamp: Some(prost_types::Timestamp { seconds, nanos: 0 }), event_type: Some(kind) }
}

/// What a hub records for an action.
pub(crate) fn record(action: &proto::OrchestratorAction) -> Option<EventType> {
    Some(match action.orchestrator_action_type.clone()? {
        Action::ScheduleTask(a) => EventType::TaskScheduled(proto::TaskScheduledEvent {
            name: a.name,
            version: a.version,
            input: a.input,
            parent_trace_context: None,
            tags: a.tags,
        }),
        Action::CreateSubOrchestration(a) => {
            EventType::SubOrchestrationInstanceCreated(proto::SubOrchestrationInstanceCreatedEvent {
                instance_id: a.instance_id,
                name: a.name,
                version: a.version,
                input: a.input,
                parent_trace_context: None,
                tags: a.tags,
            })
        }
        Action::CreateTimer(a) => EventType::TimerCreated(proto::TimerCreatedEvent { fire_at: a.fire_at }),
        Action::SendEvent(a) => EventType::EventSent(proto::EventSentEvent {
            instance_id: a.instance.unwrap_or_default().instance_id,
            name: a.name,
            input: a.data,
        }),
        Action::SendEntityMessage(a) => match a.entity_message_type? {
            Message::EntityOperationSignaled(e) => EventType::EntityOperationSignaled(e),
            Message::EntityOperationCalled(e) => EventType::EntityOperationCalled(e),
            Message::EntityLockRequested(e) => EventType::EntityLockRequested(e),
            Message::EntityUnlockSent(e) => EventType::EntityUnlockSent(e),
        },
        Action::CompleteOrchestration(_) | Action::TerminateOrchestration(_) | Action::RewindOrchestration(_) => {
            return None;
        }
    })
}

pub(crate) fn started(name: &str, input: &str) -> EventType {
    EventType::ExecutionStarted(proto::ExecutionStartedEvent {
        name: name.to_owned(),
        input: Some(input.to_owned()),
        ..Default::default()
    })
}

pub(crate) fn completed(id: i32, result: &str) -> EventType {
    EventType::TaskCompleted(proto::TaskCompletedEvent { task_scheduled_id: id, result: Some(result.to_owned()) })
}

pub(crate) fn failed(id: i32, failure: Failure) -> EventType {
    EventType::TaskFailed(proto::TaskFailedEvent { task_scheduled_id: id, failure_details: Some(failure.into()) })
}

pub(crate) fn sub_completed(id: i32, result: &str) -> EventType {
    EventType::SubOrchestrationInstanceCompleted(proto::SubOrchestrationInstanceCompletedEvent {
        task_scheduled_id: id,
        result: Some(result.to_owned()),
    })
}

pub(crate) fn sub_failed(id: i32, failure: Failure) -> EventType {
    EventType::SubOrchestrationInstanceFailed(proto::SubOrchestrationInstanceFailedEvent {
        task_scheduled_id: id,
        failure_details: Some(failure.into()),
    })
}

pub(crate) fn fired(id: i32) -> EventType {
    EventType::TimerFired(proto::TimerFiredEvent { fire_at: None, timer_id: id })
}

pub(crate) fn raised(name: &str, input: &str) -> EventType {
    EventType::EventRaised(proto::EventRaisedEvent { name: name.to_owned(), input: Some(input.to_owned()) })
}

pub(crate) fn suspended() -> EventType {
    EventType::ExecutionSuspended(proto::ExecutionSuspendedEvent { input: None })
}

pub(crate) fn resumed() -> EventType {
    EventType::ExecutionResumed(proto::ExecutionResumedEvent { input: None })
}

pub(crate) fn terminated(output: &str) -> EventType {
    EventType::ExecutionTerminated(proto::ExecutionTerminatedEvent { input: Some(output.to_owned()), recurse: false })
}

pub(crate) fn entity_completed(request: &str, output: &str) -> EventType {
    EventType::EntityOperationCompleted(proto::EntityOperationCompletedEvent {
        request_id: request.to_owned(),
        output: Some(output.to_owned()),
    })
}

pub(crate) fn entity_failed(request: &str, failure: Failure) -> EventType {
    EventType::EntityOperationFailed(proto::EntityOperationFailedEvent {
        request_id: request.to_owned(),
        failure_details: Some(failure.into()),
    })
}

pub(crate) fn granted(section: &str) -> EventType {
    EventType::EntityLockGranted(proto::EntityLockGrantedEvent { critical_section_id: section.to_owned() })
}

/// A turn's actions in a line each, for people and for comparisons.
pub(crate) fn lines(turn: &Turn) -> Vec<String> {
    turn.actions.iter().map(line).collect()
}

pub(crate) fn line(action: &proto::OrchestratorAction) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let what = match action.orchestrator_action_type.as_ref().expect("an action has a kind") {
        Action::ScheduleTask(a) => format!("activity {}({})", a.name, text(&a.input)),
        Action::CreateSubOrchestration(a) => {
            format!("sub {}({}) as {}", a.name, text(&a.input), a.instance_id)
        }
        Action::CreateTimer(a) => format!("timer +{}", a.fire_at.expect("a timer has a time").seconds - EPOCH),
        Action::SendEvent(a) => {
            let to = a.instance.as_ref().expect("an event has a target");
            format!("event {}({}) to {}", a.name, text(&a.data), to.instance_id)
        }
        Action::SendEntityMessage(a) => match a.entity_message_type.as_ref().expect("a message has a kind") {
            Message::EntityOperationCalled(e) => {
                format!("call {}.{}({})", text(&e.target_instance_id), e.operation, text(&e.input))
            }
            Message::EntityOperationSignaled(e) => {
                format!("signal {}.{}({})", text(&e.target_instance_id), e.operation, text(&e.input))
            }
            Message::EntityLockRequested(e) => {
                format!("lock {} at {}", e.lock_set.join(" "), e.position)
            }
            Message::EntityUnlockSent(e) => format!("unlock {}", text(&e.target_instance_id)),
        },
        Action::CompleteOrchestration(a) => {
            let failure = a.failure_details.as_ref().map(|f| format!(" {}", f.error_type)).unwrap_or_default();
            let status = a.orchestration_status().as_str_name().trim_start_matches("ORCHESTRATION_STATUS_");
            format!("end {status} {}{failure}", text(&a.result))
        }
        other => panic!("an unexpected action {other:?}"),
    };
    format!("{} {what}", action.id)
}

/// The id that an entity message carries, for the answer.
pub(crate) fn message_id(action: &proto::OrchestratorAction) -> String {
    match &action.orchestrator_action_type {
        Some(Action::SendEntityMessage(a)) => match a.entity_message_type.as_ref().expect("a message has a kind") {
            Message::EntityOperationCalled(e) => e.request_id.clone(),
            Message::EntityOperationSignaled(e) => e.request_id.clone(),
            Message::EntityLockRequested(e) => e.critical_section_id.clone(),
            Message::EntityUnlockSent(e) => e.critical_section_id.clone(),
        },
        other => panic!("no entity message: {other:?}"),
    }
}

/// The failure that a turn ended with.
pub(crate) fn failure(turn: &Turn) -> Failure {
    match turn.actions.last().and_then(|action| action.orchestrator_action_type.as_ref()) {
        Some(Action::CompleteOrchestration(a)) => Failure::from(a.failure_details.clone()),
        other => panic!("the turn has not ended: {other:?}"),
    }
}
