//! Tables of the elements of lists: every element of a record's list is a row, or a part of a thing, of its own, in the
//! order of the records and of their lists. Random cases with lists are among those of `guarantees` and `shared`; these
//! here are small enough to be checked by eye.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{Field, Fields};
use parquet::arrow::ArrowWriter;
use seriatim_ingest::{Paths, RunnerOptions, check, plan, quarantine, replay, who};
use seriatim_pipeline::model::{
    Format, History, HistoryKind, Id, OnConflict, OnNullKey, PerGroup, Pipeline, SchemaMode, Table, TextId,
};

use crate::cells::{Cell, Kind};
use crate::crash::{Death, crash_options, live_with};
use crate::delta::compare_logs;
use crate::files::{Column, Layout, write};
use crate::harness::{Place, audit, keyed, options, pipeline, quarantined, run, run_project};
use crate::oracle::Record;
use crate::outputs::{assert_same_tree, read_table, tree};
use crate::rng::{Rng, scaled, seed};

fn text(value: &str) -> Cell {
    if value.is_empty() { Cell::Null } else { Cell::Text(value.to_owned()) }
}

fn int(value: i128) -> Cell {
    Cell::Int(value)
}

/// An element with a number and a word; an empty word is null.
fn item(n: i128, word: &str) -> Cell {
    Cell::Struct(vec![int(n), text(word), Cell::Null])
}

fn list(elements: &[Cell]) -> Cell {
    Cell::List(elements.to_vec())
}

fn words(of: &[&str]) -> Cell {
    Cell::List(of.iter().map(|word| text(word)).collect())
}

/// Writes `data/<name>`: orders, each with a list of items and one of words.
fn write_orders(place: &Place, name: &str, records: &[Record]) {
    let columns = [Column::new("no", Kind::Text), Column::new("items", Kind::Items), Column::new("words", Kind::Words)];
    write(&place.path().join("data").join(name), &columns, records, &Layout { row_group: 3, ..Layout::default() });
}

fn from(list: &str, table: Table) -> Table {
    Table { from: Some(list.to_owned()), ..table }
}

/// Orders, the things that they are of, a row for each item, and the words of each order.
fn shop() -> Pipeline {
    let mut uses = from("words[]", keyed("uses", &[], &["orders", "words"], &[]));
    uses.id = None;
    pipeline(vec![
        from("items[]", keyed("lines", &[], &["orders", "things"], &["n"])),
        keyed("orders", &["no"], &[], &[]),
        from("items[]", keyed("things", &["word"], &[], &["n"])),
        from("words[]", keyed("words", &["words"], &[], &["no"])),
        uses,
    ])
}

fn some_orders() -> Vec<Record> {
    vec![
        vec![text("o1"), list(&[item(1, "nut"), item(2, "bolt")]), words(&["new", "old"])],
        vec![text("o2"), Cell::Null, words(&[])],
        vec![text("o3"), list(&[]), Cell::Null],
        vec![
            text("o4"),
            list(&[item(3, "bolt"), Cell::Null, item(4, ""), item(5, "screw")]),
            words(&["old", "", "old"]),
        ],
    ]
}

fn rows(place: &Place, table: &str) -> Vec<Vec<Cell>> {
    read_table(&place.output().join(table)).rows
}

#[test]
fn g3_g7_every_element_is_a_row_that_knows_its_record_and_its_thing() {
    let pipeline = shop();
    for (chunk_rows, paths) in [(1, Paths::Pages), (2, Paths::Auto), (3, Paths::Pages), (1000, Paths::General)] {
        let place = Place::new();
        write_orders(&place, "a.parquet", &some_orders());
        let options = RunnerOptions { chunk_rows, paths, ..options(2) };
        let planned = plan(&place.project(&pipeline), &options).expect("a plan can be made");
        let report = run(&place, &pipeline, &options).expect("the run is done");

        assert_eq!(
            rows(&place, "lines"),
            [
                [int(1), int(1), int(1), int(1)],
                [int(2), int(1), int(2), int(2)],
                [int(3), int(4), int(2), int(3)],
                // A null is an element whose fields are all null; a null list has none.
                [int(4), int(4), Cell::Null, Cell::Null],
                [int(5), int(4), Cell::Null, int(4)],
                [int(6), int(4), int(3), int(5)],
            ]
        );
        assert_eq!(
            rows(&place, "things"),
            [[int(1), text("nut"), int(1)], [int(2), text("bolt"), int(2)], [int(3), text("screw"), int(5)],]
        );
        assert_eq!(rows(&place, "words"), [[int(1), text("new"), text("o1")], [int(2), text("old"), text("o1")]]);
        let uses = [(1, 1), (1, 2), (4, 2), (4, 0), (4, 2)];
        let id = |id: i128| if id == 0 { Cell::Null } else { int(id) };
        assert_eq!(rows(&place, "uses"), uses.map(|(order, word)| [id(order), id(word)]));
        assert_eq!(rows(&place, "orders").len(), 4);
        let counts: Vec<_> = report.tables.iter().map(|t| (t.rows, t.elements, t.null_keys)).collect();
        let expected = [(6, Some(6), 0), (4, None, 0), (3, Some(6), 2), (2, Some(5), 1), (5, Some(5), 0)];
        assert_eq!(counts, expected);
        let counts: Vec<_> = planned.tables.iter().map(|t| (t.rows, t.elements, t.null_keys)).collect();
        assert_eq!(counts, expected);
        audit(&place, &pipeline, 2).expect("the audit passes");
    }
}

#[test]
fn g4_things_of_elements_keep_their_ids_in_later_runs() {
    let place = Place::new();
    let pipeline = shop();
    write_orders(&place, "b.parquet", &some_orders());
    run(&place, &pipeline, &options(2)).expect("the first run is done");
    let more = [
        vec![text("o5"), list(&[item(7, "wing"), item(8, "nut"), item(9, "wing")]), Cell::Null],
        vec![text("o1"), list(&[item(9, "clip")]), words(&["new"])],
    ];
    write_orders(&place, "a.parquet", &more);
    let report = run(&place, &pipeline, &options(2)).expect("the second run is done");
    assert_eq!(
        rows(&place, "lines")[6..],
        [
            [int(7), int(5), int(4), int(7)],
            [int(8), int(5), int(1), int(8)],
            [int(9), int(5), int(4), int(9)],
            [int(10), int(1), int(5), int(9)],
        ]
    );
    assert_eq!((report.tables[2].rows, report.tables[2].known_keys), (2, 1));
    audit(&place, &pipeline, 2).expect("the audit passes");

    // The rows of a table cannot become those of another list.
    let mut other = pipeline.clone();
    other.tables[4].from = Some("items[]".to_owned());
    other.tables[3].from = Some("items[]".to_owned());
    other.tables[3].key = vec!["word".to_owned()];
    write_orders(&place, "c.parquet", &more);
    let failed = run(&place, &other, &options(2)).expect_err("published rows are of other things");
    assert!(failed.message.contains("elements of 'words[]'"), "{failed:?}");
}

#[test]
fn a_key_may_be_of_the_element_and_of_its_record() {
    let place = Place::new();
    let mut lines = from("items[]", keyed("lines", &["no", "n"], &["orders"], &["word"]));
    lines.on_conflict = OnConflict::Last;
    lines.partition_by = vec!["word".to_owned()];
    let group = PerGroup { columns: vec!["no".to_owned()], number: "line".to_owned() };
    let code = TextId { column: "code".to_owned(), format: "{no}/{:02}".to_owned() };
    lines.id = Some(Id { group: Some(group), text: Some(code), ..Id::new("line_id") });
    let mut pipeline = pipeline(vec![lines, keyed("orders", &["no"], &[], &[])]);
    pipeline.output.format = Format::Delta;
    let records = [
        vec![text("o1"), list(&[item(1, "a"), item(2, "b"), item(1, "c")]), Cell::Null],
        vec![text("o2"), list(&[item(1, "a"), item(1, "a"), Cell::Struct(vec![Cell::Null; 3])]), Cell::Null],
        vec![Cell::Null, list(&[item(1, "a")]), Cell::Null],
        vec![text("o1"), list(&[item(2, "d")]), Cell::Null],
    ];
    write_orders(&place, "a.parquet", &records);
    let report = run(&place, &pipeline, &RunnerOptions { chunk_rows: 2, ..options(2) }).expect("the run is done");
    let mut found = rows(&place, "lines");
    found.sort();
    let line = |id, number, code: &str, no: &str, n, order| {
        vec![int(id), int(number), text(code), text(no), int(n), int(order)]
    };
    assert_eq!(
        found,
        [line(1, 1, "o1/01", "o1", 1, 1), line(2, 2, "o1/02", "o1", 2, 1), line(3, 1, "o2/01", "o2", 1, 2)]
    );
    assert_eq!((report.tables[0].null_keys, report.tables[0].elements), (2, Some(8)));
    let folders = read_table(&place.output().join("lines")).folders;
    assert_eq!(folders, ["word=a", "word=c", "word=d"]);
    compare_logs(&place, &pipeline).expect("the log says the same");
    audit(&place, &pipeline, 2).expect("the audit passes");
}

#[test]
fn g2_g7_an_element_without_a_key_takes_its_record_to_quarantine() {
    for (chunk_rows, paths) in [(1, Paths::Pages), (1000, Paths::Pages), (2, Paths::General)] {
        let place = Place::new();
        let mut strict = shop();
        strict.tables[2].on_null_key = OnNullKey::Quarantine;
        let options = RunnerOptions { chunk_rows, paths, ..options(2) };
        let mut records = some_orders();
        records.push(vec![text("o5"), list(&[item(6, "wing")]), words(&["late"])]);
        write_orders(&place, "a.parquet", &records);
        let report = run(&place, &strict, &options).expect("the run is done");
        assert_eq!((report.quarantined, report.records), (1, 5));
        // What only the record in quarantine has, takes no ID.
        assert_eq!(
            rows(&place, "things").iter().map(|row| row[1].clone()).collect::<Vec<_>>(),
            ["nut", "bolt", "wing"].map(text)
        );
        assert_eq!(rows(&place, "orders").len(), 4);
        assert_eq!(rows(&place, "lines").len(), 3);
        let waits = quarantine(&place.project(&strict)).expect("it can be looked at");
        assert_eq!(waits.reasons[0].reason, "the key of table 'things' (word) is null in items[1]");
        let kept = quarantined(&place, &["no", "items", "words"].map(str::to_owned));
        assert_eq!((kept.len(), kept[0].row, &kept[0].record), (1, 3, &records[3]));
        audit(&place, &strict, 2).expect("the audit passes");

        // The lists come back from quarantine as they were.
        let loose = shop();
        let again = replay(&place.project(&loose), &[]).expect("it can be replayed").expect("something waits");
        run_project(&place, &again, &options).expect("the replay is done");
        assert_eq!(
            rows(&place, "lines")[3..].iter().map(|row| row[3].clone()).collect::<Vec<_>>(),
            [int(3), Cell::Null, int(4), int(5)]
        );
        let found = who(&place.project(&loose), "lines", 7).expect("it is there");
        assert_eq!((found.source_row, found.source_element.as_deref()), (Some(3), Some("items[3]")));
        audit(&place, &loose, 2).expect("the audit passes");
    }
}

#[test]
fn a_null_key_that_is_an_error_is_named_by_its_element() {
    let place = Place::new();
    let mut strict = shop();
    strict.tables[3].on_null_key = OnNullKey::Error;
    write_orders(&place, "a.parquet", &some_orders());
    let failed = run(&place, &strict, &options(2)).expect_err("a word is null");
    assert_eq!(failed.message, "data/a.parquet, row 3: the key of table 'words' (words) is null in words[1]");
    assert!(!place.output().join("words").exists());
}

#[test]
fn elements_that_disagree_are_named() {
    let mut strict = shop();
    strict.tables[2].on_conflict = OnConflict::Error;
    strict.tables[2].references = vec!["orders".to_owned()];
    for (records, places) in [
        (
            vec![vec![text("o1"), list(&[item(1, "a"), item(2, "b"), item(3, "a")]), Cell::Null]],
            ["items[0]", "items[2]"],
        ),
        // The same element in another order: what it is in counts as well.
        (
            vec![
                vec![text("o1"), list(&[item(2, "b"), item(1, "a")]), Cell::Null],
                vec![text("o2"), list(&[item(1, "a")]), Cell::Null],
            ],
            ["row 0, items[1]", "row 1, items[0]"],
        ),
    ] {
        let place = Place::new();
        write_orders(&place, "a.parquet", &records);
        let failed = run(&place, &strict, &options(2)).expect_err("two elements differ");
        for word in ["'things'", "n, no"].iter().chain(&places) {
            assert!(failed.message.contains(word), "{word}: {failed:?}");
        }
    }
}

#[test]
fn who_leads_from_a_row_to_its_element() {
    let place = Place::new();
    let pipeline = shop();
    write_orders(&place, "a.parquet", &some_orders());
    run(&place, &pipeline, &RunnerOptions { chunk_rows: 2, ..options(2) }).expect("the run is done");
    for (table, id, row, element) in [
        ("lines", 2, 0, "items[1]"),
        ("lines", 5, 3, "items[2]"),
        ("things", 3, 3, "items[3]"),
        ("words", 2, 0, "words[1]"),
    ] {
        let found = who(&place.project(&pipeline), table, id).expect("it is there");
        assert_eq!((found.source_row, found.source_element.as_deref()), (Some(row), Some(element)), "{table} {id}");
    }
    let found = who(&place.project(&pipeline), "orders", 2).expect("it is there");
    assert_eq!((found.source_row, found.source_element), (Some(1), None));
}

#[test]
fn what_is_no_list_and_no_column_of_one_is_told() {
    let place = Place::new();
    write_orders(&place, "a.parquet", &some_orders());
    let lines = |list: &str, column: &str| pipeline(vec![from(list, keyed("lines", &[], &[], &[column]))]);
    for (wrong, expected) in [
        (lines("item[]", "n"), "there is no list 'item' in the source; did you mean 'items'?"),
        (lines("parcels[]", "n"), "there is no list 'parcels' in the source; there are the lists: items, words"),
        (lines("no[]", "n"), "'no' is a Utf8, and no list"),
        (
            lines("items[].parts[]", "n"),
            "there is no list 'parts' in the elements of 'items[]'; there is no list at all",
        ),
        (lines("words[].parts[]", "n"), "elements of 'words[]' are Utf8, and have no 'parts'"),
        (
            lines("items[]", "wort"),
            "there is no column 'wort' in the elements of 'items[]' or the source; did you mean 'word'?",
        ),
        (
            lines("words[]", "word"),
            "there is no column 'word' in the elements of 'words[]' or the source; did you mean 'words'?",
        ),
    ] {
        let error = check(&place.project(&wrong)).expect_err("it is wrong");
        let told = format!("{}; {}", error.message, error.help.unwrap_or_default());
        assert!(told.starts_with("table 'lines': ") && told.contains(expected), "{told}");
    }
}

fn structs(columns: Vec<(&str, ArrayRef)>, nulls: Option<Vec<bool>>) -> ArrayRef {
    let field = |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
    let fields: Fields = columns.iter().map(field).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    Arc::new(StructArray::new(fields, arrays, nulls.map(NullBuffer::from)))
}

fn lists(lengths: &[usize], values: ArrayRef, nulls: Option<Vec<bool>>) -> ArrayRef {
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    Arc::new(ListArray::new(field, offsets, values, nulls.map(NullBuffer::from)))
}

fn texts(of: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(of.to_vec()))
}

/// `day`, `shop.name`, `shop.orders[].no`, `shop.orders[].items[].sku` and `.qty`.
fn write_days(place: &Place) {
    let skus = texts(&["a", "b", "a", "c", "b"]);
    let quantities: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5]));
    let items = lists(&[2, 0, 1, 2], structs(vec![("sku", skus), ("qty", quantities)], None), None);
    let orders = structs(vec![("no", texts(&["o1", "o2", "o3", "o4"])), ("items", items)], None);
    // The third day's shop is null, and so are the orders in it.
    let orders = lists(&[2, 1, 0, 1], orders, None);
    let shop =
        structs(vec![("name", texts(&["x", "y", "z", "x"])), ("orders", orders)], Some(vec![true, true, false, true]));
    write_batch(place, "a", vec![("day", texts(&["d1", "d2", "d3", "d4"])), ("shop", shop)]);
}

/// Writes `data/<name>.parquet` with these columns.
fn write_batch(place: &Place, name: &str, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let batch = batch.expect("equal columns");
    std::fs::create_dir_all(place.path().join("data")).expect("a folder");
    let file = File::create(place.path().join(format!("data/{name}.parquet"))).expect("the file can be made");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a schema of Parquet");
    writer.write(&batch).expect("it is written");
    writer.close().expect("it is finished");
}

#[test]
fn g3_lists_in_structs_and_in_the_elements_of_lists() {
    let (orders, items) = ("shop.orders[]", "shop.orders[].items[]");
    let pipeline = pipeline(vec![
        keyed("days", &["day"], &[], &[]),
        from(orders, keyed("orders", &["no"], &["days"], &["day"])),
        from(items, keyed("products", &["sku"], &["orders"], &[])),
        from(items, keyed("lines", &["no", "sku"], &["products", "orders", "days"], &["qty", "day"])),
        from(items, keyed("all", &[], &["orders"], &["qty"])),
    ]);
    for chunk_rows in [1, 3, 100] {
        let options = RunnerOptions { chunk_rows, ..options(2) };
        let place = Place::new();
        write_days(&place);
        run(&place, &pipeline, &options).expect("the run is done");
        let order = |id, no: &str, day, date: &str| vec![int(id), text(no), int(day), text(date)];
        assert_eq!(
            rows(&place, "orders"),
            [order(1, "o1", 1, "d1"), order(2, "o2", 1, "d1"), order(3, "o3", 2, "d2"), order(4, "o4", 4, "d4")]
        );
        let line = |id, no: &str, sku: &str, refs: [i128; 3], qty, day: &str| {
            vec![int(id), text(no), text(sku), int(refs[0]), int(refs[1]), int(refs[2]), int(qty), text(day)]
        };
        assert_eq!(
            rows(&place, "lines"),
            [
                line(1, "o1", "a", [1, 1, 1], 1, "d1"),
                line(2, "o1", "b", [2, 1, 1], 2, "d1"),
                line(3, "o3", "a", [1, 3, 2], 3, "d2"),
                line(4, "o4", "c", [3, 4, 4], 4, "d4"),
                line(5, "o4", "b", [2, 4, 4], 5, "d4"),
            ]
        );
        assert_eq!(
            rows(&place, "products"),
            [[int(1), text("a"), int(1)], [int(2), text("b"), int(1)], [int(3), text("c"), int(4)]]
        );
        assert_eq!(rows(&place, "all").len(), 5);
        let found = who(&place.project(&pipeline), "all", 5).expect("it is there");
        assert_eq!((found.source_row, found.source_element.as_deref()), (Some(3), Some("shop.orders[0].items[1]")));
        audit(&place, &pipeline, 2).expect("the audit passes");
    }
}

#[test]
fn files_whose_elements_have_other_fields_are_told_apart() {
    let place = Place::new();
    for (name, field) in [("a", "sku"), ("b", "code")] {
        let items = lists(&[1], structs(vec![(field, texts(&["x"]))], None), None);
        write_batch(&place, name, vec![("items", items)]);
    }
    let pipeline = pipeline(vec![from("items[]", keyed("things", &["sku"], &[], &[]))]);
    let with = |schema| {
        let mut pipeline = pipeline.clone();
        pipeline.source.schema = schema;
        pipeline
    };
    for schema in [SchemaMode::Strict, SchemaMode::Widen] {
        let failed = run(&place, &with(schema), &options(2)).expect_err("there is no sku in the second file");
        for word in ["data/a.parquet", "data/b.parquet", "code"] {
            assert!(failed.message.contains(word), "{schema:?}: {failed:?}");
        }
    }
    let report = run(&place, &with(SchemaMode::Evolve), &options(2)).expect("elements lack what they do not have");
    assert_eq!((report.tables[0].rows, report.tables[0].null_keys, report.tables[0].elements), (1, 1, Some(2)));
}

#[test]
fn fields_of_structs_are_columns_of_elements_and_of_their_records() {
    let names = structs(vec![("sku", texts(&["s1", "s2", "s1"])), ("name", texts(&["tea", "mug", "pot"]))], None);
    let items = structs(vec![("product", names), ("qty", Arc::new(Int64Array::from(vec![1, 2, 3])))], None);
    let customer =
        structs(vec![("email", texts(&["a@x", "b@x"])), ("sku", texts(&["no", "no"]))], Some(vec![true, false]));
    let items = lists(&[2, 1], items, None);
    let pipeline = pipeline(vec![
        from("items[]", keyed("products", &["product.sku"], &[], &["product.name"])),
        from("items[]", keyed("lines", &[], &["products"], &["qty", "customer.email"])),
    ]);
    for chunk_rows in [1, 100] {
        let place = Place::new();
        write_batch(&place, "a", vec![("customer", customer.clone()), ("items", items.clone())]);
        run(&place, &pipeline, &RunnerOptions { chunk_rows, ..options(2) }).expect("the run is done");
        assert_eq!(rows(&place, "products"), [[int(1), text("s1"), text("tea")], [int(2), text("s2"), text("mug")]]);
        let line = |id, product, qty, email: &str| vec![int(id), int(product), int(qty), text(email)];
        assert_eq!(rows(&place, "lines"), [line(1, 1, 1, "a@x"), line(2, 2, 2, "a@x"), line(3, 1, 3, "")]);
        let found = who(&place.project(&pipeline), "products", 2).expect("it is there");
        assert_eq!((found.source_row, found.source_element.as_deref()), (Some(0), Some("items[1]")));
        let found = who(&place.project(&pipeline), "lines", 3).expect("it is there");
        assert_eq!((found.source_row, found.source_element.as_deref()), (Some(1), Some("items[0]")));
        audit(&place, &pipeline, 2).expect("the audit passes");
        // A name that leads nowhere says where it ends.
        let mut wrong = pipeline.clone();
        wrong.tables[0].columns = vec!["product.nam".to_owned()];
        let error = check(&place.project(&wrong)).expect_err("there is no such field");
        assert!(error.message.contains("the struct 'product' has no field 'nam'"), "{error:?}");
    }
}

#[test]
fn things_of_elements_may_have_a_history() {
    for (kind, since) in [(HistoryKind::Scd1, None), (HistoryKind::Scd2, Some("no"))] {
        let place = Place::new();
        let mut things = from("items[]", keyed("things", &["word"], &["orders"], &["n"]));
        things.on_conflict = OnConflict::Last;
        things.history = Some(History { kind, valid_from: since.map(str::to_owned) });
        let pipeline = pipeline(vec![things, keyed("orders", &["no"], &[], &[])]);
        let options = RunnerOptions { chunk_rows: 1, ..options(2) };
        let before = [
            vec![text("o1"), list(&[item(1, "nut"), item(2, "bolt")]), Cell::Null],
            vec![text("o2"), list(&[item(3, "nut"), item(4, "clip")]), Cell::Null],
        ];
        write_orders(&place, "a.parquet", &before);
        run(&place, &pipeline, &options).expect("the first run is done");
        // The first of them says what the table has; of the second, an element that comes later counts.
        let after = [
            vec![text("o2"), list(&[item(4, "clip"), item(9, "wing")]), Cell::Null],
            vec![text("o3"), list(&[item(5, "nut"), Cell::Null, item(6, "bolt"), item(7, "bolt")]), Cell::Null],
        ];
        write_orders(&place, "b.parquet", &after);
        let report = run(&place, &pipeline, &options).expect("the second run is done");
        assert_eq!((report.tables[0].rows, report.tables[0].known_keys, report.tables[0].updated_keys), (1, 3, 2));
        let now = |row: &Vec<Cell>| (row[0].clone(), row[1].clone(), row[2].clone(), row[3].clone());
        let mut found: Vec<_> = rows(&place, "things").iter().map(now).collect();
        let row = |id, word: &str, order, n| (int(id), text(word), int(order), int(n));
        let mut expected = vec![row(1, "nut", 3, 5), row(2, "bolt", 3, 7), row(3, "clip", 2, 4), row(4, "wing", 2, 9)];
        if kind == HistoryKind::Scd2 {
            expected.extend([row(1, "nut", 2, 3), row(2, "bolt", 1, 2)]);
        }
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{kind:?}");
        audit(&place, &pipeline, 2).expect("the audit passes");
    }
}

/// Orders in several files, with lists of all lengths.
fn write_parts(place: &Place, seed: u64, parts: std::ops::Range<u64>) {
    for part in parts {
        let mut rng = Rng::at(seed, &[part]);
        let record = |rng: &mut Rng| {
            let no = format!("o{}", rng.below(300));
            vec![text(&no), Kind::Items.value(seed, rng.next()), Kind::Words.value(seed, rng.next())]
        };
        let records: Vec<Record> = (0..150).map(|_| record(&mut rng)).collect();
        write_orders(place, &format!("part-{part}.parquet"), &records);
    }
}

/// Strict about some keys, and with every setting that reads elements again when rows are written.
fn whole_shop() -> Pipeline {
    let mut pipeline = shop();
    pipeline.tables[3].on_null_key = OnNullKey::Quarantine;
    pipeline.tables[2].on_conflict = OnConflict::Last;
    let group = PerGroup { columns: vec!["n".to_owned()], number: "with_n".to_owned() };
    pipeline.tables[0].id = Some(Id { group: Some(group), ..Id::new("line_id") });
    pipeline
}

#[test]
fn g5_workers_memory_and_paths_change_no_byte() {
    let seed = seed("g5_workers_memory_and_paths_change_no_byte");
    let pipeline = whole_shop();
    let publish = |options: &RunnerOptions| {
        let place = Place::new();
        for parts in [0..3, 3..5] {
            write_parts(&place, seed, parts);
            run(&place, &pipeline, options).expect("the run is done");
        }
        audit(&place, &pipeline, 2).expect("the audit passes");
        tree(&place.output())
    };
    let expected = publish(&RunnerOptions { chunk_rows: 40, paths: Paths::General, ..options(1) });
    assert!(expected.keys().any(|name| name.starts_with("_quarantine/")), "some records are set aside");
    for (workers, memory) in [(4, 1 << 30), (2, 1)] {
        let found = publish(&RunnerOptions { chunk_rows: 40, memory, paths: Paths::General, ..options(workers) });
        assert_same_tree(&expected, &found, &format!("{workers} workers with {memory} bytes"));
    }
}

#[test]
fn g5_a_run_over_lists_that_dies_ends_with_the_same_bytes() {
    let seed = seed("g5_a_run_over_lists_that_dies_ends_with_the_same_bytes");
    let (pipeline, options) = (whole_shop(), crash_options());
    let publish = |in_run: usize, death: Death| {
        let (place, mut steps) = (Place::new(), 0);
        for (index, parts) in [0..3, 3..5].into_iter().enumerate() {
            write_parts(&place, seed, parts);
            if index == in_run {
                let (ended, taken) = live_with(&place, &pipeline, &options, death);
                steps = taken;
                if let Some(ended) = ended {
                    ended.unwrap_or_else(|e| panic!("{death:?}: {e:?}"));
                }
            }
            let (ended, _) = live_with(&place, &pipeline, &options, Death::Never);
            ended.expect("it never dies").unwrap_or_else(|e| panic!("{death:?}: {e:?}"));
        }
        audit(&place, &pipeline, 2).unwrap_or_else(|e| panic!("{death:?}: {e}"));
        (tree(&place.output()), steps)
    };
    let expected = publish(0, Death::Never);
    let steps = [expected.1, publish(1, Death::Never).1];
    let mut rng = Rng::new(seed);
    for _ in 0..scaled(12) {
        let in_run = rng.below(2) as usize;
        let death = Death::At { step: 1 + rng.below(steps[in_run]), committed: rng.percent(50) };
        assert_same_tree(&expected.0, &publish(in_run, death).0, &format!("died in run {in_run} at {death:?}"));
    }
}
