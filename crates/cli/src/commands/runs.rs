//! `seriatim runs`: the runs of a state folder, the newest last. Must never need the hub, nor wait for who has it.

use serde::Serialize;
use seriatim_ingest::RunReport;

use super::summary;
use crate::args::RunsArgs;
use crate::error::CliError;
use crate::state::{self, StateFolder};
use crate::ui::table::{Side, Table};
use crate::ui::{Ui, human};

/// The document of `runs --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    runs: &'a [RunReport],
}

/// Prints the runs.
pub(super) fn execute(args: &RunsArgs, ui: &Ui) -> Result<(), CliError> {
    let folder = StateFolder::find(&args.state)?;
    let mut reports = if folder.path.is_dir() { seriatim_ingest::runs(&folder.path)? } else { Vec::new() };
    reports.retain(|report| folder.pipeline.as_ref().is_none_or(|name| report.pipeline == *name));
    state::mark_interrupted(&mut reports, &folder.path)?;
    if args.json {
        return ui.json(&Document { runs: &reports });
    }
    if reports.is_empty() {
        return ui.line(format!("no runs yet in {}", folder.path.display()));
    }
    ui.lines(table(&reports).lines(""))
}

fn table(reports: &[RunReport]) -> Table {
    let mut table = Table::new(&[
        ("run", Side::Left),
        ("status", Side::Left),
        ("started", Side::Left),
        ("took", Side::Right),
        ("files", Side::Right),
        ("set aside", Side::Right),
        ("records", Side::Right),
        ("new rows", Side::Right),
    ]);
    for report in reports {
        table.row([
            report.run.clone(),
            summary::status(report.status).to_owned(),
            human::moment(&report.started),
            summary::took(report).unwrap_or_else(|| "-".to_owned()),
            human::count(report.files),
            human::count(report.aside.len() as u64),
            human::count(report.records),
            human::count(report.tables.iter().map(|table| table.rows).sum()),
        ]);
    }
    table
}
