//! The state that an orchestrator's code and its history share: the actions that were attempted, the work that is
//! waited for, events, locks. The code changes it through the context, history through the execution. This module must
//! never poll the code, and must never complete anything that history has not recorded.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost_types::Timestamp;
use uuid::Uuid;

use super::events::Events;
use super::recorded::Described;
use super::retry::Attempts;
use super::section::{Section, Sections};
use super::task::Cell;
use crate::entity::EntityId;
use crate::failure::Failure;
use crate::proto;
use crate::proto::orchestrator_action::OrchestratorActionType;
use crate::proto::send_entity_message_action::EntityMessageType;
use crate::time;

/// The namespace of all ids that are derived here (a random constant; changing it would change every derived id).
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1f_0c5e_8e0b_4a4e_9d5a_2b7c_41d3_90e2);

/// The shared state, as its two users hold it.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<Core>>);

impl Shared {
    pub(crate) fn new(core: Core) -> Self {
        Self(Arc::new(Mutex::new(core)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        // No code of a user runs under this lock, so a poisoned core is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that the code asked for and that history has not confirmed yet.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) described: Described,
    /// The action, until it is handed out at the end of a turn.
    pub(crate) action: Option<OrchestratorActionType>,
}

/// What a retried task needs to be asked for again.
#[derive(Debug)]
pub(crate) struct Retry {
    attempts: Attempts,
    template: OrchestratorActionType,
    /// Whether each attempt of a sub-orchestration gets an instance id of its own.
    derived_id: bool,
}

/// Work whose outcome will be found in history under the id of its action.
#[derive(Debug)]
enum Waiting {
    Task { cell: Arc<Cell>, retry: Option<Box<Retry>> },
    SubOrchestration { cell: Arc<Cell>, retry: Option<Box<Retry>> },
    Timer { cell: Arc<Cell> },
    RetryTimer { cell: Arc<Cell>, retry: Box<Retry> },
    EntityCall { cell: Arc<Cell>, target: EntityId },
    Lock { cell: Arc<Cell> },
}

/// Which kind of task an outcome in history belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskKind {
    Activity,
    SubOrchestration,
}

/// What the code wants to begin again with.
#[derive(Debug)]
pub(crate) struct Continuation {
    pub(crate) input: String,
    pub(crate) keep_events: bool,
}

/// The state of one execution.
#[derive(Debug, Default)]
pub(crate) struct Core {
    pub(crate) instance_id: String,
    pub(crate) execution_id: String,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) parent_instance_id: Option<String>,
    /// The trace that the execution was started in: its activities and sub-orchestrations belong to it too.
    pub(crate) trace: Option<proto::TraceContext>,
    pub(crate) now: Timestamp,
    pub(crate) replaying: bool,
    pub(crate) custom_status: Option<String>,
    pub(crate) continuation: Option<Continuation>,
    pub(crate) events: Events,
    pub(crate) sections: Sections,
    /// In order of id. Confirmed attempts are removed, so this holds at most what one turn asked for.
    pub(crate) attempted: BTreeMap<i32, Attempt>,
    /// Set when the outcome is decided; from then on the code's wishes are ignored.
    pub(crate) ended: bool,
    last_action: i32,
    guids: u64,
    waiting: HashMap<i32, Waiting>,
    /// The ids of entity calls and lock requests in the protocol, and the actions that made them.
    requests: HashMap<String, i32>,
}

impl Core {
    pub(crate) fn new(instance_id: String, execution_id: String) -> Self {
        Self { instance_id, execution_id, ..Self::default() }
    }

    /// A new guid for the code: the same one at this place in every replay.
    pub(crate) fn new_guid(&mut self) -> Uuid {
        self.guids += 1;
        self.guid("guid", self.guids)
    }

    fn guid(&self, purpose: &str, number: u64) -> Uuid {
        let name = format!("{}\n{}\n{purpose}\n{number}", self.instance_id, self.execution_id);
        Uuid::new_v5(&NAMESPACE, name.as_bytes())
    }

    /// The guid that belongs to an action, apart from those of the code so that neither shifts the other.
    fn action_guid(&self, action: i32) -> Uuid {
        self.guid("action", u64::from(action.unsigned_abs()))
    }

    pub(crate) fn next_action(&mut self) -> i32 {
        self.last_action += 1;
        self.last_action
    }

    /// Makes sure that no id is used again that history holds already.
    pub(crate) fn skip_actions(&mut self, last_recorded: i32) {
        self.last_action = self.last_action.max(last_recorded);
    }

    /// Records an action under the next id.
    fn attempt(&mut self, action: OrchestratorActionType) -> i32 {
        let id = self.next_action();
        self.attempt_as(id, action);
        id
    }

    fn attempt_as(&mut self, id: i32, action: OrchestratorActionType) {
        if !self.ended {
            let described = Described::attempted(&action);
            self.attempted.insert(id, Attempt { described, action: Some(action) });
        }
    }

    /// Asks for an activity or a sub-orchestration, again if there is a policy and it fails.
    pub(crate) fn start_task(&mut self, template: OrchestratorActionType, attempts: Option<Attempts>) -> Arc<Cell> {
        let derived_id =
            matches!(&template, OrchestratorActionType::CreateSubOrchestration(a) if a.instance_id.is_empty());
        let cell = Cell::new();
        let retry = attempts.map(|attempts| Box::new(Retry { attempts, template: template.clone(), derived_id }));
        self.schedule(template, derived_id, Arc::clone(&cell), retry);
        cell
    }

    fn schedule(
        &mut self,
        mut action: OrchestratorActionType,
        derive_id: bool,
        cell: Arc<Cell>,
        retry: Option<Box<Retry>>,
    ) {
        let id = self.next_action();
        let waiting = if let OrchestratorActionType::CreateSubOrchestration(sub) = &mut action {
            if derive_id {
                let guid = self.action_guid(id).as_simple().to_string();
                sub.instance_id = format!("{}:{id:04x}:{}", self.instance_id, &guid[..16]);
            }
            Waiting::SubOrchestration { cell, retry }
        } else {
            Waiting::Task { cell, retry }
        };
        self.attempt_as(id, action);
        self.waiting.insert(id, waiting);
    }

    /// Sets a timer.
    pub(crate) fn start_timer(&mut self, fire_at: Timestamp) -> Arc<Cell> {
        let cell = Cell::new();
        let id = self.attempt(create_timer(fire_at));
        self.waiting.insert(id, Waiting::Timer { cell: Arc::clone(&cell) });
        cell
    }

    /// Sends an event to another orchestration.
    pub(crate) fn send_event(&mut self, instance: &str, name: &str, data: String) {
        self.attempt(OrchestratorActionType::SendEvent(proto::SendEventAction {
            instance: Some(proto::OrchestrationInstance { instance_id: instance.to_owned(), execution_id: None }),
            name: name.to_owned(),
            data: Some(data),
        }));
    }

    /// Calls an entity; the rules of critical sections were checked.
    pub(crate) fn call_entity(&mut self, target: &EntityId, operation: &str, input: String) -> Arc<Cell> {
        let id = self.next_action();
        let request_id = self.action_guid(id).to_string();
        self.attempt_as(
            id,
            entity_message(EntityMessageType::EntityOperationCalled(proto::EntityOperationCalledEvent {
                request_id: request_id.clone(),
                operation: operation.to_owned(),
                scheduled_time: None,
                input: Some(input),
                parent_instance_id: Some(self.instance_id.clone()),
                parent_execution_id: Some(self.execution_id.clone()).filter(|id| !id.is_empty()),
                target_instance_id: Some(target.to_string()),
            })),
        );
        let cell = Cell::new();
        self.requests.insert(request_id, id);
        self.waiting.insert(id, Waiting::EntityCall { cell: Arc::clone(&cell), target: target.clone() });
        cell
    }

    /// Signals an entity; the rules of critical sections were checked.
    pub(crate) fn signal_entity(&mut self, target: &EntityId, operation: &str, input: String, at: Option<Timestamp>) {
        let id = self.next_action();
        let request_id = self.action_guid(id).to_string();
        self.attempt_as(
            id,
            entity_message(EntityMessageType::EntityOperationSignaled(proto::EntityOperationSignaledEvent {
                request_id,
                operation: operation.to_owned(),
                scheduled_time: at,
                input: Some(input),
                target_instance_id: Some(target.to_string()),
            })),
        );
    }

    /// Requests locks, which are sorted and distinct; the rules of critical sections were checked.
    pub(crate) fn request_locks(&mut self, locks: Vec<EntityId>) -> (Arc<Cell>, i32) {
        let id = self.next_action();
        let section_id = self.action_guid(id).to_string();
        self.attempt_as(
            id,
            entity_message(EntityMessageType::EntityLockRequested(proto::EntityLockRequestedEvent {
                critical_section_id: section_id.clone(),
                lock_set: locks.iter().map(ToString::to_string).collect(),
                position: 0,
                parent_instance_id: Some(self.instance_id.clone()),
            })),
        );
        let cell = Cell::new();
        self.requests.insert(section_id.clone(), id);
        self.waiting.insert(id, Waiting::Lock { cell: Arc::clone(&cell) });
        self.sections.requested(id, section_id, locks);
        (cell, id)
    }

    /// The code dropped its lock request or its guard.
    pub(crate) fn leave_section(&mut self, action: i32) {
        if let Some(section) = self.sections.dropped(action) {
            self.unlock(&section);
        }
    }

    /// Releases everything before the execution ends.
    pub(crate) fn close_sections(&mut self) {
        for section in self.sections.close() {
            self.unlock(&section);
        }
    }

    fn unlock(&mut self, section: &Section) {
        for target in &section.locks {
            self.send_unlock(&section.id, &target.to_string());
        }
    }

    /// Sends the message that unlocks one entity.
    pub(crate) fn send_unlock(&mut self, section_id: &str, target: &str) {
        self.attempt(entity_message(EntityMessageType::EntityUnlockSent(proto::EntityUnlockSentEvent {
            critical_section_id: section_id.to_owned(),
            parent_instance_id: Some(self.instance_id.clone()),
            target_instance_id: Some(target.to_owned()),
        })));
    }

    /// Takes over the id under which history has recorded an entity call or a lock request.
    pub(crate) fn confirm_request(&mut self, action: i32, recorded_id: &str) {
        if self.requests.get(recorded_id) != Some(&action) {
            self.requests.retain(|_, of| *of != action);
            self.requests.insert(recorded_id.to_owned(), action);
        }
        self.sections.confirmed(action, recorded_id);
    }

    /// An activity or a sub-orchestration has ended.
    pub(crate) fn task_ended(&mut self, kind: TaskKind, action: i32, outcome: Result<Option<String>, Failure>) {
        let expected = match (kind, self.waiting.get(&action)) {
            (TaskKind::Activity, Some(Waiting::Task { .. }))
            | (TaskKind::SubOrchestration, Some(Waiting::SubOrchestration { .. })) => self.waiting.remove(&action),
            // Delivered twice, or of something that this code never waits for: as in other SDKs, no error.
            _ => None,
        };
        let Some(Waiting::Task { cell, retry } | Waiting::SubOrchestration { cell, retry }) = expected else {
            return;
        };
        match (outcome, retry) {
            (Err(failure), Some(mut retry)) => match retry.attempts.failed(&self.now, &failure) {
                Some(wait) => self.start_retry_timer(wait, cell, retry),
                None => cell.complete(Err(failure)),
            },
            (outcome, _) => cell.complete(outcome),
        }
    }

    fn start_retry_timer(&mut self, wait: Duration, cell: Arc<Cell>, retry: Box<Retry>) {
        let id = self.attempt(create_timer(time::later(&self.now, wait)));
        self.waiting.insert(id, Waiting::RetryTimer { cell, retry });
    }

    /// A timer is over.
    pub(crate) fn timer_fired(&mut self, action: i32) {
        if !matches!(self.waiting.get(&action), Some(Waiting::Timer { .. } | Waiting::RetryTimer { .. })) {
            return;
        }
        match self.waiting.remove(&action) {
            Some(Waiting::Timer { cell }) => cell.complete(Ok(None)),
            Some(Waiting::RetryTimer { cell, retry }) => {
                self.schedule(retry.template.clone(), retry.derived_id, cell, Some(retry));
            }
            _ => {}
        }
    }

    /// An entity has answered a call.
    pub(crate) fn call_ended(&mut self, request_id: &str, outcome: Result<Option<String>, Failure>) {
        let Some(action) = self.requests.remove(request_id) else {
            return;
        };
        if let Some(Waiting::EntityCall { cell, target }) = self.waiting.remove(&action) {
            self.sections.call_ended(&target);
            cell.complete(outcome);
        }
    }

    /// All locks of a request are held.
    pub(crate) fn locks_granted(&mut self, section_id: &str) {
        let Some(action) = self.requests.remove(section_id) else {
            return;
        };
        if let Some(Waiting::Lock { cell }) = self.waiting.remove(&action) {
            match self.sections.granted(action) {
                Some(unwanted) => self.unlock(&unwanted),
                None => cell.complete(Ok(None)),
            }
        }
    }

    /// Forgets every wish of the code, because it does not fit the history.
    pub(crate) fn discard(&mut self) {
        self.attempted.clear();
        self.waiting.clear();
        self.requests.clear();
        self.continuation = None;
    }
}

fn create_timer(fire_at: Timestamp) -> OrchestratorActionType {
    OrchestratorActionType::CreateTimer(proto::CreateTimerAction { fire_at: Some(fire_at) })
}

fn entity_message(message: EntityMessageType) -> OrchestratorActionType {
    OrchestratorActionType::SendEntityMessage(proto::SendEntityMessageAction { entity_message_type: Some(message) })
}
