//! A store that forgets everything with the process. Clones share their contents, so a test can drop a hub and open
//! another one on what the first had committed. This module must never be used where data has to survive.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seriatim_durable::proto;

use super::{HistoryReader, Store, StoreError};
use crate::core::{
    ActivityRecord, ActivitySeq, Batch, EntityId, ExecutionNo, HistoryRange, MessageSeq, OperationRecord, Snapshot,
    StoredEntity, StoredExecution, TimerRecord, TimerSeq, Write,
};

#[derive(Debug, Default)]
struct Tables {
    counter: u64,
    executions: BTreeMap<ExecutionNo, StoredExecution>,
    history: BTreeMap<ExecutionNo, Vec<proto::HistoryEvent>>,
    inbox: BTreeMap<(ExecutionNo, MessageSeq), proto::HistoryEvent>,
    activities: BTreeMap<ActivitySeq, ActivityRecord>,
    timers: BTreeMap<TimerSeq, TimerRecord>,
    entities: BTreeMap<EntityId, StoredEntity>,
    operations: BTreeMap<MessageSeq, OperationRecord>,
}

/// A store in memory; see the module's documentation.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    hub_id: u128,
    tables: Arc<Mutex<Tables>>,
}

impl MemoryStore {
    /// An empty store. Ids of its hub are derived from `hub_id`.
    pub fn new(hub_id: u128) -> Self {
        Self { hub_id, tables: Arc::default() }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Snapshot, StoreError> {
        let tables = self.tables();
        Ok(Snapshot {
            hub_id: self.hub_id,
            counter: tables.counter,
            executions: tables.executions.values().cloned().collect(),
            messages: tables.inbox.iter().map(|((e, m), event)| (*e, *m, event.clone())).collect(),
            activities: tables.activities.iter().map(|(seq, record)| (*seq, record.clone())).collect(),
            timers: tables.timers.iter().map(|(seq, record)| (*seq, record.clone())).collect(),
            entities: tables.entities.values().cloned().collect(),
            operations: tables.operations.iter().map(|(seq, record)| (*seq, record.clone())).collect(),
        })
    }

    fn commit(&mut self, group: &[Batch]) -> Result<(), StoreError> {
        let mut tables = self.tables();
        for batch in group {
            for write in &batch.writes {
                tables.apply(write.clone());
            }
            tables.counter = batch.counter;
        }
        Ok(())
    }

    fn reader(&self) -> Result<Box<dyn HistoryReader>, StoreError> {
        Ok(Box::new(self.clone()))
    }

    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl HistoryReader for MemoryStore {
    fn read(&mut self, range: HistoryRange) -> Result<Vec<proto::HistoryEvent>, StoreError> {
        let tables = self.tables();
        let events = tables.history.get(&range.execution).map(Vec::as_slice).unwrap_or_default();
        let len = events.len().min(usize::try_from(range.len).unwrap_or(usize::MAX));
        Ok(events[..len].to_vec())
    }
}

impl Tables {
    fn apply(&mut self, write: Write) {
        match write {
            Write::PutExecution { execution, instance, start, state } => {
                let stored = StoredExecution { execution, instance, start: Arc::unwrap_or_clone(start), state };
                self.executions.insert(execution, stored);
            }
            Write::PutState { execution, state } => {
                if let Some(stored) = self.executions.get_mut(&execution) {
                    stored.state = state;
                }
            }
            Write::DeleteExecution { execution } => {
                self.executions.remove(&execution);
                self.history.remove(&execution);
                self.delete_messages(execution, MessageSeq(u64::MAX));
            }
            Write::AppendHistory { execution, first, events } => {
                let history = self.history.entry(execution).or_default();
                debug_assert_eq!(history.len() as u64, first, "histories grow at their end");
                history.extend(events);
            }
            Write::PutMessage { execution, message, event } => {
                self.inbox.insert((execution, message), Arc::unwrap_or_clone(event));
            }
            Write::DeleteMessages { execution, up_to } => self.delete_messages(execution, up_to),
            Write::PutActivity { activity, record } => {
                self.activities.insert(activity, Arc::unwrap_or_clone(record));
            }
            Write::DeleteActivity { activity } => {
                self.activities.remove(&activity);
            }
            Write::PutTimer { timer, record } => {
                self.timers.insert(timer, Arc::unwrap_or_clone(record));
            }
            Write::DeleteTimer { timer } => {
                self.timers.remove(&timer);
            }
            Write::PutEntity { entity, state, record } => {
                self.entities.insert(entity.clone(), StoredEntity { entity, state, record });
            }
            Write::DeleteEntity { entity } => {
                self.entities.remove(&entity);
            }
            Write::PutOperation { message, record } => {
                self.operations.insert(message, Arc::unwrap_or_clone(record));
            }
            Write::DeleteOperation { message } => {
                self.operations.remove(&message);
            }
        }
    }

    fn delete_messages(&mut self, execution: ExecutionNo, up_to: MessageSeq) {
        let range = (execution, MessageSeq(0))..=(execution, up_to);
        let gone: Vec<_> = self.inbox.range(range).map(|(key, _)| *key).collect();
        for key in gone {
            self.inbox.remove(&key);
        }
    }
}
