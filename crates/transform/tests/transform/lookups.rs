//! Joins of look-ups: what a record finds there, what it gets if it finds nothing, and which joins are none of a look-up.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use seriatim_transform::{Lookup, Transform, TransformError};

use crate::common::{outputs, pick, run, sample, schema, texts};

/// `cities`, with the key `name`; `kinds`, with a key of two columns.
fn lookups() -> Vec<Lookup> {
    let of = |name: &str, key: &[&str], schema: SchemaRef| Lookup {
        name: name.to_owned(),
        key: key.iter().map(|&key| key.to_owned()).collect(),
        schema,
    };
    vec![of("cities", &["name"], cities().schema()), of("kinds", &["n", "name"], kinds().schema())]
}

fn cities() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("name", Arc::new(StringArray::from(vec!["Köln", "Ulm", "Nowhere"]))),
        ("Land", Arc::new(StringArray::from(vec![Some("NW"), Some("BW"), None]))),
        ("people", Arc::new(Int64Array::from(vec![1_085_000, 126_000, 0]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("one length")
}

fn kinds() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int32Array::from(vec![1, 2, 4]))),
        ("name", Arc::new(StringArray::from(vec!["Ulm", "Ulm", "Köln"]))),
        ("kind", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("one length")
}

/// The transform of some SQL that joins `cities`, `kinds` or both.
fn planned(sql: &str) -> Result<Transform, TransformError> {
    let used: Vec<Lookup> = lookups().into_iter().filter(|lookup| sql.contains(&lookup.name)).collect();
    Transform::with_lookups(sql, schema(), &used)
}

fn filled(sql: &str) -> Transform {
    let transform = planned(sql).unwrap_or_else(|error| panic!("{sql}\n{error}\n{:?}", error.help()));
    transform.fill("cities", &cities()).expect("keys are fine");
    transform.fill("kinds", &kinds()).expect("keys are fine");
    transform
}

/// All columns of all rows, and which rows of the sample were kept.
fn rows(sql: &str) -> (Vec<Vec<String>>, Vec<bool>) {
    let transform = filled(sql);
    let names = outputs(&transform);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (batch, kept) = run(&transform, &names, &sample()).unwrap_or_else(|error| panic!("{sql}\n{error}"));
    let columns: Vec<Vec<String>> = (0..batch.num_columns()).map(|at| texts(&batch, at)).collect();
    let row = |row: usize| columns.iter().map(|column| column[row].clone()).collect();
    let kept = kept.map_or_else(|| vec![true; sample().num_rows()], |kept| kept.values().iter().collect());
    ((0..batch.num_rows()).map(row).collect(), kept)
}

#[test]
fn a_left_join_keeps_every_record_and_null_finds_nothing() {
    let (found, kept) = rows("SELECT city, c.Land, people FROM source LEFT JOIN cities AS c ON city = c.name");
    assert_eq!(
        found,
        [
            ["Ulm", "BW", "126000"],
            ["Bonn", "NULL", "NULL"],
            ["NULL", "NULL", "NULL"],
            ["Köln", "NW", "1085000"],
            ["", "NULL", "NULL"]
        ]
    );
    assert_eq!(kept, [true; 5]);
}

#[test]
fn an_inner_join_drops_what_finds_nothing_and_a_filter_comes_after_it() {
    let sql = "SELECT s.city, cities.land FROM source s JOIN cities ON cities.name = s.city";
    assert_eq!(
        rows(sql),
        (
            vec![vec!["Ulm".to_owned(), "BW".into()], vec!["Köln".into(), "NW".into()]],
            vec![true, false, false, true, false]
        )
    );
    let sql = format!("{sql} WHERE people < 1000000 AND quantity > 0");
    assert_eq!(rows(&sql), (vec![vec!["Ulm".to_owned(), "BW".into()]], vec![true, false, false, false, false]));
    assert!(filled(&sql).filters_rows());
    assert_eq!(filled(&sql).source_columns(&["land"]), ["city", "quantity"]);
}

#[test]
fn keys_of_several_columns_are_expressions_of_the_record_in_any_order() {
    let sql = "SELECT CustomerID, kind FROM source LEFT JOIN kinds k ON (upper(k.name) = k.name OR true)";
    assert!(planned(sql).is_err());
    let sql =
        "SELECT CustomerID, kind FROM source LEFT JOIN kinds k ON (k.name = trim(city || ' ')) AND CustomerID = k.n";
    let found: Vec<String> = rows(sql).0.into_iter().map(|row| row[1].clone()).collect();
    assert_eq!(found, ["a", "NULL", "NULL", "c", "NULL"]);
}

#[test]
fn look_ups_are_joined_one_after_another_and_more_than_once() {
    let sql = "SELECT CustomerID, a.people AS p, b.people AS q, kind FROM (SELECT * FROM source WHERE CustomerID < 5) s \
               LEFT JOIN cities a ON s.city = a.name \
               LEFT JOIN cities b ON CASE WHEN a.Land IS NULL THEN 'Nowhere' ELSE 'Ulm' END = b.name \
               LEFT JOIN kinds ON kinds.n = s.CustomerID AND kinds.name = a.name";
    assert_eq!(
        rows(sql).0,
        [
            ["1", "126000", "126000", "a"],
            ["2", "NULL", "0", "NULL"],
            ["3", "NULL", "0", "NULL"],
            ["4", "1085000", "126000", "c"]
        ]
    );
    // In a SELECT within, as a whole and with stars.
    let sql = "WITH joined AS (SELECT s.*, c.* EXCEPT (name) FROM source s JOIN cities c ON c.name = s.city) \
               SELECT email, Land FROM joined WHERE Land = 'NW'";
    assert_eq!(rows(sql).0, [["dee@y.org", "NW"]]);
    let every = filled("SELECT * EXCEPT (name) FROM source LEFT JOIN cities ON city = name");
    assert_eq!(outputs(&every).len(), sample().num_columns() + 2);
}

#[test]
fn columns_pass_through_a_left_join_and_what_nobody_asks_for_is_not_looked_up() {
    let transform = planned("SELECT s.*, c.Land FROM source s LEFT JOIN cities c ON CAST(s.email AS INT) = c.people");
    let Err(error) = transform else { panic!("people is no key") };
    assert!(error.to_string().contains("`people` is not in the key"), "{error}");
    let transform =
        filled("SELECT s.*, c.Land FROM source s LEFT JOIN cities c ON CAST(CAST(s.email AS INT) AS STRING) = c.name");
    assert_eq!(transform.pass_through("email"), Some("email"));
    assert_eq!(transform.pass_through("Land"), None);
    assert!(!transform.filters_rows());
    assert_eq!(transform.source_columns(&["city"]), ["city"]);
    assert_eq!(transform.source_columns(&["Land"]), ["email"]);
    run(&transform, &["city"], &sample()).expect("the join is not evaluated");
    let error = run(&transform, &["Land"], &sample()).expect_err("the first e-mail is no number");
    assert!(matches!(&error, TransformError::Row { row: 0, inputs, .. } if inputs[0].0 == "email"), "{error:?}");
}

/// Symptom to be feared: a record finds something else because its neighbours are others.
#[test]
fn what_a_record_finds_does_not_depend_on_its_neighbours() {
    let transform = filled(
        "SELECT CustomerID, Land, kind FROM source JOIN cities ON city = cities.name LEFT JOIN kinds \
         ON kinds.n = CustomerID AND kinds.name = city",
    );
    let projected = transform.project(&["CustomerID", "Land", "kind"]).expect("it can be evaluated");
    let all = pick(&sample(), projected.input_columns());
    let whole = projected.apply(&all).expect("it is evaluated").0;
    let parts: Vec<RecordBatch> =
        (0..all.num_rows()).map(|row| projected.apply(&all.slice(row, 1)).expect("it is evaluated").0).collect();
    assert_eq!(concat_batches(&whole.schema(), &parts).expect("one schema"), whole);
    assert_eq!(whole.num_rows(), 2);
}

#[test]
fn types_of_both_sides_are_made_alike_as_sql_does() {
    let numbers = |key: ArrayRef| {
        let schema = Arc::new(Schema::new(vec![
            Field::new("n", key.data_type().clone(), true),
            Field::new("word", DataType::Utf8, true),
        ]));
        let words: ArrayRef = Arc::new(StringArray::from(vec!["one", "three"]));
        RecordBatch::try_new(schema, vec![key, words]).expect("one length")
    };
    let texts_of = |key: ArrayRef, on: &str| {
        let rows = numbers(key);
        let lookup = Lookup { name: "w".to_owned(), key: vec!["n".to_owned()], schema: rows.schema() };
        let sql = format!("SELECT word FROM source LEFT JOIN w ON {on} = w.n");
        let transform = Transform::with_lookups(&sql, schema(), &[lookup]).unwrap_or_else(|e| panic!("{e}"));
        transform.fill("w", &rows).expect("keys are fine");
        texts(&run(&transform, &["word"], &sample()).expect("it is evaluated").0, 0)
    };
    let expected = ["one", "NULL", "three", "NULL", "NULL"];
    assert_eq!(texts_of(Arc::new(Int32Array::from(vec![1, 3])), "CustomerID"), expected);
    assert_eq!(texts_of(Arc::new(Int64Array::from(vec![1, 3])), "CAST(CustomerID AS SMALLINT)"), expected);
    assert_eq!(texts_of(Arc::new(StringArray::from(vec!["1", "3"])), "CustomerID"), expected);
    let dictionary: arrow::array::DictionaryArray<arrow::datatypes::Int32Type> = vec!["1", "3"].into_iter().collect();
    assert_eq!(texts_of(Arc::new(dictionary), "CAST(CustomerID AS STRING)"), expected);
}

/// What a refusal says.
fn no(sql: &str, place: &str, message: &str, help: &str) {
    let Err(error) = planned(sql) else { panic!("{sql} is not refused") };
    let at = error.location().map_or_else(String::new, |at| format!("{}:{}", at.line, at.column));
    assert!(place == "*" || at == place, "{sql}: at {at}: {error}");
    assert!(error.to_string().contains(message), "{sql}: {error}");
    assert!(error.help().unwrap_or_default().contains(help), "{sql}: {:?}", error.help());
}

#[test]
fn joins_of_anything_but_the_key_of_a_look_up_are_refused_at_their_place() {
    let from = "SELECT email FROM source s";
    for (rest, place, message, help) in [
        ("JOIN source o ON s.email = o.email", "*", "a join is not row-wise", "`lookups`"),
        ("JOIN (SELECT * FROM cities) c ON s.city = c.name", "*", "a join is not row-wise", "`lookups`"),
        (", cities", "1:30", "a join is not row-wise", "`lookups`"),
        ("RIGHT JOIN cities c ON s.city = c.name", "*", "RIGHT JOIN is not row-wise", "LEFT JOIN cities ON"),
        ("FULL JOIN cities c ON s.city = c.name", "*", "FULL JOIN is not row-wise", "LEFT JOIN"),
        ("CROSS JOIN cities", "*", "CROSS JOIN is not row-wise", "LEFT JOIN"),
        ("LEFT ANTI JOIN cities c ON s.city = c.name", "*", "ANTI JOIN is not row-wise", "IS NULL"),
        ("LEFT SEMI JOIN cities c ON s.city = c.name", "*", "SEMI JOIN is not row-wise", "write JOIN"),
        ("LEFT JOIN cities USING (city)", "*", "USING is not supported", "write ON"),
        ("NATURAL JOIN cities", "*", "NATURAL JOIN is not supported", "write ON"),
        ("JOIN cities", "*", "a JOIN without ON", "write ON"),
        ("JOIN cities c ON s.city = c.land", "1:45", "`Land` is not in the key", "its key is name"),
        ("JOIN cities c ON s.city > c.name", "1:45", "something else than its key", "(name)"),
        ("JOIN cities c ON s.city = c.name OR s.email = c.name", "1:45", "something else than its key", "WHERE"),
        ("JOIN cities c ON s.city = upper(c.name)", "1:45", "something else than its key", "(name)"),
        ("JOIN cities c ON c.land = c.name", "1:45", "something else than its key", "(name)"),
        ("JOIN cities c ON s.city = c.name AND s.quantity > 1", "1:65", "something else than its key", "WHERE"),
        ("JOIN cities c ON s.city = c.name AND s.email = c.name", "1:65", "compares `name` twice", "WHERE"),
        ("JOIN kinds k ON s.city = k.name", "1:44", "leaves out `n` of its key", "n, name"),
        ("JOIN cities s ON s.city = s.name", "*", "two tables are called `s`", "AS other"),
        ("JOIN cities c (a, b, d) ON s.city = c.a", "*", "other names for the columns", "where they are taken"),
        ("JOIN citeis c ON s.city = c.name", "*", "unknown table `citeis`", ""),
    ] {
        no(&format!("{from} {rest}"), place, message, help);
    }
    no("SELECT * FROM cities", "1:15", "the look-up `cities` alone", "FROM source LEFT JOIN cities");
    no(
        "SELECT name FROM source s JOIN cities c ON s.city = c.name JOIN kinds k ON k.n = 1 AND k.name = city",
        "1:8",
        "`name` is ambiguous",
        "`c.name`",
    );
    no("SELECT c.nmae FROM source s JOIN cities c ON s.city = c.name", "1:10", "unknown column `nmae`", "`name`");
    no("SELECT x.name FROM source s JOIN cities c ON s.city = c.name", "1:8", "unknown column `x`", "`s`, `c`");
    no(
        "SELECT *, c.Land FROM source s JOIN cities c ON s.city = c.name",
        "*",
        "two result columns are called `Land`",
        "",
    );
    let unused = Transform::with_lookups("SELECT email FROM source", schema(), &lookups());
    let error = unused.expect_err("nothing is joined");
    assert_eq!(error.to_string(), "nothing joins the look-up `cities`");
    assert!(error.help().is_some_and(|help| help.contains("= cities.name")), "{:?}", error.help());
}

#[test]
fn keys_that_become_alike_are_refused_when_they_are_compared() {
    let key: ArrayRef = Arc::new(StringArray::from(vec!["1", "01"]));
    let rows = RecordBatch::try_from_iter_with_nullable([("n", key, true)]).expect("one length");
    let lookup = Lookup { name: "w".to_owned(), key: vec!["n".to_owned()], schema: rows.schema() };
    let transform = Transform::with_lookups("SELECT email FROM source JOIN w ON w.n = CustomerID", schema(), &[lookup]);
    let transform = transform.expect("it can be planned");
    // Whether numbers are compared as texts or texts as numbers is the planner's affair; no record may find two rows.
    match transform.fill("w", &rows) {
        Ok(()) => assert_eq!(run(&transform, &["email"], &sample()).expect("it is evaluated").0.num_rows(), 1),
        Err(error) => assert!(error.to_string().contains("rows 0 and 1 have the same key"), "{error}"),
    }
    let error = run(&filled("SELECT email FROM source"), &["email"], &sample());
    assert!(error.is_ok());
    let unfilled =
        planned("SELECT people FROM source LEFT JOIN cities ON city = cities.name").expect("it can be planned");
    assert!(run(&unfilled, &["people"], &sample()).is_err(), "what was not loaded is no empty look-up");
}
