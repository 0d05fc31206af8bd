//! Parts of a run: what scanning one leaves for the others. One object for each part: a *head* of known length, with
//! what is counted in each chunk and where the keys of each table's shards end; after it the keys, shard by shard. The
//! chunks' own scans (a handle for each row) stay with the process that made them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;

use super::{Shared, lock};
use crate::artifacts::{Decoder, Encoder};
use crate::checks::Failed;
use crate::context::{RunContext, key_table};
use crate::error::{IngestError, Result};
use crate::keys::KeyTable;
use crate::plan::Chunk;
use crate::scan::{ChunkScan, scan};

/// Records of a part, at most, if its spans allow it: few steps, and few objects.
const PART_RECORDS: u64 = 1 << 20;
/// Parts of a run, at least, if there are spans enough: enough for many workers.
const PARTS: u64 = 32;

/// Cuts spans into parts: index of the first span, index after the last.
pub(crate) fn cut_parts(spans: &[(u32, u32)], chunks: &[Chunk]) -> Vec<(u32, u32)> {
    let rows = |&(from, to): &(u32, u32)| chunks[from as usize..to as usize].iter().map(|c| u64::from(c.rows)).sum();
    let rows: Vec<u64> = spans.iter().map(rows).collect();
    let most = (rows.iter().sum::<u64>() / PARTS).min(PART_RECORDS);
    let mut parts: Vec<(u32, u32)> = Vec::new();
    let mut sum = 0;
    for (span, rows) in (0..).zip(rows) {
        match parts.last_mut() {
            Some(part) if sum + rows <= most => {
                part.1 = span + 1;
                sum += rows;
            }
            _ => {
                parts.push((span, span + 1));
                sum = rows;
            }
        }
    }
    parts
}

/// What is counted in a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartFacts {
    pub(crate) records: u64,
    pub(crate) filtered: u64,
    pub(crate) quarantined: u64,
    /// For each table the records that have no key in it.
    pub(crate) null_keys: Vec<u64>,
    /// One for each check of the pipeline.
    pub(crate) failed: Vec<Failed>,
    /// For each list whose elements are rows of tables how many it has.
    pub(crate) elements: Vec<u64>,
}

impl PartFacts {
    /// What a scan has counted.
    pub(crate) fn of(scan: &ChunkScan) -> Self {
        Self {
            records: scan.records.into(),
            filtered: scan.filtered.into(),
            quarantined: scan.quarantine.len() as u64,
            null_keys: scan.tables.iter().map(|table| table.null_keys).collect(),
            failed: scan.failed.clone(),
            elements: scan.elements.iter().map(|&count| count.into()).collect(),
        }
    }
}

/// The numbers of a chunk's facts.
fn facts_len(run: &RunContext) -> usize {
    3 + run.layout.tables.len() + 2 * run.layout.checks.len() + run.layout.lists.len()
}

/// The beginning of a part's object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    chunks: Vec<PartFacts>,
    /// Where the keys of each shard of each table end, after the head.
    ends: Vec<u64>,
}

fn object(part: u32) -> String {
    format!("part-{part}")
}

/// The chunks of a part.
pub(crate) fn chunks_of(run: &RunContext, part: u32) -> Range<u32> {
    let (from, to) = run.plan.parts[part as usize];
    run.plan.spans[from as usize].0..run.plan.spans[to as usize - 1].1
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        let facts = self.chunks.iter().flat_map(|chunk| {
            let failed = chunk.failed.iter().flat_map(|failed| [failed.count.into(), failed.first.into()]);
            let counts = [chunk.records, chunk.filtered, chunk.quarantined].into_iter();
            counts.chain(chunk.null_keys.iter().copied()).chain(failed).chain(chunk.elements.iter().copied())
        });
        out.u64s(&facts.collect::<Vec<_>>());
        out.u64s(&self.ends);
        out.finish()
    }

    /// How many bytes it takes.
    fn length(run: &RunContext, part: u32) -> u64 {
        let facts = chunks_of(run, part).len() * facts_len(run);
        let ends = run.layout.tables.len() * run.plan.shards as usize;
        (facts + ends + 3) as u64 * 8
    }

    fn decode(run: &RunContext, part: u32, bytes: &[u8]) -> Option<Self> {
        let mut from = Decoder::new(bytes)?;
        let (facts, ends) = (from.u64s()?, from.u64s()?);
        let chunk = |facts: &[u64]| {
            let [records, filtered, quarantined] = *facts.first_chunk::<3>()?;
            let (null_keys, failed) = facts[3..].split_at_checked(run.layout.tables.len())?;
            let (failed, elements) = failed.split_at_checked(2 * run.layout.checks.len())?;
            let (failed, _) = failed.as_chunks::<2>();
            let failed = failed.iter().map(|&[count, first]| Failed { count: count as u32, first: first as u32 });
            let (null_keys, failed, elements) = (null_keys.to_vec(), failed.collect(), elements.to_vec());
            Some(PartFacts { records, filtered, quarantined, null_keys, failed, elements })
        };
        let chunks: Vec<PartFacts> = facts.chunks_exact(facts_len(run)).map(chunk).collect::<Option<_>>()?;
        let whole = chunks.len() == chunks_of(run, part).len()
            && ends.len() == run.layout.tables.len() * run.plan.shards as usize
            && ends.is_sorted();
        whole.then_some(Self { chunks, ends })
    }

    /// Where the keys of some shards of a table are in the object.
    fn range(&self, run: &RunContext, part: u32, table: u32, shards: Range<u32>) -> Range<u64> {
        let at = |shard: u32| {
            let index = (table * run.plan.shards + shard) as usize;
            index.checked_sub(1).map_or(0, |before| self.ends[before])
        };
        let length = Head::length(run, part);
        length + at(shards.start)..length + at(shards.end)
    }
}

/// Scans a part in this process, and leaves its keys in the work location.
fn scan_part(run: &RunContext, shared: &Shared, part: u32) -> Result<Arc<Head>> {
    let (chunks, keys) = scan_chunks(run, shared, part)?;
    let length = Head::length(run, part) as usize;
    // The head goes to the front when it is known.
    let (mut ends, mut found, mut bytes) = (Vec::new(), Vec::new(), vec![0; length]);
    for table in &keys {
        let mut of_table = Vec::with_capacity(run.plan.shards as usize);
        for shard in 0..run.plan.shards {
            let mut out = Encoder::after(bytes);
            let count = table.encode(shard, &mut out)?;
            // Shards without keys take no room.
            bytes = if count > 0 { out.finish() } else { out.undone() };
            ends.push((bytes.len() - length) as u64);
            of_table.push(count);
        }
        found.push(of_table);
    }
    *lock(&shared.usual) = found;
    let head = Arc::new(Head { chunks, ends });
    bytes[..length].copy_from_slice(&head.encode());
    shared.work.put(&object(part), bytes)?;
    *lock(&shared.parts[part as usize].head) = Some(head.clone());
    Ok(head)
}

/// Scans the chunks of a part, in their order, into key tables of its own.
fn scan_chunks(run: &RunContext, shared: &Shared, part: u32) -> Result<(Vec<PartFacts>, Vec<KeyTable>)> {
    let new = |table| key_table(&run.plan, table, run.own_folder(&format!("part-{part}")));
    let keys: Vec<KeyTable> = run.layout.tables.iter().map(new).collect();
    for (table, usual) in keys.iter().zip(&*lock(&shared.usual)) {
        table.expect(usual);
    }
    let mut chunks = Vec::new();
    for chunk in chunks_of(run, part) {
        let found = scan(run, &keys, chunk)?;
        chunks.push(PartFacts::of(&found));
        run.keep_scan(chunk, found)?;
    }
    shared.parts[part as usize].scanned.store(true, SeqCst);
    Ok((chunks, keys))
}

/// A part's head, from the work location.
fn find(run: &RunContext, shared: &Shared, part: u32) -> Result<Option<Arc<Head>>> {
    let mut known = lock(&shared.parts[part as usize].head);
    if known.is_none() {
        let range = 0..Head::length(run, part);
        let bytes = shared.work.get_ranges(&object(part), std::slice::from_ref(&range))?;
        let head = bytes.and_then(|bytes| Head::decode(run, part, bytes.first()?));
        *known = head.map(Arc::new);
    }
    Ok(known.clone())
}

fn head(run: &RunContext, shared: &Shared, part: u32) -> Result<Arc<Head>> {
    if let Some(head) = find(run, shared, part)? {
        return Ok(head);
    }
    let _one = lock(&shared.parts[part as usize].scanning);
    match find(run, shared, part)? {
        Some(head) => Ok(head),
        None => scan_part(run, shared, part),
    }
}

/// What is counted in a part's chunks; scans it if nobody has.
pub(crate) fn scan_or_find(run: &RunContext, shared: &Shared, part: u32) -> Result<Vec<PartFacts>> {
    Ok(head(run, shared, part)?.chunks.clone())
}

/// What is counted in a chunk.
pub(crate) fn chunk_facts(run: &RunContext, shared: &Shared, chunk: u32) -> Result<PartFacts> {
    let part = run.part_of_chunk(chunk);
    let head = head(run, shared, part)?;
    Ok(head.chunks[(chunk - chunks_of(run, part).start) as usize].clone())
}

/// The scan of a chunk. Whoever has not scanned its part does so now: handles come out the same.
pub(crate) fn chunk_scan(run: &RunContext, shared: &Shared, chunk: u32) -> Result<Arc<ChunkScan>> {
    let part = run.part_of_chunk(chunk);
    if let Some(scan) = run.kept_scan(chunk) {
        return Ok(scan);
    }
    let _one = lock(&shared.parts[part as usize].scanning);
    if let Some(scan) = run.kept_scan(chunk) {
        return Ok(scan);
    }
    if find(run, shared, part)?.is_some() {
        scan_chunks(run, shared, part)?;
    } else {
        scan_part(run, shared, part)?;
    }
    run.kept_scan(chunk).ok_or_else(|| {
        IngestError::state("what a scan has found does not stay in the state folder")
            .help("something removes or changes it, or the disk is failing")
    })
}

/// The keys of some shards of a table in a part, shard by shard, each verified; `None` where there are none.
pub(super) fn keys(
    run: &RunContext,
    shared: &Shared,
    part: u32,
    table: u32,
    shards: Range<u32>,
) -> Result<Vec<Option<Bytes>>> {
    for attempt in 0..2 {
        let head = head(run, shared, part)?;
        let range = head.range(run, part, table, shards.clone());
        let all = if range.is_empty() {
            Some(Bytes::new())
        } else {
            let found = shared.work.get_ranges(&object(part), std::slice::from_ref(&range))?;
            found.and_then(|found| found.into_iter().next())
        };
        let cut = |all: Bytes| {
            let piece = |shard: u32| {
                let of_shard = head.range(run, part, table, shard..shard + 1);
                let piece = all.slice((of_shard.start - range.start) as usize..(of_shard.end - range.start) as usize);
                (!piece.is_empty()).then_some(piece)
            };
            shards.clone().map(piece).collect::<Vec<_>>()
        };
        let is_whole = |pieces: &Vec<Option<Bytes>>| pieces.iter().flatten().all(|piece| Decoder::new(piece).is_some());
        if let Some(pieces) = all.map(cut).filter(is_whole) {
            return Ok(pieces);
        }
        // Lost or damaged: what it was can be found again.
        if attempt == 0 {
            let _one = lock(&shared.parts[part as usize].scanning);
            scan_part(run, shared, part)?;
        }
    }
    Err(IngestError::state(format!("{} does not hold what was written there", shared.work.place_of(&object(part))))
        .help("something changes the work location, or its store is failing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_spans_of_a_million_records_or_enough_for_many_workers() {
        let chunk = |rows| Chunk { file: 0, first_row: 0, rows, first_group: 0, groups: 1, skip: 0, partial: false };
        let cut = |spans: u32, rows: u32| {
            let chunks: Vec<Chunk> = (0..spans).map(|_| chunk(rows)).collect();
            cut_parts(&(0..spans).map(|n| (n, n + 1)).collect::<Vec<_>>(), &chunks)
        };
        assert_eq!(cut(1, 5), [(0, 1)]);
        assert_eq!(cut(8, 250_000).len(), 8);
        let parts = cut(96, 250_000);
        assert_eq!(parts.len(), 32);
        assert!(parts.iter().all(|(from, to)| to - from == 3));
        let parts = cut(400, 262_144);
        assert_eq!((parts.len(), parts[0]), (100, (0, 4)));
    }
}
