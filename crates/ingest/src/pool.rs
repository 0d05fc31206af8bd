//! The threads that do steps: as many as a runner has workers, and always the same ones, so that what one step leaves
//! in a thread's share of the allocator is what the next one takes. Must never hold up what waits for a step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

type Work = Box<dyn FnOnce() + Send>;

/// Threads that work until the pool is dropped; what was given to them is done before that.
#[derive(Debug)]
pub(crate) struct Pool(Mutex<Sender<Work>>);

impl Pool {
    /// A pool of `threads` threads, at least one.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let (sender, receiver) = channel::<Work>();
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..threads.max(1) {
            let receiver = receiver.clone();
            thread::Builder::new().name(format!("worker-{number}")).spawn(move || work(&receiver))?;
        }
        Ok(Self(Mutex::new(sender)))
    }

    /// Runs `work` on one of the threads; `Err` with the reason if it panicked.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let work: Work = Box::new(move || {
            let done = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref().copied());
                text.unwrap_or("no reason given").to_owned()
            });
            // Nobody waits any more: the step was abandoned, and will be done again by whoever needs it.
            let _ = answer.send(done);
        });
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).send(work).is_err() {
            return Err("there are no threads left".to_owned());
        }
        answered.await.unwrap_or_else(|_| Err("its thread is gone".to_owned()))
    }
}

fn work(receiver: &Mutex<Receiver<Work>>) {
    loop {
        // Held while waiting, not while working.
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(work) => work(),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_and_the_thread_goes_on() {
        let pool = Pool::new(1).unwrap();
        let panicked = pool.run(|| -> u32 { panic!("no {}", "way") }).await;
        assert_eq!(panicked, Err("no way".to_owned()));
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }
}
