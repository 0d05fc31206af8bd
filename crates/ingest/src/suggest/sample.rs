//! A sample of the source's records: which files there are, which columns all of them have, and stretches of records
//! spread over all of it. Stretches, because neighbours belong together (the lines of an order) and single records would
//! hide what repeats. Must never choose by chance.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::Path;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use seriatim_pipeline::model::{Compression, Format, Ids, Output, Pipeline, Source};

use super::LeftOut;
use super::coded::{Coded, code};
use super::sources::HELP;
use crate::elements::element_of;
use crate::error::{IngestError, Result};
use crate::files::scratch;
use crate::keys::is_key_type;
use crate::plan::{Chunk, in_parallel};
use crate::project::Project;
use crate::source::{
    FileColumn, FileFacts, Found, Mirrors, byte_ranges, file_facts, is_same, list, read_chunk, within,
};
use crate::text::{Texts, delimiter_of, form_of, take_up};

/// From how many files at most records are read: the shares of more would be too small to show what repeats.
const SHARE: u64 = 2_000;
/// Into how many stretches the share of a file is cut, so that one that is sorted by time shows more than its beginning.
const STRETCHES: u64 = 4;
/// Footers of objects that are read at once: to look at one is to wait for its service.
const OBJECTS_AT_ONCE: usize = 12;

/// What was read.
#[derive(Debug)]
pub(super) struct Sample {
    /// Where the files are, and how text files are written.
    pub(super) source: Source,
    /// Whether there are text files among them.
    pub(super) has_texts: bool,
    /// The names of all files, as the pipeline reaches them.
    pub(super) files: Vec<String>,
    /// How many records they have.
    pub(super) records: u64,
    /// How many of these are in the sample.
    pub(super) looked_at: u64,
    /// The columns that can be used, in the order of the first file.
    pub(super) columns: Vec<Coded>,
    /// The others.
    pub(super) left_out: Vec<LeftOut>,
}

/// Reads up to `most` records of the files of a source.
pub(super) fn take(folder: &Path, source: Source, most: u64, workers: usize) -> Result<Sample> {
    let looked = look_at(folder, source, workers)?;
    let Looked { facts, texts, source } = &looked;
    let (usable, left_out) = usable_columns(facts);
    let names: Vec<String> = usable.iter().map(|(name, _)| name.clone()).collect();
    let records = facts.iter().map(|facts| facts.file.rows).sum();
    let stretches = if names.is_empty() { Vec::new() } else { choose(facts, most.max(1)) };
    let mirrors = Mirrors::new(scratch("init"));
    let batches = in_parallel(workers, &stretches, |chunk| {
        let FileFacts { file, footer } = &facts[chunk.file as usize];
        let columns = FileColumn::all(footer.schema(), &names);
        let text = texts.as_ref().and_then(|texts| Some((texts, texts.form(&file.name)?)));
        let opened = if let Some((texts, form)) = text {
            texts.open(file, form)?
        } else {
            let opened = mirrors.open(chunk.file, file, folder)?;
            opened.ensure(|| byte_ranges(footer.metadata(), chunk.row_groups(), &names))?;
            opened.into_file()
        };
        read_chunk(opened, footer, chunk, &columns, &file.name)
    })?;
    let indexed: Vec<(usize, &(String, DataType))> = usable.iter().enumerate().collect();
    let columns = in_parallel(workers, &indexed, |(index, (name, kind))| {
        let pieces: Vec<ArrayRef> = batches.iter().map(|batch| batch.column(*index).clone()).collect();
        code(name, kind, &pieces)
    })?;
    let looked_at = batches.iter().map(|batch: &RecordBatch| batch.num_rows() as u64).sum();
    let files = facts.iter().map(|facts| facts.file.name.clone()).collect();
    let (source, has_texts) = (source.clone(), texts.is_some());
    Ok(Sample { source, has_texts, files, records, looked_at, columns, left_out })
}

/// Files of which no record has been read: their footers, or those of their copies.
struct Looked {
    facts: Vec<FileFacts>,
    texts: Option<Texts>,
    source: Source,
}

fn look_at(folder: &Path, mut source: Source, workers: usize) -> Result<Looked> {
    let listing = list(folder, &source.files, source.format, "source.files")?;
    if listing.files.is_empty() {
        let patterns = listing.unmatched.join("', '");
        return Err(IngestError::input(format!("no file matches '{patterns}'")).help(HELP));
    }
    let listed: Vec<(String, Found)> = listing.files.into_iter().collect();
    let form = |name: &str| form_of(name, source.format).filter(|form| form.has_delimiters());
    let first = listed.iter().find_map(|(name, found)| Some((found, form(name)?)));
    if let Some((Found::Local(path), form)) = first {
        let file = File::open(path).map_err(|e| IngestError::io("open", path, &e))?;
        source.csv.delimiter = delimiter_of(file, form);
    }
    let (texts, parquet): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|(name, _)| form_of(name, source.format).is_some());
    let is_far = parquet.iter().any(|(_, found)| found.is_object());
    let threads = if is_far { workers.max(OBJECTS_AT_ONCE) } else { workers };
    let mut facts = in_parallel(threads, &parquet, |(name, found)| match found {
        Found::Local(path) => file_facts(name, path, false),
        Found::Object(object) => object.facts(name),
    })?;
    if texts.is_empty() {
        return Ok(Looked { facts, texts: None, source });
    }
    let files = texts.iter().map(|(name, found)| found.as_text(name, false)).collect::<Result<Vec<_>>>()?;
    let project = Project::new(nothing_but(source.clone()), folder.to_owned());
    let (texts, taken) = take_up(&project, &files, &BTreeMap::new(), scratch("texts"), true, workers)?;
    facts.extend(taken.into_iter().collect::<Result<Vec<_>>>()?);
    facts.sort_by(|a, b| a.file.name.cmp(&b.file.name));
    Ok(Looked { facts, texts: Some(texts), source })
}

/// A pipeline that only says where the records are.
fn nothing_but(source: Source) -> Pipeline {
    let output = Output {
        path: String::new(),
        format: Format::default(),
        // The copies are read once.
        compression: Compression::Snappy,
        recompress: false,
        target_file_size: None,
    };
    Pipeline {
        name: String::new(),
        source,
        transform: None,
        lookups: Vec::new(),
        checks: Vec::new(),
        tables: Vec::new(),
        output,
        state: String::new(),
        ids: Ids::default(),
    }
}

/// The columns that every file has with one type that tables and comparisons can take; and the others, with the reason.
fn usable_columns(facts: &[FileFacts]) -> (Vec<(String, DataType)>, Vec<LeftOut>) {
    let (mut usable, mut left_out, mut folded) = (Vec::new(), Vec::new(), HashSet::new());
    let Some((first, others)) = facts.split_first() else { return (usable, left_out) };
    for field in first.schema().fields() {
        let (name, kind) = (field.name(), field.data_type());
        let differs = others.iter().find_map(|other| match other.schema().field_with_name(name) {
            Err(_) => Some(format!("{} does not have it", other.file.name)),
            Ok(found) if !is_same(found.data_type(), kind) => {
                Some(format!("it is {kind} in {} and {} in {}", first.file.name, found.data_type(), other.file.name))
            }
            Ok(_) => None,
        });
        let why = if name.is_empty() {
            Some("it has no name".to_owned())
        } else if kind.is_nested() {
            Some(nested(name, kind))
        } else if !is_key_type(kind) {
            Some(format!("its type {kind} cannot be compared"))
        } else if differs.is_some() {
            differs
        } else if !folded.insert(name.to_lowercase()) {
            Some("another column has the same name but for the case of letters".to_owned())
        } else {
            None
        };
        match why {
            Some(why) => left_out.push(LeftOut { column: name.clone(), why }),
            None => usable.push((name.clone(), kind.clone())),
        }
    }
    let known: HashSet<&String> = first.schema().fields().iter().map(|field| field.name()).collect();
    let mut seen = HashSet::new();
    for other in others {
        for field in other.schema().fields() {
            if !known.contains(field.name()) && seen.insert(field.name()) {
                let why = format!("{} does not have it", first.file.name);
                left_out.push(LeftOut { column: field.name().clone(), why });
            }
        }
    }
    (usable, left_out)
}

/// The stretches of records to read, `most` together.
fn choose(facts: &[FileFacts], most: u64) -> Vec<Chunk> {
    let filled: Vec<usize> = (0..facts.len()).filter(|&file| facts[file].file.rows > 0).collect();
    let records: u64 = filled.iter().map(|&file| facts[file].file.rows).sum();
    if records <= most {
        return filled.iter().flat_map(|&file| stretch(file, &facts[file], 0, facts[file].file.rows)).collect();
    }
    let count = (filled.len() as u64).min((most / SHARE).max(1));
    // Evenly over all of them, the first one among them.
    let chosen: Vec<usize> = (0..count).map(|i| filled[(i * filled.len() as u64 / count) as usize]).collect();
    let total: u64 = chosen.iter().map(|&file| facts[file].file.rows).sum();
    let mut chunks = Vec::new();
    let mut left = most;
    for file in chosen {
        let rows = facts[file].file.rows;
        let share = (u128::from(most) * u128::from(rows)).div_ceil(u128::from(total)) as u64;
        let share = share.min(rows).min(left);
        left -= share;
        let pieces = if share == rows { 1 } else { STRETCHES.min(share.max(1)) };
        for piece in 0..pieces {
            let from = rows * piece / pieces;
            let length = share * (piece + 1) / pieces - share * piece / pieces;
            chunks.extend(stretch(file, &facts[file], from, length.min(rows - from)));
        }
    }
    chunks
}

/// So many rows of a file from this one on, a chunk for each row group that has some of them.
fn stretch(file: usize, facts: &FileFacts, from: u64, rows: u64) -> Vec<Chunk> {
    let (mut chunks, mut first_row) = (Vec::new(), 0);
    for (group, metadata) in (0..).zip(facts.footer.metadata().row_groups()) {
        // Held against the file when the footer was read: it is not negative.
        let end = first_row + metadata.num_rows().max(0) as u64;
        let (begin, stop) = (from.max(first_row), (from + rows).min(end));
        if begin < stop {
            chunks.push(Chunk {
                file: file as u32,
                first_row: begin,
                rows: (stop - begin) as u32,
                first_group: group,
                groups: 1,
                skip: begin - first_row,
                partial: stop < end,
            });
        }
        first_row = end;
    }
    chunks
}

/// Why a nested column is left out; of a struct how its fields are named, of a list how its elements can be rows.
fn nested(name: &str, kind: &DataType) -> String {
    match element_of(kind).map(|element| element.data_type()) {
        Some(DataType::Struct(fields)) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            let names = names.join(", ");
            return format!("it is nested: `from: \"{name}[]\"` makes a table of its elements, which have {names}");
        }
        Some(_) => {
            return format!("it is nested: `from: \"{name}[]\"` makes a table of its elements, in a column `{name}`");
        }
        None => {}
    }
    let fields = within(name, kind);
    match fields.iter().find(|(_, inner)| is_key_type(inner)) {
        Some((path, _)) if path != name => {
            format!("it is nested; its fields can be keys and columns of their own, as {path}")
        }
        _ => "it is nested, and keys and comparisons take flat columns".to_owned(),
    }
}
