//! Ctrl-C, SIGTERM, two processes on one state, `cancel` from another terminal. A run that was stopped is taken up by
//! the next one and ends with the same bytes; nobody ever sees half of it.
//!
//! The children say on stderr where they are, and the tests act on that; what they are stopped in is long enough
//! (hundreds of small chunks) that a signal at its beginning comes before its end.

use std::sync::Arc;

use seriatim_hub::{EmbeddedHub, HubOptions};

use crate::support::{Outcome, Project, Watched, seriatim};

/// Many small steps, one at a time.
const SLOW: [&str; 4] = ["--workers", "1", "--chunk-rows", "1000"];

fn slow_project() -> Project {
    Project::new(400_000, 4)
}

/// Starts a slow run and waits until it scans.
fn scanning(project: &Project) -> Watched {
    let mut run = Watched::start(project.command("run", &SLOW));
    run.wait_for("scan");
    run
}

fn interrupt(project: &Project, signals: &[&str]) -> Outcome {
    let run = scanning(project);
    for signal in signals {
        assert!(run.signal(signal).success());
    }
    run.outcome().with_code(130)
}

fn only_run(project: &Project) -> serde_json::Value {
    let document = project.ask(&["runs", "--json"]).with_code(0).json();
    let runs = document["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1, "{document:#}");
    runs[0].clone()
}

#[test]
fn ctrl_c_stops_cleanly_and_the_next_run_resumes() {
    let project = slow_project();
    let stopped = interrupt(&project, &["INT"]);
    assert!(stopped.stderr.contains("stopping; run again to resume"), "{}", stopped.stderr);
    let line = stopped.stderr.lines().find(|line| line.starts_with("scan")).unwrap();
    assert!(line.contains("4 files, 400,000 records"), "progress in plain lines: {line}");
    assert_eq!(stopped.stdout, "", "nothing was published, nothing is reported");
    assert!(project.tables("out").keys().all(|path| path.starts_with("_seriatim")), "half a run can be seen");
    assert_eq!(only_run(&project)["status"], "interrupted");
    let plan = project.call("plan", &["--json"]).with_code(0).json();
    assert_eq!(plan["interrupted"], only_run(&project)["run"]);

    // A file that came in between is for a run of its own.
    project.add_later_file();
    let resumed = project.run(&SLOW);
    assert_eq!(resumed.len(), 2);
    assert_eq!((&resumed[0]["resumed"], &resumed[0]["records"]), (&true.into(), &400_000.into()));
    assert_eq!((&resumed[1]["resumed"], &resumed[1]["records"]), (&false.into(), &10_000.into()));
    project.assert_verified();

    // The bytes are those of two runs that nobody disturbed.
    let other = slow_project();
    other.run(&SLOW);
    other.add_later_file();
    other.run(&SLOW);
    assert!(project.tables("out") == other.tables("out"));
}

#[test]
fn sigterm_is_like_ctrl_c_and_a_second_signal_ends_at_once() {
    let project = slow_project();
    interrupt(&project, &["TERM"]);
    interrupt(&project, &["INT", "INT"]);
    let done = project.run(&SLOW);
    assert_eq!((&done[0]["resumed"], &done[0]["status"]), (&true.into(), &"done".into()));
    project.assert_verified();
}

#[test]
fn of_two_runs_at_once_one_does_the_work() {
    let project = Project::new(100_000, 4);
    let children: Vec<_> = (0..2)
        .map(|_| Watched::start(project.command("run", &["--json", "--workers", "1", "--chunk-rows", "1000"])))
        .collect();
    let mut statuses: Vec<String> = children
        .into_iter()
        .map(|child| child.outcome().with_code(0).json()["runs"][0]["status"].as_str().unwrap().to_owned())
        .collect();
    statuses.sort();
    assert_eq!(statuses, ["done", "nothing_to_do"]);
    project.assert_verified();
}

#[tokio::test]
async fn a_held_state_is_waited_for_or_refused() {
    let project = Project::new(2_000, 1);
    let hub: Arc<EmbeddedHub> = EmbeddedHub::open(&project.state(), HubOptions::default()).unwrap();
    let refused = project.call("run", &["--no-wait"]).with_code(1);
    let us = format!("process {}", std::process::id());
    assert!(refused.stderr.contains(&us) && refused.stderr.contains("since"), "{}", refused.stderr);

    let mut waiting = Watched::start(project.command("run", &["--json"]));
    waiting.wait_for(&format!("waiting for {us}"));
    // Ctrl-C works while it waits.
    let mut impatient = Watched::start(project.command("run", &[]));
    impatient.wait_for("waiting for");
    impatient.signal("INT");
    impatient.outcome().with_code(130);

    hub.close().await.unwrap();
    drop(hub);
    let outcome = waiting.outcome().with_code(0);
    assert_eq!(outcome.json()["runs"][0]["status"], "done");
    project.assert_verified();
}

#[test]
fn an_interrupted_run_can_be_cancelled_and_leaves_no_gap() {
    let project = slow_project();
    interrupt(&project, &["INT"]);
    let run = only_run(&project)["run"].as_str().unwrap().to_owned();
    let cancelled = project.ask(&["cancel", &run]).with_code(0);
    assert!(cancelled.stdout.contains("no ID is lost"), "{}", cancelled.stdout);
    assert_eq!(only_run(&project)["status"], "cancelled");
    let next = project.run(&[]);
    assert_eq!((&next[0]["resumed"], &next[0]["status"]), (&false.into(), &"done".into()));
    assert_eq!(next[0]["tables"][0]["ids"]["first"], 1);
    project.assert_verified();
}

#[test]
fn a_living_run_is_cancelled_from_another_process() {
    let project = slow_project();
    let running = scanning(&project);
    let run = only_run(&project);
    assert_eq!(run["status"], "running");
    let cancelled = project.ask(&["cancel", run["run"].as_str().unwrap()]).with_code(0);
    assert!(cancelled.stderr.contains(&format!("asked process {}", running.id())), "{}", cancelled.stderr);
    let ended = running.outcome().with_code(1);
    assert!(ended.stderr.contains("cancelled"), "{}", ended.stderr);
    assert_eq!(only_run(&project)["status"], "cancelled");
    project.run(&[]);
    project.assert_verified();
}

#[test]
fn a_run_shown_from_its_state_folder_needs_no_pipeline() {
    let project = Project::new(1_000, 1);
    let run = project.run(&[])[0]["run"].as_str().unwrap().to_owned();
    let mut command = seriatim(["show", &run]);
    command.current_dir(project.path(""));
    let shown = Outcome::of(command).with_code(0);
    assert!(shown.stdout.contains(&run), "{}", shown.stdout);
    let mut command = seriatim(["runs", "--state"]);
    command.arg(project.state());
    assert!(Outcome::of(command).with_code(0).stdout.contains(&run));
}
