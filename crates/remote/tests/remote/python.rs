//! The official Python SDK on the other side: its in-memory backend as the hub of our worker and client, and its worker
//! beside ours on one hub. `SERIATIM_TEST_PYTHON` names a Python that has the package `durabletask`; `scripts/test`
//! makes one.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use seriatim_durable::hub::TaskHub;
use seriatim_durable::{Client, StartOptions};
use seriatim_remote::{RemoteHub, Variables};

use crate::patterns::embedded;
use crate::served::Served;
use crate::server::{Listen, Server};
use crate::suite;

/// A Python program that says one line when it is ready, and ends when its input does.
struct Python {
    child: Child,
    said: String,
}

impl Python {
    fn start(script: &str, arguments: &[&str]) -> Self {
        let python =
            std::env::var("SERIATIM_TEST_PYTHON").expect("SERIATIM_TEST_PYTHON names a Python with durabletask");
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/remote/python").join(script);
        let mut command = Command::new(python);
        command.arg(path).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert!(!said.is_empty(), "{script} ended before it was ready");
        Self { child, said: said.trim().to_owned() }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hub(url: &str) -> Arc<dyn TaskHub> {
    // The backend is built on gRPC's C core, which takes frequent pings for abuse.
    let builder = RemoteHub::builder(url.parse().unwrap()).keep_alive(None);
    Arc::new(builder.build(&Variables::of::<&str, &str>([])).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with the package durabletask: `scripts/test python` makes one"]
async fn python_every_pattern_on_the_official_in_memory_backend() {
    let backend = Python::start("backend.py", &[]);
    let url = format!("http://127.0.0.1:{}", backend.said);
    let worker = suite::start_worker(hub(&url));
    suite::all(hub(&url)).await;
    worker.stop().await.unwrap();
}

/// A Python orchestration that calls our activity, our entity, and both in a critical section with a Python entity.
async fn mixed(url: &str) {
    let ours = suite::start_worker(hub(url));
    let _theirs = Python::start("worker.py", &[url.strip_prefix("http://").unwrap()]);
    let client = Client::new(hub(url));
    let id = client.start("mixed", &"hello", StartOptions::default()).await.unwrap();
    let output: serde_json::Value =
        suite::ended(&client, &id).await.output().unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(output, serde_json::json!({"text": "hello!", "held": 5, "noted": 5, "failure": "Broken"}));
    ours.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with the package durabletask: `scripts/test python` makes one"]
async fn python_orchestration_with_our_activity_and_our_entity_on_the_in_memory_backend() {
    let backend = Python::start("backend.py", &[]);
    mixed(&format!("http://127.0.0.1:{}", backend.said)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with the package durabletask: `scripts/test python` makes one"]
async fn python_orchestration_with_our_activity_and_our_entity_on_our_hub() {
    let server = Server::start(embedded(), Listen::default());
    mixed(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with the package durabletask: `scripts/test python` makes one"]
async fn python_orchestration_with_our_activity_and_our_entity_on_the_served_hub() {
    let served = Served::start().await;
    mixed(&served.url()).await;
    served.stop().await;
}
