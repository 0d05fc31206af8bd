//! G1, G4 and G5 where the state folder is lost, or comes back from an earlier time: what is kept beside the output is
//! enough for IDs to go on, and nothing is ever taken back or given twice.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use seriatim_ingest::{RunReport, RunnerOptions};

use crate::crash::{Death, crash_options, live, shop, write_parts};
use crate::harness::{Failed, Place, audit, recover, run};
use crate::outputs::{FACTS, assert_same_tree, everything, tree};
use crate::rng::{Rng, scaled, seed};

type Tree = BTreeMap<String, Vec<u8>>;
type Harm = fn(&Path);

fn next_run(place: &Place) -> Result<RunReport, Failed> {
    run(place, &shop(), &crash_options())
}

/// What runs over these parts publish, undisturbed, after each of them.
fn published(seed: u64, runs: &[Range<u64>]) -> Vec<Tree> {
    let place = Place::new();
    let after = |parts: &Range<u64>| {
        write_parts(place.path(), seed, parts.clone());
        next_run(&place).expect("an undisturbed run is done");
        tree(&place.output())
    };
    runs.iter().map(after).collect()
}

fn lose_state(place: &Place) {
    fs::remove_dir_all(place.state()).expect("the folder can be removed");
}

/// Puts a state folder aside, or back.
fn move_state(from: &Path, to: &Path) {
    fs::rename(from, to).expect("the folder can be moved");
}

fn facts(place: &Place) -> Vec<String> {
    everything(&place.output()).into_keys().filter(|name| name.starts_with(FACTS) && !name.ends_with('/')).collect()
}

#[test]
fn g4_ids_go_on_where_they_were_when_the_state_folder_is_lost_after_every_run() {
    let seed = seed("g4_ids_go_on_where_they_were_when_the_state_folder_is_lost_after_every_run");
    // Enough of them for key maps to be merged on the way.
    let runs: Vec<Range<u64>> = (0..10).map(|part| part..part + 1).collect();
    let expected = published(seed, &runs);
    let place = Place::new();
    for (index, parts) in runs.into_iter().enumerate() {
        if index > 0 {
            lose_state(&place);
            let report = recover(&place, &shop()).expect("it is recovered");
            assert_eq!((report.published, report.known), (index as u64, 0));
            assert!(report.is_recovered() && report.tables.len() == 3, "{report:?}");
        }
        write_parts(place.path(), seed, parts);
        next_run(&place).unwrap_or_else(|e| panic!("run {}: {e:?}", index + 1));
        assert_same_tree(&expected[index], &tree(&place.output()), &format!("run {}", index + 1));
    }
    audit(&place, &shop(), 2).expect("the audit passes");
    lose_state(&place);
    recover(&place, &shop()).expect("it is recovered");
    assert_eq!(next_run(&place).expect("nothing is ingested twice").files_known, 10);
    assert!(place.state().join("pipelines/test/ledger/000003.json").exists(), "ledgers of all runs come back");
}

#[test]
fn g5_a_run_that_dies_at_any_durable_step_and_loses_its_state_ends_with_the_same_bytes() {
    let seed = seed("g5_a_run_that_dies_at_any_durable_step_and_loses_its_state_ends_with_the_same_bytes");
    let runs = [0..3, 3..5];
    let expected = published(seed, &runs);
    let place = Place::new();
    let steps = runs.clone().map(|parts| {
        write_parts(place.path(), seed, parts);
        live(&place, &crash_options(), Death::Never).1
    });
    let mut deaths: Vec<(usize, Death)> = Vec::new();
    for (in_run, steps) in steps.into_iter().enumerate() {
        deaths.extend((1..=steps).map(|step| (in_run, Death::At { step, committed: step % 2 == 0 })));
    }
    Rng::new(seed).shuffle(&mut deaths);
    deaths.truncate(scaled(30) as usize);
    // The steps around the moment at which a run becomes visible are looked at always.
    for step in ["publish", "committed", "clean-up"] {
        deaths.extend([(0, Death::Before(step)), (1, Death::After(step))]);
    }
    for (in_run, death) in deaths {
        let what = format!("died in run {in_run} at {death:?}");
        let place = Place::new();
        for (index, parts) in runs.iter().enumerate() {
            write_parts(place.path(), seed, parts.clone());
            if index == in_run {
                live(&place, &RunnerOptions { workers: 1, ..crash_options() }, death);
                lose_state(&place);
                recover(&place, &shop()).unwrap_or_else(|e| panic!("{what}: {e:?}"));
            }
            next_run(&place).unwrap_or_else(|e| panic!("{what}: {e:?}"));
            assert_same_tree(&expected[index], &tree(&place.output()), &what);
        }
        audit(&place, &shop(), 2).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
}

#[test]
fn g1_an_old_state_folder_that_comes_back_is_told_and_goes_on_after_recovering() {
    let seed = seed("g1_an_old_state_folder_that_comes_back_is_told_and_goes_on_after_recovering");
    let runs = [0..3, 3..4, 4..5, 5..6];
    let expected = published(seed, &runs);
    // Where the first machine dies in the second run; the second machine takes over from there.
    for death in [None, Some(Death::Before("publish")), Some(Death::After("publish")), Some(Death::Before("committed"))]
    {
        let place = Place::new();
        write_parts(place.path(), seed, runs[0].clone());
        next_run(&place).expect("the first run is done");
        if let Some(death) = death {
            write_parts(place.path(), seed, runs[1].clone());
            live(&place, &RunnerOptions { workers: 1, ..crash_options() }, death);
        }
        let old = place.path().join("old");
        move_state(&place.state(), &old);
        recover(&place, &shop()).expect("the second machine recovers");
        for parts in &runs[1..3] {
            write_parts(place.path(), seed, parts.clone());
            next_run(&place).expect("the second machine goes on");
        }
        assert!(tree(&place.output()).len() >= expected[1].len());
        let before = tree(&place.output());

        lose_state(&place);
        move_state(&old, &place.state());
        write_parts(place.path(), seed, runs[3].clone());
        // What was interrupted comes to its end first, which is a failure unless it had been published.
        let outcomes = [next_run(&place), next_run(&place)];
        let failed = outcomes.into_iter().rev().find_map(Result::err).expect("the old state is told");
        assert!(failed.help.contains("seriatim recover"), "{death:?}: {failed:?}");
        assert_same_tree(&before, &tree(&place.output()), &format!("{death:?}: nothing is touched"));

        let report = recover(&place, &shop()).expect("the old state recovers");
        assert!(report.is_recovered() && report.known > 0, "{death:?}: {report:?}");
        next_run(&place).unwrap_or_else(|e| panic!("{death:?}: {e:?}"));
        audit(&place, &shop(), 2).unwrap_or_else(|e| panic!("{death:?}: {e}"));
        if death.is_none() {
            assert_same_tree(&expected[3], &tree(&place.output()), &"as if one machine had done it all");
        }
        let rows: u64 = report.tables.iter().find(|t| t.table == "lines").expect("a table").rows;
        assert!(rows > 0);
    }
}

#[test]
fn a_state_folder_without_its_memory_says_what_to_do() {
    let place = Place::new();
    write_parts(place.path(), 1, 0..2);
    next_run(&place).expect("the run is done");
    let before = everything(&place.output());
    lose_state(&place);
    let failed = next_run(&place).expect_err("IDs cannot go on");
    assert!(failed.message.contains("holds 1 published run,"), "{failed:?}");
    assert!(failed.help.contains("seriatim recover"), "{failed:?}");
    assert_same_tree(&before, &everything(&place.output()), &"the output is left alone");
}

#[test]
fn recovering_never_takes_anything_back() {
    let place = Place::new();
    let report = recover(&place, &shop()).expect("there may be nothing to recover");
    assert_eq!((report.published, report.is_recovered()), (0, false));

    write_parts(place.path(), 2, 0..2);
    next_run(&place).expect("the run is done");
    let first = everything(&place.output());
    let report = recover(&place, &shop()).expect("there is nothing to do");
    assert_eq!((report.published, report.known, report.is_recovered()), (1, 1, false));

    // A backup of the output is brought back, older than the state.
    write_parts(place.path(), 2, 2..3);
    next_run(&place).expect("the run is done");
    let newer = everything(&place.state().join("pipelines"));
    fs::remove_dir_all(place.output()).expect("the folder can be removed");
    for (name, content) in first.iter().filter(|(name, _)| !name.ends_with('/')) {
        let path = place.output().join(name);
        fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder can be made");
        fs::write(path, content).expect("the file can be written");
    }
    let report = recover(&place, &shop()).expect("what is newer is left alone");
    assert_eq!((report.published, report.known, report.is_recovered()), (1, 2, false));
    assert_same_tree(&newer, &everything(&place.state().join("pipelines")), &"the state folder");
    write_parts(place.path(), 2, 3..4);
    let failed = next_run(&place).expect_err("the state is newer than the output");
    assert!(!failed.help.contains("seriatim recover"), "it would not help: {failed:?}");
}

#[test]
fn g1_the_state_folder_of_another_output_is_not_recovered_into() {
    let place = Place::new();
    write_parts(place.path(), 3, 0..1);
    next_run(&place).expect("the run is done");
    let old = place.path().join("old");
    move_state(&place.state(), &old);
    fs::remove_dir_all(place.output()).expect("the folder can be removed");
    for parts in [1..4, 4..5] {
        write_parts(place.path(), 3, parts);
        next_run(&place).expect("the run is done");
    }
    lose_state(&place);
    move_state(&old, &place.state());
    let failed = recover(&place, &shop()).expect_err("its IDs are others");
    assert!(failed.message.contains("not of this output") && failed.help.contains("empty state folder"), "{failed:?}");
}

#[test]
fn facts_that_are_damaged_or_gone_are_named() {
    let place = Place::new();
    write_parts(place.path(), 4, 0..2);
    next_run(&place).expect("the run is done");
    lose_state(&place);
    let files = facts(&place);
    let harms: [(&str, Harm); 2] = [
        ("gone", |path| fs::remove_file(path).expect("the file can be removed")),
        ("cut", |path| {
            let content = fs::read(path).expect("the file is there");
            fs::write(path, &content[..content.len() / 2]).expect("the file can be written");
        }),
    ];
    for name in files {
        for (what, harm) in harms {
            let path = place.output().join(&name);
            let content = fs::read(&path).expect("the file is there");
            harm(&path);
            let failed = recover(&place, &shop()).expect_err("it cannot be recovered");
            let index = name.ends_with("000001.json") && what == "gone";
            assert!(index || failed.message.contains(&name), "{name} is {what}: {failed:?}");
            fs::remove_file(&path).ok();
            fs::write(&path, content).expect("the file can be written");
        }
    }
    recover(&place, &shop()).expect("with all of them back, it is recovered");
    next_run(&place).expect("and goes on");
}

#[test]
fn g8_facts_are_no_tables_and_only_those_that_count_stay() {
    let place = Place::new();
    for (part, kept) in [(0, "000001.json"), (1, "000002.json")] {
        write_parts(place.path(), 5, part..part + 1);
        next_run(&place).expect("the run is done");
        let facts = facts(&place);
        assert!(facts.iter().all(|name| !name.ends_with(".parquet")), "{facts:?}");
        let indices: Vec<&String> = facts.iter().filter(|name| !name.contains(".kept")).collect();
        assert_eq!(indices, [&format!("{FACTS}{kept}")]);
        assert_eq!(facts.iter().filter(|name| name.contains(".jsonl")).count(), 1, "one memory of files: {facts:?}");
    }
    // A run that fails when everything but the manifest is in place takes its facts back.
    let before = everything(&place.output());
    write_parts(place.path(), 5, 2..3);
    let block = place.output().join("_seriatim/manifest.tmp");
    fs::create_dir(&block).expect("a folder can be made");
    next_run(&place).expect_err("the manifest cannot be written");
    fs::remove_dir(&block).expect("the folder can be removed");
    assert_same_tree(&before, &everything(&place.output()), &"a run that failed");
}
