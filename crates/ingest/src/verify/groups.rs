//! The audit of numbers within groups: in each group they are 1, 2, 3, ... in the order of the rows, from the first file to
//! the last. Must never know how the numbers were given.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::Int64Type;

use super::{Audit, summary};
use crate::keys::{Interner, KeyCodec};
use crate::report::VerifyCheck;

/// Groups, and the last number of each.
pub(super) struct Groups {
    codec: Option<KeyCodec>,
    all: Interner,
    last: Vec<i64>,
    /// Of a table that is partitioned, whose rows come in another order: the numbers of each group, each once.
    seen: HashSet<(u32, i64)>,
}

impl Groups {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { codec: None, all: Interner::new(false), last: Vec::new(), seen: HashSet::new() }
    }

    /// The first number that a group lacks, and the group's number.
    fn missing(&self) -> Option<(u32, i64)> {
        let lacks =
            |(group, last): (u32, &i64)| (1..*last).find(|n| !self.seen.contains(&(group, *n))).map(|n| (group, n));
        // As many numbers as the highest one says are all of them.
        let full = self.seen.len() as i64 == self.last.iter().sum::<i64>();
        if full { None } else { (0..).zip(&self.last).find_map(lacks) }
    }
}

impl Audit<'_> {
    /// The next number of each row's group must be the row's.
    pub(super) fn numbers(&mut self, columns: &[ArrayRef], numbers: &ArrayRef, file: &str) -> Result<(), String> {
        let numbers = numbers.as_primitive_opt::<Int64Type>().ok_or("the numbers within groups are not of 64 bits")?;
        if self.groups.codec.is_none() {
            let types = columns.iter().map(|column| column.data_type().clone()).collect();
            self.groups.codec = Some(KeyCodec::with_nulls(types).map_err(|e| e.message)?);
        }
        let Some(codec) = self.groups.codec.clone() else { return Err("no groups".to_owned()) };
        let keys = codec.encode(columns);
        for (row, found) in numbers.iter().enumerate() {
            let key = keys.get(row).ok_or("a group has no form")?;
            let (group, new) = self.groups.all.intern(key);
            if new {
                self.groups.last.push(0);
            }
            let last = &mut self.groups.last[group as usize];
            if self.scattered.is_some() {
                let number = found.filter(|&number| number > 0 && self.groups.seen.insert((group, number)));
                if let Some(number) = number {
                    *last = number.max(*last);
                    continue;
                }
                let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
                let (row, group) = (self.rows + row as u64, codec.display(key));
                let text = format!(
                    "{file}: row {row} of the table has the number {found} in the group {group}, which is no \
                                    number of its own"
                );
                self.problem("numbers", text);
                return Ok(());
            }
            *last += 1;
            if found != Some(*last) {
                let (due, row) = (*last, self.rows + row as u64);
                let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
                let group = codec.display(key);
                self.problem(
                    "numbers",
                    format!(
                        "{file}: row {row} of the table has the number {found} in the group {group} where {due} is due"
                    ),
                );
                return Ok(());
            }
        }
        Ok(())
    }

    /// What is told of them.
    pub(super) fn numbers_check(&mut self) -> Option<VerifyCheck> {
        let group = self.table.id.as_ref()?.group.as_ref()?;
        if self.scattered.is_some()
            && let Some((_, missing)) = self.groups.missing()
        {
            self.problem("numbers", format!("a group has no row with the {} {missing}", group.number));
        }
        let (problem, groups) = (self.problems.remove("numbers"), self.groups.all.len());
        Some(summary("numbers", Some(&self.table.table), [problem], || {
            let per = group.columns.join(", ");
            format!("{} is 1, 2, 3, ... without a gap in each of the {groups} groups ({per})", group.number)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g2_a_number_that_no_row_of_a_partitioned_table_has_is_found() {
        let with = |numbers: &[(u32, i64)], last: Vec<i64>| {
            Groups { seen: numbers.iter().copied().collect(), last, ..Groups::new() }.missing()
        };
        assert_eq!(with(&[], vec![]), None);
        assert_eq!(with(&[(0, 1), (1, 2), (1, 1), (0, 2)], vec![2, 2]), None);
        assert_eq!(with(&[(0, 1), (1, 3), (1, 1)], vec![1, 3]), Some((1, 2)));
        assert_eq!(with(&[(0, 2)], vec![2]), Some((0, 1)));
    }
}
