//! The futures of durable work: [`Task`] and [`Timer`]. Each looks into a cell that the core fills from history. This
//! module must never create actions: whoever made the task has recorded its action already.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use serde::de::DeserializeOwned;

use super::core::Shared;
use crate::failure::Failure;
use crate::json;

/// What a piece of durable work ended with: its JSON (absent means `null`), or its failure.
pub(crate) type Outcome = Result<Option<String>, Failure>;

/// Where the core leaves the outcome for the future that waits for it.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    state: Mutex<CellState>,
}

#[derive(Debug, Default)]
struct CellState {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
    abandoned: bool,
}

impl Cell {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn state(&self) -> MutexGuard<'_, CellState> {
        // Nothing that can panic runs under this lock, so a poisoned cell is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills the cell and wakes who waits; a cell that is filled already keeps its first outcome.
    pub(crate) fn complete(&self, outcome: Outcome) {
        let waker = {
            let mut state = self.state();
            if state.outcome.is_some() {
                return;
            }
            state.outcome = Some(outcome);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the outcome, or leaves a waker.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.state();
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(outcome);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            empty => *empty = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Marks that nobody will look any more, and returns an outcome that nobody took.
    pub(crate) fn abandon(&self) -> Option<Outcome> {
        let mut state = self.state();
        state.abandoned = true;
        state.waker = None;
        state.outcome.take()
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }
}

/// The name of the external event that a task waits for, and the execution to give it back to.
struct EventWaiter {
    core: Shared,
    name: String,
}

/// A piece of durable work that was asked for: an activity, a sub-orchestration, an entity call or an external event.
///
/// The work is asked for when the task is made, whether or not it is awaited. It is an ordinary future: await it, put
/// it into [`OrchestrationContext::all`](super::OrchestrationContext::all), race it. Dropping it does not stop the work;
/// its outcome is then ignored (an external event goes to the next who waits for it).
#[must_use = "the work is asked for already, but its outcome, and its failure, are only seen by awaiting the task"]
pub struct Task<O> {
    cell: Arc<Cell>,
    what: String,
    waiter: Option<EventWaiter>,
    output: PhantomData<fn() -> O>,
}

impl<O> Task<O> {
    pub(crate) fn new(cell: Arc<Cell>, what: String) -> Self {
        Self { cell, what, waiter: None, output: PhantomData }
    }

    pub(crate) fn for_event(cell: Arc<Cell>, core: Shared, name: &str) -> Self {
        let waiter = Some(EventWaiter { core, name: name.to_owned() });
        Self { cell, what: format!("external event \"{name}\""), waiter, output: PhantomData }
    }

    /// A task that has failed before anything was asked for.
    pub(crate) fn failed(failure: Failure) -> Self {
        let cell = Cell::new();
        cell.complete(Err(failure));
        Self::new(cell, String::new())
    }
}

impl<O: DeserializeOwned> Future for Task<O> {
    type Output = Result<O, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.cell.poll(cx).map(|outcome| {
            self.waiter = None;
            json::read(outcome?.as_deref(), || format!("the result of {} does not have the expected shape", self.what))
        })
    }
}

impl<O> Drop for Task<O> {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take()
            && let Some(Ok(payload)) = self.cell.abandon()
        {
            waiter.core.lock().events.give_back(&waiter.name, payload);
        }
    }
}

impl<O> fmt::Debug for Task<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("what", &self.what).finish_non_exhaustive()
    }
}

/// A durable timer that was set; it is over when its time has come, however often the worker died in between.
#[derive(Debug)]
#[must_use = "a timer does nothing unless it is awaited"]
pub struct Timer {
    cell: Arc<Cell>,
}

impl Timer {
    pub(crate) fn new(cell: Arc<Cell>) -> Self {
        Self { cell }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.cell.poll(cx).map(|_| ())
    }
}
