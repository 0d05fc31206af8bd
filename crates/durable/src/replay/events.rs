//! External events of one execution: those that arrived and were not waited for yet, and those who wait. Names mean the
//! same in upper and lower case; events of one name go to their waiters in order of arrival. This module must never
//! lose an event whose waiter was dropped before it looked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::task::Cell;

/// The events and waiters of one name.
#[derive(Debug, Default)]
struct Channel {
    /// The name as the first event or waiter wrote it.
    name: String,
    arrived: VecDeque<Option<String>>,
    waiters: VecDeque<Arc<Cell>>,
}

/// All external events of one execution.
#[derive(Debug, Default)]
pub(crate) struct Events {
    channels: BTreeMap<String, Channel>,
}

impl Events {
    /// Gives the event to the first live waiter, or keeps it.
    pub(crate) fn raise(&mut self, name: &str, payload: Option<String>) {
        let channel = self.channel(name);
        while let Some(waiter) = channel.waiters.pop_front() {
            if !waiter.is_abandoned() {
                waiter.complete(Ok(payload));
                return;
            }
        }
        channel.arrived.push_back(payload);
    }

    /// Registers a waiter, or serves it at once from what has arrived.
    pub(crate) fn wait(&mut self, name: &str, cell: &Arc<Cell>) {
        let channel = self.channel(name);
        if let Some(payload) = channel.arrived.pop_front() {
            cell.complete(Ok(payload));
            return;
        }
        // Waiters that lost a race are at the front when one name is waited for again and again: forget them here, or
        // a loop over `race(event, timer)` would grow without end.
        while channel.waiters.front().is_some_and(|waiter| waiter.is_abandoned()) {
            channel.waiters.pop_front();
        }
        channel.waiters.push_back(Arc::clone(cell));
    }

    /// Puts an event back that was given to a waiter which never looked.
    pub(crate) fn give_back(&mut self, name: &str, payload: Option<String>) {
        let channel = self.channel(name);
        while let Some(waiter) = channel.waiters.pop_front() {
            if !waiter.is_abandoned() {
                waiter.complete(Ok(payload));
                return;
            }
        }
        channel.arrived.push_front(payload);
    }

    /// Takes out everything that arrived and was not waited for, in order of name and arrival.
    pub(crate) fn drain(&mut self) -> Vec<(String, Option<String>)> {
        let mut unprocessed = Vec::new();
        for channel in self.channels.values_mut() {
            unprocessed.extend(channel.arrived.drain(..).map(|payload| (channel.name.clone(), payload)));
        }
        unprocessed
    }

    fn channel(&mut self, name: &str) -> &mut Channel {
        self.channels
            .entry(name.to_lowercase())
            .or_insert_with(|| Channel { name: name.to_owned(), ..Channel::default() })
    }
}
