//! What resolving a group of a table's hash shards leaves for the others. One object for each group: a *head* of known
//! length; where its new keys appear first; the new keys themselves, shard by shard; and for each part of the run what
//! became of the part's keys, in the order of their handles there. Whoever writes a part reads that of the part and no
//! more; only the first positions are read by everybody, because ranks need all of them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::packed::{ascending, each_ascending, origins, read_origins};
use super::{Shared, lock, parts};
use crate::artifacts::{Decoder, Encoder};
use crate::context::{RunContext, tracks};
use crate::error::{IngestError, Result};
use crate::keymap::UNKNOWN;
use crate::keys::{KeyCodec, KeyRef, KeyShard, Keys, Refused, too_many};
use crate::plan::in_parallel;
use crate::resolve::{conflict, decide, decode_seen, encode_seen};
use seriatim_pipeline::model::OnConflict;

/// Steps that a table's shards are shared out to, usually: enough for many workers, few enough to journal.
const STEPS: u32 = 8;
/// Parts for each of which there is one step more: what a step holds in memory stays about the same.
const PARTS_PER_STEP: u32 = 32;
/// Requests to a store that are under way at once.
const REQUESTS: usize = 8;

/// How many steps a table's shards are shared out to.
pub(crate) fn resolve_steps(shards: u32, parts: u32) -> u32 {
    STEPS.max(parts / PARTS_PER_STEP).min(shards)
}

/// How many counts a head has.
const COUNTS: usize = 3;

/// The beginning of a group's object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) new: u64,
    pub(crate) known: u64,
    pub(crate) conflicts: u64,
    /// Where each section ends, after the head: new keys of each shard, first positions, each part.
    ends: Vec<u64>,
}

/// One group of a table's shards.
#[derive(Clone, Copy)]
struct Group<'a> {
    run: &'a RunContext,
    shared: &'a Shared,
    table: u32,
    index: u32,
    segments: &'a [String],
}

/// All groups of a table.
fn groups<'a>(
    run: &'a RunContext,
    shared: &'a Shared,
    table: u32,
    segments: &'a [String],
) -> impl Iterator<Item = Group<'a>> {
    let count = resolve_steps(run.plan.shards, run.plan.parts.len() as u32);
    (0..count).map(move |index| Group { run, shared, table, index, segments })
}

impl Group<'_> {
    fn object(&self) -> String {
        format!("table-{}-{}", self.table, self.index)
    }

    fn shards(&self) -> Range<u32> {
        let (all, groups) = (self.run.plan.shards, resolve_steps(self.run.plan.shards, self.parts()));
        all * self.index / groups..all * (self.index + 1) / groups
    }

    fn parts(&self) -> u32 {
        self.run.plan.parts.len() as u32
    }

    fn head_length(&self) -> u64 {
        let sections = self.section_count();
        (1 + COUNTS + 1 + sections + 1) as u64 * 8
    }

    /// Those of each shard's new keys, of first positions, of each part, and of a history.
    fn section_count(&self) -> usize {
        let has_history = self.run.table(self.table).history.is_some();
        1 + self.shards().len() + self.parts() as usize + usize::from(has_history)
    }

    fn decode_head(&self, bytes: &[u8]) -> Option<Head> {
        let mut from = Decoder::new(bytes)?;
        let [new, known, conflicts] = <[u64; COUNTS]>::try_from(from.u64s()?).ok()?;
        let ends = from.u64s()?;
        (ends.len() == self.section_count() && ends.is_sorted()).then_some(Head { new, known, conflicts, ends })
    }

    fn find(&self) -> Result<Option<Arc<Head>>> {
        if let Some(head) = lock(&self.shared.groups).get(&(self.table, self.index)) {
            return Ok(Some(head.clone()));
        }
        let range = 0..self.head_length();
        let bytes = self.shared.work.get_ranges(&self.object(), std::slice::from_ref(&range))?;
        let head = bytes.and_then(|bytes| self.decode_head(bytes.first()?)).map(Arc::new);
        if let Some(head) = &head {
            lock(&self.shared.groups).insert((self.table, self.index), head.clone());
        }
        Ok(head)
    }

    fn head(&self) -> Result<Arc<Head>> {
        match self.find()? {
            Some(head) => Ok(head),
            None => self.resolve(),
        }
    }

    /// Sections that follow each other, each whole; what was lost or damaged is made again.
    fn sections(&self, sections: Range<usize>) -> Result<Vec<Bytes>> {
        for attempt in 0..2 {
            let head = self.head()?;
            let at = |section: usize| section.checked_sub(1).map_or(0, |before| head.ends[before]);
            let (from, to) = (at(sections.start), at(sections.end));
            let all = if from == to {
                Some(Bytes::new())
            } else {
                let start = self.head_length();
                let range = start + from..start + to;
                let found = self.shared.work.get_ranges(&self.object(), std::slice::from_ref(&range))?;
                found.and_then(|found| found.into_iter().next())
            };
            let cut = |all: Bytes| {
                let section = |n: usize| all.slice((at(n) - from) as usize..(at(n + 1) - from) as usize);
                sections.clone().map(section).collect::<Vec<_>>()
            };
            let is_whole = |found: &Vec<Bytes>| found.iter().all(|s| s.is_empty() || Decoder::new(s).is_some());
            if let Some(found) = all.map(cut).filter(is_whole) {
                return Ok(found);
            }
            if attempt == 0 {
                self.resolve()?;
            }
        }
        Err(self.damaged())
    }

    fn damaged(&self) -> IngestError {
        let place = self.shared.work.place_of(&self.object());
        IngestError::state(format!("{place} does not hold what was written there"))
            .help("something changes the work location, or its store is failing")
    }

    /// Decodes a section, as [`Self::sections`] gives them: whole, or empty, which gives nothing.
    fn decode<T>(&self, section: &[u8], decode: impl FnOnce(&mut Decoder<'_>) -> Option<T>) -> Result<Option<T>> {
        if section.is_empty() {
            return Ok(None);
        }
        let decoded = Decoder::verified(section).and_then(|mut from| decode(&mut from));
        decoded.map(Some).ok_or_else(|| self.damaged())
    }

    fn part(&self, part: u32) -> Result<Bytes> {
        let section = self.shards().len() + 1 + part as usize;
        Ok(self.sections(section..section + 1)?.pop().unwrap_or_default())
    }

    /// Whether rows of some table refer to this one: only then does it matter what became of each key.
    fn is_referenced(&self) -> bool {
        self.run.layout.tables.iter().any(|table| table.references.contains(&(self.table as usize)))
    }

    /// Brings together what the parts have of the group's shards, decides which keys are new, and leaves it for others.
    fn resolve(&self) -> Result<Arc<Head>> {
        let Group { run, shared, table, .. } = *self;
        let keys = read_parts(run, shared, table, self.shards())?;
        let is_referenced = self.is_referenced();
        let mut parts: Vec<Encoder> = keys.iter().map(|_| Encoder::default()).collect();
        let (mut firsts, mut last, mut seen) = (Vec::new(), vec![Vec::new(); keys.len()], Vec::new());
        let mut object = Object::new(self.head_length());
        let mut counts = [0; COUNTS];
        let positions = run.positions(table)?;
        for (index, shard) in self.shards().enumerate() {
            let of_shard: Vec<_> = keys.iter().map(|of_part| of_part[index].as_deref().unwrap_or_default()).collect();
            let (whole, numbers) = union(run, table, &of_shard)?;
            let mut fresh = Fresh::new(is_fixed(run, table));
            let decided = decide(run, table, shard, self.segments, &whole, |entry| {
                firsts.push(entry.first);
                let attributes = whole.attributes(entry.number).map(|(attributes, _)| attributes);
                fresh.push(entry.key, entry.first, attributes);
            })?;
            let Some(decided) = decided else { return Err(conflict(run, table, self.segments)?) };
            object.add(|out| fresh.encode(out));
            for (out, numbers) in parts.iter_mut().zip(&numbers).filter(|_| is_referenced) {
                let of_part: Vec<u64> = numbers.iter().map(|&number| decided.origins[number as usize]).collect();
                origins(&of_part, out);
            }
            for &(at, first) in &decided.last {
                last[run.part_of_chunk(positions.chunk_at(at).0) as usize].push((at, first));
            }
            seen.extend_from_slice(&decided.seen);
            for (sum, count) in counts.iter_mut().zip([decided.new, decided.known, decided.conflicts]) {
                *sum += count;
            }
        }
        sort_positions(&mut firsts, positions.end());
        object.add(|out| {
            ascending(&firsts, out);
            true
        });
        let has_last = run.table(table).on_conflict == OnConflict::Last;
        for (mut out, mut last) in parts.into_iter().zip(last) {
            last.sort_unstable();
            out.u32s(&last.iter().flat_map(|&(at, first)| [at, first]).collect::<Vec<_>>());
            object.add_finished(&if is_referenced || has_last { out.finish() } else { Vec::new() });
        }
        if run.table(table).history.is_some() {
            seen.sort_unstable();
            object.add(|out| {
                encode_seen(&seen, out);
                !seen.is_empty()
            });
        }
        let (head, bytes) = object.finish(counts);
        self.shared.work.put(&self.object(), bytes)?;
        let head = Arc::new(head);
        lock(&self.shared.groups).insert((self.table, self.index), head.clone());
        Ok(head)
    }
}

/// A group's object while it is written: room for the head, then section after section.
struct Object {
    bytes: Vec<u8>,
    head: usize,
    ends: Vec<u64>,
}

impl Object {
    fn new(head: u64) -> Self {
        Self { bytes: vec![0; head as usize], head: head as usize, ends: Vec::new() }
    }

    /// Adds a section; one of which `write` says that there is nothing takes no room.
    fn add(&mut self, write: impl FnOnce(&mut Encoder) -> bool) {
        let mut out = Encoder::after(std::mem::take(&mut self.bytes));
        self.bytes = if write(&mut out) { out.finish() } else { out.undone() };
        self.end_section();
    }

    fn add_finished(&mut self, section: &[u8]) {
        self.bytes.extend_from_slice(section);
        self.end_section();
    }

    fn end_section(&mut self) {
        self.ends.push((self.bytes.len() - self.head) as u64);
    }

    fn finish(mut self, counts: [u64; COUNTS]) -> (Head, Vec<u8>) {
        let mut out = Encoder::default();
        out.u64s(&counts);
        out.u64s(&self.ends);
        self.bytes[..self.head].copy_from_slice(&out.finish());
        let [new, known, conflicts] = counts;
        (Head { new, known, conflicts, ends: self.ends }, self.bytes)
    }
}

/// Sorts distinct positions, all of them below `end`. Where they are dense, a bit for each position is faster.
fn sort_positions(positions: &mut [u32], end: u32) {
    if positions.len() < end as usize / 512 {
        positions.sort_unstable();
        return;
    }
    let mut words = vec![0_u64; end.div_ceil(64) as usize];
    for &position in &*positions {
        words[position as usize / 64] |= 1 << (position % 64);
    }
    let mut sorted = positions.iter_mut();
    for (base, mut word) in (0..).step_by(64).zip(words) {
        while word != 0 {
            if let Some(position) = sorted.next() {
                *position = base + word.trailing_zeros();
            }
            word &= word - 1;
        }
    }
}

fn is_fixed(run: &RunContext, table: u32) -> bool {
    run.table(table).codec.as_ref().is_some_and(KeyCodec::is_fixed)
}

/// For each part the keys that it has in some shards of a table.
fn read_parts(run: &RunContext, shared: &Shared, table: u32, shards: Range<u32>) -> Result<Vec<Vec<Option<Bytes>>>> {
    let all: Vec<u32> = (0..run.plan.parts.len() as u32).collect();
    in_parallel(at_once(shared), &all, |&part| parts::keys(run, shared, part, table, shards.clone()))
}

/// What a table's groups have for a part.
fn of_part<'a>(
    run: &'a RunContext,
    shared: &'a Shared,
    table: u32,
    part: u32,
    segments: &'a [String],
) -> Result<Vec<(Group<'a>, Bytes)>> {
    let all: Vec<Group<'a>> = groups(run, shared, table, segments).collect();
    let sections = in_parallel(at_once(shared), &all, |group| group.part(part))?;
    Ok(all.into_iter().zip(sections).collect())
}

/// How many requests are under way at once: a local folder answers at once.
fn at_once(shared: &Shared) -> usize {
    if shared.work.is_remote() { REQUESTS } else { 1 }
}

/// One shard with each of its keys once, and for each part the number there of each of the part's keys.
fn union(run: &RunContext, table: u32, parts: &[&[u8]]) -> Result<(KeyShard, Vec<Vec<u32>>)> {
    let mut whole = KeyShard::new(is_fixed(run, table), tracks(run.table(table)));
    let mut all = Vec::new();
    let mut rest: usize = parts.iter().map(|bytes| bytes.len()).sum();
    for bytes in parts {
        let (mut numbers, before) = (Vec::new(), whole.len());
        if !bytes.is_empty() {
            let absorbed = Decoder::verified(bytes)
                .map_or(Err(Refused::Damaged), |mut from| whole.absorb(&mut from, &mut numbers));
            absorbed.map_err(|refused| match refused {
                Refused::Full => too_many(),
                Refused::Damaged => IngestError::internal("keys in the work location are not of their form"),
            })?;
            rest -= bytes.len();
            // Keys that are met in one part only: there will be about as many more as there are bytes left.
            let new = (whole.len() - before) as usize;
            if before > 0 && new * 16 > numbers.len() * 15 {
                whole.expect((new as u128 * rest as u128 / bytes.len() as u128) as usize);
            }
        }
        all.push(numbers);
    }
    Ok((whole, all))
}

/// The new keys of one shard, on their way to the key map.
struct Fresh {
    keys: Keys,
    firsts: Vec<u32>,
    /// Hashes of attributes; none if they are not tracked.
    attributes: Vec<u64>,
}

impl Fresh {
    fn new(fixed: bool) -> Self {
        Self { keys: Keys::new(fixed), firsts: Vec::new(), attributes: Vec::new() }
    }

    fn push(&mut self, key: KeyRef<'_>, first: u32, attributes: Option<u64>) {
        self.keys.push(key);
        self.firsts.push(first);
        self.attributes.extend(attributes);
    }

    /// Whether there is anything.
    fn encode(&self, out: &mut Encoder) -> bool {
        match &self.keys {
            Keys::Fixed(keys) => out.u64s(keys),
            Keys::Bytes { ends, data } => {
                out.u64s(ends);
                out.bytes(data);
            }
        }
        out.u32s(&self.firsts);
        out.u64s(&self.attributes);
        !self.firsts.is_empty()
    }

    fn decode(fixed: bool, from: &mut Decoder<'_>) -> Option<Self> {
        let keys = if fixed {
            Keys::Fixed(from.u64s()?)
        } else {
            let (ends, data) = (from.u64s()?, from.bytes()?);
            let whole = ends.is_sorted() && ends.last().copied().unwrap_or_default() == data.len() as u64;
            whole.then_some(Keys::Bytes { ends, data })?
        };
        let (firsts, attributes) = (from.u32s()?, from.u64s()?);
        let whole = keys.len() == firsts.len() && (attributes.is_empty() || attributes.len() == firsts.len());
        whole.then_some(Self { keys, firsts, attributes })
    }
}

/// Resolves one of the steps that a table's shards are shared out to, or finds that it is done.
pub(crate) fn resolve_group(
    run: &RunContext,
    shared: &Shared,
    table: u32,
    shards: Range<u32>,
    segments: &[String],
) -> Result<Arc<Head>> {
    let group = groups(run, shared, table, segments).find(|group| group.shards() == shards);
    group.ok_or_else(|| IngestError::internal("a step resolves shards that are no group"))?.head()
}

/// Calls `work` with one shard of a table, each of its keys once.
pub(crate) fn with_keys<T>(
    run: &RunContext,
    others: &Shared,
    table: u32,
    shard: u32,
    work: impl FnOnce(&KeyShard) -> Result<T>,
) -> Result<T> {
    let keys = read_parts(run, others, table, shard..shard + 1)?;
    let of_shard: Vec<_> = keys.iter().map(|of_part| of_part[0].as_deref().unwrap_or_default()).collect();
    let (whole, _) = union(run, table, &of_shard)?;
    work(&whole)
}

/// Where the new keys of a table appear first, 64 positions to a word.
pub(crate) fn first_words(run: &RunContext, shared: &Shared, table: u32, segments: &[String]) -> Result<Vec<u64>> {
    let mut words = vec![0; run.positions(table)?.end().div_ceil(64) as usize];
    for group in groups(run, shared, table, segments) {
        let at = group.shards().len();
        let section = group.sections(at..at + 1)?.pop().unwrap_or_default();
        group.decode(&section, |from| {
            each_ascending(from, |position| {
                *words.get_mut(position as usize / 64)? |= 1 << (position % 64);
                Some(())
            })
        })?;
    }
    Ok(words)
}

/// Calls `visit` with the packed origins of a part's keys in a table, shard by shard, in the order of their handles.
pub(crate) fn each_origin(
    run: &RunContext,
    shared: &Shared,
    table: u32,
    part: u32,
    segments: &[String],
    mut visit: impl FnMut(&[u64]),
) -> Result<()> {
    for (group, section) in of_part(run, shared, table, part, segments)? {
        let read = |from: &mut Decoder<'_>| {
            group.shards().try_for_each(|_| {
                visit(&read_origins(from)?);
                Some(())
            })
        };
        group.decode(&section, read)?;
    }
    Ok(())
}

/// The last position of each new key that has it in a part, and its first.
pub(crate) fn last_records(
    run: &RunContext,
    shared: &Shared,
    table: u32,
    part: u32,
    segments: &[String],
) -> Result<Vec<(u32, u32)>> {
    let mut all = Vec::new();
    for (group, section) in of_part(run, shared, table, part, segments)? {
        let read = |from: &mut Decoder<'_>| {
            if group.is_referenced() {
                group.shards().try_for_each(|_| read_origins(from).map(|_| ()))?;
            }
            from.u32s()
        };
        let pairs = group.decode(&section, read)?.unwrap_or_default();
        all.extend(pairs.as_chunks::<2>().0.iter().map(|&[last, first]| (last, first)));
    }
    all.sort_unstable();
    Ok(all)
}

/// The known keys of a table with a history: the position of the record that counts, and the place of each.
pub(crate) fn seen(run: &RunContext, shared: &Shared, table: u32, segments: &[String]) -> Result<Vec<(u32, u64)>> {
    let mut all = Vec::new();
    for group in groups(run, shared, table, segments) {
        let at = group.section_count() - 1;
        let section = group.sections(at..at + 1)?.pop().unwrap_or_default();
        all.extend(group.decode(&section, decode_seen)?.unwrap_or_default());
    }
    Ok(all)
}

/// The new keys of a group, as they were read last: they are wanted shard after shard.
#[derive(Debug)]
pub(crate) struct NewKeys {
    table: u32,
    group: u32,
    shards: Vec<Bytes>,
}

/// Calls `visit` with each new key of a table's shard, its first position, and the hash of its attributes.
pub(crate) fn each_new_key(
    run: &RunContext,
    others: &Shared,
    table: u32,
    shard: u32,
    segments: &[String],
    mut visit: impl FnMut(KeyRef<'_>, u32, u64),
) -> Result<()> {
    let group = groups(run, others, table, segments).find(|group| group.shards().contains(&shard));
    let group = group.ok_or_else(|| IngestError::internal("a shard is in no group"))?;
    let section = {
        let mut kept = lock(&others.new_keys);
        if kept.as_ref().is_none_or(|kept| (kept.table, kept.group) != (table, group.index)) {
            let shards = group.sections(0..group.shards().len())?;
            *kept = Some(NewKeys { table, group: group.index, shards });
        }
        let index = (shard - group.shards().start) as usize;
        kept.as_ref().map(|kept| kept.shards[index].clone()).unwrap_or_default()
    };
    let fixed = is_fixed(run, table);
    let Some(fresh) = group.decode(&section, |from| Fresh::decode(fixed, from))? else { return Ok(()) };
    for (index, &first) in fresh.firsts.iter().enumerate() {
        visit(fresh.keys.get(index), first, fresh.attributes.get(index).copied().unwrap_or(UNKNOWN));
    }
    Ok(())
}
