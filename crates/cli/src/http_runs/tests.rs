//! Pipelines run for the HTTP server for real: on demo data, with real state folders.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seriatim_http::{Run, RunPhase, Runs, RunsError};
use seriatim_ingest::{RunnerOptions, request_cancel};
use tempfile::TempDir;

use super::HttpRuns;
use crate::demo::{DemoFolder, Parameters};
use crate::engine::{self, Attempt};

const DEADLINE: Duration = Duration::from_mins(2);

fn options() -> RunnerOptions {
    RunnerOptions { workers: 2, chunk_rows: 500, ..RunnerOptions::default() }
}

/// A folder with the demo's pipeline in `shop/retail.yaml`.
fn folder(rows: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = DemoFolder::open(&folder.path().join("shop")).unwrap();
    demo.make_data(Parameters { rows, files: 2, seed: 1 }, 2).unwrap();
    demo.write_pipeline().unwrap();
    folder
}

async fn until_ended(runs: &HttpRuns, id: &str) -> Run {
    let end = Instant::now() + DEADLINE;
    loop {
        let run = runs.get(id).await.unwrap();
        if run.phase != RunPhase::Running {
            return run;
        }
        assert!(Instant::now() < end, "{run:?} has not ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_pipeline_is_run_by_its_name_and_its_state_is_free_afterwards() {
    let folder = folder(3_000);
    let runs = HttpRuns::new(folder.path(), options(), None, None).unwrap();
    let begun = runs.start("shop/retail", None).await.unwrap();
    assert_eq!(begun.id, "retail-1");
    let done = until_ended(&runs, &begun.id).await;
    assert_eq!(done.phase, RunPhase::Completed, "{done:?}");
    assert_eq!(done.document["records"], 3_000);
    assert_eq!(done.document["status"], "done");
    assert!(done.document["owner"].is_null());
    let again = runs.start("shop/retail.yaml", None).await.unwrap();
    assert_eq!(until_ended(&runs, &again.id).await.document["status"], "nothing_to_do");
    let ids: Vec<String> = runs.list().await.unwrap().into_iter().map(|run| run.id).collect();
    assert_eq!(ids, ["retail-2", "retail-1"]);
    let ended = runs.cancel("retail-1").await.unwrap_err();
    assert!(matches!(ended, RunsError::Ended(_)), "{ended:?}");
    // With the last run, the hub is given back to whoever wants it.
    let end = Instant::now() + DEADLINE;
    loop {
        match engine::try_open(&folder.path().join("shop/.seriatim")).unwrap() {
            Attempt::Open(hub) => break hub.close().await.unwrap(),
            Attempt::Held(holder) => assert!(Instant::now() < end, "{holder} keeps it"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn no_name_leads_out_of_the_folder() {
    let folder = folder(10);
    let root = folder.path().join("offered");
    fs::create_dir(&root).unwrap();
    let secret = folder.path().join("shop/retail.yaml");
    std::os::unix::fs::symlink(&secret, root.join("link.yaml")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("shop"), root.join("linked")).unwrap();
    fs::create_dir(root.join(".hidden")).unwrap();
    fs::copy(&secret, root.join(".hidden/retail.yaml")).unwrap();
    fs::write(root.join("notes.txt"), "name: x").unwrap();
    let runs = HttpRuns::new(&root, options(), None, None).unwrap();
    let absolute = secret.display().to_string();
    for name in [
        "../shop/retail.yaml",
        "../shop/retail",
        "./../shop/retail",
        absolute.as_str(),
        "link",
        "linked/retail",
        ".hidden/retail",
        "notes.txt",
        "notes",
        "",
        ".",
        "..",
        "\0",
        "offered/../../shop/retail",
    ] {
        let error = runs.start(name, None).await.unwrap_err();
        assert!(matches!(error, RunsError::NotFound(_)), "{name}: {error:?}");
    }
    assert!(runs.list().await.unwrap().is_empty());
    for id in ["retail-1", "../../shop/.seriatim/runs/retail-1", ""] {
        assert!(matches!(runs.get(id).await, Err(RunsError::NotFound(_))), "{id}");
        assert!(matches!(runs.cancel(id).await, Err(RunsError::NotFound(_))), "{id}");
    }
}

#[tokio::test]
async fn a_pipeline_that_is_wrong_is_told_without_the_folders_of_the_machine() {
    let folder = folder(10);
    fs::write(folder.path().join("broken.yaml"), "version: 1\nname: broken\nnonsense: 1\n").unwrap();
    let runs = HttpRuns::new(folder.path(), options(), None, None).unwrap();
    let Err(RunsError::Invalid(message)) = runs.start("broken", None).await else {
        panic!("it is wrong");
    };
    assert!(message.contains("broken.yaml:3:1") && message.contains("nonsense"), "{message}");
    assert!(!message.contains(&*folder.path().to_string_lossy()), "{message}");
}

#[tokio::test]
async fn a_state_folder_of_another_process_is_a_conflict() {
    let folder = folder(10);
    let state = folder.path().join("shop/.seriatim");
    let Attempt::Open(other) = engine::try_open(&state).unwrap() else {
        panic!("it is free");
    };
    let runs = HttpRuns::new(folder.path(), options(), None, None).unwrap();
    let error = runs.start("shop/retail", None).await.unwrap_err();
    assert!(matches!(error, RunsError::NotPossibleNow(_)), "{error:?}");
    // The same hub, if it is this server's own, is simply used.
    let served = Some((state, Arc::clone(&other) as Arc<dyn seriatim_durable::TaskHub>));
    let runs = HttpRuns::new(folder.path(), options(), served, None).unwrap();
    let begun = runs.start("shop/retail", None).await.unwrap();
    assert_eq!(until_ended(&runs, &begun.id).await.phase, RunPhase::Completed);
    runs.stop().await;
    other.close().await.unwrap();
}

#[tokio::test]
async fn a_run_that_was_interrupted_is_taken_up_and_one_that_is_cancelled_publishes_nothing() {
    let folder = folder(40_000);
    let first = HttpRuns::new(folder.path(), options(), None, None).unwrap();
    let begun = first.start("shop/retail", None).await.unwrap();
    first.stop().await;
    let second = HttpRuns::new(folder.path(), options(), None, None).unwrap();
    let left = second.get(&begun.id).await.unwrap();
    if left.phase == RunPhase::Running {
        assert_eq!(left.document["status"], "interrupted");
        second.take_up().await;
    }
    let done = until_ended(&second, &begun.id).await;
    assert_eq!((done.phase, &done.document["records"]), (RunPhase::Completed, &40_000.into()));

    let later = fs::read_dir(folder.path().join("shop/later")).unwrap().next().unwrap().unwrap().path();
    fs::rename(&later, folder.path().join("shop/data").join(later.file_name().unwrap())).unwrap();
    let begun = second.start("shop/retail", None).await.unwrap();
    match second.cancel(&begun.id).await {
        Ok(()) | Err(RunsError::Ended(_)) => {}
        Err(error) => panic!("{error:?}"),
    }
    let ended = until_ended(&second, &begun.id).await;
    // It may have been published before it was asked to end; it is never both.
    let rows = ended.document["number"].is_number();
    assert_eq!(ended.phase == RunPhase::Completed, rows, "{ended:?}");
    second.stop().await;
}

#[tokio::test]
async fn a_run_that_nobody_has_is_cancelled_too() {
    let folder = folder(40_000);
    let first = HttpRuns::new(folder.path(), options(), None, None).unwrap();
    let begun = first.start("shop/retail", None).await.unwrap();
    request_cancel(&folder.path().join("shop/.seriatim"), &begun.id).unwrap();
    first.stop().await;
    let second = HttpRuns::new(folder.path(), options(), None, None).unwrap();
    match second.cancel(&begun.id).await {
        Ok(()) | Err(RunsError::Ended(_)) => {}
        Err(error) => panic!("{error:?}"),
    }
    assert_eq!(until_ended(&second, &begun.id).await.phase, RunPhase::Cancelled);
    second.stop().await;
}
