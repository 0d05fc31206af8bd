//! Batches of operations on an entity, in both forms in which hubs hand them out: state, results, messages, roll-back,
//! deletion, panics, and names that nobody knows.

use futures::channel::mpsc::UnboundedReceiver;
use serde_json::Value;
use seriatim_durable::proto;
use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::proto::operation_action::OperationActionType;
use seriatim_durable::proto::operation_result::ResultType;
use seriatim_durable::proto::work_item::Request;
use seriatim_durable::{Entity, EntityContext, EntityId, Failure, Operation, Registry, Worker};

use crate::bench::event;
use crate::fake_hub::{Answer, FakeHub, next};

/// Counts, and tells others; every second thing it does goes wrong on demand.
#[derive(Default)]
struct Counter {
    poisoned: bool,
}

impl Entity for Counter {
    type State = u32;

    fn operation(&mut self, ctx: &mut EntityContext, state: &mut u32, op: &Operation) -> Result<Value, Failure> {
        assert!(!self.poisoned, "an object that panicked must not be used again");
        match op.name() {
            "add" => *state += op.input::<u32>()?,
            "tell" => ctx.signal_entity(&EntityId::new("log", ctx.id().key()), "note", state)?,
            "launch" => {
                return op.reply(&ctx.start_orchestration("child", Some("child-1"), state)?);
            }
            "add then fail" => {
                *state += 1000;
                ctx.signal_entity(&EntityId::new("log", "x"), "note", state)?;
                return Err(Failure::new("Refused", "after the change"));
            }
            "add then panic" => {
                *state += 1000;
                self.poisoned = true;
                panic!("on purpose");
            }
            "clear" => ctx.delete_state(),
            _ => return Err(op.not_supported()),
        }
        op.reply(state)
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.entity("Counter", Counter::default);
    registry
}

fn operation(name: &str, input: &str) -> proto::OperationRequest {
    proto::OperationRequest {
        operation: name.to_owned(),
        request_id: format!("request of {name}"),
        input: Some(input.to_owned()),
        trace_context: None,
    }
}

fn batch(instance: &str, state: Option<&str>, operations: &[(&str, &str)]) -> Request {
    Request::EntityRequest(proto::EntityBatchRequest {
        instance_id: instance.to_owned(),
        entity_state: state.map(str::to_owned),
        operations: operations.iter().map(|(name, input)| operation(name, input)).collect(),
        ..Default::default()
    })
}

async fn serve(request: Request) -> proto::EntityBatchResult {
    let (hub, mut seen): (_, UnboundedReceiver<Answer>) = FakeHub::new();
    let worker = Worker::builder(hub.clone(), registry()).build().start();
    let Answer::Opened(_) = next(&mut seen).await else { panic!("the worker opens a stream first") };
    hub.give("token", request);
    let Answer::Entity(result) = next(&mut seen).await else { panic!("an entity's answer") };
    worker.stop().await.expect("a clean stop");
    assert_eq!(result.completion_token, "token");
    result
}

/// Results in short: the JSON, or the type of failure.
fn results(result: &proto::EntityBatchResult) -> Vec<String> {
    let one = |result: &proto::OperationResult| match result.result_type.as_ref().expect("a result") {
        ResultType::Success(success) => {
            assert!(success.start_time_utc.is_some() && success.end_time_utc.is_some());
            success.result.clone().unwrap_or_default()
        }
        ResultType::Failure(failure) => Failure::from(failure.failure_details.clone()).error_type,
    };
    result.results.iter().map(one).collect()
}

#[tokio::test]
async fn operations_run_in_order_over_one_state() {
    let result = serve(batch("@counter@a", Some("5"), &[("add", "2"), ("tell", "null"), ("add", "3")])).await;
    assert_eq!(results(&result), ["7", "7", "10"]);
    assert_eq!(result.entity_state.as_deref(), Some("10"));
    let [action] = result.actions.as_slice() else { panic!("one message: {:?}", result.actions) };
    let Some(OperationActionType::SendSignal(signal)) = &action.operation_action_type else { panic!("a signal") };
    assert_eq!((signal.instance_id.as_str(), signal.name.as_str()), ("@log@a", "note"));
    assert_eq!(signal.input.as_deref(), Some("7"));

    let result = serve(batch("@counter@a", None, &[("launch", "null")])).await;
    assert_eq!(results(&result), [r#""child-1""#]);
    assert!(matches!(&result.actions[0].operation_action_type, Some(OperationActionType::StartNewOrchestration(start))
        if start.name == "child" && start.instance_id == "child-1" && start.input.as_deref() == Some("0")));
}

#[tokio::test]
async fn an_operation_that_fails_or_panics_leaves_no_trace() {
    let operations =
        [("add", "1"), ("add then fail", "null"), ("add then panic", "null"), ("tell", "null"), ("add", r#""x""#)];
    let result = serve(batch("@counter@a", Some("5"), &operations)).await;
    assert_eq!(results(&result), ["6", "Refused", Failure::PANIC, "6", Failure::SERIALIZATION]);
    assert_eq!(result.entity_state.as_deref(), Some("6"));
    assert_eq!(result.actions.len(), 1, "only the message of the operation that ended well: {:?}", result.actions);
}

#[tokio::test]
async fn a_state_is_deleted_and_made_again() {
    let result = serve(batch("@counter@a", Some("5"), &[("clear", "null")])).await;
    assert_eq!((results(&result), result.entity_state), (vec!["5".to_owned()], None));
    // Every entity can be deleted, whether or not it knows the operation.
    let result = serve(batch("@counter@a", Some("5"), &[("Delete", "null"), ("add", "2")])).await;
    assert_eq!(
        (results(&result), result.entity_state),
        (vec!["null".to_owned(), "2".to_owned()], Some("2".to_owned()))
    );
}

#[tokio::test]
async fn unknown_names_and_broken_states_fail_each_operation_and_keep_the_state() {
    let result = serve(batch("@absent@a", Some("5"), &[("add", "1"), ("add", "1")])).await;
    assert_eq!(results(&result), [Failure::ENTITY_NOT_REGISTERED; 2]);
    assert_eq!(result.entity_state.as_deref(), Some("5"));
    let result = serve(batch("@counter@a", Some("5"), &[("subtract", "1")])).await;
    assert_eq!(results(&result), [Failure::OPERATION_NOT_SUPPORTED]);
    let result = serve(batch("@counter@a", Some(r#""five""#), &[("add", "1")])).await;
    assert_eq!(results(&result), [Failure::SERIALIZATION]);
    assert_eq!(result.entity_state.as_deref(), Some(r#""five""#));
}

#[tokio::test]
async fn the_newer_form_names_the_callers_in_the_answer() {
    let called = EventType::EntityOperationCalled(proto::EntityOperationCalledEvent {
        request_id: "r1".to_owned(),
        operation: "add".to_owned(),
        input: Some("1".to_owned()),
        parent_instance_id: Some("caller".to_owned()),
        parent_execution_id: Some("execution".to_owned()),
        ..Default::default()
    });
    let locked = EventType::EntityLockRequested(proto::EntityLockRequestedEvent::default());
    let signaled = EventType::EntityOperationSignaled(proto::EntityOperationSignaledEvent {
        request_id: "r2".to_owned(),
        operation: "add".to_owned(),
        input: Some("2".to_owned()),
        ..Default::default()
    });
    let request = Request::EntityRequestV2(proto::EntityRequest {
        instance_id: "@counter@a".to_owned(),
        execution_id: String::new(),
        entity_state: None,
        operation_requests: [called, locked, signaled].map(|kind| event(-1, 0, kind)).to_vec(),
    });
    let result = serve(request).await;
    assert_eq!(results(&result), ["1", "3"]);
    let destination =
        proto::OrchestrationInstance { instance_id: "caller".to_owned(), execution_id: Some("execution".to_owned()) };
    let infos = [("r1", Some(destination)), ("r2", None)].map(|(request_id, response_destination)| {
        proto::OperationInfo { request_id: request_id.to_owned(), response_destination }
    });
    assert_eq!(result.operation_infos, infos);
}
