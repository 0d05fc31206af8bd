//! Random SQL from its grammar: whatever the planner and the functions make of it, planning ends in a transform or an
//! error with words, evaluation in values or an error with a row; and what is accepted is row-wise: the rows one by one
//! give what they give together. `SERIATIM_TEST_SCALE` multiplies the number of cases, `SERIATIM_TEST_SEED` sets the seed.

use std::hash::BuildHasher as _;

use arrow::compute::concat_batches;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use seriatim_transform::{Transform, TransformError};

use crate::common::{run_all, sample, schema};

fn config(cases: u32) -> Config {
    let scale: f64 = std::env::var("SERIATIM_TEST_SCALE").map_or(1.0, |text| text.parse().expect("a number"));
    let given = std::env::var("SERIATIM_TEST_SEED").ok().map(|text| text.parse().expect("a whole number"));
    let seed = given.unwrap_or_else(|| std::hash::RandomState::new().hash_one(0));
    println!("SERIATIM_TEST_SEED={seed} replays this test");
    let cases = ((f64::from(cases) * scale) as u32).max(1);
    Config { cases, rng_seed: RngSeed::Fixed(seed), ..Config::default() }
}

fn any_of(texts: &[&'static str]) -> BoxedStrategy<String> {
    prop::sample::select(texts.to_vec()).prop_map(str::to_owned).boxed()
}

fn leaf() -> BoxedStrategy<String> {
    // No number between a hundred and the largest one: functions that repeat and pad would be let to fill the memory.
    any_of(&[
        "email",
        "city",
        "quantity",
        "price",
        "amount",
        "paid",
        "day",
        "at",
        "customerid",
        "source.city",
        "\"CustomerID\"",
        "NULL",
        "0",
        "1",
        "-1",
        "7",
        "64",
        "1.5",
        "-0.0",
        "1e300",
        "9223372036854775807",
        "-9223372036854775808",
        "'a'",
        "''",
        "'12'",
        "'2024-02-30'",
        "'2024-02-29'",
        "'é\u{301}'",
        "'%a_'",
        "'(['",
        "true",
        "false",
        "DATE '2024-02-29'",
        "TIMESTAMP '2024-02-29 23:59:60'",
        "INTERVAL '1 month'",
        "INTERVAL '-1 day'",
        "X'00ff'",
        "CAST(NULL AS BIGINT)",
        "arrow_cast(1, 'UInt8')",
        "nosuch",
        "*",
        "$1",
        "'NaN'::double",
    ])
}

fn kind() -> BoxedStrategy<String> {
    any_of(&[
        "BIGINT",
        "SMALLINT",
        "TINYINT UNSIGNED",
        "DOUBLE",
        "REAL",
        "VARCHAR",
        "BOOLEAN",
        "DATE",
        "TIMESTAMP",
        "BYTEA",
        "DECIMAL(38, 10)",
        "DECIMAL(5, 2)",
        "TIMESTAMP WITH TIME ZONE",
        "TIME",
        "INTERVAL",
        "CHAR(3)",
        "BLURB",
    ])
}

/// The functions that the planner knows, those that are refused among them, and some that it does not know.
fn function() -> BoxedStrategy<String> {
    let mut names: Vec<String> =
        datafusion_functions::all_default_functions().iter().map(|function| function.name().to_owned()).collect();
    names.extend(["count", "max", "row_number", "unnest", "nosuch"].map(str::to_owned));
    names.sort();
    prop::sample::select(names).boxed()
}

fn operator() -> BoxedStrategy<String> {
    any_of(&[
        "+",
        "-",
        "*",
        "/",
        "%",
        "=",
        "<>",
        "<",
        ">=",
        "AND",
        "OR",
        "||",
        "LIKE",
        "NOT LIKE",
        "ILIKE",
        "SIMILAR TO",
        "~",
        "~*",
        "!~",
        "IS DISTINCT FROM",
        "&",
        "|",
        "^",
        "<<",
        ">>",
        "->",
        "@>",
        "#",
    ])
}

fn expression() -> impl Strategy<Value = String> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        let several = prop::collection::vec(inner.clone(), 0..4).prop_map(|all| all.join(", "));
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            4 => (inner.clone(), operator(), inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            4 => (function(), several.clone()).prop_map(|(name, arguments)| format!("{name}({arguments})")),
            2 => (inner.clone(), kind()).prop_map(|(a, kind)| format!("CAST({a} AS {kind})")),
            1 => (inner.clone(), kind()).prop_map(|(a, kind)| format!("TRY_CAST({a} AS {kind})")),
            1 => (inner.clone(), two.clone()).prop_map(|(a, (b, c))| format!("CASE WHEN {a} THEN {b} ELSE {c} END")),
            1 => (inner.clone(), two.clone()).prop_map(|(a, (b, c))| format!("CASE {a} WHEN {b} THEN {c} END")),
            1 => (inner.clone(), two).prop_map(|(a, (b, c))| format!("({a} NOT BETWEEN {b} AND {c})")),
            1 => (inner.clone(), several).prop_map(|(a, list)| format!("({a} IN ({list}))")),
            1 => inner.clone().prop_map(|a| format!("(NOT {a} IS NULL)")),
            1 => inner.clone().prop_map(|a| format!("(- {a})")),
            1 => (any_of(&["YEAR", "DOW", "EPOCH", "NANOSECOND", "WEEK"]), inner.clone())
                .prop_map(|(part, a)| format!("EXTRACT({part} FROM {a})")),
            1 => (inner.clone(), any_of(&["[1]", ".city", "['a']", "[1:2]"])).prop_map(|(a, of)| format!("{a}{of}")),
        ]
    })
}

fn select() -> impl Strategy<Value = String> {
    let from = any_of(&[
        "source",
        "source AS s",
        "(SELECT * FROM source)",
        "(SELECT city, quantity AS email FROM source WHERE paid) AS t",
        "(SELECT * EXCEPT (city) FROM source)",
    ]);
    let columns = prop::collection::vec(expression(), 1..4);
    (columns, from, prop::option::of(expression()), any::<bool>()).prop_map(|(columns, from, filter, all)| {
        let named = columns.iter().enumerate().map(|(at, column)| format!("{column} AS c{at}"));
        let columns: Vec<String> = all.then(|| "*".to_owned()).into_iter().chain(named).collect();
        let filter = filter.map_or_else(String::new, |filter| format!(" WHERE {filter}"));
        format!("SELECT {} FROM {from}{filter}", columns.join(", "))
    })
}

/// What a person or a log is shown of an error.
fn has_words(error: &TransformError) {
    let text = error.to_string();
    assert!(!text.trim().is_empty() && !text.contains("RUST_BACKTRACE"), "{text}");
}

proptest! {
    // A minute on one core of 2026; a nightly run, with a scale of 10, takes ten.
    #![proptest_config(config(105_000))]

    #[test]
    fn whatever_is_accepted_is_row_wise_and_nothing_panics(sql in select()) {
        let transform = match Transform::new(&sql, schema()) {
            Ok(transform) => transform,
            Err(error) => {
                has_words(&error);
                return Ok(());
            }
        };
        let input = sample();
        let single: Vec<_> = (0..input.num_rows()).map(|row| run_all(&transform, &input.slice(row, 1))).collect();
        match run_all(&transform, &input) {
            Ok((whole, _)) => {
                let parts: Result<Vec<_>, _> = single.into_iter().map(|part| part.map(|(batch, _)| batch)).collect();
                let parts = parts.map_err(|error| TestCaseError::fail(format!("a row alone fails: {error}")))?;
                let joined = concat_batches(&whole.schema(), &parts).expect("one schema");
                // Values are compared as text: not-a-number is no equal of itself.
                prop_assert_eq!(format!("{joined:?}"), format!("{whole:?}"));
            }
            Err(error) => {
                has_words(&error);
                prop_assert!(single.iter().any(Result::is_err), "no row fails alone: {error}");
            }
        }
    }
}

#[test]
fn depth_is_refused_and_not_followed() {
    for (open, close) in
        [("(", ")"), ("- ", ""), ("NOT ", ""), ("upper(", ")"), ("CASE WHEN paid THEN ", " END"), ("1 + ", "")]
    {
        for times in [10_usize, 1_000, 100_000] {
            let sql = format!("SELECT {}1{} AS x FROM source", open.repeat(times), close.repeat(times));
            if let Err(error) = Transform::new(&sql, schema()) {
                has_words(&error);
            }
        }
    }
}
