//! The promise: what comes out for a row depends on that row alone. Random records go through SQL
//! with every kind of trap (errors behind AND, OR, CASE and WHERE), whole and in random pieces; the
//! pieces must agree with the whole, values, masks and errors. `PROPTEST_CASES` and proptest's own
//! regression files replay and widen the search.

use std::sync::Arc;

use crate::common::{Record, batch, outputs, pick, run, run_all, schema, texts, transform};
use arrow::array::{Array, ArrayRef, BooleanArray, DictionaryArray, RecordBatch, StringArray, StringViewArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use proptest::prelude::*;
use seriatim_transform::{Transform, TransformError};

/// Transforms that always succeed on the records below.
const CALM: &[&str] = &[
    "SELECT * FROM source",
    "SELECT *, upper(city) AS up, quantity * price AS total FROM source WHERE quantity > 0",
    "SELECT email, CASE WHEN quantity <> 0 THEN 100 / quantity ELSE -1 END AS share FROM source",
    "SELECT email, 10 / quantity AS x, city || email AS y FROM source WHERE quantity <> 0",
    "SELECT a, b FROM (SELECT quantity AS a, city AS b FROM source WHERE quantity <> 0 OR paid) WHERE a <> 0 AND 10 / a > 1",
    "SELECT quantity = 0 OR 10 / quantity > 2 AS x, quantity <> 0 AND 10 / quantity > 2 AS y FROM source",
    "SELECT quantity IN (CustomerID, 3) AS x, city NOT IN ('a', 'b') AS y, quantity BETWEEN 1 AND CustomerID AS z FROM source",
    "SELECT TRY_CAST(city AS BIGINT) AS n, coalesce(quantity, CustomerID) AS c, md5(city) AS m FROM source WHERE city IS NOT NULL",
    "SELECT date_trunc('month', at) AS m, day + INTERVAL '1 day' AS d, EXTRACT(dow FROM day) AS w, amount * 2 AS a FROM source",
    "SELECT 'k' AS k, regexp_like(email, '^a') AS r, nullif(city, '') AS n, substr(email, 2) AS s FROM source WHERE NOT paid",
];

/// Transforms that fail for some records.
const WILD: &[&str] = &[
    "SELECT 10 / quantity AS x FROM source",
    "SELECT CAST(city AS BIGINT) AS x, 10 / quantity AS y FROM source",
    "SELECT paid AND 10 / quantity > 1 AS x FROM source",
    "SELECT paid OR CAST(city AS BIGINT) > 1 AS x FROM source",
    "SELECT email FROM source WHERE paid AND 10 / quantity > 1",
    "SELECT email FROM source WHERE 10 / quantity > 1 OR paid",
    "SELECT 10 / quantity AS x FROM source WHERE paid",
    "SELECT CASE WHEN paid THEN 10 / quantity WHEN CAST(city AS BIGINT) = 1 THEN 1 ELSE 10 / CustomerID END AS x FROM source",
    "SELECT CASE quantity WHEN 10 / CustomerID THEN 1 WHEN 10 / (CustomerID - 1) THEN 2 END AS x FROM source",
    "SELECT quantity IN (CustomerID, 10 / quantity) AS x, nvl(quantity, 10 / CustomerID) AS y FROM source",
    "SELECT x FROM (SELECT 10 / quantity AS x, CustomerID AS c FROM source WHERE paid) WHERE 10 / c > x",
    "SELECT quantity * 3074457345618258602 AS x, -quantity AS y FROM source WHERE CustomerID BETWEEN 1 AND 10 / quantity",
];

fn records() -> impl Strategy<Value = Vec<Record>> {
    let city = prop_oneof![Just("a"), Just("b"), Just("1"), Just("-7"), Just(""), Just("Köln ✓")];
    let record = (
        0..4_i64,
        proptest::option::of("[ab@é]{0,4}"),
        proptest::option::of(city),
        proptest::option::of(-3..4_i64),
        proptest::option::of(-2.0..2.0_f64),
        proptest::option::of(-500..500_i128),
        proptest::option::of(any::<bool>()),
        proptest::option::of((18_000..22_000_i32, 0..2_000_000_000_000_000_i64)),
    );
    let record = record.prop_map(|(customer, email, city, quantity, price, amount, paid, time)| Record {
        customer,
        email,
        city: city.map(str::to_owned),
        quantity,
        price,
        amount,
        paid,
        day: time.map(|it| it.0),
        at: time.map(|it| it.1),
    });
    proptest::collection::vec(record, 0..40)
}

/// Cuts a batch after these parts of its length.
fn pieces(batch: &RecordBatch, cuts: &[prop::sample::Index]) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(rows + 1)).collect();
    places.extend([0, rows]);
    places.sort_unstable();
    places.windows(2).map(|pair| batch.slice(pair[0], pair[1] - pair[0])).collect()
}

fn full_mask(mask: Option<BooleanArray>, rows: usize) -> Vec<bool> {
    let mask = mask.unwrap_or_else(|| BooleanArray::from(vec![true; rows]));
    assert_eq!((mask.len(), mask.null_count()), (rows, 0));
    mask.values().iter().collect()
}

proptest! {
    #[test]
    fn pieces_agree_with_the_whole(
        sql in prop::sample::select(CALM),
        records in records(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let (transform, input) = (transform(sql), batch(&records));
        let (whole, mask) = run_all(&transform, &input).expect("calm");
        let mask = full_mask(mask, input.num_rows());
        prop_assert_eq!(mask.iter().filter(|it| **it).count(), whole.num_rows());
        let (mut batches, mut masks) = (Vec::new(), Vec::new());
        for piece in pieces(&input, &cuts) {
            let (part, part_mask) = run_all(&transform, &piece).expect("calm");
            masks.extend(full_mask(part_mask, piece.num_rows()));
            batches.push(part);
        }
        prop_assert_eq!(masks, mask);
        prop_assert_eq!(concat_batches(&whole.schema(), &batches).expect("one schema"), whole);
    }

    #[test]
    fn errors_do_not_depend_on_the_neighbours(
        sql in prop::sample::select(WILD),
        records in records(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let (transform, input) = (transform(sql), batch(&records));
        // Row by row: the first that fails, and what the others give.
        let mut single = Vec::new();
        let mut first = None;
        for row in 0..input.num_rows() {
            match run_all(&transform, &input.slice(row, 1)) {
                Ok((part, _)) => single.push(part),
                Err(error) => {
                    first = Some((row, error));
                    break;
                }
            }
        }
        match (run_all(&transform, &input), &first) {
            (Ok((whole, _)), None) => {
                prop_assert_eq!(concat_batches(&whole.schema(), &single).expect("one schema"), whole);
            }
            (Err(TransformError::Row { row, reason, expression, .. }), Some((expected, TransformError::Row { reason: why, expression: what, .. }))) => {
                prop_assert_eq!((row, reason, expression), (*expected, why.clone(), what.clone()));
            }
            other => prop_assert!(false, "{other:?}"),
        }
        let failing = pieces(&input, &cuts).iter().any(|piece| run_all(&transform, piece).is_err());
        prop_assert_eq!(failing, first.is_some());
    }

    #[test]
    fn some_columns_are_the_same_as_in_all(
        sql in prop::sample::select(CALM),
        records in records(),
        chosen in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let (transform, input) = (transform(sql), batch(&records));
        let names = outputs(&transform);
        let (whole, mask) = run_all(&transform, &input).expect("calm");
        let mut positions: Vec<usize> = chosen.iter().map(|it| it.index(names.len())).collect();
        positions.dedup();
        let wanted: Vec<&str> = positions.iter().map(|at| names[*at].as_str()).collect();
        let (part, part_mask) = run(&transform, &wanted, &input).expect("calm");
        prop_assert_eq!(part_mask, mask.clone());
        prop_assert_eq!(&part, &whole.project(&positions).expect("in range"));
        // What passes through is the source's own values at the kept rows.
        let kept = BooleanArray::from(full_mask(mask, input.num_rows()));
        for (index, name) in wanted.iter().enumerate() {
            if let Some(source) = transform.pass_through(name) {
                let source = pick(&input, &[source.to_owned()]);
                let expected = filter_record_batch(&source, &kept).expect("as long as the batch");
                prop_assert_eq!(part.column(index), expected.column(0));
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(tokens in proptest::collection::vec(token(), 0..25)) {
        let sql = tokens.join(" ");
        if let Ok(transform) = Transform::new(&sql, schema()) {
            let _ = run_all(&transform, &crate::common::sample());
        }
    }

    #[test]
    fn no_expression_makes_it_panic(tokens in proptest::collection::vec(token(), 1..8), filter in any::<bool>()) {
        let expression = tokens.join(" ");
        let sql = if filter {
            format!("SELECT email FROM source WHERE {expression}")
        } else {
            format!("SELECT {expression} AS x FROM source")
        };
        match Transform::new(&sql, schema()) {
            Ok(transform) => {
                let _ = run_all(&transform, &crate::common::sample());
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}

fn token() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "SELECT",
        "*",
        "FROM",
        "source",
        "WHERE",
        "email",
        "city",
        "quantity",
        "price",
        "amount",
        "paid",
        "day",
        "at",
        "customerid",
        "(",
        ")",
        ",",
        "+",
        "-",
        "/",
        "%",
        "=",
        "<>",
        "<",
        "AND",
        "OR",
        "NOT",
        "IS",
        "NULL",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "CAST",
        "TRY_CAST",
        "AS",
        "BIGINT",
        "VARCHAR",
        "DATE",
        "x",
        "'a'",
        "'1 day'",
        "1",
        "0",
        "1.5",
        "9223372036854775807",
        "LIKE",
        "IN",
        "BETWEEN",
        "||",
        "~",
        "::",
        "INTERVAL",
        "EXTRACT",
        "YEAR",
        "upper(",
        "substr(",
        "date_trunc('day',",
        "round(",
        "lpad(",
        "repeat(",
        "to_timestamp(",
        "regexp_replace(",
        "concat(",
        "coalesce(",
        "struct(",
        "[",
        "]",
        "{",
        "}",
        ".",
        ";",
        "WITH",
        "GROUP",
        "BY",
        "OVER",
        "count(*)",
        "$1",
        "@v",
        "\"",
        "'",
        "--",
        "/*",
        "->",
        "EXCEPT",
        "UNION",
        "JOIN",
        "ON",
        "LIMIT",
        "é",
    ])
}

/// Text as a dictionary, whose unused entries must not matter, and as views.
#[test]
fn encodings_of_text_do_not_show() {
    let values = ["12", "x", "7"];
    let keys = arrow::array::Int32Array::from(vec![Some(0), None, Some(2), Some(0)]);
    let dictionary = DictionaryArray::<Int32Type>::new(keys, Arc::new(StringArray::from(values.to_vec())));
    let views = StringViewArray::from(vec![Some("12"), None, Some("7"), Some("12")]);
    let plain = StringArray::from(vec![Some("12"), None, Some("7"), Some("12")]);
    let mut results = Vec::new();
    for array in [Arc::new(dictionary) as ArrayRef, Arc::new(views), Arc::new(plain)] {
        let field = Field::new("t", array.data_type().clone(), true);
        let plain = *array.data_type() == DataType::Utf8;
        let source = Arc::new(Schema::new(vec![field]));
        // 'x' is in the dictionary and in no row, so the cast succeeds.
        let sql = "SELECT t, CAST(t AS BIGINT) AS n, t || '!' AS u FROM source WHERE t <> '7'";
        let transform = Transform::new(sql, Arc::clone(&source)).expect("fine");
        assert_eq!(transform.pass_through("t"), plain.then_some("t"), "only if the type is the same");
        let input = RecordBatch::try_new(source, vec![array]).expect("one column");
        let (result, mask) = run_all(&transform, &input).expect("fine");
        assert_eq!(texts(&result, 1), ["12", "12"]);
        results.push((result, mask));
    }
    assert_eq!(results[0], results[2]);
    assert_eq!(results[1], results[2]);
}

#[test]
fn fields_of_records_can_be_read() {
    let inner = StringArray::from(vec![Some("Ulm"), None]);
    let field = Arc::new(Field::new("City", DataType::Utf8, true));
    let records = arrow::array::StructArray::from(vec![(field, Arc::new(inner) as ArrayRef)]);
    let source = Arc::new(Schema::new(vec![Field::new("address", records.data_type().clone(), true)]));
    let input = RecordBatch::try_new(Arc::clone(&source), vec![Arc::new(records)]).expect("one column");
    let sql =
        "SELECT address.City, s.address.City AS b, Address['City'] AS c, s.address['City'] AS d, address FROM source s";
    let transform = Transform::new(sql, source).expect("fine");
    assert_eq!(outputs(&transform), ["City", "b", "c", "d", "address"]);
    assert_eq!(transform.pass_through("address"), Some("address"));
    let (result, _) = run_all(&transform, &input).expect("fine");
    for column in 0..4 {
        assert_eq!(texts(&result, column), ["Ulm", "NULL"]);
    }
}

/// The library may grow a function that is not row-wise; this is where it is noticed. The list is
/// what was read and found wanting when the library's version was chosen.
#[test]
fn the_functions_refused_are_the_known_ones() {
    let mut refused: Vec<String> = datafusion_functions::all_default_functions()
        .iter()
        .filter(|function| {
            let error = Transform::new(&format!("SELECT {}() AS x FROM source", function.name()), schema());
            error.is_err_and(|it| it.to_string().contains("does not depend on the row alone"))
        })
        .map(|function| function.name().to_owned())
        .collect();
    refused.sort();
    assert_eq!(
        refused,
        ["current_date", "current_time", "file_row_index", "input_file_name", "now", "random", "uuid", "version"]
    );
}
