//! `plan`, `run`, `runs`, `show`, `verify` in the life of a pipeline: first run, nothing to do, a file that comes later.

use std::fs;

use crate::support::{Project, table};

const TABLES: [&str; 4] = ["customers", "products", "orders", "order_lines"];

#[test]
fn a_later_run_takes_only_the_new_file_and_numbers_go_on() {
    let project = Project::new(20_000, 2);
    let first = project.run(&[]);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0]["status"], "done");

    let again = project.run(&[]);
    assert_eq!(again[0]["status"], "nothing_to_do");
    assert_eq!(again[0]["files_known"], 2);
    let text = project.call("run", &[]).with_code(0);
    assert!(text.stdout.contains("nothing to do: no new files (2 files ingested before)"), "{}", text.stdout);

    project.add_later_file();
    let later = project.run(&[]);
    assert_eq!((&later[0]["files"], &later[0]["records"]), (&1.into(), &500.into()));
    for name in TABLES {
        let (before, after) = (table(&first[0], name), table(&later[0], name));
        if !after["ids"].is_null() {
            let next = before["ids"]["last"].as_i64().unwrap() + 1;
            assert_eq!(after["ids"]["first"], next, "{name} goes on where it ended");
        }
        let total = before["total_rows"].as_u64().unwrap() + after["rows"].as_u64().unwrap();
        assert_eq!(after["total_rows"], total, "{name}");
    }
    assert!(table(&later[0], "customers")["known_keys"].as_u64().unwrap() > 50);
    assert_eq!(table(&later[0], "order_lines")["rows"], 500);
    project.assert_verified();
}

#[test]
fn a_plan_writes_nothing_and_promises_what_the_run_gives() {
    let project = Project::new(5_000, 2);
    let before = project.files("");
    let plan = project.call("plan", &["--json"]).with_code(0).json();
    assert!(before == project.files(""), "the plan wrote something");
    assert_eq!(plan["records"], 5_000);
    assert_eq!(plan["files"].as_array().unwrap().len(), 2);
    let run = &project.run(&[])[0];
    for name in TABLES {
        for what in ["rows", "ids", "known_keys", "null_keys", "total_rows"] {
            assert_eq!(table(&plan, name)[what], table(run, name)[what], "{name}: {what}");
        }
    }
    project.add_later_file();
    let before = project.files("");
    let text = project.call("plan", &[]).with_code(0).stdout;
    assert!(text.contains("1 new file") && text.contains("2 files ingested before"), "{text}");
    assert!(before == project.files(""), "the plan wrote something");
}

#[test]
fn the_document_has_what_programs_need() {
    let project = Project::new(2_000, 1);
    let outcome = project.call("run", &["--json"]).with_code(0);
    let run = &outcome.json()["runs"][0];
    for key in ["run", "pipeline", "status", "resumed", "started", "ended", "number", "files", "records", "tables"] {
        assert!(!run[key].is_null(), "{key} in {run:#}");
    }
    for key in ["table", "rows", "total_rows", "ids", "known_keys", "null_keys", "files", "bytes"] {
        assert!(!table(run, "orders")[key].is_null(), "{key} in {run:#}");
    }
    let steps: Vec<_> = run["seconds"].as_array().unwrap().iter().map(|step| step[0].as_str().unwrap()).collect();
    assert!(steps.contains(&"scan") && steps.contains(&"write"), "{steps:?}");
    // The files are where the report says.
    for file in table(run, "orders")["files"].as_array().unwrap() {
        assert!(project.path("out").join(file.as_str().unwrap()).exists(), "{file}");
    }
}

#[test]
fn the_table_for_people_has_the_same_figures() {
    let project = Project::new(2_000, 1);
    let text = project.call("run", &["--quiet"]).with_code(0);
    assert_eq!(text.stderr, "", "--quiet says nothing");
    let header = text.stdout.lines().find(|line| line.contains("new rows")).unwrap();
    assert_eq!(
        header.split_whitespace().collect::<Vec<_>>().join(" "),
        "table new rows IDs known keys rows in all files size"
    );
    assert!(text.stdout.contains("2,000 records from 1 file"), "{}", text.stdout);
    assert!(text.stdout.contains("1..2000"), "{}", text.stdout);
}

#[test]
fn settings_of_the_command_line_win() {
    let project = Project::new(4_000, 2);
    let one = "source.files=data/sales-2025-01.parquet";
    let run = &project.run(&["--set", one, "--set", "output.path=elsewhere", "--set", "state=state"])[0];
    assert_eq!(run["records"], 2_000);
    assert!(!project.tables("elsewhere").is_empty());
    assert!(!project.path("out").exists() && project.path("state").is_dir());
    let wrong = project.call("run", &["--set", "output.paht=x"]).with_code(2);
    assert!(wrong.stderr.contains("--set output.paht") && wrong.stderr.contains("`path`"), "{}", wrong.stderr);
    let wrong = project.call("run", &["--set", "output.path"]).with_code(2);
    assert!(wrong.stderr.contains("the value is missing"), "{}", wrong.stderr);
}

#[test]
fn workers_memory_and_journal_change_no_byte() {
    let project = Project::new(30_000, 3);
    let machines: [&[&str]; 4] = [
        &["--workers", "1"],
        &["--workers", "4", "--shards", "64"],
        &["--workers", "2", "--memory", "1MiB"],
        &["--journal", "off"],
    ];
    let mut outputs = Vec::new();
    for (n, machine) in machines.iter().enumerate() {
        let (state, out) = (format!("state={n}"), format!("output.path=out{n}"));
        let mut args = vec!["--chunk-rows", "4096", "--set", &state, "--set", &out];
        args.extend(*machine);
        project.run(&args);
        outputs.push(project.tables(&format!("out{n}")));
    }
    assert!(outputs[0].len() >= 4);
    for (output, machine) in outputs.iter().zip(machines) {
        assert!(*output == outputs[0], "{machine:?} wrote other bytes");
    }
}

#[test]
fn runs_and_show_tell_what_was_done() {
    let project = Project::new(2_000, 1);
    let none = project.ask(&["runs"]).with_code(0);
    assert!(none.stdout.contains("no runs yet"), "{}", none.stdout);
    let first = project.run(&[])[0]["run"].as_str().unwrap().to_owned();
    project.add_later_file();
    let second = project.run(&[])[0]["run"].as_str().unwrap().to_owned();

    let list = project.ask(&["runs"]).with_code(0).stdout;
    let position = |run: &str| list.lines().position(|line| line.starts_with(run)).unwrap();
    assert!(position(&first) < position(&second), "the newest last: {list}");
    assert!(list.lines().nth(position(&first)).unwrap().contains("done"), "{list}");
    let document = project.ask(&["runs", "--json"]).with_code(0).json();
    assert_eq!(document["runs"][1]["run"], second.as_str());

    let shown = project.ask(&["show", &first]).with_code(0).stdout;
    for expected in ["pipeline  retail", "status    done", "records   2,000", "files written", "order_lines/"] {
        assert!(shown.contains(expected), "no `{expected}` in:\n{shown}");
    }
    assert_eq!(project.ask(&["show", &first, "--json"]).with_code(0).json()["run"], first.as_str());

    let mut near = first.clone();
    near.pop();
    let unknown = project.ask(&["show", &near]).with_code(1);
    assert!(unknown.stderr.contains("error:") && unknown.stderr.contains("help:"), "{}", unknown.stderr);
    let cancelled = project.ask(&["cancel", &first]).with_code(1);
    assert!(cancelled.stderr.contains("there is nothing to cancel"), "{}", cancelled.stderr);
}

#[test]
fn verify_proves_the_guarantees_and_finds_what_was_damaged() {
    let project = Project::new(5_000, 2);
    project.run(&[]);
    let audit = project.call("verify", &[]).with_code(0).stdout;
    for guarantee in ["G1", "G2", "G7"] {
        assert!(audit.contains(guarantee), "no {guarantee} in:\n{audit}");
    }
    let report = project.call("verify", &["--json"]).with_code(0).json();
    assert!(report["checks"].as_array().unwrap().len() > 5, "{report:#}");

    let files = project.tables("out");
    let orders = files.keys().find(|path| path.starts_with("orders")).unwrap();
    fs::remove_file(project.path("out").join(orders)).unwrap();
    let audit = project.call("verify", &[]).with_code(1);
    assert!(audit.stdout.contains("FAIL") || audit.stderr.contains("error:"), "{} {}", audit.stdout, audit.stderr);
    assert!(format!("{}{}", audit.stdout, audit.stderr).contains("orders"), "it says where");
}
