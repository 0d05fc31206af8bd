//! `demo`: the newcomer's first command. It must make the same data each time, ingest it for real, prove the result,
//! say how long the ingest took, and keep its hands off what it did not make.

use std::fs;

use tempfile::tempdir;

use crate::support::{Outcome, Project, seriatim, table};

fn demo(folder: &std::path::Path, args: &[&str]) -> Outcome {
    let mut command = seriatim(["demo", "--rows", "20000", "--files", "3"]);
    command.args(args).arg("--folder").arg(folder);
    Outcome::of(command)
}

#[test]
fn makes_ingests_and_verifies() {
    let place = tempdir().unwrap();
    let folder = place.path().join("shop");
    let report = demo(&folder, &["--json"]).with_code(0).json();
    assert_eq!(report["data"]["rows"], 20_000);
    assert_eq!(report["data"]["files"], 3);
    assert_eq!(report["data"]["reused"], false);
    assert_eq!(report["verify"]["ok"], true);
    let run = &report["runs"][0];
    assert_eq!((&run["status"], &run["records"], &run["files"]), (&"done".into(), &20_000.into(), &3.into()));
    for name in ["customers", "products", "orders", "order_lines"] {
        let table = table(run, name);
        assert_eq!(table["ids"]["first"], 1, "{name}");
        assert_eq!(table["ids"]["last"], table["rows"], "{name}");
        assert!(table["rows"].as_u64().unwrap() > 10, "{name}");
    }
    assert_eq!(table(run, "order_lines")["rows"], 20_000);
    // A guest's order has no customer.
    assert!(table(run, "customers")["null_keys"].as_u64().unwrap() > 0);
    let ingest = report["seconds"]["ingest"].as_f64().unwrap();
    let percent = report["window_percent"].as_f64().unwrap();
    assert!(ingest > 0.0 && (percent - ingest / 72.0).abs() < 1e-9, "{percent} % for {ingest} s");
    assert!(report["seconds"]["generate"].as_f64().unwrap() > 0.0);
    assert!(report["seconds"]["verify"].as_f64().unwrap() > 0.0);
}

#[test]
fn says_what_it_did_and_what_to_try_next() {
    let place = tempdir().unwrap();
    let outcome = demo(&place.path().join("shop"), &[]).with_code(0);
    for expected in [
        "20,000 records from 3 files",
        "1..20000",
        "customers: the first of",
        "customer_id  customer_email",
        "of a two-hour window",
        "making the records",
        "try next",
        "plan ",
    ] {
        assert!(outcome.stdout.contains(expected), "no `{expected}` in:\n{}", outcome.stdout);
    }
    assert!(outcome.stderr.contains("making 20,000 records in 3 files"), "{}", outcome.stderr);
    assert!(!outcome.stdout.contains('\u{1b}'), "no colours in a pipe");
}

#[test]
fn again_keeps_the_data_and_starts_the_ingest_afresh() {
    let place = tempdir().unwrap();
    let folder = place.path().join("shop");
    demo(&folder, &["--json"]).with_code(0);
    let first = fs::read(folder.join("data/sales-2025-01.parquet")).unwrap();
    let outcome = demo(&folder, &["--json"]).with_code(0);
    let report = outcome.json();
    assert_eq!(report["data"]["reused"], true);
    assert_eq!(report["runs"][0]["number"], 1, "it is a first run");
    assert_eq!(table(&report["runs"][0], "order_lines")["ids"]["first"], 1);
    assert!(outcome.stderr.contains("starting afresh"), "{}", outcome.stderr);
    assert!(first == fs::read(folder.join("data/sales-2025-01.parquet")).unwrap());
    // The same seed makes the same bytes anywhere; another one does not.
    let elsewhere = place.path().join("elsewhere");
    demo(&elsewhere, &["--data-only"]).with_code(0);
    assert!(first == fs::read(elsewhere.join("data/sales-2025-01.parquet")).unwrap());
    demo(&elsewhere, &["--data-only", "--seed", "2"]).with_code(0);
    assert!(first != fs::read(elsewhere.join("data/sales-2025-01.parquet")).unwrap());
}

#[test]
fn refuses_a_folder_that_it_did_not_make() {
    let place = tempdir().unwrap();
    fs::write(place.path().join("thesis.txt"), "years of work").unwrap();
    let outcome = demo(place.path(), &[]).with_code(2);
    assert!(outcome.stderr.contains("no demo made it") && outcome.stderr.contains("--folder"), "{}", outcome.stderr);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn data_only_runs_nothing() {
    let project = Project::new(1_000, 2);
    assert!(project.pipeline().exists());
    assert_eq!(project.files("data").len(), 2);
    assert!(!project.path("out").exists() && !project.state().exists());
}

#[test]
fn a_single_record_is_enough() {
    let place = tempdir().unwrap();
    let mut command = seriatim(["demo", "--rows", "1", "--json", "--folder"]);
    command.arg(place.path().join("shop"));
    let report = Outcome::of(command).with_code(0).json();
    assert_eq!(report["verify"]["ok"], true);
    assert_eq!(table(&report["runs"][0], "order_lines")["rows"], 1);
}
