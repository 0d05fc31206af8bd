//! The seam between who writes durable code and who stores it: the [`TaskHub`] trait has one method for each call of
//! the protocol's `TaskHubSidecarService` that a worker or a client needs, with the protocol's own messages. A hub in
//! the same process, one behind a socket and Azure Durable Task Scheduler are the same thing to a [`crate::Worker`]
//! and a [`crate::Client`]. This module must never hold state or know any one hub.

use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use futures::Stream;

use crate::proto;

/// The key in [`OrchestratorRequest::properties`](proto::OrchestratorRequest) under which a hub may say how many events the
/// instance's history has before the new ones (a number), whether or not they are sent along.
///
/// A hub that gives a turn to the worker which took the last one may leave the past events out and set
/// `requires_history_streaming`. If the number proves that the worker's living copy is up to date, it goes on from
/// there; without the number, or when it does not fit, the worker asks for the history. Such a hub records one event for
/// each action of a turn and at most one that closes the turn.
pub const PAST_EVENTS_PROPERTY: &str = "seriatim.pastEvents";

/// Work items as a hub hands them out, until the hub closes or the stream is dropped.
///
/// Dropping the stream is how a worker leaves: the hub gives every item that it still held to another worker.
pub type WorkItemStream = Pin<Box<dyn Stream<Item = Result<proto::WorkItem, HubError>> + Send>>;

/// Why a hub did not do what it was asked, by what the caller should do about it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The request itself is wrong (an empty name, a malformed entity id): change it.
    #[error("invalid request: {0}")]
    InvalidArgument(String),
    /// There is no such instance: check the id.
    #[error("not found: {0}")]
    NotFound(String),
    /// An instance with that id exists in a state that the request does not allow to replace: choose another id.
    #[error("already exists: {0}")]
    AlreadyExists(String),
    /// The instance or the work item is not in a state in which this can be done, for example a completion whose
    /// lease has passed to another worker: drop the work, somebody else has it.
    #[error("not possible now: {0}")]
    FailedPrecondition(String),
    /// The hub does not know who asks, or does not let them: give a credential that it takes.
    #[error("not allowed by this task hub: {0}")]
    Unauthorized(String),
    /// The hub is closing or out of reach: try again later, with the same request.
    #[error("the task hub is unavailable: {0}")]
    Unavailable(String),
    /// The hub could not write or sync its store and takes no more work (it is *fenced*): nothing of this request was
    /// acknowledged. Mend the cause (disk full, disk error), then open the hub again.
    #[error("the task hub stopped after a storage failure: {0}")]
    Fenced(String),
    /// The hub does not offer this call.
    #[error("not supported by this task hub: {0}")]
    Unimplemented(String),
}

/// The outcome of a call to a hub.
pub type HubResult<T> = Result<T, HubError>;

/// A task hub: it stores orchestrations and entities and hands out work items.
///
/// Every `Ok` is a promise: what was acknowledged is on disk (or the store's equivalent) and survives a crash. Reads
/// show only what is on disk. All methods may be called concurrently.
#[async_trait]
pub trait TaskHub: Send + Sync + fmt::Debug {
    /// Starts an orchestration and returns its instance id (a new one if the request has none).
    async fn start_instance(&self, request: proto::CreateInstanceRequest) -> HubResult<proto::CreateInstanceResponse>;

    /// Reads the state of an instance; `exists: false` if there is none.
    async fn get_instance(&self, request: proto::GetInstanceRequest) -> HubResult<proto::GetInstanceResponse>;

    /// Waits until the instance is no longer pending. Answers at once with `exists: false` if there is none.
    async fn wait_for_instance_start(
        &self,
        request: proto::GetInstanceRequest,
    ) -> HubResult<proto::GetInstanceResponse>;

    /// Waits until the instance has ended. Answers at once with `exists: false` if there is none.
    async fn wait_for_instance_completion(
        &self,
        request: proto::GetInstanceRequest,
    ) -> HubResult<proto::GetInstanceResponse>;

    /// Delivers a named event to an instance; it is kept until the orchestration waits for it.
    async fn raise_event(&self, request: proto::RaiseEventRequest) -> HubResult<proto::RaiseEventResponse>;

    /// Ends an instance as `TERMINATED` at its next turn; the locks that it holds are released.
    async fn terminate_instance(&self, request: proto::TerminateRequest) -> HubResult<proto::TerminateResponse>;

    /// Stops giving turns to an instance, while its messages keep arriving.
    async fn suspend_instance(&self, request: proto::SuspendRequest) -> HubResult<proto::SuspendResponse>;

    /// Takes a suspended instance up again.
    async fn resume_instance(&self, request: proto::ResumeRequest) -> HubResult<proto::ResumeResponse>;

    /// Lists instances by status, time of creation or id prefix, in order of id, page by page.
    async fn query_instances(&self, request: proto::QueryInstancesRequest) -> HubResult<proto::QueryInstancesResponse>;

    /// Forgets ended instances and their histories.
    async fn purge_instances(&self, request: proto::PurgeInstancesRequest) -> HubResult<proto::PurgeInstancesResponse>;

    /// The committed history of an instance, oldest event first. Empty if there is no such instance.
    async fn instance_history(
        &self,
        request: proto::StreamInstanceHistoryRequest,
    ) -> HubResult<Vec<proto::HistoryEvent>>;

    /// Takes a failed instance up again where it failed: what had failed in it is forgotten and done again.
    /// `FailedPrecondition` if it has not failed.
    async fn rewind_instance(&self, request: proto::RewindInstanceRequest) -> HubResult<proto::RewindInstanceResponse> {
        Err(not_offered("RewindInstance", &request.instance_id))
    }

    /// Starts an ended instance anew with the name and the input that it had, under its own id or a new one.
    async fn restart_instance(
        &self,
        request: proto::RestartInstanceRequest,
    ) -> HubResult<proto::RestartInstanceResponse> {
        Err(not_offered("RestartInstance", &request.instance_id))
    }

    /// Lists the ids of ended instances by status and time of their end, page by page.
    async fn list_instance_ids(
        &self,
        _request: proto::ListInstanceIdsRequest,
    ) -> HubResult<proto::ListInstanceIdsResponse> {
        Err(not_offered("ListInstanceIds", "this hub"))
    }

    /// Ends instances at once, without a turn of theirs; answers with the ids of those that could not be.
    async fn skip_graceful_orchestration_terminations(
        &self,
        _request: proto::SkipGracefulOrchestrationTerminationsRequest,
    ) -> HubResult<proto::SkipGracefulOrchestrationTerminationsResponse> {
        Err(not_offered("SkipGracefulOrchestrationTerminations", "this hub"))
    }

    /// Removes entities without state and locks whose holder is gone, page by page.
    async fn clean_entity_storage(
        &self,
        _request: proto::CleanEntityStorageRequest,
    ) -> HubResult<proto::CleanEntityStorageResponse> {
        Err(not_offered("CleanEntityStorage", "this hub"))
    }

    /// Sends an operation to an entity without waiting for its result.
    async fn signal_entity(&self, request: proto::SignalEntityRequest) -> HubResult<proto::SignalEntityResponse>;

    /// Reads an entity's committed state and who holds its lock; `exists: false` if there is none.
    async fn get_entity(&self, request: proto::GetEntityRequest) -> HubResult<proto::GetEntityResponse>;

    /// Lists entities in order of id, page by page.
    async fn query_entities(&self, request: proto::QueryEntitiesRequest) -> HubResult<proto::QueryEntitiesResponse>;

    /// Opens a stream of work items for one worker, within its limits of concurrency (0 means none of that kind) and
    /// its filters by name (an absent filter means everything).
    async fn work_items(&self, request: proto::GetWorkItemsRequest) -> HubResult<WorkItemStream>;

    /// Takes the result of an activity. `FailedPrecondition` if the lease has passed on: an activity may run more than
    /// once and is recorded once.
    async fn complete_activity(&self, response: proto::ActivityResponse) -> HubResult<()>;

    /// Takes the actions of an orchestrator's turn.
    async fn complete_orchestrator(&self, response: proto::OrchestratorResponse) -> HubResult<()>;

    /// Takes the results, the state and the messages of an entity's batch: all of them happen, or none.
    async fn complete_entity(&self, result: proto::EntityBatchResult) -> HubResult<()>;

    /// Gives a work item back undone, by its completion token; it goes out again at once.
    async fn abandon(&self, completion_token: &str) -> HubResult<()>;
}

/// The answer of a hub that does not have a call which not every hub has.
fn not_offered(call: &str, to: &str) -> HubError {
    HubError::Unimplemented(format!("{call}, asked for {to}"))
}
