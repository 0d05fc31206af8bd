//! Critical sections. A request for several locks visits the entities of its lock set one after another, in the order
//! of their ids, as a message in each one's queue; whoever is granted the last one is told so. A lock is given back by
//! an unlock, or when the execution that holds it ends in any way, and only after the operations that the holder
//! called under it are done. This module must never grant a lock while a batch of that entity is out.

use seriatim_durable::proto;
use seriatim_durable::proto::history_event::EventType;

use super::Core;
use super::entities::Queued;
use super::history::{self, NO_ACTION};
use super::ids::{EntityId, ExecutionNo, InstanceId, MessageSeq};
use super::records::{LockHolder, OperationRecord, Write};

impl Core {
    /// Sends a lock request on to the entity at its position, or tells the requester that it has all locks.
    pub(super) fn request_next_lock(
        &mut self,
        instance: &InstanceId,
        execution: ExecutionNo,
        request: proto::EntityLockRequestedEvent,
    ) {
        let position = usize::try_from(request.position).unwrap_or_default();
        let Some(entity) = request.lock_set.get(position).cloned() else {
            let critical_section_id = request.critical_section_id;
            let granted = proto::EntityLockGrantedEvent { critical_section_id };
            self.deliver_to_execution(execution, EventType::EntityLockGranted(granted));
            return;
        };
        if let Ok(id) = EntityId::parse(&entity) {
            self.locks_of.entry(execution).or_default().insert(id);
        }
        self.enqueue(OperationRecord {
            entity,
            event: history::event(NO_ACTION, self.now, EventType::EntityLockRequested(request)),
            sender: execution.0,
            sender_instance: instance.as_str().to_owned(),
            trace: None,
        });
    }

    /// Gives an entity's lock back or grants it to the next in the queue; false if neither can be done now.
    pub(super) fn advance_lock(&mut self, id: &EntityId) -> bool {
        let Some(entity) = self.entities.get(id) else {
            return false;
        };
        if entity.out.is_some() {
            return false;
        }
        if let Some(holder) = &entity.record.holder {
            let busy = entity.sent_by(ExecutionNo(holder.execution)).any(|(_, queued)| queued.is_call());
            if holder.releasing && !busy {
                self.set_holder(id, None);
                return true;
            }
            return false;
        }
        let first = entity.queue.first_key_value().filter(|(_, queued)| queued.is_lock_request());
        let Some((message, _)) = first else {
            return false;
        };
        self.grant(id, *message);
        true
    }

    fn grant(&mut self, id: &EntityId, message: MessageSeq) {
        let Some(queued) = self.entities.get_mut(id).and_then(|entity| entity.remove(message)) else {
            return;
        };
        self.write(Write::DeleteOperation { message });
        let record = queued.record;
        let Some(EventType::EntityLockRequested(request)) = &record.event.event_type else {
            return;
        };
        let holder = LockHolder {
            execution: record.sender,
            instance: record.sender_instance.clone(),
            section: request.critical_section_id.clone(),
            releasing: false,
        };
        self.set_holder(id, Some(holder));
        let next = proto::EntityLockRequestedEvent { position: request.position + 1, ..request.clone() };
        let instance = InstanceId::from(record.sender_instance.as_str());
        self.request_next_lock(&instance, ExecutionNo(record.sender), next);
    }

    fn set_holder(&mut self, id: &EntityId, holder: Option<LockHolder>) {
        let settled = self.current_batch();
        if let Some(entity) = self.entities.get_mut(id) {
            entity.record.holder = holder;
            entity.settled = settled;
        }
        self.put_entity(id);
    }

    /// Gives back the lock that an execution holds on an entity (for that critical section, if one is named).
    pub(super) fn release_lock(&mut self, id: &EntityId, execution: ExecutionNo, section: Option<&str>) {
        let Some(holder) = self.entities.get(id).and_then(|entity| entity.record.holder.clone()) else {
            return;
        };
        if holder.execution != execution.0 || section.is_some_and(|section| section != holder.section) {
            return;
        }
        // It may have asked for the same lock again, in a later critical section.
        let asks_again = self
            .entities
            .get(id)
            .is_some_and(|entity| entity.sent_by(execution).any(|(_, queued)| queued.is_lock_request()));
        if !asks_again && let Some(locks) = self.locks_of.get_mut(&execution) {
            locks.remove(id);
            if locks.is_empty() {
                self.locks_of.remove(&execution);
            }
        }
        self.set_holder(id, Some(LockHolder { releasing: true, ..holder }));
        self.stirred.push_back(id.clone());
    }

    /// The execution is over: gives back every lock that it holds and takes back every request for one.
    pub(super) fn release_locks(&mut self, execution: ExecutionNo) {
        for id in self.locks_of.remove(&execution).unwrap_or_default() {
            let Some(entity) = self.entities.get_mut(&id) else {
                continue;
            };
            let requests: Vec<_> = entity
                .sent_by(execution)
                .filter(|(_, queued)| Queued::is_lock_request(queued))
                .map(|(m, _)| m)
                .collect();
            for message in requests {
                entity.remove(message);
                self.writes.push(Write::DeleteOperation { message });
            }
            self.release_lock(&id, execution, None);
            self.stirred.push_back(id);
        }
    }
}
