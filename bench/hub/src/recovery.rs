//! How long a hub takes from its opening to its first work item, with many events in its histories and 10,000 instances
//! that are alive. The first run in a folder makes them; it ends like a crash, so that the log has not been tidied up.

use std::path::Path;
use std::time::Instant;

use futures::StreamExt as _;
use futures::future::try_join_all;
use seriatim_durable::StartOptions;
use seriatim_durable::hub::TaskHub as _;
use seriatim_durable::proto::{self, work_item::Request};
use seriatim_hub::{EmbeddedHub, HubOptions};

use crate::{Bench, Figure, Outcome, peak_mib};

const LIVE: u64 = 10_000;

async fn fill(folder: &Path, events: u64) -> Outcome<()> {
    let bench = Bench::start(folder)?;
    // A start, four events for each activity, and the turn that waits.
    let steps = (events / LIVE).saturating_sub(4) / 4;
    let starts = (0..LIVE).map(|n| {
        let options = StartOptions { instance_id: Some(format!("live-{n:05}")), ..StartOptions::default() };
        let client = bench.client.clone();
        async move { client.start("wait", &steps, options).await }
    });
    try_join_all(starts).await?;
    // All wait when the last activity is done: then no history grows any more.
    let mut before = 0;
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let batches = bench.hub.journal_stats().batches;
        if batches == before {
            break;
        }
        before = batches;
    }
    // One of them has something to do when the hub opens again.
    bench.client.suspend("live-00000", None).await?;
    bench.client.raise_event("live-00000", "go", &7).await?;
    Ok(())
}

pub async fn recovery(folder: &Path, events: u64) -> Outcome<Figure> {
    if !folder.join("hub.db").exists() {
        fill(folder, events).await?;
        let folder = folder.to_owned();
        // The process is the unit: what it has open is gone with it.
        println!("{}", serde_json::json!({"filled": folder}));
        std::process::exit(0);
    }
    let began = Instant::now();
    let hub = EmbeddedHub::open(folder, HubOptions::default())?;
    let opened = began.elapsed().as_secs_f64();
    let request = proto::GetWorkItemsRequest { max_concurrent_orchestration_work_items: 4, ..Default::default() };
    let mut items = hub.work_items(request).await?;
    hub.resume_instance(proto::ResumeRequest { instance_id: "live-00000".to_owned(), reason: None }).await?;
    let item = items.next().await.ok_or("the stream ended")??;
    let mut figure = Figure::new(began, events);
    let Some(Request::OrchestratorRequest(turn)) = item.request else { return Err("no turn came".into()) };
    let all = hub.query_instances(proto::QueryInstancesRequest {
        query: Some(proto::InstanceQuery { max_instance_count: i32::MAX, ..Default::default() }),
    });
    let live = all.await?.orchestration_state.len();
    figure.more = serde_json::json!({
        "opened": opened, "live": live, "past_events": turn.past_events.len(), "peak_mib": peak_mib(),
    });
    if live as u64 != LIVE || turn.past_events.is_empty() {
        return Err(format!("something was lost: {}", figure.more).into());
    }
    // The same state for the next measurement.
    hub.abandon(&item.completion_token).await?;
    hub.suspend_instance(proto::SuspendRequest { instance_id: "live-00000".to_owned(), reason: None }).await?;
    Ok(figure)
}
