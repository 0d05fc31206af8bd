//! Runs pipelines on the embedded hub: opens it (or waits for the process that has it), runs until nothing is left to
//! take up, stops cleanly when asked. Must never print data; it remarks on stderr.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use seriatim_durable::hub::TaskHub;
use seriatim_hub::store::StoreError;
use seriatim_hub::{EmbeddedHub, HubOptions, OpenError, Owner};
use seriatim_ingest::{Project, RecoverReport, RunReport, RunStatus, Runner, RunnerOptions};

use crate::args::{Journal, MachineArgs, Paths};
use crate::commands::recover;
use crate::error::{CliError, with_causes};
use crate::interrupt::Interrupt;
use crate::lineage::{self, Lineage};
use crate::ui::progress::Display;
use crate::ui::{Ui, human};

/// How often a state folder that another process has is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// How to run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// How to use the machine.
    pub(crate) runner: RunnerOptions,
    /// Whether to wait for a state folder that another process has.
    pub(crate) wait: bool,
    /// Where the journal goes.
    pub(crate) journal: Journal,
    /// Whether a state folder that knows less than is published is recovered from the output first.
    pub(crate) recover: bool,
    /// Who is told of runs.
    pub(crate) lineage: Option<Arc<Lineage>>,
}

impl Options {
    /// As the command line says.
    pub(crate) fn new(machine: &MachineArgs, wait: bool) -> Self {
        Self { runner: runner_options(machine), wait, journal: machine.journal, recover: false, lineage: None }
    }
}

/// The runner's options as the command line has them.
pub(crate) fn runner_options(machine: &MachineArgs) -> RunnerOptions {
    let default = RunnerOptions::default();
    RunnerOptions {
        workers: machine.workers.map_or(default.workers, usize::from),
        memory: machine.memory.unwrap_or(default.memory),
        chunk_rows: machine.chunk_rows.unwrap_or(default.chunk_rows),
        shards: machine.shards.unwrap_or(default.shards),
        paths: match machine.paths {
            Paths::Auto => seriatim_ingest::Paths::Auto,
            Paths::General => seriatim_ingest::Paths::General,
            Paths::Pages => seriatim_ingest::Paths::Pages,
        },
        work: None,
        fan_out: default.fan_out,
    }
}

/// How many files an audit reads at once.
pub(crate) fn workers(wanted: Option<u16>) -> usize {
    wanted.map_or_else(|| RunnerOptions::default().workers, usize::from)
}

/// A runtime for what waits; the work itself has threads of its own.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start the runtime: {error}")))
}

/// Runs `project` until there is nothing that was left behind: a run that was taken up is followed by one for the
/// files that came since. The reports are in order; the last one may be of a failed run, and no other.
pub(crate) async fn run(
    project: &Project,
    options: &Options,
    ui: &Ui,
    interrupt: &Interrupt,
) -> Result<Vec<RunReport>, CliError> {
    on_hub(project, options, ui, interrupt, async |runner| {
        if options.recover
            && let Some(report) = runner.recover_if_behind(project).await?
        {
            ui.remark(recover::said(&report, ui));
        }
        until_nothing_is_left(runner, project, options, ui).await
    })
    .await
}

/// Runs what waits in quarantine once more, after a run that was interrupted; no report if nothing waits.
pub(crate) async fn replay(
    project: &Project,
    mended: &[String],
    options: &Options,
    ui: &Ui,
    interrupt: &Interrupt,
) -> Result<Vec<RunReport>, CliError> {
    on_hub(project, options, ui, interrupt, async |runner| {
        let mut reports = Vec::new();
        while let Some(report) = runner.begin_interrupted(project).await? {
            reports.push(to_its_end(runner, report, options, ui).await?);
            if !reports.iter().all(|report| matches!(report.status, RunStatus::Done | RunStatus::NothingToDo)) {
                return Ok(reports);
            }
        }
        if let Some(replay) = seriatim_ingest::replay(project, mended)? {
            let begun = runner.begin(&replay, None).await?;
            reports.push(to_its_end(runner, begun, options, ui).await?);
        }
        Ok(reports)
    })
    .await
}

/// Brings the state folder of `project` up to its output.
pub(crate) async fn recover(
    project: &Project,
    options: &Options,
    ui: &Ui,
    interrupt: &Interrupt,
) -> Result<RecoverReport, CliError> {
    on_hub(project, options, ui, interrupt, async |runner| Ok(runner.recover(project).await?)).await
}

/// Does `work` with a runner on the hub of the project's state folder.
async fn on_hub<T>(
    project: &Project,
    options: &Options,
    ui: &Ui,
    interrupt: &Interrupt,
    work: impl AsyncFnOnce(&Runner) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let state = project.state();
    let disk = match options.journal {
        Journal::Disk => Some(open(&state, options.wait, ui).await?),
        Journal::Off => None,
    };
    let _graceful = interrupt.graceful();
    let hub: Arc<dyn TaskHub> = match &disk {
        Some(hub) => Arc::clone(hub) as Arc<dyn TaskHub>,
        None => EmbeddedHub::in_memory(HubOptions::default()).map_err(|error| cannot_open(&error))?,
    };
    let outcome = with_runner(hub, project, options, ui, interrupt, work).await;
    if let Some(hub) = disk {
        close(&hub, ui).await;
    }
    outcome
}

async fn with_runner<T>(
    hub: Arc<dyn TaskHub>,
    project: &Project,
    options: &Options,
    ui: &Ui,
    interrupt: &Interrupt,
    work: impl AsyncFnOnce(&Runner) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let runner = Runner::start(hub, options.runner.clone(), &project.state())?;
    let display = Display::start(ui, runner.progress());
    let outcome = tokio::select! {
        outcome = work(&runner) => outcome,
        () = interrupt.wanted() => {
            ui.remark("stopping; run again to resume");
            Err(CliError::Interrupted)
        }
    };
    runner.stop().await;
    drop(display);
    outcome
}

/// Whether another run follows: what was taken up knows nothing of files that came since.
pub(crate) fn goes_on(report: &RunReport) -> bool {
    report.resumed && report.status == RunStatus::Done
}

/// Waits for a run that has begun, and tells of it.
async fn to_its_end(runner: &Runner, begun: RunReport, options: &Options, ui: &Ui) -> Result<RunReport, CliError> {
    let told = options.lineage.as_deref();
    lineage::begun(told, &begun, |why| ui.remark(why)).await;
    let report = runner.finish(begun).await?;
    lineage::ended(told, &report, |why| ui.remark(why)).await;
    Ok(report)
}

async fn until_nothing_is_left(
    runner: &Runner,
    project: &Project,
    options: &Options,
    ui: &Ui,
) -> Result<Vec<RunReport>, CliError> {
    let mut reports: Vec<RunReport> = Vec::new();
    loop {
        let begun = runner.begin(project, None).await?;
        let report = to_its_end(runner, begun, options, ui).await?;
        let again = goes_on(&report);
        // After a run that did something, "nothing to do" is no news.
        if reports.is_empty() || report.status != RunStatus::NothingToDo {
            reports.push(report);
        }
        if !again {
            return Ok(reports);
        }
    }
}

/// Opens the hub in `state`. If another process has it: says who, and waits until it is free; or fails at once.
pub(crate) async fn open(state: &Path, wait: bool, ui: &Ui) -> Result<Arc<EmbeddedHub>, CliError> {
    let mut told = None;
    loop {
        match try_open(state)? {
            Attempt::Open(hub) => return Ok(hub),
            Attempt::Held(holder) if wait => {
                if told.as_ref() != Some(&holder) {
                    ui.remark(format!("waiting for {holder}, which has the state folder {}", state.display()));
                    told = Some(holder);
                }
                tokio::time::sleep(TRY_AGAIN).await;
            }
            Attempt::Held(holder) => {
                let message = format!("the state folder {} is held by {holder}", state.display());
                return Err(CliError::failed_with(message, "wait until it is done, or run without --no-wait"));
            }
        }
    }
}

/// What came of trying to open a hub.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It is ours.
    Open(Arc<EmbeddedHub>),
    /// A living process has it; this is what there is to say about it.
    Held(String),
}

/// Tries to open the hub in `state`, once.
pub(crate) fn try_open(state: &Path) -> Result<Attempt, CliError> {
    match EmbeddedHub::open(state, HubOptions::default()) {
        Ok(hub) => Ok(Attempt::Open(hub)),
        Err(OpenError::Held { owner, .. }) => Ok(Attempt::Held(describe(&owner))),
        Err(error) => Err(cannot_open(&error)),
    }
}

/// Closes a hub. What it acknowledged is on disk, so its last words change nothing of what was done.
pub(crate) async fn close(hub: &EmbeddedHub, ui: &Ui) {
    if let Err(error) = hub.close().await {
        ui.remark(format!("while closing the journal: {error}"));
    }
}

/// What a hub says that does not open.
pub(crate) fn cannot_open(error: &OpenError) -> CliError {
    let message = with_causes(error);
    match error {
        OpenError::Folder { .. } | OpenError::Store(StoreError::Database { .. } | StoreError::NoLog { .. }) => {
            let help = "mend the cause (a full or failing disk, a missing permission), then run again: \
                        what was done is not lost";
            CliError::failed_with(message, help)
        }
        _ => CliError::failed(message),
    }
}

fn describe(owner: &Owner) -> String {
    match jiff::Timestamp::from_second(owner.started) {
        Ok(since) if owner.pid != 0 => format!("{owner} since {}", human::moment(&since.to_string())),
        _ => owner.to_string(),
    }
}

/// Waits until no process has the hub in `state`.
pub(crate) async fn wait_until_free(state: &Path, ui: &Ui) -> Result<(), CliError> {
    close(&*open(state, true, ui).await?, ui).await;
    Ok(())
}

/// Whether a living process has the hub in `state`.
pub(crate) fn is_held(state: &Path) -> Result<bool, CliError> {
    match Owner::of(state) {
        Ok(owner) => Ok(owner.is_some()),
        Err(error) => Err(cannot_open(&error)),
    }
}
