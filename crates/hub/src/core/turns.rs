//! Turns of orchestrators: what goes into one, and what its completion changes. A turn's new events are the messages
//! that were there when it began; those that arrive while it is out stay for the next one. This module must never
//! change anything for a completion whose lease has passed on.

use seriatim_durable::hub::{HubError, HubResult};
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::history_event::EventType;

use super::dispatch::Item;
use super::endings::Outcome;
use super::history::{self, NO_ACTION};
use super::ids::{BatchSeq, ExecutionNo, InstanceId, WorkerId};
use super::io::{Answer, HistoryRange};
use super::orchestrations::{Instance, Turn};
use super::records::{InstanceState, Write};
use super::time::Moment;
use super::{Core, PAST_EVENTS_PROPERTY};

impl Instance {
    /// The batch that must be on disk before the next turn; `None` if there is to be no turn now.
    fn turn_rests_on(&self) -> Option<BatchSeq> {
        let state = &self.state;
        if self.has_ended() || state.suspended || state.waits_for_start || self.turn.is_some() {
            return None;
        }
        self.inbox.front().map(|message| message.batch.max(self.settled))
    }
}

impl Core {
    /// Whether a turn that rests on this batch may begin: the batch is on disk, or the turn may run ahead of it. It may if
    /// the worker needs no history from the store, and if no activities are under way, whose results had better come
    /// together in one turn.
    pub(super) fn turn_may_begin(&self, execution: ExecutionNo, batch: BatchSeq) -> bool {
        if batch <= self.committed {
            return true;
        }
        let instance = self.by_execution.get(&execution).and_then(|id| self.instances.get(id));
        self.is_near_disk(batch)
            && instance.is_some_and(|instance| {
                let knows = |worker| self.dispatch.keeps_history(worker, execution);
                instance.activities.is_empty()
                    && (instance.state.history_len == 0 || instance.sticky.is_some_and(knows))
            })
    }

    /// Sees to it that the instance gets a turn if there is reason for one.
    pub(super) fn mark_turn(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        if instance.queued {
            return;
        }
        if let Some(batch) = instance.turn_rests_on() {
            instance.queued = true;
            let item = Item::Turn(instance.execution);
            self.ready_after(batch, item);
        }
    }

    /// What a turn rests on is there: queues the instance, or, if something has changed since, thinks again.
    pub(super) fn turn_is_ready(&mut self, execution: ExecutionNo) {
        let Some(id) = self.by_execution.get(&execution) else {
            return;
        };
        let Some(rests_on) = self.instances.get(id).map(Instance::turn_rests_on) else {
            return;
        };
        let ready = rests_on.is_some_and(|batch| self.turn_may_begin(execution, batch));
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        match rests_on {
            Some(_) if ready => match instance.sticky {
                Some(worker) => self.dispatch.turns.push_for(worker, execution),
                None => self.dispatch.turns.push(&instance.task, execution),
            },
            Some(batch) => self.ready_after(batch, Item::Turn(execution)),
            None => instance.queued = false,
        }
    }

    /// Gives a turn to a worker; false if the instance is not to have one any more.
    pub(super) fn give_turn(&mut self, worker: WorkerId, execution: ExecutionNo) -> bool {
        let Some(id) = self.by_execution.get(&execution).cloned() else {
            return false;
        };
        let limit = self.config.events_per_turn;
        let there = self.near_disk();
        let Some(instance) = self.instances.get_mut(&id) else {
            return false;
        };
        instance.queued = false;
        let Some(batch) = instance.turn_rests_on() else {
            return false;
        };
        // It may have been queued for a worker that knew the history and has gone since.
        if !self.turn_may_begin(execution, batch) {
            self.mark_turn(&id);
            return false;
        }
        let Some(instance) = self.instances.get_mut(&id) else {
            return false;
        };
        let stamp = instance.not_before_history(self.now);
        let there = instance.inbox.iter().take_while(|message| message.batch <= there);
        let mut new_events = vec![history::started(stamp)];
        new_events.extend(there.take(limit).map(|message| restamped((*message.event).clone(), stamp)));
        let taken = new_events.len() - 1;

        let past = HistoryRange { execution, len: instance.state.history_len };
        let worker_has_past = past.len > 0 && self.dispatch.keeps_history(worker, execution);
        let deadline = self.now.plus(self.config.orchestrator_lease);
        let lease = self.dispatch.lease(worker, Item::Turn(execution), Some(deadline));
        instance.turn = Some(Turn { lease, stamp, taken });
        instance.partial = None;
        // A worker that keeps nothing of an instance is no better for its next turn than any other.
        if self.dispatch.may_keep_history(worker) {
            instance.sticky = Some(worker);
            self.dispatch.stick(worker, execution);
        }
        let count = prost_types::value::Kind::NumberValue(past.len as f64);
        let request = proto::OrchestratorRequest {
            instance_id: id.as_str().to_owned(),
            execution_id: instance.execution_id().map(str::to_owned),
            new_events,
            requires_history_streaming: worker_has_past,
            entity_parameters: Some(proto::OrchestratorEntityParameters::default()),
            orchestration_trace_context: instance.state.trace.clone(),
            properties: [(PAST_EVENTS_PROPERTY.to_owned(), prost_types::Value { kind: Some(count) })].into(),
            ..Default::default()
        };
        let past = Some(past).filter(|past| past.len > 0 && !worker_has_past);
        self.give(worker, lease, proto::work_item::Request::OrchestratorRequest(request), past);
        true
    }

    /// A turn came back undone: its messages are still in the inbox.
    pub(super) fn take_back_turn(&mut self, execution: ExecutionNo) {
        let Some(id) = self.by_execution.get(&execution).cloned() else {
            return;
        };
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.turn = None;
        }
        self.terminate_if_asked(&id);
        self.mark_turn(&id);
    }

    pub(super) fn complete_orchestrator(&mut self, response: proto::OrchestratorResponse) -> HubResult<Answer> {
        let (lease, item) = self.leased(&response.completion_token)?;
        let id = match item {
            Item::Turn(execution) => self.by_execution.get(&execution).cloned(),
            Item::Activity(_) | Item::Batch(_) => None,
        };
        let id = id.ok_or_else(|| {
            HubError::InvalidArgument(format!(
                "completion token `{}` is not that of an orchestrator's turn; send the result to the call of its kind",
                response.completion_token
            ))
        })?;
        if !response.instance_id.is_empty() && response.instance_id != id.as_str() {
            return Err(HubError::InvalidArgument(format!(
                "the completion token is that of instance `{id}`, but the response names `{}`",
                response.instance_id
            )));
        }
        if response.requires_history {
            return self.abandon(&response.completion_token);
        }
        let Some(response) = self.whole(&id, response) else {
            return Ok(Answer::Done);
        };
        self.dispatch.end_lease(lease);
        // The turn stays marked while it is applied, so that nothing that it does to itself begins another one.
        let Some(turn) = self.instances.get(&id).and_then(|instance| instance.turn) else {
            return Ok(Answer::Done);
        };
        self.apply_turn(&id, turn, response);
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.turn = None;
        }
        self.terminate_if_asked(&id);
        self.mark_turn(&id);
        Ok(Answer::Done)
    }

    /// Puts the parts of a completion together; `None` until the last one has come. Some SDKs send a completion that is
    /// too large for one message in parts, all with the same token. A part that comes again, because its answer was lost,
    /// counts once.
    #[allow(deprecated)] // the protocol calls it so, and SDKs that are in use do it
    fn whole(&mut self, id: &InstanceId, part: proto::OrchestratorResponse) -> Option<proto::OrchestratorResponse> {
        let instance = self.instances.get_mut(id)?;
        let is_last = !part.is_partial;
        let whole = match instance.partial.take() {
            None => part,
            Some(whole) if whole.chunk_index.zip(part.chunk_index).is_some_and(|(last, again)| again <= last) => *whole,
            Some(mut whole) => {
                whole.chunk_index = part.chunk_index;
                whole.actions.extend(part.actions);
                whole.custom_status = part.custom_status.or(whole.custom_status);
                // Only one part says how many; the others have none, or 0.
                let processed = whole.num_events_processed.filter(|&n| n > 0);
                whole.num_events_processed = processed.or(part.num_events_processed);
                whole.orchestration_trace_context =
                    part.orchestration_trace_context.or(whole.orchestration_trace_context);
                *whole
            }
        };
        if is_last {
            return Some(whole);
        }
        instance.partial = Some(Box::new(whole));
        None
    }

    fn apply_turn(&mut self, id: &InstanceId, turn: Turn, response: proto::OrchestratorResponse) {
        let stamp = turn.stamp;
        // The count includes the event that opens the turn. Whoever sends none has processed all.
        let processed = response.num_events_processed.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let taken = processed.map_or(turn.taken, |n| turn.taken.min(n - 1));
        let mut events = self.take_turn_events(id, stamp, taken);
        if let Some(instance) = self.instances.get_mut(id) {
            if instance.state.status() == Status::Pending {
                instance.state.status = Status::Running as i32;
            }
            if response.orchestration_trace_context.is_some() {
                instance.state.trace = response.orchestration_trace_context;
            }
            if response.custom_status.is_some() {
                instance.state.custom_status = response.custom_status;
            }
        }
        let completion = match Self::check_actions(&response.actions) {
            Ok(()) => self.carry_out(id, stamp, response.actions, &mut events),
            Err(wrong) => Some(proto::CompleteOrchestrationAction {
                orchestration_status: Status::Failed as i32,
                failure_details: Some(history::failure("InvalidAction", wrong)),
                ..Default::default()
            }),
        };
        match completion {
            Some(completion) if completion.orchestration_status() == Status::ContinuedAsNew => {
                self.continue_as_new(id, stamp, completion);
                self.answer_waiters(id);
            }
            Some(completion) => {
                events.push(history::turn_completed(stamp));
                self.append_history(id, stamp, events);
                let outcome = Outcome {
                    status: completion.orchestration_status(),
                    output: completion.result,
                    failure: completion.failure_details,
                };
                self.finish_execution(id, stamp, outcome);
            }
            None => {
                events.push(history::turn_completed(stamp));
                self.append_history(id, stamp, events);
                self.put_state(id);
                self.answer_waiters(id);
            }
        }
    }

    /// Takes messages out of the inbox, as the events of a turn: what opens it, then the messages.
    pub(super) fn take_turn_events(
        &mut self,
        id: &InstanceId,
        stamp: Moment,
        taken: usize,
    ) -> Vec<proto::HistoryEvent> {
        let mut events = vec![history::started(stamp)];
        let Some(instance) = self.instances.get_mut(id) else {
            return events;
        };
        let execution = instance.execution;
        let mut up_to = None;
        for message in instance.inbox.drain(..taken.min(instance.inbox.len())) {
            up_to = Some(message.seq);
            events.push(restamped(std::sync::Arc::unwrap_or_clone(message.event), stamp));
        }
        if let Some(up_to) = up_to {
            self.write(Write::DeleteMessages { execution, up_to });
        }
        events
    }

    /// Replaces the execution by the next one: same instance, new input, empty history. Messages that were meant for
    /// the instance are kept, in order, behind those that the orchestration itself carries over.
    fn continue_as_new(&mut self, id: &InstanceId, stamp: Moment, action: proto::CompleteOrchestrationAction) {
        self.let_go(id, false);
        let Some(old) = self.instances.remove(id) else {
            return;
        };
        self.by_execution.remove(&old.execution);
        self.write(Write::DeleteExecution { execution: old.execution });

        let mut start = (*old.start).clone();
        start.input = action.result;
        start.scheduled_start_timestamp = None;
        if action.new_version.is_some() {
            start.version = action.new_version;
        }
        if !action.tags.is_empty() {
            start.tags = action.tags;
        }
        if let Some(instance) = &mut start.orchestration_instance {
            instance.execution_id = None;
        }
        let state = InstanceState {
            status: Status::Running as i32,
            updated: Some(stamp.to_timestamp()),
            last_time: Some(stamp.to_timestamp()),
            history_len: 0,
            generation: old.state.generation + 1,
            ..old.state
        };
        self.create_execution(id, start, state);
        let settled = self.current_batch();
        if let Some(instance) = self.instances.get_mut(id) {
            instance.settled = settled;
            instance.terminate = old.terminate;
        }
        for event in action.carryover_events {
            self.put_message(id, proto::HistoryEvent { event_id: NO_ACTION, ..event });
        }
        for message in old.inbox {
            if history::is_for_the_instance(&message.event) {
                self.put_message(id, std::sync::Arc::unwrap_or_clone(message.event));
            }
        }
    }
}

/// A history's times never decrease: a message counts as having come when the turn that takes it began.
fn restamped(mut event: proto::HistoryEvent, stamp: Moment) -> proto::HistoryEvent {
    event.timestamp = Some(stamp.to_timestamp());
    if let Some(EventType::ExecutionStarted(_)) = event.event_type {
        event.event_id = NO_ACTION;
    }
    event
}
