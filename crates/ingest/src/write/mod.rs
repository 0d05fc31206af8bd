//! Write: the rows of the output tables, numbered, as Parquet files aside from where readers look. A *span* of chunks
//! is written at once; where a table has so few rows that spans share a file, each span leaves a *piece*, and the file
//! is assembled from them. The bytes are a function of the plan and the reservation; nothing here may depend on which
//! worker writes what, or when.

mod assemble;
mod copy;
mod elements;
mod gather;
mod known;
mod partitioned;
mod piece;
mod quarantine;
mod rows;
mod sink;
mod span;

pub(crate) use assemble::assemble;
pub(crate) use known::{KNOWN_COLUMNS, known};
pub(crate) use partitioned::assemble_bucket;
pub(crate) use piece::{Piece, PieceOf};
pub(crate) use quarantine::QUARANTINE_COLUMNS;
pub(crate) use rows::choose;
pub(crate) use sink::{Done, ROW_GROUP, failed, properties, write_file};
pub(crate) use span::{Shared, SpanOutcome, write_span};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use seriatim_pipeline::model::OnConflict;

use crate::context::{RunContext, work_folder};
use crate::error::Result;
use crate::number::Reserved;
use crate::output::{Output, STAGING};
use crate::partition::{Values, folder};
pub(crate) use sink::Sink;

/// A finished file that waits to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Staged {
    /// Index of its table; one more than the last stands for the quarantine.
    pub(crate) table: u32,
    /// Its place among the run's files of the table, from 0.
    pub(crate) group: u32,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// XXH3, 128 bits, of its content.
    pub(crate) hash: String,
    /// The place in the sequence of its first row; without meaning for the quarantine.
    pub(crate) first: u64,
    /// That of its last row, where other files have rows between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<u64>,
    /// Its partition, if its table is partitioned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) partition: Values,
    /// The published file that it takes the place of, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaces: Option<Replaces>,
}

/// A published file that is written anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replaces {
    /// Its name in the output.
    pub(crate) path: String,
    /// How many of its keys have other attributes now.
    pub(crate) updated: u64,
}

impl Replaces {
    /// The name of the file that takes its place in this run: it is where the old one was when files are read by name.
    pub(crate) fn name(&self, number: u64) -> String {
        format!("{}-r{number:06}.parquet", stem(&self.path))
    }
}

/// What the names of a published file and of those that take its place have together.
pub(crate) fn stem(path: &str) -> &str {
    let name = path.strip_suffix(".parquet").unwrap_or(path);
    let is_number = |text: &str| text.len() >= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
    name.rsplit_once("-r").filter(|(_, number)| is_number(number)).map_or(name, |(before, _)| before)
}

/// A file of a run: its table, its partition's folder in the table's, if it has one, and its place among the others there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileOf<'a> {
    pub(crate) table: u32,
    pub(crate) folder: &'a str,
    pub(crate) group: u32,
}

impl FileOf<'_> {
    /// A file of a table that is not partitioned.
    fn plain(table: u32, group: u32) -> Self {
        Self { table, folder: "", group }
    }
}

/// Spans whose rows of one table make one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) rows: u64,
    /// Whether more than one span has rows in it, or their order is not that of the spans.
    pub(crate) assembled: bool,
}

/// The index that stands for the quarantine.
pub(crate) fn quarantine_index(run: &RunContext) -> u32 {
    run.layout.tables.len() as u32
}

/// How many rows of a table each span has.
fn span_rows(run: &RunContext, reserved: &Reserved, table: u32) -> Result<Vec<u64>> {
    let mut rows = Vec::with_capacity(run.plan.spans.len());
    for span in 0..run.plan.spans.len() as u32 {
        let mut sum = 0;
        for chunk in run.span_chunks(span) {
            sum += if table == quarantine_index(run) {
                run.scan_facts(chunk)?.quarantined
            } else {
                let places = run.numbering(table, &reserved.tables[table as usize])?.chunk(chunk);
                places.end - places.start
            };
        }
        rows.push(sum);
    }
    Ok(rows)
}

/// Whether the rows of a table come in another order than its IDs, because the last record of a thing counts.
fn is_reordered(run: &RunContext, table: u32) -> bool {
    table < quarantine_index(run) && run.table(table).is_keyed() && run.table(table).on_conflict == OnConflict::Last
}

/// Whether a span leaves rows of a table.
fn has_rows(run: &RunContext, reserved: &Reserved, table: u32, span: u32) -> Result<bool> {
    if !is_reordered(run, table) {
        return Ok(span_rows(run, reserved, table)?[span as usize] > 0);
    }
    Ok(run.last_in_spans(table, &reserved.tables[table as usize].segments)?.any(span))
}

/// How many rows make a file.
fn rows_of_file(run: &RunContext, table: u32) -> u64 {
    run.plan.table_rows.get(table as usize).copied().unwrap_or(run.plan.file_rows)
}

fn is_partitioned(run: &RunContext, table: u32) -> bool {
    table < quarantine_index(run) && run.table(table).is_partitioned()
}

/// The files of a table in this run: spans in order, together until they have enough rows for a file. Of a table that is
/// partitioned, the buckets of its partitions.
pub(crate) fn groups(run: &RunContext, reserved: &Reserved, table: u32) -> Result<Vec<Group>> {
    if is_partitioned(run, table) {
        return Ok(partitioned::buckets(run, reserved, table));
    }
    let file_rows = rows_of_file(run, table);
    let mut groups = Vec::new();
    let mut open: Option<Group> = None;
    for (span, rows) in (0..).zip(span_rows(run, reserved, table)?) {
        if rows == 0 {
            continue;
        }
        let group = match open.take() {
            None => Group { from: span, to: span + 1, rows, assembled: is_reordered(run, table) },
            Some(before) => Group { from: before.from, to: span + 1, rows: before.rows + rows, assembled: true },
        };
        // A span alone need not be full: files are cut by row groups, and what is written at once is written fast.
        let alone = if run.plan.table_rows.is_empty() { file_rows / 4 } else { file_rows / 4 * 3 };
        let enough = if group.assembled { file_rows } else { alone };
        if group.rows >= enough {
            groups.push(group);
        } else {
            open = Some(group);
        }
    }
    groups.extend(open);
    Ok(groups)
}

/// The folder of what is in quarantine.
pub(crate) const QUARANTINE: &str = "_quarantine";

/// A table's folder in the output.
pub(crate) fn folder_name(run: &RunContext, table: u32) -> &str {
    if table == quarantine_index(run) { QUARANTINE } else { &run.table(table).name }
}

/// The name of a published file: by run, then by place, so that the order of names is the order of rows.
pub(crate) fn file_name(number: u64, group: u32) -> String {
    format!("part-{number:06}-{group:05}.parquet")
}

/// The name of a published file in its table's folder.
pub(crate) fn name_in_table(number: u64, columns: &[String], file: &Staged) -> String {
    if let Some(replaces) = &file.replaces {
        let name = replaces.name(number);
        return name.split_once('/').map_or(name.clone(), |(_, name)| name.to_owned());
    }
    let name = file_name(number, file.group);
    if columns.is_empty() { name } else { format!("{}/{name}", folder(columns, &file.partition)) }
}

/// Where a finished file waits, in the output. Its name does not end in `.parquet`, so that no glob finds it.
pub(crate) fn staged_name(run: &RunContext, reserved: &Reserved, file: &Staged) -> Result<String> {
    if let Some(replaces) = &file.replaces {
        return replacement_name(run, reserved, replaces);
    }
    let folder = if is_partitioned(run, file.table) {
        folder(&run.table(file.table).partition_by, &file.partition)
    } else {
        String::new()
    };
    staged_as(run, reserved, FileOf { table: file.table, folder: &folder, group: file.group })
}

fn staged_as(run: &RunContext, reserved: &Reserved, file: FileOf<'_>) -> Result<String> {
    let mut path = format!("{}/{}/", staging_folder(run)?, folder_name(run, file.table));
    if !file.folder.is_empty() {
        path = path + file.folder + "/";
    }
    Ok(format!("{path}{}.staged", file_name(reserved.number, file.group)))
}

/// The run's finished files wait here, in the output: beside the tables, so that publishing is renaming.
pub(crate) fn staging_folder(run: &RunContext) -> Result<String> {
    Ok(match run.output()? {
        Output::Folder(_) => format!("{STAGING}/{}", run.plan.run),
        Output::Store(_) => format!("{STAGING}/{}", run.plan.own_name()),
    })
}

/// Where a file is written that will be staged.
fn staged_path(run: &RunContext, reserved: &Reserved, file: FileOf<'_>) -> Result<PathBuf> {
    path_of(run, &staged_as(run, reserved, file)?)
}

fn path_of(run: &RunContext, name: &str) -> Result<PathBuf> {
    Ok(match run.output()? {
        Output::Folder(path) => path.join(name),
        Output::Store(_) => work_folder(run.state(), &run.plan.run).join("staged").join(name),
    })
}

fn replacement_name(run: &RunContext, reserved: &Reserved, replaces: &Replaces) -> Result<String> {
    Ok(format!("{}/{}.staged", staging_folder(run)?, replaces.name(reserved.number)))
}

/// Begins a file that will take the place of a published one.
pub(crate) fn open_replacement(run: &RunContext, reserved: &Reserved, table: u32, replaces: &Replaces) -> Result<Sink> {
    span::open_at(run, table, path_of(run, &replacement_name(run, reserved, replaces)?)?)
}

/// Ends it and stages it: its table, and its place among the published files there.
pub(crate) fn stage_replacement(
    run: &RunContext,
    reserved: &Reserved,
    (table, group): (u32, u32),
    replaces: Replaces,
    sink: Sink,
) -> Result<Staged> {
    let Done { rows, bytes, hash } = sink.finish()?;
    let name = replacement_name(run, reserved, &replaces)?;
    run.output()?.stage(&path_of(run, &name)?, &name, bytes)?;
    let (partition, replaces) = (Values::new(), Some(replaces));
    Ok(Staged { table, group, rows, bytes, hash, first: 0, last: None, partition, replaces })
}

/// Ends a file and stages it.
fn finish(run: &RunContext, reserved: &Reserved, file: FileOf<'_>, first: u64, sink: Sink) -> Result<Staged> {
    let Done { rows, bytes, hash } = sink.finish()?;
    let name = staged_as(run, reserved, file)?;
    run.output()?.stage(&staged_path(run, reserved, file)?, &name, bytes)?;
    let (table, group) = (file.table, file.group);
    let partition = Values::new();
    Ok(Staged { table, group, rows, bytes, hash, first, last: None, partition, replaces: None })
}
