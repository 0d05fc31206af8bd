//! Records that are set aside, as the quarantine's files show them: why, where from, and all that their source says. Must
//! never hold a record that a table has.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::scan::null_key_reasons;

/// The columns that the quarantine adds to a record.
pub(crate) const QUARANTINE_COLUMNS: [&str; 6] = ["_reason", "_table", "_check", "_file", "_row", "_run"];

/// The columns of a quarantined record: why and where from, then what the source says, in the order of names.
pub(super) fn quarantine_schema(run: &RunContext) -> SchemaRef {
    let mut fields = vec![
        Field::new("_reason", DataType::Utf8, false),
        Field::new("_table", DataType::Utf8, true),
        Field::new("_check", DataType::Utf8, true),
        Field::new("_file", DataType::Utf8, false),
        Field::new("_row", DataType::UInt64, false),
        Field::new("_run", DataType::UInt64, false),
    ];
    let source = run.records.source_schema();
    fields.extend(run.plan.source_columns.iter().filter_map(|name| source.field_with_name(name).ok().cloned()));
    Arc::new(Schema::new(fields))
}

/// Why a record is in quarantine.
struct Why<'a> {
    reason: String,
    table: Option<&'a str>,
    check: Option<&'a str>,
}

impl<'a> Why<'a> {
    /// From reasons as a scan gives them.
    fn all(run: &'a RunContext, chunk: u32, reasons: &[(u32, u32)]) -> Result<Vec<Self>> {
        let tables = run.layout.tables.len() as u32;
        let by_key: Vec<(u32, u32)> = reasons.iter().copied().filter(|(_, reason)| *reason < tables).collect();
        let mut by_key = null_key_reasons(run, chunk, &by_key)?.into_iter();
        let why = |(_, reason): &(u32, u32)| {
            if let Some(index) = reason.checked_sub(tables) {
                let check = run.layout.checks.get(index as usize);
                let reason = format!("check '{}' fails: {}", check.name, check.condition.trim());
                return Self { reason, table: None, check: Some(&check.name) };
            }
            let table = Some(run.table(*reason).name.as_str());
            Self { reason: by_key.next().unwrap_or_default(), table, check: None }
        };
        Ok(reasons.iter().map(why).collect())
    }
}

/// The quarantined records of a chunk.
pub(super) fn quarantine_rows(run: &RunContext, number: u64, chunk: u32) -> Result<RecordBatch> {
    let scan = run.scan(chunk)?;
    let source = run.read_source(chunk, &run.plan.source_columns)?;
    // A record that comes from quarantine stays the one that it was in the source.
    let replayed = !run.plan.replayed.is_empty();
    let origin = if replayed { Some(run.read_source(chunk, &["_file", "_row"].map(str::to_owned))?) } else { None };
    let place = &run.plan.chunks[chunk as usize];
    let rows: UInt32Array = scan.quarantine.iter().map(|(row, _)| Some(*row)).collect();
    let why = Why::all(run, chunk, &scan.quarantine)?;
    let count = rows.len();
    let file = run.plan.files[place.file as usize].name.as_str();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(why.iter().map(|why| Some(why.reason.as_str())).collect::<StringArray>()),
        Arc::new(why.iter().map(|why| why.table).collect::<StringArray>()),
        Arc::new(why.iter().map(|why| why.check).collect::<StringArray>()),
    ];
    let pick = |column: &ArrayRef| take(column, &rows, None).map_err(|e| IngestError::internal(e.to_string()));
    if let Some(origin) = &origin {
        columns.extend(origin.columns().iter().map(pick).collect::<Result<Vec<_>>>()?);
    } else {
        let at = rows.values().iter().map(|&row| place.first_row + u64::from(row));
        columns.push(Arc::new(StringArray::from(vec![file; count])));
        columns.push(Arc::new(UInt64Array::from_iter_values(at)));
    }
    columns.push(Arc::new(UInt64Array::from(vec![number; count])));
    for column in source.columns() {
        columns.push(pick(column)?);
    }
    RecordBatch::try_new(quarantine_schema(run), columns).map_err(|e| IngestError::internal(e.to_string()))
}
