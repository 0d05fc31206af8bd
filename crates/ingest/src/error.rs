//! The errors of an ingest: a few kinds, by what the caller should do, each with what happened, to what, and what to
//! do next. An error crosses the durable layer as the protocol's failure details and comes back as the same error.
//! This module must never decide what is an error.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use seriatim_durable::Failure;

/// What the caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The pipeline does not fit the data or itself: change the pipeline file (exit code 2).
    Pipeline,
    /// A source file is missing, damaged or not what it was: mend or remove the file that is named (exit code 1).
    Input,
    /// The output folder is not what the last run left there: the message says which file (exit code 1).
    Output,
    /// The state folder, or the counter that IDs come from, cannot be used: held by another process, damaged, or not
    /// ours to use (exit code 1).
    State,
    /// The machine failed, or a service that it needs: disk full, no permission, out of handles, nobody answers. Mend the
    /// cause and run again (exit code 1).
    System,
    /// The run was cancelled on request; nothing of it was published (exit code 1).
    Cancelled,
    /// A promise inside this program was broken: please report it (exit code 1).
    Internal,
}

impl ErrorKind {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Pipeline, "PipelineError"),
        (Self::Input, "InputError"),
        (Self::Output, "OutputError"),
        (Self::State, "StateError"),
        (Self::System, "SystemError"),
        (Self::Cancelled, "Cancelled"),
        (Self::Internal, "InternalError"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("InternalError", |(_, name)| name)
    }

    /// The exit code of a program that ends with such an error.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Pipeline => 2,
            _ => 1,
        }
    }
}

/// Why an ingest did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestError {
    /// What the caller should do.
    pub kind: ErrorKind,
    /// What happened, and to what.
    pub message: String,
    /// What to do next, if the message does not already say it.
    pub help: Option<String>,
    /// The source file that is to blame, if it is one that cannot be read. Within a step: it does not cross the durable
    /// layer.
    pub file: Option<Box<BadFile>>,
}

/// A source file that cannot be read: damaged, truncated, or no Parquet at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadFile {
    /// The file, as the pipeline reaches it.
    pub file: String,
    /// The row group, counted from 0, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_group: Option<u64>,
    /// The column, with what it is nested in, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl BadFile {
    /// One of which no more is known.
    pub(crate) fn new(file: &str, reason: impl Into<String>) -> Self {
        Self { file: file.to_owned(), row_group: None, column: None, reason: reason.into() }
    }

    /// The same with the place where it is wrong.
    #[must_use]
    pub(crate) fn at(mut self, row_group: usize, column: &str) -> Self {
        self.row_group = Some(row_group as u64);
        self.column = Some(column.to_owned());
        self
    }
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(group) = self.row_group {
            write!(f, ", row group {group}")?;
        }
        if let Some(column) = &self.column {
            write!(f, ", column '{column}'")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// The outcome of a step of an ingest.
pub type Result<T, E = IngestError> = std::result::Result<T, E>;

impl IngestError {
    /// An error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None, file: None }
    }

    /// The pipeline does not fit.
    pub fn pipeline(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Pipeline, message)
    }

    /// A source file is at fault.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, message)
    }

    /// A source file cannot be read.
    pub(crate) fn bad_file(bad: BadFile) -> Self {
        Self { message: bad.to_string(), file: Some(Box::new(bad)), ..Self::input("") }
            .help("the file is damaged: write it again under the same name, or remove it, then run again")
    }

    /// The output folder is at fault.
    pub fn output(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Output, message)
    }

    /// The state folder is at fault.
    pub fn state(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::State, message)
    }

    /// A broken promise of this program.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
            .help("this is a defect of the program; nothing was published. Please report it with this message")
    }

    /// An operation of the operating system on `path` failed.
    pub fn io(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        let e = Self::new(ErrorKind::System, format!("cannot {doing} {}: {error}", path.display()));
        match error.kind() {
            // Whether the run is published is not said: a disk may be full of the last words of one that is.
            std::io::ErrorKind::StorageFull => {
                e.help("free some space, then run again: no ID is lost, and nothing is ingested twice")
            }
            std::io::ErrorKind::PermissionDenied => e.help("give this user the permission, then run again"),
            // What is there, or is not, is not the disk's doing; the path says enough.
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::AlreadyExists
            | std::io::ErrorKind::IsADirectory
            | std::io::ErrorKind::NotADirectory => e,
            _ => {
                e.help("mend the cause (a failing disk?), then run again: no ID is lost, and nothing is ingested twice")
            }
        }
    }

    /// The same error with advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<seriatim_storage::Error> for IngestError {
    fn from(error: seriatim_storage::Error) -> Self {
        use seriatim_storage::ErrorKind as Storage;
        let kind = match error.kind {
            Storage::Invalid => ErrorKind::Pipeline,
            Storage::NotFound | Storage::Changed => ErrorKind::Input,
            Storage::Unauthorised | Storage::Unavailable | Storage::Other => ErrorKind::System,
        };
        Self { kind, message: error.message, help: error.help, file: None }
    }
}

impl fmt::Display for IngestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for IngestError {}

impl From<IngestError> for Failure {
    fn from(error: IngestError) -> Self {
        let mut failure = Failure::new(error.kind.name(), error.message);
        // A second attempt of a pure step on the same input ends the same way; only the machine's own troubles pass.
        failure.non_retriable = error.kind != ErrorKind::System;
        if let Some(help) = error.help {
            failure.properties = BTreeMap::from([("help".to_owned(), serde_json::Value::from(help))]);
        }
        failure
    }
}

impl From<Failure> for IngestError {
    fn from(failure: Failure) -> Self {
        let known = ErrorKind::ALL.iter().find(|(_, name)| *name == failure.error_type);
        match known {
            Some((kind, _)) => {
                let help = failure.properties.get("help").and_then(|h| h.as_str()).map(str::to_owned);
                Self { kind: *kind, message: failure.message, help, file: None }
            }
            None => Self::internal(format!("{}: {}", failure.error_type, failure.message)),
        }
    }
}
