//! Which tables to make of the columns. A column that determines others is the key of a kind of thing; each other column
//! goes to the most specific thing that determines it, and what nothing determines belongs to the record itself, which is
//! a row of the last table. Must never make a table of a dependency that is likely to be chance: a table too few is
//! mended more easily than one too many.

use super::coded::Coded;
use super::depend::{Dependencies, Evidence, is_unique_pair};
use super::names::{Rank, is_line_number, rank};
use crate::error::Result;

/// Of how many records in a hundred a table may lose what they say because their key is null.
const LOST_PERCENT: u64 = 25;
/// A key that does not look like one must come again so often: of its values, at most so many in a hundred are new.
const NEW_PERCENT: u64 = 70;
/// Fewer values than this are a category and no kind of thing, unless their name says that they are keys.
const CATEGORY: u32 = 10;
/// With fewer records, the rule above would leave nothing.
const SMALL: usize = 100;

/// The tables, each after those that it refers to; the last one is that of the records.
#[derive(Debug)]
pub(super) struct Design {
    pub(super) tables: Vec<Thing>,
    /// Columns that determine others, and are no table; with what they determine.
    pub(super) passed_over: Vec<(usize, Vec<usize>)>,
    /// What determines what.
    pub(super) dependencies: Dependencies,
}

/// One table, in indices of columns and of tables.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Thing {
    /// The columns of the key; none where every record is a row.
    pub(super) key: Vec<usize>,
    /// The tables that it refers to.
    pub(super) references: Vec<usize>,
    /// Its other columns.
    pub(super) columns: Vec<usize>,
}

impl Design {
    /// The table of the records.
    pub(super) fn records(&self) -> &Thing {
        // There is always one, even if nothing determines anything.
        &self.tables[self.tables.len() - 1]
    }
}

/// Finds the tables.
pub(super) fn design(columns: &[Coded], workers: usize) -> Result<Design> {
    let candidates: Vec<usize> = (0..columns.len()).filter(|&column| may_be_key(&columns[column])).collect();
    let dependencies = Dependencies::find(columns, &candidates, workers)?;
    let record_key = record_key(columns, &candidates);
    let ranks = columns.iter().map(rank).collect();
    let mut view = View { columns, ranks, dependencies: &dependencies, chosen: candidates };
    // A line number is no thing.
    view.chosen.retain(|column| record_key.get(1) != Some(column));
    view.keep_one_of_each_kind();
    let passed_over = view.choose();
    let tables = view.tables(&record_key);
    Ok(Design { tables, passed_over, dependencies })
}

/// Whether a column can be the key of a table that it is worth to look for.
fn may_be_key(column: &Coded) -> bool {
    if !column.can_be_key() || column.is_constant() || column.distinct < 2 || column.repeats() == 0 {
        return false;
    }
    if rank(column) <= Rank::Code {
        return true;
    }
    let is_category = column.distinct < CATEGORY && column.codes.len() >= SMALL;
    !is_category && u64::from(column.distinct) * 100 <= u64::from(column.filled()) * NEW_PERCENT
}

/// The key of the record itself: a column that says so by its name and is different in every record, or a key of something
/// and a line number within it. A column that only happens to be unique is none: with such a key,
/// records of later files that repeat a value would be dropped.
fn record_key(columns: &[Coded], candidates: &[usize]) -> Vec<usize> {
    let unique = (0..columns.len()).filter(|&c| columns[c].is_unique() && columns[c].can_be_key());
    let named = unique.filter(|&c| rank(&columns[c]) <= Rank::Known);
    if let Some(best) = named.min_by_key(|&c| (rank(&columns[c]), c)) {
        return vec![best];
    }
    let numbers = (0..columns.len()).filter(|&c| columns[c].is_integer() && is_line_number(&columns[c].name));
    let pairs = numbers.flat_map(|number| candidates.iter().map(move |&of| (of, number)));
    let is_key = |&(of, number): &(usize, usize)| {
        of != number
            && rank(&columns[of]) <= Rank::Known
            && u64::from(columns[of].distinct) * u64::from(columns[number].distinct) >= columns[of].codes.len() as u64
            && is_unique_pair(&columns[of], &columns[number])
    };
    pairs
        .filter(is_key)
        .min_by_key(|&(of, number)| (rank(&columns[of]), of, number))
        .map_or(vec![], |(a, b)| vec![a, b])
}

/// The keys that are chosen so far, and what follows from them.
struct View<'a> {
    columns: &'a [Coded],
    ranks: Vec<Rank>,
    dependencies: &'a Dependencies,
    chosen: Vec<usize>,
}

impl View<'_> {
    /// The evidence that `a` determines `b`, if there is enough of it.
    fn determines(&self, a: usize, b: usize) -> Option<Evidence> {
        let evidence = self.dependencies.get(a, b)?;
        let records = self.columns[a].codes.len();
        let loses_too_much = u64::from(evidence.lost) * 100 > records as u64 * LOST_PERCENT;
        (evidence.bits >= enough(records, self.ranks[a]) && !loses_too_much).then_some(evidence)
    }

    /// Whether a row of `a` refers to one of `b`. Nothing can refer to itself by way of others, since counts only fall.
    fn refers(&self, a: usize, b: usize) -> bool {
        let size = |key: usize| (self.columns[key].distinct, std::cmp::Reverse(key));
        size(a) > size(b) && self.determines(a, b).is_some()
    }

    /// Columns that determine each other tell the same things apart (a number and an e-mail): one of them is the key.
    fn keep_one_of_each_kind(&mut self) {
        let mut by_rank = self.chosen.clone();
        by_rank.sort_by_key(|&c| (self.ranks[c], self.columns[c].nulls, c));
        let mut kept: Vec<usize> = Vec::new();
        for column in by_rank {
            let is_same =
                |&other: &usize| self.determines(column, other).is_some() && self.determines(other, column).is_some();
            if !kept.iter().any(is_same) {
                kept.push(column);
            }
        }
        kept.sort_unstable();
        self.chosen = kept;
    }

    /// Drops keys that are not worth a table, the least likely first, until all are; those that could be one.
    fn choose(&mut self) -> Vec<(usize, Vec<usize>)> {
        let mut passed_over = Vec::new();
        loop {
            let owners = self.owners();
            let weak = self.chosen.iter().copied().filter(|&key| !self.is_worth_it(key, &owners));
            let Some(weakest) = weak.min_by_key(|&c| (std::cmp::Reverse(self.ranks[c]), self.columns[c].distinct, c))
            else {
                passed_over.sort_unstable();
                return passed_over;
            };
            self.chosen.retain(|&key| key != weakest);
            let own: Vec<usize> = (0..owners.len()).filter(|&c| owners[c] == Some(weakest)).collect();
            if !own.is_empty() {
                passed_over.push((weakest, own));
            }
        }
    }

    /// The key whose table each column goes to: the most specific one that determines it.
    fn owners(&self) -> Vec<Option<usize>> {
        let owner = |column: usize| {
            if self.chosen.contains(&column) {
                return None;
            }
            let keys = self.chosen.iter().copied().filter(|&key| self.determines(key, column).is_some());
            keys.min_by_key(|&key| (self.columns[key].distinct, key))
        };
        (0..self.columns.len()).map(owner).collect()
    }

    /// Whether a table with this key says more than its key does.
    fn is_worth_it(&self, key: usize, owners: &[Option<usize>]) -> bool {
        let own = owners.iter().filter(|&&owner| owner == Some(key)).count();
        let refers = self.chosen.iter().any(|&other| self.refers(key, other));
        if own == 0 && !refers {
            return false;
        }
        let column = &self.columns[key];
        if self.ranks[key] <= Rank::Code {
            return true;
        }
        // A city and its country are what is said of a customer, and no things of their own, unless much is said of the
        // city, and each is that of several customers.
        let above = self.chosen.iter().copied().filter(|&other| self.refers(other, key));
        match above.map(|other| self.columns[other].distinct).min() {
            Some(least) => own >= 2 && column.distinct <= least / 2,
            None if column.is_integer() => own >= 2,
            None => own >= 1,
        }
    }

    /// The keys that `key` determines and nothing in between does; of the record, where `key` is `None`.
    fn direct(&self, key: Option<usize>) -> Vec<usize> {
        let below = |&other: &usize| key.is_none_or(|key| self.refers(key, other));
        let all: Vec<usize> = self.chosen.iter().copied().filter(below).collect();
        let is_direct = |&other: &usize| !all.iter().any(|&mid| self.refers(mid, other));
        all.iter().copied().filter(is_direct).collect()
    }

    /// How many tables stand one behind the other below this one.
    fn depth(&self, key: usize) -> usize {
        self.direct(Some(key)).into_iter().map(|other| 1 + self.depth(other)).max().unwrap_or(0)
    }

    fn tables(&self, record_key: &[usize]) -> Vec<Thing> {
        let owners = self.owners();
        let mut keys = self.chosen.clone();
        keys.sort_by_key(|&key| (self.depth(key), key));
        let place = |key: &usize| keys.iter().position(|other| other == key);
        let of = |owner: Option<usize>| {
            let free = |c: &usize| !self.chosen.contains(c) && !record_key.contains(c) && owners[*c] == owner;
            (0..self.columns.len()).filter(free).collect::<Vec<usize>>()
        };
        let mut tables: Vec<Thing> = Vec::with_capacity(keys.len() + 1);
        for &key in &keys {
            let mut references: Vec<usize> = self.direct(Some(key)).iter().filter_map(place).collect();
            references.sort_unstable();
            tables.push(Thing { key: vec![key], references, columns: of(Some(key)) });
        }
        let mut references: Vec<usize> = self.direct(None).iter().filter_map(place).collect();
        // The table of which a record is a part comes first: the one with the most rows.
        references.sort_by_key(|&table| (std::cmp::Reverse(self.columns[keys[table]].distinct), table));
        tables.push(Thing { key: record_key.to_vec(), references, columns: of(None) });
        tables
    }
}

/// How many bits of evidence a dependency needs: the more records there are, the more can be asked for, up to one
/// chance in a thousand. That a column is called a key counts where there are few records; where there are many, what
/// they say counts.
fn enough(records: usize, rank: Rank) -> f64 {
    let records = records.max(2) as f64;
    let bits = (records.log2() * 1.2).clamp(2.0, 10.0);
    if rank <= Rank::Code { (bits * records / (records + 100.0)).max(1.0) } else { bits }
}
