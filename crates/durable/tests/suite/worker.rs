//! What a worker does with work items: answers, failures, sticky turns, lost hubs, stopping. And what a client makes of
//! a hub's answers.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use seriatim_durable::hub::PAST_EVENTS_PROPERTY;
use seriatim_durable::proto::work_item::Request;
use seriatim_durable::proto::{self, HistoryEvent};
use seriatim_durable::{
    ActivityContext, Client, EntityId, Failure, HubError, InstanceFilter, OrchestrationContext, Registry, StartOptions,
    Worker, WorkerBuilder, WorkerError, WorkerHandle,
};

use crate::bench::*;
use crate::fake_hub::{Answer, FakeHub, next};

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry
        .orchestration("main", |ctx: OrchestrationContext, (): ()| async move {
            let a: u32 = ctx.call_activity("double", &4).await?;
            let b: u32 = ctx.call_activity("double", &a).await?;
            Ok(b)
        })
        .activity("double", |ctx: ActivityContext, n: u32| async move {
            assert!(n < 100, "{n} is too much for task {}", ctx.task_id());
            Ok(n * 2)
        })
        .activity("hang", |_, (): ()| async move { pending::<Result<(), Failure>>().await });
    registry
}

async fn started_worker(build: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> Rig {
    let (hub, mut seen) = FakeHub::new();
    let worker = build(Worker::builder(hub.clone(), registry())).build().start();
    let Answer::Opened(opened) = next(&mut seen).await else { panic!("the worker opens a stream first") };
    Rig { hub, seen, worker, opened }
}

struct Rig {
    hub: Arc<FakeHub>,
    seen: UnboundedReceiver<Answer>,
    worker: WorkerHandle,
    opened: proto::GetWorkItemsRequest,
}

fn activity(name: &str, input: &str) -> Request {
    Request::ActivityRequest(proto::ActivityRequest {
        name: name.to_owned(),
        input: Some(input.to_owned()),
        task_id: 3,
        orchestration_instance: Some(proto::OrchestrationInstance {
            instance_id: "instance".to_owned(),
            execution_id: None,
        }),
        ..Default::default()
    })
}

/// A turn; without `past`, as a hub sends it that believes the worker to have the history of that length.
fn turn(past: Result<&[HistoryEvent], Option<usize>>, new: &[HistoryEvent]) -> Request {
    let count = past.map_or_else(|length| length, |past| Some(past.len()));
    let number = |n: usize| prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(n as f64)) };
    Request::OrchestratorRequest(proto::OrchestratorRequest {
        instance_id: "instance".to_owned(),
        execution_id: Some("execution".to_owned()),
        past_events: past.map(<[_]>::to_vec).unwrap_or_default(),
        new_events: new.to_vec(),
        requires_history_streaming: past.is_err(),
        properties: count.map(|n| (PAST_EVENTS_PROPERTY.to_owned(), number(n))).into_iter().collect(),
        ..Default::default()
    })
}

#[tokio::test]
async fn a_worker_says_what_it_can_do() {
    let rig = started_worker(|builder| builder.max_concurrent_activities(7).max_concurrent_orchestrations(2)).await;
    assert_eq!(rig.opened.max_concurrent_activity_work_items, 7);
    assert_eq!(rig.opened.max_concurrent_orchestration_work_items, 2);
    assert_eq!(rig.opened.max_concurrent_entity_work_items, 0, "no entity is registered");
    let filters = rig.opened.work_item_filters.expect("filters by default");
    let names: Vec<_> = filters.activities.iter().map(|filter| filter.name.as_str()).collect();
    assert_eq!(names, ["double", "hang"]);
    rig.worker.stop().await.expect("a clean stop");

    let rig = started_worker(WorkerBuilder::accept_any_name).await;
    assert_eq!(rig.opened.work_item_filters, None);
    assert!(rig.opened.max_concurrent_entity_work_items > 0);
    rig.worker.stop().await.expect("a clean stop");
}

#[tokio::test]
async fn activities_answer_with_results_failures_and_panics() {
    let mut rig = started_worker(|builder| builder).await;
    let expected = [("4", Ok("8")), ("400", Err(Failure::PANIC)), (r#""x""#, Err(Failure::SERIALIZATION))];
    for (input, outcome) in expected {
        rig.hub.give("token", activity("double", input));
        let Answer::Activity(response) = next(&mut rig.seen).await else { panic!("an activity's answer") };
        assert_eq!((response.completion_token.as_str(), response.task_id), ("token", 3));
        assert_eq!(response.instance_id, "instance");
        assert_eq!(response.result.as_deref(), outcome.ok());
        assert_eq!(response.failure_details.as_ref().map(|f| f.error_type.as_str()), outcome.err());
    }
    rig.hub.give("token", activity("unknown", "1"));
    let Answer::Activity(response) = next(&mut rig.seen).await else { panic!("an activity's answer") };
    let failure = Failure::from(response.failure_details);
    assert_eq!(failure.error_type, Failure::ACTIVITY_NOT_REGISTERED);
    assert!(failure.non_retriable && failure.message.contains("\"unknown\""));
    rig.worker.stop().await.expect("a clean stop");
}

/// Takes the first turn of an orchestration on this worker, and gives the bench that has recorded it.
async fn first_turn(rig: &mut Rig) -> Bench {
    let mut bench = Bench::new(Registry::new());
    let new = bench.opened(vec![started("main", "null")]);
    rig.hub.give("first", turn(Ok(&[]), &new));
    let Answer::Orchestrator(response) = next(&mut rig.seen).await else { panic!("a turn's answer") };
    assert_eq!((response.completion_token.as_str(), response.actions.len()), ("first", 1));
    commit(&mut bench, new, response);
    bench
}

fn commit(bench: &mut Bench, new: Vec<HistoryEvent>, response: proto::OrchestratorResponse) {
    let turn = seriatim_durable::replay::Turn { actions: response.actions, custom_status: None, ended: false };
    bench.commit(new, &turn);
}

#[tokio::test]
async fn a_turn_goes_on_from_the_living_copy_without_asking_for_history() {
    let mut rig = started_worker(|builder| builder).await;
    let mut bench = first_turn(&mut rig).await;
    for (id, result) in [(1, "8"), (2, "16")] {
        let new = bench.opened(vec![completed(id, result)]);
        rig.hub.give("next", turn(Err(Some(bench.past.len())), &new));
        // The very next thing is the answer: no history was asked for.
        let Answer::Orchestrator(response) = next(&mut rig.seen).await else { panic!("a turn's answer") };
        assert_eq!(response.actions.len(), 1);
        commit(&mut bench, new, response);
    }
    rig.worker.stop().await.expect("a clean stop");
}

#[tokio::test]
async fn a_worker_that_cannot_know_asks_for_the_history() {
    // Another length, no length at all, no living copy: each time the history decides.
    for (kept, length) in [(9, Some(99)), (9, None), (0, Some(5))] {
        let mut rig = started_worker(|builder| builder.max_kept_orchestrations(kept)).await;
        let mut bench = first_turn(&mut rig).await;
        rig.hub.set_history(bench.past.clone());
        let new = bench.opened(vec![completed(1, "8")]);
        rig.hub.give("next", turn(Err(length), &new));
        let Answer::AskedForHistory(asked) = next(&mut rig.seen).await else { panic!("the history is asked for") };
        assert!(asked.for_work_item_processing && asked.instance_id == "instance");
        let Answer::Orchestrator(response) = next(&mut rig.seen).await else { panic!("a turn's answer") };
        assert_eq!(line(&response.actions[0]), "2 activity double(8)");
        rig.worker.stop().await.expect("a clean stop");
    }
}

#[tokio::test]
async fn a_turn_whose_history_cannot_be_had_is_given_back() {
    let mut rig = started_worker(|builder| builder.max_kept_orchestrations(0)).await;
    let mut bench = first_turn(&mut rig).await;
    rig.hub.refuse_answers([HubError::Unavailable("restarting".to_owned())]);
    let new = bench.opened(vec![completed(1, "8")]);
    rig.hub.give("next", turn(Err(Some(bench.past.len())), &new));
    let Answer::AskedForHistory(_) = next(&mut rig.seen).await else { panic!("the history is asked for") };
    assert_eq!(next(&mut rig.seen).await, Answer::Abandoned("next".to_owned()));
    rig.worker.stop().await.expect("a clean stop");
}

/// Symptom: an instance waits for ever for something that its history has. Cause: a turn whose lease had run out asked for
/// the history late, got one in which the turn was recorded already, and left a living copy that had seen its events
/// twice; if the next turn came before the hub's refusal, and the lengths happened to fit, it went on from that copy. Now
/// such a turn is given back. Found by the simulation of the hub.
#[tokio::test]
async fn a_turn_that_was_recorded_before_its_history_was_asked_for_is_given_back() {
    let mut rig = started_worker(|builder| builder.max_kept_orchestrations(0)).await;
    let mut bench = first_turn(&mut rig).await;
    let length = bench.past.len();
    let new = bench.opened(vec![completed(1, "8")]);
    bench.past.extend(new.clone());
    rig.hub.set_history(bench.past.clone());
    rig.hub.give("late", turn(Err(Some(length)), &new));
    let Answer::AskedForHistory(_) = next(&mut rig.seen).await else { panic!("the history is asked for") };
    assert_eq!(next(&mut rig.seen).await, Answer::Abandoned("late".to_owned()));
    rig.worker.stop().await.expect("a clean stop");
}

#[tokio::test]
async fn a_copy_whose_turn_was_refused_is_forgotten() {
    let mut rig = started_worker(|builder| builder).await;
    rig.hub.refuse_answers([HubError::FailedPrecondition("the lease has passed on".to_owned())]);
    let mut bench = first_turn(&mut rig).await;
    rig.hub.set_history(bench.past.clone());
    let new = bench.opened(vec![completed(1, "8")]);
    // The fake hub refuses without waiting, and this runtime has one thread: by now the worker has heard it.
    rig.hub.give("next", turn(Err(Some(bench.past.len())), &new));
    let Answer::AskedForHistory(_) = next(&mut rig.seen).await else { panic!("the history is asked for") };
    let Answer::Orchestrator(_) = next(&mut rig.seen).await else { panic!("a turn's answer") };
    rig.worker.stop().await.expect("a clean stop");
}

#[tokio::test]
async fn a_fenced_hub_ends_the_worker_with_its_error() {
    let mut rig = started_worker(|builder| builder).await;
    rig.hub.refuse_answers([HubError::Fenced("disk full".to_owned())]);
    rig.hub.give("token", activity("double", "1"));
    let error = rig.worker.ended().await.expect_err("the worker ends by itself");
    assert!(matches!(&error, WorkerError::Hub(HubError::Fenced(cause)) if cause == "disk full"), "{error}");
    assert!(rig.worker.is_ended());
    rig.worker.stop().await.expect_err("the error is still there");

    let mut rig = started_worker(|builder| builder).await;
    rig.hub.lose_stream(Some(HubError::Fenced("disk on fire".to_owned())));
    let error = rig.worker.ended().await.expect_err("the worker ends by itself");
    assert!(error.to_string().contains("disk on fire"), "{error}");
}

#[tokio::test]
async fn a_worker_finds_its_hub_again() {
    let mut rig = started_worker(|builder| builder).await;
    let gone = || HubError::Unavailable("restarting".to_owned());
    rig.hub.refuse_streams([gone()]);
    rig.hub.lose_stream(None);
    for _ in 0..2 {
        let Answer::Opened(_) = next(&mut rig.seen).await else { panic!("the worker tries again") };
    }
    // An answer that meets a hub out of reach is offered again.
    rig.hub.refuse_answers([gone()]);
    rig.hub.give("token", activity("double", "1"));
    let Answer::Activity(first) = next(&mut rig.seen).await else { panic!("an activity's answer") };
    let Answer::Activity(second) = next(&mut rig.seen).await else { panic!("an activity's answer") };
    assert_eq!(first, second);
    rig.worker.stop().await.expect("a clean stop");
}

#[tokio::test]
async fn stopping_gives_back_what_does_not_end_in_time() {
    let mut rig = started_worker(|builder| builder.stop_grace(Duration::ZERO)).await;
    rig.hub.give("hanging", activity("hang", "null"));
    rig.hub.give("ending", activity("double", "1"));
    let Answer::Activity(response) = next(&mut rig.seen).await else { panic!("an activity's answer") };
    assert_eq!(response.completion_token, "ending");
    rig.worker.stop().await.expect("a clean stop");
    assert_eq!(next(&mut rig.seen).await, Answer::Abandoned("hanging".to_owned()));
}

#[tokio::test]
async fn a_client_reads_states_and_all_pages() {
    let (hub, _seen) = FakeHub::new();
    let ids: Vec<_> = (0..1203).map(|n| format!("run-{n:05}")).collect();
    hub.set_instances(ids.clone());
    let client = Client::new(hub);
    let all = client.query(&InstanceFilter::default()).await.expect("a list");
    assert_eq!(all.iter().map(|state| state.instance_id.clone()).collect::<Vec<_>>(), ids);
    let some = client.query(&InstanceFilter { limit: Some(701), ..Default::default() }).await.expect("a list");
    assert_eq!(some.len(), 701);

    let state = client.wait_for_completion("run-00007").await.expect("an answer").expect("an instance");
    assert!(state.status.is_ended());
    assert_eq!(state.output::<u32>(), Ok(7));
    assert_eq!(state.output::<String>().map_err(|failure| failure.error_type), Err(Failure::SERIALIZATION.to_owned()));
    assert_eq!(client.get("absent").await.expect("an answer"), None);

    let id = client.start("main", &(), StartOptions::default()).await.expect("an id");
    assert_eq!(id.len(), 32, "an id is made where none is given");
    let entity = client.get_entity::<u32>(&EntityId::new("Counter", "a")).await.expect("an answer").expect("an entity");
    assert_eq!((entity.id.to_string().as_str(), entity.state), ("@counter@a", Some(42)));
}
