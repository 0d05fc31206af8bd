//! Makes the Parquet copy of a text file, batch by batch. The bytes are a function of the file, the pipeline and the types.

use std::fs::{self, File};
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayBuilder, ArrayRef, RecordBatch, RecordBatchOptions, StringArray, StringBuilder};
use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;

use super::rows::{Reader, Row, Wrong};
use super::values::parsed;
use super::{Form, Kind, Texts, told};
use crate::error::{IngestError, Result};
use crate::files::{make_folder, temporary};
use crate::source::{SourceFile, name_in_source};
use crate::write::{failed, properties};

/// Records that are turned into values at once.
const BATCH_ROWS: usize = 8192;
/// The same in bytes of text, about.
const BATCH_BYTES: usize = 8 << 20;
/// Bytes of text in a row group, about: so much is held until it is written.
const GROUP_BYTES: usize = 64 << 20;
/// How much of a value an error shows.
const SHOWN_CHARS: usize = 60;

impl Texts {
    /// Makes the copy, whole or not at all.
    pub(super) fn convert(
        &self,
        planned: &SourceFile,
        form: Form,
        mut reader: Reader<Box<dyn BufRead>>,
        path: &Path,
    ) -> Result<()> {
        make_folder(&self.folder)?;
        let schema = self.schema(planned, form, reader.names())?;
        let aside = temporary(path);
        let file = File::create(&aside).map_err(|e| IngestError::io("make", &aside, &e))?;
        // As everything that is read: types come from Parquet alone.
        let options = ArrowWriterOptions::new()
            .with_properties(properties(self.compression, &[], &[])?)
            .with_skip_arrow_metadata(true);
        let unwritten = |e: parquet::errors::ParquetError| failed(&aside, &e);
        let mut writer = ArrowWriter::try_new_with_options(file, schema.clone(), options).map_err(unwritten)?;
        let mut batch = Batch::new(&schema);
        let (mut row, mut group_bytes) = (Row::default(), 0);
        loop {
            let is_there = reader.next(&mut row).map_err(|wrong| told(planned, wrong))?;
            if is_there {
                self.add(&mut batch, form, &reader, &row).map_err(|wrong| told(planned, wrong))?;
            }
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
    fn schema(&self, planned: &SourceFile, form: Form, header: &[String]) -> Result<SchemaRef> {
        let type_of = |name: &str| {
            let kind = self.types.get(name_in_source(name, &self.source.rename));
            kind.cloned().ok_or_else(|| IngestError::internal(format!("column '{name}' of a text file has no type")))
        };
        let names: Vec<&String> = match form.kind {
            Kind::Csv => header.iter().collect(),
            Kind::Ndjson => self.types.keys().collect(),
        };
        let mut fields = Vec::with_capacity(names.len());
        for name in names {
            let kind = type_of(name)?;
            if !can_cast_types(&DataType::Utf8, &kind) {
                return Err(IngestError::pipeline(format!(
                    "{}: column '{name}' must be {kind}, and no text can be read as that",
                    planned.name
                ))
                .help("leave the column out of the tables, or bring it in Parquet files"));
            }
            fields.push(Field::new(name, kind, true));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Adds a record to a batch.
    fn add(&self, batch: &mut Batch, form: Form, reader: &Reader<Box<dyn BufRead>>, row: &Row) -> Result<(), Wrong> {
        let names = reader.names();
        for (cell, value) in row.values() {
            let place = match form.kind {
                Kind::Csv => cell.column,
                Kind::Ndjson => {
                    batch.place_of(cell.column, name_in_source(&names[cell.column], &self.source.rename))?
                }
            };
            let text = std::str::from_utf8(value)
                .map_err(|_| batch.wrong(row.line, &names[cell.column], "it is not UTF-8"))?;
            if !cell.is_quoted && text == self.source.csv.null {
                continue;
            }
            let column = &mut batch.columns[place];
            let text = if column.is_text { text } else { text.trim_matches([' ', '\t']) };
            // A text may be empty; a number that is, is none.
            if text.is_empty() && !column.is_text {
                continue;
            }
            if column.texts.len() > batch.rows {
                let both = format!("it has '{}' under two names", batch.columns[place].name);
                return Err(batch.wrong(row.line, &names[cell.column], &both));
            }
            column.texts.append_nulls(batch.rows - column.texts.len());
            column.texts.append_value(text);
            batch.bytes += text.len();
        }
        batch.lines.push(row.line);
        batch.rows += 1;
        Ok(())
    }
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
    /// The columns of the reader's names, as far as they were looked up.
    places: Vec<usize>,
}

struct Column {
    name: String,
    is_text: bool,
    texts: StringBuilder,
}

impl Batch {
    fn new(schema: &Schema) -> Self {
        let column = |field: &Arc<Field>| Column {
            name: field.name().clone(),
            is_text: *field.data_type() == DataType::Utf8,
            texts: StringBuilder::new(),
        };
        let columns = schema.fields().iter().map(column).collect();
        Self { first: 0, rows: 0, bytes: 0, lines: Vec::new(), columns, places: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.rows == BATCH_ROWS || self.bytes > BATCH_BYTES
    }

    /// The column of a reader's `index`-th name.
    fn place_of(&mut self, index: usize, name: &str) -> Result<usize, Wrong> {
        if let Some(&place) = self.places.get(index).filter(|&&place| place < self.columns.len()) {
            return Ok(place);
        }
        let found = self.columns.iter().position(|column| column.name == name);
        let place = found.ok_or_else(|| Wrong::file(format!("it has '{name}', which it had not before")))?;
        if self.places.len() <= index {
            self.places.resize(index + 1, usize::MAX);
        }
        self.places[index] = place;
        Ok(place)
    }

    /// What is wrong with the record that is being added.
    fn wrong(&self, line: u64, column: &str, text: &str) -> Wrong {
        let row = self.first + self.rows as u64;
        Wrong::File { column: Some(column.to_owned()), text: format!("row {row} (line {line}): {text}") }
    }

    /// The records as values, and none are left.
    fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch, Wrong> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter_mut().zip(schema.fields()) {
            column.texts.append_nulls(self.rows - column.texts.len());
            let texts: StringArray = column.texts.finish();
            match parsed(texts.clone(), field.data_type()) {
                Ok(values) => arrays.push(values),
                Err(at) => {
                    let (row, line) = (self.first + at as u64, self.lines.get(at).copied().unwrap_or_default());
                    let value = if texts.is_empty() { "" } else { texts.value(at) };
                    let mut shown: String = value.chars().take(SHOWN_CHARS).collect();
                    if shown.len() < value.len() {
                        shown.push('…');
                    }
                    let text = format!("row {row} (line {line}): '{shown}' is no {}", field.data_type());
                    return Err(Wrong::File { column: Some(field.name().clone()), text });
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.first += self.rows as u64;
        (self.rows, self.bytes) = (0, 0);
        self.lines.clear();
        RecordBatch::try_new_with_options(schema.clone(), arrays, &options).map_err(|e| Wrong::file(e.to_string()))
    }
}
