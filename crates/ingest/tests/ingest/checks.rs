//! Checks: what a record must meet, what happens to one that does not, and how many are too many. Random pipelines have
//! checks as well (`case.rs`); these are small ones that a person can check by eye.

use seriatim_ingest::{RunReport, plan};
use seriatim_pipeline::model::{Check, Limit, OnNullKey, Pipeline, Severity};

use crate::cells::{Cell, Kind};
use crate::files::{Column, Layout, write};
use crate::harness::{Failed, Place, audit, keyed, options, pipeline, quarantined, run};
use crate::oracle::Record;
use crate::outputs::read_table;

/// Writes `data/<name>` with a key and a number for each record; `None` is null.
pub(crate) fn write_numbers(place: &Place, name: &str, records: &[(Option<&str>, Option<i64>)]) {
    let columns = [Column::new("key", Kind::Text), Column::new("n", Kind::I64)];
    let record = |(key, n): &(Option<&str>, Option<i64>)| {
        vec![
            key.map_or(Cell::Null, |key| Cell::Text(key.to_owned())),
            n.map_or(Cell::Null, |n| Cell::Int(i128::from(n))),
        ]
    };
    let records: Vec<Record> = records.iter().map(record).collect();
    write(&place.path().join("data").join(name), &columns, &records, &Layout::default());
}

pub(crate) fn check(name: &str, condition: &str, severity: Severity) -> Check {
    Check { name: name.to_owned(), condition: condition.to_owned(), severity, at_most: None }
}

/// Things with a key, which may not be null, and a row for each record.
pub(crate) fn with_checks(checks: Vec<Check>) -> Pipeline {
    let mut things = keyed("things", &["key"], &[], &["n"]);
    things.on_null_key = OnNullKey::Quarantine;
    Pipeline { checks, ..pipeline(vec![things, keyed("lines", &[], &["things"], &["n"])]) }
}

/// A check's name, how many records fail, and the first of them.
type Outcome = (String, u64, Option<(String, u64)>);

fn outcomes(report: &RunReport) -> Vec<Outcome> {
    let outcome = |check: &seriatim_ingest::CheckOutcome| {
        (check.check.clone(), check.failed, check.first.as_ref().map(|at| (at.file.clone(), at.row)))
    };
    report.checks.iter().map(outcome).collect()
}

const NUMBERS: [(Option<&str>, Option<i64>); 6] = [
    (Some("a"), Some(1)),
    (Some("b"), Some(-1)),
    (Some("b"), None),
    (None, Some(-2)),
    (None, Some(3)),
    (Some("c"), Some(99)),
];

#[test]
fn g2_g7_a_record_that_fails_takes_no_id_and_one_of_which_it_is_unknown_does() {
    let place = Place::new();
    write_numbers(&place, "a.parquet", &NUMBERS);
    let pipeline =
        with_checks(vec![check("positive", "n > 0", Severity::Quarantine), check("small", "n < 50", Severity::Warn)]);
    let report = run(&place, &pipeline, &options(2)).expect("the run is done");
    assert_eq!((report.records, report.quarantined), (6, 3));
    let at = |row| Some(("data/a.parquet".to_owned(), row));
    assert_eq!(outcomes(&report), [("positive".to_owned(), 2, at(1)), ("small".to_owned(), 1, at(5))]);
    let int = |n: i64| Cell::Int(i128::from(n));
    let text = |text: &str| Cell::Text(text.to_owned());
    // The first record of b fails, so the second one makes it a thing; where n is null the check says nothing.
    let things = read_table(&place.output().join("things")).rows;
    assert_eq!(things, [[int(1), text("a"), int(1)], [int(2), text("b"), Cell::Null], [int(3), text("c"), int(99)],]);
    assert_eq!(read_table(&place.output().join("lines")).rows.len(), 3);
    // A record that fails a check is not asked for its key.
    let why: Vec<(u64, String)> = quarantined(&place, &["n".to_owned()]).into_iter().map(|q| (q.row, q.why)).collect();
    let (check, table) = ("check positive".to_owned(), "things".to_owned());
    assert_eq!(why, [(1, check.clone()), (3, check), (4, table)]);
    audit(&place, &pipeline, 2).expect("the audit passes");
}

/// A run that fails by a check, and the run after the check is gone.
fn refused_then_ok(check: Check) -> (Failed, RunReport) {
    let place = Place::new();
    write_numbers(&place, "a.parquet", &[(Some("a"), Some(1)), (Some("b"), Some(-1))]);
    write_numbers(&place, "b.parquet", &[(Some("c"), Some(-5)), (Some("d"), Some(7))]);
    let strict = with_checks(vec![check]);
    let looked = plan(&place.project(&strict), &options(1)).expect("a plan only looks");
    let failed = run(&place, &strict, &options(2)).expect_err("too many fail");
    assert_eq!(looked.refused.as_ref(), Some(&failed.message));
    assert!(!place.output().join("things").exists(), "nothing is published");
    let report = run(&place, &with_checks(Vec::new()), &options(2)).expect("the run is done");
    (failed, report)
}

#[test]
fn g2_a_run_that_fails_by_a_check_names_it_and_leaves_no_gap() {
    let (failed, report) = refused_then_ok(check("positive", "n > 0", Severity::Fail));
    assert_eq!(failed.message, "check 'positive': 2 of 4 records fail `n > 0`; the first is data/a.parquet, row 1");
    assert!(failed.help.contains("severity: quarantine"), "{}", failed.help);
    assert_eq!(report.tables[0].ids.map(|ids| (ids.first, ids.last)), Some((1, 4)));
}

#[test]
fn more_than_may_fail_are_too_many_and_as_many_are_not() {
    let with = |at_most| Check { at_most: Some(at_most), ..check("positive", "n > 0", Severity::Quarantine) };
    let (failed, _) = refused_then_ok(with(Limit::Records(1)));
    assert!(failed.message.contains("2 of 4 records fail `n > 0`, and 1 may;"), "{}", failed.message);
    let (failed, _) = refused_then_ok(with(Limit::Share { per_million: 499_999 }));
    assert!(failed.message.contains("and 49.9999% may"), "{}", failed.message);
    for enough in [Limit::Records(2), Limit::Share { per_million: 500_000 }] {
        let place = Place::new();
        write_numbers(
            &place,
            "a.parquet",
            &[(Some("a"), Some(1)), (Some("b"), Some(-1)), (Some("c"), Some(-5)), (None, None)],
        );
        let report = run(&place, &with_checks(vec![with(enough)]), &options(2)).expect("not too many fail");
        assert_eq!(report.quarantined, 3, "two by the check, one without a key");
    }
}

#[test]
fn a_check_that_makes_no_sense_is_told_before_anything_is_read() {
    let place = Place::new();
    write_numbers(&place, "a.parquet", &NUMBERS);
    for (condition, said) in [
        ("price > 0", "check 'c': line 1, column 1:"),
        ("n + 1", "check 'c': the condition is Int64, where true or false is needed"),
        ("n > 0) AS a, (n < 5", "check 'c': "),
    ] {
        let strict = with_checks(vec![check("c", condition, Severity::Warn)]);
        let error = seriatim_ingest::check(&place.project(&strict)).expect_err(condition);
        assert!(error.message.starts_with(said) && error.kind.exit_code() == 2, "{condition}: {error}");
    }
    let divides = with_checks(vec![check("c", "10 / (n - 1) > 0", Severity::Warn)]);
    let failed = run(&place, &divides, &options(2)).expect_err("it divides by zero");
    assert!(failed.message.starts_with("data/a.parquet, row 0: check 'c': "), "{}", failed.message);
}
