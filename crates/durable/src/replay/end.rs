//! The ways in which an execution ends, and the action for each. This module must never decide which: the execution
//! does.

use super::task::Outcome;
use crate::proto;
use crate::proto::HistoryEvent;
use crate::proto::OrchestrationStatus as Status;
use crate::proto::history_event::EventType;
use crate::proto::orchestrator_action::OrchestratorActionType;

/// How the execution ends.
#[derive(Debug)]
pub(super) enum End {
    Finished(Outcome),
    Continued { input: String, keep_events: bool, carried: Vec<HistoryEvent> },
    Terminated { output: Option<String> },
}

impl End {
    /// The status that the instance will have.
    pub(super) fn status(&self) -> Status {
        match self {
            Self::Finished(Ok(_)) => Status::Completed,
            Self::Finished(Err(_)) => Status::Failed,
            Self::Continued { .. } => Status::ContinuedAsNew,
            Self::Terminated { .. } => Status::Terminated,
        }
    }
}

/// An external event as a message for the next execution.
pub(super) fn raised(name: String, input: Option<String>) -> HistoryEvent {
    let event_type = Some(EventType::EventRaised(proto::EventRaisedEvent { name, input }));
    HistoryEvent { event_id: -1, timestamp: None, event_type }
}

/// The action that ends the execution.
pub(super) fn complete(end: End) -> OrchestratorActionType {
    let mut action = proto::CompleteOrchestrationAction::default();
    action.set_orchestration_status(end.status());
    match end {
        End::Finished(Ok(output)) | End::Terminated { output } => action.result = output,
        End::Finished(Err(failure)) => action.failure_details = Some(failure.into()),
        End::Continued { input, carried, .. } => {
            action.result = Some(input);
            action.carryover_events = carried;
        }
    }
    OrchestratorActionType::CompleteOrchestration(action)
}
