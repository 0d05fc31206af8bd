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

/// One run over a project of this place.
pub(crate) fn run_project(place: &Place, project: &Project, options: &RunnerOptions) -> Result<RunReport, Failed> {
    runtime().block_on(run_project_in(place, project, options))
}

async fn run_in(place: &Place, pipeline: &Pipeline, options: &RunnerOptions) -> Result<RunReport, Failed> {
    run_project_in(place, &place.project(pipeline), options).await
}

async fn run_project_in(place: &Place, project: &Project, options: &RunnerOptions) -> Result<RunReport, Failed> {
    let hub = open_hub(&place.state());
    let runner = Runner::start(hub.clone(), options.clone(), &place.state()).map_err(|e| Failed::of(&e))?;
    let outcome = outcome(runner.run(project).await);
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
        let mut expected = oracle.rows(index);
        let mut header = oracle.header(table);
        if !table.partition_by.is_empty() {
            let partitions = take_partitions(table, &mut header, &mut expected);
            if partitions != read.folders {
                return Err(format!("{}: rows are in {:?} instead of {partitions:?}", table.name, read.folders));
            }
        }
        if read.files > 0 && read.header != header {
            return Err(format!("{}: columns {:?} instead of {header:?}", table.name, read.header));
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

/// Takes the columns by which a table is partitioned out of its rows, and brings these into the order in which a reader of
/// the folders finds them. Gives the folder of each.
fn take_partitions(table: &Table, header: &mut Vec<String>, rows: &mut Vec<Vec<Cell>>) -> Vec<String> {
    let columns: Vec<usize> =
        table.partition_by.iter().map(|c| header.iter().position(|h| h == c).expect("a column")).collect();
    let mut folders: Vec<(String, Vec<Cell>)> = rows
        .drain(..)
        .map(|row| {
            let name = |(column, at): (&String, &usize)| partition_name(column, &row[*at]);
            let folder: Vec<String> = table.partition_by.iter().zip(&columns).map(name).collect();
            let kept = row.iter().enumerate().filter(|(at, _)| !columns.contains(at)).map(|(_, cell)| cell.clone());
            (folder.join("/"), kept.collect())
        })
        .collect();
    // Paths are compared part by part, as folders are read; rows of one folder stay as they are.
    folders.sort_by(|(one, _), (other, _)| Path::new(one).cmp(Path::new(other)));
    header.retain(|name| !table.partition_by.contains(name));
    let (folders, kept) = folders.into_iter().unzip();
    *rows = kept;
    folders
}

/// The name of a partition's folder, once more by hand.
pub(crate) fn partition_name(column: &str, value: &Cell) -> String {
    let encoded = |text: &str| {
        let one = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        };
        text.bytes().map(one).collect::<String>()
    };
    let value = match value {
        Cell::Null => "__HIVE_DEFAULT_PARTITION__".to_owned(),
        Cell::Bool(value) => value.to_string(),
        Cell::Int(value) => value.to_string(),
        Cell::Text(text) => encoded(text),
        other => panic!("no table is partitioned by {other:?}"),
    };
    format!("{}={value}", encoded(column))
}

/// Why the rows of an oracle cannot be in partitions, if they cannot: an empty text is no name.
pub(crate) fn unfit_for_partitions(pipeline: &Pipeline, oracle: &Oracle) -> Option<String> {
    pipeline.tables.iter().enumerate().find_map(|(index, table)| {
        let (mut header, mut rows) = (oracle.header(table), oracle.rows(index));
        let names = take_partitions(table, &mut header, &mut rows);
        let unfit = |name: &&str| name.ends_with('=') || name.len() > 255;
        names.iter().flat_map(|name| name.split('/')).find(unfit).map(str::to_owned)
    })
}

/// Float keys are published as they came first; what matters is which key it is.
fn normalise_keys(table: &Table, read: &mut Read) {
    for row in &mut read.rows {
        let first = table.id.as_ref().map_or(0, Id::width);
        let key = table.key.iter().filter(|column| !table.partition_by.contains(column)).count();
        for cell in &mut row[first..first + key] {
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
    let (file, row, reason) = (at("_file"), at("_row"), at("_reason"));
    let (table, check) = (at("_table"), at("_check"));
    let columns: Vec<usize> = columns.iter().map(|name| at(name)).collect();
    let text = |cell: &Cell| if let Cell::Text(text) = cell { text.clone() } else { panic!("{cell:?} is no text") };
    let entry = |cells: &Vec<Cell>| {
        let by_check = cells[table] == Cell::Null;
        let name = text(&cells[if by_check { check } else { table }]);
        assert!(text(&cells[reason]).contains(&name), "the reason names the table or the check: {cells:?}");
        assert!(by_check || cells[check] == Cell::Null, "{cells:?}");
        Quarantined {
            file: text(&cells[file]),
            row: if let Cell::Int(row) = cells[row] { row as u64 } else { panic!("a row is a number") },
            why: if by_check { format!("check {name}") } else { name },
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
    let first = |place: &seriatim_ingest::Place| (place.file.clone(), place.row);
    let failed: Vec<_> = report.checks.iter().map(|c| (c.failed, c.first.as_ref().map(first))).collect();
    if failed != facts.failed {
        _ = write!(wrong, "checks: {failed:?} instead of {:?}; ", facts.failed);
    }
    for (index, (table, expected)) in report.tables.iter().zip(&facts.tables).enumerate() {
        let ids = table.ids.map(|ids| (ids.first, ids.last));
        let known = (table.known_keys, table.updated_keys);
        let counted = (table.rows, table.total_rows, ids, known, table.null_keys);
        let known = (expected.known_keys, expected.updated);
        let expected = (expected.rows, oracle.row_count(index), oracle.latest_ids(index), known, expected.null_keys);
        if counted != expected {
            _ = write!(
                wrong,
                "{}: rows, total, IDs, (known keys, updated), null keys: {counted:?} instead of {expected:?}; ",
                table.table
            );
        }
    }
    for (table, expected) in report.tables.iter().zip(&facts.tables) {
        if table.conflicting_keys != expected.conflicts {
            let (found, expected) = (table.conflicting_keys, expected.conflicts);
            _ = write!(wrong, "{}: {found:?} conflicting keys instead of {expected:?}; ", table.table);
        }
    }
    for (index, table) in report.tables.iter().enumerate() {
        let expected = if report.number == Some(1) { oracle.adopted(index) } else { 0 };
        if table.adopted_keys != expected {
            _ = write!(wrong, "{}: {} adopted keys instead of {expected}; ", table.table, table.adopted_keys);
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
        id: Some(Id::new(format!("{name}_id"))),
        references: owned(references),
        columns: owned(columns),
        on_conflict: OnConflict::default(),
        count_conflicts: false,
        on_null_key: OnNullKey::default(),
        adopt: None,
        partition_by: Vec::new(),
        history: None,
        from: None,
    }
}

/// A pipeline over `data/*.parquet`.
pub(crate) fn pipeline(tables: Vec<Table>) -> Pipeline {
    Pipeline {
        name: "test".to_owned(),
        source: Source { files: vec!["data/*.parquet".to_owned()], ..Source::default() },
        transform: None,
        lookups: Vec::new(),
        checks: Vec::new(),
        tables,
        output: Output {
            path: "out".to_owned(),
            format: Format::Parquet,
            compression: Compression::default(),
            recompress: false,
            target_file_size: None,
        },
        state: "state".to_owned(),
        ids: Ids::default(),
    }
}
