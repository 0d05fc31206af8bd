//! A measurement by hand, not a test: fan-out and fan-in of empty activities, and serial calls of one entity, on a hub
//! on disk and on one in memory. Run it with `cargo run --release -p seriatim-hub --example costs [ACTIVITIES [CALLS]]`
//! (default: 2,000 and 1,000); twice the number should take about twice the time.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use seriatim_durable::{
    ActivityContext, Client, Entity, EntityContext, EntityId, Failure, Operation, OrchestrationContext, Registry,
    StartOptions, Worker,
};
use seriatim_hub::{EmbeddedHub, HubOptions};

struct Counter;

impl Entity for Counter {
    type State = u64;

    fn operation(
        &mut self,
        _: &mut EntityContext,
        state: &mut u64,
        operation: &Operation,
    ) -> Result<serde_json::Value, Failure> {
        *state += 1;
        operation.reply(state)
    }
}

async fn fan_out(context: OrchestrationContext, activities: usize) -> Result<usize, Failure> {
    let tasks = (0..activities).map(|n| context.call_activity::<usize>("nothing", &n)).collect();
    Ok(context.all(tasks).await?.len())
}

async fn serial_calls(context: OrchestrationContext, calls: usize) -> Result<u64, Failure> {
    let counter = EntityId::new("counter", "one");
    let mut last = 0;
    for _ in 0..calls {
        last = context.call_entity(&counter, "add", &()).await?;
    }
    Ok(last)
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry
        .orchestration("fan-out", fan_out)
        .orchestration("serial-calls", serial_calls)
        .activity("nothing", |_: ActivityContext, n: usize| async move { Ok(n) })
        .entity("counter", || Counter);
    registry
}

async fn measure(name: &str, hub: Arc<EmbeddedHub>, activities: usize, calls: usize) -> Result<(), Box<dyn Error>> {
    let worker = Worker::builder(hub.clone(), registry())
        .max_concurrent_activities(64)
        .max_concurrent_orchestrations(8)
        .max_concurrent_entities(8)
        .build()
        .start();
    let client = Client::new(hub.clone());
    for (orchestration, count) in [("fan-out", activities), ("serial-calls", calls)] {
        let before = hub.journal_stats();
        let began = Instant::now();
        let id = client.start(orchestration, &count, StartOptions::default()).await?;
        let state = client.wait_for_completion(&id).await?.ok_or("the instance is gone")?;
        let seconds = began.elapsed().as_secs_f64();
        let output: usize = state.output()?;
        if output != count {
            return Err(format!("{orchestration} gave {output} instead of {count}").into());
        }
        let after = hub.journal_stats();
        println!(
            "{name:7} {orchestration:12} {count:7}: {seconds:7.3} s, {} commits of {} transitions, {:.3} s in commits",
            after.commits - before.commits,
            after.batches - before.batches,
            after.seconds_committing - before.seconds_committing,
        );
    }
    worker.stop().await?;
    hub.close().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let activities = arguments.next().transpose()?.unwrap_or(2_000);
    let calls = arguments.next().transpose()?.unwrap_or(1_000);
    let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
    measure("disk", EmbeddedHub::open(folder.path(), HubOptions::default())?, activities, calls).await?;
    measure("memory", EmbeddedHub::in_memory(HubOptions::default())?, activities, calls).await
}
