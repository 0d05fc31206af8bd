//! Files whose columns differ. Symptom: a producer upgrades, a column turns from int32 to int64, another is new or has a
//! new name, and the nightly run fails; or worse, values become null. What is proved here: whatever is read gets one type
//! that loses nothing, nothing else passes, and each difference is told with the file that brought it. (The random cases
//! are in `guarantees`.)

use std::fs;

use seriatim_ingest::{Difference, Differs, RunReport, check, plan, who};
use seriatim_pipeline::model::{OnBadFile, OnNullKey, Pipeline, SchemaMode};

use crate::cells::{Cell, Kind};
use crate::files::{Column, Layout, write};
use crate::harness::{Failed, Place, audit, keyed, options, pipeline, run};
use crate::objects::{container, over, upload};
use crate::outputs::{assert_same_tree, read_table, tree};
use crate::rng::Rng;

/// A narrower kind that holds these cells of a column, and the cells as that kind has them.
pub(crate) fn narrowed(kind: Kind, cells: &[Cell], rng: &mut Rng) -> Option<(Kind, Vec<Cell>)> {
    let day_us = 86_400_000_000;
    let (kinds, divisors): (&[Kind], &[i128]) = match kind {
        Kind::I16 => (&[Kind::I8, Kind::U8], &[1, 1]),
        Kind::I32 => (&[Kind::I8, Kind::I16, Kind::U8, Kind::U16], &[1; 4]),
        Kind::I64 => (&[Kind::I8, Kind::I16, Kind::I32, Kind::U8, Kind::U16, Kind::U32], &[1; 6]),
        Kind::U16 => (&[Kind::U8], &[1]),
        Kind::U32 => (&[Kind::U8, Kind::U16], &[1, 1]),
        Kind::U64 => (&[Kind::U8, Kind::U16, Kind::U32], &[1; 3]),
        Kind::F64 => (&[Kind::F32], &[1]),
        Kind::Decimal(18, 4) => (&[Kind::Decimal(8, 4), Kind::Decimal(17, 4), Kind::I8], &[1, 1, 10_000]),
        Kind::Decimal(38, 10) => (&[Kind::Decimal(18, 10), Kind::Decimal(20, 2)], &[1, 100_000_000]),
        Kind::BigDecimal(50, 5) => (&[Kind::Decimal(38, 5)], &[1]),
        Kind::StampUs => (&[Kind::StampMs, Kind::Date], &[1000, day_us]),
        Kind::StampNs => (&[Kind::StampUs, Kind::StampMs], &[1000, 1_000_000]),
        Kind::TimeUs => (&[Kind::TimeMs], &[1000]),
        Kind::TimeNs => (&[Kind::TimeUs, Kind::TimeMs], &[1000, 1_000_000]),
        Kind::Binary => (&[Kind::Fixed(5)], &[1]),
        _ => return None,
    };
    let at = rng.below(kinds.len() as u64) as usize;
    let (narrow, divisor) = (kinds[at], divisors[at]);
    let cells: Option<Vec<Cell>> = cells.iter().map(|cell| narrow_cell(narrow, divisor, cell)).collect();
    cells.map(|cells| (narrow, cells))
}

fn narrow_cell(kind: Kind, divisor: i128, cell: &Cell) -> Option<Cell> {
    let limit = match kind {
        Kind::I8 => 1 << 7,
        Kind::I16 => 1 << 15,
        Kind::I32 | Kind::TimeMs | Kind::Date => 1 << 31,
        Kind::U8 => 1 << 8,
        Kind::U16 => 1 << 16,
        Kind::U32 => 1 << 32,
        Kind::Decimal(precision, _) => 10_i128.pow(u32::from(precision)),
        _ => 1 << 63,
    };
    let is_unsigned = matches!(kind, Kind::U8 | Kind::U16 | Kind::U32);
    match (cell, kind) {
        (Cell::Null, _) => Some(Cell::Null),
        (Cell::Int(value), _) => {
            let fits = value % divisor == 0 && (value / divisor).abs() < limit && !(is_unsigned && *value < 0);
            fits.then(|| Cell::Int(value / divisor))
        }
        (Cell::F64(bits), Kind::F32) => {
            let (wide, narrow) = (f64::from_bits(*bits), f64::from_bits(*bits) as f32);
            (f64::from(narrow).to_bits() == *bits && !wide.is_nan()).then(|| Cell::F32(narrow.to_bits()))
        }
        (Cell::Text(digits), Kind::Decimal(..)) => {
            digits.parse().ok().filter(|v: &i128| v.abs() < limit).map(Cell::Int)
        }
        (Cell::Bytes(bytes), Kind::Fixed(width)) => (bytes.len() == width as usize).then(|| cell.clone()),
        _ => None,
    }
}

fn int(value: i64) -> Cell {
    Cell::Int(value.into())
}

fn text(value: &str) -> Cell {
    Cell::Text(value.to_owned())
}

/// Writes `data/<name>`.
fn put(place: &Place, name: &str, columns: &[(&str, Kind)], rows: &[Vec<Cell>]) {
    let columns: Vec<Column> = columns.iter().map(|(name, kind)| Column::new(name, *kind)).collect();
    write(&place.path().join("data").join(name), &columns, rows, &Layout { row_group: 2, ..Layout::default() });
}

fn things(mode: SchemaMode) -> Pipeline {
    let mut pipeline = pipeline(vec![keyed("things", &["key"], &[], &["qty"])]);
    pipeline.source.schema = mode;
    pipeline
}

fn rows(place: &Place) -> Vec<Vec<Cell>> {
    read_table(&place.output().join("things")).rows
}

fn told(differences: &[Difference]) -> Vec<String> {
    differences.iter().map(ToString::to_string).collect()
}

fn go(place: &Place, pipeline: &Pipeline) -> RunReport {
    let report = run(place, pipeline, &options(2)).unwrap_or_else(|e| panic!("{e:?}"));
    audit(place, pipeline, 2).expect("the audit passes");
    report
}

fn refused(place: &Place, pipeline: &Pipeline) -> Failed {
    let before = tree(&place.output());
    let failed = run(place, pipeline, &options(2)).expect_err("the run must fail");
    assert_same_tree(&before, &tree(&place.output()), &"a failed run publishes nothing");
    failed
}

#[test]
fn strict_takes_no_other_type_and_says_what_would() {
    let place = Place::new();
    put(&place, "a.parquet", &[("key", Kind::Text), ("qty", Kind::I64)], &[vec![text("x"), int(1)]]);
    put(&place, "b.parquet", &[("key", Kind::Text), ("qty", Kind::I32)], &[vec![text("y"), int(2)]]);
    let failed = refused(&place, &things(SchemaMode::Strict));
    assert!(failed.message.contains("'qty' is a Int64 in data/a.parquet and a Int32 in data/b.parquet"), "{failed:?}");
    assert!(failed.help.contains("widen"), "{failed:?}");
    put(&place, "b.parquet", &[("key", Kind::Text)], &[vec![text("y")]]);
    for mode in [SchemaMode::Strict, SchemaMode::Widen] {
        let failed = refused(&place, &things(mode));
        assert!(failed.message.contains("data/b.parquet has no column 'qty'"), "{failed:?}");
        assert!(failed.help.contains("evolve"), "{failed:?}");
    }
}

#[test]
fn differences_are_told_once_with_the_file_that_brings_them() {
    let place = Place::new();
    let (key, wide, narrow) = (("key", Kind::Text), ("qty", Kind::I64), ("qty", Kind::I32));
    put(&place, "a.parquet", &[key, wide], &[vec![text("a"), int(1)]]);
    put(&place, "b.parquet", &[narrow, key], &[vec![int(2), text("b")]]);
    put(&place, "c.parquet", &[key, narrow, ("channel", Kind::Text)], &[vec![text("c"), int(3), text("web")]]);
    put(&place, "d.parquet", &[key], &[vec![text("d")]]);
    put(&place, "e.parquet", &[("mail", Kind::Text), wide], &[vec![text("e"), int(5)]]);
    let mut pipeline = things(SchemaMode::Evolve);
    pipeline.source.rename = [("mail".to_owned(), "key".to_owned())].into();
    let expected = [
        "data/b.parquet: column 'qty' is Int32, read as Int64 (and in 1 more file)",
        "data/c.parquet: has a column 'channel' that no other file has, and no table uses",
        "data/d.parquet: has no column 'qty': null",
        "data/e.parquet: 'mail' is read as 'key'",
    ];
    let project = place.project(&pipeline);
    assert_eq!(told(&check(&project).expect("it fits").differences), expected);
    assert_eq!(told(&plan(&project, &options(2)).expect("a plan").differences), expected);
    let report = go(&place, &pipeline);
    assert_eq!(told(&report.differences), expected);
    assert_eq!(report.differences[0].what, Differs::Type { found: "Int32".to_owned(), read_as: "Int64".to_owned() });
    let row = |id: i64, key: &str, qty: Cell| vec![int(id), text(key), qty];
    let expected =
        [row(1, "a", int(1)), row(2, "b", int(2)), row(3, "c", int(3)), row(4, "d", Cell::Null), row(5, "e", int(5))];
    assert_eq!(rows(&place), expected);

    // Each row is found where it comes from, under the names that the pipeline uses.
    for (id, file, values) in [
        (2, "b", vec![("qty", Some("2")), ("key", Some("b"))]),
        (4, "d", vec![("key", Some("d"))]),
        (5, "e", vec![("key", Some("e")), ("qty", Some("5"))]),
    ] {
        let found = who(&project, "things", id).expect("it is published");
        assert_eq!((found.source_file, found.source_row), (Some(format!("data/{file}.parquet")), Some(0)), "{id}");
        let mut expected: Vec<(String, Option<String>)> =
            values.into_iter().map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect();
        let mut values = found.source_values;
        expected.sort();
        values.sort();
        assert_eq!(values, expected, "{id}");
    }
}

#[test]
fn at_most_a_hundred_differences_are_listed() {
    let place = Place::new();
    put(&place, "a.parquet", &[("key", Kind::Text), ("qty", Kind::I64)], &[]);
    let names: Vec<String> = (0..130).map(|n| format!("more{n}")).collect();
    let mut columns = vec![("key", Kind::Text), ("qty", Kind::I64)];
    columns.extend(names.iter().map(|name| (name.as_str(), Kind::Bool)));
    put(&place, "b.parquet", &columns, &[]);
    let report = check(&place.project(&things(SchemaMode::Widen))).expect("it fits");
    assert_eq!((report.differences.len(), report.more_differences), (100, 30));
}

#[test]
fn types_that_have_nothing_in_common_are_named_with_both_files() {
    let place = Place::new();
    put(&place, "a.parquet", &[("key", Kind::Text), ("qty", Kind::I64)], &[vec![text("x"), int(1)]]);
    put(&place, "b.parquet", &[("key", Kind::Text), ("qty", Kind::Text)], &[vec![text("y"), text("2")]]);
    for mode in [SchemaMode::Widen, SchemaMode::Evolve] {
        let failed = refused(&place, &things(mode));
        let expected = "column 'qty' is a Int64 in data/a.parquet and a Utf8 in data/b.parquet";
        assert!(failed.message.contains(expected), "{failed:?}");
    }
    // Nobody minds what nobody uses.
    let mut pipeline = things(SchemaMode::Widen);
    pipeline.tables[0].columns.clear();
    assert_eq!(go(&place, &pipeline).records, 2);
}

#[test]
fn published_types_stay_and_hold_what_comes_later() {
    let place = Place::new();
    let columns = |kind| [("key", Kind::Text), ("qty", kind)];
    put(&place, "a.parquet", &columns(Kind::I32), &[vec![text("x"), int(1)]]);
    let pipeline = things(SchemaMode::Evolve);
    go(&place, &pipeline);
    put(&place, "b.parquet", &columns(Kind::I8), &[vec![text("y"), int(2)]]);
    put(&place, "c.parquet", &[("key", Kind::Text)], &[vec![text("z")]]);
    let report = go(&place, &pipeline);
    let expected = ["data/b.parquet: column 'qty' is Int8, read as Int32", "data/c.parquet: has no column 'qty': null"];
    assert_eq!(told(&report.differences), expected);
    // Alone, without any file that has the column.
    put(&place, "d.parquet", &[("key", Kind::Text)], &[vec![text("w")]]);
    go(&place, &pipeline);
    let read = read_table(&place.output().join("things"));
    assert!(read.types[2].starts_with("INT32"), "{:?}", read.types);
    assert_eq!(
        read.rows.iter().map(|row| row[2].clone()).collect::<Vec<_>>(),
        [int(1), int(2), Cell::Null, Cell::Null]
    );

    // What is wider than what is published is named with its file, which is not the first one.
    put(&place, "e.parquet", &columns(Kind::I16), &[vec![text("v"), int(5)]]);
    put(&place, "f.parquet", &columns(Kind::I64), &[vec![text("u"), int(6)]]);
    let failed = refused(&place, &pipeline);
    assert!(
        failed.message.contains("'qty' is Int32 in published files, and Int64 as data/f.parquet has it"),
        "{failed:?}"
    );
    let error = check(&place.project(&pipeline)).expect_err("it does not fit");
    assert!(error.message.contains("data/f.parquet"), "{error}");
    // As the advice says.
    let mut cast = pipeline.clone();
    cast.transform = Some("SELECT * REPLACE (CAST(qty AS INT) AS qty) FROM source".to_owned());
    go(&place, &cast);
    assert_eq!(rows(&place).len(), 6);
}

/// Symptom: a pipeline that was strict is told to widen, and its next files would all be narrower than what is published.
#[test]
fn what_was_published_strictly_counts_too() {
    for transform in [None, Some("SELECT *, qty * 2 AS twice FROM source")] {
        let place = Place::new();
        let columns = |kind| [("key", Kind::Text), ("qty", kind)];
        put(&place, "a.parquet", &columns(Kind::I64), &[vec![text("x"), int(1)]]);
        let with = |mode| Pipeline { transform: transform.map(str::to_owned), ..things(mode) };
        go(&place, &with(SchemaMode::Strict));
        put(&place, "b.parquet", &columns(Kind::I16), &[vec![text("y"), int(2)]]);
        let failed = refused(&place, &with(SchemaMode::Strict));
        assert!(failed.message.contains("Int64 in published files, and Int16 as data/b.parquet"), "{failed:?}");
        go(&place, &with(SchemaMode::Widen));
        assert_eq!(rows(&place), [vec![int(1), text("x"), int(1)], vec![int(2), text("y"), int(2)]]);
    }
}

/// A column that only the transform uses has its type from earlier runs as well.
#[test]
fn a_column_that_only_the_transform_uses_may_be_gone_later() {
    let place = Place::new();
    let mut pipeline = things(SchemaMode::Evolve);
    pipeline.transform = Some("SELECT key, coalesce(amount, 0) + 1 AS qty FROM source".to_owned());
    put(&place, "a.parquet", &[("key", Kind::Text), ("amount", Kind::I32)], &[vec![text("x"), int(7)]]);
    go(&place, &pipeline);
    put(&place, "b.parquet", &[("key", Kind::Text)], &[vec![text("y")]]);
    go(&place, &pipeline);
    assert_eq!(rows(&place), [vec![int(1), text("x"), int(8)], vec![int(2), text("y"), int(1)]]);
    // A column that was never there is no column.
    let other = Place::new();
    put(&other, "b.parquet", &[("key", Kind::Text)], &[vec![text("y")]]);
    assert!(refused(&other, &things(SchemaMode::Evolve)).message.contains("no column 'qty'"));
}

/// Symptom: a run none of whose files had a column failed with "unknown column", where earlier files had it and
/// `schema: evolve` was said. Cause: of the columns that the transform names, only those were kept for later runs which
/// tables need. Mend: all of them are kept.
#[test]
fn a_column_that_the_transform_names_and_no_table_needs_may_be_gone_later() {
    for sql in [
        "SELECT *, upper(remark) AS loud FROM source",
        "SELECT key, qty, Remark FROM source",
        "SELECT * EXCEPT (remark) FROM source",
        "SELECT s.key, s.qty, s.remark AS said FROM source AS s",
    ] {
        let place = Place::new();
        let mut pipeline = things(SchemaMode::Evolve);
        pipeline.transform = Some(sql.to_owned());
        let columns = [("key", Kind::Text), ("qty", Kind::I32), ("remark", Kind::Text)];
        put(&place, "a.parquet", &columns, &[vec![text("x"), int(7), text("good")]]);
        go(&place, &pipeline);
        put(&place, "b.parquet", &columns[..2], &[vec![text("y"), int(8)]]);
        go(&place, &pipeline);
        assert_eq!(rows(&place), [vec![int(1), text("x"), int(7)], vec![int(2), text("y"), int(8)]], "{sql}");
    }
}

#[test]
fn a_file_with_the_old_and_the_new_name_is_named() {
    let place = Place::new();
    let columns = [("key", Kind::Text), ("mail", Kind::Text), ("qty", Kind::I64)];
    put(&place, "a.parquet", &columns, &[vec![text("x"), text("y"), int(1)]]);
    for mode in [SchemaMode::Strict, SchemaMode::Evolve] {
        let mut pipeline = things(mode);
        pipeline.source.rename = [("mail".to_owned(), "key".to_owned())].into();
        let failed = refused(&place, &pipeline);
        for word in ["data/a.parquet", "'key'", "'mail'"] {
            assert!(failed.message.contains(word), "{failed:?}");
        }
    }
}

#[test]
fn a_transform_sees_the_new_name_and_the_common_type() {
    let place = Place::new();
    put(&place, "a.parquet", &[("KEY", Kind::Text), ("qty", Kind::I64)], &[vec![text("x"), int(1)]]);
    put(&place, "b.parquet", &[("mail", Kind::Text), ("qty", Kind::I8)], &[vec![text("y"), int(100)]]);
    let mut pipeline = things(SchemaMode::Widen);
    pipeline.source.rename = [("mail".to_owned(), "k".to_owned()), ("KEY".to_owned(), "k".to_owned())].into();
    // As Int8, twice 100 would be an error.
    pipeline.transform = Some("SELECT upper(k) AS key, qty + qty AS qty FROM source WHERE k <> 'z'".to_owned());
    go(&place, &pipeline);
    assert_eq!(rows(&place), [vec![int(1), text("X"), int(2)], vec![int(2), text("Y"), int(200)]]);
}

/// A date that no timestamp in nanoseconds can be is an error of its file, and never a null.
#[test]
fn a_value_that_does_not_fit_is_an_error_of_its_file() {
    let place = Place::new();
    let columns = |kind| [("key", Kind::Text), ("qty", kind)];
    put(&place, "a.parquet", &columns(Kind::StampNs), &[vec![text("x"), int(5)]]);
    let dates = [vec![text("y"), int(3)], vec![text("z"), Cell::Null], vec![text("w"), int(900_000)]];
    put(&place, "b.parquet", &columns(Kind::Date), &dates);
    let mut pipeline = things(SchemaMode::Widen);
    let failed = refused(&place, &pipeline);
    for word in ["data/b.parquet", "'qty'", "row 2", "4434-02-12", "Timestamp"] {
        assert!(failed.message.contains(word), "{word}: {failed:?}");
    }
    pipeline.source.on_bad_file = OnBadFile::Quarantine;
    let report = go(&place, &pipeline);
    assert_eq!(report.aside.iter().map(|file| file.what.file.as_str()).collect::<Vec<_>>(), ["data/b.parquet"]);
    assert_eq!(rows(&place), [vec![int(1), text("x"), int(5)]]);
}

#[test]
fn a_record_in_quarantine_shows_what_the_files_have_together() {
    let place = Place::new();
    put(&place, "a.parquet", &[("key", Kind::Text), ("qty", Kind::I64)], &[vec![Cell::Null, int(1)]]);
    put(&place, "b.parquet", &[("key", Kind::Text), ("qty", Kind::I8)], &[vec![Cell::Null, int(2)]]);
    put(&place, "c.parquet", &[("key", Kind::Text), ("note", Kind::Text)], &[vec![Cell::Null, text("n")]]);
    let mut pipeline = things(SchemaMode::Evolve);
    pipeline.tables[0].on_null_key = OnNullKey::Quarantine;
    assert_eq!(go(&place, &pipeline).quarantined, 3);
    let read = read_table(&place.output().join("_quarantine"));
    assert_eq!(read.header[6..], ["key", "note", "qty"]);
    let values: Vec<_> = read.rows.iter().map(|row| row[7..].to_vec()).collect();
    assert_eq!(values, [[Cell::Null, int(1)], [Cell::Null, int(2)], [text("n"), Cell::Null]]);
}

/// What other runs have published between a run's plan and its turn counts as well; here it is a recovery of state.
#[test]
fn types_survive_the_loss_of_the_state_folder() {
    let place = Place::new();
    let pipeline = things(SchemaMode::Evolve);
    let columns = |kind| [("key", Kind::Text), ("qty", kind)];
    put(&place, "a.parquet", &columns(Kind::I64), &[vec![text("x"), int(1)]]);
    go(&place, &pipeline);
    fs::remove_dir_all(place.state()).expect("it is there");
    crate::harness::recover(&place, &pipeline).expect("it is brought back");
    put(&place, "b.parquet", &[("key", Kind::Text)], &[vec![text("y")]]);
    go(&place, &pipeline);
    assert_eq!(rows(&place), [vec![int(1), text("x"), int(1)], vec![int(2), text("y"), Cell::Null]]);
}

#[test]
fn objects_may_differ_as_files_may() {
    let (local, remote, container) = (Place::new(), Place::new(), container());
    put(&local, "a.parquet", &[("key", Kind::Text), ("qty", Kind::I64)], &[vec![text("x"), int(1)]]);
    put(&local, "b.parquet", &[("mail", Kind::Text), ("qty", Kind::I16)], &[vec![text("y"), int(2)]]);
    put(&local, "c.parquet", &[("key", Kind::Text)], &[vec![text("z")]]);
    upload(local.path(), &container);
    let mut pipeline = things(SchemaMode::Evolve);
    pipeline.source.rename = [("mail".to_owned(), "key".to_owned())].into();
    go(&local, &pipeline);
    go(&remote, &over(&container, &pipeline));
    assert_eq!(rows(&local), rows(&remote));
    assert_eq!(rows(&remote).len(), 3);
}
