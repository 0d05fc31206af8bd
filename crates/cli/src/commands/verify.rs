//! `seriatim verify`: an audit of the outputs. Must never trust what a run said about itself.

use seriatim_ingest::VerifyReport;

use crate::args::VerifyArgs;
use crate::error::CliError;
use crate::ui::{Tone, Ui, human};
use crate::{engine, state};

/// Audits, and prints each check with the guarantee that it proves.
pub(super) fn execute(args: &VerifyArgs, ui: &Ui) -> Result<(), CliError> {
    let project = state::project(&args.pipeline)?;
    let report = seriatim_ingest::verify(&project, engine::workers(args.workers))?;
    if args.json {
        ui.json(&report)?;
    } else {
        print(&report, ui)?;
    }
    held(&report)
}

/// Prints each check.
pub(crate) fn print(report: &VerifyReport, ui: &Ui) -> Result<(), CliError> {
    for check in &report.checks {
        let word = if check.ok { ui.toned(Tone::Good, "ok  ") } else { ui.toned(Tone::Bad, "FAIL") };
        let table = check.table.as_ref().map(|table| format!("{table}: ")).unwrap_or_default();
        ui.line(format!("  {word}  {:<10}  {table}{}", check.guarantee, check.message))?;
        if let Some(help) = &check.help {
            ui.line(format!("        help: {help}"))?;
        }
    }
    Ok(())
}

/// An error, if a check did not hold.
pub(crate) fn held(report: &VerifyReport) -> Result<(), CliError> {
    if report.ok {
        return Ok(());
    }
    let failed: Vec<_> = report.checks.iter().filter(|check| !check.ok).collect();
    let text = format!("{}: {} did not hold", report.pipeline, human::counted(failed.len() as u64, "check"));
    let help = if failed.iter().all(|check| check.help.is_some()) {
        "do what the lines above say, and verify again"
    } else {
        "the lines above name the first place of each; outputs are never repaired in place: \
         restore them from a copy, or ingest again into an empty state and output folder"
    };
    Err(CliError::failed_with(text, help))
}
