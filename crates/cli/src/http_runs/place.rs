//! One state folder and what runs in it: its hub is opened with the first run and closed with the last. Must never
//! close it while a run is waited for.

use std::path::PathBuf;
use std::sync::Arc;

use seriatim_durable::hub::TaskHub;
use seriatim_durable::proto::TraceContext;
use seriatim_http::RunsError;
use seriatim_hub::EmbeddedHub;
use seriatim_ingest::{Project, RunReport, Runner, RunnerOptions};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use super::{failed, ingest, message};
use crate::engine::{self, Attempt};
use crate::lineage::{self, Destination, Lineage};

/// A state folder.
#[derive(Debug)]
pub(super) struct Place {
    state: PathBuf,
    options: RunnerOptions,
    /// The hub, if this process has it open anyway.
    served: Option<Arc<dyn TaskHub>>,
    /// Who is told of runs.
    lineage: Option<Destination>,
    open: Mutex<Option<Open>>,
}

/// What is there while something runs.
#[derive(Debug)]
struct Open {
    /// The hub, if it was opened for this.
    own: Option<Arc<EmbeddedHub>>,
    runner: Arc<Runner>,
    /// The runs that are waited for, each by a task.
    waited: Vec<(String, AbortHandle)>,
}

/// What is waited for.
enum Wait {
    End(Box<RunReport>, Option<Box<Lineage>>),
    Cancel(String),
}

impl Place {
    /// A state folder; its hub is `served` if this process has it open anyway.
    pub(super) fn new(
        state: PathBuf,
        options: RunnerOptions,
        served: Option<Arc<dyn TaskHub>>,
        lineage: Option<Destination>,
    ) -> Self {
        Self { state, options, served, lineage, open: Mutex::new(None) }
    }

    /// Begins a run, or takes up the one that was interrupted.
    pub(super) async fn begin(
        self: &Arc<Self>,
        project: &Project,
        trace: Option<TraceContext>,
    ) -> Result<RunReport, RunsError> {
        let mut slot = self.open.lock().await;
        let runner = self.runner(&mut slot).await?;
        let begun = runner.begin(project, trace).await;
        drop(runner);
        self.go_on(&mut slot, project, begun.map(Some)).await?.ok_or_else(|| failed("a run was begun and is not there"))
    }

    /// Takes up a run that was interrupted, if there is one.
    pub(super) async fn take_up(self: &Arc<Self>, project: &Project) -> Result<(), RunsError> {
        let mut slot = self.open.lock().await;
        let runner = self.runner(&mut slot).await?;
        let begun = runner.begin_interrupted(project).await;
        drop(runner);
        self.go_on(&mut slot, project, begun).await.map(|_| ())
    }

    /// Asks a run to end. If another process has it, that process is asked.
    pub(super) async fn cancel(self: &Arc<Self>, run: &str) -> Result<(), RunsError> {
        let mut slot = self.open.lock().await;
        // Before the hub gives any work away: a run with little left to do could be published before it is asked.
        seriatim_ingest::request_cancel(&self.state, run).map_err(|error| ingest(&error))?;
        if slot.as_ref().is_some_and(|open| open.waited.iter().any(|(waited, _)| waited == run)) {
            return Ok(());
        }
        match self.runner(&mut slot).await {
            Ok(runner) => drop(runner),
            Err(RunsError::NotPossibleNow(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.wait_for(&mut slot, Wait::Cancel(run.to_owned()));
        Ok(())
    }

    /// Lets go of everything. What runs is left as it is.
    pub(super) async fn stop(&self) {
        let mut slot = self.open.lock().await;
        if let Some(open) = slot.take() {
            for (_, task) in &open.waited {
                task.abort();
            }
            close(open).await;
        }
    }

    /// Waits for a run that was begun; if none was, and nothing else runs here, lets go of the hub.
    async fn go_on(
        self: &Arc<Self>,
        slot: &mut Option<Open>,
        project: &Project,
        begun: seriatim_ingest::Result<Option<RunReport>>,
    ) -> Result<Option<RunReport>, RunsError> {
        if let Ok(Some(report)) = &begun {
            let lineage = self.lineage.as_ref().map(|destination| Box::new(destination.of(project)));
            self.wait_for(slot, Wait::End(Box::new(report.clone()), lineage));
        }
        close_if_idle(slot).await;
        begun.map_err(|error| ingest(&error))
    }

    /// The runner, which is started if there is none yet.
    async fn runner(&self, slot: &mut Option<Open>) -> Result<Arc<Runner>, RunsError> {
        if let Some(open) = slot {
            return Ok(Arc::clone(&open.runner));
        }
        let own = match self.served {
            Some(_) => None,
            None => Some(self.open_hub().await?),
        };
        let hub = self.served.clone().or_else(|| own.clone().map(|hub| hub as Arc<dyn TaskHub>));
        let hub = hub.ok_or_else(|| failed("there is no hub to run on"))?;
        let runner = match Runner::start(hub, self.options.clone(), &self.state) {
            Ok(runner) => Arc::new(runner),
            Err(error) => {
                if let Some(hub) = own {
                    close_hub(&hub).await;
                }
                return Err(ingest(&error));
            }
        };
        *slot = Some(Open { own, runner: Arc::clone(&runner), waited: Vec::new() });
        Ok(runner)
    }

    async fn open_hub(&self) -> Result<Arc<EmbeddedHub>, RunsError> {
        let state = self.state.clone();
        let attempt = tokio::task::spawn_blocking(move || engine::try_open(&state)).await.map_err(failed)?;
        match attempt {
            Ok(Attempt::Open(hub)) => Ok(hub),
            Ok(Attempt::Held(holder)) => {
                tracing::info!(state = %self.state.display(), holder, "a state folder is held by another process");
                let detail = "another process has the pipeline's state folder; try again when it is done";
                Err(RunsError::NotPossibleNow(detail.to_owned()))
            }
            Err(error) => Err(RunsError::Failed(message(&error))),
        }
    }

    fn wait_for(self: &Arc<Self>, slot: &mut Option<Open>, what: Wait) {
        let Some(open) = slot else { return };
        let run = match &what {
            Wait::End(report, _) => report.run.clone(),
            Wait::Cancel(run) => run.clone(),
        };
        let (place, runner, name) = (Arc::clone(self), Arc::clone(&open.runner), run.clone());
        let task = tokio::spawn(async move {
            let outcome = match what {
                Wait::End(report, told) => to_its_end(&runner, *report, told.as_deref()).await,
                Wait::Cancel(run) => runner.cancel(&run).await,
            };
            drop(runner);
            match outcome {
                Ok(report) => tracing::info!(run = %report.run, status = ?report.status, "a run has ended"),
                Err(error) => tracing::error!(run = %name, %error, "a run is not waited for any more"),
            }
            let mut slot = place.open.lock().await;
            if let Some(open) = slot.as_mut() {
                open.waited.retain(|(run, _)| *run != name);
            }
            close_if_idle(&mut slot).await;
        });
        open.waited.push((run, task.abort_handle()));
    }
}

/// Waits for a run that has begun, and tells of it.
async fn to_its_end(runner: &Runner, begun: RunReport, told: Option<&Lineage>) -> seriatim_ingest::Result<RunReport> {
    let run = begun.run.clone();
    lineage::begun(told, &begun, |why| tracing::warn!(run, "{why}")).await;
    let report = runner.finish(begun).await?;
    lineage::ended(told, &report, |why| tracing::warn!(run, "{why}")).await;
    Ok(report)
}

async fn close_if_idle(slot: &mut Option<Open>) {
    if slot.as_ref().is_some_and(|open| open.waited.is_empty())
        && let Some(open) = slot.take()
    {
        close(open).await;
    }
}

async fn close(open: Open) {
    let mut runner = open.runner;
    // Tasks that were told to end may still hold it for a moment.
    let runner = loop {
        match Arc::try_unwrap(runner) {
            Ok(runner) => break runner,
            Err(shared) => {
                runner = shared;
                tokio::task::yield_now().await;
            }
        }
    };
    runner.stop().await;
    if let Some(hub) = open.own {
        close_hub(&hub).await;
    }
}

async fn close_hub(hub: &EmbeddedHub) {
    if let Err(error) = hub.close().await {
        tracing::warn!(%error, "while closing the journal");
    }
}
