//! What a history has open: what its code asked for and has no outcome of. This module must never look beyond one
//! history.

use std::collections::{BTreeMap, BTreeSet};

use seriatim_durable::proto;
use seriatim_durable::proto::history_event::EventType;

use crate::model::{Verdict, must};

/// A request for locks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lock {
    pub(crate) entities: BTreeSet<String>,
    pub(crate) granted: bool,
}

/// What has no outcome yet, by the numbers that outcomes name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Open {
    pub(crate) tasks: BTreeSet<i32>,
    pub(crate) timers: BTreeSet<i32>,
    pub(crate) children: BTreeMap<i32, String>,
    pub(crate) calls: BTreeSet<String>,
    pub(crate) locks: BTreeMap<String, Lock>,
    pub(crate) ended: bool,
    /// The actions that have a record.
    numbers: BTreeSet<i32>,
}

impl Open {
    /// What is still open after these events, which are on their way.
    pub(crate) fn after<'a>(&self, events: impl Iterator<Item = &'a proto::HistoryEvent>) -> Result<Self, String> {
        let mut open = self.clone();
        for event in events {
            open.take(event).map_err(|wrong| format!("in the inbox: {wrong}"))?;
        }
        Ok(open)
    }

    /// Takes one event. An outcome that nobody waits for, or that came before, is wrong; so is anything after the end.
    pub(crate) fn take(&mut self, event: &proto::HistoryEvent) -> Verdict {
        let number = event.event_id;
        let Some(kind) = &event.event_type else { return Err("an event has no type".to_owned()) };
        must!(!self.ended, "after its end comes {kind:?}");
        must!(number < 0 || self.numbers.insert(number), "two actions have the number {number}");
        let known = match kind {
            EventType::TaskScheduled(_) => self.tasks.insert(number),
            EventType::TimerCreated(_) => self.timers.insert(number),
            EventType::SubOrchestrationInstanceCreated(sub) => {
                self.children.insert(number, sub.instance_id.clone()).is_none()
            }
            EventType::EntityOperationCalled(call) => self.calls.insert(call.request_id.clone()),
            EventType::EntityLockRequested(request) => {
                let lock = Lock { entities: request.lock_set.iter().cloned().collect(), granted: false };
                self.locks.insert(request.critical_section_id.clone(), lock).is_none()
            }
            EventType::TaskCompleted(e) => self.tasks.remove(&e.task_scheduled_id),
            EventType::TaskFailed(e) => self.tasks.remove(&e.task_scheduled_id),
            EventType::TimerFired(e) => self.timers.remove(&e.timer_id),
            EventType::SubOrchestrationInstanceCompleted(e) => self.children.remove(&e.task_scheduled_id).is_some(),
            EventType::SubOrchestrationInstanceFailed(e) => self.children.remove(&e.task_scheduled_id).is_some(),
            EventType::EntityOperationCompleted(e) => self.calls.remove(&e.request_id),
            EventType::EntityOperationFailed(e) => self.calls.remove(&e.request_id),
            EventType::EntityLockGranted(e) => {
                let lock = self.locks.get_mut(&e.critical_section_id);
                lock.is_some_and(|lock| !std::mem::replace(&mut lock.granted, true))
            }
            EventType::EntityUnlockSent(e) => self.unlock(e),
            EventType::ExecutionCompleted(_) => {
                self.ended = true;
                true
            }
            _ => true,
        };
        must!(known, "{kind:?} is an outcome that nobody waits for, or one that it has already");
        Ok(())
    }

    fn unlock(&mut self, unlock: &proto::EntityUnlockSentEvent) -> bool {
        let Some(lock) = self.locks.get_mut(&unlock.critical_section_id) else { return false };
        let had = unlock.target_instance_id.as_ref().is_some_and(|entity| lock.entities.remove(entity));
        if lock.entities.is_empty() {
            self.locks.remove(&unlock.critical_section_id);
        }
        had
    }
}
