//! YAML as a tree in which every value knows where it stands. The tree is close to the text: a scalar keeps its letters
//! and whether it was quoted, since only the one who reads it knows whether `1` is to be a number or a name.
//!
//! This module must never let a small text grow large: nesting is limited, and so is what aliases repeat.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, StrInput, Tag};

use crate::error::{Draft, Problems, Span, quoted};

/// Block collections in one another, and flow collections in one another: a pipeline file needs five.
const MAX_DEPTH: usize = 32;

/// What aliases may repeat in all, in bytes of text, where each value counts for [`NODE_WEIGHT`] more.
const MAX_ALIASED: usize = 4 << 20;

/// About what a value takes in memory besides its text.
const NODE_WEIGHT: usize = 64;

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A text, number, truth value or nothing: which of them is decided when it is read.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Neither quoted nor a block: it may be a number or nothing.
    pub(crate) plain: bool,
    /// From the command line, where quotes are the shell's: it may be a number as well as a text.
    pub(crate) loose: bool,
}

/// A key of a map and its value. A map's keys are all different.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

impl Scalar {
    /// Whether it is YAML's null.
    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// "a number" or "a truth value", if that is what YAML takes it for; `None` for a text.
    pub(crate) fn not_a_text(&self) -> Option<&'static str> {
        if !self.plain || self.loose {
            return None;
        }
        if matches!(self.text.as_str(), "true" | "True" | "TRUE" | "false" | "False" | "FALSE") {
            return Some("a truth value");
        }
        is_number(&self.text).then_some("a number")
    }
}

/// Whether YAML's core schema takes a plain scalar for a number.
fn is_number(text: &str) -> bool {
    let digits = |s: &str, radix| !s.is_empty() && s.chars().all(|c| c.is_digit(radix));
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8);
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(hex, 16);
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    // Rust also reads `inf` and `nan`, which are words to YAML.
    unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') && unsigned.parse::<f64>().is_ok()
}

/// A piece of YAML: the number of its text, and where in that text it begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) source: usize,
    pub(crate) offset: usize,
}

/// Reads one document. `None` if it is empty or cannot be read; the latter adds a problem. Other problems (a key that
/// is there twice, a tag) do not end the reading.
pub(crate) fn read(text: &str, piece: Piece, problems: &mut Problems) -> Option<Node> {
    let mut options = granit_parser::options! {
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    options.set_emit_comments(false);
    let mut parser = Parser::<StrInput<'_>>::new_from_str_with_options(text, options);
    let mut builder = Builder {
        length: text.len(),
        piece,
        problems,
        frames: Vec::new(),
        anchors: HashMap::new(),
        aliased: 0,
        documents: 0,
        root: None,
    };
    loop {
        let step = match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => break,
            Some(Ok((event, span))) => {
                let span = builder.span(span);
                builder.event(event, span)
            }
            Some(Err(error)) => Err(Box::new(builder.malformed(&error))),
        };
        if let Err(draft) = step {
            builder.problems.push(*draft);
            return None;
        }
    }
    builder.root
}

/// A list or map that is still open.
enum Frame {
    List { span: Span, anchor: usize, items: Vec<Node> },
    Map { span: Span, anchor: usize, entries: Vec<Entry>, key: Option<(String, Span)>, seen: HashMap<String, Span> },
}

struct Builder<'a> {
    length: usize,
    piece: Piece,
    problems: &'a mut Problems,
    frames: Vec<Frame>,
    /// What was anchored, and its weight.
    anchors: HashMap<usize, (Node, usize)>,
    aliased: usize,
    documents: usize,
    root: Option<Node>,
}

/// A problem that ends the reading. Boxed because it is large, and rare.
type Fatal = Box<Draft>;

impl Builder<'_> {
    fn span(&self, span: granit_parser::Span) -> Span {
        let range = span.byte_range().unwrap_or(self.length..self.length);
        let Piece { source, offset } = self.piece;
        Span { source, start: range.start + offset, end: range.end + offset }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Fatal> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let draft = Draft::new(span, "a second YAML document begins here").label("second document");
                    return Err(Box::new(draft.help("a file holds one pipeline: make this a file of its own")));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !self.check_tag(tag.as_deref(), span);
                // The parser gives `~` for nothing at all.
                let text = if plain && span.start == span.end { String::new() } else { text.into_owned() };
                let kind = Kind::Scalar(Scalar { text, plain, loose: false });
                self.complete(Node { span, kind }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), span);
                self.frames.push(Frame::List { span, anchor, items: Vec::new() });
                Ok(())
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), span);
                let (entries, seen) = (Vec::new(), HashMap::new());
                self.frames.push(Frame::Map { span, anchor, entries, key: None, seen });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.frames.pop() {
                Some(Frame::List { span: start, anchor, items }) => {
                    let span = collection_span(start, span, items.first().map(|item| item.span));
                    self.complete(Node { span, kind: Kind::List(items) }, anchor)
                }
                Some(Frame::Map { span: start, anchor, entries, .. }) => {
                    let span = collection_span(start, span, entries.first().map(|entry| entry.key_span));
                    self.complete(Node { span, kind: Kind::Map(entries) }, anchor)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::UnresolvedAlias(name) => {
                let name = quoted(&format!("*{name}"));
                let draft = Draft::new(span, format!("no anchor stands before the YAML alias {name}"))
                    .label("taken for an alias")
                    .help(format!(
                        "if it is a text that begins with `*`, put it in quotes: \"{}\"",
                        name.trim_matches('`')
                    ));
                Err(Box::new(draft))
            }
            _ => Ok(()),
        }
    }

    /// Whether a tag makes a scalar a text. Tags other than YAML's own are a problem.
    fn check_tag(&mut self, tag: Option<&Tag>, span: Span) -> bool {
        let Some(tag) = tag else { return false };
        let suffix = tag.core_suffix();
        if suffix.is_none() && tag.is_custom() {
            let draft = Draft::new(span, format!("the YAML tag {} has no meaning here", quoted(&tag.original())));
            self.problems.push(draft.help("remove it"));
        }
        !matches!(suffix, Some("int" | "null" | "bool" | "float"))
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Fatal> {
        let Some((node, weight)) = self.anchors.get(&anchor) else {
            let draft = Draft::new(span, "this YAML alias repeats what it is a part of");
            return Err(Box::new(draft.help("write the values out instead")));
        };
        if self.aliased + weight <= MAX_ALIASED {
            self.aliased += weight;
            let node = node.clone();
            return self.complete(node, 0);
        }
        Err(Box::new(too_much(span)))
    }

    /// Puts a complete value where it belongs.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), Fatal> {
        if anchor != 0 {
            // An anchored value is kept a second time, so it counts too.
            let weight = weight(&node);
            if self.aliased + weight > MAX_ALIASED {
                return Err(Box::new(too_much(node.span)));
            }
            self.aliased += weight;
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        match self.frames.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { entries, key, seen, .. }) => match key.take() {
                None => match node.kind {
                    Kind::Scalar(scalar) => *key = Some((scalar.text, node.span)),
                    Kind::List(_) | Kind::Map(_) => {
                        let draft = Draft::new(node.span, "a list or a map cannot be a key here");
                        return Err(Box::new(draft.help("if it is a value, put its key and a colon before it")));
                    }
                },
                Some((key, key_span)) => {
                    if let Some(first) = seen.get(&key) {
                        let draft = Draft::new(key_span, format!("the key {} is here twice", quoted(&key)))
                            .label("again")
                            .also(*first, "first")
                            .help("remove one of them, or put them together");
                        self.problems.push(draft);
                    } else {
                        seen.insert(key.clone(), key_span);
                        entries.push(Entry { key, key_span, value: node });
                    }
                }
            },
        }
        Ok(())
    }

    fn malformed(&self, error: &ScanError) -> Draft {
        let start = error.marker().byte_offset().unwrap_or(self.length) + self.piece.offset;
        let span = Span { source: self.piece.source, start, end: start };
        let message = match error.kind() {
            ErrorKind::RecursionLimitExceeded => {
                format!("lists and maps are nested more than {MAX_DEPTH} deep")
            }
            _ => format!("this is not YAML: {}", error.info()),
        };
        Draft::new(span, message).label("here").help(advice(error.kind()))
    }
}

fn too_much(span: Span) -> Draft {
    let draft = Draft::new(span, "the YAML anchors and aliases of this file repeat more than 4 MiB");
    draft.help("write the values out instead")
}

/// What to underline for a list or map: its brackets and what is between them; without brackets, its first line's
/// beginning, because its whole would be a page.
fn collection_span(start: Span, end: Span, first: Option<Span>) -> Span {
    match first {
        _ if start.end > start.start && end.end > end.start => Span { end: end.end, ..start },
        Some(first) => first,
        None => start,
    }
}

fn weight(node: &Node) -> usize {
    let inside: usize = match &node.kind {
        Kind::Scalar(scalar) => scalar.text.len(),
        Kind::List(items) => items.iter().map(weight).sum(),
        Kind::Map(entries) => entries.iter().map(|entry| entry.key.len() + weight(&entry.value)).sum(),
    };
    inside + NODE_WEIGHT
}

/// The remedy for what people get wrong in YAML.
fn advice(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => "indent with spaces: YAML does not allow tabs there",
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => "add the closing quote",
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::MismatchedFlowCollectionEnd { .. }
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::MisplacedFlowCollectionEnd => {
            "close every `[` with `]` and every `{` with `}`; inside them put a text with `${NAME}` in quotes"
        }
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => {
            "put a text that contains `: ` in quotes, and begin each key on its own line"
        }
        ErrorKind::UnknownQuotedScalarEscape | ErrorKind::InvalidQuotedScalarHexEscape => {
            "write `\\\\` for a backslash, or use single quotes"
        }
        ErrorKind::MissingAnchorOrAliasName | ErrorKind::UnexpectedCharacter { .. } => {
            "put a text that begins with one of `* & @ % ! |` or a backtick in quotes"
        }
        ErrorKind::RecursionLimitExceeded => "a pipeline file needs five levels at most",
        _ => "check the indentation: keys of one map begin in the same column, and a space follows each colon",
    }
}
