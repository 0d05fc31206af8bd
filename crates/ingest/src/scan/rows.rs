//! Keys on their way into a table: one for each record, or one for each distinct value that a row group's pages hold.

use super::Part;
use crate::keys::{KeyRef, KeySource, NO_KEY, RowKeys};

/// One key for each record.
pub(super) struct ByRecord {
    pub(super) keys: RowKeys,
    /// The hash of each record's attributes; empty unless conflicts are errors.
    pub(super) attributes: Vec<u64>,
    pub(super) records: usize,
}

impl KeySource for ByRecord {
    fn len(&self) -> usize {
        self.records
    }

    fn key(&self, index: usize) -> Option<KeyRef<'_>> {
        self.keys.get(index)
    }

    fn first(&self, index: usize) -> u32 {
        index as u32
    }

    fn attributes(&self, index: usize) -> u64 {
        self.attributes.get(index).copied().unwrap_or_default()
    }
}

/// The keys of a row group: the entries of its dictionary, then the values of its plain pages.
pub(super) struct ByGroup {
    pub(super) keys: RowKeys,
    /// For each key the first record of the chunk that has it; `u32::MAX`: none has.
    pub(super) first: Vec<u32>,
    /// For each row the index of its key, `u32::MAX` for null; `None` if no page was plain.
    pub(super) rows: Option<Vec<u32>>,
    pub(super) count: u32,
    pub(super) nulls: u32,
}

impl ByGroup {
    /// What is kept of the row group, given its keys' handles.
    pub(super) fn part(&self, handles: Vec<u32>) -> Part {
        match &self.rows {
            None => Part::Dictionary { rows: self.count, nulls: self.nulls, handles },
            Some(rows) => {
                Part::Rows(rows.iter().map(|&key| handles.get(key as usize).copied().unwrap_or(NO_KEY)).collect())
            }
        }
    }
}

impl KeySource for ByGroup {
    fn len(&self) -> usize {
        self.first.len()
    }

    fn key(&self, index: usize) -> Option<KeyRef<'_>> {
        if self.first[index] == u32::MAX { None } else { self.keys.get(index) }
    }

    fn first(&self, index: usize) -> u32 {
        self.first[index]
    }

    fn attributes(&self, _: usize) -> u64 {
        0
    }
}
