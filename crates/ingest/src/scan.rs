//! Scan: the distinct keys of one chunk, per table, in order of first appearance, and which records have none. Reads
//! only the columns that keys need. Must never know what other chunks hold.

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use seriatim_pipeline::model::{OnConflict, OnNullKey};

use crate::artifacts::{Artifact, Decoder, Encoder};
use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::keys::{Interner, Keys, RowKeys, row_hashes, shard_of};
use crate::layout::{Layout, TableLayout};
use crate::plan::Chunk;

/// Stands in `rows` for a record whose key is null.
pub(crate) const NO_KEY: u32 = u32::MAX;

/// The scan of one chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChunkScan {
    /// Records of the tables: neither filtered nor in quarantine.
    pub(crate) records: u32,
    /// Rows that the transform dropped.
    pub(crate) filtered: u32,
    /// Rows for quarantine: the row in the chunk, and the table whose key it lacks.
    pub(crate) quarantine: Vec<(u32, u32)>,
    /// One for each table, in the layout's order; empty for a table without key.
    pub(crate) tables: Vec<LocalTable>,
}

/// The distinct keys of one table in one chunk. A key's *local* number is its position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LocalTable {
    pub(crate) keys: Keys,
    pub(crate) hashes: Vec<u64>,
    /// For each record the local number of its key, or `NO_KEY`.
    pub(crate) rows: Vec<u32>,
    /// For each key the record where it appears first, and last.
    pub(crate) first: Vec<u32>,
    pub(crate) last: Vec<u32>,
    /// For each key the hash of its attributes; empty unless conflicts are errors.
    pub(crate) attributes: Vec<u64>,
    /// Local numbers by shard, ascending within each, and where each shard ends.
    pub(crate) by_shard: Vec<u32>,
    pub(crate) shard_ends: Vec<u32>,
}

impl LocalTable {
    fn empty() -> Self {
        Self {
            keys: Keys::new(true),
            hashes: Vec::new(),
            rows: Vec::new(),
            first: Vec::new(),
            last: Vec::new(),
            attributes: Vec::new(),
            by_shard: Vec::new(),
            shard_ends: Vec::new(),
        }
    }

    /// The local numbers of a shard's keys.
    pub(crate) fn shard(&self, shard: u32) -> &[u32] {
        let from = if shard == 0 { 0 } else { self.shard_ends[shard as usize - 1] };
        &self.by_shard[from as usize..self.shard_ends[shard as usize] as usize]
    }

    /// How many records have no key here.
    pub(crate) fn null_keys(&self) -> u64 {
        self.rows.iter().filter(|&&local| local == NO_KEY).count() as u64
    }
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
    fn source_rows(&self) -> Vec<u32> {
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
        let bad: std::collections::HashSet<u32> = quarantine.iter().map(|(row, _)| *row).collect();
        let keep: BooleanBuffer = self.source_rows().iter().map(|row| !bad.contains(row)).collect();
        let batch = filter_record_batch(&self.batch, &BooleanArray::new(keep, None))
            .map_err(|e| IngestError::internal(e.to_string()))?;
        Ok(Self { batch, kept: None })
    }
}

/// The columns that a scan needs.
pub(crate) fn scan_columns(layout: &Layout) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for table in &layout.tables {
        columns.extend(table.key.iter().cloned());
        if compares(table) {
            columns.extend(table.compared_columns(layout));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    columns.retain(|c| seen.insert(c.clone()));
    columns
}

fn compares(table: &TableLayout) -> bool {
    table.is_keyed() && table.on_conflict == OnConflict::Error
}

/// Scans a chunk.
pub(crate) fn scan(run: &RunContext, index: u32) -> Result<ChunkScan> {
    let chunk = &run.plan.chunks[index as usize];
    let layout = &run.layout;
    let keyed = layout.tables.iter().any(TableLayout::is_keyed);
    if !keyed && !run.records.filters_rows() {
        let tables = layout.tables.iter().map(|_| LocalTable::empty()).collect();
        return Ok(ChunkScan { records: chunk.rows, filtered: 0, quarantine: Vec::new(), tables });
    }
    let records = run.read(index, &scan_columns(layout))?;
    let filtered = records.filtered();
    let mut keys = row_keys(layout, &records.batch)?;
    let quarantine = null_keys(run, chunk, &records, &keys)?;
    let records = if quarantine.is_empty() {
        records
    } else {
        let rest = records.without(&quarantine)?;
        keys = row_keys(layout, &rest.batch)?;
        rest
    };
    let mut tables = Vec::with_capacity(layout.tables.len());
    for (table, keys) in layout.tables.iter().zip(&keys) {
        tables.push(match (keys, &table.codec) {
            (Some(keys), Some(codec)) => {
                let mut local = intern(keys, codec.is_fixed(), records.batch.num_rows(), run.plan.shards);
                if compares(table) {
                    let columns = columns(&records.batch, &table.compared_columns(layout))?;
                    local.attributes = agreeing_attributes(run, table, chunk, &local, &columns)?;
                }
                local
            }
            _ => LocalTable::empty(),
        });
    }
    Ok(ChunkScan { records: records.batch.num_rows() as u32, filtered, quarantine, tables })
}

fn columns(batch: &RecordBatch, names: &[String]) -> Result<Vec<ArrayRef>> {
    let column = |name: &String| batch.column_by_name(name).cloned();
    names
        .iter()
        .map(|name| column(name).ok_or_else(|| IngestError::internal(format!("column '{name}' was not read"))))
        .collect()
}

fn row_keys(layout: &Layout, batch: &RecordBatch) -> Result<Vec<Option<RowKeys>>> {
    let encode = |table: &TableLayout| {
        table.codec.as_ref().map(|codec| Ok(codec.encode(&columns(batch, &table.key)?))).transpose()
    };
    layout.tables.iter().map(encode).collect()
}

/// The rows for quarantine; an error if a null key is one.
fn null_keys(
    run: &RunContext,
    chunk: &Chunk,
    records: &ChunkRecords,
    keys: &[Option<RowKeys>],
) -> Result<Vec<(u32, u32)>> {
    let strict: Vec<(u32, &TableLayout, &RowKeys)> = (0..)
        .zip(run.layout.tables.iter().zip(keys))
        .filter(|(_, (table, _))| table.on_null_key != OnNullKey::Null)
        .filter_map(|(index, (table, keys))| keys.as_ref().map(|keys| (index, table, keys)))
        .collect();
    if strict.is_empty() {
        return Ok(Vec::new());
    }
    let mut quarantine = Vec::new();
    for (record, row) in records.source_rows().into_iter().enumerate() {
        for (index, table, keys) in &strict {
            if keys.get(record).is_some() {
                continue;
            }
            if table.on_null_key == OnNullKey::Quarantine {
                quarantine.push((row, *index));
                break;
            }
            let place = run.place(chunk, row);
            return Err(IngestError::input(format!(
                "{place}: the key of table '{}' ({}) is null",
                table.name,
                table.key.join(", ")
            ))
            .help(
                "mend the record, or set `on_null_key: quarantine` (the record is set aside) or `null` (no reference)",
            ));
        }
    }
    Ok(quarantine)
}

fn intern(keys: &RowKeys, fixed: bool, records: usize, shards: u32) -> LocalTable {
    let mut interner = Interner::new(fixed);
    let mut rows = Vec::with_capacity(records);
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for record in 0..records {
        let Some(key) = keys.get(record) else {
            rows.push(NO_KEY);
            continue;
        };
        let (local, new) = interner.intern(key);
        if new {
            first.push(record as u32);
            last.push(record as u32);
        } else {
            last[local as usize] = record as u32;
        }
        rows.push(local);
    }
    let (keys, hashes) = interner.into_parts();
    let (by_shard, shard_ends) = sort_by_shard(&hashes, shards);
    LocalTable { keys, hashes, rows, first, last, attributes: Vec::new(), by_shard, shard_ends }
}

/// A stable counting sort: within a shard the local numbers ascend, so that resolving keeps the order of appearance.
fn sort_by_shard(hashes: &[u64], shards: u32) -> (Vec<u32>, Vec<u32>) {
    let mut counts = vec![0_u32; shards as usize];
    for &hash in hashes {
        counts[shard_of(hash, shards) as usize] += 1;
    }
    let mut next = Vec::with_capacity(counts.len());
    let mut sum = 0;
    for count in &counts {
        next.push(sum);
        sum += count;
    }
    let mut by_shard = vec![0; hashes.len()];
    for (local, &hash) in hashes.iter().enumerate() {
        let slot = &mut next[shard_of(hash, shards) as usize];
        by_shard[*slot as usize] = local as u32;
        *slot += 1;
    }
    (by_shard, next)
}

/// The attributes' hash of each key; an error where two records of a key differ.
fn agreeing_attributes(
    run: &RunContext,
    table: &TableLayout,
    chunk: &Chunk,
    local: &LocalTable,
    columns: &[ArrayRef],
) -> Result<Vec<u64>> {
    let hashes = row_hashes(columns, local.rows.len());
    let attributes: Vec<u64> = local.first.iter().map(|&record| hashes[record as usize]).collect();
    for (record, &key) in local.rows.iter().enumerate() {
        if key != NO_KEY && hashes[record] != attributes[key as usize] {
            let rows = run.record_rows(chunk, &[local.first[key as usize], record as u32])?;
            return Err(run.conflict(
                table,
                local.keys.get(key as usize),
                &run.place(chunk, rows[0]),
                &run.place(chunk, rows[1]),
            ));
        }
    }
    Ok(attributes)
}

impl RunContext {
    /// The rows in the chunk of these records. Reads the chunk again: only messages need it.
    pub(crate) fn record_rows(&self, chunk: &Chunk, records: &[u32]) -> Result<Vec<u32>> {
        let index = self.plan.chunks.iter().position(|c| c == chunk).unwrap_or_default() as u32;
        let all = self.read(index, &scan_columns(&self.layout))?;
        let keys = row_keys(&self.layout, &all.batch)?;
        let bad: std::collections::HashSet<u32> =
            null_keys(self, chunk, &all, &keys)?.into_iter().map(|(row, _)| row).collect();
        let rows: Vec<u32> = all.source_rows().into_iter().filter(|row| !bad.contains(row)).collect();
        Ok(records.iter().map(|&record| rows.get(record as usize).copied().unwrap_or_default()).collect())
    }
}

impl Artifact for ChunkScan {
    fn bytes(&self) -> u64 {
        let tables = self.tables.iter().map(|t| {
            t.keys.bytes()
                + (t.hashes.capacity() + t.attributes.capacity()) * 8
                + (t.rows.capacity() + t.first.capacity() + t.last.capacity() + t.by_shard.capacity()) * 4
        });
        (tables.sum::<usize>() + self.quarantine.capacity() * 8) as u64
    }

    fn encode(&self, out: &mut Encoder) {
        out.u64(self.records.into());
        out.u64(self.filtered.into());
        out.u32s(&self.quarantine.iter().flat_map(|&(row, table)| [row, table]).collect::<Vec<_>>());
        out.u64(self.tables.len() as u64);
        for table in &self.tables {
            match &table.keys {
                Keys::Fixed(values) => {
                    out.u64(0);
                    out.u64s(values);
                }
                Keys::Bytes { ends, data } => {
                    out.u64(1);
                    out.u64s(ends);
                    out.bytes(data);
                }
            }
            out.u64s(&table.hashes);
            out.u64s(&table.attributes);
            for list in [&table.rows, &table.first, &table.last, &table.by_shard, &table.shard_ends] {
                out.u32s(list);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        let (records, filtered) = (from.u64()? as u32, from.u64()? as u32);
        let quarantine = from.u32s()?.as_chunks::<2>().0.iter().map(|&[row, table]| (row, table)).collect();
        let mut tables = Vec::new();
        for _ in 0..from.u64()? {
            let keys = match from.u64()? {
                0 => Keys::Fixed(from.u64s()?),
                _ => Keys::Bytes { ends: from.u64s()?, data: from.bytes()? },
            };
            tables.push(LocalTable {
                keys,
                hashes: from.u64s()?,
                attributes: from.u64s()?,
                rows: from.u32s()?,
                first: from.u32s()?,
                last: from.u32s()?,
                by_shard: from.u32s()?,
                shard_ends: from.u32s()?,
            });
        }
        Some(Self { records, filtered, quarantine, tables })
    }
}
