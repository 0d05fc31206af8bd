//! Where the hub's batches go. A [`Store`] keeps them durably and gives everything back when the hub is opened; it
//! knows nothing of what the records mean. [`SqliteStore`] is the one for use, [`MemoryStore`] the one for tests and
//! for measuring what the disk costs. This module must never reorder batches, nor drop a part of one that is not undone
//! by what is written with it.

mod memory;
mod sqlite;
mod squeeze;

use std::path::PathBuf;

use seriatim_durable::proto;

use crate::core::{Batch, HistoryRange, Snapshot};

pub use memory::MemoryStore;
pub use sqlite::SqliteStore;
pub use squeeze::squeezed;

/// Keeps the hub's batches. One owner calls it from one thread; [`HistoryReader`]s may work beside it.
pub trait Store: Send + 'static {
    /// Everything that was committed, for rebuilding the core. Called once, before the first commit.
    fn load(&mut self) -> Result<Snapshot, StoreError>;

    /// Writes these batches, in order, all or none; returns when they would survive a loss of power (of the process,
    /// for [`MemoryStore`]). After an error the hub takes no more work and never calls this again: what is on disk is
    /// then what had been committed before, or that and this group.
    fn commit(&mut self, group: &[Batch]) -> Result<(), StoreError>;

    /// A reader of histories, for another thread. It sees at least what had been committed when it is asked.
    fn reader(&self) -> Result<Box<dyn HistoryReader>, StoreError>;

    /// Tidies up before the store is dropped. Everything committed is safe without it.
    fn close(&mut self) -> Result<(), StoreError>;
}

/// Reads histories beside the thread that commits.
pub trait HistoryReader: Send + 'static {
    /// The first events of an execution's history, as many as the range says; fewer if there are no more, none if the
    /// execution is gone.
    fn read(&mut self, range: HistoryRange) -> Result<Vec<proto::HistoryEvent>, StoreError>;
}

/// Why a store could not do what it was asked, by what can be done about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database could not be read or written: look at the cause (disk full, permissions, a failing disk).
    #[error("cannot {action} {}", path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// The file is a database of something else: choose another state folder.
    #[error("{} is not a hub's database; choose another state folder", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a later version: use that version.
    #[error(
        "{} has format {found}, but this version knows formats up to {known} only; open it with a later version",
        path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The last format that this version knows.
        known: i64,
    },
    /// The database could not be given a write-ahead log: mend the disk, or choose a state folder on a local file system.
    #[error(
        "SQLite cannot keep a write-ahead log for {} (its journal mode stays `{mode}`): the disk fails or is full, or it is \
         not a local one",
        path.display()
    )]
    NoLog {
        /// The file.
        path: PathBuf,
        /// The journal mode that it has.
        mode: String,
    },
    /// A record cannot be read: restore the state folder from a copy.
    #[error("{what} is damaged; restore the state folder from a copy")]
    Damaged {
        /// Which record of which file.
        what: String,
        /// What is wrong with it.
        #[source]
        source: prost::DecodeError,
    },
    /// A failure of a store that is not one of this crate's.
    #[error("{0}")]
    Other(String),
}
