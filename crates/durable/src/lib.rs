//! Write and run Durable Task code in Rust: orchestrations, activities, entities; a client, a worker.

pub mod hub;

/// The messages of the Durable Task protocol, generated from `proto/durable_task.proto`.
#[allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::doc_markdown)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/durable_task.rs"));
}
