//! The protocol's calls, each by the method of the hub that its `taskhub` header names. This module must never do more
//! with a call than to find its hub and to put the answer into the protocol's form.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use prost::Message as _;
use seriatim_durable::hub::{TaskHub, WorkItemStream};
use seriatim_durable::proto;
use seriatim_wire::service::task_hub_sidecar_service_server::TaskHubSidecarService;
use tokio::time::{Interval, MissedTickBehavior};
use tonic::{Request, Response, Status};

use super::status::{answer, status};
use crate::hubs::Hubs;

/// The header that names the hub.
const TASK_HUB: &str = "taskhub";

/// How often a stream without work says that it lives. SDKs take one that is silent for two minutes for dead.
const PING_EVERY: Duration = Duration::from_secs(30);

/// A chunk of a streamed history takes about so many bytes at most: well below the 4 MiB that a client takes by default.
const CHUNK_BYTES: usize = 1024 * 1024;

/// The service in front of the hubs.
#[derive(Debug)]
pub(super) struct Service {
    hubs: Arc<Hubs>,
}

impl Service {
    pub(super) fn new(hubs: Arc<Hubs>) -> Self {
        Self { hubs }
    }

    /// The hub that a request is for, and its message.
    async fn hub_for<T>(&self, request: Request<T>) -> Result<(Arc<dyn TaskHub>, T), Status> {
        let hub = self.hubs.hub(name(&request)?).await.map_err(|error| status(&error))?;
        Ok((hub, request.into_inner()))
    }
}

fn name<T>(request: &Request<T>) -> Result<Option<&str>, Status> {
    let wrong = |_| Status::invalid_argument("the `taskhub` header is not text; name the task hub in ASCII");
    request.metadata().get(TASK_HUB).map(|value| value.to_str().map_err(wrong)).transpose()
}

#[tonic::async_trait]
impl TaskHubSidecarService for Service {
    type GetWorkItemsStream = WorkItems;
    type StreamInstanceHistoryStream = HistoryChunks;

    async fn hello(&self, request: Request<()>) -> Result<Response<()>, Status> {
        self.hub_for(request).await.map(|_| Response::new(()))
    }

    async fn start_instance(
        &self,
        request: Request<proto::CreateInstanceRequest>,
    ) -> Result<Response<proto::CreateInstanceResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.start_instance(request).await)
    }

    async fn get_instance(
        &self,
        request: Request<proto::GetInstanceRequest>,
    ) -> Result<Response<proto::GetInstanceResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.get_instance(request).await)
    }

    async fn rewind_instance(
        &self,
        request: Request<proto::RewindInstanceRequest>,
    ) -> Result<Response<proto::RewindInstanceResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.rewind_instance(request).await)
    }

    async fn restart_instance(
        &self,
        request: Request<proto::RestartInstanceRequest>,
    ) -> Result<Response<proto::RestartInstanceResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.restart_instance(request).await)
    }

    async fn wait_for_instance_start(
        &self,
        request: Request<proto::GetInstanceRequest>,
    ) -> Result<Response<proto::GetInstanceResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.wait_for_instance_start(request).await)
    }

    async fn wait_for_instance_completion(
        &self,
        request: Request<proto::GetInstanceRequest>,
    ) -> Result<Response<proto::GetInstanceResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.wait_for_instance_completion(request).await)
    }

    async fn raise_event(
        &self,
        request: Request<proto::RaiseEventRequest>,
    ) -> Result<Response<proto::RaiseEventResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.raise_event(request).await)
    }

    async fn terminate_instance(
        &self,
        request: Request<proto::TerminateRequest>,
    ) -> Result<Response<proto::TerminateResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.terminate_instance(request).await)
    }

    async fn suspend_instance(
        &self,
        request: Request<proto::SuspendRequest>,
    ) -> Result<Response<proto::SuspendResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.suspend_instance(request).await)
    }

    async fn resume_instance(
        &self,
        request: Request<proto::ResumeRequest>,
    ) -> Result<Response<proto::ResumeResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.resume_instance(request).await)
    }

    async fn query_instances(
        &self,
        request: Request<proto::QueryInstancesRequest>,
    ) -> Result<Response<proto::QueryInstancesResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.query_instances(request).await)
    }

    async fn list_instance_ids(
        &self,
        request: Request<proto::ListInstanceIdsRequest>,
    ) -> Result<Response<proto::ListInstanceIdsResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.list_instance_ids(request).await)
    }

    async fn purge_instances(
        &self,
        request: Request<proto::PurgeInstancesRequest>,
    ) -> Result<Response<proto::PurgeInstancesResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.purge_instances(request).await)
    }

    async fn get_work_items(
        &self,
        request: Request<proto::GetWorkItemsRequest>,
    ) -> Result<Response<Self::GetWorkItemsStream>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        let items = hub.work_items(with_limits(request)).await.map_err(|error| status(&error))?;
        Ok(Response::new(WorkItems::new(items)))
    }

    async fn complete_activity_task(
        &self,
        request: Request<proto::ActivityResponse>,
    ) -> Result<Response<proto::CompleteTaskResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.complete_activity(request).await.map(|()| proto::CompleteTaskResponse {}))
    }

    async fn complete_orchestrator_task(
        &self,
        request: Request<proto::OrchestratorResponse>,
    ) -> Result<Response<proto::CompleteTaskResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.complete_orchestrator(request).await.map(|()| proto::CompleteTaskResponse {}))
    }

    async fn complete_entity_task(
        &self,
        request: Request<proto::EntityBatchResult>,
    ) -> Result<Response<proto::CompleteTaskResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.complete_entity(request).await.map(|()| proto::CompleteTaskResponse {}))
    }

    async fn stream_instance_history(
        &self,
        request: Request<proto::StreamInstanceHistoryRequest>,
    ) -> Result<Response<Self::StreamInstanceHistoryStream>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        let instance_id = request.instance_id.clone();
        let events = hub.instance_history(request).await.map_err(|error| status(&error))?;
        if events.is_empty() {
            // The hub does not tell an instance without history from none at all.
            let get = proto::GetInstanceRequest { instance_id: instance_id.clone(), ..Default::default() };
            let found = hub.get_instance(get).await.map_err(|error| status(&error))?;
            if !found.exists {
                let message = format!("there is no orchestration instance `{instance_id}`; check the id");
                return Err(Status::not_found(message));
            }
        }
        Ok(Response::new(HistoryChunks { events: events.into_iter() }))
    }

    async fn create_task_hub(
        &self,
        request: Request<proto::CreateTaskHubRequest>,
    ) -> Result<Response<proto::CreateTaskHubResponse>, Status> {
        let created = self.hubs.create(name(&request)?, request.get_ref().recreate_if_exists).await;
        answer(created.map(|()| proto::CreateTaskHubResponse {}))
    }

    async fn delete_task_hub(
        &self,
        request: Request<proto::DeleteTaskHubRequest>,
    ) -> Result<Response<proto::DeleteTaskHubResponse>, Status> {
        answer(self.hubs.delete(name(&request)?).await.map(|()| proto::DeleteTaskHubResponse {}))
    }

    async fn signal_entity(
        &self,
        request: Request<proto::SignalEntityRequest>,
    ) -> Result<Response<proto::SignalEntityResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.signal_entity(request).await)
    }

    async fn get_entity(
        &self,
        request: Request<proto::GetEntityRequest>,
    ) -> Result<Response<proto::GetEntityResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.get_entity(request).await)
    }

    async fn query_entities(
        &self,
        request: Request<proto::QueryEntitiesRequest>,
    ) -> Result<Response<proto::QueryEntitiesResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.query_entities(request).await)
    }

    async fn clean_entity_storage(
        &self,
        request: Request<proto::CleanEntityStorageRequest>,
    ) -> Result<Response<proto::CleanEntityStorageResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.clean_entity_storage(request).await)
    }

    async fn abandon_task_activity_work_item(
        &self,
        request: Request<proto::AbandonActivityTaskRequest>,
    ) -> Result<Response<proto::AbandonActivityTaskResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        let abandoned = hub.abandon(&request.completion_token).await;
        answer(abandoned.map(|()| proto::AbandonActivityTaskResponse {}))
    }

    async fn abandon_task_orchestrator_work_item(
        &self,
        request: Request<proto::AbandonOrchestrationTaskRequest>,
    ) -> Result<Response<proto::AbandonOrchestrationTaskResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        let abandoned = hub.abandon(&request.completion_token).await;
        answer(abandoned.map(|()| proto::AbandonOrchestrationTaskResponse {}))
    }

    async fn abandon_task_entity_work_item(
        &self,
        request: Request<proto::AbandonEntityTaskRequest>,
    ) -> Result<Response<proto::AbandonEntityTaskResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        let abandoned = hub.abandon(&request.completion_token).await;
        answer(abandoned.map(|()| proto::AbandonEntityTaskResponse {}))
    }

    async fn skip_graceful_orchestration_terminations(
        &self,
        request: Request<proto::SkipGracefulOrchestrationTerminationsRequest>,
    ) -> Result<Response<proto::SkipGracefulOrchestrationTerminationsResponse>, Status> {
        let (hub, request) = self.hub_for(request).await?;
        answer(hub.skip_graceful_orchestration_terminations(request).await)
    }
}

/// Reads the limits as the SDKs write them. In this protocol's encoding, 0 and nothing are the same: the JavaScript SDK
/// sets no limit at all, the Python SDK none for entities, and both mean "as many as you like". A worker that wants none
/// of a kind says so with a filter without names.
fn with_limits(mut request: proto::GetWorkItemsRequest) -> proto::GetWorkItemsRequest {
    if request.max_concurrent_orchestration_work_items == 0 && request.max_concurrent_activity_work_items == 0 {
        request.max_concurrent_orchestration_work_items = i32::MAX;
        request.max_concurrent_activity_work_items = i32::MAX;
    }
    if request.max_concurrent_entity_work_items == 0 {
        request.max_concurrent_entity_work_items = i32::MAX;
    }
    request
}

/// The work items of one worker, with a sign of life when there are none for a while.
pub(super) struct WorkItems {
    items: WorkItemStream,
    ping: Interval,
}

impl WorkItems {
    fn new(items: WorkItemStream) -> Self {
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { items, ping }
    }
}

impl Stream for WorkItems {
    type Item = Result<proto::WorkItem, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(item) = self.items.as_mut().poll_next(context) {
            self.ping.reset();
            return Poll::Ready(item.map(|item| item.map_err(|error| status(&error))));
        }
        self.ping.poll_tick(context).map(|_| {
            let ping = proto::work_item::Request::HealthPing(proto::HealthPing {});
            Some(Ok(proto::WorkItem { request: Some(ping), completion_token: String::new() }))
        })
    }
}

/// A history in pieces that a client takes.
pub(super) struct HistoryChunks {
    events: std::vec::IntoIter<proto::HistoryEvent>,
}

impl Stream for HistoryChunks {
    type Item = Result<proto::HistoryChunk, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut events = Vec::new();
        let mut bytes = 0;
        for event in self.events.by_ref() {
            bytes += event.encoded_len();
            events.push(event);
            if bytes >= CHUNK_BYTES {
                break;
            }
        }
        Poll::Ready((!events.is_empty()).then_some(Ok(proto::HistoryChunk { events })))
    }
}
