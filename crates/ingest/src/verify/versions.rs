//! The audit of versions: the rows of a thing follow each other, each holds until the next one does, and the last one is
//! the current one. What else is proved of a table is proved of the first version of each thing, since IDs, keys and
//! numbers are those of things. Must never know when or why versions were made.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::Int64Type;
use arrow::row::{RowConverter, SortField};
use seriatim_pipeline::model::History;

use super::{Audit, summary};
use crate::history::has_versions;
use crate::manifest::{Manifest, ManifestTable};
use crate::report::VerifyCheck;
use crate::suggest::counted;

/// What was seen of versions.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// How many the manifest's runs have added; `None` for a table that has none.
    added: Option<u64>,
    /// The last row that was seen of a file.
    last: Option<RecordBatch>,
    /// Rows that are later versions.
    pub(super) later: u64,
}

impl Versions {
    /// Nothing is seen.
    pub(super) fn new(table: &ManifestTable, manifest: &Manifest) -> Self {
        let of_table = manifest.runs.iter().flat_map(|run| &run.changes).filter(|changes| changes.table == table.table);
        let added = of_table.map(|changes| changes.updated).sum();
        Self { added: has_versions(table).then_some(added), ..Self::default() }
    }
}

/// The columns of versions of some rows.
struct Columns {
    ids: ArrayRef,
    current: BooleanArray,
    until: ArrayRef,
    /// For each row: since when it holds, until when, and its key, in a form that can be compared.
    forms: [arrow::row::Rows; 3],
}

impl Columns {
    fn of(id: &str, key: &[String], rows: &RecordBatch) -> Result<Self, String> {
        let column = |name: &str| rows.column_by_name(name).cloned().ok_or(format!("column '{name}' is missing"));
        let current = column(History::IS_CURRENT)?;
        let current = current.as_boolean_opt().ok_or("'is_current' is not of truth values")?.clone();
        let (since, until) = (column(History::VALID_FROM)?, column(History::VALID_TO)?);
        let key = key.iter().map(|name| column(name)).collect::<Result<Vec<_>, _>>()?;
        let form = |columns: &[ArrayRef]| {
            let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
            RowConverter::new(fields)
                .and_then(|converter| converter.convert_columns(columns))
                .map_err(|e| e.to_string())
        };
        let forms = [form(&[since])?, form(std::slice::from_ref(&until))?, form(&key)?];
        Ok(Self { ids: column(id)?, current, until, forms })
    }

    fn ids(&self) -> Result<&[i64], String> {
        let ids = self.ids.as_primitive_opt::<Int64Type>().ok_or("the ID column is not of 64-bit integers")?;
        Ok(ids.values())
    }

    /// What is wrong with a row that is the last one of its thing.
    fn wrong_at_end(&self, row: usize) -> Option<&'static str> {
        let is_current = self.current.is_valid(row) && self.current.value(row) && self.until.is_null(row);
        (!is_current).then_some("its last version is not the current one")
    }

    /// What is wrong with a row that another one of its thing follows.
    fn wrong_before(&self, row: usize) -> Option<&'static str> {
        let [since, until, key] = &self.forms;
        if self.current.value(row) {
            Some("a version is current, and a later one follows it")
        } else if until.row(row) != since.row(row + 1) {
            Some("a version does not hold until the next one does")
        } else if since.row(row).cmp(&since.row(row + 1)) != Ordering::Less {
            Some("a version is not later than the one before it")
        } else if key.row(row) != key.row(row + 1) {
            Some("two versions have not the same key")
        } else {
            None
        }
    }
}

impl Audit<'_> {
    /// The rows that are first versions; all of them in a table without versions. How versions follow each other is looked
    /// at on the way.
    pub(super) fn first_versions(&mut self, batch: &RecordBatch, file: &str) -> Result<RecordBatch, String> {
        let Some(id) = self.table.id.as_ref().filter(|_| self.versions.added.is_some() && batch.num_rows() > 0) else {
            return Ok(batch.clone());
        };
        let before = self.versions.last.take();
        let offset = usize::from(before.is_some());
        let all = concat_batches(&batch.schema(), before.iter().chain([batch])).map_err(|e| e.to_string())?;
        let columns = Columns::of(&id.column, &self.table.key, &all)?;
        let ids = columns.ids()?.to_vec();
        for row in 0..all.num_rows() - 1 {
            let wrong = if ids[row] == ids[row + 1] { columns.wrong_before(row) } else { columns.wrong_at_end(row) };
            if let Some(wrong) = wrong {
                self.problem("versions", format!("{file}: {} {}: {wrong}", id.column, ids[row]));
            }
        }
        self.versions.last = Some(all.slice(all.num_rows() - 1, 1));
        let is_first = |row: usize| row == 0 || ids[row] != ids[row - 1];
        let firsts = BooleanBuffer::collect_bool(batch.num_rows(), |row| is_first(row + offset));
        self.versions.later += (batch.num_rows() - firsts.count_set_bits()) as u64;
        filter_record_batch(batch, &BooleanArray::new(firsts, None)).map_err(|e| e.to_string())
    }

    /// The last row of a file is the last one of its thing: no other file has rows of that.
    pub(super) fn end_of_versions(&mut self, file: &str) -> Result<(), String> {
        let (Some(last), Some(id)) = (self.versions.last.take(), &self.table.id) else { return Ok(()) };
        let columns = Columns::of(&id.column, &self.table.key, &last)?;
        if let Some(wrong) = columns.wrong_at_end(0) {
            self.problem("versions", format!("{file}: {} {}: {wrong}", id.column, columns.ids()?[0]));
        }
        Ok(())
    }

    /// What is told of versions.
    pub(super) fn versions_check(&mut self) -> Option<VerifyCheck> {
        let (added, later, things) = (self.versions.added?, self.versions.later, self.rows);
        if added != later {
            self.problem("versions", format!("{later} rows are later versions of things; runs have added {added}"));
        }
        let problem = self.problems.remove("versions");
        Some(summary("versions", Some(&self.table.table), [problem], || {
            format!(
                "{} of {}: each holds until the next one does, and each thing has one that is current",
                counted(things + later, "version"),
                counted(things, "thing")
            )
        }))
    }
}
