//! What is under way between clients, workers and the hub: messages that get lost, come late, out of order or more than
//! once, and workers that are slow, do a part, give back, or die. This module must never change what a message says.

use seriatim_durable::hub::HubError;
use seriatim_durable::proto;
use seriatim_hub::core::{Answer, Input, Past, Request, RequestId, WorkerId};

use super::{Asked, Caller, Event, Outcome, World};
use crate::clients;
use crate::dice::{MINUTE, SECOND, Time};
use crate::script::Deed;
use crate::workers::{self, Job};

impl World {
    /// Sends a request. What may be sent twice comes twice or three times now and then. A signal or an event may not,
    /// because a second one is another one, and a question is not, because it has one answer.
    pub(super) fn send(&mut self, request: &Request, caller: &Caller) {
        let faults = self.plan.faults.clone();
        // A worker offers the result of an activity until it is told that the hub has it, or refuses it.
        let may_lose = !matches!(request, Request::CompleteActivity(_) | Request::Abandon(_));
        let may_repeat = !matches!(
            request,
            Request::RaiseEvent(_)
                | Request::SignalEntity(_)
                | Request::RestartInstance(_)
                | Request::Rewind(..)
                | Request::InstanceHistory(_)
        );
        let copies = if may_repeat && self.dice.chance(faults.repeated) { 2 + self.dice.below(2) } else { 1 };
        for _ in 0..copies {
            if !(may_lose && self.dice.chance(faults.lost)) {
                let way = faults.way(&mut self.dice);
                self.after(way, Event::Arrives(Box::new(request.clone()), caller.clone()));
            }
        }
    }

    pub(super) fn arrive(&mut self, mut request: Request, caller: Caller) -> Result<(), String> {
        let number = self.number();
        let now = self.clock.shows(self.time);
        let Some(hub) = &mut self.hub else {
            let why = if self.fenced { HubError::Fenced("the disk failed".to_owned()) } else { gone() };
            self.after(1, Event::Answered(caller, Err(why)));
            return Ok(());
        };
        clients::by_the_clock(&mut request, now);
        let (id, session) = (RequestId(number), hub.session);
        self.sending = clients::sent(&request, &self.ledger);
        let of = clients::about(&request).and_then(|id| self.ledger.current.get(id).copied());
        if let Request::WaitForCompletion(_) = &request {
            let wait = self.dice.within(SECOND..2 * MINUTE);
            self.after(wait, Event::Forgotten(session, id));
        }
        let Some(hub) = &mut self.hub else { return Ok(()) };
        hub.asked.insert(id, Asked { request: request.clone(), of, caller });
        self.feed(Input::Request(id, Box::new(request)))
    }

    pub(super) fn deed(&mut self, index: usize) {
        let deed = self.script[index].1.clone();
        let caller = match &deed {
            Deed::Start { replaces: false, .. } => Caller::Insists(index),
            Deed::Rewind(id) => Caller::Rewind(clients::rewind(id)),
            _ => Caller::Nobody,
        };
        if matches!(caller, Caller::Insists(_)) {
            if self.settled.contains(&index) {
                return;
            }
            // Asked again until it is answered.
            let wait = self.dice.within(2 * SECOND..10 * SECOND);
            self.after(wait, Event::Deed(index));
        }
        self.send(&clients::request(deed), &caller);
    }

    pub(super) fn answered(&mut self, caller: Caller, outcome: Outcome) {
        match (caller, outcome) {
            (Caller::Insists(index), Ok(_) | Err(HubError::AlreadyExists(_))) => {
                self.settled.insert(index);
            }
            (Caller::Turn(process, Some((key, number))), Err(_)) => {
                if let Some(process) = self.workers.get_mut(&process) {
                    process.forget(&key, number);
                }
            }
            (Caller::History(process, token, request), Ok(Answer::History(range))) => {
                let events = range.map(|range| self.disk.history(range)).unwrap_or_default();
                self.work(process, &token, &Job::Turn(request), Some(&events));
            }
            (Caller::Rewind(request), Ok(Answer::Histories(plan))) => {
                let read = |(instance, range)| Past { instance, range, events: self.disk.history(range) };
                let histories = plan.into_iter().map(read).collect();
                self.send(&Request::Rewind(request, histories), &Caller::Nobody);
            }
            _ => {}
        }
    }

    pub(super) fn connect(&mut self, process: u64) -> Result<(), String> {
        let number = self.number();
        let Some(worker) = self.workers.get_mut(&process).filter(|worker| worker.stream.is_none()) else {
            return Ok(());
        };
        if self.hub.is_none() {
            return Ok(()); // it comes back when the hub is there
        }
        worker.stream = Some(WorkerId(number));
        let request = Box::new(worker.request());
        self.feed(Input::WorkerJoined(WorkerId(number), request))
    }

    pub(super) fn worker_dies(&mut self) {
        self.again(self.plan.faults.worker_dies_every, Event::WorkerDies);
        let numbers: Vec<u64> = self.workers.keys().copied().collect();
        let Some(number) = self.dice.pick(&numbers).copied() else { return };
        // A stream may end while its worker lives: what that still sends comes too late.
        let stream = if self.dice.chance(0.3) {
            let wait = self.dice.within(1..5 * SECOND);
            self.after(wait, Event::Connects(number));
            self.workers.get_mut(&number).and_then(|process| process.stream.take())
        } else {
            let wait = self.dice.within(1..30 * SECOND);
            self.after(wait, Event::WorkerComes);
            self.workers.remove(&number).and_then(|process| process.stream)
        };
        let session = self.config.session;
        if let Some(worker) = stream {
            let wait = self.dice.within(1..10 * SECOND);
            self.after(wait, Event::StreamEnds(session, worker));
        }
    }

    pub(super) fn item(&mut self, process: u64, token: String, job: Job) {
        let slow = self.dice.chance(self.plan.faults.slow);
        let wait = match &job {
            _ if slow => self.dice.within(SECOND..150 * SECOND),
            Job::Activity(_) => self.dice.spread(1e3..5e6) as Time,
            _ => self.dice.within(100..20_000),
        };
        self.after(wait, Event::Worked(process, token, job));
    }

    /// A worker has done an item, and says so.
    pub(super) fn work(&mut self, number: u64, token: &str, job: &Job, history: Option<&[proto::HistoryEvent]>) {
        let Some(process) = self.workers.get_mut(&number) else { return };
        if self.dice.chance(self.plan.faults.abandoned) {
            self.send(&Request::Abandon(token.to_owned()), &Caller::Nobody);
            return;
        }
        match job {
            // The instance has gone on since the turn was handed out.
            Job::Turn(request) if history.is_some_and(|past| past.len() > workers::past_length(request)) => {
                self.send(&Request::Abandon(token.to_owned()), &Caller::Nobody);
            }
            Job::Turn(request) => {
                if let Some((response, kept)) = process.turn(request, token, history) {
                    self.send(&response, &Caller::Turn(number, kept));
                } else {
                    let ask = proto::StreamInstanceHistoryRequest {
                        instance_id: request.instance_id.clone(),
                        execution_id: request.execution_id.clone(),
                        for_work_item_processing: true,
                    };
                    let caller = Caller::History(number, token.to_owned(), request.clone());
                    self.send(&Request::InstanceHistory(ask), &caller);
                }
            }
            Job::Activity(request) => {
                let of = request.orchestration_instance.as_ref().and_then(|of| of.execution_id.clone());
                self.ran.insert((of.unwrap_or_default(), request.task_id));
                let response = workers::activity(request, token, &mut self.dice);
                self.send(&response, &Caller::Nobody);
            }
            Job::Batch(request) => {
                let all = request.operations.len();
                let partly = self.dice.chance(self.plan.faults.partly);
                let done = if partly { self.dice.below(all + 1) } else { all };
                self.send(&workers::batch(request, token, done), &Caller::Nobody);
            }
        }
    }
}

fn gone() -> HubError {
    HubError::Unavailable("there is no hub".to_owned())
}
