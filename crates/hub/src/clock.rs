//! The clock that a hub is given: the machine's, or one that a test moves by hand. This is the only module of the crate
//! that reads the time of day.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::core::Moment;

/// The time of day, and a way to wait for it. May jump either way: the hub copes.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// What the clock shows.
    fn now(&self) -> Moment;

    /// Returns once the clock shows `moment` or later; if it does already, at once.
    fn sleep_until(&self, moment: Moment) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// How long a sleeper goes without looking at the clock again, in case it was set: a timer that a jump of the clock
/// made due fires at most this much later.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        SystemTime::now().into()
    }

    fn sleep_until(&self, moment: Moment) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let clock = *self;
        Box::pin(async move {
            loop {
                let left = moment.since(clock.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LOOK_AGAIN)).await;
            }
        })
    }
}

/// A clock that stands still until it is moved, for tests. Clones show the same time.
#[derive(Debug, Clone)]
pub struct ManualClock {
    time: watch::Sender<Moment>,
}

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: Moment) -> Self {
        Self { time: watch::Sender::new(start) }
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.time.send_modify(|time| *time = time.plus(by));
    }

    /// Sets the clock, forwards or backwards.
    pub fn set(&self, to: Moment) {
        self.time.send_replace(to);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        *self.time.borrow()
    }

    fn sleep_until(&self, moment: Moment) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut time = self.time.subscribe();
        Box::pin(async move {
            if time.wait_for(|now| *now >= moment).await.is_err() {
                // The clock is gone, so it never gets there.
                std::future::pending::<()>().await;
            }
        })
    }
}
