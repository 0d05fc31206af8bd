//! `seriatim quarantine`: which records wait in quarantine, and why. Must never need the hub, nor write anything.

use seriatim_ingest::QuarantineReport;

use crate::args::QuarantineArgs;
use crate::error::CliError;
use crate::state;
use crate::ui::table::{Side, Table};
use crate::ui::{Ui, human};

/// Files that are listed; of more, the last ones and a count.
const FILES_SHOWN: usize = 10;

/// Prints what waits.
pub(super) fn execute(args: &QuarantineArgs, ui: &Ui) -> Result<(), CliError> {
    let project = state::project(&args.pipeline)?;
    let report = seriatim_ingest::quarantine(&project)?;
    if args.json {
        return ui.json(&report);
    }
    print(&report, ui)
}

fn print(report: &QuarantineReport, ui: &Ui) -> Result<(), CliError> {
    let records = human::counted(report.records, "record");
    if report.records == 0 {
        return ui.line(format!("{}: no record waits in quarantine", report.pipeline));
    }
    ui.line(format!("{}: {records} in quarantine\n", report.pipeline))?;
    let mut table = Table::new(&[("records", Side::Right), ("last run", Side::Right), ("reason", Side::Left)]);
    for reason in &report.reasons {
        table.row([human::count(reason.records), reason.last_run.to_string(), reason.reason.clone()]);
    }
    ui.lines(table.lines("  "))?;
    ui.line("")?;
    let before = report.files.len().saturating_sub(FILES_SHOWN);
    if before > 0 {
        ui.line(format!("{} before, and", human::counted(before as u64, "file")))?;
    }
    ui.lines(report.files.iter().skip(before).cloned())?;
    ui.line("\n`seriatim replay` ingests them once more: after a change of the pipeline, or mended, with --mended")
}
