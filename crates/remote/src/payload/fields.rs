//! Where payloads are in the protocol's messages: one list, used in both directions, so that what can be replaced can
//! be brought back. This module must never list a field that a hub itself reads (names, ids, failure texts).

use seriatim_durable::proto;
use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::proto::operation_action::OperationActionType;
use seriatim_durable::proto::operation_result::ResultType;
use seriatim_durable::proto::orchestrator_action::OrchestratorActionType;
use seriatim_durable::proto::send_entity_message_action::EntityMessageType;
use seriatim_durable::proto::work_item::Request;

/// A payload's place.
pub(crate) type Field<'a> = &'a mut Option<String>;

/// A message that may have payloads in it.
pub(crate) trait Fields: Send {
    /// The places.
    fn fields(&mut self) -> Vec<Field<'_>>;
}

/// Implements [`Fields`] for messages with payloads at their top.
macro_rules! fields {
    ($($message:ident: $($field:ident),+;)+) => {
        $(impl Fields for proto::$message {
            fn fields(&mut self) -> Vec<Field<'_>> {
                vec![$(&mut self.$field),+]
            }
        })+
    };
}

fields! {
    CreateInstanceRequest: input;
    RaiseEventRequest: input;
    TerminateRequest: output;
    SuspendRequest: reason;
    ResumeRequest: reason;
    SignalEntityRequest: input;
    ActivityResponse: result;
    ActivityRequest: input;
    OrchestrationState: input, output, custom_status;
    EntityMetadata: serialized_state;
}

fn all<T: Fields>(messages: &mut [T]) -> impl Iterator<Item = Field<'_>> {
    messages.iter_mut().flat_map(Fields::fields)
}

impl Fields for proto::GetInstanceResponse {
    fn fields(&mut self) -> Vec<Field<'_>> {
        self.orchestration_state.iter_mut().flat_map(Fields::fields).collect()
    }
}

impl Fields for proto::QueryInstancesResponse {
    fn fields(&mut self) -> Vec<Field<'_>> {
        all(&mut self.orchestration_state).collect()
    }
}

impl Fields for proto::GetEntityResponse {
    fn fields(&mut self) -> Vec<Field<'_>> {
        self.entity.iter_mut().flat_map(Fields::fields).collect()
    }
}

impl Fields for proto::QueryEntitiesResponse {
    fn fields(&mut self) -> Vec<Field<'_>> {
        all(&mut self.entities).collect()
    }
}

impl Fields for proto::HistoryEvent {
    fn fields(&mut self) -> Vec<Field<'_>> {
        match &mut self.event_type {
            Some(EventType::ExecutionStarted(e)) => vec![&mut e.input],
            Some(EventType::ExecutionCompleted(e)) => vec![&mut e.result],
            Some(EventType::ExecutionTerminated(e)) => vec![&mut e.input],
            Some(EventType::ExecutionSuspended(e)) => vec![&mut e.input],
            Some(EventType::ExecutionResumed(e)) => vec![&mut e.input],
            Some(EventType::ExecutionRewound(e)) => vec![&mut e.input],
            Some(EventType::TaskScheduled(e)) => vec![&mut e.input],
            Some(EventType::TaskCompleted(e)) => vec![&mut e.result],
            Some(EventType::SubOrchestrationInstanceCreated(e)) => vec![&mut e.input],
            Some(EventType::SubOrchestrationInstanceCompleted(e)) => vec![&mut e.result],
            Some(EventType::EventSent(e)) => vec![&mut e.input],
            Some(EventType::EventRaised(e)) => vec![&mut e.input],
            Some(EventType::GenericEvent(e)) => vec![&mut e.data],
            Some(EventType::ContinueAsNew(e)) => vec![&mut e.input],
            Some(EventType::EntityOperationSignaled(e)) => vec![&mut e.input],
            Some(EventType::EntityOperationCalled(e)) => vec![&mut e.input],
            Some(EventType::EntityOperationCompleted(e)) => vec![&mut e.output],
            Some(EventType::HistoryState(e)) => e.orchestration_state.iter_mut().flat_map(Fields::fields).collect(),
            Some(
                EventType::TaskFailed(_)
                | EventType::SubOrchestrationInstanceFailed(_)
                | EventType::TimerCreated(_)
                | EventType::TimerFired(_)
                | EventType::OrchestratorStarted(_)
                | EventType::OrchestratorCompleted(_)
                | EventType::EntityOperationFailed(_)
                | EventType::EntityLockRequested(_)
                | EventType::EntityLockGranted(_)
                | EventType::EntityUnlockSent(_),
            )
            | None => Vec::new(),
        }
    }
}

impl Fields for Vec<proto::HistoryEvent> {
    fn fields(&mut self) -> Vec<Field<'_>> {
        all(self).collect()
    }
}

impl Fields for proto::WorkItem {
    fn fields(&mut self) -> Vec<Field<'_>> {
        match &mut self.request {
            Some(Request::ActivityRequest(request)) => request.fields(),
            Some(Request::OrchestratorRequest(request)) => {
                all(&mut request.past_events).chain(all(&mut request.new_events)).collect()
            }
            Some(Request::EntityRequest(request)) => {
                let inputs = request.operations.iter_mut().map(|operation| &mut operation.input);
                std::iter::once(&mut request.entity_state).chain(inputs).collect()
            }
            Some(Request::EntityRequestV2(request)) => {
                std::iter::once(&mut request.entity_state).chain(all(&mut request.operation_requests)).collect()
            }
            Some(Request::HealthPing(_)) | None => Vec::new(),
        }
    }
}

impl Fields for proto::OrchestratorAction {
    fn fields(&mut self) -> Vec<Field<'_>> {
        match &mut self.orchestrator_action_type {
            Some(OrchestratorActionType::ScheduleTask(a)) => vec![&mut a.input],
            Some(OrchestratorActionType::CreateSubOrchestration(a)) => vec![&mut a.input],
            Some(OrchestratorActionType::SendEvent(a)) => vec![&mut a.data],
            Some(OrchestratorActionType::TerminateOrchestration(a)) => vec![&mut a.reason],
            Some(OrchestratorActionType::CompleteOrchestration(a)) => {
                let own = [&mut a.result, &mut a.details];
                own.into_iter().chain(all(&mut a.carryover_events)).collect()
            }
            Some(OrchestratorActionType::SendEntityMessage(a)) => match &mut a.entity_message_type {
                Some(EntityMessageType::EntityOperationSignaled(e)) => vec![&mut e.input],
                Some(EntityMessageType::EntityOperationCalled(e)) => vec![&mut e.input],
                Some(EntityMessageType::EntityLockRequested(_) | EntityMessageType::EntityUnlockSent(_)) | None => {
                    Vec::new()
                }
            },
            Some(OrchestratorActionType::RewindOrchestration(a)) => all(&mut a.new_history).collect(),
            Some(OrchestratorActionType::CreateTimer(_)) | None => Vec::new(),
        }
    }
}

impl Fields for proto::OrchestratorResponse {
    fn fields(&mut self) -> Vec<Field<'_>> {
        std::iter::once(&mut self.custom_status).chain(all(&mut self.actions)).collect()
    }
}

impl Fields for proto::EntityBatchResult {
    fn fields(&mut self) -> Vec<Field<'_>> {
        let results = self.results.iter_mut().filter_map(|result| match &mut result.result_type {
            Some(ResultType::Success(success)) => Some(&mut success.result),
            Some(ResultType::Failure(_)) | None => None,
        });
        let actions = self.actions.iter_mut().filter_map(|action| match &mut action.operation_action_type {
            Some(OperationActionType::SendSignal(signal)) => Some(&mut signal.input),
            Some(OperationActionType::StartNewOrchestration(start)) => Some(&mut start.input),
            None => None,
        });
        std::iter::once(&mut self.entity_state).chain(results).chain(actions).collect()
    }
}
