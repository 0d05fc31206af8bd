//! Drives the core as a host would, on one thread, with a store in memory and a clock that the test moves. Every step
//! is checked: answers and activities never run ahead of what was committed.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use seriatim_durable::hub::HubError;
use seriatim_durable::proto;
use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::proto::orchestrator_action::OrchestratorActionType as Action;
use seriatim_durable::proto::work_item;
use seriatim_hub::core::{
    Answer, Batch, BatchSeq, Core, CoreConfig, Effects, HistoryRange, Input, Moment, Past, Reply, Request, RequestId,
    WorkerId, Write,
};
use seriatim_hub::store::{MemoryStore, Store};

pub(crate) type Outcome = Result<Answer, HubError>;

/// A work item as a worker sees it.
#[derive(Debug, Clone)]
pub(crate) struct Given<T> {
    pub(crate) worker: WorkerId,
    pub(crate) token: String,
    pub(crate) request: T,
}

pub(crate) type Turn = Given<proto::OrchestratorRequest>;
pub(crate) type Activity = Given<proto::ActivityRequest>;
pub(crate) type EntityBatch = Given<proto::EntityBatchRequest>;

pub(crate) struct Driver {
    core: Core,
    config: CoreConfig,
    /// Opens the store's contents again.
    reopen: Rc<dyn Fn() -> Box<dyn Store>>,
    store: Box<dyn Store>,
    pub(crate) clock: Moment,
    unwritten: Vec<Batch>,
    committed: BatchSeq,
    waiting: Vec<Reply>,
    answers: BTreeMap<RequestId, Outcome>,
    pub(crate) turns: VecDeque<Turn>,
    pub(crate) activities: VecDeque<Activity>,
    pub(crate) batches: VecDeque<EntityBatch>,
    pub(crate) event_batches: VecDeque<Given<proto::EntityRequest>>,
    pub(crate) wake: Option<Moment>,
    /// Whether each step is followed by a commit.
    pub(crate) commit_at_once: bool,
    last_id: u64,
}

impl Driver {
    pub(crate) fn new() -> Self {
        Self::with_config(CoreConfig { session: 1, ..CoreConfig::default() })
    }

    pub(crate) fn with_config(config: CoreConfig) -> Self {
        let store = MemoryStore::new(7 << 64);
        Self::on_store(Rc::new(move || Box::new(store.clone())), config)
    }

    /// On the store that this opens, and opens again after each crash.
    pub(crate) fn on_store(reopen: Rc<dyn Fn() -> Box<dyn Store>>, config: CoreConfig) -> Self {
        Self::on(reopen, config, Moment::from_seconds(1_800_000_000))
    }

    fn on(reopen: Rc<dyn Fn() -> Box<dyn Store>>, config: CoreConfig, clock: Moment) -> Self {
        let mut store = reopen();
        let snapshot = store.load().unwrap();
        let (core, effects) = Core::recover(config.clone(), snapshot, clock);
        let mut driver = Self {
            core,
            config,
            reopen,
            store,
            clock,
            unwritten: Vec::new(),
            committed: BatchSeq(0),
            waiting: Vec::new(),
            answers: BTreeMap::new(),
            turns: VecDeque::new(),
            activities: VecDeque::new(),
            batches: VecDeque::new(),
            event_batches: VecDeque::new(),
            wake: None,
            commit_at_once: true,
            last_id: 0,
        };
        driver.carry_out(effects);
        driver.commit();
        driver
    }

    /// The process dies: what was not committed is lost, and so is every lease.
    pub(crate) fn crash(self) -> Self {
        let config = CoreConfig { session: self.config.session + 1, ..self.config };
        drop(self.store);
        let mut next = Self::on(self.reopen, config, self.clock);
        next.commit_at_once = self.commit_at_once;
        next
    }

    pub(crate) fn input(&mut self, input: Input) {
        let effects = self.core.handle(self.clock, input);
        self.carry_out(effects);
        if self.commit_at_once {
            self.commit();
        }
    }

    fn carry_out(&mut self, effects: Effects) {
        if let Some(batch) = effects.batch {
            let last = self.unwritten.last().map_or(self.committed, |last| last.seq);
            assert_eq!(batch.seq.0, last.0 + 1, "batches are numbered without a gap");
            assert!(!batch.writes.is_empty(), "a batch writes something");
            self.unwritten.push(batch);
        }
        for reply in effects.replies {
            assert!(reply.after <= self.core.emitted());
            self.waiting.push(reply);
        }
        for handout in effects.handouts {
            self.receive(handout);
        }
        self.wake = effects.wake;
        self.release();
    }

    fn receive(&mut self, handout: seriatim_hub::core::Handout) {
        let (worker, token) = (handout.worker, handout.item.completion_token);
        match handout.item.request.expect("a work item has a request") {
            work_item::Request::OrchestratorRequest(mut request) => {
                if let Some(range) = handout.past {
                    request.past_events = self.read(range);
                    assert_eq!(
                        request.past_events.len() as u64,
                        range.len,
                        "the history that a turn rests on is stored"
                    );
                }
                self.turns.push_back(Given { worker, token, request });
            }
            work_item::Request::ActivityRequest(request) => {
                self.activities.push_back(Given { worker, token, request });
            }
            work_item::Request::EntityRequest(request) => self.batches.push_back(Given { worker, token, request }),
            work_item::Request::EntityRequestV2(request) => {
                self.event_batches.push_back(Given { worker, token, request });
            }
            other @ work_item::Request::HealthPing(_) => panic!("unexpected work item {other:?}"),
        }
    }

    fn read(&self, range: HistoryRange) -> Vec<proto::HistoryEvent> {
        self.store.reader().unwrap().read(range).unwrap()
    }

    /// Commits all that is waiting, until nothing is.
    pub(crate) fn commit(&mut self) {
        while let Some(last) = self.unwritten.last() {
            let seq = last.seq;
            let group = std::mem::take(&mut self.unwritten);
            self.store.commit(&group).unwrap();
            self.committed = seq;
            self.release();
            let effects = self.core.handle(self.clock, Input::Committed(seq));
            self.carry_out(effects);
        }
    }

    fn release(&mut self) {
        let (ready, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|r| r.after <= self.committed);
        self.waiting = waiting;
        for reply in ready {
            let twice = self.answers.insert(reply.request, reply.outcome);
            assert!(twice.is_none(), "a request is answered once");
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Asks without waiting.
    pub(crate) fn ask(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.next_id());
        self.input(Input::Request(id, Box::new(request)));
        id
    }

    pub(crate) fn answer(&mut self, id: RequestId) -> Option<Outcome> {
        self.answers.remove(&id)
    }

    /// Asks and commits.
    pub(crate) fn call(&mut self, request: Request) -> Outcome {
        let id = self.ask(request);
        self.commit();
        self.answer(id).expect("answered once committed")
    }

    pub(crate) fn ok(&mut self, request: Request) -> Answer {
        self.call(request).unwrap()
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.clock = self.clock.plus(time);
        self.input(Input::Tick);
    }

    /// A worker that takes everything, and as much as it can get.
    pub(crate) fn worker(&mut self) -> WorkerId {
        self.worker_with(proto::GetWorkItemsRequest {
            max_concurrent_orchestration_work_items: 100,
            max_concurrent_activity_work_items: 100,
            max_concurrent_entity_work_items: 100,
            ..Default::default()
        })
    }

    pub(crate) fn worker_with(&mut self, request: proto::GetWorkItemsRequest) -> WorkerId {
        let worker = WorkerId(self.next_id());
        self.input(Input::WorkerJoined(worker, Box::new(request)));
        worker
    }

    pub(crate) fn leave(&mut self, worker: WorkerId) {
        self.turns.retain(|given| given.worker != worker);
        self.activities.retain(|given| given.worker != worker);
        self.batches.retain(|given| given.worker != worker);
        self.input(Input::WorkerLeft(worker));
    }

    pub(crate) fn start(&mut self, id: &str, name: &str) {
        let request = proto::CreateInstanceRequest {
            instance_id: id.into(),
            name: name.into(),
            input: Some("\"in\"".into()),
            ..Default::default()
        };
        self.ok(Request::StartInstance(request));
    }

    pub(crate) fn turn(&mut self) -> Turn {
        self.turns.pop_front().expect("a turn is out")
    }

    /// The next turn, which is that of this instance.
    pub(crate) fn turn_of(&mut self, id: &str) -> Turn {
        let at = self.turns.iter().position(|turn| turn.request.instance_id == id);
        self.turns.remove(at.unwrap_or_else(|| panic!("a turn of {id} is out; out are {:?}", self.turns))).unwrap()
    }

    pub(crate) fn finish_turn(&mut self, turn: &Turn, actions: Vec<proto::OrchestratorAction>) {
        assert_eq!(self.try_turn(turn, actions).unwrap(), Answer::Done);
    }

    pub(crate) fn try_turn(&mut self, turn: &Turn, actions: Vec<proto::OrchestratorAction>) -> Outcome {
        self.call(Request::CompleteOrchestrator(proto::OrchestratorResponse {
            instance_id: turn.request.instance_id.clone(),
            actions,
            completion_token: turn.token.clone(),
            ..Default::default()
        }))
    }

    /// Completes the next turn of this instance with these actions, and returns the turn.
    pub(crate) fn play(&mut self, id: &str, actions: Vec<proto::OrchestratorAction>) -> Turn {
        let turn = self.turn_of(id);
        self.finish_turn(&turn, actions);
        turn
    }

    pub(crate) fn finish_activity(&mut self, activity: &Activity, result: &str) -> Outcome {
        self.call(Request::CompleteActivity(proto::ActivityResponse {
            result: Some(result.into()),
            completion_token: activity.token.clone(),
            ..Default::default()
        }))
    }

    /// Completes the next batch: each operation gives its name, and the state becomes `state`.
    pub(crate) fn finish_batch(&mut self, state: Option<&str>) -> EntityBatch {
        let batch = self.batches.pop_front().expect("a batch is out");
        let results = batch.request.operations.iter().map(|operation| success(&operation.operation)).collect();
        let result = self.try_batch(&batch, results, state);
        assert_eq!(result.unwrap(), Answer::Done);
        batch
    }

    pub(crate) fn try_batch(
        &mut self,
        batch: &EntityBatch,
        results: Vec<proto::OperationResult>,
        state: Option<&str>,
    ) -> Outcome {
        self.call(Request::CompleteEntity(proto::EntityBatchResult {
            results,
            entity_state: state.map(str::to_owned),
            completion_token: batch.token.clone(),
            ..Default::default()
        }))
    }

    pub(crate) fn state(&mut self, id: &str) -> Option<proto::OrchestrationState> {
        let request = proto::GetInstanceRequest { instance_id: id.into(), get_inputs_and_outputs: true };
        match self.ok(Request::GetInstance(request)) {
            Answer::Instance(response) => response.orchestration_state,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn status(&mut self, id: &str) -> proto::OrchestrationStatus {
        self.state(id).expect("the instance exists").orchestration_status()
    }

    pub(crate) fn history(&mut self, id: &str) -> Vec<proto::HistoryEvent> {
        let request = proto::StreamInstanceHistoryRequest { instance_id: id.into(), ..Default::default() };
        match self.ok(Request::InstanceHistory(request)) {
            Answer::History(range) => range.map(|range| self.read(range)).unwrap_or_default(),
            other => panic!("{other:?}"),
        }
    }

    /// The history as a worker knows it that has taken every turn: what is in the store, and what is on its way there.
    pub(crate) fn known_history(&self, id: &str) -> Vec<proto::HistoryEvent> {
        let writes = || self.unwritten.iter().flat_map(|batch| &batch.writes);
        let mut begun = writes().filter_map(|write| match write {
            Write::PutExecution { execution, instance, .. } if instance.as_str() == id => Some(*execution),
            _ => None,
        });
        let snapshot = (self.reopen)().load().unwrap();
        let stored = snapshot.executions.iter().find(|stored| stored.instance.as_str() == id);
        let Some(known) = begun.next_back().or(stored.map(|stored| stored.execution)) else { return Vec::new() };
        let mut events = self.read(HistoryRange { execution: known, len: u64::MAX });
        for write in writes() {
            if let Write::AppendHistory { execution, events: more, .. } = write
                && *execution == known
            {
                events.extend_from_slice(more);
            }
        }
        events
    }

    pub(crate) fn entity(&mut self, id: &str) -> Option<proto::EntityMetadata> {
        let request = proto::GetEntityRequest { instance_id: id.into(), include_state: true };
        match self.ok(Request::GetEntity(request)) {
            Answer::Entity(response) => response.entity,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn signal(&mut self, id: &str, operation: &str) {
        let request =
            proto::SignalEntityRequest { instance_id: id.into(), name: operation.into(), ..Default::default() };
        self.ok(Request::SignalEntity(request));
    }

    pub(crate) fn raise(&mut self, id: &str, name: &str) -> Outcome {
        let request = proto::RaiseEventRequest { instance_id: id.into(), name: name.into(), input: None };
        self.call(Request::RaiseEvent(request))
    }

    pub(crate) fn fail_activity(&mut self, activity: &Activity) {
        let failure = proto::TaskFailureDetails { error_message: "boom".into(), ..Default::default() };
        self.ok(Request::CompleteActivity(proto::ActivityResponse {
            failure_details: Some(failure),
            completion_token: activity.token.clone(),
            ..Default::default()
        }));
    }

    /// Rewinds as a host does: asks for the plan, reads the histories, hands them in.
    pub(crate) fn rewind(&mut self, id: &str) -> Result<bool, HubError> {
        let histories = self.rewind_plan(id)?;
        self.rewind_with(id, histories)
    }

    pub(crate) fn rewind_plan(&mut self, id: &str) -> Result<Vec<Past>, HubError> {
        let Answer::Histories(plan) = self.call(Request::RewindPlan(again(id)))? else { panic!("no plan") };
        Ok(plan.into_iter().map(|(instance, range)| Past { instance, range, events: self.read(range) }).collect())
    }

    pub(crate) fn rewind_with(&mut self, id: &str, histories: Vec<Past>) -> Result<bool, HubError> {
        match self.call(Request::Rewind(again(id), histories))? {
            Answer::Rewound(done) => Ok(done),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn terminate(&mut self, id: &str, recursive: bool) {
        let output = Some("\"stop\"".into());
        self.ok(Request::TerminateInstance(proto::TerminateRequest { instance_id: id.into(), output, recursive }));
    }
}

fn again(id: &str) -> proto::RewindInstanceRequest {
    proto::RewindInstanceRequest { instance_id: id.into(), reason: Some("again".into()) }
}

pub(crate) fn success(result: &str) -> proto::OperationResult {
    let success = proto::OperationResultSuccess { result: Some(result.into()), ..Default::default() };
    proto::OperationResult { result_type: Some(proto::operation_result::ResultType::Success(success)) }
}

pub(crate) fn action(id: i32, action: Action) -> proto::OrchestratorAction {
    proto::OrchestratorAction { id, orchestrator_action_type: Some(action) }
}

pub(crate) fn task(id: i32, name: &str) -> proto::OrchestratorAction {
    action(id, Action::ScheduleTask(proto::ScheduleTaskAction { name: name.into(), ..Default::default() }))
}

pub(crate) fn sub(id: i32, name: &str, instance: &str) -> proto::OrchestratorAction {
    let sub =
        proto::CreateSubOrchestrationAction { name: name.into(), instance_id: instance.into(), ..Default::default() };
    action(id, Action::CreateSubOrchestration(sub))
}

pub(crate) fn timer(id: i32, at: Moment) -> proto::OrchestratorAction {
    action(id, Action::CreateTimer(proto::CreateTimerAction { fire_at: Some(at.to_timestamp()) }))
}

pub(crate) fn complete(id: i32) -> proto::OrchestratorAction {
    end(id, proto::OrchestrationStatus::Completed, Some("\"out\""))
}

pub(crate) fn end(id: i32, status: proto::OrchestrationStatus, result: Option<&str>) -> proto::OrchestratorAction {
    let complete = proto::CompleteOrchestrationAction {
        orchestration_status: status as i32,
        result: result.map(str::to_owned),
        failure_details: (status == proto::OrchestrationStatus::Failed)
            .then(|| proto::TaskFailureDetails { error_message: "boom".into(), ..Default::default() }),
        ..Default::default()
    };
    action(id, Action::CompleteOrchestration(complete))
}

fn message(id: i32, message: proto::send_entity_message_action::EntityMessageType) -> proto::OrchestratorAction {
    let message = proto::SendEntityMessageAction { entity_message_type: Some(message) };
    action(id, Action::SendEntityMessage(message))
}

pub(crate) fn call(id: i32, entity: &str, operation: &str) -> proto::OrchestratorAction {
    let call = proto::EntityOperationCalledEvent {
        request_id: format!("request-{id}"),
        operation: operation.into(),
        target_instance_id: Some(entity.into()),
        ..Default::default()
    };
    message(id, proto::send_entity_message_action::EntityMessageType::EntityOperationCalled(call))
}

pub(crate) fn signal(id: i32, entity: &str, operation: &str) -> proto::OrchestratorAction {
    let signal = proto::EntityOperationSignaledEvent {
        operation: operation.into(),
        target_instance_id: Some(entity.into()),
        ..Default::default()
    };
    message(id, proto::send_entity_message_action::EntityMessageType::EntityOperationSignaled(signal))
}

pub(crate) fn lock(id: i32, section: &str, entities: &[&str]) -> proto::OrchestratorAction {
    let lock = proto::EntityLockRequestedEvent {
        critical_section_id: section.into(),
        lock_set: entities.iter().map(|id| (*id).to_owned()).collect(),
        ..Default::default()
    };
    message(id, proto::send_entity_message_action::EntityMessageType::EntityLockRequested(lock))
}

pub(crate) fn unlock(id: i32, section: &str, entity: &str) -> proto::OrchestratorAction {
    let unlock = proto::EntityUnlockSentEvent {
        critical_section_id: section.into(),
        target_instance_id: Some(entity.into()),
        ..Default::default()
    };
    message(id, proto::send_entity_message_action::EntityMessageType::EntityUnlockSent(unlock))
}

/// The kinds of a list of events, in short.
pub(crate) fn kinds(events: &[proto::HistoryEvent]) -> Vec<&'static str> {
    events.iter().map(|event| kind(event.event_type.as_ref().expect("an event has a type"))).collect()
}

fn kind(event: &EventType) -> &'static str {
    match event {
        EventType::ExecutionStarted(_) => "start",
        EventType::ExecutionCompleted(_) => "end",
        EventType::ExecutionTerminated(_) => "terminated",
        EventType::ExecutionSuspended(_) => "suspended",
        EventType::ExecutionResumed(_) => "resumed",
        EventType::OrchestratorStarted(_) => "(",
        EventType::OrchestratorCompleted(_) => ")",
        EventType::TaskScheduled(_) => "task",
        EventType::TaskCompleted(_) => "task done",
        EventType::TaskFailed(_) => "task failed",
        EventType::SubOrchestrationInstanceCreated(_) => "sub",
        EventType::SubOrchestrationInstanceCompleted(_) => "sub done",
        EventType::SubOrchestrationInstanceFailed(_) => "sub failed",
        EventType::TimerCreated(_) => "timer",
        EventType::TimerFired(_) => "timer fired",
        EventType::EventSent(_) => "sent",
        EventType::EventRaised(_) => "raised",
        EventType::EntityOperationCalled(_) => "call",
        EventType::EntityOperationSignaled(_) => "signal",
        EventType::EntityOperationCompleted(_) => "call done",
        EventType::EntityOperationFailed(_) => "call failed",
        EventType::EntityLockRequested(_) => "lock",
        EventType::EntityLockGranted(_) => "granted",
        EventType::EntityUnlockSent(_) => "unlock",
        EventType::ExecutionRewound(_) => "rewound",
        other => panic!("unexpected event {other:?}"),
    }
}
