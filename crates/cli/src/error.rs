//! Why a command did not do what it was asked, by the exit code that follows from it. Must never decide what to do next.

use std::process::ExitCode;

use seriatim_ingest::IngestError;
use seriatim_pipeline::PipelineErrors;

use crate::ui::Ui;

/// The exit code of a process that was interrupted: 128 and the number of SIGINT, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum CliError {
    /// The command line is wrong (exit code 2).
    CommandLine {
        /// What is wrong.
        message: String,
        /// What to do.
        help: String,
    },
    /// The pipeline file is wrong (exit code 2).
    Pipeline(PipelineErrors),
    /// The ingest failed (exit code by kind).
    Ingest(IngestError),
    /// Something else failed (exit code 1).
    Failed {
        /// What happened, and to what.
        message: String,
        /// What to do, if the message does not say it.
        help: Option<String>,
    },
    /// A signal ended it (exit code 130); what there was to say has been said.
    Interrupted,
}

impl CliError {
    /// Something failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), help: None }
    }

    /// Something failed, with advice.
    pub(crate) fn failed_with(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), help: Some(help.into()) }
    }

    /// An operation of the operating system on a path failed.
    pub(crate) fn io(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        IngestError::io(doing, path, error).into()
    }

    /// Says it on stderr.
    pub(crate) fn report(&self, ui: &Ui) {
        match self {
            Self::CommandLine { message, help } => ui.error(message, Some(help)),
            Self::Pipeline(errors) => ui.pipeline_errors(errors),
            Self::Ingest(error) => ui.error(&error.message, error.help.as_deref()),
            Self::Failed { message, help } => ui.error(message, help.as_deref()),
            Self::Interrupted => {}
        }
    }

    /// The exit code of a process that ends with it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::CommandLine { .. } | Self::Pipeline(_) => ExitCode::from(2),
            Self::Ingest(error) => ExitCode::from(error.kind.exit_code()),
            Self::Failed { .. } => ExitCode::FAILURE,
            Self::Interrupted => ExitCode::from(INTERRUPTED),
        }
    }
}

impl From<IngestError> for CliError {
    fn from(error: IngestError) -> Self {
        Self::Ingest(error)
    }
}

impl From<PipelineErrors> for CliError {
    fn from(errors: PipelineErrors) -> Self {
        Self::Pipeline(errors)
    }
}

/// An error's message, and those of its causes behind it.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    message
}
