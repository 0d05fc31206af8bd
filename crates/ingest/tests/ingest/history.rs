//! Slowly changing attributes on whole pipelines: what a later run says of a known key takes the place of what was said
//! before, or stands beside it as a version, in the order of IDs, whatever dies on the way. What random pipelines make of
//! it is compared with the oracle elsewhere.

use std::collections::BTreeMap;
use std::fs;

use seriatim_ingest::{Paths, RunReport, RunnerOptions, verify, who};
use seriatim_pipeline::model::{Format, History, HistoryKind, Id, OnConflict, PerGroup, Pipeline, TextId};

use crate::cells::{Cell, Kind};
use crate::crash::{Death, crash_options, live_with};
use crate::delta::compare_logs;
use crate::files::{Column, Layout, write};
use crate::harness::{Failed, Place, audit, keyed, options, pipeline, recover, run, runtime};
use crate::oracle::Record;
use crate::outputs::{assert_same_tree, parquet_files, read_table, tree};
use crate::rng::{Rng, scaled, seed};
use crate::shared::with_a_death;
use crate::store::Shared;

/// A person: name, city, age, and since when that holds.
type Person<'a> = (&'a str, Option<&'a str>, Option<i64>, i64);

fn write_people(place: &Place, name: &str, people: &[Person<'_>]) {
    let columns = [
        Column::new("name", Kind::Text),
        Column::new("city", Kind::Text),
        Column::new("age", Kind::I64),
        Column::new("since", Kind::I64),
    ];
    let text = |text: &str| Cell::Text(text.to_owned());
    let int = |n: i64| Cell::Int(n.into());
    let since = |n: i64| if n < 0 { Cell::Null } else { int(n) };
    let record = |p: &Person<'_>| -> Record {
        vec![text(p.0), p.1.map_or(Cell::Null, text), p.2.map_or(Cell::Null, int), since(p.3)]
    };
    let records: Vec<Record> = people.iter().map(record).collect();
    write(&place.path().join("data").join(name), &columns, &records, &Layout { row_group: 3, ..Layout::default() });
}

fn history(kind: HistoryKind, valid_from: Option<&str>) -> History {
    History { kind, valid_from: valid_from.map(str::to_owned) }
}

/// People who live in cities; both have keys.
fn people(history: History) -> Pipeline {
    let mut people = keyed("people", &["name"], &["cities"], &["age"]);
    people.on_conflict = OnConflict::Last;
    people.history = Some(history);
    pipeline(vec![keyed("cities", &["city"], &[], &[]), people])
}

fn scd1() -> Pipeline {
    people(history(HistoryKind::Scd1, None))
}

fn scd2() -> Pipeline {
    people(history(HistoryKind::Scd2, Some("since")))
}

/// The rows of a table, as texts.
fn rows(place: &Place, table: &str) -> Vec<String> {
    let shown = |cell: &Cell| match cell {
        Cell::Null => "-".to_owned(),
        Cell::Int(n) => n.to_string(),
        Cell::Text(text) => text.clone(),
        Cell::Bool(true) => "now".to_owned(),
        Cell::Bool(false) => "then".to_owned(),
        other => panic!("{other:?}"),
    };
    let row = |row: &Vec<Cell>| row.iter().map(shown).collect::<Vec<_>>().join(" ");
    read_table(&place.output().join(table)).rows.iter().map(row).collect()
}

/// What a run says of a table: new rows, known keys, those that have changed, and files written anew.
fn counts(report: &RunReport, table: usize) -> (u64, u64, u64, u64) {
    let table = &report.tables[table];
    (table.rows, table.known_keys, table.updated_keys, table.rewritten_files)
}

/// Three runs: of the second, one key changes its age and one its city; of the third, nothing, and then a null.
fn three_runs(pipeline: &Pipeline, options: &RunnerOptions) -> (Place, Vec<RunReport>) {
    let place = Place::new();
    let (rome, oslo) = (Some("Rome"), Some("Oslo"));
    let mut reports = Vec::new();
    for (name, people) in [
        ("a.parquet", &[("ann", rome, Some(1), 10), ("bob", oslo, None, 10), ("cid", rome, Some(3), 10)][..]),
        ("b.parquet", &[("cid", Some("Bonn"), Some(3), 20), ("dan", oslo, Some(4), 20), ("ann", rome, Some(2), 20)]),
        ("c.parquet", &[("bob", oslo, None, 30), ("ann", None, Some(2), 30), ("cid", Some("Bonn"), Some(3), 5)]),
    ] {
        write_people(&place, name, people);
        reports.push(run(&place, pipeline, options).expect("the run is done"));
        audit(&place, pipeline, 2).expect("the audit passes");
    }
    (place, reports)
}

#[test]
fn scd1_known_keys_get_what_later_runs_say_in_their_place() {
    let (place, reports) = three_runs(&scd1(), &options(2));
    assert_eq!(rows(&place, "people"), ["1 ann - 2", "2 bob 2 -", "3 cid 3 3", "4 dan 2 4"]);
    assert_eq!(rows(&place, "cities"), ["1 Rome", "2 Oslo", "3 Bonn"], "a table without history stays as it is");
    let found: Vec<_> = reports.iter().map(|report| counts(report, 1)).collect();
    assert_eq!(found, [(3, 0, 0, 0), (1, 2, 2, 1), (0, 3, 1, 1)]);
    assert_eq!(reports[2].tables[1].total_rows, 4);
    let names: Vec<_> = parquet_files(&place.output().join("people"));
    let names: Vec<_> = names.iter().map(|path| path.file_name().expect("a name").to_string_lossy()).collect();
    assert_eq!(names, ["part-000001-00000-r000003.parquet", "part-000002-00000.parquet"]);
}

#[test]
fn scd2_each_change_is_a_version_beside_the_one_before() {
    let (place, reports) = three_runs(&scd2(), &options(2));
    let expected = [
        "1 ann 1 1 10 20 then",
        "1 ann 1 2 20 30 then",
        "1 ann - 2 30 - now",
        "2 bob 2 - 10 - now",
        "3 cid 1 3 10 20 then",
        "3 cid 3 3 20 - now",
        "4 dan 2 4 20 - now",
    ];
    assert_eq!(rows(&place, "people"), expected);
    let found: Vec<_> = reports.iter().map(|report| counts(report, 1)).collect();
    assert_eq!(found, [(3, 0, 0, 0), (1, 2, 2, 1), (0, 3, 1, 1)]);
    let totals: Vec<_> = reports.iter().map(|report| report.tables[1].total_rows).collect();
    assert_eq!(totals, [3, 6, 7]);
    // Where an ID comes from does not change with what is said of it.
    let found = who(&place.project(&scd2()), "people", 3).expect("it is known");
    assert_eq!((found.run, found.source_file.as_deref(), found.source_row), (1, Some("data/a.parquet"), Some(2)));
    assert!(found.values.contains(&("is_current".to_owned(), Some("true".to_owned()))), "{:?}", found.values);
}

#[test]
fn g5_however_it_is_cut_and_read_a_history_has_the_same_bytes() {
    for pipeline in [scd1(), scd2()] {
        let (expected, _) = three_runs(&pipeline, &options(1));
        for (workers, chunk_rows, shards, paths) in
            [(4, 1, 1, Paths::Pages), (3, 2, 64, Paths::General), (2, 100, 2, Paths::Pages)]
        {
            let options = RunnerOptions { chunk_rows, shards, paths, ..options(workers) };
            let (found, _) = three_runs(&pipeline, &options);
            assert_eq!(rows(&expected, "people"), rows(&found, "people"), "{options:?}");
            if paths == Paths::General {
                let again = RunnerOptions { workers: 1, memory: 1, ..options };
                let (again, _) = three_runs(&pipeline, &again);
                assert_same_tree(&tree(&found.output()), &tree(&again.output()), &"alone, with little memory");
            }
        }
    }
}

#[test]
fn a_run_that_brings_nothing_new_writes_nothing_anew() {
    for pipeline in [scd1(), scd2(), people(history(HistoryKind::Scd2, None))] {
        let place = Place::new();
        write_people(&place, "a.parquet", &[("ann", Some("Rome"), None, 1), ("bob", None, Some(0), 1)]);
        run(&place, &pipeline, &options(2)).expect("the run is done");
        let before = tree(&place.output().join("people"));
        // As they are, also if that is said to hold since then or since before.
        write_people(&place, "b.parquet", &[("bob", None, Some(0), 0), ("ann", Some("Rome"), None, 9)]);
        let report = run(&place, &pipeline, &options(2)).expect("the run is done");
        assert_eq!(counts(&report, 1), (0, 2, 0, 0));
        assert_same_tree(&before, &tree(&place.output().join("people")), &"nothing has changed");
        audit(&place, &pipeline, 2).expect("the audit passes");
    }
}

#[test]
fn versions_hold_since_their_run_was_accepted_where_no_column_says_it() {
    let (place, pipeline) = (Place::new(), people(history(HistoryKind::Scd2, None)));
    let times = |place: &Place| {
        let time = |row: &Vec<Cell>| match (&row[4], &row[5]) {
            (Cell::Int(since), Cell::Int(until)) => (*since, Some(*until)),
            (Cell::Int(since), Cell::Null) => (*since, None),
            other => panic!("{other:?}"),
        };
        read_table(&place.output().join("people")).rows.iter().map(time).collect::<Vec<_>>()
    };
    write_people(&place, "a.parquet", &[("ann", None, Some(1), -1), ("bob", None, Some(1), -1)]);
    let options = RunnerOptions { workers: 1, ..options(1) };
    for death in [Death::After("accept"), Death::After("write"), Death::Before("publish")] {
        assert!(live_with(&place, &pipeline, &options, death).0.is_none(), "it dies");
    }
    run(&place, &pipeline, &options).expect("the run is taken up");
    let first = times(&place);
    assert!(first.len() == 2 && first[0] == first[1] && first[0].0 > 1_700_000_000_000_000, "{first:?}");
    write_people(&place, "b.parquet", &[("ann", None, Some(2), -1), ("cid", None, Some(1), -1)]);
    assert!(live_with(&place, &pipeline, &options, Death::After("rewrite")).0.is_none(), "it dies");
    run(&place, &pipeline, &options).expect("the run is taken up");
    let second = times(&place);
    let later = second[3].0;
    assert!(later > first[0].0, "{second:?}");
    assert_eq!(second, [(first[0].0, Some(later)), (later, None), first[0], (later, None)]);
    audit(&place, &pipeline, 2).expect("the audit passes");
}

#[test]
fn which_record_of_a_run_counts_is_on_conflict_s_word() {
    for (on_conflict, expected) in [(OnConflict::First, "1 ann - 7"), (OnConflict::Last, "1 ann - 9")] {
        for chunk_rows in [1, 2, 100] {
            let (place, mut pipeline) = (Place::new(), scd1());
            pipeline.tables[1].on_conflict = on_conflict;
            let options = RunnerOptions { chunk_rows, ..options(2) };
            write_people(&place, "a.parquet", &[("ann", None, Some(1), 1)]);
            run(&place, &pipeline, &options).expect("the run is done");
            write_people(
                &place,
                "b.parquet",
                &[("ann", None, Some(7), 2), ("ann", None, Some(8), 2), ("ann", None, Some(9), 2)],
            );
            run(&place, &pipeline, &options).expect("the run is done");
            assert_eq!(rows(&place, "people"), [expected]);
        }
    }
    // What differs from an earlier run is a change; what differs within one is an error.
    let (place, mut pipeline) = (Place::new(), scd1());
    pipeline.tables[1].on_conflict = OnConflict::Error;
    write_people(&place, "a.parquet", &[("ann", None, Some(1), 1)]);
    run(&place, &pipeline, &options(2)).expect("the run is done");
    write_people(&place, "b.parquet", &[("ann", None, Some(2), 2), ("ann", None, Some(2), 3)]);
    run(&place, &pipeline, &options(2)).expect("these agree");
    assert_eq!(rows(&place, "people"), ["1 ann - 2"]);
    let before = tree(&place.output());
    write_people(&place, "c.parquet", &[("ann", None, Some(3), 2), ("ann", None, Some(4), 3)]);
    let failed = run(&place, &pipeline, &options(2)).expect_err("these do not");
    assert!(failed.message.contains("c.parquet, row 0") && failed.message.contains("row 1"), "{failed:?}");
    assert_same_tree(&before, &tree(&place.output()), &"nothing has changed");
}

#[test]
fn a_change_that_is_not_later_or_without_a_time_is_an_error_that_says_which() {
    let (place, pipeline) = (Place::new(), scd2());
    write_people(&place, "a.parquet", &[("bob", None, Some(1), -1)]);
    let failed = run(&place, &pipeline, &options(2)).expect_err("nobody knows since when");
    assert!(failed.message.contains("data/a.parquet, row 0: 'since' is null"), "{failed:?}");
    assert!(failed.help.contains("since IS NOT NULL"), "{failed:?}");
    write_people(&place, "a.parquet", &[("ann", None, Some(1), 10), ("bob", None, Some(1), 10)]);
    run(&place, &pipeline, &options(2)).expect("the run is done");
    let before = tree(&place.output());
    let refused = |people: &[Person<'_>]| -> Failed {
        write_people(&place, "b.parquet", people);
        let failed = run(&place, &pipeline, &options(2)).expect_err("it is refused");
        assert_same_tree(&before, &tree(&place.output()), &"nothing has changed");
        assert_eq!(failed.exit_code, 1);
        failed
    };
    for since in [3, 10] {
        let failed = refused(&[("ann", None, Some(1), 3), ("bob", None, Some(2), since)]);
        let expected = format!(
            "data/b.parquet, row 1: it changes the key 'bob' of table 'people' from {since} on, and the table has a \
             version of it from 10 on"
        );
        assert_eq!(failed.message, expected);
        assert!(failed.help.contains("order of time"), "{failed:?}");
    }
    let failed = refused(&[("new", None, Some(1), 11), ("bob", None, Some(1), -1)]);
    assert!(failed.message.contains("row 1: 'since' is null"), "{failed:?}");
    write_people(&place, "b.parquet", &[("bob", None, Some(2), 11)]);
    run(&place, &pipeline, &options(2)).expect("the mended file goes in");
    assert_eq!(rows(&place, "people"), ["1 ann - 1 10 - now", "2 bob - 1 10 11 then", "2 bob - 2 11 - now"]);
}

#[test]
fn numbers_texts_and_partitions_are_those_of_the_thing() {
    let (place, mut pipeline) = (Place::new(), scd2());
    let table = &mut pipeline.tables[1];
    table.key = vec!["name".to_owned(), "city".to_owned()];
    table.references.clear();
    table.partition_by = vec!["city".to_owned()];
    let group = Some(PerGroup { columns: vec!["city".to_owned()], number: "number".to_owned() });
    let text = Some(TextId { column: "code".to_owned(), format: "{city}-{:02}".to_owned() });
    table.id = Some(Id { group, text, start: 100, step: -5, ..Id::new("id") });
    let (rome, oslo) = (Some("Rome"), Some("Oslo"));
    for (name, people) in [
        ("a.parquet", &[("ann", rome, Some(1), 1), ("ann", oslo, Some(2), 1), ("bob", rome, Some(3), 1)][..]),
        ("b.parquet", &[("cid", rome, Some(4), 2), ("bob", rome, Some(5), 2), ("ann", oslo, Some(6), 2)]),
        ("c.parquet", &[("cid", rome, Some(7), 3), ("dan", oslo, Some(8), 3), ("bob", rome, Some(9), 3)]),
    ] {
        write_people(&place, name, people);
        run(&place, &pipeline, &options(2)).expect("the run is done");
        audit(&place, &pipeline, 2).expect("the audit passes");
    }
    let expected = [
        "95 1 Oslo-01 ann 2 1 2 then",
        "95 1 Oslo-01 ann 6 2 - now",
        "80 2 Oslo-02 dan 8 3 - now",
        "100 1 Rome-01 ann 1 1 - now",
        "90 2 Rome-02 bob 3 1 2 then",
        "90 2 Rome-02 bob 5 2 3 then",
        "90 2 Rome-02 bob 9 3 - now",
        "85 3 Rome-03 cid 4 2 3 then",
        "85 3 Rome-03 cid 7 3 - now",
    ];
    assert_eq!(rows(&place, "people"), expected);
    let found = who(&place.project(&pipeline), "people", 85).expect("it is known");
    assert_eq!((found.run, found.output_row), (2, 1));
}

/// People by the hundred; `part` says which of their records, and since when.
fn write_many(place: &Place, seed: u64, part: u64) {
    let mut rng = Rng::at(seed, &[part]);
    let names: Vec<String> = (0..150).map(|_| format!("p{}", rng.below(60 + part * 30))).collect();
    let cities: Vec<String> = (0..150).map(|_| format!("c{}", rng.below(4))).collect();
    let person = |(name, city): (&'_ String, &'_ String)| (name.clone(), city.clone(), rng.below(3) as i64);
    let people: Vec<(String, String, i64)> = names.iter().zip(&cities).map(person).collect();
    let people: Vec<Person<'_>> =
        people.iter().map(|(name, city, age)| (name.as_str(), Some(city.as_str()), Some(*age), part as i64)).collect();
    write_people(place, &format!("{part}.parquet"), &people);
}

/// What three runs publish if nothing dies, with the number of durable steps of the last.
fn undisturbed(pipeline: &Pipeline, seed: u64) -> (BTreeMap<String, Vec<u8>>, u64) {
    let (place, mut steps) = (Place::new(), 0);
    for part in 0..3 {
        write_many(&place, seed, part);
        let (ended, taken) = live_with(&place, pipeline, &crash_options(), Death::Never);
        let report = ended.expect("it never dies").expect("the run is done");
        assert!(part == 0 || report.tables[1].updated_keys > 0, "something changes");
        steps = taken;
    }
    audit(&place, pipeline, 2).expect("the audit passes");
    (tree(&place.output()), steps)
}

/// The names of the steps around which a history is written.
const STEPS: [&str; 9] =
    ["admit", "accept", "resolve", "write", "rewrite", "publish", "committed", "remove-replaced", "clean-up"];

#[test]
fn g5_g8_a_run_that_dies_anywhere_leaves_the_same_history() {
    let seed = seed("g5_g8_a_run_that_dies_anywhere_leaves_the_same_history");
    let mut delta = scd2();
    delta.output.format = Format::Delta;
    for pipeline in [scd1(), delta] {
        let (expected, steps) = undisturbed(&pipeline, seed);
        let mut deaths: Vec<Death> = STEPS.iter().flat_map(|step| [Death::Before(step), Death::After(step)]).collect();
        let mut rng = Rng::new(seed);
        let random = (0..scaled(12)).map(|_| Death::At { step: 1 + rng.below(steps), committed: rng.percent(50) });
        deaths.extend(random);
        for death in deaths {
            let place = Place::new();
            for part in 0..3 {
                write_many(&place, seed, part);
                for death in (part == 2).then_some(death).into_iter().chain([Death::Never]) {
                    if let (Some(ended), _) = live_with(&place, &pipeline, &crash_options(), death) {
                        ended.unwrap_or_else(|e| panic!("died at {death:?}: {e:?}"));
                    }
                }
            }
            audit(&place, &pipeline, 2).unwrap_or_else(|e| panic!("died at {death:?}: {e}"));
            assert_same_tree(&expected, &tree(&place.output()), &format!("died at {death:?}"));
        }
    }
}

/// A run dies with its state folder when it is published, and what it has replaced is still there.
#[test]
fn g8_what_was_replaced_goes_away_also_if_everything_else_is_lost() {
    for format in [Format::Parquet, Format::Delta] {
        let (mut pipeline, seed) = (scd2(), 7);
        pipeline.output.format = format;
        let place = Place::new();
        write_many(&place, seed, 0);
        run(&place, &pipeline, &crash_options()).expect("the run is done");
        write_many(&place, seed, 1);
        let died = live_with(&place, &pipeline, &crash_options(), Death::After("publish"));
        assert!(died.0.is_none(), "it dies");
        let old = place.output().join("people/part-000001-00000.parquet");
        assert!(old.exists() && place.output().join("people/part-000001-00000-r000002.parquet").exists());
        let report = verify(&place.project(&pipeline), 2).expect("it can be audited");
        let folder = report.checks.iter().find(|check| !check.ok).expect("it says so");
        assert!(folder.message.contains("was written anew, and is still there"), "{folder:?}");
        fs::remove_dir_all(place.state()).expect("it can be removed");
        recover(&place, &pipeline).expect("it is recovered");
        write_many(&place, seed, 2);
        run(&place, &pipeline, &crash_options()).expect("the next run is done");
        assert!(!old.exists(), "nobody reads it");
        audit(&place, &pipeline, 2).expect("the audit passes");
        if format == Format::Delta {
            compare_logs(&place, &pipeline).expect("the logs are right");
        } else {
            assert_same_tree(&undisturbed(&pipeline, seed).0, &tree(&place.output()), &"recovered");
        }
    }
}

/// Nothing of a run that fails stays, neither of new files nor of those that it has written anew.
#[test]
fn g8_what_a_run_that_fails_has_written_anew_is_withdrawn() {
    let (place, pipeline) = (Place::new(), scd2());
    for (name, person) in [("a.parquet", ("ann", None, Some(1), 10)), ("b.parquet", ("bob", None, Some(1), 20))] {
        write_people(&place, name, &[person]);
        run(&place, &pipeline, &crash_options()).expect("the run is done");
    }
    let before = tree(&place.output());
    // The file of one is written anew, that of the other cannot be.
    let people = |since| [("ann", None, Some(2), 30), ("cid", None, Some(1), 30), ("bob", None, Some(2), since)];
    write_people(&place, "c.parquet", &people(15));
    run(&place, &pipeline, &crash_options()).expect_err("a change is not later");
    assert_same_tree(&before, &tree(&place.output()), &"nothing is left");
    write_people(&place, "c.parquet", &people(25));
    let report = run(&place, &pipeline, &crash_options()).expect("the mended file goes in");
    assert_eq!(counts(&report, 1), (1, 2, 2, 2));
    audit(&place, &pipeline, 2).expect("the audit passes");
    // What somebody has changed is not taken over into a file that passes for whole.
    write_people(&place, "d.parquet", &[("bob", None, Some(3), 40)]);
    let path = place.output().join("people/part-000002-00000-r000003.parquet");
    let bytes = fs::read(&path).expect("it is there");
    let mut changed = bytes.clone();
    changed[bytes.len() - 20] ^= 1;
    fs::write(&path, &changed).expect("it can be changed");
    let failed = run(&place, &pipeline, &crash_options()).expect_err("it was changed");
    assert!(failed.message.contains("part-000002-00000-r000003.parquet"), "{failed:?}");
    fs::write(&path, bytes).expect("it can be changed back");
    run(&place, &pipeline, &crash_options()).expect("the run is done");
    audit(&place, &pipeline, 2).expect("the audit passes");
}

#[test]
fn the_audit_finds_versions_that_do_not_follow_each_other() {
    let (place, _) = three_runs(&scd2(), &options(1));
    let path = place.output().join("_seriatim/manifest.json");
    let text = fs::read_to_string(&path).expect("there is a manifest");
    let wrong = |from: &str, to: &str| -> Vec<String> {
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replacen(from, to, 1)).expect("it can be changed");
        let report = verify(&place.project(&scd2()), 1).expect("it can be audited");
        report.checks.into_iter().filter(|check| !check.ok).map(|check| check.message).collect()
    };
    let found = wrong("\"updated\": 2", "\"updated\": 1");
    assert!(
        found.len() == 1 && found[0].contains("3 rows are later versions of things; runs have added 2"),
        "{found:?}"
    );
    let found = wrong("\"things\": 3", "\"things\": 4");
    assert!(found.iter().any(|text| text.contains("rows of 3 things where the manifest has 4")), "{found:?}");
}

#[test]
fn g5_workers_that_share_nothing_write_the_same_history() {
    let seed = seed("g5_workers_that_share_nothing_write_the_same_history");
    let pipeline = scd2();
    let (expected, _) = undisturbed(&pipeline, seed);
    for death in [
        Death::Never,
        Death::Before("rewrite"),
        Death::After("rewrite"),
        Death::After("accept"),
        Death::Before("remove-replaced"),
    ] {
        let place = Place::new();
        for part in 0..3 {
            write_many(&place, seed, part);
            runtime().block_on(with_a_death(&place, &pipeline, &crash_options(), death));
        }
        audit(&place, &pipeline, 2).unwrap_or_else(|e| panic!("died at {death:?}: {e}"));
        assert_same_tree(&expected, &tree(&place.output()), &format!("died at {death:?}"));
    }
}

#[test]
fn g5_g8_a_history_in_a_store_is_that_of_a_folder() {
    let seed = seed("g5_g8_a_history_in_a_store_is_that_of_a_folder");
    let pipeline = scd2();
    let (mut expected, _) = undisturbed(&pipeline, seed);
    expected.retain(|name, _| !name.ends_with('/'));
    for death in [Death::Never, Death::After("rewrite"), Death::After("publish"), Death::Before("remove-replaced")] {
        let shared = Shared::new();
        let machine = shared.machine();
        for part in 0..3 {
            write_many(&machine, seed, part);
            for death in (part == 2).then_some(death).into_iter().chain([Death::Never]) {
                if let (Some(ended), _) = live_with(&machine, &pipeline, &crash_options(), death) {
                    ended.unwrap_or_else(|e| panic!("died at {death:?}: {e:?}"));
                }
            }
        }
        audit(&machine, &pipeline, 2).unwrap_or_else(|e| panic!("died at {death:?}: {e}"));
        assert_same_tree(&expected, &shared.tree(), &format!("died at {death:?}"));
    }
}
