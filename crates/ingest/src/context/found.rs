//! What the steps of a run find out, for the steps after them: keys, scans, resolutions, numberings, pieces. What this
//! process has not, because another one had begun the run or works on it too, is found again or brought. Must never give
//! another answer than the step that found it first.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::{Facts, RunContext, SegmentKind, work_folder};
use crate::artifacts::{Artifact, ArtifactKey, Decoder, Encoder};
use crate::error::{IngestError, Result};
use crate::files::own_folder;
use crate::in_group::{ChunkGroups, InGroup};
use crate::keys::{KeyShard, KeyTable};
use crate::new_keys::{NewKeys, is_kept};
use crate::number::{Numbering, Places, Reserved, ReservedTable, number};
use crate::resolve::{Firsts, ShardResolution, decode_seen, encode_seen, resolve};
use crate::scan::{ChunkScan, scan};
use crate::shared::{self, Shared};
use crate::write::{Piece, PieceOf};

impl RunContext {
    /// The keys of a table in this run.
    pub(crate) fn keys(&self, table: u32) -> &KeyTable {
        &self.keys[table as usize]
    }

    /// Where the keys of a table appear first.
    pub(crate) fn firsts(&self, table: u32) -> Result<&Firsts> {
        let firsts = &self.firsts[table as usize];
        if let Some(firsts) = firsts.get() {
            return Ok(firsts);
        }
        let end = self.positions(table)?.end();
        Ok(firsts.get_or_init(|| Firsts::new(end.into())))
    }

    /// Writes keys out of memory if they take more than their share of it.
    pub(crate) fn relieve_keys(&self) -> Result<()> {
        if self.keys.iter().map(KeyTable::bytes).sum::<u64>() > self.keys_budget {
            self.keys.iter().try_for_each(KeyTable::spill)?;
        }
        Ok(())
    }

    /// Where the thing of a table at a position is, for people.
    pub(crate) fn place_of(&self, table: u32, position: u32) -> Result<String> {
        let (chunk, thing) = self.positions(table)?.chunk_at(position);
        self.place_of_thing(table, chunk, thing)
    }

    /// The scan of a chunk. Its keys are in the key tables then, or in the work location.
    pub(crate) fn scan(&self, chunk: u32) -> Result<Arc<ChunkScan>> {
        if let Some(shared) = &self.shared {
            return shared::chunk_scan(self, shared, chunk);
        }
        let scan = self.artifacts.get(ArtifactKey::Scan(chunk), || {
            if self.scans.is_all() {
                // Handles given now would be of keys that nobody resolves any more.
                return Err(IngestError::state("what a scan had found is gone from the run's work folder")
                    .help("something removed or changed it, or the disk is failing: run again"));
            }
            scan(self, &self.keys, chunk)
        })?;
        self.scans.set(chunk);
        Ok(scan)
    }

    /// Scans consecutive chunks.
    pub(crate) fn scan_all(&self, chunks: Range<u32>) -> Result<()> {
        // A step may run twice, also at once with itself: the second finds everything done.
        let _one = self.scan_locks[chunks.start as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let left: Vec<u32> = chunks.filter(|&chunk| !self.scans.is_set(chunk)).collect();
        left.into_iter().try_for_each(|chunk| self.scan(chunk).map(|_| ()))
    }

    /// Scans what this process has not: all of it when it takes up another one's run.
    pub(crate) fn ensure_scanned(&self) -> Result<()> {
        self.scans.ensure(|chunk| self.scan(chunk).map(|_| ()))
    }

    /// Resolves the shards of a table that this process has not.
    pub(crate) fn ensure_resolved(&self, table: u32, segments: &[String]) -> Result<()> {
        self.resolutions[table as usize].ensure(|shard| self.resolution(table, shard, segments).map(|_| ()))
    }

    /// The scan of a chunk, if this process has it.
    pub(crate) fn kept_scan(&self, chunk: u32) -> Option<Arc<ChunkScan>> {
        self.artifacts.peek(ArtifactKey::Scan(chunk))
    }

    /// Keeps a scan.
    pub(crate) fn keep_scan(&self, chunk: u32, scan: ChunkScan) -> Result<()> {
        self.artifacts.put(ArtifactKey::Scan(chunk), scan)
    }

    /// A folder for what this process alone reads back.
    pub(crate) fn own_folder(&self, name: &str) -> PathBuf {
        work_folder(&self.state, &self.plan.run).join(own_folder("spill")).join(name)
    }

    /// The part of the run that a span is in; a run that one process carries out is one part.
    pub(crate) fn part_of_span(&self, span: u32) -> u32 {
        (self.plan.parts.partition_point(|&(first, _)| first <= span) as u32).saturating_sub(1)
    }

    /// The part that a chunk is in.
    pub(crate) fn part_of_chunk(&self, chunk: u32) -> u32 {
        self.part_of_span((self.plan.spans.partition_point(|&(first, _)| first <= chunk) as u32).saturating_sub(1))
    }

    /// What is small of a chunk's scan.
    pub(crate) fn scan_facts(&self, chunk: u32) -> Result<Facts> {
        if let Some(shared) = &self.shared {
            let facts = shared::chunk_facts(self, shared, chunk)?;
            return Ok(Facts { records: facts.records, quarantined: facts.quarantined, elements: facts.elements });
        }
        if let Some(facts) = self.facts.lock().unwrap_or_else(PoisonError::into_inner).get(&chunk) {
            return Ok(facts.clone());
        }
        let scan = self.scan(chunk)?;
        let elements = scan.elements.iter().map(|&count| count.into()).collect();
        let facts = Facts { records: scan.records.into(), quarantined: scan.quarantine.len() as u64, elements };
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).insert(chunk, facts.clone());
        Ok(facts)
    }

    /// One shard of a table, resolved against these segments of its key map.
    pub(crate) fn resolution(&self, table: u32, shard: u32, segments: &[String]) -> Result<Arc<ShardResolution>> {
        let resolution =
            self.artifacts.get(ArtifactKey::Shard(table, shard), || resolve(self, table, shard, segments))?;
        self.resolutions[table as usize].set(shard);
        Ok(resolution)
    }

    /// The numbering of a table within its reserved block.
    pub(crate) fn numbering(&self, table: u32, reserved: &ReservedTable) -> Result<Arc<Numbering>> {
        self.artifacts.get(ArtifactKey::Numbering(table), || number(self, table, reserved))
    }

    /// The places of a table's keys within its sequence, of those in a part of the run.
    pub(crate) fn places(&self, table: u32, part: u32, reserved: &ReservedTable) -> Result<Arc<Places>> {
        self.artifacts.get(ArtifactKey::Places(table, part), || Places::new(self, table, part, reserved))
    }

    /// Calls `work` with one shard of a table, each of its keys once.
    pub(crate) fn with_keys<T>(&self, table: u32, shard: u32, work: impl FnOnce(&KeyShard) -> Result<T>) -> Result<T> {
        match &self.shared {
            Some(others) => shared::with_keys(self, others, table, shard, work),
            None => self.keys(table).settled(shard, |keys, _| work(keys)),
        }
    }

    /// Calls `visit` for each shard of a table, in order, with the packed origins of the keys that handles of this part
    /// of the run stand for.
    pub(crate) fn each_shard(
        &self,
        table: u32,
        part: u32,
        segments: &[String],
        mut visit: impl FnMut(&[u64]),
    ) -> Result<()> {
        if let Some(shared) = &self.shared {
            return shared::each_origin(self, shared, table, part, segments, visit);
        }
        (0..self.plan.shards).try_for_each(|shard| {
            visit(&self.resolution(table, shard, segments)?.origins);
            Ok(())
        })
    }

    /// Calls `visit` with the last and the first position of each new key that appears last in a range of positions,
    /// which is within one part of the run.
    pub(crate) fn each_last(
        &self,
        table: u32,
        positions: Range<u32>,
        segments: &[String],
        mut visit: impl FnMut(u32, u32),
    ) -> Result<()> {
        let mut within = |pairs: &[(u32, u32)]| {
            let from = pairs.partition_point(|&(last, _)| last < positions.start);
            let here = pairs[from..].iter().take_while(|&&(last, _)| last < positions.end);
            here.for_each(|&(last, first)| visit(last, first));
        };
        if positions.is_empty() {
            return Ok(());
        }
        if let Some(shared) = &self.shared {
            let part = self.part_of_chunk(self.positions(table)?.chunk_at(positions.start).0);
            within(&self.last_records(shared, table, part, segments)?.0);
            return Ok(());
        }
        (0..self.plan.shards).try_for_each(|shard| {
            within(&self.resolution(table, shard, segments)?.last);
            Ok(())
        })
    }

    /// How many new keys appear last in each span. Every file of such a table asks for it, of every span.
    pub(crate) fn last_in_spans(&self, table: u32, segments: &[String]) -> Result<Arc<LastInSpans>> {
        self.artifacts.get(ArtifactKey::LastInSpans(table), || {
            let positions = self.positions(table)?;
            let mut spans = vec![0_u64; self.plan.spans.len()];
            let mut count = |span: u32, last: &[(u32, u32)]| {
                let at = |position| last.partition_point(|&(last, _)| last < position) as u64;
                let Range { start, end } = positions.of_chunks(self.span_chunks(span));
                spans[span as usize] += at(end) - at(start);
            };
            let all = 0..self.plan.spans.len() as u32;
            if let Some(shared) = &self.shared {
                for span in all {
                    count(span, &self.last_records(shared, table, self.part_of_span(span), segments)?.0);
                }
            } else {
                for shard in 0..self.plan.shards {
                    let resolution = self.resolution(table, shard, segments)?;
                    all.clone().for_each(|span| count(span, &resolution.last));
                }
            }
            Ok(LastInSpans(spans))
        })
    }

    fn last_records(&self, shared: &Shared, table: u32, part: u32, segments: &[String]) -> Result<Arc<LastRecords>> {
        let find = || Ok(LastRecords(shared::last_records(self, shared, table, part, segments)?));
        self.artifacts.get(ArtifactKey::Last(table, part), find)
    }

    /// The known keys of a table with a history that are met in this run.
    pub(crate) fn seen(&self, table: u32, segments: &[String]) -> Result<Arc<Seen>> {
        self.artifacts.get(ArtifactKey::Seen(table), || {
            let mut all = Vec::new();
            if let Some(shared) = &self.shared {
                all = shared::seen(self, shared, table, segments)?;
            } else {
                for shard in 0..self.plan.shards {
                    all.extend_from_slice(&self.resolution(table, shard, segments)?.seen);
                }
            }
            all.sort_unstable();
            Ok(Seen(all))
        })
    }

    /// The groups of the rows that a chunk brings to a table.
    pub(crate) fn chunk_groups(&self, table: u32, chunk: u32, reserved: &Reserved) -> Result<Arc<ChunkGroups>> {
        self.artifacts.get(ArtifactKey::Groups(table, chunk), || ChunkGroups::find(self, table, chunk, reserved))
    }

    /// The numbers of a table's new things within their groups.
    pub(crate) fn in_group(&self, table: u32, reserved: &Reserved) -> Result<Arc<InGroup>> {
        self.artifacts.get(ArtifactKey::InGroup(table), || InGroup::find(self, table, reserved))
    }

    /// Brings segments of a table's key map, or of its groups, that this process's state folder lacks.
    pub(crate) fn bring_segments(&self, kind: SegmentKind, table: u32, segments: &[String]) -> Result<()> {
        match &self.shared {
            Some(shared) => shared::bring_segments(self, shared, kind, table, segments),
            None => Ok(()),
        }
    }

    /// Where the new keys of a table appear first, 64 positions to a word.
    pub(crate) fn first_words(&self, table: u32, segments: &[String]) -> Result<Vec<u64>> {
        if let Some(shared) = &self.shared {
            return shared::first_words(self, shared, table, segments);
        }
        self.ensure_resolved(table, segments)?;
        Ok(self.firsts(table)?.words())
    }

    /// A table's new keys by place, if they are of a kind that is kept and all in memory.
    pub(crate) fn new_keys(&self, table: u32, reserved: &ReservedTable) -> Result<Option<Arc<NewKeys>>> {
        // In a shared run, whoever writes rows reads their keys from the source: new keys go to who keeps the key map.
        if self.shared.is_some() || !is_kept(self.table(table)) {
            return Ok(None);
        }
        // A process that takes up another's run knows no keys yet.
        self.ensure_resolved(table, &reserved.segments)?;
        if self.keys(table).has_spilled() {
            return Ok(None);
        }
        self.artifacts.get(ArtifactKey::NewKeys(table), || NewKeys::new(self, table, reserved)).map(Some)
    }

    /// Keeps the rows that a span leaves for a file that several spans share.
    pub(crate) fn keep_piece(&self, of: PieceOf, piece: Piece) -> Result<()> {
        match &self.shared {
            Some(shared) => shared::keep_piece(shared, of, &piece),
            None => self.artifacts.put(ArtifactKey::Piece(of), piece),
        }
    }

    /// Takes them back, if they are there.
    pub(crate) fn piece(&self, of: PieceOf) -> Result<Option<Arc<Piece>>> {
        match &self.shared {
            Some(shared) => Ok(shared::find_piece(shared, of)?.map(Arc::new)),
            None => Ok(self.artifacts.peek(ArtifactKey::Piece(of))),
        }
    }

    /// Forgets them.
    pub(crate) fn drop_piece(&self, of: PieceOf) {
        if self.shared.is_none() {
            self.artifacts.remove(ArtifactKey::Piece(of));
        }
    }

    /// Waits until no other thread writes this span.
    pub(crate) fn lock_span(&self, span: u32) -> std::sync::MutexGuard<'_, ()> {
        self.spans[span as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunks of a span.
    pub(crate) fn span_chunks(&self, span: u32) -> Range<u32> {
        let (from, to) = self.plan.spans[span as usize];
        from..to
    }
}

/// Known keys: the position of the record that counts, ascending, and the place of each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen(Vec<(u32, u64)>);

impl Seen {
    /// Those whose record is in a range of positions.
    pub(crate) fn within(&self, positions: Range<u32>) -> &[(u32, u64)] {
        let at = |position| self.0.partition_point(|&(counts, _)| counts < position);
        &self.0[at(positions.start)..at(positions.end)]
    }
}

impl Artifact for Seen {
    fn bytes(&self) -> u64 {
        self.0.capacity() as u64 * 16
    }

    fn encode(&self, out: &mut Encoder) {
        encode_seen(&self.0, out);
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        decode_seen(from).map(Self)
    }
}

/// Last and first positions of new keys, ascending by the last.
#[derive(Debug, PartialEq, Eq)]
struct LastRecords(Vec<(u32, u32)>);

impl Artifact for LastRecords {
    fn bytes(&self) -> u64 {
        self.0.capacity() as u64 * 8
    }

    fn encode(&self, out: &mut Encoder) {
        out.u32s(&self.0.iter().flat_map(|&(last, first)| [last, first]).collect::<Vec<_>>());
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        Some(Self(from.u32s()?.as_chunks::<2>().0.iter().map(|&[last, first]| (last, first)).collect()))
    }
}

/// How many things of a table have their last record in each span.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LastInSpans(Vec<u64>);

impl LastInSpans {
    /// Whether a span has any.
    pub(crate) fn any(&self, span: u32) -> bool {
        self.0[span as usize] > 0
    }
}

impl Artifact for LastInSpans {
    fn bytes(&self) -> u64 {
        self.0.capacity() as u64 * 8
    }

    fn encode(&self, out: &mut Encoder) {
        out.u64s(&self.0);
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        from.u64s().map(Self)
    }
}
