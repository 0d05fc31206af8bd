//! Write and run Durable Task code in Rust: orchestrations, activities, entities; a client, a worker.

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
    ActivityOptions, CriticalSection, LockRequest, OrchestrationContext, RetryPolicy,
    SubOrchestrationOptions, Task, Timer,
};
pub use state::{EntityState, OrchestrationState, OrchestrationStatus};
pub use worker::{Worker, WorkerBuilder, WorkerError, WorkerHandle};

/// The messages of the Durable Task protocol, generated from `proto/durable_task.proto`.
#[allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::doc_markdown)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/durable_task.rs"));
}
