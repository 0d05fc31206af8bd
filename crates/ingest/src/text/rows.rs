//! One record of a text file after another: its values as text, or an object of JSON as it is written. Must never hold more
//! than one record, nor take the end of a file for the end of a value.

use std::io::BufRead;

use super::csv::Csv;
use super::json::Json;

/// A record may have this many bytes: what is longer is a quote that never ends, or a file of another form.
pub(super) const RECORD_BYTES: usize = 64 << 20;
/// A file may have this many columns.
pub(super) const COLUMNS: usize = 10_000;

/// What is wrong with a text file, and where.
#[derive(Debug)]
pub(super) enum Wrong {
    /// The file is to blame.
    File { column: Option<String>, text: String },
    /// The system has refused to read it.
    Unread(std::io::Error),
}

impl Wrong {
    pub(super) fn file(text: impl Into<String>) -> Self {
        Self::File { column: None, text: text.into() }
    }
}

impl From<std::io::Error> for Wrong {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
        // What a decompressor cannot make sense of; the system says none of these.
        match error.kind() {
            InvalidData | InvalidInput | UnexpectedEof => Self::file(format!("it cannot be decompressed: {error}")),
            Other if error.raw_os_error().is_none() => Self::file(format!("it cannot be decompressed: {error}")),
            _ => Self::Unread(error),
        }
    }
}

/// A value of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    /// The column, as a place among the names of the file.
    pub(super) column: usize,
    /// Where the text ends that began where the value before it ended.
    end: usize,
    /// Whether it is a value even if it is the text that stands for none.
    pub(super) is_quoted: bool,
}

/// A record: the values that it has, in the order in which they come; or the object that it is.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) bytes: Vec<u8>,
    pub(super) cells: Vec<Cell>,
    /// The line that it begins in, counted from 1.
    pub(super) line: u64,
}

impl Row {
    pub(super) fn clear(&mut self, line: u64) {
        self.bytes.clear();
        self.cells.clear();
        self.line = line;
    }

    /// Ends a value: the bytes since the last one are it.
    pub(super) fn end(&mut self, column: usize, is_quoted: bool) {
        self.cells.push(Cell { column, end: self.bytes.len(), is_quoted });
    }

    /// All of it, if it is UTF-8.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    /// The bytes of each value.
    pub(super) fn values(&self) -> impl Iterator<Item = (&Cell, &[u8])> {
        let mut from = 0;
        self.cells.iter().map(move |cell| {
            let value = &self.bytes[from..cell.end];
            from = cell.end;
            (cell, value)
        })
    }
}

/// A text file, being read.
pub(super) enum Reader<R> {
    Csv(Csv<R>),
    Json(Json<R>),
}

impl<R: BufRead> Reader<R> {
    /// The names that the file itself has for its columns.
    pub(super) fn header(&self) -> &[String] {
        match self {
            Self::Csv(csv) => csv.names(),
            Self::Json(_) => &[],
        }
    }
}
