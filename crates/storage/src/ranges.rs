//! Which requests fetch which bytes: ranges that lie close together become one request, large ones several. Must never
//! fetch much that nobody asked for.

use std::ops::Range;

/// The most bytes of one request: enough that its latency matters little, few enough that several run side by side.
const MOST: u64 = 8 << 20;

/// Bytes between two ranges that are fetched for nothing, at the most: a request costs about as much as they do.
const GAP: u64 = 128 << 10;

/// And at the most this part of all that is fetched.
const WASTE: u64 = 50;

/// The requests for `ranges`, in order. Together they cover every byte that is asked for, and each byte once.
pub(crate) fn requests(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> = ranges.iter().filter(|range| !range.is_empty()).cloned().collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    let (mut wanted, mut idle) = (0, 0);
    for range in sorted {
        let Some(last) = joined.last_mut().filter(|last| last.end + GAP >= range.start) else {
            wanted += range.end - range.start;
            joined.push(range);
            continue;
        };
        let gap = range.start.saturating_sub(last.end);
        let more = range.end.saturating_sub(last.end.max(range.start));
        if (idle + gap) * WASTE > wanted + more {
            wanted += more;
            joined.push(range);
        } else {
            idle += gap;
            wanted += more;
            last.end = last.end.max(range.end);
        }
    }
    joined.into_iter().flat_map(split).collect()
}

/// Parts of about the same size, so that none is a rest of a few bytes.
fn split(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let length = range.end - range.start;
    let parts = length.div_ceil(MOST);
    (0..parts).map(move |part| range.start + length * part / parts..range.start + length * (part + 1) / parts)
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one range is what is meant")]
mod tests {
    use super::*;

    const K: u64 = 1 << 10;

    #[test]
    fn close_ranges_become_one_request_and_distant_ones_do_not() {
        let close = [0..1000 * K, 1010 * K..2000 * K, 2000 * K..2100 * K];
        assert_eq!(requests(&close), [0..2100 * K]);
        assert_eq!(requests(&[0..1000 * K, 2000 * K..3000 * K]).len(), 2);
        assert_eq!(requests(&[5..5]), []);
    }

    #[test]
    fn little_is_fetched_that_nobody_asked_for() {
        let many: Vec<Range<u64>> = (0..1000).map(|i| i * 100 * K..i * 100 * K + 50 * K).collect();
        let fetched: u64 = requests(&many).iter().map(|r| r.end - r.start).sum();
        assert!(fetched <= 51 * 1000 * K, "{fetched}");
    }

    #[test]
    fn every_byte_is_in_one_request_and_no_request_is_too_large() {
        let ranges = [100 << 20..150 << 20, 0..1, 7..9, 3..8, 120 << 20..151 << 20];
        let requests = requests(&ranges);
        assert!(requests.iter().all(|r| r.end - r.start <= MOST));
        assert!(requests.windows(2).all(|pair| pair[0].end <= pair[1].start), "{requests:?}");
        for range in ranges {
            let covered: u64 =
                requests.iter().map(|r| r.end.min(range.end).saturating_sub(r.start.max(range.start))).sum();
            assert_eq!(covered, range.end - range.start);
        }
    }
}
