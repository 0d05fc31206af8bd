//! What goes into the core and what comes out: the events that its host reports and the effects that its host carries
//! out. This module must never decide anything.

use seriatim_durable::hub::HubError;
use seriatim_durable::proto;

use super::ids::{BatchSeq, ExecutionNo, InstanceId, RequestId, WorkerId};
use super::records::Batch;
use super::time::Moment;

/// Something that happened outside the core.
#[derive(Debug, Clone)]
pub enum Input {
    /// A client or a worker asks for something. Answered exactly once, now or (waits) later.
    Request(RequestId, Box<Request>),
    /// Whoever asked does not want the answer any more.
    Forget(RequestId),
    /// Every batch up to and including this one is on disk.
    Committed(BatchSeq),
    /// Time has passed: fire what is due.
    Tick,
    /// A worker opened a stream of work items.
    WorkerJoined(WorkerId, Box<proto::GetWorkItemsRequest>),
    /// A worker's stream is gone: what it held goes to others.
    WorkerLeft(WorkerId),
}

/// What can be asked for: one variant for each call of [`seriatim_durable::hub::TaskHub`] except `work_items`; a rewind
/// takes two, because the host has to read histories in between.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the names are those of the trait's methods, which are documented there
pub enum Request {
    StartInstance(proto::CreateInstanceRequest),
    GetInstance(proto::GetInstanceRequest),
    WaitForStart(proto::GetInstanceRequest),
    WaitForCompletion(proto::GetInstanceRequest),
    RaiseEvent(proto::RaiseEventRequest),
    TerminateInstance(proto::TerminateRequest),
    SuspendInstance(proto::SuspendRequest),
    ResumeInstance(proto::ResumeRequest),
    QueryInstances(proto::QueryInstancesRequest),
    PurgeInstances(proto::PurgeInstancesRequest),
    InstanceHistory(proto::StreamInstanceHistoryRequest),
    RewindPlan(proto::RewindInstanceRequest),
    Rewind(proto::RewindInstanceRequest, Vec<Past>),
    RestartInstance(proto::RestartInstanceRequest),
    ListInstanceIds(proto::ListInstanceIdsRequest),
    SkipGracefulTerminations(proto::SkipGracefulOrchestrationTerminationsRequest),
    CleanEntityStorage(proto::CleanEntityStorageRequest),
    SignalEntity(proto::SignalEntityRequest),
    GetEntity(proto::GetEntityRequest),
    QueryEntities(proto::QueryEntitiesRequest),
    CompleteActivity(proto::ActivityResponse),
    CompleteOrchestrator(proto::OrchestratorResponse),
    CompleteEntity(proto::EntityBatchResult),
    Abandon(String),
}

/// An answer to a [`Request`].
// Answers are moved twice and never kept: boxing the large ones would cost more than it saves.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is done; there is nothing to say.
    Done,
    /// An orchestration was created.
    Started(proto::CreateInstanceResponse),
    /// The state of an instance, or that there is none.
    Instance(proto::GetInstanceResponse),
    /// A page of instances.
    Instances(proto::QueryInstancesResponse),
    /// How many instances were forgotten.
    Purged(proto::PurgeInstancesResponse),
    /// Where the store has the history; `None` if there is no such instance.
    History(Option<HistoryRange>),
    /// The histories that the host has to read for a rewind.
    Histories(Vec<(InstanceId, HistoryRange)>),
    /// Whether the instance was rewound; if not, its history is another by now, and is to be read again.
    Rewound(bool),
    /// An instance was started anew.
    Restarted(proto::RestartInstanceResponse),
    /// A page of ids of ended instances.
    Ids(proto::ListInstanceIdsResponse),
    /// Which instances could not be ended.
    Skipped(proto::SkipGracefulOrchestrationTerminationsResponse),
    /// What was removed of entities.
    Cleaned(proto::CleanEntityStorageResponse),
    /// The state of an entity, or that there is none.
    Entity(proto::GetEntityResponse),
    /// A page of entities.
    Entities(proto::QueryEntitiesResponse),
}

/// The first `len` events of an execution's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryRange {
    /// Whose history.
    pub execution: ExecutionNo,
    /// How many events.
    pub len: u64,
}

/// A history as the host has read it for a rewind.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// Whose history.
    pub instance: InstanceId,
    /// What was asked for.
    pub range: HistoryRange,
    /// The events, oldest first.
    pub events: Vec<proto::HistoryEvent>,
}

/// The answer to one request.
#[derive(Debug)]
pub struct Reply {
    /// The request that it answers.
    pub request: RequestId,
    /// The batch that must be on disk before anybody sees the answer.
    pub after: BatchSeq,
    /// The answer.
    pub outcome: Result<Answer, HubError>,
}

/// A work item for a worker. Everything that an activity rests on is on disk already.
#[derive(Debug)]
pub struct Handout {
    /// Whom it goes to.
    pub worker: WorkerId,
    /// The item. An orchestrator's `pastEvents` are still missing if `past` says so.
    pub item: proto::WorkItem,
    /// What the host reads from the store and puts into `pastEvents` before it sends the item.
    pub past: Option<HistoryRange>,
}

/// What the host has to do after an input.
#[derive(Debug, Default)]
pub struct Effects {
    /// Write this, after all earlier batches.
    pub batch: Option<Batch>,
    /// Give these answers, each as soon as its batch is on disk.
    pub replies: Vec<Reply>,
    /// Send these work items.
    pub handouts: Vec<Handout>,
    /// When to tick next, in the clock's time; `None` if nothing is armed.
    pub wake: Option<Moment>,
}
