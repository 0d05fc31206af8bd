//! What goes to the terminal: data to stdout, everything else to stderr. A reader that closes its end of a pipe is no
//! error. Must never decide what to say.

pub(crate) mod human;
pub(crate) mod progress;
pub(crate) mod table;

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::args::{Global, When};
use crate::error::CliError;

/// The two streams, and how to write to them.
#[derive(Debug)]
pub(crate) struct Ui {
    stdout: Paint,
    stderr: Paint,
    remarks: Remarks,
    /// The width of stderr's terminal, in columns; 100 where there is none.
    width: usize,
    stdout_closed: AtomicBool,
}

/// How much is said on stderr besides errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remarks {
    /// Nothing.
    None,
    /// Lines.
    Lines,
    /// Lines, and a bar that moves.
    Live,
}

/// Whether a stream has colours.
#[derive(Debug, Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn on(self, tone: Tone, text: &str) -> String {
        if self.0 { format!("{}{text}\x1b[0m", tone.code()) } else { text.to_owned() }
    }
}

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tone {
    /// Headings.
    Strong,
    /// What went well.
    Good,
    /// What went wrong.
    Bad,
    /// What to do, and what is said in passing.
    Soft,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Strong => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[1;31m",
            Self::Soft => "\x1b[36m",
        }
    }
}

impl Ui {
    /// The streams of this process.
    pub(crate) fn new(global: &Global) -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let paint = |terminal: bool| {
            Paint(match global.color {
                When::Always => true,
                When::Never => false,
                When::Auto => terminal && !forbidden,
            })
        };
        let terminal = io::stderr().is_terminal();
        Self {
            stdout: paint(io::stdout().is_terminal()),
            stderr: paint(terminal),
            remarks: match (global.quiet, terminal && global.log.is_none()) {
                (true, _) => Remarks::None,
                // Log lines would tear a moving bar, so whoever asks for a log gets lines.
                (false, false) => Remarks::Lines,
                (false, true) => Remarks::Live,
            },
            width: stderr_width(),
            stdout_closed: AtomicBool::new(false),
        }
    }

    /// How much is said on stderr besides errors.
    pub(crate) fn remarks(&self) -> Remarks {
        self.remarks
    }

    /// Whether stderr has colours.
    pub(crate) fn colors_stderr(&self) -> bool {
        self.stderr.0
    }

    /// Writes a line of data to stdout.
    pub(crate) fn line(&self, line: impl fmt::Display) -> Result<(), CliError> {
        self.write(format!("{line}\n").as_bytes())
    }

    /// Writes lines of data to stdout.
    pub(crate) fn lines(&self, lines: impl IntoIterator<Item = String>) -> Result<(), CliError> {
        lines.into_iter().try_for_each(|line| self.line(line))
    }

    /// Writes one JSON document to stdout.
    pub(crate) fn json(&self, document: &impl Serialize) -> Result<(), CliError> {
        let mut text = serde_json::to_vec_pretty(document)
            .map_err(|error| CliError::failed(format!("cannot write the report as JSON: {error}")))?;
        text.push(b'\n');
        self.write(&text)
    }

    /// Writes bytes to stdout. Whoever reads them may stop before the end (`seriatim runs | head -1`): that is their
    /// business, and what this process was asked to do goes on.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), CliError> {
        if self.stdout_closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.stdout_closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(CliError::failed(format!("cannot write to stdout: {error}"))),
            Ok(()) => Ok(()),
        }
    }

    /// `text` as it stands out on stdout.
    pub(crate) fn toned(&self, tone: Tone, text: &str) -> String {
        self.stdout.on(tone, text)
    }

    /// A remark on stderr, unless they are unwanted.
    pub(crate) fn remark(&self, text: impl fmt::Display) {
        if self.remarks != Remarks::None {
            to_stderr(&text);
        }
    }

    /// An error on stderr, and what to do about it.
    pub(crate) fn error(&self, message: &str, help: Option<&str>) {
        to_stderr(&format!("{} {message}", self.stderr.on(Tone::Bad, "error:")));
        if let Some(help) = help {
            to_stderr(&format!("{} {help}", self.stderr.on(Tone::Soft, "help:")));
        }
    }

    /// What is wrong with a pipeline file: with the places underlined for a person, as plain lines for a log.
    pub(crate) fn pipeline_errors(&self, errors: &seriatim_pipeline::PipelineErrors) {
        if io::stderr().is_terminal() {
            to_stderr(&errors.fancy(self.stderr.0, self.width).trim_end());
        } else {
            to_stderr(&errors);
        }
    }
}

/// Nothing can be said about a stderr that does not take what is said.
fn to_stderr(text: &impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What the shell says, where it says it; otherwise what fits everywhere.
fn stderr_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    columns.unwrap_or(100).clamp(40, 140)
}
