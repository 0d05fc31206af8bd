//! One living run of an orchestrator function. Events go in, in the order of history; after each one the code runs as
//! far as it can; what it asked for comes out at the end of the turn. This module must never hand out an action that
//! history holds already, nor go on after history and code have disagreed.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;

use super::context::OrchestrationContext;
use super::core::{Attempt, Core, Shared, TaskKind};
use super::end::{End, complete, raised};
use super::recorded::{self, Described};
use super::task::Outcome;
use super::wake::WakeFlag;
use crate::failure::Failure;
use crate::proto;
use crate::proto::HistoryEvent;
use crate::proto::history_event::EventType;
use crate::proto::orchestrator_action::OrchestratorActionType;
use crate::registry::Registry;

/// An orchestrator function with its types erased: JSON in, JSON out.
pub(crate) type OrchestratorFn =
    Arc<dyn Fn(OrchestrationContext, Option<String>) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// How often the code may ask to be polled again without any event, before it counts as a busy loop. Joins ask a
/// handful of times at most.
const MAX_POLLS_PER_EVENT: u32 = 10_000;

/// What an orchestrator did in one turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// What it asked for, in order; the last one is its end if it has ended.
    pub actions: Vec<proto::OrchestratorAction>,
    /// The custom status as JSON, if it was ever set.
    pub custom_status: Option<String>,
    /// Whether this execution has ended: it can be forgotten.
    pub ended: bool,
}

/// One living run of an orchestrator function.
///
/// Between turns it can be kept (then the next turn costs what is new) or dropped (then a new one replays the history).
/// Both give the same actions.
pub struct Execution {
    registry: Arc<Registry>,
    core: Shared,
    future: Option<BoxFuture<'static, Outcome>>,
    flag: Arc<WakeFlag>,
    /// Inputs that arrived while the instance was suspended; `None` while it is not.
    suspended: Option<Vec<HistoryEvent>>,
    end: Option<(i32, End)>,
    /// A rewound instance runs recorded work again: actions without a record are expected then.
    rewound: bool,
    /// How many events of history this execution has seen; `None` if it cannot know.
    seen: Option<usize>,
    last_seen: Option<HistoryEvent>,
}

impl Execution {
    /// An execution that has seen nothing yet.
    pub fn new(registry: Arc<Registry>, instance_id: impl Into<String>, execution_id: impl Into<String>) -> Self {
        let core = Core::new(instance_id.into(), execution_id.into());
        Self {
            registry,
            core: Shared::new(core),
            future: None,
            flag: Arc::default(),
            suspended: None,
            end: None,
            rewound: false,
            seen: Some(0),
            last_seen: None,
        }
    }

    /// Whether `past` continues what this execution has seen, so that it need not be replayed from the start.
    pub fn fits(&self, past: &[HistoryEvent]) -> bool {
        match (self.seen, &self.last_seen) {
            (Some(0), _) => true,
            (Some(seen), Some(last)) => past.get(seen - 1) == Some(last),
            _ => false,
        }
    }

    /// Takes a turn: brings the code up to the whole committed history `past`, then runs it over the `new` events.
    ///
    /// `past` must [fit](Self::fits). The cost is that of the events not seen yet.
    pub fn turn(&mut self, past: &[HistoryEvent], new: &[HistoryEvent]) -> Turn {
        let known = self.seen.unwrap_or(0).min(past.len());
        self.flag.enter();
        self.core.lock().replaying = true;
        let caught_up = self.check_wakes().and_then(|()| {
            past[known..].iter().try_for_each(|event| self.apply(event))?;
            self.check_confirmed()
        });
        self.run(caught_up, Some(past), new)
    }

    /// Whether a history of `past_len` events can only be what this execution has seen and what its last actions
    /// became: one record for each action, and perhaps the mark that closes a turn. Any other turn would have added more.
    pub fn continues(&self, past_len: usize) -> bool {
        let core = self.core.lock();
        self.seen.is_some_and(|seen| {
            let recorded = seen + core.attempted.len();
            seen > 0 && (past_len == recorded || past_len == recorded + 1)
        })
    }

    /// Takes a turn over `new` events without being shown the history, whose length is `past_len`. This execution must
    /// [continue](Self::continues) it. The cost is that of the new events.
    pub fn next_turn(&mut self, past_len: usize, new: &[HistoryEvent]) -> Turn {
        self.flag.enter();
        self.core.lock().attempted.clear();
        let checked = self.check_wakes();
        let turn = self.run(checked, None, new);
        self.seen = Some(past_len + new.len());
        turn
    }

    fn run(&mut self, caught_up: Result<(), Failure>, past: Option<&[HistoryEvent]>, new: &[HistoryEvent]) -> Turn {
        self.core.lock().replaying = false;
        if let Err(failure) = caught_up.and_then(|()| new.iter().try_for_each(|event| self.apply(event))) {
            self.fail_replay(failure, past);
        }
        self.seen = past.map(|past| past.len() + new.len());
        if let Some(last) = new.last().or(past.and_then(<[_]>::last)) {
            self.last_seen = Some(last.clone());
        }
        let turn = self.take_actions();
        self.flag.leave();
        turn
    }

    fn check_wakes(&self) -> Result<(), Failure> {
        if self.flag.was_foreign() { Err(recorded::foreign_wait(&self.core.lock().instance_id)) } else { Ok(()) }
    }

    /// Every attempt of the past must have its record by now.
    fn check_confirmed(&self) -> Result<(), Failure> {
        let core = self.core.lock();
        match core.attempted.first_key_value() {
            Some((&id, attempt)) if !self.rewound => {
                Err(recorded::mismatch(&core.instance_id, id, None, Some(&attempt.described)))
            }
            _ => Ok(()),
        }
    }

    /// Takes one event of history, and lets the code run.
    fn apply(&mut self, event: &HistoryEvent) -> Result<(), Failure> {
        let Some(kind) = &event.event_type else {
            return Ok(());
        };
        if let Some(recorded) = Described::recorded(kind) {
            return self.confirm(event.event_id, &recorded, kind);
        }
        if is_input(kind)
            && let Some(kept) = &mut self.suspended
        {
            kept.push(event.clone());
            return Ok(());
        }
        if self.end.is_some() {
            self.apply_after_end(event, kind);
            return Ok(());
        }
        match kind {
            EventType::OrchestratorStarted(_) => {
                self.check_confirmed()?;
                if let Some(timestamp) = event.timestamp {
                    self.core.lock().now = timestamp;
                }
            }
            EventType::ExecutionStarted(started) => self.start(started),
            EventType::ExecutionSuspended(_) => {
                self.suspended.get_or_insert_default();
            }
            EventType::ExecutionResumed(_) => {
                for kept in self.suspended.take().unwrap_or_default() {
                    self.apply(&kept)?;
                }
            }
            EventType::ExecutionTerminated(terminated) => {
                self.finish(End::Terminated { output: terminated.input.clone() });
            }
            EventType::ExecutionRewound(_) => self.rewound = true,
            _ => self.apply_outcome(kind),
        }
        self.poll()
    }

    /// Gives an outcome to the task that waits for it.
    fn apply_outcome(&mut self, kind: &EventType) {
        let mut core = self.core.lock();
        match kind {
            EventType::TaskCompleted(e) => {
                core.task_ended(TaskKind::Activity, e.task_scheduled_id, Ok(e.result.clone()));
            }
            EventType::TaskFailed(e) => {
                core.task_ended(TaskKind::Activity, e.task_scheduled_id, Err(e.failure_details.clone().into()));
            }
            EventType::SubOrchestrationInstanceCompleted(e) => {
                core.task_ended(TaskKind::SubOrchestration, e.task_scheduled_id, Ok(e.result.clone()));
            }
            EventType::SubOrchestrationInstanceFailed(e) => {
                core.task_ended(TaskKind::SubOrchestration, e.task_scheduled_id, Err(e.failure_details.clone().into()));
            }
            EventType::TimerFired(e) => core.timer_fired(e.timer_id),
            EventType::EventRaised(e) => core.events.raise(&e.name, e.input.clone()),
            EventType::EntityOperationCompleted(e) => {
                core.call_ended(&e.request_id, Ok(e.output.clone()));
            }
            EventType::EntityOperationFailed(e) => {
                core.call_ended(&e.request_id, Err(e.failure_details.clone().into()));
            }
            EventType::EntityLockGranted(e) => core.locks_granted(&e.critical_section_id),
            // The rest informs people, or marks the end of a turn.
            _ => {}
        }
    }

    /// After the decision to end, the rest of a turn's events can only change what moves on, or cut it short.
    fn apply_after_end(&mut self, event: &HistoryEvent, kind: &EventType) {
        let Some((id, end)) = &mut self.end else {
            return;
        };
        let End::Continued { keep_events, carried, .. } = end else {
            return;
        };
        match kind {
            EventType::EventRaised(_) if *keep_events => carried.push(event.clone()),
            EventType::ExecutionSuspended(_) => carried.push(event.clone()),
            EventType::ExecutionResumed(_) => {
                carried.retain(|kept| !matches!(kept.event_type, Some(EventType::ExecutionSuspended(_))));
            }
            EventType::ExecutionTerminated(terminated) => {
                let terminated = End::Terminated { output: terminated.input.clone() };
                let described = Described::end(terminated.status());
                self.core.lock().attempted.insert(*id, Attempt { described, action: None });
                *end = terminated;
            }
            _ => {}
        }
    }

    /// Matches a record with the attempt of the same id.
    fn confirm(&mut self, id: i32, recorded: &Described, kind: &EventType) -> Result<(), Failure> {
        let mut core = self.core.lock();
        let attempt = core.attempted.remove(&id);
        let attempted = attempt.as_ref().map(|attempt| &attempt.described);
        if attempted.is_none_or(|attempted| recorded.difference(attempted).is_some()) {
            return Err(recorded::mismatch(&core.instance_id, id, Some(recorded), attempted));
        }
        match kind {
            EventType::EntityOperationCalled(e) => core.confirm_request(id, &e.request_id),
            EventType::EntityLockRequested(e) => core.confirm_request(id, &e.critical_section_id),
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, started: &proto::ExecutionStartedEvent) {
        if self.future.is_some() {
            // Delivered twice: the first one counts.
            return;
        }
        {
            let mut core = self.core.lock();
            core.name.clone_from(&started.name);
            core.version.clone_from(&started.version);
            core.trace.clone_from(&started.parent_trace_context);
            let parent = started.parent_instance.as_ref().and_then(|parent| parent.orchestration_instance.as_ref());
            core.parent_instance_id = parent.map(|parent| parent.instance_id.clone());
        }
        let Some(function) = self.registry.orchestrator(&started.name) else {
            let failure = Failure::non_retriable(
                Failure::ORCHESTRATOR_NOT_REGISTERED,
                format!("this worker has no orchestration named \"{}\": register it, or start another", started.name),
            );
            self.finish(End::Finished(Err(failure)));
            return;
        };
        let context = OrchestrationContext::new(self.core.clone());
        let input = started.input.clone();
        self.flag.set();
        match catch_unwind(AssertUnwindSafe(|| function(context, input))) {
            Ok(future) => self.future = Some(future),
            Err(panic) => self.finish(End::Finished(Err(Failure::from_panic("the orchestrator", panic.as_ref())))),
        }
    }

    /// Runs the code until it waits for history.
    fn poll(&mut self) -> Result<(), Failure> {
        let waker = Waker::from(Arc::clone(&self.flag));
        let mut polls = 0;
        while self.flag.take() {
            let Some(future) = &mut self.future else {
                return Ok(());
            };
            polls += 1;
            if polls > MAX_POLLS_PER_EVENT {
                return Err(recorded::foreign_wait(&self.core.lock().instance_id));
            }
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
            let outcome = match polled {
                Ok(Poll::Ready(outcome)) => Some(outcome),
                Ok(Poll::Pending) => None,
                Err(panic) => Some(Err(Failure::from_panic("the orchestrator", panic.as_ref()))),
            };
            let continuation = self.core.lock().continuation.take();
            let end = match (outcome, continuation) {
                (Some(Err(failure)), _) => End::Finished(Err(failure)),
                (_, Some(next)) => {
                    End::Continued { input: next.input, keep_events: next.keep_events, carried: Vec::new() }
                }
                (Some(outcome), None) => End::Finished(outcome),
                (None, None) => continue,
            };
            self.finish(end);
        }
        Ok(())
    }

    /// Decides the end: releases the locks, takes the last id, and drops the code.
    fn finish(&mut self, mut end: End) {
        let id = {
            let mut core = self.core.lock();
            core.close_sections();
            if let End::Continued { keep_events: true, carried, .. } = &mut end {
                carried.extend(core.events.drain().into_iter().map(|(name, input)| raised(name, input)));
            }
            let id = core.next_action();
            core.attempted.insert(id, Attempt { described: Described::end(end.status()), action: None });
            core.ended = true;
            id
        };
        self.end = Some((id, end));
        self.drop_code();
    }

    /// Ends an execution whose code and history disagree. Nothing that the code asked for in this turn can be trusted;
    /// the locks that history knows of are released. Without a history at hand, the code's own account of its locks is
    /// all there is.
    fn fail_replay(&mut self, failure: Failure, past: Option<&[HistoryEvent]>) {
        {
            let mut core = self.core.lock();
            core.ended = true;
            core.discard();
        }
        self.drop_code();
        let mut core = self.core.lock();
        core.ended = false;
        if let Some(past) = past {
            core.skip_actions(last_recorded(past));
            for (section, target) in held_locks(past) {
                core.send_unlock(section, target);
            }
        } else {
            core.close_sections();
        }
        let id = core.next_action();
        core.ended = true;
        drop(core);
        self.end = Some((id, End::Finished(Err(failure))));
    }

    /// Dropping the future runs destructors of the user's values; what they ask for is ignored by the core.
    fn drop_code(&mut self) {
        if let Some(future) = self.future.take()
            && catch_unwind(AssertUnwindSafe(|| drop(future))).is_err()
        {
            // The outcome is decided; a destructor that panics cannot change it.
        }
    }

    fn take_actions(&mut self) -> Turn {
        let mut core = self.core.lock();
        let mut actions: Vec<_> =
            core.attempted.iter_mut().filter_map(|(&id, attempt)| action(id, attempt.action.take())).collect();
        if let Some((id, end)) = self.end.take() {
            actions.extend(action(id, Some(complete(end))));
        }
        Turn { actions, custom_status: core.custom_status.clone(), ended: core.ended }
    }
}

impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.core.lock();
        f.debug_struct("Execution")
            .field("instance_id", &core.instance_id)
            .field("execution_id", &core.execution_id)
            .field("seen", &self.seen)
            .field("ended", &core.ended)
            .finish_non_exhaustive()
    }
}

/// The highest id of an action that history holds.
fn last_recorded(history: &[HistoryEvent]) -> i32 {
    let records = history.iter().filter(|event| event.event_type.as_ref().and_then(Described::recorded).is_some());
    records.map(|event| event.event_id).max().unwrap_or(0)
}

/// The locks that history shows as requested and not given back: critical section and entity, in order.
fn held_locks(history: &[HistoryEvent]) -> BTreeSet<(&str, &str)> {
    let mut held = BTreeSet::new();
    for event in history {
        match &event.event_type {
            Some(EventType::EntityLockRequested(e)) => {
                held.extend(e.lock_set.iter().map(|target| (e.critical_section_id.as_str(), target.as_str())));
            }
            Some(EventType::EntityUnlockSent(e)) => {
                held.remove(&(e.critical_section_id.as_str(), e.target_instance_id.as_deref().unwrap_or_default()));
            }
            _ => {}
        }
    }
    held
}

/// Whether an event feeds the code, and therefore waits while the instance is suspended.
fn is_input(kind: &EventType) -> bool {
    matches!(
        kind,
        EventType::ExecutionStarted(_)
            | EventType::TaskCompleted(_)
            | EventType::TaskFailed(_)
            | EventType::SubOrchestrationInstanceCompleted(_)
            | EventType::SubOrchestrationInstanceFailed(_)
            | EventType::TimerFired(_)
            | EventType::EventRaised(_)
            | EventType::EntityOperationCompleted(_)
            | EventType::EntityOperationFailed(_)
            | EventType::EntityLockGranted(_)
    )
}

fn action(id: i32, kind: Option<OrchestratorActionType>) -> Option<proto::OrchestratorAction> {
    kind.map(|kind| proto::OrchestratorAction { id, orchestrator_action_type: Some(kind) })
}
