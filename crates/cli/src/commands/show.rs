//! `seriatim show RUN`: everything that is recorded about one run. Must never need the hub.

use seriatim_ingest::RunReport;

use super::summary;
use crate::args::OneRunArgs;
use crate::error::CliError;
use crate::state::{self, StateFolder};
use crate::ui::{Ui, human};

/// Prints the run.
pub(super) fn execute(args: &OneRunArgs, ui: &Ui) -> Result<(), CliError> {
    let folder = StateFolder::find(&args.state)?;
    let mut report = [seriatim_ingest::run_record(&folder.path, &args.run)?];
    state::mark_interrupted(&mut report, &folder.path)?;
    let [report] = report;
    if args.json { ui.json(&report) } else { print(&report, ui) }
}

fn print(report: &RunReport, ui: &Ui) -> Result<(), CliError> {
    let field = |name: &str, value: &str| ui.line(format!("{name:<9} {value}"));
    field("run", &report.run)?;
    field("pipeline", &report.pipeline)?;
    field("status", &ui.toned(summary::tone(report.status), summary::status(report.status)))?;
    field("started", &human::moment(&report.started))?;
    if let Some(ended) = &report.ended {
        let took = match summary::took(report) {
            Some(took) if report.resumed => format!(" ({took}, of the process that took it up)"),
            Some(took) => format!(" ({took})"),
            None => String::new(),
        };
        field("ended", &format!("{}{took}", human::moment(ended)))?;
    }
    if let Some(owner) = &report.owner {
        field("owner", owner)?;
    }
    if let Some(hub) = &report.hub {
        field("hub", hub)?;
    }
    field("files", &format!("{} new, {} known", human::count(report.files), human::count(report.files_known)))?;
    field("records", &human::count(report.records))?;
    for (name, n) in [("dropped", report.filtered), ("refused", report.quarantined)] {
        if n > 0 {
            field(name, &human::count(n))?;
        }
    }
    if !report.checks.is_empty() {
        let failed = report.checks.iter().filter(|check| check.failed > 0).count();
        field("checks", &format!("{} of {} failed by some record", failed, report.checks.len()))?;
        ui.lines(summary::checks(&report.checks).into_iter().map(|line| format!("          {line}")))?;
    }
    if !report.aside.is_empty() || report.aside_known > 0 {
        let (new, known) = (human::count(report.aside.len() as u64), human::count(report.aside_known));
        field("set aside", &format!("{new} new, {known} before"))?;
        ui.lines(report.aside.iter().map(|file| format!("          {}", file.what)))?;
    }
    if !report.seconds.is_empty() {
        field("steps", &summary::steps(report))?;
    }
    field("output", &report.output)?;
    for (name, text) in [("error", &report.error), ("help", &report.help)] {
        if let Some(text) = text {
            field(name, text)?;
        }
    }
    if report.tables.is_empty() {
        return Ok(());
    }
    ui.line("")?;
    ui.lines(summary::tables(report).lines(""))?;
    ui.lines(summary::adopted(&report.tables))?;
    ui.lines(summary::updated(&report.tables))?;
    ui.lines(summary::conflicting(&report.tables))?;
    let files: Vec<&String> = report.tables.iter().flat_map(|table| &table.files).collect();
    if !files.is_empty() {
        ui.line("\nfiles written, in reading order")?;
        ui.lines(files.iter().map(|file| format!("  {file}")))?;
    }
    Ok(())
}
