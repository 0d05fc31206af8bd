//! `seriatim run`: takes up what was interrupted, ingests what is new. Must never leave an exit code of 0 behind a run
//! that did not end well.

use std::sync::Arc;

use serde::Serialize;
use seriatim_ingest::{ErrorKind, IngestError, RunReport, RunStatus};

use super::summary;
use crate::args::RunArgs;
use crate::elsewhere;
use crate::engine::{self, Options};
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::lineage::Lineage;
use crate::state;
use crate::ui::Ui;

/// The document of `run --json`.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    pub(super) runs: &'a [RunReport],
}

/// Runs, and prints what was done.
pub(super) fn execute(args: &RunArgs, ui: &Ui) -> Result<(), CliError> {
    let mut project = state::project(&args.pipeline)?;
    if args.own_ids {
        project = project.with_own_ids();
    }
    let mut options = Options {
        recover: args.recover,
        lineage: Lineage::new(&args.lineage, &project)?.map(Arc::new),
        ..Options::new(&args.machine, !args.no_wait)
    };
    if args.no_fan_out {
        options.runner.fan_out = false;
        options.runner.workers = args.machine.workers.map_or(1, usize::from);
    }
    let runtime = engine::runtime()?;
    let reports = runtime.block_on(async {
        let interrupt = Interrupt::listen()?;
        match &args.hub {
            Some(hub) => elsewhere::run(&project, hub, args, options.lineage.as_deref(), ui, &interrupt).await,
            None => engine::run(&project, &options, ui, &interrupt).await,
        }
    })?;
    if args.json {
        ui.json(&Document { runs: &reports })?;
    } else {
        reports.iter().filter(|report| is_well(report)).try_for_each(|report| summary::print(report, ui))?;
    }
    if args.detach {
        return Ok(());
    }
    reports.iter().try_for_each(ended_well)
}

pub(super) fn is_well(report: &RunReport) -> bool {
    matches!(report.status, RunStatus::Done | RunStatus::NothingToDo)
}

/// An error, if the run did not end well.
pub(crate) fn ended_well(report: &RunReport) -> Result<(), CliError> {
    if is_well(report) {
        return Ok(());
    }
    let kind = report.error_kind.unwrap_or(ErrorKind::Internal);
    let message = match &report.error {
        Some(error) => format!("{}: {error}", report.run),
        None => format!("{} is {}", report.run, summary::status(report.status)),
    };
    let error = IngestError::new(kind, message);
    Err(match &report.help {
        Some(help) => error.help(help.clone()).into(),
        None => error.into(),
    })
}
