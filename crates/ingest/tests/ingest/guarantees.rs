//! G1 to G4 and G7 on whole pipelines: random ones against the oracle, and small ones that a person can check by eye.

use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestCaseError, TestRunner};
use seriatim_durable::hub::TaskHub as _;
use seriatim_durable::proto;
use seriatim_ingest::{Paths, RunStatus, RunnerOptions, plan};
use seriatim_pipeline::model::{Format, OnNullKey, Pipeline};

use crate::case::{Case, Sizes, sizes};
use crate::cells::{Cell, Kind};
use crate::delta::compare_logs;
use crate::files::{Column, Layout, write};
use crate::harness::{
    Place, audit, compare, compare_report, keyed, open_hub, options, pipeline, quarantined, run, runtime,
    unfit_for_partitions,
};
use crate::oracle::{Oracle, Quarantined, Record, SourceFile};
use crate::outputs::{assert_same_tree, read_table, tree};
use crate::rng::{scaled, seed};

pub(crate) fn random_cases(name: &str, cases: u32, test: impl Fn(Sizes) -> Result<(), String>) {
    let config = Config {
        cases: scaled(cases),
        rng_seed: RngSeed::Fixed(seed(name)),
        // Seeds that failed once are kept beside the tests, and come first in every later run.
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/ingest/regressions.txt"))),
        max_shrink_iters: 100,
        ..Config::default()
    };
    let check = |sizes: Sizes| test(sizes).map_err(TestCaseError::fail);
    if let Err(error) = TestRunner::new(config).run(&sizes(), check) {
        panic!("{error}");
    }
}

pub(crate) fn runner_options(sizes: &Sizes) -> RunnerOptions {
    RunnerOptions {
        workers: sizes.workers,
        memory: if sizes.little_memory { 1 } else { 1 << 30 },
        chunk_rows: sizes.chunk_rows,
        shards: sizes.shards,
        paths: sizes.paths,
        work: None,
        fan_out: true,
    }
}

#[test]
fn g1_g2_g3_g4_g7_random_pipelines_equal_the_sequential_oracle() {
    random_cases("g1_g2_g3_g4_g7_random_pipelines_equal_the_sequential_oracle", 150, |sizes| {
        let case = Case::draw(&sizes);
        run_case(&case).map_err(|e| format!("{e}\nin {:#?}\nwith columns {:?}", case.pipeline, case.columns))
    });
}

/// Files that differ in types, names, order and number of columns give what files give that do not; where nothing is
/// copied as pages, the same bytes.
#[test]
fn g5_files_that_drift_give_what_files_that_do_not_give() {
    random_cases("g5_files_that_drift_give_what_files_that_do_not_give", 20, |sizes| {
        let case = Case::draw_drifted(&sizes);
        run_case(&case)
            .and_then(|()| run_twins(&case))
            .map_err(|e| format!("{e}\nin {:#?}\nwith columns {:?}", case.pipeline, case.columns))
    });
}

/// Text files give what the same records give as Parquet; where nothing is copied as pages, the same bytes.
#[test]
fn g5_text_files_give_what_parquet_files_give() {
    random_cases("g5_text_files_give_what_parquet_files_give", 20, |sizes| {
        let case = Case::draw_text(&sizes);
        run_case(&case)
            .and_then(|()| run_twins(&case))
            .map_err(|e| format!("{e}\nin {:#?}\nwith columns {:?}", case.pipeline, case.columns))
    });
}

/// The case and its twin end with the same bytes, but for the names of source files in quarantine.
fn run_twins(case: &Case) -> Result<(), String> {
    let twin = case.twin();
    let is_named_alike = case.pipeline.source.files == twin.pipeline.source.files;
    let (drifted, even) = (Place::new(), Place::new());
    let options = RunnerOptions { paths: Paths::General, ..runner_options(&case.sizes) };
    for index in 0..case.sizes.runs.len() {
        case.write_files(drifted.path(), index);
        twin.write_files(even.path(), index);
        let found = run(&drifted, &case.pipeline, &options);
        let expected = run(&even, &twin.pipeline, &options);
        match (&expected, &found) {
            (Ok(_), Ok(_)) => {}
            (Err(_), Err(_)) => break,
            _ => return Err(format!("run {}: {found:?} instead of {expected:?}", index + 1)),
        }
    }
    let tables = |place: &Place| {
        let mut files = tree(&place.output());
        files.retain(|name, _| !name.starts_with("_seriatim") && (is_named_alike || !name.starts_with("_quarantine")));
        files
    };
    assert_same_tree(&tables(&even), &tables(&drifted), &format!("{:?}", case.sizes));
    Ok(())
}

fn run_case(case: &Case) -> Result<(), String> {
    let place = Place::new();
    let options = runner_options(&case.sizes);
    let mut oracle = case.oracle();
    let mut files = Vec::new();
    for index in 0..case.sizes.runs.len() {
        files.extend(case.write_files(place.path(), index));
        let before = tree(&place.output());
        let expected = oracle.run(&files);
        let expected = match unfit_for_partitions(&case.pipeline, &oracle) {
            Some(name) if expected.is_ok() => Err(name),
            _ => expected,
        };
        let found = run(&place, &case.pipeline, &options);
        let at = |e: String| format!("run {}: {e}", index + 1);
        match (expected, found) {
            (Ok(Some(facts)), Ok(report)) => {
                if report.status != RunStatus::Done {
                    return Err(at(format!("{:?}", report.status)));
                }
                compare_report(&report, &facts, &oracle).map_err(at)?;
                compare(&place, &case.pipeline, &oracle).map_err(at)?;
                compare_types(case, &place).map_err(at)?;
                if case.pipeline.output.format == Format::Delta {
                    compare_logs(&place, &case.pipeline).map_err(at)?;
                }
            }
            (Ok(None), Ok(report)) if report.status == RunStatus::NothingToDo => {
                assert_same_tree(&before, &tree(&place.output()), &"a run without new files");
            }
            (Err(_), Err(_)) => {
                assert_same_tree(&before, &tree(&place.output()), &"a run that failed");
                break;
            }
            (expected, found) => return Err(at(format!("{found:?} instead of {expected:?}"))),
        }
    }
    if place.output().exists() { audit(&place, &case.pipeline, case.sizes.workers) } else { Ok(()) }
}

/// A column that passes through has the Parquet type that it had in the source.
fn compare_types(case: &Case, place: &Place) -> Result<(), String> {
    for table in &case.pipeline.tables {
        let read = read_table(&place.output().join(&table.name));
        for (name, found) in read.header.iter().zip(&read.types) {
            let Some(kind) = case.kind(name) else { continue };
            let reference = Place::new();
            let column = [Column::new(name, kind)];
            write(&reference.path().join("t/t.parquet"), &column, &[vec![Cell::Null]], &Layout::default());
            let expected = &read_table(&reference.path().join("t")).types[0];
            if found != expected {
                return Err(format!("{}.{name}: type {found} instead of {expected}", table.name));
            }
        }
    }
    Ok(())
}

fn text(value: &str) -> Cell {
    Cell::Text(value.to_owned())
}

/// Writes `data/<name>` with the columns `key` and `n`.
fn write_keys(place: &Place, name: &str, keys: &[Option<&str>]) -> SourceFile {
    let columns = [Column::new("key", Kind::Text), Column::new("n", Kind::I64)];
    let record = |(n, key): (usize, Option<&str>)| vec![key.map_or(Cell::Null, text), Cell::Int(n as i128)];
    let records: Vec<_> = keys.iter().copied().enumerate().map(record).collect();
    let path = format!("data/{name}");
    write(&place.path().join(&path), &columns, &records, &Layout { row_group: 2, ..Layout::default() });
    SourceFile { path, records }
}

fn ids(place: &Place, table: &str) -> Vec<(i64, String)> {
    let row = |cells: &Vec<Cell>| match (&cells[0], &cells[1]) {
        (Cell::Int(id), Cell::Text(key)) => (*id as i64, key.clone()),
        other => panic!("{other:?} is not an ID and a key"),
    };
    read_table(&place.output().join(table)).rows.iter().map(row).collect()
}

fn pairs(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected.iter().map(|(id, key)| (*id, (*key).to_owned())).collect()
}

#[test]
fn g3_ids_follow_files_by_the_bytes_of_their_paths_and_then_rows() {
    // By bytes: a-1 < a.b < a/x < part-10 < part-2 < ä. A path that is compared part by part, or a number that is
    // read as one, gives another order.
    let mut pipeline = pipeline(vec![keyed("things", &["key"], &[], &["n"])]);
    pipeline.source.files = vec!["data/*.parquet".to_owned(), "data/*/*.parquet".to_owned()];
    for chunk_rows in [1, 2, 1000] {
        let place = Place::new();
        for (name, keys) in [
            ("ä.parquet", &["6", "1"][..]),
            ("part-2.parquet", &["5"]),
            ("part-10.parquet", &["4"]),
            ("a/x.parquet", &["3"]),
            ("a.b.parquet", &["2", "1"]),
            ("a-1.parquet", &["0", "1", "0"]),
        ] {
            write_keys(&place, name, &keys.iter().map(|k| Some(*k)).collect::<Vec<_>>());
        }
        run(&place, &pipeline, &RunnerOptions { chunk_rows, ..options(4) }).expect("the run is done");
        let expected = pairs(&[(1, "0"), (2, "1"), (3, "2"), (4, "3"), (5, "4"), (6, "5"), (7, "6")]);
        assert_eq!(ids(&place, "things"), expected, "chunks of {chunk_rows}");
    }
}

#[test]
fn g4_keys_keep_their_ids_in_later_runs_and_new_ones_go_on_without_a_gap() {
    let place = Place::new();
    let pipeline = pipeline(vec![keyed("things", &["key"], &[], &[])]);
    write_keys(&place, "m.parquet", &[Some("x"), Some("y"), Some("x")]);
    run(&place, &pipeline, &options(2)).expect("the first run is done");
    let published = tree(&place.output().join("things"));

    // Sorts before the first file, knows an old key, and brings two new ones.
    write_keys(&place, "a.parquet", &[Some("z"), Some("y"), Some("w")]);
    let report = run(&place, &pipeline, &options(2)).expect("the second run is done");

    assert_eq!(ids(&place, "things"), pairs(&[(1, "x"), (2, "y"), (3, "z"), (4, "w")]));
    assert_eq!((report.tables[0].rows, report.tables[0].known_keys, report.files_known), (2, 1, 1));
    let after = tree(&place.output().join("things"));
    for (name, content) in published {
        assert_eq!(after.get(&name), Some(&content), "a later run leaves {name} as it was");
    }
    audit(&place, &pipeline, 2).expect("the audit passes");
}

#[test]
fn g5_a_file_that_was_ingested_is_not_ingested_again() {
    let place = Place::new();
    let pipeline = pipeline(vec![keyed("things", &["key"], &[], &["n"])]);
    write_keys(&place, "a.parquet", &[Some("x")]);
    run(&place, &pipeline, &options(2)).expect("the first run is done");
    let before = tree(&place.output());
    let report = run(&place, &pipeline, &options(2)).expect("the second run ends well");
    assert_eq!((report.status, report.records, report.files_known), (RunStatus::NothingToDo, 0, 1));
    assert_same_tree(&before, &tree(&place.output()), &"nothing to do");
}

#[test]
fn g2_a_failed_run_leaves_no_hole() {
    let place = Place::new();
    let mut things = keyed("things", &["key"], &[], &["n"]);
    things.on_null_key = OnNullKey::Error;
    let pipeline = pipeline(vec![things, keyed("numbers", &["n"], &[], &[])]);
    write_keys(&place, "a.parquet", &[Some("x")]);
    run(&place, &pipeline, &options(2)).expect("the first run is done");
    let before = tree(&place.output());

    write_keys(&place, "b.parquet", &[Some("lost"), Some("too"), None]);
    let failed = run(&place, &pipeline, &options(2)).expect_err("a null key is an error here");
    assert!(failed.message.contains("b.parquet") && failed.message.contains("things"), "{failed:?}");
    assert_same_tree(&before, &tree(&place.output()), &"a failed run publishes nothing");

    write_keys(&place, "b.parquet", &[Some("y")]);
    run(&place, &pipeline, &options(2)).expect("the mended file goes in");
    assert_eq!(ids(&place, "things"), pairs(&[(1, "x"), (2, "y")]));
    audit(&place, &pipeline, 2).expect("the audit passes");
}

/// Symptom: whoever may use a served hub purges a sequence, and the next run gives the IDs from 1 on once more.
#[test]
fn g1_g4_a_sequence_that_was_purged_gives_no_id_twice() {
    let place = Place::new();
    let pipeline = pipeline(vec![keyed("things", &["key"], &[], &["n"])]);
    write_keys(&place, "a.parquet", &[Some("x"), Some("y")]);
    run(&place, &pipeline, &options(2)).expect("the first run is done");
    let before = tree(&place.output());

    let purged = runtime().block_on(async {
        let hub = open_hub(&place.state());
        let sequence = proto::InstanceBatch { instance_ids: vec!["@sequence@test.things".to_owned()] };
        let request = Some(proto::purge_instances_request::Request::InstanceBatch(sequence));
        let purged = hub.purge_instances(proto::PurgeInstancesRequest { request, ..Default::default() }).await;
        hub.close().await.expect("the hub closes");
        purged.expect("the hub purges").deleted_instance_count
    });
    assert_eq!(purged, 1, "there is a sequence of that name");

    write_keys(&place, "b.parquet", &[Some("z")]);
    let failed = run(&place, &pipeline, &options(2)).expect_err("the sequence has begun anew");
    assert!(failed.message.contains("sequence of table 'things'") && failed.help.contains("backup"), "{failed:?}");
    assert_same_tree(&before, &tree(&place.output()), &"nothing is published");
}

#[test]
fn g7_a_quarantined_record_is_kept_with_its_reason_and_takes_no_id_anywhere() {
    let place = Place::new();
    let mut things = keyed("things", &["key"], &[], &[]);
    things.on_null_key = OnNullKey::Quarantine;
    let mut lines = keyed("lines", &[], &["things"], &["n"]);
    lines.on_null_key = OnNullKey::Null;
    let pipeline = pipeline(vec![lines, things, keyed("numbers", &["n"], &[], &[])]);
    write_keys(&place, "a.parquet", &[Some("x"), None, Some("y")]);
    write_keys(&place, "b.parquet", &[None]);

    let report = run(&place, &pipeline, &options(2)).expect("the run is done");

    assert_eq!((report.records, report.quarantined, report.filtered), (4, 2, 0));
    let rows = |table: &str| read_table(&place.output().join(table)).rows;
    let int = Cell::Int;
    assert_eq!(rows("lines"), [[int(1), int(1), int(0)], [int(2), int(2), int(2)]]);
    assert_eq!(rows("numbers"), [[int(1), int(0)], [int(2), int(2)]]);
    let kept = quarantined(&place, &["key".to_owned(), "n".to_owned()]);
    let entry = |file: &str, row: u64| Quarantined {
        file: file.to_owned(),
        row,
        why: "things".to_owned(),
        record: vec![Cell::Null, int(i128::from(row))],
    };
    assert_eq!(kept, [entry("data/a.parquet", 1), entry("data/b.parquet", 0)]);
    audit(&place, &pipeline, 2).expect("the audit passes");
}

/// Several keyed tables, one of them strict about null keys.
fn strict_orders(on_null_key: OnNullKey) -> Pipeline {
    let mut orders = keyed("orders", &["order"], &["customers"], &["n"]);
    orders.on_null_key = on_null_key;
    pipeline(vec![
        keyed("customers", &["customer"], &[], &[]),
        orders,
        keyed("products", &["product"], &[], &["n"]),
        keyed("lines", &[], &["orders", "customers", "products"], &["n"]),
    ])
}

/// Writes `data/<name>` in row groups of three rows; an empty string stands for a null.
fn write_orders(place: &Place, name: &str, rows: &[[&str; 3]]) -> SourceFile {
    let column = |name| Column::new(name, Kind::Text);
    let columns = [column("customer"), column("order"), column("product"), Column::new("n", Kind::I64)];
    let cell = |value: &&str| if value.is_empty() { Cell::Null } else { text(value) };
    let record = |(n, row): (usize, &[&str; 3])| row.iter().map(cell).chain([Cell::Int(n as i128)]).collect();
    let records: Vec<Record> = rows.iter().enumerate().map(record).collect();
    let path = format!("data/{name}");
    write(&place.path().join(&path), &columns, &records, &Layout { row_group: 3, ..Layout::default() });
    SourceFile { path, records }
}

/// Orders are null in no row, in one, and in all of a row group; what is not an order's is null here and there too.
const SOME_NULL_ORDERS: [[&str; 3]; 12] = [
    ["c1", "o1", "p1"],
    ["c2", "o2", "p1"],
    ["c1", "o1", "p2"],
    // Only this record of the file has c3, and the first one that has p3 is in quarantine.
    ["c3", "", "p3"],
    ["", "o3", "p4"],
    ["c2", "o3", ""],
    ["c5", "", "p5"],
    ["c6", "", "p6"],
    ["c7", "", "p6"],
    ["c4", "o4", "p3"],
    ["c8", "", ""],
    ["c4", "o1", "p1"],
];

#[test]
fn g2_g7_the_other_keys_of_a_quarantined_record_take_no_id() {
    let pipeline = strict_orders(OnNullKey::Quarantine);
    let names = ["customer", "order", "product", "n"].map(str::to_owned);
    for chunk_rows in [3, 6, 131_072] {
        let mut published = Vec::new();
        for paths in [Paths::Pages, Paths::General] {
            let what = format!("chunks of {chunk_rows}, {paths:?}");
            let options = RunnerOptions { chunk_rows, paths, ..options(2) };
            let place = Place::new();
            let mut oracle = Oracle::new(&pipeline, &names, &[], |_| true);
            let mut files = vec![write_orders(&place, "a.parquet", &SOME_NULL_ORDERS)];
            // A key that was only in quarantine gets the next ID when a record with an order has it.
            let later = [["c3", "o5", "p6"], ["c1", "o5", "p1"]];
            for next in [None, Some(&later)] {
                files.extend(next.map(|rows| write_orders(&place, "b.parquet", rows)));
                let facts = oracle.run(&files).expect("no error").expect("something to do");
                let report = run(&place, &pipeline, &options).expect("the run is done");
                compare_report(&report, &facts, &oracle).unwrap_or_else(|e| panic!("{what}: {e}"));
                compare(&place, &pipeline, &oracle).unwrap_or_else(|e| panic!("{what}: {e}"));
            }
            assert_eq!(ids(&place, "customers"), pairs(&[(1, "c1"), (2, "c2"), (3, "c4"), (4, "c3")]), "{what}");
            assert_eq!(ids(&place, "orders"), pairs(&[(1, "o1"), (2, "o2"), (3, "o3"), (4, "o4"), (5, "o5")]));
            assert_eq!(ids(&place, "products"), pairs(&[(1, "p1"), (2, "p2"), (3, "p4"), (4, "p3"), (5, "p6")]));
            assert_eq!(quarantined(&place, &names).len(), 5, "{what}");
            audit(&place, &pipeline, 2).expect("the audit passes");
            published
                .push(pipeline.tables.iter().map(|t| read_table(&place.output().join(&t.name))).collect::<Vec<_>>());
        }
        assert_eq!(published[0], published[1], "chunks of {chunk_rows}: pages and the general way");
    }
}

#[test]
fn a_null_key_that_is_an_error_in_one_table_of_several_is_named_by_its_row() {
    let pipeline = strict_orders(OnNullKey::Error);
    for paths in [Paths::Pages, Paths::General] {
        let place = Place::new();
        write_orders(&place, "a.parquet", &SOME_NULL_ORDERS[..3]);
        run(&place, &pipeline, &RunnerOptions { paths, ..options(2) }).expect("no order is null here");
        let before = tree(&place.output());
        write_orders(&place, "b.parquet", &SOME_NULL_ORDERS);
        let failed = run(&place, &pipeline, &RunnerOptions { paths, ..options(2) }).expect_err("an order is null");
        for word in ["data/b.parquet, row 3", "'orders'", "order"] {
            assert!(failed.message.contains(word), "{paths:?}: the error names {word}: {failed:?}");
        }
        assert_same_tree(&before, &tree(&place.output()), &"a failed run publishes nothing");
    }
}

#[test]
fn a_plan_names_the_exact_ids_and_writes_nothing() {
    let place = Place::new();
    let pipeline = pipeline(vec![keyed("things", &["key"], &[], &["n"]), keyed("numbers", &["n"], &[], &[])]);
    let mut oracle = Oracle::new(&pipeline, &["key".to_owned(), "n".to_owned()], &[], |_| true);
    let mut files = vec![write_keys(&place, "a.parquet", &[Some("x"), Some("y"), None])];
    for next in ["b.parquet", "c.parquet"] {
        let before = tree(place.path());
        let planned = plan(&place.project(&pipeline), &options(2)).expect("a plan can be made");
        assert_same_tree(&before, &tree(place.path()), &"a plan writes nothing");
        let facts = oracle.run(&files).expect("no error").expect("something to do");
        let report = run(&place, &pipeline, &options(2)).expect("the run is done");
        compare_report(&report, &facts, &oracle).expect("the run is right");
        assert_eq!(planned.records, report.records);
        for (planned, done) in planned.tables.iter().zip(&report.tables) {
            assert_eq!((planned.rows, planned.ids, planned.total_rows), (done.rows, done.ids, done.total_rows));
        }
        files.push(write_keys(&place, next, &[Some("y"), Some("z"), Some(next)]));
    }
}
