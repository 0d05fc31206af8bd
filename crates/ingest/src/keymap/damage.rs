//! Key map segments whose bytes are not what was written: each is read as it was, or is one error that names it; never
//! other keys, other IDs, a panic or an end of the program. The seed is printed, `SERIATIM_TEST_SEED` replays it, and
//! `SERIATIM_TEST_SCALE` multiplies the number of cases.

use std::collections::BTreeMap;
use std::fs;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Schema};
use seriatim_pipeline::model::{Id, OnConflict, OnNullKey};
use tempfile::TempDir;

use super::{Entries, KeptKey, LEAVES_KEY, Prefixes, SUMS_KEY, Sorting, visit_shard, write_segment};
use crate::error::IngestError;
use crate::keys::{KeyCodec, shard_of};
use crate::layout::TableLayout;

/// What a segment is read as: each key with its place and its attributes.
type Found = BTreeMap<String, (u64, u64)>;

struct Rng(u64);

impl Rng {
    /// The next of a `SplitMix64`, below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}

fn seeded(name: &str) -> Rng {
    let given = std::env::var("SERIATIM_TEST_SEED").ok().map(|text| text.parse().expect("a whole number"));
    let seed = given.unwrap_or_else(|| std::hash::RandomState::new().hash_one(name));
    println!("{name}: SERIATIM_TEST_SEED={seed} replays this test");
    Rng(seed)
}

fn scaled(count: usize) -> usize {
    let scale: f64 = std::env::var("SERIATIM_TEST_SCALE").map_or(1.0, |text| text.parse().expect("a number"));
    ((count as f64 * scale) as usize).max(1)
}

/// A table with this key, whose conflicts are errors, so that its segments have attributes, too.
fn table(types: &[DataType]) -> TableLayout {
    let key: Vec<String> = (0..types.len()).map(|at| format!("k{at}")).collect();
    let mut fields = vec![Field::new("thing_id", DataType::Int64, false)];
    fields.extend(key.iter().zip(types).map(|(name, kind)| Field::new(name, kind.clone(), false)));
    TableLayout {
        list: None,
        name: "things".to_owned(),
        key,
        codec: Some(KeyCodec::new(types.to_vec()).unwrap()),
        group: None,
        texts: None,
        id: Some(Id { start: 1000, step: -3, ..Id::new("thing_id") }),
        references: Vec::new(),
        columns: Vec::new(),
        on_conflict: OnConflict::Error,
        counts_conflicts: false,
        on_null_key: OnNullKey::Null,
        partition_by: Vec::new(),
        history: None,
        schema: Arc::new(Schema::new(fields)),
    }
}

/// A segment of `count` keys in a folder of its own.
fn segment(table: &TableLayout, count: u64) -> (TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let codec = table.codec.as_ref().unwrap();
    let columns: Vec<ArrayRef> = (table.schema.fields().iter().skip(1))
        .map(|field| {
            let texts =
                arrow::array::StringArray::from_iter_values((0..count).map(|n| format!("{}", n * 7919 % 100_003)));
            arrow::compute::cast(&texts, field.data_type()).unwrap()
        })
        .collect();
    let rows = codec.encode(&columns);
    let mut keys = Sorting::new(codec.is_fixed(), count, |batch, batches| {
        let mut entries = Entries::new(codec.is_fixed(), 0);
        for row in 0..count {
            let key = rows.get(row as usize).unwrap();
            if shard_of(key.hash(), batches) == batch {
                entries.push(key, row + 5, row.wrapping_mul(0x1234_5678_9abc_def1));
            }
        }
        Ok(entries)
    });
    let path = folder.path().join("segment");
    assert_eq!(write_segment(&path, table, &mut keys).unwrap(), count);
    let bytes = fs::read(&path).unwrap();
    (folder, bytes)
}

/// Reads a segment as the shards of a run do; an error is told as a person is told.
fn read(folder: &TempDir, table: &TableLayout, shards: u32) -> std::result::Result<Found, String> {
    let mut found = Found::new();
    let segments = ["segment".to_owned()];
    let codec = table.codec.as_ref().unwrap();
    for shard in 0..shards {
        let visit = |key: KeptKey<'_>| {
            assert_eq!(shard_of(key.hash, shards), shard);
            let twice = found.insert(codec.display(key.key), (key.place, key.attributes));
            if twice.is_some() { Err(IngestError::internal("a key twice")) } else { Ok(()) }
        };
        visit_shard(folder.path(), &segments, table, shard, shards, &Prefixes::all(), visit).map_err(|error| {
            assert!(error.message.contains("segment") || error.message == "a key twice", "{}", error.message);
            assert!(error.help.is_some() || error.message == "a key twice", "{}", error.message);
            error.message
        })?;
    }
    Ok(found)
}

/// Changes bytes in one place, as a disk or a program does; never to what they were.
fn damage(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let at = rng.below(bytes.len());
    match rng.below(8) {
        0 => changed.truncate(at),
        1 => drop(changed.drain(at..(at + 1 + rng.below(64)).min(bytes.len()))),
        2 => {
            let to = (at + 1 + rng.below(4096)).min(bytes.len());
            changed[at..to].fill(0);
        }
        3 => {
            let to = (at + 1 + rng.below(512)).min(bytes.len());
            let from = rng.below(bytes.len() - (to - at));
            changed.copy_within(from..from + (to - at), at);
        }
        4 => drop(changed.splice(at..at, (0..=rng.below(16)).map(|n| n as u8))),
        5 => {
            // A number of the footer's or of a page's head, at an edge.
            let edge = [&[0xff_u8; 9][..], &[0xfe, 0xff, 0xff, 0xff, 0x0f], &[0], &[0x80], &[0x01]][rng.below(5)];
            let to = (at + edge.len()).min(bytes.len());
            changed[at..to].copy_from_slice(&edge[..to - at]);
        }
        _ => changed[at] ^= 1 << rng.below(8),
    }
    changed
}

/// Symptom: one bit that turned in a key map made another key of a known one, without an error, and its thing got a second
/// ID in the next run. Cause: the Parquet writer keeps no checksums of pages, and an LZ4 block of other letters is as good
/// as any. Mend: each leaf has a sum of its entries, which is compared when it is read.
#[test]
fn g4_a_damaged_key_map_is_an_error_or_reads_as_it_was() {
    let mut rng = seeded("damaged key maps");
    let shapes: [&[DataType]; 4] =
        [&[DataType::Utf8], &[DataType::Int64], &[DataType::Utf8, DataType::Int32], &[DataType::Decimal128(38, 2)]];
    for types in shapes {
        let table = table(types);
        // The larger one has several leaves and pages.
        for count in [40, 20_000] {
            let (folder, good) = segment(&table, count);
            let expected = read(&folder, &table, 4).unwrap();
            assert_eq!(expected.len() as u64, count);
            let (mut refused, cases) = (0, scaled(if count > 1000 { 25 } else { 300 }));
            for case in 0..cases {
                let mut bad = damage(&mut rng, &good);
                if case % 3 == 0 {
                    // In the numbers that lie in the metadata as text, which are a small part of a file.
                    bad.clone_from(&good);
                    let name = [LEAVES_KEY, SUMS_KEY][rng.below(2)].as_bytes();
                    let at = good.windows(name.len()).position(|window| window == name).unwrap();
                    let at = at + name.len() + 2 + rng.below(12.min(good.len() - at - name.len() - 2));
                    bad[at] = b"0123456789abcdef,-"[rng.below(18)];
                }
                fs::write(folder.path().join("segment"), &bad).unwrap();
                for shards in [1, 4, 16] {
                    match read(&folder, &table, shards) {
                        Ok(found) => assert!(found == expected, "{types:?}, case {case}: other keys, without an error"),
                        Err(_) => refused += 1,
                    }
                }
            }
            assert!(refused > cases, "{types:?}: only {refused} of {cases} x 3 were noticed");
        }
    }
}

/// Segments of versions that kept no sums are read as before.
#[test]
fn a_segment_without_sums_is_read() {
    let table = table(&[DataType::Utf8]);
    let (folder, good) = segment(&table, 40);
    let expected = read(&folder, &table, 4).unwrap();
    let at = good.windows(SUMS_KEY.len()).position(|window| window == SUMS_KEY.as_bytes()).unwrap();
    let mut old = good.clone();
    old[at] = b'S';
    fs::write(folder.path().join("segment"), old).unwrap();
    assert_eq!(read(&folder, &table, 4), Ok(expected));
}
