//! Runs pipelines on a task hub: starts or takes up a run, waits for it, cancels it, keeps its record. Must never do a
//! step of a run itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use seriatim_durable::hub::{HubError, TaskHub};
use seriatim_durable::proto::TraceContext;
use seriatim_durable::{
    Client, Failure, InstanceFilter, OrchestrationContext, OrchestrationState, OrchestrationStatus, Registry,
    StartOptions, Worker, WorkerHandle,
};

use seriatim_pipeline::model::{History, Id};

use crate::committed::read_committed;
use crate::engine::OneByOne;
use crate::error::{ErrorKind, IngestError, Result};
use crate::files::{keep_apart, make_folder};
use crate::ids::holder;
use crate::number::id_of;
use crate::orchestration::{INGEST, RunInput, ingest};
use crate::outcome::RunOutput;
use crate::plan::{Cut, Paths};
use crate::process::Process;
use crate::progress::Progress;
use crate::project::Project;
use crate::record::{clear_cancel, counter, next_counter, request_cancel, runs, write_record};
use crate::recover::{RECOVER, RecoverInput, RecoverReport, recover, recovery_id};
use crate::report::{IdRange, RunReport, RunStatus, TableReport};
use crate::sequence::{CATALOG, Catalog, SEQUENCE, Sequence};
use crate::shared;
use crate::shared::Others;
use crate::state_id::state_id;
use crate::steps::register;

/// How long a stopping runner waits for the steps that are running: to their end, in effect. A step that went on after
/// the state folder is free could meet itself in the next process.
const STOP_GRACE: Duration = Duration::from_hours(24);

/// Histories of ended runs that the hub keeps for each pipeline, for whoever wants to look into one.
const KEPT_HISTORIES: usize = 10;

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_open(run: &RunReport) -> bool {
    matches!(run.status, RunStatus::Running | RunStatus::Interrupted)
}

/// How a runner uses the machine.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// Steps that run at once. At least 1; default: one per core. Changes nothing in the output.
    pub workers: usize,
    /// Bytes that scans and mappings may hold in memory; the rest waits in the run's work folder.
    /// Default: half of the machine's memory. Changes nothing in the output.
    pub memory: u64,
    /// Records in a chunk, at most; default 131,072. It is part of a run's plan, so a run that is taken up keeps its
    /// own. For tests: another value gives other files, never other IDs.
    pub chunk_rows: u32,
    /// Hash shards per table, a power of two from 1 to 4,096; 0, the default: as many as suit the number of records. For
    /// tests: changes nothing in the output.
    pub shards: u32,
    /// How columns are read and written. For tests: another value gives files with other pages, never other values.
    pub paths: Paths,
    /// Where the workers of a run leave what the others need of it, where they have state folders of their own: a path or
    /// a URL that all of them reach; a relative path starts at the pipeline's folder. `None`, the default: beside the
    /// output. Changes nothing in the output.
    pub work: Option<String>,
    /// Whether steps that need nothing of each other may run at once; default: yes. Without, each begins when the one
    /// before it has ended: the plain pipeline. Changes nothing in the output.
    pub fan_out: bool,
}

impl Default for RunnerOptions {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            memory: machine_memory() / 2,
            chunk_rows: 131_072,
            shards: 0,
            paths: Paths::Auto,
            work: None,
            fan_out: true,
        }
    }
}

impl RunnerOptions {
    pub(crate) fn cut(&self) -> Cut {
        Cut {
            chunk_rows: self.chunk_rows.max(1),
            shards: if self.shards == 0 { 0 } else { self.shards.min(4096).next_power_of_two() },
            paths: self.paths,
        }
    }
}

/// The machine's memory in bytes, or that of the control group that this process lives in, if it has less.
fn machine_memory() -> u64 {
    let info = rustix::system::sysinfo();
    let machine = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit.max(1)));
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    limit.map_or(machine, |limit: u64| limit.min(machine)).max(256 << 20)
}

/// A worker and a client on one hub.
#[derive(Debug)]
pub struct Runner {
    client: Client,
    /// `None`: other processes do the steps.
    worker: Option<WorkerHandle>,
    /// Whether its runs are carried out by workers with state folders of their own.
    shared: bool,
    /// What people are told of the hub, if it is elsewhere.
    hub: Option<String>,
    options: RunnerOptions,
    state: PathBuf,
    progress: Arc<Progress>,
    /// Runs that this process has begun or taken up and not finished.
    mine: Mutex<BTreeSet<String>>,
}

fn hub_error(error: &HubError) -> IngestError {
    let e = IngestError::new(ErrorKind::System, error.to_string());
    match error {
        HubError::Fenced(_) => {
            e.help("mend the cause (a full or failing disk), then run again: the run goes on where it was")
        }
        _ => e,
    }
}

impl Runner {
    /// Starts a worker on `hub`, whose steps keep their files in the state folder `state`. No other process may work on
    /// the runs of that folder. Must be called within a tokio runtime.
    pub fn start(hub: Arc<dyn TaskHub>, options: RunnerOptions, state: &Path) -> Result<Self> {
        Self::start_worker(hub, options, state, false)
    }

    /// The same where other processes work on the same runs, each with a state folder of its own: what one finds out
    /// reaches the others through the run's work location.
    pub fn start_shared(hub: Arc<dyn TaskHub>, options: RunnerOptions, state: &Path) -> Result<Self> {
        keep_apart();
        Self::start_worker(hub, options, state, true)
    }

    /// The same without a worker: other processes do the steps of the runs that are begun here. `name` is what people are
    /// told of the hub.
    pub fn connect(hub: Arc<dyn TaskHub>, name: &str, options: RunnerOptions, state: &Path) -> Result<Self> {
        make_folder(state)?;
        Ok(Self { hub: Some(name.to_owned()), ..Self::of(hub, None, options, state, Arc::default(), true) })
    }

    fn start_worker(hub: Arc<dyn TaskHub>, options: RunnerOptions, state: &Path, shared: bool) -> Result<Self> {
        make_folder(state)?;
        let progress = Arc::new(Progress::default());
        let workers = options.workers.max(1);
        let others = shared.then(|| Others::new(Client::new(hub.clone())));
        let steps = Arc::new(Process::new(state.to_owned(), options.memory, workers, progress.clone(), others)?);
        let mut registry = Registry::new();
        register(&mut registry, &steps);
        registry.orchestration(INGEST, |engine: OrchestrationContext, input: RunInput| async move {
            let outcome =
                if input.one_by_one { ingest(OneByOne(engine), input).await } else { ingest(engine, input).await };
            outcome.map_err(Failure::from)
        });
        registry.orchestration(RECOVER, |engine: OrchestrationContext, input: RecoverInput| async move {
            recover(engine, input).await.map_err(Failure::from)
        });
        registry.entity(SEQUENCE, || Sequence);
        registry.entity(CATALOG, || Catalog);
        let worker = Worker::builder(hub.clone(), registry)
            .max_concurrent_activities(workers)
            .stop_grace(STOP_GRACE)
            .build()
            .start();
        Ok(Self::of(hub, Some(worker), options, state, progress, shared))
    }

    fn of(
        hub: Arc<dyn TaskHub>,
        worker: Option<WorkerHandle>,
        options: RunnerOptions,
        state: &Path,
        progress: Arc<Progress>,
        shared: bool,
    ) -> Self {
        let (client, state) = (Client::new(hub), state.to_owned());
        Self { client, worker, shared, hub: None, options, state, progress, mine: Mutex::default() }
    }

    /// Waits for the worker to end by itself, and says why it did: its hub sent it away for good.
    pub async fn ended(&mut self) -> IngestError {
        let Some(worker) = &mut self.worker else { return std::future::pending().await };
        match worker.ended().await {
            Err(error) => IngestError::new(ErrorKind::System, error.to_string()),
            Ok(()) => IngestError::internal("the worker ended without a reason"),
        }
    }

    /// How far the work of this process is.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Takes up the pipeline's interrupted run if there is one, else starts a new one, and waits for its end. A run
    /// that fails is a report that says so; `Err` means that the hub or the state folder could not be used.
    pub async fn run(&self, project: &Project) -> Result<RunReport> {
        let since = Instant::now();
        let report = self.begin(project, None).await?;
        self.end(report, since).await
    }

    /// The first half of [`Self::run`]: returns as soon as the run is recorded, with the trace that it belongs to.
    /// [`Self::finish`] has to follow, or its record stays open.
    pub async fn begin(&self, project: &Project, trace: Option<TraceContext>) -> Result<RunReport> {
        match self.begin_interrupted(project).await? {
            Some(report) => Ok(report),
            None => self.start_run(project, trace).await,
        }
    }

    /// As [`Self::begin`], but only takes up a run that was interrupted; `None` if there is none.
    pub async fn begin_interrupted(&self, project: &Project) -> Result<Option<RunReport>> {
        let taken = self.take_up(&project.pipeline().name).await?;
        taken.map(|run| self.begin_record(project, run, true)).transpose()
    }

    /// The second half of [`Self::run`]: waits until the run has ended, and records it.
    pub async fn finish(&self, report: RunReport) -> Result<RunReport> {
        self.end(report, Instant::now()).await
    }

    async fn end(&self, mut report: RunReport, since: Instant) -> Result<RunReport> {
        let state = self.wait(&report.run).await?;
        self.settle(&mut report, &state, since)?;
        Ok(report)
    }

    /// Brings a state folder that is empty, or older than the output, up to what is published there. A run of the
    /// pipeline that was interrupted comes to its end first.
    pub async fn recover(&self, project: &Project) -> Result<RecoverReport> {
        let id = recovery_id(&project.pipeline().name);
        let input = RecoverInput {
            pipeline: project.pipeline().clone(),
            folder: project.folder().to_owned(),
            owner: state_id(&self.state)?,
        };
        loop {
            let ended = [OrchestrationStatus::Completed, OrchestrationStatus::Failed, OrchestrationStatus::Terminated];
            let options = StartOptions {
                instance_id: Some(id.clone()),
                replaceable: Some(ended.to_vec()),
                ..StartOptions::default()
            };
            let fresh = match self.client.start(RECOVER, &input, options).await {
                Ok(_) => true,
                // One that was interrupted: its word is of the output as it was then.
                Err(HubError::AlreadyExists(_)) => false,
                Err(error) => return Err(hub_error(&error)),
            };
            let state = self.wait(&id).await?;
            if fresh {
                return Ok(state.output::<RecoverReport>()?);
            }
        }
    }

    /// The same if more is published than the state folder knows of. A run that is to be taken up knows better: maybe it
    /// is the one that was published.
    pub async fn recover_if_behind(&self, project: &Project) -> Result<Option<RecoverReport>> {
        let pipeline = &project.pipeline().name;
        let is_open = |run: &RunReport| run.pipeline == *pipeline && is_open(run);
        if runs(&self.state)?.iter().any(is_open) {
            return Ok(None);
        }
        let published = project.output()?.manifest()?.map_or(0, |manifest| manifest.number());
        if published <= read_committed(&self.state, pipeline)?.number {
            return Ok(None);
        }
        self.recover(project).await.map(Some)
    }

    /// Cancels a run that no other process has: what it did is withdrawn, its sequences are released. A run that was
    /// being published comes to its end instead; the report says which.
    pub async fn cancel(&self, run: &str) -> Result<RunReport> {
        let since = Instant::now();
        let mut report = crate::record::run_record(&self.state, run)?;
        if !is_open(&report) {
            return Ok(report);
        }
        request_cancel(&self.state, run)?;
        if self.client.get(run).await.map_err(|e| hub_error(&e))?.is_some() {
            let state = self.wait(run).await?;
            self.settle(&mut report, &state, since)?;
        } else {
            report.status = RunStatus::Cancelled;
            report.ended = Some(now());
            clear_cancel(&self.state, run);
            write_record(&self.state, &report)?;
        }
        Ok(report)
    }

    /// Cancels a run that workers with state folders of their own carry out, whoever has begun it.
    pub async fn cancel_shared(&self, run: &str) -> Result<RunReport> {
        let since = Instant::now();
        let known = self.client.get(run).await.map_err(|e| hub_error(&e))?.filter(|known| known.name == INGEST);
        let unknown = || IngestError::state(format!("the task hub has no run '{run}'"));
        let input: RunInput = known.ok_or_else(unknown)?.input()?;
        let Some(work) = input.work else {
            return Err(IngestError::state(format!("run '{run}' is carried out in a state folder"))
                .help("cancel it where that folder is, without naming a hub"));
        };
        let project = Project::new(input.pipeline, input.folder.clone());
        let place = (work, input.folder, run.to_owned());
        let asked = place.clone();
        blocking(move || shared::request_cancel(&asked.0, &asked.1, &asked.2)).await?;
        let state = self.wait(run).await?;
        // A request that came too late for the run's own clean-up.
        blocking(move || shared::clear(&place.0, &place.1, &place.2)).await?;
        let mut report = self.begin_record(&project, run.to_owned(), false)?;
        self.settle(&mut report, &state, since)?;
        Ok(report)
    }

    /// Stops: takes no new work and waits for the steps that are running. A run that is not at its end stays in the
    /// hub, and is taken up by the next `run`.
    pub async fn stop(self) {
        // A worker that ended with an error was fenced off by its hub, and who waits for a run is told by the hub.
        if let Some(worker) = self.worker {
            let _ = worker.stop().await;
        }
        // A shared run goes on without who began it.
        let mine = self.mine.into_inner().unwrap_or_else(PoisonError::into_inner);
        for run in mine.into_iter().filter(|_| !self.shared) {
            if let Ok(mut record) = crate::record::run_record(&self.state, &run) {
                record.status = RunStatus::Interrupted;
                let _ = write_record(&self.state, &record);
            }
        }
    }

    /// The pipeline's runs that the hub knows.
    async fn instances(&self, pipeline: &str) -> Result<Vec<OrchestrationState>> {
        let prefix = format!("{pipeline}-");
        let filter = InstanceFilter { id_prefix: Some(prefix.clone()), ..InstanceFilter::default() };
        let mut instances = self.client.query(&filter).await.map_err(|e| hub_error(&e))?;
        // Another pipeline's name may begin like this one's.
        instances.retain(|i| i.name == INGEST && i.instance_id.strip_prefix(&prefix).is_some_and(is_number));
        Ok(instances)
    }

    /// The highest number among them: others begin runs on the same hub.
    async fn highest(&self, pipeline: &str) -> Result<u64> {
        Ok(self.instances(pipeline).await?.iter().map(|i| counter(&i.instance_id)).max().unwrap_or_default())
    }

    /// An unfinished run of the pipeline that nobody in this process waits for.
    async fn take_up(&self, pipeline: &str) -> Result<Option<String>> {
        let instances = self.instances(pipeline).await?;
        self.settle_forgotten(pipeline).await?;
        self.purge_old(&instances).await?;
        if self.shared {
            self.clear_ended(&instances).await?;
        }
        for instance in instances.into_iter().filter(|i| !i.status.is_ended()) {
            let run = instance.instance_id;
            if !self.mine.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone()) {
                continue;
            }
            // Between the query and now, another task of this process may have brought it to its end.
            let now = self.client.get(&run).await.map_err(|e| hub_error(&e))?;
            if now.is_some_and(|i| !i.status.is_ended()) {
                return Ok(Some(run));
            }
            self.mine.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
        }
        Ok(None)
    }

    /// Removes what ended runs have left in their work locations: a worker that the hub took for lost may have come late.
    async fn clear_ended(&self, instances: &[OrchestrationState]) -> Result<()> {
        for instance in instances.iter().filter(|i| i.status.is_ended()) {
            // Inputs are not part of the list; of an ended run there are a few.
            let Some(known) = self.client.get(&instance.instance_id).await.map_err(|e| hub_error(&e))? else {
                continue;
            };
            if let Ok(RunInput { run, folder, work: Some(work), .. }) = known.input::<RunInput>() {
                blocking(move || shared::clear(&work, &folder, &run)).await?;
            }
        }
        Ok(())
    }

    /// Where a run's work is, if its workers have state folders of their own.
    fn work(&self, project: &Project) -> String {
        let beside = || format!("{}/_seriatim/work", project.pipeline().output.path.trim_end_matches('/'));
        self.options.work.clone().unwrap_or_else(beside)
    }

    /// Ends the records of runs whose process died between the run's end and its record's.
    async fn settle_forgotten(&self, pipeline: &str) -> Result<()> {
        for mut record in runs(&self.state)? {
            if !is_open(&record) || record.pipeline != pipeline || self.is_mine(&record.run) {
                continue;
            }
            let state = self.client.get(&record.run).await.map_err(|e| hub_error(&e))?;
            match state {
                Some(state) if state.status.is_ended() => self.settle(&mut record, &state, Instant::now())?,
                Some(_) => {}
                None => {
                    record.status = RunStatus::Failed;
                    record.error = Some("the run was never started".to_owned());
                    record.ended = Some(now());
                    write_record(&self.state, &record)?;
                }
            }
        }
        Ok(())
    }

    fn is_mine(&self, run: &str) -> bool {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner).contains(run)
    }

    /// Lets the hub forget the histories of old runs: what people ask for is in the records.
    async fn purge_old(&self, instances: &[OrchestrationState]) -> Result<()> {
        let mut ended: Vec<&str> =
            instances.iter().filter(|i| i.status.is_ended()).map(|i| i.instance_id.as_str()).collect();
        ended.sort_by_key(|run| std::cmp::Reverse(counter(run)));
        for run in ended.into_iter().skip(KEPT_HISTORIES).filter(|run| !self.is_mine(run)) {
            self.client.purge(run, false).await.map_err(|e| hub_error(&e))?;
        }
        Ok(())
    }

    async fn start_run(&self, project: &Project, trace: Option<TraceContext>) -> Result<RunReport> {
        project.check_places()?;
        let after = if self.shared { self.highest(&project.pipeline().name).await? + 1 } else { 0 };
        loop {
            // Another run of this process may have begun since, and has no record yet.
            let run = {
                let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
                let mut number = next_counter(&self.state)?.max(after);
                while !mine.insert(format!("{}-{number}", project.pipeline().name)) {
                    number += 1;
                }
                format!("{}-{number}", project.pipeline().name)
            };
            let input = RunInput {
                run: run.clone(),
                owner: state_id(&self.state)?,
                pipeline: project.pipeline().clone(),
                folder: project.folder().to_owned(),
                cut: self.options.cut(),
                work: self.shared.then(|| self.work(project)),
                holder: holder(project.pipeline(), &run),
                one_by_one: !self.options.fan_out,
                aside: Vec::new(),
                replayed: project.replayed().to_vec(),
            };
            clear_cancel(&self.state, &run);
            let options = StartOptions {
                instance_id: Some(run.clone()),
                replaceable: Some(Vec::new()),
                trace: trace.clone(),
                ..StartOptions::default()
            };
            let report = self.begin_record(project, run.clone(), false)?;
            match self.client.start(INGEST, &input, options).await {
                Ok(_) => return Ok(report),
                // Its record was lost; the record just written takes the number.
                Err(HubError::AlreadyExists(_)) => {
                    self.mine.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
                }
                Err(error) => return Err(hub_error(&error)),
            }
        }
    }

    fn begin_record(&self, project: &Project, run: String, resumed: bool) -> Result<RunReport> {
        let before = crate::record::run_record(&self.state, &run).ok();
        let started = before.map_or_else(now, |b| b.started);
        let pipeline = project.pipeline().name.clone();
        let report = RunReport {
            resumed,
            owner: Some(owner()),
            hub: self.hub.clone(),
            ..RunReport::begun(run, pipeline, started, project.output()?.to_string())
        };
        write_record(&self.state, &report)?;
        Ok(report)
    }

    async fn wait(&self, run: &str) -> Result<OrchestrationState> {
        let state = self.client.wait_for_completion(run).await.map_err(|e| hub_error(&e))?;
        state.ok_or_else(|| IngestError::state(format!("the task hub has lost run '{run}'")))
    }

    /// Brings a record to its end.
    fn settle(&self, report: &mut RunReport, state: &OrchestrationState, since: Instant) -> Result<()> {
        match state.output::<RunOutput>() {
            Ok(output) => {
                let input = state.input::<RunInput>().map_err(IngestError::from)?;
                fill(report, &input, output);
            }
            Err(failure) => {
                let error = IngestError::from(failure);
                report.status =
                    if error.kind == ErrorKind::Cancelled { RunStatus::Cancelled } else { RunStatus::Failed };
                report.error = Some(error.message);
                report.error_kind = Some(error.kind);
                report.help = error.help;
            }
        }
        report.ended = Some(now());
        report.seconds = self.progress.seconds();
        report.total_seconds = since.elapsed().as_secs_f64();
        write_record(&self.state, report)?;
        clear_cancel(&self.state, &report.run);
        self.mine.lock().unwrap_or_else(PoisonError::into_inner).remove(&report.run);
        Ok(())
    }
}

/// Does what may wait for another machine on a thread that may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(IngestError::internal(format!("a thread ended early: {e}"))))
}

fn fill(report: &mut RunReport, input: &RunInput, output: RunOutput) {
    report.status = if output.number.is_some() { RunStatus::Done } else { RunStatus::NothingToDo };
    report.number = output.number;
    report.files = output.files;
    report.files_known = output.files_known;
    report.records = output.records;
    report.replay = !input.replayed.is_empty();
    report.filtered = output.filtered;
    report.quarantined = output.quarantined;
    report.checks = output.checks;
    report.aside = output.aside;
    report.aside_known = output.aside_known;
    report.differences = output.differences;
    report.more_differences = output.more_differences;
    for (table, done) in input.pipeline.tables.iter().zip(output.tables) {
        let range = table.id.as_ref().filter(|_| done.count > 0).map(|id| {
            let id = Id { start: done.start.unwrap_or(id.start), ..id.clone() };
            let ends = id_of(&id, done.first).zip(id_of(&id, done.first + done.count - 1));
            ends.map(|(first, last)| IdRange { first, last, step: id.step, count: done.count })
        });
        let versions = table.history.as_ref().is_some_and(History::keeps_versions);
        let later = done.versions + if versions { done.updated } else { 0 };
        report.tables.push(TableReport {
            table: table.name.clone(),
            rows: done.count,
            total_rows: done.first + done.count - done.others + later,
            ids: range.flatten(),
            known_keys: done.known,
            conflicting_keys: table.count_conflicts.then_some(done.conflicts),
            adopted_keys: done.adopted,
            updated_keys: done.updated,
            rewritten_files: done.rewritten,
            null_keys: done.null_keys,
            columns: done.columns,
            elements: done.elements,
            bytes: done.files.iter().map(|(_, bytes)| bytes).sum(),
            files: done.files.into_iter().map(|(file, _)| format!("{}/{file}", table.name)).collect(),
        });
    }
}

/// This process, for people.
pub(crate) fn owner() -> String {
    let system = rustix::system::uname();
    format!("process {} on {}", std::process::id(), system.nodename().to_string_lossy())
}

/// The time, always as long: what is written so is in order when it is sorted as text.
fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}
