//! A Durable Task hub that is somewhere else: [`RemoteHub`] speaks the protocol's gRPC service, so the same
//! [`Worker`](seriatim_durable::Worker) and [`Client`](seriatim_durable::Client) run against `seriatim serve`, against
//! Azure Durable Task Scheduler and its emulator, and against every other server of the protocol. This crate must never
//! decide what durable work means: it carries messages, and sees to it that none is sent twice where that would matter.
//!
//! ```no_run
//! # use std::sync::Arc;
//! use seriatim_durable::{Client, Registry, Worker};
//! use seriatim_remote::{RemoteHub, Variables};
//!
//! # async fn example(registry: Registry) -> Result<(), Box<dyn std::error::Error>> {
//! let address = "Endpoint=https://mine.westeurope.durabletask.io;TaskHub=orders;Authentication=DefaultAzure".parse()?;
//! let hub = Arc::new(RemoteHub::builder(address).build(&Variables::of_process())?);
//! let worker = Worker::builder(hub.clone(), registry).build().start();
//! let client = Client::new(hub);
//! # worker.stop().await?; let _ = client;
//! # Ok(())
//! # }
//! ```
//!
//! # What is tried again
//!
//! A call that failed is sent again, with growing and random pauses, only if that cannot do harm: reads and waits
//! always; answers to work items always, because a hub takes the second one for late; anything else only if it had not
//! been sent, that is, if there was no connection. The stream of work items ends with
//! [`HubError::Unavailable`](seriatim_durable::hub::HubError::Unavailable), and the worker opens it again.
//!
//! # Payloads by reference
//!
//! Inputs, outputs and states above a threshold can be kept beside the hub, in a [`PayloadStore`] that all workers and
//! clients share; the hub then only sees a short token. See [`payload`].

mod address;
mod builder;
mod chunks;
mod connection;
pub mod credential;
mod hub;
mod items;
pub mod payload;
mod secret;
mod tls;

pub use address::{Address, AddressError, Authentication};
pub use builder::{BuildError, RemoteHubBuilder};
pub use credential::Variables;
pub use hub::RemoteHub;
pub use payload::{FolderStore, PayloadStore};
pub use secret::Secret;
pub use tls::TlsOptions;

/// An error with its causes, on one line; a cause that only repeats what was said is left out.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
