//! A small seeded generator (`SplitMix64`), so that a case is a function of its seed on every machine and in every
//! version of every library; and the settings of the random tests. It must never read a clock.

/// Numbers from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator for one place of a case: other places have other numbers, whatever is drawn before.
    pub(crate) fn at(seed: u64, place: &[u64]) -> Self {
        let mut state = seed;
        for part in place {
            state = Self(state ^ part.wrapping_mul(0xa076_1d64_78bd_642f)).next();
        }
        Self(state)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True in `percent` of all cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

/// How much to test: 1 is what one CI run does, a nightly run takes 10.
pub(crate) fn scale() -> f64 {
    match std::env::var("SERIATIM_TEST_SCALE") {
        Ok(text) => text.parse().expect("SERIATIM_TEST_SCALE is a number"),
        Err(_) => 1.0,
    }
}

/// `count` cases, scaled; at least one.
pub(crate) fn scaled(count: u32) -> u32 {
    ((f64::from(count) * scale()).round() as u32).max(1)
}

/// The seed of the test `name`, from `SERIATIM_TEST_SEED` or drawn from the hash keys that the standard library draws
/// for every process; printed, so that a failure can be replayed.
pub(crate) fn seed(name: &str) -> u64 {
    use std::hash::BuildHasher;
    let seed = match std::env::var("SERIATIM_TEST_SEED") {
        Ok(text) => text.parse().expect("SERIATIM_TEST_SEED is an unsigned integer"),
        Err(_) => std::hash::RandomState::new().hash_one(name),
    };
    println!("{name}: SERIATIM_TEST_SEED={seed} replays this test");
    seed
}
