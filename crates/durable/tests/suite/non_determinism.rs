//! Symptom: the code of a running orchestration is changed, or it draws on something that is not recorded, and a replay
//! goes another way than the first run. What is proved: every such difference fails the orchestration, visibly and for
//! good, with a message that shows the recorded, the attempted and the field; nothing of the deviating turn is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use seriatim_durable::proto::HistoryEvent;
use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::{EntityId, Failure, OrchestrationContext, Registry};

use crate::bench::*;

/// Runs `first` until it waits, then replays its history with `second` over one more event.
fn deviate<A, B, FutA, FutB>(first: A, second: B, next: EventType) -> Failure
where
    A: Fn(OrchestrationContext, ()) -> FutA + Send + Sync + 'static,
    B: Fn(OrchestrationContext, ()) -> FutB + Send + Sync + 'static,
    FutA: Future<Output = Result<(), Failure>> + Send + 'static,
    FutB: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let mut registry = Registry::new();
    registry.orchestration("main", first);
    let (mut bench, _) = Bench::start(registry, "main", "null");
    let mut registry = Registry::new();
    registry.orchestration("main", second);
    let new = bench.opened(vec![next]);
    let turn = fresh(&Arc::new(registry)).turn(&bench.past, &new);
    let failure = failure(&turn);
    let sent = lines(&turn);
    let beside_unlocks = sent.iter().filter(|line| !line.contains(" unlock ")).count();
    assert_eq!(beside_unlocks, 1, "nothing of the deviating turn may be sent: {sent:?}");
    assert_eq!(failure.error_type, Failure::NON_DETERMINISTIC, "{failure}");
    assert!(failure.non_retriable && turn.ended);
    let records = bench.past.iter().filter(|event| event.event_id > 0);
    assert!(turn.actions[0].id > records.map(|event| event.event_id).max().unwrap_or(0), "no id is used twice");
    failure
}

/// Asserts what the message shows.
fn shows(failure: &Failure, difference: &str, field: &str) {
    assert!(failure.message.contains(difference), "expected `{difference}` in `{}`", failure.message);
    assert_eq!(failure.properties["field"], field);
    assert!(failure.message.contains("instance \"instance\""), "{}", failure.message);
}

macro_rules! code {
    (|$ctx:ident| $body:expr) => {
        |$ctx: OrchestrationContext, (): ()| async move {
            $body;
            $ctx.external_event::<()>("never").await
        }
    };
}

/// Code that asks for nothing.
async fn waits_only(ctx: OrchestrationContext, (): ()) -> Result<(), Failure> {
    ctx.external_event::<()>("never").await
}

fn a() -> EntityId {
    EntityId::new("sequence", "a")
}

fn b() -> EntityId {
    EntityId::new("sequence", "b")
}

#[test]
fn another_name() {
    let failure = deviate(
        code!(|ctx| drop(ctx.call_activity::<()>("scan", &()))),
        code!(|ctx| drop(ctx.call_activity::<()>("read", &()))),
        completed(1, "null"),
    );
    shows(&failure, r#"at action 1: recorded activity "scan", attempted activity "read"; the name differs"#, "name");
    assert_eq!(failure.properties["recorded"], r#"activity "scan""#);
    assert_eq!(failure.properties["attempted"], r#"activity "read""#);
}

#[test]
fn another_kind() {
    let failure = deviate(
        code!(|ctx| drop(ctx.call_activity::<()>("scan", &()))),
        code!(|ctx| drop(ctx.timer(Duration::from_secs(1)))),
        completed(1, "null"),
    );
    shows(&failure, r#"recorded activity "scan", attempted a timer; the kind differs"#, "kind");
}

#[test]
fn an_action_that_the_code_no_longer_makes() {
    let failure = deviate(code!(|ctx| drop(ctx.call_activity::<()>("scan", &()))), waits_only, completed(1, "null"));
    shows(&failure, r#"recorded activity "scan", attempted nothing"#, "presence");
}

#[test]
fn an_action_that_history_does_not_have() {
    let failure = deviate(waits_only, code!(|ctx| drop(ctx.call_activity::<()>("scan", &()))), raised("any", "null"));
    shows(&failure, r#"recorded nothing, attempted activity "scan""#, "presence");
}

#[test]
fn an_end_where_history_goes_on() {
    let failure = deviate(
        code!(|ctx| drop(ctx.timer(Duration::from_secs(1)))),
        |_: OrchestrationContext, (): ()| async move { Ok(()) },
        fired(1),
    );
    shows(&failure, "recorded a timer, attempted the end of the orchestration as COMPLETED; the kind differs", "kind");

    let failure = deviate(
        waits_only,
        |_: OrchestrationContext, (): ()| async move { Err(Failure::new("Broken", "")) },
        raised("any", "null"),
    );
    shows(&failure, "recorded nothing, attempted the end of the orchestration as FAILED", "presence");
}

#[test]
fn another_target() {
    let failure = deviate(
        code!(|ctx| ctx.signal_entity(&a(), "commit", &())?),
        code!(|ctx| ctx.signal_entity(&b(), "commit", &())?),
        raised("any", "null"),
    );
    shows(&failure, r#"recorded signal of operation "commit" to entity @sequence@a, attempted signal"#, "entity");

    let failure = deviate(
        code!(|ctx| drop(ctx.call_sub_orchestration::<()>("child", Some("x"), &()))),
        code!(|ctx| drop(ctx.call_sub_orchestration::<()>("child", Some("y"), &()))),
        raised("any", "null"),
    );
    shows(&failure, r#"with instance id "x", attempted sub-orchestration "child" with instance id "y""#, "instance id");

    let failure = deviate(
        code!(|ctx| ctx.send_event("x", "go", &())?),
        code!(|ctx| ctx.send_event("y", "go", &())?),
        raised("any", "null"),
    );
    shows(&failure, r#"recorded event "go" to instance "x", attempted event "go" to instance "y""#, "instance id");
}

#[test]
fn another_operation_or_lock_set() {
    let failure = deviate(
        code!(|ctx| drop(ctx.call_entity::<()>(&a(), "reserve", &()))),
        code!(|ctx| drop(ctx.call_entity::<()>(&a(), "commit", &()))),
        raised("any", "null"),
    );
    shows(&failure, r#"call of operation "commit" on entity @sequence@a; the operation differs"#, "operation");

    let failure = deviate(
        code!(|ctx| std::mem::forget(ctx.lock_entities(&[a(), b()]))),
        code!(|ctx| std::mem::forget(ctx.lock_entities(&[a()]))),
        raised("any", "null"),
    );
    shows(&failure, "request to lock @sequence@a, @sequence@b", "set of locked entities");
}

#[test]
fn what_may_change_is_no_difference() {
    let mut registry = Registry::new();
    registry.orchestration(
        "main",
        code!(|ctx| {
            drop(ctx.call_activity::<()>("scan", &1));
            drop(ctx.timer(Duration::from_secs(1)));
            ctx.send_event("x", "Go", &())?;
        }),
    );
    let (mut bench, _) = Bench::start(registry, "main", "null");
    let mut registry = Registry::new();
    registry.orchestration(
        "main",
        code!(|ctx| {
            // Another input, another wait, another spelling.
            drop(ctx.call_activity::<()>("scan", &2));
            drop(ctx.timer(Duration::from_secs(9)));
            ctx.send_event("x", "GO", &())?;
        }),
    );
    let new = bench.opened(vec![raised("any", "null")]);
    let turn = fresh(&Arc::new(registry)).turn(&bench.past, &new);
    assert!(!turn.ended && turn.actions.is_empty(), "{turn:?}");
}

#[test]
fn a_difference_deep_in_history_is_found_where_it_is() {
    // The same code, but the third call depends on something that is not recorded.
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let mut registry = Registry::new();
    registry.orchestration("main", |ctx: OrchestrationContext, (): ()| async move {
        ctx.call_activity::<()>("one", &()).await?;
        ctx.call_activity::<()>("two", &()).await?;
        let name = format!("three-{}", CALLS.fetch_add(1, Ordering::SeqCst));
        ctx.call_activity::<()>(&name, &()).await
    });
    let registry = Arc::new(registry);
    let mut bench = Bench::new(Registry::new());
    let mut live = fresh(&registry);
    for event in [started("main", "null"), completed(1, "null"), completed(2, "null")] {
        let new = bench.opened(vec![event]);
        let turn = live.turn(&bench.past.clone(), &new);
        bench.commit(new, &turn);
    }
    let new = bench.opened(vec![completed(3, "null")]);
    let failure = failure(&fresh(&registry).turn(&bench.past, &new));
    shows(&failure, r#"at action 3: recorded activity "three-0", attempted activity "three-1""#, "name");
}

#[test]
fn locks_that_history_holds_are_released_when_the_replay_fails() {
    let mut registry = Registry::new();
    registry.orchestration("main", |ctx: OrchestrationContext, (): ()| async move {
        let _section = ctx.lock_entities(&[a(), b()]).await?;
        ctx.call_activity::<()>("inside", &()).await
    });
    let (mut bench, turn) = Bench::start(registry, "main", "null");
    bench.turn(vec![granted(&message_id(&turn.actions[0]))]);
    let mut registry = Registry::new();
    registry.orchestration("main", |ctx: OrchestrationContext, (): ()| async move {
        ctx.call_activity::<()>("before", &()).await
    });
    let new = bench.opened(vec![completed(2, "null")]);
    let turn = fresh(&Arc::new(registry)).turn(&bench.past, &new);
    let expected = ["3 unlock @sequence@a", "4 unlock @sequence@b", "5 end FAILED  NonDeterministicError"];
    assert_eq!(lines(&turn), expected);
}

#[test]
fn waiting_for_something_that_is_not_durable_is_found() {
    // A channel of the code's own, filled from outside between two turns.
    let (send, receive) = futures::channel::oneshot::channel::<()>();
    let receive = std::sync::Mutex::new(Some(receive));
    let mut registry = Registry::new();
    registry.orchestration("main", move |_: OrchestrationContext, (): ()| {
        let receive = receive.lock().expect("not poisoned").take().expect("started once");
        async move { receive.await.map_err(|error| Failure::from_error(&error)) }
    });
    let mut execution = fresh(&Arc::new(registry));
    let mut bench = Bench::new(Registry::new());
    let new = bench.opened(vec![started("main", "null")]);
    let turn = execution.turn(&[], &new);
    bench.commit(new, &turn);
    send.send(()).expect("the code waits");
    let new = bench.opened(vec![raised("any", "null")]);
    let failure = failure(&execution.next_turn(bench.past.len(), &new));
    assert_eq!(failure.error_type, Failure::NON_DETERMINISTIC);
    assert!(failure.message.contains("not a durable task"), "{failure}");
}

#[test]
fn a_busy_loop_ends_the_orchestration_instead_of_the_worker() {
    let mut registry = Registry::new();
    registry.orchestration("main", |_: OrchestrationContext, (): ()| async move {
        std::future::poll_fn::<Result<(), Failure>, _>(|cx| {
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await
    });
    let (_, turn) = Bench::start(registry, "main", "null");
    assert_eq!(failure(&turn).error_type, Failure::NON_DETERMINISTIC);
}

#[test]
fn a_copy_that_does_not_fit_says_so() {
    let mut registry = Registry::new();
    registry.orchestration("main", code!(|ctx| drop(ctx.call_activity::<()>("scan", &()))));
    let registry = Arc::new(registry);
    let mut bench = Bench::new(Registry::new());
    let mut live = fresh(&registry);
    let new = bench.opened(vec![started("main", "null")]);
    let turn = live.turn(&[], &new);
    bench.commit(new, &turn);
    assert!(live.fits(&bench.past) && live.continues(bench.past.len()));
    // Another worker took a turn meanwhile: the tail must be replayed, and the length alone proves nothing.
    let new = bench.opened(vec![raised("x", "null")]);
    bench.commit(new, &seriatim_durable::replay::Turn { actions: vec![], custom_status: None, ended: false });
    assert!(live.fits(&bench.past) && !live.continues(bench.past.len()));
    // Another history of the same instance: nothing of the copy is right.
    let mut other: Vec<HistoryEvent> = bench.past.clone();
    other[1] = event(-1, EPOCH + 99, started("main", "null"));
    assert!(!live.fits(&other) && !live.fits(&bench.past[..1]));
}
