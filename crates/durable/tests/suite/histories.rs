//! Symptom: a new version of this crate derives another id, numbers actions in another way or matches events otherwise,
//! and orchestrations that were running before the upgrade fail afterwards. What is proved: the histories in
//! `tests/histories`, once recorded, replay without a difference, at every turn and for ever. They are never edited; a
//! new one is added by writing its story below and running the ignored test `record` (it leaves existing files alone).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use seriatim_durable::proto::HistoryEvent;
use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::{ActivityOptions, Either, EntityId, Failure, OrchestrationContext, Registry, RetryPolicy};

use crate::bench::{
    Bench, completed, entity_completed, event, failed, fired, fresh, granted, lines, message_id, raised, resumed,
    started, sub_completed, suspended,
};
use crate::event_json;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories")
}

/// The orchestrations of the recorded histories. Their code is part of the recordings: it must not change either.
fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.orchestration("ingest", ingest).orchestration("order", order).orchestration("poll", poll);
    registry
}

/// Fan-out and fan-in around a critical section.
async fn ingest(ctx: OrchestrationContext, chunks: u32) -> Result<u64, Failure> {
    let scans = (0..chunks).map(|chunk| ctx.call_activity::<u64>("scan", &chunk)).collect();
    let counts = ctx.all(scans).await?;
    let sequences = [EntityId::new("Sequence", "orders"), EntityId::new("Sequence", "customers")];
    let section = ctx.lock_entities(&sequences).await?;
    let request = json!({"run": ctx.new_guid(), "count": counts.iter().sum::<u64>()});
    let base: u64 = ctx.call_entity(&sequences[0], "reserve", &request).await?;
    let writes = (0..chunks).map(|chunk| ctx.call_activity::<()>("write", &(chunk, base))).collect();
    ctx.all(writes).await?;
    ctx.call_entity::<()>(&sequences[0], "commit", &ctx.new_guid()).await?;
    section.release();
    ctx.signal_entity(&EntityId::new("ledger", "all"), "note", &base)?;
    ctx.call_activity::<()>("report", &base).await?;
    Ok(base)
}

/// An approval that may come late, a sub-orchestration, retries.
async fn order(ctx: OrchestrationContext, (): ()) -> Result<String, Failure> {
    let approval = ctx.external_event::<bool>("Approval");
    if let Either::Right(()) = ctx.race(approval, ctx.timer(Duration::from_hours(1))).await {
        ctx.send_event("office", "Reminder", &ctx.new_guid())?;
        ctx.external_event::<bool>("Approval").await?;
    }
    let retry = Some(RetryPolicy::exponential(3, Duration::from_secs(2), Duration::from_mins(1)));
    let options = ActivityOptions { retry, ..Default::default() };
    let paid: String = ctx.call_activity_with("pay", &12.5, options).await?;
    let shipped: String = ctx.call_sub_orchestration("ship", None, &paid).await?;
    Ok(format!("{paid}, {shipped}"))
}

/// An eternal orchestration that moves on with what it has not looked at yet.
async fn poll(ctx: OrchestrationContext, round: u32) -> Result<(), Failure> {
    let next = ctx.external_event::<u32>("next").await?;
    ctx.timer(Duration::from_secs(u64::from(next))).await;
    ctx.continue_as_new(&(round + 1), true)
}

/// Plays a story and gives its whole history, the last turn included.
fn play(name: &str) -> Vec<HistoryEvent> {
    let mut bench = Bench::new(registry());
    match name {
        "ingest" => {
            bench.turn(vec![started("ingest", "3")]);
            bench.turn(vec![completed(2, "10"), suspended()]);
            bench.turn(vec![completed(1, "20"), resumed()]);
            let lock = bench.turn(vec![completed(3, "5")]);
            let reserve = bench.turn(vec![granted(&message_id(&lock.actions[0]))]);
            bench.turn(vec![entity_completed(&message_id(&reserve.actions[0]), "1001")]);
            bench.turn(vec![completed(8, "null"), completed(6, "null")]);
            let commit = bench.turn(vec![completed(7, "null")]);
            bench.turn(vec![entity_completed(&message_id(&commit.actions[0]), "null")]);
            bench.turn(vec![completed(13, "null")]);
        }
        "order" => {
            bench.turn(vec![started("order", "null")]);
            bench.turn(vec![fired(1)]);
            bench.turn(vec![raised("other", "1"), raised("approval", "true")]);
            bench.turn(vec![failed(3, Failure::new("Busy", "the bank sleeps"))]);
            bench.turn(vec![fired(4)]);
            bench.turn(vec![completed(5, r#""paid""#)]);
            bench.turn(vec![sub_completed(6, r#""shipped""#)]);
        }
        "poll" => {
            bench.turn(vec![started("poll", "7")]);
            bench.turn(vec![raised("next", "2"), raised("next", "3")]);
            bench.turn(vec![raised("unrelated", "null"), fired(1)]);
        }
        other => panic!("no story named {other}"),
    }
    bench.past
}

const STORIES: [&str; 3] = ["ingest", "order", "poll"];

#[test]
#[ignore = "records new histories; run by hand after adding a story"]
fn record() {
    for name in STORIES {
        let path = folder().join(format!("{name}.json"));
        if path.exists() {
            continue;
        }
        let events: Vec<Value> = play(name).iter().map(event_json::write).collect();
        let lines: Vec<String> = events.iter().map(|event| format!("  {event}")).collect();
        fs::write(&path, format!("[\n{}\n]\n", lines.join(",\n"))).expect("the folder can be written");
    }
}

/// Where each turn begins: at the events that open them.
fn openings(history: &[HistoryEvent]) -> Vec<usize> {
    let opens = |event: &HistoryEvent| matches!(event.event_type, Some(EventType::OrchestratorStarted(_)));
    history.iter().enumerate().filter(|(_, event)| opens(event)).map(|(index, _)| index).collect()
}

/// Whether an event of a turn was there before the code ran, and not recorded afterwards.
fn is_new(event: &HistoryEvent) -> bool {
    event.event_id == -1 && !matches!(event.event_type, Some(EventType::OrchestratorCompleted(_)))
}

#[test]
fn recorded_histories_replay_without_a_difference() {
    let registry = Arc::new(registry());
    let mut turns = 0;
    for name in STORIES {
        let text = fs::read_to_string(folder().join(format!("{name}.json"))).expect("the history is committed");
        let events: Vec<Value> = serde_json::from_str(&text).expect("a history is a list");
        let history: Vec<HistoryEvent> = events.iter().map(event_json::read).collect();
        let openings = openings(&history);
        for (number, &begin) in openings.iter().enumerate() {
            let end = openings.get(number + 1).copied().unwrap_or(history.len());
            let new: Vec<_> = history[begin..end].iter().filter(|event| is_new(event)).cloned().collect();
            let recorded: Vec<_> = history[begin..end].iter().filter(|event| event.event_id != -1).cloned().collect();
            let turn = fresh(&registry).turn(&history[..begin], &new);
            // All of it must come out again: ids, names, targets, inputs, times, derived guids.
            let seconds = history[begin].timestamp.expect("events have times").seconds;
            let attempted: Vec<_> = turn
                .actions
                .iter()
                .filter_map(|action| crate::bench::record(action).map(|kind| event(action.id, seconds, kind)))
                .collect();
            assert_eq!(attempted, recorded, "{name}, turn {number}: {:?}", lines(&turn));
            assert_eq!(turn.ended, number + 1 == openings.len(), "{name}, turn {number}");
            turns += 1;
        }
    }
    assert_eq!(turns, 20, "all turns of all histories were replayed");
}
