//! The values of some rows as they were found in a column chunk: as indices into its dictionary as long as there are
//! nothing else, as values otherwise. They become an array for whoever needs one; where they are written as they are,
//! the indices suffice. It must never decide which rows those are.

use std::ops::Range;

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use super::chunk::Fault;
use super::values::Values;

/// The values of some rows of a column chunk.
#[derive(Debug, Clone)]
pub(crate) struct Picked {
    /// Which rows have a value; `None`: all.
    valid: Option<Vec<bool>>,
    pub(super) form: Form,
}

/// How the values are known.
#[derive(Debug, Clone)]
pub(super) enum Form {
    /// As entries of a dictionary, which has them all.
    Coded { dictionary: Values, indices: Vec<u32> },
    /// One by one.
    Plain(Values),
}

impl Picked {
    /// Values that all rows have.
    pub(crate) fn all(values: Values) -> Self {
        Self { valid: None, form: Form::Plain(values) }
    }

    pub(super) fn new(valid: Vec<bool>, form: Form) -> Self {
        Self { valid: valid.contains(&false).then_some(valid), form }
    }

    /// Whether the values, byte strings, are text.
    pub(super) fn is_text(&self) -> bool {
        match &self.form {
            Form::Plain(values) => values.is_text(),
            // Entries that no row has may be anything.
            Form::Coded { dictionary, indices } => {
                let is_text = |&entry: &u32| simdutf8::basic::from_utf8(dictionary.byte_string(entry as usize)).is_ok();
                dictionary.is_text() || indices.iter().all(is_text)
            }
        }
    }

    /// Which of these rows have a value, and where their values stand among all; `None`: all rows have one.
    pub(super) fn part(&self, rows: Range<usize>) -> (Option<&[bool]>, Range<usize>) {
        let Some(valid) = &self.valid else { return (None, rows) };
        let count = |valid: &[bool]| valid.iter().filter(|&&valid| valid).count();
        let before = count(&valid[..rows.start]);
        let here = &valid[rows];
        (Some(here), before..before + count(here))
    }

    /// The values as an array of `data_type`.
    pub(crate) fn into_array(self, data_type: &DataType) -> Result<ArrayRef, Fault> {
        let mut values = match self.form {
            Form::Plain(values) => values,
            Form::Coded { dictionary, indices } => {
                let mut values = dictionary.none();
                values.pick(&dictionary, indices.into_iter())?;
                values
            }
        };
        let nulls = self.valid.map(NullBuffer::from);
        if let Some(nulls) = &nulls {
            values.spread(nulls);
        }
        values.into_array(nulls, data_type)
    }
}
