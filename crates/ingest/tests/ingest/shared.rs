//! Many workers, one run: workers that share nothing but the hub, the sources, the output and the work location publish
//! what one process alone publishes, byte for byte. Each worker has a state folder of its own, a new one for every run,
//! so that everything it knows of earlier runs came through the output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use seriatim_durable::hub::TaskHub;
use seriatim_hub::EmbeddedHub;
use seriatim_ingest::{RunReport, RunStatus, Runner, RunnerOptions};
use seriatim_pipeline::model::Pipeline;
use tokio::runtime::Runtime;

use crate::case::{Case, Sizes, sizes};
use crate::crash::{Death, Dying, crash_options, shop, write_parts};
use crate::guarantees::runner_options;
use crate::harness::{Failed, Place, audit, open_hub, outcome, run, runtime};
use crate::outputs::{assert_same_tree, everything, tree};
use crate::rng::{scaled, seed};

/// The names of the steps that workers do.
const STEPS: [&str; 11] = [
    "plan",
    "scan-part",
    "admit",
    "resolve",
    "write-part",
    "assemble",
    "keys",
    "publish",
    "committed",
    "withdraw",
    "clean-up",
];

/// Where the hub of a place is: in no worker's folder.
fn hub_of(place: &Place) -> Arc<EmbeddedHub> {
    open_hub(&place.path().join("hub"))
}

/// A folder that no worker has had.
fn fresh(place: &Place) -> PathBuf {
    static WORKERS: AtomicU32 = AtomicU32::new(0);
    place.path().join(format!("worker-{}", WORKERS.fetch_add(1, Relaxed)))
}

fn start(hub: Arc<dyn TaskHub>, options: &RunnerOptions, state: &Path) -> Runner {
    std::fs::create_dir_all(state).expect("a folder can be made");
    Runner::start_shared(hub, options.clone(), state).expect("a worker starts")
}

/// A process that can die: what it does goes on in a runtime of its own, and ends with that.
struct Mortal {
    runtime: Runtime,
    runner: Runner,
    dying: Dying,
    state: PathBuf,
}

impl Mortal {
    fn start(hub: Arc<EmbeddedHub>, options: &RunnerOptions, state: PathBuf, death: Death) -> Self {
        let (runtime, dying) = (runtime(), Dying::new(hub, death));
        let runner = {
            let _inside = runtime.enter();
            start(dying.hub(), options, &state)
        };
        Self { runtime, runner, dying, state }
    }

    /// Its connection ends, and its folder is gone.
    fn bury(self) {
        drop(self.runner);
        self.runtime.shutdown_background();
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

/// One run by three workers, submitted by a fourth process.
async fn by_three(place: &Place, pipeline: &Pipeline, options: &RunnerOptions) -> Result<RunReport, Failed> {
    let hub = hub_of(place);
    let workers: Vec<Runner> = (0..3).map(|_| start(hub.clone(), options, &fresh(place))).collect();
    let submitter = Runner::connect(hub.clone(), "the test", options.clone(), &place.state()).expect("a submitter");
    let report = outcome(submitter.run(&place.project(pipeline)).await);
    submitter.stop().await;
    for worker in workers {
        worker.stop().await;
    }
    hub.close().await.expect("the hub closes");
    report
}

#[test]
fn g1_g3_g5_g7_three_workers_publish_what_one_process_does() {
    let name = "g1_g3_g5_g7_three_workers_publish_what_one_process_does";
    let config = Config {
        cases: scaled(60),
        rng_seed: RngSeed::Fixed(seed(name)),
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    let check = |sizes: Sizes| {
        let case = Case::draw(&sizes);
        let said = |e: String| format!("{e}\nin {:#?}\nwith columns {:?}", case.pipeline, case.columns);
        compare_case(&case).map_err(|e| TestCaseError::fail(said(e)))
    };
    if let Err(error) = TestRunner::new(config).run(&sizes(), check) {
        panic!("{error}");
    }
}

/// Workers have copies of text files of their own, and types that one of them has found for all.
#[test]
fn g5_three_workers_read_text_files_and_files_that_drift() {
    let name = "g5_three_workers_read_text_files_and_files_that_drift";
    let config = Config {
        cases: scaled(16),
        rng_seed: RngSeed::Fixed(seed(name)),
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    let check = |sizes: Sizes| {
        let case = if sizes.seed.is_multiple_of(2) { Case::draw_text(&sizes) } else { Case::draw_drifted(&sizes) };
        let said = |e: String| format!("{e}\nin {:#?}\nwith columns {:?}", case.pipeline, case.columns);
        compare_case(&case).map_err(|e| TestCaseError::fail(said(e)))
    };
    if let Err(error) = TestRunner::new(config).run(&sizes(), check) {
        panic!("{error}");
    }
}

fn compare_case(case: &Case) -> Result<(), String> {
    let (alone, shared) = (Place::new(), Place::new());
    let options = runner_options(&case.sizes);
    for index in 0..case.sizes.runs.len() {
        case.write_files(alone.path(), index);
        case.write_files(shared.path(), index);
        let expected = run(&alone, &case.pipeline, &options);
        let found = runtime().block_on(by_three(&shared, &case.pipeline, &options));
        match (&expected, &found) {
            (Ok(expected), Ok(found)) => {
                let counts = |r: &RunReport| {
                    (r.status, r.number, r.files, r.records, r.filtered, r.quarantined, r.tables.clone())
                };
                if counts(expected) != counts(found) {
                    return Err(format!("run {}: {found:#?}\ninstead of {expected:#?}", index + 1));
                }
            }
            // Of several mistakes, which step's is told depends on who came first, in one process as well.
            (Err(expected), Err(found)) if expected.exit_code == found.exit_code => {}
            _ => return Err(format!("run {}: {found:?}\ninstead of {expected:?}", index + 1)),
        }
        assert_same_tree(&tree(&alone.output()), &tree(&shared.output()), &format!("run {}", index + 1));
        if expected.is_err() {
            break;
        }
    }
    Ok(())
}

/// What one process publishes in two runs.
fn alone(seed: u64, options: &RunnerOptions) -> BTreeMap<String, Vec<u8>> {
    let place = Place::new();
    for parts in [0..3, 3..5] {
        write_parts(place.path(), seed, parts);
        run(&place, &shop(), options).expect("the run is done");
    }
    tree(&place.output())
}

/// One run by three workers, of which one dies, and its folder with it.
pub(crate) async fn with_a_death(
    place: &Place,
    pipeline: &Pipeline,
    options: &RunnerOptions,
    death: Death,
) -> (RunReport, bool) {
    let hub = hub_of(place);
    let mut victim = Some(Mortal::start(hub.clone(), options, fresh(place), death));
    let others: Vec<Runner> = (0..2).map(|_| start(hub.clone(), options, &fresh(place))).collect();
    let submitter = Runner::connect(hub.clone(), "the test", options.clone(), &place.state()).expect("a submitter");
    let project = place.project(pipeline);
    let mut running = Box::pin(submitter.run(&project));
    let report = loop {
        let died = async {
            match &victim {
                Some(victim) => victim.dying.died().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            report = &mut running => break report,
            () = died => victim.take().into_iter().for_each(Mortal::bury),
        }
    };
    drop(running);
    let died = victim.is_none();
    let report = outcome(report).unwrap_or_else(|e| panic!("died at {death:?}: {e:?}"));
    victim.into_iter().for_each(Mortal::bury);
    submitter.stop().await;
    for worker in others {
        worker.stop().await;
    }
    hub.close().await.expect("the hub closes");
    (report, died)
}

/// One run by a worker that dies, and by the next, which begins after `between`.
pub(crate) async fn taken_over(
    place: &Place,
    options: &RunnerOptions,
    death: Death,
    between: impl FnOnce(),
) -> Result<RunReport, Failed> {
    let hub = hub_of(place);
    let submitter = Runner::connect(hub.clone(), "the test", options.clone(), &place.state()).expect("a submitter");
    let project = place.project(&shop());
    let mut running = Box::pin(submitter.run(&project));
    let victim = Mortal::start(hub.clone(), options, fresh(place), death);
    tokio::select! {
        report = &mut running => panic!("{report:?}"),
        () = victim.dying.died() => {}
    }
    victim.bury();
    between();
    let worker = start(hub.clone(), options, &fresh(place));
    let report = outcome((&mut running).await);
    drop(running);
    worker.stop().await;
    submitter.stop().await;
    hub.close().await.expect("the hub closes");
    report
}

#[test]
fn g5_a_worker_that_dies_in_any_step_is_done_without() {
    let seed = seed("g5_a_worker_that_dies_in_any_step_is_done_without");
    let options = crash_options();
    let expected = alone(seed, &options);
    let mut deaths = 0;
    for name in STEPS {
        for death in [Death::Before(name), Death::After(name)] {
            let place = Place::new();
            for parts in [0..3, 3..5] {
                write_parts(place.path(), seed, parts);
                let (report, died) = runtime().block_on(with_a_death(&place, &shop(), &options, death));
                assert_eq!(report.status, RunStatus::Done, "{death:?}");
                deaths += u32::from(died);
            }
            audit(&place, &shop(), 2).unwrap_or_else(|e| panic!("died at {death:?}: {e}"));
            assert_same_tree(&expected, &tree(&place.output()), &format!("died at {death:?}"));
        }
    }
    // Which worker gets which step is the hub's choice; the victim gets a fair share of them.
    assert!(deaths > 10, "only {deaths} of the workers died");
}

#[test]
fn g5_what_is_lost_or_damaged_in_the_work_location_is_found_out_again() {
    let seed = seed("g5_what_is_lost_or_damaged_in_the_work_location_is_found_out_again");
    let options = crash_options();
    let expected = alone(seed, &options);
    for damage in [Damage::Lost, Damage::Cut, Damage::Changed] {
        let place = Place::new();
        for parts in [0..3, 3..5] {
            write_parts(place.path(), seed, parts);
            let report = runtime().block_on(with_damage(&place, &options, damage));
            assert_eq!(report.status, RunStatus::Done, "{damage:?}: {:?}", report.error);
        }
        assert_same_tree(&expected, &tree(&place.output()), &format!("{damage:?}"));
    }
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Lost,
    Cut,
    Changed,
}

/// The first worker dies when it is about to resolve, and again when it is about to assemble; what the work location
/// holds by then, the plan aside, is damaged before others go on.
async fn with_damage(place: &Place, options: &RunnerOptions, damage: Damage) -> RunReport {
    let hub = hub_of(place);
    let submitter = Runner::connect(hub.clone(), "the test", options.clone(), &place.state()).expect("a submitter");
    let project = place.project(&shop());
    let mut running = Box::pin(submitter.run(&project));
    for death in [Death::Before("resolve"), Death::Before("write-part"), Death::Before("assemble")] {
        let victim = Mortal::start(hub.clone(), options, fresh(place), death);
        tokio::select! {
            report = &mut running => panic!("{report:?}"),
            () = victim.dying.died() => {}
        }
        victim.bury();
        for path in artifacts(&place.output().join("_seriatim/work")) {
            let bytes = std::fs::read(&path).expect("an object");
            match damage {
                Damage::Lost => std::fs::remove_file(&path).expect("it can be removed"),
                Damage::Cut => std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("it can be cut"),
                Damage::Changed => {
                    let mut bytes = bytes;
                    let middle = bytes.len() / 2;
                    bytes.get_mut(middle).into_iter().for_each(|byte| *byte ^= 1);
                    std::fs::write(&path, bytes).expect("it can be changed");
                }
            }
        }
    }
    let worker = start(hub.clone(), options, &fresh(place));
    let report = (&mut running).await.expect("the hub and the state folder can be used");
    drop(running);
    worker.stop().await;
    submitter.stop().await;
    hub.close().await.expect("the hub closes");
    report
}

/// Objects of the work location that can be made again, as paths.
fn artifacts(work: &Path) -> Vec<PathBuf> {
    let files = everything(work).into_keys().filter(|name| !name.ends_with('/'));
    let all = files.filter(|name| !name.ends_with("/plan"));
    let all: Vec<PathBuf> = all.filter(|name| !name.contains("/segment/")).map(|name| work.join(name)).collect();
    assert!(!all.is_empty(), "there is something in the work location");
    all
}

#[test]
fn g2_a_shared_run_that_is_cancelled_leaves_nothing_behind() {
    let options = crash_options();
    let place = Place::new();
    write_parts(place.path(), 7, 0..3);
    runtime().block_on(async {
        let hub = hub_of(&place);
        let submitter = Runner::connect(hub.clone(), "the test", options.clone(), &place.state()).expect("a submitter");
        let begun = submitter.begin(&place.project(&shop()), None).await.expect("it begins");
        // Another machine cancels it before there is any worker.
        let other = Runner::connect(hub.clone(), "the test", options.clone(), &fresh(&place)).expect("another");
        let cancelled = async {
            let asked = other.cancel_shared(&begun.run).await.expect("it is cancelled");
            assert_eq!(asked.status, RunStatus::Cancelled);
        };
        let joining = async {
            let cancel = place.output().join("_seriatim/work").join(&begun.run).join("cancel");
            while !cancel.exists() {
                tokio::task::yield_now().await;
            }
            start(hub.clone(), &options, &fresh(&place))
        };
        let ((), worker) = tokio::join!(cancelled, joining);
        worker.stop().await;
        let report = submitter.finish(begun).await.expect("the submitter is told");
        assert_eq!(report.status, RunStatus::Cancelled);
        hub.close().await.expect("the hub closes");
    });
    assert_eq!(tree(&place.output()), BTreeMap::new());
    runtime().block_on(by_three(&place, &shop(), &options)).expect("the next run is done");
    assert!(!place.output().join("_seriatim/work").exists(), "the work location is empty and gone");
    audit(&place, &shop(), 2).expect("the audit passes");
}
