//! Conditions: three answers, one expression, and messages that point into it.

use arrow::array::Array;
use seriatim_transform::{Condition, ErrorKind, TransformError};

use crate::common::{sample, schema};

fn refused(sql: &str) -> (ErrorKind, String) {
    let error = Condition::new(sql, schema()).expect_err(sql);
    (error.kind().expect("the SQL is wrong"), error.to_string())
}

#[test]
fn a_condition_is_true_false_or_unknown() {
    let condition = Condition::new("quantity >= 0 -- at least none", schema()).expect("it is one");
    assert_eq!(condition.columns(), ["quantity"]);
    let answers = condition.apply(&sample()).expect("it can be evaluated");
    let answers: Vec<Option<bool>> =
        (0..answers.len()).map(|row| answers.is_valid(row).then(|| answers.value(row))).collect();
    assert_eq!(answers, [Some(true), Some(true), None, Some(false), Some(true)]);
    let several = Condition::new("paid OR\n  amount < 100.00", schema()).expect("it is one");
    assert_eq!(several.columns(), ["amount", "paid"]);
    assert!(Condition::new("true", schema()).expect("it is one").columns().is_empty());
    let all = Condition::new("true", schema()).expect("it is one").apply(&sample()).expect("it can be evaluated");
    assert_eq!((all.len(), all.true_count()), (5, 5));
}

#[test]
fn only_one_expression_is_a_condition() {
    for sql in [
        "quantity > 0) AS a, (price > 0",
        "quantity > 0) AS condition FROM source WHERE (price > 0",
        "SELECT 1",
        "",
        "*",
    ] {
        let (kind, text) = refused(sql);
        assert!(
            matches!(kind, ErrorKind::Syntax | ErrorKind::Unsupported | ErrorKind::NotRowWise),
            "{sql}: {kind:?} {text}"
        );
    }
    let (kind, text) = refused("quantity + 1");
    assert_eq!((kind, text.as_str()), (ErrorKind::Type, "the condition is Int64, where true or false is needed"));
    assert_eq!(refused("random() < 0.5").0, ErrorKind::NotRowWise);
    assert_eq!(refused("count(*) > 1").0, ErrorKind::NotRowWise);
}

#[test]
fn places_are_those_of_the_condition() {
    let (kind, text) = refused("quantity >= 0\n  AND prise > 0");
    assert_eq!(kind, ErrorKind::UnknownName);
    assert!(text.starts_with("line 2, column 7:"), "{text}");
    let error =
        Condition::new("1 / quantity > 0", schema()).expect("it is one").apply(&sample()).expect_err("it divides by 0");
    assert!(matches!(error, TransformError::Row { row: 1, .. }), "{error}");
}
