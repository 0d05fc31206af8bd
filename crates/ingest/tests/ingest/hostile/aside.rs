//! `on_bad_file: quarantine`: a file that cannot be read is set aside as if it had never been there, and told of. None of
//! its keys has a number, whatever of it could be read; everything else is what a run without it makes, byte for byte.

use std::collections::BTreeMap;
use std::fs;

use seriatim_ingest::{Paths, RunReport, RunStatus, check, plan, runs, verify};
use seriatim_pipeline::model::{OnBadFile, OnNullKey, Pipeline};

use super::made::{Codec, Form, Made, PLAIN, ROWS, good};
use super::{by, things};
use crate::cells::{Cell, Kind};
use crate::crash::{Death, live_with};
use crate::files::{Column, Layout, write};
use crate::harness::{Place, audit, options, run, runtime};
use crate::objects::{container, over, published, upload};
use crate::oracle::Record;
use crate::outputs::{assert_same_tree, read_table, tree};
use crate::rng::{Rng, scaled, seed};
use crate::shared::with_a_death;

fn put(place: &Place, name: &str, content: &[u8]) {
    fs::create_dir_all(place.path().join("data")).expect("a folder can be made");
    fs::write(place.path().join("data").join(name), content).expect("the file can be written");
}

/// A file of good records with these keys.
fn put_good(place: &Place, name: &str, keys: &[&str]) {
    let columns = [Column::new("key", Kind::Text), Column::new("n", Kind::I64)];
    let record = |(n, key): (usize, &&str)| vec![Cell::Text((*key).to_owned()), Cell::Int(n as i128)];
    let records: Vec<Record> = keys.iter().enumerate().map(record).collect();
    write(&place.path().join("data").join(name), &columns, &records, &Layout::default());
}

/// The manifest without what it says of files that were set aside.
fn without_aside(mut found: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let name = "_seriatim/manifest.json";
    let mut manifest: serde_json::Value = serde_json::from_slice(&found[name]).expect("it is JSON");
    for run in manifest["runs"].as_array_mut().expect("runs") {
        run.as_object_mut().expect("a run").remove("aside");
    }
    found.insert(name.to_owned(), serde_json::to_vec(&manifest).expect("JSON"));
    found
}

/// A file whose last page is damaged: in the last row group, in the last column.
fn late(form: Form) -> Made {
    let mut made = good(form);
    let page = made.groups[1][1].len() - 1;
    made.page(1, 1, page).body.truncate(3);
    let short = made.page(1, 1, page).body.len() as i64;
    made.page(1, 1, page).header.set(&[3], short);
    made.page(1, 1, page).header.set(&[2], short);
    made
}

fn quarantine() -> Pipeline {
    things(OnBadFile::Quarantine)
}

#[test]
fn g2_g5_g7_a_file_that_is_bad_in_its_last_page_leaves_nothing() {
    let names = ["a.parquet", "c.parquet"];
    for paths in [Paths::Pages, Paths::General, Paths::Auto] {
        for (workers, chunk_rows, fan_out) in [(1, 131_072, true), (4, 7, true), (2, 1, false)] {
            let options = seriatim_ingest::RunnerOptions { workers, chunk_rows, fan_out, ..by(paths) };
            let trees = [true, false].map(|with_bad| {
                let place = Place::new();
                for name in names {
                    put_good(&place, name, &["x", name, "key-03"]);
                }
                if with_bad {
                    put(&place, "b.parquet", &late(PLAIN).write());
                    put(&place, "d.parquet", b"no Parquet at all");
                }
                let report = run(&place, &quarantine(), &options).expect("the run is done");
                assert_eq!((report.status, report.files, report.records), (RunStatus::Done, 2, 6));
                assert_eq!(report.aside.len(), if with_bad { 2 } else { 0 });
                if with_bad {
                    let [late, none] = [&report.aside[0], &report.aside[1]];
                    assert_eq!((late.what.row_group, late.what.column.as_deref()), (Some(1), Some("n")));
                    assert_eq!((late.records, none.records), (Some(ROWS), None));
                    let audited = verify(&place.project(&quarantine()), 2).expect("an audit");
                    let told = audited.checks.iter().find(|c| c.message.contains("2 files were set aside"));
                    let told = told.expect("the audit accounts for it");
                    assert!(told.message.contains("b.parquet, row group 1, column 'n'"), "{}", told.message);
                    assert!(told.message.contains("40 records"), "{}", told.message);
                    // People are told by the record of the run, too.
                    let record = runs(&place.state()).expect("records").pop().expect("a run");
                    assert_eq!(record.aside, report.aside);
                }
                audit(&place, &quarantine(), 2).expect("the audit passes");
                without_aside(tree(&place.output()))
            });
            assert_same_tree(&trees[1], &trees[0], &format!("{paths:?}, {workers} workers, chunks of {chunk_rows}"));
        }
    }
}

/// Two good files, one that is bad in its last page, one that is no Parquet.
fn put_two_of_each(place: &Place) {
    for name in ["a.parquet", "c.parquet"] {
        put_good(place, name, &["x", name, "key-03"]);
    }
    put(place, "b.parquet", &late(PLAIN).write());
    put(place, "d.parquet", b"no Parquet at all");
}

#[test]
fn g2_g5_workers_that_share_a_run_set_aside_what_one_process_does_also_if_one_dies() {
    let options = seriatim_ingest::RunnerOptions { chunk_rows: 7, ..by(Paths::Auto) };
    let alone = Place::new();
    put_two_of_each(&alone);
    let expected = run(&alone, &quarantine(), &options).expect("the run is done");
    assert_eq!(expected.aside.len(), 2);
    let mut deaths = 0;
    // The hub chooses which worker gets which step: several times, so that the one that dies gets its share.
    for death in [Death::Never, Death::Before("check"), Death::After("check"), Death::After("check")] {
        let place = Place::new();
        put_two_of_each(&place);
        let (report, died) = runtime().block_on(with_a_death(&place, &quarantine(), &options, death));
        assert_eq!((report.status, report.files, report.records), (RunStatus::Done, 2, 6), "{death:?}");
        assert_eq!(report.aside, expected.aside, "{death:?}");
        audit(&place, &quarantine(), 2).unwrap_or_else(|e| panic!("died at {death:?}: {e}"));
        assert_same_tree(&tree(&alone.output()), &tree(&place.output()), &format!("died at {death:?}"));
        deaths += u32::from(died);
    }
    assert!(deaths > 0, "none of the workers died");
}

#[test]
fn g2_objects_that_are_bad_are_set_aside_as_files_are() {
    let (alone, place, container) = (Place::new(), Place::new(), container());
    put_two_of_each(&alone);
    upload(alone.path(), &container);
    let expected = run(&alone, &quarantine(), &by(Paths::Auto)).expect("the run is done");
    let pipeline = over(&container, &quarantine());
    let report = run(&place, &pipeline, &by(Paths::Auto)).expect("the run is done");
    assert_eq!((report.status, report.files, report.records), (RunStatus::Done, 2, 6));
    let told = |report: &RunReport| {
        let each = report.aside.iter().map(|aside| {
            let name = aside.what.file.rsplit('/').next().unwrap_or_default().to_owned();
            (name, aside.what.row_group, aside.what.column.clone(), aside.records)
        });
        each.collect::<Vec<_>>()
    };
    assert_eq!(told(&report), told(&expected));
    assert!(report.aside.iter().all(|aside| aside.what.file.contains("://")), "{:?}", report.aside);
    assert_same_tree(&published(&alone), &published(&place), &"objects");
    audit(&place, &pipeline, 2).expect("the audit passes");
}

#[test]
fn the_default_stops_the_run_and_names_the_place() {
    for paths in [Paths::Pages, Paths::General] {
        let place = Place::new();
        put_good(&place, "a.parquet", &["x"]);
        put(&place, "b.parquet", &late(PLAIN).write());
        let failed = run(&place, &things(OnBadFile::Fail), &by(paths)).expect_err("a file is bad");
        assert_eq!(failed.exit_code, 1);
        for word in ["data/b.parquet", "row group 1", "column 'n'"] {
            assert!(failed.message.contains(word), "{failed:?}");
        }
        assert!(failed.help.contains("write it again"), "{failed:?}");
        assert!(read_table(&place.output().join("things")).rows.is_empty());
        // Set aside or mended, the others go in, and no number is missing.
        run(&place, &quarantine(), &by(paths)).expect("the run is done");
        put(&place, "b.parquet", &good(PLAIN).write());
        run(&place, &things(OnBadFile::Fail), &by(paths)).expect("the run is done");
        assert_eq!(read_table(&place.output().join("things")).rows.len(), 14);
        audit(&place, &quarantine(), 2).expect("the audit passes");
    }
}

#[test]
fn g5_a_file_that_was_set_aside_is_looked_at_again_when_it_has_changed() {
    let place = Place::new();
    put_good(&place, "a.parquet", &["x"]);
    put(&place, "b.parquet", &late(PLAIN).write());
    let first = run(&place, &quarantine(), &options(2)).expect("the run is done");
    assert_eq!((first.files, first.aside.len(), first.aside_known), (1, 1, 0));

    // As it was, also if it was only touched: known, and counted.
    let again = run(&place, &quarantine(), &options(2)).expect("there is nothing to do");
    assert_eq!(
        (again.status, again.files_known, again.aside.len(), again.aside_known),
        (RunStatus::NothingToDo, 1, 0, 1)
    );
    put(&place, "b.parquet", &late(PLAIN).write());
    let again = run(&place, &quarantine(), &options(2)).expect("there is nothing to do");
    assert_eq!((again.aside.len(), again.aside_known), (0, 1));
    let planned = plan(&place.project(&quarantine()), &options(2)).expect("a plan");
    assert_eq!((planned.files.len(), planned.aside_known), (0, 1));

    // Bad in another way: looked at again, set aside again.
    put(&place, "b.parquet", &late(Form { codec: Codec::Snappy, ..PLAIN }).write());
    put_good(&place, "c.parquet", &["y"]);
    let again = run(&place, &quarantine(), &options(2)).expect("the run is done");
    assert_eq!((again.files, again.aside.len(), again.aside_known), (1, 1, 0));

    // Where bad files stop a run, one that was set aside does so as well.
    let failed = run(&place, &things(OnBadFile::Fail), &options(2)).expect_err("it is still bad");
    assert!(failed.message.contains("data/b.parquet"), "{failed:?}");

    // Mended, it is ingested, once.
    put(&place, "b.parquet", &good(PLAIN).write());
    let mended = run(&place, &quarantine(), &options(2)).expect("the run is done");
    assert_eq!((mended.files, mended.records, mended.aside.len(), mended.aside_known), (1, ROWS, 0, 0));
    let done = run(&place, &quarantine(), &options(2)).expect("there is nothing to do");
    assert_eq!((done.status, done.files_known, done.aside_known), (RunStatus::NothingToDo, 3, 0));
    assert_eq!(read_table(&place.output().join("things")).rows.len(), 15);
    audit(&place, &quarantine(), 2).expect("the audit passes");

    // What was ingested stays so, whatever becomes of the file.
    put(&place, "b.parquet", &late(PLAIN).write());
    let failed = run(&place, &quarantine(), &options(2)).expect_err("an ingested file has changed");
    assert!(failed.message.contains("has changed"), "{failed:?}");
}

#[test]
fn a_source_of_nothing_but_bad_files_publishes_nothing_and_says_so() {
    let place = Place::new();
    put(&place, "b.parquet", &late(PLAIN).write());
    put(&place, "c.parquet", b"PAR1 and nothing else PAR1");
    for _ in 0..2 {
        let report = run(&place, &quarantine(), &options(2)).expect("the run is done");
        assert_eq!((report.status, report.files, report.aside.len()), (RunStatus::NothingToDo, 0, 2));
    }
    assert!(!place.output().exists());
    check(&place.project(&quarantine())).expect("the footer of one of them can be read");
    put_good(&place, "a.parquet", &["x"]);
    let report = run(&place, &quarantine(), &options(2)).expect("the run is done");
    assert_eq!((report.status, report.files, report.aside.len()), (RunStatus::Done, 1, 2));
    audit(&place, &quarantine(), 2).expect("the audit passes");
}

/// A record in quarantine is shown with all of its columns, so all of them have to be readable.
#[test]
fn columns_that_only_quarantine_shows_are_read_too() {
    for (on_null_key, files) in [(OnNullKey::Null, 1), (OnNullKey::Quarantine, 0)] {
        let mut pipeline = quarantine();
        pipeline.tables[0].on_null_key = on_null_key;
        pipeline.tables[0].columns.clear();
        pipeline.tables[1].columns.clear();
        let place = Place::new();
        put(&place, "b.parquet", &late(PLAIN).write());
        let report = run(&place, &pipeline, &options(2)).expect("the run is done");
        assert_eq!(report.files, files, "{on_null_key:?}");
    }
}

#[test]
fn g5_a_run_that_dies_anywhere_sets_the_same_files_aside() {
    let seed = seed("g5_a_run_that_dies_anywhere_sets_the_same_files_aside");
    let options = seriatim_ingest::RunnerOptions { chunk_rows: 7, ..options(2) };
    let fill = || {
        let place = Place::new();
        put_good(&place, "a.parquet", &["x", "y"]);
        put(&place, "b.parquet", &late(PLAIN).write());
        put(&place, "c.parquet", &good(PLAIN).write());
        put(&place, "d.parquet", b"no Parquet at all");
        place
    };
    let undisturbed = fill();
    let (ended, steps) = live_with(&undisturbed, &quarantine(), &options, Death::Never);
    assert_eq!(ended.expect("it never dies").expect("the run is done").aside.len(), 2);
    let expected = tree(&undisturbed.output());
    let mut deaths: Vec<Death> = (1..=steps)
        .flat_map(|step| [false, true].map(|committed| Death::At { step, committed }))
        .chain(
            ["plan", "check", "scan", "publish", "clean-up"]
                .into_iter()
                .flat_map(|name| [Death::Before(name), Death::After(name)]),
        )
        .collect();
    Rng::new(seed).shuffle(&mut deaths);
    deaths.truncate(scaled(24) as usize);
    for death in deaths {
        let place = fill();
        for death in [death, Death::Never] {
            if let (Some(ended), _) = live_with(&place, &quarantine(), &options, death) {
                ended.unwrap_or_else(|e| panic!("died at {death:?}: {e:?}"));
            }
        }
        audit(&place, &quarantine(), 2).unwrap_or_else(|e| panic!("died at {death:?}: {e}"));
        assert_same_tree(&expected, &tree(&place.output()), &format!("died at {death:?}"));
    }
}
