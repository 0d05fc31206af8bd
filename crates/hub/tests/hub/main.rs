//! Tests of the hub, grouped by what a user sees of it. Those that use a [`driver::Driver`] drive the core alone; the
//! others open whole hubs.

// A test that cannot go on panics: that is how it fails.
#![allow(clippy::unwrap_used)]

mod clocks;
mod dispatch;
mod driver;
mod embedded;
mod entities;
mod model;
mod orchestrations;
mod purity;
mod queries;
mod stores;
mod transitions;
mod workers;
