//! IDs from a counter outside, and the comparison of the ways of handing them out, as users meet them.

use std::fs;

use seriatim_counter::services::{Postgres, PostgresOptions};

use crate::support::{Outcome, Project};

fn postgres() -> Postgres {
    Postgres::start(&PostgresOptions::default()).expect("PostgreSQL starts: scripts/test installs it")
}

/// The address comes from the environment, password and all, and is in nothing that the program leaves behind: not in
/// the journal, the plan, the records of runs, the output, nor in what it says, at any level of its log.
#[test]
fn a_password_is_only_in_the_environment() {
    let postgres = postgres();
    let project = Project::new(2_000, 2);
    let ids = "ids={from: postgres, url: \"${SHOP_DATABASE}\"}";
    let call = |command: &str, args: &[&str]| {
        let mut command = project.command(command, &["--set", ids]);
        command.args(args).env("SHOP_DATABASE", postgres.url());
        Outcome::of(command)
    };
    let told = [
        call("plan", &["--log", "trace"]),
        call("run", &["--log", "trace"]),
        call("verify", &["--json", "--log", "trace"]),
    ];
    assert_eq!(told.each_ref().map(|outcome| outcome.code), [0, 0, 0], "{told:?}");
    assert!(told[0].stdout.contains("others may take IDs from the same counter"), "{}", told[0].stdout);
    let report = told[2].json();
    let checks = report["checks"].as_array().unwrap();
    let compared = checks.iter().filter(|check| check["guarantee"] == "counter" && check["ok"] == true).count();
    assert_eq!(compared, project.call("check", &["--json"]).json()["tables"].as_array().unwrap().len());
    let password = postgres.password().as_bytes();
    let shows = |bytes: &[u8]| bytes.windows(password.len()).any(|window| window == password);
    for outcome in &told {
        assert!(!shows(outcome.stdout.as_bytes()) && !shows(outcome.stderr.as_bytes()));
    }
    let files = project.files("");
    assert!(files.keys().any(|path| path.ends_with("hub.db")), "the journal is among them");
    for (path, bytes) in files {
        assert!(!shows(&bytes), "{} has the password", path.display());
    }
    // Who lacks the variable is told which one.
    let outcome = project.call("run", &["--set", ids]).with_code(2);
    assert!(outcome.stderr.contains("SHOP_DATABASE"), "{}", outcome.stderr);
}

#[test]
fn one_step_after_another_gives_the_same_files() {
    let project = Project::new(5_000, 3);
    project.run(&[]);
    project.run(&["--no-fan-out", "--set", "output.path=plain", "--set", "state=plain-state"]);
    assert_eq!(project.tables("out"), project.tables("plain"));
    let manifest = |output: &str| fs::read(project.path(output).join("_seriatim/manifest.json")).unwrap();
    assert_eq!(manifest("out"), manifest("plain"));
}

/// Every way is in the table, the pipeline's own folders are not touched, and what keeps its promises shows it.
#[test]
fn the_ways_of_handing_out_ids_are_compared() {
    let project = Project::new(3_000, 2);
    let chart = project.path("chart.svg");
    let args = ["--json", "--quiet", "--with", "azurite,postgres", "--sample", "50", "--workers", "4", "--chart"];
    let mut command = project.command("compare", &args);
    command.arg(&chart);
    let comparison = Outcome::of(command).with_code(0).json();
    let ways = comparison["ways"].as_array().unwrap();
    let find = |name: &str| ways.iter().find(|way| way["way"] == name).unwrap_or_else(|| panic!("{name}: {ways:#?}"));
    for name in ["sequential", "durable entity, per batch"] {
        let measured = &find(name)["measured"];
        for figure in ["duplicates", "gaps", "duplicates_after_kill", "gaps_after_kill"] {
            assert_eq!(measured[figure], 0, "{name}: {measured:#}");
        }
        assert!(measured["ids"].as_u64().unwrap() > 3_000, "{measured:#}");
    }
    for name in ["e-tag on Table Storage, per batch", "PostgreSQL sequence, per batch"] {
        let measured = &find(name)["measured"];
        assert_eq!((&measured["duplicates"], &measured["gaps"]), (&0.into(), &0.into()), "{name}: {measured:#}");
        assert!(measured["gaps_after_kill"].as_u64().unwrap() > 0, "{name}: what the worker had taken is gone");
    }
    let record = &find("e-tag on Table Storage, per record")["measured"];
    assert!(record["sampled"].as_u64().is_some_and(|ids| ids <= 50), "{record:#}");
    assert_eq!(find("unsafe counter, per batch")["unsafe"], true);
    assert!(fs::read_to_string(&chart).unwrap().starts_with("<svg"));
    assert!(!project.state().exists() && !project.path("out").exists(), "it runs in a scratch folder");

    let text = project.call("compare", &["--quiet"]).with_code(0).stdout;
    assert!(text.contains("skipped") && text.contains("needs `--with azurite`"), "{text}");
}
