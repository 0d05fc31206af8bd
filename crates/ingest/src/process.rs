//! What a process has for the steps that it does: memory, threads, the runs that it has loaded, and where their work is.
//! Must never know what a step does.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use seriatim_durable::{ActivityContext, Failure, Registry};

use crate::context::RunContext;
use crate::engine::Step;
use crate::error::{ErrorKind, IngestError, Result};
use crate::files::remove_folder;
use crate::pool::Pool;
use crate::progress::Progress;
use crate::shared::{Others, Place};

/// What all steps of a process share.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) state: PathBuf,
    pub(crate) memory: u64,
    pub(crate) workers: usize,
    pub(crate) progress: Arc<Progress>,
    /// By run, and by execution where it is shared.
    runs: Mutex<HashMap<(String, String), Arc<RunContext>>>,
    pool: Pool,
    /// Who knows where a run's work is, if other processes do steps of the same runs.
    others: Option<Others>,
    /// Where what waits for a counter runs.
    waiting: Option<tokio::runtime::Handle>,
}

/// A step's view of its process: it knows which run it is of, and where that run's work is.
#[derive(Debug, Clone)]
pub(crate) struct Steps {
    process: Arc<Process>,
    /// `None`: in the state folder.
    pub(crate) place: Option<Place>,
}

impl std::ops::Deref for Steps {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Process {
    pub(crate) fn new(
        state: PathBuf,
        memory: u64,
        workers: usize,
        progress: Arc<Progress>,
        others: Option<Others>,
    ) -> Result<Self> {
        let pool = Pool::new(workers)
            .map_err(|e| IngestError::new(ErrorKind::System, format!("cannot start {workers} threads: {e}")))?;
        let waiting = tokio::runtime::Handle::try_current().ok();
        Ok(Self { state, memory, workers, progress, runs: Mutex::default(), pool, others, waiting })
    }

    /// Waits on this thread for what a counter answers.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let runtime = self.waiting.as_ref().ok_or_else(|| IngestError::internal("there is no runtime to wait in"))?;
        Ok(runtime.block_on(work))
    }

    /// One more unit of work is done; how many are.
    pub(crate) fn done(&self) -> u64 {
        self.progress.step_done.fetch_add(1, Relaxed) + 1
    }
}

impl Steps {
    /// For a step of this run and execution.
    async fn of(process: Arc<Process>, context: &ActivityContext) -> Result<Self> {
        let place = match &process.others {
            Some(others) => others.place(context, &process.state).await?,
            None => None,
        };
        Ok(Self { process, place })
    }

    fn key(&self, run: &str) -> (String, String) {
        (run.to_owned(), self.place.as_ref().map(|place| place.execution.clone()).unwrap_or_default())
    }

    /// The run, from memory or from its work folder; an error if it was cancelled.
    pub(crate) fn run(&self, run: &str) -> Result<Arc<RunContext>> {
        let context = self.uncancelled(run)?;
        context.check_cancelled()?;
        Ok(context)
    }

    pub(crate) fn uncancelled(&self, run: &str) -> Result<Arc<RunContext>> {
        let key = self.key(run);
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if self.others.is_some() {
            // A step of another process may have planned a run anew, or ended it.
            runs.retain(|_, context| context.is_current());
        }
        if let Some(context) = runs.get(&key) {
            return Ok(context.clone());
        }
        let (memory, progress) = (self.memory, self.progress.clone());
        let context = Arc::new(match &self.place {
            Some(place) => RunContext::load_shared(place, &self.state, memory, progress)?,
            None => RunContext::load(run, &self.state, memory, progress)?,
        });
        self.progress.files.store(context.plan.files.len() as u64, Relaxed);
        self.progress.records.store(context.plan.files.iter().map(|f| f.rows).sum(), Relaxed);
        // Another process may have brought what this one has of other runs to their end.
        let mut ended = Vec::new();
        runs.retain(|_, other| {
            let wanted = other.is_wanted();
            ended.extend((!wanted).then(|| other.own_folder("")));
            wanted
        });
        ended.iter().try_for_each(|folder| remove_folder(folder))?;
        runs.insert(key, context.clone());
        Ok(context)
    }

    pub(crate) fn keep(&self, context: RunContext) {
        let key = self.key(&context.plan.run);
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::new(context));
    }

    pub(crate) fn forget(&self, run: &str) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key(run));
    }
}

/// A step that this process can do.
pub(crate) trait Doable: Step {
    /// Does it, on a thread that may block.
    fn run(self, steps: &Steps) -> Result<Self::Output>;
}

/// Tells a worker how to do a step.
pub(crate) fn add<S: Doable>(registry: &mut Registry, steps: &Arc<Process>) {
    let process = steps.clone();
    registry.activity(S::NAME, move |context: ActivityContext, step: S| {
        let process = process.clone();
        async move {
            let steps = Steps::of(process.clone(), &context).await?;
            let done = process.pool.run(move || step.run(&steps)).await;
            done.map_err(|e| Failure::new(Failure::PANIC, e))?.map_err(Failure::from)
        }
    });
}
