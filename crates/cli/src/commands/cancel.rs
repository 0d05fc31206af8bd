//! `seriatim cancel RUN`: ends a run that is not done. If a living process has the run, that process is asked to end
//! it; otherwise it is ended here. Must never report a run as cancelled before its record says so.

use std::sync::Arc;
use std::time::Duration;

use seriatim_durable::hub::TaskHub;
use seriatim_hub::EmbeddedHub;
use seriatim_ingest::{RunReport, RunStatus, Runner, RunnerOptions};

use super::summary;
use crate::args::CancelArgs;
use crate::elsewhere;
use crate::engine::{self, Attempt};
use crate::error::CliError;
use crate::state::StateFolder;
use crate::ui::{Tone, Ui};

/// How often the record is read while another process ends the run.
const LOOK: Duration = Duration::from_millis(100);

/// Cancels, and says that it is done.
pub(super) fn execute(args: &CancelArgs, ui: &Ui) -> Result<(), CliError> {
    let runtime = engine::runtime()?;
    let report = if let Some(hub) = &args.hub {
        runtime.block_on(cancel_elsewhere(args, hub))?
    } else {
        let folder = StateFolder::find(&args.run.state)?;
        let report = seriatim_ingest::run_record(&folder.path, &args.run.run)?;
        if is_over(&report) {
            return Err(CliError::failed(format!(
                "{} is {}: there is nothing to cancel",
                report.run,
                summary::status(report.status)
            )));
        }
        if let Some(hub) = &report.hub {
            let message = format!("{} is carried out by the workers of {hub}", report.run);
            return Err(CliError::failed_with(message, "name that hub: --hub ADDRESS"));
        }
        runtime.block_on(cancel(&folder, &report.run, ui))?
    };
    if report.status != RunStatus::Cancelled {
        return Err(CliError::failed(format!(
            "{} was {} before it could be cancelled",
            report.run,
            summary::status(report.status)
        )));
    }
    if args.run.json {
        return ui.json(&report);
    }
    let word = ui.toned(Tone::Good, "cancelled");
    ui.line(format!("{} is {word}: nothing of it was published, no ID is lost", report.run))
}

/// Cancels a run that the workers of a hub elsewhere carry out; its record may be on another machine.
async fn cancel_elsewhere(args: &CancelArgs, hub: &str) -> Result<RunReport, CliError> {
    let at = elsewhere::address(hub)?;
    let folder = StateFolder::find(&args.run.state)?;
    let hub = elsewhere::connect(at.clone(), &args.access)?;
    let runner = Runner::connect(hub, &at.to_string(), RunnerOptions::default(), &folder.path)?;
    let outcome = runner.cancel_shared(&args.run.run).await;
    runner.stop().await;
    Ok(outcome?)
}

fn is_over(report: &RunReport) -> bool {
    !matches!(report.status, RunStatus::Running | RunStatus::Interrupted)
}

async fn cancel(folder: &StateFolder, run: &str, ui: &Ui) -> Result<RunReport, CliError> {
    let mut asked = None;
    loop {
        match engine::try_open(&folder.path)? {
            Attempt::Open(hub) => return cancel_here(&hub, folder, run, ui).await,
            Attempt::Held(holder) => {
                // The folder may change hands while we wait; whoever has it then must be asked as well.
                if asked.as_ref() != Some(&holder) {
                    seriatim_ingest::request_cancel(&folder.path, run)?;
                    ui.remark(format!("asked {holder} to cancel {run}; waiting until it has"));
                    asked = Some(holder);
                }
            }
        }
        tokio::time::sleep(LOOK).await;
        let report = seriatim_ingest::run_record(&folder.path, run)?;
        if is_over(&report) {
            return Ok(report);
        }
    }
}

async fn cancel_here(hub: &Arc<EmbeddedHub>, folder: &StateFolder, run: &str, ui: &Ui) -> Result<RunReport, CliError> {
    let outcome = end(Arc::clone(hub) as Arc<dyn TaskHub>, folder, run).await;
    engine::close(hub, ui).await;
    outcome
}

async fn end(hub: Arc<dyn TaskHub>, folder: &StateFolder, run: &str) -> Result<RunReport, CliError> {
    // The process that had the run may have ended it just before it let go.
    let report = seriatim_ingest::run_record(&folder.path, run)?;
    if is_over(&report) {
        return Ok(report);
    }
    // Before the hub gives any work away: a run with little left to do could be published before it is asked to end.
    seriatim_ingest::request_cancel(&folder.path, run)?;
    let runner = Runner::start(hub, RunnerOptions::default(), &folder.path)?;
    let outcome = runner.cancel(run).await;
    runner.stop().await;
    Ok(outcome?)
}
