//! OpenLineage events of runs: which job read what and wrote what, to a file or to a service that collects them
//! (<https://openlineage.io>, version 2-0-2 of its events). Must never hold up or fail a run: what cannot be delivered is
//! remarked on.

mod events;
mod send;

use std::path::PathBuf;
use std::sync::Arc;

use seriatim_ingest::{Project, RunReport};

use crate::args::LineageArgs;
use crate::error::CliError;
use events::Job;
use send::To;

/// Where events of runs go.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    to: Arc<To>,
    /// Of the jobs that they are events of.
    namespace: String,
}

/// Where the events of one pipeline's runs go.
#[derive(Debug)]
pub(crate) struct Lineage {
    job: Job,
    to: Arc<To>,
}

impl Destination {
    /// As the command line and the environment say; `None`: nobody wants events.
    pub(crate) fn new(args: &LineageArgs) -> Result<Option<Self>, CliError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let to = match &args.lineage {
            Some(to) if to.contains("://") => To::service(to, None, variable("OPENLINEAGE_API_KEY"))?,
            Some(file) => To::File(PathBuf::from(file)),
            None => match variable("OPENLINEAGE_URL") {
                Some(url) => To::service(&url, variable("OPENLINEAGE_ENDPOINT"), variable("OPENLINEAGE_API_KEY"))?,
                None => return Ok(None),
            },
        };
        let namespace = variable("OPENLINEAGE_NAMESPACE").unwrap_or_else(|| "seriatim".to_owned());
        Ok(Some(Self { to: Arc::new(to), namespace }))
    }

    /// The same for the runs of a pipeline.
    pub(crate) fn of(&self, project: &Project) -> Lineage {
        Lineage { job: Job::new(project, self.namespace.clone()), to: Arc::clone(&self.to) }
    }
}

impl Lineage {
    /// As the command line and the environment say; `None`: nobody wants events.
    pub(crate) fn new(args: &LineageArgs, project: &Project) -> Result<Option<Self>, CliError> {
        Ok(Destination::new(args)?.map(|destination| destination.of(project)))
    }
}

/// Tells that a run has begun, if somebody wants to know; `undelivered` hears why that was not possible.
pub(crate) async fn begun(lineage: Option<&Lineage>, report: &RunReport, undelivered: impl FnOnce(String)) {
    if let Some(lineage) = lineage {
        lineage.to.deliver(&lineage.job.begun(report)).await.unwrap_or_else(undelivered);
    }
}

/// Tells how a run has ended.
pub(crate) async fn ended(lineage: Option<&Lineage>, report: &RunReport, undelivered: impl FnOnce(String)) {
    if let Some(lineage) = lineage {
        lineage.to.deliver(&lineage.job.ended(report)).await.unwrap_or_else(undelivered);
    }
}
