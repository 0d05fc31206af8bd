//! Functional dependencies: A determines B if every value of A always comes with one and the same value of B, null being
//! a value of B. Where A is null nothing is said. A dependency that could as well be chance has little evidence, which is
//! counted in bits; whoever asks decides how much is enough. Must never call something a dependency that one record of
//! the sample contradicts.

use super::coded::{Coded, NULL};
use crate::error::Result;
use crate::plan::in_parallel;

/// A dependency that holds in the sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Evidence {
    /// How many bits of surprise it would be if the columns had nothing to do with each other: each time that a value
    /// of A comes again is a test that B could have failed, an easy one if B has nearly always the same value.
    pub(super) bits: f64,
    /// In how many records A is null and B is not: what is kept of B by A's values does not have them.
    pub(super) lost: u32,
}

/// What each of some columns determines.
#[derive(Debug)]
pub(super) struct Dependencies {
    /// By determinant, then by dependent; nothing for columns that were not asked about.
    found: Vec<Vec<Option<Evidence>>>,
}

impl Dependencies {
    /// Tests each of `determinants` against all columns. One that is contradicted early costs next to nothing.
    pub(super) fn find(columns: &[Coded], determinants: &[usize], workers: usize) -> Result<Self> {
        let all: Vec<usize> = (0..columns.len()).collect();
        let agreements = in_parallel(workers, &all, |&column| Ok(columns[column].agreement()))?;
        let rows = in_parallel(workers, determinants, |&a| {
            let repeats = Repeats::of(&columns[a]);
            let test = |b: usize| if a == b { None } else { evidence(&repeats, &columns[b], agreements[b]) };
            Ok((0..columns.len()).map(test).collect::<Vec<_>>())
        })?;
        let mut found = vec![Vec::new(); columns.len()];
        for (&a, row) in determinants.iter().zip(rows) {
            found[a] = row;
        }
        Ok(Self { found })
    }

    /// The evidence that `a` determines `b`; `None` if it does not.
    pub(super) fn get(&self, a: usize, b: usize) -> Option<Evidence> {
        self.found[a].get(b).copied().flatten()
    }
}

fn evidence(a: &Repeats, b: &Coded, agreement: f64) -> Option<Evidence> {
    if b.is_constant() {
        return None;
    }
    let lost = a.determine(&b.codes)?;
    // Rounding may take the chance of agreement past 1.
    Some(Evidence { bits: a.pairs.len() as f64 * -agreement.min(1.0).log2(), lost })
}

/// Where a column's values come again: all that has to be known of a determinant, whatever it may determine.
#[derive(Debug)]
pub(super) struct Repeats {
    /// A record whose value an earlier record has, and the last such record.
    pairs: Vec<(u32, u32)>,
    /// Records without a value.
    nulls: Vec<u32>,
}

impl Repeats {
    /// Those of a column.
    pub(super) fn of(column: &Coded) -> Self {
        const UNSEEN: u32 = u32::MAX;
        let mut last = vec![UNSEEN; column.distinct as usize + 1];
        let mut repeats = Self { pairs: Vec::with_capacity(column.repeats() as usize), nulls: Vec::new() };
        for (row, &code) in (0..).zip(&column.codes) {
            if code == NULL {
                repeats.nulls.push(row);
                continue;
            }
            let before = std::mem::replace(&mut last[code as usize], row);
            if before != UNSEEN {
                repeats.pairs.push((row, before));
            }
        }
        repeats
    }

    /// Whether each value goes with one value of `b`; if so, in how many records there is no value and `b` has one.
    pub(super) fn determine(&self, b: &[u32]) -> Option<u32> {
        let holds = self.pairs.iter().all(|&(row, before)| b[row as usize] == b[before as usize]);
        holds.then(|| self.nulls.iter().filter(|&&row| b[row as usize] != NULL).count() as u32)
    }
}

/// Whether no two records have the same values in both columns, and none has a null in one of them.
pub(super) fn is_unique_pair(a: &Coded, b: &Coded) -> bool {
    if a.nulls > 0 || b.nulls > 0 {
        return false;
    }
    let mut pairs: Vec<u64> = a.codes.iter().zip(&b.codes).map(|(&a, &b)| u64::from(a) << 32 | u64::from(b)).collect();
    pairs.sort_unstable();
    pairs.windows(2).all(|two| two[0] != two[1])
}
