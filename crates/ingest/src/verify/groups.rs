//! The audit of numbers within groups: in each group they are 1, 2, 3, ... in the order of the rows, from the first file to
//! the last. Must never know how the numbers were given.

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
}

impl Groups {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { codec: None, all: Interner::new(false), last: Vec::new() }
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
        let (problem, groups) = (self.problems.remove("numbers"), self.groups.all.len());
        Some(summary("numbers", Some(&self.table.table), [problem], || {
            let per = group.columns.join(", ");
            format!("{} is 1, 2, 3, ... without a gap in each of the {groups} groups ({per})", group.number)
        }))
    }
}
