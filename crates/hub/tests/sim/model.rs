//! The reference: what the hub's log says, taken literally, and what must be true of it after every transition. It
//! knows the protocol (an activity that was scheduled is either recorded as scheduled, or its outcome is on its way, or
//! it is in the history, and only one of these) and nothing of how the hub keeps to it. One ledger follows what the core
//! has decided, another one what is on disk; after a crash the first begins anew from the second. This module must never
//! call the hub.

mod queues;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use seriatim_durable::Failure;
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::history_event::EventType;
use seriatim_hub::core::{
    ActivityRecord, ActivitySeq, Batch, EntityRecord, ExecutionNo, InstanceState, LockHolder, MessageSeq, Moment,
    OperationRecord, Snapshot, TimerKind, TimerRecord, TimerSeq, Write,
};

use crate::dice::fnv;
use crate::open::Open;
use crate::programs;

/// What is wrong, in one sentence.
pub(crate) type Verdict = Result<(), String>;

/// Says what is wrong unless it holds.
macro_rules! must {
    ($holds:expr, $($wrong:tt)+) => {
        if !$holds {
            return Err(format!($($wrong)+));
        }
    };
}
pub(crate) use must;

/// One execution as the log tells it.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) instance: String,
    pub(crate) start: Arc<proto::ExecutionStartedEvent>,
    pub(crate) state: InstanceState,
    pub(crate) history: Vec<Arc<[proto::HistoryEvent]>>,
    pub(crate) inbox: BTreeMap<MessageSeq, Arc<proto::HistoryEvent>>,
    pub(crate) open: Open,
    last: Moment,
}

impl Run {
    pub(crate) fn is_live(&self) -> bool {
        !self.open.ended
    }

    pub(crate) fn execution_id(&self) -> &str {
        self.start.orchestration_instance.as_ref().and_then(|i| i.execution_id.as_deref()).unwrap_or_default()
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &proto::HistoryEvent> {
        self.history.iter().flat_map(|part| part.iter())
    }

    fn len(&self) -> u64 {
        self.history.iter().map(|part| part.len() as u64).sum()
    }
}

/// An entity as the log tells it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Thing {
    pub(crate) state: Option<Arc<str>>,
    pub(crate) record: EntityRecord,
}

/// The mark that an operation leaves in the state of its entity, once it has run.
pub(crate) fn mark(operation: &str, request_id: &str) -> String {
    let letter = operation.get(..1).unwrap_or("?");
    format!("{letter}{:012x}", fnv(request_id.as_bytes()) >> 16)
}

/// The marks in an entity's state, which is `balance|mark,mark,…`.
pub(crate) fn marks(state: Option<&str>) -> &str {
    state.and_then(|state| state.split_once('|')).map_or("", |(_, marks)| marks)
}

/// The mark and the entity of an operation that waits; `None` for a request for a lock.
pub(crate) fn operation_mark(event: &proto::HistoryEvent) -> Option<String> {
    match event.event_type.as_ref()? {
        EventType::EntityOperationSignaled(e) => Some(mark(&e.operation, &e.request_id)),
        EventType::EntityOperationCalled(e) => Some(mark(&e.operation, &e.request_id)),
        _ => None,
    }
}

/// Everything that the log says; see the module's documentation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) executions: BTreeMap<ExecutionNo, Run>,
    pub(crate) current: BTreeMap<String, ExecutionNo>,
    pub(crate) activities: BTreeMap<ActivitySeq, Arc<ActivityRecord>>,
    pub(crate) timers: BTreeMap<TimerSeq, Arc<TimerRecord>>,
    pub(crate) entities: BTreeMap<String, Thing>,
    pub(crate) operations: BTreeMap<MessageSeq, Arc<OperationRecord>>,
    /// Who has what, by execution.
    activities_of: BTreeSet<(ExecutionNo, ActivitySeq)>,
    timers_of: BTreeSet<(ExecutionNo, TimerSeq)>,
    operations_of: BTreeSet<(ExecutionNo, MessageSeq)>,
    queues: BTreeMap<String, BTreeSet<MessageSeq>>,
    locks_of: BTreeSet<(ExecutionNo, String)>,
    /// The letters that each mailbox must have got, in order.
    pub(crate) letters: BTreeMap<String, Vec<String>>,
    /// All instances that there ever were.
    pub(crate) ever: BTreeSet<String>,
    /// All operations that ever came into a queue.
    pub(crate) sent: BTreeSet<String>,
    /// The operations that clients and orchestrations have asked for, and the orchestrations that entities must start.
    pub(crate) asked: BTreeSet<String>,
    pub(crate) launched: BTreeSet<String>,
}

/// What one batch has touched.
#[derive(Debug, Default)]
struct Touched {
    executions: BTreeSet<ExecutionNo>,
    /// Marks that entities have gained, and operations that left their queues, each in order.
    gained: BTreeMap<String, Vec<String>>,
    left: BTreeMap<String, Vec<String>>,
    /// Whose requests for a lock left a queue when they were the first in it, and nobody held the lock.
    may_lock: BTreeSet<(String, u64)>,
    /// Scheduled operations whose timers are gone.
    due: Vec<String>,
    /// Executions that were forgotten in this batch. One that is there again afterwards was rewound: what its history
    /// tells of messages was told before.
    forgotten: BTreeSet<ExecutionNo>,
}

/// What a request or an action must bring about somewhere else.
#[derive(Debug, Clone)]
pub(crate) enum Sent {
    Letter(String, String),
    Operation(String),
    Launch(String),
}

/// The executions and activities (by execution id and task) that workers have run.
pub(crate) type Ran = BTreeSet<(String, i32)>;

impl Ledger {
    /// Takes one transition, and checks everything that it has touched.
    pub(crate) fn apply(&mut self, batch: &Batch, ran: &Ran) -> Verdict {
        let mut touched = Touched::default();
        for write in &batch.writes {
            self.write(write, &mut touched, ran)?;
        }
        must!(
            touched.gained == touched.left,
            "operations that left queues {:?}, and those that took effect {:?}, differ",
            touched.left,
            touched.gained
        );
        for mark in touched.due {
            must!(self.sent.contains(&mark), "the scheduled operation {mark} was lost when it was due");
        }
        touched.executions.into_iter().try_for_each(|execution| self.check(execution))
    }

    fn write(&mut self, write: &Write, touched: &mut Touched, ran: &Ran) -> Verdict {
        match write {
            Write::PutExecution { execution, instance, start, state } => {
                let before = self.current.insert(instance.as_str().to_owned(), *execution);
                must!(before.is_none(), "{instance} has two executions, {before:?} and {execution}");
                self.ever.insert(instance.as_str().to_owned());
                let run = Run {
                    instance: instance.as_str().to_owned(),
                    start: Arc::clone(start),
                    state: state.clone(),
                    history: Vec::new(),
                    inbox: BTreeMap::new(),
                    open: Open::default(),
                    last: Moment::default(),
                };
                touched.executions.insert(*execution);
                self.touch_parent(start, touched);
                self.executions.insert(*execution, run);
            }
            Write::PutState { execution, state } => {
                touched.executions.insert(*execution);
                self.run(*execution)?.state = state.clone();
            }
            Write::DeleteExecution { execution } => {
                touched.executions.insert(*execution);
                touched.forgotten.insert(*execution);
                let gone = self.executions.remove(execution).ok_or("an execution is deleted that is not there")?;
                self.current.remove(&gone.instance);
            }
            Write::AppendHistory { execution, first, events } => {
                touched.executions.insert(*execution);
                self.append(*execution, *first, events, touched, ran)?;
            }
            Write::PutMessage { execution, message, event } => {
                touched.executions.insert(*execution);
                let run = self.run(*execution)?;
                must!(run.inbox.last_key_value().is_none_or(|(last, _)| last < message), "an inbox is out of order");
                run.inbox.insert(*message, Arc::clone(event));
            }
            Write::DeleteMessages { execution, up_to } => {
                touched.executions.insert(*execution);
                let run = self.run(*execution)?;
                run.inbox = run.inbox.split_off(&MessageSeq(up_to.0 + 1));
            }
            _ => self.write_record(write, touched)?,
        }
        Ok(())
    }

    /// A write that concerns no execution's own records.
    fn write_record(&mut self, write: &Write, touched: &mut Touched) -> Verdict {
        match write {
            Write::PutActivity { activity, record } => {
                let execution = ExecutionNo(record.execution);
                touched.executions.insert(execution);
                self.activities.insert(*activity, Arc::clone(record));
                self.activities_of.insert((execution, *activity));
            }
            Write::DeleteActivity { activity } => {
                let record = self.activities.remove(activity).ok_or("an activity is deleted twice")?;
                let execution = ExecutionNo(record.execution);
                self.activities_of.remove(&(execution, *activity));
                touched.executions.insert(execution);
            }
            Write::PutTimer { timer, record } => self.put_timer(*timer, record, touched),
            Write::DeleteTimer { timer } => {
                let record = self.timers.remove(timer).ok_or("a timer is deleted twice")?;
                match &record.kind {
                    Some(TimerKind::Operation(record)) => touched.due.extend(operation_mark(&record.event)),
                    kind => {
                        let execution = timer_owner(kind.as_ref());
                        self.timers_of.remove(&(execution, *timer));
                        touched.executions.insert(execution);
                    }
                }
            }
            Write::PutEntity { entity, state, record } => {
                let new = Thing { state: state.clone(), record: record.clone() };
                self.change_entity(entity.as_str(), new, touched)?;
            }
            Write::DeleteEntity { entity } => {
                self.change_entity(entity.as_str(), Thing::default(), touched)?;
                self.entities.remove(entity.as_str());
            }
            Write::PutOperation { message, record } => self.put_operation(*message, record, touched)?,
            Write::DeleteOperation { message } => {
                let record = self.operations.remove(message).ok_or("an operation is deleted twice")?;
                self.operations_of.remove(&(ExecutionNo(record.sender), *message));
                touched.executions.insert(ExecutionNo(record.sender));
                self.check_turn(*message, &record, touched)?;
                self.queues.entry(record.entity.clone()).or_default().remove(message);
            }
            Write::PutExecution { .. }
            | Write::PutState { .. }
            | Write::DeleteExecution { .. }
            | Write::AppendHistory { .. }
            | Write::PutMessage { .. }
            | Write::DeleteMessages { .. } => {}
        }
        Ok(())
    }

    fn run(&mut self, execution: ExecutionNo) -> Result<&mut Run, String> {
        self.executions.get_mut(&execution).ok_or(format!("execution {execution} is written to, but is not there"))
    }

    fn put_timer(&mut self, timer: TimerSeq, record: &Arc<TimerRecord>, touched: &mut Touched) {
        self.timers.insert(timer, Arc::clone(record));
        if !matches!(record.kind, Some(TimerKind::Operation(_))) {
            let execution = timer_owner(record.kind.as_ref());
            self.timers_of.insert((execution, timer));
            touched.executions.insert(execution);
        }
    }

    fn append(
        &mut self,
        execution: ExecutionNo,
        first: u64,
        events: &[proto::HistoryEvent],
        touched: &mut Touched,
        ran: &Ran,
    ) -> Verdict {
        let run = self.run(execution)?;
        let who = format!("{} ({execution})", run.instance);
        must!(run.len() == first, "the history of {who} has {} events, and goes on at {first}", run.len());
        let mut told = Vec::new();
        for event in events {
            let at = event.timestamp.as_ref().map(Moment::from).unwrap_or_default();
            must!(at >= run.last, "the history of {who} goes back in time at {event:?}");
            run.last = at;
            run.open.take(event).map_err(|wrong| format!("{who}: {wrong}"))?;
            match &event.event_type {
                Some(EventType::TimerFired(fired)) => {
                    let due = fired.fire_at.as_ref().map(Moment::from).unwrap_or_default();
                    must!(at >= due, "a timer of {who} fired at {at:?}, before {due:?}");
                }
                Some(EventType::TaskCompleted(proto::TaskCompletedEvent { task_scheduled_id: task, .. })) => {
                    let key = (run.execution_id().to_owned(), *task);
                    must!(ran.contains(&key), "{who} has a result of activity {task}, which nobody has run");
                }
                Some(EventType::EventSent(sent)) => {
                    told.push(Sent::Letter(sent.instance_id.clone(), sent.input.clone().unwrap_or_default()));
                }
                Some(EventType::EntityOperationCalled(_) | EventType::EntityOperationSignaled(_)) => {
                    told.extend(operation_mark(event).map(Sent::Operation));
                    told.extend(launches(event).map(Sent::Launch));
                }
                Some(EventType::ExecutionCompleted(completed)) => {
                    judge(run, completed).map_err(|wrong| format!("{who}: {wrong}"))?;
                }
                _ => {}
            }
        }
        run.history.push(events.into());
        let start = Arc::clone(&run.start);
        self.touch_parent(&start, touched);
        if !touched.forgotten.contains(&execution) {
            for sent in told {
                self.expect(sent);
            }
        }
        Ok(())
    }

    pub(crate) fn is_live(&self, instance: &str) -> bool {
        self.current.get(instance).and_then(|no| self.executions.get(no)).is_some_and(Run::is_live)
    }

    /// Something is under way; a mailbox that has ended takes no more letters.
    pub(crate) fn expect(&mut self, sent: Sent) {
        match sent {
            Sent::Letter(mailbox, letter) if self.is_live(&mailbox) => {
                let letter = serde_json::from_str(&letter).unwrap_or_default();
                self.letters.entry(mailbox).or_default().push(letter);
            }
            Sent::Letter(..) => {}
            Sent::Operation(mark) => _ = self.asked.insert(mark),
            Sent::Launch(id) => _ = self.launched.insert(id),
        }
    }

    fn touch_parent(&self, child: &proto::ExecutionStartedEvent, touched: &mut Touched) {
        let parent = child.parent_instance.as_ref().and_then(|parent| parent.orchestration_instance.as_ref());
        touched.executions.extend(parent.and_then(|parent| self.current.get(&parent.instance_id)));
    }

    /// What a mailbox must have collected when it ends.
    pub(crate) fn collected(&self, mailbox: &str) -> Vec<String> {
        let letters = self.letters.get(mailbox).into_iter().flatten();
        letters.take_while(|letter| *letter != "stop").cloned().collect()
    }

    fn tasks_of(&self, execution: ExecutionNo) -> Vec<i32> {
        let range = (execution, ActivitySeq(0))..=(execution, ActivitySeq(u64::MAX));
        self.activities_of
            .range(range)
            .filter_map(|(_, seq)| self.activities.get(seq))
            .map(|a| a.request.task_id)
            .collect()
    }

    fn queued_of(&self, execution: ExecutionNo) -> impl Iterator<Item = &Arc<OperationRecord>> {
        let range = (execution, MessageSeq(0))..=(execution, MessageSeq(u64::MAX));
        self.operations_of.range(range).filter_map(|(_, seq)| self.operations.get(seq))
    }

    /// What must be true of an execution between two transitions.
    fn check(&self, execution: ExecutionNo) -> Verdict {
        if execution.0 == 0 {
            return Ok(()); // clients and entities
        }
        let range = (execution, TimerSeq(0))..=(execution, TimerSeq(u64::MAX));
        let timers: Vec<_> = self.timers_of.range(range).filter_map(|(_, seq)| self.timers.get(seq)).collect();
        let locks: Vec<(&str, &LockHolder)> = self
            .locks_of
            .range((execution, String::new())..(ExecutionNo(execution.0 + 1), String::new()))
            .filter_map(|(_, id)| Some((id.as_str(), self.entities.get(id)?.record.holder.as_ref()?)))
            .collect();
        let Some(run) = self.executions.get(&execution).filter(|run| run.is_live()) else {
            must!(timers.is_empty(), "execution {execution} is over, but has timers: {timers:?}");
            must!(locks.iter().all(|(_, l)| l.releasing), "execution {execution} is over, but holds locks: {locks:?}");
            let asks = self.queued_of(execution).any(|record| operation_mark(&record.event).is_none());
            must!(!asks, "execution {execution} is over, but asks for a lock");
            if let Some(run) = self.executions.get(&execution) {
                must!(run.inbox.is_empty(), "{} has ended, but has messages: {:?}", run.instance, run.inbox);
                let end = matches!(run.state.status(), Status::Completed | Status::Failed | Status::Terminated);
                must!(end, "the history of {} has an end, but its status is {:?}", run.instance, run.state.status());
            }
            return Ok(());
        };
        let who = format!("{} ({execution})", run.instance);
        must!(run.len() == run.state.history_len, "{who} has {} events, not {:?}", run.len(), run.state);
        let under_way = run.open.after(run.inbox.values().map(|event| &**event)).map_err(|w| format!("{who}: {w}"))?;
        let mut tasks = self.tasks_of(execution);
        tasks.sort_unstable();
        must!(
            under_way.tasks.iter().eq(&tasks),
            "{who} waits for activities {:?}; there are {tasks:?}",
            under_way.tasks
        );
        let mut set: Vec<_> = timers.iter().filter_map(|timer| timer_id(timer)).collect();
        set.sort_unstable();
        must!(under_way.timers.iter().eq(&set), "{who} waits for timers {:?}; there are {set:?}", under_way.timers);
        let starts = timers.iter().any(|timer| matches!(timer.kind, Some(TimerKind::Start(_))));
        must!(
            starts == run.state.waits_for_start,
            "{who} waits for its start, and has no timer for it, or the reverse"
        );
        for (number, child) in &under_way.children {
            must!(self.is_child(run, child, *number), "{who} waits for {child}, which is not there");
        }
        self.check_calls(execution, &under_way).map_err(|wrong| format!("{who} {wrong}"))?;
        self.check_locks(execution, &under_way, &locks).map_err(|wrong| format!("{who} {wrong}"))
    }

    fn is_child(&self, parent: &Run, child: &str, number: i32) -> bool {
        let child = self.current.get(child).and_then(|no| self.executions.get(no)).filter(|run| run.is_live());
        child.and_then(|run| run.start.parent_instance.as_ref()).is_some_and(|info| {
            let of = info.orchestration_instance.as_ref().and_then(|of| of.execution_id.as_deref());
            info.task_scheduled_id == number && of == Some(parent.execution_id())
        })
    }

    fn check_calls(&self, execution: ExecutionNo, open: &Open) -> Verdict {
        let called = |record: &Arc<OperationRecord>| match &record.event.event_type {
            Some(EventType::EntityOperationCalled(call)) => Some(call.request_id.clone()),
            _ => None,
        };
        let mut queued: Vec<_> = self.queued_of(execution).filter_map(called).collect();
        queued.sort();
        must!(open.calls.iter().eq(&queued), "waits for calls {:?}; there are {queued:?}", open.calls);
        Ok(())
    }

    fn check_locks(&self, execution: ExecutionNo, open: &Open, held: &[(&str, &LockHolder)]) -> Verdict {
        for (section, lock) in &open.locks {
            let holds = |entity: &String| {
                held.iter().any(|(id, holder)| id == entity && !holder.releasing && holder.section == *section)
            };
            if lock.granted {
                must!(lock.entities.iter().all(holds), "was granted {:?}; it holds {held:?}", lock.entities);
            } else {
                let asks = |record: &&Arc<OperationRecord>| match &record.event.event_type {
                    Some(EventType::EntityLockRequested(request)) => request.critical_section_id == *section,
                    _ => false,
                };
                let asked = self.queued_of(execution).filter(asks).count();
                must!(asked == 1, "waits for the locks of {section}, and asks for them {asked} times");
            }
        }
        for (entity, holder) in held.iter().filter(|(_, holder)| !holder.releasing) {
            let wanted = open.locks.get(&holder.section).is_some_and(|lock| lock.entities.contains(*entity));
            must!(wanted, "holds a lock on {entity} that it does not want");
        }
        Ok(())
    }

    /// Nothing is under way any more.
    pub(crate) fn at_rest(&self) -> Verdict {
        if let Some(run) = self.executions.values().find(|run| run.is_live()) {
            return Err(format!("{} has not ended: {:?}, inbox {:?}", run.instance, run.open, run.inbox));
        }
        must!(self.activities.is_empty(), "activities are left: {:?}", self.activities);
        must!(self.timers.is_empty(), "timers are left: {:?}", self.timers);
        must!(self.operations.is_empty(), "operations are left: {:?}", self.operations);
        let held = self.entities.iter().find(|(_, thing)| thing.record.holder.is_some());
        must!(held.is_none(), "a lock is left: {held:?}");
        Ok(())
    }

    /// What a store gives back when it is opened is exactly this.
    pub(crate) fn is_in(&self, snapshot: &Snapshot) -> Verdict {
        must!(self.executions.len() == snapshot.executions.len(), "the store has other executions");
        for stored in &snapshot.executions {
            let same = self.executions.get(&stored.execution).is_some_and(|run| {
                run.instance == stored.instance.as_str() && *run.start == stored.start && run.state == stored.state
            });
            must!(same, "the store has another state of {}", stored.instance);
        }
        let inboxes = self.executions.iter().flat_map(|(no, run)| run.inbox.iter().map(move |(m, e)| (*no, *m, &**e)));
        must!(inboxes.eq(snapshot.messages.iter().map(|(no, m, e)| (*no, *m, e))), "the store has other messages");
        let activities = self.activities.iter().map(|(seq, record)| (*seq, &**record));
        must!(activities.eq(snapshot.activities.iter().map(|(s, r)| (*s, r))), "the store has other activities");
        let timers = self.timers.iter().map(|(seq, record)| (*seq, &**record));
        must!(timers.eq(snapshot.timers.iter().map(|(seq, record)| (*seq, record))), "the store has other timers");
        let operations = self.operations.iter().map(|(seq, record)| (*seq, &**record));
        must!(operations.eq(snapshot.operations.iter().map(|(s, r)| (*s, r))), "the store has other operations");
        must!(self.entities.len() == snapshot.entities.len(), "the store has other entities");
        for stored in &snapshot.entities {
            let thing = Thing { state: stored.state.clone(), record: stored.record.clone() };
            must!(self.entities.get(stored.entity.as_str()) == Some(&thing), "the store has another {}", stored.entity);
        }
        Ok(())
    }
}

/// The orchestration that this operation starts.
fn launches(event: &proto::HistoryEvent) -> Option<String> {
    let Some(EventType::EntityOperationCalled(call)) = &event.event_type else { return None };
    let name: String = serde_json::from_str(call.input.as_deref()?).ok()?;
    (call.operation == "launch").then(|| format!("e-{name}"))
}

fn timer_owner(kind: Option<&TimerKind>) -> ExecutionNo {
    match kind {
        Some(TimerKind::Orchestration(of)) => ExecutionNo(of.execution),
        Some(TimerKind::Start(execution)) => ExecutionNo(*execution),
        _ => ExecutionNo(0),
    }
}

fn timer_id(timer: &TimerRecord) -> Option<i32> {
    match &timer.kind {
        Some(TimerKind::Orchestration(of)) => Some(of.timer_id),
        _ => None,
    }
}

/// Whether an orchestration may end so.
fn judge(run: &Run, completed: &proto::ExecutionCompletedEvent) -> Verdict {
    let input = run.start.input.as_deref().unwrap_or("null");
    let result = completed.result.as_deref().unwrap_or_default();
    let is_program = run.start.name == "program";
    let steps: Vec<programs::Step> =
        if is_program { serde_json::from_str(input).map_err(|error| error.to_string())? } else { Vec::new() };
    match completed.orchestration_status() {
        Status::Completed => {
            let expected = match run.start.name.as_str() {
                "program" => programs::sum(&steps).to_string(),
                "transfer" => "true".to_owned(),
                "audit" => "0".to_owned(),
                _ => return Ok(()), // a mailbox, which is looked at in the end
            };
            must!(result == expected, "it came to {result}, not to {expected}");
        }
        Status::Failed => {
            let failure = Failure::from(completed.failure_details.clone());
            // An instance that is started again finds that a child of its former life still runs.
            let accepted = failure.is(programs::FLAKY) && programs::may_fail(&steps)
                || is_program && failure.is("InstanceAlreadyExists");
            must!(accepted, "it failed: {failure}");
        }
        Status::Terminated => must!(is_program, "it was terminated, and nobody had asked for it"),
        other => return Err(format!("it ended as {other:?}")),
    }
    Ok(())
}
