//! Entities: their queues, their batches and what a batch's completion changes. One batch at a time is out for an
//! entity; its operations stay in the queue until it is completed, so that a batch that gets lost, or a worker that
//! does only a part of it, loses nothing. While an entity is locked, only the operations that the holder calls run;
//! all others wait in order. This module must never let two batches of one entity overlap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use seriatim_durable::hub::{HubError, HubResult};
use seriatim_durable::proto;
use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::proto::operation_action::OperationActionType;
use seriatim_durable::proto::operation_result::ResultType;

use super::dispatch::Item;
use super::history::{self, NO_ACTION};
use super::ids::{BatchSeq, EntityId, ExecutionNo, InstanceId, LeaseNo, MessageSeq, WorkerId};
use super::io::Answer;
use super::orchestrations::{Instance, check_new_id};
use super::ready::TaskName;
use super::records::{EntityRecord, OperationRecord, TimerKind, Write};
use super::time::Moment;
use super::{Core, EntityItems};

/// A message in an entity's queue.
#[derive(Debug)]
pub(super) struct Queued {
    /// The batch that stores it; it is handed out only after that.
    pub(super) batch: BatchSeq,
    pub(super) record: Arc<OperationRecord>,
}

impl Queued {
    pub(super) fn is_lock_request(&self) -> bool {
        matches!(self.record.event.event_type, Some(EventType::EntityLockRequested(_)))
    }

    pub(super) fn is_call(&self) -> bool {
        matches!(self.record.event.event_type, Some(EventType::EntityOperationCalled(_)))
    }
}

/// An entity: one that has a state, a lock or a queue.
#[derive(Debug)]
pub(super) struct Entity {
    pub(super) task: Arc<TaskName>,
    pub(super) state: Option<Arc<str>>,
    pub(super) record: EntityRecord,
    pub(super) queue: BTreeMap<MessageSeq, Queued>,
    /// The calls and lock requests in the queue, by the execution that sent them.
    pub(super) by_sender: BTreeSet<(ExecutionNo, MessageSeq)>,
    /// The batch that is out.
    pub(super) out: Option<(LeaseNo, Vec<MessageSeq>)>,
    /// Whether it is in the queue of what is ready, or waits for the disk to get there.
    pub(super) queued: bool,
    /// The batch of the last change of its state or its lock: nothing is handed out before it is on disk.
    pub(super) settled: BatchSeq,
    /// Whether the store has a row for it.
    pub(super) stored: bool,
}

impl Entity {
    pub(super) fn new(id: &EntityId) -> Self {
        Self {
            task: TaskName::new(id.name(), None),
            state: None,
            record: EntityRecord::default(),
            queue: BTreeMap::new(),
            by_sender: BTreeSet::new(),
            out: None,
            queued: false,
            settled: BatchSeq(0),
            stored: false,
        }
    }

    pub(super) fn insert(&mut self, message: MessageSeq, queued: Queued) {
        if queued.is_call() || queued.is_lock_request() {
            self.by_sender.insert((ExecutionNo(queued.record.sender), message));
        }
        self.queue.insert(message, queued);
    }

    pub(super) fn remove(&mut self, message: MessageSeq) -> Option<Queued> {
        let queued = self.queue.remove(&message)?;
        self.by_sender.remove(&(ExecutionNo(queued.record.sender), message));
        Some(queued)
    }

    /// The messages in the queue that this execution has sent and is waiting for.
    pub(super) fn sent_by(&self, execution: ExecutionNo) -> impl Iterator<Item = (MessageSeq, &Queued)> {
        let first = (execution, MessageSeq(0));
        let last = (execution, MessageSeq(u64::MAX));
        self.by_sender
            .range(first..=last)
            .filter_map(|(_, message)| self.queue.get(message).map(|queued| (*message, queued)))
    }

    /// The operations that may run now, in order.
    fn runnable(&self) -> Box<dyn Iterator<Item = (MessageSeq, &Queued)> + '_> {
        if let Some(holder) = &self.record.holder {
            let sent = self.sent_by(ExecutionNo(holder.execution));
            return Box::new(sent.filter(|(_, queued)| queued.is_call()));
        }
        let all = self.queue.iter().map(|(message, queued)| (*message, queued));
        Box::new(all.take_while(|(_, queued)| !queued.is_lock_request()))
    }

    /// The batch that must be on disk before operations are handed out; `None` if there are none to hand out.
    fn batch_rests_on(&self) -> Option<BatchSeq> {
        if self.out.is_some() {
            return None;
        }
        self.runnable().next().map(|(_, queued)| queued.batch.max(self.settled))
    }

    /// Whether there is nothing to remember about it.
    pub(super) fn is_nothing(&self) -> bool {
        self.state.is_none() && self.is_idle()
    }

    /// Whether nobody holds it or wants anything of it.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.record.holder.is_none() && self.out.is_none()
    }
}

impl Core {
    pub(super) fn signal_entity(&mut self, request: proto::SignalEntityRequest) -> HubResult<Answer> {
        let entity = EntityId::parse(&request.instance_id).map_err(HubError::InvalidArgument)?;
        let request_id = match request.request_id {
            id if id.is_empty() => self.next_unique_id(),
            id => id,
        };
        let signal = proto::EntityOperationSignaledEvent {
            request_id,
            operation: request.name,
            scheduled_time: request.scheduled_time,
            input: request.input,
            target_instance_id: None,
        };
        self.signal(&entity, signal, request.parent_trace_context);
        Ok(Answer::Done)
    }

    /// Sends an operation to an entity without a caller who waits for it.
    fn signal(
        &mut self,
        entity: &EntityId,
        signal: proto::EntityOperationSignaledEvent,
        trace: Option<proto::TraceContext>,
    ) {
        let at = signal.scheduled_time.as_ref().map(Moment::from);
        let target_instance_id = Some(entity.as_str().to_owned());
        let event = proto::EntityOperationSignaledEvent { target_instance_id, ..signal };
        let record = OperationRecord {
            entity: entity.as_str().to_owned(),
            event: history::event(NO_ACTION, self.now, EventType::EntityOperationSignaled(event)),
            trace,
            ..Default::default()
        };
        self.send_at(at, record);
    }

    /// Sends a message to an entity, now or at its time.
    pub(super) fn send_at(&mut self, at: Option<Moment>, record: OperationRecord) {
        match at.filter(|at| *at > self.now) {
            Some(at) => self.add_timer(at, TimerKind::Operation(record)),
            None => self.enqueue(record),
        }
    }

    /// Puts a message into its entity's queue.
    pub(super) fn enqueue(&mut self, record: OperationRecord) {
        let Ok(id) = EntityId::parse(&record.entity) else {
            return;
        }; // parsed where the record was made
        let message = MessageSeq(self.next_number());
        let record = Arc::new(record);
        let queued = Queued { batch: self.current_batch(), record: Arc::clone(&record) };
        self.entities.entry(id.clone()).or_insert_with(|| Entity::new(&id)).insert(message, queued);
        self.write(Write::PutOperation { message, record });
        self.stirred.push_back(id);
    }

    /// Lets the entities that were touched go on: grants and gives back locks, queues batches, forgets what is empty.
    pub(super) fn stir(&mut self) {
        while let Some(id) = self.stirred.pop_front() {
            while self.advance_lock(&id) {}
            let Some(entity) = self.entities.get(&id) else {
                continue;
            };
            if entity.is_nothing() {
                let stored = entity.stored;
                self.entities.remove(&id);
                if stored {
                    self.write(Write::DeleteEntity { entity: id });
                }
            } else {
                self.mark_batch(&id);
            }
        }
    }

    fn mark_batch(&mut self, id: &EntityId) {
        let Some(entity) = self.entities.get_mut(id) else {
            return;
        };
        if entity.queued {
            return;
        }
        if let Some(batch) = entity.batch_rests_on() {
            entity.queued = true;
            self.ready_after(batch, Item::Batch(id.clone()));
        }
    }

    /// What a batch rests on is there: queues the entity, or, if something has changed since, thinks again.
    pub(super) fn batch_is_ready(&mut self, id: &EntityId) {
        let Some(rests_on) = self.entities.get(id).map(Entity::batch_rests_on) else {
            return;
        };
        let ready = rests_on.is_some_and(|batch| self.is_near_disk(batch));
        let Some(entity) = self.entities.get_mut(id) else {
            return;
        };
        match rests_on {
            Some(_) if ready => {
                let task = Arc::clone(&entity.task);
                self.dispatch.batches.push(&task, id.clone());
            }
            Some(batch) => self.ready_after(batch, Item::Batch(id.clone())),
            None => entity.queued = false,
        }
    }

    /// Gives a batch to a worker; false if the entity has none any more.
    pub(super) fn give_batch(&mut self, worker: WorkerId, id: &EntityId) -> bool {
        let limit = self.config.operations_per_batch;
        let there = self.near_disk();
        let Some(entity) = self.entities.get_mut(id) else {
            return false;
        };
        entity.queued = false;
        let Some(batch) = entity.batch_rests_on() else {
            return false;
        };
        if !self.is_near_disk(batch) {
            self.mark_batch(id);
            return false;
        }
        let Some(entity) = self.entities.get_mut(id) else {
            return false;
        };
        let there = entity.runnable().take_while(|(_, queued)| queued.batch <= there).take(limit);
        let (messages, records): (Vec<_>, Vec<_>) =
            there.map(|(message, queued)| (message, Arc::clone(&queued.record))).unzip();
        let request = work_item(self.config.entity_items, id, entity.state.as_deref(), &records);
        let deadline = self.now.plus(self.config.entity_lease);
        let lease = self.dispatch.lease(worker, Item::Batch(id.clone()), Some(deadline));
        entity.out = Some((lease, messages));
        self.give(worker, lease, request, None);
        true
    }

    /// A batch came back undone: its operations are still in the queue.
    pub(super) fn take_back_batch(&mut self, id: &EntityId) {
        if let Some(entity) = self.entities.get_mut(id) {
            entity.out = None;
        }
        self.stirred.push_back(id.clone());
    }

    pub(super) fn complete_entity(&mut self, result: proto::EntityBatchResult) -> HubResult<Answer> {
        let (lease, item) = self.leased(&result.completion_token)?;
        let Item::Batch(id) = item else {
            return Err(HubError::InvalidArgument(format!(
                "completion token `{}` is not that of an entity's batch; send the result to the call of its kind",
                result.completion_token
            )));
        };
        if result.requires_state {
            return self.abandon(&result.completion_token);
        }
        let out = self.entities.get(&id).and_then(|entity| entity.out.as_ref()).map_or(0, |(_, out)| out.len());
        if result.results.len() > out {
            return Err(HubError::InvalidArgument(format!(
                "the batch of entity `{id}` has {out} operations, but the response has {} results",
                result.results.len()
            )));
        }
        self.dispatch.end_lease(lease);
        self.apply_batch(&id, result);
        Ok(Answer::Done)
    }

    fn apply_batch(&mut self, id: &EntityId, result: proto::EntityBatchResult) {
        let now = self.now;
        let settled = self.current_batch();
        self.stirred.push_back(id.clone());
        let Some(entity) = self.entities.get_mut(id) else {
            return;
        };
        let Some((_, out)) = entity.out.take() else {
            return;
        };
        let mut results = result.results;
        if let Some(failure) = result.failure_details {
            // The worker could not run the rest (it does not know the entity, say): trying again would not help, so
            // their callers are told.
            // If nothing ran, nothing is said about the state either.
            if !results.is_empty() || result.entity_state.is_some() {
                entity.state = result.entity_state.map(Arc::from);
            }
            results.resize_with(out.len(), || failed(&failure));
        } else if results.is_empty() {
            return; // nothing was done: all operations are still in the queue
        } else {
            entity.state = result.entity_state.map(Arc::from);
        }
        entity.record.modified = Some(now.to_timestamp());
        entity.settled = settled;
        let done: Vec<_> = out.into_iter().zip(results).filter_map(|(m, r)| Some((m, entity.remove(m)?, r))).collect();
        self.put_entity(id);
        for (message, queued, result) in done {
            self.write(Write::DeleteOperation { message });
            self.answer_caller(&queued.record, result);
        }
        for action in result.actions {
            self.entity_action(action);
        }
    }

    /// Tells the orchestration that called an operation what came of it.
    fn answer_caller(&mut self, record: &OperationRecord, result: proto::OperationResult) {
        let Some(EventType::EntityOperationCalled(call)) = &record.event.event_type else {
            return;
        };
        let request_id = call.request_id.clone();
        let event = match result.result_type {
            Some(ResultType::Success(success)) => {
                EventType::EntityOperationCompleted(proto::EntityOperationCompletedEvent {
                    request_id,
                    output: success.result,
                })
            }
            Some(ResultType::Failure(failure)) => EventType::EntityOperationFailed(proto::EntityOperationFailedEvent {
                request_id,
                failure_details: failure.failure_details,
            }),
            None => EventType::EntityOperationFailed(proto::EntityOperationFailedEvent {
                request_id,
                failure_details: Some(history::failure(
                    "InvalidResult",
                    format!("the worker's result of an operation of entity `{}` says nothing", record.entity),
                )),
            }),
        };
        self.deliver_to_execution(ExecutionNo(record.sender), event);
    }

    /// What an entity's operation asks for. Malformed targets are dropped: there is nobody to tell, and the batch's
    /// other effects stand.
    fn entity_action(&mut self, action: proto::OperationAction) {
        match action.operation_action_type {
            Some(OperationActionType::SendSignal(signal)) => {
                let Ok(target) = EntityId::parse(&signal.instance_id) else {
                    return;
                };
                let event = proto::EntityOperationSignaledEvent {
                    request_id: self.next_unique_id(),
                    operation: signal.name,
                    scheduled_time: signal.scheduled_time,
                    input: signal.input,
                    target_instance_id: None,
                };
                self.signal(&target, event, signal.parent_trace_context);
            }
            Some(OperationActionType::StartNewOrchestration(start)) => {
                self.start_from_entity(start);
            }
            None => {}
        }
    }

    fn start_from_entity(&mut self, action: proto::StartNewOrchestrationAction) {
        let id = match action.instance_id {
            id if id.is_empty() => self.next_unique_id(),
            id => id,
        };
        let id = InstanceId::from(id);
        let taken = self.instances.get(&id).is_some_and(|instance| !Instance::has_ended(instance));
        if taken || action.name.is_empty() || check_new_id(id.as_str()).is_err() {
            return;
        }
        self.remove_instance(&id);
        let start = proto::ExecutionStartedEvent {
            name: action.name,
            version: action.version,
            input: action.input,
            orchestration_instance: Some(proto::OrchestrationInstance {
                instance_id: id.as_str().to_owned(),
                execution_id: None,
            }),
            scheduled_start_timestamp: action.scheduled_time,
            parent_trace_context: action.parent_trace_context,
            ..Default::default()
        };
        self.create_instance(&id, start);
    }

    pub(super) fn put_entity(&mut self, id: &EntityId) {
        let Some(entity) = self.entities.get_mut(id) else {
            return;
        };
        entity.stored = true;
        let write = Write::PutEntity { entity: id.clone(), state: entity.state.clone(), record: entity.record.clone() };
        self.write(write);
    }
}

/// Operations as a worker gets them, in one of the protocol's two forms.
fn work_item(
    form: EntityItems,
    id: &EntityId,
    state: Option<&str>,
    records: &[Arc<OperationRecord>],
) -> proto::work_item::Request {
    let instance_id = id.as_str().to_owned();
    let entity_state = state.map(str::to_owned);
    match form {
        EntityItems::Batch => proto::work_item::Request::EntityRequest(proto::EntityBatchRequest {
            instance_id,
            entity_state,
            operations: records.iter().filter_map(|record| operation(record)).collect(),
            ..Default::default()
        }),
        EntityItems::Events => proto::work_item::Request::EntityRequestV2(proto::EntityRequest {
            instance_id,
            entity_state,
            operation_requests: records.iter().map(|record| record.event.clone()).collect(),
            // An entity has one life: there is nothing to tell its executions apart by.
            ..Default::default()
        }),
    }
}

fn operation(record: &OperationRecord) -> Option<proto::OperationRequest> {
    let (operation, request_id, input) = match record.event.event_type.clone()? {
        EventType::EntityOperationSignaled(signal) => (signal.operation, signal.request_id, signal.input),
        EventType::EntityOperationCalled(call) => (call.operation, call.request_id, call.input),
        _ => return None,
    };
    Some(proto::OperationRequest { operation, request_id, input, trace_context: record.trace.clone() })
}

fn failed(details: &proto::TaskFailureDetails) -> proto::OperationResult {
    let failure = proto::OperationResultFailure { failure_details: Some(details.clone()), ..Default::default() };
    proto::OperationResult { result_type: Some(ResultType::Failure(failure)) }
}
