//! The hub in this process: the core, a store, two threads for the disk and a task for the timers, behind the
//! [`TaskHub`] trait. One state folder has one owner at a time. This module must never decide what a request means:
//! the core does.

mod options;
mod owner;
mod shared;
mod threads;

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use async_trait::async_trait;
use futures::Stream;
use seriatim_durable::hub::{HubError, HubResult, TaskHub, WorkItemStream};
use seriatim_durable::proto;
use tokio::sync::mpsc;

use crate::clock::{Clock as _, SystemClock};
use crate::core::{Answer, Core, Past, Request, WorkerId};
use crate::store::{MemoryStore, SqliteStore, Store};
pub use options::{HubOptions, OpenError};
use owner::FolderLock;
pub use owner::Owner;
use shared::{Phase, Shared};

/// What a hub's journal has cost since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct JournalStats {
    /// Commits, each with one sync.
    pub commits: u64,
    /// Transitions that were written by them.
    pub batches: u64,
    /// Seconds that the writer spent in commits.
    pub seconds_committing: f64,
}

/// A number for each kind of work item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkStats {
    /// Turns of orchestrators.
    pub orchestrators: u64,
    /// Activities.
    pub activities: u64,
    /// Batches of entities.
    pub entities: u64,
}

/// The same while it is counted: outside of the hub's lock, because every completion comes by.
#[derive(Debug, Default)]
struct WorkCounters {
    orchestrators: AtomicU64,
    activities: AtomicU64,
    entities: AtomicU64,
}

impl WorkCounters {
    fn read(&self) -> WorkStats {
        WorkStats {
            orchestrators: self.orchestrators.load(Ordering::Relaxed),
            activities: self.activities.load(Ordering::Relaxed),
            entities: self.entities.load(Ordering::Relaxed),
        }
    }
}

/// What a hub has done with work items since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DispatchStats {
    /// Workers that are connected now.
    pub workers: u64,
    /// Work items that were given to workers; one that was given back or lost its lease counts again.
    pub handed_out: WorkStats,
    /// Work items whose completion was taken.
    pub completed: WorkStats,
}

/// A task hub in this process; see the module's documentation.
///
/// [`close`](Self::close) it when done. Dropping it instead is like a crash: nothing that was acknowledged is lost, but
/// what was still on its way to the disk is, and the next one to open the folder has more to read.
pub struct EmbeddedHub {
    shared: Arc<Shared>,
    items_per_worker: usize,
    completed: WorkCounters,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for EmbeddedHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedHub").field("phase", &self.shared.lock().phase).finish_non_exhaustive()
    }
}

impl EmbeddedHub {
    /// Opens the hub whose state is in `state_folder` (`hub.db` with its `-wal` and `-shm`, and `hub.lock`), or makes
    /// one there. Blocks while the state is read. Must be called from within a Tokio runtime, which drives the timers.
    pub fn open(state_folder: &Path, options: HubOptions) -> Result<Arc<Self>, OpenError> {
        let lock = FolderLock::acquire(state_folder, options.clock.now())?;
        let store = SqliteStore::open(&state_folder.join("hub.db"), uuid::Uuid::new_v4().as_u128())?;
        Self::start(Box::new(store), Some(lock), options)
    }

    /// Deletes the hub whose state is in `state_folder`, if there is one there. Fails while a hub has it open. The lock
    /// file stays: were it removed, a second owner could lock a new one while the first still holds the old one.
    pub fn delete(state_folder: &Path) -> Result<(), OpenError> {
        if !state_folder.is_dir() {
            return Ok(());
        }
        let _lock = FolderLock::acquire(state_folder, SystemClock.now())?;
        // The database first: SQLite throws away a log without one, but a database without its log has lost something.
        for file in ["hub.db", "hub.db-wal", "hub.db-shm"] {
            let path = state_folder.join(file);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(OpenError::Folder { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A hub that keeps nothing when it is dropped, for tests and for measuring what the disk costs.
    pub fn in_memory(options: HubOptions) -> Result<Arc<Self>, OpenError> {
        Self::with_store(Box::new(MemoryStore::new(uuid::Uuid::new_v4().as_u128())), options)
    }

    /// A hub on a store of your own. You see to it that the store has no other owner.
    pub fn with_store(store: Box<dyn Store>, options: HubOptions) -> Result<Arc<Self>, OpenError> {
        Self::start(store, None, options)
    }

    fn start(mut store: Box<dyn Store>, lock: Option<FolderLock>, options: HubOptions) -> Result<Arc<Self>, OpenError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| OpenError::NoRuntime)?;
        let session = uuid::Uuid::new_v4().as_u64_pair().0;
        let config = options.core_config(session)?;
        let snapshot = store.load()?;
        let reader = store.reader()?;
        let clock = options.clock;
        let (core, first) = Core::recover(config, snapshot, clock.now());
        let (jobs, to_read) = std::sync::mpsc::channel();
        let shared = Shared::new(core, first, Arc::clone(&clock), jobs);
        runtime.spawn(threads::tick(Arc::downgrade(&shared), clock));
        // From here on the hub is dropped, and with it the thread that runs already, if the other one does not start.
        let completed = WorkCounters::default();
        let hub = Self { shared, items_per_worker: options.items_per_worker, completed, threads: Mutex::default() };
        let shared = Arc::clone(&hub.shared);
        hub.spawn("hub-writer", move || threads::write(&shared, store, lock))?;
        let shared = Arc::clone(&hub.shared);
        hub.spawn("hub-reader", move || {
            threads::read(&shared, reader, &to_read);
        })?;
        Ok(Arc::new(hub))
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(OpenError::Thread)?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Ends the hub in good order: takes nothing more, writes what it has taken, tidies up the log and lets go of the
    /// folder. Work item streams end. An error says that the store had failed before.
    pub async fn close(&self) -> HubResult<()> {
        self.shared.begin_to_end(Phase::Closing);
        let threads = self.take_threads();
        // Joining only fails if the task is cancelled, and then nobody waits for it.
        let _ = tokio::task::spawn_blocking(move || join(threads)).await;
        match &self.shared.lock().phase {
            Phase::Fenced(cause) => Err(HubError::Fenced(cause.clone())),
            _ => Ok(()),
        }
    }

    /// What the journal has cost up to now.
    pub fn journal_stats(&self) -> JournalStats {
        self.shared.lock().stats
    }

    /// What was done with work items up to now.
    pub fn dispatch_stats(&self) -> DispatchStats {
        DispatchStats { completed: self.completed.read(), ..self.shared.lock().dispatch_stats() }
    }

    fn take_threads(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the core, and takes the kind of answer that this question has.
    async fn ask<T>(&self, request: Request, expect: fn(Answer) -> Option<T>) -> HubResult<T> {
        let answer = self.shared.ask(request).await?;
        expect(answer).ok_or_else(|| HubError::Unavailable("the hub gave an answer of the wrong kind".to_owned()))
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the hub panicked");
        }
    }
}

impl Drop for EmbeddedHub {
    fn drop(&mut self) {
        self.shared.begin_to_end(Phase::Dropped);
        // At most one commit is waited for: then the folder is free for the next owner.
        join(self.take_threads());
    }
}

/// The stream of one worker. Dropping it tells the hub that the worker is gone.
struct Items {
    receiver: mpsc::Receiver<HubResult<proto::WorkItem>>,
    worker: WorkerId,
    shared: Weak<Shared>,
}

impl Stream for Items {
    type Item = HubResult<proto::WorkItem>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context)
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.worker_left(self.worker);
        }
    }
}

/// The `expect` argument for a kind of answer.
macro_rules! kind {
    ($kind:ident) => {
        |answer| match answer {
            Answer::$kind(response) => Some(response),
            _ => None,
        }
    };
}

/// The `expect` argument where there is nothing to say.
const DONE: fn(Answer) -> Option<()> = |answer| (answer == Answer::Done).then_some(());

/// How often a history is asked for again because it was replaced between the question and the reading of it.
const HISTORY_ATTEMPTS: usize = 3;

#[async_trait]
impl TaskHub for EmbeddedHub {
    async fn start_instance(&self, request: proto::CreateInstanceRequest) -> HubResult<proto::CreateInstanceResponse> {
        self.ask(Request::StartInstance(request), kind!(Started)).await
    }

    async fn get_instance(&self, request: proto::GetInstanceRequest) -> HubResult<proto::GetInstanceResponse> {
        self.ask(Request::GetInstance(request), kind!(Instance)).await
    }

    async fn wait_for_instance_start(
        &self,
        request: proto::GetInstanceRequest,
    ) -> HubResult<proto::GetInstanceResponse> {
        self.ask(Request::WaitForStart(request), kind!(Instance)).await
    }

    async fn wait_for_instance_completion(
        &self,
        request: proto::GetInstanceRequest,
    ) -> HubResult<proto::GetInstanceResponse> {
        self.ask(Request::WaitForCompletion(request), kind!(Instance)).await
    }

    async fn raise_event(&self, request: proto::RaiseEventRequest) -> HubResult<proto::RaiseEventResponse> {
        self.ask(Request::RaiseEvent(request), DONE).await.map(|()| proto::RaiseEventResponse {})
    }

    async fn terminate_instance(&self, request: proto::TerminateRequest) -> HubResult<proto::TerminateResponse> {
        self.ask(Request::TerminateInstance(request), DONE).await.map(|()| proto::TerminateResponse {})
    }

    async fn suspend_instance(&self, request: proto::SuspendRequest) -> HubResult<proto::SuspendResponse> {
        self.ask(Request::SuspendInstance(request), DONE).await.map(|()| proto::SuspendResponse {})
    }

    async fn resume_instance(&self, request: proto::ResumeRequest) -> HubResult<proto::ResumeResponse> {
        self.ask(Request::ResumeInstance(request), DONE).await.map(|()| proto::ResumeResponse {})
    }

    async fn query_instances(&self, request: proto::QueryInstancesRequest) -> HubResult<proto::QueryInstancesResponse> {
        self.ask(Request::QueryInstances(request), kind!(Instances)).await
    }

    async fn purge_instances(&self, request: proto::PurgeInstancesRequest) -> HubResult<proto::PurgeInstancesResponse> {
        self.ask(Request::PurgeInstances(request), kind!(Purged)).await
    }

    async fn instance_history(
        &self,
        request: proto::StreamInstanceHistoryRequest,
    ) -> HubResult<Vec<proto::HistoryEvent>> {
        let mut events = Vec::new();
        for _ in 0..HISTORY_ATTEMPTS {
            let range = self.ask(Request::InstanceHistory(request.clone()), kind!(History)).await?;
            let Some(range) = range else {
                return Ok(Vec::new());
            };
            events = self.shared.read_history(range).await?;
            if events.len() as u64 == range.len {
                break;
            }
        }
        Ok(events)
    }

    async fn rewind_instance(&self, request: proto::RewindInstanceRequest) -> HubResult<proto::RewindInstanceResponse> {
        for _ in 0..HISTORY_ATTEMPTS {
            let plan = self.ask(Request::RewindPlan(request.clone()), kind!(Histories)).await?;
            let mut histories = Vec::with_capacity(plan.len());
            for (instance, range) in plan {
                let events = self.shared.read_history(range).await?;
                histories.push(Past { instance, range, events });
            }
            if self.ask(Request::Rewind(request.clone(), histories), kind!(Rewound)).await? {
                return Ok(proto::RewindInstanceResponse {});
            }
        }
        Err(HubError::Unavailable(format!("instance `{}` keeps changing; try again", request.instance_id)))
    }

    async fn restart_instance(
        &self,
        request: proto::RestartInstanceRequest,
    ) -> HubResult<proto::RestartInstanceResponse> {
        self.ask(Request::RestartInstance(request), kind!(Restarted)).await
    }

    async fn list_instance_ids(
        &self,
        request: proto::ListInstanceIdsRequest,
    ) -> HubResult<proto::ListInstanceIdsResponse> {
        self.ask(Request::ListInstanceIds(request), kind!(Ids)).await
    }

    async fn skip_graceful_orchestration_terminations(
        &self,
        request: proto::SkipGracefulOrchestrationTerminationsRequest,
    ) -> HubResult<proto::SkipGracefulOrchestrationTerminationsResponse> {
        self.ask(Request::SkipGracefulTerminations(request), kind!(Skipped)).await
    }

    async fn clean_entity_storage(
        &self,
        request: proto::CleanEntityStorageRequest,
    ) -> HubResult<proto::CleanEntityStorageResponse> {
        self.ask(Request::CleanEntityStorage(request), kind!(Cleaned)).await
    }

    async fn signal_entity(&self, request: proto::SignalEntityRequest) -> HubResult<proto::SignalEntityResponse> {
        self.ask(Request::SignalEntity(request), DONE).await.map(|()| proto::SignalEntityResponse {})
    }

    async fn get_entity(&self, request: proto::GetEntityRequest) -> HubResult<proto::GetEntityResponse> {
        self.ask(Request::GetEntity(request), kind!(Entity)).await
    }

    async fn query_entities(&self, request: proto::QueryEntitiesRequest) -> HubResult<proto::QueryEntitiesResponse> {
        self.ask(Request::QueryEntities(request), kind!(Entities)).await
    }

    async fn work_items(&self, request: proto::GetWorkItemsRequest) -> HubResult<WorkItemStream> {
        let limit = |asked: i32| usize::try_from(asked).unwrap_or(0).min(self.items_per_worker);
        let items = limit(request.max_concurrent_orchestration_work_items)
            + limit(request.max_concurrent_activity_work_items)
            + limit(request.max_concurrent_entity_work_items);
        // One place more than items can take, for the error that ends the stream of a fenced hub.
        let (worker, receiver) = self.shared.worker_joined(request, items + 1)?;
        Ok(Box::pin(Items { receiver, worker, shared: Arc::downgrade(&self.shared) }))
    }

    async fn complete_activity(&self, response: proto::ActivityResponse) -> HubResult<()> {
        self.ask(Request::CompleteActivity(response), DONE).await?;
        self.completed.activities.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn complete_orchestrator(&self, response: proto::OrchestratorResponse) -> HubResult<()> {
        self.ask(Request::CompleteOrchestrator(response), DONE).await?;
        self.completed.orchestrators.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn complete_entity(&self, result: proto::EntityBatchResult) -> HubResult<()> {
        self.ask(Request::CompleteEntity(result), DONE).await?;
        self.completed.entities.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn abandon(&self, completion_token: &str) -> HubResult<()> {
        self.ask(Request::Abandon(completion_token.to_owned()), DONE).await
    }
}
