//! What the audit knows of tables that were taken over: their keys and IDs, which no row of the output has, as they are kept
//! beside it. Must never trust the existing table itself: it may have changed or gone.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Audit, summary};
use crate::error::Result;
use crate::facts::{Facts, read_facts};
use crate::manifest::{Manifest, ManifestTable};
use crate::number::{id_of, ordinal_of};
use crate::output::Output;
use crate::report::VerifyCheck;
use crate::source::contain;

/// The tables that were taken over.
pub(super) struct Adoptions {
    /// For each of them the places of its IDs, in order; or why they are not known.
    places: BTreeMap<String, Result<Vec<u64>, String>>,
    facts: Option<Facts>,
}

impl Adoptions {
    /// Reads the IDs that are kept beside the output.
    pub(super) fn read(output: &Output, manifest: &Manifest) -> Result<Self> {
        let tables: Vec<&ManifestTable> = manifest.tables.iter().filter(|table| table.adopted.is_some()).collect();
        let facts = if tables.is_empty() { None } else { read_facts(output, manifest.number())? };
        let mut adoptions = Self { places: BTreeMap::new(), facts };
        for table in tables {
            let mut places = Vec::new();
            let read = contain(|| {
                adoptions.each(output, table, |_, found| {
                    places.extend_from_slice(found);
                    Ok(())
                })
            });
            places.sort_unstable();
            adoptions.places.insert(table.table.clone(), read.map(|()| places));
        }
        Ok(adoptions)
    }

    /// Whether a place is that of an ID which was taken over.
    pub(super) fn has(&self, table: &str, place: u64) -> bool {
        matches!(self.places.get(table), Some(Ok(places)) if places.binary_search(&place).is_ok())
    }

    /// Calls `visit` with the rows of the key map that were taken over, and the places of their IDs.
    fn each(
        &self,
        output: &Output,
        table: &ManifestTable,
        mut visit: impl FnMut(&RecordBatch, &[u64]) -> Result<(), String>,
    ) -> Result<(), String> {
        let missing = || format!("what '{}' has taken over is not kept beside the output", table.table);
        let (adopted, id) = table.adopted.as_ref().zip(table.id.as_ref()).ok_or_else(missing)?;
        let folder = format!("keys/{}/", table.table);
        for fact in self.facts.as_ref().ok_or_else(missing)?.files.iter().filter(|f| f.file.starts_with(&folder)) {
            let file = output.open(&fact.path()).map_err(|e| e.message)?;
            let reader =
                ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build);
            for batch in reader.map_err(|e| e.to_string())? {
                let batch = batch.map_err(|e| e.to_string())?;
                let ids = batch.column_by_name(&id.column).and_then(|ids| ids.as_primitive_opt::<Int64Type>());
                let ids = ids.ok_or_else(|| format!("{} has no IDs", fact.path()))?;
                let place = |&value: &i64| ordinal_of(id, value).filter(|&place| place < adopted.places);
                let found: Vec<u64> = ids.values().iter().filter_map(place).collect();
                let is_adopted: BooleanArray = ids.values().iter().map(|id| Some(place(id).is_some())).collect();
                let rows = filter_record_batch(&batch, &is_adopted).map_err(|e| e.to_string())?;
                visit(&rows, &found)?;
            }
        }
        Ok(())
    }
}

impl Audit<'_> {
    /// How many keys of this table were taken over.
    pub(super) fn adopted_count(&self) -> u64 {
        self.table.adopted.as_ref().map_or(0, |adopted| adopted.keys)
    }

    /// Takes in the keys that were taken over: none of them may have a row.
    pub(super) fn adopted_keys(&mut self, output: &Output) -> Result<(), String> {
        let (table, adoptions) = (self.table, self.adopted);
        let Some(adopted) = &table.adopted else { return Ok(()) };
        let places = match adoptions.places.get(&table.table) {
            Some(Ok(places)) => places,
            Some(Err(text)) => return Err(text.clone()),
            None => return Ok(()),
        };
        if places.len() as u64 != adopted.keys || places.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(format!("{} IDs are kept where {} keys were taken over", places.len(), adopted.keys));
        }
        contain(|| {
            adoptions.each(output, table, |rows, _| {
                let column = |name: &String| rows.column_by_name(name).cloned().ok_or(format!("no column '{name}'"));
                let columns: Vec<ArrayRef> = table.key.iter().map(column).collect::<Result<_, _>>()?;
                self.unique_keys(&columns, rows.num_rows(), "the keys that were taken over")
            })
        })
    }

    /// What is told of them.
    pub(super) fn adopted_check(&mut self) -> Option<VerifyCheck> {
        let adopted = self.table.adopted.as_ref()?;
        let problem = self.problems.remove("adopted");
        Some(summary("adopted", Some(&self.table.table), [problem], || {
            let first = self.table.id.as_ref().and_then(|id| id_of(id, adopted.places));
            let first = first.map_or_else(String::new, |first| format!(" before {first}"));
            format!("{} keys keep the IDs{first} that they had; none of them has a row here", adopted.keys)
        }))
    }
}
