//! Orchestration instances: how they begin and get messages. How they end is in `endings`, what their turns do
//! in `turns` and `actions`.
//! A message to an instance that does not exist or has ended is dropped, as in the Durable Task framework; only a
//! client is told that there is no such instance. This module must never hand anything out.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use prost_types::Timestamp;
use seriatim_durable::hub::{HubError, HubResult};
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::history_event::EventType;

use super::Core;
use super::history::{self, NO_ACTION};
use super::ids::{ActivitySeq, BatchSeq, ExecutionNo, InstanceId, LeaseNo, MessageSeq, TimerSeq, WorkerId};
use super::io::Answer;
use super::ready::TaskName;
use super::records::{InstanceState, TimerKind, Write};
use super::time::Moment;

/// A message in an inbox.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) seq: MessageSeq,
    /// The batch that stores it; it goes into a turn only after that.
    pub(super) batch: BatchSeq,
    pub(super) event: Arc<proto::HistoryEvent>,
}

/// A turn that a worker has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) lease: LeaseNo,
    /// The orchestration's time in this turn.
    pub(super) stamp: Moment,
    /// How many messages at the front of the inbox are in it.
    pub(super) taken: usize,
}

/// An orchestration instance, in its current execution.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) execution: ExecutionNo,
    pub(super) task: Arc<TaskName>,
    pub(super) start: Arc<proto::ExecutionStartedEvent>,
    pub(super) state: InstanceState,
    /// Messages that no completed turn has dealt with.
    pub(super) inbox: VecDeque<Message>,
    pub(super) turn: Option<Turn>,
    /// The worker that had its last turn, while it lives.
    pub(super) sticky: Option<WorkerId>,
    /// Whether it is in the queue of what is ready, or waits for the disk to get there.
    pub(super) queued: bool,
    /// The batch of the last change of its state: no turn begins before it is on disk.
    pub(super) settled: BatchSeq,
    pub(super) timers: BTreeSet<TimerSeq>,
    pub(super) activities: BTreeSet<ActivitySeq>,
    /// A termination that is in the inbox while a turn is out.
    pub(super) terminate: Option<proto::ExecutionTerminatedEvent>,
    /// What has come of a turn whose completion is sent in parts.
    pub(super) partial: Option<Box<proto::OrchestratorResponse>>,
}

pub(super) fn is_end(status: Status) -> bool {
    matches!(status, Status::Completed | Status::Failed | Status::Terminated | Status::Canceled)
}

impl Instance {
    pub(super) fn new(execution: ExecutionNo, start: Arc<proto::ExecutionStartedEvent>, state: InstanceState) -> Self {
        Self {
            execution,
            task: TaskName::new(&start.name, start.version.as_deref()),
            start,
            state,
            inbox: VecDeque::new(),
            turn: None,
            sticky: None,
            queued: false,
            settled: BatchSeq(0),
            timers: BTreeSet::new(),
            activities: BTreeSet::new(),
            terminate: None,
            partial: None,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        is_end(self.state.status())
    }

    /// The status that clients see.
    pub(super) fn status(&self) -> Status {
        if self.state.suspended && !self.has_ended() { Status::Suspended } else { self.state.status() }
    }

    pub(super) fn execution_id(&self) -> Option<&str> {
        self.start.orchestration_instance.as_ref().and_then(|instance| instance.execution_id.as_deref())
    }

    pub(super) fn parent_id(&self) -> Option<&str> {
        let parent = self.start.parent_instance.as_ref()?.orchestration_instance.as_ref()?;
        Some(&parent.instance_id)
    }

    /// Its place among the instances that have ended.
    pub(super) fn end_key(&self, id: &InstanceId) -> (Moment, InstanceId) {
        (history::moment(self.state.completed.as_ref()), id.clone())
    }

    /// How the outcome of a turn is written: never earlier than what its history shows already.
    pub(super) fn not_before_history(&self, now: Moment) -> Moment {
        now.max(history::moment(self.state.last_time.as_ref()))
    }
}

fn no_such(instance: &str) -> HubError {
    HubError::NotFound(format!("there is no orchestration instance `{instance}`; check the id"))
}

/// Checks an id that somebody chose for a new instance.
pub(super) fn check_new_id(id: &str) -> Result<(), String> {
    if id.is_empty() || id.starts_with('@') {
        return Err(format!(
            "`{id}` cannot be the id of an orchestration: ids that begin with @ are those of entities"
        ));
    }
    Ok(())
}

impl Core {
    pub(super) fn start_instance(&mut self, request: proto::CreateInstanceRequest) -> HubResult<Answer> {
        if request.name.is_empty() {
            return Err(HubError::InvalidArgument("the orchestration has no name; name one".to_owned()));
        }
        if !request.instance_id.is_empty() {
            check_new_id(&request.instance_id).map_err(HubError::InvalidArgument)?;
        }
        let id = match request.instance_id {
            id if id.is_empty() => self.next_unique_id(),
            id => id,
        };
        let id = InstanceId::from(id);
        if let Some(existing) = self.instances.get(&id) {
            let status = existing.status();
            let policy = request.orchestration_id_reuse_policy.unwrap_or_default();
            if !policy.replaceable_status.contains(&(status as i32)) {
                return Err(HubError::AlreadyExists(format!(
                    "orchestration instance `{id}` exists and is {}; choose another id, or let the request replace \
                     an instance in that state",
                    status_word(status)
                )));
            }
            self.remove_instance(&id);
        }
        let start = proto::ExecutionStartedEvent {
            name: request.name,
            version: request.version,
            input: request.input,
            orchestration_instance: Some(proto::OrchestrationInstance {
                instance_id: id.as_str().to_owned(),
                execution_id: request.execution_id,
            }),
            scheduled_start_timestamp: request.scheduled_start_timestamp,
            parent_trace_context: request.parent_trace_context,
            tags: request.tags,
            ..Default::default()
        };
        self.create_instance(&id, start);
        Ok(Answer::Started(proto::CreateInstanceResponse { instance_id: id.as_str().to_owned() }))
    }

    /// Creates an instance whose id is free.
    pub(super) fn create_instance(&mut self, id: &InstanceId, start: proto::ExecutionStartedEvent) {
        let scheduled = start.scheduled_start_timestamp.as_ref().map(Moment::from).filter(|at| *at > self.now);
        let state = InstanceState {
            status: Status::Pending as i32,
            created: Some(self.now.to_timestamp()),
            updated: Some(self.now.to_timestamp()),
            waits_for_start: scheduled.is_some(),
            ..Default::default()
        };
        let execution = self.create_execution(id, start, state);
        if let Some(at) = scheduled {
            self.add_timer(at, TimerKind::Start(execution.0));
        }
        self.mark_turn(id);
    }

    /// Creates the first or the next execution of an instance that has none, with its start in its inbox.
    pub(super) fn create_execution(
        &mut self,
        id: &InstanceId,
        mut start: proto::ExecutionStartedEvent,
        state: InstanceState,
    ) -> ExecutionNo {
        let execution = ExecutionNo(self.next_number());
        let execution_id = self.hub_id.wrapping_add(u128::from(execution.0));
        if let Some(instance) = &mut start.orchestration_instance {
            instance.execution_id.get_or_insert_with(|| format!("{execution_id:032x}"));
        }
        let start = Arc::new(start);
        let instance = Instance::new(execution, Arc::clone(&start), state.clone());
        if let Some(parent) = instance.parent_id() {
            self.children.entry(parent.into()).or_default().insert(id.clone());
        }
        self.write(Write::PutExecution { execution, instance: id.clone(), start: Arc::clone(&start), state });
        self.by_execution.insert(execution, id.clone());
        self.instances.insert(id.clone(), instance);
        self.put_message(id, history::event(NO_ACTION, self.now, EventType::ExecutionStarted((*start).clone())));
        execution
    }

    /// Puts a message into the inbox of a live instance.
    pub(super) fn put_message(&mut self, id: &InstanceId, event: proto::HistoryEvent) {
        let seq = MessageSeq(self.next_number());
        let batch = self.current_batch();
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        let execution = instance.execution;
        let event = Arc::new(event);
        instance.inbox.push_back(Message { seq, batch, event: Arc::clone(&event) });
        self.write(Write::PutMessage { execution, message: seq, event });
    }

    /// Sends a message to an instance. Dropped if there is none, or if it has ended.
    pub(super) fn deliver(&mut self, id: &InstanceId, event_type: EventType) {
        if self.instances.get(id).is_none_or(Instance::has_ended) {
            return;
        }
        self.put_message(id, history::event(NO_ACTION, self.now, event_type));
        self.mark_turn(id);
    }

    /// Sends a message to one execution. Dropped if it has ended or was followed by another.
    pub(super) fn deliver_to_execution(&mut self, execution: ExecutionNo, event_type: EventType) {
        if let Some(id) = self.by_execution.get(&execution).cloned() {
            self.deliver(&id, event_type);
        }
    }

    pub(super) fn raise_event(&mut self, request: proto::RaiseEventRequest) -> HubResult<Answer> {
        let id = self.existing(&request.instance_id)?;
        self.deliver(&id, EventType::EventRaised(proto::EventRaisedEvent { name: request.name, input: request.input }));
        Ok(Answer::Done)
    }

    pub(super) fn suspend_instance(&mut self, request: proto::SuspendRequest) -> HubResult<Answer> {
        let id = self.existing(&request.instance_id)?;
        let event = EventType::ExecutionSuspended(proto::ExecutionSuspendedEvent { input: request.reason });
        self.set_suspended(&id, true, event);
        Ok(Answer::Done)
    }

    pub(super) fn resume_instance(&mut self, request: proto::ResumeRequest) -> HubResult<Answer> {
        let id = self.existing(&request.instance_id)?;
        let event = EventType::ExecutionResumed(proto::ExecutionResumedEvent { input: request.reason });
        self.set_suspended(&id, false, event);
        Ok(Answer::Done)
    }

    /// The worker sees both events in its next turn, after the instance was resumed: what lies between them it plays
    /// back in order, as if it had been suspended itself.
    fn set_suspended(&mut self, id: &InstanceId, suspended: bool, event: EventType) {
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        if instance.has_ended() || instance.state.suspended == suspended {
            return;
        }
        instance.state.suspended = suspended;
        self.put_state(id);
        self.deliver(id, event);
    }

    /// Writes the state of the current execution; the next turn rests on it.
    pub(super) fn put_state(&mut self, id: &InstanceId) {
        let settled = self.current_batch();
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        instance.settled = settled;
        let write = Write::PutState { execution: instance.execution, state: instance.state.clone() };
        self.write(write);
    }

    pub(super) fn append_history(&mut self, id: &InstanceId, stamp: Moment, events: Vec<proto::HistoryEvent>) {
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        let first = instance.state.history_len;
        instance.state.history_len += events.len() as u64;
        let stamp: Timestamp = stamp.to_timestamp();
        instance.state.updated = Some(stamp);
        instance.state.last_time = Some(stamp);
        let execution = instance.execution;
        self.write(Write::AppendHistory { execution, first, events });
    }

    pub(super) fn forget_stickiness(&mut self, execution: ExecutionNo) {
        let Some(id) = self.by_execution.get(&execution) else {
            return;
        };
        if let Some(worker) = self.instances.get_mut(id).and_then(|instance| instance.sticky.take()) {
            self.dispatch.unstick(worker, execution);
        }
    }

    pub(super) fn existing(&self, id: &str) -> HubResult<InstanceId> {
        let (id, _) = self.instances.get_key_value(id).ok_or_else(|| no_such(id))?;
        Ok(id.clone())
    }
}

fn status_word(status: Status) -> String {
    status.as_str_name().trim_start_matches("ORCHESTRATION_STATUS_").to_lowercase().replace('_', " ")
}
