//! The hub behind the address, as the [`TaskHub`] trait has it: one method, one call. This module must never change what
//! a message means; it replaces large payloads, splits what is too large, and leaves the rest to the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use prost::Message as _;
use seriatim_durable::hub::{HubError, HubResult, TaskHub, WorkItemStream};
use seriatim_durable::proto;

use crate::address::Address;
use crate::builder::RemoteHubBuilder;
use crate::chunks;
use crate::connection::{Again, Call, Connection};
use crate::items::{self, Held, Kind};
use crate::payload::{Fields, PayloadError, Payloads};

/// How long a worker that is leaving tries to give an item back; the hub finds out by itself that it is gone.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// A task hub that is reached by gRPC; see the crate's documentation. Cheap to clone; clones share one connection.
#[derive(Debug, Clone)]
pub struct RemoteHub {
    inner: Arc<Inner>,
}

/// What clones and streams of items share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) connection: Connection,
    pub(crate) payloads: Option<Payloads>,
    pub(crate) held: Held,
    /// Whether the hub has ever taken this credential.
    welcomed: AtomicBool,
}

/// A call of the generated client, as a function.
macro_rules! sending {
    ($method:ident) => {
        |mut stub: crate::connection::Stub, request| async move { stub.$method(request).await }
    };
}

impl RemoteHub {
    /// The settings of a hub at this address.
    pub fn builder(address: Address) -> RemoteHubBuilder {
        RemoteHubBuilder::new(address)
    }

    pub(crate) fn new(connection: Connection, payloads: Option<Payloads>) -> Self {
        Self {
            inner: Arc::new(Inner { connection, payloads, held: Held::default(), welcomed: AtomicBool::new(false) }),
        }
    }

    /// Asks whether the hub is there and takes this credential. Sent again for as long as calls are.
    pub async fn hello(&self) -> HubResult<()> {
        let call = self.inner.connection.idempotent("Hello");
        self.inner.connection.call(call, (), sending!(hello)).await
    }

    /// Puts tokens in the place of a request's large payloads.
    async fn keep(&self, message: &mut impl Fields) -> HubResult<()> {
        match &self.inner.payloads {
            Some(payloads) => payloads.keep(message).await.map_err(|error| payload_error(&error)),
            None => Ok(()),
        }
    }

    /// Puts payloads in the place of a response's tokens.
    async fn resolve<M: Fields>(&self, mut message: M) -> HubResult<M> {
        if let Some(payloads) = &self.inner.payloads {
            payloads.resolve(&mut message).await.map_err(|error| payload_error(&error))?;
        }
        Ok(message)
    }

    fn read(&self, name: &'static str) -> Call {
        self.inner.connection.idempotent(name)
    }

    fn once(&self, name: &'static str) -> Call {
        self.inner.connection.once(name)
    }

    /// A call that lasts until something happens.
    fn wait(&self, name: &'static str) -> Call {
        Call { timeout: None, ..self.read(name) }
    }

    fn answer(&self, name: &'static str) -> Call {
        Call { patience: self.inner.connection.limits.answer_patience, ..self.read(name) }
    }

    /// An answer that the hub does not take in all this time will not be taken any more.
    fn answered(&self, token: &str, kind: Kind, outcome: HubResult<proto::CompleteTaskResponse>) -> HubResult<()> {
        // Not before: an answer that is interrupted leaves the item to be given back.
        self.inner.held.answered(token, kind);
        match outcome {
            Ok(_) => Ok(()),
            Err(HubError::Unavailable(cause)) => Err(HubError::FailedPrecondition(format!(
                "the answer to a work item is dropped after {} s, the item goes to another worker: {cause}",
                self.inner.connection.limits.answer_patience.as_secs_f64()
            ))),
            Err(error) => Err(error),
        }
    }

    fn too_large(&self, bytes: usize) -> Option<String> {
        let limit = self.inner.connection.limits.sent_bytes;
        (bytes > limit).then(|| {
            format!(
                "it has {bytes} bytes, and the task hub takes messages of {limit}: pass large values by reference, or \
                 give all workers and clients a payload store"
            )
        })
    }

    /// A request that no attempt could deliver is refused here, in words that help.
    fn check_size(&self, message: &impl prost::Message) -> HubResult<()> {
        match self.too_large(message.encoded_len()) {
            Some(why) => Err(HubError::InvalidArgument(format!("the request is too large: {why}"))),
            None => Ok(()),
        }
    }
}

impl Inner {
    /// Gives an item back by the call that its kind has. A token that is not known here is offered to all of them.
    pub(crate) async fn give_back(&self, token: &str) -> HubResult<()> {
        let mut kinds = self.held.take(token);
        if kinds.is_empty() {
            kinds = vec![Kind::Activity, Kind::Orchestrator, Kind::Entity];
        }
        let mut outcome = Ok(());
        for kind in kinds {
            let told = self.give_back_as(kind, token.to_owned()).await;
            outcome = outcome.and(told);
        }
        outcome
    }

    async fn give_back_as(&self, kind: Kind, completion_token: String) -> HubResult<()> {
        let call = |name| Call { name, again: Again::Always, patience: Duration::ZERO, timeout: Some(GIVE_BACK) };
        let connection = &self.connection;
        match kind {
            Kind::Activity => {
                let request = proto::AbandonActivityTaskRequest { completion_token };
                let send = sending!(abandon_task_activity_work_item);
                connection.call(call("AbandonTaskActivityWorkItem"), request, send).await.map(|_| ())
            }
            Kind::Orchestrator => {
                let request = proto::AbandonOrchestrationTaskRequest { completion_token };
                let send = sending!(abandon_task_orchestrator_work_item);
                connection.call(call("AbandonTaskOrchestratorWorkItem"), request, send).await.map(|_| ())
            }
            Kind::Entity => {
                let request = proto::AbandonEntityTaskRequest { completion_token };
                let send = sending!(abandon_task_entity_work_item);
                connection.call(call("AbandonTaskEntityWorkItem"), request, send).await.map(|_| ())
            }
        }
    }
}

fn payload_error(error: &PayloadError) -> HubError {
    match error {
        PayloadError::Lost { .. } => HubError::FailedPrecondition(error.to_string()),
        PayloadError::Unavailable(_) => HubError::Unavailable(error.to_string()),
    }
}

fn failure(error_type: &str, message: String) -> proto::TaskFailureDetails {
    proto::TaskFailureDetails {
        error_type: error_type.to_owned(),
        error_message: message,
        is_non_retriable: true,
        ..Default::default()
    }
}

/// A method that sends its request as it is.
macro_rules! plain {
    ($self:ident, $kind:ident, $name:literal, $method:ident, $request:ident) => {
        $self.inner.connection.call($self.$kind($name), $request, sending!($method)).await
    };
}

#[async_trait]
impl TaskHub for RemoteHub {
    async fn start_instance(
        &self,
        mut request: proto::CreateInstanceRequest,
    ) -> HubResult<proto::CreateInstanceResponse> {
        self.keep(&mut request).await?;
        self.check_size(&request)?;
        plain!(self, once, "StartInstance", start_instance, request)
    }

    async fn get_instance(&self, request: proto::GetInstanceRequest) -> HubResult<proto::GetInstanceResponse> {
        self.resolve(plain!(self, read, "GetInstance", get_instance, request)?).await
    }

    async fn wait_for_instance_start(
        &self,
        request: proto::GetInstanceRequest,
    ) -> HubResult<proto::GetInstanceResponse> {
        self.resolve(plain!(self, wait, "WaitForInstanceStart", wait_for_instance_start, request)?).await
    }

    async fn wait_for_instance_completion(
        &self,
        request: proto::GetInstanceRequest,
    ) -> HubResult<proto::GetInstanceResponse> {
        self.resolve(plain!(self, wait, "WaitForInstanceCompletion", wait_for_instance_completion, request)?).await
    }

    async fn raise_event(&self, mut request: proto::RaiseEventRequest) -> HubResult<proto::RaiseEventResponse> {
        self.keep(&mut request).await?;
        self.check_size(&request)?;
        plain!(self, once, "RaiseEvent", raise_event, request)
    }

    async fn terminate_instance(&self, mut request: proto::TerminateRequest) -> HubResult<proto::TerminateResponse> {
        self.keep(&mut request).await?;
        plain!(self, once, "TerminateInstance", terminate_instance, request)
    }

    async fn suspend_instance(&self, mut request: proto::SuspendRequest) -> HubResult<proto::SuspendResponse> {
        self.keep(&mut request).await?;
        plain!(self, once, "SuspendInstance", suspend_instance, request)
    }

    async fn resume_instance(&self, mut request: proto::ResumeRequest) -> HubResult<proto::ResumeResponse> {
        self.keep(&mut request).await?;
        plain!(self, once, "ResumeInstance", resume_instance, request)
    }

    async fn query_instances(&self, request: proto::QueryInstancesRequest) -> HubResult<proto::QueryInstancesResponse> {
        self.resolve(plain!(self, read, "QueryInstances", query_instances, request)?).await
    }

    async fn purge_instances(&self, request: proto::PurgeInstancesRequest) -> HubResult<proto::PurgeInstancesResponse> {
        plain!(self, once, "PurgeInstances", purge_instances, request)
    }

    /// The hub sends a history in parts; a connection that is lost between two of them begins anew.
    async fn instance_history(
        &self,
        request: proto::StreamInstanceHistoryRequest,
    ) -> HubResult<Vec<proto::HistoryEvent>> {
        let gather = |mut stub: crate::connection::Stub, request| async move {
            let mut parts = stub.stream_instance_history(request).await?.into_inner();
            let mut events = Vec::new();
            while let Some(part) = parts.message().await? {
                events.extend(part.events);
            }
            Ok(tonic::Response::new(events))
        };
        let call = Call { timeout: None, ..self.read("StreamInstanceHistory") };
        self.resolve(self.inner.connection.call(call, request, gather).await?).await
    }

    async fn rewind_instance(&self, request: proto::RewindInstanceRequest) -> HubResult<proto::RewindInstanceResponse> {
        plain!(self, once, "RewindInstance", rewind_instance, request)
    }

    async fn restart_instance(
        &self,
        request: proto::RestartInstanceRequest,
    ) -> HubResult<proto::RestartInstanceResponse> {
        plain!(self, once, "RestartInstance", restart_instance, request)
    }

    async fn list_instance_ids(
        &self,
        request: proto::ListInstanceIdsRequest,
    ) -> HubResult<proto::ListInstanceIdsResponse> {
        plain!(self, read, "ListInstanceIds", list_instance_ids, request)
    }

    async fn skip_graceful_orchestration_terminations(
        &self,
        request: proto::SkipGracefulOrchestrationTerminationsRequest,
    ) -> HubResult<proto::SkipGracefulOrchestrationTerminationsResponse> {
        let name = "SkipGracefulOrchestrationTerminations";
        let send = sending!(skip_graceful_orchestration_terminations);
        self.inner.connection.call(self.once(name), request, send).await
    }

    async fn clean_entity_storage(
        &self,
        request: proto::CleanEntityStorageRequest,
    ) -> HubResult<proto::CleanEntityStorageResponse> {
        plain!(self, once, "CleanEntityStorage", clean_entity_storage, request)
    }

    async fn signal_entity(&self, mut request: proto::SignalEntityRequest) -> HubResult<proto::SignalEntityResponse> {
        self.keep(&mut request).await?;
        self.check_size(&request)?;
        plain!(self, once, "SignalEntity", signal_entity, request)
    }

    async fn get_entity(&self, request: proto::GetEntityRequest) -> HubResult<proto::GetEntityResponse> {
        self.resolve(plain!(self, read, "GetEntity", get_entity, request)?).await
    }

    async fn query_entities(&self, request: proto::QueryEntitiesRequest) -> HubResult<proto::QueryEntitiesResponse> {
        self.resolve(plain!(self, read, "QueryEntities", query_entities, request)?).await
    }

    /// Says hello first: a hub that is not there, or does not take the credential, is told before anything is waited
    /// for.
    async fn work_items(&self, mut request: proto::GetWorkItemsRequest) -> HubResult<WorkItemStream> {
        let hello = Call { patience: Duration::ZERO, ..self.read("Hello") };
        match self.inner.connection.call(hello, (), sending!(hello)).await {
            Ok(()) => self.inner.welcomed.store(true, Ordering::Relaxed),
            // A hub that knew the worker once may know it again: rights and keys are changed while programs run.
            Err(HubError::Unauthorized(why)) if self.inner.welcomed.load(Ordering::Relaxed) => {
                return Err(HubError::Unavailable(why));
            }
            Err(error) => return Err(error),
        }
        if self.inner.payloads.is_some() {
            request.capabilities.push(proto::WorkerCapability::LargePayloads.into());
        }
        Ok(items::open(Arc::clone(&self.inner), request))
    }

    async fn complete_activity(&self, mut response: proto::ActivityResponse) -> HubResult<()> {
        self.keep(&mut response).await?;
        if let Some(why) = self.too_large(response.encoded_len()) {
            // No attempt could deliver it, on any worker: the activity has failed.
            response.failure_details = Some(failure("PayloadTooLarge", format!("the activity's result: {why}")));
            response.result = None;
        }
        let token = response.completion_token.clone();
        let outcome = plain!(self, answer, "CompleteActivityTask", complete_activity_task, response);
        self.answered(&token, Kind::Activity, outcome)
    }

    async fn complete_orchestrator(&self, mut response: proto::OrchestratorResponse) -> HubResult<()> {
        self.keep(&mut response).await?;
        let token = response.completion_token.clone();
        let mut outcome = Ok(proto::CompleteTaskResponse {});
        for part in chunks::parts(response, self.inner.connection.limits.sent_bytes) {
            outcome = plain!(self, answer, "CompleteOrchestratorTask", complete_orchestrator_task, part);
            if outcome.is_err() {
                break;
            }
        }
        self.answered(&token, Kind::Orchestrator, outcome)
    }

    async fn complete_entity(&self, mut result: proto::EntityBatchResult) -> HubResult<()> {
        self.keep(&mut result).await?;
        let token = result.completion_token.clone();
        let outcome = plain!(self, answer, "CompleteEntityTask", complete_entity_task, result);
        self.answered(&token, Kind::Entity, outcome)
    }

    async fn abandon(&self, completion_token: &str) -> HubResult<()> {
        self.inner.give_back(completion_token).await
    }
}
