//! The remote hub against servers: one in this process over the embedded hub, with faults on demand, and the official
//! Python SDK's in-memory backend. One suite of patterns runs against every kind of hub.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod addresses;
mod faults;
mod patterns;
mod payloads;
mod python;
mod served;
mod server;
mod suite;
mod tokens;
mod transport;
