//! Why a counter did not do what it was asked: a few kinds, by what the caller should do, each with what happened, to
//! what, and what to do next. This module must never be given a credential, nor an answer's text that could repeat one.

use std::fmt;
use std::time::{Duration, Instant};

use crate::Open;
use crate::backoff::Pauses;

/// What the caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterErrorKind {
    /// The service cannot be reached, or is too busy: ask again later.
    Unreachable,
    /// Another run has an open block: ask again when it has ended.
    Held,
    /// The service refuses the caller: mend the credentials or the permissions.
    Refused,
    /// What is asked for does not fit the sequence, or the address is no address: change the settings.
    NotFitting,
    /// The service's rows are not as this program left them: somebody has to look.
    Broken,
}

/// Why a counter did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterError {
    /// What the caller should do.
    pub kind: CounterErrorKind,
    /// What happened, and to what.
    pub message: String,
    /// What to do next, if the message does not already say it.
    pub help: Option<String>,
}

/// What a counter answers.
pub type Result<T, E = CounterError> = std::result::Result<T, E>;

impl CounterError {
    /// An error of `kind`.
    pub fn new(kind: CounterErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None }
    }

    /// The same error with advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for CounterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CounterError {}

/// Another run is in the way.
pub(crate) fn held(sequence: &str, open: &Open) -> CounterError {
    CounterError::new(
        CounterErrorKind::Held,
        format!(
            "the sequence '{sequence}' is held by run '{}' since {}: it has reserved {} IDs and neither published nor \
             given them back",
            open.run, open.since, open.count
        ),
    )
    .help(
        "take that run up (`seriatim run` with its pipeline, where it was begun) or cancel it (`seriatim cancel RUN`); \
         then run again",
    )
}

/// The sequence is not as far as the caller is.
pub(crate) fn behind(sequence: &str, next: u64, from: u64) -> CounterError {
    CounterError::new(
        CounterErrorKind::NotFitting,
        format!("the sequence '{sequence}' stands at place {next}, and places up to {from} are given already"),
    )
    .help("it is another sequence, or was set back: bring its service back from a backup, or move it on to that place")
}

/// A run asks for another number of places than before.
pub(crate) fn other_count(run: &str, before: u64, now: u64) -> CounterError {
    CounterError::new(
        CounterErrorKind::Broken,
        format!("run '{run}' has a block of {before} IDs, and now asks for {now}"),
    )
}

/// A run commits what it does not have.
pub(crate) fn not_reserved(sequence: &str, run: &str) -> CounterError {
    CounterError::new(
        CounterErrorKind::Broken,
        format!("run '{run}' has no block of the sequence '{sequence}' to commit"),
    )
    .help("somebody has removed it: if others have taken IDs since, the run's IDs are given twice")
}

/// What went wrong in one attempt.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Somebody else changed the row at the same time: look again, at once.
    Conflict(String),
    /// The service is away or busy: try again after a pause.
    Passing(String),
    /// Nothing that another attempt would heal.
    Final(CounterError),
}

impl From<CounterError> for Trouble {
    fn from(error: CounterError) -> Self {
        Self::Final(error)
    }
}

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Attempts {
    since: Instant,
    patience: Duration,
    backoff: Pauses,
}

impl Attempts {
    /// Attempts for as long as `patience`.
    pub(crate) fn new(patience: Duration) -> Self {
        let backoff = Pauses::new(Duration::from_millis(10), Duration::from_secs(2));
        Self { since: Instant::now(), patience, backoff }
    }

    /// Waits for the next attempt; an error if there shall be none.
    pub(crate) async fn after(&mut self, trouble: Trouble, place: &str) -> Result<()> {
        let text = match trouble {
            Trouble::Final(error) => return Err(error),
            Trouble::Conflict(text) | Trouble::Passing(text) => text,
        };
        let pause = self.backoff.pause();
        if self.since.elapsed() + pause > self.patience {
            return Err(CounterError::new(CounterErrorKind::Unreachable, format!("{place}: {text}"))
                .help("see that the service runs and can be reached from here; then run again"));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
