//! The settings of an embedded hub and the reasons why it does not open. This module must never act on a setting.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::owner::Owner;
use crate::clock::{Clock, SystemClock};
use crate::core::{CoreConfig, EntityItems};
use crate::store::StoreError;

/// Settings of a hub. `HubOptions::default()` is right for a program on one machine.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Where the hub gets the time from. Default: the machine's clock.
    pub clock: Arc<dyn Clock>,
    /// How long a worker may keep an orchestrator's turn before it goes to another. Default: 60 s. Range: 1 s to 1 day.
    pub orchestrator_lease: Duration,
    /// How long a worker may keep an entity's batch before it goes to another. Default: 60 s. Range: 1 s to 1 day.
    pub entity_lease: Duration,
    /// How long a worker may keep an activity before it goes to another. Default: none, that is, as long as the
    /// worker's stream lives, because the protocol has no way to renew a lease. Range: 1 s to 365 days.
    pub activity_lease: Option<Duration>,
    /// At most this many new events go into one turn; more wait for the next one. Default: 5,000. Range: 1 to 1,000,000.
    pub events_per_turn: usize,
    /// At most this many operations go into one batch of an entity. Default: 1,000. Range: 1 to 1,000,000.
    pub operations_per_batch: usize,
    /// At most this many work items of each kind are with one worker at a time, whatever it asks for. Bounds the
    /// memory of its stream. Default: 1,000. Range: 1 to 100,000.
    pub items_per_worker: usize,
    /// Turns of orchestrators and batches of entities begin before what they rest on is on disk, as long as fewer than
    /// this many transitions are not: a chain of them then costs less than a sync each. What is seen outside (answers,
    /// reads, activities) always waits for the disk. 0: everything does. Default: 4,096. Range: 0 to 100,000.
    pub run_ahead: usize,
    /// In which of the protocol's two forms entities' work items go out. Default: as batches, the form that every
    /// worker takes.
    pub entity_items: EntityItems,
}

impl Default for HubOptions {
    fn default() -> Self {
        let core = CoreConfig::default();
        Self {
            clock: Arc::new(SystemClock),
            orchestrator_lease: core.orchestrator_lease,
            entity_lease: core.entity_lease,
            activity_lease: core.activity_lease,
            events_per_turn: core.events_per_turn,
            operations_per_batch: core.operations_per_batch,
            items_per_worker: core.items_per_worker,
            run_ahead: usize::try_from(core.run_ahead).unwrap_or(usize::MAX),
            entity_items: core.entity_items,
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(365 * 24);

impl HubOptions {
    /// The core's settings, checked.
    pub(super) fn core_config(&self, session: u64) -> Result<CoreConfig, OpenError> {
        in_range("orchestrator_lease", &self.orchestrator_lease, &(SECOND..=DAY))?;
        in_range("entity_lease", &self.entity_lease, &(SECOND..=DAY))?;
        if let Some(lease) = self.activity_lease {
            in_range("activity_lease", &lease, &(SECOND..=YEAR))?;
        }
        in_range("events_per_turn", &self.events_per_turn, &(1..=1_000_000))?;
        in_range("operations_per_batch", &self.operations_per_batch, &(1..=1_000_000))?;
        in_range("items_per_worker", &self.items_per_worker, &(1..=100_000))?;
        in_range("run_ahead", &self.run_ahead, &(0..=100_000))?;
        Ok(CoreConfig {
            session,
            orchestrator_lease: self.orchestrator_lease,
            entity_lease: self.entity_lease,
            activity_lease: self.activity_lease,
            events_per_turn: self.events_per_turn,
            operations_per_batch: self.operations_per_batch,
            items_per_worker: self.items_per_worker,
            run_ahead: self.run_ahead as u64,
            entity_items: self.entity_items,
        })
    }
}

fn in_range<T: PartialOrd + std::fmt::Debug>(
    option: &'static str,
    value: &T,
    range: &RangeInclusive<T>,
) -> Result<(), OpenError> {
    if range.contains(value) {
        return Ok(());
    }
    let message = format!("{value:?} is not between {:?} and {:?}", range.start(), range.end());
    Err(OpenError::InvalidOption { option, message })
}

/// Why a hub did not open, by what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another hub, usually of another process, has the folder: wait for it, end it, or use another folder.
    #[error(
        "the state folder is in use by {owner}; wait until that is done, or use another folder (lock: {})",
        path.display()
    )]
    Held {
        /// Who has it, as that hub wrote it down.
        owner: Owner,
        /// The lock file.
        path: PathBuf,
    },
    /// The folder or the lock file cannot be made or opened: look at the cause.
    #[error("cannot use {} as a state folder", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The database cannot be opened: look at the cause.
    #[error("cannot open the hub's store")]
    Store(#[from] StoreError),
    /// A setting is out of its range: change it.
    #[error("the hub's option `{option}` is wrong: {message}")]
    InvalidOption {
        /// The field of [`HubOptions`].
        option: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The system does not let the hub start its threads: look at the cause (a limit on processes, memory).
    #[error("cannot start a thread for the hub")]
    Thread(#[source] std::io::Error),
    /// There is no Tokio runtime to run the hub's timers on: open it from within one.
    #[error("a hub must be opened from within a Tokio runtime")]
    NoRuntime,
}
