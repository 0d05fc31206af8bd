//! Key maps on disk: natural key -> ID, kept for ever, as Parquet files (*segments*) that any tool can read. A segment
//! holds the keys that one run or a merge brought, sorted by hash shard, then by ID. Segments are never changed, only
//! replaced by a merged one; which of them count is the sequence's word, never the folder's.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt64Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::error::{IngestError, Result};
use crate::files::sync_folder;
use crate::keys::{Keys, shard_of};
use crate::layout::TableLayout;
use crate::number::{id_of, ordinal_of};
use crate::source::contain;

/// From this many segments on, a run merges them into one: readers open few files, and a key is rewritten rarely.
pub(crate) const MERGE_SEGMENTS: usize = 8;

/// The file's key in the Parquet metadata under which the number of keys of each shard stands, comma-separated.
const SHARDS_KEY: &str = "seriatim.shards";
const ATTRIBUTES: &str = "_attributes";

/// The attributes' hash of a key that was kept while conflicts were no errors.
pub(crate) const UNKNOWN: u64 = 0;

/// The keys of one shard, in order of ID.
#[derive(Debug)]
pub(crate) struct ShardEntries {
    pub(crate) keys: Keys,
    /// Each key's place in its sequence, from 0.
    pub(crate) ordinals: Vec<u64>,
    /// Each key's attributes' hash, or [`UNKNOWN`].
    pub(crate) attributes: Vec<u64>,
}

impl ShardEntries {
    pub(crate) fn new(fixed: bool) -> Self {
        Self { keys: Keys::new(fixed), ordinals: Vec::new(), attributes: Vec::new() }
    }
}

/// Loads one shard, of `shards`, from `segments` in `folder`.
pub(crate) fn load_shard(
    folder: &Path,
    segments: &[String],
    table: &TableLayout,
    shard: u32,
    shards: u32,
) -> Result<ShardEntries> {
    let codec = table.codec.as_ref().ok_or_else(|| IngestError::internal("a table without key has no key map"))?;
    let mut entries = ShardEntries::new(codec.is_fixed());
    for segment in segments {
        let path = folder.join(segment);
        contain(|| load_segment(&path, table, shard, shards, &mut entries).map_err(|e| e.to_string())).map_err(
            |e| {
                IngestError::state(format!("the key map {} cannot be read: {e}", path.display()))
                    .help("the state folder is damaged: bring it back from a backup taken together with the output")
            },
        )?;
    }
    Ok(entries)
}

type Outcome<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn load_segment(path: &Path, table: &TableLayout, shard: u32, shards: u32, entries: &mut ShardEntries) -> Outcome<()> {
    let mut builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let sizes = shard_sizes(builder.metadata().file_metadata().key_value_metadata())?;
    let stored = sizes.len() as u32;
    // Shards are the top bits of the hash, so fewer, larger shards hold whole smaller ones, and the other way round.
    let (from, to) = if stored >= shards {
        let ratio = (stored / shards) as usize;
        (shard as usize * ratio, (shard as usize + 1) * ratio)
    } else {
        let parent = (shard / (shards / stored)) as usize;
        (parent, parent + 1)
    };
    let skip: usize = sizes[..from].iter().sum();
    let rows: usize = sizes[from..to].iter().sum();
    if rows == 0 {
        return Ok(());
    }
    builder = builder
        .with_row_selection(RowSelection::from(vec![RowSelector::skip(skip), RowSelector::select(rows)]))
        .with_batch_size(1 << 16);
    let codec = table.codec.as_ref().ok_or("no key")?;
    let id = table.id.as_ref().ok_or("no ID")?;
    let mut read = 0;
    for batch in builder.build()? {
        let batch = batch?;
        read += batch.num_rows();
        let columns: Vec<ArrayRef> = table
            .key
            .iter()
            .map(|k| batch.column_by_name(k).cloned().ok_or("a key column is missing"))
            .collect::<std::result::Result<_, _>>()?;
        let keys = codec.encode(&columns);
        let ids =
            batch.column_by_name(&id.column).ok_or("the ID column is missing")?.as_primitive::<Int64Type>().clone();
        let attributes = batch.column_by_name(ATTRIBUTES).map(|c| c.as_primitive::<UInt64Type>().clone());
        for row in 0..batch.num_rows() {
            let key = keys.get(row).ok_or("a key is null")?;
            if stored < shards && shard_of(key.hash(), shards) != shard {
                continue;
            }
            entries.keys.push(key);
            entries.ordinals.push(ordinal_of(id, ids.value(row)).ok_or("an ID is not of the sequence")?);
            entries.attributes.push(attributes.as_ref().map_or(UNKNOWN, |a| a.value(row)));
        }
    }
    if read != rows {
        return Err(format!("{read} keys were read where {rows} are declared").into());
    }
    Ok(())
}

fn shard_sizes(metadata: Option<&Vec<KeyValue>>) -> Outcome<Vec<usize>> {
    let pair = metadata.and_then(|m| m.iter().find(|kv| kv.key == SHARDS_KEY)).and_then(|kv| kv.value.as_ref());
    let sizes: Vec<usize> =
        pair.ok_or("it is not a key map")?.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
    if sizes.len().is_power_of_two() { Ok(sizes) } else { Err("its number of shards is not a power of two".into()) }
}

/// Writes a segment, shard by shard, and syncs it. Returns how many keys it has.
pub(crate) fn write_segment(
    path: &Path,
    table: &TableLayout,
    shards: u32,
    mut shard_entries: impl FnMut(u32) -> Result<ShardEntries>,
) -> Result<u64> {
    let failed =
        |e: &dyn std::fmt::Display| IngestError::io("write the key map", path, &std::io::Error::other(e.to_string()));
    let codec = table.codec.as_ref().ok_or_else(|| IngestError::internal("a table without key has no key map"))?;
    let id = table.id.as_ref().ok_or_else(|| IngestError::internal("a keyed table has an ID"))?;
    let compares = table.on_conflict == seriatim_pipeline::model::OnConflict::Error;
    let mut fields: Vec<Field> =
        table.schema.fields().iter().skip(1).take(table.key.len()).map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new(&id.column, DataType::Int64, false));
    if compares {
        fields.push(Field::new(ATTRIBUTES, DataType::UInt64, false));
    }
    let schema = Arc::new(Schema::new(fields));
    let level = ZstdLevel::try_new(1).map_err(|e| failed(&e))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let temporary = path.with_extension("tmp");
    let file = File::create(&temporary).map_err(|e| IngestError::io("create", &temporary, &e))?;
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(|e| failed(&e))?;
    let mut sizes = Vec::with_capacity(shards as usize);
    for shard in 0..shards {
        let entries = shard_entries(shard)?;
        sizes.push(entries.ordinals.len().to_string());
        if entries.ordinals.is_empty() {
            continue;
        }
        let mut columns = codec.decode(&entries.keys)?;
        let ids: Vec<i64> = entries
            .ordinals
            .iter()
            .map(|&o| id_of(id, o))
            .collect::<Option<_>>()
            .ok_or_else(|| IngestError::internal("an ID is out of range"))?;
        columns.push(Arc::new(Int64Array::from(ids)));
        if compares {
            columns.push(Arc::new(UInt64Array::from(entries.attributes)));
        }
        let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|e| IngestError::internal(e.to_string()))?;
        writer.write(&batch).map_err(|e| failed(&e))?;
        writer.flush().map_err(|e| failed(&e))?;
    }
    let rows: u64 = sizes.iter().filter_map(|s| s.parse::<u64>().ok()).sum();
    writer.append_key_value_metadata(KeyValue::new(SHARDS_KEY.to_owned(), sizes.join(",")));
    let file = writer.into_inner().map_err(|e| failed(&e))?;
    file.sync_all().map_err(|e| IngestError::io("sync", &temporary, &e))?;
    std::fs::rename(&temporary, path).map_err(|e| IngestError::io("rename", &temporary, &e))?;
    sync_folder(path)?;
    Ok(rows)
}
