//! IDs that go on from what exists: after the largest one of some files, or with the keys of a table that is taken over.
//! What the first run has found holds for ever, whatever becomes of the files.

use std::fs;

use parquet::file::properties::EnabledStatistics;
use seriatim_ingest::{RunStatus, check, plan, verify, who};
use seriatim_pipeline::model::{Adopt, After, Id, Pipeline, Table};

use crate::cells::{Cell, Kind};
use crate::files::{Column, Layout, write};
use crate::harness::{Failed, Place, audit, keyed, options, pipeline, recover, run};
use crate::outputs::{assert_same_tree, read_table, tree};

fn text(value: &str) -> Cell {
    Cell::Text(value.to_owned())
}

/// Writes `data/<name>` with the column `key`.
fn write_keys(place: &Place, name: &str, keys: &[&str]) {
    let records: Vec<_> = keys.iter().map(|key| vec![text(key)]).collect();
    write(&place.path().join("data").join(name), &[Column::new("key", Kind::Text)], &records, &Layout::default());
}

/// Writes `old/<name>` with the columns `mail` and `no`.
fn write_old(place: &Place, name: &str, rows: &[(Option<&str>, Option<i64>)], layout: &Layout) {
    let cell = |id: Option<i64>| id.map_or(Cell::Null, |id| Cell::Int(id.into()));
    let records: Vec<_> = rows.iter().map(|(key, id)| vec![key.map_or(Cell::Null, text), cell(*id)]).collect();
    let columns = [Column::new("mail", Kind::Text), Column::new("no", Kind::I64)];
    write(&place.path().join("old").join(name), &columns, &records, layout);
}

fn of(things: Id, adopt: Option<Adopt>) -> Pipeline {
    let things = Table { id: Some(things), adopt, ..keyed("things", &["key"], &[], &[]) };
    pipeline(vec![things, keyed("lines", &[], &["things"], &[])])
}

fn after(step: i64) -> Pipeline {
    let after = Some(After { files: vec!["old/*.parquet".to_owned()], column: "no".to_owned() });
    of(Id { step, after, ..Id::new("things_id") }, None)
}

fn adopting(step: i64, start: Option<i64>) -> Pipeline {
    let adopt = Adopt { files: vec!["old".to_owned()], key: vec!["mail".to_owned()], id: "no".to_owned(), start };
    of(Id { step, start: start.unwrap_or(1), ..Id::new("things_id") }, Some(adopt))
}

fn rows(place: &Place) -> Vec<(i128, String)> {
    let row = |row: &Vec<Cell>| match (&row[0], &row[1]) {
        (Cell::Int(id), Cell::Text(key)) => (*id, key.clone()),
        other => panic!("{other:?}"),
    };
    read_table(&place.output().join("things")).rows.iter().map(row).collect()
}

fn references(place: &Place) -> Vec<i128> {
    let id = |row: &Vec<Cell>| if let Cell::Int(id) = row[1] { id } else { panic!("{row:?}") };
    read_table(&place.output().join("lines")).rows.iter().map(id).collect()
}

fn pairs(expected: &[(i128, &str)]) -> Vec<(i128, String)> {
    expected.iter().map(|(id, key)| (*id, (*key).to_owned())).collect()
}

#[test]
fn g1_ids_begin_after_what_exists_and_what_was_found_holds_when_the_files_change_or_go() {
    for (step, statistics) in
        [(1, EnabledStatistics::Chunk), (1, EnabledStatistics::None), (10, EnabledStatistics::Page)]
    {
        let (place, pipeline) = (Place::new(), after(step));
        let layout = Layout { statistics, row_group: 2, ..Layout::default() };
        write_old(&place, "a.parquet", &[(None, Some(5)), (None, None), (None, None), (None, Some(41))], &layout);
        write_old(&place, "b.parquet", &[(None, Some(7)), (None, None)], &layout);
        write_keys(&place, "a.parquet", &["x", "y"]);
        let planned = plan(&place.project(&pipeline), &options(2)).expect("it can be planned");
        let begins: Vec<_> = planned.begins.iter().map(|b| (b.table.as_str(), b.first, b.after.clone())).collect();
        assert_eq!(begins, [("things", 41 + step, vec!["old/*.parquet".to_owned()])]);
        let report = run(&place, &pipeline, &options(2)).expect("the run is done");
        assert_eq!(planned.tables[0].ids, report.tables[0].ids);
        let (first, second) = (i128::from(41 + step), i128::from(41 + 2 * step));
        assert_eq!(rows(&place), pairs(&[(first, "x"), (second, "y")]));
        // Larger IDs there, another file, no file at all: the IDs go on where they are.
        write_old(&place, "a.parquet", &[(None, Some(1000))], &layout);
        write_keys(&place, "b.parquet", &["z", "y"]);
        run(&place, &pipeline, &options(2)).expect("the run is done");
        fs::remove_dir_all(place.path().join("old")).expect("it can be removed");
        fs::remove_dir_all(place.state()).expect("it can be removed");
        recover(&place, &pipeline).expect("it is recovered");
        assert!(plan(&place.project(&pipeline), &options(2)).expect("it can be planned").begins.is_empty());
        write_keys(&place, "c.parquet", &["u", "x"]);
        run(&place, &pipeline, &options(2)).expect("the run is done");
        let step = i128::from(step);
        assert_eq!(rows(&place)[2..], pairs(&[(second + step, "z"), (second + 2 * step, "u")]));
        assert_eq!(references(&place), [first, second, second + step, second, second + 2 * step, first]);
        audit(&place, &pipeline, 2).expect("the audit passes");
        let found = who(&place.project(&pipeline), "things", 41 + 3 * i64::try_from(step).expect("small"))
            .expect("it is there");
        assert_eq!((found.source_file.as_deref(), found.source_row), (Some("data/b.parquet"), Some(0)));
        // The number itself may stand there by now; another one may not.
        let mut written = pipeline.clone();
        written.tables[0].id = Some(Id {
            start: 41 + i64::try_from(step).expect("small"),
            step: i64::try_from(step).expect("small"),
            ..Id::new("things_id")
        });
        assert_eq!(run(&place, &written, &options(1)).expect("nothing is new").status, RunStatus::NothingToDo);
        check(&place.project(&written)).expect("it is the same");
        written.tables[0].id.as_mut().expect("an ID").start += 1;
        check(&place.project(&written)).expect_err("it is another one");
    }
}

#[test]
fn ids_begin_before_the_smallest_where_they_count_down_and_at_the_default_where_nothing_is() {
    let place = Place::new();
    write_old(&place, "a.parquet", &[(None, Some(-5)), (None, Some(3))], &Layout::default());
    write_keys(&place, "a.parquet", &["x", "y"]);
    run(&place, &after(-2), &options(1)).expect("the run is done");
    assert_eq!(rows(&place), pairs(&[(-7, "x"), (-9, "y")]));
    let place = Place::new();
    write_old(&place, "a.parquet", &[(None, None)], &Layout::default());
    write_old(&place, "b.parquet", &[], &Layout::default());
    write_keys(&place, "a.parquet", &["x", "y"]);
    run(&place, &after(1), &options(1)).expect("the run is done");
    assert_eq!(rows(&place), pairs(&[(1, "x"), (2, "y")]));
}

fn failed(place: &Place, pipeline: &Pipeline) -> Failed {
    let before = tree(&place.output());
    let failed = run(place, pipeline, &options(2)).expect_err("the run fails");
    assert_same_tree(&before, &tree(&place.output()), &"a failed run publishes nothing");
    failed
}

#[test]
fn where_ids_begin_must_be_found() {
    let place = Place::new();
    write_keys(&place, "a.parquet", &["x"]);
    let nothing = failed(&place, &after(1));
    assert!(nothing.message.contains("no file matches 'old/*.parquet'"), "{nothing:?}");
    assert!(nothing.help.contains("tables.things.id.start.after"), "{nothing:?}");
    write_old(&place, "a.parquet", &[(None, Some(1))], &Layout::default());
    let mut other = after(1);
    let mut set = |column: &str| {
        other.tables[0].id.as_mut().and_then(|id| id.after.as_mut()).expect("files").column = column.to_owned();
        other.clone()
    };
    let unknown = failed(&place, &set("nr"));
    assert!(unknown.message.contains("no column 'nr'") && unknown.help.contains("mail, no"), "{unknown:?}");
    let no_number = failed(&place, &set("mail"));
    assert!(no_number.message.contains("'mail' is a Utf8"), "{no_number:?}");
    write_old(&place, "b.parquet", &[(None, Some(i64::MAX))], &Layout::default());
    let full = failed(&place, &after(1));
    assert!(full.message.contains("no 64-bit IDs left"), "{full:?}");
}

#[test]
fn g4_the_keys_of_a_table_that_is_taken_over_keep_their_ids_and_only_new_ones_get_rows() {
    let (place, pipeline) = (Place::new(), adopting(1, None));
    write_old(&place, "a.parquet", &[(Some("c"), Some(70)), (Some("a"), Some(7))], &Layout::default());
    write_old(&place, "b.parquet", &[(Some("b"), Some(12))], &Layout { row_group: 1, ..Layout::default() });
    write_keys(&place, "a.parquet", &["x", "a", "c", "x", "b"]);
    let before = tree(place.path());
    let planned = plan(&place.project(&pipeline), &options(2)).expect("it can be planned");
    assert_same_tree(&before, &tree(place.path()), &"a plan writes nothing");
    let report = run(&place, &pipeline, &options(2)).expect("the run is done");
    for table in [&planned.tables[0], &report.tables[0]] {
        let counts = (table.rows, table.total_rows, table.known_keys, table.adopted_keys);
        assert_eq!((counts, table.ids.map(|ids| (ids.first, ids.last))), ((1, 1, 3, 3), Some((71, 71))));
    }
    assert_eq!(rows(&place), pairs(&[(71, "x")]));
    assert_eq!(references(&place), [71, 7, 70, 71, 12]);
    audit(&place, &pipeline, 2).expect("the audit passes");
    // The table itself is needed no more, and neither is the state folder.
    fs::remove_dir_all(place.path().join("old")).expect("it can be removed");
    for (number, key) in [(2, "y"), (3, "z")] {
        write_keys(&place, &format!("{number}.parquet"), &[key, "a"]);
        let report = run(&place, &pipeline, &options(2)).expect("the run is done");
        assert_eq!((report.number, report.tables[0].adopted_keys, report.tables[0].known_keys), (Some(number), 0, 1));
        fs::remove_dir_all(place.state()).expect("it can be removed");
        recover(&place, &pipeline).expect("it is recovered");
    }
    assert_eq!(rows(&place), pairs(&[(71, "x"), (72, "y"), (73, "z")]));
    assert_eq!(references(&place)[5..], [72, 7, 73, 7]);
    let report = verify(&place.project(&pipeline), 2).expect("it can be audited");
    assert!(report.ok, "{report:?}");
    let adopted: Vec<_> = report.checks.iter().filter(|check| check.guarantee == "adopted").collect();
    assert!(adopted[0].message.starts_with("3 keys keep the IDs before 71"), "{adopted:?}");
    let error = who(&place.project(&pipeline), "things", 12).expect_err("its row is elsewhere");
    assert!(error.help.is_some_and(|help| help.contains("adopted")));
    // Without what is kept of them, nobody could say which references meet.
    for entry in fs::read_dir(place.output().join("_seriatim/state")).expect("there are facts") {
        let path = entry.expect("it can be read").path();
        if path.to_string_lossy().contains("keys.things") {
            fs::remove_file(path).expect("it can be removed");
        }
    }
    let report = verify(&place.project(&pipeline), 2).expect("it can be audited");
    let wrong: Vec<_> = report.checks.iter().filter(|check| !check.ok).map(|check| check.guarantee.as_str()).collect();
    assert_eq!(wrong, ["adopted", "references"], "{report:?}");
}

#[test]
fn new_ids_begin_where_the_pipeline_says_if_that_is_beyond_what_exists() {
    let place = Place::new();
    write_old(&place, "a.parquet", &[(Some("a"), Some(10)), (Some("b"), Some(30))], &Layout::default());
    write_keys(&place, "a.parquet", &["x", "a", "y"]);
    let early = failed(&place, &adopting(10, Some(20)));
    assert!(early.message.contains("begin at 20") && early.message.contains("10 to 30"), "{early:?}");
    let beside = failed(&place, &adopting(10, Some(1001)));
    assert!(beside.message.contains("never comes to 1001"), "{beside:?}");
    run(&place, &adopting(10, Some(1000)), &options(2)).expect("the run is done");
    assert_eq!(rows(&place), pairs(&[(1000, "x"), (1010, "y")]));
    assert_eq!(references(&place), [1000, 10, 1010]);
    audit(&place, &adopting(10, Some(1000)), 2).expect("the audit passes");
    let late = Place::new();
    write_keys(&late, "a.parquet", &["x"]);
    write_old(&late, "a.parquet", &[(Some("a"), Some(10))], &Layout::default());
    run(&late, &of(Id::new("things_id"), None), &options(1)).expect("the run is done");
    let refused = failed(&late, &adopting(1, None));
    assert!(refused.message.contains("`adopt` counts for the first run only"), "{refused:?}");
}

#[test]
fn a_table_that_is_taken_over_must_be_sound() {
    type Existing<'a> = (Option<&'a str>, Option<i64>);
    let cases: [(&[Existing<'_>], i64, &[&str]); 6] = [
        (&[(Some("a"), Some(1)), (Some("b"), Some(2)), (Some("a"), Some(3))], 1, &["key 'a' twice", "1 and 3"]),
        (&[(Some("a"), Some(1)), (Some("b"), Some(1))], 1, &["the ID 1", "'a'", "'b'"]),
        (&[(Some("a"), Some(1)), (None, Some(2))], 1, &["'mail' is null", "old/a.parquet, row 1"]),
        (&[(Some("a"), Some(1)), (Some("b"), None)], 1, &["'no' is null", "row 1"]),
        (&[(Some("a"), Some(10)), (Some("b"), Some(25)), (Some("c"), Some(30))], 10, &["25", "steps of 10", "row 1"]),
        (&[(Some("a"), Some(10)), (Some("b"), Some(25))], 10, &["from 10 it never comes to 25"]),
    ];
    for (old, step, words) in cases {
        let place = Place::new();
        write_old(&place, "a.parquet", old, &Layout::default());
        write_keys(&place, "a.parquet", &["x"]);
        let error = failed(&place, &adopting(step, None));
        assert!(words.iter().all(|word| error.message.contains(word)), "{words:?}: {error:?}");
        // Once it is mended, the next run is the first.
        write_old(&place, "a.parquet", &[(Some("a"), Some(10))], &Layout::default());
        run(&place, &adopting(step, None), &options(1)).expect("the run is done");
        assert_eq!(rows(&place), pairs(&[(10 + i128::from(step), "x")]));
    }
}
