//! Counters that hand out IDs, outside the task hub: a row in Azure Table Storage, a row in PostgreSQL, an existing
//! PostgreSQL sequence. Each gives a *run* one block of consecutive places of a *sequence*, counted from 0; what IDs are
//! made of the places is the caller's business. This crate must never know what an ingest is, and never show a
//! credential.
//!
//! A block that is reserved is not given for good: it is committed or released later, and every call may be made again
//! without another effect, because an answer can be lost on its way. See [`Counter`].

mod backoff;
pub mod conformance;
mod error;
pub mod naive;
pub mod postgres;
mod secret;
pub mod services;
pub mod table;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use backoff::Pauses;
pub use error::{CounterError, CounterErrorKind, Result};
pub use secret::Secret;

/// A request for a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The sequence: letters, digits, `_`, `-` and `.`.
    pub sequence: String,
    /// Who asks. It must be a name that no other run has, on whatever machine: a block belongs to a name.
    pub run: String,
    /// Places in the block, at least 1.
    pub count: u64,
    /// The least place that the block may begin at. A sequence that does not exist yet begins here; one that is not as
    /// far yet is refused.
    pub from: u64,
}

/// What came of one attempt to reserve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The first place of the block.
    Given(u64),
    /// Another run has an open block, so nobody knows yet where the next one begins.
    Held(Open),
}

/// A block that is reserved, and neither committed nor released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Whose it is.
    pub run: String,
    /// Its first place.
    pub first: u64,
    /// Its places.
    pub count: u64,
    /// Since when, RFC 3339, by the clock of the service or of who reserved.
    pub since: String,
}

/// A block that was given for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Whose it is.
    pub run: String,
    /// Its first place.
    pub first: u64,
    /// Its places.
    pub count: u64,
}

/// Where a sequence stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// The place that the next block begins at.
    pub next: u64,
    /// The block that is open, if one is.
    pub open: Option<Open>,
    /// The blocks that runs have committed, in order of their places. Others may have taken what is between them.
    pub ranges: Vec<Range>,
}

/// What a sequence wants of the IDs that are made of its places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The ID at place 0.
    pub start: i64,
    /// The distance from one ID to the next.
    pub step: i64,
}

/// Hands out blocks of sequences.
///
/// - [`Table`](table::TableCounter) and [`Row`](postgres::RowCounter) keep one open block for each sequence; the
///   sequence moves when it is committed, so a block that is released leaves no gap. Whoever comes meanwhile waits.
/// - [`Nextval`](postgres::NextvalCounter) moves at once, as sequences of PostgreSQL do: nobody waits, and a block that
///   is released is a gap.
///
/// Every call makes several attempts if the service is out of reach or too busy, and then fails with
/// [`CounterErrorKind::Unreachable`]; it may be made again.
#[async_trait]
pub trait Counter: Debug + Send + Sync {
    /// The service and the place in it, for people; without credentials.
    fn describe(&self) -> String;

    /// The shape that IDs of this sequence must have; `None` if any will do.
    async fn shape(&self, sequence: &str) -> Result<Option<Shape>> {
        let _ = sequence;
        Ok(None)
    }

    /// Reserves a block, or says who is in the way. Asked again by the same run for as many places, it gives the same
    /// block, whether it is open or committed; for another number it is an error.
    async fn try_reserve(&self, ask: &Ask) -> Result<Attempt>;

    /// Gives the run's block for good. Done already: nothing happens. Without a block: an error.
    async fn commit(&self, sequence: &str, run: &str) -> Result<()>;

    /// Gives the run's open block back. Without one, or if it is committed, nothing happens.
    async fn release(&self, sequence: &str, run: &str) -> Result<()>;

    /// Looks without touching. A sequence that does not exist is at place 0.
    async fn look(&self, sequence: &str) -> Result<Look>;

    /// Reserves a block, and waits up to `patience` for whoever is in the way, asking again at growing intervals.
    async fn reserve(&self, ask: &Ask, patience: Duration) -> Result<u64> {
        let since = Instant::now();
        let mut backoff = Pauses::new(Duration::from_millis(20), Duration::from_secs(2));
        loop {
            let open = match self.try_reserve(ask).await? {
                Attempt::Given(first) => return Ok(first),
                Attempt::Held(open) => open,
            };
            let pause = backoff.pause();
            if since.elapsed() + pause > patience {
                return Err(error::held(&ask.sequence, &open));
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// A place after `count` others, as far as 64 bits with a sign reach: services count no further.
fn end_of(sequence: &str, first: u64, count: u64) -> Result<i64> {
    first.checked_add(count).and_then(|end| i64::try_from(end).ok()).ok_or_else(|| {
        CounterError::new(CounterErrorKind::NotFitting, format!("the sequence '{sequence}' has no {count} places left"))
    })
}
