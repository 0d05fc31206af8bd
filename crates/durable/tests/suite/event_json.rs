//! History events as JSON, for the recorded histories: the protocol's JSON names, with times in seconds since 1970 and
//! without fields that are never set there.

use prost_types::Timestamp;
use serde_json::{Value, json};
use seriatim_durable::Failure;
use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::proto::{self, HistoryEvent};

fn seconds(timestamp: Option<&Timestamp>) -> Option<i64> {
    timestamp.map(|timestamp| timestamp.seconds)
}

pub(crate) fn write(event: &HistoryEvent) -> Value {
    let (name, fields) = match event.event_type.as_ref().expect("an event has a kind") {
        EventType::OrchestratorStarted(_) => ("orchestratorStarted", json!({})),
        EventType::OrchestratorCompleted(_) => ("orchestratorCompleted", json!({})),
        EventType::ExecutionSuspended(_) => ("executionSuspended", json!({})),
        EventType::ExecutionResumed(_) => ("executionResumed", json!({})),
        EventType::ExecutionStarted(e) => ("executionStarted", json!({"name": e.name, "input": e.input})),
        EventType::TaskScheduled(e) => ("taskScheduled", json!({"name": e.name, "input": e.input})),
        EventType::TaskCompleted(e) => {
            ("taskCompleted", json!({"taskScheduledId": e.task_scheduled_id, "result": e.result}))
        }
        EventType::TaskFailed(e) => {
            let failure = Failure::from(e.failure_details.clone());
            let details = json!({"errorType": failure.error_type, "errorMessage": failure.message});
            ("taskFailed", json!({"taskScheduledId": e.task_scheduled_id, "failureDetails": details}))
        }
        EventType::SubOrchestrationInstanceCreated(e) => {
            ("subOrchestrationInstanceCreated", json!({"instanceId": e.instance_id, "name": e.name, "input": e.input}))
        }
        EventType::SubOrchestrationInstanceCompleted(e) => {
            ("subOrchestrationInstanceCompleted", json!({"taskScheduledId": e.task_scheduled_id, "result": e.result}))
        }
        EventType::TimerCreated(e) => ("timerCreated", json!({"fireAt": seconds(e.fire_at.as_ref())})),
        EventType::TimerFired(e) => ("timerFired", json!({"timerId": e.timer_id})),
        EventType::EventSent(e) => {
            ("eventSent", json!({"instanceId": e.instance_id, "name": e.name, "input": e.input}))
        }
        EventType::EventRaised(e) => ("eventRaised", json!({"name": e.name, "input": e.input})),
        EventType::EntityOperationCalled(e) => (
            "entityOperationCalled",
            json!({"requestId": e.request_id, "operation": e.operation, "input": e.input,
                "parentInstanceId": e.parent_instance_id, "parentExecutionId": e.parent_execution_id,
                "targetInstanceId": e.target_instance_id}),
        ),
        EventType::EntityOperationSignaled(e) => (
            "entityOperationSignaled",
            json!({"requestId": e.request_id, "operation": e.operation, "input": e.input,
                "targetInstanceId": e.target_instance_id}),
        ),
        EventType::EntityLockRequested(e) => (
            "entityLockRequested",
            json!({"criticalSectionId": e.critical_section_id, "lockSet": e.lock_set, "position": e.position,
                "parentInstanceId": e.parent_instance_id}),
        ),
        EventType::EntityLockGranted(e) => ("entityLockGranted", json!({"criticalSectionId": e.critical_section_id})),
        EventType::EntityUnlockSent(e) => (
            "entityUnlockSent",
            json!({"criticalSectionId": e.critical_section_id, "parentInstanceId": e.parent_instance_id,
                "targetInstanceId": e.target_instance_id}),
        ),
        EventType::EntityOperationCompleted(e) => {
            ("entityOperationCompleted", json!({"requestId": e.request_id, "output": e.output}))
        }
        other => panic!("this kind of event is not in the recorded histories yet: {other:?}"),
    };
    json!({"eventId": event.event_id, "timestamp": seconds(event.timestamp.as_ref()), name: fields})
}

/// The fields of an event, by name.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn text(&self, name: &str) -> Option<String> {
        self.0[name].as_str().map(str::to_owned)
    }

    fn required(&self, name: &str) -> String {
        self.text(name).unwrap_or_else(|| panic!("{name} is missing in {}", self.0))
    }

    fn number(&self, name: &str) -> i32 {
        let number = self.0[name].as_i64().and_then(|number| i32::try_from(number).ok());
        number.unwrap_or_else(|| panic!("{name} is missing in {}", self.0))
    }
}

pub(crate) fn read(value: &Value) -> HistoryEvent {
    let fields = value.as_object().expect("an event is an object");
    let (name, inner) = fields.iter().find(|(_, value)| value.is_object()).expect("an event has a kind");
    let timestamp = value["timestamp"].as_i64().map(|seconds| Timestamp { seconds, nanos: 0 });
    HistoryEvent {
        event_id: Fields(value).number("eventId"),
        timestamp,
        event_type: Some(read_kind(name, &Fields(inner))),
    }
}

fn read_kind(name: &str, f: &Fields<'_>) -> EventType {
    let (input, result) = (f.text("input"), f.text("result"));
    match name {
        "orchestratorStarted" => EventType::OrchestratorStarted(proto::OrchestratorStartedEvent {}),
        "orchestratorCompleted" => EventType::OrchestratorCompleted(proto::OrchestratorCompletedEvent {}),
        "executionSuspended" => EventType::ExecutionSuspended(proto::ExecutionSuspendedEvent::default()),
        "executionResumed" => EventType::ExecutionResumed(proto::ExecutionResumedEvent::default()),
        "executionStarted" => EventType::ExecutionStarted(proto::ExecutionStartedEvent {
            name: f.required("name"),
            input,
            ..Default::default()
        }),
        "taskScheduled" => EventType::TaskScheduled(proto::TaskScheduledEvent {
            name: f.required("name"),
            input,
            ..Default::default()
        }),
        "taskCompleted" => EventType::TaskCompleted(proto::TaskCompletedEvent {
            task_scheduled_id: f.number("taskScheduledId"),
            result,
        }),
        "taskFailed" => {
            let details = Fields(&f.0["failureDetails"]);
            let failure = Failure::new(details.required("errorType"), details.required("errorMessage"));
            crate::bench::failed(f.number("taskScheduledId"), failure)
        }
        "subOrchestrationInstanceCreated" => {
            EventType::SubOrchestrationInstanceCreated(proto::SubOrchestrationInstanceCreatedEvent {
                instance_id: f.required("instanceId"),
                name: f.required("name"),
                input,
                ..Default::default()
            })
        }
        "subOrchestrationInstanceCompleted" => {
            EventType::SubOrchestrationInstanceCompleted(proto::SubOrchestrationInstanceCompletedEvent {
                task_scheduled_id: f.number("taskScheduledId"),
                result,
            })
        }
        "timerCreated" => {
            let fire_at = f.0["fireAt"].as_i64().map(|seconds| Timestamp { seconds, nanos: 0 });
            EventType::TimerCreated(proto::TimerCreatedEvent { fire_at })
        }
        "timerFired" => crate::bench::fired(f.number("timerId")),
        "eventSent" => EventType::EventSent(proto::EventSentEvent {
            instance_id: f.required("instanceId"),
            name: f.required("name"),
            input,
        }),
        "eventRaised" => EventType::EventRaised(proto::EventRaisedEvent { name: f.required("name"), input }),
        _ => read_entity_kind(name, f),
    }
}

fn read_entity_kind(name: &str, f: &Fields<'_>) -> EventType {
    let (input, target) = (f.text("input"), f.text("targetInstanceId"));
    let parent_instance_id = f.text("parentInstanceId");
    match name {
        "entityOperationCalled" => EventType::EntityOperationCalled(proto::EntityOperationCalledEvent {
            request_id: f.required("requestId"),
            operation: f.required("operation"),
            scheduled_time: None,
            input,
            parent_instance_id,
            parent_execution_id: f.text("parentExecutionId"),
            target_instance_id: target,
        }),
        "entityOperationSignaled" => EventType::EntityOperationSignaled(proto::EntityOperationSignaledEvent {
            request_id: f.required("requestId"),
            operation: f.required("operation"),
            scheduled_time: None,
            input,
            target_instance_id: target,
        }),
        "entityLockRequested" => {
            let locks = f.0["lockSet"].as_array().into_iter().flatten();
            EventType::EntityLockRequested(proto::EntityLockRequestedEvent {
                critical_section_id: f.required("criticalSectionId"),
                lock_set: locks.filter_map(Value::as_str).map(str::to_owned).collect(),
                position: f.number("position"),
                parent_instance_id,
            })
        }
        "entityLockGranted" => crate::bench::granted(&f.required("criticalSectionId")),
        "entityUnlockSent" => EventType::EntityUnlockSent(proto::EntityUnlockSentEvent {
            critical_section_id: f.required("criticalSectionId"),
            parent_instance_id,
            target_instance_id: target,
        }),
        "entityOperationCompleted" => EventType::EntityOperationCompleted(proto::EntityOperationCompletedEvent {
            request_id: f.required("requestId"),
            output: f.text("output"),
        }),
        other => panic!("this kind of event is not in the recorded histories yet: {other}"),
    }
}
