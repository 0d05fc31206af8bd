//! The rows of one table from one chunk: ID and its text, key, references, columns. Of a chunk whose rows are all records, only the
//! values that rows need are read. Must never touch a file of the output.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use arrow::compute::take;
use seriatim_pipeline::model::{Id, OnConflict};

use super::elements;
use super::gather::{Gathered, gather_columns, handles};
use super::sink::{GroupColumn, ROW_GROUP, Sink};
use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::history;
use crate::number::{Ids, Reserved, id_of, out_of_range};
use crate::pages::IdValues;
use crate::scan::{CHUNKS_AHEAD, ChunkScan};
use crate::text_ids::TextIds;

/// Which of a chunk's records, or of the elements of the table's list, make rows of a table, and with which places in its
/// sequence.
pub(crate) struct Chosen {
    table: u32,
    /// The records; `None` for all.
    records: Option<Vec<u32>>,
    pub(super) places: Places,
}

pub(super) enum Places {
    Range(Range<u64>),
    List(Vec<u64>),
}

impl Places {
    /// The IDs of some of the rows.
    fn ids(&self, id: &Id, rows: Range<usize>) -> Result<Vec<i64>> {
        match self {
            Self::Range(places) => ids_in(id, places.start + rows.start as u64..places.start + rows.end as u64),
            Self::List(places) => ids_at(id, &places[rows]),
        }
    }
}

impl Chosen {
    /// Records of known keys, which have these places.
    pub(super) fn known(table: u32, records: Vec<u32>, places: Vec<u64>) -> Self {
        Self { table, records: Some(records), places: Places::List(places) }
    }

    /// The records; `None` for all.
    pub(crate) fn records(&self) -> Option<&[u32]> {
        self.records.as_deref()
    }

    /// The place of a row.
    pub(crate) fn place(&self, row: usize) -> u64 {
        match &self.places {
            Places::Range(range) => range.start + row as u64,
            Places::List(list) => list[row],
        }
    }

    /// The table.
    pub(super) fn table(&self) -> u32 {
        self.table
    }

    /// Some of the rows.
    pub(super) fn part(&self, rows: Range<usize>) -> Self {
        let places = match &self.places {
            Places::Range(places) => Places::Range(places.start + rows.start as u64..places.start + rows.end as u64),
            Places::List(places) => Places::List(places[rows.clone()].to_vec()),
        };
        let records = match &self.records {
            Some(records) => records[rows].to_vec(),
            None => (rows.start as u32..rows.end as u32).collect(),
        };
        Self { table: self.table, records: Some(records), places }
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        match &self.places {
            Places::Range(range) => (range.end - range.start) as usize,
            Places::List(list) => list.len(),
        }
    }

    /// Whether every record makes a row.
    pub(super) fn is_all(&self) -> bool {
        self.records.is_none()
    }

    /// The place of the first row; the others follow it. Only where all records make rows.
    pub(super) fn first(&self) -> u64 {
        match &self.places {
            Places::Range(range) => range.start,
            Places::List(list) => list.first().copied().unwrap_or_default(),
        }
    }
}

/// Chooses the records of a chunk that make rows of a table.
pub(crate) fn choose(run: &RunContext, reserved: &Reserved, table: u32, chunk: u32) -> Result<Chosen> {
    let layout = run.table(table);
    let block = &reserved.tables[table as usize];
    let numbering = run.numbering(table, block)?;
    let places = Places::Range(numbering.chunk(chunk));
    if !layout.is_keyed() {
        return Ok(Chosen { table, records: None, places });
    }
    let positions = run.positions(table)?.of_chunks(chunk..chunk + 1);
    let base = positions.start;
    if layout.on_conflict != OnConflict::Last {
        let records = numbering.firsts(positions).map(|position| position - base).collect();
        return Ok(Chosen { table, records: Some(records), places });
    }
    let mut rows: Vec<(u64, u32)> = Vec::new();
    run.each_last(table, positions, &block.segments, |last, first| {
        rows.push((numbering.place(first), last - base));
    })?;
    rows.sort_unstable();
    let records = rows.iter().map(|(_, record)| *record).collect();
    let places = Places::List(rows.into_iter().map(|(place, _)| place).collect());
    Ok(Chosen { table, records: Some(records), places })
}

/// Fetches what a chunk's rows are made of, where the source is far away, and begins with what those of the next ones
/// will be. Keys are there: the scan has read them.
pub(super) fn fetch(run: &RunContext, reserved: &Reserved, chunk: u32) -> Result<()> {
    if !run.is_far(chunk) {
        return Ok(());
    }
    for next in (chunk + 1..=chunk + CHUNKS_AHEAD).filter(|&next| run.is_far(next)) {
        run.fetch_ahead(next, to_fetch(run, reserved, next)?)?;
    }
    run.fetch(chunk, to_fetch(run, reserved, chunk)?)
}

fn to_fetch(run: &RunContext, reserved: &Reserved, chunk: u32) -> Result<Vec<Range<u64>>> {
    // Elsewhere the place of a record is not that of its row, and all row groups are read.
    let whole = run.scan_facts(chunk)?.records == u64::from(run.plan.chunks[chunk as usize].rows);
    let mut all = Vec::new();
    for table in (0..).take(run.layout.tables.len()) {
        let rows = choose(run, reserved, table, chunk)?;
        if rows.len() == 0 {
            continue;
        }
        let layout = run.table(table);
        if layout.list.is_some() {
            let inputs = run.layout.inputs(layout.list, own_columns(run, table));
            let columns: Vec<String> = inputs.into_iter().map(str::to_owned).collect();
            all.extend(run.to_fetch(chunk, &columns, |_| true)?);
            continue;
        }
        let some = rows.records.as_deref().filter(|records| whole && records.is_sorted());
        let wanted = |range: Range<u32>| {
            some.is_none_or(|records| {
                let first = records.partition_point(|&record| record < range.start);
                records.get(first).is_some_and(|&record| record < range.end)
            })
        };
        let columns: Vec<String> = own_columns(run, table).cloned().collect();
        all.extend(run.to_fetch(chunk, &columns, wanted)?);
    }
    Ok(all)
}

/// The record columns that a table's rows hold.
pub(super) fn row_columns(run: &RunContext, table: u32) -> impl Iterator<Item = &String> {
    run.table(table).key.iter().chain(own_columns(run, table))
}

/// Those of them that are not of the key.
fn own_columns(run: &RunContext, table: u32) -> impl Iterator<Item = &String> {
    let layout = run.table(table);
    layout.columns.iter().chain(layout.valid_from())
}

/// The error for a record, or an element, that does not say since when it holds.
pub(super) fn no_time(run: &RunContext, table: u32, chunk: u32, record: u32) -> Result<IngestError> {
    let layout = run.table(table);
    let column = layout.valid_from().map_or("", String::as_str);
    let place = run.place_of_thing(table, chunk, record)?;
    Ok(IngestError::input(format!(
        "{place}: '{column}' is null, so nobody knows since when this version of table '{}' holds",
        layout.name
    ))
    .help(format!("mend the record, or add a check that sets such records aside: `where: {column} IS NOT NULL`")))
}

/// Where rows go.
pub(super) trait Destination {
    /// The file that a table's rows go to at once, if they do.
    fn file(&mut self, table: u32) -> Result<Option<&mut Sink>>;

    /// Takes rows of a table.
    fn write(&mut self, table: u32, rows: &RecordBatch) -> Result<()>;
}

/// Builds the rows of the chosen tables of a chunk, and gives them to where they go.
pub(super) fn build(
    run: &RunContext,
    reserved: &Reserved,
    chunk: u32,
    scan: &ChunkScan,
    chosen: &[Chosen],
    ids: &BTreeMap<usize, Ids<'_>>,
    to: &mut impl Destination,
) -> Result<()> {
    // Rows that pages give are written before those of the next table are read: they need room.
    let mut later = Vec::new();
    let mut missing: Vec<String> = Vec::new();
    let (of_records, of_elements): (Vec<&Chosen>, Vec<&Chosen>) =
        chosen.iter().partition(|rows| run.table(rows.table).list.is_none());
    elements::build(run, reserved, chunk, scan, &of_elements, ids, to)?;
    for rows in of_records {
        let columns = gather_columns(run, reserved, chunk, scan, rows)?;
        let names = row_columns(run, rows.table).zip(&columns);
        let absent: Vec<&String> = names.filter(|(_, column)| column.is_none()).map(|(name, _)| name).collect();
        if absent.is_empty() {
            let columns: Vec<Gathered> = columns.into_iter().flatten().collect();
            // Of versions, there is more in a row than pages give.
            let as_groups = !run.table(rows.table).keeps_versions();
            let sink = to.file(rows.table)?.filter(|sink| as_groups && sink.takes_groups(rows.len()));
            if let Some(sink) = sink.filter(|_| run.plan.chunks[chunk as usize].groups == 1) {
                let numbers = numbers_in_groups(run, reserved, rows)?;
                write_groups(run, chunk, scan, (rows, numbers), columns, ids, sink)?;
                continue;
            }
            let values = columns.into_iter().map(Gathered::into_array).collect::<Result<_>>()?;
            let references = references(run, chunk, scan, rows, ids)?;
            to.write(rows.table, &assemble(run, reserved, chunk, rows, values, references)?)?;
            continue;
        }
        for name in absent {
            if !missing.contains(name) {
                missing.push(name.clone());
            }
        }
        later.push((rows, columns));
    }
    if later.is_empty() {
        return Ok(());
    }
    let records = run.read(chunk, &missing)?.without(&scan.quarantine)?.batch;
    for (rows, columns) in later {
        let picker = rows.records.as_ref().map(|records| UInt32Array::from(records.clone()));
        let mut values = Vec::with_capacity(columns.len());
        for (name, column) in row_columns(run, rows.table).zip(columns) {
            if let Some(column) = column {
                values.push(column.into_array()?);
                continue;
            }
            let column = records.column_by_name(name);
            let column = column.ok_or_else(|| IngestError::internal(format!("column '{name}' was not read")))?;
            values.push(match &picker {
                None => column.clone(),
                Some(records) => take(column, records, None).map_err(|e| IngestError::internal(e.to_string()))?,
            });
        }
        let references = references(run, chunk, scan, rows, ids)?;
        to.write(rows.table, &assemble(run, reserved, chunk, rows, values, references)?)?;
    }
    Ok(())
}

/// Writes rows as row groups of about the same size, column by column, the way their values were found.
fn write_groups(
    run: &RunContext,
    chunk: u32,
    scan: &ChunkScan,
    (rows, numbers): (&Chosen, Option<Vec<i64>>),
    columns: Vec<Gathered>,
    ids: &BTreeMap<usize, Ids<'_>>,
    sink: &mut Sink,
) -> Result<()> {
    let layout = run.table(rows.table);
    let referenced = referenced(run, chunk, scan, rows, ids)?;
    let in_texts = in_texts(run, rows.table, |at| columns[at].clone().into_array())?;
    let mut columns: Vec<Writable> = columns.into_iter().map(Writable::Picked).collect();
    let groups = rows.len().div_ceil(ROW_GROUP);
    for group in 0..groups {
        let range = rows.len() * group / groups..rows.len() * (group + 1) / groups;
        let mut made = Vec::with_capacity(layout.schema.fields().len());
        if let Some(id) = &layout.id {
            let ids = rows.places.ids(id, range.clone())?;
            let values: Vec<ArrayRef> = in_texts.iter().map(|values| values.slice(range.start, range.len())).collect();
            let numbers = numbers.as_ref().map(|numbers| numbers[range.clone()].to_vec());
            let texts = layout.texts.as_ref();
            let texts = texts.map(|texts| texts.of(numbers.as_ref().unwrap_or(&ids), &values)).transpose()?;
            for ids in [Some(ids), numbers].into_iter().flatten() {
                made.push(sink.encoded(made.len(), &IdValues { ids, present: None })?);
            }
            made.extend(texts.map(|texts| GroupColumn::Values(Arc::new(texts))));
        }
        let (keys, attributes) = columns.split_at_mut(layout.key.len());
        for column in keys {
            made.push(column.write(sink, made.len(), range.clone())?);
        }
        for (ids, handles) in &referenced {
            made.push(sink.encoded(made.len(), &ids.values(&handles[range.clone()]))?);
        }
        for column in attributes {
            made.push(column.write(sink, made.len(), range.clone())?);
        }
        sink.write_group(range.len() as u32, made)?;
    }
    Ok(())
}

/// The numbers of rows within their groups, if the table has any.
fn numbers_in_groups(run: &RunContext, reserved: &Reserved, rows: &Chosen) -> Result<Option<Vec<i64>>> {
    if run.table(rows.table).group.is_none() {
        return Ok(None);
    }
    let numbers = run.in_group(rows.table, reserved)?;
    Ok(Some(numbers.at((0..rows.len()).map(|row| rows.place(row)))))
}

/// The values that a table's text IDs have in them, of what `column` gives for a column of the rows, by its place.
fn in_texts(run: &RunContext, table: u32, column: impl Fn(usize) -> Result<ArrayRef>) -> Result<Vec<ArrayRef>> {
    let columns = run.table(table).texts.iter().flat_map(TextIds::columns);
    let value = |name: &String| {
        let at = row_columns(run, table).position(|column| column == name);
        column(at.ok_or_else(|| IngestError::internal(format!("column '{name}' is not in the rows")))?)
    };
    columns.map(value).collect()
}

/// A column on its way into row groups.
enum Writable {
    Picked(Gathered),
    /// It has to go through an array.
    Array(ArrayRef),
}

impl Writable {
    fn write(&mut self, sink: &Sink, field: usize, rows: Range<usize>) -> Result<GroupColumn> {
        if let Self::Picked(column) = self {
            let picked = column.parts.first().and_then(|part| sink.picked(field, part, rows.clone()));
            if let Some(made) = picked {
                return Ok(made);
            }
            let parts = std::mem::take(&mut column.parts);
            *self = Self::Array(Gathered { parts, data_type: column.data_type.clone() }.into_array()?);
        }
        match self {
            Self::Array(array) => Ok(GroupColumn::Values(array.slice(rows.start, rows.len()))),
            Self::Picked(_) => Err(IngestError::internal("a column is neither picked nor an array")),
        }
    }
}

/// For each table that rows refer to, its IDs and the handle of the key that each row has there.
fn referenced<'a>(
    run: &RunContext,
    chunk: u32,
    scan: &ChunkScan,
    rows: &Chosen,
    ids: &'a BTreeMap<usize, Ids<'a>>,
) -> Result<Vec<(&'a Ids<'a>, Vec<u32>)>> {
    let mut referenced = Vec::new();
    for &target in &run.table(rows.table).references {
        let ids = ids.get(&target).ok_or_else(|| IngestError::internal("the IDs of a reference are missing"))?;
        referenced.push((ids, handles(run, chunk, scan, target, rows.records.as_deref())?));
    }
    Ok(referenced)
}

/// The IDs that rows refer to, table by table.
pub(super) fn references(
    run: &RunContext,
    chunk: u32,
    scan: &ChunkScan,
    rows: &Chosen,
    ids: &BTreeMap<usize, Ids<'_>>,
) -> Result<Vec<Int64Array>> {
    let referenced = referenced(run, chunk, scan, rows, ids)?;
    Ok(referenced.into_iter().map(|(ids, handles)| ids.array(&handles)).collect())
}

pub(super) fn assemble(
    run: &RunContext,
    reserved: &Reserved,
    chunk: u32,
    rows: &Chosen,
    mut values: Vec<ArrayRef>,
    references: Vec<Int64Array>,
) -> Result<RecordBatch> {
    let layout = run.table(rows.table);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(layout.schema.fields().len());
    if let Some(id) = &layout.id {
        let ids = rows.places.ids(id, 0..rows.len())?;
        let numbers = numbers_in_groups(run, reserved, rows)?;
        let in_texts = in_texts(run, rows.table, |at| Ok(values[at].clone()))?;
        let texts = layout.texts.as_ref().map(|texts| texts.of(numbers.as_ref().unwrap_or(&ids), &in_texts));
        columns.push(Arc::new(Int64Array::from(ids)));
        columns.extend(numbers.map(|numbers| Arc::new(Int64Array::from(numbers)) as ArrayRef));
        if let Some(texts) = texts.transpose()? {
            columns.push(Arc::new(texts));
        }
    }
    let given = if layout.valid_from().is_some() { values.pop() } else { None };
    let mut values = values.into_iter();
    columns.extend(values.by_ref().take(layout.key.len()));
    columns.extend(references.into_iter().map(|ids| Arc::new(ids) as ArrayRef));
    columns.extend(values);
    if layout.keeps_versions() {
        columns.extend(first_version(run, reserved, chunk, rows, given)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(layout.schema.clone(), columns, &options)
        .map_err(|e| IngestError::internal(format!("table '{}': {e}", layout.name)))
}

/// The columns that tell versions apart, of things that are new; `given` is what their records say.
fn first_version(
    run: &RunContext,
    reserved: &Reserved,
    chunk: u32,
    rows: &Chosen,
    given: Option<ArrayRef>,
) -> Result<[ArrayRef; 3]> {
    if let Some(row) = given.as_ref().and_then(|given| (0..given.len()).find(|&row| given.is_null(row))) {
        let record = rows.records.as_ref().map_or(row as u32, |records| records[row]);
        return Err(no_time(run, rows.table, chunk, record)?);
    }
    let since = history::since(reserved, given, rows.len())?;
    let until = new_null_array(since.data_type(), rows.len());
    Ok([since, until, Arc::new(BooleanArray::from(vec![true; rows.len()]))])
}

/// The IDs at these places.
fn ids_at(id: &Id, places: &[u64]) -> Result<Vec<i64>> {
    let ids: Option<Vec<i64>> = places.iter().map(|&place| id_of(id, place)).collect();
    ids.ok_or_else(|| out_of_range(id))
}

/// The same of places that follow each other.
pub(super) fn ids_in(id: &Id, places: Range<u64>) -> Result<Vec<i64>> {
    let Some(last) = places.end.checked_sub(1).filter(|_| !places.is_empty()) else { return Ok(Vec::new()) };
    let (first, _) = id_of(id, places.start).zip(id_of(id, last)).ok_or_else(|| out_of_range(id))?;
    // Both ends are in range, so every ID between them is.
    Ok((0..places.end - places.start).map(|n| first.wrapping_add(id.step.wrapping_mul(n as i64))).collect())
}
