//! The same promises where the output is in object storage: what is published there has the bytes of a folder, also
//! after a crash, on another machine, with requests that fail; and of two machines at once, one publishes. The storage
//! is Azurite; a machine is a state folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use seriatim_ingest::{RunStatus, RunnerOptions, verify};
use seriatim_pipeline::model::Format;
use seriatim_storage::Location;
use seriatim_testing::{Azurite, Fault, Faulty, Request};

use crate::crash::{Death, crash_options, live, live_with, shop, undisturbed_with, write_parts};
use crate::harness::{Failed, Place, audit, recover, run, runtime};
use crate::outputs::{assert_same_tree, tree};
use crate::rng::{Rng, scaled, seed};
use crate::shared::taken_over;

type Tree = BTreeMap<String, Vec<u8>>;
type IsLate = fn(&Request) -> bool;

const RUNS: [std::ops::Range<u64>; 2] = [0..3, 3..5];
const LEASE: &str = "_seriatim/lease.json";

/// An output that several machines can reach.
pub(crate) struct Shared {
    container: String,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self { container: Azurite::shared().container() }
    }

    fn url(&self) -> String {
        self.url_at(&Azurite::shared().blob_address())
    }

    fn url_at(&self, address: &str) -> String {
        format!("http://{address}/{}/{}/some/out", Azurite::shared().account(), self.container)
    }

    fn location(&self) -> Location {
        Location::parse(&self.url(), Path::new("/")).expect("a URL")
    }

    /// A machine with nothing in its state folder.
    pub(crate) fn machine(&self) -> Place {
        Place::with_output(self.url())
    }

    /// Every object, by its name.
    fn everything(&self) -> Tree {
        let location = self.location();
        let read = |name: &str| location.read(name).expect("it can be read").expect("it is there").0.to_vec();
        location.list("").expect("a list").into_iter().map(|entry| (entry.name.clone(), read(&entry.name))).collect()
    }

    /// What is published: without facts, lease, and what waits.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = self.everything();
        tree.retain(|name, _| !name.starts_with("_seriatim/") || name == "_seriatim/manifest.json");
        tree
    }

    fn assert_nothing_waits(&self, what: &str) {
        let all = self.everything();
        assert!(all.keys().all(|name| !name.contains("/staging/")), "{what}: nothing is left aside: {:?}", all.keys());
    }

    /// As if the time of whoever has the lease had passed.
    fn let_lease_expire(&self) {
        let location = self.location();
        let (bytes, _) = location.read(LEASE).expect("it can be read").expect("there is a lease");
        let text = String::from_utf8(bytes.to_vec()).expect("it is text");
        let line = text.lines().find(|line| line.contains("\"expires\"")).expect("it expires");
        let text = text.replace(line, "  \"expires\": \"2020-01-01T00:00:00Z\",");
        location.write(LEASE, text).expect("it can be written");
    }
}

/// What the runs publish in a folder, undisturbed, after each of them.
fn expected(seed: u64) -> Vec<Tree> {
    let place = Place::new();
    let after = |parts: std::ops::Range<u64>| {
        write_parts(place.path(), seed, parts);
        run(&place, &shop(), &crash_options()).expect("an undisturbed run is done");
        let mut tree = tree(&place.output());
        tree.retain(|name, _| !name.ends_with('/'));
        tree
    };
    RUNS.into_iter().map(after).collect()
}

/// An object is changed without its size: the audit, which fetches each object once, says which it is.
#[test]
fn g7_the_audit_finds_an_object_that_is_not_what_was_published() {
    let shared = Shared::new();
    let machine = shared.machine();
    write_parts(machine.path(), 1, 0..2);
    run(&machine, &shop(), &crash_options()).expect("the run is done");
    audit(&machine, &shop(), 2).expect("the audit passes");
    let location = shared.location();
    for folder in ["orders", "_quarantine"] {
        let name = format!("{folder}/part-000001-00000.parquet");
        let (bytes, _) = location.read(&name).expect("it can be read").expect("it is there");
        let mut changed = bytes.to_vec();
        let place = changed.len() / 2;
        changed[place] ^= 1;
        location.write(&name, changed).expect("it can be written");
        let report = verify(&machine.project(&shop()), 2).expect("an audit");
        let files = report.checks.iter().find(|check| check.guarantee == "files").expect("files are audited");
        assert!(!report.ok && !files.ok && files.message.contains(&name), "{files:?}");
        location.write(&name, bytes).expect("it can be written");
    }
    audit(&machine, &shop(), 2).expect("everything is as it was");
}

/// Logs of Delta Lake in a store: those of a folder, byte for byte, also if a run dies before and after it writes them.
#[test]
fn g5_g8_logs_in_a_store_are_those_of_a_folder() {
    let mut pipeline = shop();
    pipeline.output.format = Format::Delta;
    let seed = seed("g5_g8_logs_in_a_store_are_those_of_a_folder");
    let (mut expected, _) = undisturbed_with(&pipeline, seed, &crash_options());
    expected.retain(|name, _| !name.ends_with('/'));
    for death in [Death::Never, Death::Before("follow-manifest"), Death::After("follow-manifest")] {
        let shared = Shared::new();
        let machine = shared.machine();
        for parts in RUNS {
            write_parts(machine.path(), seed, parts);
            for death in [death, Death::Never] {
                if let (Some(ended), _) = live_with(&machine, &pipeline, &crash_options(), death) {
                    ended.unwrap_or_else(|e| panic!("{death:?}: {e:?}"));
                }
            }
        }
        assert_same_tree(&expected, &shared.tree(), &format!("{death:?}"));
        audit(&machine, &pipeline, 2).expect("the audit passes");
    }
}

fn next_run(machine: &Place) -> Result<RunStatus, Failed> {
    run(machine, &shop(), &crash_options()).map(|report| report.status)
}

#[test]
fn g5_an_output_in_a_store_has_the_bytes_of_one_in_a_folder() {
    let seed = seed("g5_an_output_in_a_store_has_the_bytes_of_one_in_a_folder");
    let expected = expected(seed);
    let shared = Shared::new();
    let machine = shared.machine();
    for (index, parts) in RUNS.into_iter().enumerate() {
        write_parts(machine.path(), seed, parts);
        let report = run(&machine, &shop(), &crash_options()).expect("the run is done");
        assert_eq!(report.output, shared.url());
        assert_same_tree(&expected[index], &shared.tree(), &"published");
    }
    audit(&machine, &shop(), 2).expect("the audit passes");
    let all = shared.everything();
    shared.assert_nothing_waits("two runs");
    let visible = |name: &&String| name.ends_with(".parquet") && name.starts_with("_seriatim");
    assert_eq!(all.keys().find(visible), None, "key maps are no tables");
    assert_eq!(next_run(&machine).expect("there is nothing to do"), RunStatus::NothingToDo);
    // Another machine audits, and goes on.
    let other = shared.machine();
    assert!(verify(&other.project(&shop()), 2).expect("an audit").ok);
    recover(&other, &shop()).expect("it recovers");
    for parts in RUNS {
        write_parts(other.path(), seed, parts);
    }
    assert_eq!(next_run(&other).expect("nothing is ingested twice"), RunStatus::NothingToDo);
}

#[test]
fn g5_a_run_that_dies_at_any_step_is_taken_up_or_done_by_another_machine_with_the_same_bytes() {
    let seed = seed("g5_a_run_that_dies_at_any_step_is_taken_up_or_done_by_another_machine_with_the_same_bytes");
    let expected = expected(seed);
    let mut rng = Rng::new(seed);
    let mut deaths: Vec<Death> =
        (0..scaled(8)).map(|_| Death::At { step: 1 + rng.below(70), committed: rng.percent(50) }).collect();
    for step in ["admit", "write", "publish", "committed", "clean-up"] {
        deaths.extend([Death::Before(step), Death::After(step)]);
    }
    for (round, death) in deaths.into_iter().enumerate() {
        let is_lost = round % 2 == 0;
        let in_run = rng.below(2) as usize;
        let what = format!("died in run {in_run} at {death:?}, state lost: {is_lost}");
        let shared = Shared::new();
        let mut machine = shared.machine();
        for (index, parts) in RUNS.into_iter().enumerate() {
            write_parts(machine.path(), seed, parts);
            if index == in_run {
                live(&machine, &RunnerOptions { workers: 1, ..crash_options() }, death);
                if is_lost {
                    machine = shared.machine();
                    for parts in &RUNS[..=index] {
                        write_parts(machine.path(), seed, parts.clone());
                    }
                    if shared.everything().contains_key(LEASE) {
                        shared.let_lease_expire();
                    }
                    recover(&machine, &shop()).unwrap_or_else(|e| panic!("{what}: {e:?}"));
                }
            }
            next_run(&machine).unwrap_or_else(|e| panic!("{what}: {e:?}"));
            assert_same_tree(&expected[index], &shared.tree(), &what);
            shared.assert_nothing_waits(&what);
        }
        audit(&machine, &shop(), 2).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
}

#[test]
fn g1_of_two_machines_at_once_one_publishes() {
    let seed = seed("g1_of_two_machines_at_once_one_publishes");
    let expected = expected(seed);
    for round in 0..scaled(4) {
        let shared = Shared::new();
        let machines = [shared.machine(), shared.machine()];
        for machine in &machines {
            write_parts(machine.path(), seed, RUNS[0].clone());
        }
        let outcomes = std::thread::scope(|scope| {
            let runs: Vec<_> = machines.iter().map(|machine| scope.spawn(|| next_run(machine))).collect();
            runs.into_iter().map(|run| run.join().expect("no panic")).collect::<Vec<_>>()
        });
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1, "round {round}: {outcomes:?}");
        for failed in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            let is_told = failed.message.contains("is held by") || failed.message.contains("holds 1 published run,");
            assert!(is_told && !failed.help.is_empty(), "{failed:?}");
        }
        assert_same_tree(&expected[0], &shared.tree(), &format!("round {round}"));
        // Each of them goes on after the other, once it knows what the other did.
        for machine in &machines {
            recover(machine, &shop()).expect("it recovers");
            assert_eq!(next_run(machine).expect("nothing is ingested twice"), RunStatus::NothingToDo);
        }
        write_parts(machines[0].path(), seed, RUNS[1].clone());
        next_run(&machines[0]).expect("it goes on");
        assert_same_tree(&expected[1], &shared.tree(), &format!("round {round}, the second run"));
        audit(&machines[1], &shop(), 2).expect("the audit passes");
    }
}

#[test]
fn g8_a_lease_keeps_others_out_until_it_expires_and_who_has_lost_it_changes_nothing() {
    let seed = seed("g8_a_lease_keeps_others_out_until_it_expires_and_who_has_lost_it_changes_nothing");
    for death in [Death::Before("resolve"), Death::Before("publish")] {
        let shared = Shared::new();
        let (first, second) = (shared.machine(), shared.machine());
        write_parts(first.path(), seed, 0..3);
        live(&first, &RunnerOptions { workers: 1, ..crash_options() }, death);
        let before = shared.everything();

        write_parts(second.path(), seed, 5..7);
        let failed = next_run(&second).expect_err("the first machine may still be at work");
        assert!(failed.message.contains("is held by process") && failed.message.contains("until"), "{failed:?}");
        assert!(failed.help.contains("run again"), "{failed:?}");
        assert_same_tree(&before, &shared.everything(), &"nothing is touched");

        shared.let_lease_expire();
        next_run(&second).expect("an expired lease is taken over");
        let published = shared.tree();
        shared.assert_nothing_waits("what was left aside is removed");

        let failed = next_run(&first).expect_err("the first machine comes back, and has lost the lease");
        assert!(failed.message.contains("is lost") || failed.message.contains("moved on"), "{death:?}: {failed:?}");
        assert_same_tree(&published, &shared.tree(), &"what is published stays");
        let failed = next_run(&first).expect_err("its next run sees that the output has moved on");
        assert!(failed.help.contains("seriatim recover"), "{failed:?}");
        recover(&first, &shop()).expect("it recovers");
        next_run(&first).expect("and goes on");
        shared.assert_nothing_waits("after its next run");
        audit(&first, &shop(), 2).expect("the audit passes");
    }
}

/// A machine whose requests pass through a connection that asks `fault` what becomes of each.
fn behind(shared: &Shared, fault: impl Fn(&Request) -> Fault + Send + Sync + 'static) -> (Place, Faulty) {
    let faulty = Faulty::before(&Azurite::shared().blob_address(), fault);
    (Place::with_output(shared.url_at(faulty.address())), faulty)
}

fn is_manifest_put(request: &Request) -> bool {
    request.method == "PUT" && request.target.contains("manifest.json")
}

/// G1 and G8 in the worst case: a machine stands still in the middle of publishing for so long that its lease runs out,
/// another one publishes meanwhile, and then the request of the first goes through.
#[test]
fn g8_a_request_that_comes_too_late_publishes_nothing() {
    let seed = seed("g8_a_request_that_comes_too_late_publishes_nothing");
    let late: [(&str, IsLate); 3] = [
        ("the manifest", is_manifest_put),
        ("a copy", |request| request.header("x-ms-copy-source").is_some()),
        ("the facts", |request| request.method == "PUT" && request.target.contains("_seriatim/state/000001.json")),
    ];
    for (what, is_late) in late {
        let shared = Arc::new(Shared::new());
        let second = Arc::new(shared.machine());
        write_parts(second.path(), seed, 5..7);
        let once = AtomicBool::new(true);
        let published: Arc<Mutex<Option<Tree>>> = Arc::default();
        let (kept, others, output) = (published.clone(), second.clone(), shared.clone());
        let (first, _faulty) = behind(&shared, move |request| {
            if is_late(request) && once.swap(false, SeqCst) {
                output.let_lease_expire();
                next_run(&others).expect("the second machine publishes");
                *kept.lock().expect("not poisoned") = Some(output.tree());
            }
            Fault::None
        });
        write_parts(first.path(), seed, 0..3);
        let failed = next_run(&first).expect_err("the first machine is too late");
        let is_told = ["moved on", "is lost", "another machine", "not of this run"].iter();
        assert!(is_told.clone().any(|text| failed.message.contains(text)), "{what}: {failed:?}");
        let published = published.lock().expect("not poisoned").take().expect("the second machine has published");
        assert_same_tree(&published, &shared.tree(), &what);
        audit(&second, &shop(), 2).unwrap_or_else(|e| panic!("{what}: {e}"));
        write_parts(second.path(), seed, 7..8);
        next_run(&second).unwrap_or_else(|e| panic!("{what}: the second machine goes on: {e:?}"));
        audit(&second, &shop(), 2).unwrap_or_else(|e| panic!("{what}: {e}"));
        // What the first has staged is removed by the next run that holds the lease.
        shared.assert_nothing_waits(what);
    }
}

/// What a machine asks of the store once another one has its lease.
#[derive(Default)]
struct Lost {
    taken: bool,
    /// Its own renewal has told it.
    known: bool,
    changes: Vec<String>,
}

/// The same where the machine comes to know of its loss while a request is on its way, because its lease is renewed beside
/// its work: it begins no other change, not even one that would do no harm.
#[test]
fn g8_who_knows_that_the_lease_is_lost_asks_for_no_change() {
    let seed = seed("g8_who_knows_that_the_lease_is_lost_asks_for_no_change");
    let shared = Arc::new(Shared::new());
    let second = Arc::new(shared.machine());
    write_parts(second.path(), seed, 5..7);
    let lost = Arc::new((Mutex::new(Lost::default()), Condvar::new()));
    let (kept, others, output) = (lost.clone(), second.clone(), shared.clone());
    let (first, _faulty) = behind(&shared, move |request| {
        let (lost, changed) = &*kept;
        let mut lost = lost.lock().expect("not poisoned");
        if request.target.contains(LEASE) {
            // A renewal that was refused is followed by a look at who has it.
            lost.known |= lost.taken && request.method == "GET";
            changed.notify_all();
        } else if request.method == "PUT" && request.target.contains("_seriatim/state/000001.json") {
            if !lost.taken {
                output.let_lease_expire();
                live(&others, &crash_options(), Death::Before("publish"));
                lost.taken = true;
            }
            let known = changed.wait_while(lost, |lost| !lost.known);
            drop(known.expect("not poisoned"));
        } else if lost.known && request.method != "GET" && request.method != "HEAD" {
            lost.changes.push(format!("{} {}", request.method, request.target));
        }
        Fault::None
    });
    write_parts(first.path(), seed, 0..3);
    let failed = next_run(&first).expect_err("the first machine has lost the lease");
    let lost = lost.0.lock().expect("not poisoned");
    assert!(lost.known && lost.changes.is_empty(), "{:?}", lost.changes);
    assert!(failed.message.contains("is lost"), "{failed:?}");
    // What was on its way then has come in between. Its next run removes that.
    let failed = next_run(&second).expect_err("the second machine meets what the first has written");
    assert!(failed.message.contains("000001.json is of another machine's run"), "{failed:?}");
    next_run(&second).expect("and goes on");
    shared.assert_nothing_waits("after its run");
    audit(&second, &shop(), 2).expect("the audit passes");
}

/// A machine whose looks at the manifest, from when `is_early` is set until the output is held, come before what another
/// worker has published; and how many looks that were.
fn with_early_looks(shared: &Shared) -> (Place, Faulty, Arc<AtomicBool>, Arc<AtomicU64>) {
    let is_early = Arc::new(AtomicBool::new(false));
    let looks = Arc::new(AtomicU64::new(0));
    let (early, counted) = (is_early.clone(), looks.clone());
    let (machine, faulty) = behind(shared, move |request| {
        if request.method == "PUT" && request.target.contains(LEASE) {
            early.store(false, SeqCst);
        }
        if early.load(SeqCst) && request.method == "GET" && request.target.contains("manifest.json") {
            counted.fetch_add(1, SeqCst);
            return Fault::Status(404);
        }
        Fault::None
    });
    (machine, faulty, is_early, looks)
}

/// Symptom: after the hub was killed while a run was being published, the manifest had the run's files twice. Cause: the
/// step was given to a second worker while the first one was still at it; the second looked before the first had put the
/// manifest, then read what the first had put, and added the run to that.
#[test]
fn g5_a_run_that_is_published_between_a_look_and_the_next_is_there_once() {
    let seed = seed("g5_a_run_that_is_published_between_a_look_and_the_next_is_there_once");
    let expected = expected(seed);
    let shared = Shared::new();
    let (machine, _faulty, is_early, looks) = with_early_looks(&shared);
    write_parts(machine.path(), seed, RUNS[0].clone());
    live(&machine, &RunnerOptions { workers: 1, ..crash_options() }, Death::After("publish"));
    assert_same_tree(&expected[0], &shared.tree(), &"the other has published");
    is_early.store(true, SeqCst);
    next_run(&machine).expect("the run comes to its end");
    assert_eq!(looks.load(SeqCst), 1, "it was looked once before the output was held");
    assert_same_tree(&expected[0], &shared.tree(), &"published once");
    shared.assert_nothing_waits("the run has ended");
    audit(&shared.machine(), &shop(), 2).expect("the audit passes");
}

/// Symptom: the same, and the run was told of as failed although it was published. Cause: a worker that has not published
/// the run itself remembers no files of it, and took it for another machine's.
#[test]
fn g5_a_run_that_another_worker_has_published_is_known_as_this_run() {
    let seed = seed("g5_a_run_that_another_worker_has_published_is_known_as_this_run");
    let expected = expected(seed);
    let shared = Shared::new();
    let (machine, _faulty, is_early, looks) = with_early_looks(&shared);
    for (index, parts) in RUNS.into_iter().enumerate() {
        write_parts(machine.path(), seed, parts);
        let begin = || is_early.store(index == 0, SeqCst);
        let report = runtime().block_on(taken_over(&machine, &crash_options(), Death::After("publish"), begin));
        let report = report.unwrap_or_else(|e| panic!("run {index}: {e:?}"));
        assert_eq!(report.status, RunStatus::Done, "run {index}: {report:?}");
        assert_same_tree(&expected[index], &shared.tree(), &format!("run {index}"));
        shared.assert_nothing_waits("the run has ended");
    }
    assert!(looks.load(SeqCst) > 0, "there were looks before the output was held");
    audit(&shared.machine(), &shop(), 2).expect("the audit passes");
}

#[test]
fn g5_a_run_whose_answers_are_lost_publishes_once() {
    let seed = seed("g5_a_run_whose_answers_are_lost_publishes_once");
    let expected = expected(seed);
    let shared = Shared::new();
    let lost = Arc::new(AtomicU64::new(0));
    let (counted, every) = (lost.clone(), AtomicU64::new(0));
    let (machine, faulty) = behind(&shared, move |request| {
        // Each kind of change once in a while; of the manifest's always the first.
        let is_change = request.method == "PUT" || request.method == "POST" || request.method == "DELETE";
        let count = every.fetch_add(u64::from(is_change), SeqCst);
        let first_manifest = is_manifest_put(request) && counted.load(SeqCst) % 2 == 0;
        if is_change && (first_manifest || count % 7 == 3) {
            counted.fetch_add(1, SeqCst);
            return Fault::AnswerLost;
        }
        if count % 11 == 5 { Fault::Status(503) } else { Fault::None }
    });
    for (index, parts) in RUNS.into_iter().enumerate() {
        write_parts(machine.path(), seed, parts);
        next_run(&machine).unwrap_or_else(|e| panic!("run {index}: {e:?}"));
        assert_same_tree(&expected[index], &shared.tree(), &format!("run {index}"));
    }
    println!("{} answers lost in {} requests", lost.load(SeqCst), faulty.requests());
    assert!(lost.load(SeqCst) > 5);
    audit(&shared.machine(), &shop(), 2).expect("the audit passes");
}

#[test]
fn an_output_that_cannot_be_reached_is_named() {
    let shared = Shared::new();
    let missing = shared.url().replace(&shared.container, "no-such-container");
    for (url, message) in [(missing.as_str(), "no-such-container"), ("ftp://somewhere/out", "output.path")] {
        let place = Place::with_output(url.to_owned());
        write_parts(place.path(), 1, 0..1);
        let failed = next_run(&place).expect_err("it cannot be written to");
        assert!(failed.message.contains(message) && !failed.help.is_empty(), "{failed:?}");
    }
}
