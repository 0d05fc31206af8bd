//! Pauses between attempts: they double up to a longest, and half of each is random, so that runs that wait for the same
//! row do not come back in step. This module must never wait itself.

use std::time::Duration;

use uuid::Uuid;

/// The pauses of one series of attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Pauses from `first` on, up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// The next pause: at least half of what its turn has, at most all of it.
    pub fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.longest);
        // The low 32 bits of such an id are random.
        let random = f64::from(Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX);
        whole.mul_f64(0.5 + random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_differ() {
        let series = |_| {
            let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
            (0..12).map(|_| backoff.pause()).collect::<Vec<_>>()
        };
        let all: Vec<Vec<Duration>> = (0..8).map(series).collect();
        for one in &all {
            assert!(one[0] >= Duration::from_millis(10) && one[0] <= Duration::from_millis(20));
            assert!(one[11] >= Duration::from_secs(1) && one[11] <= Duration::from_secs(2));
        }
        assert!(all.iter().any(|one| one[11] != all[0][11]));
    }
}
