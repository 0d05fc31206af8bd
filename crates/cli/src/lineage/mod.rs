//! OpenLineage events of runs: which job read what and wrote what, to a file or to a service that collects them
//! (<https://openlineage.io>, version 2-0-2 of its events). Must never hold up or fail a run: what cannot be delivered is
//! remarked on.

mod events;
mod send;

use std::path::PathBuf;

use seriatim_ingest::{Project, RunReport};

use crate::args::LineageArgs;
use crate::error::CliError;
use crate::ui::Ui;
use events::Job;
use send::To;

/// Where a run's events go.
#[derive(Debug)]
pub(crate) struct Lineage {
    job: Job,
    to: To,
}

impl Lineage {
    /// As the command line and the environment say; `None`: nobody wants events.
    pub(crate) fn new(args: &LineageArgs, project: &Project) -> Result<Option<Self>, CliError> {
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
        Ok(Some(Self { job: Job::new(project, namespace), to }))
    }
}

/// Tells that a run has begun, if somebody wants to know.
pub(crate) async fn begun(lineage: Option<&Lineage>, report: &RunReport, ui: &Ui) {
    if let Some(lineage) = lineage {
        lineage.to.deliver(&lineage.job.begun(report), ui).await;
    }
}

/// Tells how a run has ended.
pub(crate) async fn ended(lineage: Option<&Lineage>, report: &RunReport, ui: &Ui) {
    if let Some(lineage) = lineage {
        lineage.to.deliver(&lineage.job.ended(report), ui).await;
    }
}
