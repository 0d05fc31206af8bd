//! What the threads and tasks of an embedded hub share: the core behind one mutex, and what is on its way to or from
//! the disk. Every method that takes the lock does so for the time of one transition, never across I/O or an await.
//! This module must never give an answer or a work item before the batches that it rests on are on disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc as thread;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use seriatim_durable::hub::{HubError, HubResult};
use seriatim_durable::proto;
use tokio::sync::{mpsc, oneshot, watch};

use super::{DispatchStats, JournalStats, WorkStats};
use crate::clock::Clock;
use crate::core::{
    Answer, Batch, BatchSeq, Core, Effects, Handout, HistoryRange, Input, Moment, Reply, Request, RequestId, WorkerId,
};

/// What a hub does with what comes next.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    Open,
    /// Takes nothing more; what it has taken is still written.
    Closing,
    /// Dropped without being closed: what is not written yet is lost, as in a crash. Nobody was told that it was there.
    Dropped,
    /// The store failed.
    Fenced(String),
}

/// A question for the thread that reads histories.
#[derive(Debug)]
pub(super) enum ReadJob {
    /// Complete a work item and send it.
    Handout(Box<Handout>, HistoryRange),
    /// Answer `instance_history`.
    History(HistoryRange, oneshot::Sender<HubResult<Vec<proto::HistoryEvent>>>),
}

type Answerer = oneshot::Sender<HubResult<Answer>>;
type Stream = mpsc::Sender<HubResult<proto::WorkItem>>;

/// What is behind the mutex.
#[derive(Debug)]
pub(super) struct State {
    core: Core,
    pub(super) phase: Phase,
    /// Batches that the writer has not taken yet.
    unwritten: Vec<Batch>,
    committed: BatchSeq,
    /// Answers that wait for the disk, in order of their batches.
    held_back: VecDeque<(BatchSeq, Answerer, HubResult<Answer>)>,
    asked: BTreeMap<RequestId, Answerer>,
    streams: BTreeMap<WorkerId, Stream>,
    reader: Option<thread::Sender<ReadJob>>,
    last_request: u64,
    last_worker: u64,
    pub(super) stats: JournalStats,
    handed_out: WorkStats,
}

/// What the threads and tasks of a hub share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
    clock: Arc<dyn Clock>,
    /// When to tick next.
    wake: watch::Sender<Option<Moment>>,
}

impl Shared {
    pub(super) fn new(core: Core, first: Effects, clock: Arc<dyn Clock>, reader: thread::Sender<ReadJob>) -> Arc<Self> {
        let state = State {
            core,
            phase: Phase::Open,
            unwritten: Vec::new(),
            committed: BatchSeq(0),
            held_back: VecDeque::new(),
            asked: BTreeMap::new(),
            streams: BTreeMap::new(),
            reader: Some(reader),
            last_request: 0,
            last_worker: 0,
            stats: JournalStats::default(),
            handed_out: WorkStats::default(),
        };
        let shared =
            Arc::new(Self { state: Mutex::new(state), work: Condvar::new(), clock, wake: watch::Sender::new(None) });
        shared.carry_out(&mut shared.lock(), first);
        shared
    }

    /// Takes the lock. Whoever panicked while holding it may have left half a transition behind, so the hub stops.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            let mut state = poisoned.into_inner();
            state.fence("an internal error interrupted a transition; please report it, with the log");
            state
        })
    }

    pub(super) fn wake(&self) -> watch::Receiver<Option<Moment>> {
        self.wake.subscribe()
    }

    /// Feeds an input to the core and carries out what comes of it.
    fn feed(&self, state: &mut State, input: Input) {
        let effects = state.core.handle(self.clock.now(), input);
        self.carry_out(state, effects);
    }

    fn carry_out(&self, state: &mut State, effects: Effects) {
        if let Some(batch) = effects.batch {
            state.unwritten.push(batch);
            self.work.notify_one();
        }
        for Reply { request, after, outcome } in effects.replies {
            if let Some(answerer) = state.asked.remove(&request) {
                state.answer_after(after, answerer, outcome);
            }
        }
        let mut lost = Vec::new();
        for handout in effects.handouts {
            state.handed_out.count(&handout.item);
            lost.extend(state.send(handout));
        }
        self.wake.send_if_modified(|wake| std::mem::replace(wake, effects.wake) != effects.wake);
        for worker in lost {
            self.worker_left_locked(state, worker);
        }
    }

    /// Asks the core and waits for the answer, which comes when all that it rests on is on disk.
    pub(super) async fn ask(&self, request: Request) -> HubResult<Answer> {
        let (id, answer) = {
            let mut state = self.lock();
            state.check_open()?;
            state.last_request += 1;
            let id = RequestId(state.last_request);
            let (answerer, answer) = oneshot::channel();
            state.asked.insert(id, answerer);
            self.feed(&mut state, Input::Request(id, Box::new(request)));
            (id, answer)
        };
        let _forget = Forget { shared: self, id };
        answer.await.unwrap_or_else(|_| Err(self.lock().check_open().err().unwrap_or_else(closing)))
    }

    /// Reads committed events; the caller knows that they are.
    pub(super) async fn read_history(&self, range: HistoryRange) -> HubResult<Vec<proto::HistoryEvent>> {
        let (answerer, answer) = oneshot::channel();
        {
            let state = self.lock();
            state.check_open()?;
            if let Some(reader) = &state.reader {
                // A reader that is gone drops the question, and the answer below says so.
                let _ = reader.send(ReadJob::History(range, answerer));
            }
        }
        answer.await.unwrap_or_else(|_| Err(closing()))
    }

    /// Adds a worker; returns its number and where its items come out.
    pub(super) fn worker_joined(
        &self,
        request: proto::GetWorkItemsRequest,
        capacity: usize,
    ) -> HubResult<(WorkerId, mpsc::Receiver<HubResult<proto::WorkItem>>)> {
        let mut state = self.lock();
        state.check_open()?;
        state.last_worker += 1;
        let worker = WorkerId(state.last_worker);
        let (stream, items) = mpsc::channel(capacity);
        state.streams.insert(worker, stream);
        self.feed(&mut state, Input::WorkerJoined(worker, Box::new(request)));
        Ok((worker, items))
    }

    pub(super) fn worker_left(&self, worker: WorkerId) {
        self.worker_left_locked(&mut self.lock(), worker);
    }

    fn worker_left_locked(&self, state: &mut State, worker: WorkerId) {
        if state.streams.remove(&worker).is_some() && matches!(state.phase, Phase::Open) {
            self.feed(state, Input::WorkerLeft(worker));
        }
    }

    /// Lets the core do what is due. Whether it is to be asked again: a hub that is closed or fenced does nothing more, so
    /// what is due there stays due.
    pub(super) fn tick(&self) -> bool {
        let mut state = self.lock();
        let is_open = matches!(state.phase, Phase::Open);
        if is_open {
            self.feed(&mut state, Input::Tick);
        }
        is_open
    }

    /// Sends a work item that is complete now.
    pub(super) fn send_completed(&self, handout: Handout) {
        let mut state = self.lock();
        if let Some(lost) = state.send(handout) {
            self.worker_left_locked(&mut state, lost);
        }
    }

    /// Waits until there is something to write and takes all of it; `None` if there will be nothing more.
    pub(super) fn next_group(&self) -> Option<Vec<Batch>> {
        let mut state = self.lock();
        loop {
            if matches!(state.phase, Phase::Dropped | Phase::Fenced(_)) {
                return None;
            }
            if !state.unwritten.is_empty() {
                return Some(std::mem::take(&mut state.unwritten));
            }
            if matches!(state.phase, Phase::Closing) {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The group is on disk: gives the answers that waited for it, and hands out what rests on it.
    pub(super) fn group_committed(&self, group: &[Batch], seconds: f64) {
        let Some(last) = group.last() else { return };
        let mut state = self.lock();
        state.stats.commits += 1;
        state.stats.batches += group.len() as u64;
        state.stats.seconds_committing += seconds;
        state.committed = last.seq;
        while let Some((after, _, _)) = state.held_back.front() {
            if *after > last.seq {
                break;
            }
            if let Some((_, answerer, outcome)) = state.held_back.pop_front() {
                let _ = answerer.send(outcome); // who asked may have gone
            }
        }
        if matches!(state.phase, Phase::Open) {
            self.feed(&mut state, Input::Committed(last.seq));
        }
    }

    pub(super) fn fence(&self, cause: &str) {
        self.lock().fence(cause);
        self.work.notify_one();
    }

    /// Takes nothing more. Streams end; who waits for something that has not happened is told to come back.
    pub(super) fn begin_to_end(&self, phase: Phase) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Open) || matches!((&state.phase, &phase), (Phase::Closing, Phase::Dropped)) {
            state.phase = phase;
        }
        state.streams.clear();
        state.asked.clear();
        state.reader = None;
        self.work.notify_one();
    }
}

impl WorkStats {
    fn count(&mut self, item: &proto::WorkItem) {
        use proto::work_item::Request as Kind;
        match &item.request {
            Some(Kind::OrchestratorRequest(_)) => self.orchestrators += 1,
            Some(Kind::ActivityRequest(_)) => self.activities += 1,
            Some(Kind::EntityRequest(_) | Kind::EntityRequestV2(_)) => self.entities += 1,
            Some(Kind::HealthPing(_)) | None => {}
        }
    }
}

impl State {
    /// What was given to workers; what they have completed is counted by whoever takes it.
    pub(super) fn dispatch_stats(&self) -> DispatchStats {
        DispatchStats { workers: self.streams.len() as u64, handed_out: self.handed_out, ..DispatchStats::default() }
    }

    /// An error unless the hub takes requests.
    pub(super) fn check_open(&self) -> HubResult<()> {
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Fenced(cause) => Err(HubError::Fenced(cause.clone())),
            Phase::Closing | Phase::Dropped => Err(closing()),
        }
    }

    /// Whether the hub was closed, and all that it took is written.
    pub(super) fn ends_in_order(&self) -> bool {
        matches!(self.phase, Phase::Closing) && self.unwritten.is_empty()
    }

    fn answer_after(&mut self, after: BatchSeq, answerer: Answerer, outcome: HubResult<Answer>) {
        if after <= self.committed {
            let _ = answerer.send(outcome); // who asked may have gone
        } else {
            self.held_back.push_back((after, answerer, outcome));
        }
    }

    /// Sends a work item; returns the worker if its stream does not take it.
    fn send(&mut self, handout: Handout) -> Option<WorkerId> {
        if let Some(range) = handout.past {
            if let Some(reader) = &self.reader {
                let _ = reader.send(ReadJob::Handout(Box::new(handout), range)); // a reader that is gone has fenced the hub
            }
            return None;
        }
        let stream = self.streams.get(&handout.worker)?;
        // The channel has room for all that the worker asked for. It can be full only of items whose leases have run
        // out unseen: such a worker is stuck, and its stream ends.
        stream.try_send(Ok(handout.item)).is_err().then_some(handout.worker)
    }

    fn fence(&mut self, cause: &str) {
        if matches!(self.phase, Phase::Fenced(_)) {
            return;
        }
        tracing::error!(cause, "the hub stops");
        let error = || HubError::Fenced(cause.to_owned());
        self.phase = Phase::Fenced(cause.to_owned());
        for (_, answerer, _) in self.held_back.drain(..) {
            let _ = answerer.send(Err(error()));
        }
        for (_, answerer) in std::mem::take(&mut self.asked) {
            let _ = answerer.send(Err(error()));
        }
        for (_, stream) in std::mem::take(&mut self.streams) {
            let _ = stream.try_send(Err(error())); // the channel has one place more than items can take
        }
        self.unwritten.clear();
        self.reader = None;
    }
}

fn closing() -> HubError {
    HubError::Unavailable("the hub is closed; open it again and repeat the request".to_owned())
}

/// Takes a question back when whoever asked it stops waiting.
struct Forget<'a> {
    shared: &'a Shared,
    id: RequestId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.asked.remove(&self.id).is_some() && matches!(state.phase, Phase::Open) {
            self.shared.feed(&mut state, Input::Forget(self.id));
        }
    }
}
