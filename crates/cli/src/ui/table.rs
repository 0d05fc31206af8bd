//! Columns of text for a terminal: names to the left, numbers to the right, nothing drawn around them. Must never let
//! a value from the data control the terminal.

use unicode_width::UnicodeWidthStr;

/// To which side a column's values go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of text under a header.
#[derive(Debug)]
pub(crate) struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(columns: &[(&str, Side)]) -> Self {
        Self {
            sides: columns.iter().map(|(_, side)| *side).collect(),
            rows: vec![columns.iter().map(|(name, _)| printable(name)).collect()],
        }
    }

    /// Adds a row: one value for each column.
    pub(crate) fn row(&mut self, values: impl IntoIterator<Item = String>) {
        self.rows.push(values.into_iter().map(|value| printable(&value)).collect());
    }

    /// The lines, the header first, each behind `indent`.
    pub(crate) fn lines(&self, indent: &str) -> Vec<String> {
        let widths: Vec<usize> = (0..self.sides.len())
            .map(|column| self.rows.iter().map(|row| row[column].width()).max().unwrap_or(0))
            .collect();
        let line = |row: &Vec<String>| {
            let mut text = indent.to_owned();
            for ((value, width), side) in row.iter().zip(&widths).zip(&self.sides) {
                if text.len() > indent.len() {
                    text.push_str("  ");
                }
                let padding = " ".repeat(width - value.width());
                match side {
                    Side::Left => text.extend([value.as_str(), &padding]),
                    Side::Right => text.extend([&padding, value.as_str()]),
                }
            }
            text.truncate(text.trim_end().len());
            text
        };
        self.rows.iter().map(line).collect()
    }
}

/// The value with control characters escaped: data may hold anything, also what moves a cursor.
pub(crate) fn printable(value: &str) -> String {
    if value.chars().any(char::is_control) {
        value.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{Side, Table};

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("table", Side::Left), ("rows", Side::Right), ("ids", Side::Left)]);
        table.row(["customers".to_owned(), "78,123".to_owned(), "1..78123".to_owned()]);
        table.row(["ö".to_owned(), "5".to_owned(), "-".to_owned()]);
        assert_eq!(
            table.lines("  "),
            ["  table        rows  ids", "  customers  78,123  1..78123", "  ö               5  -"]
        );
    }

    #[test]
    fn wide_characters_take_two_places() {
        let mut table = Table::new(&[("city", Side::Left), ("rows", Side::Right)]);
        table.row(["東京".to_owned(), "1".to_owned()]);
        table.row(["Ko\u{308}ln".to_owned(), "20".to_owned()]);
        assert_eq!(table.lines(""), ["city  rows", "東京     1", "Ko\u{308}ln    20"]);
    }

    #[test]
    fn values_cannot_control_the_terminal() {
        let mut table = Table::new(&[("name", Side::Left)]);
        table.row(["\u{1b}[2Jbye\n".to_owned()]);
        assert_eq!(table.lines("")[1], "\\u{1b}[2Jbye\\n");
    }
}
