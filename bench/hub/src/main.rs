//! Drives the embedded task hub, with a store that syncs, with the work that task hubs are compared by. Each case prints
//! one JSON line: seconds, and how many pieces of work were done in them. A case checks its results; figures of wrong
//! results are never printed.
//!
//!     hub-bench CASE FOLDER [N]
//!
//! The hub's files are put in FOLDER, which must not have any yet (but for `recovery`, whose first run fills it).

mod code;
mod recovery;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures::future::try_join_all;
use seriatim_durable::{Client, EntityId, StartOptions, Worker, WorkerHandle};
use seriatim_hub::{EmbeddedHub, HubOptions};

/// The program's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A figure of a case.
struct Figure {
    seconds: f64,
    work: u64,
    /// Further figures, as JSON.
    more: serde_json::Value,
}

impl Figure {
    fn new(began: Instant, work: u64) -> Self {
        Self { seconds: began.elapsed().as_secs_f64(), work, more: serde_json::Value::Null }
    }
}

/// A hub with a worker on it.
struct Bench {
    hub: Arc<EmbeddedHub>,
    client: Client,
    worker: WorkerHandle,
}

impl Bench {
    fn start(folder: &Path) -> Outcome<Self> {
        let hub = EmbeddedHub::open(folder, HubOptions::default())?;
        let worker = Worker::builder(hub.clone(), code::registry())
            .max_concurrent_activities(64)
            .max_concurrent_orchestrations(16)
            .max_concurrent_entities(16)
            .build()
            .start();
        Ok(Self { client: Client::new(hub.clone()), hub, worker })
    }

    async fn stop(self) -> Outcome<()> {
        self.worker.stop().await?;
        Ok(self.hub.close().await?)
    }

    /// Runs one orchestration to its end and checks its output.
    async fn run(&self, name: &str, input: u64, expected: u64) -> Outcome<()> {
        let id = self.client.start(name, &input, StartOptions::default()).await?;
        self.finish(&id, expected).await
    }

    async fn finish(&self, id: &str, expected: u64) -> Outcome<()> {
        let state = self.client.wait_for_completion(id).await?.ok_or("the instance is gone")?;
        let output: u64 = state.output()?;
        if output == expected { Ok(()) } else { Err(format!("{id} gave {output} instead of {expected}").into()) }
    }
}

/// One orchestration that asks for `n` empty activities at once.
async fn fan_out(folder: &Path, n: u64) -> Outcome<Figure> {
    let bench = Bench::start(folder)?;
    bench.run("fan-out", 10, 10).await?;
    let began = Instant::now();
    bench.run("fan-out", n, n).await?;
    let figure = Figure::new(began, n);
    bench.stop().await?;
    Ok(figure)
}

/// `n` operations on one entity by 64 callers at once; each call is an orchestration's, and answered when it is on disk.
async fn one_entity(folder: &Path, n: u64) -> Outcome<Figure> {
    const CALLERS: u64 = 64;
    let bench = Bench::start(folder)?;
    bench.run("serial-calls", 2, 2).await?;
    let began = Instant::now();
    let callers = (0..CALLERS).map(|_| async {
        let id = bench.client.start("same-entity", &(n / CALLERS), StartOptions::default()).await?;
        Ok::<_, Box<dyn Error>>(bench.client.wait_for_completion(&id).await?.ok_or("the instance is gone")?.output::<u64>()?)
    });
    try_join_all(callers).await?;
    let figure = Figure::new(began, n / CALLERS * CALLERS);
    let state = bench.client.get_entity::<u64>(&EntityId::new("counter", "same")).await?.ok_or("the entity is gone")?;
    if state.state != Some(figure.work) {
        return Err(format!("{:?} operations were done instead of {}", state.state, figure.work).into());
    }
    bench.stop().await?;
    Ok(figure)
}

/// `n` signals to one entity from 64 clients at once; each is acknowledged when it is on disk.
async fn signals(folder: &Path, n: u64) -> Outcome<Figure> {
    const CLIENTS: u64 = 64;
    let bench = Bench::start(folder)?;
    bench.run("serial-calls", 2, 2).await?;
    let entity = EntityId::new("counter", "same");
    let began = Instant::now();
    let clients = (0..CLIENTS).map(|_| async {
        for _ in 0..n / CLIENTS {
            bench.client.signal_entity(&entity, "add", &(), None).await?;
        }
        Ok::<_, Box<dyn Error>>(())
    });
    try_join_all(clients).await?;
    let all = n / CLIENTS * CLIENTS;
    while bench.client.get_entity::<u64>(&entity).await?.and_then(|e| e.state) != Some(all) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let figure = Figure::new(began, all);
    bench.stop().await?;
    Ok(figure)
}

/// `n` calls of one entity, one after another, by one orchestration.
async fn serial_calls(folder: &Path, n: u64) -> Outcome<Figure> {
    let bench = Bench::start(folder)?;
    bench.run("serial-calls", 2, 2).await?;
    let began = Instant::now();
    bench.run("serial-calls", n, n + 2).await?;
    let figure = Figure::new(began, n);
    bench.stop().await?;
    Ok(figure)
}

/// `n` orchestrations at once, each of 5 activities one after another.
async fn many(folder: &Path, n: u64) -> Outcome<Figure> {
    let bench = Bench::start(folder)?;
    bench.run("five", 0, 5).await?;
    let began = Instant::now();
    let all = (0..n).map(|_| bench.run("five", 0, 5));
    try_join_all(all).await?;
    let figure = Figure::new(began, 5 * n);
    bench.stop().await?;
    Ok(figure)
}

/// One orchestration with a history of `n` events: activities one after another, each of two turns' events.
async fn long(folder: &Path, n: u64) -> Outcome<Figure> {
    let bench = Bench::start(folder)?;
    // Each step records: turn begins, activity scheduled, turn ends, activity completed.
    let steps = n / 4;
    let began = Instant::now();
    bench.run("chain", steps, steps).await?;
    let mut figure = Figure::new(began, n);
    figure.more = serde_json::json!({"peak_mib": peak_mib()});
    bench.stop().await?;
    Ok(figure)
}

/// The largest resident size of this process up to now.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default() / 1024
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(case), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("hub-bench CASE FOLDER [N]".into());
    };
    let folder = Path::new(&folder);
    let n = arguments.next().map(|n| n.parse()).transpose()?;
    let figure = match case.as_str() {
        "fan-out" => fan_out(folder, n.unwrap_or(2_000)).await?,
        "one-entity" => one_entity(folder, n.unwrap_or(64_000)).await?,
        "signals" => signals(folder, n.unwrap_or(64_000)).await?,
        "serial-calls" => serial_calls(folder, n.unwrap_or(1_000)).await?,
        "many" => many(folder, n.unwrap_or(200)).await?,
        "long" => long(folder, n.unwrap_or(100_000)).await?,
        "recovery" => recovery::recovery(folder, n.unwrap_or(1_000_000)).await?,
        other => return Err(format!("there is no case {other}").into()),
    };
    println!("{}", serde_json::json!({"seconds": figure.seconds, "work": figure.work, "more": figure.more}));
    Ok(())
}
