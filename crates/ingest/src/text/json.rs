//! JSON objects, one on each line. An object within a record is taken apart: its members are columns of their own, called
//! `outer.inner`; a list is its text. A key that a record lacks, and one that is `null`, has no value.

use std::collections::HashMap;
use std::io::{BufRead, Read};

use serde::de::IgnoredAny;

use super::csv::skip_mark;
use super::rows::{COLUMNS, RECORD_BYTES, Row, Wrong};

/// A file, being read.
pub(super) struct Json<R> {
    input: R,
    names: Vec<String>,
    places: HashMap<String, usize>,
    text: Vec<u8>,
    line: u64,
    records: u64,
}

impl<R: BufRead> Json<R> {
    pub(super) fn new(mut input: R) -> Result<Self, Wrong> {
        skip_mark(&mut input)?;
        Ok(Self { input, names: Vec::new(), places: HashMap::new(), text: Vec::new(), line: 0, records: 0 })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn next(&mut self, row: &mut Row) -> Result<bool, Wrong> {
        let mut text = std::mem::take(&mut self.text);
        let is_there = self.line_of(&mut text, row);
        self.text = text;
        is_there
    }

    fn line_of(&mut self, text: &mut Vec<u8>, row: &mut Row) -> Result<bool, Wrong> {
        loop {
            text.clear();
            self.line += 1;
            let read = (&mut self.input).take(RECORD_BYTES as u64 + 1).read_until(b'\n', text)?;
            if read == 0 {
                return Ok(false);
            }
            row.clear(self.line);
            if text.len() > RECORD_BYTES {
                return Err(self.wrong("it has more than 64 MiB: are there no line ends?"));
            }
            if !text.trim_ascii().is_empty() {
                break;
            }
        }
        let object = std::str::from_utf8(text).map_err(|_| self.wrong("it is not UTF-8"))?.trim();
        // From here on it is JSON, so that brackets and quotes are in pairs.
        if let Err(error) = serde_json::from_str::<IgnoredAny>(object) {
            return Err(self.wrong(&format!("it is no JSON: {error}")));
        }
        if !object.starts_with('{') {
            return Err(self.wrong("it is no JSON object, `{...}` on one line"));
        }
        self.members(object, "", row)?;
        let mut seen: Vec<usize> = row.cells.iter().map(|cell| cell.column).collect();
        seen.sort_unstable();
        if let Some(twice) = seen.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(self.wrong(&format!("it has '{}' twice", self.names[twice[0]])));
        }
        self.records += 1;
        Ok(true)
    }

    fn wrong(&self, text: &str) -> Wrong {
        Wrong::file(format!("row {} (line {}): {text}", self.records, self.line))
    }

    /// Adds the members of an object, of which it is known that it is JSON. How deep objects go within each other is
    /// bounded by the parser that has looked at it.
    fn members(&mut self, object: &str, outer: &str, row: &mut Row) -> Result<(), Wrong> {
        let mut rest = object[1..].trim_start();
        while let Some(key) = rest.starts_with('"').then(|| value_of(rest)) {
            let name: String = serde_json::from_str(key).map_err(|e| self.wrong(&e.to_string()))?;
            let name = if outer.is_empty() { name } else { format!("{outer}.{name}") };
            // After the key a colon, after the value a comma or the end.
            rest = rest[key.len()..].trim_start()[1..].trim_start();
            let value = value_of(rest);
            match value.as_bytes().first() {
                Some(b'{') => self.members(value, &name, row)?,
                Some(b'n') => {
                    self.place(name)?;
                }
                Some(b'"') => {
                    let place = self.place(name)?;
                    let text: String = serde_json::from_str(value).map_err(|e| self.wrong(&e.to_string()))?;
                    row.bytes.extend_from_slice(text.as_bytes());
                    row.end(place, true, true);
                }
                first => {
                    let (place, is_list) = (self.place(name)?, first == Some(&b'['));
                    row.bytes.extend_from_slice(value.as_bytes());
                    row.end(place, is_list, true);
                }
            }
            rest = rest[value.len()..].trim_start()[1..].trim_start();
        }
        Ok(())
    }

    fn place(&mut self, name: String) -> Result<usize, Wrong> {
        if let Some(&place) = self.places.get(&name) {
            return Ok(place);
        }
        let place = self.names.len();
        if place == COLUMNS {
            return Err(self.wrong(&format!("the file has more than {COLUMNS} different keys")));
        }
        self.names.push(name.clone());
        self.places.insert(name, place);
        Ok(place)
    }
}

/// The value that a text begins with, of which it is known that it is JSON.
fn value_of(text: &str) -> &str {
    let bytes = text.as_bytes();
    let (mut depth, mut in_text, mut at) = (0_usize, false, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_text => at += 1,
            b'"' => {
                in_text = !in_text;
                if !in_text && depth == 0 {
                    return &text[..=at];
                }
            }
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 1 => depth -= 1,
            b'}' | b']' if depth == 1 => return &text[..=at],
            // Of a number or a word.
            b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return &text[..at],
            _ => {}
        }
        at += 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let said = |wrong| match wrong {
            Wrong::File { text, .. } => text,
            Wrong::Unread(error) => error.to_string(),
        };
        let mut json = Json::new(text.as_bytes()).map_err(said)?;
        let (mut rows, mut row) = (Vec::new(), Row::default());
        while json.next(&mut row).map_err(said)? {
            let shown = row.values().map(|(cell, value)| {
                let value = String::from_utf8_lossy(value);
                let name = &json.names()[cell.column];
                if cell.is_text { format!("{name}='{value}'") } else { format!("{name}={value}") }
            });
            rows.push(shown.collect::<Vec<_>>().join(" "));
        }
        Ok(rows)
    }

    #[test]
    fn records_are_objects_on_lines() {
        let text = "\u{feff}{\"a\": 1, \"b\" : \"x\\n\\u00e9\\\"\" , \"c\":null}\r\n\n  {}  \n\
                    {\"o\":{\"p\":{\"q\":-1.5e3},\"r\":true},\"l\":[1,{\"x\":\"]}\"}], \"s\":\"{,}\"}\n{\"c\":\"\"}";
        let expected = ["a=1 b='x\né\"'", "", "o.p.q=-1.5e3 o.r=true l='[1,{\"x\":\"]}\"}]' s='{,}'", "c=''"];
        assert_eq!(read(text).expect("it is read"), expected);
        assert_eq!(read(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, expected) in [
            ("{\"a\":1}\n{\"a\":1", "row 1 (line 2): it is no JSON"),
            ("[1]\n", "row 0 (line 1): it is no JSON object"),
            ("{\"a\":1} {\"a\":2}\n", "it is no JSON"),
            ("{\"a\":1,\"a\":2}\n", "it has 'a' twice"),
            ("{\"a.b\":1,\"a\":{\"b\":2}}\n", "it has 'a.b' twice"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    proptest::proptest! {
        /// Whatever JSON there is, the values are found again.
        #[test]
        fn values_are_cut_where_they_end(keys in proptest::collection::btree_map("[a-z\\\\\"é]{0,4}", "[\\[\\]{}:,\\\\\" a-zé]{0,9}", 0..5)) {
            let text = serde_json::to_string(&keys).expect("JSON");
            let mut json = Json::new(text.as_bytes()).map_err(|_| ()).expect("it begins");
            let mut row = Row::default();
            proptest::prop_assert!(matches!(json.next(&mut row), Ok(true)));
            let found: std::collections::BTreeMap<String, String> = row
                .values()
                .map(|(cell, value)| (json.names()[cell.column].clone(), String::from_utf8_lossy(value).into_owned()))
                .collect();
            proptest::prop_assert_eq!(found, keys);
        }
    }
}
