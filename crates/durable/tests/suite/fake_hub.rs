//! A hub that does what a test tells it: it hands out the given work items and shows the answers. It stores nothing;
//! how a worker gets on with a real hub is tested in that hub's crate.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use seriatim_durable::proto::work_item::Request;
use seriatim_durable::proto::{self, HistoryEvent};
use seriatim_durable::{HubError, HubResult, TaskHub, WorkItemStream};

/// What a worker did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Opened(proto::GetWorkItemsRequest),
    Activity(proto::ActivityResponse),
    Orchestrator(proto::OrchestratorResponse),
    Entity(proto::EntityBatchResult),
    Abandoned(String),
    AskedForHistory(proto::StreamInstanceHistoryRequest),
}

#[derive(Debug, Default)]
struct Script {
    /// What the next attempts to open a stream meet; then they succeed.
    refused: VecDeque<HubError>,
    /// What the next answers meet; then they are taken.
    replies: VecDeque<HubError>,
    history: Vec<HistoryEvent>,
    instances: Vec<String>,
}

pub(crate) struct FakeHub {
    script: Mutex<Script>,
    items: Mutex<Option<UnboundedSender<HubResult<proto::WorkItem>>>>,
    answers: UnboundedSender<Answer>,
}

impl fmt::Debug for FakeHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeHub")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeHub {
    pub(crate) fn new() -> (Arc<Self>, UnboundedReceiver<Answer>) {
        let (answers, seen) = unbounded();
        let hub = Self { script: Mutex::default(), items: Mutex::default(), answers };
        (Arc::new(hub), seen)
    }

    /// Hands an item to the worker whose stream is open.
    pub(crate) fn give(&self, token: &str, request: Request) {
        let item = proto::WorkItem { request: Some(request), completion_token: token.to_owned() };
        let items = lock(&self.items);
        items.as_ref().expect("a stream is open").unbounded_send(Ok(item)).expect("the worker listens");
    }

    /// Ends the open stream, with an error if there is one.
    pub(crate) fn lose_stream(&self, error: Option<HubError>) {
        let items = lock(&self.items).take().expect("a stream is open");
        if let Some(error) = error {
            items.unbounded_send(Err(error)).expect("the worker listens");
        }
    }

    pub(crate) fn refuse_streams(&self, errors: impl IntoIterator<Item = HubError>) {
        lock(&self.script).refused.extend(errors);
    }

    pub(crate) fn refuse_answers(&self, errors: impl IntoIterator<Item = HubError>) {
        lock(&self.script).replies.extend(errors);
    }

    pub(crate) fn set_history(&self, history: Vec<HistoryEvent>) {
        lock(&self.script).history = history;
    }

    pub(crate) fn set_instances(&self, ids: impl IntoIterator<Item = String>) {
        lock(&self.script).instances = ids.into_iter().collect();
    }

    fn tell(&self, answer: Answer) {
        // A test that has seen enough may have gone.
        let _ = self.answers.unbounded_send(answer);
    }

    fn take(&self, answer: Answer) -> HubResult<()> {
        let reply = lock(&self.script).replies.pop_front();
        self.tell(answer);
        reply.map_or(Ok(()), Err)
    }
}

/// The next thing that the worker does.
pub(crate) async fn next(seen: &mut UnboundedReceiver<Answer>) -> Answer {
    seen.next().await.expect("the hub lives")
}

fn not_here<T>() -> HubResult<T> {
    Err(HubError::Unimplemented("the fake hub has no such call".to_owned()))
}

#[async_trait::async_trait]
impl TaskHub for FakeHub {
    async fn start_instance(&self, request: proto::CreateInstanceRequest) -> HubResult<proto::CreateInstanceResponse> {
        Ok(proto::CreateInstanceResponse { instance_id: request.instance_id })
    }

    async fn get_instance(&self, request: proto::GetInstanceRequest) -> HubResult<proto::GetInstanceResponse> {
        let mut state = proto::OrchestrationState { instance_id: request.instance_id, ..Default::default() };
        if !lock(&self.script).instances.contains(&state.instance_id) {
            return Ok(proto::GetInstanceResponse::default());
        }
        state.set_orchestration_status(proto::OrchestrationStatus::Completed);
        state.output = Some("7".to_owned());
        Ok(proto::GetInstanceResponse { exists: true, orchestration_state: Some(state) })
    }

    async fn wait_for_instance_start(&self, r: proto::GetInstanceRequest) -> HubResult<proto::GetInstanceResponse> {
        self.get_instance(r).await
    }

    async fn wait_for_instance_completion(
        &self,
        r: proto::GetInstanceRequest,
    ) -> HubResult<proto::GetInstanceResponse> {
        self.get_instance(r).await
    }

    async fn raise_event(&self, _: proto::RaiseEventRequest) -> HubResult<proto::RaiseEventResponse> {
        not_here()
    }

    async fn terminate_instance(&self, _: proto::TerminateRequest) -> HubResult<proto::TerminateResponse> {
        not_here()
    }

    async fn suspend_instance(&self, _: proto::SuspendRequest) -> HubResult<proto::SuspendResponse> {
        not_here()
    }

    async fn resume_instance(&self, _: proto::ResumeRequest) -> HubResult<proto::ResumeResponse> {
        not_here()
    }

    /// Pages of the given instances; the token is the number of those that went before.
    async fn query_instances(&self, request: proto::QueryInstancesRequest) -> HubResult<proto::QueryInstancesResponse> {
        let query = request.query.unwrap_or_default();
        let begin = query.continuation_token.map_or(0, |token| token.parse().expect("a token of this hub"));
        let all = lock(&self.script).instances.clone();
        let page = usize::try_from(query.max_instance_count).expect("a positive size");
        let end = all.len().min(begin + page);
        let state = |id: &String| proto::OrchestrationState { instance_id: id.clone(), ..Default::default() };
        Ok(proto::QueryInstancesResponse {
            orchestration_state: all[begin..end].iter().map(state).collect(),
            continuation_token: (end < all.len()).then(|| end.to_string()),
        })
    }

    async fn purge_instances(&self, _: proto::PurgeInstancesRequest) -> HubResult<proto::PurgeInstancesResponse> {
        not_here()
    }

    async fn instance_history(&self, r: proto::StreamInstanceHistoryRequest) -> HubResult<Vec<HistoryEvent>> {
        self.take(Answer::AskedForHistory(r))?;
        Ok(lock(&self.script).history.clone())
    }

    async fn signal_entity(&self, _: proto::SignalEntityRequest) -> HubResult<proto::SignalEntityResponse> {
        not_here()
    }

    async fn get_entity(&self, request: proto::GetEntityRequest) -> HubResult<proto::GetEntityResponse> {
        let entity = proto::EntityMetadata {
            instance_id: request.instance_id,
            serialized_state: Some("42".to_owned()),
            ..Default::default()
        };
        Ok(proto::GetEntityResponse { exists: true, entity: Some(entity) })
    }

    async fn query_entities(&self, _: proto::QueryEntitiesRequest) -> HubResult<proto::QueryEntitiesResponse> {
        not_here()
    }

    async fn work_items(&self, request: proto::GetWorkItemsRequest) -> HubResult<WorkItemStream> {
        let refused = lock(&self.script).refused.pop_front();
        let (send, receive) = unbounded();
        *lock(&self.items) = Some(send);
        self.tell(Answer::Opened(request));
        match refused {
            Some(error) => Err(error),
            None => Ok(receive.boxed()),
        }
    }

    async fn complete_activity(&self, response: proto::ActivityResponse) -> HubResult<()> {
        self.take(Answer::Activity(response))
    }

    async fn complete_orchestrator(&self, response: proto::OrchestratorResponse) -> HubResult<()> {
        self.take(Answer::Orchestrator(response))
    }

    async fn complete_entity(&self, result: proto::EntityBatchResult) -> HubResult<()> {
        self.take(Answer::Entity(result))
    }

    async fn abandon(&self, completion_token: &str) -> HubResult<()> {
        self.take(Answer::Abandoned(completion_token.to_owned()))
    }
}
