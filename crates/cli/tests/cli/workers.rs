//! Several processes work on one run, for a hub behind a socket: `seriatim worker` beside the process that started it.
//! What is published is what one process alone publishes, also if a worker is killed in the middle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seriatim_durable::hub::TaskHub;
use seriatim_hub::{EmbeddedHub, HubOptions};
use seriatim_ingest::{RunReport, RunStatus, Runner, RunnerOptions};
use seriatim_remote::{RemoteHub, Variables};

use crate::server::{Fault, Listen, Server};
use crate::support::{Project, Watched, seriatim};

/// Far more than anything here takes.
const HANG: Duration = Duration::from_mins(2);

fn serve() -> Server {
    Server::start(EmbeddedHub::in_memory(HubOptions::default()).unwrap(), Listen::default())
}

fn worker(server: &Server, project: &Project, args: &[&str]) -> Watched {
    let mut command = seriatim(["worker", "--hub", &server.url(), "--workers", "1", "--state"]);
    command.arg(project.state()).args(args).env_remove("SERIATIM_HUB_TOKEN");
    let mut worker = Watched::start(command);
    worker.wait_for("working for");
    worker
}

/// Starts a run, and does steps of it like the workers.
async fn run(server: &Server, project: &Project) -> RunReport {
    let hub = RemoteHub::builder(server.url().parse().unwrap()).build(&Variables::of_process()).unwrap();
    let options = RunnerOptions { workers: 1, chunk_rows: 1_000, ..RunnerOptions::default() };
    let runner = Runner::start_shared(Arc::new(hub) as Arc<dyn TaskHub>, options, &project.state()).unwrap();
    let no_variables = |_: &str| None;
    let loaded = seriatim_pipeline::load(&project.pipeline(), &seriatim_pipeline::Overrides::default(), &no_variables);
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors:?}"));
    let report = runner.run(&seriatim_ingest::Project::new(loaded.pipeline, loaded.folder)).await.unwrap();
    runner.stop().await;
    report
}

/// How many activities each process has answered for, by process id.
fn shares(server: &Server) -> BTreeMap<u32, usize> {
    let mut shares = BTreeMap::new();
    for (call, headers) in server.record.calls.lock().unwrap().iter() {
        if call == "CompleteActivityTask" {
            let id = headers["workerid"].split(',').nth(1).unwrap().parse().unwrap();
            *shares.entry(id).or_default() += 1;
        }
    }
    shares
}

/// The same data, run by one process.
fn alone(rows: u64, files: u32) -> Project {
    let project = Project::new(rows, files);
    project.run(&["--workers", "1", "--chunk-rows", "1000"]);
    project
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_a_run_and_publish_what_one_alone_does() {
    let project = Project::new(60_000, 3);
    let server = serve();
    let workers = [worker(&server, &project, &[]), worker(&server, &project, &[])];
    for round in 0..2 {
        if round == 1 {
            project.add_later_file();
        }
        let report = run(&server, &project).await;
        assert_eq!(report.status, RunStatus::Done, "{:?}", report.error);
    }
    let shares = shares(&server);
    assert_eq!(shares.len(), 3, "one of three processes did nothing: {shares:?}");
    assert!(workers.iter().all(|worker| shares.contains_key(&worker.id())));
    for worker in workers {
        assert!(worker.signal("TERM").success());
        let outcome = worker.outcome().with_code(0);
        assert!(outcome.stderr.contains("stopping when the steps"), "{}", outcome.stderr);
    }
    project.assert_verified();
    let alone = alone(60_000, 3);
    alone.add_later_file();
    alone.run(&["--workers", "1", "--chunk-rows", "1000"]);
    assert_eq!(project.tables("out"), alone.tables("out"), "who did what must not be seen in the files");
    assert!(project.files(".seriatim/work").is_empty(), "the run's work folder is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_is_done_without() {
    let project = Project::new(60_000, 3);
    let server = serve();
    let (victim, other) = (worker(&server, &project, &[]), worker(&server, &project, &[]));
    let id = victim.id();
    let report = tokio::join!(run(&server, &project), async {
        let deadline = Instant::now() + HANG;
        while !shares(&server).contains_key(&id) {
            assert!(Instant::now() < deadline, "the worker never did anything");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(victim.signal("KILL").success());
    })
    .0;
    assert_eq!(report.status, RunStatus::Done, "{:?}", report.error);
    victim.outcome().with_code(-1);
    assert!(other.signal("INT").success());
    other.outcome().with_code(0);
    project.assert_verified();
    assert_eq!(project.tables("out"), alone(60_000, 3).tables("out"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_says_why_its_hub_sends_it_away() {
    let server = serve();
    *server.record.token.lock().unwrap() = Some("right".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let start = |token: &str| {
        let mut command = seriatim(["worker", "--hub", &server.url(), "--state"]);
        command.arg(folder.path().join("state")).env("SERIATIM_HUB_TOKEN", token).env("SERIATIM_LOG", "trace");
        Watched::start(command)
    };
    let outcome = start("canary-94").outcome().with_code(1);
    assert!(outcome.stderr.contains("check the token"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("canary"), "{}", outcome.stderr);
    let mut worker = start("right");
    worker.wait_for("the worker is connected");
    // A hub that is busy for a moment is no reason to end.
    server.record.fail("Hello", [Fault::Refuse(tonic::Status::unavailable("busy"))]);
    assert!(worker.signal("INT").success());
    worker.outcome().with_code(0);
}

#[test]
fn a_wrong_address_is_a_mistake_of_the_command_line() {
    let outcome = crate::support::Outcome::of(seriatim(["worker", "--hub", "localhost:4001"])).with_code(2);
    assert!(outcome.stderr.contains("http://localhost:4001 for plain text"), "{}", outcome.stderr);
    let text = "Endpoint=https://h;TaskHub=t;Authentication=Environment";
    let mut command = seriatim(["worker", "--hub", text]);
    command.env_remove("AZURE_TENANT_ID");
    let outcome = crate::support::Outcome::of(command).with_code(1);
    assert!(outcome.stderr.contains("AZURE_TENANT_ID"), "{}", outcome.stderr);
}
