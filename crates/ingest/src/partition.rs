//! Partitions: the rows of a table apart by the values of some of its columns, each in a folder that is named by them, as
//! Hive does it (`country=DE/day=2024-01-31`). Files do not hold these columns; whoever reads them has the values from
//! the folder, or from the manifest. Must never put two values into one folder, or one value into two.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow::compute::{cast, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{IngestError, Result};
use crate::layout::TableLayout;
use crate::manifest::{ManifestFile, ManifestTable};

/// Partitions that a table may have in one run: each is a file at least.
pub(crate) const MOST_PARTITIONS: usize = 10_000;

/// What a folder is named for null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// What a folder's name does not hold as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// How a date is written.
const DATE: &str = "0000-00-00";

/// The longest name that a folder can have on every disk.
const LONGEST: usize = 255;

/// The values of a partition, in the order of the table's partition columns; `None` is null.
pub(crate) type Values = Vec<Option<String>>;

/// Whether a table can be partitioned by columns of a type: those whose values have one text each.
pub(crate) fn is_partition_type(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Date32
        )
}

/// The folder of a partition, in its table's folder.
pub(crate) fn folder(columns: &[String], values: &[Option<String>]) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let name = |(column, value): (&String, &Option<String>)| {
        format!("{}={}", encoded(column), value.as_deref().map_or_else(|| NULL.to_owned(), encoded))
    };
    columns.iter().zip(values).map(name).collect::<Vec<_>>().join("/")
}

/// Whether a folder in a table's folder may be a partition's.
pub(crate) fn is_folder(name: &str) -> bool {
    name.contains('=')
}

/// A table's schema without the columns that are in the names of folders.
pub(crate) fn file_schema(schema: &Schema, partition_by: &[String]) -> SchemaRef {
    let kept = schema.fields().iter().filter(|field| !partition_by.contains(field.name()));
    Arc::new(Schema::new(kept.cloned().collect::<Vec<_>>()))
}

/// The rows of one partition, ascending.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) values: Values,
    pub(crate) folder: String,
    pub(crate) rows: Vec<u32>,
}

/// Splits rows by their partitions; a partition comes where its first row does.
pub(crate) fn split(table: &TableLayout, batch: &RecordBatch) -> Result<Vec<Part>> {
    let wrong = |e: arrow::error::ArrowError| IngestError::internal(e.to_string());
    let columns: Vec<ArrayRef> =
        table.partition_by.iter().filter_map(|name| batch.column_by_name(name)).cloned().collect();
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let keys = RowConverter::new(fields).and_then(|converter| converter.convert_columns(&columns)).map_err(wrong)?;
    let mut places = HashMap::new();
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for (row, key) in (0..).zip(keys.iter()) {
        let place = *places.entry(key).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(row);
    }
    if groups.len() > MOST_PARTITIONS {
        return Err(too_many(&table.name, &table.partition_by));
    }
    let firsts = UInt32Array::from_iter_values(groups.iter().map(|rows| rows[0]));
    let texts = |column: &ArrayRef| take(column, &firsts, None).and_then(|firsts| cast(&firsts, &DataType::Utf8));
    let texts: Vec<ArrayRef> = columns.iter().map(texts).collect::<Result<_, _>>().map_err(wrong)?;
    let part = |(place, rows): (usize, Vec<u32>)| {
        let value = |(texts, column): (&ArrayRef, &String)| value(table, column, texts, place);
        let values: Values = texts.iter().zip(&table.partition_by).map(value).collect::<Result<_>>()?;
        let folder = folder(&table.partition_by, &values);
        if folder.split('/').any(|name| name.len() > LONGEST) {
            return Err(unfit(table, &values, "makes the name of a folder longer than disks allow"));
        }
        Ok(Part { values, folder, rows })
    };
    groups.into_iter().enumerate().map(part).collect()
}

fn value(table: &TableLayout, column: &str, texts: &ArrayRef, place: usize) -> Result<Option<String>> {
    let texts = texts.as_any().downcast_ref::<StringArray>();
    let text = texts.ok_or_else(|| IngestError::internal(format!("'{column}' is no text")))?;
    if text.is_null(place) {
        return Ok(None);
    }
    match text.value(place) {
        value if *column_type(table, column) == DataType::Date32 && value.len() != DATE.len() => {
            Err(unfit(table, &[Some(value.to_owned())], &format!("in '{column}' is of a year that has no four digits")))
        }
        value @ ("" | NULL) => {
            Err(unfit(table, &[Some(value.to_owned())], &format!("in '{column}' would be taken for null")))
        }
        value => Ok(Some(value.to_owned())),
    }
}

fn column_type<'t>(table: &'t TableLayout, column: &str) -> &'t DataType {
    table.schema.field_with_name(column).map_or(&DataType::Null, Field::data_type)
}

fn unfit(table: &TableLayout, values: &[Option<String>], what: &str) -> IngestError {
    let shown: Vec<String> =
        values.iter().map(|v| v.as_ref().map_or_else(|| "null".to_owned(), |v| format!("'{v:.40}'"))).collect();
    IngestError::pipeline(format!("table '{}': the partition {} {what}", table.name, shown.join(", ")))
        .help("change such values in `transform`, or partition by another column")
}

/// More partitions than a run may have.
pub(crate) fn too_many(table: &str, columns: &[String]) -> IngestError {
    IngestError::pipeline(format!(
        "table '{table}': this run has more than {MOST_PARTITIONS} partitions by {}",
        columns.join(", ")
    ))
    .help("partition by columns of few values, or not at all: each partition is a file at least")
}

/// Rows of a batch.
pub(crate) fn pick(batch: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch> {
    take_record_batch(batch, &UInt32Array::from(rows)).map_err(|e| IngestError::internal(e.to_string()))
}

/// Rows of a published file with all columns of their table, in its order: those that are in the name of the file's
/// folder, too.
pub(crate) fn complete(table: &ManifestTable, file: &ManifestFile, batch: &RecordBatch) -> Result<RecordBatch, String> {
    if table.partition_by.is_empty() {
        return Ok(batch.clone());
    }
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (_, name, data_type) in &table.columns {
        let place = table.partition_by.iter().position(|column| column == name);
        let column = match place.map(|place| file.partition.get(place).cloned().flatten()) {
            None => batch.column_by_name(name).cloned().ok_or_else(|| format!("column '{name}' is missing"))?,
            Some(value) => constant(value.as_deref(), data_type, batch.num_rows())?,
        };
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(|e| e.to_string())
}

/// As many rows of one value.
fn constant(value: Option<&str>, data_type: &str, rows: usize) -> Result<ArrayRef, String> {
    let data_type = DataType::from_str(data_type).map_err(|e| e.to_string())?;
    let one = cast(&StringArray::from(vec![value]), &data_type).map_err(|e| e.to_string())?;
    if one.is_null(0) && value.is_some() {
        return Err(format!("the folder's value '{}' is no {data_type}", value.unwrap_or_default()));
    }
    take(&one, &UInt32Array::from(vec![0; rows]), None).map_err(|e| e.to_string())
}
