//! A server of the protocol for tests: any `TaskHub` behind a socket, in a runtime of its own, so that it can be killed
//! with all its connections. It notes what it was sent and fails on demand. Must never retry or repair anything.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use seriatim_durable::hub::{HubError, TaskHub};
use seriatim_durable::proto;
use seriatim_wire::service::task_hub_sidecar_service_server::{TaskHubSidecarService, TaskHubSidecarServiceServer};
use tokio::runtime::Runtime;
use tonic::transport::ServerTlsConfig;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// What a call does instead of succeeding.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It is refused and not done.
    Refuse(Status),
    /// It is done, and then the answer is lost.
    LoseAnswer(Status),
}

/// What was sent, and what shall fail.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) calls: Mutex<Vec<(String, HashMap<String, String>)>>,
    faults: Mutex<HashMap<&'static str, VecDeque<Fault>>>,
    /// The parts of each orchestrator's answer: how many, by token.
    pub(crate) parts: Mutex<HashMap<String, usize>>,
    pub(crate) requests: Mutex<Vec<proto::GetWorkItemsRequest>>,
    /// Texts of all messages that went either way and may hold payloads.
    pub(crate) seen: Mutex<Vec<String>>,
    /// So many streams of work items say that they live, and then nothing more.
    pub(crate) silent_streams: Mutex<usize>,
    /// The only token that is taken; `None`: none is asked for.
    pub(crate) token: Mutex<Option<String>>,
}

impl Record {
    pub(crate) fn fail(&self, call: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().entry(call).or_default().extend(faults);
    }

    pub(crate) fn count(&self, call: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|(name, _)| name == call).count()
    }

    fn enter<Q>(&self, call: &'static str, request: &Request<Q>) -> Result<Option<Status>, Status> {
        let headers = request.metadata().iter().filter_map(|entry| match entry {
            tonic::metadata::KeyAndValueRef::Ascii(key, value) => {
                Some((key.to_string(), value.to_str().unwrap_or_default().to_owned()))
            }
            tonic::metadata::KeyAndValueRef::Binary(..) => None,
        });
        let headers: HashMap<String, String> = headers.collect();
        let given = headers.get("authorization").cloned();
        self.calls.lock().unwrap().push((call.to_owned(), headers));
        if let Some(token) = &*self.token.lock().unwrap()
            && given != Some(format!("Bearer {token}"))
        {
            return Err(Status::unauthenticated("this token is not taken"));
        }
        match self.faults.lock().unwrap().get_mut(call).and_then(VecDeque::pop_front) {
            Some(Fault::Refuse(status)) => Err(status),
            Some(Fault::LoseAnswer(status)) => Ok(Some(status)),
            None => Ok(None),
        }
    }

    fn falls_silent(&self) -> bool {
        let mut left = self.silent_streams.lock().unwrap();
        let silent = *left > 0;
        *left = left.saturating_sub(1);
        silent
    }

    fn note(&self, message: &impl std::fmt::Debug) {
        self.seen.lock().unwrap().push(format!("{message:?}"));
    }
}

/// A server that runs.
pub(crate) struct Server {
    pub(crate) record: Arc<Record>,
    pub(crate) port: u16,
    runtime: Option<Runtime>,
}

/// How a server listens.
#[derive(Default)]
pub(crate) struct Listen {
    /// 0: any.
    pub(crate) port: u16,
    pub(crate) tls: Option<ServerTlsConfig>,
    pub(crate) record: Arc<Record>,
    /// The largest message that it takes.
    pub(crate) message_limit: Option<usize>,
}

impl Server {
    pub(crate) fn start(hub: Arc<dyn TaskHub>, listen: Listen) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let record = listen.record;
        let mut service = TaskHubSidecarServiceServer::new(Service { hub, record: Arc::clone(&record) });
        if let Some(limit) = listen.message_limit {
            service = service.max_decoding_message_size(limit);
        }
        let (tell, port) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", listen.port)).await.unwrap();
            tell.send(listener.local_addr().unwrap().port()).unwrap();
            let mut server = tonic::transport::Server::builder();
            if let Some(tls) = listen.tls {
                server = server.tls_config(tls).unwrap();
            }
            server
                .add_service(service)
                .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
                .await
                .unwrap();
        });
        let port = port.recv_timeout(Duration::from_mins(1)).expect("the server listens");
        Self { record, port, runtime: Some(runtime) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it with all its connections, as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn status(error: HubError) -> Status {
    match error {
        HubError::InvalidArgument(text) => Status::invalid_argument(text),
        HubError::NotFound(text) => Status::not_found(text),
        HubError::AlreadyExists(text) => Status::already_exists(text),
        HubError::FailedPrecondition(text) => Status::failed_precondition(text),
        HubError::Unimplemented(text) => Status::unimplemented(text),
        other => Status::unavailable(other.to_string()),
    }
}

struct Service {
    hub: Arc<dyn TaskHub>,
    record: Arc<Record>,
}

impl Service {
    async fn serve<Q, R, F>(
        &self,
        call: &'static str,
        request: Request<Q>,
        work: impl FnOnce(Arc<dyn TaskHub>, Q) -> F + Send,
    ) -> Result<Response<R>, Status>
    where
        Q: std::fmt::Debug + Send,
        R: std::fmt::Debug + Send,
        F: Future<Output = Result<R, HubError>> + Send,
    {
        let lost = self.record.enter(call, &request)?;
        let message = request.into_inner();
        self.record.note(&message);
        let response = work(Arc::clone(&self.hub), message).await.map_err(status)?;
        self.record.note(&response);
        match lost {
            Some(status) => Err(status),
            None => Ok(Response::new(response)),
        }
    }
}

/// Calls that are those of the trait.
macro_rules! forward {
    ($($method:ident, $call:literal, $request:ident, $response:ident, $of_hub:ident;)+) => {
        #[tonic::async_trait]
        impl TaskHubSidecarService for Service {
            $(async fn $method(
                &self,
                request: Request<proto::$request>,
            ) -> Result<Response<proto::$response>, Status> {
                self.serve($call, request, |hub, message| async move { hub.$of_hub(message).await }).await
            })+

            async fn hello(&self, request: Request<()>) -> Result<Response<()>, Status> {
                self.serve("Hello", request, |_, ()| async { Ok(()) }).await
            }

            type GetWorkItemsStream = Pin<Box<dyn Stream<Item = Result<proto::WorkItem, Status>> + Send>>;

            async fn get_work_items(
                &self,
                request: Request<proto::GetWorkItemsRequest>,
            ) -> Result<Response<Self::GetWorkItemsStream>, Status> {
                let record = Arc::clone(&self.record);
                record.enter("GetWorkItems", &request)?;
                let mut message = request.into_inner();
                // The Python SDK gives no limit for entities and wants them nevertheless.
                let filters = message.work_item_filters.as_ref();
                if message.max_concurrent_entity_work_items == 0 && filters.is_none_or(|f| !f.entities.is_empty()) {
                    message.max_concurrent_entity_work_items = message.max_concurrent_orchestration_work_items;
                }
                record.requests.lock().unwrap().push(message.clone());
                if record.falls_silent() {
                    let request = Some(proto::work_item::Request::HealthPing(proto::HealthPing {}));
                    let ping = proto::WorkItem { request, ..Default::default() };
                    let silent = stream::once(async { Ok(ping) }).chain(stream::pending());
                    return Ok(Response::new(Box::pin(silent)));
                }
                let items = self.hub.work_items(message).await.map_err(status)?;
                let items = items.map(move |item| {
                    item.inspect(|item| record.note(item)).map_err(status)
                });
                Ok(Response::new(Box::pin(items)))
            }

            type StreamInstanceHistoryStream = Pin<Box<dyn Stream<Item = Result<proto::HistoryChunk, Status>> + Send>>;

            async fn stream_instance_history(
                &self,
                request: Request<proto::StreamInstanceHistoryRequest>,
            ) -> Result<Response<Self::StreamInstanceHistoryStream>, Status> {
                self.record.enter("StreamInstanceHistory", &request)?;
                let events = self.hub.instance_history(request.into_inner()).await.map_err(status)?;
                self.record.note(&events);
                let chunks: Vec<_> =
                    events.chunks(3).map(|events| Ok(proto::HistoryChunk { events: events.to_vec() })).collect();
                Ok(Response::new(Box::pin(stream::iter(chunks))))
            }

            async fn complete_activity_task(
                &self,
                request: Request<proto::ActivityResponse>,
            ) -> Result<Response<proto::CompleteTaskResponse>, Status> {
                let work = |hub: Arc<dyn TaskHub>, message| async move { hub.complete_activity(message).await.map(done) };
                self.serve("CompleteActivityTask", request, work).await
            }

            async fn complete_orchestrator_task(
                &self,
                request: Request<proto::OrchestratorResponse>,
            ) -> Result<Response<proto::CompleteTaskResponse>, Status> {
                let record = Arc::clone(&self.record);
                let work = |hub: Arc<dyn TaskHub>, message: proto::OrchestratorResponse| async move {
                    let token = message.completion_token.clone();
                    *record.parts.lock().unwrap().entry(token).or_default() += 1;
                    hub.complete_orchestrator(message).await.map(done)
                };
                self.serve("CompleteOrchestratorTask", request, work).await
            }

            async fn complete_entity_task(
                &self,
                request: Request<proto::EntityBatchResult>,
            ) -> Result<Response<proto::CompleteTaskResponse>, Status> {
                let work = |hub: Arc<dyn TaskHub>, message| async move { hub.complete_entity(message).await.map(done) };
                self.serve("CompleteEntityTask", request, work).await
            }

            async fn abandon_task_activity_work_item(
                &self,
                request: Request<proto::AbandonActivityTaskRequest>,
            ) -> Result<Response<proto::AbandonActivityTaskResponse>, Status> {
                let work = |hub: Arc<dyn TaskHub>, message: proto::AbandonActivityTaskRequest| async move {
                    hub.abandon(&message.completion_token).await.map(|()| proto::AbandonActivityTaskResponse {})
                };
                self.serve("AbandonTaskActivityWorkItem", request, work).await
            }

            async fn abandon_task_orchestrator_work_item(
                &self,
                request: Request<proto::AbandonOrchestrationTaskRequest>,
            ) -> Result<Response<proto::AbandonOrchestrationTaskResponse>, Status> {
                let work = |hub: Arc<dyn TaskHub>, message: proto::AbandonOrchestrationTaskRequest| async move {
                    hub.abandon(&message.completion_token).await.map(|()| proto::AbandonOrchestrationTaskResponse {})
                };
                self.serve("AbandonTaskOrchestratorWorkItem", request, work).await
            }

            async fn abandon_task_entity_work_item(
                &self,
                request: Request<proto::AbandonEntityTaskRequest>,
            ) -> Result<Response<proto::AbandonEntityTaskResponse>, Status> {
                let work = |hub: Arc<dyn TaskHub>, message: proto::AbandonEntityTaskRequest| async move {
                    hub.abandon(&message.completion_token).await.map(|()| proto::AbandonEntityTaskResponse {})
                };
                self.serve("AbandonTaskEntityWorkItem", request, work).await
            }

            async fn create_task_hub(
                &self,
                _: Request<proto::CreateTaskHubRequest>,
            ) -> Result<Response<proto::CreateTaskHubResponse>, Status> {
                Err(Status::unimplemented("CreateTaskHub"))
            }

            async fn delete_task_hub(
                &self,
                _: Request<proto::DeleteTaskHubRequest>,
            ) -> Result<Response<proto::DeleteTaskHubResponse>, Status> {
                Err(Status::unimplemented("DeleteTaskHub"))
            }
        }
    };
}

fn done((): ()) -> proto::CompleteTaskResponse {
    proto::CompleteTaskResponse {}
}

forward! {
    start_instance, "StartInstance", CreateInstanceRequest, CreateInstanceResponse, start_instance;
    get_instance, "GetInstance", GetInstanceRequest, GetInstanceResponse, get_instance;
    wait_for_instance_start, "WaitForInstanceStart", GetInstanceRequest, GetInstanceResponse, wait_for_instance_start;
    wait_for_instance_completion, "WaitForInstanceCompletion", GetInstanceRequest, GetInstanceResponse,
        wait_for_instance_completion;
    raise_event, "RaiseEvent", RaiseEventRequest, RaiseEventResponse, raise_event;
    terminate_instance, "TerminateInstance", TerminateRequest, TerminateResponse, terminate_instance;
    suspend_instance, "SuspendInstance", SuspendRequest, SuspendResponse, suspend_instance;
    resume_instance, "ResumeInstance", ResumeRequest, ResumeResponse, resume_instance;
    query_instances, "QueryInstances", QueryInstancesRequest, QueryInstancesResponse, query_instances;
    purge_instances, "PurgeInstances", PurgeInstancesRequest, PurgeInstancesResponse, purge_instances;
    rewind_instance, "RewindInstance", RewindInstanceRequest, RewindInstanceResponse, rewind_instance;
    restart_instance, "RestartInstance", RestartInstanceRequest, RestartInstanceResponse, restart_instance;
    list_instance_ids, "ListInstanceIds", ListInstanceIdsRequest, ListInstanceIdsResponse, list_instance_ids;
    skip_graceful_orchestration_terminations, "SkipGracefulOrchestrationTerminations",
        SkipGracefulOrchestrationTerminationsRequest, SkipGracefulOrchestrationTerminationsResponse,
        skip_graceful_orchestration_terminations;
    clean_entity_storage, "CleanEntityStorage", CleanEntityStorageRequest, CleanEntityStorageResponse,
        clean_entity_storage;
    signal_entity, "SignalEntity", SignalEntityRequest, SignalEntityResponse, signal_entity;
    get_entity, "GetEntity", GetEntityRequest, GetEntityResponse, get_entity;
    query_entities, "QueryEntities", QueryEntitiesRequest, QueryEntitiesResponse, query_entities;
}
