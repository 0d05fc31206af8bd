//! JSON in and out without taking payloads apart: an input or an output is passed through as the text that it is, so
//! that its numbers keep their digits. This module must never recurse over what a client sent.

use std::fmt::Write as _;

use serde::Serialize;
use serde::de::IgnoredAny;

/// What a text is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// It is not JSON; where, and why.
    Invalid(String),
    /// It is nested deeper than allowed.
    TooDeep,
}

/// Checks that `text` is one JSON value with at most `depth` levels of arrays and objects.
pub(crate) fn check(text: &[u8], depth: usize) -> Result<&str, JsonError> {
    if deeper_than(text, depth) {
        return Err(JsonError::TooDeep);
    }
    let text = std::str::from_utf8(text).map_err(|error| JsonError::Invalid(format!("it is not UTF-8: {error}")))?;
    // Skipping a value is done without recursion, so this is safe whatever the depth.
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| JsonError::Invalid(error.to_string()))?;
    Ok(text)
}

/// Whether brackets outside of strings are open deeper than `limit`.
fn deeper_than(text: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in text {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

/// A stored payload as JSON: itself if it is JSON, otherwise a string, as reasons of a termination are.
pub(crate) fn stored(text: Option<&str>) -> String {
    match text {
        None => "null".to_owned(),
        Some(text) if serde_json::from_str::<IgnoredAny>(text).is_ok() => text.trim().to_owned(),
        Some(text) => quoted(text),
    }
}

/// A string as JSON.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes one object, field by field, in the order in which they are given.
#[derive(Debug)]
pub(crate) struct Object {
    text: String,
}

impl Object {
    /// An object without fields.
    pub(crate) fn new() -> Self {
        Self { text: "{".to_owned() }
    }

    /// Adds a field whose value is JSON text already.
    pub(crate) fn raw(mut self, name: &str, value: &str) -> Self {
        let comma = if self.text.len() == 1 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{comma}{}:{value}", quoted(name));
        self
    }

    /// Adds a string.
    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        self.raw(name, &quoted(value))
    }

    /// Adds a value that becomes JSON; `null` if it cannot.
    pub(crate) fn value(self, name: &str, value: &impl Serialize) -> Self {
        let value = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
        self.raw(name, &value)
    }

    /// The object as text.
    pub(crate) fn end(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

/// An array of values that are JSON text already.
pub(crate) fn array(values: impl IntoIterator<Item = String>) -> String {
    let mut text = "[".to_owned();
    for (n, value) in values.into_iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        text.push_str(&value);
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_of_strings() {
        assert_eq!(check(br#"{"a":[1,{"b":"[[[[\"[[["}]}"#, 3), Ok(r#"{"a":[1,{"b":"[[[[\"[[["}]}"#));
        assert_eq!(check(br#"{"a":[1,{"b":2}]}"#, 2), Err(JsonError::TooDeep));
        assert_eq!(check(br#"["\\",[[]]]"#, 2), Err(JsonError::TooDeep));
        let deep = "[".repeat(1 << 20);
        assert_eq!(check(deep.as_bytes(), 64), Err(JsonError::TooDeep));
        // Not even with a limit that lets it pass is it read by recursion.
        assert!(matches!(check(deep.as_bytes(), usize::MAX), Err(JsonError::Invalid(_))));
    }

    #[test]
    fn a_payload_goes_through_with_all_its_digits() {
        assert_eq!(stored(Some("[123456789012345678901234567890, 1.10]")), "[123456789012345678901234567890, 1.10]");
        assert_eq!(stored(Some("no \"JSON\"")), r#""no \"JSON\"""#);
        assert_eq!(stored(None), "null");
        for wrong in ["", "{", "1 2", "nul", "\u{1}"] {
            assert!(matches!(check(wrong.as_bytes(), 9), Err(JsonError::Invalid(_))), "{wrong}");
        }
        assert!(matches!(check(b"\"\xff\"", 9), Err(JsonError::Invalid(_))));
    }

    #[test]
    fn objects_keep_their_order_and_escape_their_names() {
        let object = Object::new().text("z\"", "1").raw("a", "[2]").value("n", &3).end();
        assert_eq!(object, r#"{"z\"":"1","a":[2],"n":3}"#);
        assert_eq!(Object::new().end(), "{}");
        assert_eq!(array(["1".to_owned(), "2".to_owned()]), "[1,2]");
    }
}
