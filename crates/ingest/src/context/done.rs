//! Which of many pieces of work are done in this process. Must never say so of one that is not.

#[cfg(not(test))]
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

// The tests decide which thread goes on after each of these.
#[cfg(test)]
use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

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

#[cfg(test)]
mod tests {
    use shuttle::sync::{Arc, Mutex};
    use shuttle::thread;

    use super::*;
    use crate::error::IngestError;

    const THREADS: usize = 3;
    const PIECES: usize = 3;

    /// Some threads ask for all pieces at once, and one is about to fail in its first piece. Whoever is told that all are
    /// done finds them done; each was done once, and the one that failed was done by another.
    fn all_ask_for_all() {
        let done = Arc::new(Done::new(PIECES));
        let pieces: Arc<Vec<Mutex<u32>>> = Arc::new((0..PIECES).map(|_| Mutex::new(0)).collect());
        let ask = |thread: usize| {
            let (done, pieces) = (done.clone(), pieces.clone());
            let mut fails = thread == 0;
            thread::spawn(move || {
                let outcome = done.ensure(|index| {
                    if std::mem::take(&mut fails) {
                        return Err(IngestError::internal("this piece fails here"));
                    }
                    let mut times = pieces[index as usize].lock().expect("no panic");
                    if !done.is_set(index) {
                        *times += 1;
                        done.set(index);
                    }
                    Ok(())
                });
                if outcome.is_ok() || done.is_all() {
                    assert!((0..PIECES as u32).all(|index| done.is_set(index)));
                    assert!(pieces.iter().all(|times| *times.lock().expect("no panic") == 1));
                }
                outcome.is_ok()
            })
        };
        let threads: Vec<_> = (0..THREADS).map(ask).collect();
        let ended: Vec<bool> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        assert!(ended[1..].iter().all(|is_ok| *is_ok) && done.is_all(), "{ended:?}");
    }

    // A schedule that fails is printed, and `shuttle::replay` takes it.
    #[test]
    fn whatever_thread_goes_on_next_pieces_are_done_once_and_told_of_when_they_are() {
        shuttle::check_random(all_ask_for_all, 3000);
        shuttle::check_pct(all_ask_for_all, 1000, 3);
    }
}
