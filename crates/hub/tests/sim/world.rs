//! The world of a simulation: one queue of what happens next, one thread, and the hub's host, whose part it plays: it
//! writes batches in order, gives answers when their batches are on disk, ticks, and dies. Everything that goes wrong
//! goes wrong here. This module must never let anything but the seed decide what comes next.

mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use seriatim_durable::Registry;
use seriatim_durable::hub::HubError;
use seriatim_durable::proto;
use seriatim_hub::core::{
    Answer, Batch, BatchSeq, Core, CoreConfig, Effects, EntityItems, ExecutionNo, Handout, Input, Reply, Request,
    RequestId, WorkerId,
};

use crate::dice::{Dice, Faults, MINUTE, SECOND, Time, WallClock, fnv};
use crate::model::{Ledger, Ran, Sent};
use crate::promises::Promises;
use crate::script::{self, Deed};
use crate::store::Disk;
use crate::workers::{Job, Key, Process};
use crate::{clients, programs};

pub(crate) type Outcome = Result<Answer, HubError>;

/// Who gets the answer to a request.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    Nobody,
    /// A client that insists on an answer to this deed of the script.
    Insists(usize),
    /// A worker, which drops this copy of an execution if its turn is refused.
    Turn(u64, Option<(Key, u64)>),
    /// A worker that needs the history for a turn.
    History(u64, String, Box<proto::OrchestratorRequest>),
    Rewind(proto::RewindInstanceRequest),
}

/// What happens in the world.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are few at a time, and answers are the most of them")]
enum Event {
    Deed(usize),
    Arrives(Box<Request>, Caller),
    Answered(Caller, Outcome),
    Item(u64, String, Job),
    Worked(u64, String, Job),
    Forgotten(u64, RequestId),
    Synced(u64),
    Ticks(u64),
    Crashes,
    Opens,
    Connects(u64),
    WorkerDies,
    WorkerComes,
    StreamEnds(u64, WorkerId),
    ClockJumps,
    ClockStops,
    ClockGoesOn,
    Settles,
}

/// The hub's process.
struct Hub {
    core: Core,
    session: u64,
    unwritten: Vec<Batch>,
    /// The group that is being written.
    group: Vec<Batch>,
    committed: BatchSeq,
    waiting: Vec<(Reply, Asked)>,
    asked: BTreeMap<RequestId, Asked>,
    ticks: u64,
}

/// A request that the hub has.
struct Asked {
    request: Request,
    /// The execution that it is about, as it came.
    of: Option<ExecutionNo>,
    caller: Caller,
}

/// What was seen in a simulation, for people and for comparisons.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// A hash over every input, every clock reading and every effect.
    pub(crate) trace: u64,
    pub(crate) transitions: u64,
    pub(crate) crashes: u64,
    pub(crate) fenced: u64,
    pub(crate) commits: u64,
    pub(crate) ended: u64,
    pub(crate) refused: u64,
    /// The histories of all instances, without times and without the order in which outcomes came.
    pub(crate) histories: BTreeMap<String, Vec<String>>,
    /// Of each entity: its balance and how often each operation ran.
    pub(crate) entities: BTreeMap<String, (String, BTreeMap<char, u64>)>,
}

/// How a simulation is to go.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    /// Whether the script has only what comes to the same in every world.
    pub(crate) calm: bool,
    pub(crate) traced: bool,
    /// Whether every input and all effects are printed.
    pub(crate) shown: bool,
}

/// A simulated world; see the module's documentation.
pub(crate) struct World {
    plan: Plan,
    dice: Dice,
    pub(crate) time: Time,
    queue: BTreeMap<(Time, u64), Event>,
    last_event: u64,
    clock: WallClock,
    config: CoreConfig,
    disk: Disk,
    hub: Option<Hub>,
    fenced: bool,
    /// What the core has decided, and what of it is on disk.
    pub(crate) ledger: Ledger,
    durable: Ledger,
    /// What clients have sent, by the batch that takes it.
    sent: BTreeMap<BatchSeq, Sent>,
    sending: Option<Sent>,
    ran: Ran,
    promises: Promises,
    registry: Arc<Registry>,
    workers: BTreeMap<u64, Process>,
    last_number: u64,
    pub(crate) script: Vec<(Time, Deed)>,
    settled: BTreeSet<usize>,
    settling: bool,
    seen: Seen,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut dice = Dice::new(plan.seed, "world");
        let script = script::drawn(&mut Dice::new(plan.seed, "script"), plan.calm);
        let config = CoreConfig {
            session: 0,
            events_per_turn: [1, 3, 5_000][dice.below(3)],
            operations_per_batch: [1, 3, 1_000][dice.below(3)],
            items_per_worker: 1_000,
            run_ahead: [0, 2, 20, 4_096][dice.below(4)],
            activity_lease: dice.chance(0.5).then_some(std::time::Duration::from_mins(1)),
            entity_items: if dice.chance(0.5) { EntityItems::Batch } else { EntityItems::Events },
            ..CoreConfig::default()
        };
        let mut world = Self {
            time: 0,
            queue: BTreeMap::new(),
            last_event: 0,
            clock: WallClock::default(),
            config,
            disk: Disk::new(dice.chance(0.5)),
            hub: None,
            fenced: false,
            ledger: Ledger::default(),
            durable: Ledger::default(),
            sent: BTreeMap::new(),
            sending: None,
            ran: Ran::new(),
            promises: Promises::default(),
            registry: Arc::new(programs::registry()),
            workers: BTreeMap::new(),
            last_number: 0,
            settled: BTreeSet::new(),
            settling: false,
            seen: Seen::default(),
            dice,
            plan,
            script,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for index in 0..self.script.len() {
            self.at(self.script[index].0, Event::Deed(index));
        }
        for _ in 0..=self.dice.below(4) {
            self.after(1, Event::WorkerComes);
        }
        let faults = self.plan.faults.clone();
        self.again(faults.crash_every, Event::Crashes);
        self.again(faults.worker_dies_every, Event::WorkerDies);
        self.again(faults.clock_jumps_every, Event::ClockJumps);
        self.again(faults.clock_stops_every, Event::ClockStops);
        self.at(script::LENGTH, Event::Settles);
        self.after(0, Event::Opens);
    }

    fn at(&mut self, time: Time, event: Event) {
        self.last_event += 1;
        self.queue.insert((time, self.last_event), event);
    }

    fn after(&mut self, wait: Time, event: Event) {
        self.at(self.time + wait, event);
    }

    /// Lets something that happens from time to time happen once more.
    fn again(&mut self, every: Option<Time>, event: Event) {
        if let Some(wait) = Faults::next(every.filter(|_| !self.settling), &mut self.dice) {
            self.after(wait, event);
        }
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Runs until everything has come to rest; what is wrong is an error.
    pub(crate) fn run(mut self) -> Result<Seen, String> {
        let limit = script::LENGTH + 180 * MINUTE;
        while let Some(((time, _), event)) = self.queue.pop_first() {
            self.time = time;
            if time > limit {
                let rest = self.ledger.at_rest().err().unwrap_or_else(|| "the hub still wants to tick".to_owned());
                return Err(format!("it does not come to rest: {rest}"));
            }
            self.happen(event).map_err(|wrong| {
                let second = time as f64 / SECOND as f64;
                format!("at second {second:.3}, transition {}: {wrong}", self.seen.transitions)
            })?;
        }
        self.ledger.at_rest()?;
        clients::check_end(&self.durable)?;
        self.seen.commits = self.disk.commits;
        self.seen.histories = clients::normal_histories(&self.durable);
        self.seen.entities = clients::entity_counts(&self.durable);
        self.seen.ended = self.durable.executions.len() as u64;
        Ok(self.seen)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Crashes | Event::WorkerDies | Event::ClockJumps | Event::ClockStops if self.settling => {}
            Event::Deed(index) => self.deed(index),
            Event::Arrives(request, caller) => self.arrive(*request, caller)?,
            Event::Answered(caller, outcome) => self.answered(caller, outcome),
            Event::Item(process, token, job) => self.item(process, token, job),
            Event::Worked(process, token, job) => self.work(process, &token, &job, None),
            Event::Forgotten(session, id) => {
                if self.hub.as_ref().is_some_and(|hub| hub.session == session) {
                    self.feed(Input::Forget(id))?;
                }
            }
            Event::Synced(session) => self.synced(session)?,
            Event::Ticks(number) => self.tick(number)?,
            Event::Crashes => {
                self.crash(&HubError::Unavailable("the process died".to_owned()))?;
                self.again(self.plan.faults.crash_every, Event::Crashes);
            }
            Event::Opens => self.open_again()?,
            Event::Connects(process) => self.connect(process)?,
            Event::WorkerDies => self.worker_dies(),
            Event::WorkerComes => {
                let number = self.number();
                self.workers.insert(number, Process::new(&self.registry, &mut self.dice));
                self.after(1, Event::Connects(number));
            }
            Event::StreamEnds(session, worker) => {
                if self.hub.as_ref().is_some_and(|hub| hub.session == session) {
                    self.feed(Input::WorkerLeft(worker))?;
                }
            }
            Event::ClockJumps => {
                self.clock.jump(&mut self.dice);
                self.again(self.plan.faults.clock_jumps_every, Event::ClockJumps);
            }
            Event::ClockStops => {
                self.clock.stopped_at.get_or_insert(self.time);
                let wait = self.dice.within(SECOND..MINUTE);
                self.after(wait, Event::ClockGoesOn);
                self.again(self.plan.faults.clock_stops_every, Event::ClockStops);
            }
            Event::ClockGoesOn => self.clock.stopped_at = None,
            Event::Settles => self.settle(),
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), String> {
        self.config.session += 1;
        let snapshot = self.disk.load();
        let (core, effects) = Core::recover(self.config.clone(), snapshot, self.clock.shows(self.time));
        self.hub = Some(Hub {
            core,
            session: self.config.session,
            unwritten: Vec::new(),
            group: Vec::new(),
            committed: BatchSeq(0),
            waiting: Vec::new(),
            asked: BTreeMap::new(),
            ticks: 0,
        });
        self.fenced = false;
        self.carry_out(effects)
    }

    fn open_again(&mut self) -> Result<(), String> {
        if self.hub.is_some() {
            return Ok(());
        }
        let snapshot = self.disk.load();
        self.durable.is_in(&snapshot)?;
        for (execution, run) in &self.durable.executions {
            let range = seriatim_hub::core::HistoryRange { execution: *execution, len: u64::MAX };
            if !run.events().eq(&self.disk.history(range)) {
                return Err(format!("the store has another history of {}", run.instance));
            }
        }
        self.open()?;
        for process in self.workers.keys().copied().collect::<Vec<_>>() {
            let wait = self.dice.within(1..SECOND);
            self.after(wait, Event::Connects(process));
        }
        Ok(())
    }

    /// The process is gone, and with it everything that is not on disk.
    fn crash(&mut self, why: &HubError) -> Result<(), String> {
        let Some(hub) = self.hub.take() else { return Ok(()) };
        self.seen.crashes += 1;
        let whole = self.disk.tear(&hub.group, &mut self.dice);
        for batch in &hub.group[..whole] {
            apply(&mut self.durable, batch, &self.sent, &self.ran)?;
        }
        self.ledger = self.durable.clone();
        self.sent.clear();
        for process in self.workers.values_mut() {
            process.stream = None;
        }
        let callers = hub.waiting.into_iter().map(|(_, asked)| asked.caller);
        for caller in callers.chain(hub.asked.into_values().map(|asked| asked.caller)) {
            self.after(1, Event::Answered(caller, Err(why.clone())));
        }
        let wait = self.dice.within(1..20 * SECOND);
        self.after(wait, Event::Opens);
        Ok(())
    }

    fn feed(&mut self, input: Input) -> Result<(), String> {
        let clock = self.clock.shows(self.time);
        let Some(hub) = &mut self.hub else { return Ok(()) };
        self.seen.transitions += 1;
        if self.plan.traced {
            self.seen.trace = self.seen.trace.rotate_left(5) ^ hash(&(clock, &input));
        }
        if self.plan.shown {
            println!("{:.6} {clock:?} {input:?}", self.time as f64 / SECOND as f64);
        }
        let effects = hub.core.handle(clock, input);
        if self.plan.shown {
            println!("    {effects:?}");
        }
        if self.plan.traced {
            self.seen.trace = self.seen.trace.rotate_left(5) ^ hash(&effects);
        }
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Effects) -> Result<(), String> {
        let sending = self.sending.take();
        let Some(hub) = &mut self.hub else { return Ok(()) };
        if let Some(batch) = effects.batch {
            let last = hub.unwritten.last().or(hub.group.last()).map_or(hub.committed, |last| last.seq);
            if batch.seq.0 != last.0 + 1 {
                return Err(format!("batch {} follows batch {last}", batch.seq));
            }
            self.sent.extend(sending.map(|sent| (batch.seq, sent)));
            apply(&mut self.ledger, &batch, &self.sent, &self.ran)?;
            hub.unwritten.push(batch);
        }
        for reply in effects.replies {
            let Some(asked) = hub.asked.remove(&reply.request) else {
                return Err(format!("{:?} was answered twice, or never asked", reply.request));
            };
            hub.waiting.push((reply, asked));
        }
        hub.ticks += 1;
        let ticks = hub.ticks;
        for handout in effects.handouts {
            self.hand_out(handout)?;
        }
        if let Some(wake) = effects.wake {
            let left = wake.since(self.clock.shows(self.time));
            let wait = (left.as_micros() as Time).min(5 * SECOND) + self.dice.within(0..self.plan.faults.tick_late + 1);
            self.after(wait + 1, Event::Ticks(ticks));
        }
        self.release()?;
        self.write();
        Ok(())
    }

    /// Ticks, or looks at the clock again: it may have been set.
    fn tick(&mut self, number: u64) -> Result<(), String> {
        if self.hub.as_ref().is_some_and(|hub| hub.ticks == number) { self.feed(Input::Tick) } else { Ok(()) }
    }

    /// Begins to write what has gathered, if nothing is being written.
    fn write(&mut self) {
        let Some(hub) = self.hub.as_mut().filter(|hub| hub.group.is_empty() && !hub.unwritten.is_empty()) else {
            return;
        };
        hub.group = std::mem::take(&mut hub.unwritten);
        let session = hub.session;
        let wait = self.dice.within(20..self.plan.faults.sync.max(21));
        self.after(wait, Event::Synced(session));
    }

    fn synced(&mut self, session: u64) -> Result<(), String> {
        let Some(hub) = self.hub.as_mut().filter(|hub| hub.session == session) else { return Ok(()) };
        if self.dice.chance(self.plan.faults.commit_fails) {
            self.seen.fenced += 1;
            self.fenced = true;
            return self.crash(&HubError::Fenced("the disk failed".to_owned()));
        }
        let group = std::mem::take(&mut hub.group);
        self.disk.commit(&group);
        for batch in &group {
            apply(&mut self.durable, batch, &self.sent, &self.ran)?;
            self.sent.remove(&batch.seq);
        }
        if let Some(last) = group.last() {
            hub.committed = last.seq;
            self.release()?;
            self.feed(Input::Committed(last.seq))?;
        }
        self.write();
        Ok(())
    }

    /// Gives the answers whose batches are on disk.
    fn release(&mut self) -> Result<(), String> {
        let Some(hub) = &mut self.hub else { return Ok(()) };
        let committed = hub.committed;
        let (ready, waiting): (Vec<_>, _) =
            std::mem::take(&mut hub.waiting).into_iter().partition(|(reply, _)| reply.after <= committed);
        hub.waiting = waiting;
        for (reply, Asked { request, of, caller }) in ready {
            self.promises.given(&request, of, &reply.outcome, &self.durable)?;
            self.seen.refused += u64::from(reply.outcome.is_err());
            if !self.dice.chance(self.plan.faults.answer_lost) {
                let way = self.plan.faults.way(&mut self.dice);
                self.after(way, Event::Answered(caller, reply.outcome));
            }
        }
        Ok(())
    }

    fn hand_out(&mut self, handout: Handout) -> Result<(), String> {
        let process = self.workers.iter().find(|(_, p)| p.stream == Some(handout.worker)).map(|(number, _)| *number);
        let token = handout.item.completion_token;
        let mut job = Job::of(handout.item.request.ok_or("a work item has no request")?);
        if let (Job::Turn(request), Some(range)) = (&mut job, handout.past) {
            request.past_events = self.disk.history(range);
            if request.past_events.len() as u64 != range.len {
                return Err(format!("a turn of {} rests on a history that is not stored", request.instance_id));
            }
        }
        self.promises.handed_out(&token, &job, &self.ledger, &self.durable)?;
        let may_lose = !matches!(job, Job::Activity(_)) || self.config.activity_lease.is_some();
        if may_lose && self.dice.chance(self.plan.faults.item_lost) {
            return Ok(());
        }
        if let Some(process) = process {
            let way = self.plan.faults.way(&mut self.dice);
            self.after(way, Event::Item(process, token, job));
        }
        Ok(())
    }

    /// The script is over: nothing goes wrong any more, everybody is let go on, and all has to come to rest.
    fn settle(&mut self) {
        if !self.settling {
            self.settling = true;
            self.plan.faults = Faults::none();
            self.clock.stopped_at = None;
            self.after(1, Event::WorkerComes);
        }
        // Letters that are late are still under way for a minute and a half.
        if self.time > script::LENGTH + 2 * MINUTE {
            for request in clients::let_go_on(&self.ledger) {
                self.send(&request, &Caller::Nobody);
            }
        }
        // Late messages, leases of items that got lost, and what is not on disk yet are all still in the queue.
        if !self.queue.is_empty() || self.time < script::LENGTH + 3 * MINUTE {
            self.after(20 * SECOND, Event::Settles);
        }
    }
}

fn hash(what: &impl Debug) -> u64 {
    fnv(format!("{what:?}").as_bytes())
}

fn apply(ledger: &mut Ledger, batch: &Batch, sent: &BTreeMap<BatchSeq, Sent>, ran: &Ran) -> Result<(), String> {
    if let Some(sent) = sent.get(&batch.seq) {
        ledger.expect(sent.clone());
    }
    ledger.apply(batch, ran)
}
