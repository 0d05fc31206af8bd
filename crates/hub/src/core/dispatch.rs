//! Workers, leases and the handing-out of work items. A lease is what a worker has of an item: it ends with a
//! completion, an abandon, its deadline or the worker's stream. Leases are never stored: whoever reopens a hub finds
//! nothing handed out. This module must never change an orchestration, an entity or an activity other than by giving
//! its item out or taking it back.

use std::collections::{BTreeMap, BTreeSet};

use seriatim_durable::hub::{HubError, HubResult};
use seriatim_durable::proto;

use super::ids::{ActivitySeq, EntityId, ExecutionNo, LeaseNo, WorkerId};
use super::io::Answer;
use super::ready::{Filter, ReadyQueue};
use super::time::Moment;
use super::{Core, HistoryRange};

/// What can be handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Turn(ExecutionNo),
    Activity(ActivitySeq),
    Batch(EntityId),
}

/// The kinds of work item, as indices into a worker's limits.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Turn = 0,
    Activity = 1,
    Batch = 2,
}

impl Item {
    fn kind(&self) -> Kind {
        match self {
            Self::Turn(_) => Kind::Turn,
            Self::Activity(_) => Kind::Activity,
            Self::Batch(_) => Kind::Batch,
        }
    }
}

#[derive(Debug)]
struct Lease {
    worker: WorkerId,
    item: Item,
    deadline: Option<Moment>,
}

#[derive(Debug)]
struct Worker {
    filters: [Filter; 3],
    limits: [usize; 3],
    out: [usize; 3],
    leases: BTreeSet<LeaseNo>,
    /// Whether it can do without past events that it has seen.
    keeps_history: bool,
    /// The executions that it has seen last.
    sticky: BTreeSet<ExecutionNo>,
}

/// Who is there, who has what, and what is ready.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    workers: BTreeMap<WorkerId, Worker>,
    leases: BTreeMap<LeaseNo, Lease>,
    deadlines: BTreeSet<(Moment, LeaseNo)>,
    last_lease: u64,
    pub(super) turns: ReadyQueue<ExecutionNo>,
    pub(super) activities: ReadyQueue<ActivitySeq>,
    pub(super) batches: ReadyQueue<EntityId>,
}

impl Dispatch {
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Whether this worker has seen all past events of the execution and says that it keeps them.
    pub(super) fn keeps_history(&self, worker: WorkerId, execution: ExecutionNo) -> bool {
        self.workers.get(&worker).is_some_and(|w| w.keeps_history && w.sticky.contains(&execution))
    }

    /// Whether this worker says that it keeps histories that it has seen.
    pub(super) fn may_keep_history(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(|w| w.keeps_history)
    }

    pub(super) fn stick(&mut self, worker: WorkerId, execution: ExecutionNo) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.sticky.insert(execution);
        }
    }

    pub(super) fn unstick(&mut self, worker: WorkerId, execution: ExecutionNo) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.sticky.remove(&execution);
        }
    }

    /// Notes that the worker has the item, until `deadline`.
    pub(super) fn lease(&mut self, worker: WorkerId, item: Item, deadline: Option<Moment>) -> LeaseNo {
        self.last_lease += 1;
        let number = LeaseNo(self.last_lease);
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.out[item.kind() as usize] += 1;
            worker.leases.insert(number);
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, number));
        }
        self.leases.insert(number, Lease { worker, item, deadline });
        number
    }

    /// Ends a lease, and says what was leased by whom.
    pub(super) fn end_lease(&mut self, number: LeaseNo) -> Option<(WorkerId, Item)> {
        let lease = self.leases.remove(&number)?;
        if let Some(deadline) = lease.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        if let Some(worker) = self.workers.get_mut(&lease.worker) {
            worker.out[lease.item.kind() as usize] -= 1;
            worker.leases.remove(&number);
        }
        Some((lease.worker, lease.item))
    }

    fn has_room(&self, worker: WorkerId, kind: Kind) -> bool {
        self.workers.get(&worker).is_some_and(|w| w.out[kind as usize] < w.limits[kind as usize])
    }

    fn nothing_ready(&self) -> bool {
        self.turns.is_empty() && self.activities.is_empty() && self.batches.is_empty()
    }
}

impl Core {
    pub(super) fn worker_joined(&mut self, worker: WorkerId, request: &proto::GetWorkItemsRequest) {
        let limit = |asked: i32| usize::try_from(asked).unwrap_or(0).min(self.config.items_per_worker);
        let limits = [
            limit(request.max_concurrent_orchestration_work_items),
            limit(request.max_concurrent_activity_work_items),
            limit(request.max_concurrent_entity_work_items),
        ];
        let keeps_history = request.capabilities.contains(&(proto::WorkerCapability::HistoryStreaming as i32));
        let joined = Worker {
            filters: Filter::of(request.work_item_filters.as_ref()),
            limits,
            out: [0; 3],
            leases: BTreeSet::new(),
            keeps_history,
            sticky: BTreeSet::new(),
        };
        self.dispatch.workers.insert(worker, joined);
    }

    pub(super) fn worker_left(&mut self, worker: WorkerId) {
        let Some(gone) = self.dispatch.workers.get_mut(&worker) else {
            return;
        };
        let leases = std::mem::take(&mut gone.leases);
        let sticky = std::mem::take(&mut gone.sticky);
        gone.limits = [0; 3];
        for execution in sticky {
            self.forget_stickiness(execution);
        }
        for lease in leases {
            self.take_back(lease);
        }
        for execution in self.dispatch.turns.take_reserved(worker) {
            self.now_on_disk(Item::Turn(execution));
        }
        self.dispatch.workers.remove(&worker);
    }

    /// Ends a lease without a result: its item is ready again.
    fn take_back(&mut self, lease: LeaseNo) {
        match self.dispatch.end_lease(lease) {
            Some((_, Item::Turn(execution))) => self.take_back_turn(execution),
            Some((_, Item::Activity(activity))) => self.take_back_activity(activity),
            Some((_, Item::Batch(entity))) => self.take_back_batch(&entity),
            None => {}
        }
    }

    pub(super) fn expire_leases(&mut self) {
        while let Some((deadline, lease)) = self.dispatch.deadlines.first().copied() {
            if deadline > self.now {
                break;
            }
            // What the worker remembers of the instance cannot be trusted any more: it may be stuck in the turn.
            if let Some(Lease { item: Item::Turn(execution), .. }) = self.dispatch.leases.get(&lease) {
                let execution = *execution;
                self.forget_stickiness(execution);
            }
            self.take_back(lease);
        }
    }

    pub(super) fn abandon(&mut self, token: &str) -> HubResult<Answer> {
        let (lease, item) = self.leased(token)?;
        if let Item::Turn(execution) = item {
            self.forget_stickiness(execution);
        }
        self.take_back(lease);
        Ok(Answer::Done)
    }

    /// The completion token of a lease: useless to who did not get it, and never the same again.
    pub(super) fn token(&self, lease: LeaseNo) -> String {
        format!("{:016x}-{lease}", self.config.session)
    }

    /// The lease that a completion token stands for, and its item; an error if it has passed on.
    pub(super) fn leased(&self, token: &str) -> HubResult<(LeaseNo, Item)> {
        let session = format!("{:016x}", self.config.session);
        token
            .split_once('-')
            .filter(|(of, _)| *of == session)
            .and_then(|(_, number)| number.parse().ok())
            .map(LeaseNo)
            .and_then(|number| self.dispatch.leases.get(&number).map(|lease| (number, lease.item.clone())))
            .ok_or_else(|| {
                HubError::FailedPrecondition(format!(
                    "the work item with completion token `{token}` is no longer with this worker (it was completed, \
                     abandoned, or its lease ran out); drop the result"
                ))
            })
    }

    /// Puts an item into the queue of what is ready; at once if all that it rests on is on disk, or if it may run ahead
    /// of that, else as soon as it is so.
    pub(super) fn ready_after(&mut self, batch: super::BatchSeq, item: Item) {
        let ready = match &item {
            Item::Turn(execution) => self.turn_may_begin(*execution, batch),
            Item::Batch(_) => self.is_near_disk(batch),
            Item::Activity(_) => batch <= self.committed,
        };
        if ready {
            self.now_on_disk(item);
        } else {
            self.awaiting.entry(batch).or_default().push(item);
        }
    }

    /// Whether this batch is on disk, or so few are not that what rests on it may run ahead.
    pub(super) fn is_near_disk(&self, batch: super::BatchSeq) -> bool {
        batch <= self.near_disk()
    }

    /// The last batch that turns and entity batches may rest on.
    pub(super) fn near_disk(&self) -> super::BatchSeq {
        let ahead = self.emitted.0 - self.committed.0 < self.config.run_ahead;
        if ahead { self.current_batch() } else { self.committed }
    }

    /// All that an item rests on is on disk, or it runs ahead of that: whoever is free can have it.
    pub(super) fn now_on_disk(&mut self, item: Item) {
        match item {
            Item::Turn(execution) => self.turn_is_ready(execution),
            Item::Activity(activity) => self.activity_is_ready(activity),
            Item::Batch(entity) => self.batch_is_ready(&entity),
        }
    }

    /// Gives out what is ready to who has room: one item to each worker in turn, so that they share.
    pub(super) fn hand_out(&mut self) {
        if self.dispatch.nothing_ready() || self.dispatch.workers.is_empty() {
            return;
        }
        let workers: Vec<WorkerId> = self.dispatch.workers.keys().copied().collect();
        let mut progress = true;
        while progress {
            progress = false;
            for worker in &workers {
                for kind in [Kind::Turn, Kind::Activity, Kind::Batch] {
                    progress |= self.dispatch.has_room(*worker, kind) && self.offer(*worker, kind);
                }
            }
        }
    }

    /// Gives the worker one item of this kind, if there is one for it.
    fn offer(&mut self, worker: WorkerId, kind: Kind) -> bool {
        loop {
            let Some(filters) = self.dispatch.workers.get(&worker).map(|w| &w.filters) else {
                return false;
            };
            let filter = &filters[kind as usize];
            let given = match kind {
                Kind::Turn => {
                    let Some(execution) = self.dispatch.turns.pop(worker, filter) else {
                        return false;
                    };
                    self.give_turn(worker, execution)
                }
                Kind::Activity => {
                    let Some(activity) = self.dispatch.activities.pop(worker, filter) else {
                        return false;
                    };
                    self.give_activity(worker, activity)
                }
                Kind::Batch => {
                    let Some(entity) = self.dispatch.batches.pop(worker, filter) else {
                        return false;
                    };
                    self.give_batch(worker, &entity)
                }
            };
            if given {
                return true;
            }
        }
    }

    pub(super) fn give(
        &mut self,
        worker: WorkerId,
        lease: LeaseNo,
        request: proto::work_item::Request,
        past: Option<HistoryRange>,
    ) {
        let item = proto::WorkItem { completion_token: self.token(lease), request: Some(request) };
        self.effects.handouts.push(super::Handout { worker, item, past });
    }
}
