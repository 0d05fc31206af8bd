//! Records of runs: one small file for each run in the state folder, so that `runs` and `show` need no hub. A record is
//! what a person is told; nothing may be decided by it that the hub knows better.

use std::fs;
use std::path::{Path, PathBuf};

use crate::context::cancel_path;
use crate::error::{IngestError, Result};
use crate::files::{make_folder, read_json, write_json, write_whole};
use crate::report::RunReport;

fn folder(state: &Path) -> PathBuf {
    state.join("runs")
}

fn record_path(state: &Path, run: &str) -> PathBuf {
    folder(state).join(format!("{run}.json"))
}

/// The runs of a state folder, oldest first. A run that is `Running` may have lost its process: that is for who knows
/// whether the state folder has an owner.
pub fn runs(state: &Path) -> Result<Vec<RunReport>> {
    let mut records: Vec<RunReport> = Vec::new();
    let entries = match fs::read_dir(folder(state)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(records),
        Err(e) => return Err(IngestError::io("list", &folder(state), &e)),
    };
    for entry in entries {
        let path = entry.map_err(|e| IngestError::io("list", &folder(state), &e))?.path();
        if path.extension().is_some_and(|e| e == "json") {
            records.extend(read_json::<RunReport>(&path)?);
        }
    }
    // By number, which no clock can turn back; the time is for records whose number was given a second time.
    records.sort_by(|a, b| (counter(&a.run), &a.started).cmp(&(counter(&b.run), &b.started)));
    Ok(records)
}

/// The record of one run.
pub fn run_record(state: &Path, run: &str) -> Result<RunReport> {
    let known = runs(state)?;
    if let Some(record) = known.iter().find(|r| r.run == run) {
        return Ok(record.clone());
    }
    let error = IngestError::state(format!("there is no run '{run}' in {}", state.display()));
    let near = seriatim_pipeline::nearest(run, known.iter().map(|r| r.run.as_str()));
    Err(match (near, known.is_empty()) {
        (Some(near), _) => error.help(format!("did you mean '{near}'?")),
        (None, true) => error.help("the state folder has no runs: is it the right one?"),
        (None, false) => error.help("`seriatim runs` lists them"),
    })
}

/// Keeps a record.
pub(crate) fn write_record(state: &Path, record: &RunReport) -> Result<()> {
    make_folder(&folder(state))?;
    write_json(&record_path(state, &record.run), record)
}

/// Leaves a request to cancel a run, for the process that has it: its next step finds the request and fails, and the
/// run then releases what it holds. A run that is being published already comes to its end.
pub fn request_cancel(state: &Path, run: &str) -> Result<()> {
    run_record(state, run)?;
    write_whole(&cancel_path(state, run), b"cancel\n")
}

/// Forgets the request to cancel a run.
pub(crate) fn clear_cancel(state: &Path, run: &str) {
    let _ = fs::remove_file(cancel_path(state, run));
}

/// The number at the end of a run's name.
pub(crate) fn counter(run: &str) -> u64 {
    run.rsplit_once('-').and_then(|(_, n)| n.parse().ok()).unwrap_or_default()
}

/// The number for the next run's name.
pub(crate) fn next_counter(state: &Path) -> Result<u64> {
    Ok(runs(state)?.iter().map(|r| counter(&r.run)).max().unwrap_or_default() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(run: &str, started: &str) -> RunReport {
        RunReport::begun(run.to_owned(), "shop".to_owned(), started.to_owned(), String::new())
    }

    /// Symptom: now and then `runs` names an earlier run as the last one, so that the wrong run is cancelled. Cause:
    /// times were written without the zeros at their end and sorted as text, where 'Z' comes after every digit.
    #[test]
    fn the_last_run_is_the_one_that_was_started_last() {
        let folder = tempfile::tempdir().unwrap();
        for (run, started) in [
            ("shop-9", "2026-11-24T10:00:00.5Z"),
            ("shop-10", "2026-11-24T10:00:00.51Z"),
            // The machine's clock was set back.
            ("shop-11", "2026-11-24T09:00:00.000Z"),
        ] {
            write_record(folder.path(), &record(run, started)).unwrap();
        }
        let found: Vec<String> = runs(folder.path()).unwrap().into_iter().map(|r| r.run).collect();
        assert_eq!(found, ["shop-9", "shop-10", "shop-11"]);
    }
}
