//! The hub with the worker and the client of `seriatim-durable`: every pattern, on a hub on disk, and on the same
//! folder again after the hub was dropped in the middle.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use seriatim_durable::hub::TaskHub as _;
use seriatim_durable::proto;
use seriatim_durable::{
    ActivityContext, ActivityOptions, Client, Either, Entity, EntityContext, EntityId, Failure, Operation,
    OrchestrationContext, OrchestrationState, OrchestrationStatus, Registry, RetryPolicy, StartOptions, Worker,
    WorkerHandle,
};
use seriatim_hub::{EmbeddedHub, HubOptions};

struct Counter;

impl Entity for Counter {
    type State = i64;

    fn operation(
        &mut self,
        context: &mut EntityContext,
        state: &mut i64,
        operation: &Operation,
    ) -> Result<serde_json::Value, Failure> {
        match operation.name() {
            "add" => *state += operation.input::<i64>()?,
            "pass on" => context.signal_entity(&counter("other"), "add", state)?,
            "get" => {}
            _ => return Err(operation.not_supported()),
        }
        operation.reply(state)
    }
}

fn counter(key: &str) -> EntityId {
    EntityId::new("counter", key)
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.entity("counter", || Counter).activity("double", |_: ActivityContext, n: u64| async move { Ok(2 * n) });
    registry
}

/// A hub on disk with one worker.
struct Bench {
    hub: Arc<EmbeddedHub>,
    client: Client,
    worker: WorkerHandle,
    folder: Arc<tempfile::TempDir>,
}

impl Bench {
    fn new(registry: Registry) -> Self {
        Self::on(Arc::new(tempfile::tempdir().unwrap()), registry)
    }

    fn on(folder: Arc<tempfile::TempDir>, registry: Registry) -> Self {
        let hub = open(folder.path());
        let worker = Worker::builder(hub.clone(), registry)
            .max_concurrent_activities(32)
            .max_concurrent_orchestrations(16)
            .max_concurrent_entities(8)
            .stop_grace(Duration::ZERO)
            .build()
            .start();
        Self { client: Client::new(hub.clone()), hub, worker, folder }
    }

    /// The process dies and another one opens the folder.
    async fn crash(self, registry: Registry) -> Self {
        let Self { hub, client, worker, folder } = self;
        // Nobody else may hold the hub, or it lives on.
        worker.stop().await.unwrap();
        drop(client);
        assert_eq!(Arc::strong_count(&hub), 1);
        drop(hub);
        Self::on(folder, registry)
    }

    async fn start(&self, name: &str, input: &(impl serde::Serialize + Sync)) -> String {
        self.client.start(name, input, StartOptions::default()).await.unwrap()
    }

    async fn end(&self, id: &str) -> OrchestrationState {
        let end = tokio::time::timeout(Duration::from_mins(1), self.client.wait_for_completion(id)).await;
        let Ok(state) = end else {
            panic!("{id} hangs: {:?}; history: {:#?}", self.client.get(id).await, self.client.history(id).await);
        };
        state.unwrap().unwrap()
    }

    async fn run<T: serde::de::DeserializeOwned>(&self, name: &str, input: &(impl serde::Serialize + Sync)) -> T {
        let id = self.start(name, input).await;
        let state = self.end(&id).await;
        assert_eq!(state.status, OrchestrationStatus::Completed, "{state:?}");
        state.output().unwrap()
    }

    async fn count(&self, key: &str) -> i64 {
        self.client.get_entity::<i64>(&counter(key)).await.unwrap().and_then(|entity| entity.state).unwrap_or(0)
    }
}

fn open(folder: &Path) -> Arc<EmbeddedHub> {
    EmbeddedHub::open(folder, HubOptions::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn chaining() {
    let mut registry = registry();
    registry.orchestration("chain", |ctx: OrchestrationContext, mut n: u64| async move {
        for _ in 0..5 {
            n = ctx.call_activity("double", &n).await?;
        }
        Ok(n)
    });
    let bench = Bench::new(registry);
    assert_eq!(bench.run::<u64>("chain", &3).await, 96);
    bench.hub.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fan_out_and_in_of_a_thousand_activities() {
    let mut registry = registry();
    registry.orchestration("fan", |ctx: OrchestrationContext, n: u64| async move {
        let tasks = (0..n).map(|i| ctx.call_activity::<u64>("double", &i)).collect();
        Ok(ctx.all(tasks).await?.into_iter().sum::<u64>())
    });
    let bench = Bench::new(registry);
    assert_eq!(bench.run::<u64>("fan", &1_000).await, 999_000);
    let stats = bench.hub.journal_stats();
    assert!(stats.commits < stats.batches, "transitions share commits: {stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sub_orchestrations_and_their_failures() {
    let mut registry = registry();
    registry
        .orchestration("parent", |ctx: OrchestrationContext, n: u64| async move {
            let children = (0..n).map(|i| ctx.call_sub_orchestration::<u64>("child", None, &i)).collect();
            let sum: u64 = ctx.all(children).await?.into_iter().sum();
            let failed = ctx.call_sub_orchestration::<u64>("child", None, &99).await;
            Ok((sum, failed.unwrap_err().to_string()))
        })
        .orchestration("child", |ctx: OrchestrationContext, n: u64| async move {
            if n == 99 {
                return Err(Failure::new("Unlucky", "it is 99"));
            }
            ctx.call_activity::<u64>("double", &n).await
        });
    let bench = Bench::new(registry);
    let (sum, failure) = bench.run::<(u64, String)>("parent", &10).await;
    assert_eq!(sum, 90);
    assert!(failure.contains("it is 99"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_and_events_race() {
    let mut registry = registry();
    registry.orchestration("wait", |ctx: OrchestrationContext, millis: u64| async move {
        let timer = ctx.timer(Duration::from_millis(millis));
        let event = ctx.external_event::<String>("Answer");
        Ok(match ctx.race(timer, event).await {
            Either::Left(()) => "too late".to_owned(),
            Either::Right(answer) => answer?,
        })
    });
    let bench = Bench::new(registry);
    assert_eq!(bench.run::<String>("wait", &10).await, "too late");
    let id = bench.start("wait", &3_600_000).await;
    bench.client.raise_event(&id, "answer", "yes").await.unwrap();
    assert_eq!(bench.end(&id).await.output::<String>().unwrap(), "yes");
}

#[tokio::test(flavor = "multi_thread")]
async fn activities_are_retried_as_the_policy_says() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let mut registry = registry();
    registry
        .activity("flaky", move |_: ActivityContext, (): ()| {
            let attempt = count.fetch_add(1, Ordering::SeqCst) + 1;
            async move { if attempt < 3 { Err(Failure::new("Flaky", "not yet")) } else { Ok(attempt) } }
        })
        .orchestration("retry", |ctx: OrchestrationContext, (): ()| async move {
            let options = ActivityOptions {
                retry: Some(RetryPolicy::fixed(5, Duration::from_millis(1))),
                ..ActivityOptions::default()
            };
            ctx.call_activity_with::<usize>("flaky", &(), options).await
        });
    let bench = Bench::new(registry);
    assert_eq!(bench.run::<usize>("retry", &()).await, 3);
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_are_called_and_signalled() {
    let mut registry = registry();
    registry.orchestration("use", |ctx: OrchestrationContext, n: i64| async move {
        for i in 0..n {
            ctx.signal_entity(&counter("one"), "add", &i)?;
        }
        let sum: i64 = ctx.call_entity(&counter("one"), "get", &()).await?;
        ctx.call_entity::<i64>(&counter("one"), "pass on", &()).await?;
        let wrong = ctx.call_entity::<i64>(&counter("one"), "no such thing", &()).await;
        Ok((sum, wrong.unwrap_err().to_string()))
    });
    let bench = Bench::new(registry);
    let (sum, failure) = bench.run::<(i64, String)>("use", &50).await;
    assert_eq!(sum, 1_225);
    assert!(failure.contains("no such thing"), "{failure}");
    bench.client.signal_entity(&counter("one"), "add", &5, None).await.unwrap();
    let bench = bench.crash(self::registry()).await;
    let mut total = 0;
    while total != 1_230 {
        total = bench.count("one").await;
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.count("other").await, 1_225);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_orchestrations_contend_for_critical_sections_over_three_entities() {
    let mut registry = registry();
    registry.orchestration("transfer", |ctx: OrchestrationContext, turn: usize| async move {
        let keys = ["a", "b", "c"];
        let (from, to) = (counter(keys[turn % 3]), counter(keys[(turn + 1) % 3]));
        for _ in 0..3 {
            let section = ctx.lock_entities(&[from.clone(), to.clone()]).await?;
            // Read, then write what was read: wrong unless nobody comes between.
            let had: i64 = ctx.call_entity(&from, "get", &()).await?;
            ctx.call_entity::<i64>(&from, "add", &-1).await?;
            ctx.call_entity::<i64>(&to, "add", &1).await?;
            let has: i64 = ctx.call_entity(&from, "get", &()).await?;
            section.release();
            if has != had - 1 {
                return Err(Failure::new("Overtaken", format!("had {had}, has {has}")));
            }
        }
        Ok(())
    });
    let bench = Bench::new(registry);
    let mut ids = Vec::new();
    for turn in 0..16_usize {
        ids.push(bench.start("transfer", &turn).await);
    }
    for id in &ids {
        let state = bench.end(id).await;
        assert_eq!(state.status, OrchestrationStatus::Completed, "{state:?}");
    }
    let sum = bench.count("a").await + bench.count("b").await + bench.count("c").await;
    assert_eq!(sum, 0);
    for key in ["a", "b", "c"] {
        let entity = bench.client.get_entity::<i64>(&counter(key)).await.unwrap().unwrap();
        assert_eq!(entity.locked_by, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_orchestration_gives_back_its_locks() {
    let mut registry = registry();
    registry.orchestration("hold", |ctx: OrchestrationContext, fail: bool| async move {
        let _section = ctx.lock_entities(&[counter("a")]).await?;
        if fail {
            return Err(Failure::new("Broken", "on purpose"));
        }
        ctx.call_entity::<i64>(&counter("a"), "add", &1).await
    });
    let bench = Bench::new(registry);
    let id = bench.start("hold", &true).await;
    assert_eq!(bench.end(&id).await.status, OrchestrationStatus::Failed);
    assert_eq!(bench.run::<i64>("hold", &false).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn continuing_as_new_a_hundred_times() {
    let mut registry = registry();
    registry.orchestration("again", |ctx: OrchestrationContext, (round, sum): (u64, u64)| async move {
        let sum: u64 = sum + ctx.call_activity::<u64>("double", &round).await?;
        if round < 100 {
            ctx.continue_as_new(&(round + 1, sum), true)?;
        }
        Ok(sum)
    });
    let bench = Bench::new(registry);
    let id = bench.start("again", &(0_u64, 0_u64)).await;
    assert_eq!(bench.end(&id).await.output::<u64>().unwrap(), 10_100);
    assert!(bench.client.history(&id).await.unwrap().len() < 12, "old histories are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn termination_suspension_and_resumption() {
    let mut registry = registry();
    registry.orchestration("wait", |ctx: OrchestrationContext, (): ()| async move {
        ctx.external_event::<String>("go").await
    });
    let bench = Bench::new(registry);
    let id = bench.start("wait", &()).await;
    bench.client.wait_for_start(&id).await.unwrap();
    bench.client.suspend(&id, Some("lunch")).await.unwrap();
    assert_eq!(bench.client.get(&id).await.unwrap().unwrap().status, OrchestrationStatus::Suspended);
    bench.client.raise_event(&id, "go", "now").await.unwrap();
    assert_eq!(bench.client.get(&id).await.unwrap().unwrap().status, OrchestrationStatus::Suspended);
    bench.client.resume(&id, None).await.unwrap();
    assert_eq!(bench.end(&id).await.output::<String>().unwrap(), "now");

    let id = bench.start("wait", &()).await;
    bench.client.terminate(&id, Some("enough"), false).await.unwrap();
    assert_eq!(bench.end(&id).await.status, OrchestrationStatus::Terminated);
    assert_eq!(bench.client.purge(&id, false).await.unwrap(), 1);
    assert!(bench.client.get(&id).await.unwrap().is_none());
}

fn long_run() -> Registry {
    let mut registry = registry();
    registry.orchestration("long", |ctx: OrchestrationContext, rounds: i64| async move {
        let mut sum = 0;
        for round in 0..rounds {
            let tasks = (0..4).map(|i| ctx.call_activity::<i64>("double", &(round + i))).collect();
            sum += ctx.all(tasks).await?.into_iter().sum::<i64>();
            let section = ctx.lock_entities(&[counter("a"), counter("b")]).await?;
            ctx.call_entity::<i64>(&counter("a"), "add", &1).await?;
            section.release();
            if round == rounds / 2 {
                ctx.set_custom_status("half")?;
                ctx.external_event::<()>("go on").await?;
            }
        }
        Ok(sum)
    });
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_dropped_again_and_again_goes_on_where_it_was() {
    let mut bench = Bench::new(long_run());
    let ids = [bench.start("long", &12).await, bench.start("long", &12).await];
    for crash in 0..6 {
        if crash == 4 {
            for id in &ids {
                bench.client.raise_event(id, "go on", &()).await.unwrap();
            }
        }
        // Crashes at another point of the run each time: after so many more commits.
        let until = bench.hub.journal_stats().commits + 5 * (crash + 1);
        for _ in 0..10_000 {
            if bench.hub.journal_stats().commits >= until {
                break;
            }
            tokio::task::yield_now().await;
        }
        bench = bench.crash(long_run()).await;
    }
    for id in &ids {
        assert_eq!(bench.end(id).await.output::<i64>().unwrap(), 12 * 12 + 8 * 66);
    }
    assert_eq!(bench.count("a").await, 24, "each operation had its effect once");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_code_is_found_out_and_says_what_was_recorded_and_what_was_attempted() {
    let version = |activity: &'static str| {
        let mut registry = registry();
        registry.activity("halve", |_: ActivityContext, n: u64| async move { Ok(n / 2) }).orchestration(
            "changed",
            move |ctx: OrchestrationContext, n: u64| async move {
                let n: u64 = ctx.call_activity(activity, &n).await?;
                ctx.external_event::<()>("go").await?;
                Ok(n)
            },
        );
        registry
    };
    let bench = Bench::new(version("double"));
    let id = bench.start("changed", &8).await;
    let scheduled = |events: &[proto::HistoryEvent]| events.len() > 6;
    while !scheduled(&bench.client.history(&id).await.unwrap()) {
        tokio::task::yield_now().await;
    }
    let bench = bench.crash(version("halve")).await;
    bench.client.raise_event(&id, "go", &()).await.unwrap();
    let state = bench.end(&id).await;
    assert_eq!(state.status, OrchestrationStatus::Failed);
    let failure = state.failure.unwrap().to_string();
    assert!(failure.contains("double") && failure.contains("halve"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_and_one_takes_over_when_the_other_stops() {
    let mut registry = registry();
    registry.orchestration("fan", |ctx: OrchestrationContext, n: u64| async move {
        for _ in 0..5 {
            let tasks = (0..n).map(|i| ctx.call_activity::<u64>("double", &i)).collect();
            ctx.all(tasks).await?;
        }
        Ok(())
    });
    let bench = Bench::new(registry.clone());
    let second = Worker::builder(bench.hub.clone(), registry).stop_grace(Duration::ZERO).build().start();
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(bench.start("fan", &20).await);
    }
    second.stop().await.unwrap();
    for id in ids {
        assert_eq!(bench.end(&id).await.status, OrchestrationStatus::Completed);
    }
    bench.worker.stop().await.unwrap();
    bench.hub.close().await.unwrap();
    assert!(bench.folder.path().join("hub.db").exists());
}

#[tokio::test]
async fn a_rewound_orchestration_goes_on_where_it_failed() {
    let tries = Arc::new(AtomicUsize::new(0));
    let mut registry = registry();
    let counted = Arc::clone(&tries);
    registry.activity("fails twice", move |_: ActivityContext, n: u64| {
        let attempt = counted.fetch_add(1, Ordering::SeqCst);
        async move { if attempt < 2 { Err(Failure::new("Flaky", "not yet")) } else { Ok(n + 1) } }
    });
    registry.orchestration("child", |context: OrchestrationContext, n: u64| async move {
        let doubled: u64 = context.call_activity("double", &n).await?;
        context.call_activity::<u64>("fails twice", &doubled).await
    });
    registry.orchestration("parent", |context: OrchestrationContext, n: u64| async move {
        context.call_sub_orchestration::<u64>("child", None, &n).await
    });
    let bench = Bench::new(registry);
    let id = bench.start("parent", &10_u64).await;
    for _ in 0..2 {
        assert_eq!(bench.end(&id).await.status, OrchestrationStatus::Failed);
        let request = proto::RewindInstanceRequest { instance_id: id.clone(), reason: None };
        bench.hub.rewind_instance(request).await.unwrap();
    }
    let state = bench.end(&id).await;
    assert_eq!((state.status, state.output::<u64>().unwrap()), (OrchestrationStatus::Completed, 21));
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}
