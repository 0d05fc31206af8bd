//! What happens when the way to the hub fails: before a call was sent, after it was done, in the middle of everything.
//! What is proved: nothing is done twice that must not be, and everything goes on by itself.

use std::sync::Arc;
use std::time::Duration;

use seriatim_durable::hub::{HubError, TaskHub};
use seriatim_durable::proto;
use seriatim_durable::{Client, StartOptions};
use seriatim_hub::{EmbeddedHub, HubOptions};
use seriatim_remote::{RemoteHub, Variables};
use tonic::Status;

use crate::patterns::{embedded, remote};
use crate::server::{Fault, Listen, Server};
use crate::suite;

/// A port on which nobody listens (for now).
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn hurried(url: &str, patience: Duration) -> Arc<RemoteHub> {
    let builder = RemoteHub::builder(url.parse().unwrap()).patience(patience).answer_patience(patience);
    Arc::new(builder.build(&Variables::of::<&str, &str>([])).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_the_error_says_where_nobody_is() {
    let port = free_port();
    let client = Client::new(hurried(&format!("http://127.0.0.1:{port}"), Duration::from_millis(100)));
    let error = client.start("chain", &"x", StartOptions::default()).await.unwrap_err();
    assert!(matches!(&error, HubError::Unavailable(text) if text.contains(&port.to_string())), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_could_not_be_sent_waits_for_the_server() {
    let port = free_port();
    let client = Client::new(remote(&format!("http://127.0.0.1:{port}")));
    let starting = tokio::spawn(async move { client.start("chain", &"x", StartOptions::default()).await });
    // It has failed at least once before the server comes, most likely; either way it must succeed.
    tokio::time::sleep(Duration::from_millis(150)).await;
    let server = Server::start(embedded(), Listen { port, ..Listen::default() });
    starting.await.unwrap().unwrap();
    assert_eq!(server.record.count("StartInstance"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_may_have_been_done_is_not_sent_again() {
    let server = Server::start(embedded(), Listen::default());
    let client = Client::new(remote(&server.url()));
    server.record.fail("SignalEntity", [Fault::LoseAnswer(Status::unavailable("the line broke"))]);
    let entity = seriatim_durable::EntityId::new("account", "a");
    let error = client.signal_entity(&entity, "add", &1, None).await.unwrap_err();
    assert!(matches!(error, HubError::Unavailable(_)), "{error}");
    assert_eq!(server.record.count("SignalEntity"), 1);
    server.record.fail("StartInstance", [Fault::Refuse(Status::unavailable("ending"))]);
    client.start("chain", &"x", StartOptions::default()).await.unwrap_err();
    assert_eq!(server.record.count("StartInstance"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_sent_again_and_other_errors_are_not() {
    let server = Server::start(embedded(), Listen::default());
    let client = Client::new(remote(&server.url()));
    let broken = || Fault::Refuse(Status::unavailable("busy"));
    server.record.fail("GetInstance", [broken(), broken(), Fault::Refuse(Status::internal("h2"))]);
    assert!(client.get("nobody").await.unwrap().is_none());
    assert_eq!(server.record.count("GetInstance"), 4);
    server.record.fail("GetInstance", [Fault::Refuse(Status::permission_denied("not yours"))]);
    let error = client.get("nobody").await.unwrap_err();
    assert!(matches!(&error, HubError::Unauthorized(text) if text.contains("not yours")), "{error}");
    assert_eq!(server.record.count("GetInstance"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_whose_receipt_is_lost_are_taken_once() {
    let server = Server::start(embedded(), Listen::default());
    let lost = || Fault::LoseAnswer(Status::unavailable("the line broke"));
    server.record.fail("CompleteActivityTask", (0..5).map(|_| lost()));
    server.record.fail("CompleteOrchestratorTask", (0..5).map(|_| lost()));
    server.record.fail("CompleteEntityTask", (0..2).map(|_| lost()));
    let worker = suite::start_worker(remote(&server.url()));
    suite::all(remote(&server.url())).await;
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_takes_is_dropped_in_the_end() {
    let mut server = Server::start(embedded(), Listen::default());
    let hub = hurried(&server.url(), Duration::from_millis(200));
    hub.hello().await.unwrap();
    server.kill();
    let answer = proto::ActivityResponse { completion_token: "t".to_owned(), ..Default::default() };
    let error = hub.complete_activity(answer).await.unwrap_err();
    assert!(matches!(&error, HubError::FailedPrecondition(text) if text.contains("another worker")), "{error}");
}

/// The server dies and comes back, on the same port and over the same store, again and again; the worker and the client
/// that waits know nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_and_comes_back_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    // The connections of a killed server let go of the hub a moment later.
    let open = async || {
        let open = async || EmbeddedHub::open(folder.path(), HubOptions::default()).ok();
        suite::until("the folder is free", open).await
    };
    let mut hub = open().await;
    let mut server = Server::start(hub.clone(), Listen::default());
    let (port, record) = (server.port, Arc::clone(&server.record));
    let worker = suite::start_worker(remote(&server.url()));
    let client = Client::new(remote(&server.url()));
    let mut ids = Vec::new();
    for round in 0..3 {
        for _ in 0..10 {
            ids.push(client.start("fan-out", &20, StartOptions::default()).await.unwrap());
        }
        let waiting = tokio::spawn({
            let (client, id) = (client.clone(), ids[ids.len() - 1].clone());
            async move { suite::ended(&client, &id).await }
        });
        suite::until("some work is done", async || (record.count("CompleteActivityTask") > 20 * round).then_some(()))
            .await;
        server.kill();
        drop(server);
        drop(hub); // like a crash: nothing is closed
        hub = open().await;
        server = Server::start(hub.clone(), Listen { port, record: Arc::clone(&record), ..Listen::default() });
        waiting.await.unwrap();
    }
    for id in &ids {
        let sum = suite::ended(&client, id).await.output::<u64>().unwrap();
        assert_eq!(sum, (0..20).map(|n| n * n).sum::<u64>());
    }
    worker.stop().await.unwrap();
}

/// A stream that ends for no reason is opened again.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fails_is_opened_again() {
    let server = Server::start(embedded(), Listen::default());
    let gone = || Fault::Refuse(Status::unavailable("moved"));
    server
        .record
        .fail("GetWorkItems", [gone(), gone(), Fault::Refuse(Status::not_found("the task hub is not up yet"))]);
    let worker = suite::start_worker(remote(&server.url()));
    let client = Client::new(remote(&server.url()));
    let id = client.start("chain", &"x", StartOptions::default()).await.unwrap();
    assert_eq!(suite::ended(&client, &id).await.output::<String>().unwrap(), "x!!!");
    assert_eq!(server.record.count("GetWorkItems"), 4);
    worker.stop().await.unwrap();
}

/// A worker that stops gives back what it has, by the call that the kind of item has.
#[tokio::test(flavor = "multi_thread")]
async fn items_go_back_by_the_call_of_their_kind() {
    let server = Server::start(embedded(), Listen::default());
    let hub = remote(&server.url());
    let client = Client::new(hub.clone());
    let request = proto::GetWorkItemsRequest {
        max_concurrent_orchestration_work_items: 1,
        max_concurrent_entity_work_items: 1,
        ..Default::default()
    };
    let mut stream = hub.work_items(request).await.unwrap();
    client.start("chain", &"x", StartOptions::default()).await.unwrap();
    let turn = suite::next(&mut stream).await.unwrap();
    hub.abandon(&turn.completion_token).await.unwrap();
    client.signal_entity(&seriatim_durable::EntityId::new("account", "a"), "add", &1, None).await.unwrap();
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let item = suite::next(&mut stream).await.unwrap();
        kinds.push(matches!(item.request, Some(proto::work_item::Request::OrchestratorRequest(_))));
        hub.abandon(&item.completion_token).await.unwrap();
    }
    kinds.sort_unstable();
    assert!(server.record.count("AbandonTaskOrchestratorWorkItem") >= 1);
    assert!(server.record.count("AbandonTaskEntityWorkItem") >= 1, "{kinds:?}");
    assert_eq!(server.record.count("AbandonTaskActivityWorkItem"), 0);
}
