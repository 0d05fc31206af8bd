//! Tests of the hub, grouped by what a user sees of it. Those that use a [`driver::Driver`] drive the core alone; the
//! others open whole hubs.

// A test that cannot go on panics: that is how it fails.
#![allow(clippy::unwrap_used)]

mod again;
mod ahead;
mod clocks;
mod dispatch;
mod driver;
mod embedded;
mod entities;
mod lifecycles;
mod model;
mod orchestrations;
mod purity;
mod queries;
mod stores;
mod transitions;
mod workers;

/// So many random cases, times the factor in the environment variable `SERIATIM_TEST_SCALE` (default: 1).
fn cases(number: u32) -> proptest::test_runner::Config {
    let scale = std::env::var("SERIATIM_TEST_SCALE").ok().map_or(1, |scale| scale.parse().expect("a whole number"));
    proptest::test_runner::Config { cases: number * scale, max_shrink_iters: 20_000, ..Default::default() }
}
