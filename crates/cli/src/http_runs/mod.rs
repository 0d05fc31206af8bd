//! Runs of pipelines for the HTTP server: [`HttpRuns`] starts the pipelines of one folder, each on the hub of its own
//! state folder, which is open only while there is something to do, so that other commands can have it in between.
//! Must never run, read or name a pipeline file outside of that folder.

mod offered;
mod place;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use seriatim_durable::hub::TaskHub;
use seriatim_durable::proto::TraceContext;
use seriatim_http::{Run, RunPhase, Runs, RunsError};
use seriatim_ingest::{ErrorKind, IngestError, Project, RunReport, RunStatus, RunnerOptions};

use crate::error::CliError;
use crate::lineage::Destination;
use crate::state;
use offered::Offered;
use place::Place;

/// Runs the pipelines of a folder for the HTTP server.
#[derive(Debug)]
pub(crate) struct HttpRuns {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    offered: Offered,
    options: RunnerOptions,
    /// A hub that this process has open anyway, with its state folder.
    served: Option<(PathBuf, Arc<dyn TaskHub>)>,
    lineage: Option<Destination>,
    places: Mutex<BTreeMap<PathBuf, Arc<Place>>>,
}

/// A run as it is recorded, and where.
#[derive(Debug)]
struct Recorded {
    project: Project,
    report: RunReport,
}

impl HttpRuns {
    /// Offers the pipelines in `folder` and the folders in it. `served` is a hub that this process has open, with its
    /// state folder: pipelines with that state folder run on it. `lineage` is told of runs.
    pub(crate) fn new(
        folder: &Path,
        options: RunnerOptions,
        served: Option<(PathBuf, Arc<dyn TaskHub>)>,
        lineage: Option<Destination>,
    ) -> Result<Self, CliError> {
        let served = served.map(|(folder, hub)| (resolved(&folder), hub));
        let offered = Offered::new(folder)?;
        Ok(Self { inner: Arc::new(Inner { offered, options, served, lineage, places: Mutex::default() }) })
    }

    /// Takes up the runs that were interrupted when their process ended. What cannot be taken up is said in the log.
    pub(crate) async fn take_up(&self) {
        let inner = Arc::clone(&self.inner);
        let open = blocking(move || Ok(inner.recorded())).await.unwrap_or_default();
        let mut open: Vec<Recorded> = open.into_iter().filter(|one| !has_ended(&one.report)).collect();
        // One call takes up one run of a pipeline, and each pipeline once is enough: runs go one after another.
        open.dedup_by(|a, b| a.report.pipeline == b.report.pipeline && a.project.state() == b.project.state());
        for Recorded { project, report } in open {
            if let Err(error) = self.inner.place(&project).take_up(&project).await {
                tracing::warn!(run = %report.run, %error, "an interrupted run was not taken up");
            }
        }
    }

    /// Stops: runs that have not ended stay as they are, and are taken up by the next process.
    pub(crate) async fn stop(&self) {
        let places: Vec<Arc<Place>> =
            self.inner.places.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for place in places {
            place.stop().await;
        }
    }
}

#[async_trait]
impl Runs for HttpRuns {
    async fn start(&self, pipeline: &str, trace: Option<TraceContext>) -> Result<Run, RunsError> {
        let (inner, name) = (Arc::clone(&self.inner), pipeline.to_owned());
        let project = blocking(move || inner.offered.project(&name)).await?;
        let place = self.inner.place(&project);
        // In a task of its own: a client that goes away must not leave a run behind that nobody waits for.
        let begun = tokio::spawn(async move { place.begin(&project, trace).await });
        Ok(shown(&begun.await.map_err(failed)??))
    }

    async fn get(&self, id: &str) -> Result<Run, RunsError> {
        let (inner, id) = (Arc::clone(&self.inner), id.to_owned());
        blocking(move || Ok(shown(&inner.find(&id)?.report))).await
    }

    async fn list(&self) -> Result<Vec<Run>, RunsError> {
        let inner = Arc::clone(&self.inner);
        let mut all = blocking(move || Ok(inner.recorded())).await?;
        all.sort_by(|a, b| b.report.started.cmp(&a.report.started));
        Ok(all.iter().map(|one| shown(&one.report)).collect())
    }

    async fn cancel(&self, id: &str) -> Result<(), RunsError> {
        let (inner, wanted) = (Arc::clone(&self.inner), id.to_owned());
        let Recorded { project, report } = blocking(move || inner.find(&wanted)).await?;
        if has_ended(&report) {
            return Err(RunsError::Ended(format!("run \"{id}\" has ended")));
        }
        let place = self.inner.place(&project);
        tokio::spawn(async move { place.cancel(&report.run).await }).await.map_err(failed)?
    }
}

impl Inner {
    /// Where a pipeline runs.
    fn place(&self, project: &Project) -> Arc<Place> {
        let state = resolved(&project.state());
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let served = self.served.as_ref().filter(|(folder, _)| *folder == state).map(|(_, hub)| Arc::clone(hub));
        let make = || Arc::new(Place::new(state.clone(), self.options.clone(), served, self.lineage.clone()));
        Arc::clone(places.entry(state.clone()).or_insert_with(make))
    }

    /// The runs of all pipelines that are offered and can be read. Files that are no pipelines may lie beside them.
    fn recorded(&self) -> Vec<Recorded> {
        let mut all: Vec<Recorded> = Vec::new();
        for project in self.offered.projects() {
            let state = project.state();
            let known = all.iter().any(|one| one.project.state() == state && is_of(&one.report, &project));
            if known || !state.is_dir() {
                continue;
            }
            match records(&state) {
                Ok(reports) => all.extend(
                    reports
                        .into_iter()
                        .filter(|report| is_of(report, &project))
                        .map(|report| Recorded { project: project.clone(), report }),
                ),
                Err(error) => {
                    let message = message(&error);
                    tracing::warn!(state = %state.display(), error = message, "the runs of a state folder cannot be read");
                }
            }
        }
        all
    }

    /// The one run with this id.
    fn find(&self, id: &str) -> Result<Recorded, RunsError> {
        let mut found = self.recorded();
        found.retain(|one| one.report.run == id);
        match found.len() {
            0 => Err(RunsError::NotFound(format!("there is no run \"{id}\""))),
            1 => Ok(found.remove(0)),
            _ => Err(RunsError::NotPossibleNow(format!(
                "there are two runs \"{id}\", of pipelines with one name and two state folders: rename one of them"
            ))),
        }
    }
}

fn is_of(report: &RunReport, project: &Project) -> bool {
    report.pipeline == project.pipeline().name
}

fn records(state: &Path) -> Result<Vec<RunReport>, CliError> {
    let mut reports = seriatim_ingest::runs(state)?;
    state::mark_interrupted(&mut reports, state)?;
    Ok(reports)
}

/// A state folder's real path, so that two ways to write it are one; the folder need not be there yet.
fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

fn has_ended(report: &RunReport) -> bool {
    !matches!(report.status, RunStatus::Running | RunStatus::Interrupted)
}

/// A run as clients see it. Who has it is not their business.
fn shown(report: &RunReport) -> Run {
    let phase = match report.status {
        RunStatus::Running | RunStatus::Interrupted => RunPhase::Running,
        RunStatus::Done | RunStatus::NothingToDo => RunPhase::Completed,
        RunStatus::Failed => RunPhase::Failed,
        RunStatus::Cancelled => RunPhase::Cancelled,
    };
    let report = RunReport { owner: None, ..report.clone() };
    let document = serde_json::to_value(&report).unwrap_or_default();
    Run { id: report.run, pipeline: report.pipeline, phase, document }
}

/// Does what waits for the disk on a thread where that is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RunsError> + Send + 'static,
) -> Result<T, RunsError> {
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

fn failed(cause: impl Display) -> RunsError {
    RunsError::Failed(cause.to_string())
}

fn ingest(error: &IngestError) -> RunsError {
    let help = error.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
    let text = format!("{}{help}", error.message);
    match error.kind {
        ErrorKind::Pipeline => RunsError::Invalid(text),
        _ => RunsError::Failed(text),
    }
}

fn message(error: &CliError) -> String {
    match error {
        CliError::CommandLine { message, .. } | CliError::Failed { message, .. } => message.clone(),
        CliError::Pipeline(errors) => errors.to_string(),
        CliError::Ingest(error) => error.message.clone(),
        CliError::Interrupted => "interrupted".to_owned(),
    }
}

#[cfg(test)]
mod tests;
