//! The cases that duroxide has (it has no entities), on its SQLite provider, with a poll interval short enough not to be
//! what is measured, and as many workers as by default: with more, its database is locked against itself. `duroxide-bench CASE FOLDER [N]`, one JSON line each.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::providers::sqlite::SqliteProvider;
use duroxide::runtime::registry::ActivityRegistry;
use duroxide::runtime::{Runtime, RuntimeOptions};
use duroxide::{ActivityContext, Client, OrchestrationContext, OrchestrationRegistry, OrchestrationStatus};

const HANG: Duration = Duration::from_secs(600);

async fn finish(client: &Client, id: &str, expected: &str) -> Result<(), Box<dyn Error>> {
    match client.wait_for_orchestration(id, HANG).await? {
        OrchestrationStatus::Completed { output, .. } if output == expected => Ok(()),
        other => Err(format!("{id}: {other:?} instead of {expected}").into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(case), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("duroxide-bench CASE FOLDER [N]".into());
    };
    let n: Option<u64> = arguments.next().map(|n| n.parse()).transpose()?;
    let path = std::path::Path::new(&folder).join("duroxide.db");
    std::fs::File::create(&path)?;
    let store = Arc::new(SqliteProvider::new(&format!("sqlite:{}", path.display()), None).await?);
    let activities = ActivityRegistry::builder()
        .register("nothing", |_: ActivityContext, input: String| async move { Ok(input) })
        .build();
    let fan_out = |ctx: OrchestrationContext, input: String| async move {
        let n: u64 = input.parse().map_err(|_| "no number".to_owned())?;
        let all = (0..n).map(|n| ctx.schedule_activity("nothing", n.to_string())).collect::<Vec<_>>();
        Ok(ctx.join(all).await.len().to_string())
    };
    let chain = |ctx: OrchestrationContext, input: String| async move {
        let n: u64 = input.parse().map_err(|_| "no number".to_owned())?;
        for n in 0..n {
            ctx.schedule_activity("nothing", n.to_string()).await?;
        }
        Ok(n.to_string())
    };
    let orchestrations =
        OrchestrationRegistry::builder().register("fan-out", fan_out).register("chain", chain).build();
    let options = RuntimeOptions {
        dispatcher_min_poll_interval: Duration::from_millis(1),
        ..RuntimeOptions::default()
    };
    let runtime = Runtime::start_with_options(store.clone(), activities, orchestrations, options).await;
    let client = Client::new(store);
    client.start_orchestration("warm", "chain", "2").await?;
    finish(&client, "warm", "2").await?;
    let began = Instant::now();
    let work = match case.as_str() {
        "fan-out" => {
            let n = n.unwrap_or(2_000);
            client.start_orchestration("one", "fan-out", n.to_string()).await?;
            finish(&client, "one", &n.to_string()).await?;
            n
        }
        "many" => {
            let n = n.unwrap_or(200);
            for i in 0..n {
                client.start_orchestration(format!("i{i}"), "chain", "5").await?;
            }
            for i in 0..n {
                finish(&client, &format!("i{i}"), "5").await?;
            }
            5 * n
        }
        other => return Err(format!("there is no case {other} here").into()),
    };
    println!("{{\"seconds\": {}, \"work\": {work}}}", began.elapsed().as_secs_f64());
    runtime.shutdown(Some(100)).await;
    Ok(())
}
