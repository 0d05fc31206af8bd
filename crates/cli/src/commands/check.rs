//! `seriatim check`: the pipeline file, and the pipeline against the schema of the real files. Must never read records.

use seriatim_ingest::CheckReport;

use super::summary;
use crate::args::CheckArgs;
use crate::error::CliError;
use crate::state;
use crate::ui::table::{Side, Table, printable};
use crate::ui::{Tone, Ui, human};

/// Checks, and prints the tables that the pipeline will make.
pub(super) fn execute(args: &CheckArgs, ui: &Ui) -> Result<(), CliError> {
    let project = state::project(&args.pipeline)?;
    let report = seriatim_ingest::check(&project)?;
    if args.json { ui.json(&report) } else { print(&report, ui) }
}

fn print(report: &CheckReport, ui: &Ui) -> Result<(), CliError> {
    let files = human::counted(report.files, "file");
    let records = human::counted(report.records, "record");
    ui.line(format!("{} {}: {files}, {records}", ui.toned(Tone::Good, "ok"), report.pipeline))?;
    ui.lines(summary::aside(&report.aside, 0))?;
    ui.lines(summary::differences(&report.differences, report.more_differences))?;
    for table in &report.tables {
        let from = table.from.as_ref().map(|from| format!(": elements of {}", printable(from))).unwrap_or_default();
        ui.line(format!("\n{}{from}", ui.toned(Tone::Strong, &table.table)))?;
        let mut columns = Table::new(&[("column", Side::Left), ("type", Side::Left), ("role", Side::Left)]);
        for (name, kind, role) in &table.columns {
            columns.row([name.clone(), kind.clone(), role.clone()]);
        }
        ui.lines(columns.lines("  "))?;
    }
    if !report.unused_columns.is_empty() {
        ui.line(format!("\nsource columns that go nowhere: {}", report.unused_columns.join(", ")))?;
    }
    Ok(())
}
