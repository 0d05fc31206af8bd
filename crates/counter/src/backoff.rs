//! Pauses between attempts: they double up to a longest, and half of each is random, so that runs that wait for the same
//! row do not come back in step. This module must never wait itself.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// The pauses of one series of attempts: each at least half of what its turn has, at most all of it. They have no end.
#[derive(Debug)]
pub(crate) struct Pauses(ExponentialBackoff);

impl Pauses {
    /// Pauses from `first` on, up to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        // The library adds up to as much again.
        let halves = ExponentialBuilder::default().with_min_delay(first / 2).with_max_delay(longest / 2);
        Self(halves.without_max_times().with_jitter().build())
    }

    /// The next one.
    pub(crate) fn pause(&mut self) -> Duration {
        self.0.next().expect("the series has no end")
    }
}
