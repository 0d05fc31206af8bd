//! How far a run is, as counters that any thread may read while it works. The counters are for eyes only: nothing may
//! be decided by them, and they start again at zero when a process takes up a run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The steps of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Listing files, reading footers.
    Plan,
    /// Finding out which files cannot be read, where such files are set aside.
    Check,
    /// Finding the distinct keys of each chunk.
    Scan,
    /// Waiting for another run that holds the same sequences.
    Lock,
    /// Telling new keys from known ones.
    Resolve,
    /// Reserving IDs.
    Reserve,
    /// Numbering and writing.
    Write,
    /// Making the run visible.
    Publish,
}

impl Step {
    /// The step's name, as reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Check => "check",
            Self::Scan => "scan",
            Self::Lock => "lock",
            Self::Resolve => "resolve",
            Self::Reserve => "reserve",
            Self::Write => "write",
            Self::Publish => "publish",
        }
    }
}

impl Steps {
    fn change(&mut self, next: Option<Step>) {
        if let Some((step, since)) = self.current.take() {
            let seconds = since.elapsed().as_secs_f64();
            // A step that is entered again (a run of another pipeline came between, or another thread was a moment late)
            // is one line for people.
            *self.ended.entry(step).or_default() += seconds;
        }
        self.current = next.map(|step| (step, Instant::now()));
    }
}

/// The counters of one process's work on one run.
#[derive(Debug, Default)]
pub struct Progress {
    /// New source files; 0 until planned.
    pub files: AtomicU64,
    /// Source records; 0 until planned.
    pub records: AtomicU64,
    /// Units of work of the current step.
    pub step_total: AtomicU64,
    /// Units of work of the current step that are done.
    pub step_done: AtomicU64,
    /// Records scanned.
    pub scanned: AtomicU64,
    /// Records numbered and written.
    pub written: AtomicU64,
    steps: Mutex<Steps>,
    /// Why the current step is tried again.
    trouble: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Steps {
    current: Option<(Step, Instant)>,
    ended: BTreeMap<Step, f64>,
}

impl Progress {
    /// Begins a step and ends the one before it; nothing happens if the step has begun already.
    pub fn enter(&self, step: Step, units: u64) {
        let mut steps = self.lock();
        if steps.current.is_some_and(|(current, _)| current == step) {
            return;
        }
        steps.change(Some(step));
        self.step_done.store(0, Relaxed);
        self.step_total.store(units, Relaxed);
    }

    /// Ends the current step.
    pub fn finish(&self) {
        self.lock().change(None);
    }

    fn lock(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What keeps the current step from going on, and passes perhaps; it is tried again.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says it, or that there is nothing of the kind any more.
    pub(crate) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// The current step.
    pub fn step(&self) -> Option<Step> {
        self.lock().current.map(|(step, _)| step)
    }

    /// The seconds that each ended step took, in the order of the steps.
    pub fn seconds(&self) -> Vec<(String, f64)> {
        let steps = self.lock();
        steps.ended.iter().map(|(step, seconds)| (step.name().to_owned(), *seconds)).collect()
    }
}
