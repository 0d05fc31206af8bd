//! Which bytes of a file are there: ranges, in order, none touching another. Knows nothing of files.

use std::ops::Range;

/// A set of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Coverage {
    ranges: Vec<Range<u64>>,
}

impl Coverage {
    /// Adds these bytes.
    pub(super) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let from = self.ranges.partition_point(|known| known.end < range.start);
        let to = self.ranges.partition_point(|known| known.start <= range.end);
        let start = self.ranges[from..to].first().map_or(range.start, |first| first.start.min(range.start));
        let end = self.ranges[from..to].last().map_or(range.end, |last| last.end.max(range.end));
        self.ranges.splice(from..to, std::iter::once(start..end));
    }

    /// The bytes of `wanted` that are not in the set, in order, each once.
    pub(super) fn missing(&self, wanted: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut all = Self::default();
        wanted.iter().cloned().for_each(|range| all.add(range));
        let mut missing = Vec::new();
        for range in all.ranges {
            let mut at = range.start;
            let first = self.ranges.partition_point(|known| known.end <= range.start);
            for known in self.ranges[first..].iter().take_while(|known| known.start < range.end) {
                if at < known.start {
                    missing.push(at..known.start);
                }
                at = known.end;
            }
            if at < range.end {
                missing.push(at..range.end);
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_ranges_is_the_set_of_their_bytes() {
        let mut random = 42_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..200 {
            let (mut set, mut bytes) = (Coverage::default(), [false; 64]);
            for _ in 0..next(12) {
                let start = next(60);
                let range = start..start + next(4);
                bytes[range.start as usize..range.end as usize].fill(true);
                set.add(range);
            }
            assert!(set.ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "{set:?}");
            let wanted = [next(32)..32 + next(32), next(8)..next(64)];
            let missing = set.missing(&wanted);
            for byte in 0..64 {
                let is_wanted = wanted.iter().any(|range| range.contains(&byte));
                let found = missing.iter().filter(|range| range.contains(&byte)).count();
                assert_eq!(found, usize::from(is_wanted && !bytes[byte as usize]), "{byte}: {set:?} {wanted:?}");
            }
        }
    }
}
