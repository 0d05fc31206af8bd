//! The way of a run, as an orchestration: plan, scan, then within one critical section resolve, reserve, write and
//! publish. It decides only by what steps and entities answered, so that it can be replayed; it must never do anything
//! itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use seriatim_durable::EntityId;
use seriatim_pipeline::model::{Format, OnBadFile, Pipeline, Table};

use crate::adopt::{AdoptKeys, after_adoption};
use crate::checks;
use crate::engine::Engine;
use crate::error::{IngestError, Result};
use crate::history::{self, Accept, Accepted, RemoveReplaced, Rewrite};
use crate::ids;
use crate::in_group::{FindGroups, KeepGroups};
use crate::number::{Reserved, ReservedTable};
use crate::outcome::{RunOutput, report};
use crate::plan::Cut;
use crate::sequence::{
    AdoptedKeys, CatalogState, CommitCatalog, CommitSequence, Reservation, SequenceState, catalog_id, sequence_id,
};
use crate::shared::resolve_steps;
use crate::sound;
use crate::source::SourceFile;
use crate::steps::{
    Admission, Admit, Assemble, AssembleBucket, CatchUp, CheckChunks, CleanUp, FollowManifest, KeepCommitted, KeepKeys,
    MakePlan, PlanFacts, Publish, ResolveShards, ScanChunks, ScanFacts, ScanPart, ShardFacts, Withdraw, WritePart,
    WriteSpan,
};
use crate::write::{Shared, SpanOutcome, Staged};

/// The orchestration's name.
pub(crate) const INGEST: &str = "ingest";

/// Input of the orchestration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunInput {
    pub(crate) run: String,
    /// The id of the state folder whose run this is. Histories of earlier versions have none, and are replayed as they are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) owner: String,
    pub(crate) pipeline: Pipeline,
    /// The folder that relative paths start at.
    pub(crate) folder: std::path::PathBuf,
    pub(crate) cut: Cut,
    /// The work location of a run that workers with state folders of their own carry out; a relative path starts at
    /// `folder`. `None`: the state folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) work: Option<String>,
    /// The run's name in a counter outside, which no other run has, on whatever machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<String>,
    /// Whether each step waits for the one before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) one_by_one: bool,
    /// Files that were found to be bad while an earlier plan of this run was carried out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) aside: Vec<SourceFile>,
    /// The files of the quarantine whose records the source is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) replayed: Vec<String>,
}

impl RunInput {
    /// The run's name in its sequences.
    pub(crate) fn holder(&self) -> String {
        self.holder.clone().unwrap_or_else(|| self.run.clone())
    }
}

/// A run, from its plan to its report.
pub(crate) async fn ingest<E: Engine>(engine: E, input: RunInput) -> Result<RunOutput> {
    let outcome = attempt(&engine, &input).await;
    match outcome {
        Ok(Attempt::Done(output)) => {
            // The run is published. What cannot be removed only takes room.
            let _ = engine.step(CleanUp { run: input.run.clone() }).await;
            Ok(output)
        }
        Ok(Attempt::Again(input)) => {
            engine.step(CleanUp { run: input.run.clone() }).await?;
            engine.restart(&*input)?;
            Ok(RunOutput::default())
        }
        Err(error) => {
            // The first error is the one to tell; what cannot be cleaned up now is found by the next run.
            let _ = engine.step(CleanUp { run: input.run.clone() }).await;
            Err(error)
        }
    }
}

/// Chunks that are scanned in one step, at most: few steps to journal, and little to wait for at the end.
const SCANNED_AT_ONCE: u32 = 4;
/// Steps of a scan, at least, if there are chunks enough: enough for many workers.
const SCAN_STEPS: u32 = 32;

/// The chunks of each step of a scan: the first one, and the one after the last.
fn cut_scan(chunks: u32) -> impl Iterator<Item = (u32, u32)> {
    let size = (chunks / SCAN_STEPS).clamp(1, SCANNED_AT_ONCE);
    (0..chunks).step_by(size as usize).map(move |from| (from, (from + size).min(chunks)))
}

fn scan_steps(run: &str, chunks: u32) -> Vec<ScanChunks> {
    cut_scan(chunks).map(|(from, to)| ScanChunks { run: run.to_owned(), from, to }).collect()
}

fn check_steps(run: &str, chunks: u32) -> Vec<CheckChunks> {
    cut_scan(chunks).map(|(from, to)| CheckChunks { run: run.to_owned(), from, to }).collect()
}

/// What carrying out a plan came to.
enum Attempt {
    Done(RunOutput),
    /// The plan does not hold: another one is to be made, with this input.
    Again(Box<RunInput>),
}

async fn attempt<E: Engine>(engine: &E, input: &RunInput) -> Result<Attempt> {
    let plan = engine.step(MakePlan { input: input.clone() }).await?;
    if plan.files == 0 {
        follow_without_a_run(engine, input).await?;
        let (files_known, aside, aside_known) = (plan.files_known, plan.aside, plan.aside_known);
        return Ok(Attempt::Done(RunOutput { files_known, aside, aside_known, ..RunOutput::default() }));
    }
    // Before anything is numbered: a file that is bad in its last page must leave nothing of its first one.
    if input.pipeline.source.on_bad_file == OnBadFile::Quarantine {
        let found = engine.all(check_steps(&input.run, plan.chunks)).await?;
        if found.iter().any(|bad| !bad.is_empty()) {
            let mut again = input.clone();
            sound::add(&mut again.aside, found.into_iter().flatten());
            return Ok(Attempt::Again(Box::new(again)));
        }
    }
    let scans = if plan.parts == 0 {
        engine.all(scan_steps(&input.run, plan.chunks)).await?
    } else {
        engine.all((0..plan.parts).map(|part| ScanPart { run: input.run.clone(), part }).collect()).await?
    };
    let checks = checks::sum(&input.pipeline, scans.iter().map(|s| s.checks.as_slice()));
    let looked_at = scans.iter().map(|s| s.records + s.quarantined).sum();
    if let Some(error) = checks::verdict(&input.pipeline, &checks, looked_at, !input.replayed.is_empty()) {
        return Err(error);
    }
    let name = &input.pipeline.name;
    let sequences: Vec<EntityId> = input.pipeline.tables.iter().map(|t| sequence_id(name, &t.name)).collect();
    let mut locks = sequences.clone();
    locks.push(catalog_id(name));
    let output = engine.hold(locks, critical_section(engine, input, &plan, &scans, &sequences)).await?;
    // Without one, another run has ingested some of these files since they were planned: look again.
    let done = |output| Attempt::Done(RunOutput { checks, ..output });
    Ok(output.map_or_else(|| Attempt::Again(Box::new(input.clone())), done))
}

/// What is published may not be in the logs of Delta Lake yet, also if there is nothing new to publish.
async fn follow_without_a_run<E: Engine>(engine: &E, input: &RunInput) -> Result<()> {
    if input.pipeline.output.format != Format::Delta {
        return Ok(());
    }
    // Whoever publishes holds the catalog.
    let locks = vec![catalog_id(&input.pipeline.name)];
    engine.hold(locks, engine.step(CatchUp { input: input.clone() })).await
}

/// `None`: the plan is out of date.
async fn critical_section<E: Engine>(
    engine: &E,
    input: &RunInput,
    plan: &PlanFacts,
    scans: &[ScanFacts],
    sequences: &[EntityId],
) -> Result<Option<RunOutput>> {
    let catalog: Vec<CatalogState> = engine.call("get", vec![(catalog_id(&input.pipeline.name), ())]).await?;
    let catalog = catalog.into_iter().next().unwrap_or_default();
    let mut states: Vec<SequenceState> = engine.call("get", to_all(sequences, &())).await?;
    let admit = Admit { run: input.run.clone(), catalog: catalog.clone(), sequences: states.clone() };
    if engine.step(admit).await? == Admission::Outdated {
        return Ok(None);
    }
    let adopted = adopt(engine, input, plan, &mut states).await?;
    let shards = resolve(engine, input, plan, &states).await?;
    let counts = new_things(input, scans, &shards);
    let number = catalog.number + 1;
    let work = async {
        let accepted = accept(engine, input, number).await?;
        let reserved = reserve(engine, input, sequences, &states, &counts, (number, accepted.at)).await?;
        let published = publish(engine, input, plan, (scans, &shards, &accepted), &reserved).await?;
        Ok::<_, IngestError>((reserved, published, accepted))
    };
    match work.await {
        Ok((reserved, published, accepted)) => {
            commit(engine, input, plan, sequences, &reserved, &published, adopted).await?;
            let (run, segments, groups) = (input.run.clone(), published.segments, published.groups);
            // The run is published and committed; a copy that could not be kept is brought up to date by the next run.
            let _ = engine.step(KeepCommitted { run, reserved: reserved.clone(), segments, groups }).await;
            if input.pipeline.output.format == Format::Delta {
                engine.step(FollowManifest { run: input.run.clone() }).await?;
            }
            if published.staged.iter().any(|file| file.replaces.is_some()) {
                // Only now has whoever reads heard of those that took their place; what stays here, the next run removes.
                let _ = engine.step(RemoveReplaced { run: input.run.clone() }).await;
            }
            Ok(Some(report(input, plan, (scans, &shards, &accepted), &reserved, &published.staged)))
        }
        Err(error) => {
            // The first error is the one to tell; the next run's admission withdraws what could not be withdrawn now.
            let withdrawn = engine.step(Withdraw { run: input.run.clone() }).await.is_ok();
            ids::give_back(engine, input, error, sequences, &counts, withdrawn).await
        }
    }
}

pub(crate) fn to_all<I: Clone>(entities: &[EntityId], input: &I) -> Vec<(EntityId, I)> {
    entities.iter().map(|entity| (entity.clone(), input.clone())).collect()
}

/// Takes over tables that exist, of which only the first run knows; gives what each table begins with.
async fn adopt<E: Engine>(
    engine: &E,
    input: &RunInput,
    plan: &PlanFacts,
    states: &mut [SequenceState],
) -> Result<BTreeMap<u32, AdoptedKeys>> {
    let step = |&table| AdoptKeys { run: input.run.clone(), table };
    let found = engine.all(plan.adopted.iter().map(step).collect()).await?;
    let adopted: BTreeMap<u32, AdoptedKeys> = plan.adopted.iter().copied().zip(found).collect();
    for (&table, adopted) in &adopted {
        after_adoption(&mut states[table as usize], adopted);
    }
    Ok(adopted)
}

/// Steps that a table's shards are shared out to, at most: enough for many workers, few enough to journal.
const RESOLVE_STEPS: u32 = 8;

/// What the shards of each table hold; no shards for a table without key.
pub(crate) type TableShards = Vec<Vec<ShardFacts>>;

async fn resolve<E: Engine>(
    engine: &E,
    input: &RunInput,
    plan: &PlanFacts,
    states: &[SequenceState],
) -> Result<TableShards> {
    let groups = if plan.parts == 0 { plan.shards.min(RESOLVE_STEPS) } else { resolve_steps(plan.shards, plan.parts) };
    let mut steps = Vec::new();
    for (table, state) in (0..).zip(states) {
        if input.pipeline.tables[table as usize].is_keyed() {
            let step = |group| ResolveShards {
                run: input.run.clone(),
                table,
                from: plan.shards * group / groups,
                to: plan.shards * (group + 1) / groups,
                segments: state.segments.clone(),
            };
            steps.extend((0..groups).map(step));
        }
    }
    let mut outputs = engine.all(steps).await?.into_iter();
    let steps_of = |keyed: bool| if keyed { groups as usize } else { 0 };
    Ok(input.pipeline.tables.iter().map(|t| outputs.by_ref().take(steps_of(t.is_keyed())).collect()).collect())
}

/// Fixes what histories begin with, if some table has one.
async fn accept<E: Engine>(engine: &E, input: &RunInput, number: u64) -> Result<Accepted> {
    if !history::is_kept(&input.pipeline) {
        return Ok(Accepted::default());
    }
    engine.step(Accept { run: input.run.clone(), number }).await
}

/// Writes published files anew in which known keys have other attributes now.
async fn rewrite<E: Engine>(
    engine: &E,
    input: &RunInput,
    shards: &TableShards,
    accepted: &Accepted,
    reserved: &Reserved,
) -> Result<Vec<Staged>> {
    let mut steps = Vec::new();
    for (table, (of, shards)) in (0..).zip(accepted.tables.iter().zip(shards)) {
        if shards.iter().any(|shard| shard.known > 0) {
            let step = |bucket| Rewrite { run: input.run.clone(), reserved: reserved.clone(), table, bucket };
            steps.extend((0..of.buckets).map(step));
        }
    }
    Ok(engine.all(steps).await?.into_iter().flatten().collect())
}

/// How many new things each table has.
fn new_things(input: &RunInput, scans: &[ScanFacts], shards: &TableShards) -> Vec<u64> {
    let records: u64 = scans.iter().map(|s| s.records).sum();
    let elements = elements_of_tables(&input.pipeline, scans);
    let tables = input.pipeline.tables.iter().zip(shards).zip(elements);
    tables
        .map(
            |((table, shards), elements)| {
                if table.is_keyed() { shards.iter().map(|s| s.new).sum() } else { elements.unwrap_or(records) }
            },
        )
        .collect()
}

/// How many elements each list has whose elements are rows of tables.
fn elements_of_lists(pipeline: &Pipeline, scans: &[ScanFacts]) -> Vec<u64> {
    let count = |list: usize| scans.iter().filter_map(|scan| scan.elements.get(list)).sum();
    (0..pipeline.lists().len()).map(count).collect()
}

/// The same for each table, if its rows are elements.
pub(crate) fn elements_of_tables(pipeline: &Pipeline, scans: &[ScanFacts]) -> Vec<Option<u64>> {
    let (lists, counts) = (pipeline.lists(), elements_of_lists(pipeline, scans));
    let of_table = |table: &Table| {
        let path = table.list()?;
        counts.get(lists.iter().position(|list| *list == path)?).copied()
    };
    pipeline.tables.iter().map(of_table).collect()
}

async fn reserve<E: Engine>(
    engine: &E,
    input: &RunInput,
    sequences: &[EntityId],
    states: &[SequenceState],
    counts: &[u64],
    (number, accepted): (u64, Option<i64>),
) -> Result<Reserved> {
    ids::give_back_stale(engine, input, states).await?;
    let calls = sequences.iter().zip(counts);
    let calls = calls.map(|(id, &count)| (id.clone(), Reservation { run: input.holder(), count })).collect();
    let mut firsts: Vec<u64> = engine.call("reserve", calls).await?;
    ids::reserve(engine, input, states, counts, &mut firsts).await?;
    for (first, state) in firsts.iter_mut().zip(states) {
        // An entity does not know of IDs that were taken over until the run that does it has committed.
        *first = state.next.max(*first);
    }
    let tables = firsts.into_iter().zip(counts).zip(states);
    let tables = tables
        .map(|((first, &count), state)| ReservedTable {
            first,
            count,
            segments: state.segments.clone(),
            groups: state.groups.clone(),
            others: state.others + (first - state.next),
            adopted: state.adopted,
        })
        .collect();
    Ok(Reserved { number, tables, holder: input.holder.clone(), accepted })
}

/// What was made visible.
struct Published {
    staged: Vec<Staged>,
    segments: Vec<Vec<String>>,
    /// The same of groups; none at all if no table has any.
    groups: Vec<Vec<String>>,
}

async fn publish<E: Engine>(
    engine: &E,
    input: &RunInput,
    plan: &PlanFacts,
    (scans, shards, accepted): (&[ScanFacts], &TableShards, &Accepted),
    reserved: &Reserved,
) -> Result<Published> {
    let run = &input.run;
    let keyed = (0..).zip(&input.pipeline.tables).filter(|(_, t)| t.is_keyed()).map(|(index, _)| index);
    let keep = keyed.map(|table| KeepKeys { run: run.clone(), reserved: reserved.clone(), table }).collect::<Vec<_>>();
    let tables: Vec<u32> = keep.iter().map(|k| k.table).collect();
    let grouped = find_groups(engine, input, plan, reserved).await?;
    // Neither needs anything of the other. All have ended before an error is told, so that nothing is at work then.
    let (kept, written) = engine.both(engine.all(keep), write(engine, run, plan, reserved)).await;
    let mut segments = vec![Vec::new(); input.pipeline.tables.len()];
    for (table, kept) in tables.into_iter().zip(kept?) {
        segments[table as usize] = kept;
    }
    let mut groups = if grouped.is_empty() { Vec::new() } else { vec![Vec::new(); input.pipeline.tables.len()] };
    let step = |&table: &u32| KeepGroups { run: run.clone(), reserved: reserved.clone(), table };
    let kept = engine.all(grouped.iter().map(step).collect()).await?;
    for (table, kept) in grouped.into_iter().zip(kept) {
        groups[table as usize] = kept;
    }
    let mut staged = Vec::new();
    let mut pieces = BTreeSet::new();
    for outcome in written? {
        staged.extend(outcome.staged);
        pieces.extend(outcome.pieces);
    }
    let assemble = |file: Shared| {
        let (table, group) = (file.table, file.group);
        Assemble { run: run.clone(), reserved: reserved.clone(), table, group }
    };
    let is_partitioned = |file: &Shared| {
        !input.pipeline.tables.get(file.table as usize).is_none_or(|table| table.partition_by.is_empty())
    };
    let (buckets, pieces): (Vec<Shared>, Vec<Shared>) = pieces.into_iter().partition(is_partitioned);
    staged.extend(engine.all(pieces.into_iter().map(assemble).collect()).await?);
    if !buckets.is_empty() {
        let assemble = |file: Shared| {
            let (table, bucket) = (file.table, file.group);
            AssembleBucket { run: run.clone(), reserved: reserved.clone(), table, bucket }
        };
        staged.extend(engine.all(buckets.into_iter().map(assemble).collect()).await?.into_iter().flatten());
    }
    staged.sort_by(|a, b| (a.table, &a.partition, a.group).cmp(&(b.table, &b.partition, b.group)));
    staged.extend(rewrite(engine, input, shards, accepted, reserved).await?);
    let step = Publish {
        run: run.clone(),
        reserved: reserved.clone(),
        staged: staged.clone(),
        segments: segments.clone(),
        groups: groups.clone(),
        filtered: scans.iter().map(|s| s.filtered).sum(),
        quarantined: scans.iter().map(|s| s.quarantined).sum(),
        elements: elements_of_lists(&input.pipeline, scans),
    };
    engine.step(step).await?;
    Ok(Published { staged, segments, groups })
}

/// Finds the groups of all new things, if some table numbers within groups; gives these tables.
async fn find_groups<E: Engine>(
    engine: &E,
    input: &RunInput,
    plan: &PlanFacts,
    reserved: &Reserved,
) -> Result<Vec<u32>> {
    let has_groups = |table: &Table| table.id.as_ref().is_some_and(|id| id.group.is_some());
    let tables = (0..).zip(&input.pipeline.tables).filter(|(_, table)| has_groups(table));
    let tables: Vec<u32> = tables.map(|(index, _)| index).collect();
    // Workers with state folders of their own cannot use what another one finds.
    if !tables.is_empty() && plan.parts == 0 {
        let step = |(from, to)| FindGroups { run: input.run.clone(), reserved: reserved.clone(), from, to };
        engine.all(cut_scan(plan.chunks).map(step).collect()).await?;
    }
    Ok(tables)
}

/// Writes the rows of all spans.
async fn write<E: Engine>(engine: &E, run: &str, plan: &PlanFacts, reserved: &Reserved) -> Result<Vec<SpanOutcome>> {
    let (run, reserved) = (|| run.to_owned(), || reserved.clone());
    if plan.parts == 0 {
        let step = |span| WriteSpan { run: run(), reserved: reserved(), span };
        return engine.all((0..plan.spans).map(step).collect()).await;
    }
    // Each step takes the part that suits its worker best; what none has taken, or not brought to its end, is asked for
    // by name.
    let step = |part| WritePart { run: run(), reserved: reserved(), part };
    let mut written = engine.all((0..plan.parts).map(|_| step(None)).collect()).await?;
    let done: BTreeSet<u32> = written.iter().filter_map(|outcome| outcome.part).collect();
    let left: Vec<WritePart> = (0..plan.parts).filter(|part| !done.contains(part)).map(|p| step(Some(p))).collect();
    written.extend(engine.all(left).await?);
    // A part that was written twice was written alike.
    let by_part: BTreeMap<Option<u32>, SpanOutcome> = written.into_iter().map(|o| (o.part, o.written)).collect();
    Ok(by_part.into_values().collect())
}

async fn commit<E: Engine>(
    engine: &E,
    input: &RunInput,
    plan: &PlanFacts,
    sequences: &[EntityId],
    reserved: &Reserved,
    published: &Published,
    mut adopted: BTreeMap<u32, AdoptedKeys>,
) -> Result<()> {
    let tables = (0..).zip(&input.pipeline.tables).zip(&reserved.tables);
    let calls =
        sequences.iter().zip(&published.segments).zip(tables).map(|((id, segments), ((index, table), block))| {
            let outside = ids::outside(&input.pipeline, table, block);
            (
                id.clone(),
                CommitSequence {
                    run: input.holder(),
                    segments: segments.clone(),
                    groups: published.groups.get(index as usize).cloned().unwrap_or_default(),
                    outside,
                    adopted: adopted.remove(&index),
                },
            )
        });
    let _: Vec<u64> = engine.call("commit", calls.collect()).await?;
    let (layout, source) = (plan.layout.clone(), plan.source.clone());
    let catalog = CommitCatalog { run: input.run.clone(), number: reserved.number, layout, source };
    let _: Vec<()> = engine.call("commit", vec![(catalog_id(&input.pipeline.name), catalog)]).await?;
    ids::commit(engine, input, reserved).await
}
