//! What a run, a plan, a check and an audit have to say, as data: printed for people by the program, and as JSON for
//! programs. This module must never compute anything.

use serde::{Deserialize, Serialize};
use seriatim_pipeline::model::Severity;

use crate::drift::Difference;
use crate::error::BadFile;
use crate::sequence::is_zero;
use crate::source::SourceFile;

/// How a run ended, or where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Working, in a process that is alive.
    Running,
    /// Begun, and its process is gone: the next `run` of its pipeline takes it up.
    Interrupted,
    /// Published.
    Done,
    /// There was no new file.
    NothingToDo,
    /// Failed; nothing of it was published, no ID is lost.
    Failed,
    /// Cancelled on request; nothing of it was published, no ID is lost.
    Cancelled,
}

/// The IDs that one run gave out in one table: `first, first + step, ..., last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first ID.
    pub first: i64,
    /// The last ID.
    pub last: i64,
    /// The distance from one to the next.
    pub step: i64,
    /// How many.
    pub count: u64,
}

/// What a run did to one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReport {
    /// The table's name.
    pub table: String,
    /// Rows of new things, written by this run.
    pub rows: u64,
    /// Rows in the table after this run, over all runs; each version of a thing is one.
    pub total_rows: u64,
    /// The IDs given by this run; `None` if it gave none.
    pub ids: Option<IdRange>,
    /// Distinct keys that this run met and that had an ID already. 0 for a table without key.
    pub known_keys: u64,
    /// Keys whose records differ, among themselves or from those of the run in which the key was new; `None` if the table
    /// does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicting_keys: Option<u64>,
    /// Keys that this run took over with their IDs from a table that existed before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub adopted_keys: u64,
    /// Known keys that got other columns or references from this run, in a table with a history.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub updated_keys: u64,
    /// Published files that were written anew for them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rewritten_files: u64,
    /// Records, or elements, whose key for this table was null and that made no row in it.
    pub null_keys: u64,
    /// What its columns are called, in their order, if fields of structs are among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// The elements that this run met of the list whose elements are the table's rows; `None`: its rows are records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elements: Option<u64>,
    /// Files written, relative to the output folder, in reading order.
    pub files: Vec<String>,
    /// Their size in bytes, together.
    pub bytes: u64,
}

/// A source file that was set aside because it cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsideFile {
    /// What is wrong with it, and where.
    #[serde(flatten)]
    pub what: BadFile,
    /// Its size.
    pub bytes: u64,
    /// The records that it declares; `None` if its footer cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

impl AsideFile {
    /// Those of some files that are set aside.
    pub(crate) fn of(files: &[SourceFile]) -> Vec<Self> {
        let aside = |file: &SourceFile| {
            let what = file.bad.clone()?;
            Some(Self { what, bytes: file.bytes, records: Some(file.rows).filter(|&rows| rows > 0) })
        };
        files.iter().filter_map(aside).collect()
    }
}

/// A record of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file, as the pipeline reaches it.
    pub file: String,
    /// The row, counted from 0.
    pub row: u64,
}

/// How a run's records did in one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckOutcome {
    /// The check's name.
    pub check: String,
    /// What happens to records that fail.
    pub severity: Severity,
    /// Records that fail.
    pub failed: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Place>,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The run's name, for `show` and `cancel`.
    pub run: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// How it ended.
    pub status: RunStatus,
    /// Whether this process took up a run that another had begun.
    pub resumed: bool,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// When it ended, RFC 3339, UTC; `None` while it runs.
    pub ended: Option<String>,
    /// The number of this run among the published ones (1, 2, ...); it names the run's output files.
    pub number: Option<u64>,
    /// New source files.
    pub files: u64,
    /// Files that earlier runs had ingested.
    pub files_known: u64,
    /// Source records read.
    pub records: u64,
    /// Whether they came from quarantine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replay: bool,
    /// Records that the transform's `WHERE` dropped.
    pub filtered: u64,
    /// Records in quarantine.
    pub quarantined: u64,
    /// The pipeline's checks, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckOutcome>,
    /// New files that were set aside because they cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aside: Vec<AsideFile>,
    /// Files that earlier runs had set aside, and that are as they were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub aside_known: u64,
    /// What source files have otherwise than others, each with the first file that has it so; the first 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// How many more differences there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_differences: u64,
    /// Each table.
    pub tables: Vec<TableReport>,
    /// Wall time in this process, in seconds, by step: plan, scan, resolve, reserve, write, publish.
    pub seconds: Vec<(String, f64)>,
    /// Wall time in this process, in seconds.
    pub total_seconds: f64,
    /// The output folder.
    pub output: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Of which kind the failure is.
    pub error_kind: Option<crate::error::ErrorKind>,
    /// What to do about it.
    pub help: Option<String>,
    /// Process id and host of the process that has, or had, the run.
    pub owner: Option<String>,
    /// The task hub elsewhere whose workers carry it out; `None`: this state folder's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
}

impl RunReport {
    /// A run that has begun, and done nothing yet.
    pub(crate) fn begun(run: String, pipeline: String, started: String, output: String) -> Self {
        Self {
            run,
            pipeline,
            status: RunStatus::Running,
            resumed: false,
            started,
            ended: None,
            number: None,
            files: 0,
            files_known: 0,
            records: 0,
            replay: false,
            filtered: 0,
            quarantined: 0,
            checks: Vec::new(),
            aside: Vec::new(),
            aside_known: 0,
            differences: Vec::new(),
            more_differences: 0,
            tables: Vec::new(),
            seconds: Vec::new(),
            total_seconds: 0.0,
            output,
            error: None,
            error_kind: None,
            help: None,
            owner: None,
            hub: None,
        }
    }
}

/// What waits in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineReport {
    /// The pipeline's name.
    pub pipeline: String,
    /// Records that wait.
    pub records: u64,
    /// The files that they are in, in the order in which they were set aside.
    pub files: Vec<String>,
    /// Why, the most frequent reason first.
    pub reasons: Vec<QuarantineReason>,
}

/// Why records are in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineReason {
    /// The reason, in words.
    pub reason: String,
    /// Records with it.
    pub records: u64,
    /// The last run that set some aside for it.
    pub last_run: u64,
}

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// The pipeline's name.
    pub pipeline: String,
    /// A run that was interrupted and would be taken up first.
    pub interrupted: Option<String>,
    /// The files that would be ingested, in order.
    pub files: Vec<PlanFile>,
    /// The files of look-ups, in the order of the pipeline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<LookupFile>,
    /// Files that earlier runs had ingested.
    pub files_known: u64,
    /// Source records to read.
    pub records: u64,
    /// Records that the transform's `WHERE` would drop.
    pub filtered: u64,
    /// Records that would go to quarantine.
    pub quarantined: u64,
    /// The pipeline's checks, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckOutcome>,
    /// Why the run would fail, if a check would let it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Files that would be set aside because they cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aside: Vec<AsideFile>,
    /// Files that earlier runs had set aside, and that are as they were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub aside_known: u64,
    /// What source files have otherwise than others, each with the first file that has it so; the first 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// How many more differences there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_differences: u64,
    /// Chunks, the unit of work.
    pub chunks: u64,
    /// Each table: the rows, new keys and exact IDs that the run would give.
    pub tables: Vec<TableReport>,
    /// Where IDs begin, of tables that begin after what exists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub begins: Vec<FoundStart>,
    /// What keeps the IDs from being certain, if they come from a counter that others use as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<String>,
}

/// Where a table's IDs begin that come after what exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundStart {
    /// The table's name.
    pub table: String,
    /// The first ID that the first run gives.
    pub first: i64,
    /// Where the IDs before it are, as the pipeline names the files.
    pub after: Vec<String>,
}

/// One file of a look-up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupFile {
    /// The look-up's name.
    pub lookup: String,
    /// The file, as the pipeline reaches it.
    pub file: String,
    /// Its rows.
    pub rows: u64,
}

/// One file of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFile {
    /// The file, as the pipeline reaches it.
    pub file: String,
    /// Its records.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// What `check` found: the pipeline against the real schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// The pipeline's name.
    pub pipeline: String,
    /// Files found.
    pub files: u64,
    /// Their records.
    pub records: u64,
    /// Files whose footers cannot be read, where such files are set aside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aside: Vec<AsideFile>,
    /// What source files have otherwise than others, each with the first file that has it so; the first 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// How many more differences there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_differences: u64,
    /// The columns of each output table.
    pub tables: Vec<CheckTable>,
    /// Source columns that go nowhere.
    pub unused_columns: Vec<String>,
}

/// The columns of one output table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckTable {
    /// The table's name.
    pub table: String,
    /// The list whose elements are its rows; `None`: they are records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Name, type and role (`id`, `key`, `reference to X`, `column`) of each column, in order.
    pub columns: Vec<(String, String, String)>,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The pipeline's name.
    pub pipeline: String,
    /// Whether every check held.
    pub ok: bool,
    /// Each check, in order.
    pub checks: Vec<VerifyCheck>,
}

/// One check of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyCheck {
    /// The guarantee that it proves (`G1`, `G2`, `G3`, `G4`, `G7`, `references`, `files`).
    pub guarantee: String,
    /// The table, or `None` for the whole output.
    pub table: Option<String>,
    /// What was checked, with figures, or what is wrong, with the first place.
    pub message: String,
    /// Whether it held.
    pub ok: bool,
    /// What to do if it did not, where that is another thing than restoring the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// Which IDs the records of which files were given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerReport {
    /// The pipeline's name.
    pub pipeline: String,
    /// In the order of the records.
    pub entries: Vec<LedgerEntry>,
    /// Runs whose ledger is neither in the state folder nor beside the output.
    pub missing: Vec<u64>,
}

/// A part of a source file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The number of the run among the published ones.
    pub run: u64,
    /// The run, as the state folder named it that began it.
    pub name: String,
    /// The source file.
    pub file: String,
    /// The first row, counted from 0.
    pub first_row: u64,
    /// How many rows.
    pub rows: u64,
    /// The IDs of the things that appear first in these rows, for each table.
    pub tables: Vec<LedgerTable>,
}

impl LedgerEntry {
    /// Adds the rows that follow.
    pub(crate) fn extend(&mut self, rows: u64, tables: Vec<LedgerTable>) {
        self.rows += rows;
        for (before, after) in self.tables.iter_mut().zip(tables) {
            match (&mut before.ids, after.ids) {
                (Some(ids), Some(more)) => (ids.last, ids.count) = (more.last, ids.count + more.count),
                (ids @ None, more) => *ids = more,
                (Some(_), None) => {}
            }
        }
    }
}

/// The IDs of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerTable {
    /// The table's name.
    pub table: String,
    /// `None` if nothing is new there.
    pub ids: Option<IdRange>,
}

/// Where a row comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoReport {
    /// The table.
    pub table: String,
    /// The ID.
    pub id: i64,
    /// The number of the run among the published ones.
    pub run: u64,
    /// The run, as the state folder named it that began it; `None` if its ledger is gone.
    pub run_name: Option<String>,
    /// When that run began, if the state folder has its record. RFC 3339.
    pub started: Option<String>,
    /// The published file, relative to the output.
    pub output_file: String,
    /// The row in it, counted from 0.
    pub output_row: u64,
    /// The row: each column with its value as text; `None` is null.
    pub values: Vec<(String, Option<String>)>,
    /// The source file; `None` if the run's ledger is gone.
    pub source_file: Option<String>,
    /// The record's row in the source file, counted from 0; `None` if it could not be looked up.
    pub source_row: Option<u64>,
    /// The element in the record that the row is, as a path with places counted from 0: `items[2]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_element: Option<String>,
    /// The rows of the source file among which it is: the first, and how many.
    pub source_rows: Option<(u64, u64)>,
    /// The record as the source has it, before any transform.
    pub source_values: Vec<(String, Option<String>)>,
    /// Why a part of this is not known.
    pub remark: Option<String>,
}
