//! Tests of the hub, grouped by what a user sees of it. Those that begin with a [`driver::Driver`] drive the core
//! alone; the others open whole hubs.

mod driver;
mod orchestrations;
