//! The hub against a reference that a child understands: each entity counts the operations that it ran, so in the end
//! its count is the number of operations that were sent to it, whatever was lost, repeated, late or killed in between;
//! and every orchestration that was acknowledged ends exactly once, with each of its activities recorded once.
//!
//! The orchestrations are made at random (calls, signals, activities, timers, critical sections, continue-as-new), and
//! so is what happens to them. `SERIATIM_TEST_SCALE` multiplies the number of cases; a failing one prints its steps and
//! is kept under `proptest-regressions`, where it is run first for ever.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::history_event::EventType;
use seriatim_hub::core::{CoreConfig, Request, WorkerId};

use seriatim_hub::store::{MemoryStore, SqliteStore, Store};

use crate::driver::*;

const ENTITIES: [&str; 3] = ["@n@a", "@n@b", "@n@c"];

/// One thing that an orchestration does, and waits for.
#[derive(Debug, Clone)]
enum Deed {
    Call(usize),
    Signal(usize),
    Activity,
    Timer(u8),
    Lock(Vec<usize>),
    Unlock,
    Again,
}

#[derive(Debug, Clone)]
enum Event {
    Start(Vec<Deed>),
    Signal(usize),
    WorkerJoins(bool),
    WorkerLeaves,
    Turn,
    Activity,
    Batch { done: usize },
    Abandon,
    LateResult,
    TimePasses(u8),
    ClockJumpsBack(u8),
    Commit,
    Crash,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..3usize).prop_map(Deed::Call),
        2 => (0..3usize).prop_map(Deed::Signal),
        2 => Just(Deed::Activity),
        1 => (0..90u8).prop_map(Deed::Timer),
        2 => prop::collection::vec(0..3usize, 1..4).prop_map(Deed::Lock),
        1 => Just(Deed::Unlock),
        1 => Just(Deed::Again),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => prop::collection::vec(deed(), 0..6).prop_map(Event::Start),
        2 => (0..3usize).prop_map(Event::Signal),
        2 => any::<bool>().prop_map(Event::WorkerJoins),
        1 => Just(Event::WorkerLeaves),
        10 => Just(Event::Turn),
        5 => Just(Event::Activity),
        8 => (0..4usize).prop_map(|done| Event::Batch { done }),
        1 => Just(Event::Abandon),
        1 => Just(Event::LateResult),
        2 => (0..70u8).prop_map(Event::TimePasses),
        1 => (0..200u8).prop_map(Event::ClockJumpsBack),
        6 => Just(Event::Commit),
        1 => Just(Event::Crash),
    ]
}

/// What an orchestration does next, from its history alone: its input lists the deeds that are left, the history shows
/// how many of them are done.
fn next_actions(
    turn: &proto::OrchestratorRequest,
    programs: &BTreeMap<String, Vec<Deed>>,
) -> Vec<proto::OrchestratorAction> {
    let events: Vec<_> = turn.past_events.iter().chain(&turn.new_events).collect();
    let input = events.iter().find_map(|event| match &event.event_type {
        Some(EventType::ExecutionStarted(started)) => started.input.clone(),
        _ => None,
    });
    // A turn that is stale may find the history of the next execution, or none.
    let Some(input) = input else { return vec![] };
    let skipped: usize = input.parse().unwrap();
    let program = &programs[&turn.instance_id][skipped..];
    let now = events.iter().rev().find_map(|event| match &event.event_type {
        Some(EventType::OrchestratorStarted(_)) => event.timestamp,
        _ => None,
    });
    let count =
        |wanted: &[&str]| events.iter().filter(|event| wanted.contains(&kinds(&[(**event).clone()])[0])).count();
    let begun = count(&["call", "signal", "task", "timer", "lock", "unlock"]);
    let done = count(&["call done", "signal", "task done", "timer fired", "granted", "unlock"]);
    if done < begun {
        return vec![]; // it still waits
    }
    let mut actions = Vec::new();
    // Deeds that leave no mark of their own in this history (an unlock without a lock) are numbered all the same.
    let mut position = 0;
    let mut marks = 0;
    let mut locked: Vec<usize> = Vec::new();
    loop {
        let Some(deed) = program.get(position) else {
            actions.push(complete(i32::try_from(position).unwrap()));
            return actions;
        };
        let id = i32::try_from(position).unwrap();
        position += 1;
        let action = match deed {
            Deed::Call(entity) if locked.is_empty() || locked.contains(entity) => call(id, ENTITIES[*entity], "add"),
            Deed::Signal(entity) if !locked.contains(entity) => signal(id, ENTITIES[*entity], "add"),
            Deed::Activity => task(id, "t"),
            Deed::Timer(seconds) => {
                let now = seriatim_hub::core::Moment::from(&now.unwrap());
                timer(id, now.plus(Duration::from_secs(u64::from(*seconds))))
            }
            Deed::Lock(set) if locked.is_empty() => {
                locked.clone_from(set);
                let set: Vec<_> = set.iter().map(|entity| ENTITIES[*entity]).collect();
                lock(id, &format!("{}-{skipped}-{id}", turn.instance_id), &set)
            }
            Deed::Unlock if !locked.is_empty() => {
                let mut set = std::mem::take(&mut locked);
                set.sort_unstable();
                set.dedup();
                if marks < begun {
                    marks += set.len();
                    continue;
                }
                let section = section_of(program, position, skipped, &turn.instance_id);
                actions.extend(set.iter().map(|entity| unlock(id, &section, ENTITIES[*entity])));
                continue;
            }
            Deed::Again => {
                let next = (skipped + position).to_string();
                actions.push(end(id, Status::ContinuedAsNew, Some(&next)));
                return actions;
            }
            _ => continue, // against the rules of critical sections
        };
        if marks < begun {
            marks += 1;
            continue;
        }
        let waits = !matches!(deed, Deed::Signal(_));
        actions.push(action);
        if waits {
            return actions;
        }
    }
}

/// The critical section that an unlock at `position` ends.
fn section_of(program: &[Deed], position: usize, skipped: usize, instance: &str) -> String {
    let mut open = None;
    for (at, deed) in program[..position - 1].iter().enumerate() {
        match deed {
            Deed::Lock(_) if open.is_none() => open = Some(at),
            Deed::Unlock => open = None,
            _ => {}
        }
    }
    format!("{instance}-{skipped}-{}", open.unwrap())
}

/// How many operations reach each entity in the end.
fn expected(program: &[Deed], counts: &mut [u64; 3]) {
    let mut locked: Vec<usize> = Vec::new();
    for deed in program {
        match deed {
            Deed::Call(entity) if locked.is_empty() || locked.contains(entity) => counts[*entity] += 1,
            Deed::Signal(entity) if !locked.contains(entity) => counts[*entity] += 1,
            Deed::Lock(set) if locked.is_empty() => locked.clone_from(set),
            Deed::Unlock | Deed::Again => locked.clear(),
            _ => {}
        }
    }
}

struct Model {
    hub: Driver,
    workers: Vec<WorkerId>,
    programs: BTreeMap<String, Vec<Deed>>,
    /// Requests that were sent but not acknowledged when last looked at, with what they add.
    unsure: Vec<(seriatim_hub::core::RequestId, Unsure)>,
    started: Vec<String>,
    signals: [u64; 3],
    late: Option<Request>,
}

enum Unsure {
    Started(String),
    Signalled(usize),
}

impl Model {
    fn new(run_ahead: u64) -> Self {
        let store = MemoryStore::new(1);
        Self::on(Rc::new(move || Box::new(store.clone())), run_ahead)
    }

    fn on(reopen: Rc<dyn Fn() -> Box<dyn Store>>, run_ahead: u64) -> Self {
        let config = CoreConfig { events_per_turn: 3, operations_per_batch: 3, run_ahead, ..CoreConfig::default() };
        let mut hub = Driver::on_store(reopen, config);
        hub.commit_at_once = false;
        Self {
            hub,
            workers: Vec::new(),
            programs: BTreeMap::new(),
            unsure: Vec::new(),
            started: Vec::new(),
            signals: [0; 3],
            late: None,
        }
    }

    /// Counts what has been acknowledged.
    fn note_answers(&mut self) {
        for (request, what) in std::mem::take(&mut self.unsure) {
            match (self.hub.answer(request), what) {
                (None, what) => self.unsure.push((request, what)),
                (Some(outcome), Unsure::Started(id)) => {
                    outcome.unwrap();
                    self.started.push(id);
                }
                (Some(outcome), Unsure::Signalled(entity)) => {
                    outcome.unwrap();
                    self.signals[entity] += 1;
                }
            }
        }
    }

    fn join(&mut self, keeps_history: bool) {
        let mut capabilities = vec![];
        if keeps_history {
            capabilities.push(proto::WorkerCapability::HistoryStreaming as i32);
        }
        let worker = self.hub.worker_with(proto::GetWorkItemsRequest {
            max_concurrent_orchestration_work_items: 2,
            max_concurrent_activity_work_items: 2,
            max_concurrent_entity_work_items: 2,
            capabilities,
            ..Default::default()
        });
        self.workers.push(worker);
    }

    fn turn(&mut self) {
        let Some(mut turn) = self.hub.turns.pop_front() else { return };
        if turn.request.requires_history_streaming {
            // It has seen all of it, in turns that may not be on disk yet.
            turn.request.past_events = self.hub.known_history(&turn.request.instance_id);
        }
        let actions = next_actions(&turn.request, &self.programs);
        let response = proto::OrchestratorResponse {
            instance_id: turn.request.instance_id,
            actions,
            completion_token: turn.token,
            ..Default::default()
        };
        self.send(Request::CompleteOrchestrator(response));
    }

    fn batch(&mut self, done: usize) {
        let Some(batch) = self.hub.batches.pop_front() else { return };
        let mut count: u64 = batch.request.entity_state.map_or(0, |state| state.parse().unwrap());
        let mut results = Vec::new();
        for _ in batch.request.operations.iter().take(done) {
            count += 1;
            results.push(success(&count.to_string()));
        }
        let result = proto::EntityBatchResult {
            results,
            entity_state: Some(count.to_string()),
            completion_token: batch.token,
            ..Default::default()
        };
        self.send(Request::CompleteEntity(result));
    }

    fn activity(&mut self) {
        let Some(activity) = self.hub.activities.pop_front() else { return };
        let response = proto::ActivityResponse { completion_token: activity.token, ..Default::default() };
        self.send(Request::CompleteActivity(response));
    }

    /// Sends a result, and remembers it, to send it again some time.
    fn send(&mut self, request: Request) {
        self.late = Some(request.clone());
        self.hub.ask(request);
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Start(program) => {
                let id = format!("o{}", self.programs.len());
                self.programs.insert(id.clone(), program);
                let request = self.hub.ask(Request::StartInstance(proto::CreateInstanceRequest {
                    instance_id: id.clone(),
                    name: "any".into(),
                    input: Some("0".into()),
                    ..Default::default()
                }));
                self.unsure.push((request, Unsure::Started(id)));
            }
            Event::Signal(entity) => {
                let request = self.hub.ask(Request::SignalEntity(proto::SignalEntityRequest {
                    instance_id: ENTITIES[entity].into(),
                    name: "add".into(),
                    ..Default::default()
                }));
                self.unsure.push((request, Unsure::Signalled(entity)));
            }
            Event::WorkerJoins(keeps_history) => self.join(keeps_history),
            Event::WorkerLeaves => {
                if let Some(worker) = self.workers.pop() {
                    self.hub.leave(worker);
                }
            }
            Event::Turn => self.turn(),
            Event::Activity => self.activity(),
            Event::Batch { done } => self.batch(done),
            Event::Abandon => {
                if let Some(batch) = self.hub.batches.pop_front() {
                    self.hub.ask(Request::Abandon(batch.token));
                }
            }
            Event::LateResult => {
                if let Some(late) = self.late.clone() {
                    self.hub.ask(late);
                }
            }
            Event::TimePasses(seconds) => self.hub.pass(Duration::from_secs(u64::from(seconds))),
            Event::ClockJumpsBack(seconds) => {
                self.hub.clock = self.hub.clock.minus(Duration::from_secs(u64::from(seconds)));
            }
            Event::Commit => self.hub.commit(),
            Event::Crash => {
                self.note_answers();
                self.unsure.clear();
                self.workers.clear();
                let old = std::mem::replace(&mut self.hub, Driver::new());
                self.hub = old.crash();
            }
        }
        self.note_answers();
    }

    /// Lets everything come to rest.
    fn settle(&mut self) {
        self.join(true);
        for _ in 0..10_000 {
            self.hub.commit();
            self.note_answers();
            if !self.hub.turns.is_empty() {
                self.turn();
            } else if !self.hub.activities.is_empty() {
                self.activity();
            } else if !self.hub.batches.is_empty() {
                self.batch(3);
            } else if self.hub.wake.is_some() {
                self.hub.pass(Duration::from_secs(61));
            } else {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn check(&mut self) {
        let mut counts = self.signals;
        for id in std::mem::take(&mut self.started) {
            assert_eq!(self.hub.status(&id), Status::Completed, "{id}: {:?}", self.programs[&id]);
            expected(&self.programs[&id], &mut counts);
            let history = kinds(&self.hub.history(&id));
            let number = |kind: &str| history.iter().filter(|k| **k == kind).count();
            assert_eq!(number("end"), 1, "{id} ends once");
            assert_eq!(number("task"), number("task done"), "{id}: each activity is recorded once");
            assert_eq!(number("call"), number("call done"), "{id}: each call is answered once");
        }
        for (entity, count) in ENTITIES.into_iter().zip(counts) {
            let found = self.hub.entity(entity);
            let state = found.as_ref().and_then(|e| e.serialized_state.clone()).map_or(0, |s| s.parse().unwrap());
            assert_eq!(state, count, "effects of operations on {entity}");
            assert!(found.is_none_or(|e| e.locked_by.is_none() && e.backlog_queue_size == 0), "{entity} is free");
        }
        assert_eq!(self.hub.wake, None, "no timer and no lease is left");
    }
}

/// How far work may run ahead of the disk: not at all, hardly, or as far as it likes.
fn ahead(events: &[Event]) -> u64 {
    [4_096, 2, 0][events.len() % 3]
}

proptest! {
    #![proptest_config(crate::cases(300))]

    #[test]
    fn nothing_is_lost_and_nothing_happens_twice(events in prop::collection::vec(event(), 1..120)) {
        let mut model = Model::new(ahead(&events));
        for event in events {
            model.play(event);
        }
        model.settle();
        model.check();
    }
}

proptest! {
    #![proptest_config(crate::cases(6))]

    #[test]
    fn nothing_is_lost_and_nothing_happens_twice_on_disk(events in prop::collection::vec(event(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let open = move || Box::new(SqliteStore::open(&path, 1).unwrap()) as Box<dyn Store>;
        let mut model = Model::on(Rc::new(open), ahead(&events));
        for event in events {
            model.play(event);
        }
        model.settle();
        model.check();
    }
}
