//! The dependency finder against a naive one, and designs of small data sets whose things are known.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::DataType;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::coded::{Coded, code};
use super::depend::{Dependencies, Repeats, is_unique_pair};
use super::names::Named;
use super::tables::{Design, design};

type Values = Vec<Option<String>>;

fn texts(name: &str, values: &[Option<String>]) -> Coded {
    let array: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
    // In two pieces, as a sample has them.
    let middle = array.len() / 2;
    code(name, &DataType::Utf8, &[array.slice(0, middle), array.slice(middle, array.len() - middle)]).unwrap()
}

fn numbers(name: &str, values: &[i64]) -> Coded {
    code(name, &DataType::Int64, &[Arc::new(Int64Array::from(values.to_vec()))]).unwrap()
}

/// Whether every value of `a` goes with one of `b`, by the definition; and how often only `b` has one.
fn naive(a: &Values, b: &Values) -> Option<u32> {
    let mut goes_with: HashMap<&String, HashSet<&Option<String>>> = HashMap::new();
    for (a, b) in a.iter().zip(b) {
        if let Some(a) = a {
            goes_with.entry(a).or_default().insert(b);
        }
    }
    let lost = a.iter().zip(b).filter(|(a, b)| a.is_none() && b.is_some()).count();
    goes_with.values().all(|values| values.len() == 1).then_some(lost as u32)
}

/// Columns of which some are functions of others, some nearly so, and some of nothing.
fn records() -> impl Strategy<Value = (Values, Values)> {
    let text = |n: u8| (n > 0).then(|| n.to_string());
    (1..8_u8, prop::collection::vec((0..12_u8, 0..40_u8), 0..60)).prop_map(move |(divisor, rows)| {
        let a = rows.iter().map(|(a, _)| text(*a)).collect();
        let b = rows.iter().map(|(a, noise)| if *noise == 0 { None } else { text(a / divisor) }).collect();
        (a, b)
    })
}

/// Random records, which the seed that is printed gives again.
fn drawn() -> ProptestConfig {
    use std::hash::BuildHasher;
    let seed = match std::env::var("SERIATIM_TEST_SEED") {
        Ok(text) => text.parse().expect("SERIATIM_TEST_SEED is an unsigned integer"),
        Err(_) => std::hash::RandomState::new().hash_one("records"),
    };
    println!("SERIATIM_TEST_SEED={seed} replays this test");
    ProptestConfig { rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(drawn())]

    #[test]
    fn dependencies_are_those_of_the_definition((a, b) in records()) {
        let (coded_a, coded_b) = (texts("a", &a), texts("b", &b));
        prop_assert_eq!(Repeats::of(&coded_a).determine(&coded_b.codes), naive(&a, &b));
        prop_assert_eq!(Repeats::of(&coded_b).determine(&coded_a.codes), naive(&b, &a));
        let found = Dependencies::find(&[coded_a.clone(), coded_b.clone()], &[0, 1], 1).unwrap();
        let lost = |a, b| found.get(a, b).map(|evidence| evidence.lost);
        prop_assert_eq!(lost(0, 1), naive(&a, &b).filter(|_| !coded_b.is_constant()));
        prop_assert_eq!(lost(1, 0), naive(&b, &a).filter(|_| !coded_a.is_constant()));
    }

    #[test]
    fn counts_are_those_of_a_set(a in prop::collection::vec(prop::option::of("[ab1 ]{0,2}"), 0..40)) {
        let coded = texts("a", &a);
        let distinct: HashSet<&String> = a.iter().flatten().collect();
        prop_assert_eq!(coded.distinct as usize, distinct.len());
        prop_assert_eq!(coded.nulls as usize, a.iter().filter(|value| value.is_none()).count());
        let whole = a.len() > 1 && distinct.len() == a.len();
        prop_assert_eq!(coded.is_unique(), whole);
    }

    #[test]
    fn pairs_are_unique_as_a_set_says(rows in prop::collection::vec((0..6_i64, 0..6_i64), 0..12)) {
        let (a, b): (Vec<i64>, Vec<i64>) = rows.iter().copied().unzip();
        let set: HashSet<(i64, i64)> = rows.iter().copied().collect();
        prop_assert_eq!(is_unique_pair(&numbers("a", &a), &numbers("b", &b)), set.len() == rows.len());
    }

    /// Whatever the records are: each column is in one place at least, references lead back, names differ.
    #[test]
    fn a_design_has_every_column(columns in prop::collection::vec(prop::collection::vec(0..5_i64, 30), 1..8)) {
        let names = ["id", "order_no", "customer_id", "sku", "line_no", "email", "quantity", "name"];
        let columns: Vec<Coded> = names.iter().zip(&columns).map(|(name, values)| numbers(name, values)).collect();
        let design = design(&columns, 1).unwrap();
        let mut placed: Vec<usize> = Vec::new();
        for (index, thing) in design.tables.iter().enumerate() {
            prop_assert!(thing.references.iter().all(|&table| table < index));
            placed.extend(thing.key.iter().chain(&thing.columns));
        }
        placed.sort_unstable();
        placed.dedup();
        prop_assert_eq!(placed, (0..columns.len()).collect::<Vec<_>>());
        let named = Named::new(&columns, &design, "pipeline");
        let all: HashSet<String> = named.tables.iter().cloned().collect();
        prop_assert_eq!(all.len(), design.tables.len());
        let taken: HashSet<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        prop_assert!(named.ids.iter().all(|id| !taken.contains(id.as_str())));
    }
}

/// Tables as `name(key): references | columns`.
fn written(columns: &[Coded], design: &Design, pipeline: &str) -> Vec<String> {
    let named = Named::new(columns, design, pipeline);
    let list = |of: &[usize]| of.iter().map(|&c| columns[c].name.clone()).collect::<Vec<_>>().join(" ");
    let tables = design.tables.iter().zip(&named.tables).zip(&named.ids);
    tables
        .map(|((thing, table), id)| {
            let references: Vec<&str> = thing.references.iter().map(|&t| named.tables[t].as_str()).collect();
            format!("{table} {id} ({}): {} | {}", list(&thing.key), references.join(" "), list(&thing.columns))
        })
        .collect()
}

/// 300 lines of 100 orders of 20 customers in 12 cities of 3 countries, of 12 articles.
fn shop() -> Vec<Coded> {
    let order = |line: usize| line / 3;
    let customer = |line: usize| (order(line) * 7 + order(line) / 11) % 20;
    let city = |line: usize| customer(line) % 12;
    let article = |line: usize| (line * 5 + line / 7) % 12;
    let text = |name: &str, value: &dyn Fn(usize) -> String| {
        texts(name, &(0..300).map(|line| Some(value(line))).collect::<Vec<_>>())
    };
    let number = |name: &str, value: &dyn Fn(usize) -> usize| {
        numbers(name, &(0..300).map(|line| value(line) as i64).collect::<Vec<_>>())
    };
    vec![
        text("order_no", &|line| format!("A-{}", order(line))),
        text("customer_email", &|line| format!("c{}@example.org", customer(line))),
        text("customer_name", &|line| format!("Name {}", customer(line) % 17)),
        text("city", &|line| format!("City {}", city(line))),
        text("country", &|line| format!("Country {}", city(line) % 3)),
        text("sku", &|line| format!("S{}", article(line))),
        text("product", &|line| format!("Product {}", article(line))),
        number("quantity", &|line| 1 + line * line % 4),
        text("currency", &|_| "EUR".to_owned()),
    ]
}

#[test]
fn a_shop_has_customers_products_orders_and_lines() {
    let columns = shop();
    let design = design(&columns, 2).unwrap();
    assert_eq!(
        written(&columns, &design, "shop"),
        [
            "customers customer_id (customer_email):  | customer_name city country",
            "products product_id (sku):  | product",
            "orders order_id (order_no): customers | ",
            "order_lines line_id (): orders products | quantity currency",
        ]
    );
    assert_eq!(design.passed_over, [(3, vec![4])], "a city determines its country, and is too little for a table");
}

#[test]
fn a_record_may_have_a_key_and_an_id_of_the_source_is_not_taken() {
    let mut columns = shop();
    columns.push(numbers("customer_id", &columns[1].codes.iter().map(|&code| i64::from(code)).collect::<Vec<_>>()));
    columns.push(numbers("line_id", &(0..300).collect::<Vec<_>>()));
    let tables = written(&columns, &design(&columns, 1).unwrap(), "shop");
    assert_eq!(tables[0], "products product_id (sku):  | product");
    assert_eq!(tables[1], "customers customer_key (customer_id):  | customer_email customer_name city country");
    assert_eq!(tables[3], "lines line_key (line_id): orders products | quantity currency");
}

#[test]
fn a_line_number_makes_a_key_of_two_columns() {
    let mut columns = shop();
    columns.push(numbers("line_no", &(0..300).map(|line| line % 3).collect::<Vec<_>>()));
    let tables = written(&columns, &design(&columns, 1).unwrap(), "shop");
    assert_eq!(tables[3], "order_lines line_id (order_no line_no): orders products | quantity currency");
}

#[test]
fn codes_are_told_from_words_and_moments() {
    for (value, is_code) in [
        ("S-17", true),
        ("a1b2c3d4", true),
        ("London", false),
        ("New York 2", false),
        ("2026-01-31T12:00:05Z", false),
        ("12.50", false),
    ] {
        assert_eq!(texts("x", &[Some(value.to_owned()), None]).looks_like_code, is_code, "{value}");
    }
}

/// Symptom to prevent: a text that happens to be different in every record is taken for the record's key, and a later
/// record that repeats it is dropped.
#[test]
fn a_column_that_is_unique_by_chance_is_no_key() {
    let mut columns = shop();
    columns.push(texts("comment", &(0..300).map(|line| Some(format!("c{line}"))).collect::<Vec<_>>()));
    columns.push(numbers("milliseconds", &(0..300).map(|line| line * 997).collect::<Vec<_>>()));
    let tables = written(&columns, &design(&columns, 1).unwrap(), "shop");
    assert_eq!(tables[3], "order_lines line_id (): orders products | quantity currency comment milliseconds");
}

#[test]
fn nothing_is_made_of_chance() {
    // 200 records of measurements: a few categories, amounts that are equal now and then, and a flag that is nearly
    // always the same.
    let number = |name: &str, value: &dyn Fn(i64) -> i64| numbers(name, &(0..200).map(value).collect::<Vec<_>>());
    let columns = [
        number("sensor", &|i| i % 7),
        number("value", &|i| i * i % 151),
        number("flag", &|i| i64::from(i == 3)),
        number("minute", &|i| i),
    ];
    let tables = written(&columns, &design(&columns, 1).unwrap(), "measurements");
    assert_eq!(tables, ["records record_id ():  | sensor value flag minute"]);
}
