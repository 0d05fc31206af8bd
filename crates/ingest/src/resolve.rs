//! Resolve: which of a run's keys are new. One call takes one hash shard of one table, looks its keys up in the key map,
//! and marks the first position of each that is not there; shards know nothing of each other. Must never give an ID: it
//! only says who came first.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::artifacts::{Artifact, Decoder, Encoder};
use crate::context::{RunContext, SegmentKind};
use crate::error::{IngestError, Result};
use crate::keymap::{Prefixes, UNKNOWN, visit_shard};
use crate::keys::{Entry, KeyRef, KeyShard, Keys};
use crate::layout::TableLayout;
use crate::scan::Compared;
use seriatim_pipeline::model::OnConflict;

/// Records of one run, at most: positions are 32-bit numbers, of which the last means "none".
pub(crate) const MOST_RECORDS: u64 = u32::MAX as u64 - 1;

/// Marks a place of the key map among first positions.
pub(crate) const KNOWN: u64 = 1 << 63;

/// What a key turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It appears first at this position of the run.
    New(u32),
    /// An earlier run gave it this place in the sequence.
    Known(u64),
}

/// One shard of one table, resolved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShardResolution {
    /// For each handle of the shard its packed origin.
    pub(crate) origins: Vec<u64>,
    /// The last position of each new key, and its first; empty unless the last attributes win.
    pub(crate) last: Vec<(u32, u32)>,
    /// Of each known key the position of its record that counts, and its place; empty unless the table has a history.
    pub(crate) seen: Vec<(u32, u64)>,
    /// New keys.
    pub(crate) new: u64,
    /// Known keys that appear in this run.
    pub(crate) known: u64,
    /// Keys whose records differ, among themselves or from what is published of them, if that is counted.
    pub(crate) conflicts: u64,
}

impl Origin {
    pub(crate) fn unpack(packed: u64) -> Self {
        if packed & KNOWN == 0 { Self::New(packed as u32) } else { Self::Known(packed & !KNOWN) }
    }
}

/// The positions of a run at which a key of one table appears first. Shards mark theirs at once.
#[derive(Debug)]
pub(crate) struct Firsts(Vec<AtomicU64>);

impl Firsts {
    /// None yet, among `positions`.
    pub(crate) fn new(positions: u64) -> Self {
        Self((0..positions.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    fn mark(&self, position: u32) {
        self.0[position as usize / 64].fetch_or(1 << (position % 64), Relaxed);
    }

    /// The marks, 64 to a word. Only after all shards were resolved.
    pub(crate) fn words(&self) -> Vec<u64> {
        self.0.iter().map(|word| word.load(Relaxed)).collect()
    }
}

/// What the key map says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    place: u64,
    attributes: u64,
}

impl Found {
    const NOTHING: Self = Self { place: u64::MAX, attributes: UNKNOWN };
}

/// Resolves one shard of a table against the key map in `segments`.
pub(crate) fn resolve(run: &RunContext, table: u32, shard: u32, segments: &[String]) -> Result<ShardResolution> {
    run.ensure_scanned()?;
    let firsts = run.firsts(table)?;
    let resolved = run.keys(table).settled(shard, |keys, numbers| {
        let mut decided = decide(run, table, shard, segments, keys, |key| firsts.mark(key.first))?;
        if let (Some(decided), Some(numbers)) = (&mut decided, numbers) {
            decided.origins = numbers.iter().map(|&number| decided.origins[number as usize]).collect();
        }
        Ok(decided)
    })?;
    match resolved {
        Some(resolution) => Ok(resolution),
        None => Err(conflict(run, table, segments)?),
    }
}

/// Decides which keys of a shard are new, and calls `is_new` with each of these at its first position; origins are by number. `None` if
/// records disagree where they must not.
pub(crate) fn decide(
    run: &RunContext,
    table: u32,
    shard: u32,
    segments: &[String],
    keys: &KeyShard,
    mut is_new: impl FnMut(Entry<'_>),
) -> Result<Option<ShardResolution>> {
    let layout = run.table(table);
    let positions = run.positions(table)?;
    let found = look_up(run, table, shard, segments, keys)?;
    if layout.on_conflict == OnConflict::Error && keys.iter().any(|key| disagrees(keys, &found, key)) {
        return Ok(None);
    }
    let conflicts = keys.iter().filter(|&key| layout.counts_conflicts && disagrees(keys, &found, key)).count() as u64;
    let mut origins: Vec<u64> = found.iter().map(|found| KNOWN | found.place).collect();
    let (mut last, mut new) = (Vec::new(), 0);
    for key in keys.iter().filter(|key| found[key.number as usize] == Found::NOTHING) {
        let key = Entry { first: positions.of_place(key.first), ..key };
        origins[key.number as usize] = key.first.into();
        is_new(key);
        new += 1;
        if layout.on_conflict == OnConflict::Last {
            last.push((positions.of_place(keys.last(key.number)), key.first));
        }
    }
    last.sort_unstable();
    let mut seen = Vec::new();
    if layout.history.is_some() {
        for key in keys.iter().filter(|key| found[key.number as usize] != Found::NOTHING) {
            let counts = if layout.on_conflict == OnConflict::Last { keys.last(key.number) } else { key.first };
            seen.push((positions.of_place(counts), found[key.number as usize].place));
        }
        seen.sort_unstable();
    }
    Ok(Some(ShardResolution { origins, last, seen, new, known: u64::from(keys.len()) - new, conflicts }))
}

/// What the key map says of each key of a shard, by number. Reads only the parts of the key map that such keys can be in.
fn look_up(run: &RunContext, table: u32, shard: u32, segments: &[String], keys: &KeyShard) -> Result<Vec<Found>> {
    let mut found = vec![Found::NOTHING; keys.len() as usize];
    if segments.is_empty() || keys.len() == 0 {
        return Ok(found);
    }
    let wanted: Prefixes = keys.iter().map(|key| key.key.hash()).collect();
    let layout = run.table(table);
    run.bring_segments(SegmentKind::Keys, table, segments)?;
    visit_shard(&run.keymap_folder(table), segments, layout, shard, run.plan.shards, &wanted, |entry| {
        if let Some(key) = keys.find(entry.key, entry.hash) {
            let slot = &mut found[key.number as usize];
            if *slot != Found::NOTHING {
                return Err(IngestError::state("the key map has a key twice")
                    .help("the state folder is damaged: bring it back from a backup taken together with the output"));
            }
            // With a history, later runs may bring other attributes.
            let attributes = if layout.history.is_some() { UNKNOWN } else { entry.attributes };
            *slot = Found { place: entry.place, attributes };
        }
        Ok(())
    })?;
    Ok(found)
}

/// Whether records of a key differ in their attributes, among themselves or from what the key map has.
fn disagrees(keys: &KeyShard, found: &[Found], key: Entry<'_>) -> bool {
    let before = found[key.number as usize].attributes;
    keys.attributes(key.number).is_some_and(|(first, differ)| differ || (before != UNKNOWN && before != first))
}

/// A key whose records do not agree.
struct Conflicting {
    first: u32,
    key: Keys,
    /// The hash of the first record's attributes, and of those that the key map has.
    attributes: u64,
    before: u64,
}

/// The error for records of one key that do not agree: of all such keys, the one that appears first, whichever worker
/// came upon which.
pub(crate) fn conflict(run: &RunContext, table: u32, segments: &[String]) -> Result<IngestError> {
    let layout = run.table(table);
    let mut earliest: Option<Conflicting> = None;
    for shard in 0..run.plan.shards {
        run.with_keys(table, shard, |keys| {
            let found = look_up(run, table, shard, segments, keys)?;
            for key in keys.iter().filter(|&key| disagrees(keys, &found, key)) {
                if earliest.as_ref().is_none_or(|earliest| key.first < earliest.first) {
                    let mut copy = Keys::new(matches!(key.key, KeyRef::Fixed(_)));
                    copy.push(key.key);
                    let (attributes, _) = keys.attributes(key.number).unwrap_or_default();
                    let before = found[key.number as usize].attributes;
                    earliest = Some(Conflicting { first: key.first, key: copy, attributes, before });
                }
            }
            Ok(())
        })?;
    }
    let earliest = earliest.ok_or_else(|| IngestError::internal("records that differed no longer do"))?;
    let Conflicting { first, key, attributes, before } = &earliest;
    let positions = run.positions(table)?;
    let (first, attributes, before, key) = (positions.of_place(*first), *attributes, *before, key.get(0));
    let (from, _) = positions.chunk_at(first);
    let reference = if before == UNKNOWN { attributes } else { before };
    for chunk in from..run.plan.chunks.len() as u32 {
        if let Some(record) = Compared::new(run, table, chunk)?.find_other(key, reference) {
            let earlier =
                if before == UNKNOWN { run.place_of(table, first)? } else { "an earlier run's record".to_owned() };
            let second = run.place_of(table, positions.start(chunk) + record)?;
            return Ok(disagreement(run, layout, key, &earlier, &second));
        }
    }
    Err(IngestError::internal("records that differed no longer do"))
}

/// The error for two records of one key that do not agree.
fn disagreement(run: &RunContext, table: &TableLayout, key: KeyRef<'_>, first: &str, second: &str) -> IngestError {
    let key = table.codec.as_ref().map(|codec| codec.display(key)).unwrap_or_default();
    let compared = table.compared_columns(&run.layout).into_iter().map(|(_, column)| column.as_str());
    let compared = compared.collect::<Vec<_>>().join(", ");
    IngestError::input(format!(
        "table '{}': two records of the key {key} differ in {compared}: {first}, and {second}",
        table.name
    ))
    .help("mend one of the records, or set `on_conflict: first` or `last` for the table")
}

impl Artifact for ShardResolution {
    fn bytes(&self) -> u64 {
        (self.origins.capacity() * 8 + self.last.capacity() * 8 + self.seen.capacity() * 16) as u64
    }

    fn encode(&self, out: &mut Encoder) {
        out.u64s(&[self.new, self.known, self.conflicts]);
        out.u64s(&self.origins);
        out.u32s(&self.last.iter().flat_map(|&(last, first)| [last, first]).collect::<Vec<_>>());
        encode_seen(&self.seen, out);
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        let [new, known, conflicts] = <[u64; 3]>::try_from(from.u64s()?).ok()?;
        let origins = from.u64s()?;
        let last = from.u32s()?.as_chunks::<2>().0.iter().map(|&[last, first]| (last, first)).collect();
        Some(Self { origins, last, seen: decode_seen(from)?, new, known, conflicts })
    }
}

/// Appends positions and places.
pub(crate) fn encode_seen(seen: &[(u32, u64)], out: &mut Encoder) {
    out.u32s(&seen.iter().map(|&(position, _)| position).collect::<Vec<_>>());
    out.u64s(&seen.iter().map(|&(_, place)| place).collect::<Vec<_>>());
}

/// Reads them back.
pub(crate) fn decode_seen(from: &mut Decoder<'_>) -> Option<Vec<(u32, u64)>> {
    let (positions, places) = (from.u32s()?, from.u64s()?);
    (positions.len() == places.len()).then(|| positions.into_iter().zip(places).collect())
}
