//! A history as the contract shows it: what was asked for and its outcome in one row, turns left out, names in Pascal
//! case and sorted. Must never show more of a payload than was asked for, and no stack traces.

use std::collections::{HashMap, HashSet};

use seriatim_durable::proto;
use seriatim_durable::proto::HistoryEvent;
use seriatim_durable::proto::history_event::EventType;

use crate::call::status_name;
use crate::json::{self, Object};
use crate::time;

/// What was asked for, for the row of its outcome.
struct Asked<'a> {
    name: &'a str,
    input: Option<&'a str>,
    at: String,
}

/// What a client wants to see.
#[derive(Clone, Copy)]
struct Shown {
    inputs: bool,
    outputs: bool,
}

/// The rows of a history, as a JSON array.
pub(super) fn shown(events: &[HistoryEvent], inputs: bool, outputs: bool) -> String {
    let mut asked = HashMap::new();
    let mut answered = HashSet::new();
    for event in events {
        match &event.event_type {
            Some(EventType::TaskScheduled(e)) => {
                asked.insert(event.event_id, Asked { name: &e.name, input: e.input.as_deref(), at: at(event) });
            }
            Some(EventType::SubOrchestrationInstanceCreated(e)) => {
                asked.insert(event.event_id, Asked { name: &e.name, input: e.input.as_deref(), at: at(event) });
            }
            Some(
                EventType::TaskCompleted(proto::TaskCompletedEvent { task_scheduled_id: id, .. })
                | EventType::TaskFailed(proto::TaskFailedEvent { task_scheduled_id: id, .. })
                | EventType::SubOrchestrationInstanceCompleted(proto::SubOrchestrationInstanceCompletedEvent {
                    task_scheduled_id: id,
                    ..
                })
                | EventType::SubOrchestrationInstanceFailed(proto::SubOrchestrationInstanceFailedEvent {
                    task_scheduled_id: id,
                    ..
                }),
            ) => {
                answered.insert(*id);
            }
            _ => {}
        }
    }
    let show = Shown { inputs, outputs };
    json::array(events.iter().filter_map(|event| {
        let is_request = matches!(
            event.event_type,
            Some(EventType::TaskScheduled(_) | EventType::SubOrchestrationInstanceCreated(_))
        );
        if is_request && answered.contains(&event.event_id) { None } else { row(event, &asked, show) }
    }))
}

fn at(event: &HistoryEvent) -> String {
    event.timestamp.as_ref().map(time::full).unwrap_or_default()
}

/// The fields of a row, which are sorted by name when they are written.
struct Row {
    fields: Vec<(&'static str, String)>,
    show: Shown,
}

impl Row {
    fn new(kind: &str, show: Shown) -> Self {
        Self { fields: vec![("EventType", json::quoted(kind))], show }
    }

    fn raw(mut self, name: &'static str, value: String) -> Self {
        self.fields.push((name, value));
        self
    }

    fn text(self, name: &'static str, value: &str) -> Self {
        let value = json::quoted(value);
        self.raw(name, value)
    }

    fn maybe(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    fn when(self, name: &'static str, value: Option<&prost_types::Timestamp>) -> Self {
        let value = value.map(time::full);
        self.maybe(name, value.as_deref())
    }

    /// Inputs are shown as the text that they are stored as, as in the contract.
    fn input(self, value: Option<&str>) -> Self {
        if self.show.inputs { self.maybe("Input", value) } else { self }
    }

    /// Results are shown as the JSON that they are.
    fn result(self, value: Option<&str>) -> Self {
        if self.show.outputs { self.raw("Result", json::stored(value)) } else { self }
    }

    fn failure(self, failure: Option<&proto::TaskFailureDetails>) -> Self {
        match failure {
            Some(failure) => self.text("Reason", &failure.error_message).raw("FailureDetails", details(failure)),
            None => self,
        }
    }

    /// The name, the time and the input of what this is the outcome of.
    fn outcome_of(self, asked: &HashMap<i32, Asked<'_>>, id: i32) -> Self {
        match asked.get(&id) {
            Some(asked) => self.text("FunctionName", asked.name).text("ScheduledTime", &asked.at).input(asked.input),
            None => self,
        }
    }

    fn end(mut self) -> String {
        self.fields.sort_by_key(|(name, _)| *name);
        self.fields.into_iter().fold(Object::new(), |object, (name, value)| object.raw(name, &value)).end()
    }
}

/// A failure and what caused it. Chains are short, and cut where somebody made one that is not.
fn details(failure: &proto::TaskFailureDetails) -> String {
    const CAUSES: usize = 16;
    let mut chain: Vec<&proto::TaskFailureDetails> = vec![failure];
    while let Some(cause) = chain.last().and_then(|last| last.inner_failure.as_deref()).filter(|_| chain.len() < CAUSES)
    {
        chain.push(cause);
    }
    chain.into_iter().rev().fold("null".to_owned(), |inner, failure| {
        Object::new()
            .text("ErrorMessage", &failure.error_message)
            .text("ErrorType", &failure.error_type)
            .raw("InnerFailure", &inner)
            .value("IsNonRetriable", &failure.is_non_retriable)
            .end()
    })
}

/// The row of an event; `None` for those that say nothing to people.
fn row(event: &HistoryEvent, asked: &HashMap<i32, Asked<'_>>, show: Shown) -> Option<String> {
    let of = |kind: &str| Row::new(kind, show);
    let row = match event.event_type.as_ref()? {
        EventType::OrchestratorStarted(_) | EventType::OrchestratorCompleted(_) | EventType::HistoryState(_) => {
            return None;
        }
        EventType::ExecutionStarted(e) => {
            of("ExecutionStarted").text("FunctionName", &e.name).input(e.input.as_deref())
        }
        EventType::ExecutionCompleted(e) => of("ExecutionCompleted")
            .text("OrchestrationStatus", status_name(e.orchestration_status()))
            .result(e.result.as_deref())
            .failure(e.failure_details.as_ref()),
        EventType::TaskCompleted(e) => {
            of("TaskCompleted").outcome_of(asked, e.task_scheduled_id).result(e.result.as_deref())
        }
        EventType::TaskFailed(e) => {
            of("TaskFailed").outcome_of(asked, e.task_scheduled_id).failure(e.failure_details.as_ref())
        }
        EventType::SubOrchestrationInstanceCompleted(e) => {
            of("SubOrchestrationInstanceCompleted").outcome_of(asked, e.task_scheduled_id).result(e.result.as_deref())
        }
        EventType::SubOrchestrationInstanceFailed(e) => of("SubOrchestrationInstanceFailed")
            .outcome_of(asked, e.task_scheduled_id)
            .failure(e.failure_details.as_ref()),
        EventType::TaskScheduled(e) => of("TaskScheduled").text("Name", &e.name).input(e.input.as_deref()),
        EventType::SubOrchestrationInstanceCreated(e) => of("SubOrchestrationInstanceCreated")
            .text("InstanceId", &e.instance_id)
            .text("Name", &e.name)
            .input(e.input.as_deref()),
        other => message_row(other, show)?,
    };
    Some(row.text("Timestamp", &at(event)).end())
}

/// The row of a timer, of a message, or of what somebody did to the orchestration from outside.
fn message_row(event: &EventType, show: Shown) -> Option<Row> {
    let of = |kind: &str| Row::new(kind, show);
    Some(match event {
        EventType::TimerCreated(e) => of("TimerCreated").when("FireAt", e.fire_at.as_ref()),
        EventType::TimerFired(e) => of("TimerFired").when("FireAt", e.fire_at.as_ref()),
        EventType::EventRaised(e) => of("EventRaised").text("Name", &e.name).input(e.input.as_deref()),
        EventType::EventSent(e) => {
            of("EventSent").text("InstanceId", &e.instance_id).text("Name", &e.name).input(e.input.as_deref())
        }
        EventType::ExecutionTerminated(e) => of("ExecutionTerminated").input(e.input.as_deref()),
        EventType::ExecutionSuspended(e) => of("ExecutionSuspended").maybe("Reason", e.input.as_deref()),
        EventType::ExecutionResumed(e) => of("ExecutionResumed").maybe("Reason", e.input.as_deref()),
        EventType::ExecutionRewound(e) => of("ExecutionRewound").maybe("Reason", e.reason.as_deref()),
        EventType::ContinueAsNew(e) => of("ContinueAsNew").result(e.input.as_deref()),
        EventType::GenericEvent(e) => of("GenericEvent").maybe("Data", e.data.as_deref()),
        EventType::EntityOperationSignaled(e) => of("EntityOperationSignaled")
            .maybe("InstanceId", e.target_instance_id.as_deref())
            .text("Name", &e.operation)
            .input(e.input.as_deref()),
        EventType::EntityOperationCalled(e) => of("EntityOperationCalled")
            .maybe("InstanceId", e.target_instance_id.as_deref())
            .text("Name", &e.operation)
            .input(e.input.as_deref()),
        EventType::EntityOperationCompleted(e) => of("EntityOperationCompleted").result(e.output.as_deref()),
        EventType::EntityOperationFailed(e) => of("EntityOperationFailed").failure(e.failure_details.as_ref()),
        EventType::EntityLockRequested(e) => {
            let locks = json::array(e.lock_set.iter().map(|id| json::quoted(id)));
            of("EntityLockRequested").raw("LockSet", locks)
        }
        EventType::EntityLockGranted(_) => of("EntityLockGranted"),
        EventType::EntityUnlockSent(e) => of("EntityUnlockSent").maybe("InstanceId", e.target_instance_id.as_deref()),
        _ => return None,
    })
}
