//! Numbers within groups: 1, 2, 3, ... for the things of a table whose values in some columns are the same, in the order of
//! their IDs. What each group's last number is, is kept as the key map is: segments of the groups that a run has touched,
//! of which the newest one counts. Everything here is a function of the plan and the reservation; the order in which chunks
//! are looked at must never show.

use std::path::Path;

use arrow::array::ArrayRef;
use serde::{Deserialize, Serialize};

use crate::artifacts::{Artifact, Decoder, Encoder};
use crate::context::{RunContext, SegmentKind};
use crate::elements::Things;
use crate::engine::Step;
use crate::error::{IngestError, Result};
use crate::files::make_folder;
use crate::keymap::{Entries, MERGE_SEGMENTS, Prefixes, Sorting, UNKNOWN, count_keys, visit_shard, write_segment};
use crate::keys::{Interner, KeyRef, Keys, shard_of};
use crate::layout::GroupLayout;
use crate::number::{PlaceValues, Reserved};
use crate::process::{Doable, Steps};
use crate::progress::Step as Stage;
use crate::shared::keep_segment;
use crate::steps::step;
use crate::write::choose;

step!(
    /// Finds the groups of the new things in some chunks: `from` and those up to, not including, `to`.
    FindGroups, "groups", (), { run: String, reserved: Reserved, from: u32, to: u32 });

step!(
    /// Writes the groups that a table's new things are in, with their last numbers; gives the segments from now on.
    KeepGroups, "keep-groups", Vec<String>, { run: String, reserved: Reserved, table: u32 });

impl Doable for FindGroups {
    fn run(self, steps: &Steps) -> Result<()> {
        let run = steps.run(&self.run)?;
        steps.progress.enter(Stage::Write, run.plan.chunks.len() as u64);
        for table in (0..).take(run.layout.tables.len()).filter(|&table| run.table(table).group.is_some()) {
            for chunk in self.from..self.to {
                run.chunk_groups(table, chunk, &self.reserved)?;
            }
        }
        Ok(())
    }
}

impl Doable for KeepGroups {
    fn run(self, steps: &Steps) -> Result<Vec<String>> {
        let run = steps.run(&self.run)?;
        steps.progress.enter(Stage::Publish, 1);
        keep_groups(&run, &self.reserved, self.table)
    }
}

fn layout_of(run: &RunContext, table: u32) -> Result<&GroupLayout> {
    run.table(table).group.as_deref().ok_or_else(|| IngestError::internal("a table without groups has none to number"))
}

/// The groups of the rows that a chunk brings to a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChunkGroups {
    /// Each group once, in the order in which rows come to it.
    groups: Keys,
    /// For each row the place of its group among these.
    of_rows: Vec<u32>,
}

impl ChunkGroups {
    /// Reads the columns of the groups, at the rows that are written.
    pub(crate) fn find(run: &RunContext, table: u32, chunk: u32, reserved: &Reserved) -> Result<Self> {
        let layout = layout_of(run, table)?;
        let chosen = choose(run, reserved, table, chunk)?;
        if chosen.len() == 0 {
            return Ok(Self { groups: Keys::new(false), of_rows: Vec::new() });
        }
        let list = run.table(table).list;
        let inputs: Vec<String> = run.layout.inputs(list, layout.grouped_by()).into_iter().map(str::to_owned).collect();
        let mut records = run.read(chunk, &inputs)?;
        if run.scan_facts(chunk)?.quarantined > 0 {
            records = records.without(&run.scan(chunk)?.quarantine)?;
        }
        let things = Things::new(&run.layout, records.batch)?;
        let column = |name: &String| things.column(list, name, chosen.records());
        let columns: Vec<ArrayRef> = layout.grouped_by().iter().map(column).collect::<Result<_>>()?;
        let keys = layout.codec()?.encode(&columns);
        let mut seen = Interner::new(false);
        let mut of_rows = Vec::with_capacity(chosen.len());
        for row in 0..chosen.len() {
            let key = keys.get(row).ok_or_else(|| IngestError::internal("a group has no form"))?;
            of_rows.push(seen.intern(key).0);
        }
        Ok(Self { groups: seen.into_keys(), of_rows })
    }
}

/// The numbers of a table's new things within their groups.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InGroup {
    /// The place of the first one.
    first: u64,
    numbers: PlaceValues,
    /// The groups that have new things, in the order in which they come; and the last number of each.
    groups: Keys,
    last: Vec<u64>,
}

impl InGroup {
    /// Numbers all new things of a table.
    pub(crate) fn find(run: &RunContext, table: u32, reserved: &Reserved) -> Result<Self> {
        let block = &reserved.tables[table as usize];
        let mut groups = Interner::new(false);
        let mut of_things = vec![u32::MAX; block.count as usize];
        for chunk in 0..run.plan.chunks.len() as u32 {
            let found = run.chunk_groups(table, chunk, reserved)?;
            let handles: Vec<u32> = (0..found.groups.len()).map(|at| groups.intern(found.groups.get(at)).0).collect();
            let chosen = choose(run, reserved, table, chunk)?;
            for (row, &group) in found.of_rows.iter().enumerate() {
                let at = (chosen.place(row) - block.first) as usize;
                *of_things.get_mut(at).ok_or_else(lost)? = handles[group as usize];
            }
        }
        let mut last = last_numbers(run, table, &block.groups, &groups)?;
        let mut numbers = PlaceValues::with_capacity(of_things.len());
        let mut order = Vec::with_capacity(groups.len());
        let before = last.clone();
        for group in of_things {
            let number = last.get_mut(group as usize).ok_or_else(lost)?;
            if *number == before[group as usize] {
                order.push(group);
            }
            *number += 1;
            numbers.push(*number);
        }
        let all = groups.into_keys();
        let mut sorted = Keys::with_capacity(false, order.len());
        for &group in &order {
            sorted.push(all.get(group as usize));
        }
        let last = order.iter().map(|&group| last[group as usize]).collect();
        Ok(Self { first: block.first, numbers, groups: sorted, last })
    }

    /// The numbers of the things at these places.
    pub(crate) fn at(&self, places: impl Iterator<Item = u64>) -> Vec<i64> {
        // A group has no more things than its table, and these have 64-bit IDs.
        places.map(|place| self.numbers.get((place - self.first) as usize) as i64).collect()
    }
}

fn lost() -> IngestError {
    IngestError::internal("a new thing has no place in the run's block, or no group")
}

/// The last number that earlier runs gave in each of some groups.
fn last_numbers(run: &RunContext, table: u32, segments: &[String], groups: &Interner) -> Result<Vec<u64>> {
    let mut last = vec![0; groups.len()];
    if segments.is_empty() || groups.len() == 0 {
        return Ok(last);
    }
    run.bring_segments(SegmentKind::Groups, table, segments)?;
    let wanted: Prefixes = groups.hashes().iter().copied().collect();
    let folder = run.segment_folder(SegmentKind::Groups, table);
    // The newest segment comes last.
    visit_shard(&folder, segments, layout_of(run, table)?.table(), 0, 1, &wanted, |found| {
        if let Some(group) = groups.find(found.key, found.hash) {
            last[group as usize] = found.place;
        }
        Ok(())
    })?;
    Ok(last)
}

/// Writes a segment of the groups that the run has touched, merged with the others from a number of segments on.
fn keep_groups(run: &RunContext, reserved: &Reserved, table: u32) -> Result<Vec<String>> {
    let block = &reserved.tables[table as usize];
    if block.count == 0 {
        return Ok(block.groups.clone());
    }
    let layout = layout_of(run, table)?.table();
    let folder = run.segment_folder(SegmentKind::Groups, table);
    make_folder(&folder)?;
    let merge = block.groups.len() + 1 >= MERGE_SEGMENTS;
    let name = run.segment_name(reserved.number, merge);
    let before: &[String] = if merge { &block.groups } else { &[] };
    run.bring_segments(SegmentKind::Groups, table, before)?;
    let numbers = run.in_group(table, reserved)?;
    let by_hash = ByHash::new(&numbers.groups);
    let count = count_keys(&folder, before)? + numbers.groups.len() as u64;
    let mut sorting = Sorting::new(false, count, |batch, batches| {
        let mut merged = Merged::new();
        merged.add_segments(&folder, before, layout, batch, batches)?;
        for &(_, at) in by_hash.batch(batch, batches) {
            merged.set(numbers.groups.get(at as usize), numbers.last[at as usize]);
        }
        Ok(merged.into_entries())
    });
    write_segment(&folder.join(&name), layout, &mut sorting)?;
    if let Some(shared) = run.shared() {
        keep_segment(run, shared, SegmentKind::Groups, table, &name)?;
    }
    Ok(if merge { vec![name] } else { [block.groups.as_slice(), &[name]].concat() })
}

/// Groups by their hashes, so that those of one batch stand together.
struct ByHash(Vec<(u64, u32)>);

impl ByHash {
    fn new(groups: &Keys) -> Self {
        let mut all: Vec<(u64, u32)> = (0..).zip(0..groups.len()).map(|(n, at)| (groups.get(at).hash(), n)).collect();
        all.sort_unstable();
        Self(all)
    }

    fn batch(&self, batch: u32, batches: u32) -> &[(u64, u32)] {
        let from = self.0.partition_point(|&(hash, _)| shard_of(hash, batches) < batch);
        let to = self.0.partition_point(|&(hash, _)| shard_of(hash, batches) <= batch);
        &self.0[from..to]
    }
}

/// Groups with their last numbers; of two for one group, the later one counts.
struct Merged {
    groups: Interner,
    last: Vec<u64>,
}

impl Merged {
    fn new() -> Self {
        Self { groups: Interner::new(false), last: Vec::new() }
    }

    fn set(&mut self, group: KeyRef<'_>, last: u64) {
        let (number, new) = self.groups.intern(group);
        if new {
            self.last.push(last);
        } else {
            self.last[number as usize] = last;
        }
    }

    fn add_segments(
        &mut self,
        folder: &Path,
        segments: &[String],
        layout: &crate::layout::TableLayout,
        batch: u32,
        batches: u32,
    ) -> Result<()> {
        visit_shard(folder, segments, layout, batch, batches, &Prefixes::all(), |found| {
            self.set(found.key, found.place);
            Ok(())
        })
    }

    fn into_entries(self) -> Entries {
        let attributes = vec![UNKNOWN; self.last.len()];
        Entries { keys: self.groups.into_keys(), places: self.last, attributes }
    }
}

fn encode_keys(keys: &Keys, out: &mut Encoder) {
    if let Keys::Bytes { ends, data } = keys {
        out.u64s(ends);
        out.bytes(data);
    }
}

fn decode_keys(from: &mut Decoder<'_>) -> Option<Keys> {
    Some(Keys::Bytes { ends: from.u64s()?, data: from.bytes()? })
}

fn size_of(keys: &Keys) -> u64 {
    match keys {
        Keys::Fixed(keys) => keys.capacity() as u64 * 8,
        Keys::Bytes { ends, data } => (ends.capacity() * 8 + data.capacity()) as u64,
    }
}

impl Artifact for ChunkGroups {
    fn bytes(&self) -> u64 {
        size_of(&self.groups) + self.of_rows.capacity() as u64 * 4
    }

    fn encode(&self, out: &mut Encoder) {
        encode_keys(&self.groups, out);
        out.u32s(&self.of_rows);
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        Some(Self { groups: decode_keys(from)?, of_rows: from.u32s()? })
    }
}

impl Artifact for InGroup {
    fn bytes(&self) -> u64 {
        self.numbers.bytes() + size_of(&self.groups) + self.last.capacity() as u64 * 8
    }

    fn encode(&self, out: &mut Encoder) {
        out.u64(self.first);
        self.numbers.encode(out);
        encode_keys(&self.groups, out);
        out.u64s(&self.last);
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        let (first, numbers) = (from.u64()?, PlaceValues::decode(from)?);
        Some(Self { first, numbers, groups: decode_keys(from)?, last: from.u64s()? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int16Array, LargeBinaryArray, StringArray,
    };

    use super::*;
    use crate::keys::KeyCodec;

    #[test]
    fn g4_groups_come_back_as_they_were_and_a_null_is_like_no_other_value() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("a"), None, Some(""), None])),
            Arc::new(Int16Array::from(vec![None, Some(0), Some(-3), None])),
            Arc::new(BooleanArray::from(vec![Some(false), None, Some(true), None])),
            Arc::new(Float64Array::from(vec![Some(1.5), Some(0.0), None, None])),
            Arc::new(LargeBinaryArray::from_opt_vec(vec![None, Some(b""), Some(b"x"), None])),
            Arc::new(
                Decimal128Array::from(vec![Some(7), None, Some(1), None]).with_precision_and_scale(30, 2).unwrap(),
            ),
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                    [Some([1, 2]), None, Some([0, 0]), None].into_iter(),
                    2,
                )
                .unwrap(),
            ),
        ];
        for some in [&columns[..], &columns[..1], &columns[1..2]] {
            let codec = KeyCodec::with_nulls(some.iter().map(|column| column.data_type().clone()).collect()).unwrap();
            let keys = codec.encode(some);
            let mut groups = Interner::new(false);
            let numbers: Vec<u32> = (0..4).map(|row| groups.intern(keys.get(row).unwrap()).0).collect();
            if some.len() == columns.len() {
                assert_eq!(numbers, [0, 1, 2, 3]);
                assert_eq!(codec.decode(&groups.into_keys()).unwrap(), some);
            } else {
                // Two of the four are null.
                assert_eq!(numbers.iter().filter(|&&n| n == numbers[3]).count(), 2);
            }
        }
    }

    #[test]
    fn groups_of_a_batch_stand_together() {
        let mut groups = Keys::new(false);
        (0..1000_u32).for_each(|n| groups.push(KeyRef::Bytes(&n.to_le_bytes())));
        let by_hash = ByHash::new(&groups);
        for batches in [1, 4, 64] {
            let mut all: Vec<u32> =
                (0..batches).flat_map(|batch| by_hash.batch(batch, batches)).map(|&(_, at)| at).collect();
            all.sort_unstable();
            assert_eq!(all, (0..1000).collect::<Vec<_>>(), "{batches} batches");
        }
    }
}
