//! The worker: it takes work items from a hub, runs the registered code, and answers. This module must never lose an
//! item silently: what it cannot finish it gives back, and what the hub refuses it logs.

mod cache;
mod items;

use std::collections::HashMap;
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, warn};

use crate::hub::{HubError, HubResult, TaskHub, WorkItemStream};
use crate::proto;
use crate::proto::work_item::Request;
use crate::registry::Registry;
use cache::Cache;
use items::Shop;

/// The waits between attempts to reach a hub again: the first, and the longest (they double).
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_LONGEST: Duration = Duration::from_secs(5);

/// Why a worker ended by itself.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The hub refused to go on, for example because its store failed ([`HubError::Fenced`]): mend the cause, then open
    /// the hub and start the worker again.
    #[error("the worker ended: {0}")]
    Hub(#[from] HubError),
    /// The worker's own task was cancelled or panicked, which is a defect of this crate or of the runtime.
    #[error("the worker's task ended abnormally: {0}")]
    Task(String),
}

/// The settings of a worker.
#[derive(Debug, Clone)]
pub struct WorkerBuilder {
    hub: Arc<dyn TaskHub>,
    registry: Registry,
    activities: usize,
    orchestrations: usize,
    entities: usize,
    kept: usize,
    grace: Duration,
    filtered: bool,
}

impl WorkerBuilder {
    /// At most so many activities at a time (default: the number of cores). 0 takes none.
    #[must_use]
    pub fn max_concurrent_activities(mut self, n: usize) -> Self {
        self.activities = n;
        self
    }

    /// At most so many orchestrator turns at a time (default: the number of cores). 0 takes none. An orchestration
    /// that waits does not count.
    #[must_use]
    pub fn max_concurrent_orchestrations(mut self, n: usize) -> Self {
        self.orchestrations = n;
        self
    }

    /// At most so many entity batches at a time (default: the number of cores). 0 takes none.
    #[must_use]
    pub fn max_concurrent_entities(mut self, n: usize) -> Self {
        self.entities = n;
        self
    }

    /// At most so many waiting orchestrations are kept alive in memory (default: 256); others are replayed at their
    /// next turn. 0 replays always.
    #[must_use]
    pub fn max_kept_orchestrations(mut self, n: usize) -> Self {
        self.kept = n;
        self
    }

    /// How long running items may take to end when the worker stops (default: 10 s); the rest is given back.
    #[must_use]
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Takes items of any name (default: only registered names). Those that are not registered then fail with an error
    /// that says so, where otherwise they wait for a worker that knows them.
    #[must_use]
    pub fn accept_any_name(mut self) -> Self {
        self.filtered = false;
        self
    }

    /// The worker.
    pub fn build(self) -> Worker {
        Worker { settings: self }
    }
}

/// Runs the registered code on the work items of a hub.
#[derive(Debug)]
pub struct Worker {
    settings: WorkerBuilder,
}

impl Worker {
    /// A worker of this hub, with this code.
    pub fn builder(hub: Arc<dyn TaskHub>, registry: Registry) -> WorkerBuilder {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        WorkerBuilder {
            hub,
            registry,
            activities: cores,
            orchestrations: cores,
            entities: cores,
            kept: 256,
            grace: Duration::from_secs(10),
            filtered: true,
        }
    }

    /// Works until `shutdown` is ready: then no new items are taken, running ones may end within the grace, and the
    /// rest is given back. Ends earlier, with the error, only if the hub refuses to go on.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), WorkerError> {
        let mut running = Running::new(&self.settings);
        let outcome = running.work(shutdown).await;
        running.wind_down().await;
        outcome
    }

    /// Starts working in a task of the current runtime.
    pub fn start(self) -> WorkerHandle {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(self.run(async move {
            // A handle that is dropped without a stop leaves the worker running: it ends with the runtime.
            if stopped.await.is_err() {
                pending::<()>().await;
            }
        }));
        WorkerHandle { stop, task, outcome: None }
    }
}

/// A worker that was started. Dropping the handle leaves the worker running.
#[derive(Debug)]
pub struct WorkerHandle {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), WorkerError>>,
    /// How the worker ended, once somebody has waited for it: the task can be asked only once.
    outcome: Option<Result<(), WorkerError>>,
}

impl WorkerHandle {
    /// Stops: takes no new items, waits for running ones up to the grace, gives back the rest. The error is that of a
    /// worker which had ended by itself before.
    pub async fn stop(mut self) -> Result<(), WorkerError> {
        if let Some(outcome) = self.outcome {
            return outcome;
        }
        // It fails only if the worker has ended already.
        let _ = self.stop.send(());
        flatten((&mut self.task).await)
    }

    /// Waits for the worker to end by itself, which it does only with an error.
    pub async fn ended(&mut self) -> Result<(), WorkerError> {
        if self.outcome.is_none() {
            self.outcome = Some(flatten((&mut self.task).await));
        }
        self.outcome.clone().unwrap_or(Ok(()))
    }

    /// Whether the worker has ended.
    pub fn is_ended(&self) -> bool {
        self.outcome.is_some() || self.task.is_finished()
    }
}

fn flatten(joined: Result<Result<(), WorkerError>, JoinError>) -> Result<(), WorkerError> {
    joined.unwrap_or_else(|error| Err(WorkerError::Task(error.to_string())))
}

/// A worker at work.
struct Running<'a> {
    settings: &'a WorkerBuilder,
    shop: Arc<Shop>,
    /// A hub keeps to the limits that it was told; these see to it that one which does not cannot flood the machine.
    orchestrations: Arc<Semaphore>,
    activities: Arc<Semaphore>,
    entities: Arc<Semaphore>,
    tasks: JoinSet<HubResult<()>>,
    /// The completion tokens of the items that are running.
    tokens: HashMap<Id, String>,
    /// Kept until all items have ended: dropping it would give them to other workers.
    stream: Option<WorkItemStream>,
}

impl<'a> Running<'a> {
    fn new(settings: &'a WorkerBuilder) -> Self {
        let shop = Shop {
            hub: Arc::clone(&settings.hub),
            registry: Arc::new(settings.registry.clone()),
            cache: Cache::new(settings.kept),
        };
        Self {
            settings,
            shop: Arc::new(shop),
            orchestrations: Arc::new(Semaphore::new(settings.orchestrations.min(Semaphore::MAX_PERMITS))),
            activities: Arc::new(Semaphore::new(settings.activities.min(Semaphore::MAX_PERMITS))),
            entities: Arc::new(Semaphore::new(settings.entities.min(Semaphore::MAX_PERMITS))),
            tasks: JoinSet::new(),
            tokens: HashMap::new(),
            stream: None,
        }
    }

    /// Takes items until the shutdown or an error that no new attempt can heal.
    async fn work(&mut self, shutdown: impl Future<Output = ()> + Send) -> Result<(), WorkerError> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut wait = RECONNECT_FIRST;
        loop {
            let opened = tokio::select! {
                () = &mut shutdown => return Ok(()),
                opened = self.shop.hub.work_items(work_items_request(self.settings)) => opened,
            };
            let lost = match opened {
                Ok(stream) => {
                    debug!("the worker is connected to its task hub");
                    self.stream = Some(stream);
                    match self.take_items(shutdown.as_mut(), &mut wait).await? {
                        Some(lost) => lost,
                        None => return Ok(()),
                    }
                }
                Err(error) => error,
            };
            if !matches!(lost, HubError::Unavailable(_)) {
                return Err(lost.into());
            }
            warn!(error = %lost, wait_ms = wait.as_millis(), "the worker lost its task hub and will try again");
            tokio::select! {
                () = &mut shutdown => return Ok(()),
                () = sleep(jittered(wait)) => {}
            }
            wait = (wait * 2).min(RECONNECT_LONGEST);
        }
    }

    /// Takes items from the open stream. `Ok(None)`: shut down; `Ok(Some(_))`: the stream is lost, for this reason.
    async fn take_items(
        &mut self,
        mut shutdown: std::pin::Pin<&mut (impl Future<Output = ()> + Send)>,
        wait: &mut Duration,
    ) -> Result<Option<HubError>, WorkerError> {
        let Some(stream) = &mut self.stream else {
            return Ok(None);
        };
        let lost = loop {
            tokio::select! {
                () = &mut shutdown => return Ok(None),
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    settle(&*self.shop.hub, &mut self.tokens, ended).await?;
                }
                item = stream.next() => match item {
                    Some(Ok(item)) => {
                        *wait = RECONNECT_FIRST;
                        let Some(request) = item.request else { continue };
                        let limit = match &request {
                            Request::OrchestratorRequest(_) => &self.orchestrations,
                            Request::ActivityRequest(_) => &self.activities,
                            Request::EntityRequest(_) | Request::EntityRequestV2(_) => &self.entities,
                            Request::HealthPing(_) => continue,
                        };
                        let (shop, limit, token) = (Arc::clone(&self.shop), Arc::clone(limit), item.completion_token);
                        let kept_token = token.clone();
                        let task = self.tasks.spawn(async move {
                            // The semaphore is never closed; without a permit the item would still be right to run.
                            let permit = limit.acquire_owned().await.ok();
                            shop.serve(request, token, permit).await
                        });
                        self.tokens.insert(task.id(), kept_token);
                    }
                    Some(Err(error)) => break error,
                    None => break HubError::Unavailable("the stream of work items ended".to_owned()),
                },
            }
        };
        // Items that are still running go to other workers now; their answers here will be refused, and logged.
        self.stream = None;
        Ok(Some(lost))
    }

    /// Lets running items end within the grace, and gives back the rest.
    async fn wind_down(&mut self) {
        let deadline = Instant::now() + self.settings.grace;
        while let Ok(Some(ended)) = timeout_at(deadline, self.tasks.join_next_with_id()).await {
            self.settle_last(ended).await;
        }
        self.tasks.abort_all();
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.settle_last(ended).await;
        }
        self.stream = None;
    }

    async fn settle_last(&mut self, ended: Result<(Id, HubResult<()>), JoinError>) {
        if let Err(error) = settle(&*self.shop.hub, &mut self.tokens, ended).await {
            warn!(%error, "an item ended badly while the worker stopped");
        }
    }
}

/// Takes note of how an item ended, and gives it back if it ended abnormally. An error means that the worker cannot go
/// on.
async fn settle(
    hub: &dyn TaskHub,
    tokens: &mut HashMap<Id, String>,
    ended: Result<(Id, HubResult<()>), JoinError>,
) -> Result<(), WorkerError> {
    match ended {
        Ok((id, outcome)) => {
            tokens.remove(&id);
            match outcome {
                Err(error @ HubError::Fenced(_)) => return Err(error.into()),
                Err(error) => warn!(%error, "the task hub did not take the answer to a work item"),
                Ok(()) => {}
            }
        }
        Err(error) => {
            // Cancelled: the grace is over, as documented. Anything else is a defect.
            if !error.is_cancelled() {
                warn!(%error, "a work item ended abnormally and is given back");
            }
            if let Some(token) = tokens.remove(&error.id()) {
                give_back(hub, &token).await;
            }
        }
    }
    Ok(())
}

/// Half of a wait and a random part of its other half: workers that lost the same hub do not come back in step.
fn jittered(wait: Duration) -> Duration {
    // The low 32 bits of such an id are random.
    let random = f64::from(uuid::Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX);
    wait.mul_f64(0.5 + random / 2.0)
}

async fn give_back(hub: &dyn TaskHub, token: &str) {
    if let Err(error) = hub.abandon(token).await {
        debug!(%error, "the task hub would not take an unfinished item back");
    }
}

/// What the hub is told about this worker. A kind that nothing is registered for is not asked for at all.
fn work_items_request(settings: &WorkerBuilder) -> proto::GetWorkItemsRequest {
    let registry = &settings.registry;
    let limit = |n: usize, any: bool| {
        let wanted = any || !settings.filtered;
        if wanted { i32::try_from(n).unwrap_or(i32::MAX) } else { 0 }
    };
    let filters = proto::WorkItemFilters {
        orchestrations: registry
            .orchestration_names()
            .map(|name| proto::OrchestrationFilter { name: name.to_owned(), versions: Vec::new() })
            .collect(),
        activities: registry
            .activity_names()
            .map(|name| proto::ActivityFilter { name: name.to_owned(), versions: Vec::new() })
            .collect(),
        entities: registry.entity_names().map(|name| proto::EntityFilter { name: name.to_owned() }).collect(),
    };
    proto::GetWorkItemsRequest {
        max_concurrent_orchestration_work_items: limit(settings.orchestrations, !filters.orchestrations.is_empty()),
        max_concurrent_activity_work_items: limit(settings.activities, !filters.activities.is_empty()),
        max_concurrent_entity_work_items: limit(settings.entities, !filters.entities.is_empty()),
        capabilities: vec![proto::WorkerCapability::HistoryStreaming.into()],
        work_item_filters: settings.filtered.then_some(filters),
    }
}
