//! Points in time and the hub's own time. The core gets the wall clock's reading with every input; [`HubTime`] turns
//! these readings, which may jump, into a time that never goes back. This module must never read a clock itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// A point in time: seconds and nanoseconds since 1970-01-01T00:00:00Z. Covers every timestamp of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment {
    seconds: i64,
    nanos: u32,
}

const NANOS_PER_SECOND: u32 = 1_000_000_000;

impl Moment {
    /// The moment that lies `seconds` after 1970 began.
    pub fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// This moment as a message of the protocol.
    pub fn to_timestamp(self) -> Timestamp {
        Timestamp { seconds: self.seconds, nanos: self.nanos as i32 }
    }

    /// The moment that lies `duration` later; saturates at the end of time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let nanos = self.nanos + duration.subsec_nanos();
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let seconds = self.seconds.saturating_add(seconds).saturating_add(i64::from(nanos / NANOS_PER_SECOND));
        Self { seconds, nanos: nanos % NANOS_PER_SECOND }
    }

    /// The moment that lies `duration` earlier; saturates at the beginning of time.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let seconds = self.seconds.saturating_sub(seconds);
        if self.nanos >= duration.subsec_nanos() {
            return Self { seconds, nanos: self.nanos - duration.subsec_nanos() };
        }
        Self { seconds: seconds.saturating_sub(1), nanos: self.nanos + NANOS_PER_SECOND - duration.subsec_nanos() }
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        if self <= earlier {
            return Duration::ZERO;
        }
        let seconds = self.seconds.saturating_sub(earlier.seconds) as u64;
        if self.nanos >= earlier.nanos {
            return Duration::new(seconds, self.nanos - earlier.nanos);
        }
        Duration::new(seconds - 1, self.nanos + NANOS_PER_SECOND - earlier.nanos)
    }
}

impl From<&Timestamp> for Moment {
    fn from(timestamp: &Timestamp) -> Self {
        let nanos = timestamp.nanos.clamp(0, NANOS_PER_SECOND as i32 - 1);
        Self { seconds: timestamp.seconds, nanos: nanos as u32 }
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self::default().plus(after),
            Err(before) => Self::default().minus(before.duration()),
        }
    }
}

/// While the hub's time is ahead of the clock, it loses one part in this many until both agree again. Small enough that
/// nobody sees timers run slow; large enough that a correction of two seconds is gone after half a minute.
const SLEW: u32 = 16;

/// The hub's time: the clock's, except that it never goes back. When the clock jumps back, the hub's time goes on from
/// where it was, at (almost) the clock's speed: a timer that was set relative to the hub's time is neither lost nor
/// early, whichever way the clock jumps.
#[derive(Debug, Clone)]
pub struct HubTime {
    clock: Moment,
    ahead: Duration,
}

impl HubTime {
    /// The time of a hub that is opened when the clock shows `clock` and that has already shown `seen` to somebody.
    pub fn new(clock: Moment, seen: Moment) -> Self {
        Self { clock, ahead: seen.since(clock) }
    }

    /// Takes a reading of the clock and returns the hub's time.
    pub fn observe(&mut self, clock: Moment) -> Moment {
        if clock < self.clock {
            self.ahead += self.clock.since(clock);
        } else if !self.ahead.is_zero() {
            self.ahead = self.ahead.saturating_sub(clock.since(self.clock) / SLEW);
        }
        self.clock = clock;
        self.now()
    }

    /// The hub's time at the last reading.
    pub fn now(&self) -> Moment {
        self.clock.plus(self.ahead)
    }

    /// What the clock will show when the hub's time is `moment`, or a little before that.
    pub fn on_clock(&self, moment: Moment) -> Moment {
        moment.minus(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_YEARS: Duration = Duration::from_hours(10 * 365 * 24);

    #[test]
    fn arithmetic_carries_nanoseconds_both_ways() {
        let moment = Moment { seconds: 5, nanos: 900_000_000 };
        let later = moment.plus(Duration::from_millis(250));
        assert_eq!(later, Moment { seconds: 6, nanos: 150_000_000 });
        assert_eq!(later.minus(Duration::from_millis(250)), moment);
        assert_eq!(later.since(moment), Duration::from_millis(250));
        assert_eq!(moment.since(later), Duration::ZERO);
        assert_eq!(Moment::from(&moment.to_timestamp()), moment);
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_take_the_hub_back_or_stop_it() {
        let start = Moment::from_seconds(1_000_000_000);
        let mut time = HubTime::new(start, Moment::default());
        let ahead = time.observe(start.plus(TEN_YEARS));
        assert_eq!(ahead, start.plus(TEN_YEARS));
        let back = time.observe(start);
        assert_eq!(back, ahead, "the jump back is not seen");
        let after = time.observe(start.plus(Duration::from_mins(1)));
        let advanced = after.since(back);
        assert!(advanced > Duration::from_secs(55) && advanced <= Duration::from_mins(1), "{advanced:?}");
        assert!(time.on_clock(after) <= start.plus(Duration::from_mins(1)));
    }

    #[test]
    fn a_small_step_back_is_made_up_for() {
        let start = Moment::from_seconds(1_000_000_000);
        let mut time = HubTime::new(start, start);
        time.observe(start.minus(Duration::from_secs(2)));
        let clock = start.plus(Duration::from_mins(1));
        assert_eq!(time.observe(clock), clock);
    }

    #[test]
    fn a_reopened_hub_goes_on_from_what_it_has_shown() {
        let clock = Moment::from_seconds(1_000);
        let shown = Moment::from_seconds(5_000);
        assert_eq!(HubTime::new(clock, shown).now(), shown);
        assert_eq!(HubTime::new(shown, clock).now(), shown);
    }
}
