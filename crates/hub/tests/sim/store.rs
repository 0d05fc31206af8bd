//! The disk of a simulation. What was synced is in a [`MemoryStore`]; what was not is gone when the process dies, except
//! that an end of the group that was being written may have got there: all of it, none, or, where batches are written
//! one after another as in a log, the first few whole ones (the half-written one after them fails its checksum and is
//! dropped by whoever reads the log). This module must never keep a part of a batch.

use seriatim_durable::proto;
use seriatim_hub::core::{Batch, HistoryRange, Snapshot};
use seriatim_hub::store::{MemoryStore, Store as _, squeezed};

use crate::dice::Dice;

/// The disk; see the module's documentation.
pub(crate) struct Disk {
    store: MemoryStore,
    /// Whether a group is written as the SQLite store does it: only what matters of it, all or none.
    squeezes: bool,
    pub(crate) commits: u64,
}

impl Disk {
    pub(crate) fn new(squeezes: bool) -> Self {
        Self { store: MemoryStore::new(7 << 64), squeezes, commits: 0 }
    }

    /// The whole group is on disk.
    pub(crate) fn commit(&mut self, group: &[Batch]) {
        self.commits += 1;
        let written = if self.squeezes {
            let Some(last) = group.last() else { return };
            let writes = squeezed(group).into_iter().cloned().collect();
            self.store.commit(&[Batch { seq: last.seq, counter: last.counter, writes }])
        } else {
            self.store.commit(group)
        };
        written.expect("memory takes all");
    }

    /// The process dies, or the disk fails, while this group is being written. Returns how many of its batches are on
    /// disk.
    pub(crate) fn tear(&mut self, group: &[Batch], dice: &mut Dice) -> usize {
        let whole = match dice.below(3) {
            0 => 0,
            1 => group.len(),
            _ if self.squeezes => 0,
            // Torn somewhere in the writes: the batches before that place are whole.
            _ => {
                let writes = group.iter().map(|batch| batch.writes.len()).sum();
                let mut left = dice.below(writes);
                group
                    .iter()
                    .take_while(|batch| left.checked_sub(batch.writes.len()).map(|l| left = l).is_some())
                    .count()
            }
        };
        if whole > 0 {
            self.commit(&group[..whole]);
        }
        whole
    }

    pub(crate) fn load(&mut self) -> Snapshot {
        self.store.load().expect("memory can be read")
    }

    pub(crate) fn history(&self, range: HistoryRange) -> Vec<proto::HistoryEvent> {
        let mut reader = self.store.reader().expect("memory can be read");
        reader.read(range).expect("memory can be read")
    }
}
