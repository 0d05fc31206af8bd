//! The keys of a chunk from the pages of its key column, page by page: what a dictionary holds is looked at once,
//! however many rows have it. Only for a key of one column that comes from the source as it is.

use std::ops::Range;

use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::basic::{Encoding, Type as Physical};
use parquet::schema::types::ColumnDescriptor;
use seriatim_pipeline::model::OnConflict;

use super::{LocalTable, Part};
use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::keys::{KeyCodec, KeyTable, NO_KEY, RowKeys, SortedKeys};
use crate::layout::TableLayout;
use crate::pages::{ColumnBytes, DecodedPage, Fault, Next, Pages, Presence, Strings, Values};
use crate::source::{SourceColumn, contain};

/// Rows that have, on average, fewer than this many of them with the same entry of a dictionary keep a handle each: that
/// takes little more room than one for each entry, and the column's pages need not be read again.
const FEW_ROWS: usize = 2;

const NOT_TEXT: &str = "a string is not valid UTF-8";

/// Stands in for the entry of a row whose value is null.
const NO_ENTRY: u32 = u32::MAX;

/// Whether the keys of a table may come from pages; what the pages are like is not known before they are read.
pub(super) fn is_possible(run: &RunContext, chunk: u32, table: &TableLayout) -> Result<bool> {
    Ok(column(run, chunk, table)?.is_some())
}

fn column(run: &RunContext, chunk: u32, table: &TableLayout) -> Result<Option<SourceColumn>> {
    let ([key], OnConflict::First, false) = (table.key.as_slice(), table.on_conflict, table.compares()) else {
        return Ok(None);
    };
    Ok(run.source_column(chunk, key)?.filter(SourceColumn::is_readable))
}

/// How many records have no key; `None` if pages do not say.
pub(super) fn count_nulls(run: &RunContext, chunk: u32, table: &TableLayout) -> Result<Option<u64>> {
    let Some(column) = column(run, chunk, table)? else { return Ok(None) };
    let mut nulls = 0;
    for group in 0..column.groups() {
        let place = Place { chunk, group, column: column.name() };
        match decode(run, &place, || column.read(group).and_then(|bytes| group_nulls(&bytes)))? {
            Some(of_group) => nulls += of_group,
            None => return Ok(None),
        }
    }
    Ok(Some(nulls))
}

fn group_nulls(column: &ColumnBytes) -> std::result::Result<u64, Fault> {
    let mut nulls = 0;
    if column.column().column_descr().max_def_level() == 0 {
        return Ok(nulls);
    }
    let mut pages = column.pages()?;
    while let Some(next) = pages.next(|_| true)? {
        if let Next::Page(page) = next {
            nulls += page.nulls() as u64;
        }
    }
    Ok(nulls)
}

/// A column in a row group of a chunk.
struct Place<'a> {
    chunk: u32,
    group: usize,
    column: &'a str,
}

/// Works on bytes of the source; `None` if they are of a kind that only the general way knows.
fn decode<T>(
    run: &RunContext,
    place: &Place<'_>,
    work: impl FnOnce() -> std::result::Result<T, Fault>,
) -> Result<Option<T>> {
    match contain(|| Ok(work())).unwrap_or_else(|text| Err(Fault::Damaged(text))) {
        Ok(done) => Ok(Some(done)),
        Err(Fault::Unsupported) => Ok(None),
        Err(Fault::Unread(error)) => Err(*error),
        Err(Fault::Damaged(text)) => Err(run.damaged(place.chunk, place.group, place.column, &text)),
    }
}

/// Merges the keys that a chunk has in a table; `None` if the pages are not of a kind that can be used.
pub(super) fn merge_keys(run: &RunContext, into: &KeyTable, chunk: u32, table: u32) -> Result<Option<LocalTable>> {
    let layout = run.table(table);
    let (Some(column), Some(codec)) = (column(run, chunk, layout)?, &layout.codec) else { return Ok(None) };
    let mut local = LocalTable::default();
    let mut base = run.first_record(chunk);
    for group in 0..column.groups() {
        let place = Place { chunk, group, column: column.name() };
        let opened = decode(run, &place, || {
            column.read(group).and_then(|bytes| Group::new(&bytes, codec, run.plan.shards, base))
        })?;
        let Some(group_keys) = opened else { return Ok(None) };
        let Some((part, nulls)) = group_keys.merge(run, into, &place)? else { return Ok(None) };
        local.parts.push(part);
        local.null_keys += nulls;
        base += column.group_rows(group);
    }
    Ok(Some(local))
}

/// The key column of one row group, being read.
struct Group<'a> {
    pages: Pages,
    codec: &'a KeyCodec,
    shards: u32,
    /// The position of the first row.
    base: u32,
    empty: KeyValues,
    dictionary: Option<KeyValues>,
    /// For each row so far the index of its entry in the dictionary, or its key's handle.
    rows: Vec<u32>,
    /// Rows that have entries.
    entries: Vec<Range<usize>>,
    nulls: u64,
}

/// What reading a page gave.
enum Step {
    End,
    Read,
    /// Keys whose handles belong to the rows of their indices.
    Keys(SortedKeys),
}

impl<'a> Group<'a> {
    fn new(column: &ColumnBytes, codec: &'a KeyCodec, shards: u32, base: u32) -> std::result::Result<Self, Fault> {
        let data_type = codec.single_type().ok_or(Fault::Unsupported)?;
        Ok(Self {
            pages: column.pages()?,
            codec,
            shards,
            base,
            empty: KeyValues::new(column.column().column_descr(), data_type)?,
            dictionary: None,
            rows: Vec::with_capacity(column.rows() as usize),
            entries: Vec::new(),
            nulls: 0,
        })
    }

    /// Merges all keys; gives what is kept of the rows, and how many have none.
    fn merge(mut self, run: &RunContext, keys: &KeyTable, place: &Place<'_>) -> Result<Option<(Part, u64)>> {
        loop {
            match decode(run, place, || self.step())? {
                None => return Ok(None),
                Some(Step::End) => break,
                Some(Step::Read) => {}
                Some(Step::Keys(sorted)) => keys.merge(&sorted, &[], place.chunk, &mut self.rows)?,
            }
        }
        let Some(entries) = self.dictionary.as_ref().map(KeyValues::len) else {
            return Ok(Some((Part::Rows(self.rows), self.nulls)));
        };
        let mut handles = vec![NO_KEY; entries];
        let Some(sorted) = decode(run, place, || self.used_entries(entries))? else { return Ok(None) };
        keys.merge(&sorted, &[], place.chunk, &mut handles)?;
        let rows = self.rows.len();
        let has_entries_only = self.entries.iter().map(ExactSizeIterator::len).sum::<usize>() == rows;
        if has_entries_only && entries * FEW_ROWS < rows {
            let nulls = u32::try_from(self.nulls).map_err(|_| IngestError::internal("more nulls than rows"))?;
            return Ok(Some((Part::Dictionary { rows: rows as u32, nulls, handles }, self.nulls)));
        }
        for row in self.entries.iter().flat_map(Clone::clone) {
            self.rows[row] = handles.get(self.rows[row] as usize).copied().unwrap_or(NO_KEY);
        }
        Ok(Some((Part::Rows(self.rows), self.nulls)))
    }

    fn step(&mut self) -> std::result::Result<Step, Fault> {
        let page = match self.pages.next(|_| true)? {
            None => return Ok(Step::End),
            Some(Next::Skipped) => return Ok(Step::Read),
            Some(Next::Dictionary(bytes, count)) => {
                let mut values = self.empty.clone();
                values.extend_plain(bytes, count)?;
                // Of all entries, as the general way does it, also of those that no row has.
                if let (KeyValues::Strings(strings, _), Some(DataType::Utf8)) = (&values, self.codec.single_type())
                    && !strings.is_text()
                {
                    return Err(Fault::damaged(NOT_TEXT));
                }
                self.dictionary = Some(values);
                return Ok(Step::Read);
            }
            Some(Next::Page(page)) => page,
        };
        self.nulls += page.nulls() as u64;
        let from = self.rows.len();
        if page.is_dictionary() {
            self.add_entries(&page)?;
            match self.entries.last_mut() {
                Some(last) if last.end == from => last.end = self.rows.len(),
                _ => self.entries.push(from..self.rows.len()),
            }
            return Ok(Step::Read);
        }
        if page.encoding != Encoding::PLAIN {
            return Err(Fault::Unsupported);
        }
        let mut values = self.empty.clone();
        values.extend_plain(page.values.clone(), page.present)?;
        let rows = from as u32..from as u32 + page.rows.len() as u32;
        self.rows.resize(rows.end as usize, NO_KEY);
        let base = self.base;
        let place = move |row: u32| Some((row, base + row));
        match &page.presence {
            Presence::All => values.sorted(self.codec, self.shards, rows.map(place)),
            Presence::Some(bits) => {
                let present = rows.zip(bits).filter(|(_, bit)| **bit == 1).map(|(row, _)| row);
                values.sorted(self.codec, self.shards, present.map(place))
            }
        }
        .map(Step::Keys)
    }

    /// Adds the entries that the rows of a page have.
    fn add_entries(&mut self, page: &DecodedPage) -> std::result::Result<(), Fault> {
        let entries = self.dictionary.as_ref().map_or(0, KeyValues::len);
        let Presence::Some(bits) = &page.presence else { return page.indices(entries, &mut self.rows) };
        let mut present = Vec::new();
        page.indices(entries, &mut present)?;
        let mut present = present.into_iter();
        let entry = |&bit: &u32| if bit == 1 { present.next().unwrap_or(NO_ENTRY) } else { NO_ENTRY };
        self.rows.extend(bits.iter().map(entry));
        Ok(())
    }

    /// The entries of the dictionary that rows have, each at the first of these.
    fn used_entries(&mut self, entries: usize) -> std::result::Result<SortedKeys, Fault> {
        let mut first = vec![NO_ENTRY; entries];
        // Backwards, so that the first row is the one that stays.
        for row in self.entries.iter().rev().flat_map(|range| range.clone().rev()) {
            if let Some(first) = first.get_mut(self.rows[row] as usize) {
                *first = row as u32;
            }
        }
        let base = self.base;
        let places = (0..).zip(&first).map(|(entry, &first)| (first != NO_ENTRY).then(|| (entry, base + first)));
        let dictionary = self.dictionary.take().ok_or(Fault::Unsupported)?;
        dictionary.sorted(self.codec, self.shards, places)
    }
}

/// Values of a key column.
#[derive(Debug, Clone)]
enum KeyValues {
    Numbers(Values),
    /// Byte strings, which are their own canonical form; the width, if they all have one.
    Strings(Strings, Option<usize>),
}

impl KeyValues {
    /// None yet.
    fn new(descriptor: &ColumnDescriptor, data_type: &DataType) -> std::result::Result<Self, Fault> {
        Ok(match (descriptor.physical_type(), data_type) {
            (Physical::BYTE_ARRAY, DataType::Utf8 | DataType::Binary) => Self::Strings(Strings::default(), None),
            (Physical::FIXED_LEN_BYTE_ARRAY, DataType::FixedSizeBinary(width)) => {
                let width = usize::try_from(*width).ok().filter(|&width| width > 0).ok_or(Fault::Unsupported)?;
                Self::Strings(Strings::default(), Some(width))
            }
            _ => Self::Numbers(Values::new(descriptor).ok_or(Fault::Unsupported)?),
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Numbers(values) => values.len(),
            Self::Strings(strings, _) => strings.len(),
        }
    }

    fn extend_plain(&mut self, bytes: Bytes, count: usize) -> std::result::Result<(), Fault> {
        match self {
            Self::Numbers(values) => values.extend_plain(&bytes, count),
            Self::Strings(strings, width) => strings.extend_plain(bytes, count, *width),
        }
    }

    /// Those that have a place, with it: an index and a position in the run.
    fn sorted(
        self,
        codec: &KeyCodec,
        shards: u32,
        places: impl Iterator<Item = Option<(u32, u32)>> + Clone,
    ) -> std::result::Result<SortedKeys, Fault> {
        let data_type = codec.single_type().ok_or(Fault::Unsupported)?;
        match self {
            Self::Numbers(values) => {
                let RowKeys::Fixed(keys, None) = codec.encode(&[values.into_array(None, data_type)?]) else {
                    return Err(Fault::Unsupported);
                };
                let used = keys.iter().zip(places);
                let used = used.filter_map(|(&key, place)| place.map(|(index, position)| (key, index, position)));
                Ok(SortedKeys::fixed(shards, used))
            }
            Self::Strings(strings, _) => {
                let used = strings.iter().zip(places);
                let used = used.filter_map(|(key, place)| place.map(|(index, position)| (key, index, position)));
                let sorted = SortedKeys::bytes(shards, used);
                if *data_type == DataType::Utf8 && !sorted.is_text() {
                    return Err(Fault::damaged(NOT_TEXT));
                }
                Ok(sorted)
            }
        }
    }
}
