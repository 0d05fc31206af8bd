//! Durable timers: an orchestration's timers, scheduled starts and scheduled operations. They fire when the hub's time
//! reaches them, never before, in order of time. This module must never read a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use seriatim_durable::proto;
use seriatim_durable::proto::history_event::EventType;

use super::Core;
use super::ids::{ExecutionNo, TimerSeq};
use super::records::{TimerKind, TimerRecord, Write};
use super::time::Moment;

/// The timers that have not fired.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_due: BTreeSet<(Moment, TimerSeq)>,
    records: BTreeMap<TimerSeq, Arc<TimerRecord>>,
}

impl Timers {
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.by_due.first().map(|(due, _)| *due)
    }

    pub(super) fn insert(&mut self, timer: TimerSeq, record: Arc<TimerRecord>) {
        self.by_due.insert((Moment::from(&record.due), timer));
        self.records.insert(timer, record);
    }

    fn remove(&mut self, timer: TimerSeq) -> Option<Arc<TimerRecord>> {
        let record = self.records.remove(&timer)?;
        self.by_due.remove(&(Moment::from(&record.due), timer));
        Some(record)
    }
}

impl Core {
    /// Arms a timer. One that is due already fires in the same transition.
    pub(super) fn add_timer(&mut self, due: Moment, kind: TimerKind) {
        if due <= self.now {
            self.fire(due, kind);
            return;
        }
        let timer = TimerSeq(self.next_number());
        if let TimerKind::Orchestration(of) = &kind {
            self.set_timer_of(ExecutionNo(of.execution), timer, true);
        }
        if let TimerKind::Start(execution) = &kind {
            self.set_timer_of(ExecutionNo(*execution), timer, true);
        }
        let record = Arc::new(TimerRecord { due: due.to_timestamp(), kind: Some(kind) });
        self.write(Write::PutTimer { timer, record: Arc::clone(&record) });
        self.timers.insert(timer, record);
    }

    pub(super) fn remove_timer(&mut self, timer: TimerSeq) {
        if self.timers.remove(timer).is_some() {
            self.write(Write::DeleteTimer { timer });
        }
    }

    pub(super) fn fire_timers(&mut self) {
        while let Some((due, timer)) = self.timers.by_due.first().copied() {
            if due > self.now {
                break;
            }
            let Some(record) = self.timers.remove(timer) else {
                break;
            };
            self.write(Write::DeleteTimer { timer });
            let Some(kind) = Arc::unwrap_or_clone(record).kind else {
                continue;
            };
            if let TimerKind::Orchestration(of) = &kind {
                self.set_timer_of(ExecutionNo(of.execution), timer, false);
            }
            if let TimerKind::Start(execution) = &kind {
                self.set_timer_of(ExecutionNo(*execution), timer, false);
            }
            self.fire(due, kind);
        }
    }

    fn fire(&mut self, due: Moment, kind: TimerKind) {
        match kind {
            TimerKind::Orchestration(of) => {
                let fired = proto::TimerFiredEvent { fire_at: Some(due.to_timestamp()), timer_id: of.timer_id };
                self.deliver_to_execution(ExecutionNo(of.execution), EventType::TimerFired(fired));
            }
            TimerKind::Start(execution) => {
                let Some(id) = self.by_execution.get(&ExecutionNo(execution)).cloned() else {
                    return;
                };
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.state.waits_for_start = false;
                }
                self.put_state(&id);
                self.mark_turn(&id);
            }
            TimerKind::Operation(record) => self.enqueue(record),
        }
    }

    /// Notes that a timer belongs to an execution, or does so no more.
    pub(super) fn set_timer_of(&mut self, execution: ExecutionNo, timer: TimerSeq, armed: bool) {
        let Some(instance) = self.by_execution.get(&execution).and_then(|id| self.instances.get_mut(id)) else {
            return;
        };
        if armed {
            instance.timers.insert(timer);
        } else {
            instance.timers.remove(&timer);
        }
    }
}
