//! `seriatim plan`: what a run would do. Must never write anything, nor wait for the process that has the state.

use seriatim_ingest::PlanReport;

use super::summary;
use crate::args::PlanArgs;
use crate::error::CliError;
use crate::ui::table::{Side, Table};
use crate::ui::{Tone, Ui, human};
use crate::{engine, state};

/// The files that are listed in full; of more, the first ones and a count.
const FILES_SHOWN: usize = 20;

/// Plans, and prints the plan.
pub(super) fn execute(args: &PlanArgs, ui: &Ui) -> Result<(), CliError> {
    let project = state::project(&args.pipeline)?;
    let report = seriatim_ingest::plan(&project, &engine::runner_options(&args.machine))?;
    if args.json { ui.json(&report) } else { print(&report, ui) }
}

fn print(report: &PlanReport, ui: &Ui) -> Result<(), CliError> {
    if let Some(run) = &report.interrupted {
        ui.line(format!("{run} was interrupted: the next run takes it up first, then does what follows"))?;
    }
    let known = match report.files_known {
        0 => String::new(),
        n => format!("; {} ingested before", human::counted(n, "file")),
    };
    if report.files.is_empty() {
        ui.line(format!("{}: nothing to do, no new files{known}", report.pipeline))?;
        return ui.lines(summary::aside(&report.aside, report.aside_known));
    }
    let files = human::counted(report.files.len() as u64, "new file");
    let records = human::counted(report.records, "record");
    let chunks = human::counted(report.chunks, "chunk");
    let title = ui.toned(Tone::Strong, &report.pipeline);
    ui.line(format!("{title}: {files}, {records} in {chunks}{known}"))?;
    for (n, what) in [(report.filtered, "dropped by the transform"), (report.quarantined, "to quarantine")] {
        if n > 0 {
            ui.line(format!("{} {what}", human::counted(n, "record")))?;
        }
    }
    ui.lines(summary::checks(&report.checks))?;
    ui.lines(report.refused.iter().map(|why| format!("the run would fail: {why}")))?;
    ui.lines(summary::aside(&report.aside, report.aside_known))?;
    ui.lines(summary::differences(&report.differences, report.more_differences))?;
    ui.line("")?;
    ui.lines(files_table(report).lines("  "))?;
    if report.files.len() > FILES_SHOWN {
        ui.line(format!("  ... and {} more", human::count((report.files.len() - FILES_SHOWN) as u64)))?;
    }
    for lookup in &report.lookups {
        let rows = human::counted(lookup.rows, "row");
        ui.line(format!("  look-up {}: {}, {rows}", lookup.lookup, lookup.file))?;
    }
    ui.line("")?;
    ui.lines(tables_table(report).lines("  "))?;
    for begin in &report.begins {
        let (table, first, files) = (&begin.table, begin.first, begin.after.join(", "));
        ui.line(format!(
            "  {table}: IDs begin at {first}, after those in {files}; the first run settles that for ever"
        ))?;
    }
    ui.lines(summary::adopted(&report.tables))?;
    ui.lines(summary::conflicting(&report.tables))?;
    match &report.shared {
        None => ui.line("\nnothing was written; `seriatim run` gives exactly these IDs, if no file comes before"),
        Some(shared) => ui.line(format!("\nnothing was written; {shared}")),
    }
}

fn files_table(report: &PlanReport) -> Table {
    let mut files = Table::new(&[("file", Side::Left), ("records", Side::Right), ("bytes", Side::Right)]);
    for file in report.files.iter().take(FILES_SHOWN) {
        files.row([file.file.clone(), human::count(file.rows), human::bytes(file.bytes)]);
    }
    files
}

fn tables_table(report: &PlanReport) -> Table {
    let mut tables = Table::new(&[
        ("table", Side::Left),
        ("new rows", Side::Right),
        ("IDs", Side::Left),
        ("known keys", Side::Right),
        ("rows then", Side::Right),
    ]);
    for table in &report.tables {
        tables.row([
            table.table.clone(),
            human::count(table.rows),
            human::ids(table.ids.as_ref()),
            human::count(table.known_keys),
            human::count(table.total_rows),
        ]);
    }
    tables
}
