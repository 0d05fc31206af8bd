//! The suite against hubs of this repository: embedded, and the same behind a socket.

use std::sync::Arc;

use seriatim_durable::hub::TaskHub;
use seriatim_hub::{EmbeddedHub, HubOptions};
use seriatim_remote::{RemoteHub, Variables};

use crate::server::{Listen, Server};
use crate::suite;

pub(crate) fn embedded() -> Arc<dyn TaskHub> {
    EmbeddedHub::in_memory(HubOptions::default()).unwrap()
}

pub(crate) fn remote(url: &str) -> Arc<RemoteHub> {
    Arc::new(RemoteHub::builder(url.parse().unwrap()).build(&Variables::of::<&str, &str>([])).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pattern_on_the_embedded_hub() {
    let hub = embedded();
    let worker = suite::start_worker(Arc::clone(&hub));
    suite::all(hub).await;
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pattern_on_the_same_hub_behind_a_socket() {
    let server = Server::start(embedded(), Listen::default());
    let worker = suite::start_worker(remote(&server.url()));
    suite::all(remote(&server.url())).await;
    worker.stop().await.unwrap();
}

/// A worker that keeps no execution alive has the hub stream every history to it, in parts.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_not_sent_along_is_streamed() {
    use seriatim_durable::{Client, StartOptions, Worker};
    let server = Server::start(embedded(), Listen::default());
    let hub = remote(&server.url());
    let worker = Worker::builder(hub.clone(), suite::registry()).max_kept_orchestrations(0).build().start();
    let client = Client::new(hub);
    let id = client.start("chain", &"so", StartOptions::default()).await.unwrap();
    assert_eq!(suite::ended(&client, &id).await.output::<String>().unwrap(), "so!!!");
    assert!(server.record.count("StreamInstanceHistory") > 0, "the hub sends no history to who had the last turn");
    worker.stop().await.unwrap();
}

/// Two workers share the work by name.
#[tokio::test(flavor = "multi_thread")]
async fn workers_get_only_what_they_know() {
    use seriatim_durable::{ActivityContext, Client, Failure, OrchestrationContext, Registry, StartOptions, Worker};
    let server = Server::start(embedded(), Listen::default());
    let mut turns = Registry::new();
    turns.orchestration("ask", |ctx: OrchestrationContext, (): ()| async move {
        ctx.call_activity::<String>("who", &()).await
    });
    let mut acts = Registry::new();
    acts.activity("who", |_: ActivityContext, (): ()| async move { Ok::<_, Failure>("the other one".to_owned()) });
    let one = Worker::builder(remote(&server.url()), turns).build().start();
    let two = Worker::builder(remote(&server.url()), acts).build().start();
    let client = Client::new(remote(&server.url()));
    let id = client.start("ask", &(), StartOptions::default()).await.unwrap();
    assert_eq!(suite::ended(&client, &id).await.output::<String>().unwrap(), "the other one");
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}
