//! A Durable Task hub: it stores orchestrations and entities, and hands out their work.
//!
//! - [`core`]: the state machine. No I/O, no clock, no randomness: inputs in, effects out.
//! - [`store`]: where its batches go; SQLite on disk, or memory for tests.
//! - [`EmbeddedHub`]: both together with threads and timers, as a [`seriatim_durable::hub::TaskHub`] in this process.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use seriatim_durable::hub::TaskHub;
//! use seriatim_durable::proto::CreateInstanceRequest;
//! use seriatim_hub::{EmbeddedHub, HubOptions};
//!
//! let hub = EmbeddedHub::in_memory(HubOptions::default())?;
//! let request = CreateInstanceRequest { name: "greet".into(), ..Default::default() };
//! let started = hub.start_instance(request).await?;
//! assert!(!started.instance_id.is_empty());
//! hub.close().await?;
//! # Ok(())
//! # }
//! ```

mod clock;
pub mod core;
mod embedded;
pub mod store;

pub use core::EntityItems;

pub use clock::{Clock, ManualClock, SystemClock};
pub use embedded::{DispatchStats, EmbeddedHub, HubOptions, JournalStats, OpenError, Owner, WorkStats};
