//! Scan: the distinct keys of one chunk, merged into the run's key tables, and which records have none. Reads only the
//! columns that keys need: as pages where a key is one column of the source, through Arrow elsewhere. Must never know
//! what other chunks hold.

mod pages;

use std::collections::{BTreeSet, HashSet};

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter_record_batch, take};
use seriatim_pipeline::model::OnNullKey;

use crate::artifacts::{Artifact, Decoder, Encoder};
use crate::checks::{CheckFacts, Failed};
use crate::context::RunContext;
use crate::elements::{Kind, Things, first_in_each};
use crate::error::{IngestError, Result};
use crate::keys::{KeyCodec, KeyRef, KeyTable, NO_KEY, RowKeys, SortedKeys, row_hashes};
use crate::layout::{Layout, TableLayout};
use crate::plan::Chunk;
use crate::report::Place;

/// The scan of one chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChunkScan {
    /// Records of the tables: neither filtered nor in quarantine.
    pub(crate) records: u32,
    /// Rows that the transform dropped.
    pub(crate) filtered: u32,
    /// Rows for quarantine: the row in the chunk, and why: the table whose key it lacks, or beyond the tables the check that
    /// it fails.
    pub(crate) quarantine: Vec<(u32, u32)>,
    /// One for each check of the pipeline.
    pub(crate) failed: Vec<Failed>,
    /// One for each table, in the layout's order; empty for a table without key.
    pub(crate) tables: Vec<LocalTable>,
    /// How many elements each of the layout's lists has in these records.
    pub(crate) elements: Vec<u32>,
}

impl ChunkScan {
    /// How many things of a kind there are.
    pub(crate) fn count(&self, kind: Kind) -> u32 {
        kind.map_or(self.records, |list| self.elements[list])
    }
}

/// The keys of one table in one chunk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalTable {
    /// Consecutive records; of a table of elements, all elements.
    pub(crate) parts: Vec<Part>,
    /// How many of them have no key here.
    pub(crate) null_keys: u64,
}

/// The keys of consecutive records, as handles into the run's key table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// For each record its key, or `NO_KEY`.
    Rows(Vec<u32>),
    /// The records are the rows of one row group, whose key column is dictionary-encoded throughout: for each entry of
    /// the dictionary its key, or `NO_KEY` where no row uses it.
    Dictionary { rows: u32, nulls: u32, handles: Vec<u32> },
}

/// The records of a chunk that tables see, and where they come from.
pub(crate) struct ChunkRecords {
    pub(crate) batch: RecordBatch,
    kept: Option<BooleanArray>,
}

impl ChunkRecords {
    pub(crate) fn new(batch: RecordBatch, kept: Option<BooleanArray>) -> Self {
        Self { batch, kept }
    }

    fn filtered(&self) -> u32 {
        self.kept.as_ref().map_or(0, |kept| kept.len() - kept.true_count()) as u32
    }

    /// The row in the chunk of each record.
    pub(crate) fn source_rows(&self) -> Vec<u32> {
        match &self.kept {
            None => (0..self.batch.num_rows() as u32).collect(),
            Some(kept) => kept.values().set_indices().map(|row| row as u32).collect(),
        }
    }

    /// The same without the rows (of the chunk) that are in quarantine.
    pub(crate) fn without(self, quarantine: &[(u32, u32)]) -> Result<Self> {
        if quarantine.is_empty() {
            return Ok(self);
        }
        let bad: HashSet<u32> = quarantine.iter().map(|(row, _)| *row).collect();
        let rows = self.source_rows();
        let keep: BooleanBuffer = rows.iter().map(|row| !bad.contains(row)).collect();
        let batch = filter_record_batch(&self.batch, &BooleanArray::new(keep, None))
            .map_err(|e| IngestError::internal(e.to_string()))?;
        let before = self.kept.map_or_else(|| BooleanBuffer::new_set(rows.len()), |kept| kept.values().clone());
        let is_bad = |row: usize| bad.contains(&(row as u32));
        let kept = BooleanBuffer::collect_bool(before.len(), |row| before.value(row) && !is_bad(row));
        Ok(Self { batch, kept: Some(BooleanArray::new(kept, None)) })
    }
}

/// The columns that a scan needs.
pub(crate) fn scan_columns(layout: &Layout) -> Vec<String> {
    let mut columns = columns_of(layout, |_| true);
    columns.extend(layout.list_columns().map(str::to_owned));
    columns.extend(check_columns(layout));
    once(columns)
}

/// The columns that the pipeline's checks look at.
fn check_columns(layout: &Layout) -> Vec<String> {
    once(layout.checks.columns().cloned().collect())
}

fn once(mut columns: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    columns.retain(|c| seen.insert(c.clone()));
    columns
}

/// The columns that the scan of some tables needs.
fn columns_of(layout: &Layout, which: impl Fn(usize) -> bool) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for (_, table) in layout.tables.iter().enumerate().filter(|(index, _)| which(*index)) {
        columns.extend(layout.inputs(table.list, &table.key).into_iter().map(str::to_owned));
        if table.compares() {
            for (kind, column) in table.compared_columns(layout) {
                columns.extend(layout.inputs(kind, [column]).into_iter().map(str::to_owned));
            }
        }
    }
    once(columns)
}

/// Chunks whose columns are fetched while one is scanned or written, where the source is far away.
pub(crate) const CHUNKS_AHEAD: u32 = 3;

/// Fetches what the scan of a chunk reads, where that is far away, and begins with what the next ones will; whether it
/// was. What rows will surely be made of comes along: one request for a row group costs less than one for each column.
fn fetch(run: &RunContext, index: u32) -> Result<bool> {
    if !run.is_far(index) {
        return Ok(false);
    }
    let mut columns = scan_columns(&run.layout);
    let expected = run.layout.tables.iter().enumerate().filter(|(table, _)| run.expects_rows(*table));
    columns.extend(expected.flat_map(|(_, table)| run.layout.inputs(table.list, &table.columns)).map(str::to_owned));
    for next in index + 1..=index + CHUNKS_AHEAD {
        if run.is_far(next) {
            run.fetch_ahead(next, run.to_fetch(next, &columns, |_| true)?)?;
        }
    }
    run.fetch(index, run.to_fetch(index, &columns, |_| true)?)?;
    Ok(true)
}

/// Scans a chunk, and merges its keys into these tables.
pub(crate) fn scan(run: &RunContext, into: &[KeyTable], index: u32) -> Result<ChunkScan> {
    let handles = || into.iter().map(KeyTable::handles).collect::<Vec<_>>();
    let before = fetch(run, index)?.then(handles);
    let scan = scan_near(run, into, index)?;
    if let Some(before) = before {
        let grown = handles().into_iter().zip(before).map(|(now, before)| now > before);
        run.note_growth(grown);
    }
    Ok(scan)
}

fn scan_near(run: &RunContext, into: &[KeyTable], index: u32) -> Result<ChunkScan> {
    let chunk = &run.plan.chunks[index as usize];
    let layout = &run.layout;
    let all = |Whole { tables, failed, elements }| ChunkScan {
        records: chunk.rows,
        filtered: 0,
        quarantine: Vec::new(),
        failed,
        tables,
        elements,
    };
    let is_counted = layout.tables.iter().any(TableLayout::is_keyed) || !layout.lists.is_empty();
    if !run.records.filters_rows() && layout.checks.is_empty() && !is_counted {
        let tables = layout.tables.iter().map(|_| LocalTable::default()).collect();
        return Ok(all(Whole { tables, failed: Vec::new(), elements: Vec::new() }));
    }
    if let Some(whole) = without_quarantine(run, into, index)? {
        run.relieve_keys()?;
        return Ok(all(whole));
    }
    let records = run.read(index, &scan_columns(layout))?;
    let filtered = records.filtered();
    let Sorted { records, things, keys, quarantine, failed } = sort_out(run, chunk, records)?;
    let mut tables = Vec::with_capacity(keys.len());
    for (table, keys) in (0..).zip(&keys) {
        tables.push(match keys {
            Some(keys) => by_thing(run, into, index, table, keys, &things)?,
            None => LocalTable::default(),
        });
    }
    run.relieve_keys()?;
    let elements = things.counts()?;
    Ok(ChunkScan { records: records.batch.num_rows() as u32, filtered, quarantine, failed, tables, elements })
}

/// The records of a chunk that tables see.
struct Sorted<'a> {
    records: ChunkRecords,
    /// The same with the elements of their lists.
    things: Things<'a>,
    /// Their keys, for each table that has some.
    keys: Vec<Option<RowKeys>>,
    /// The others, as in [`ChunkScan`].
    quarantine: Vec<(u32, u32)>,
    failed: Vec<Failed>,
}

/// Takes the records out that go to quarantine: first those that fail a check, then those without a key.
fn sort_out<'a>(run: &'a RunContext, chunk: &Chunk, records: ChunkRecords) -> Result<Sorted<'a>> {
    let (mut quarantine, failed) = failed_checks(run, chunk, &records)?;
    let records = records.without(&quarantine)?;
    let things = Things::new(&run.layout, records.batch.clone())?;
    let keys = row_keys(&run.layout, &things)?;
    let keyless = null_keys(run, chunk, &records, &things, &keys)?;
    if keyless.is_empty() {
        return Ok(Sorted { records, things, keys, quarantine, failed });
    }
    let records = records.without(&keyless)?;
    let things = Things::new(&run.layout, records.batch.clone())?;
    let keys = row_keys(&run.layout, &things)?;
    quarantine.extend(keyless);
    quarantine.sort_unstable();
    Ok(Sorted { records, things, keys, quarantine, failed })
}

/// Rows for quarantine, as in [`ChunkScan`].
type Aside = Vec<(u32, u32)>;

/// The rows for quarantine by some check, and for each check how many records fail it.
fn failed_checks(run: &RunContext, chunk: &Chunk, records: &ChunkRecords) -> Result<(Aside, Vec<Failed>)> {
    let checks = &run.layout.checks;
    if checks.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let rows = records.source_rows();
    let failing = checks.evaluate(&records.batch, |record| run.place(chunk, rows[record]))?;
    let count = |of: &BooleanBuffer| {
        let first = of.set_indices().next().map_or(0, |record| rows[record]);
        Failed { count: of.count_set_bits() as u32, first }
    };
    let tables = run.layout.tables.len() as u32;
    let reasons =
        checks.first_reasons(&failing).into_iter().map(|(record, check)| (rows[record as usize], tables + check));
    Ok((reasons.collect(), failing.iter().map(count).collect()))
}

/// What is found in a chunk whose rows are all records.
struct Whole {
    tables: Vec<LocalTable>,
    failed: Vec<Failed>,
    elements: Vec<u32>,
}

/// The keys of a chunk whose rows are all records, and how they did in the checks: from pages where that can be. `None` if
/// it has to go the general way, because rows are filtered, or because some go to quarantine, or because a key is null
/// where it must not be, or because pages give none of them.
fn without_quarantine(run: &RunContext, into: &[KeyTable], index: u32) -> Result<Option<Whole>> {
    let layout = &run.layout;
    if run.records.filters_rows() || !run.pages_allowed(index) {
        return Ok(None);
    }
    let mut found: Vec<Option<LocalTable>> = layout.tables.iter().map(|_| None).collect();
    let mut paged = Vec::new();
    for (table, place) in layout.tables.iter().zip(&mut found) {
        if !table.is_keyed() {
            *place = Some(LocalTable::default());
        }
        paged.push(table.is_keyed() && table.list.is_none() && pages::is_possible(run, index, table)?);
    }
    if !paged.contains(&true) {
        return Ok(None);
    }
    let mut failed = Vec::new();
    if !layout.checks.is_empty() {
        let records = run.read(index, &check_columns(layout))?;
        let (bad, counted) = failed_checks(run, &run.plan.chunks[index as usize], &records)?;
        if !bad.is_empty() {
            return Ok(None);
        }
        failed = counted;
    }
    // No key may be merged of a record that goes to quarantine, so all of them are looked at before.
    let is_strict = |table: &TableLayout| table.on_null_key != OnNullKey::Null;
    for (table, _) in layout.tables.iter().zip(&paged).filter(|(table, paged)| **paged && is_strict(table)) {
        if pages::count_nulls(run, index, table)? != Some(0) {
            return Ok(None);
        }
    }
    let mut columns = columns_of(layout, |table| !paged[table]);
    columns.extend(layout.list_columns().map(str::to_owned));
    let mut elements = Vec::new();
    if !columns.is_empty() {
        let things = Things::new(layout, run.read(index, &once(columns))?.batch)?;
        elements = things.counts()?;
        let mut keys = Vec::new();
        for (table, layout) in layout.tables.iter().enumerate().filter(|(table, _)| !paged[*table]) {
            let Some(of_table) = table_keys(layout, &things)? else { continue };
            if is_strict(layout) && of_table.nulls() > 0 {
                return Ok(None);
            }
            keys.push((table, of_table));
        }
        for (table, keys) in keys {
            found[table] = Some(by_thing(run, into, index, table as u32, &keys, &things)?);
        }
    }
    for table in (0..paged.len()).filter(|&table| paged[table]) {
        found[table] = Some(if let Some(keys) = pages::merge_keys(run, &into[table], index, table as u32)? {
            keys
        } else {
            // Some page is of another kind. What was merged of it already is merged again, which changes nothing.
            let records = run.read(index, &columns_of(layout, |other| other == table))?.batch;
            let things = Things::new(layout, records)?;
            let keys = table_keys(&layout.tables[table], &things)?;
            let keys = keys.ok_or_else(|| IngestError::internal("a table with a key has none"))?;
            by_thing(run, into, index, table as u32, &keys, &things)?
        });
    }
    let scanned = |table: Option<LocalTable>| table.ok_or_else(|| IngestError::internal("a table was not scanned"));
    let tables = found.into_iter().map(scanned).collect::<Result<_>>()?;
    Ok(Some(Whole { tables, failed, elements }))
}

/// Merges the keys of a chunk's things: its records, or the elements of the table's list.
fn by_thing(
    run: &RunContext,
    into: &[KeyTable],
    index: u32,
    table: u32,
    keys: &RowKeys,
    things: &Things<'_>,
) -> Result<LocalTable> {
    let layout = run.table(table);
    let count = things.count(layout.list)?;
    let attributes = if layout.compares() { attribute_hashes(run, layout, things)? } else { Vec::new() };
    let base = run.scan_place(table, index, count)?;
    let records = (0..count as u32).filter_map(|record| keys.get(record as usize).map(|key| (key, record)));
    let sorted = if layout.codec.as_ref().is_some_and(KeyCodec::is_fixed) {
        SortedKeys::fixed(
            run.plan.shards,
            records.filter_map(|(key, record)| match key {
                KeyRef::Fixed(key) => Some((key, record, base + record)),
                KeyRef::Bytes(_) => None,
            }),
        )
    } else {
        SortedKeys::bytes(
            run.plan.shards,
            records.filter_map(|(key, record)| match key {
                KeyRef::Bytes(key) => Some((key, record, base + record)),
                KeyRef::Fixed(_) => None,
            }),
        )
    };
    let mut handles = vec![NO_KEY; count];
    into[table as usize].merge(&sorted, &attributes, index, &mut handles)?;
    Ok(LocalTable { parts: vec![Part::Rows(handles)], null_keys: keys.nulls() as u64 })
}

/// The hashes of what decides whether records agree, for each of a table's things.
fn attribute_hashes(run: &RunContext, table: &TableLayout, things: &Things<'_>) -> Result<Vec<u64>> {
    let mut columns = Vec::new();
    for (kind, name) in table.compared_columns(&run.layout) {
        let column = things.column(kind, name, None)?;
        if kind == table.list {
            columns.push(column);
            continue;
        }
        let within = UInt32Array::from(things.within(table.list, kind, None)?);
        columns.push(take(&column, &within, None).map_err(|e| IngestError::internal(e.to_string()))?);
    }
    Ok(row_hashes(&columns, things.count(table.list)?))
}

fn row_keys(layout: &Layout, things: &Things<'_>) -> Result<Vec<Option<RowKeys>>> {
    layout.tables.iter().map(|table| table_keys(table, things)).collect()
}

fn table_keys(table: &TableLayout, things: &Things<'_>) -> Result<Option<RowKeys>> {
    table.codec.as_ref().map(|codec| Ok(codec.encode(&things.columns(table.list, &table.key)?))).transpose()
}

/// A table that is strict about null keys.
struct Strict<'a> {
    index: u32,
    table: &'a TableLayout,
    keys: &'a RowKeys,
    /// Of a table of elements, for each record the first element without a key.
    first: Option<Vec<u32>>,
}

impl<'a> Strict<'a> {
    /// All tables that are.
    fn all(layout: &'a Layout, things: &Things<'_>, keys: &'a [Option<RowKeys>]) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for (index, (table, keys)) in (0..).zip(layout.tables.iter().zip(keys)) {
            let Some(keys) = keys.as_ref().filter(|_| table.on_null_key != OnNullKey::Null) else { continue };
            let first = if table.list.is_some() {
                let within = things.within(table.list, None, None)?;
                let keyless = (0..).zip(within).filter(|(element, _)| keys.get(*element as usize).is_none());
                Some(first_in_each(things.count(None)?, keyless))
            } else {
                None
            };
            all.push(Self { index, table, keys, first });
        }
        Ok(all)
    }

    /// Whether a record lacks a key here: it, or an element of it.
    fn lacks(&self, record: usize) -> bool {
        match &self.first {
            None => self.keys.get(record).is_none(),
            Some(first) => first[record] != u32::MAX,
        }
    }

    /// What is wrong with a record that does.
    fn reason(&self, things: &Things<'_>, record: usize) -> Result<String> {
        let element = self.first.as_ref().map(|first| first[record]);
        let place = self.table.list.zip(element).map(|(list, element)| things.place(list, element)).transpose()?;
        Ok(null_key(self.table, place.as_deref()))
    }
}

/// What is wrong with a record without a key; `place`: with which element of it.
fn null_key(table: &TableLayout, place: Option<&str>) -> String {
    let at = place.map_or_else(String::new, |place| format!(" in {place}"));
    format!("the key of table '{}' ({}) is null{at}", table.name, table.key.join(", "))
}

/// The rows for quarantine; an error if a null key is one.
fn null_keys(
    run: &RunContext,
    chunk: &Chunk,
    records: &ChunkRecords,
    things: &Things<'_>,
    keys: &[Option<RowKeys>],
) -> Result<Vec<(u32, u32)>> {
    let strict = Strict::all(&run.layout, things, keys)?;
    if strict.is_empty() {
        return Ok(Vec::new());
    }
    let mut quarantine = Vec::new();
    for (record, row) in records.source_rows().into_iter().enumerate() {
        let Some(lacking) = strict.iter().find(|strict| strict.lacks(record)) else { continue };
        if lacking.table.on_null_key == OnNullKey::Quarantine {
            quarantine.push((row, lacking.index));
            continue;
        }
        let place = run.place(chunk, row);
        return Err(IngestError::input(format!("{place}: {}", lacking.reason(things, record)?)).help(
            "mend the record, or set `on_null_key: quarantine` (the record is set aside) or `null` (no reference)",
        ));
    }
    Ok(quarantine)
}

/// Why records of a chunk are in quarantine, where that is a null key: the rows in the chunk, each with the index of the
/// table. Reads again what tables of elements have there.
pub(crate) fn null_key_reasons(run: &RunContext, chunk: u32, rows: &[(u32, u32)]) -> Result<Vec<String>> {
    let layout = &run.layout;
    if rows.iter().all(|(_, table)| run.table(*table).list.is_none()) {
        return Ok(rows.iter().map(|(_, table)| null_key(run.table(*table), None)).collect());
    }
    let records = run.read(chunk, &scan_columns(layout))?;
    let places = records.source_rows();
    let things = Things::new(layout, records.batch)?;
    let keys = row_keys(layout, &things)?;
    let strict = Strict::all(layout, &things, &keys)?;
    let reason = |(row, table): &(u32, u32)| {
        let found = strict.iter().find(|strict| strict.index == *table).zip(places.binary_search(row).ok());
        let (strict, record) = found.ok_or_else(|| IngestError::internal("a record in quarantine is none"))?;
        strict.reason(&things, record)
    };
    rows.iter().map(reason).collect()
}

impl RunContext {
    /// Adds what a chunk's scan has counted.
    pub(crate) fn add_failed(&self, sums: &mut [CheckFacts], chunk: u32, failed: &[Failed]) {
        let chunk = &self.plan.chunks[chunk as usize];
        let file = &self.plan.files[chunk.file as usize].name;
        for (sum, failed) in sums.iter_mut().zip(failed) {
            if failed.count > 0 && sum.first.is_none() {
                let row = chunk.first_row + u64::from(failed.first);
                sum.first = Some(Place { file: file.clone(), row });
            }
            sum.failed += u64::from(failed.count);
        }
    }

    /// Where a thing of a table in a chunk is, for people. Reads the chunk again: only messages need it.
    pub(crate) fn place_of_thing(&self, table: u32, chunk: u32, thing: u32) -> Result<String> {
        let planned = &self.plan.chunks[chunk as usize];
        let records = self.read(chunk, &scan_columns(&self.layout))?;
        let Sorted { records, things, .. } = sort_out(self, planned, records)?;
        let list = self.table(table).list;
        let record =
            if list.is_some() { things.within(list, None, Some(&[thing]))?.first().copied() } else { Some(thing) };
        let row = record.and_then(|record| records.source_rows().get(record as usize).copied()).unwrap_or_default();
        let place = self.place(planned, row);
        Ok(match list {
            None => place,
            Some(list) => format!("{place}, {}", things.place(list, thing)?),
        })
    }
}

/// The records of a chunk, or their elements, each with its key and the hash of its attributes.
pub(crate) struct Compared {
    keys: RowKeys,
    attributes: Vec<u64>,
}

impl Compared {
    /// The things of a chunk, as they are compared. Reads the chunk again: only messages need it.
    pub(crate) fn new(run: &RunContext, table: u32, index: u32) -> Result<Self> {
        let layout = run.table(table);
        let records = run.read(index, &scan_columns(&run.layout))?;
        let things = sort_out(run, &run.plan.chunks[index as usize], records)?.things;
        let keys = table_keys(layout, &things)?;
        let keys = keys.ok_or_else(|| IngestError::internal("a table without key is not compared"))?;
        Ok(Self { keys, attributes: attribute_hashes(run, layout, &things)? })
    }

    /// The first one with this key and other attributes.
    pub(crate) fn find_other(&self, key: crate::keys::KeyRef<'_>, attributes: u64) -> Option<u32> {
        let other = |&record: &usize| self.keys.get(record) == Some(key) && self.attributes[record] != attributes;
        (0..self.attributes.len()).find(other).map(|record| record as u32)
    }
}

impl Artifact for ChunkScan {
    fn bytes(&self) -> u64 {
        let handles = self.tables.iter().flat_map(|table| &table.parts).map(|part| match part {
            Part::Rows(handles) | Part::Dictionary { handles, .. } => handles.capacity() * 4,
        });
        let others = (self.quarantine.capacity() + self.failed.capacity()) * 8 + self.elements.capacity() * 4;
        (handles.sum::<usize>() + others) as u64
    }

    fn encode(&self, out: &mut Encoder) {
        out.u64(self.records.into());
        out.u64(self.filtered.into());
        out.u32s(&self.quarantine.iter().flat_map(|&(row, table)| [row, table]).collect::<Vec<_>>());
        out.u32s(&self.failed.iter().flat_map(|failed| [failed.count, failed.first]).collect::<Vec<_>>());
        out.u32s(&self.elements);
        out.u64(self.tables.len() as u64);
        for table in &self.tables {
            out.u64(table.null_keys);
            out.u64(table.parts.len() as u64);
            for part in &table.parts {
                match part {
                    Part::Rows(handles) => {
                        out.u64(0);
                        out.u32s(handles);
                    }
                    Part::Dictionary { rows, nulls, handles } => {
                        out.u64(1);
                        out.u32s(&[*rows, *nulls]);
                        out.u32s(handles);
                    }
                }
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        let (records, filtered) = (from.u64()? as u32, from.u64()? as u32);
        let quarantine = from.u32s()?.as_chunks::<2>().0.iter().map(|&[row, table]| (row, table)).collect();
        let failed = from.u32s()?.as_chunks::<2>().0.iter().map(|&[count, first]| Failed { count, first }).collect();
        let elements = from.u32s()?;
        let mut tables = Vec::new();
        for _ in 0..from.u64()? {
            let null_keys = from.u64()?;
            let mut parts = Vec::new();
            for _ in 0..from.u64()? {
                parts.push(if from.u64()? == 0 {
                    Part::Rows(from.u32s()?)
                } else {
                    let [rows, nulls] = <[u32; 2]>::try_from(from.u32s()?).ok()?;
                    Part::Dictionary { rows, nulls, handles: from.u32s()? }
                });
            }
            tables.push(LocalTable { parts, null_keys });
        }
        Some(Self { records, filtered, quarantine, failed, tables, elements })
    }
}
