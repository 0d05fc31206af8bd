//! Which of many pieces of work are done in this process. Must never say so of one that is not.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use crate::error::Result;

/// Which of a number of things this process has done. Many threads may do them at once.
#[derive(Debug)]
pub(super) struct Done {
    flags: Vec<AtomicBool>,
    left: AtomicUsize,
    next: AtomicUsize,
}

impl Done {
    pub(super) fn new(count: usize) -> Self {
        let flags = (0..count).map(|_| AtomicBool::new(false)).collect();
        Self { flags, left: AtomicUsize::new(count), next: AtomicUsize::new(0) }
    }

    pub(super) fn set(&self, index: u32) {
        if !self.flags[index as usize].swap(true, SeqCst) {
            self.left.fetch_sub(1, SeqCst);
        }
    }

    pub(super) fn is_set(&self, index: u32) -> bool {
        self.flags[index as usize].load(SeqCst)
    }

    pub(super) fn is_all(&self) -> bool {
        self.left.load(SeqCst) == 0
    }

    /// Does what is not done, together with whoever else asks for it.
    pub(super) fn ensure(&self, mut work: impl FnMut(u32) -> Result<()>) -> Result<()> {
        if self.is_all() {
            return Ok(());
        }
        while let Some(index) = Some(self.next.fetch_add(1, SeqCst)).filter(|&index| index < self.flags.len()) {
            if !self.flags[index].load(SeqCst) {
                work(index as u32)?;
            }
        }
        // What others are at is waited for, and done if they failed.
        (0..self.flags.len()).filter(|&index| !self.flags[index].load(SeqCst)).try_for_each(|index| work(index as u32))
    }
}
