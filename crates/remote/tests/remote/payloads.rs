//! Large payloads go by reference: what the hub sees is a token, what durable code sees is the payload.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use seriatim_durable::{
    ActivityContext, Client, Entity, EntityContext, EntityId, EntityState, Failure, Operation, OrchestrationContext,
    Registry, StartOptions, Worker, proto,
};
use seriatim_remote::payload::PayloadError;
use seriatim_remote::{FolderStore, PayloadStore, RemoteHub, Variables};

use crate::patterns::{embedded, remote};
use crate::server::{Listen, Server};
use crate::suite;

const MARK: &str = "canary";

fn large(what: &str) -> String {
    format!("{MARK} {what} {}", "x".repeat(5_000))
}

struct Box_;

impl Entity for Box_ {
    type State = String;

    fn operation(
        &mut self,
        _: &mut EntityContext,
        state: &mut String,
        operation: &Operation,
    ) -> Result<serde_json::Value, Failure> {
        match operation.name() {
            "put" => *state = operation.input()?,
            "get" => {}
            _ => return Err(operation.not_supported()),
        }
        operation.reply(state)
    }
}

async fn everything(ctx: OrchestrationContext, input: String) -> Result<String, Failure> {
    ctx.set_custom_status(&large("status"))?;
    let back: String = ctx.call_activity("same", &input).await?;
    let event: String = ctx.external_event("large").await?;
    let child: String = ctx.call_sub_orchestration("child", None, &event).await?;
    let id = EntityId::new("box", "one");
    let put: String = ctx.call_entity(&id, "put", &child).await?;
    let got: String = ctx.call_entity(&id, "get", &()).await?;
    assert_eq!(put, got);
    if back == input && event == got { Ok(got) } else { Err(Failure::new("Different", "a payload changed")) }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry
        .orchestration("everything", everything)
        .orchestration("child", |_: OrchestrationContext, text: String| async move { Ok(text) })
        .activity("same", |_: ActivityContext, text: String| async move { Ok(text) })
        .entity("box", || Box_);
    registry
}

fn with_store(url: &str, store: Arc<dyn PayloadStore>) -> Arc<RemoteHub> {
    let builder = RemoteHub::builder(url.parse().unwrap()).payloads(store, 1_000);
    Arc::new(builder.build(&Variables::of::<&str, &str>([])).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_sees_tokens_and_the_code_sees_payloads() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(embedded(), Listen::default());
    let hub = |_: u8| with_store(&server.url(), Arc::new(FolderStore::new(folder.path())));
    // No execution is kept: every turn replays from histories with tokens in them.
    let worker = Worker::builder(hub(1), registry()).max_kept_orchestrations(0).build().start();
    let client = Client::new(hub(2));
    let id = client.start("everything", &large("input"), StartOptions::default()).await.unwrap();
    client.raise_event(&id, "large", &large("event")).await.unwrap();
    let state = suite::ended(&client, &id).await;
    assert_eq!(state.output::<String>().unwrap(), large("event"));
    assert_eq!(state.input::<String>().unwrap(), large("input"));
    assert_eq!(state.custom_status::<String>().unwrap(), Some(large("status")));
    let entity: Option<EntityState<String>> = client.get_entity(&EntityId::new("box", "one")).await.unwrap();
    assert_eq!(entity.unwrap().state, Some(large("event")));
    let history = client.history(&id).await.unwrap();
    let text = format!("{history:?}");
    assert!(text.contains(MARK) && !text.contains("seriatim-payload"), "a client sees payloads");
    worker.stop().await.unwrap();

    let seen = server.record.seen.lock().unwrap();
    assert!(seen.iter().any(|message| message.contains("seriatim-payload:v1:")));
    let leak = seen.iter().find(|message| message.contains(MARK));
    assert!(leak.is_none(), "the hub saw {leak:?}");
    let asked = server.record.requests.lock().unwrap();
    let capability = i32::from(proto::WorkerCapability::LargePayloads);
    assert!(asked[0].capabilities.contains(&capability));
}

/// A store that cannot be reached at first.
#[derive(Debug)]
struct Late(FolderStore, std::sync::atomic::AtomicU32);

#[async_trait]
impl PayloadStore for Late {
    async fn put(&self, payload: &str) -> Result<String, PayloadError> {
        self.0.put(payload).await
    }

    async fn get(&self, token: &str) -> Result<String, PayloadError> {
        let left = self.1.load(std::sync::atomic::Ordering::SeqCst);
        if left > 0 {
            self.1.store(left - 1, std::sync::atomic::Ordering::SeqCst);
            return Err(PayloadError::Unavailable("the share is not mounted yet".to_owned()));
        }
        self.0.get(token).await
    }

    fn is_token(&self, text: &str) -> bool {
        self.0.is_token(text)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_whose_payload_is_out_of_reach_goes_back_and_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(embedded(), Listen::default());
    let store = FolderStore::new(folder.path());
    let late = Late(store.clone(), std::sync::atomic::AtomicU32::new(1));
    let worker = Worker::builder(with_store(&server.url(), Arc::new(late)), registry()).build().start();
    let client = Client::new(with_store(&server.url(), Arc::new(store)));
    let id = client.start("child", &large("input"), StartOptions::default()).await.unwrap();
    let state = tokio::time::timeout(Duration::from_mins(1), suite::ended(&client, &id)).await.unwrap();
    assert_eq!(state.output::<String>().unwrap(), large("input"));
    assert_eq!(server.record.count("AbandonTaskOrchestratorWorkItem"), 1);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_nothing_is_replaced() {
    let server = Server::start(embedded(), Listen::default());
    let worker = Worker::builder(remote(&server.url()), registry()).build().start();
    let client = Client::new(remote(&server.url()));
    let id = client.start("child", &large("input"), StartOptions::default()).await.unwrap();
    assert_eq!(suite::ended(&client, &id).await.output::<String>().unwrap(), large("input"));
    assert!(server.record.seen.lock().unwrap().iter().any(|message| message.contains(MARK)));
    worker.stop().await.unwrap();
}
