//! Retry policies: how often a failed activity or sub-orchestration is tried again, and how long the durable timers
//! between the attempts are. This module must never wait: it only computes.

use std::time::Duration;

use prost_types::Timestamp;

use crate::failure::Failure;
use crate::time;

/// How often failed work is tried again, and at what intervals.
///
/// The wait after attempt `n` is `first_interval * backoff_coefficient^(n-1)`, at most `max_interval`. A
/// [`Failure`] that is `non_retriable` ends the attempts at once. The waits are durable timers: they outlive the worker.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The number of attempts in all, the first included; 0 counts as 1.
    pub max_attempts: u32,
    /// The wait after the first failed attempt.
    pub first_interval: Duration,
    /// What each wait is multiplied by; 1 keeps it the same. Values below 1, and those that are no number, count as 1.
    pub backoff_coefficient: f64,
    /// The longest wait; `None` for no limit.
    pub max_interval: Option<Duration>,
    /// No attempt starts later than this after the first one was scheduled; `None` for no limit.
    pub retry_timeout: Option<Duration>,
}

impl RetryPolicy {
    /// Waits that stay the same, without a limit of time.
    pub fn fixed(max_attempts: u32, interval: Duration) -> Self {
        Self {
            max_attempts,
            first_interval: interval,
            backoff_coefficient: 1.0,
            max_interval: None,
            retry_timeout: None,
        }
    }

    /// Waits that double, up to `max_interval`, without a limit of time.
    pub fn exponential(max_attempts: u32, first_interval: Duration, max_interval: Duration) -> Self {
        Self {
            max_attempts,
            first_interval,
            backoff_coefficient: 2.0,
            max_interval: Some(max_interval),
            retry_timeout: None,
        }
    }

    /// The wait after attempt number `attempt` (1 is the first); `None` if there shall be no other attempt.
    fn wait_after(&self, attempt: u32, started: &Timestamp, now: &Timestamp, failure: &Failure) -> Option<Duration> {
        if failure.non_retriable || attempt >= self.max_attempts {
            return None;
        }
        let coefficient = if self.backoff_coefficient >= 1.0 { self.backoff_coefficient } else { 1.0 };
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.first_interval.as_secs_f64() * coefficient.powi(exponent);
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let wait = self.max_interval.map_or(wait, |longest| wait.min(longest));
        let in_time = self
            .retry_timeout
            .is_none_or(|limit| time::elapsed(started, now).checked_add(wait).is_some_and(|total| total <= limit));
        in_time.then_some(wait)
    }
}

/// Where a retried task stands.
#[derive(Debug, Clone)]
pub(crate) struct Attempts {
    policy: RetryPolicy,
    started: Timestamp,
    done: u32,
}

impl Attempts {
    pub(crate) fn new(policy: RetryPolicy, started: Timestamp) -> Self {
        Self { policy, started, done: 0 }
    }

    /// Counts a failed attempt; the wait until the next one, or `None` if this failure is final.
    pub(crate) fn failed(&mut self, now: &Timestamp, failure: &Failure) -> Option<Duration> {
        self.done += 1;
        self.policy.wait_after(self.done, &self.started, now, failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(policy: RetryPolicy, failures: u32, seconds_between: i64) -> Vec<Option<u64>> {
        let mut attempts = Attempts::new(policy, Timestamp { seconds: 0, nanos: 0 });
        (1..=failures)
            .map(|n| Timestamp { seconds: i64::from(n) * seconds_between, nanos: 0 })
            .map(|now| attempts.failed(&now, &Failure::new("Busy", "try later")).map(|wait| wait.as_secs()))
            .collect()
    }

    #[test]
    fn waits_grow_up_to_the_limit_and_end_with_the_attempts() {
        let policy = RetryPolicy::exponential(5, Duration::from_secs(1), Duration::from_secs(3));
        assert_eq!(waits(policy, 5, 0), [Some(1), Some(2), Some(3), Some(3), None]);
        assert_eq!(waits(RetryPolicy::fixed(0, Duration::from_secs(1)), 1, 0), [None]);
    }

    #[test]
    fn no_attempt_starts_after_the_timeout() {
        let policy = RetryPolicy {
            retry_timeout: Some(Duration::from_secs(10)),
            ..RetryPolicy::fixed(9, Duration::from_secs(2))
        };
        assert_eq!(waits(policy, 4, 4), [Some(2), Some(2), None, None]);
    }

    #[test]
    fn absurd_numbers_never_panic() {
        let policy = RetryPolicy { backoff_coefficient: f64::NAN, ..RetryPolicy::fixed(u32::MAX, Duration::MAX) };
        let mut attempts = Attempts { policy, started: Timestamp::default(), done: u32::MAX - 2 };
        assert_eq!(attempts.failed(&Timestamp::default(), &Failure::new("a", "b")), Some(Duration::MAX));
    }
}
