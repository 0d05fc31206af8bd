//! The steps that the orchestration calls, by name, with what goes in and what comes out. Everything that comes out is
//! a small fact, for it stays in history; large results are artifacts. A step may run twice, also at once with itself,
//! and must then leave the same.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use seriatim_durable::{ActivityContext, Failure, Registry};

use crate::context::{RunContext, keep_plan, work_folder};
use crate::engine::Step;
use crate::error::{ErrorKind, IngestError, Result};
use crate::files::remove_folder;
use crate::ids::{CommitIds, ReleaseIds, ReserveIds};
use crate::layout::TableSignature;
use crate::number::Reserved;
use crate::orchestration::RunInput;
use crate::plan::{Purpose, make_plan};
use crate::pool::Pool;
use crate::progress::{Progress, Step as Stage};
use crate::project::Project;
use crate::publish::{admit, file_memory, keep_committed, keep_keys, publish, withdraw};
use crate::sequence::{CatalogState, SequenceState};
use crate::write::{SpanOutcome, Staged, assemble, write_span};

/// What all steps of a process share.
#[derive(Debug)]
pub(crate) struct Steps {
    pub(crate) state: PathBuf,
    pub(crate) memory: u64,
    pub(crate) workers: usize,
    pub(crate) progress: Arc<Progress>,
    runs: Mutex<HashMap<String, Arc<RunContext>>>,
    pool: Pool,
    /// Whether other processes do steps of the same runs.
    shared: bool,
    /// Where what waits for a counter runs.
    waiting: Option<tokio::runtime::Handle>,
}

impl Steps {
    pub(crate) fn new(
        state: PathBuf,
        memory: u64,
        workers: usize,
        progress: Arc<Progress>,
        shared: bool,
    ) -> Result<Self> {
        let pool = Pool::new(workers)
            .map_err(|e| IngestError::new(ErrorKind::System, format!("cannot start {workers} threads: {e}")))?;
        let waiting = tokio::runtime::Handle::try_current().ok();
        Ok(Self { state, memory, workers, progress, runs: Mutex::default(), pool, shared, waiting })
    }

    /// Waits on this thread for what a counter answers.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let runtime = self.waiting.as_ref().ok_or_else(|| IngestError::internal("there is no runtime to wait in"))?;
        Ok(runtime.block_on(work))
    }

    /// The run, from memory or from its work folder; an error if it was cancelled.
    pub(crate) fn run(&self, run: &str) -> Result<Arc<RunContext>> {
        let context = self.uncancelled(run)?;
        context.check_cancelled()?;
        Ok(context)
    }

    pub(crate) fn uncancelled(&self, run: &str) -> Result<Arc<RunContext>> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared {
            // A step of another process may have planned a run anew, or ended it.
            runs.retain(|_, context| context.is_current());
        }
        if let Some(context) = runs.get(run) {
            return Ok(context.clone());
        }
        let context = Arc::new(RunContext::load(run, &self.state, self.memory, self.progress.clone())?);
        self.progress.files.store(context.plan.files.len() as u64, Relaxed);
        self.progress.records.store(context.plan.files.iter().map(|f| f.rows).sum(), Relaxed);
        runs.insert(run.to_owned(), context.clone());
        Ok(context)
    }

    fn keep(&self, context: RunContext) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.insert(context.plan.run.clone(), Arc::new(context));
    }

    fn forget(&self, run: &str) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
    }

    /// One more unit of work is done; how many are.
    fn done(&self) -> u64 {
        self.progress.step_done.fetch_add(1, Relaxed) + 1
    }
}

/// A step that this process can do.
pub(crate) trait Doable: Step {
    /// Does it, on a thread that may block.
    fn run(self, steps: &Steps) -> Result<Self::Output>;
}

/// Tells a worker how to do every step.
pub(crate) fn register(registry: &mut Registry, steps: &Arc<Steps>) {
    fn add<S: Doable>(registry: &mut Registry, steps: &Arc<Steps>) {
        let steps = steps.clone();
        registry.activity(S::NAME, move |_: ActivityContext, step: S| {
            let steps = steps.clone();
            async move {
                let work = steps.clone();
                let done = steps.pool.run(move || step.run(&work)).await;
                done.map_err(|e| Failure::new(Failure::PANIC, e))?.map_err(Failure::from)
            }
        });
    }
    add::<MakePlan>(registry, steps);
    add::<ScanChunks>(registry, steps);
    add::<Admit>(registry, steps);
    add::<ResolveShards>(registry, steps);
    add::<WriteSpan>(registry, steps);
    add::<Assemble>(registry, steps);
    add::<KeepKeys>(registry, steps);
    add::<ReserveIds>(registry, steps);
    add::<Publish>(registry, steps);
    add::<CommitIds>(registry, steps);
    add::<ReleaseIds>(registry, steps);
    add::<KeepCommitted>(registry, steps);
    add::<Withdraw>(registry, steps);
    add::<CleanUp>(registry, steps);
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
    pub(crate) layout: Vec<TableSignature>,
}

impl Doable for MakePlan {
    fn run(self, steps: &Steps) -> Result<PlanFacts> {
        let RunInput { run, pipeline, folder, cut, .. } = self.input;
        steps.progress.enter(Stage::Plan, 1);
        // What an attempt before this one left behind belongs to another plan.
        steps.forget(&run);
        remove_folder(&work_folder(&steps.state, &run))?;
        let project = Project::new(pipeline, folder);
        let memory = file_memory(&steps.state, &project.pipeline().name)?;
        let (plan, bound) = make_plan(&project, &run, &memory, cut, steps.workers, Purpose::Run)?;
        let facts = PlanFacts {
            files: plan.files.len() as u64,
            files_known: plan.files_known,
            records: plan.files.iter().map(|f| f.rows).sum(),
            chunks: plan.chunks.len() as u32,
            spans: plan.spans.len() as u32,
            shards: plan.shards,
            layout: bound.as_ref().map(|b| b.layout.signatures()).unwrap_or_default(),
        };
        steps.progress.files.store(facts.files, Relaxed);
        steps.progress.records.store(facts.records, Relaxed);
        if let Some(bound) = bound {
            keep_plan(&steps.state, &plan, bound.records.source_schema())?;
            steps.keep(RunContext::new(plan, bound, &steps.state, steps.memory, steps.progress.clone()));
        }
        steps.done();
        Ok(facts)
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
}

impl Doable for ScanChunks {
    fn run(self, steps: &Steps) -> Result<ScanFacts> {
        let run = steps.run(&self.run)?;
        steps.progress.enter(Stage::Scan, run.plan.chunks.len() as u64);
        run.scan_all(self.from..self.to)?;
        let mut facts = ScanFacts { null_keys: vec![0; run.layout.tables.len()], ..ScanFacts::default() };
        for chunk in self.from..self.to {
            let scan = run.scan(chunk)?;
            facts.records += u64::from(scan.records);
            facts.filtered += u64::from(scan.filtered);
            facts.quarantined += scan.quarantine.len() as u64;
            for (sum, table) in facts.null_keys.iter_mut().zip(&scan.tables) {
                *sum += table.null_keys;
            }
            steps.progress.scanned.fetch_add(run.plan.chunks[chunk as usize].rows.into(), Relaxed);
            steps.done();
        }
        Ok(facts)
    }
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
}

impl Doable for ResolveShards {
    fn run(self, steps: &Steps) -> Result<ShardFacts> {
        let run = steps.run(&self.run)?;
        let tables = run.layout.tables.iter().filter(|t| t.is_keyed()).count() as u64;
        steps.progress.enter(Stage::Resolve, tables * u64::from(run.plan.shards));
        let mut facts = ShardFacts::default();
        for shard in self.from..self.to {
            let resolution = run.resolution(self.table, shard, &self.segments)?;
            facts.new += resolution.new;
            facts.known += resolution.known;
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
    filtered: u64,
    quarantined: u64,
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
    KeepCommitted, "committed", (), { run: String, reserved: Reserved, segments: Vec<Vec<String>> });

impl Doable for KeepCommitted {
    fn run(self, steps: &Steps) -> Result<()> {
        keep_committed(&*steps.uncancelled(&self.run)?, &self.reserved, &self.segments)
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
        steps.forget(&self.run);
        remove_folder(&work_folder(&steps.state, &self.run))?;
        steps.progress.finish();
        Ok(())
    }
}
