//! Reading a table's log: how far it is, and which files it has. Others may add commits that change no rows, and
//! checkpoints, and remove commits that checkpoints have. Must never write anything.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::LOG;
use crate::error::{IngestError, Result};
use crate::output::Output;
use crate::source::contain;

/// The name of a commit, in the output.
pub(super) fn commit_name(table: &str, version: u64) -> String {
    format!("{table}/{LOG}/{version:020}.json")
}

/// How far a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// The last version.
    pub(super) version: u64,
    /// The last run of the application; `None` if it has none.
    pub(super) run: Option<u64>,
}

/// What a log comes to.
#[derive(Debug, Default)]
pub(super) struct Active {
    pub(super) version: u64,
    pub(super) run: Option<u64>,
    /// The files of the table, by their names in its folder.
    pub(super) files: BTreeMap<String, Added>,
}

/// A file as a log has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) bytes: u64,
    /// `None`: it does not say.
    pub(super) rows: Option<u64>,
}

/// What is in a log's folder.
#[derive(Debug, Default)]
struct Listing {
    commits: BTreeSet<u64>,
    /// The files of each checkpoint.
    checkpoints: BTreeMap<u64, Vec<String>>,
}

impl Listing {
    fn of(output: &Output, table: &str) -> Result<Self> {
        let mut listing = Self::default();
        for name in output.children(&format!("{table}/{LOG}"))? {
            let Some((version, rest)) = name.split_at_checked(20) else { continue };
            let Ok(version) = version.parse::<u64>() else { continue };
            if rest == ".json" {
                listing.commits.insert(version);
            } else if rest.starts_with(".checkpoint.") {
                listing.checkpoints.entry(version).or_default().push(format!("{table}/{LOG}/{name}"));
            }
        }
        Ok(listing)
    }

    fn last(&self) -> Option<u64> {
        self.commits.last().max(self.checkpoints.keys().last()).copied()
    }
}

/// How far a table's log is; `None` if there is none.
pub(super) fn head(output: &Output, table: &str, app: &str) -> Result<Option<Head>> {
    let listing = Listing::of(output, table)?;
    let Some(version) = listing.last() else { return Ok(None) };
    for &commit in listing.commits.iter().rev() {
        let run = read_commit(output, table, commit)?.iter().filter_map(|action| run_of(action, app)).max();
        if run.is_some() {
            return Ok(Some(Head { version, run }));
        }
    }
    let mut found = Active::default();
    if let Some(parts) = listing.checkpoints.values().next_back() {
        parts.iter().try_for_each(|part| read_checkpoint(output, part, app, &mut found))?;
    }
    Ok(Some(Head { version, run: found.run }))
}

/// Everything that a table's log has; `None` if there is none.
pub(super) fn replay(output: &Output, table: &str, app: &str) -> Result<Option<Active>> {
    let listing = Listing::of(output, table)?;
    let Some(version) = listing.last() else { return Ok(None) };
    let mut active = Active { version, ..Active::default() };
    let mut next = 0;
    if !listing.commits.contains(&0)
        && let Some((checkpoint, parts)) = listing.checkpoints.iter().next_back()
    {
        parts.iter().try_for_each(|part| read_checkpoint(output, part, app, &mut active))?;
        next = checkpoint + 1;
    }
    for commit in next..=version {
        if !listing.commits.contains(&commit) {
            return Err(damaged(output, &commit_name(table, commit), "it is gone"));
        }
        for action in read_commit(output, table, commit)? {
            active.run = active.run.max(run_of(&action, app));
            if let Some(path) = action.pointer("/remove/path").and_then(Value::as_str) {
                active.files.remove(&name_of(path));
            }
            if let Some(add) = action.get("add")
                && let Some(path) = add["path"].as_str()
            {
                let added = Added { bytes: add["size"].as_u64().unwrap_or(0), rows: rows_of(add["stats"].as_str()) };
                active.files.insert(name_of(path), added);
            }
        }
    }
    Ok(Some(active))
}

/// The file that a path in a log means: paths are written as in URLs.
fn name_of(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}

fn rows_of(stats: Option<&str>) -> Option<u64> {
    serde_json::from_str::<Value>(stats?).ok()?.get("numRecords")?.as_u64()
}

/// The run that an action says is committed.
fn run_of(action: &Value, app: &str) -> Option<u64> {
    let txn = action.get("txn")?;
    txn["version"].as_u64().filter(|_| txn["appId"] == app)
}

fn damaged(output: &Output, name: &str, what: &str) -> IngestError {
    IngestError::output(format!("{} is damaged: {what}", output.place_of(name)))
        .help("bring it back from a backup, or see which program changed it")
}

fn read_commit(output: &Output, table: &str, version: u64) -> Result<Vec<Value>> {
    let name = commit_name(table, version);
    let (bytes, _) = output.read(&name)?.ok_or_else(|| damaged(output, &name, "it is gone"))?;
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|e| damaged(output, &name, &e.to_string()))).collect()
}

/// Adds what a file of a checkpoint has. Files that were removed are not in it, but for their own rows.
fn read_checkpoint(output: &Output, name: &str, app: &str, active: &mut Active) -> Result<()> {
    let wrong = |what: String| damaged(output, name, &what);
    if !name.ends_with(".parquet") {
        return Err(wrong("checkpoints of this form are not read".to_owned()));
    }
    let file = output.open(name)?;
    contain(|| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build);
        for batch in reader.map_err(|e| e.to_string())? {
            let batch = batch.map_err(|e| e.to_string())?;
            if batch.column_by_name("sidecar").is_some_and(|sidecars| sidecars.null_count() < sidecars.len()) {
                return Err("checkpoints with sidecars are not read".to_owned());
            }
            let action = |name: &str| batch.column_by_name(name).and_then(|array| array.as_struct_opt()).cloned();
            if let Some(txn) = action("txn") {
                take_runs(&txn, app, active)?;
            }
            if let Some(add) = action("add") {
                take_files(&add, active)?;
            }
        }
        Ok(())
    })
    .map_err(wrong)
}

/// A field of an action, as another type.
fn field(action: &StructArray, name: &str, data_type: &DataType) -> Result<ArrayRef, String> {
    let column = action.column_by_name(name).ok_or_else(|| format!("there is no '{name}'"))?;
    cast(column, data_type).map_err(|e| e.to_string())
}

fn take_runs(txn: &StructArray, app: &str, active: &mut Active) -> Result<(), String> {
    let (apps, runs) = (field(txn, "appId", &DataType::Utf8)?, field(txn, "version", &DataType::Int64)?);
    let (apps, runs) = (apps.as_string::<i32>(), runs.as_primitive::<Int64Type>());
    for row in (0..txn.len()).filter(|&row| txn.is_valid(row) && apps.is_valid(row) && apps.value(row) == app) {
        active.run = active.run.max(u64::try_from(runs.value(row)).ok());
    }
    Ok(())
}

fn take_files(add: &StructArray, active: &mut Active) -> Result<(), String> {
    let (paths, sizes) = (field(add, "path", &DataType::Utf8)?, field(add, "size", &DataType::Int64)?);
    let stats = field(add, "stats", &DataType::Utf8).ok();
    let (paths, sizes) = (paths.as_string::<i32>(), sizes.as_primitive::<Int64Type>());
    for row in (0..add.len()).filter(|&row| add.is_valid(row) && paths.is_valid(row)) {
        let stats = stats.as_ref().map(AsArray::as_string::<i32>).filter(|stats| stats.is_valid(row));
        let added = Added {
            bytes: u64::try_from(sizes.value(row)).unwrap_or(0),
            rows: rows_of(stats.map(|stats| stats.value(row))),
        };
        active.files.insert(name_of(paths.value(row)), added);
    }
    Ok(())
}
