//! Writing a published file anew: the rows of known keys are held against the run's records, value by value, and where
//! some differ, all rows go into a file that takes the place of the old one. Rows keep their order; a version follows the
//! one before it. The bytes are a function of the old file and of the records. Must never write anything where nothing
//! differs.

use std::cmp::Ordering;
use std::fs::File;
use std::io::Seek;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, make_comparator,
    new_null_array,
};
use arrow::compute::{SortOptions, cast, concat_batches, interleave, take, take_record_batch};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type, Int64Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use seriatim_pipeline::model::{History, Id};

use super::{attributes, bucket_of, since};
use crate::context::RunContext;
use crate::elements::Things;
use crate::error::{IngestError, Result};
use crate::layout::TableLayout;
use crate::manifest::{ManifestFile, ManifestTable};
use crate::number::{Reserved, ordinal_of};
use crate::partition::file_schema;
use crate::source::{contain, hash_of};
use crate::write::{KNOWN_COLUMNS, ROW_GROUP, Replaces, Staged, known, open_replacement, stage_replacement};

/// Rows that are compared at once.
const COMPARED: usize = 1 << 16;

/// Writes the files of a bucket anew in which something differs.
pub(super) fn rewrite(run: &RunContext, reserved: &Reserved, table: u32, bucket: u32) -> Result<Vec<Staged>> {
    let layout = run.table(table);
    let before = run.published_before(reserved.number)?;
    let published = &before.tables[before.table_index(&layout.name)?];
    let records = known(run, reserved, table, bucket)?;
    let Some(first) = records.first() else { return Ok(Vec::new()) };
    let all = concat_batches(&first.schema(), &records).map_err(wrong)?;
    drop(records);
    let (places, files) = (all.column(0).as_primitive::<UInt64Type>(), all.column(2).as_primitive::<UInt32Type>());
    let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
    order.sort_unstable_by_key(|&row| (files.value(row as usize), places.value(row as usize)));
    let mut staged = Vec::new();
    for rows in order.chunk_by(|&one, &other| files.value(one as usize) == files.value(other as usize)) {
        let index = files.value(rows[0] as usize);
        let file = published.files.get(index as usize).filter(|_| bucket_of(index, published.files.len()) == bucket);
        let file = file.ok_or_else(|| IngestError::internal("a record is held against a file that is not there"))?;
        let records = take_record_batch(&all, &UInt32Array::from(rows.to_vec())).map_err(wrong)?;
        let of = Of { run, reserved, table, layout, file };
        staged.extend(of.rewrite(published, index, &records)?);
    }
    Ok(staged)
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` gives it so")]
fn wrong(error: ArrowError) -> IngestError {
    IngestError::internal(error.to_string())
}

/// A published file, and the run that it is compared in.
struct Of<'a> {
    run: &'a RunContext,
    reserved: &'a Reserved,
    table: u32,
    layout: &'a TableLayout,
    file: &'a ManifestFile,
}

/// The run's records of known keys, by place.
struct Records {
    places: Vec<u64>,
    positions: Vec<u32>,
    /// Those of the table that may change.
    attributes: Vec<ArrayRef>,
    /// Since when they hold; none if the table keeps no versions.
    since: Option<ArrayRef>,
}

impl Of<'_> {
    fn rewrite(&self, published: &ManifestTable, index: u32, records: &RecordBatch) -> Result<Option<Staged>> {
        let records = self.records(records)?;
        let mut open = self.run.output()?.open(&self.file.path)?;
        let again = |open: &File| open.try_clone().map_err(|e| self.unreadable(&e.to_string()));
        let changed = self.compare(again(&open)?, &records)?;
        let updated = changed.iter().filter(|changed| **changed).count() as u64;
        if updated == 0 {
            return Ok(None);
        }
        // What somebody has changed must not be taken over into a file that passes for whole.
        open.rewind().map_err(|e| self.unreadable(&e.to_string()))?;
        if hash_of(&mut open).map_err(|e| self.unreadable(&e.to_string()))? != self.file.xxh3 {
            return Err(self.unreadable("it is not what was published: its checksum differs"));
        }
        let replaces = Replaces { path: self.file.path.clone(), updated };
        let mut sink = open_replacement(self.run, self.reserved, self.table, &replaces)?;
        let mut at = 0;
        self.each_batch(again(&open)?, None, ROW_GROUP, |batch| {
            sink.write(&self.merged(batch, &records, &changed, &mut at)?)
        })?;
        let staged = stage_replacement(self.run, self.reserved, (self.table, index), replaces, sink)?;
        let expected = self.file.rows + if self.layout.keeps_versions() { updated } else { 0 };
        if staged.rows != expected {
            return Err(IngestError::internal(format!(
                "{}: {} rows were written where {expected} are due",
                published.table, staged.rows
            )));
        }
        Ok(Some(Staged { partition: self.file.partition.clone(), ..staged }))
    }

    fn unreadable(&self, text: &str) -> IngestError {
        let place =
            self.run.output().map_or_else(|_| self.file.path.clone(), |output| output.place_of(&self.file.path));
        IngestError::output(format!("{place}: {text}"))
            .help("`seriatim verify` says whether the output is as it was published")
    }

    fn id(&self) -> Result<&Id> {
        self.layout.id.as_ref().ok_or_else(|| IngestError::internal("a keyed table has an ID"))
    }

    fn records(&self, batch: &RecordBatch) -> Result<Records> {
        let fields = &self.layout.schema.fields()[attributes(self.layout)];
        let own = &batch.columns()[KNOWN_COLUMNS..];
        let typed = |(column, field): (&ArrayRef, &Arc<arrow::datatypes::Field>)| of_type(column, field.data_type());
        let given = if self.layout.valid_from().is_some() { own.last().cloned() } else { None };
        let since = self.layout.keeps_versions().then(|| since(self.reserved, given, batch.num_rows())).transpose()?;
        Ok(Records {
            places: batch.column(0).as_primitive::<UInt64Type>().values().to_vec(),
            positions: batch.column(1).as_primitive::<UInt32Type>().values().to_vec(),
            attributes: own.iter().zip(fields).map(typed).collect::<Result<_>>()?,
            since,
        })
    }

    /// Calls `visit` with the rows of the file, or with some of their columns.
    fn each_batch(
        &self,
        file: File,
        columns: Option<&[&str]>,
        rows: usize,
        mut visit: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let mut refused = None;
        let read = contain(|| {
            let text = |e: &dyn std::fmt::Display| e.to_string();
            let mut builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| text(&e))?;
            if let Some(columns) = columns {
                let roots = builder.schema().fields().iter().enumerate();
                let roots: Vec<usize> =
                    roots.filter(|(_, field)| columns.contains(&field.name().as_str())).map(|(at, _)| at).collect();
                let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
                builder = builder.with_projection(mask);
            }
            for batch in builder.with_batch_size(rows).build().map_err(|e| text(&e))? {
                if let Err(error) = visit(&batch.map_err(|e| text(&e))?) {
                    refused = Some(error);
                    break;
                }
            }
            Ok(())
        });
        match refused {
            Some(error) => Err(error),
            None => read.map_err(|text| self.unreadable(&text)),
        }
    }

    fn column(&self, batch: &RecordBatch, name: &str) -> Result<ArrayRef> {
        let column =
            batch.column_by_name(name).ok_or_else(|| self.unreadable(&format!("there is no column '{name}'")))?;
        let data_type = self.layout.schema.field_with_name(name).map_err(wrong)?.data_type();
        of_type(column, data_type)
    }

    /// The rows of a batch that records are held against, each with its record: the last version of each key. `at` is the
    /// first record that has none yet.
    fn matched(&self, batch: &RecordBatch, records: &Records, at: &mut usize) -> Result<Vec<(usize, usize)>> {
        let id = self.id()?;
        let ids = self.column(batch, &id.column)?;
        let ids =
            ids.as_primitive_opt::<Int64Type>().ok_or_else(|| self.unreadable("its IDs are no 64-bit integers"))?;
        let current = if self.layout.keeps_versions() { Some(self.column(batch, History::IS_CURRENT)?) } else { None };
        let current = current.as_ref().map(AsArray::as_boolean);
        let mut pairs = Vec::new();
        for (row, &value) in ids.values().iter().enumerate() {
            let Some(&place) = records.places.get(*at) else { break };
            if ordinal_of(id, value) == Some(place) && current.is_none_or(|current| current.value(row)) {
                pairs.push((row, *at));
                *at += 1;
            }
        }
        Ok(pairs)
    }

    /// Which records bring something else than the file has.
    fn compare(&self, file: File, records: &Records) -> Result<Vec<bool>> {
        let fields = &self.layout.schema.fields()[attributes(self.layout)];
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let id = self.id()?.column.clone();
        let converter = fields.iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = RowConverter::new(converter).map_err(wrong)?;
        let mut read = names.clone();
        read.extend([id.as_str(), History::VALID_FROM, History::IS_CURRENT]);
        let mut changed = vec![false; records.places.len()];
        let mut at = 0;
        self.each_batch(file, Some(&read), COMPARED, |batch| {
            let pairs = self.matched(batch, records, &mut at)?;
            let (old, new): (Vec<u32>, Vec<u32>) = pairs.iter().map(|&(old, new)| (old as u32, new as u32)).unzip();
            let (old, new) = (UInt32Array::from(old), UInt32Array::from(new));
            let picked =
                |column: &ArrayRef, rows: &UInt32Array| take(column, rows, None).map(|c| equalised(&c)).map_err(wrong);
            let before =
                names.iter().map(|name| picked(&self.column(batch, name)?, &old)).collect::<Result<Vec<_>>>()?;
            let after = records.attributes.iter().map(|column| picked(column, &new)).collect::<Result<Vec<_>>>()?;
            let (before, after) = (converter.convert_columns(&before), converter.convert_columns(&after));
            let (before, after) = before.and_then(|before| Ok((before, after?))).map_err(wrong)?;
            for (nth, &(row, record)) in pairs.iter().enumerate() {
                if before.row(nth) != after.row(nth) {
                    changed[record] = true;
                    self.check_order(batch, row, records, record)?;
                }
            }
            Ok(())
        })?;
        match records.places.get(at) {
            None => Ok(changed),
            Some(place) => Err(self.unreadable(&format!("it has no row at place {place} of the sequence"))),
        }
    }

    /// A version must be newer than the one before it.
    fn check_order(&self, batch: &RecordBatch, row: usize, records: &Records, record: usize) -> Result<()> {
        let Some(since) = &records.since else { return Ok(()) };
        let before = self.column(batch, History::VALID_FROM)?;
        let order = make_comparator(&before, since, SortOptions::default()).map_err(wrong)?;
        if order(row, record) == Ordering::Less {
            return Ok(());
        }
        let shown = |array: &ArrayRef, at| array_value_to_string(array, at).unwrap_or_else(|_| "?".to_owned());
        let position = records.positions[record];
        Err(IngestError::input(format!(
            "{}: it changes the key {} of table '{}' from {} on, and the table has a version of it from {} on",
            self.run.place_of(self.table, position)?,
            self.key_of(position)?,
            self.layout.name,
            shown(since, record),
            shown(&before, row),
        ))
        .help(
            "versions come in the order of time: leave the record out, or put what it says into a later one; nothing of \
             this run was published",
        ))
    }

    /// The key of a record, or of an element, for people.
    fn key_of(&self, position: u32) -> Result<String> {
        let (run, layout) = (self.run, self.layout);
        let (chunk, thing) = run.positions(self.table)?.chunk_at(position);
        let inputs: Vec<String> = run.layout.inputs(layout.list, &layout.key).into_iter().map(str::to_owned).collect();
        let records = run.read(chunk, &inputs)?.without(&run.scan(chunk)?.quarantine)?.batch;
        let columns = Things::new(&run.layout, records)?.columns(layout.list, &layout.key)?;
        let keys = layout.codec.as_ref().map(|codec| (codec, codec.encode(&columns)));
        let shown = keys.and_then(|(codec, keys)| keys.get(thing as usize).map(|key| codec.display(key)));
        shown.ok_or_else(|| IngestError::internal("a record that was met has no key"))
    }

    /// The rows of a batch as they are now.
    fn merged(&self, batch: &RecordBatch, records: &Records, changed: &[bool], at: &mut usize) -> Result<RecordBatch> {
        let mut pairs = self.matched(batch, records, at)?;
        pairs.retain(|&(_, record)| changed[record]);
        let mut pairs = pairs.into_iter().peekable();
        let versions = self.layout.keeps_versions();
        let mut rows = Vec::with_capacity(batch.num_rows());
        for old in 0..batch.num_rows() {
            let Some((_, new)) = pairs.next_if(|&(row, _)| row == old) else {
                rows.push(Row::Kept(old));
                continue;
            };
            if versions {
                rows.push(Row::Closed { old, new });
            }
            rows.push(Row::Opened { old, new });
        }
        let schema = file_schema(&self.layout.schema, &self.layout.partition_by);
        let attributes = attributes(self.layout);
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let old = self.column(batch, field.name())?;
            let at = self.layout.schema.index_of(field.name()).map_err(wrong)?;
            let own = at.checked_sub(attributes.start).and_then(|nth| records.attributes.get(nth));
            columns.push(merge(&rows, &old, field.name(), own.filter(|_| attributes.contains(&at)), records)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(schema, columns, &options).map_err(wrong)
    }
}

/// A row of the new file: one of the old file's, as it is, or where a record brings something else.
#[derive(Clone, Copy)]
enum Row {
    Kept(usize),
    /// The version that is no longer the last one.
    Closed {
        old: usize,
        new: usize,
    },
    /// What the record brings.
    Opened {
        old: usize,
        new: usize,
    },
}

/// A column of the new file; `own` has what the records bring, if the column is one that may change.
fn merge(rows: &[Row], old: &ArrayRef, name: &str, own: Option<&ArrayRef>, records: &Records) -> Result<ArrayRef> {
    let versions = records.since.as_ref();
    if versions.is_some() && own.is_none() && name == History::IS_CURRENT {
        let before = old.as_boolean();
        let is_current = |row: &Row| match *row {
            Row::Kept(old) => before.value(old),
            Row::Closed { .. } => false,
            Row::Opened { .. } => true,
        };
        return Ok(Arc::new(rows.iter().map(|row| Some(is_current(row))).collect::<BooleanArray>()));
    }
    let none = new_null_array(old.data_type(), 1);
    let (new, picks): (&ArrayRef, Vec<(usize, usize)>) = match (own, versions) {
        (Some(own), _) => (own, picks(rows, |old, _| (0, old), |_, new| (1, new))),
        (None, Some(since)) if name == History::VALID_FROM => {
            (since, picks(rows, |old, _| (0, old), |_, new| (1, new)))
        }
        (None, Some(since)) if name == History::VALID_TO => (since, picks(rows, |_, new| (1, new), |_, _| (2, 0))),
        (None, _) => (&none, picks(rows, |old, _| (0, old), |old, _| (0, old))),
    };
    interleave(&[old.as_ref(), new.as_ref(), none.as_ref()], &picks).map_err(wrong)
}

/// Where the values of a column come from: of a row that is closed, and of one that is opened.
fn picks(
    rows: &[Row],
    closed: impl Fn(usize, usize) -> (usize, usize),
    opened: impl Fn(usize, usize) -> (usize, usize),
) -> Vec<(usize, usize)> {
    let pick = |row: &Row| match *row {
        Row::Kept(old) => (0, old),
        Row::Closed { old, new } => closed(old, new),
        Row::Opened { old, new } => opened(old, new),
    };
    rows.iter().map(pick).collect()
}

fn of_type(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if column.data_type() == data_type { Ok(column.clone()) } else { cast(column, data_type).map_err(wrong) }
}

/// The same values, of those that are equal and have several forms always the same one: zero, and what is no number.
fn equalised(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => {
            let one = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
            Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(one))
        }
        DataType::Float32 => {
            let one = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 };
            Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(one))
        }
        DataType::Float16 => {
            let one = |value: half::f16| if value.is_nan() { half::f16::NAN } else { value + half::f16::ZERO };
            Arc::new(column.as_primitive::<Float16Type>().unary::<_, Float16Type>(one))
        }
        _ => column.clone(),
    }
}
