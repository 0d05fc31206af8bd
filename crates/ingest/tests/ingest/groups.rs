//! Numbers within groups on whole pipelines: dense in every group, in the order of the IDs, across runs and whatever fails.
//! What random pipelines make of them is compared with the oracle elsewhere.

use std::collections::BTreeMap;
use std::fs;

use seriatim_ingest::{Paths, RunnerOptions, check, verify};
use seriatim_pipeline::model::{Id, OnConflict, OnNullKey, PerGroup, Pipeline, TextId};

use crate::cells::{Cell, Kind};
use crate::files::{Column, Layout, write};
use crate::harness::{Place, audit, keyed, options, pipeline, recover, run};
use crate::oracle::Record;
use crate::outputs::{assert_same_tree, read_table, tree};

/// Writes `data/<name>` with invoices: their key, their country and their year.
fn write_invoices(place: &Place, name: &str, rows: &[(&str, Option<&str>, i64)]) {
    let columns = [Column::new("no", Kind::Text), Column::new("land", Kind::Text), Column::new("year", Kind::I32)];
    let text = |text: &str| Cell::Text(text.to_owned());
    let record = |row: &(&str, Option<&str>, i64)| -> Record {
        vec![
            if row.0.is_empty() { Cell::Null } else { text(row.0) },
            row.1.map_or(Cell::Null, text),
            Cell::Int(row.2.into()),
        ]
    };
    let records: Vec<Record> = rows.iter().map(record).collect();
    write(&place.path().join("data").join(name), &columns, &records, &Layout { row_group: 3, ..Layout::default() });
}

fn per(columns: &[&str]) -> Pipeline {
    let mut invoices = keyed("invoices", &["no"], &[], &["land", "year"]);
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    let text = TextId { column: "code".to_owned(), format: "{land}/{year}/{:03}".to_owned() };
    let group = Some(PerGroup { columns, number: "in_group".to_owned() });
    invoices.id = Some(Id { group, text: Some(text), start: 100, ..Id::new("id") });
    pipeline(vec![invoices])
}

fn codes(place: &Place) -> Vec<String> {
    let read = read_table(&place.output().join("invoices"));
    assert_eq!(read.header[..4], ["id", "in_group", "code", "no"]);
    let code = |row: &Vec<Cell>| if let Cell::Text(text) = &row[2] { text.clone() } else { panic!("{row:?}") };
    read.rows.iter().map(code).collect()
}

#[test]
fn g2_each_group_counts_for_itself_and_goes_on_in_later_runs() {
    for (chunk_rows, paths) in [(1, Paths::General), (2, Paths::Pages), (100, Paths::Pages), (100, Paths::Auto)] {
        let (place, pipeline) = (Place::new(), per(&["land", "year"]));
        let options = RunnerOptions { chunk_rows, paths, ..options(3) };
        write_invoices(
            &place,
            "a.parquet",
            &[
                ("a", Some("DE"), 1),
                ("b", Some("FR"), 1),
                ("c", None, 1),
                ("a", Some("FR"), 2),
                ("d", Some("DE"), 2),
                ("e", Some("DE"), 1),
                ("f", Some(""), 1),
                ("g", None, 1),
            ],
        );
        run(&place, &pipeline, &options).expect("the run is done");
        let first = ["DE/1/001", "FR/1/001", "/1/001", "DE/2/001", "DE/1/002", "/1/001", "/1/002"];
        assert_eq!(codes(&place), first, "a null is not the same as an empty text");
        write_invoices(
            &place,
            "b.parquet",
            &[("h", Some("IT"), 1), ("a", Some("DE"), 1), ("i", None, 1), ("j", Some("DE"), 1)],
        );
        run(&place, &pipeline, &options).expect("the run is done");
        assert_eq!(codes(&place)[first.len()..], ["IT/1/001", "/1/003", "DE/1/003"]);
        audit(&place, &pipeline, 2).expect("the audit passes");
    }
}

#[test]
fn g2_the_group_is_that_of_the_record_that_is_written() {
    let (place, mut pipeline) = (Place::new(), per(&["land"]));
    pipeline.tables[0].on_conflict = OnConflict::Last;
    pipeline.tables[0].on_null_key = OnNullKey::Quarantine;
    let options = RunnerOptions { chunk_rows: 2, ..options(2) };
    let rows =
        [("a", Some("DE"), 1), ("", Some("DE"), 1), ("b", Some("DE"), 2), ("a", Some("FR"), 3), ("c", Some("DE"), 4)];
    write_invoices(&place, "a.parquet", &rows);
    run(&place, &pipeline, &options).expect("the run is done");
    assert_eq!(codes(&place), ["FR/3/001", "DE/2/001", "DE/4/002"]);
    audit(&place, &pipeline, 2).expect("the audit passes");
}

/// What a run that fails has numbered is numbered again, and nothing is left out.
#[test]
fn g2_a_run_that_fails_leaves_no_hole_in_any_group_and_state_can_be_lost_after_each_run() {
    let (place, calm) = (Place::new(), Place::new());
    let pipeline = per(&["year"]);
    let mut many = Vec::new();
    for number in 0..20_i64 {
        let names: Vec<String> = (0..40).map(|n| format!("{number}-{n}")).collect();
        let rows: Vec<_> =
            names.iter().zip(0..).map(|(name, n)| (name.as_str(), Some("DE"), n * n % (number + 3))).collect();
        let file = format!("{number:02}.parquet");
        write_invoices(&calm, &file, &rows);
        run(&calm, &pipeline, &options(2)).expect("the run is done");
        // Of these runs, each loses its state folder, and every fifth one fails when it is about to publish.
        write_invoices(&place, &file, &rows);
        if number > 0 {
            fs::remove_dir_all(place.state()).expect("it can be removed");
            recover(&place, &pipeline).expect("it is recovered");
        }
        if number % 5 == 4 {
            let stranger = place.output().join("invoices/stranger.parquet");
            fs::write(&stranger, "no Parquet").expect("it can be written");
            run(&place, &pipeline, &options(1)).expect_err("a stranger is in the output");
            fs::remove_file(stranger).expect("it can be removed");
        }
        run(&place, &pipeline, &options(1)).expect("the run is done");
        many.extend(rows.iter().map(|row| row.2));
    }
    assert_same_tree(&tree(&calm.output()), &tree(&place.output()), &"runs that lost their state");
    audit(&place, &pipeline, 2).expect("the audit passes");
    let (mut last, mut expected) = (BTreeMap::new(), Vec::new());
    for year in many {
        let number = last.entry(year).or_insert(0);
        *number += 1;
        expected.push(format!("DE/{year}/{number:03}"));
    }
    assert_eq!(codes(&place), expected);
    // Segments are merged on the way.
    let segments = fs::read_dir(place.state().join("pipelines/test/groups/invoices")).expect("a folder").count();
    assert!((1..9).contains(&segments), "{segments} segments of groups");
}

#[test]
fn the_audit_finds_a_number_that_is_not_due_and_other_groups_are_refused() {
    let (place, pipeline) = (Place::new(), per(&["land"]));
    write_invoices(&place, "a.parquet", &[("a", Some("DE"), 1), ("b", Some("DE"), 2), ("c", Some("FR"), 2)]);
    run(&place, &pipeline, &options(1)).expect("the run is done");
    let path = place.output().join("_seriatim/manifest.json");
    let text = fs::read_to_string(&path).expect("there is a manifest");
    let start = text.find("\"group\"").expect("it says what makes a group");
    let changed = format!("{}{}", &text[..start], text[start..].replacen("\"land\"", "\"year\"", 1));
    fs::write(&path, changed).expect("it can be changed");
    let report = verify(&place.project(&pipeline), 1).expect("it can be audited");
    let wrong: Vec<_> = report.checks.iter().filter(|check| !check.ok).map(|check| check.message.as_str()).collect();
    assert!(wrong.len() == 1 && wrong[0].contains("has the number 2 in the group '2' where 1 is due"), "{wrong:?}");
    fs::write(&path, text).expect("it can be changed back");
    for columns in [&["year"][..], &["land", "year"]] {
        let error = check(&place.project(&per(columns))).expect_err("published rows are numbered per country");
        assert!(error.message.contains("number per land"), "{}", error.message);
    }
}
