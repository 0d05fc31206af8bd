//! Comma-separated values, as RFC 4180 has them, with any delimiter: values in quotes may have delimiters and line ends
//! in them, and two quotes for one. A line without anything is no record. What does not follow the rules is an error
//! with its line, and never guessed at.

use std::collections::HashSet;
use std::io::BufRead;

use super::rows::{COLUMNS, RECORD_BYTES, Row, Wrong};

/// How a file is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    pub(super) quote: Option<u8>,
    pub(super) header: bool,
}

/// A file, being read.
pub(super) struct Csv<R> {
    input: R,
    dialect: Dialect,
    names: Vec<String>,
    line: u64,
    /// Records so far.
    records: u64,
    /// The first record, where it has told how many columns there are.
    first: Option<Row>,
}

/// Where the reader is in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Record,
    Value,
    Plain,
    Quoted,
    /// After a quote in a quoted value: its end, or the first of two.
    Quote,
}

impl<R: BufRead> Csv<R> {
    /// Begins to read: the columns are known then.
    pub(super) fn new(mut input: R, dialect: Dialect) -> Result<Self, Wrong> {
        skip_mark(&mut input)?;
        let mut csv = Self { input, dialect, names: Vec::new(), line: 1, records: 0, first: None };
        let mut row = Row::default();
        let is_there = csv.record(&mut row)?;
        if !dialect.header {
            csv.names = (1..=row.cells.len()).map(numbered).collect();
            csv.first = is_there.then_some(row);
            return Ok(csv);
        }
        if !is_there {
            return Err(Wrong::file("it is empty: there is not even a header"));
        }
        for (place, (_, name)) in (1..).zip(row.values()) {
            let name = std::str::from_utf8(name).map_err(|_| Wrong::file("its header is not UTF-8"))?;
            csv.names.push(if name.trim().is_empty() { numbered(place) } else { name.to_owned() });
        }
        let mut seen = HashSet::new();
        if let Some(twice) = csv.names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(Wrong::file(format!("its header has the column '{twice}' twice")));
        }
        Ok(csv)
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn next(&mut self, row: &mut Row) -> Result<bool, Wrong> {
        if let Some(first) = self.first.take() {
            *row = first;
        } else if !self.record(row)? {
            return Ok(false);
        }
        if row.cells.len() > self.names.len() {
            return Err(self.wrong(
                row.line,
                &format!("it has {} values, and there are {} columns", row.cells.len(), self.names.len()),
            ));
        }
        self.records += 1;
        Ok(true)
    }

    fn wrong(&self, line: u64, text: &str) -> Wrong {
        Wrong::file(format!("row {} (line {line}): {text}", self.records))
    }

    /// Reads a record, which may be the header; `false` if there is none.
    fn record(&mut self, row: &mut Row) -> Result<bool, Wrong> {
        let Dialect { delimiter, quote, .. } = self.dialect;
        let mut at = At::Record;
        row.clear(self.line);
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return self.end(at, row);
            }
            let (mut used, mut is_done) = (0, false);
            while used < buffer.len() {
                let byte = buffer[used];
                let is_line_end = byte == b'\n' || byte == b'\r';
                used += 1;
                self.line += u64::from(byte == b'\n');
                match at {
                    At::Record if is_line_end => row.line = self.line,
                    At::Record | At::Value if quote == Some(byte) => at = At::Quoted,
                    At::Quoted if quote == Some(byte) => at = At::Quote,
                    At::Quoted => row.bytes.push(byte),
                    At::Quote if quote == Some(byte) => {
                        row.bytes.push(byte);
                        at = At::Quoted;
                    }
                    _ if byte == delimiter => {
                        row.end(row.cells.len(), at == At::Quote);
                        at = At::Value;
                    }
                    _ if is_line_end => {
                        row.end(row.cells.len(), at == At::Quote);
                        is_done = true;
                        break;
                    }
                    At::Quote => {
                        let text = "after the quote that ends a value there is more of it; a quote within a value is \
                                    written twice";
                        return Err(self.wrong(row.line, text));
                    }
                    At::Record | At::Value | At::Plain => {
                        row.bytes.push(byte);
                        at = At::Plain;
                    }
                }
            }
            self.input.consume(used);
            if row.bytes.len() > RECORD_BYTES {
                return Err(self.wrong(row.line, "it has more than 64 MiB: is there a quote that never ends?"));
            }
            if row.cells.len() > COLUMNS {
                return Err(self.wrong(row.line, &format!("it has more than {COLUMNS} values")));
            }
            if is_done {
                return Ok(true);
            }
        }
    }

    /// The end of the file, within a record or after it.
    fn end(&self, at: At, row: &mut Row) -> Result<bool, Wrong> {
        match at {
            At::Record => Ok(false),
            At::Quoted => Err(self.wrong(row.line, "the file ends within a quoted value")),
            At::Value | At::Plain | At::Quote => {
                row.end(row.cells.len(), at == At::Quote);
                Ok(true)
            }
        }
    }
}

/// The name of a column that has none.
fn numbered(place: usize) -> String {
    format!("column_{place}")
}

/// Skips the mark that some programs put before UTF-8.
pub(super) fn skip_mark(input: &mut impl BufRead) -> std::io::Result<()> {
    if input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
        input.consume(3);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    const COMMAS: Dialect = Dialect { delimiter: b',', quote: Some(b'"'), header: true };

    /// The header and the records, with values in quotes in brackets; or what is wrong.
    fn read_as(text: &str, dialect: Dialect, buffer: usize) -> Result<Vec<Vec<String>>, String> {
        let said = |wrong| match wrong {
            Wrong::File { text, .. } => text,
            Wrong::Unread(error) => error.to_string(),
        };
        let mut csv = Csv::new(BufReader::with_capacity(buffer, text.as_bytes()), dialect).map_err(said)?;
        let (mut rows, mut row) = (vec![csv.names().to_vec()], Row::default());
        while csv.next(&mut row).map_err(said)? {
            let shown = |(cell, value): (&super::super::rows::Cell, &[u8])| {
                let value = String::from_utf8_lossy(value).into_owned();
                if cell.is_quoted { format!("[{value}]") } else { value }
            };
            rows.push(row.values().map(shown).collect());
        }
        Ok(rows)
    }

    fn read(text: &str) -> Result<Vec<Vec<String>>, String> {
        let whole = read_as(text, COMMAS, 1 << 16);
        for buffer in [3, 4, 7] {
            assert_eq!(read_as(text, COMMAS, buffer), whole, "{text:?} in pieces of {buffer}");
        }
        whole
    }

    #[test]
    fn values_lines_and_quotes() {
        for (text, expected) in [
            ("a,b\n1,2\n", vec![vec!["a", "b"], vec!["1", "2"]]),
            ("a,b\r\n1,2\r\n", vec![vec!["a", "b"], vec!["1", "2"]]),
            ("a,b\r1,2", vec![vec!["a", "b"], vec!["1", "2"]]),
            ("\u{feff}a,b\n1,2\n\n\n3,4\n\r\n", vec![vec!["a", "b"], vec!["1", "2"], vec!["3", "4"]]),
            ("a,b\n\"x\ny\",\"he said \"\"no\"\"\"\n", vec![vec!["a", "b"], vec!["[x\ny]", "[he said \"no\"]"]]),
            ("a,b\n\"\",\n,\"\"", vec![vec!["a", "b"], vec!["[]", ""], vec!["", "[]"]]),
            ("a,b,c\n1\n1,2\n,,\n", vec![vec!["a", "b", "c"], vec!["1"], vec!["1", "2"], vec!["", "", ""]]),
            ("a b, c \n 1 ,x\"y\n", vec![vec!["a b", " c "], vec![" 1 ", "x\"y"]]),
            (",b\n1,2\n", vec![vec!["column_1", "b"], vec!["1", "2"]]),
            ("a,b", vec![vec!["a", "b"]]),
        ] {
            assert_eq!(read(text), Ok(expected.iter().map(|r| r.iter().map(ToString::to_string).collect()).collect()));
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, expected) in [
            ("", "not even a header"),
            ("\n\n", "not even a header"),
            ("a,a\n", "column 'a' twice"),
            ("a,b\n1,2\n\n1,2,3\n", "row 1 (line 4): it has 3 values, and there are 2 columns"),
            ("a\n\"x\n", "row 0 (line 2): the file ends within a quoted value"),
            ("a\nx\n\"x\"y\n", "row 1 (line 3): after the quote"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn other_dialects() {
        let other = Dialect { delimiter: b';', quote: None, header: false };
        let read = read_as("1;\"x\";\n2;\n", other, 4).expect("it is read");
        assert_eq!(read, [vec!["column_1", "column_2", "column_3"], vec!["1", "\"x\"", ""], vec!["2", ""]]);
        assert_eq!(read_as("", other, 4).expect("it is read"), [Vec::<String>::new()]);
    }
}
