//! Objects and lists within records. Symptom: a tool flattens them as it likes, turns lists into texts, takes the members of
//! one object for those of another because they stand in the same places, or fails when one file has a member more. What is
//! proved here: JSON gives what Parquet gives, members are told by their names, what is found, declared or published holds
//! for each of them, and what is wrong deep inside is told with its place.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::Field;
use arrow::util::display::array_value_to_string;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use seriatim_ingest::{check, who};
use seriatim_pipeline::model::{OnBadFile, Pipeline, SchemaMode, Table, Undeclared};

use crate::harness::{Failed, Place, audit, keyed, options, pipeline, run};
use crate::outputs::{assert_same_tree, parquet_files, tree};
use crate::rng::{Rng, seed};

/// Puts `data/<name>`.
fn file(place: &Place, name: &str, content: &str) {
    let path = place.path().join("data").join(name);
    fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("folders can be made");
    fs::write(path, content).expect("the file can be written");
}

/// Events by `id`, with these columns.
fn events(columns: &[&str]) -> Pipeline {
    let mut pipeline = pipeline(vec![keyed("events", &["id"], &[], columns)]);
    pipeline.source.files = vec!["data/*".to_owned()];
    pipeline
}

fn declare(pipeline: &mut Pipeline, path: &str, kind: &str) {
    pipeline.source.columns.insert(path.to_owned(), kind.parse().expect("a type"));
}

/// The rows of the events without their numbers, as text.
fn rows(place: &Place) -> Vec<String> {
    let mut rows = Vec::new();
    for path in parquet_files(&place.output().join("events")) {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("a file")).expect("Parquet");
        for batch in builder.build().expect("a reader") {
            let batch = batch.expect("a batch");
            let value = |column: &ArrayRef, at| array_value_to_string(column, at).expect("a value");
            let row = |at| batch.columns()[1..].iter().map(|column| value(column, at)).collect::<Vec<_>>().join(" | ");
            rows.extend((0..batch.num_rows()).map(row));
        }
    }
    rows
}

fn go(place: &Place, pipeline: &Pipeline) {
    run(place, pipeline, &options(2)).unwrap_or_else(|e| panic!("{e:?}"));
    audit(place, pipeline, 2).expect("the audit passes");
}

fn refused(place: &Place, pipeline: &Pipeline, words: &[&str]) -> Failed {
    let before = tree(&place.output());
    let failed = run(place, pipeline, &options(2)).expect_err("the run must fail");
    for word in words {
        assert!(failed.message.contains(word), "{word}: {failed:?}");
    }
    assert!(!failed.help.is_empty(), "{failed:?}");
    assert_same_tree(&before, &tree(&place.output()), &"a failed run publishes nothing");
    failed
}

fn types(place: &Place, pipeline: &Pipeline) -> Vec<String> {
    let report = check(&place.project(pipeline)).expect("it fits");
    report.tables[0].columns.iter().skip(2).map(|(_, kind, _)| kind.clone()).collect()
}

#[test]
fn json_keeps_its_lists_and_objects() {
    let place = Place::new();
    let a = "{\"id\":1,\"page\":{\"tags\":[\"hot\",\"x\"],\"path\":\"/tea\"},\"items\":[{\"sku\":\"a\",\"qty\":1},{\"sku\":\"b\"}],\"odd\":{\"x\": 1}}\n\
             {\"id\":2,\"page\":{},\"items\":[],\"odd\":\"{}\"}\n";
    file(&place, "a.ndjson", a);
    file(
        &place,
        "b.ndjson",
        "{\"id\":3,\"page\":null,\"items\":null,\"odd\":[ 1 ]}\n{\"items\":[null,{\"qty\":2.5}],\"id\":4}\n",
    );
    file(&place, "c.ndjson", "");
    let pipeline = events(&["page", "items", "odd"]);
    let expected = [
        "Struct(\"path\": Utf8, \"tags\": List(Utf8, field: 'element'))",
        "List(Struct(\"qty\": Float64, \"sku\": Utf8), field: 'element')",
        "Utf8",
    ];
    assert_eq!(types(&place, &pipeline), expected);
    go(&place, &pipeline);
    let expected = [
        "1 | {path: /tea, tags: [hot, x]} | [{qty: 1.0, sku: a}, {qty: , sku: b}] | {\"x\": 1}",
        "2 | {path: , tags: } | [] | {}",
        "3 |  |  | [ 1 ]",
        "4 |  | [, {qty: 2.5, sku: }] | ",
    ];
    assert_eq!(rows(&place), expected);
    let found = who(&place.project(&pipeline), "events", 1).expect("it is published");
    let page = found.source_values.iter().find(|(name, _)| name == "page").and_then(|(_, value)| value.as_deref());
    assert_eq!(page, Some("{path: /tea, tags: [hot, x]}"));
    // The same without types, where there are none.
    let mut texts = pipeline.clone();
    texts.source.undeclared = Undeclared::String;
    let expected = "List(Struct(\"qty\": Utf8, \"sku\": Utf8), field: 'element')";
    let other = Place::new();
    file(&other, "a.ndjson", a);
    assert_eq!(types(&other, &texts)[1], expected);
}

#[test]
fn members_are_columns_of_the_transform() {
    let place = Place::new();
    file(&place, "a.ndjson", "{\"id\":1,\"page\":{\"path\":\"007\",\"n\":1}}\n");
    let mut pipeline = events(&["path", "n"]);
    pipeline.transform = Some("SELECT id, page.path AS path, page.n AS n FROM source".to_owned());
    go(&place, &pipeline);
    // Alone, the first would be a number and the second none; one member is new, and of no interest.
    file(
        &place,
        "b.ndjson",
        "{\"id\":2,\"page\":{\"path\":7,\"n\":2,\"more\":[{}]}}\n{\"id\":3,\"page\":{\"path\":null}}\n",
    );
    go(&place, &pipeline);
    assert_eq!(rows(&place), ["1 | 007 | 1", "2 | 7 | 2", "3 |  | "]);
    // A file without any of it lacks nothing.
    file(&place, "c.ndjson", "{\"id\":4}\n{\"id\":5,\"page\":null}\n");
    go(&place, &pipeline);
    assert_eq!(rows(&place)[3..], ["4 |  | ", "5 |  | "]);
    for (bad, words) in [
        ("{\"id\":6,\"page\":{\"n\":\"many\"}}", ["column 'page.n'", "row 0 (line 1)", "'many' is no Int64"]),
        ("\n{\"id\":6,\"page\":\"x\"}", ["column 'page'", "row 0 (line 2)", "'\"x\"' is no object"]),
        ("{\"id\":6,\"page\":{\"n\":1,\"n\":1}}", ["column 'page.n'", "row 0 (line 1)", "twice"]),
    ] {
        file(&place, "d.ndjson", bad);
        refused(&place, &pipeline, &words);
    }
}

#[test]
fn published_objects_keep_their_members() {
    for mode in [SchemaMode::Strict, SchemaMode::Widen, SchemaMode::Evolve] {
        let place = Place::new();
        let mut pipeline = events(&["page", "odd.name"]);
        pipeline.source.schema = mode;
        file(&place, "a.ndjson", "{\"id\":1,\"page\":{\"a\\\"b\":\"x\",\"l\":[[1.5]]},\"odd.name\":\"7\"}\n");
        go(&place, &pipeline);
        file(
            &place,
            "b.ndjson",
            "{\"id\":2,\"page\":{\"l\":[[1],[]]},\"odd.name\":7}\n{\"id\":3,\"page\":{\"a\\\"b\":5}}\n",
        );
        go(&place, &pipeline);
        let expected = ["1 | {a\"b: x, l: [[1.5]]} | 7", "2 | {a\"b: , l: [[1.0], []]} | 7", "3 | {a\"b: 5, l: } | "];
        assert_eq!(rows(&place), expected);
        // What would have to be left out is told.
        file(&place, "c.ndjson", "{\"id\":4,\"page\":{\"new\":1}}\n");
        refused(&place, &pipeline, &["table 'events'", "column 'page'", "\"new\"", "data/c.ndjson"]);
    }
}

#[test]
fn types_are_declared_by_path() {
    let place = Place::new();
    let record = "{\"id\":1,\"items\":[{\"price\":0.10,\"at\":\"2026-01-01T00:00:00Z\"}],\"page\":{\"a\": 1},\"a.b\":1,\"e\":[]}\n";
    file(&place, "a.ndjson", record);
    let mut pipeline = events(&["items", "page", "a.b", "e", "none"]);
    for (path, kind) in [
        ("items[].price", "decimal(10,2)"),
        ("items[].at", "timestamptz"),
        ("page", "string"),
        ("a\\.b", "int8"),
        ("e[]", "date"),
        ("none.x", "int64"),
    ] {
        declare(&mut pipeline, path, kind);
    }
    let expected = [
        "List(Struct(\"at\": Timestamp(µs, \"UTC\"), \"price\": Decimal128(10, 2)), field: 'element')",
        "Utf8",
        "Int8",
        "List(Date32, field: 'element')",
        "Struct(\"x\": Int64)",
    ];
    assert_eq!(types(&place, &pipeline), expected);
    go(&place, &pipeline);
    assert_eq!(rows(&place), ["1 | [{at: 2026-01-01T00:00:00Z, price: 0.10}] | {\"a\": 1} | 1 | [] | "]);
    // A name with a dot may be written as it is.
    let other = Place::new();
    file(&other, "a.csv", "id,a.b,c[]\n1,2,3\n");
    let mut plain = events(&["a.b", "c[]"]);
    declare(&mut plain, "a.b", "int8");
    declare(&mut plain, "c[]", "string");
    assert_eq!(types(&other, &plain), ["Int8", "Utf8"]);
    // No place is both.
    declare(&mut pipeline, "page.a", "int64");
    file(&place, "b.ndjson", record);
    refused(&place, &pipeline, &["source.columns", "'page.a'"]);
}

#[test]
fn what_is_wrong_deep_inside_has_a_place() {
    let place = Place::new();
    file(&place, "a.ndjson", "{\"id\":1,\"items\":[{\"price\":1.25}]}\n");
    file(
        &place,
        "b.ndjson",
        "{\"id\":2,\"items\":[{\"price\":1}]}\n{\"id\":3,\"items\":[{},{\"price\":2},{\"price\":1.255}]}\n",
    );
    file(&place, "c.ndjson", "{\"id\":4,\"items\":[{\"price\":1,\"other\":{}},7]}\n");
    let mut pipeline = events(&["items"]);
    declare(&mut pipeline, "items[].price", "decimal(10,2)");
    refused(&place, &pipeline, &["data/b.ndjson", "column 'items[].price'", "row 1 (line 2)", "'1.255'"]);
    pipeline.source.on_bad_file = OnBadFile::Quarantine;
    let report = run(&place, &pipeline, &options(2)).expect("the run is done");
    let aside: Vec<_> =
        report.aside.iter().map(|file| (file.what.file.as_str(), file.what.column.as_deref())).collect();
    assert_eq!(aside, [("data/b.ndjson", Some("items[].price")), ("data/c.ndjson", Some("items[]"))]);
    // What is set aside has no part in the types.
    assert_eq!(rows(&place), ["1 | [{price: 1.25}]"]);
    file(&place, "b.ndjson", "{\"id\":2,\"items\":[{\"price\":1.50}]}\n");
    go(&place, &pipeline);
    assert_eq!(rows(&place), ["1 | [{price: 1.25}]", "2 | [{price: 1.50}]"]);
}

/// Some JSON, and no two files alike.
fn some(rng: &mut Rng, id: u64) -> String {
    let mut record = format!("{{\"id\":{id},\"page\":");
    match rng.below(4) {
        0 => record.push_str("null"),
        1 => record.push_str("{}"),
        _ => {
            let _ = write!(record, "{{\"path\":\"/p{}\",\"n\":{}}}", rng.below(50), rng.below(9));
        }
    }
    record.push_str(",\"items\":[");
    for at in 0..rng.below(4) {
        let comma = if at == 0 { "" } else { "," };
        let price = if rng.percent(2) { "0.5" } else { "12" };
        let _ = write!(record, "{comma}{{\"sku\":{},\"price\":{price},\"of\":[{at},null]}}", rng.below(90));
    }
    record.push_str("]}\n");
    record
}

#[test]
fn nested_columns_are_the_same_whatever_is_parallel() {
    let seed = seed("nested_columns_are_the_same_whatever_is_parallel");
    let mut trees = Vec::new();
    let mut pipeline = events(&["page", "items"]);
    pipeline.tables.push(Table { id: None, ..keyed("pages", &[], &["events"], &["page"]) });
    for (workers, chunk_rows) in [(1, 131_072), (4, 131_072), (3, 700)] {
        let place = Place::new();
        for part in 0..3_u64 {
            let mut rng = Rng::at(seed, &[part]);
            // More than one batch.
            let records: String =
                (0..[10, 9000, 300][part as usize]).map(|at| some(&mut rng, part * 10_000 + at)).collect();
            file(&place, &format!("part-{part}.ndjson"), &records);
        }
        let options = seriatim_ingest::RunnerOptions { chunk_rows, ..options(workers) };
        run(&place, &pipeline, &options).unwrap_or_else(|e| panic!("{e:?}"));
        audit(&place, &pipeline, 2).expect("the audit passes");
        trees.push((chunk_rows, tree(&place.output()), rows(&place)));
    }
    assert_same_tree(&trees[0].1, &trees[1].1, &"workers");
    assert_eq!(trees[0].2, trees[2].2);
    assert_eq!(trees[0].2.len(), 9310);
}

/// Writes `data/<name>` of a column `id` and an object `o` with these members.
fn put(place: &Place, name: &str, id: i64, members: &[(&str, ArrayRef)]) {
    let object: ArrayRef = Arc::new(StructArray::from(
        members
            .iter()
            .map(|(name, values)| (Arc::new(Field::new(*name, values.data_type().clone(), true)), values.clone()))
            .collect::<Vec<_>>(),
    ));
    let id: ArrayRef = Arc::new(Int64Array::from(vec![id]));
    let batch = RecordBatch::try_from_iter_with_nullable([("id", id, true), ("o", object, true)]).expect("a batch");
    file(place, name, "");
    let file = File::create(place.path().join("data").join(name)).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("it is written");
    writer.close().expect("it is closed");
}

fn number(value: i32) -> ArrayRef {
    Arc::new(Int32Array::from(vec![value]))
}

fn long(value: i64) -> ArrayRef {
    Arc::new(Int64Array::from(vec![value]))
}

fn list(element: &str, values: ArrayRef) -> ArrayRef {
    let field = Field::new(element, values.data_type().clone(), true);
    Arc::new(ListArray::new(field.into(), OffsetBuffer::from_lengths([values.len()]), values, None))
}

/// Two members of one type, in two orders: by their places, one would become the other.
#[test]
fn members_of_parquet_files_are_told_by_their_names() {
    let place = Place::new();
    put(&place, "a.parquet", 1, &[("x", number(1)), ("y", number(2))]);
    put(&place, "b.parquet", 2, &[("y", number(4)), ("x", number(3))]);
    let mut pipeline = events(&["o"]);
    refused(&place, &pipeline, &["column 'o'", "data/a.parquet", "data/b.parquet"]);
    pipeline.source.schema = SchemaMode::Widen;
    go(&place, &pipeline);
    assert_eq!(rows(&place), ["1 | {x: 1, y: 2}", "2 | {x: 3, y: 4}"]);
    // What is published has an order, which holds for later files.
    let other = Place::new();
    put(&other, "a.parquet", 1, &[("y", number(2)), ("x", number(1))]);
    go(&other, &pipeline);
    file(&other, "b.ndjson", "{\"id\":2,\"o\":{\"x\":3,\"y\":4}}\n");
    put(&other, "c.parquet", 3, &[("x", number(5)), ("y", number(6))]);
    go(&other, &pipeline);
    assert_eq!(rows(&other), ["1 | {y: 2, x: 1}", "2 | {y: 4, x: 3}", "3 | {y: 6, x: 5}"]);
}

#[test]
fn objects_and_lists_of_parquet_files_go_together() {
    let place = Place::new();
    put(&place, "a.parquet", 1, &[("n", number(1)), ("l", list("item", number(7)))]);
    put(&place, "b.parquet", 2, &[("n", long(1 << 40)), ("l", list("element", long(1 << 41)))]);
    let mut pipeline = events(&["o"]);
    pipeline.source.schema = SchemaMode::Widen;
    go(&place, &pipeline);
    assert_eq!(rows(&place), ["1 | {n: 1, l: [7]}", "2 | {n: 1099511627776, l: [2199023255552]}"]);
    put(&place, "c.parquet", 3, &[("n", number(3))]);
    let help = refused(&place, &pipeline, &["column 'o'"]).help;
    assert!(help.contains("evolve"), "{help}");
    pipeline.source.schema = SchemaMode::Evolve;
    go(&place, &pipeline);
    assert_eq!(rows(&place)[2], "3 | {n: 3, l: }");
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    put(&place, "d.parquet", 4, &[("n", number(3)), ("l", text)]);
    let help = refused(&place, &pipeline, &["column 'o'", "data/d.parquet"]).help;
    assert!(help.contains("no type holds"), "{help}");
    fs::remove_file(place.path().join("data/d.parquet")).expect("it is there");
    // More than what is published cannot go into it.
    put(&place, "e.parquet", 5, &[("n", number(3)), ("m", number(3))]);
    refused(&place, &pipeline, &["table 'events'", "column 'o'", "data/e.parquet", "\"m\""]);
}
