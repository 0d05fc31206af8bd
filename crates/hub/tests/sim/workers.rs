//! Simulated workers. Orchestrations run in the replay core of `seriatim-durable`, with living copies between turns as
//! its worker keeps them, so that a hub which hands out a wrong history is found out by the code's own check. Activities
//! and entities are written out here. This module must never remember what a worker's process would not.

use std::collections::BTreeMap;
use std::sync::Arc;

use seriatim_durable::proto;
use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::proto::operation_action::OperationActionType;
use seriatim_durable::proto::operation_result::ResultType;
use seriatim_durable::proto::orchestrator_action::OrchestratorActionType as Action;
use seriatim_durable::proto::work_item;
use seriatim_durable::replay::Execution;
use seriatim_durable::{Failure, Registry};
use seriatim_hub::core::{PAST_EVENTS_PROPERTY, Request, WorkerId};

use crate::dice::Dice;
use crate::model::mark;
use crate::programs;

/// Instance id and execution id.
pub(crate) type Key = (String, String);

/// A work item in the hands of a worker.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    Turn(Box<proto::OrchestratorRequest>),
    Activity(proto::ActivityRequest),
    Batch(proto::EntityBatchRequest),
}

impl Job {
    pub(crate) fn of(request: work_item::Request) -> Self {
        match request {
            work_item::Request::OrchestratorRequest(request) => Self::Turn(Box::new(request)),
            work_item::Request::ActivityRequest(request) => Self::Activity(request),
            work_item::Request::EntityRequest(request) => Self::Batch(request),
            work_item::Request::EntityRequestV2(request) => Self::Batch(to_batch(request)),
            other @ work_item::Request::HealthPing(_) => panic!("unexpected work item {other:?}"),
        }
    }
}

/// The newer form of an entity's work item, as the older one.
fn to_batch(request: proto::EntityRequest) -> proto::EntityBatchRequest {
    let operation = |event: proto::HistoryEvent| {
        let (operation, request_id, input) = match event.event_type? {
            EventType::EntityOperationSignaled(e) => (e.operation, e.request_id, e.input),
            EventType::EntityOperationCalled(e) => (e.operation, e.request_id, e.input),
            _ => return None,
        };
        Some(proto::OperationRequest { operation, request_id, input, trace_context: None })
    };
    proto::EntityBatchRequest {
        instance_id: request.instance_id,
        entity_state: request.entity_state,
        operations: request.operation_requests.into_iter().filter_map(operation).collect(),
        ..Default::default()
    }
}

/// One worker's process.
pub(crate) struct Process {
    /// Its stream of work items, while it is connected.
    pub(crate) stream: Option<WorkerId>,
    registry: Arc<Registry>,
    keeps: usize,
    limit: i32,
    copies: BTreeMap<Key, (u64, Execution)>,
    last_copy: u64,
}

impl Process {
    pub(crate) fn new(registry: &Arc<Registry>, dice: &mut Dice) -> Self {
        Self {
            stream: None,
            registry: Arc::clone(registry),
            keeps: [0, 3, 1_000][dice.below(3)],
            limit: dice.within(1..6) as i32,
            copies: BTreeMap::new(),
            last_copy: 0,
        }
    }

    /// What it tells the hub when it connects.
    pub(crate) fn request(&self) -> proto::GetWorkItemsRequest {
        let capability = proto::WorkerCapability::HistoryStreaming as i32;
        proto::GetWorkItemsRequest {
            max_concurrent_orchestration_work_items: self.limit,
            max_concurrent_activity_work_items: self.limit,
            max_concurrent_entity_work_items: self.limit,
            capabilities: if self.keeps > 0 { vec![capability] } else { vec![] },
            ..Default::default()
        }
    }

    /// Takes a turn: goes on from a living copy where it fits, and replays where it does not. `None` if it needs the
    /// history, which the hub has not sent along.
    pub(crate) fn turn(
        &mut self,
        request: &proto::OrchestratorRequest,
        token: &str,
        history: Option<&[proto::HistoryEvent]>,
    ) -> Option<(Request, Option<(Key, u64)>)> {
        let key: Key = (request.instance_id.clone(), request.execution_id.clone().unwrap_or_default());
        let kept = self.copies.remove(&key).map(|(_, execution)| execution);
        let sent = !request.requires_history_streaming || !request.past_events.is_empty();
        let past = if sent { Some(request.past_events.as_slice()) } else { history };
        let (execution, turn) = match (kept, past) {
            (Some(mut copy), None) if copy.continues(past_length(request)) => {
                let turn = copy.next_turn(past_length(request), &request.new_events);
                (copy, turn)
            }
            (_, None) => return None,
            (kept, Some(past)) => {
                let mut execution = kept
                    .filter(|copy| copy.fits(past))
                    .unwrap_or_else(|| Execution::new(Arc::clone(&self.registry), &key.0, &key.1));
                let turn = execution.turn(past, &request.new_events);
                (execution, turn)
            }
        };
        let mut actions = turn.actions;
        actions.iter_mut().for_each(without_facts);
        let response = proto::OrchestratorResponse {
            instance_id: request.instance_id.clone(),
            actions,
            custom_status: turn.custom_status,
            completion_token: token.to_owned(),
            ..Default::default()
        };
        let kept = (!turn.ended && self.keeps > 0).then(|| {
            self.last_copy += 1;
            self.copies.insert(key.clone(), (self.last_copy, execution));
            while self.copies.len() > self.keeps {
                let oldest = self.copies.iter().min_by_key(|(_, (number, _))| *number).map(|(key, _)| key.clone());
                oldest.map(|key| self.copies.remove(&key));
            }
            (key, self.last_copy)
        });
        Some((Request::CompleteOrchestrator(response), kept))
    }

    /// The hub did not take the turn that this copy has lived through.
    pub(crate) fn forget(&mut self, key: &Key, number: u64) {
        if self.copies.get(key).is_some_and(|(kept, _)| *kept == number) {
            self.copies.remove(key);
        }
    }
}

/// The facts of a failure are in a map of random order, which would show in the trace of a simulation.
fn without_facts(action: &mut proto::OrchestratorAction) {
    if let Some(Action::CompleteOrchestration(end)) = &mut action.orchestrator_action_type
        && let Some(failure) = &mut end.failure_details
    {
        failure.properties.clear();
    }
}

/// How long the history is that a turn goes on from.
pub(crate) fn past_length(request: &proto::OrchestratorRequest) -> usize {
    match request.properties.get(PAST_EVENTS_PROPERTY).and_then(|value| value.kind.clone()) {
        Some(prost_types::value::Kind::NumberValue(number)) => number as usize,
        _ => panic!("a turn says how long the history is"),
    }
}

/// Runs an activity.
pub(crate) fn activity(request: &proto::ActivityRequest, token: &str, dice: &mut Dice) -> Request {
    let input: u64 = serde_json::from_str(request.input.as_deref().unwrap_or("0")).expect("a number");
    let fails = request.name == "flaky" && dice.chance(0.4);
    let failure = fails.then(|| proto::TaskFailureDetails::from(Failure::new(programs::FLAKY, "by chance")));
    Request::CompleteActivity(proto::ActivityResponse {
        task_id: request.task_id,
        result: (!fails).then(|| programs::work(input).to_string()),
        failure_details: failure,
        completion_token: token.to_owned(),
        ..Default::default()
    })
}

/// Runs the first `done` operations of a batch, or all. Each leaves a mark in the entity's state.
pub(crate) fn batch(request: &proto::EntityBatchRequest, token: &str, done: usize) -> Request {
    let (balance, marks) = request.entity_state.as_deref().and_then(|state| state.split_once('|')).unwrap_or(("0", ""));
    let mut balance: i64 = balance.parse().expect("a balance");
    let mut marks = marks.to_owned();
    let mut results = Vec::new();
    let mut actions = Vec::new();
    for operation in request.operations.iter().take(done) {
        let text = |json: &Option<String>| serde_json::from_str::<String>(json.as_deref().unwrap_or("\"\"")).ok();
        let action = match operation.operation.as_str() {
            "add" => {
                balance += operation.input.as_deref().and_then(|n| n.parse::<i64>().ok()).expect("an amount");
                None
            }
            "relay" => text(&operation.input).map(|instance_id| {
                let name = "touch".to_owned();
                OperationActionType::SendSignal(proto::SendSignalAction { instance_id, name, ..Default::default() })
            }),
            "launch" => text(&operation.input).map(|name| {
                OperationActionType::StartNewOrchestration(proto::StartNewOrchestrationAction {
                    instance_id: format!("e-{name}"),
                    name: "program".to_owned(),
                    input: Some(r#"[{"Work":7}]"#.to_owned()),
                    ..Default::default()
                })
            }),
            _ => None,
        };
        actions.extend(action.map(|kind| proto::OperationAction { id: 0, operation_action_type: Some(kind) }));
        if !marks.is_empty() {
            marks.push(',');
        }
        marks.push_str(&mark(&operation.operation, &operation.request_id));
        let success = proto::OperationResultSuccess { result: Some(balance.to_string()), ..Default::default() };
        results.push(proto::OperationResult { result_type: Some(ResultType::Success(success)) });
    }
    let entity_state =
        if results.is_empty() { request.entity_state.clone() } else { Some(format!("{balance}|{marks}")) };
    Request::CompleteEntity(proto::EntityBatchResult {
        results,
        actions,
        entity_state,
        completion_token: token.to_owned(),
        ..Default::default()
    })
}
