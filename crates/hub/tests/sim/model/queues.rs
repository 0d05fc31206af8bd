//! The reference's entities: whose turn it is. Operations take effect in the order in which they came, while a lock is held
//! only the holder's calls do, and a lock is granted to whoever is first and given back when nothing called under it
//! waits. This module must never know batches: they are the hub's way of keeping to that.

use std::sync::Arc;

use seriatim_durable::proto::history_event::EventType;
use seriatim_hub::core::{ExecutionNo, LockHolder, MessageSeq, OperationRecord};

use super::{Ledger, Thing, Touched, Verdict, marks, must, operation_mark};

impl Touched {
    fn gain(&mut self, entity: &str, marks: &str) {
        let marks: Vec<_> = marks.split(',').filter(|mark| !mark.is_empty()).map(str::to_owned).collect();
        if !marks.is_empty() {
            self.gained.entry(entity.to_owned()).or_default().extend(marks);
        }
    }
}

impl Ledger {
    pub(super) fn put_operation(
        &mut self,
        seq: MessageSeq,
        record: &Arc<OperationRecord>,
        touched: &mut Touched,
    ) -> Verdict {
        let last = self.operations.last_key_value().map(|(last, _)| *last);
        must!(last.is_none_or(|last| last < seq), "an entity's queue is out of order");
        if let Some(mark) = operation_mark(&record.event) {
            must!(self.sent.insert(mark.clone()), "operation {mark} comes twice to {}", record.entity);
        }
        self.operations.insert(seq, Arc::clone(record));
        self.operations_of.insert((ExecutionNo(record.sender), seq));
        self.queues.entry(record.entity.clone()).or_default().insert(seq);
        touched.executions.insert(ExecutionNo(record.sender));
        Ok(())
    }

    /// An operation takes effect in its turn: before all that came later, and only the holder's calls while there is one.
    pub(super) fn check_turn(&self, seq: MessageSeq, record: &OperationRecord, touched: &mut Touched) -> Verdict {
        let holder = self.entities.get(&record.entity).and_then(|thing| thing.record.holder.as_ref());
        let mut queue = self.queues.get(&record.entity).into_iter().flatten();
        let first = match holder {
            None => queue.next(),
            Some(holder) => queue.find(|waits| **waits == seq || self.is_call_of(**waits, holder)),
        };
        let is_first = first == Some(&seq);
        let Some(mark) = operation_mark(&record.event) else {
            if holder.is_none() && is_first {
                touched.may_lock.insert((record.entity.clone(), record.sender));
            }
            return Ok(());
        };
        must!(is_first, "operation {mark} of {} overtakes another one", record.entity);
        let may = holder.is_none_or(|holder| is_call_of(record, holder));
        must!(may, "operation {mark} of {} takes effect while {holder:?} holds its lock", record.entity);
        touched.left.entry(record.entity.clone()).or_default().push(mark);
        Ok(())
    }

    /// A lock is granted in its turn, and given back once nothing that was called under it waits.
    fn change_holder(
        &self,
        id: &str,
        old: Option<&LockHolder>,
        new: Option<&LockHolder>,
        touched: &Touched,
    ) -> Verdict {
        match (old, new) {
            (None, Some(new)) => {
                let may = touched.may_lock.contains(&(id.to_owned(), new.execution));
                must!(may, "the lock of {id} is granted to {new:?} out of turn");
            }
            (Some(old), None) => {
                let waits = self.queues.get(id).is_some_and(|queue| queue.iter().any(|seq| self.is_call_of(*seq, old)));
                must!(!waits, "the lock of {id} is given back while what {old:?} has called waits");
            }
            (Some(old), Some(new)) => {
                must!(old.section == new.section, "the lock of {id} goes from {old:?} to {new:?}");
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn is_call_of(&self, seq: MessageSeq, holder: &LockHolder) -> bool {
        self.operations.get(&seq).is_some_and(|record| is_call_of(record, holder))
    }

    pub(super) fn change_entity(&mut self, id: &str, new: Thing, touched: &mut Touched) -> Verdict {
        let old = self.entities.get(id).cloned().unwrap_or_default();
        self.change_holder(id, old.record.holder.as_ref(), new.record.holder.as_ref(), touched)?;
        for holder in old.record.holder.iter().chain(&new.record.holder) {
            touched.executions.insert(ExecutionNo(holder.execution));
            self.locks_of.remove(&(ExecutionNo(holder.execution), id.to_owned()));
        }
        if let Some(holder) = &new.record.holder {
            self.locks_of.insert((ExecutionNo(holder.execution), id.to_owned()));
        }
        // A client may purge what is called so, at any time.
        if !id.starts_with("@temp@") {
            let (before, after) = (marks(old.state.as_deref()), marks(new.state.as_deref()));
            let gained = after.strip_prefix(before).ok_or(format!("{id} has lost effects: {before} became {after}"))?;
            touched.gain(id, gained);
        } else if let Some(gained) = marks(new.state.as_deref()).strip_prefix(marks(old.state.as_deref())) {
            touched.gain(id, gained);
        }
        self.entities.insert(id.to_owned(), new);
        Ok(())
    }
}

fn is_call_of(record: &OperationRecord, holder: &LockHolder) -> bool {
    record.sender == holder.execution && matches!(record.event.event_type, Some(EventType::EntityOperationCalled(_)))
}
