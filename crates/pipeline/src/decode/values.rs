//! What values are made of: maps with known keys, texts, numbers, sizes, truth values, with placeholders filled in from
//! the environment. This module must never know which settings a pipeline has.

use super::{Decoder, Fields};
use crate::env;
use crate::error::{Draft, Span, listed, quoted};
use crate::nearest::nearest;
use crate::raw::{Number, Text, TextList};
use crate::yaml::{Entry, Kind, Node, Scalar};

impl Decoder<'_> {
    /// A map with these keys only, and at least the required ones. `key` is the place of the key whose value it is.
    pub(super) fn map<'n>(
        &mut self,
        node: &'n Node,
        at: &str,
        key: Span,
        keys: &'static [&'static str],
        required: &[&str],
    ) -> Option<Fields<'n>> {
        let entries: &[Entry] = match &node.kind {
            Kind::Map(entries) => entries,
            Kind::Scalar(scalar) if scalar.is_null() => {
                let message = format!("{} is empty", quoted(at));
                let help = format!("give it settings, indented below: {}", listed(keys.iter().copied()));
                self.problems.push(Draft::new(key, message).help(help));
                return None;
            }
            Kind::Scalar(_) | Kind::List(_) => {
                let help = format!("write settings as `key: value`, with these keys: {}", listed(keys.iter().copied()));
                self.wrong_type(node, at, "a map", &help);
                return None;
            }
        };
        let inside = if at.is_empty() { "at the top level".to_owned() } else { format!("in {}", quoted(at)) };
        let mut meant = Vec::new();
        for entry in entries.iter().filter(|entry| !keys.contains(&entry.key.as_str())) {
            meant.extend(self.unknown_key(entry, &inside, keys, entries));
        }
        for missing in required.iter().filter(|key| !meant.contains(key)) {
            if !entries.iter().any(|entry| entry.key == **missing) {
                let draft = Draft::new(key, format!("the key `{missing}` is missing {inside}"));
                self.problems.push(draft.help(format!("add it: `{}`", example(missing))));
            }
        }
        Some(Fields { entries, meant })
    }

    /// Complains about a key, and gives the keys that may be meant by it.
    fn unknown_key(
        &mut self,
        entry: &Entry,
        inside: &str,
        keys: &'static [&'static str],
        entries: &[Entry],
    ) -> Vec<&'static str> {
        if self.problems.is_full() {
            self.problems.push(Draft::new(entry.key_span, "an unknown key"));
            return Vec::new();
        }
        // What is there already was not meant.
        let open: Vec<_> = keys.iter().copied().filter(|key| !entries.iter().any(|entry| entry.key == *key)).collect();
        let near = nearest(&entry.key, open.iter().copied());
        let (help, meant) = if entry.key == "<<" {
            ("YAML's merge key is not read here: write the settings out".to_owned(), open)
        } else if let Some(near) = near {
            (format!("did you mean `{near}`?"), open.into_iter().filter(|key| *key == near).collect())
        } else {
            (format!("the keys here are {}", listed(keys.iter().copied())), Vec::new())
        };
        let message = format!("the key {} is unknown {inside}", quoted(&entry.key));
        self.problems.push(Draft::new(entry.key_span, message).label("unknown").help(help));
        meant
    }

    /// A text that is not blank.
    pub(super) fn text(&mut self, node: &Node, at: &str) -> Option<Text> {
        let scalar = self.scalar(node, at, "a text")?;
        if let Some(kind) = scalar.not_a_text() {
            let message = format!("{} must be a text, and is {kind}", quoted(at));
            let help = format!("if it is meant as a text, put it in quotes: \"{}\"", scalar.text);
            self.problems.push(Draft::new(node.span, message).label(kind).help(help));
            return None;
        }
        let (value, substituted) = self.expand(scalar, node.span)?;
        if value.trim().is_empty() {
            let help = if substituted {
                "the environment gives nothing for it: set the variable, or give a default, `${NAME:-default}`"
            } else {
                "give it a value, or remove it"
            };
            self.problems.push(Draft::new(node.span, format!("{} is an empty text", quoted(at))).help(help));
            return None;
        }
        let shown = if substituted { scalar.text.clone() } else { value.clone() };
        Some(Text { value, shown, span: node.span })
    }

    /// A size, which may be a number of bytes: its text.
    pub(super) fn size(&mut self, node: &Node, at: &str) -> Option<Text> {
        let scalar = self.scalar(node, at, "a size")?;
        let (value, substituted) = self.expand(scalar, node.span)?;
        let shown = if substituted { scalar.text.clone() } else { value.clone() };
        Some(Text { value, shown, span: node.span })
    }

    /// A text that may be blank.
    pub(super) fn any_text(&mut self, node: &Node, at: &str) -> Option<Text> {
        match &node.kind {
            Kind::Scalar(scalar) if !scalar.plain && scalar.text.trim().is_empty() => {
                Some(Text { value: scalar.text.clone(), shown: scalar.text.clone(), span: node.span })
            }
            _ => self.text(node, at),
        }
    }

    /// One text or several.
    pub(super) fn text_list(&mut self, node: &Node, at: &str) -> Option<TextList> {
        let items = match &node.kind {
            Kind::Scalar(_) => vec![self.text(node, at)?],
            Kind::List(nodes) => {
                // All are read before one that is broken breaks the list.
                let items: Vec<_> =
                    nodes.iter().enumerate().map(|(i, node)| self.text(node, &format!("{at}[{i}]"))).collect();
                items.into_iter().collect::<Option<_>>()?
            }
            Kind::Map(_) => {
                self.wrong_type(node, at, "a text or a list of texts", "write one name, or several as `[one, two]`");
                return None;
            }
        };
        Some(TextList { items, span: node.span })
    }

    /// A whole number of 64 bits.
    pub(super) fn number(&mut self, node: &Node, at: &str) -> Option<Number> {
        let scalar = self.scalar(node, at, "a whole number")?;
        let (value, substituted) = self.expand(scalar, node.span)?;
        if (scalar.plain || substituted)
            && let Some(value) = whole_number(value.trim())
        {
            return Some(Number { value, span: node.span });
        }
        let digits = value.trim().trim_start_matches(['+', '-']);
        let (message, help) = if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
            (
                format!("{} must be a whole number", quoted(at)),
                "write digits only, with a `-` before them at the most".to_owned(),
            )
        } else if whole_number(value.trim()).is_some() {
            (format!("{} must be a whole number, and is a text", quoted(at)), "remove the quotes".to_owned())
        } else {
            (
                format!("the number is too large for {}", quoted(at)),
                format!("whole numbers go from {} to {} here", i64::MIN, i64::MAX),
            )
        };
        self.problems.push(Draft::new(node.span, message).help(help));
        None
    }

    /// `true` or `false`.
    pub(super) fn truth_value(&mut self, node: &Node, at: &str) -> Option<bool> {
        let scalar = self.scalar(node, at, "true or false")?;
        let (value, substituted) = self.expand(scalar, node.span)?;
        if scalar.plain || substituted {
            match value.trim() {
                "true" | "True" | "TRUE" => return Some(true),
                "false" | "False" | "FALSE" => return Some(false),
                _ => {}
            }
        }
        let message = format!("{} must be true or false", quoted(at));
        self.problems.push(Draft::new(node.span, message).help("write `true` or `false`, without quotes"));
        None
    }

    /// A scalar that is something.
    pub(super) fn scalar<'n>(&mut self, node: &'n Node, at: &str, wanted: &str) -> Option<&'n Scalar> {
        let Kind::Scalar(scalar) = &node.kind else {
            self.wrong_type(node, at, wanted, "write one value, without brackets");
            return None;
        };
        if !scalar.is_null() {
            return Some(scalar);
        }
        let help = if scalar.text.is_empty() {
            "give it a value, or remove it".to_owned()
        } else {
            format!("YAML takes this for nothing; for a text put it in quotes: \"{}\"", scalar.text)
        };
        self.problems.push(Draft::new(node.span, format!("{} is empty", quoted(at))).help(help));
        None
    }

    /// Fills in placeholders. Also tells whether there were any.
    pub(super) fn expand(&mut self, scalar: &Scalar, span: Span) -> Option<(String, bool)> {
        match env::expand(&scalar.text, self.env) {
            Ok(expanded) => Some((expanded.text, expanded.substituted)),
            Err(errors) => {
                for error in errors {
                    let place = match env::locate(self.problems.written(span), error.nth) {
                        Some((start, end)) => Span { start: span.start + start, end: span.start + end, ..span },
                        None => span,
                    };
                    self.problems.push(Draft::new(place, error.message).help(error.help));
                }
                None
            }
        }
    }

    pub(super) fn wrong_type(&mut self, node: &Node, at: &str, wanted: &str, help: &str) {
        let found = match &node.kind {
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
            Kind::Scalar(scalar) => scalar.not_a_text().unwrap_or("a text"),
        };
        let at = if at.is_empty() { "the pipeline file".to_owned() } else { quoted(at) };
        let message = format!("{at} must be {wanted}, and is {found}");
        self.problems.push(Draft::new(node.span, message).label(found).help(help));
    }
}

/// YAML's whole numbers: decimal, octal and hexadecimal.
fn whole_number(text: &str) -> Option<i64> {
    if let Some(octal) = text.strip_prefix("0o") {
        return i64::from_str_radix(octal, 8).ok().filter(|_| !octal.starts_with(['+', '-']));
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with(['+', '-']));
    }
    text.parse().ok()
}

/// How a key that must be there may look.
pub(super) fn example(key: &str) -> &'static str {
    match key {
        "version" => "version: 1",
        "name" => "name: sales",
        "source" => "source: {files: data/*.parquet}",
        "files" => "files: data/*.parquet",
        "tables" => "tables: {customers: {key: email, id: customer_id}}",
        "output" => "output: {path: out}",
        "path" => "path: out",
        "from" => "from: postgres",
        "where" => "where: price >= 0",
        "after" => "after: existing/*.parquet",
        "mode" => "mode: widen",
        "type" => "type: scd2",
        "key" => "key: code",
        _ => "column: customer_id",
    }
}
