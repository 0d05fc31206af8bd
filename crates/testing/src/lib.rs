//! What tests of several crates need: Azurite, the emulator of Azure's storage, on ports of its own, and a connection
//! to a service that loses, breaks and delays what it is told to. Only for tests; no program may depend on it.

#![allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "a test that cannot be set up fails, and says why")]

mod azurite;
mod faults;
mod http;

pub use azurite::Azurite;
pub use faults::{Fault, Faulty, Request};
