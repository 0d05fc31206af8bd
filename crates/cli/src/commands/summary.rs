//! A run in words and figures, for `run`, `show` and `demo`. Must never compute what the report does not say.

use seriatim_ingest::{AsideFile, CheckOutcome, Difference, RunReport, RunStatus, TableReport};
use seriatim_pipeline::model::Severity;

use crate::error::CliError;
use crate::ui::table::{Side, Table};
use crate::ui::{Tone, Ui, human};

/// A status in a word or three.
pub(crate) fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "running",
        RunStatus::Interrupted => "interrupted",
        RunStatus::Done => "done",
        RunStatus::NothingToDo => "nothing to do",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "cancelled",
    }
}

/// How a status stands out.
pub(crate) fn tone(status: RunStatus) -> Tone {
    match status {
        RunStatus::Done | RunStatus::NothingToDo => Tone::Good,
        RunStatus::Failed | RunStatus::Cancelled => Tone::Bad,
        RunStatus::Running | RunStatus::Interrupted => Tone::Soft,
    }
}

/// Prints what a run did.
pub(crate) fn print(report: &RunReport, ui: &Ui) -> Result<(), CliError> {
    let word = ui.toned(tone(report.status), status(report.status));
    if report.status == RunStatus::NothingToDo {
        let known = human::counted(report.files_known, "file");
        ui.line(format!("{word}: no new files ({known} ingested before)"))?;
        return ui.lines(aside(&report.aside, report.aside_known));
    }
    let resumed = if report.resumed { " (taken up where it was interrupted)" } else { "" };
    ui.line(format!("{} {word}{resumed}: {}", report.run, figures(report)))?;
    for (n, what) in [(report.filtered, "dropped by the transform"), (report.quarantined, "in quarantine")] {
        if n > 0 {
            ui.line(format!("{} {what}", human::counted(n, "record")))?;
        }
    }
    ui.lines(checks(&report.checks))?;
    ui.lines(aside(&report.aside, report.aside_known))?;
    ui.lines(differences(&report.differences, report.more_differences))?;
    if report.status == RunStatus::Done {
        ui.line("")?;
        ui.lines(tables(report).lines("  "))?;
        ui.lines(adopted(&report.tables))?;
        ui.lines(updated(&report.tables))?;
        ui.lines(conflicting(&report.tables))?;
        ui.line(format!("\noutput in {}", report.output))?;
    }
    Ok(())
}

/// The checks that records fail, each with the first of them.
pub(crate) fn checks(checks: &[CheckOutcome]) -> Vec<String> {
    let line = |check: &CheckOutcome| {
        let what = match check.severity {
            Severity::Warn => "a warning",
            Severity::Quarantine => "in quarantine",
            Severity::Fail => "an error",
        };
        let first = check.first.as_ref().map(|at| format!("; the first is {}, row {}", at.file, at.row));
        let failed = human::counted(check.failed, "record");
        format!("check '{}': {failed} ({what}){}", check.check, first.unwrap_or_default())
    };
    checks.iter().filter(|check| check.failed > 0).map(line).collect()
}

/// The files that were set aside, each with the reason, and how many were set aside before.
pub(crate) fn aside(files: &[AsideFile], known: u64) -> Vec<String> {
    let mut lines = Vec::new();
    if !files.is_empty() {
        let count = human::counted(files.len() as u64, "file");
        lines.push(format!("{count} set aside (cannot be read):"));
        lines.extend(files.iter().take(ASIDE_SHOWN).map(|file| format!("  {}", file.what)));
        if files.len() > ASIDE_SHOWN {
            lines.push(format!("  ... and {} more", human::count((files.len() - ASIDE_SHOWN) as u64)));
        }
        lines.push("  write such a file again under the same name: the next run takes what has changed".to_owned());
    }
    if known > 0 {
        lines.push(format!("{} set aside before, and as they were", human::counted(known, "file")));
    }
    lines
}

/// Tables that were taken over, or would be.
pub(crate) fn adopted(tables: &[TableReport]) -> Vec<String> {
    let tables = tables.iter().filter(|table| table.adopted_keys > 0);
    let line = |table: &TableReport| {
        format!("  {}: {} keep the IDs that they have", table.table, human::counted(table.adopted_keys, "key"))
    };
    tables.map(line).collect()
}

/// Tables in which known keys got other columns or references.
pub(crate) fn updated(tables: &[TableReport]) -> Vec<String> {
    let tables = tables.iter().filter(|table| table.updated_keys > 0);
    let line = |table: &TableReport| {
        let (keys, files) = (human::counted(table.updated_keys, "known key"), table.rewritten_files);
        format!("  {}: {keys} changed, {} written anew", table.table, human::counted(files, "file"))
    };
    tables.map(line).collect()
}

/// Tables in which records of a key differ, where that is counted.
pub(crate) fn conflicting(tables: &[TableReport]) -> Vec<String> {
    let line = |table: &TableReport| {
        let keys = table.conflicting_keys.filter(|&keys| keys > 0)?;
        Some(format!("  {}: the records of {} differ", table.table, human::counted(keys, "key")))
    };
    tables.iter().filter_map(line).collect()
}

/// What files have otherwise than others; `more` of them are not in the list.
pub(crate) fn differences(list: &[Difference], more: u64) -> Vec<String> {
    if list.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["files differ in their columns:".to_owned()];
    lines.extend(list.iter().take(DIFFERENCES_SHOWN).map(|difference| format!("  {difference}")));
    let more = more + list.len().saturating_sub(DIFFERENCES_SHOWN) as u64;
    if more > 0 {
        lines.push(format!("  ... and {} more", human::counted(more, "difference")));
    }
    lines
}

/// The differences between files that are listed; of more, the first ones and a count.
const DIFFERENCES_SHOWN: usize = 20;

/// The files that were set aside that are listed in full; of more, the first ones and a count.
const ASIDE_SHOWN: usize = 20;

fn figures(report: &RunReport) -> String {
    let files = if report.replay { "quarantine".to_owned() } else { human::counted(report.files, "file") };
    let records = human::counted(report.records, "record");
    let took = human::seconds(report.total_seconds);
    match report.status {
        RunStatus::Done => {
            let rate = human::rate(report.records, report.total_seconds);
            format!("{records} from {files} in {took} ({rate} records/s)")
        }
        _ => format!("{records} in {files}"),
    }
}

/// How long a run took, if it has ended by itself: who cancels a run was not there while it worked.
pub(crate) fn took(report: &RunReport) -> Option<String> {
    let ended = !matches!(report.status, RunStatus::Running | RunStatus::Interrupted | RunStatus::Cancelled);
    ended.then(|| human::seconds(report.total_seconds))
}

/// What a run did to each table.
pub(crate) fn tables(report: &RunReport) -> Table {
    let mut tables = Table::new(&[
        ("table", Side::Left),
        ("new rows", Side::Right),
        ("IDs", Side::Left),
        ("known keys", Side::Right),
        ("rows in all", Side::Right),
        ("files", Side::Right),
        ("size", Side::Right),
    ]);
    for table in &report.tables {
        tables.row([
            table.table.clone(),
            human::count(table.rows),
            human::ids(table.ids.as_ref()),
            human::count(table.known_keys),
            human::count(table.total_rows),
            human::count(table.files.len() as u64),
            human::bytes(table.bytes),
        ]);
    }
    tables
}

/// The seconds of each step, in a line; a step that came in two parts is told as one.
pub(crate) fn steps(report: &RunReport) -> String {
    let mut sums: Vec<(&str, f64)> = Vec::new();
    for (step, seconds) in &report.seconds {
        match sums.iter_mut().find(|(name, _)| name == step) {
            Some((_, sum)) => *sum += seconds,
            None => sums.push((step, *seconds)),
        }
    }
    let steps = sums.into_iter().map(|(step, seconds)| format!("{step} {}", human::seconds(seconds)));
    steps.collect::<Vec<_>>().join(", ")
}
