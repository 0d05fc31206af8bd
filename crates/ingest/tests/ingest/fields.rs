//! Keys and columns that are fields of structs. Symptom: events as an API delivers them have the customer as a struct, and
//! who wants its e-mail for a key has to write a transform. What is proved: a path works wherever a column does, gives what
//! the same values give as columns of their own, and one that leads nowhere says where it ends.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use seriatim_ingest::{Paths, RunnerOptions, check, plan, who};
use seriatim_pipeline::model::{Check, Id, OnConflict, OnNullKey, PerGroup, Pipeline, SchemaMode, Severity, TextId};

use crate::case::{Case, Sizes};
use crate::cells::Cell;
use crate::guarantees::{random_cases, runner_options};
use crate::harness::{Failed, Place, audit, keyed, options, pipeline, run};
use crate::outputs::read_table;
use crate::replay::replayed;
use crate::rng::Rng;

/// Where a column of a random case is in the files of its twin: beside the others, in a struct, or in a struct in there.
fn path_of(name: &str, depth: usize) -> String {
    ["", "in.", "in.deeper."][depth].to_owned() + name
}

/// The pipeline whose columns are where [`path_of`] says.
fn pipeline_of(case: &Case, depths: &[usize]) -> Pipeline {
    let mut pipeline = case.pipeline.clone();
    let path = |name: &String| {
        let at = case.columns.iter().position(|column| column.name == *name);
        at.map_or_else(|| name.clone(), |at| path_of(name, depths[at]))
    };
    for table in &mut pipeline.tables {
        // What an element is called stays: it is the end of the list's path.
        let element = table.from.as_ref().and_then(|from| from.strip_suffix("[]")).map(str::to_owned);
        if let Some(list) = &element {
            table.from = Some(path(list) + "[]");
        }
        let path = |name: &String| if element.as_ref() == Some(name) { name.clone() } else { path(name) };
        let id = table.id.as_mut();
        let (group, text) = id.map_or((None, None), |id| (id.group.as_mut(), id.text.as_mut()));
        let lists = [&mut table.key, &mut table.columns, &mut table.partition_by].into_iter();
        for list in lists.chain(group.map(|group| &mut group.columns)) {
            *list = list.iter().map(path).collect();
        }
        if let Some(since) = table.history.as_mut().and_then(|history| history.valid_from.as_mut()) {
            *since = path(since);
        }
        if let Some(text) = text {
            for column in &case.columns {
                let (from, to) = (format!("{{{}}}", column.name), format!("{{{}}}", path(&column.name)));
                text.format = text.format.replace(&from, &to);
            }
        }
    }
    pipeline
}

/// A struct of these fields; null where all of them are, so that readers meet both kinds of nothing.
fn whole(fields: Vec<(Field, ArrayRef)>, rows: usize) -> (DataType, ArrayRef) {
    let (names, arrays): (Vec<Field>, Vec<ArrayRef>) = fields.into_iter().unzip();
    let some = |row: usize| arrays.iter().any(|array| array.is_valid(row));
    let nulls = NullBuffer::new(BooleanBuffer::collect_bool(rows, some));
    let names: Fields = names.into_iter().map(|field| field.with_nullable(true)).collect();
    let made = StructArray::try_new_with_length(names.clone(), arrays, Some(nulls), rows).expect("one length");
    (DataType::Struct(names), Arc::new(made))
}

/// Writes a file of a case once more, with its columns in structs.
fn nest(from: &Path, to: &Path, case: &Case, depths: &[usize]) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(from).expect("it is there")).expect("Parquet");
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().expect("a reader").map(|batch| batch.expect("rows")).collect();
    let batch = arrow::compute::concat_batches(&schema, &batches).expect("one schema");
    let mut levels: [Vec<(Field, ArrayRef)>; 3] = [Vec::new(), Vec::new(), Vec::new()];
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let at = case.columns.iter().position(|column| column.name == *field.name()).expect("a column of the case");
        levels[depths[at]].push((field.as_ref().clone(), array.clone()));
    }
    let [mut top, mut inner, innermost] = levels;
    // Parquet has no structs without fields.
    if !innermost.is_empty() {
        let (data_type, deeper) = whole(innermost, batch.num_rows());
        inner.push((Field::new("deeper", data_type, true), deeper));
    }
    if !inner.is_empty() {
        let (data_type, outer) = whole(inner, batch.num_rows());
        top.push((Field::new("in", data_type, true), outer));
    }
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = top.into_iter().unzip();
    write(to, &RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("one length"));
}

fn write(path: &Path, batch: &RecordBatch) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders can be made");
    let mut writer = ArrowWriter::try_new(File::create(path).expect("a file"), batch.schema(), None).expect("a writer");
    writer.write(batch).expect("it is written");
    writer.close().expect("it is written");
}

/// Records whose values are in structs give, row by row, what they give as columns. The bytes are another matter: an output
/// keeps how a source has packed its values, and these sources are packed in two ways.
#[test]
fn g5_fields_of_structs_give_what_columns_give() {
    random_cases("g5_fields_of_structs_give_what_columns_give", 12, |sizes: Sizes| {
        let mut sizes = sizes;
        sizes.transform = None;
        let mut case = Case::draw(&sizes);
        // What stands for a file's type in one schema is another one's where it says that a column is never null.
        case.pipeline.source.schema = SchemaMode::Widen;
        let mut rng = Rng::at(sizes.seed, &[31]);
        // The first two are what checks look at.
        let depths: Vec<usize> =
            (0..case.columns.len()).map(|at| if at < 2 { 0 } else { rng.pick(&[0, 1, 2]) }).collect();
        let nested = pipeline_of(&case, &depths);
        let (even, deep) = (Place::new(), Place::new());
        let options = RunnerOptions { paths: Paths::General, ..runner_options(&sizes) };
        case.write_existing(even.path());
        case.write_existing(deep.path());
        for index in 0..sizes.runs.len() {
            for file in case.write_files(even.path(), index) {
                nest(&even.path().join(&file.path), &deep.path().join(&file.path), &case, &depths);
            }
            match (run(&even, &case.pipeline, &options), run(&deep, &nested, &options)) {
                (Ok(expected), Ok(found)) => {
                    assert_eq!((expected.records, expected.quarantined), (found.records, found.quarantined));
                }
                (Err(_), Err(_)) => break,
                (expected, found) => return Err(format!("run {}: {found:?} instead of {expected:?}", index + 1)),
            }
        }
        for table in &nested.tables {
            let [expected, found] = [&even, &deep].map(|place| read_table(&place.output().join(&table.name)));
            let same =
                (&expected.header, &expected.folders, &expected.rows) == (&found.header, &found.folders, &found.rows);
            assert!(same, "table '{}' of {sizes:?} with {depths:?} in {nested:#?}", table.name);
        }
        if case.pipeline.output.path == "out" && deep.output().join("_seriatim/manifest.json").exists() {
            audit(&deep, &nested, 2)?;
        }
        Ok(())
    });
}

/// An order's number, who bought it, and where they live: e-mail, name, city.
type Order<'a> = (&'a str, Option<(Option<&'a str>, &'a str, &'a str)>);

/// Orders whose customer is a struct, with a struct in it; and `email`, a column that has nothing to do with it.
fn orders(rows: &[Order<'_>]) -> RecordBatch {
    let texts = |of: &dyn Fn(&Order<'_>) -> Option<String>| Arc::new(rows.iter().map(of).collect::<StringArray>());
    let field = |name: &str, array: Arc<StringArray>| (Field::new(name, DataType::Utf8, true), array as ArrayRef);
    let there = rows.iter().map(|row| row.1.is_some()).collect::<NullBuffer>();
    let city = field("city", texts(&|row| row.1.map(|(_, _, city)| city.to_owned())));
    let (city, cities) = (Fields::from(vec![city.0]), vec![city.1]);
    let home = StructArray::new(city.clone(), cities, None);
    let email = field("email", texts(&|row| row.1.and_then(|(email, _, _)| email.map(str::to_owned))));
    let name = field("name", texts(&|row| row.1.map(|(_, name, _)| name.to_owned())));
    let home = (Field::new("home", DataType::Struct(city), true), Arc::new(home) as ArrayRef);
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = vec![email, name, home].into_iter().unzip();
    let customer = StructArray::new(fields.into(), arrays, Some(there));
    let numbers = Arc::new(Int64Array::from_iter_values(0..rows.len() as i64));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("order_no", texts(&|row| Some(row.0.to_owned()))),
        ("customer", Arc::new(customer)),
        ("n", numbers),
        ("email", texts(&|_| Some("elsewhere".to_owned()))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("one length")
}

const ORDERS: [Order<'static>; 4] = [
    ("o1", Some((Some("ada@x"), "Ada", "Rome"))),
    ("o2", None),
    ("o3", Some((None, "Nobody", "Rome"))),
    ("o4", Some((Some("ada@x"), "Ada B.", "Oslo"))),
];

fn shop() -> Pipeline {
    let mut customers = keyed("customers", &["customer.email"], &[], &["customer.name", "customer.home.city"]);
    customers.id = Some(Id {
        group: Some(PerGroup { columns: vec!["customer.home.city".to_owned()], number: "in_city".to_owned() }),
        text: Some(TextId { column: "code".to_owned(), format: "{customer.home.city}-{:02}".to_owned() }),
        ..Id::new("customer_id")
    });
    customers.partition_by = vec!["customer.home.city".to_owned()];
    let mut orders = keyed("orders", &["order_no"], &["customers"], &["email", "customer.name"]);
    orders.id = Some(Id::new("order_id"));
    pipeline(vec![customers, orders])
}

fn text(value: &str) -> Cell {
    Cell::Text(value.to_owned())
}

#[test]
fn a_path_is_a_column_called_by_its_last_part() {
    let place = Place::new();
    write(&place.path().join("data/a.parquet"), &orders(&ORDERS));
    let pipeline = shop();
    let project = place.project(&pipeline);
    let found = check(&project).expect("it fits");
    let called: Vec<&str> = found.tables[0].columns.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(called, ["customer_id", "in_city", "code", "email", "name", "city"]);
    let planned = plan(&project, &options(2)).expect("it can be planned");
    assert_eq!((planned.tables[0].rows, planned.tables[0].null_keys, planned.tables[1].rows), (1, 2, 4));

    let report = run(&place, &pipeline, &options(2)).unwrap_or_else(|e| panic!("{e:?}"));
    let file = &report.tables[0].files[0];
    assert!(file.contains("customers/city=Rome/"), "the report names the file: {file:?}");
    audit(&place, &pipeline, 2).expect("the audit passes");
    let customers = read_table(&place.output().join("customers"));
    assert_eq!(customers.header, ["customer_id", "in_city", "code", "email", "name"]);
    assert_eq!(customers.folders, ["city=Rome"]);
    assert_eq!(
        customers.rows,
        [vec![Cell::Int(1), Cell::Int(1), text("Rome-01"), text("ada@x"), text("Ada")]],
        "the first record says what the customer is like"
    );
    let orders_read = read_table(&place.output().join("orders"));
    assert_eq!(orders_read.header, ["order_id", "order_no", "customer_id", "email", "name"]);
    let named: Vec<(Cell, Cell)> = orders_read.rows.iter().map(|row| (row[2].clone(), row[4].clone())).collect();
    let expected = [
        (Cell::Int(1), text("Ada")),
        (Cell::Null, Cell::Null),
        (Cell::Null, text("Nobody")),
        (Cell::Int(1), text("Ada B.")),
    ];
    assert_eq!(named, expected);

    let found = who(&project, "customers", 1).expect("it is there");
    assert_eq!((found.source_row, found.remark), (Some(0), None));
    let found = who(&project, "orders", 3).expect("it is there");
    assert_eq!((found.source_row, found.remark), (Some(2), None));

    // A later run knows the key.
    write(
        &place.path().join("data/b.parquet"),
        &orders(&[("o5", ORDERS[0].1), ("o6", Some((Some("b@x"), "B", "Rome")))]),
    );
    let report = run(&place, &pipeline, &options(2)).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!((report.tables[0].rows, report.tables[0].known_keys), (1, 1));
    audit(&place, &pipeline, 2).expect("the audit passes");
}

#[test]
fn g7_a_record_without_the_field_goes_to_quarantine_and_comes_back() {
    let place = Place::new();
    write(&place.path().join("data/a.parquet"), &orders(&ORDERS));
    let mut pipeline = shop();
    pipeline.tables[0].on_null_key = OnNullKey::Quarantine;
    pipeline.checks = vec![Check {
        name: "city".to_owned(),
        condition: "customer.home.city <> 'Oslo'".to_owned(),
        severity: Severity::Quarantine,
        at_most: None,
    }];
    let report = run(&place, &pipeline, &options(2)).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!((report.quarantined, report.tables[1].rows), (3, 1));
    audit(&place, &pipeline, 2).expect("the audit passes");
    pipeline.tables[0].on_null_key = OnNullKey::Null;
    pipeline.checks.clear();
    let report = replayed(&place, &pipeline, &[]).expect("the run is done").expect("something waits");
    assert_eq!((report.records, report.quarantined, report.tables[1].rows), (3, 0, 3));
    audit(&place, &pipeline, 2).expect("the audit passes");
}

#[test]
fn paths_go_into_what_a_transform_makes_and_into_objects_of_json() {
    let place = Place::new();
    write(&place.path().join("data/a.parquet"), &orders(&ORDERS));
    let mut pipeline = shop();
    pipeline.transform = Some("SELECT order_no, customer, email FROM source WHERE order_no <> 'o4'".to_owned());
    run(&place, &pipeline, &options(2)).unwrap_or_else(|e| panic!("{e:?}"));
    audit(&place, &pipeline, 2).expect("the audit passes");
    assert_eq!(read_table(&place.output().join("orders")).rows.len(), 3);

    let place = Place::new();
    fs::create_dir_all(place.path().join("data")).expect("a folder");
    let lines = "{\"customer\": {\"email\": \"a\"}}\n{\"customer\": {\"email\": null}}\n";
    fs::write(place.path().join("data/a.ndjson"), lines).expect("a file");
    let mut pipeline = crate::harness::pipeline(vec![keyed("customers", &["customer.email"], &[], &[])]);
    pipeline.source.files = vec!["data/*.ndjson".to_owned()];
    run(&place, &pipeline, &options(2)).unwrap_or_else(|e| panic!("{e:?}"));
    let read = read_table(&place.output().join("customers"));
    assert_eq!(read.header, ["customers_id", "email"], "an object is a struct");
    assert_eq!(read.rows.len(), 1);
}

fn wrong(place: &Place, key: &str, columns: &[&str]) -> String {
    let pipeline = pipeline(vec![keyed("things", &[key], &[], columns)]);
    let error = check(&place.project(&pipeline)).expect_err("it must not fit");
    format!("{}; {}", error.message, error.help.unwrap_or_default())
}

#[test]
fn a_path_that_leads_nowhere_says_where_it_ends() {
    let place = Place::new();
    write(&place.path().join("data/a.parquet"), &orders(&ORDERS));
    for (key, columns, expected) in [
        (
            "customer.emial",
            &[][..],
            "table 'things': there is no key 'customer.emial': the struct 'customer' has no field 'emial'; did you mean \
             'customer.email'?",
        ),
        (
            "order_no",
            &["customer.home.street"],
            "table 'things': there is no column 'customer.home.street': the struct 'customer.home' has no field 'street'; \
             its fields are: city",
        ),
        (
            "order_no.x",
            &[],
            "table 'things': there is no key 'order_no.x': 'order_no' is a Utf8, and has no fields; write 'order_no' alone",
        ),
        (
            "customer.email",
            &["email"],
            "table 'things' would have two columns called 'email'; a field of a struct is called by the last part of its \
             path: give one of them another name in `transform`",
        ),
        ("client.email", &[], "table 'things': there is no key 'client.email' in the source; there are: "),
    ] {
        let said = wrong(&place, key, columns);
        assert!(said.starts_with(expected), "{said}");
    }
    let said = wrong(&place, "customer", &[]);
    assert!(said.ends_with("several: customer.email, customer.name, customer.home.city"), "{said}");
}

/// Where files differ in a struct, its fields go by their names.
#[test]
fn files_may_differ_in_the_fields_of_a_struct() {
    let customer = |fields: Vec<(&str, ArrayRef)>| {
        let (data_type, customer) =
            whole(fields.into_iter().map(|(n, a)| (Field::new(n, a.data_type().clone(), true), a)).collect(), 1);
        let fields = vec![Field::new("customer", data_type, true)];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![customer]).expect("one length")
    };
    let number = |n: i64| Arc::new(Int64Array::from(vec![n])) as ArrayRef;
    let narrow = |n: i32| Arc::new(arrow::array::Int32Array::from(vec![n])) as ArrayRef;
    let place = Place::new();
    write(&place.path().join("data/a.parquet"), &customer(vec![("no", number(1)), ("age", number(40))]));
    write(&place.path().join("data/b.parquet"), &customer(vec![("age", narrow(41)), ("no", narrow(2))]));
    let mut pipeline = pipeline(vec![keyed("customers", &["customer.no"], &[], &["customer.age"])]);
    let refused = |pipeline: &Pipeline| -> Failed { run(&place, pipeline, &options(2)).expect_err("it must fail") };
    assert!(refused(&pipeline).message.contains("column 'customer' is a Struct"));
    pipeline.source.schema = SchemaMode::Widen;
    pipeline.tables[0].on_conflict = OnConflict::Error;
    run(&place, &pipeline, &options(2)).unwrap_or_else(|e| panic!("{e:?}"));
    write(&place.path().join("data/c.parquet"), &customer(vec![("no", narrow(3))]));
    let failed = refused(&pipeline);
    assert!(failed.help.contains("evolve"), "{failed:?}");
    pipeline.source.schema = SchemaMode::Evolve;
    run(&place, &pipeline, &options(2)).unwrap_or_else(|e| panic!("{e:?}"));
    audit(&place, &pipeline, 2).expect("the audit passes");
    let int = |n: i128| Cell::Int(n);
    let expected = [vec![int(1), int(1), int(40)], vec![int(2), int(2), int(41)], vec![int(3), int(3), Cell::Null]];
    assert_eq!(read_table(&place.output().join("customers")).rows, expected);
}
