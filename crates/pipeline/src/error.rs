//! What is wrong with a pipeline file: every problem with its place, its cause and its remedy. Problems are collected,
//! not thrown, so that a person sees all of them at once. This module must never show a value that came from the
//! environment: such a value may be a secret, so problems show what is written in the file, and of that no password.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use crate::secrets::masked;

/// More problems than this are counted, not described: nobody reads them, and a hostile file could make millions.
const MAX_PROBLEMS: usize = 100;

/// A place in one of the texts a pipeline is made of: text 0 is the file, the others are the overrides, in order.
/// Offsets are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) source: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// One of the texts a pipeline is made of.
#[derive(Debug)]
struct Source {
    /// What stands before a message in a log: the file's name, or the override's path.
    name: String,
    /// Whether lines and columns mean something to the reader: in a file they do, in an override they do not.
    is_file: bool,
    /// As it was written.
    text: String,
    /// The same as it is shown: without what may be a secret.
    shown: NamedSource<String>,
}

impl Source {
    fn new(name: String, is_file: bool, title: &str, text: &str) -> Self {
        let mut shown = NamedSource::new(title, masked(text));
        if is_file {
            shown = shown.with_language("yaml");
        }
        Self { name, is_file, text: text.to_owned(), shown }
    }
}

/// The texts that a pipeline is made of, and the problems found in them so far.
#[derive(Debug)]
pub(crate) struct Problems {
    sources: Vec<Arc<Source>>,
    found: Vec<(Span, Problem)>,
    beyond: usize,
}

impl Problems {
    pub(crate) fn new(file_name: &str, text: &str) -> Self {
        let file = Source::new(file_name.to_owned(), true, file_name, text);
        Self { sources: vec![Arc::new(file)], found: Vec::new(), beyond: 0 }
    }

    /// Adds the text of an override and gives back its number.
    pub(crate) fn add_override(&mut self, path: &str, text: &str) -> usize {
        self.sources.push(Arc::new(Source::new(format!("--set {path}"), false, "--set", text)));
        self.sources.len() - 1
    }

    /// The text at `span`, as written. Empty if the span is none of this text.
    pub(crate) fn written(&self, span: Span) -> &str {
        self.sources[span.source].text.get(span.start..span.end).unwrap_or_default()
    }

    /// Whether there are so many problems that another is only counted. Costly advice can be spared then.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= MAX_PROBLEMS
    }

    pub(crate) fn push(&mut self, draft: Draft) {
        if self.is_full() {
            self.beyond += 1;
            return;
        }
        let source = Arc::clone(&self.sources[draft.span.source]);
        let text = &source.text;
        let position = source.is_file.then(|| position(text, draft.span.start));
        let others = draft.others.into_iter().filter(|(span, _)| span.source == draft.span.source);
        let labels = std::iter::once((draft.span, draft.label))
            .chain(others)
            .filter(|_| !text.is_empty())
            .map(|(span, label)| labeled(text, span, label))
            .collect();
        let problem = Problem {
            message: draft.message,
            help: draft.help,
            place: source.name.clone(),
            position,
            source: Some(source),
            labels,
        };
        // An alias repeats what stands at its anchor, and so what is wrong there.
        if !self.found.iter().any(|(span, p)| *span == draft.span && p.message == problem.message) {
            self.found.push((draft.span, problem));
        }
    }

    /// Nothing if no problem was found; otherwise all of them, in the order of the text.
    pub(crate) fn finish(mut self) -> Result<(), PipelineErrors> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|(span, _)| *span);
        let problems = self.found.into_iter().map(|(_, problem)| problem).collect();
        Err(PipelineErrors { problems, beyond: self.beyond })
    }
}

/// A label, moved onto whole characters: a span that cuts one would make the renderer give up.
fn labeled(text: &str, span: Span, label: Option<String>) -> LabeledSpan {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    let end = text.ceil_char_boundary(span.end.clamp(start, text.len()));
    LabeledSpan::new(label, start, end - start)
}

/// Line and column (in characters) of a byte offset, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset.min(text.len()))];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// A problem in the making.
#[derive(Debug)]
pub(crate) struct Draft {
    span: Span,
    message: String,
    label: Option<String>,
    others: Vec<(Span, Option<String>)>,
    help: Option<String>,
}

impl Draft {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), label: None, others: Vec::new(), help: None }
    }

    /// A few words at the place itself.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Another place that has to do with the problem.
    pub(crate) fn also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.others.push((span, Some(label.into())));
        self
    }

    /// What to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// One thing that is wrong with a pipeline file, as a [`miette::Diagnostic`] with the place underlined in the text.
///
/// Its `Display` is the message alone; [`PipelineErrors`] shows place and remedy too.
#[derive(Debug, Clone)]
pub struct Problem {
    message: String,
    help: Option<String>,
    place: String,
    position: Option<(usize, usize)>,
    source: Option<Arc<Source>>,
    labels: Vec<LabeledSpan>,
}

impl Problem {
    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The file in which it is wrong, or the override (`--set source.files`).
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Line and column in the file, both from 1, the column in characters. `None` if the problem is in an override, or
    /// with the file as a whole.
    pub fn position(&self) -> Option<(usize, usize)> {
        self.position
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| &source.shown as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        (!self.labels.is_empty())
            .then(|| Box::new(self.labels.iter().cloned()) as Box<dyn Iterator<Item = LabeledSpan>>)
    }
}

/// All that is wrong with a pipeline file; never empty.
///
/// `Display` gives plain lines for a log: `file:line:column: message`, and `help: ...` below. [`Self::fancy`] is for a
/// terminal, with the places underlined.
#[derive(Debug, Clone)]
pub struct PipelineErrors {
    problems: Vec<Problem>,
    beyond: usize,
}

impl PipelineErrors {
    /// A problem with a text as a whole, or with getting at it.
    pub(crate) fn whole(place: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        let problem = Problem {
            message: message.into(),
            help: Some(help.into()),
            place: place.to_owned(),
            position: None,
            source: None,
            labels: Vec::new(),
        };
        Self { problems: vec![problem], beyond: 0 }
    }

    /// The problems, in the order of the file, those of overrides last. At most 100; see [`Self::beyond`].
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many problems there are that are not described.
    pub fn beyond(&self) -> usize {
        self.beyond
    }

    /// The problems for a terminal of `width` columns, each with its lines of the file and the places underlined.
    pub fn fancy(&self, color: bool, width: usize) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(width).without_syntax_highlighting();
        let mut text = String::new();
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                text.push('\n');
            }
            if handler.render_report(&mut text, problem).is_err() {
                // Only the writer can fail, and a string does not; if it ever does, the plain line is better than none.
                let _ = writeln!(text, "{}: {}", problem.place, problem.message);
            }
        }
        if self.beyond > 0 {
            let _ = writeln!(text, "... and {} more", self.beyond);
        }
        text
    }
}

impl fmt::Display for PipelineErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_char('\n')?;
            }
            f.write_str(&problem.place)?;
            if let Some((line, column)) = problem.position {
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": {}", problem.message)?;
            if let Some(help) = &problem.help {
                write!(f, "\n  help: {help}")?;
            }
        }
        if self.beyond > 0 {
            write!(f, "\n... and {} more", self.beyond)?;
        }
        Ok(())
    }
}

impl std::error::Error for PipelineErrors {}

/// A name or a value for a message: in backticks, on one line, and not longer than a person wants to read. Control
/// characters are escaped, so that a file cannot write to the terminal of whoever reads its errors, and what may be a
/// secret is hidden.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown = String::from("`");
    for (i, c) in masked(text).chars().enumerate() {
        if i == LONGEST {
            shown.push_str("...");
            break;
        }
        if c.is_control() {
            shown.extend(c.escape_debug());
        } else {
            shown.push(c);
        }
    }
    shown.push('`');
    shown
}

/// Names for a message: "`a`, `b`, `c`".
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}
