//! The source as the steps of a run see it: footers, columns, and bytes that have to be fetched first. Must never read what
//! nobody has asked for.

use std::fs::File;
use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::SeqCst;

use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::RunContext;
use crate::error::{IngestError, Result};
use crate::plan::{Chunk, Paths};
use crate::scan::ChunkRecords;
use crate::source::{Object, Opened, SourceColumn, SourceFile, byte_ranges, damaged, is_same, read_footer};
use crate::text::{Form, Texts};

impl RunContext {
    /// The text files, if this is one of them.
    fn text(&self, planned: &SourceFile) -> Option<(&Texts, Form)> {
        let texts = self.texts.as_ref()?;
        Some((texts, texts.form(&planned.name)?))
    }

    /// What a file's footer says.
    fn footer(&self, file: u32) -> Result<ArrowReaderMetadata> {
        let mut footers = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(footer) = footers.get(&file) {
            return Ok(footer.clone());
        }
        let planned = &self.plan.files[file as usize];
        let name = &planned.name;
        let footer = if let Some((texts, form)) = self.text(planned) {
            texts.footer(planned, form)?
        } else if planned.is_object() {
            Object::planned(planned)?.footer(name)?
        } else {
            let open = self.mirrors.open(file, planned, &self.plan.folder)?;
            read_footer(name, open.file(), planned.bytes)?
        };
        footers.insert(file, footer.clone());
        Ok(footer)
    }

    /// The file of a chunk, and what its footer says.
    fn open(&self, chunk: &Chunk) -> Result<(Opened, ArrowReaderMetadata)> {
        let planned = &self.plan.files[chunk.file as usize];
        let opened = match self.text(planned) {
            Some((texts, form)) => Opened::whole(texts.open(planned, form)?),
            None => self.mirrors.open(chunk.file, planned, &self.plan.folder)?,
        };
        Ok((opened, self.footer(chunk.file)?))
    }

    /// The file of a chunk, in which these columns of the source can be read, as far as it has them.
    fn open_for(&self, chunk: &Chunk, columns: &[String]) -> Result<(File, ArrowReaderMetadata)> {
        let (opened, footer) = self.open(chunk)?;
        let own = self.records.names_in(footer.schema(), columns);
        opened.ensure(|| byte_ranges(footer.metadata(), chunk.row_groups(), &own))?;
        Ok((opened.into_file(), footer))
    }

    /// Reads these columns of a chunk's records.
    pub(crate) fn read(&self, chunk: u32, columns: &[String]) -> Result<ChunkRecords> {
        let chunk = &self.plan.chunks[chunk as usize];
        let name = &self.plan.files[chunk.file as usize].name;
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let selected = self.records.select(&names)?;
        let (file, footer) = self.open_for(chunk, selected.inputs())?;
        let columns = self.records.columns_in(footer.schema(), selected.inputs())?;
        let (batch, kept) = selected.read(file, &footer, chunk, &columns, name)?;
        Ok(ChunkRecords::new(batch, kept))
    }

    /// Reads these columns of the source in a chunk's rows, as they are before any transform.
    pub(crate) fn read_source(&self, chunk: u32, columns: &[String]) -> Result<arrow::array::RecordBatch> {
        let chunk = &self.plan.chunks[chunk as usize];
        let (file, footer) = self.open_for(chunk, columns)?;
        let name = &self.plan.files[chunk.file as usize].name;
        let columns = self.records.columns_in(footer.schema(), columns)?;
        crate::source::read_chunk(file, &footer, chunk, &columns, name)
    }

    /// Those of these columns of the source that the file of a chunk has.
    pub(crate) fn present(&self, chunk: u32, columns: Vec<String>) -> Result<Vec<String>> {
        let footer = self.footer(self.plan.chunks[chunk as usize].file)?;
        let here = self.records.columns_in(footer.schema(), &columns)?;
        Ok(columns.into_iter().zip(here).filter(|(_, here)| here.own.is_some()).map(|(name, _)| name).collect())
    }

    /// The source column that a column of the records is, in a chunk; `None` if it is none, or nested.
    pub(crate) fn source_column(&self, chunk: u32, column: &str) -> Result<Option<SourceColumn>> {
        match self.records.pass_through(column) {
            Some(source) => self.file_column(chunk, source),
            None => Ok(None),
        }
    }

    /// A column of the source in a chunk; `None` if it is nested, or the file has it as another type or not at all: then
    /// only the general way makes it what the source has.
    pub(crate) fn file_column(&self, chunk: u32, source: &str) -> Result<Option<SourceColumn>> {
        let Ok(field) = self.records.source_schema().field_with_name(source) else { return Ok(None) };
        let own = self.own_column(chunk, source)?;
        Ok(own.filter(|own| is_same(own.data_type(), field.data_type())))
    }

    /// The same as the file itself has it, of whatever type.
    pub(crate) fn own_column(&self, chunk: u32, source: &str) -> Result<Option<SourceColumn>> {
        let chunk = &self.plan.chunks[chunk as usize];
        let (file, footer) = self.open(chunk)?;
        let columns = self.records.columns_in(footer.schema(), &[source.to_owned()])?;
        let Some(own) = columns.first().and_then(|column| column.own) else { return Ok(None) };
        let own = footer.schema().field(own);
        Ok(SourceColumn::new(file, footer.metadata().clone(), chunk, own.name(), own.data_type()))
    }

    /// Whether a chunk's file is an object, so that it costs something to read it; not, if there is no such chunk.
    pub(crate) fn is_far(&self, chunk: u32) -> bool {
        let chunk = self.plan.chunks.get(chunk as usize);
        let file = chunk.map(|chunk| &self.plan.files[chunk.file as usize]);
        // The copy of a text file is here.
        file.is_some_and(|file| file.is_object() && self.text(file).is_none())
    }

    /// Where columns of the records of a chunk are in its file: in the row groups that have rows for which `wanted`
    /// holds, by their places in the chunk.
    pub(crate) fn to_fetch(
        &self,
        chunk: u32,
        columns: &[String],
        wanted: impl Fn(Range<u32>) -> bool,
    ) -> Result<Vec<Range<u64>>> {
        let chunk = &self.plan.chunks[chunk as usize];
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let footer = self.footer(chunk.file)?;
        let columns = self.records.names_in(footer.schema(), &self.records.source_columns(&names));
        let (mut ranges, mut row) = (Vec::new(), 0);
        for group in chunk.row_groups() {
            let end = row + footer.metadata().row_group(group).num_rows() as u32;
            // A chunk that is a part of a row group needs that group, wherever its rows are in it.
            if chunk.skip > 0 || chunk.partial || wanted(row..end) {
                ranges.extend(byte_ranges(footer.metadata(), group..group + 1, &columns));
            }
            row = end;
        }
        Ok(ranges)
    }

    /// Fetches these bytes of a chunk's file, and returns when they are there.
    pub(crate) fn fetch(&self, chunk: u32, ranges: Vec<Range<u64>>) -> Result<()> {
        self.open(&self.plan.chunks[chunk as usize])?.0.ensure(|| ranges)
    }

    /// Begins to fetch them.
    pub(crate) fn fetch_ahead(&self, chunk: u32, ranges: Vec<Range<u64>>) -> Result<()> {
        let file = self.plan.chunks[chunk as usize].file;
        self.mirrors.fetch_ahead(file, &self.plan.files[file as usize], ranges)
    }

    /// Whether rows of a table are expected of every chunk that is not scanned yet: of a table without key, and in a
    /// first run of one that has grown with each chunk so far. In later runs most keys may be known ones.
    pub(crate) fn expects_rows(&self, table: usize) -> bool {
        let is_keyed = self.layout.tables[table].is_keyed();
        !self.looks && (!is_keyed || (self.plan.files_known == 0 && self.grows[table].load(SeqCst)))
    }

    /// Remembers which tables had new keys in the chunk that was scanned last.
    pub(crate) fn note_growth(&self, grown: impl Iterator<Item = bool>) {
        for (grown, grows) in grown.zip(&self.grows) {
            grows.store(grown, SeqCst);
        }
    }

    /// The rows of each row group of a chunk.
    pub(crate) fn group_rows(&self, chunk: u32) -> Result<Vec<u32>> {
        let chunk = &self.plan.chunks[chunk as usize];
        let footer = self.footer(chunk.file)?;
        Ok(chunk.row_groups().map(|group| footer.metadata().row_group(group).num_rows() as u32).collect())
    }

    /// Whether a chunk may be worked on as pages: it is made of whole row groups.
    pub(crate) fn pages_allowed(&self, chunk: u32) -> bool {
        let place = &self.plan.chunks[chunk as usize];
        self.plan.paths != Paths::General && place.skip == 0 && !place.partial
    }

    /// A chunk that cannot be read: a column in a row group, counted within the chunk.
    pub(crate) fn damaged(&self, chunk: u32, group: usize, column: &str, text: &str) -> IngestError {
        let chunk = &self.plan.chunks[chunk as usize];
        let place = Some((chunk.first_group as usize + group, column));
        damaged(&self.plan.files[chunk.file as usize].name, chunk, place, text)
    }
}
