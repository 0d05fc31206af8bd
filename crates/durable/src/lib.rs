//! Write and run Durable Task code in Rust: orchestrations, activities, entities; a client, a worker.
//!
//! Durable code survives the process that runs it. An *orchestration* is an ordinary async function whose every step is
//! recorded by a *task hub*; after a crash, on another machine or a month later it goes on where it was, because it is
//! run again over what was recorded. What it asks for is done by *activities* (any code, run at least once, recorded
//! once) and by *entities* (small objects with a durable state, whose operations run one at a time, and which can be
//! locked together in a *critical section*).
//!
//! The model and the messages are those of the public Durable Task protocol ([`proto`]), so the same code runs against
//! every hub that speaks it: whatever implements [`TaskHub`].
//!
//! # Writing
//!
//! ```
//! use std::time::Duration;
//!
//! use seriatim_durable::{
//!     ActivityContext, ActivityOptions, Entity, EntityContext, EntityId, Failure, Operation, OrchestrationContext,
//!     Registry, RetryPolicy,
//! };
//!
//! /// Numbers things, without a gap.
//! #[derive(Default)]
//! struct Sequence;
//!
//! impl Entity for Sequence {
//!     type State = u64; // the last number that was given
//!
//!     fn operation(&mut self, _: &mut EntityContext, last: &mut u64, op: &Operation) -> Result<serde_json::Value, Failure> {
//!         match op.name() {
//!             "reserve" => {
//!                 let first = *last + 1;
//!                 *last += op.input::<u64>()?;
//!                 op.reply(&first)
//!             }
//!             _ => Err(op.not_supported()),
//!         }
//!     }
//! }
//!
//! async fn count(_: ActivityContext, file: String) -> Result<u64, Failure> {
//!     Ok(file.len() as u64) // any I/O is fine here
//! }
//!
//! /// Counts all files in parallel, then numbers their rows.
//! async fn ingest(ctx: OrchestrationContext, files: Vec<String>) -> Result<u64, Failure> {
//!     let retry = Some(RetryPolicy::exponential(5, Duration::from_secs(1), Duration::from_secs(60)));
//!     let options = ActivityOptions { retry, ..Default::default() };
//!     let counts = files.iter().map(|file| ctx.call_activity_with("count", file, options.clone())).collect();
//!     let rows: u64 = ctx.all(counts).await?.iter().sum();
//!
//!     let sequence = EntityId::new("sequence", "rows");
//!     let section = ctx.lock_entities(&[sequence.clone()]).await?;
//!     let first = ctx.call_entity(&sequence, "reserve", &rows).await?;
//!     section.release();
//!     Ok(first)
//! }
//!
//! let mut registry = Registry::new();
//! registry.orchestration("ingest", ingest).activity("count", count).entity("sequence", Sequence::default);
//! ```
//!
//! # Running
//!
//! ```no_run
//! # use std::sync::Arc;
//! use seriatim_durable::{Client, Registry, StartOptions, TaskHub, Worker};
//!
//! # async fn example(hub: Arc<dyn TaskHub>, registry: Registry) -> Result<(), Box<dyn std::error::Error>> {
//! let worker = Worker::builder(hub.clone(), registry).max_concurrent_activities(8).build().start();
//!
//! let client = Client::new(hub);
//! let id = client.start("ingest", &["a.parquet", "b.parquet"], StartOptions::default()).await?;
//! let state = client.wait_for_completion(&id).await?.expect("it was started");
//! println!("first number: {}", state.output::<u64>()?);
//!
//! worker.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What an orchestration must not do
//!
//! Its code runs again and again over the same history and must do the same each time. It takes the time from
//! [`now`](OrchestrationContext::now) and ids from [`new_guid`](OrchestrationContext::new_guid), leaves I/O to
//! activities, and waits only for what its context gives. If the code and its history disagree, the orchestration fails
//! with [`Failure::NON_DETERMINISTIC`] and a message that shows what was recorded, what was attempted and what differs.
//!
//! That can be tried without any hub, because the [`replay`] core does no I/O: history goes in, actions come out.
//!
//! ```
//! use std::sync::Arc;
//!
//! use seriatim_durable::proto::{self, HistoryEvent, history_event::EventType};
//! use seriatim_durable::replay::Execution;
//! use seriatim_durable::{OrchestrationContext, Registry};
//!
//! let mut registry = Registry::new();
//! registry.orchestration("greet", |ctx: OrchestrationContext, name: String| async move {
//!     ctx.call_activity::<String>("say", &name).await
//! });
//!
//! let started = EventType::ExecutionStarted(proto::ExecutionStartedEvent {
//!     name: "greet".to_owned(),
//!     input: Some("\"Ada\"".to_owned()),
//!     ..Default::default()
//! });
//! let event = HistoryEvent { event_id: -1, timestamp: None, event_type: Some(started) };
//!
//! let turn = Execution::new(Arc::new(registry), "instance", "execution").turn(&[], &[event]);
//! assert_eq!(turn.actions.len(), 1); // it asks for the activity "say"
//! assert!(!turn.ended);
//! ```
//!
//! # Guarantees
//!
//! - A turn costs what is new in it: a worker keeps waiting orchestrations alive ([`WorkerBuilder::max_kept_orchestrations`])
//!   and replays only what it has not seen. Kept or replayed, the actions are the same.
//! - A task, a timer or an event completes in the order of history, and nothing else decides who is first in a race.
//! - A panic in an orchestration, an activity or an operation is a [`Failure`] of type [`Failure::PANIC`]; the worker lives.
//! - An operation of an entity that fails undoes its changes and its messages.
//! - However an orchestration ends, it gives back the locks that it holds.

pub mod hub;

mod activity;
mod client;
mod entity;
mod failure;
mod json;
mod registry;
pub mod replay;
mod state;
mod time;
mod worker;

pub use activity::ActivityContext;
pub use client::{Client, EntityFilter, InstanceFilter, StartOptions};
pub use entity::{Entity, EntityContext, EntityId, Operation, ParseEntityIdError};
pub use failure::{Failure, OrFailure};
pub use futures::future::Either;
pub use hub::{HubError, HubResult, TaskHub, WorkItemStream};
pub use registry::Registry;
pub use replay::{
    ActivityOptions, CriticalSection, LockRequest, OrchestrationContext, RetryPolicy, SubOrchestrationOptions, Task,
    Timer,
};
pub use state::{EntityState, OrchestrationState, OrchestrationStatus};
pub use worker::{Worker, WorkerBuilder, WorkerError, WorkerHandle};

/// The messages of the Durable Task protocol, generated from `proto/durable_task.proto`.
#[allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::doc_markdown)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/durable_task.rs"));
}
