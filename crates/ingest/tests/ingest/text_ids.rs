//! Text IDs on whole pipelines: what stands beside the number, that the audit knows it, and what is refused. What random
//! pipelines make of them is compared with the oracle elsewhere.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use parquet::arrow::ArrowWriter;
use seriatim_ingest::{Paths, RunnerOptions, check, verify};
use seriatim_pipeline::model::{Id, OnConflict, Pipeline, TextId};

use crate::cells::Cell;
use crate::harness::{Place, audit, keyed, options, pipeline, run};
use crate::outputs::read_table;

/// Writes `data/<name>` with the columns `k`, `land`, `day`, `n` and `f`.
fn write(place: &Place, name: &str, rows: &[(&str, Option<&str>, i32)]) {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("k", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)))),
        ("land", Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>())),
        ("day", Arc::new(Date32Array::from_iter_values(rows.iter().map(|row| row.2)))),
        ("n", Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.2)))),
        ("f", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| f64::from(row.2))))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let batch = batch.expect("columns of one length");
    let path = place.path().join("data").join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
    let file = std::fs::File::create(path).expect("it can be made");
    let mut writer = ArrowWriter::try_new(file, Arc::new(Schema::clone(&batch.schema())), None).expect("a writer");
    writer.write(&batch).expect("it is written");
    writer.close().expect("it is written");
}

fn with_text(format: &str) -> Pipeline {
    let mut things = keyed("things", &["k"], &[], &["land", "day", "n", "f"]);
    let text = Some(TextId { column: "code".to_owned(), format: format.to_owned() });
    things.id = Some(Id { text, ..Id::new("thing_id") });
    pipeline(vec![things])
}

fn codes(place: &Place) -> Vec<String> {
    let read = read_table(&place.output().join("things"));
    assert_eq!(read.header[..3], ["thing_id", "code", "k"], "the text stands right after the ID");
    let code = |row: &Vec<Cell>| if let Cell::Text(text) = &row[1] { text.clone() } else { panic!("{row:?}") };
    read.rows.iter().map(code).collect()
}

#[test]
fn g1_the_text_of_an_id_is_of_the_record_that_makes_the_row() {
    let rows = [("a", Some("DE"), 20_119), ("b", None, 20_120), ("a", Some("FR"), 20_121)];
    for paths in [Paths::Pages, Paths::General] {
        for (on_conflict, first) in
            [(OnConflict::First, "DE/2025-01-31/00001"), (OnConflict::Last, "FR/2025-02-02/00001")]
        {
            let place = Place::new();
            let mut pipeline = with_text("{land}/{day}/{:05}");
            pipeline.tables[0].on_conflict = on_conflict;
            write(&place, "a.parquet", &rows);
            let options = RunnerOptions { paths, ..options(2) };
            run(&place, &pipeline, &options).expect("the run is done");
            assert_eq!(codes(&place), [first, "/2025-02-01/00002"], "{paths:?} {on_conflict:?}");
            write(&place, "b.parquet", &[("a", Some("IT"), 0), ("c", Some("IT"), 0)]);
            run(&place, &pipeline, &options).expect("the run is done");
            assert_eq!(codes(&place), [first, "/2025-02-01/00002", "IT/1970-01-01/00003"]);
            audit(&place, &pipeline, 2).expect("the audit passes");
        }
    }
}

#[test]
fn the_audit_finds_a_text_that_is_not_of_its_row() {
    let place = Place::new();
    let pipeline = with_text("T-{:03}");
    write(&place, "a.parquet", &[("a", None, 1), ("b", None, 2)]);
    run(&place, &pipeline, &options(1)).expect("the run is done");
    // The manifest says another format than the file was written with.
    let path = place.output().join("_seriatim/manifest.json");
    let text = std::fs::read_to_string(&path).expect("there is a manifest");
    std::fs::write(&path, text.replace("T-{:03}", "T-{:02}")).expect("it can be changed");
    let report = verify(&place.project(&pipeline), 1).expect("it can be audited");
    let wrong: Vec<&str> = report.checks.iter().filter(|c| !c.ok).map(|c| c.message.as_str()).collect();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].contains("has the code 'T-001' where 'T-01' is due"), "{wrong:?}");
}

#[test]
fn a_value_without_one_form_as_text_is_refused_and_so_is_another_format_later() {
    let place = Place::new();
    write(&place, "a.parquet", &[("a", None, 1)]);
    let error = check(&place.project(&with_text("{f}-{}"))).expect_err("a float is in it");
    assert!(error.message.contains("'f', a Float64"), "{}", error.message);
    run(&place, &with_text("{n}-{}"), &options(1)).expect("the run is done");
    write(&place, "b.parquet", &[("b", None, 1)]);
    let mut without = with_text("{}");
    without.tables[0].id = Some(Id::new("thing_id"));
    let failed = run(&place, &without, &options(1)).expect_err("published files have a text");
    assert!(failed.message.contains("the text `{n}-{}` 'code'"), "{failed:?}");
    let failed = run(&place, &with_text("{}"), &options(1)).expect_err("published files have another text");
    assert!(failed.message.contains("{n}-{}"), "{failed:?}");
}
