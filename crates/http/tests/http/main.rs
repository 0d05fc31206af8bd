//! The HTTP API as its clients meet it: a real server on a real socket over a real hub with a worker.

#![allow(clippy::unwrap_used)] // also in the helpers, which are part of tests

mod contract;
mod custom_handler;
mod data_factory;
mod entities;
mod limits;
mod operations;
mod routes;
mod runs;
mod spans;
mod support;
mod tls;
