//! The first rows of a Parquet file, as text. Must never read more of the file than it shows.

use std::fs::File;
use std::path::Path;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::CliError;
use crate::ui::table::{Side, Table};

/// The first `rows` rows of the file at `path`, numbers to the right.
pub(crate) fn first_rows(path: &Path, rows: usize) -> Result<Table, CliError> {
    let cannot = |error: &dyn std::fmt::Display| CliError::failed(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(|error| CliError::io("open", path, &error))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| cannot(&error))?;
    let fields = builder.schema().fields().clone();
    let side = |field: &arrow::datatypes::Field| {
        if field.data_type().is_numeric() { Side::Right } else { Side::Left }
    };
    let columns: Vec<_> = fields.iter().map(|field| (field.name().as_str(), side(field))).collect();
    let mut table = Table::new(&columns);
    let options = FormatOptions::default().with_null("null");
    let reader = builder.with_limit(rows).with_batch_size(rows).build().map_err(|error| cannot(&error))?;
    for batch in reader {
        let batch = batch.map_err(|error| cannot(&error))?;
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<_, _>>()
            .map_err(|error| cannot(&error))?;
        for row in 0..batch.num_rows() {
            table.row(columns.iter().map(|column| column.value(row).to_string()));
        }
    }
    Ok(table)
}
