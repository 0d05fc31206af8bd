//! Keys on their way into a table: one for each record, or one for each distinct value that a row group's pages hold.

use super::Part;
use crate::keys::{KeyRef, KeySource, NO_KEY, RowKeys};

/// The keys of consecutive records of a chunk.
pub(super) struct Source {
    pub(super) keys: RowKeys,
    /// For each key the first record of the chunk that has it, `u32::MAX` if none has; `None`: keys are those of the
    /// chunk's records, one by one.
    pub(super) first: Option<Vec<u32>>,
    /// The hash of each record's attributes; empty unless conflicts are errors.
    pub(super) attributes: Vec<u64>,
    /// How many keys.
    pub(super) count: usize,
    pub(super) form: Form,
}

/// How records have keys.
pub(super) enum Form {
    /// One by one.
    Records,
    /// As the rows of one row group.
    Group {
        rows: u32,
        nulls: u32,
        /// For each row the index of its key, `u32::MAX` for null; `None` if all rows are indices into the dictionary.
        keys: Option<Vec<u32>>,
    },
}

impl Source {
    /// What is kept of the records, given their keys' handles; also how many have no key.
    pub(super) fn part(&self, handles: Vec<u32>) -> (Part, u64) {
        match &self.form {
            Form::Records => {
                let nulls = handles.iter().filter(|&&handle| handle == NO_KEY).count();
                (Part::Rows(handles), nulls as u64)
            }
            Form::Group { rows, nulls, keys: None } => {
                (Part::Dictionary { rows: *rows, nulls: *nulls, handles }, u64::from(*nulls))
            }
            Form::Group { nulls, keys: Some(keys), .. } => {
                let handle = |&key: &u32| handles.get(key as usize).copied().unwrap_or(NO_KEY);
                (Part::Rows(keys.iter().map(handle).collect()), u64::from(*nulls))
            }
        }
    }

    /// How many records have no key.
    pub(super) fn nulls(&self) -> u64 {
        match &self.form {
            Form::Records => self.keys.nulls() as u64,
            Form::Group { nulls, .. } => u64::from(*nulls),
        }
    }
}

impl KeySource for Source {
    fn len(&self) -> usize {
        self.count
    }

    fn key(&self, index: usize) -> Option<KeyRef<'_>> {
        match &self.first {
            Some(first) if first[index] == u32::MAX => None,
            _ => self.keys.get(index),
        }
    }

    fn first(&self, index: usize) -> u32 {
        self.first.as_ref().map_or(index as u32, |first| first[index])
    }

    fn attributes(&self, index: usize) -> u64 {
        self.attributes.get(index).copied().unwrap_or_default()
    }
}
