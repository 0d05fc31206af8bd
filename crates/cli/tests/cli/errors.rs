//! What a person gets wrong, and what the program says: the place, the remedy, exit code 2 for the command line and the
//! pipeline, 1 for the data.

use std::fs;

use crate::support::{Outcome, Project, seriatim};

/// Replaces `from` in the pipeline file.
fn edit(project: &Project, from: &str, to: &str) {
    let text = fs::read_to_string(project.pipeline()).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(project.pipeline(), text.replacen(from, to, 1)).unwrap();
}

/// Line and column of `text` in the pipeline file, from 1.
fn place(project: &Project, text: &str) -> String {
    let file = fs::read_to_string(project.pipeline()).unwrap();
    let (line, column) =
        file.lines().enumerate().find_map(|(n, line)| line.find(text).map(|at| (n + 1, at + 1))).unwrap();
    format!("retail.yaml:{line}:{column}")
}

#[test]
fn a_wrong_key_is_named_with_line_column_and_the_nearest_name() {
    let project = Project::new(100, 1);
    edit(&project, "references:", "refrences:");
    for command in ["check", "plan", "run", "verify"] {
        let outcome = project.call(command, &[]).with_code(2);
        assert!(outcome.stderr.contains(&place(&project, "refrences")), "{command}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("`references`"), "{command}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "{command}");
    }
    assert!(!project.path("out").exists() && !project.state().exists(), "a wrong pipeline makes nothing");
}

#[test]
fn every_mistake_is_told_at_once() {
    let project = Project::new(100, 1);
    edit(&project, "references:", "refrences:");
    edit(&project, "on_conflict: first", "on_conflict: frist");
    let stderr = project.call("check", &[]).with_code(2).stderr;
    assert!(stderr.contains(&place(&project, "refrences")) && stderr.contains(&place(&project, "frist")), "{stderr}");
}

#[test]
fn a_pipeline_that_is_not_there() {
    let outcome = Outcome::of(seriatim(["run", "no-such.yaml"])).with_code(2);
    assert!(outcome.stderr.contains("no-such.yaml"), "{}", outcome.stderr);
}

#[test]
fn a_column_that_the_files_do_not_have() {
    let project = Project::new(100, 1);
    edit(&project, "key: sku", "key: skuu");
    for command in ["check", "run"] {
        let outcome = project.call(command, &[]).with_code(2);
        assert!(outcome.stderr.contains("skuu") && outcome.stderr.contains("'sku'"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("help:"), "{}", outcome.stderr);
    }
}

#[test]
fn a_file_that_is_no_parquet() {
    let project = Project::new(100, 1);
    fs::write(project.path("data/sales-2024-12.parquet"), "customer,amount\n").unwrap();
    let outcome = project.call("run", &["--quiet"]).with_code(1);
    assert!(outcome.stderr.contains("sales-2024-12.parquet"), "{}", outcome.stderr);
    assert!(project.tables("out").is_empty(), "nothing half-written");
}

#[test]
fn an_ingested_file_that_changed_is_named() {
    let project = Project::new(1_000, 2);
    project.run(&[]);
    fs::copy(project.path("data/sales-2025-02.parquet"), project.path("data/sales-2025-01.parquet")).unwrap();
    let outcome = project.call("run", &["--json"]).with_code(1);
    assert!(outcome.stderr.contains("sales-2025-01.parquet"), "{}", outcome.stderr);
}

#[test]
fn command_lines_that_make_no_sense() {
    let project = Project::new(100, 1);
    for (args, expected) in [
        (&["--memory", "banana"][..], "512MiB"),
        (&["--workers", "0"], "workers"),
        (&["--shards", "3"], "power of two"),
        (&["--no-such-option"], "--no-such-option"),
    ] {
        let outcome = project.call("run", args).with_code(2);
        assert!(outcome.stderr.contains(expected), "{args:?}: {}", outcome.stderr);
    }
    let none: [&str; 0] = [];
    Outcome::of(seriatim(none)).with_code(2);
    Outcome::of(seriatim(["rnu"])).with_code(2);
    let log = project.call("check", &["--log", "seriatim=loud"]).with_code(2);
    assert!(log.stderr.contains("--log"), "{}", log.stderr);
}

#[test]
fn a_state_folder_that_is_not_there() {
    let place = tempfile::tempdir().unwrap();
    for args in [&["runs"][..], &["show", "x"], &["cancel", "x"]] {
        let mut command = seriatim(args);
        command.current_dir(place.path());
        let outcome = Outcome::of(command).with_code(2);
        assert!(outcome.stderr.contains(".seriatim") && outcome.stderr.contains("--pipeline"), "{}", outcome.stderr);
    }
}

#[test]
fn colours_are_for_terminals_and_for_who_asks() {
    let project = Project::new(100, 1);
    let plain = project.call("check", &[]).with_code(0);
    assert!(!plain.stdout.contains('\u{1b}'), "{}", plain.stdout);
    let colored = project.call("check", &["--color", "always"]).with_code(0);
    assert!(colored.stdout.contains("\u{1b}[32mok"), "{}", colored.stdout);
    let mut never = project.command("check", &["--color", "auto"]);
    never.env("NO_COLOR", "1");
    assert!(!Outcome::of(never).with_code(0).stdout.contains('\u{1b}'));
}
