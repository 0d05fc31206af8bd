//! A run that many workers carry out, each with a state folder of its own: what one finds out reaches the others as
//! objects in the run's *work location*. A run is cut into *parts* of about a million records. A part is scanned into
//! key tables of its own by one thread, so that its handles come out the same wherever that is done; what goes through
//! the work location is its distinct keys, never its rows. Every object is a function of the plan (and of the key map
//! that the run has locked), so what is missing or damaged is made again by whoever needs it: nothing here may ever be
//! the only copy of anything.

mod claims;
mod groups;
mod kept;
mod others;
mod packed;
mod parts;
mod pieces;
mod segments;
mod work;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use claims::{claim, is_being_written};
pub(crate) use groups::{
    each_new_key, each_origin, first_words, last_records, resolve_group, resolve_steps, seen, with_keys,
};
pub(crate) use kept::{bring_committed, bring_segments};
pub(crate) use others::Others;
pub(crate) use parts::{PartFacts, chunk_facts, chunk_scan, chunks_of, cut_parts, scan_or_find};
pub(crate) use pieces::{find_piece, keep_piece};
pub(crate) use segments::{bring_kept, keep_segment};
pub(crate) use work::{Place, Work, clear, request_cancel};

use crate::plan::Plan;

/// What this process knows of a shared run besides its plan.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) work: Work,
    /// One for each part of the plan.
    parts: Vec<Part>,
    /// The heads of what was resolved, by table and group.
    groups: Mutex<HashMap<(u32, u32), Arc<groups::Head>>>,
    /// The key map's files that this process has seen to be in its state folder.
    brought: Mutex<HashSet<String>>,
    /// How many keys each shard of each table had in the part that was scanned last.
    usual: Mutex<Vec<Vec<u32>>>,
    /// The new keys of one group, which are read shard after shard.
    new_keys: Mutex<Option<groups::NewKeys>>,
}

#[derive(Debug, Default)]
struct Part {
    /// Once it is known.
    head: Mutex<Option<Arc<parts::Head>>>,
    /// Whether its chunks were scanned in this process.
    scanned: AtomicBool,
    /// Whether somebody is known to write it.
    taken: AtomicBool,
    /// A part is scanned by one thread at a time.
    scanning: Mutex<()>,
}

impl Shared {
    pub(crate) fn new(work: Work, plan: &Plan) -> Self {
        let parts = plan.parts.iter().map(|_| Part::default()).collect();
        Self {
            work,
            parts,
            groups: Mutex::default(),
            brought: Mutex::default(),
            usual: Mutex::default(),
            new_keys: Mutex::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
