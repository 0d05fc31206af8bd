//! Makes the Parquet copy of a text file, batch by batch. The bytes are a function of the file, the pipeline and the types.

use std::collections::HashMap;
use std::fs;
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;

use super::column::{Column, RECORD_VALUES};
use super::csv::Csv;
use super::json::{Cursor, Json};
use super::path::Fault;
use super::rows::{Reader, Row, Wrong};
use super::shape::{Shape, fields, leaves};
use super::{Texts, told};
use crate::error::{IngestError, Result};
use crate::files::{create_aside, make_folder};
use crate::source::{SourceFile, name_in_source};
use crate::write::{failed, properties};

/// Records that are turned into values at once.
const BATCH_ROWS: usize = 8192;
/// The same in bytes of text, about.
const BATCH_BYTES: usize = 8 << 20;
/// Bytes of text in a row group, about: so much is held until it is written.
const GROUP_BYTES: usize = 64 << 20;
impl Texts {
    /// Makes the copy, whole or not at all.
    pub(super) fn convert(
        &self,
        planned: &SourceFile,
        mut reader: Reader<Box<dyn BufRead>>,
        path: &Path,
    ) -> Result<()> {
        make_folder(&self.folder)?;
        let schema = self.schema(planned, &reader)?;
        let (aside, file) = create_aside(path)?;
        // As everything that is read: types come from Parquet alone.
        let options = ArrowWriterOptions::new()
            .with_properties(properties(self.compression, &[], &[])?)
            .with_skip_arrow_metadata(true);
        let unwritten = |e: parquet::errors::ParquetError| failed(&aside, &e);
        let mut writer = ArrowWriter::try_new_with_options(file, schema.clone(), options).map_err(unwritten)?;
        let mut batch = Batch::new(&schema);
        let (mut row, mut group_bytes) = (Row::default(), 0);
        loop {
            let added = match &mut reader {
                Reader::Csv(csv) => self.add_csv(&mut batch, csv, &mut row),
                Reader::Json(json) => self.add_json(&mut batch, json, &mut row),
            };
            let is_there = added.map_err(|wrong| told(planned, wrong))?;
            if batch.is_full() || !is_there {
                group_bytes += batch.bytes;
                let values = batch.finish(&schema).map_err(|wrong| told(planned, wrong))?;
                writer.write(&values).map_err(unwritten)?;
                if group_bytes > GROUP_BYTES {
                    writer.flush().map_err(unwritten)?;
                    group_bytes = 0;
                }
            }
            if !is_there {
                break;
            }
        }
        let file = writer.into_inner().map_err(unwritten)?;
        // After a power cut it must not be there with holes.
        file.sync_all().map_err(|e| IngestError::io("sync", &aside, &e))?;
        fs::rename(&aside, path).map_err(|e| IngestError::io("rename", &aside, &e))
    }

    /// The columns of a copy. A key that a JSON record lacks is null, so a file of such records has them all.
    fn schema(&self, planned: &SourceFile, reader: &Reader<Box<dyn BufRead>>) -> Result<SchemaRef> {
        let fields = match reader {
            Reader::Json(_) => {
                for (path, kind) in leaves(&self.columns) {
                    check_type(&planned.name, &path, &kind)?;
                }
                fields(&self.columns)
            }
            Reader::Csv(_) => {
                let field = |name: &String| {
                    let shape = self.columns.get(name_in_source(name, &self.source.rename));
                    let kind = shape
                        .map(Shape::data_type)
                        .ok_or_else(|| IngestError::internal(format!("column '{name}' of a text file has no type")))?;
                    check_type(&planned.name, name, &kind)?;
                    Ok(Field::new(name, kind, true))
                };
                reader.header().iter().map(field).collect::<Result<_>>()?
            }
        };
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Adds a record to a batch; `false` if there is none left.
    fn add_csv(&self, batch: &mut Batch, csv: &mut Csv<impl BufRead>, row: &mut Row) -> Result<bool, Wrong> {
        if !csv.next(row)? {
            return Ok(false);
        }
        for (cell, value) in row.values() {
            let name = &csv.names()[cell.column];
            let text =
                std::str::from_utf8(value).map_err(|_| batch.wrong(row.line, name.clone(), "it is not UTF-8"))?;
            if !cell.is_quoted && text == self.source.csv.null {
                continue;
            }
            let column = &mut batch.columns[cell.column];
            column.fill(batch.rows);
            column.add_text(text);
            batch.bytes += text.len();
        }
        batch.end(row.line);
        Ok(true)
    }

    /// Adds a record to a batch; `false` if there is none left.
    fn add_json(&self, batch: &mut Batch, json: &mut Json<impl BufRead>, row: &mut Row) -> Result<bool, Wrong> {
        if !json.next(row)? {
            return Ok(false);
        }
        let text = row.text().unwrap_or_default();
        let added = self.add_record(batch, &mut Cursor::new(text));
        added.map_err(|fault| json.fault(&fault))?;
        batch.bytes += text.len();
        batch.end(row.line);
        Ok(true)
    }

    fn add_record(&self, batch: &mut Batch, record: &mut Cursor<'_>) -> Result<(), Fault> {
        let mut room = RECORD_VALUES;
        record.enter();
        while let Some(key) = record.key()? {
            if record.null() {
                continue;
            }
            let name = name_in_source(&key, &self.source.rename);
            let Some(&place) = batch.places.get(name) else {
                return Err(Fault::new("it was not there before").within_member(name));
            };
            let column = &mut batch.columns[place];
            if column.len() > batch.rows {
                return Err(Fault::new("the record has it under two names").within_member(name));
            }
            column.fill(batch.rows);
            column.add(record, &mut room).map_err(|fault| fault.within_member(name))?;
        }
        // What is null within lists takes room as well.
        batch.bytes += RECORD_VALUES - room;
        Ok(())
    }
}

/// An error if there are no texts for a type.
fn check_type(file: &str, column: &str, kind: &DataType) -> Result<()> {
    if !kind.is_nested() && can_cast_types(&DataType::Utf8, kind) {
        return Ok(());
    }
    Err(IngestError::pipeline(format!("{file}: column '{column}' must be {kind}, and no text can be read as that"))
        .help("leave the column out of the tables, or bring it in Parquet files"))
}

/// Records that are still texts.
struct Batch {
    /// The first record's row in the file.
    first: u64,
    rows: usize,
    bytes: usize,
    /// The line of each record.
    lines: Vec<u64>,
    columns: Vec<Column>,
    /// Where a column is, by its name.
    places: HashMap<String, usize>,
}

impl Batch {
    fn new(schema: &Schema) -> Self {
        let columns = schema.fields().iter().map(|field| Column::new(field.data_type())).collect();
        let places = schema.fields().iter().enumerate().map(|(place, field)| (field.name().clone(), place)).collect();
        Self { first: 0, rows: 0, bytes: 0, lines: Vec::new(), columns, places }
    }

    fn is_full(&self) -> bool {
        self.rows == BATCH_ROWS || self.bytes > BATCH_BYTES
    }

    /// Ends the record that was added.
    fn end(&mut self, line: u64) {
        self.lines.push(line);
        self.rows += 1;
    }

    /// What is wrong with the record that is being added.
    fn wrong(&self, line: u64, column: String, text: &str) -> Wrong {
        let row = self.first + self.rows as u64;
        Wrong::File { column: Some(column), text: format!("row {row} (line {line}): {text}") }
    }

    /// The records as values, and none are left.
    fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch, Wrong> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter_mut().zip(schema.fields()) {
            arrays.push(column.finish(self.rows).map_err(|(at, fault)| {
                let (row, line) = (self.first + at as u64, self.lines.get(at).copied().unwrap_or_default());
                let text = format!("row {row} (line {line}): {}", fault.text);
                Wrong::File { column: fault.within_member(field.name()).path(), text }
            })?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.first += self.rows as u64;
        (self.rows, self.bytes) = (0, 0);
        self.lines.clear();
        RecordBatch::try_new_with_options(schema.clone(), arrays, &options).map_err(|e| Wrong::file(e.to_string()))
    }
}
