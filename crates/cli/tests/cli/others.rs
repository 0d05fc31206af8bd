//! `check`, `schema`, `completions`, and what holds for all commands.

use std::process::Stdio;

use crate::support::{Outcome, Project, seriatim};

#[test]
fn check_shows_the_tables_to_come() {
    let project = Project::new(1_000, 2);
    let text = project.call("check", &[]).with_code(0).stdout;
    assert!(text.starts_with("ok retail: 2 files, 1,000 records"), "{text}");
    assert!(text.contains("customer_id") && text.contains("reference to customers"), "{text}");
    let report = project.call("check", &["--json"]).with_code(0).json();
    let orders = report["tables"].as_array().unwrap().iter().find(|table| table["table"] == "orders").unwrap();
    let columns: Vec<_> = orders["columns"].as_array().unwrap().iter().map(|c| c[0].as_str().unwrap()).collect();
    assert_eq!(
        columns,
        ["order_id", "order_no", "customer_id", "ordered_at", "order_date", "status", "store"],
        "ID, key, references, columns"
    );
    assert_eq!(report["unused_columns"].as_array().unwrap().len(), 0, "{report:#}");
    assert!(!project.state().exists() && !project.path("out").exists(), "check makes nothing");
}

#[test]
fn the_schema_describes_the_pipeline_file() {
    let schema = Outcome::of(seriatim(["schema"])).with_code(0).json();
    assert!(schema["$schema"].as_str().unwrap().contains("json-schema.org"), "{schema:#}");
    for key in ["version", "name", "source", "tables", "output", "state"] {
        assert!(!schema["properties"][key].is_null(), "{key}");
    }
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = Outcome::of(seriatim(["completions", shell])).with_code(0).stdout;
        assert!(script.contains("seriatim") && script.contains("verify"), "{shell}");
    }
    Outcome::of(seriatim(["completions", "cobol"])).with_code(2);
}

#[test]
fn help_and_version_are_answers() {
    let help = Outcome::of(seriatim(["--help"])).with_code(0).stdout;
    assert!(help.contains("seriatim demo") && help.contains("Exit codes"), "{help}");
    let version = Outcome::of(seriatim(["--version"])).with_code(0).stdout;
    assert_eq!(version.trim(), format!("seriatim {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_reader_that_stops_reading_is_no_error() {
    for args in [&["schema"][..], &["completions", "zsh"]] {
        let mut child = seriatim(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The reader is gone before the first byte.
        drop(child.stdout.take());
        let outcome = Outcome::from(child.wait_with_output().unwrap());
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{args:?}");
    }
}
