//! The history of attributes: a key that is known from earlier runs gets the attributes that a later run brings, in the
//! place of its old ones (scd1) or as a version beside them (scd2). The records that known keys are held against are left
//! by whoever writes a span (`write::known`); here each published file that has such keys is compared with them, and
//! written anew if something differs. Must never change a published file, and never touch one that no key is in.

mod index;
mod replaced;
mod rewrite;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::row::{RowConverter, SortField};
use serde::{Deserialize, Serialize};
use seriatim_pipeline::model::{History, Pipeline};

pub(crate) use index::{FileIndex, bucket_of, buckets};
pub(crate) use replaced::{is_replaced, remove_replaced};

use crate::engine::Step;
use crate::error::{IngestError, Result};
use crate::layout::TableLayout;
use crate::manifest::ManifestTable;
use crate::number::Reserved;
use crate::process::{Doable, Steps};
use crate::progress::Step as Stage;
use crate::sequence::is_zero;
use crate::steps::step;
use crate::write::Staged;

/// The roles of the columns that tell versions apart, in their order.
pub(crate) const ROLES: [&str; 3] = ["valid from", "valid to", "current"];

/// The type of a time at which a run was accepted.
fn run_time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The columns that tell versions apart; `since` is the column of the records that says since when they hold.
pub(crate) fn fields(table: &str, since: Option<&Field>) -> Result<[Field; 3]> {
    let data_type = since.map_or_else(run_time, |field| field.data_type().clone());
    if let Some(field) = since.filter(|field| !is_ordered(field.data_type())) {
        return Err(IngestError::pipeline(format!(
            "table '{table}': '{}' is a {}, which cannot say since when a version holds",
            field.name(),
            field.data_type()
        ))
        .help("name a column of dates, timestamps, numbers or texts in `valid_from`; `transform` can make one"));
    }
    Ok([
        Field::new(History::VALID_FROM, data_type.clone(), false),
        Field::new(History::VALID_TO, data_type, true),
        Field::new(History::IS_CURRENT, DataType::Boolean, false),
    ])
}

fn is_ordered(data_type: &DataType) -> bool {
    data_type.is_numeric() || data_type.is_temporal() || matches!(data_type, DataType::Utf8 | DataType::LargeUtf8)
}

/// An error if a table has a history, and attributes that cannot be compared.
pub(crate) fn check_comparable(table: &TableLayout) -> Result<()> {
    if table.history.is_none() {
        return Ok(());
    }
    let compared = &table.schema.fields()[attributes(table)];
    let is_comparable =
        |field: &&Arc<Field>| !RowConverter::supports_fields(&[SortField::new(field.data_type().clone())]);
    match compared.iter().find(is_comparable) {
        None => Ok(()),
        Some(field) => Err(IngestError::pipeline(format!(
            "table '{}': `history` cannot compare '{}', a {}",
            table.name,
            field.name(),
            field.data_type()
        ))
        .help("take the column out of this table, or make something of it in `transform` that can be compared")),
    }
}

/// The fields of a table that may change: its references and its columns.
pub(crate) fn attributes(table: &TableLayout) -> std::ops::Range<usize> {
    let first = table.id_width() + table.key.len();
    first..first + table.references.len() + table.columns.len()
}

/// Whether the rows of a published table are versions.
pub(crate) fn has_versions(table: &ManifestTable) -> bool {
    table.columns.iter().any(|(role, ..)| role == ROLES[0])
}

/// Whether some table of a pipeline has a history.
pub(crate) fn is_kept(pipeline: &Pipeline) -> bool {
    pipeline.tables.iter().any(|table| table.history.is_some())
}

/// The times since when the rows that a run writes hold: as the records say, or since the run was accepted.
pub(crate) fn since(reserved: &Reserved, given: Option<ArrayRef>, rows: usize) -> Result<ArrayRef> {
    if let Some(given) = given {
        return Ok(given);
    }
    let at = reserved.accepted.ok_or_else(|| IngestError::internal("nobody knows when the run was accepted"))?;
    let times = arrow::array::TimestampMicrosecondArray::from_value(at, rows).with_timezone("UTC");
    Ok(Arc::new(times))
}

step!(
    /// Fixes when the run was accepted, and what its known keys are held against.
    Accept, "accept", Accepted, { run: String, number: u64 });

/// What histories begin with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Accepted {
    /// The time, in microseconds since 1970, if some version holds since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<i64>,
    /// One for each table.
    pub(crate) tables: Vec<AcceptedTable>,
}

/// What one table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct AcceptedTable {
    /// How many steps its published files are shared out to.
    pub(crate) buckets: u32,
    /// How many of its rows are later versions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) versions: u64,
}

impl Doable for Accept {
    fn run(self, steps: &Steps) -> Result<Accepted> {
        let run = steps.run(&self.run)?;
        let is_timed = |table: &TableLayout| table.keeps_versions() && table.valid_from().is_none();
        let mut accepted = Accepted { at: None, tables: vec![AcceptedTable::default(); run.layout.tables.len()] };
        if run.layout.tables.iter().any(is_timed) {
            accepted.at = Some(jiff::Timestamp::now().as_microsecond());
        }
        if self.number == 1 {
            return Ok(accepted);
        }
        let before = run.published_before(self.number)?;
        if let (Some(at), Some(last)) = (accepted.at, before.runs.iter().filter_map(|run| run.accepted).max()) {
            // A clock may be set back; versions come one after the other all the same.
            accepted.at = Some(at.max(last + 1));
        }
        let tables = run.layout.tables.iter().zip(&mut accepted.tables);
        for (layout, table) in tables.filter(|(layout, _)| layout.history.is_some()) {
            let published = &before.tables[before.table_index(&layout.name)?];
            *table = AcceptedTable { buckets: buckets(published.files.len()), versions: published.versions() };
        }
        Ok(accepted)
    }
}

step!(
    /// Writes some of a table's published files anew, those in which a known key has other attributes now.
    Rewrite, "rewrite", Vec<Staged>, { run: String, reserved: Reserved, table: u32, bucket: u32 });

impl Doable for Rewrite {
    fn run(self, steps: &Steps) -> Result<Vec<Staged>> {
        let run = steps.run(&self.run)?;
        steps.progress.enter(Stage::Write, 1);
        rewrite::rewrite(&run, &self.reserved, self.table, self.bucket)
    }
}

step!(
    /// Removes published files that others have taken the place of.
    RemoveReplaced, "remove-replaced", (), { run: String });

impl Doable for RemoveReplaced {
    fn run(self, steps: &Steps) -> Result<()> {
        let held = steps.uncancelled(&self.run)?.held_output()?;
        held.confirm()?;
        remove_replaced(&held, &held.output().published()?)
    }
}
