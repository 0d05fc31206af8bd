//! What can go wrong with a transform, told so that the writer of the pipeline can act on it: which
//! part of the SQL (line and column), or which row with which values, why, and what to do instead.
//! Errors never carry a panic onwards and never a backtrace.

use std::fmt;

use datafusion_common::{DataFusionError, SchemaError};
use datafusion_sql::sqlparser::parser::ParserError;
use datafusion_sql::sqlparser::tokenizer::{Location as SqlLocation, Span};

/// A failed transform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// The SQL is refused. Change the SQL; nothing was evaluated.
    #[error("{0}")]
    Sql(Box<SqlError>),
    /// One row cannot be evaluated. Correct the data, or guard the expression.
    #[error("`{expression}` fails at row {row}: {reason}{}", Inputs(.inputs))]
    Row {
        /// Index of the first row that fails, counted from 0 in the batch given to `apply`.
        row: usize,
        /// The output column being computed, or `None` for the condition of a WHERE.
        output: Option<String>,
        /// The expression that fails.
        expression: String,
        /// Why it fails, for example "Divide by zero error".
        reason: String,
        /// Names and values, in that row, of the source columns that the expression depends on.
        inputs: Vec<(String, String)>,
    },
    /// An evaluation failed and no single row is to blame.
    #[error("`{expression}` fails: {reason}")]
    Evaluation {
        /// The expression that fails.
        expression: String,
        /// Why it fails.
        reason: String,
    },
    /// The batch given to `apply` does not hold the columns that the transform was planned for.
    #[error("the batch does not fit the transform: {0}")]
    Batch(String),
}

struct Inputs<'a>(&'a [(String, String)]);

impl fmt::Display for Inputs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { " (" } else { ", " })?;
            write!(f, "{name} = {value}")?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl TransformError {
    /// What to do about it, as a sentence.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Sql(error) => error.help.as_deref(),
            Self::Row { .. } | Self::Evaluation { .. } => Some(
                "correct the data, or guard the expression: TRY_CAST gives NULL instead of failing, \
                 NULLIF(x, 0) protects a division, and WHERE or CASE keep rows away from it",
            ),
            Self::Batch(_) => None,
        }
    }

    /// Where in the SQL it is, if that is known.
    pub fn location(&self) -> Option<Location> {
        match self {
            Self::Sql(error) => error.location,
            _ => None,
        }
    }

    /// The kind, for errors in the SQL.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Sql(error) => Some(error.kind),
            _ => None,
        }
    }
}

/// What is wrong with the SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// It cannot be parsed.
    Syntax,
    /// It asks for something that looks at more than one row, or at the clock, or at chance.
    NotRowWise,
    /// It names a table, column or function that does not exist.
    UnknownName,
    /// Types do not fit, or a result has a type that cannot be stored.
    Type,
    /// It is SQL, but not something that a transform can do.
    Unsupported,
}

/// A place in the SQL text, both counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Line.
    pub line: usize,
    /// Character within the line.
    pub column: usize,
}

impl Location {
    fn of(place: SqlLocation) -> Option<Self> {
        // The parser marks an unknown place with line 0.
        (place.line > 0)
            .then_some(Self { line: usize::try_from(place.line).ok()?, column: usize::try_from(place.column).ok()? })
    }
}

/// SQL that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// What is wrong, in words, without the place.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where it is.
    pub location: Option<Location>,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Location { line, column }) = self.location {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl SqlError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None, location: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn at(mut self, span: Span) -> Self {
        self.location = Location::of(span.start);
        self
    }

    /// The parser knows no place for what is missing at the end of the SQL, and calls it by another name.
    pub(crate) fn or_at_end(mut self, sql: &str) -> Self {
        if self.location.is_none()
            && let Some(expected) = self.message.strip_suffix("found: EOF")
        {
            let written = sql.trim_end();
            let last = written.lines().last().unwrap_or_default();
            self.message = format!("{expected}found: the end of the SQL");
            self.location = Some(Location { line: written.lines().count().max(1), column: last.chars().count() + 1 });
        }
        self
    }

    /// Like [`Self::at`], for an error that may know a better place already.
    pub(crate) fn or_at(self, span: Option<Span>) -> Self {
        match (self.location, span) {
            (None, Some(span)) => self.at(span),
            _ => self,
        }
    }
}

impl From<SqlError> for TransformError {
    fn from(error: SqlError) -> Self {
        Self::Sql(Box::new(error))
    }
}

impl From<ParserError> for SqlError {
    fn from(error: ParserError) -> Self {
        match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
                let (message, location) = split_location(&text);
                Self { location, ..Self::new(ErrorKind::Syntax, message) }
            }
            ParserError::RecursionLimitExceeded => {
                Self::new(ErrorKind::Syntax, "the SQL is nested too deeply to be parsed")
                    .help("take brackets out, or compute a part first in a nested SELECT")
            }
        }
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        let location = match &error {
            DataFusionError::Diagnostic(diagnostic, _) => diagnostic.span.as_ref().map(|span| Location {
                line: usize::try_from(span.start.line).unwrap_or_default(),
                column: usize::try_from(span.start.column).unwrap_or_default(),
            }),
            _ => None,
        };
        let text = reason(&error);
        if let Some((what, _)) = text.split_once(" not supported by ExprPlanner") {
            let what = if what == "GetFieldAccess" { "an element of a list" } else { what };
            let error = Self::new(ErrorKind::Unsupported, format!("{what} is not supported in a transform"));
            let help = "a field of a struct is taken as `customer['email']`, an entry of a map by its key; lists can only \
                        pass through";
            return Self { location, ..error.help(help) };
        }
        let kind = match error.find_root() {
            DataFusionError::SchemaError(inner, _) if matches!(**inner, SchemaError::FieldNotFound { .. }) => {
                ErrorKind::UnknownName
            }
            DataFusionError::NotImplemented(_) | DataFusionError::Internal(_) => ErrorKind::Unsupported,
            DataFusionError::SQL(..) => ErrorKind::Syntax,
            _ => ErrorKind::Type,
        };
        Self { location, ..Self::new(kind, text) }
    }
}

/// The cause of an engine error in its own words, without the engine's prefixes and backtraces.
pub(crate) fn reason(error: &DataFusionError) -> String {
    use datafusion_common::arrow::error::ArrowError as Arrow;
    let text = match error.find_root() {
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            Arrow::DivideByZero => "division by zero".to_owned(),
            Arrow::ArithmeticOverflow(text)
            | Arrow::CastError(text)
            | Arrow::ComputeError(text)
            | Arrow::ParseError(text)
            | Arrow::InvalidArgumentError(text)
            | Arrow::NotYetImplemented(text) => text.clone(),
            other => other.to_string(),
        },
        DataFusionError::Plan(text)
        | DataFusionError::Execution(text)
        | DataFusionError::NotImplemented(text)
        | DataFusionError::Internal(text)
        | DataFusionError::Configuration(text) => text.clone(),
        other => other.strip_backtrace(),
    };
    // Errors are sometimes made with a backtrace in their text; it says nothing to a user.
    let end = text
        .find("\n\nbacktrace:")
        .or_else(|| text.find("\nThis issue was likely caused by a bug"))
        .unwrap_or(text.len());
    text[..end].trim().to_owned()
}

/// Takes ` at Line: 3, Column: 9` off the end of a parser's message.
fn split_location(text: &str) -> (String, Option<Location>) {
    let parse = |tail: &str| {
        let (line, column) = tail.split_once(", Column: ")?;
        Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
    };
    match text.rsplit_once(" at Line: ") {
        Some((message, tail)) => match parse(tail) {
            Some(location) => (message.to_owned(), Some(location).filter(|it| it.line > 0)),
            None => (text.to_owned(), None),
        },
        None => (text.to_owned(), None),
    }
}
