//! The waker of an orchestration. A durable task wakes it when its outcome is taken from history, which happens only
//! inside a turn; a wake at any other time proves that the code waits for something that is not durable. This module
//! must never poll anything itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

/// Whether the orchestrator's future wants to be polled, and whether something foreign woke it.
#[derive(Debug, Default)]
pub(crate) struct WakeFlag {
    woken: AtomicBool,
    in_turn: AtomicBool,
    foreign: AtomicBool,
}

impl WakeFlag {
    /// Marks the begin of a turn: from now on wakes are expected.
    pub(crate) fn enter(&self) {
        self.in_turn.store(true, Ordering::SeqCst);
    }

    /// Marks the end of a turn.
    pub(crate) fn leave(&self) {
        self.in_turn.store(false, Ordering::SeqCst);
    }

    /// Asks for a poll.
    pub(crate) fn set(&self) {
        self.woken.store(true, Ordering::SeqCst);
    }

    /// Whether a poll was asked for since the last call.
    pub(crate) fn take(&self) -> bool {
        self.woken.swap(false, Ordering::SeqCst)
    }

    /// Whether the future was ever woken between two turns.
    pub(crate) fn was_foreign(&self) -> bool {
        self.foreign.load(Ordering::SeqCst)
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.in_turn.load(Ordering::SeqCst) {
            self.set();
        } else {
            self.foreign.store(true, Ordering::SeqCst);
        }
    }
}
