//! What the store keeps: the records of each kind, the [`Write`]s that change them, and the [`Snapshot`] that the core
//! is rebuilt from. Records are protobuf messages, so that a later version can add fields. A tag is never used again
//! for something else. This module must never know how a store lays records out.

use std::sync::Arc;

use prost_types::Timestamp;
use seriatim_durable::proto;

use super::ids::{ActivitySeq, BatchSeq, EntityId, ExecutionNo, InstanceId, MessageSeq, TimerSeq};

/// What changes about an execution as it goes on. What does not change is its [`proto::ExecutionStartedEvent`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct InstanceState {
    /// A [`proto::OrchestrationStatus`]; never `SUSPENDED`, which is a flag of its own.
    #[prost(enumeration = "proto::OrchestrationStatus", tag = "1")]
    pub status: i32,
    /// Whether it gets no turns until it is resumed.
    #[prost(bool, tag = "2")]
    pub suspended: bool,
    /// When the instance was created; continue-as-new keeps it.
    #[prost(message, optional, tag = "3")]
    pub created: Option<Timestamp>,
    /// When its last turn ended.
    #[prost(message, optional, tag = "4")]
    pub updated: Option<Timestamp>,
    /// When it ended.
    #[prost(message, optional, tag = "5")]
    pub completed: Option<Timestamp>,
    /// What its code says about its progress.
    #[prost(string, optional, tag = "6")]
    pub custom_status: Option<String>,
    /// What it returned, or the reason of its termination.
    #[prost(string, optional, tag = "7")]
    pub output: Option<String>,
    /// Why it failed.
    #[prost(message, optional, tag = "8")]
    pub failure: Option<proto::TaskFailureDetails>,
    /// Number of events in its history.
    #[prost(uint64, tag = "9")]
    pub history_len: u64,
    /// No event of its history is later than this, and no later event may be earlier.
    #[prost(message, optional, tag = "10")]
    pub last_time: Option<Timestamp>,
    /// How often it has continued as new.
    #[prost(uint64, tag = "11")]
    pub generation: u64,
    /// Whether it waits for its scheduled start.
    #[prost(bool, tag = "12")]
    pub waits_for_start: bool,
    /// The worker's span for the whole orchestration, as its last turn left it.
    #[prost(message, optional, tag = "13")]
    pub trace: Option<proto::OrchestrationTraceContext>,
}

/// An activity that has been scheduled and has not been recorded as done.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ActivityRecord {
    /// The execution that waits for it.
    #[prost(uint64, tag = "1")]
    pub execution: u64,
    /// What the worker gets.
    #[prost(message, required, tag = "2")]
    pub request: proto::ActivityRequest,
}

/// A timer that has not fired.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TimerRecord {
    /// When it fires.
    #[prost(message, required, tag = "1")]
    pub due: Timestamp,
    /// What happens then.
    #[prost(oneof = "TimerKind", tags = "2, 3, 4")]
    pub kind: Option<TimerKind>,
}

/// What a timer does when it fires.
// Scheduled operations are the large ones and rare; timers of orchestrations would not get smaller by a box.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum TimerKind {
    /// An orchestration's own timer: it gets a `TimerFired`.
    #[prost(message, tag = "2")]
    Orchestration(OrchestrationTimer),
    /// The scheduled start of this execution.
    #[prost(uint64, tag = "3")]
    Start(u64),
    /// A scheduled operation: it joins the entity's queue.
    #[prost(message, tag = "4")]
    Operation(OperationRecord),
}

/// A timer that an orchestration has created.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OrchestrationTimer {
    /// The execution that created it.
    #[prost(uint64, tag = "1")]
    pub execution: u64,
    /// The id of the action that created it.
    #[prost(int32, tag = "2")]
    pub timer_id: i32,
}

/// A message in an entity's queue: an operation or a request for its lock.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OperationRecord {
    /// The entity whose queue it is in.
    #[prost(string, tag = "1")]
    pub entity: String,
    /// `EntityOperationSignaled`, `EntityOperationCalled` or `EntityLockRequested`.
    #[prost(message, required, tag = "2")]
    pub event: proto::HistoryEvent,
    /// The execution that sent it; 0 for clients and other entities.
    #[prost(uint64, tag = "3")]
    pub sender: u64,
    /// The instance of that execution.
    #[prost(string, tag = "4")]
    pub sender_instance: String,
    /// The trace that the operation belongs to.
    #[prost(message, optional, tag = "5")]
    pub trace: Option<proto::TraceContext>,
}

/// What is kept of an entity besides its state and its queue.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EntityRecord {
    /// When its last batch ended.
    #[prost(message, optional, tag = "1")]
    pub modified: Option<Timestamp>,
    /// Who holds its lock.
    #[prost(message, optional, tag = "2")]
    pub holder: Option<LockHolder>,
}

/// Who holds an entity's lock.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LockHolder {
    /// The execution that holds it.
    #[prost(uint64, tag = "1")]
    pub execution: u64,
    /// The instance of that execution.
    #[prost(string, tag = "2")]
    pub instance: String,
    /// The critical section that it was granted to.
    #[prost(string, tag = "3")]
    pub section: String,
    /// The lock is given back as soon as the holder's own operations in the queue are done.
    #[prost(bool, tag = "4")]
    pub releasing: bool,
}

/// One change of what is stored.
#[derive(Debug, Clone)]
pub enum Write {
    /// A new execution. The instance has no other one at this point of the batch.
    PutExecution {
        /// The new execution.
        execution: ExecutionNo,
        /// Its instance.
        instance: InstanceId,
        /// How it was started.
        start: Arc<proto::ExecutionStartedEvent>,
        /// Its state.
        state: InstanceState,
    },
    /// The state of an execution changed.
    PutState {
        /// Whose state.
        execution: ExecutionNo,
        /// The new state.
        state: InstanceState,
    },
    /// An execution is forgotten, with its history and its inbox.
    DeleteExecution {
        /// Which one.
        execution: ExecutionNo,
    },
    /// Events at the end of an execution's history.
    AppendHistory {
        /// Whose history.
        execution: ExecutionNo,
        /// Position of the first of them, from 0.
        first: u64,
        /// The events, in order.
        events: Vec<proto::HistoryEvent>,
    },
    /// A message at the end of an execution's inbox.
    PutMessage {
        /// Whose inbox.
        execution: ExecutionNo,
        /// Its position.
        message: MessageSeq,
        /// The message.
        event: Arc<proto::HistoryEvent>,
    },
    /// The messages of an inbox up to and including this one are dealt with.
    DeleteMessages {
        /// Whose inbox.
        execution: ExecutionNo,
        /// The last one of them.
        up_to: MessageSeq,
    },
    /// A scheduled activity.
    PutActivity {
        /// Which one.
        activity: ActivitySeq,
        /// What is to be done.
        record: Arc<ActivityRecord>,
    },
    /// An activity is done, or nobody wants it any more.
    DeleteActivity {
        /// Which one.
        activity: ActivitySeq,
    },
    /// A durable timer.
    PutTimer {
        /// Which one.
        timer: TimerSeq,
        /// When it fires and what happens then.
        record: Arc<TimerRecord>,
    },
    /// A timer has fired, or nobody wants it any more.
    DeleteTimer {
        /// Which one.
        timer: TimerSeq,
    },
    /// An entity's state or lock changed.
    PutEntity {
        /// Which one.
        entity: EntityId,
        /// Its state; `None` if it has none.
        state: Option<Arc<str>>,
        /// The rest.
        record: EntityRecord,
    },
    /// An entity has neither state nor lock nor queue any more.
    DeleteEntity {
        /// Which one.
        entity: EntityId,
    },
    /// A message at the end of an entity's queue.
    PutOperation {
        /// Its position.
        message: MessageSeq,
        /// The message.
        record: Arc<OperationRecord>,
    },
    /// A message of an entity's queue is dealt with.
    DeleteOperation {
        /// Which one.
        message: MessageSeq,
    },
}

/// The writes of one transition: all of them happen, or none.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its position in the log.
    pub seq: BatchSeq,
    /// The core's counter after this transition; the store keeps the last one.
    pub counter: u64,
    /// The writes, in order.
    pub writes: Vec<Write>,
}

/// An execution as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredExecution {
    /// Its number.
    pub execution: ExecutionNo,
    /// Its instance.
    pub instance: InstanceId,
    /// How it was started.
    pub start: proto::ExecutionStartedEvent,
    /// Its state.
    pub state: InstanceState,
}

/// An entity as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEntity {
    /// Its id.
    pub entity: EntityId,
    /// Its state; `None` if it has none.
    pub state: Option<Arc<str>>,
    /// The rest.
    pub record: EntityRecord,
}

/// Everything that a store holds except histories, for rebuilding the core.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Identity of the store, drawn when it was made; ids are derived from it.
    pub hub_id: u128,
    /// The core's counter.
    pub counter: u64,
    /// All executions.
    pub executions: Vec<StoredExecution>,
    /// All messages of all inboxes, each inbox in order.
    pub messages: Vec<(ExecutionNo, MessageSeq, proto::HistoryEvent)>,
    /// All activities, in order.
    pub activities: Vec<(ActivitySeq, ActivityRecord)>,
    /// All timers.
    pub timers: Vec<(TimerSeq, TimerRecord)>,
    /// All entities.
    pub entities: Vec<StoredEntity>,
    /// All messages of all entities' queues, in order.
    pub operations: Vec<(MessageSeq, OperationRecord)>,
}
