//! Conversions between the standard library's points in time and the protocol's. This module must never read a clock.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

/// The last second that the protocol can name: 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;

/// The protocol's form of a point in time; what lies beyond the year 9999 becomes its last second.
pub(crate) fn to_timestamp(time: SystemTime) -> Timestamp {
    let timestamp = Timestamp::from(time);
    if timestamp.seconds > LAST_SECOND { Timestamp { seconds: LAST_SECOND, nanos: 0 } } else { timestamp }
}

/// The standard library's form; a timestamp that it cannot hold becomes the epoch.
pub(crate) fn to_system_time(timestamp: &Timestamp) -> SystemTime {
    SystemTime::try_from(*timestamp).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A later point in time, at most the last second of the year 9999.
pub(crate) fn later(from: &Timestamp, by: Duration) -> Timestamp {
    to_system_time(from).checked_add(by).map_or(Timestamp { seconds: LAST_SECOND, nanos: 0 }, to_timestamp)
}

/// How long after `from` the point `to` lies; zero if it lies before.
pub(crate) fn elapsed(from: &Timestamp, to: &Timestamp) -> Duration {
    to_system_time(to).duration_since(to_system_time(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_beyond_the_calendar_is_capped() {
        let now = Timestamp { seconds: 1_700_000_000, nanos: 5 };
        assert_eq!(later(&now, Duration::from_nanos(10)), Timestamp { seconds: 1_700_000_000, nanos: 15 });
        assert_eq!(later(&now, Duration::MAX).seconds, LAST_SECOND);
        assert_eq!(later(&now, Duration::from_secs(u64::from(u32::MAX) * 100)).seconds, LAST_SECOND);
    }

    #[test]
    fn elapsed_never_goes_backwards() {
        let early = Timestamp { seconds: 10, nanos: 0 };
        let late = Timestamp { seconds: 12, nanos: 0 };
        assert_eq!(elapsed(&early, &late), Duration::from_secs(2));
        assert_eq!(elapsed(&late, &early), Duration::ZERO);
    }
}
