//! Numbers for people: counts, sizes, durations, rates, and sizes as people write them. Must never be used where a
//! program reads.

use std::fmt::Write as _;

use seriatim_ingest::IdRange;
pub(crate) use seriatim_ingest::{counted, grouped as count};

/// Bytes in the unit that leaves one to four digits before the point.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A duration: two decimals below a minute, then minutes, then hours.
pub(crate) fn seconds(s: f64) -> String {
    // Rounded first, so that 59.999 is not "60.00 s".
    if s < 59.995 {
        return format!("{s:.2} s");
    }
    let whole = s.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

/// Records per second.
pub(crate) fn rate(records: u64, seconds: f64) -> String {
    // Below a tenth of a millisecond the clock says more about itself than about the work.
    count((records as f64 / seconds.max(1e-4)).round() as u64)
}

/// The IDs of a range, `1..78123`; with the step where it is not 1; a dash if there are none.
pub(crate) fn ids(range: Option<&IdRange>) -> String {
    let Some(range) = range else { return "-".to_owned() };
    let mut text = format!("{}..{}", range.first, range.last);
    if range.step != 1 {
        let _ = write!(text, " step {}", range.step);
    }
    text
}

/// A moment in RFC 3339 to the second, without the fraction: `2026-01-31 12:00:05Z`. What is no such moment stays.
pub(crate) fn moment(rfc3339: &str) -> String {
    match (rfc3339.get(..10), rfc3339.get(10..11), rfc3339.get(11..19)) {
        (Some(day), Some("T"), Some(time)) if rfc3339.ends_with('Z') => format!("{day} {time}Z"),
        _ => rfc3339.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{IdRange, bytes, count, counted, ids, moment, rate, seconds};

    #[test]
    fn counts_are_grouped() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (123_456, "123,456"), (2_000_000, "2,000,000")] {
            assert_eq!(count(n), text);
        }
        assert_eq!((counted(1, "file"), counted(0, "file")), ("1 file".to_owned(), "0 files".to_owned()));
    }

    #[test]
    fn sizes_and_durations_have_a_fitting_unit() {
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(bytes(58_020_550), "55.3 MiB");
        assert_eq!(seconds(1.824), "1.82 s");
        assert_eq!(seconds(59.999), "1 min 00 s");
        assert_eq!(seconds(7_260.0), "2 h 01 min");
        assert_eq!(rate(2_000_000, 2.0), "1,000,000");
    }

    #[test]
    fn ranges_say_their_step() {
        let range = |step| IdRange { first: 1, last: 9, step, count: 5 };
        assert_eq!(ids(Some(&range(1))), "1..9");
        assert_eq!(ids(Some(&range(2))), "1..9 step 2");
        assert_eq!(ids(None), "-");
    }

    #[test]
    fn moments_lose_their_fraction_only() {
        assert_eq!(moment("2026-01-31T12:00:05.123456Z"), "2026-01-31 12:00:05Z");
        assert_eq!(moment("2026-01-31T12:00:05Z"), "2026-01-31 12:00:05Z");
        assert_eq!(moment("yesterday"), "yesterday");
    }
}
