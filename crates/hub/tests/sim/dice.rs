//! The one source of chance in a simulation, and what it decides first: how likely each fault is. The generator is
//! written out here because a seed that is committed must mean the same for ever. This module must never draw on
//! anything but its seed.

use std::ops::Range;
use std::time::Duration;

/// `SplitMix64`: a full period, no state to warm up, ten lines.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The dice of one purpose under a seed: what is drawn for one purpose does not shift the others.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut dice = Self(seed ^ fnv(purpose.as_bytes()));
        dice.next();
        dice
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub(crate) fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.unit() < p
    }

    /// From 0 to 1, without 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start).max(1)
    }

    /// Evenly over orders of magnitude: as often between 1 and 10 as between 10 and 100.
    pub(crate) fn spread(&mut self, range: Range<f64>) -> f64 {
        range.start * (range.end / range.start).powf(self.unit())
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }
}

/// FNV-1a.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Simulated time: microseconds since the simulation began.
pub(crate) type Time = u64;
pub(crate) const SECOND: Time = 1_000_000;
pub(crate) const MINUTE: Time = 60 * SECOND;

/// How likely each fault is in one simulation. 0 and `None` mean never.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Faults {
    /// Mean time between deaths of the hub's process, and between those of a worker's.
    pub(crate) crash_every: Option<Time>,
    pub(crate) worker_dies_every: Option<Time>,
    /// Of each commit: it fails, and the hub is fenced.
    pub(crate) commit_fails: f64,
    /// The longest that a commit takes.
    pub(crate) sync: Time,
    /// Of each message: it gets lost, its answer gets lost, it comes two or three times, it comes late.
    pub(crate) lost: f64,
    pub(crate) answer_lost: f64,
    pub(crate) repeated: f64,
    pub(crate) late: f64,
    /// The longest way of a message that is not late: messages overtake each other within it.
    pub(crate) way: Time,
    /// Of each work item: the worker never sees it, is too slow for it, gives it back, does only a part of it.
    pub(crate) item_lost: f64,
    pub(crate) slow: f64,
    pub(crate) abandoned: f64,
    pub(crate) partly: f64,
    /// Mean time between jumps of the clock, and between times for which it stands still.
    pub(crate) clock_jumps_every: Option<Time>,
    pub(crate) clock_stops_every: Option<Time>,
    /// The longest that a tick is late.
    pub(crate) tick_late: Time,
}

impl Faults {
    pub(crate) fn none() -> Self {
        Self {
            crash_every: None,
            worker_dies_every: None,
            commit_fails: 0.0,
            sync: 5_000,
            lost: 0.0,
            answer_lost: 0.0,
            repeated: 0.0,
            late: 0.0,
            way: 2_000,
            item_lost: 0.0,
            slow: 0.0,
            abandoned: 0.0,
            partly: 0.0,
            clock_jumps_every: None,
            clock_stops_every: None,
            tick_late: 0,
        }
    }

    /// Every kind of fault: each of them absent in a third of all seeds, else anything from rare to constant.
    pub(crate) fn drawn(dice: &mut Dice) -> Self {
        let mut share = |most: f64| if dice.chance(0.33) { 0.0 } else { dice.spread(0.001..most) };
        let (lost, answer_lost, repeated, late) = (share(0.3), share(0.3), share(0.7), share(0.2));
        let (item_lost, slow, abandoned, partly) = (share(0.2), share(0.2), share(0.2), share(0.5));
        let commit_fails = share(0.02);
        let mut every = |least: Time| {
            let drawn = dice.spread(least as f64..(20 * MINUTE) as f64);
            (!dice.chance(0.33)).then_some(drawn as Time)
        };
        let (crash_every, worker_dies_every) = (every(3 * SECOND), every(5 * SECOND));
        let (clock_jumps_every, clock_stops_every) = (every(20 * SECOND), every(30 * SECOND));
        Self {
            crash_every,
            worker_dies_every,
            commit_fails,
            sync: dice.spread(100.0..2e6) as Time,
            lost,
            answer_lost,
            repeated,
            late,
            way: dice.spread(100.0..3e6) as Time,
            item_lost,
            slow,
            abandoned,
            partly,
            clock_jumps_every,
            clock_stops_every,
            tick_late: if dice.chance(0.5) { 0 } else { dice.spread(1e3..1e7) as Time },
        }
    }

    /// Messages that come one to three times, late and out of order; nothing else goes wrong.
    pub(crate) fn of_delivery(dice: &mut Dice) -> Self {
        Self { repeated: 0.7, late: 0.1, way: dice.spread(1e4..5e6) as Time, ..Self::none() }
    }

    /// A clock that jumps and stops all the time, and processes that die now and then meanwhile.
    pub(crate) fn of_clocks(dice: &mut Dice) -> Self {
        Self {
            clock_jumps_every: Some(dice.within(5 * SECOND..MINUTE)),
            clock_stops_every: Some(dice.within(10 * SECOND..2 * MINUTE)),
            crash_every: dice.chance(0.5).then_some(2 * MINUTE),
            tick_late: dice.within(0..SECOND),
            ..Self::none()
        }
    }

    /// When something that happens so often on average happens next.
    pub(crate) fn next(every: Option<Time>, dice: &mut Dice) -> Option<Time> {
        every.map(|mean| (-(1.0 - dice.unit()).ln() * mean as f64) as Time + 1)
    }

    /// How long a message is under way.
    pub(crate) fn way(&self, dice: &mut Dice) -> Time {
        if dice.chance(self.late) { dice.within(SECOND..90 * SECOND) } else { dice.within(50..self.way.max(100)) }
    }
}

/// What a clock shows beside the true time: where it was set, and since when it stands still.
#[derive(Debug, Clone, Default)]
pub(crate) struct WallClock {
    /// Seconds that it is ahead of the true time.
    pub(crate) ahead: i64,
    pub(crate) stopped_at: Option<Time>,
}

const TEN_YEARS: i64 = 10 * 365 * 24 * 3600;

impl WallClock {
    pub(crate) fn shows(&self, time: Time) -> seriatim_hub::core::Moment {
        let since = Duration::from_micros(self.stopped_at.unwrap_or(time));
        seriatim_hub::core::Moment::from_seconds(1_800_000_000 + self.ahead).plus(since)
    }

    /// Somebody sets the clock: by seconds, by an hour, by ten years; often back to where it should be.
    pub(crate) fn jump(&mut self, dice: &mut Dice) {
        let by = [dice.within(1..90) as i64, 3600, TEN_YEARS][dice.below(3)];
        self.ahead = match dice.below(5) {
            0 | 1 => (self.ahead + by).min(2 * TEN_YEARS),
            2 | 3 => (self.ahead - by).max(-2 * TEN_YEARS),
            _ => 0,
        };
    }
}
