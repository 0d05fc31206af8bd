//! Every pattern of durable code, as plain functions over a hub: each starts something through a client, with a worker
//! of [`registry`] at work, and checks what came of it. Must never know which hub it runs on.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use seriatim_durable::hub::{HubError, HubResult, TaskHub};
use seriatim_durable::{
    ActivityContext, ActivityOptions, Client, Entity, EntityContext, EntityFilter, EntityId, EntityState, Failure,
    InstanceFilter, Operation, OrchestrationContext, OrchestrationState, OrchestrationStatus, Registry, RetryPolicy,
    StartOptions, Worker, WorkerHandle,
};

/// Far more than anything here takes: what hangs shall fail.
pub(crate) const HANG: Duration = Duration::from_mins(1);

/// An account, whose state is what it holds.
struct Account;

impl Entity for Account {
    type State = i64;

    fn operation(
        &mut self,
        context: &mut EntityContext,
        held: &mut i64,
        operation: &Operation,
    ) -> Result<serde_json::Value, Failure> {
        match operation.name() {
            "add" => {
                *held += operation.input::<i64>()?;
                operation.reply(held)
            }
            "get" => operation.reply(held),
            "tell" => {
                context.signal_entity(&EntityId::new("account", "told"), "add", held)?;
                context.start_orchestration("echo", Some("told-echo"), held)?;
                operation.reply(&())
            }
            "delete" => {
                context.delete_state();
                operation.reply(&())
            }
            "fail" => Err(Failure::new("Refused", "no such money")),
            _ => Err(operation.not_supported()),
        }
    }
}

fn account(key: &str) -> EntityId {
    EntityId::new("account", key)
}

async fn chain(ctx: OrchestrationContext, text: String) -> Result<String, Failure> {
    let one: String = ctx.call_activity("exclaim", &text).await?;
    let two: String = ctx.call_activity("exclaim", &one).await?;
    ctx.set_custom_status(&"two of three")?;
    ctx.call_activity("exclaim", &two).await
}

async fn fan_out(ctx: OrchestrationContext, width: u64) -> Result<u64, Failure> {
    let tasks = (0..width).map(|n| ctx.call_activity::<u64>("square", &n)).collect();
    Ok(ctx.all(tasks).await?.into_iter().sum())
}

async fn monitor(ctx: OrchestrationContext, rounds: u32) -> Result<u32, Failure> {
    for _ in 0..rounds {
        ctx.timer(Duration::from_millis(20)).await;
    }
    Ok(rounds)
}

async fn approval(ctx: OrchestrationContext, (): ()) -> Result<String, Failure> {
    let first: String = ctx.external_event("Approve").await?;
    let second: String = ctx.external_event("approve").await?;
    Ok(format!("{first} {second}"))
}

async fn family(ctx: OrchestrationContext, children: u64) -> Result<u64, Failure> {
    let tasks = (0..children).map(|n| ctx.call_sub_orchestration::<u64>("fan-out", None, &n)).collect();
    Ok(ctx.all(tasks).await?.into_iter().sum())
}

async fn transfer(ctx: OrchestrationContext, amount: i64) -> Result<(i64, i64), Failure> {
    let id = ctx.instance_id();
    let (from, to) = (account(&format!("{id}-from")), account(&format!("{id}-to")));
    ctx.signal_entity(&from, "add", &100)?;
    let section = ctx.lock_entities(&[to.clone(), from.clone()]).await?;
    let left: i64 = ctx.call_entity(&from, "add", &-amount).await?;
    let there: i64 = ctx.call_entity(&to, "add", &amount).await?;
    section.release();
    Ok((left, there))
}

async fn refused(ctx: OrchestrationContext, (): ()) -> Result<String, Failure> {
    let id = account(&ctx.instance_id());
    ctx.call_entity::<i64>(&id, "add", &7).await?;
    let failure = ctx.call_entity::<i64>(&id, "fail", &()).await.expect_err("it always fails");
    let held: i64 = ctx.call_entity(&id, "get", &()).await?;
    Ok(format!("{} {held}", failure.error_type))
}

async fn generations(ctx: OrchestrationContext, number: u32) -> Result<u32, Failure> {
    let step: u32 = ctx.external_event("step").await?;
    if number + step < 6 {
        ctx.continue_as_new(&(number + step), true)?;
        return Ok(0);
    }
    Ok(number + step)
}

async fn breaks(ctx: OrchestrationContext, (): ()) -> Result<(), Failure> {
    let retry = Some(RetryPolicy::exponential(3, Duration::from_millis(10), Duration::from_millis(20)));
    let options = ActivityOptions { retry, ..ActivityOptions::default() };
    ctx.call_activity_with("break", &(), options).await
}

/// What the worker of these tests can do.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::new();
    registry
        .orchestration("chain", chain)
        .orchestration("fan-out", fan_out)
        .orchestration("monitor", monitor)
        .orchestration("approval", approval)
        .orchestration("family", family)
        .orchestration("transfer", transfer)
        .orchestration("refused", refused)
        .orchestration("generations", generations)
        .orchestration("breaks", breaks)
        .orchestration("echo", |_: OrchestrationContext, value: serde_json::Value| async move { Ok(value) })
        .activity("exclaim", |_: ActivityContext, text: String| async move { Ok(format!("{text}!")) })
        .activity("square", |_: ActivityContext, n: u64| async move { Ok(n * n) })
        .activity("break", |_: ActivityContext, (): ()| async move {
            let cause = Failure::new("Cause", "a worn bolt");
            Err::<(), _>(Failure::new("Broken", "the wheel came off").with_inner(cause))
        })
        .entity("account", || Account);
    registry
}

/// A worker of this registry.
pub(crate) fn start_worker(hub: Arc<dyn TaskHub>) -> WorkerHandle {
    Worker::builder(hub, registry()).stop_grace(Duration::from_secs(5)).build().start()
}

/// Waits until something holds, and fails if it never does.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + HANG;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "it never came: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for an instance to end.
pub(crate) async fn ended(client: &Client, id: &str) -> OrchestrationState {
    let waited = tokio::time::timeout(HANG, client.wait_for_completion(id)).await;
    waited.unwrap_or_else(|_| panic!("{id} hangs")).unwrap().unwrap_or_else(|| panic!("there is no {id}"))
}

async fn run<O: DeserializeOwned>(client: &Client, name: &str, input: &(impl serde::Serialize + Sync)) -> O {
    let id = client.start(name, input, StartOptions::default()).await.unwrap();
    ended(client, &id).await.output().unwrap_or_else(|failure| panic!("{name}: {failure}"))
}

async fn entity(client: &Client, id: &EntityId) -> Option<EntityState<i64>> {
    client.get_entity(id).await.unwrap()
}

/// Runs all patterns, one after another.
pub(crate) async fn all(hub: Arc<dyn TaskHub>) {
    let client = Client::new(hub);
    assert_eq!(run::<String>(&client, "chain", &"hi").await, "hi!!!");
    assert_eq!(run::<u64>(&client, "fan-out", &40).await, (0..40).map(|n| n * n).sum::<u64>());
    assert_eq!(run::<u32>(&client, "monitor", &3).await, 3);
    assert_eq!(run::<u64>(&client, "family", &4).await, 1 + 5);
    assert_eq!(run::<(i64, i64)>(&client, "transfer", &30).await, (70, 30));
    assert_eq!(run::<String>(&client, "refused", &()).await, "Refused 7");
    human(&client).await;
    eternal(&client).await;
    failures(&client).await;
    entities(&client).await;
    instances(&client).await;
}

async fn human(client: &Client) {
    let id = client.start("approval", &(), StartOptions::default()).await.unwrap();
    client.wait_for_start(&id).await.unwrap().expect("it was started");
    client.raise_event(&id, "APPROVE", &"yes,").await.unwrap();
    client.suspend(&id, Some("lunch")).await.unwrap();
    let suspended = async || client.get(&id).await.unwrap().filter(|s| s.status == OrchestrationStatus::Suspended);
    until("the suspension", suspended).await;
    client.resume(&id, None).await.unwrap();
    client.raise_event(&id, "Approve", &"indeed").await.unwrap();
    assert_eq!(ended(client, &id).await.output::<String>().unwrap(), "yes, indeed");
}

/// Continues as new, with events that came before it.
async fn eternal(client: &Client) {
    let id = client.start("generations", &0, StartOptions::default()).await.unwrap();
    for _ in 0..3 {
        client.raise_event(&id, "step", &2).await.unwrap();
    }
    assert_eq!(ended(client, &id).await.output::<u32>().unwrap(), 6);
}

async fn failures(client: &Client) {
    let id = client.start("breaks", &(), StartOptions::default()).await.unwrap();
    let state = ended(client, &id).await;
    assert_eq!(state.status, OrchestrationStatus::Failed);
    let failure = state.failure.expect("it has failed");
    assert!(failure.is("Broken") && failure.is("Cause"), "{failure:?}");
    let history = client.history(&id).await.unwrap();
    let failed = |event: &&seriatim_durable::proto::HistoryEvent| {
        matches!(event.event_type, Some(seriatim_durable::proto::history_event::EventType::TaskFailed(_)))
    };
    assert_eq!(history.iter().filter(failed).count(), 3, "it was tried three times");
}

async fn entities(client: &Client) {
    for _ in 0..5 {
        client.signal_entity(&account("savings"), "add", &2, None).await.unwrap();
    }
    until("five signals", async || entity(client, &account("savings")).await.filter(|e| e.state == Some(10))).await;
    client.signal_entity(&account("savings"), "tell", &(), None).await.unwrap();
    until("a signal of an entity", async || entity(client, &account("told")).await.filter(|e| e.state == Some(10)))
        .await;
    until("an orchestration of an entity", async || client.get("told-echo").await.unwrap()).await;
    assert_eq!(ended(client, "told-echo").await.output::<i64>().unwrap(), 10);
    let filter = EntityFilter { id_prefix: Some("@account@s".to_owned()), with_state: true, ..EntityFilter::default() };
    let found: Vec<EntityState<i64>> = client.query_entities(&filter).await.unwrap();
    assert_eq!(found.iter().map(|e| (e.id.key(), e.state)).collect::<Vec<_>>(), [("savings", Some(10))]);
    client.signal_entity(&account("savings"), "delete", &(), None).await.unwrap();
    let gone = async || entity(client, &account("savings")).await.is_none_or(|e| e.state.is_none()).then_some(());
    until("the deletion", gone).await;
}

async fn instances(client: &Client) {
    let named = |id: &str| StartOptions { instance_id: Some(id.to_owned()), ..StartOptions::default() };
    for id in ["suite-a", "suite-b"] {
        client.start("approval", &(), named(id)).await.unwrap();
    }
    let taken = StartOptions { replaceable: Some(Vec::new()), ..named("suite-a") };
    let again = client.start("approval", &(), taken).await;
    assert!(matches!(again, Err(HubError::AlreadyExists(_))), "{again:?}");
    client.terminate("suite-a", Some("enough"), false).await.unwrap();
    let state = ended(client, "suite-a").await;
    assert_eq!(state.status, OrchestrationStatus::Terminated);
    let filter = InstanceFilter { id_prefix: Some("suite-".to_owned()), ..InstanceFilter::default() };
    let found = client.query(&filter).await.unwrap();
    let mut ids: Vec<_> = found.into_iter().map(|instance| instance.instance_id).collect();
    ids.sort();
    assert_eq!(ids, ["suite-a", "suite-b"]);
    assert_eq!(client.purge("suite-a", false).await.unwrap(), 1);
    assert!(client.get("suite-a").await.unwrap().is_none());
    assert!(client.get("nobody").await.unwrap().is_none());
    client.terminate("suite-b", None, false).await.unwrap();
    ended(client, "suite-b").await;
}

/// The next item of a stream of items.
pub(crate) async fn next(
    stream: &mut seriatim_durable::hub::WorkItemStream,
) -> HubResult<seriatim_durable::proto::WorkItem> {
    let item = tokio::time::timeout(HANG, stream.next()).await.expect("something comes");
    item.expect("the stream does not end without a word")
}
