//! The two threads of an embedded hub, which alone touch the store: one commits groups of batches, in order, the other
//! reads histories beside it. And the task that ticks. This module must never go on after a failed commit: what the
//! core believes is then not what is on disk.

use std::sync::mpsc as thread;
use std::sync::{Arc, Weak};
use std::time::Instant;

use seriatim_durable::hub::HubError;
use seriatim_durable::proto::work_item::Request;

use super::owner::FolderLock;
use super::shared::{ReadJob, Shared};
use crate::clock::Clock;
use crate::store::{HistoryReader, Store};

/// An error with its causes, on one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Commits until the hub ends. While one group is being synced, the next one gathers. Holds the folder's lock until
/// the store is closed.
pub(super) fn write(shared: &Shared, mut store: Box<dyn Store>, lock: Option<FolderLock>) {
    while let Some(group) = shared.next_group() {
        let began = Instant::now();
        match store.commit(&group) {
            Ok(()) => shared.group_committed(&group, began.elapsed().as_secs_f64()),
            Err(error) => {
                // Not tried again: after a failed sync, a second one may report success for pages that are lost.
                shared.fence(&in_full(&error));
            }
        }
    }
    let in_order = shared.lock().ends_in_order();
    if in_order && let Err(error) = store.close() {
        tracing::warn!(error = in_full(&error), "the hub's log could not be tidied up; nothing is lost");
    }
    drop(store);
    drop(lock);
}

/// Reads histories until the hub ends.
pub(super) fn read(shared: &Shared, mut reader: Box<dyn HistoryReader>, jobs: &thread::Receiver<ReadJob>) {
    for job in jobs {
        match job {
            ReadJob::Handout(mut handout, range) => match reader.read(range) {
                Ok(events) => {
                    if let Some(Request::OrchestratorRequest(request)) = &mut handout.item.request {
                        request.past_events = events;
                    }
                    handout.past = None;
                    shared.send_completed(*handout);
                }
                Err(error) => shared.fence(&in_full(&error)),
            },
            ReadJob::History(range, answerer) => {
                let answer = reader.read(range).map_err(|error| HubError::Unavailable(in_full(&error)));
                let _ = answerer.send(answer); // who asked may have gone
            }
        }
    }
}

/// Ticks whenever something is due, until the hub is gone.
pub(super) async fn tick(shared: Weak<Shared>, clock: Arc<dyn Clock>) {
    let Some(mut wake) = shared.upgrade().map(|shared| shared.wake()) else {
        return;
    };
    loop {
        let next = *wake.borrow_and_update();
        let changed = match next {
            None => wake.changed().await,
            Some(moment) => tokio::select! {
                () = clock.sleep_until(moment) => {
                    let Some(shared) = shared.upgrade() else { return };
                    if !shared.tick() {
                        return;
                    }
                    Ok(())
                }
                changed = wake.changed() => changed,
            },
        };
        if changed.is_err() {
            return;
        }
    }
}
