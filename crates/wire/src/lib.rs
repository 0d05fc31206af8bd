//! The Durable Task protocol's gRPC service (`TaskHubSidecarService`), generated for both sides: the server that a hub
//! is put behind and the client that a worker speaks through. The messages are those of
//! [`seriatim_durable::proto`]. This crate must never hold behaviour: how calls are answered and made is written where
//! they are, in the crates that use it.

/// The service's two sides, generated from `crates/durable/proto/durable_task.proto`.
#[allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::pedantic, clippy::unwrap_used)]
pub mod service {
    include!(concat!(env!("OUT_DIR"), "/durable_task.rs"));
}
