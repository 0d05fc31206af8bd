//! `seriatim replay`: what waits in quarantine, ingested once more. Must never leave an exit code of 0 behind a run that did
//! not end well.

use std::sync::Arc;

use super::run::{Document, ended_well, is_well};
use super::summary;
use crate::args::ReplayArgs;
use crate::engine::{self, Options};
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::lineage::Lineage;
use crate::state;
use crate::ui::Ui;

/// Replays, and prints what was done.
pub(super) fn execute(args: &ReplayArgs, ui: &Ui) -> Result<(), CliError> {
    let project = state::project(&args.pipeline)?;
    let told = Lineage::new(&args.lineage, &project)?.map(Arc::new);
    let options = Options { lineage: told, ..Options::new(&args.machine, !args.no_wait) };
    let runtime = engine::runtime()?;
    let reports = runtime.block_on(async {
        let interrupt = Interrupt::listen()?;
        engine::replay(&project, &args.mended, &options, ui, &interrupt).await
    })?;
    if args.json {
        ui.json(&Document { runs: &reports })?;
    } else {
        reports.iter().filter(|report| is_well(report)).try_for_each(|report| summary::print(report, ui))?;
        if !reports.iter().any(|report| report.replay) {
            ui.line(format!("{}: no record waits in quarantine", project.pipeline().name))?;
        }
    }
    reports.iter().try_for_each(ended_well)
}
