//! JSON objects, one on each line; and a cursor that goes through one once, without making anything of it. Must never go
//! into a text that is not known to be JSON.

use std::borrow::Cow;
use std::io::{BufRead, Read};

use serde::de::IgnoredAny;

use super::csv::skip_mark;
use super::infer::Looks;
use super::path::{Fault, Step};
use super::rows::{COLUMNS, RECORD_BYTES, Row, Wrong};
use super::shape::{DEPTH, Found, Shape};

/// A file, being read.
pub(super) struct Json<R> {
    input: R,
    line: u64,
    records: u64,
}

impl<R: BufRead> Json<R> {
    pub(super) fn new(mut input: R) -> Result<Self, Wrong> {
        skip_mark(&mut input)?;
        Ok(Self { input, line: 0, records: 0 })
    }

    /// Reads the next record: its bytes are an object.
    pub(super) fn next(&mut self, row: &mut Row) -> Result<bool, Wrong> {
        loop {
            self.line += 1;
            row.clear(self.line);
            let read = (&mut self.input).take(RECORD_BYTES as u64 + 1).read_until(b'\n', &mut row.bytes)?;
            if read == 0 {
                return Ok(false);
            }
            if row.bytes.len() > RECORD_BYTES {
                return Err(self.wrong("it has more than 64 MiB: are there no line ends?"));
            }
            if !row.bytes.trim_ascii().is_empty() {
                break;
            }
        }
        let text = row.text().ok_or_else(|| self.wrong("it is not UTF-8"))?;
        // From here on it is JSON, so that brackets and quotes are in pairs, however deep: it is looked at without a stack.
        if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
            return Err(self.wrong(&format!("it is no JSON: {error}")));
        }
        if Cursor::new(text).first() != b'{' {
            return Err(self.wrong("it is no JSON object, `{...}` on one line"));
        }
        self.records += 1;
        Ok(true)
    }

    fn wrong(&self, text: &str) -> Wrong {
        Wrong::file(format!("row {} (line {}): {text}", self.records, self.line))
    }

    /// What is wrong with the record that was read last.
    pub(super) fn fault(&self, fault: &Fault) -> Wrong {
        let text = format!("row {} (line {}): {}", self.records.saturating_sub(1), self.line, fault.text);
        Wrong::File { column: fault.path(), text }
    }
}

/// A place in a text that is JSON.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The beginning of a text, of which it is known that it is JSON.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn skip(&mut self, bytes: &[u8]) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().position(|byte| !bytes.contains(byte)).unwrap_or(rest.len());
    }

    /// The first byte of the value that comes, which tells what it is.
    pub(super) fn first(&mut self) -> u8 {
        self.skip(b" \t\r\n");
        self.text.as_bytes().get(self.at).copied().unwrap_or_default()
    }

    /// Goes into the object or the list that comes.
    pub(super) fn enter(&mut self) {
        self.first();
        self.at += 1;
    }

    /// Goes to the value of the next member of the object that it is in, whose name this is; else out of the object.
    pub(super) fn key(&mut self) -> Result<Option<Cow<'a, str>>, Fault> {
        self.skip(b" \t\r\n,");
        if self.first() != b'"' {
            self.at += 1;
            return Ok(None);
        }
        let key = self.string()?;
        self.first();
        self.at += 1;
        Ok(Some(key))
    }

    /// Goes to the next element of the list that it is in; else out of the list.
    pub(super) fn element(&mut self) -> bool {
        self.skip(b" \t\r\n,");
        let is_there = self.first() != b']';
        if !is_there {
            self.at += 1;
        }
        is_there
    }

    /// Goes past the text that comes: its characters.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        let written = self.value();
        let within = written.get(1..written.len().saturating_sub(1)).unwrap_or_default();
        if !within.contains('\\') {
            return Ok(Cow::Borrowed(within));
        }
        serde_json::from_str(written).map(Cow::Owned).map_err(|e| Fault::new(format!("it is no JSON: {e}")))
    }

    /// Goes past the value that comes: as it is written.
    pub(super) fn value(&mut self) -> &'a str {
        self.first();
        let bytes = self.text.as_bytes();
        let (from, mut depth, mut in_text) = (self.at, 0_usize, false);
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'\\' if in_text => self.at += 1,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b'{' | b'[' => depth += 1,
                // Of what it is in; or after a number or a word.
                b'}' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => break,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            let is_over = !in_text && depth == 0 && matches!(byte, b'"' | b'}' | b']');
            if is_over {
                break;
            }
        }
        &self.text[from..self.at]
    }

    /// Goes past the value that comes, if there is none.
    pub(super) fn null(&mut self) -> bool {
        let is_null = self.first() == b'n';
        if is_null {
            self.value();
        }
        is_null
    }
}

/// What is counted while the records of a file are looked at.
#[derive(Debug, Default)]
pub(super) struct Count {
    objects: u64,
    keys: usize,
}

impl Found {
    /// Looks at the value that comes, at a place with so many steps, of which this is settled.
    pub(super) fn look(
        &mut self,
        value: &mut Cursor<'_>,
        settled: Option<&Shape>,
        depth: usize,
        count: &mut Count,
    ) -> Result<(), Fault> {
        match value.first() {
            b'n' => drop(value.value()),
            b'"' => {
                self.looks |= Looks::TEXT;
                value.string()?;
            }
            b'{' | b'[' if depth == DEPTH || matches!(settled, Some(Shape::Leaf(_))) => {
                self.looks |= Looks::TEXT;
                value.value();
            }
            b'{' => {
                self.looks |= Looks::OBJECT;
                self.look_into(value, |name| settled.and_then(|shape| shape.after(Some(name))), depth, count)?;
            }
            b'[' => {
                self.looks |= Looks::LIST;
                value.enter();
                let inner = settled.and_then(|shape| shape.after(None));
                let element = self.element.get_or_insert_default();
                while value.element() {
                    element.look(value, inner, depth + 1, count).map_err(|fault| fault.within(Step::Element))?;
                }
            }
            _ => {
                let written = value.value();
                if !self.looks.is_text() {
                    self.looks |= Looks::of(written);
                }
            }
        }
        Ok(())
    }

    /// Looks at the members of the object that comes.
    pub(super) fn look_into<'a>(
        &mut self,
        object: &mut Cursor<'_>,
        settled: impl Fn(&str) -> Option<&'a Shape>,
        depth: usize,
        count: &mut Count,
    ) -> Result<(), Fault> {
        object.enter();
        count.objects += 1;
        let this = count.objects;
        while let Some(name) = object.key()? {
            let member = if let Some(member) = self.members.get_mut(&*name) {
                member
            } else {
                if count.keys == COLUMNS {
                    return Err(Fault::new(format!("the file has more than {COLUMNS} different keys")));
                }
                count.keys += 1;
                self.members.entry(name.clone().into_owned()).or_default()
            };
            if member.object == this {
                return Err(Fault::new("its object has it twice").within_member(&name));
            }
            member.object = this;
            let looked = member.look(object, settled(&name), depth + 1, count);
            looked.map_err(|fault| fault.within_member(&name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let said = |wrong: Wrong| match wrong {
            Wrong::File { text, .. } => text,
            Wrong::Unread(error) => error.to_string(),
        };
        let mut json = Json::new(text.as_bytes()).map_err(said)?;
        let (mut rows, mut row) = (Vec::new(), Row::default());
        while json.next(&mut row).map_err(said)? {
            let mut record = Cursor::new(row.text().expect("it is UTF-8"));
            let mut members = Vec::new();
            record.enter();
            while let Some(key) = record.key().expect("a key") {
                members.push(match record.first() {
                    b'"' => format!("{key}='{}'", record.string().expect("a text")),
                    _ => format!("{key}={}", record.value()),
                });
            }
            rows.push(members.join(" "));
        }
        Ok(rows)
    }

    #[test]
    fn records_are_objects_on_lines() {
        let text = "\u{feff}{\"a\": 1, \"b\" : \"x\\n\\u00e9\\\"\" , \"c\":null}\r\n\n  {}  \n\
                    {\"o\":{\"p\": -1.5e3},\"l\":[1,{\"x\":\"]}\"} ], \"s\":\"{,}\"}\n{\"c\":\"\",\"d\\u0020\":true}";
        let expected = ["a=1 b='x\né\"' c=null", "", "o={\"p\": -1.5e3} l=[1,{\"x\":\"]}\"} ] s='{,}'", "c='' d =true"];
        assert_eq!(read(text).expect("it is read"), expected);
        assert_eq!(read(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, expected) in [
            ("{\"a\":1}\n{\"a\":1", "row 1 (line 2): it is no JSON"),
            ("[1]\n", "row 0 (line 1): it is no JSON object"),
            ("{\"a\":1} {\"a\":2}\n", "it is no JSON"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
