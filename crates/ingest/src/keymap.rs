//! Key maps on disk: natural key -> ID, kept for ever, as Parquet files (*segments*) that any tool can read. A segment
//! holds the keys that one run or a merge brought, sorted by *leaf* (the top bits of the key's hash, a few thousand keys
//! each), then by ID, so that a run reads only the leaves that its own keys can be in. Segments are never changed, only
//! replaced by a merged one; which of them count is the sequence's word, never the folder's.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt64Type};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, Encoding, Type};
use parquet::file::metadata::{FileMetaData, KeyValue, PageIndexPolicy};
use parquet::file::properties::WriterProperties;

use crate::error::{IngestError, Result};
use crate::files::{create_aside, sync_folder};
use crate::keys::{KeyRef, Keys, hash_fixed, shard_of};
use crate::layout::TableLayout;
use crate::number::{id_of, ordinal_of};
use crate::source::contain;
use crate::write::failed;

/// From this many segments on, a run merges them into one: readers open few files, and a key is rewritten rarely.
pub(crate) const MERGE_SEGMENTS: usize = 8;

/// The file's key in the Parquet metadata under which the number of keys of each leaf stands, comma-separated.
const LEAVES_KEY: &str = "seriatim.shards";
/// The same for the sum of each leaf's entries, in hexadecimal. The Parquet writer keeps no checksums, and a bit that
/// turns in a key makes another key of it, whose thing would get a second ID.
const SUMS_KEY: &str = "seriatim.sums";
const ATTRIBUTES: &str = "_attributes";
/// Keys of a leaf, about: what is read at least to look one up.
const LEAF_KEYS: u64 = 4096;
const MOST_LEAVES: u64 = 65_536;
/// Keys that are sorted and written at once, about: few enough to be near.
const BATCH_KEYS: u64 = 1 << 15;

/// The attributes' hash of a key that was kept while conflicts were no errors.
pub(crate) const UNKNOWN: u64 = 0;

/// Keys with their places, to be written.
#[derive(Debug)]
pub(crate) struct Entries {
    pub(crate) keys: Keys,
    /// Each key's place in its sequence, from 0.
    pub(crate) places: Vec<u64>,
    /// Each key's attributes' hash, or [`UNKNOWN`].
    pub(crate) attributes: Vec<u64>,
}

impl Entries {
    /// None yet; there will be about so many.
    pub(crate) fn new(fixed: bool, count: usize) -> Self {
        let (places, attributes) = (Vec::with_capacity(count), Vec::with_capacity(count));
        Self { keys: Keys::with_capacity(fixed, count), places, attributes }
    }

    pub(crate) fn push(&mut self, key: KeyRef<'_>, place: u64, attributes: u64) {
        self.keys.push(key);
        self.places.push(place);
        self.attributes.push(attributes);
    }

    /// The same in order of leaf, then of place; also how many keys each leaf of those from `first` on has.
    fn sorted(&self, fixed: bool, leaves: u32, first: u32, sizes: &mut [usize]) -> Self {
        let leaf = |index: usize| shard_of(self.keys.get(index).hash(), leaves);
        // Leaf, place, index, from the top: one number is sorted faster than three.
        let packed = |(index, &place): (usize, &u64)| {
            u128::from(leaf(index)) << 96 | u128::from(place) << 32 | u128::from(index as u32)
        };
        let mut order: Vec<u128> = self.places.iter().enumerate().map(packed).collect();
        order.sort_unstable();
        let mut sorted = Self::new(fixed, order.len());
        for packed in order {
            let (leaf, place, index) = ((packed >> 96) as u32, (packed >> 32) as u64, packed as u32 as usize);
            sizes[(leaf - first) as usize] += 1;
            sorted.push(self.keys.get(index), place, self.attributes[index]);
        }
        sorted
    }
}

/// The keys of a segment in the order in which it has them: by leaf, then by place.
pub(crate) trait InOrder {
    /// The next ones; `None` at the end.
    fn next(&mut self) -> Result<Option<Entries>>;

    /// How many keys each leaf has: there are as many leaves from the beginning, and the figures stand at the end.
    fn sizes(&self) -> &[usize];
}

/// Keys in any order, sorted some leaves at a time.
pub(crate) struct Sorting<F> {
    fixed: bool,
    batches: u32,
    next: u32,
    sizes: Vec<usize>,
    entries: F,
}

impl<F: FnMut(u32, u32) -> Result<Entries>> Sorting<F> {
    /// About `count` keys; `entries` gives those whose hashes are in a batch of so many.
    pub(crate) fn new(fixed: bool, count: u64, entries: F) -> Self {
        let leaves = leaves(count);
        let batches = count.div_ceil(BATCH_KEYS).max(1).next_power_of_two().min(leaves.into()) as u32;
        Self { fixed, batches, next: 0, sizes: vec![0; leaves as usize], entries }
    }
}

impl<F: FnMut(u32, u32) -> Result<Entries>> InOrder for Sorting<F> {
    fn next(&mut self) -> Result<Option<Entries>> {
        if self.next == self.batches {
            return Ok(None);
        }
        let leaves = self.sizes.len() as u32;
        let first = self.next * (leaves / self.batches);
        let entries = (self.entries)(self.next, self.batches)?;
        self.next += 1;
        Ok(Some(entries.sorted(self.fixed, leaves, first, &mut self.sizes[first as usize..])))
    }

    fn sizes(&self) -> &[usize] {
        &self.sizes
    }
}

/// New keys that are numbers, which are in the order of their places: within a leaf they stay so, and putting them into
/// leaves takes no more than counting.
pub(crate) struct Counting<'a> {
    keys: &'a [u64],
    /// The place of the first one.
    first: u64,
    /// Which key comes where.
    order: Vec<u32>,
    sizes: Vec<usize>,
    at: usize,
}

impl<'a> Counting<'a> {
    /// Keys in the order of their places, from `first` on; they are fewer than the records of a run.
    pub(crate) fn new(keys: &'a [u64], first: u64) -> Self {
        let leaves = leaves(keys.len() as u64);
        let mut sizes = vec![0; leaves as usize];
        for &key in keys {
            sizes[shard_of(hash_fixed(key), leaves) as usize] += 1;
        }
        let starts = sizes.iter().scan(0, |sum, size| Some(std::mem::replace(sum, *sum + size)));
        let mut next: Vec<usize> = starts.collect();
        let mut order = vec![0; keys.len()];
        for (index, &key) in (0..).zip(keys) {
            let next = &mut next[shard_of(hash_fixed(key), leaves) as usize];
            order[*next] = index;
            *next += 1;
        }
        Self { keys, first, order, sizes, at: 0 }
    }
}

impl InOrder for Counting<'_> {
    fn next(&mut self) -> Result<Option<Entries>> {
        if self.at == self.order.len() {
            return Ok(None);
        }
        let to = self.order.len().min(self.at + BATCH_KEYS as usize);
        let order = &self.order[self.at..to];
        self.at = to;
        let keys = Keys::Fixed(order.iter().map(|&index| self.keys[index as usize]).collect());
        let places = order.iter().map(|&index| self.first + u64::from(index)).collect();
        Ok(Some(Entries { keys, places, attributes: vec![UNKNOWN; order.len()] }))
    }

    fn sizes(&self) -> &[usize] {
        &self.sizes
    }
}

/// A key of the key map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeptKey<'a> {
    pub(crate) key: KeyRef<'a>,
    pub(crate) hash: u64,
    /// Its place in the sequence, from 0.
    pub(crate) place: u64,
    pub(crate) attributes: u64,
}

/// Which parts of a key map are looked into: the top 16 bits of hashes.
#[derive(Debug)]
pub(crate) struct Prefixes(Vec<u64>);

impl Prefixes {
    /// All of it.
    pub(crate) fn all() -> Self {
        Self(vec![u64::MAX; 1024])
    }

    fn has(&self, leaf: u32, leaves: u32) -> bool {
        let width = (MOST_LEAVES as u32 / leaves).max(1);
        let leaf = if leaves > MOST_LEAVES as u32 { leaf / (leaves / MOST_LEAVES as u32) } else { leaf };
        let (from, to) = (leaf * width, (leaf + 1) * width);
        (from..to).any(|prefix| self.0[prefix as usize / 64] >> (prefix % 64) & 1 == 1)
    }
}

impl FromIterator<u64> for Prefixes {
    fn from_iter<I: IntoIterator<Item = u64>>(hashes: I) -> Self {
        let mut words = vec![0; 1024];
        for hash in hashes {
            let prefix = (hash >> 48) as usize;
            words[prefix / 64] |= 1 << (prefix % 64);
        }
        Self(words)
    }
}

/// Calls `visit` with the keys of one shard, of `shards`, in `segments`, as far as they can be wanted.
pub(crate) fn visit_shard(
    folder: &Path,
    segments: &[String],
    table: &TableLayout,
    shard: u32,
    shards: u32,
    wanted: &Prefixes,
    mut visit: impl FnMut(KeptKey<'_>) -> Result<()>,
) -> Result<()> {
    for segment in segments {
        let path = folder.join(segment);
        let mut refused = None;
        let mut visit = |key: KeptKey<'_>| match visit(key) {
            Ok(()) => true,
            Err(e) => {
                refused.get_or_insert(e);
                false
            }
        };
        let read =
            contain(|| visit_segment(&path, table, shard, shards, wanted, &mut visit).map_err(|e| e.to_string()));
        if let Some(refused) = refused {
            return Err(refused);
        }
        read.map_err(|e| {
            IngestError::state(format!("the key map {} cannot be read: {e}", path.display()))
                .help("the state folder is damaged: bring it back from a backup taken together with the output")
        })?;
    }
    Ok(())
}

type Outcome<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn visit_segment(
    path: &Path,
    table: &TableLayout,
    shard: u32,
    shards: u32,
    wanted: &Prefixes,
    visit: &mut impl FnMut(KeptKey<'_>) -> bool,
) -> Outcome<()> {
    let file = File::open(path)?;
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    let metadata = ArrowReaderMetadata::load(&file, options)?;
    let leaves = Leaves::read(metadata.metadata().file_metadata())?;
    let (selection, rows, mut sums) = leaves.select(shard, shards, wanted);
    if rows == 0 {
        return Ok(());
    }
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
        .with_row_selection(selection)
        .with_batch_size(1 << 14);
    let codec = table.codec.as_ref().ok_or("no key")?;
    let id = table.id.as_ref().ok_or("no ID")?;
    let mut read = 0;
    for batch in builder.build()? {
        let batch = batch?;
        read += batch.num_rows();
        let columns: Vec<ArrayRef> = table
            .key_fields()
            .iter()
            .map(|key| batch.column_by_name(key.name()).cloned().ok_or("a key column is missing"))
            .collect::<std::result::Result<_, _>>()?;
        let keys = codec.encode(&columns);
        let ids = batch.column_by_name(&id.column).ok_or("the ID column is missing")?;
        let ids = ids.as_primitive_opt::<Int64Type>().ok_or("the ID column is not of 64-bit integers")?;
        let attributes = batch.column_by_name(ATTRIBUTES).and_then(|c| c.as_primitive_opt::<UInt64Type>());
        for row in 0..batch.num_rows() {
            let key = keys.get(row).ok_or("a key is null")?;
            let hash = key.hash();
            let place = ordinal_of(id, ids.value(row)).ok_or("an ID is not of the sequence")?;
            let attributes = attributes.map_or(UNKNOWN, |a| a.value(row));
            sums.add(entry_sum(hash, place, attributes))?;
            if shard_of(hash, shards) != shard {
                continue;
            }
            if !visit(KeptKey { key, hash, place, attributes }) {
                return Ok(());
            }
        }
    }
    if read != rows {
        return Err(format!("{read} keys were read where {rows} are declared").into());
    }
    Ok(())
}

/// What a segment says of its leaves.
struct Leaves {
    /// How many keys each has.
    sizes: Vec<usize>,
    /// The sum of each one's entries; `None` in segments of versions that kept none.
    sums: Option<Vec<u64>>,
}

impl Leaves {
    fn read(metadata: &FileMetaData) -> Outcome<Self> {
        let pairs = metadata.key_value_metadata();
        let text = |key: &str| pairs.and_then(|all| all.iter().find(|pair| pair.key == key)?.value.as_deref());
        let sizes = text(LEAVES_KEY).ok_or("it is not a key map")?;
        let sizes: Vec<usize> = sizes.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
        let hexadecimal = |text: &str| u64::from_str_radix(text, 16);
        let sums: Option<Vec<u64>> = text(SUMS_KEY)
            .map(|text| text.split(',').map(hexadecimal).collect::<std::result::Result<_, _>>())
            .transpose()?;
        if !sizes.len().is_power_of_two() || sums.as_ref().is_some_and(|sums| sums.len() != sizes.len()) {
            return Err("its number of leaves is not a power of two, or not the same everywhere".into());
        }
        let rows = sizes.iter().try_fold(0_usize, |sum, &size| sum.checked_add(size));
        if rows.and_then(|rows| i64::try_from(rows).ok()) != Some(metadata.num_rows()) {
            return Err("its leaves do not have as many keys as it has".into());
        }
        Ok(Self { sizes, sums })
    }

    /// The rows of the leaves that a shard has and that are wanted, how many they are, and what to compare them with.
    fn select(&self, shard: u32, shards: u32, wanted: &Prefixes) -> (RowSelection, usize, Sums) {
        let leaves = self.sizes.len() as u32;
        // Both are the top bits of the hash, so a shard holds whole leaves, or a leaf whole shards.
        let (from, to) = if leaves >= shards {
            let ratio = leaves / shards;
            (shard * ratio, (shard + 1) * ratio)
        } else {
            let parent = shard / (shards / leaves);
            (parent, parent + 1)
        };
        let mut selectors = vec![RowSelector::skip(self.sizes[..from as usize].iter().sum())];
        let mut rows = 0;
        let mut sums = Sums { expected: Vec::new(), next: 0, left: 0, sum: 0 };
        for leaf in from..to {
            let size = self.sizes[leaf as usize];
            if wanted.has(leaf, leaves) {
                rows += size;
                selectors.push(RowSelector::select(size));
                if let Some(all) = self.sums.as_ref().filter(|_| size > 0) {
                    sums.expected.push((size, all[leaf as usize]));
                }
            } else {
                selectors.push(RowSelector::skip(size));
            }
        }
        (RowSelection::from(selectors), rows, sums)
    }
}

/// Compares the sums of leaves with what is read, leaf by leaf.
struct Sums {
    /// Size and sum of each leaf that is read and not empty; none at all where a segment has no sums.
    expected: Vec<(usize, u64)>,
    next: usize,
    /// How many entries of the current leaf are still to come.
    left: usize,
    sum: u64,
}

impl Sums {
    /// Takes the next entry; an error if it ends a leaf that is not what was written.
    fn add(&mut self, entry: u64) -> Outcome<()> {
        if self.expected.is_empty() {
            return Ok(());
        }
        if self.left == 0 {
            self.left = self.expected.get(self.next).ok_or("there are more keys than are declared")?.0;
            self.sum = 0;
        }
        self.sum = self.sum.wrapping_add(entry);
        self.left -= 1;
        if self.left == 0 {
            if self.sum != self.expected[self.next].1 {
                return Err("a key, an ID or attributes in it are not what was written".into());
            }
            self.next += 1;
        }
        Ok(())
    }
}

/// What an entry adds to the sum of its leaf. The same in every version.
fn entry_sum(hash: u64, place: u64, attributes: u64) -> u64 {
    let tied = (hash ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (tied ^ (tied >> 32)).wrapping_add(attributes.wrapping_mul(0xa076_1d64_78bd_642f))
}

/// The leaves of a segment of about so many keys, a power of two.
fn leaves(keys: u64) -> u32 {
    (keys / LEAF_KEYS).max(1).next_power_of_two().min(MOST_LEAVES) as u32
}

/// How many keys segments have.
pub(crate) fn count_keys(folder: &Path, segments: &[String]) -> Result<u64> {
    let mut sum = 0;
    for segment in segments {
        let path = folder.join(segment);
        let file = File::open(&path).map_err(|e| IngestError::io("open", &path, &e))?;
        let loaded = contain(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|e| e.to_string()));
        let loaded = loaded.map_err(|e| {
            IngestError::state(format!("the key map {} cannot be read: {e}", path.display()))
                .help("the state folder is damaged: bring it back from a backup taken together with the output")
        })?;
        sum += loaded.metadata().file_metadata().num_rows().max(0) as u64;
    }
    Ok(sum)
}

/// Writes a segment, batch by batch, and syncs it. Returns how many keys it has.
pub(crate) fn write_segment(path: &Path, table: &TableLayout, keys: &mut impl InOrder) -> Result<u64> {
    let codec = table.codec.as_ref().ok_or_else(|| IngestError::internal("a table without key has no key map"))?;
    let id = table.id.as_ref().ok_or_else(|| IngestError::internal("a keyed table has an ID"))?;
    let schema = segment_schema(table, &id.column);
    let (temporary, file) = create_aside(path)?;
    let mut writer =
        ArrowWriter::try_new(file, schema.clone(), Some(properties(&schema)?)).map_err(|e| failed(&temporary, &e))?;
    let has_attributes = schema.fields().len() > table.key.len() + 1;
    let mut sums = vec![0_u64; keys.sizes().len()];
    while let Some(entries) = keys.next()? {
        if entries.places.is_empty() {
            continue;
        }
        for (index, (&place, &attributes)) in entries.places.iter().zip(&entries.attributes).enumerate() {
            let hash = entries.keys.get(index).hash();
            let sum = &mut sums[shard_of(hash, keys.sizes().len() as u32) as usize];
            *sum = sum.wrapping_add(entry_sum(hash, place, if has_attributes { attributes } else { UNKNOWN }));
        }
        let mut columns = codec.decode(&entries.keys)?;
        let ids: Option<Vec<i64>> = entries.places.iter().map(|&place| id_of(id, place)).collect();
        columns.push(Arc::new(Int64Array::from(ids.ok_or_else(|| IngestError::internal("an ID is out of range"))?)));
        if has_attributes {
            columns.push(Arc::new(UInt64Array::from(entries.attributes)));
        }
        let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|e| IngestError::internal(e.to_string()))?;
        writer.write(&batch).map_err(|e| failed(&temporary, &e))?;
    }
    let text: Vec<String> = keys.sizes().iter().map(usize::to_string).collect();
    writer.append_key_value_metadata(KeyValue::new(LEAVES_KEY.to_owned(), text.join(",")));
    let text: Vec<String> = sums.iter().map(|sum| format!("{sum:x}")).collect();
    writer.append_key_value_metadata(KeyValue::new(SUMS_KEY.to_owned(), text.join(",")));
    let file = writer.into_inner().map_err(|e| failed(&temporary, &e))?;
    file.sync_all().map_err(|e| IngestError::io("sync", &temporary, &e))?;
    std::fs::rename(&temporary, path).map_err(|e| IngestError::io("rename", &temporary, &e))?;
    sync_folder(path)?;
    Ok(keys.sizes().iter().sum::<usize>() as u64)
}

fn segment_schema(table: &TableLayout, id: &str) -> Arc<Schema> {
    let mut fields: Vec<Field> = table.key_fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new(id, DataType::Int64, false));
    if table.compares() {
        fields.push(Field::new(ATTRIBUTES, DataType::UInt64, false));
    }
    Arc::new(Schema::new(fields))
}

/// Keys occur once, so a dictionary would only cost; whole numbers are packed as differences, which leaves a codec nothing
/// to do; pages are small, to be skipped.
fn properties(schema: &Schema) -> Result<WriterProperties> {
    let columns = ArrowSchemaConverter::new().convert(schema).map_err(|e| IngestError::internal(e.to_string()))?;
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .set_dictionary_enabled(false)
        .set_data_page_row_count_limit(LEAF_KEYS as usize);
    for column in columns.columns().iter().filter(|column| column.name() != ATTRIBUTES) {
        if matches!(column.physical_type(), Type::INT32 | Type::INT64) {
            builder = builder
                .set_column_encoding(column.path().clone(), Encoding::DELTA_BINARY_PACKED)
                .set_column_compression(column.path().clone(), Compression::UNCOMPRESSED);
        }
    }
    Ok(builder.build())
}

#[cfg(test)]
mod damage;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut keys: impl InOrder) -> (Vec<Keys>, Vec<u64>, Vec<usize>) {
        let (mut all, mut places) = (Vec::new(), Vec::new());
        while let Some(entries) = keys.next().unwrap() {
            assert_eq!((entries.keys.len(), entries.attributes.len()), (entries.places.len(), entries.places.len()));
            all.extend((0..entries.keys.len()).map(|index| {
                let mut one = Keys::new(true);
                one.push(entries.keys.get(index));
                one
            }));
            places.extend(entries.places);
        }
        (all, places, keys.sizes().to_vec())
    }

    #[test]
    fn g4_counting_puts_keys_in_the_order_that_sorting_does() {
        for count in [0_u64, 1, 4096, 50_000, 150_000] {
            let keys: Vec<u64> = (0..count).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            let counted = all(Counting::new(&keys, 1000));
            let sorted = all(Sorting::new(true, count, |batch, batches| {
                let mut entries = Entries::new(true, 0);
                // Sorting is given them in whatever order the shards have them.
                for (index, &key) in keys.iter().enumerate().rev() {
                    if shard_of(hash_fixed(key), batches) == batch {
                        entries.push(KeyRef::Fixed(key), 1000 + index as u64, UNKNOWN);
                    }
                }
                Ok(entries)
            }));
            assert_eq!(counted.1.len() as u64, count);
            assert_eq!(counted, sorted, "{count} keys");
        }
    }
}
