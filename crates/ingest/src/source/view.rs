//! A file's columns as those of the source that all files have together: under which name a file has a column, and its
//! values as the type that all have. Must never turn a value into another, nor into nothing.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::{FieldRef, Schema};
use arrow::util::display::array_value_to_string;

use super::nested::converted;
use crate::error::{BadFile, IngestError, Result};
use crate::plan::Chunk;

/// New names of columns by the old ones.
pub(crate) type Renames = BTreeMap<String, String>;

/// The name that the source has for a column of a file.
pub(crate) fn name_in_source<'a>(own: &'a str, renames: &'a Renames) -> &'a str {
    renames.get(own).map_or(own, String::as_str)
}

/// A column of the source in one file.
#[derive(Debug, Clone)]
pub(crate) struct FileColumn {
    /// The column as the source has it.
    pub(crate) field: FieldRef,
    /// Its place at the top of the file's schema; `None` if the file has no such column, and it is null there.
    pub(crate) own: Option<usize>,
}

impl FileColumn {
    /// Those of these columns that a file with this schema has, as it has them.
    pub(crate) fn all(file: &Schema, names: &[String]) -> Vec<Self> {
        let found = names.iter().filter_map(|name| file.fields().find(name));
        found.map(|(own, field)| Self { field: field.clone(), own: Some(own) }).collect()
    }
}

/// Where a file with the schema `file` has a column of the source.
pub(crate) fn place_in(file: &Schema, renames: &Renames, column: &str) -> Option<usize> {
    if renames.is_empty() {
        return file.index_of(column).ok();
    }
    file.fields().iter().position(|field| name_in_source(field.name(), renames) == column)
}

/// The values of a column of a chunk, as the source has it; `values` is what the file has, if it has the column.
pub(super) fn in_source(
    column: &FileColumn,
    values: Option<&ArrayRef>,
    own_name: &str,
    chunk: &Chunk,
    file: &str,
) -> Result<ArrayRef> {
    let to = column.field.data_type();
    let Some(values) = values else { return Ok(new_null_array(to, chunk.rows as usize)) };
    converted(values, to).map_err(|row| {
        let what = row.map_or_else(String::new, |row| {
            let value = array_value_to_string(values, row).unwrap_or_default();
            format!("the value {value} in row {} does not fit: ", chunk.first_row + row as u64)
        });
        let reason = format!("{what}the column is {} here, and is read as {to}", values.data_type());
        let bad = BadFile { column: Some(own_name.to_owned()), ..BadFile::new(file, reason) };
        IngestError::bad_file(bad).help("write the file again with a value that fits, or remove it, then run again")
    })
}
