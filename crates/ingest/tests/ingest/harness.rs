//! Runs a pipeline the way the program does, hub and all, and compares everything that was published with the oracle.
//! Must never look into a state folder.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seriatim_hub::{EmbeddedHub, HubOptions};
use seriatim_ingest::{
    ErrorKind, IngestError, Paths, Project, RecoverReport, RunReport, RunStatus, Runner, RunnerOptions, verify,
};
use seriatim_pipeline::model::{Compression, Format, Id, Ids, OnConflict, OnNullKey, Output, Pipeline, Source, Table};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::cells::Cell;
use crate::oracle::{Oracle, Quarantined, RunFacts};
use crate::outputs::{Read, read_files, read_table};

/// A folder of its own for one pipeline: data, state and output.
#[derive(Debug)]
pub(crate) struct Place {
    folder: TempDir,
    /// Where its output is, if not in a folder here.
    output: Option<String>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), output: None }
    }

    /// One whose output is at a URL.
    pub(crate) fn with_output(url: String) -> Self {
        Self { output: Some(url), ..Self::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.path().join("out")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    pub(crate) fn project(&self, pipeline: &Pipeline) -> Project {
        let mut pipeline = pipeline.clone();
        if let Some(url) = &self.output {
            pipeline.output.path.clone_from(url);
        }
        Project::new(pipeline, self.path().to_path_buf())
    }
}

/// A run that failed: what the caller should do, what happened, and the advice.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    pub(crate) message: String,
    pub(crate) help: String,
    pub(crate) exit_code: u8,
}

impl Failed {
    fn of(error: &IngestError) -> Self {
        Self::new(error.kind, error.message.clone(), error.help.clone())
    }

    fn new(kind: ErrorKind, message: String, help: Option<String>) -> Self {
        assert_ne!(kind, ErrorKind::Internal, "no test may meet a defect of the program: {message}");
        Self { message, help: help.unwrap_or_default(), exit_code: kind.exit_code() }
    }
}

/// Options for a machine of `workers`, with ample memory and everything else as by default.
pub(crate) fn options(workers: usize) -> RunnerOptions {
    RunnerOptions {
        workers,
        memory: 1 << 30,
        chunk_rows: 131_072,
        shards: 16,
        paths: Paths::Auto,
        work: None,
        fan_out: true,
    }
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Opens the hub of a state folder.
pub(crate) fn open_hub(state: &Path) -> Arc<EmbeddedHub> {
    fs::create_dir_all(state).expect("a state folder can be made");
    EmbeddedHub::open(state, HubOptions::default()).expect("the hub opens")
}

/// One run as one process would do it: open the hub, run, close.
pub(crate) fn run(place: &Place, pipeline: &Pipeline, options: &RunnerOptions) -> Result<RunReport, Failed> {
    runtime().block_on(run_in(place, pipeline, options))
}

/// Recovers a state folder as one process would do it.
pub(crate) fn recover(place: &Place, pipeline: &Pipeline) -> Result<RecoverReport, Failed> {
    runtime().block_on(async {
        let hub = open_hub(&place.state());
        let runner = Runner::start(hub.clone(), options(2), &place.state()).map_err(|e| Failed::of(&e))?;
        let outcome = runner.recover(&place.project(pipeline)).await.map_err(|e| Failed::of(&e));
        runner.stop().await;
        hub.close().await.expect("the hub closes");
        outcome
    })
}

async fn run_in(place: &Place, pipeline: &Pipeline, options: &RunnerOptions) -> Result<RunReport, Failed> {
    let hub = open_hub(&place.state());
    let runner = Runner::start(hub.clone(), options.clone(), &place.state()).map_err(|e| Failed::of(&e))?;
    let outcome = outcome(runner.run(&place.project(pipeline)).await);
    runner.stop().await;
    hub.close().await.expect("the hub closes");
    outcome
}

/// The report of a run that did not fail.
pub(crate) fn outcome(result: Result<RunReport, IngestError>) -> Result<RunReport, Failed> {
    match result {
        Err(error) => Err(Failed::of(&error)),
        Ok(report) => match report.status {
            RunStatus::Done | RunStatus::NothingToDo => Ok(report),
            RunStatus::Failed => Err(Failed::new(
                report.error_kind.expect("a failed run says of which kind its failure is"),
                report.error.expect("a failed run says why"),
                report.help,
            )),
            other => panic!("a run that was waited for is {other:?}"),
        },
    }
}

/// Compares all that a reader sees with the oracle; `Err` says the first difference.
pub(crate) fn compare(place: &Place, pipeline: &Pipeline, oracle: &Oracle) -> Result<(), String> {
    for (index, table) in pipeline.tables.iter().enumerate() {
        let mut read = read_table(&place.output().join(&table.name));
        let expected = oracle.rows(index);
        if read.files > 0 && read.header != oracle.header(table) {
            return Err(format!("{}: columns {:?} instead of {:?}", table.name, read.header, oracle.header(table)));
        }
        normalise_keys(table, &mut read);
        for (at, (expected, found)) in expected.iter().zip(&read.rows).enumerate() {
            if expected != found {
                return Err(format!("{}: row {at} is {found:?} instead of {expected:?}", table.name));
            }
        }
        if expected.len() != read.rows.len() {
            return Err(format!("{}: {} rows instead of {}", table.name, read.rows.len(), expected.len()));
        }
    }
    compare_quarantine(place, oracle)
}

/// Float keys are published as they came first; what matters is which key it is.
fn normalise_keys(table: &Table, read: &mut Read) {
    for row in &mut read.rows {
        let first = usize::from(table.id.is_some());
        for cell in &mut row[first..first + table.key.len()] {
            *cell = cell.as_key();
        }
    }
}

fn compare_quarantine(place: &Place, oracle: &Oracle) -> Result<(), String> {
    let mut found = quarantined(place, &oracle.source_columns());
    let mut expected = oracle.quarantine.clone();
    found.sort();
    expected.sort();
    for (expected, found) in expected.iter().zip(&found) {
        if expected != found {
            return Err(format!("quarantine holds {found:?} instead of {expected:?}"));
        }
    }
    if found.len() != expected.len() {
        return Err(format!("{} records in quarantine instead of {}", found.len(), expected.len()));
    }
    Ok(())
}

/// What lies in quarantine, with these columns of each record.
pub(crate) fn quarantined(place: &Place, columns: &[String]) -> Vec<Quarantined> {
    // A source's columns may change from run to run, and records are kept as they were.
    read_files(&place.output().join("_quarantine")).iter().flat_map(|read| quarantined_in(read, columns)).collect()
}

fn quarantined_in(read: &Read, columns: &[String]) -> Vec<Quarantined> {
    let at = |name: &str| {
        read.header.iter().position(|h| h == name).unwrap_or_else(|| panic!("no {name} in {:?}", read.header))
    };
    let (file, row, table, reason) = (at("_file"), at("_row"), at("_table"), at("_reason"));
    let columns: Vec<usize> = columns.iter().map(|name| at(name)).collect();
    let text = |cell: &Cell| if let Cell::Text(text) = cell { text.clone() } else { panic!("{cell:?} is no text") };
    let entry = |cells: &Vec<Cell>| {
        let table = text(&cells[table]);
        assert!(text(&cells[reason]).contains(&table), "the reason names the table: {cells:?}");
        Quarantined {
            file: text(&cells[file]),
            row: if let Cell::Int(row) = cells[row] { row as u64 } else { panic!("a row is a number") },
            table,
            record: columns.iter().map(|at| cells[*at].clone()).collect(),
        }
    };
    read.rows.iter().map(entry).collect()
}

/// Compares the report of a run with what the oracle counted.
pub(crate) fn compare_report(report: &RunReport, facts: &RunFacts, oracle: &Oracle) -> Result<(), String> {
    let counted = (report.files, report.records, report.filtered, report.quarantined);
    let expected = (facts.files, facts.records, facts.filtered, facts.quarantined);
    let mut wrong = String::new();
    if counted != expected {
        _ = write!(wrong, "files, records, filtered, quarantined: {counted:?} instead of {expected:?}; ");
    }
    for (index, (table, expected)) in report.tables.iter().zip(&facts.tables).enumerate() {
        let ids = table.ids.map(|ids| (ids.first, ids.last));
        let counted = (table.rows, table.total_rows, ids, table.known_keys, table.null_keys);
        let expected =
            (expected.rows, oracle.row_count(index), oracle.latest_ids(index), expected.known_keys, expected.null_keys);
        if counted != expected {
            _ = write!(
                wrong,
                "{}: rows, total, IDs, known keys, null keys: {counted:?} instead of {expected:?}; ",
                table.table
            );
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Audits the output; `Err` lists what the audit found wrong.
pub(crate) fn audit(place: &Place, pipeline: &Pipeline, workers: usize) -> Result<(), String> {
    let report = verify(&place.project(pipeline), workers).map_err(|e| format!("verify: {e}"))?;
    if report.ok {
        return Ok(());
    }
    let wrong: Vec<String> = report.checks.iter().filter(|c| !c.ok).map(|c| format!("{c:?}")).collect();
    Err(format!("verify: {}", wrong.join("; ")))
}

/// A keyed table with IDs 1, 2, ... in column `<name>_id`, and everything else as by default.
pub(crate) fn keyed(name: &str, key: &[&str], references: &[&str], columns: &[&str]) -> Table {
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    Table {
        name: name.to_owned(),
        key: owned(key),
        id: Some(Id { column: format!("{name}_id"), start: 1, step: 1, sequence: None }),
        references: owned(references),
        columns: owned(columns),
        on_conflict: OnConflict::default(),
        on_null_key: OnNullKey::default(),
    }
}

/// A pipeline over `data/*.parquet`.
pub(crate) fn pipeline(tables: Vec<Table>) -> Pipeline {
    Pipeline {
        name: "test".to_owned(),
        source: Source { files: vec!["data/*.parquet".to_owned()], ..Source::default() },
        transform: None,
        tables,
        output: Output {
            path: "out".to_owned(),
            format: Format::Parquet,
            compression: Compression::default(),
            recompress: false,
        },
        state: "state".to_owned(),
        ids: Ids::default(),
    }
}
