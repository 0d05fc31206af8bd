//! The steps that the orchestration calls, by name, with what goes in and what comes out. Everything that comes out is
//! a small fact, for it stays in history; large results are artifacts. A step may run twice, also at once with itself,
//! and must then leave the same.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};
use seriatim_durable::Registry;

use crate::adopt::AdoptKeys;
use crate::checks::CheckFacts;
use crate::committed::read_committed;
use crate::context::{RunContext, keep_plan, keep_shared_plan, texts_folder, work_folder};
use crate::drift::{Difference, SourceTypes};
use crate::engine::Step;
use crate::error::{IngestError, Result};
use crate::files::remove_folder;
use crate::history::{Accept, RemoveReplaced, Rewrite};
use crate::ids::{CommitIds, ReleaseIds, ReserveIds};
use crate::in_group::{FindGroups, KeepGroups};
use crate::layout::{Layout, TableSignature};
use crate::number::Reserved;
use crate::orchestration::RunInput;
use crate::plan::{Plan, Purpose, make_plan};
use crate::process::{Doable, Process, Steps, add};
use crate::progress::Step as Stage;
use crate::project::Project;
use crate::publish::{admit, catch_up, follow_manifest, keep_committed, keep_keys, known, publish, refuse_lost};
use crate::recover::{BringBack, KeepRestored};
use crate::report::AsideFile;
use crate::sequence::{CatalogState, SequenceState, is_zero};
use crate::settled::settle;
use crate::shared::{
    PartFacts, Place, bring_committed, chunks_of, claim, clear, cut_parts, resolve_group, scan_or_find,
};
use crate::sound::find_bad;
use crate::source::SourceFile;
use crate::withdraw::withdraw;
use crate::write::{SpanOutcome, Staged, assemble, assemble_bucket, write_span};

/// Tells a worker how to do every step.
pub(crate) fn register(registry: &mut Registry, steps: &Arc<Process>) {
    add::<MakePlan>(registry, steps);
    add::<CheckChunks>(registry, steps);
    add::<ScanChunks>(registry, steps);
    add::<ScanPart>(registry, steps);
    add::<Admit>(registry, steps);
    add::<AdoptKeys>(registry, steps);
    add::<ResolveShards>(registry, steps);
    add::<FindGroups>(registry, steps);
    add::<WriteSpan>(registry, steps);
    add::<WritePart>(registry, steps);
    add::<Assemble>(registry, steps);
    add::<AssembleBucket>(registry, steps);
    add::<KeepKeys>(registry, steps);
    add::<KeepGroups>(registry, steps);
    add::<ReserveIds>(registry, steps);
    add::<Accept>(registry, steps);
    add::<Rewrite>(registry, steps);
    add::<RemoveReplaced>(registry, steps);
    add::<Publish>(registry, steps);
    add::<CommitIds>(registry, steps);
    add::<ReleaseIds>(registry, steps);
    add::<KeepCommitted>(registry, steps);
    add::<FollowManifest>(registry, steps);
    add::<CatchUp>(registry, steps);
    add::<Withdraw>(registry, steps);
    add::<CleanUp>(registry, steps);
    add::<BringBack>(registry, steps);
    add::<KeepRestored>(registry, steps);
}

/// Declares a step: its name, what goes in, what comes out.
macro_rules! step {
    ($(#[$doc:meta])* $type:ident, $name:literal, $output:ty, { $($(#[$field_doc:meta])* $field:ident: $field_type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(crate) struct $type { $($(#[$field_doc])* pub(crate) $field: $field_type),* }

        impl Step for $type {
            const NAME: &'static str = $name;
            type Output = $output;
        }
    };
}

pub(crate) use step;

step!(
    /// Lists the new files, reads their footers, cuts them.
    MakePlan, "plan", PlanFacts, { input: RunInput });

/// What the orchestration needs of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlanFacts {
    pub(crate) files: u64,
    pub(crate) files_known: u64,
    pub(crate) records: u64,
    pub(crate) chunks: u32,
    pub(crate) spans: u32,
    pub(crate) shards: u32,
    /// How many parts the workers of a shared run share; 0 where one process carries it out.
    #[serde(default)]
    pub(crate) parts: u32,
    pub(crate) layout: Vec<TableSignature>,
    /// The types of the source's columns, where files may differ in them.
    #[serde(default, skip_serializing_if = "SourceTypes::is_empty")]
    pub(crate) source: SourceTypes,
    /// What the files differ in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) differences: Vec<Difference>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) more_differences: u64,
    /// New files that are set aside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) aside: Vec<AsideFile>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) aside_known: u64,
    /// Tables that exist and are taken over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) adopted: Vec<u32>,
}

impl PlanFacts {
    fn new(plan: &Plan, layout: Option<&Layout>) -> Self {
        Self {
            files: plan.files.len() as u64,
            files_known: plan.files_known,
            records: plan.files.iter().map(|f| f.rows).sum(),
            chunks: plan.chunks.len() as u32,
            spans: plan.spans.len() as u32,
            shards: plan.shards,
            parts: plan.parts.len() as u32,
            layout: layout.map(Layout::signatures).unwrap_or_default(),
            source: plan.drift.types.clone(),
            differences: plan.drift.differences.clone(),
            more_differences: plan.drift.more,
            aside: AsideFile::of(&plan.aside),
            aside_known: plan.aside_known,
            adopted: plan.adopted.iter().map(|adopted| adopted.table).collect(),
        }
    }
}

/// The plan of a shared run. Whoever makes it a second time finds the first one.
fn make_shared_plan(steps: &Steps, place: &Place, input: RunInput) -> Result<PlanFacts> {
    let load = || RunContext::find_shared(place, &steps.state, steps.memory, steps.progress.clone());
    let mut made = load()?;
    if made.is_none() {
        let RunInput { run, owner, pipeline, folder, cut, aside, replayed, .. } = input;
        let project = Project::new(pipeline, folder).replaying(replayed);
        bring_committed(&project.output()?, project.pipeline(), &steps.state)?;
        let known = known(&steps.state, &project.pipeline().name)?;
        let project = settle(&project, &read_committed(&steps.state, &project.pipeline().name)?)?;
        let texts = texts_folder(&steps.state, &run);
        let (mut plan, bound) = make_plan(&project, &run, &known, cut, steps.workers, Purpose::Run(&texts), &aside)?;
        plan.owner = owner;
        plan.parts = cut_parts(&plan.spans, &plan.chunks);
        let Some(bound) = bound else {
            refuse_lost(&project.project, &steps.state)?;
            return Ok(PlanFacts::new(&plan, None));
        };
        keep_shared_plan(place, &plan, bound.records.source_schema())?;
        made = load()?;
    }
    let made = made.ok_or_else(|| IngestError::state("the plan that was just made is gone from the work location"))?;
    let facts = PlanFacts::new(&made.plan, Some(&made.layout));
    steps.keep(made);
    Ok(facts)
}

impl Doable for MakePlan {
    fn run(self, steps: &Steps) -> Result<PlanFacts> {
        steps.progress.enter(Stage::Plan, 1);
        if let Some(place) = &steps.place {
            let facts = make_shared_plan(steps, place, self.input)?;
            steps.progress.files.store(facts.files, Relaxed);
            steps.progress.records.store(facts.records, Relaxed);
            steps.done();
            return Ok(facts);
        }
        let RunInput { run, owner, pipeline, folder, cut, aside, replayed, .. } = self.input;
        // What an attempt before this one left behind belongs to another plan.
        steps.forget(&run);
        remove_folder(&work_folder(&steps.state, &run))?;
        let project = Project::new(pipeline, folder).replaying(replayed);
        let known = known(&steps.state, &project.pipeline().name)?;
        let project = settle(&project, &read_committed(&steps.state, &project.pipeline().name)?)?;
        let texts = texts_folder(&steps.state, &run);
        let (mut plan, bound) = make_plan(&project, &run, &known, cut, steps.workers, Purpose::Run(&texts), &aside)?;
        plan.owner = owner;
        let facts = PlanFacts::new(&plan, bound.as_ref().map(|b| &b.layout));
        steps.progress.files.store(facts.files, Relaxed);
        steps.progress.records.store(facts.records, Relaxed);
        if let Some(bound) = bound {
            keep_plan(&steps.state, &plan, bound.records.source_schema())?;
            steps.keep(RunContext::new(plan, bound, &steps.state, steps.memory, steps.progress.clone()));
        } else {
            refuse_lost(&project.project, &steps.state)?;
        }
        steps.done();
        Ok(facts)
    }
}

step!(
    /// Finds the files that cannot be read, of some chunks: `from` and those up to, not including, `to`.
    CheckChunks, "check", Vec<SourceFile>, { run: String, from: u32, to: u32 });

impl Doable for CheckChunks {
    fn run(self, steps: &Steps) -> Result<Vec<SourceFile>> {
        let run = steps.run(&self.run)?;
        steps.progress.enter(Stage::Check, run.plan.chunks.len() as u64);
        let bad = find_bad(&run, self.from..self.to)?;
        steps.progress.step_done.fetch_add((self.to - self.from).into(), Relaxed);
        Ok(bad)
    }
}

step!(
    /// Finds the distinct keys of some chunks: `from` and those up to, not including, `to`.
    ScanChunks, "scan", ScanFacts, { run: String, from: u32, to: u32 });

/// What is counted in a scan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScanFacts {
    pub(crate) records: u64,
    pub(crate) filtered: u64,
    pub(crate) quarantined: u64,
    /// For each table the records that have no key in it.
    pub(crate) null_keys: Vec<u64>,
    /// How records did in the pipeline's checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) checks: Vec<CheckFacts>,
    /// For each list whose elements are rows of tables how many it has in these records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) elements: Vec<u64>,
}

impl ScanFacts {
    fn new(run: &RunContext) -> Self {
        let checks = vec![CheckFacts::default(); run.layout.checks.len()];
        let elements = vec![0; run.layout.lists.len()];
        Self { null_keys: vec![0; run.layout.tables.len()], checks, elements, ..Self::default() }
    }

    /// Adds the counts of a chunk.
    fn add(&mut self, chunk: &PartFacts) {
        self.records += chunk.records;
        self.filtered += chunk.filtered;
        self.quarantined += chunk.quarantined;
        for (sum, count) in self.null_keys.iter_mut().zip(&chunk.null_keys) {
            *sum += count;
        }
        for (sum, count) in self.elements.iter_mut().zip(&chunk.elements) {
            *sum += count;
        }
    }
}

impl Doable for ScanChunks {
    fn run(self, steps: &Steps) -> Result<ScanFacts> {
        let run = steps.run(&self.run)?;
        steps.progress.enter(Stage::Scan, run.plan.chunks.len() as u64);
        run.scan_all(self.from..self.to)?;
        let mut facts = ScanFacts::new(&run);
        for chunk in self.from..self.to {
            let scan = run.scan(chunk)?;
            facts.add(&PartFacts::of(&scan));
            run.add_failed(&mut facts.checks, chunk, &scan.failed);
            steps.progress.scanned.fetch_add(run.plan.chunks[chunk as usize].rows.into(), Relaxed);
            steps.done();
        }
        Ok(facts)
    }
}

step!(
    /// Finds the distinct keys of a part of a shared run, for all of its workers.
    ScanPart, "scan-part", ScanFacts, { run: String, part: u32 });

impl Doable for ScanPart {
    fn run(self, steps: &Steps) -> Result<ScanFacts> {
        let run = steps.run(&self.run)?;
        let shared = run.shared().ok_or_else(no_parts)?;
        steps.progress.enter(Stage::Scan, run.plan.parts.len() as u64);
        let mut facts = ScanFacts::new(&run);
        for (index, chunk) in chunks_of(&run, self.part).zip(scan_or_find(&run, shared, self.part)?) {
            facts.add(&chunk);
            run.add_failed(&mut facts.checks, index, &chunk.failed);
        }
        steps.progress.scanned.fetch_add(facts.records + facts.filtered + facts.quarantined, Relaxed);
        steps.done();
        Ok(facts)
    }
}

fn no_parts() -> IngestError {
    IngestError::internal("a step for a part came to a worker whose run has none")
}

step!(
    /// Decides whether a run that holds its sequences may go on.
    Admit, "admit", Admission, { run: String, catalog: CatalogState, sequences: Vec<SequenceState> });

/// Whether a plan still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Admission {
    /// It does.
    Granted,
    /// Another run has ingested some of its files.
    Outdated,
}

impl Doable for Admit {
    fn run(self, steps: &Steps) -> Result<Admission> {
        let run = steps.run(&self.run)?;
        steps.progress.enter(Stage::Lock, 1);
        admit(&run, &self.catalog, &self.sequences)
    }
}

step!(
    /// Resolves some of a table's hash shards: `from` and those up to, not including, `to`.
    ResolveShards, "resolve", ShardFacts, { run: String, table: u32, from: u32, to: u32, segments: Vec<String> });

/// What is counted in shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ShardFacts {
    pub(crate) new: u64,
    pub(crate) known: u64,
    #[serde(default, skip_serializing_if = "crate::sequence::is_zero")]
    pub(crate) conflicts: u64,
}

impl Doable for ResolveShards {
    fn run(self, steps: &Steps) -> Result<ShardFacts> {
        let run = steps.run(&self.run)?;
        let tables = run.layout.tables.iter().filter(|t| t.is_keyed()).count() as u64;
        steps.progress.enter(Stage::Resolve, tables * u64::from(run.plan.shards));
        if let Some(shared) = run.shared() {
            let head = resolve_group(&run, shared, self.table, self.from..self.to, &self.segments)?;
            return Ok(ShardFacts { new: head.new, known: head.known, conflicts: head.conflicts });
        }
        let mut facts = ShardFacts::default();
        for shard in self.from..self.to {
            let resolution = run.resolution(self.table, shard, &self.segments)?;
            facts.new += resolution.new;
            facts.known += resolution.known;
            facts.conflicts += resolution.conflicts;
            if steps.done() == steps.progress.step_total.load(Relaxed) {
                // What follows is the sequences' turn.
                steps.progress.enter(Stage::Reserve, 1);
            }
        }
        Ok(facts)
    }
}

step!(
    /// Numbers and writes the rows of a span.
    WriteSpan, "write", SpanOutcome, { run: String, reserved: Reserved, span: u32 });

impl Doable for WriteSpan {
    fn run(self, steps: &Steps) -> Result<SpanOutcome> {
        let run = steps.run(&self.run)?;
        steps.progress.enter(Stage::Write, run.plan.spans.len() as u64);
        let outcome = write_span(&run, &self.reserved, self.span)?;
        steps.done();
        Ok(outcome)
    }
}

step!(
    /// Numbers and writes the rows of a part of a shared run: of this one, or of one that its worker chooses.
    WritePart, "write-part", PartOutcome, { run: String, reserved: Reserved, part: Option<u32> });

/// What writing a part left.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct PartOutcome {
    /// The part; `None` if there was none left to choose.
    pub(crate) part: Option<u32>,
    pub(crate) written: SpanOutcome,
}

impl Doable for WritePart {
    fn run(self, steps: &Steps) -> Result<PartOutcome> {
        let run = steps.run(&self.run)?;
        let shared = run.shared().ok_or_else(no_parts)?;
        steps.progress.enter(Stage::Write, run.plan.parts.len() as u64);
        let part = match self.part {
            Some(part) => Some(part),
            None => claim(&run, shared)?,
        };
        let mut outcome = PartOutcome { part, ..PartOutcome::default() };
        if let Some(part) = part {
            let (from, to) = run.plan.parts[part as usize];
            for span in from..to {
                let span = write_span(&run, &self.reserved, span)?;
                outcome.written.staged.extend(span.staged);
                outcome.written.pieces.extend(span.pieces);
            }
        }
        steps.done();
        Ok(outcome)
    }
}

step!(
    /// Assembles a file from the pieces of several spans.
    Assemble, "assemble", Staged, { run: String, reserved: Reserved, table: u32, group: u32 });

impl Doable for Assemble {
    fn run(self, steps: &Steps) -> Result<Staged> {
        let run = steps.run(&self.run)?;
        steps.progress.enter(Stage::Write, 1);
        assemble(&run, &self.reserved, self.table, self.group)
    }
}

step!(
    /// Assembles the files of some partitions of a table.
    AssembleBucket, "assemble-bucket", Vec<Staged>, { run: String, reserved: Reserved, table: u32, bucket: u32 });

impl Doable for AssembleBucket {
    fn run(self, steps: &Steps) -> Result<Vec<Staged>> {
        let run = steps.run(&self.run)?;
        steps.progress.enter(Stage::Write, 1);
        assemble_bucket(&run, &self.reserved, self.table, self.bucket)
    }
}

step!(
    /// Writes a table's new keys; gives the segments of its key map from now on.
    KeepKeys, "keys", Vec<String>, { run: String, reserved: Reserved, table: u32 });

impl Doable for KeepKeys {
    fn run(self, steps: &Steps) -> Result<Vec<String>> {
        let run = steps.run(&self.run)?;
        steps.progress.enter(Stage::Publish, 1);
        keep_keys(&run, &self.reserved, self.table)
    }
}

step!(
/// Makes the run visible. From here on it cannot be cancelled.
Publish, "publish", (), {
    run: String,
    reserved: Reserved,
    staged: Vec<Staged>,
    segments: Vec<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<Vec<String>>,
    filtered: u64,
    quarantined: u64,
    /// One for each list whose elements are rows of tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    elements: Vec<u64>,
});

impl Doable for Publish {
    fn run(self, steps: &Steps) -> Result<()> {
        let run = steps.uncancelled(&self.run)?;
        steps.progress.enter(Stage::Publish, 1);
        publish(&run, &self)
    }
}

step!(
/// Keeps a copy of what the sequences have committed.
KeepCommitted, "committed", (), {
    run: String,
    reserved: Reserved,
    segments: Vec<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<Vec<String>>,
});

impl Doable for KeepCommitted {
    fn run(self, steps: &Steps) -> Result<()> {
        keep_committed(&*steps.uncancelled(&self.run)?, &self.reserved, &self.segments, &self.groups)
    }
}

step!(
    /// Brings the logs of Delta Lake up to what is published.
    FollowManifest, "follow-manifest", (), { run: String });

impl Doable for FollowManifest {
    fn run(self, steps: &Steps) -> Result<()> {
        follow_manifest(&*steps.uncancelled(&self.run)?)
    }
}

step!(
    /// The same for a run that has nothing to ingest.
    CatchUp, "catch-up", (), { input: RunInput });

impl Doable for CatchUp {
    fn run(self, _steps: &Steps) -> Result<()> {
        let RunInput { run, owner, pipeline, folder, .. } = self.input;
        catch_up(&Project::new(pipeline, folder), &run, &owner)
    }
}

step!(
    /// Removes what a run that failed has left in the output, while it still holds its sequences.
    Withdraw, "withdraw", (), { run: String });

impl Doable for Withdraw {
    fn run(self, steps: &Steps) -> Result<()> {
        withdraw(&*steps.uncancelled(&self.run)?)
    }
}

step!(
    /// Removes a run's work folder when it ends, however it ends.
    CleanUp, "clean-up", (), { run: String });

impl Doable for CleanUp {
    fn run(self, steps: &Steps) -> Result<()> {
        // What cannot be given back runs out by itself; a run that was never planned has taken nothing.
        let _ = steps.uncancelled(&self.run).and_then(|run| run.give_output_back());
        steps.forget(&self.run);
        if let Some(place) = &steps.place {
            clear(&place.work, &place.folder, &place.run)?;
        }
        remove_folder(&work_folder(&steps.state, &self.run))?;
        steps.progress.finish();
        Ok(())
    }
}
