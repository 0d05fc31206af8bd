//! The program as its users meet it: each command's answer, its errors and its exit codes, signals, two processes at
//! once. All tests run the real binary on demo data in a folder of their own.

#![allow(clippy::unwrap_used)] // also in the helpers, which are part of tests

mod demo;
mod errors;
mod ids;
mod objects;
mod others;
mod processes;
mod recover;
mod runs;
// The server of the remote hub's own tests.
#[path = "../../../remote/tests/remote/server.rs"]
#[allow(dead_code)]
mod server;
mod support;
mod workers;
