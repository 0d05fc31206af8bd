//! Points in time as the contract writes them, and as clients may. This module must never read a clock.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use prost_types::Timestamp;

fn moment(timestamp: &Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::new(timestamp.seconds, timestamp.nanos).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// To the second, as statuses have it: `2026-03-01T12:00:00Z`.
pub(crate) fn seconds(timestamp: &Timestamp) -> String {
    moment(timestamp).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// With all its digits, as histories and entities have it; .NET's are seven.
pub(crate) fn full(timestamp: &Timestamp) -> String {
    let moment = moment(timestamp);
    format!("{}.{:07}Z", moment.strftime("%Y-%m-%dT%H:%M:%S"), moment.subsec_nanosecond().unsigned_abs() / 100)
}

/// Reads RFC 3339, or a date and time without an offset (then it is UTC), or a date.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let moment = text
        .parse::<jiff::Timestamp>()
        .ok()
        .or_else(|| utc(text.parse::<DateTime>().ok()?))
        .or_else(|| utc(text.parse::<Date>().ok()?.to_datetime(jiff::civil::Time::midnight())))?;
    Some(Timestamp { seconds: moment.as_second(), nanos: moment.subsec_nanosecond() })
}

fn utc(time: DateTime) -> Option<jiff::Timestamp> {
    TimeZone::UTC.to_timestamp(time).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_contract_has_them() {
        let at = Timestamp { seconds: 1_519_795_129, nanos: 345_237_299 };
        assert_eq!(seconds(&at), "2018-02-28T05:18:49Z");
        assert_eq!(full(&at), "2018-02-28T05:18:49.3452372Z");
        assert_eq!(full(&Timestamp { seconds: 0, nanos: 0 }), "1970-01-01T00:00:00.0000000Z");
    }

    #[test]
    fn times_are_read_in_the_usual_forms() {
        let at = Timestamp { seconds: 1_519_795_129, nanos: 0 };
        for text in ["2018-02-28T05:18:49Z", "2018-02-28T06:18:49+01:00", "2018-02-28T05:18:49", "2018-02-28 05:18:49"]
        {
            assert_eq!(parse(text), Some(at), "{text}");
        }
        assert_eq!(parse("2018-02-28"), Some(Timestamp { seconds: 1_519_776_000, nanos: 0 }));
        for wrong in ["", "yesterday", "28.02.2018", "2018-13-01"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
