//! How many rows make a file of about the size that is wanted (`output.target_file_size`). It follows from the footers of
//! the sources alone, so that files are cut the same whoever writes them and however long it takes. Must never look at
//! what was written.

use std::collections::HashMap;

use arrow::datatypes::DataType;
use parquet::file::metadata::RowGroupMetaData;

use crate::layout::{Layout, TableLayout};
use crate::source::FileFacts;

/// Fewer rows than this make no file of their own: one is hardly smaller for it.
const LEAST_ROWS: u64 = 16_384;
/// More rows than this are in no file.
const MOST_ROWS: u64 = 1 << 26;
/// What an ID takes, being the difference to the one before, or one of a few.
const ID_BYTES: f64 = 2.0;

/// How many rows of each table make a file of `target` bytes.
pub(crate) fn rows_of_files(target: u64, layout: &Layout, sources: &[FileFacts]) -> Vec<u64> {
    let taken = bytes_of_columns(sources);
    let rows = |table: &TableLayout| {
        // A list's columns are all one column of the source.
        let taken = |name: &str| taken.get(name).filter(|_| table.list.is_none());
        let bytes: f64 = columns(table).map(|(name, data_type)| width(table, data_type, taken(name))).sum();
        let ids = usize::from(table.id.is_some()) + table.references.len();
        let row = (bytes + ids as f64 * ID_BYTES).max(1.0);
        ((target as f64 / row) as u64).clamp(LEAST_ROWS, MOST_ROWS)
    };
    layout.tables.iter().map(rows).collect()
}

/// How many records have the rows of a file of some table, at least one: an element is a part of a record.
pub(crate) fn records_of_files(rows: &[u64], layout: &Layout, sources: &[FileFacts]) -> Option<u64> {
    let records = |(table, &rows): (&TableLayout, &u64)| match table.list {
        None => rows,
        Some(list) => (rows as f64 / values_of_column(layout.root_of(list), sources).max(1.0)).max(1.0) as u64,
    };
    layout.tables.iter().zip(rows).map(records).min()
}

/// How many values a record has in a column of the sources, about.
fn values_of_column(root: &str, sources: &[FileFacts]) -> f64 {
    let groups = || sources.iter().flat_map(|source| source.footer.metadata().row_groups());
    let rows: i64 = groups().map(|group| group.num_rows().max(0)).sum();
    let of_group = |group: &RowGroupMetaData| {
        let own =
            group.columns().iter().filter(|column| column.column_path().parts().first().is_some_and(|p| p == root));
        own.map(|column| column.num_values().max(0)).max().unwrap_or(0)
    };
    groups().map(of_group).sum::<i64>() as f64 / rows.max(1) as f64
}

/// The columns that a table's files have of the records.
fn columns(table: &TableLayout) -> impl Iterator<Item = (&str, &DataType)> {
    let own = table.own_columns().filter(|(_, field)| !table.partition_by.contains(field.name()));
    own.map(|(name, field)| (name.as_str(), field.data_type()))
}

/// The bytes of a value: as many as it takes in the source. Where the source has no such column, or repeats its values and
/// the table does not, about as many as its type does once it is compressed.
fn width(table: &TableLayout, data_type: &DataType, taken: Option<&f64>) -> f64 {
    let usual = match data_type {
        DataType::Boolean => 0.2,
        other => other.primitive_width().map_or(12.0, |width| width as f64 / 2.0),
    };
    match taken {
        Some(&taken) if table.is_keyed() => taken.max(usual),
        Some(&taken) => taken,
        None => usual,
    }
}

/// The bytes that a row takes in each column of the sources, compressed as they are.
fn bytes_of_columns(sources: &[FileFacts]) -> HashMap<String, f64> {
    let groups = || sources.iter().flat_map(|source| source.footer.metadata().row_groups());
    let rows: i64 = groups().map(|group| group.num_rows().max(0)).sum();
    let mut bytes: HashMap<String, f64> = HashMap::new();
    for column in groups().flat_map(RowGroupMetaData::columns) {
        if let Some(root) = column.column_path().parts().first() {
            *bytes.entry(root.clone()).or_default() += column.compressed_size().max(0) as f64;
        }
    }
    for bytes in bytes.values_mut() {
        *bytes /= rows.max(1) as f64;
    }
    bytes
}
