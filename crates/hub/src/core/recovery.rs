//! Rebuilds the core from what a store holds. Nothing is handed out in the store, so everything that was is ready again.
//! This module must never write anything that a second recovery would write again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use seriatim_durable::proto::history_event::EventType;

use super::activities::Activity;
use super::dispatch::{Dispatch, Item};
use super::entities::{Entity, Queued};
use super::history;
use super::ids::{BatchSeq, EntityId, ExecutionNo, InstanceId, MessageSeq};
use super::io::Effects;
use super::orchestrations::{Instance, Message};
use super::records::{OperationRecord, Snapshot, StoredEntity, StoredExecution, TimerKind};
use super::time::{HubTime, Moment};
use super::timers::Timers;
use super::{Core, CoreConfig};

impl Core {
    /// The core of a hub whose store holds `snapshot`, opened when the clock shows `clock`, and what to do first.
    pub fn recover(config: CoreConfig, snapshot: Snapshot, clock: Moment) -> (Self, Effects) {
        let time = HubTime::new(clock, last_shown(&snapshot));
        let mut core = Self {
            config,
            hub_id: snapshot.hub_id,
            now: time.now(),
            time,
            counter: snapshot.counter,
            emitted: BatchSeq(0),
            committed: BatchSeq(0),
            instances: BTreeMap::new(),
            by_execution: BTreeMap::new(),
            children: BTreeMap::new(),
            ended: BTreeSet::new(),
            waiters: BTreeMap::new(),
            waits: BTreeMap::new(),
            entities: BTreeMap::new(),
            locks_of: BTreeMap::new(),
            stirred: std::collections::VecDeque::new(),
            activities: BTreeMap::new(),
            timers: Timers::default(),
            dispatch: Dispatch::default(),
            awaiting: BTreeMap::new(),
            writes: Vec::new(),
            effects: Effects::default(),
        };
        snapshot.executions.into_iter().for_each(|stored| core.load_execution(stored));
        for (execution, seq, event) in snapshot.messages {
            core.load_message(execution, Message { seq, batch: BatchSeq(0), event: Arc::new(event) });
        }
        snapshot.entities.into_iter().for_each(|stored| core.load_entity(stored));
        for (message, record) in snapshot.operations {
            core.load_operation(message, record);
        }
        for (timer, record) in snapshot.timers {
            if let Some(TimerKind::Orchestration(of)) = &record.kind {
                core.set_timer_of(ExecutionNo(of.execution), timer, true);
            }
            if let Some(TimerKind::Start(execution)) = &record.kind {
                core.set_timer_of(ExecutionNo(*execution), timer, true);
            }
            core.timers.insert(timer, Arc::new(record));
        }
        for (seq, record) in snapshot.activities {
            let of = core.by_execution.get(&ExecutionNo(record.execution)).and_then(|id| core.instances.get_mut(id));
            if let Some(instance) = of.filter(|instance| !instance.has_ended()) {
                instance.activities.insert(seq);
            }
            core.activities.insert(seq, Activity::new(Arc::new(record)));
            core.now_on_disk(Item::Activity(seq));
        }
        core.go_on();
        let effects = core.finish_transition();
        (core, effects)
    }

    fn load_execution(&mut self, stored: StoredExecution) {
        let instance = Instance::new(stored.execution, Arc::new(stored.start), stored.state);
        if let Some(parent) = instance.parent_id() {
            self.children.entry(parent.into()).or_default().insert(stored.instance.clone());
        }
        self.by_execution.insert(stored.execution, stored.instance.clone());
        if instance.has_ended() {
            self.ended.insert(instance.end_key(&stored.instance));
        }
        self.instances.insert(stored.instance, instance);
    }

    fn load_message(&mut self, execution: ExecutionNo, message: Message) {
        let Some(instance) = self.by_execution.get(&execution).and_then(|id| self.instances.get_mut(id)) else {
            return;
        };
        if let Some(EventType::ExecutionTerminated(terminated)) = &message.event.event_type {
            instance.terminate = Some(terminated.clone());
        }
        instance.inbox.push_back(message);
    }

    fn load_entity(&mut self, stored: StoredEntity) {
        if let Some(holder) = stored.record.holder.as_ref().filter(|holder| !holder.releasing) {
            self.locks_of.entry(ExecutionNo(holder.execution)).or_default().insert(stored.entity.clone());
        }
        let mut entity = Entity::new(&stored.entity);
        entity.state = stored.state;
        entity.record = stored.record;
        entity.stored = true;
        self.entities.insert(stored.entity, entity);
    }

    fn load_operation(&mut self, message: MessageSeq, record: OperationRecord) {
        let Ok(id) = EntityId::parse(&record.entity) else {
            return;
        }; // parsed before it was stored
        let queued = Queued { batch: BatchSeq(0), record: Arc::new(record) };
        if queued.is_lock_request() {
            self.locks_of.entry(ExecutionNo(queued.record.sender)).or_default().insert(id.clone());
        }
        self.entities.entry(id.clone()).or_insert_with(|| Entity::new(&id)).insert(message, queued);
    }

    /// Queues everything that has work, carries out terminations that waited for a turn to end, and drops activities of
    /// terminated orchestrations that were out.
    fn go_on(&mut self) {
        let live: BTreeSet<InstanceId> =
            self.instances.iter().filter(|(_, instance)| !instance.has_ended()).map(|(id, _)| id.clone()).collect();
        for id in live {
            self.terminate_if_asked(&id);
            self.mark_turn(&id);
        }
        let wanted_by_nobody: Vec<_> = self
            .activities
            .iter()
            .filter(|(_, activity)| self.is_terminated(ExecutionNo(activity.record.execution)))
            .map(|(seq, _)| *seq)
            .collect();
        for activity in wanted_by_nobody {
            self.drop_if_not_begun(activity);
        }
        self.stirred = self.entities.keys().cloned().collect();
        self.stir();
    }
}

/// The latest time that the hub has shown to anybody.
fn last_shown(snapshot: &Snapshot) -> Moment {
    let executions = snapshot.executions.iter().flat_map(|stored| {
        let state = &stored.state;
        [&state.created, &state.updated, &state.last_time, &state.completed]
    });
    let entities = snapshot.entities.iter().map(|stored| &stored.record.modified);
    let messages = snapshot.messages.iter().map(|(_, _, event)| &event.timestamp);
    let operations = snapshot.operations.iter().map(|(_, record)| &record.event.timestamp);
    let scheduled = snapshot.timers.iter().filter_map(|(_, timer)| match &timer.kind {
        Some(TimerKind::Operation(record)) => Some(&record.event.timestamp),
        _ => None,
    });
    let shown = executions.chain(entities).chain(messages).chain(operations).chain(scheduled);
    shown.map(|timestamp| history::moment(timestamp.as_ref())).max().unwrap_or_default()
}
