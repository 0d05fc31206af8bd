//! G5 and G8 where a run has lost more than its process: its source files, once it needs them no more, or all hope of
//! being taken up. The first must come to its end; what the second has left in the output must be withdrawn, and must
//! never come before a reader who looks for `*.parquet`. A process dies here as in `crash`, at steps that are named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use seriatim_ingest::{RunReport, RunStatus, Runner, RunnerOptions, request_cancel, runs};

use crate::crash::{Death, crash_options, live, shop, undisturbed, write_parts};
use crate::harness::{Failed, Place, audit, open_hub, run, runtime};
use crate::outputs::{assert_same_tree, tree};
use crate::rng::seed;

/// Files of the second run, which is the one that dies.
const LATER: std::ops::Range<u64> = 3..5;

/// A place where one run is published and a second one has died, and its output between the two.
fn died(seed: u64, death: Death, before: impl FnOnce(&Place)) -> (Place, BTreeMap<String, Vec<u8>>) {
    let place = Place::new();
    write_parts(place.path(), seed, 0..LATER.start);
    run(&place, &shop(), &crash_options()).expect("the first run is done");
    write_parts(place.path(), seed, LATER);
    before(&place);
    let output = tree(&place.output());
    // With one worker, nothing else is under way when it dies.
    let (ended, _) = live(&place, &RunnerOptions { workers: 1, ..crash_options() }, death);
    assert!(ended.is_none(), "the run dies at {death:?}: {ended:?}");
    (place, output)
}

/// The next process: it takes the run up, or begins another one.
fn next_run(place: &Place) -> Result<RunReport, Failed> {
    run(place, &shop(), &crash_options())
}

/// Gives the latest run up, as a process of its own.
fn cancel_latest(place: &Place) -> RunReport {
    let latest = runs(&place.state()).expect("the records are there").pop().expect("there is a run").run;
    // Before the hub gives any work away: a run with little left to do could be done by the time it is asked to end.
    request_cancel(&place.state(), &latest).expect("the request can be left");
    runtime().block_on(async {
        let hub = open_hub(&place.state());
        let runner = Runner::start(hub.clone(), crash_options(), &place.state()).expect("a runner");
        let report = runner.cancel(&latest).await.expect("the run can be cancelled");
        runner.stop().await;
        hub.close().await.expect("the hub closes");
        report
    })
}

/// What a glob for `*.parquet` finds, however deep it looks.
fn visible(tree: &BTreeMap<String, Vec<u8>>) -> BTreeSet<&String> {
    tree.keys().filter(|name| name.ends_with(".parquet")).collect()
}

/// Stands in for a disk that is full when the manifest is to be written, the last thing that a publication writes.
fn block_manifest(place: &Place) {
    fs::create_dir_all(place.output().join("_seriatim/manifest.tmp")).expect("a folder can be made");
}

fn unblock_manifest(place: &Place) {
    fs::remove_dir(place.output().join("_seriatim/manifest.tmp")).expect("the folder can be removed");
}

/// The sources of a run are gone when it is taken up. With `needed` it may fail for it, and then says which file it
/// misses and leaves nothing; in any case the output is right once they are back.
fn without_sources(seed: u64, expected: &BTreeMap<String, Vec<u8>>, death: Death, needed: bool) {
    let (place, before) = died(seed, death, |_| {});
    for part in LATER {
        fs::remove_file(place.path().join(format!("data/part-{part}.parquet"))).expect("the file can be removed");
    }
    let outcome = next_run(&place);
    println!("without sources after {death:?}: {}", if outcome.is_ok() { "done" } else { "failed" });
    match outcome {
        Ok(_) => assert_same_tree(expected, &tree(&place.output()), &format!("taken up after {death:?}")),
        Err(failed) => {
            assert!(needed, "after {death:?} the run needs no source: {failed:?}");
            assert!(failed.message.contains("data/part-"), "the error names the file: {failed:?}");
            assert_same_tree(&before, &tree(&place.output()), &format!("failed after {death:?}"));
        }
    }
    write_parts(place.path(), seed, LATER);
    next_run(&place).unwrap_or_else(|e| panic!("with its sources back, after {death:?}: {e:?}"));
    assert_same_tree(expected, &tree(&place.output()), &format!("with its sources back, after {death:?}"));
    audit(&place, &shop(), 2).expect("the audit passes");
}

#[test]
fn g5_a_run_whose_rows_are_written_ends_also_if_its_sources_are_gone() {
    let seed = seed("g5_a_run_whose_rows_are_written_ends_also_if_its_sources_are_gone");
    let (expected, _) = undisturbed(seed, &crash_options());
    for death in [
        Death::Before("publish"),
        Death::After("publish"),
        Death::Before("committed"),
        Death::After("committed"),
        Death::Before("clean-up"),
        Death::After("clean-up"),
    ] {
        without_sources(seed, &expected, death, false);
    }
}

#[test]
fn g5_a_run_that_needs_sources_that_are_gone_names_them_and_goes_through_with_them() {
    let seed = seed("g5_a_run_that_needs_sources_that_are_gone_names_them_and_goes_through_with_them");
    let (expected, _) = undisturbed(seed, &crash_options());
    for death in [Death::Before("scan"), Death::Before("admit"), Death::Before("resolve")] {
        without_sources(seed, &expected, death, true);
    }
}

#[test]
fn g8_what_a_dead_run_has_staged_is_withdrawn_when_it_is_cancelled() {
    let seed = seed("g8_what_a_dead_run_has_staged_is_withdrawn_when_it_is_cancelled");
    let (expected, _) = undisturbed(seed, &crash_options());
    for death in [Death::After("assemble"), Death::Before("publish")] {
        let (place, before) = died(seed, death, |_| {});
        let left = tree(&place.output());
        assert!(left.len() > before.len(), "the run has staged files");
        assert_eq!(visible(&left), visible(&before), "what is staged is not visible");

        let report = cancel_latest(&place);

        // A run that was about to be published may come to its end; the report says so then.
        if report.status == RunStatus::Done {
            assert_eq!(death, Death::Before("publish"));
        } else {
            assert_eq!(report.status, RunStatus::Cancelled, "{:?}", report.error);
            assert_same_tree(&before, &tree(&place.output()), &format!("cancelled after {death:?}"));
        }
        next_run(&place).expect("the next run is done");
        assert_same_tree(&expected, &tree(&place.output()), &format!("after a run that died at {death:?}"));
        audit(&place, &shop(), 2).expect("the audit passes");
    }
}

#[test]
fn g8_what_a_dead_run_has_renamed_is_withdrawn_when_it_is_cancelled() {
    let seed = seed("g8_what_a_dead_run_has_renamed_is_withdrawn_when_it_is_cancelled");
    let (expected, _) = undisturbed(seed, &crash_options());
    let (place, before) = died(seed, Death::After("publish"), block_manifest);
    assert_ne!(visible(&tree(&place.output())), visible(&before), "it died between the renames and the manifest");

    let report = cancel_latest(&place);

    assert_eq!(report.status, RunStatus::Failed, "the manifest can still not be written");
    assert_same_tree(&before, &tree(&place.output()), &"cancelled");
    unblock_manifest(&place);
    next_run(&place).expect("the next run is done");
    assert_same_tree(&expected, &tree(&place.output()), &"after a run that was cancelled");
    audit(&place, &shop(), 2).expect("the audit passes");
}

#[test]
fn g8_what_a_dead_run_has_left_is_withdrawn_by_the_next_one() {
    let seed = seed("g8_what_a_dead_run_has_left_is_withdrawn_by_the_next_one");
    let (expected, _) = undisturbed(seed, &crash_options());
    for (death, renamed) in [(Death::Before("publish"), false), (Death::After("publish"), true)] {
        for cancelled in [false, true] {
            let what = format!("{death:?}, cancelled: {cancelled}");
            let spoil = |place: &Place| {
                if renamed {
                    block_manifest(place);
                }
            };
            let (place, before) = died(seed, death, spoil);
            assert_eq!(visible(&tree(&place.output())) != visible(&before), renamed, "{what}");
            if renamed {
                unblock_manifest(&place);
            }
            // Without its work folder a run cannot go on and cannot tidy up.
            fs::remove_dir_all(place.state().join("work")).expect("the folder can be removed");
            if cancelled {
                assert_ne!(cancel_latest(&place).status, RunStatus::Done, "{what}");
            } else {
                let failed = next_run(&place).expect_err("a run without its work folder cannot go on");
                assert!(failed.help.contains("run again"), "{what}: {failed:?}");
            }

            next_run(&place).unwrap_or_else(|e| panic!("{what}: {e:?}"));

            assert_same_tree(&expected, &tree(&place.output()), &what);
            audit(&place, &shop(), 2).expect("the audit passes");
        }
    }
}

/// Symptom: after the output had been removed, runs without new files said that there was nothing to do. Cause: only a run
/// that had something to do looked at the output. Mend: what the state folder knows to be published has to be there.
#[test]
fn g7_a_run_that_has_nothing_to_do_says_so_if_what_was_published_is_gone() {
    let place = Place::new();
    write_parts(place.path(), seed("g7_a_run_that_has_nothing_to_do_says_so_if_what_was_published_is_gone"), 0..2);
    run(&place, &shop(), &crash_options()).expect("the run is done");
    assert_eq!(next_run(&place).expect("nothing is wrong").status, RunStatus::NothingToDo);
    let aside = place.path().join("aside");
    fs::rename(place.output(), &aside).expect("a folder can be renamed");
    let failed = next_run(&place).expect_err("the output is gone");
    assert!(failed.message.ends_with("holds 0 published runs, the state folder knows 1"), "{failed:?}");
    assert!(failed.help.contains("bring back the one that is missing"), "{failed:?}");
    fs::rename(&aside, place.output()).expect("a folder can be renamed");
    assert_eq!(next_run(&place).expect("nothing is wrong any more").status, RunStatus::NothingToDo);
}
