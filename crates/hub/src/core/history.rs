//! Small constructors of history events and failure details. This module must never hold state.

use prost_types::Timestamp;
use seriatim_durable::proto;
use seriatim_durable::proto::history_event::EventType;

use super::time::Moment;

/// The event id of everything that no action of the orchestrator caused.
pub(super) const NO_ACTION: i32 = -1;

pub(super) fn event(event_id: i32, at: Moment, event_type: EventType) -> proto::HistoryEvent {
    proto::HistoryEvent { event_id, timestamp: Some(at.to_timestamp()), event_type: Some(event_type) }
}

pub(super) fn started(at: Moment) -> proto::HistoryEvent {
    event(NO_ACTION, at, EventType::OrchestratorStarted(proto::OrchestratorStartedEvent {}))
}

pub(super) fn turn_completed(at: Moment) -> proto::HistoryEvent {
    event(NO_ACTION, at, EventType::OrchestratorCompleted(proto::OrchestratorCompletedEvent {}))
}

/// Whether a message is for the instance, whichever execution it is in: such messages survive continue-as-new. All
/// others answer something that one execution asked for, by a number that means something else in the next one.
pub(super) fn is_for_the_instance(event: &proto::HistoryEvent) -> bool {
    matches!(
        event.event_type,
        Some(
            EventType::EventRaised(_)
                | EventType::ExecutionSuspended(_)
                | EventType::ExecutionResumed(_)
                | EventType::ExecutionTerminated(_)
        )
    )
}

pub(super) fn failure(error_type: &str, error_message: String) -> proto::TaskFailureDetails {
    proto::TaskFailureDetails {
        error_type: error_type.to_owned(),
        error_message,
        is_non_retriable: true,
        ..Default::default()
    }
}

pub(super) fn moment(timestamp: Option<&Timestamp>) -> Moment {
    timestamp.map(Moment::from).unwrap_or_default()
}
