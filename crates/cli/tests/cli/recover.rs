//! `recover` and `run --recover`: a state folder that is gone is made anew from what is kept beside the output.

use std::fs;

use crate::support::{Project, table};

#[test]
fn a_state_folder_that_is_gone_is_recovered_and_ids_go_on() {
    let project = Project::new(5_000, 2);
    let text = project.call("recover", &[]).with_code(0).stdout;
    assert!(text.contains("nothing is published"), "{text}");
    let first = project.run(&[]);
    let text = project.call("recover", &[]).with_code(0).stdout;
    assert!(text.contains("is left as it is"), "{text}");

    fs::remove_dir_all(project.state()).unwrap();
    project.add_later_file();
    let refused = project.call("run", &[]).with_code(1);
    assert!(refused.stderr.contains("seriatim recover"), "{}", refused.stderr);
    let report = project.call("recover", &["--json"]).with_code(0).json();
    assert_eq!((&report["published"], &report["known"]), (&1.into(), &0.into()), "{report:#}");
    let later = project.run(&[]);
    let next = table(&first[0], "customers")["ids"]["last"].as_i64().unwrap() + 1;
    assert_eq!(table(&later[0], "customers")["ids"]["first"], next);
    project.assert_verified();
}

#[test]
fn a_run_recovers_first_if_it_is_asked_to_and_only_then_if_it_must() {
    let project = Project::new(5_000, 2);
    // The first run of all has nothing to recover.
    assert_eq!(project.run(&["--recover"])[0]["status"], "done");
    fs::remove_dir_all(project.state()).unwrap();
    let again = project.call("run", &["--recover"]).with_code(0);
    assert!(again.stderr.contains("recovered from"), "{}", again.stderr);
    assert!(again.stdout.contains("nothing to do: no new files (2 files ingested before)"), "{}", again.stdout);
    let again = project.call("run", &["--recover"]).with_code(0);
    assert!(!again.stderr.contains("recover"), "{}", again.stderr);
    project.add_later_file();
    assert_eq!(project.run(&["--recover"])[0]["records"], 500);
    project.assert_verified();
}
