//! The hub's state machine. It owns every decision: who gets which work item, what a completion changes, what is
//! written. Its host owns everything else: the disk, the clock, sockets, threads, randomness.
//!
//! The host calls [`Core::handle`] with an [`Input`] and the clock's reading, and carries out the [`Effects`]:
//!
//! - It writes batches in order and reports how far it has got with [`Input::Committed`].
//! - It gives an answer only when the batch named in it is on disk.
//! - It ticks at the time that the last effects asked for, or later.
//!
//! Activities and answers rest only on batches that were reported as committed; so after a crash, a core that is rebuilt
//! from the store has at least everything that anybody was shown, and hands the rest out again. Turns of orchestrators
//! and batches of entities may run ahead of the disk: what they do is seen nowhere but in later batches of the same
//! ordered log, of which a crash loses an end and never a middle.
//!
//! Nothing in this module may do I/O, read a clock, draw randomness, start a thread, print, or iterate over a map with
//! random order: the same inputs give the same effects. A test reads the sources for it.

mod actions;
mod activities;
mod dispatch;
mod endings;
mod entities;
mod history;
mod ids;
mod io;
mod locks;
mod orchestrations;
mod purge;
mod queries;
mod ready;
mod records;
mod recovery;
mod rewind;
mod rewritten;
mod time;
mod timers;
mod turns;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use seriatim_durable::hub::{HubError, HubResult};

use activities::Activity;
use dispatch::{Dispatch, Item};
use entities::Entity;
pub use ids::{
    ActivitySeq, BatchSeq, EntityId, ExecutionNo, InstanceId, LeaseNo, MessageSeq, RequestId, TimerSeq, WorkerId,
};
pub use io::{Answer, Effects, Handout, HistoryRange, Input, Past, Reply, Request};
use orchestrations::Instance;
pub use records::{
    ActivityRecord, Batch, EntityRecord, InstanceState, LockHolder, OperationRecord, OrchestrationTimer, Snapshot,
    StoredEntity, StoredExecution, TimerKind, TimerRecord, Write,
};
pub use time::{HubTime, Moment};
use timers::Timers;

/// The key in `OrchestratorRequest.properties` under which a worker finds how many events the instance's history has
/// before the new ones, whether or not they are sent along.
///
/// A worker that keeps what it has seen can tell by this number whether it has seen all: a turn adds its new events as
/// they were sent, then one event for each action except a completion and a termination of another instance, then the
/// `OrchestratorCompleted` that closes it.
pub const PAST_EVENTS_PROPERTY: &str = "seriatim.pastEvents";

/// The protocol's two forms of an entity's work item. They carry the same operations; only the first carries traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntityItems {
    /// As a batch of operations (`EntityBatchRequest`).
    #[default]
    Batch,
    /// As history events (`EntityRequest`), which say who called each operation.
    Events,
}

/// The core's settings. [`crate::HubOptions`] documents those that a user sets.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Distinguishes this opening of the store from all others, so that a token from before is known to be stale.
    pub session: u64,
    /// How long a worker may keep an orchestrator's turn.
    pub orchestrator_lease: Duration,
    /// How long a worker may keep an entity's batch.
    pub entity_lease: Duration,
    /// How long a worker may keep an activity; `None`: as long as its stream lives.
    pub activity_lease: Option<Duration>,
    /// At most this many new events go into one turn.
    pub events_per_turn: usize,
    /// At most this many operations go into one batch of an entity.
    pub operations_per_batch: usize,
    /// At most this many items of one kind are out to one worker, whatever it asks for.
    pub items_per_worker: usize,
    /// While this many batches before the current one are not on disk, turns and entity batches wait for it; 0: they
    /// always do.
    pub run_ahead: u64,
    /// In which form entities' work items go out.
    pub entity_items: EntityItems,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            session: 0,
            orchestrator_lease: Duration::from_mins(1),
            entity_lease: Duration::from_mins(1),
            activity_lease: None,
            events_per_turn: 5_000,
            operations_per_batch: 1_000,
            items_per_worker: 1_000,
            run_ahead: 4_096,
            entity_items: EntityItems::Batch,
        }
    }
}

/// Who waits for what of an instance.
#[derive(Debug)]
struct Waiter {
    for_completion: bool,
    with_payloads: bool,
}

/// The hub's state machine; see the module's documentation.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    hub_id: u128,
    time: HubTime,
    now: Moment,
    /// Last number that was given to anything that is stored.
    counter: u64,
    /// Last batch that was given to the host.
    emitted: BatchSeq,
    /// Last batch that is on disk.
    committed: BatchSeq,
    instances: BTreeMap<InstanceId, Instance>,
    by_execution: BTreeMap<ExecutionNo, InstanceId>,
    children: BTreeMap<InstanceId, BTreeSet<InstanceId>>,
    /// The instances that have ended, in order of their end.
    ended: BTreeSet<(Moment, InstanceId)>,
    waiters: BTreeMap<InstanceId, BTreeMap<RequestId, Waiter>>,
    waits: BTreeMap<RequestId, InstanceId>,
    entities: BTreeMap<EntityId, Entity>,
    /// The entities whose lock an execution holds or waits for.
    locks_of: BTreeMap<ExecutionNo, BTreeSet<EntityId>>,
    /// Entities that changed in this transition in a way that may let them go on.
    stirred: VecDeque<EntityId>,
    activities: BTreeMap<ActivitySeq, Activity>,
    timers: Timers,
    dispatch: Dispatch,
    /// What waits for a batch to be on disk before it can be handed out.
    awaiting: BTreeMap<BatchSeq, Vec<Item>>,
    writes: Vec<Write>,
    effects: Effects,
}

impl Core {
    /// Takes an input and returns what has to be done. `clock` is the clock's reading; it may jump.
    pub fn handle(&mut self, clock: Moment, input: Input) -> Effects {
        self.now = self.time.observe(clock);
        match input {
            Input::Request(id, request) => {
                if let Some(outcome) = self.request(id, *request).transpose() {
                    self.reply(id, outcome);
                }
            }
            Input::Forget(id) => self.forget(id),
            Input::Committed(seq) => self.note_committed(seq),
            Input::Tick => {
                self.fire_timers();
                self.expire_leases();
            }
            Input::WorkerJoined(worker, request) => self.worker_joined(worker, &request),
            Input::WorkerLeft(worker) => self.worker_left(worker),
        }
        self.stir();
        self.hand_out();
        self.finish_transition()
    }

    /// The last batch that was given to the host; 0 if there was none.
    pub fn emitted(&self) -> BatchSeq {
        self.emitted
    }

    /// Carries out a request; `None` if the answer comes later.
    fn request(&mut self, id: RequestId, request: Request) -> HubResult<Option<Answer>> {
        Ok(Some(match request {
            Request::StartInstance(request) => self.start_instance(request)?,
            Request::GetInstance(request) => self.get_instance(&request),
            Request::WaitForStart(request) => return Ok(self.wait_for(id, &request, false)),
            Request::WaitForCompletion(request) => return Ok(self.wait_for(id, &request, true)),
            Request::RaiseEvent(request) => self.raise_event(request)?,
            Request::TerminateInstance(request) => self.terminate_instance(request)?,
            Request::SuspendInstance(request) => self.suspend_instance(request)?,
            Request::ResumeInstance(request) => self.resume_instance(request)?,
            Request::QueryInstances(request) => self.query_instances(request)?,
            Request::PurgeInstances(request) => self.purge_instances(request)?,
            Request::InstanceHistory(request) => self.instance_history(&request),
            Request::RewindPlan(request) => self.rewind_plan(&request)?,
            Request::Rewind(request, histories) => self.rewind_instance(&request, histories)?,
            Request::RestartInstance(request) => self.restart_instance(&request)?,
            Request::ListInstanceIds(request) => self.list_instance_ids(&request)?,
            Request::SkipGracefulTerminations(request) => self.skip_graceful_terminations(request),
            Request::CleanEntityStorage(request) => self.clean_entity_storage(&request),
            Request::SignalEntity(request) => self.signal_entity(request)?,
            Request::GetEntity(request) => self.get_entity(&request)?,
            Request::QueryEntities(request) => self.query_entities(request)?,
            Request::CompleteActivity(response) => self.complete_activity(response)?,
            Request::CompleteOrchestrator(response) => self.complete_orchestrator(response)?,
            Request::CompleteEntity(result) => self.complete_entity(result)?,
            Request::Abandon(token) => self.abandon(&token)?,
        }))
    }

    fn reply(&mut self, request: RequestId, outcome: Result<Answer, HubError>) {
        // `after` is set when the transition is finished and its batch, if any, has its number.
        self.effects.replies.push(Reply { request, after: BatchSeq(0), outcome });
    }

    fn note_committed(&mut self, seq: BatchSeq) {
        debug_assert!(seq >= self.committed && seq <= self.emitted, "the host reports batches that it got, in order");
        self.committed = seq;
        let later = self.awaiting.split_off(&BatchSeq(seq.0 + 1));
        for item in std::mem::replace(&mut self.awaiting, later).into_values().flatten() {
            self.now_on_disk(item);
        }
    }

    /// The batch that the current transition becomes if it writes anything.
    fn current_batch(&self) -> BatchSeq {
        BatchSeq(self.emitted.0 + 1)
    }

    fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// An id that no other hub gives and this one never gives again.
    fn next_unique_id(&mut self) -> String {
        let number = self.next_number();
        format!("{:032x}", self.hub_id.wrapping_add(u128::from(number)))
    }

    fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    fn finish_transition(&mut self) -> Effects {
        let mut effects = std::mem::take(&mut self.effects);
        if !self.writes.is_empty() {
            self.emitted = self.current_batch();
            effects.batch =
                Some(Batch { seq: self.emitted, counter: self.counter, writes: std::mem::take(&mut self.writes) });
        }
        for reply in &mut effects.replies {
            reply.after = self.emitted;
        }
        effects.wake = self.next_wake().map(|moment| self.time.on_clock(moment));
        effects
    }

    fn next_wake(&self) -> Option<Moment> {
        [self.timers.next_due(), self.dispatch.next_deadline()].into_iter().flatten().min()
    }
}
