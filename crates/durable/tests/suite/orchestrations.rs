//! What an orchestrator can do, feature by feature, against hand-made histories: the actions that come out, and what
//! the code sees when history answers.

use std::time::Duration;

use crate::bench::*;
use futures::future::{self, Either};
use seriatim_durable::proto::orchestrator_action::OrchestratorActionType as Action;
use seriatim_durable::{
    ActivityOptions, Failure, OrchestrationContext, Registry, RetryPolicy, SubOrchestrationOptions,
};

/// A registry with one orchestration named `main`.
fn registry<F, Fut, In, Out>(function: F) -> Registry
where
    F: Fn(OrchestrationContext, In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, Failure>> + Send + 'static,
    In: serde::de::DeserializeOwned,
    Out: serde::Serialize,
{
    let mut registry = Registry::new();
    registry.orchestration("main", function);
    registry
}

#[test]
fn an_activity_is_called_and_its_result_comes_back() {
    let (mut bench, turn) = Bench::start(
        registry(|ctx: OrchestrationContext, files: Vec<String>| async move {
            let rows: u64 = ctx.call_activity("scan", &files).await?;
            Ok(rows * 2)
        }),
        "main",
        r#"["a","b"]"#,
    );
    assert_eq!(lines(&turn), [r#"1 activity scan(["a","b"])"#]);
    assert!(!turn.ended);
    let turn = bench.turn(vec![completed(1, "21")]);
    assert_eq!(lines(&turn), ["2 end COMPLETED 42"]);
    assert!(turn.ended);
}

#[test]
fn a_failed_activity_arrives_whole_and_can_be_handled() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        match ctx.call_activity::<()>("scan", &()).await {
            Err(failure) if failure.is("SourceChanged") => Ok(failure.properties["path"].clone()),
            other => panic!("unexpected {other:?}"),
        }
    };
    let (mut bench, _) = Bench::start(registry(code), "main", "null");
    let failure = Failure::new("SourceChanged", "it is newer now").with_property("path", "a.parquet");
    assert_eq!(lines(&bench.turn(vec![failed(1, failure)])), [r#"2 end COMPLETED "a.parquet""#]);
}

#[test]
fn an_unhandled_failure_a_panic_and_a_wrong_input_fail_the_orchestration() {
    let (_, turn) = Bench::start(
        registry(|_, (): ()| async move { Err::<(), _>(Failure::new("Broken", "as told")) }),
        "main",
        "null",
    );
    assert_eq!(failure(&turn), Failure::new("Broken", "as told"));

    let (_, turn) = Bench::start(
        registry(|_, n: u32| async move {
            assert!(n > 9, "n is {n}");
            Ok(())
        }),
        "main",
        "3",
    );
    assert_eq!(failure(&turn).error_type, Failure::PANIC);
    assert!(failure(&turn).message.contains("n is 3"), "{}", failure(&turn));

    let (_, turn) = Bench::start(registry(|_, _: u32| async move { Ok(()) }), "main", r#""three""#);
    assert_eq!(failure(&turn).error_type, Failure::SERIALIZATION);
    assert!(failure(&turn).message.contains("orchestration \"main\""), "{}", failure(&turn));

    let (_, turn) = Bench::start(Registry::new(), "absent", "null");
    assert_eq!(failure(&turn).error_type, Failure::ORCHESTRATOR_NOT_REGISTERED);
}

#[test]
fn work_is_asked_for_when_the_task_is_made_and_all_waits_for_every_task() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        let tasks = (0..3).map(|n| ctx.call_activity::<u32>("scan", &n)).collect();
        ctx.all(tasks).await
    };
    let (mut bench, turn) = Bench::start(registry(code), "main", "null");
    assert_eq!(lines(&turn), ["1 activity scan(0)", "2 activity scan(1)", "3 activity scan(2)"]);
    assert_eq!(lines(&bench.turn(vec![completed(3, "30")])), Vec::<String>::new());
    let turn = bench.turn(vec![completed(1, "10"), completed(2, "20")]);
    assert_eq!(lines(&turn), ["4 end COMPLETED [10,20,30]"]);
}

#[test]
fn all_gives_the_first_failure_of_history_after_everything_has_ended() {
    let code = |fast: bool| {
        move |ctx: OrchestrationContext, (): ()| async move {
            let tasks = (0..3).map(|n| ctx.call_activity::<u32>("scan", &n)).collect();
            if fast { ctx.all_or_first_failure(tasks).await } else { ctx.all(tasks).await }
        }
    };
    let (mut bench, _) = Bench::start(registry(code(false)), "main", "null");
    let turn = bench.turn(vec![failed(3, Failure::new("Late", "")), failed(1, Failure::new("Early", ""))]);
    assert!(turn.actions.is_empty());
    assert_eq!(failure(&bench.turn(vec![completed(2, "1")])).error_type, "Late");

    let (mut bench, _) = Bench::start(registry(code(true)), "main", "null");
    assert_eq!(failure(&bench.turn(vec![failed(3, Failure::new("Late", ""))])).error_type, "Late");
}

#[test]
fn a_race_is_won_by_who_is_first_in_history() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        let approval = ctx.external_event::<String>("Approve");
        let timer = ctx.timer(Duration::from_mins(1));
        match ctx.race(approval, timer).await {
            Either::Left(name) => name,
            Either::Right(()) => Ok("nobody".to_owned()),
        }
    };
    let (mut bench, turn) = Bench::start(registry(code), "main", "null");
    assert_eq!(lines(&turn), ["1 timer +61"]);
    let turn = bench.turn(vec![raised("approve", r#""ada""#), fired(1)]);
    assert_eq!(lines(&turn), [r#"2 end COMPLETED "ada""#]);

    let (mut bench, _) = Bench::start(registry(code), "main", "null");
    let turn = bench.turn(vec![fired(1), raised("approve", r#""ada""#)]);
    assert_eq!(lines(&turn), [r#"2 end COMPLETED "nobody""#]);
}

#[test]
fn events_are_kept_served_in_order_and_never_lost_to_a_dropped_waiter() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        let first: u32 = ctx.external_event("n").await?;
        // This waiter loses its race, and must not swallow the next event.
        let loser = ctx.external_event::<u32>("n");
        let timer = ctx.timer(Duration::from_secs(1));
        let won = matches!(future::select(loser, timer).await, Either::Left(_));
        let second: u32 = ctx.external_event("n").await?;
        Ok((first, won, second))
    };
    let (mut bench, turn) = Bench::start(registry(code), "main", "null");
    assert!(turn.actions.is_empty());
    let turn = bench.turn(vec![raised("N", "1")]);
    assert_eq!(lines(&turn), ["1 timer +3"]);
    bench.turn(vec![fired(1)]);
    assert_eq!(lines(&bench.turn(vec![raised("n", "2"), raised("n", "3")])), ["2 end COMPLETED [1,false,2]"]);
}

#[test]
fn an_event_that_comes_when_all_waiters_have_left_is_kept() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        drop(ctx.external_event::<u32>("n"));
        ctx.call_activity::<()>("wait", &()).await?;
        ctx.external_event::<u32>("n").await
    };
    let (mut bench, _) = Bench::start(registry(code), "main", "null");
    bench.turn(vec![raised("n", "7")]);
    assert_eq!(lines(&bench.turn(vec![completed(1, "null")])), ["2 end COMPLETED 7"]);
}

#[test]
fn an_event_that_its_waiter_never_looked_at_goes_to_the_next() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        let unlooked = ctx.external_event::<u32>("n");
        ctx.call_activity::<()>("wait", &()).await?;
        drop(unlooked);
        ctx.external_event::<u32>("n").await
    };
    let (mut bench, _) = Bench::start(registry(code), "main", "null");
    bench.turn(vec![raised("n", "7"), raised("n", "8")]);
    assert_eq!(lines(&bench.turn(vec![completed(1, "null")])), ["2 end COMPLETED 7"]);
}

#[test]
fn retries_wait_with_durable_timers_and_stop_at_the_last_attempt() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        let retry = Some(RetryPolicy::exponential(3, Duration::from_secs(10), Duration::from_secs(15)));
        let options = ActivityOptions { retry, ..Default::default() };
        ctx.call_activity_with::<u32>("scan", &7, options).await
    };
    let (mut bench, turn) = Bench::start(registry(code), "main", "null");
    assert_eq!(lines(&turn), ["1 activity scan(7)"]);
    assert_eq!(lines(&bench.turn(vec![failed(1, Failure::new("Busy", "1"))])), ["2 timer +12"]);
    assert_eq!(lines(&bench.turn(vec![fired(2)])), ["3 activity scan(7)"]);
    assert_eq!(lines(&bench.turn(vec![failed(3, Failure::new("Busy", "2"))])), ["4 timer +19"]);
    assert_eq!(lines(&bench.turn(vec![fired(4)])), ["5 activity scan(7)"]);
    assert_eq!(failure(&bench.turn(vec![failed(5, Failure::new("Busy", "3"))])).message, "3");

    let (mut bench, _) = Bench::start(registry(code), "main", "null");
    let turn = bench.turn(vec![failed(1, Failure::non_retriable("Bad", "no use"))]);
    assert_eq!(failure(&turn).error_type, "Bad");
}

#[test]
fn sub_orchestrations_have_ids_of_their_own_and_are_retried_under_new_ones() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        let fixed: u32 = ctx.call_sub_orchestration("child", Some("child-1"), &1).await?;
        let retry = Some(RetryPolicy::fixed(2, Duration::from_secs(5)));
        let options = SubOrchestrationOptions { retry, ..Default::default() };
        let derived: u32 = ctx.call_sub_orchestration_with("child", &2, options).await?;
        Ok(fixed + derived)
    };
    let (mut bench, turn) = Bench::start(registry(code), "main", "null");
    assert_eq!(lines(&turn), ["1 sub child(1) as child-1"]);
    let first = lines(&bench.turn(vec![sub_completed(1, "10")]));
    assert!(first[0].starts_with("2 sub child(2) as instance:0002:"), "{first:?}");
    assert_eq!(lines(&bench.turn(vec![sub_failed(2, Failure::new("Busy", ""))])), ["3 timer +8"]);
    let second = lines(&bench.turn(vec![fired(3)]));
    assert!(second[0].starts_with("4 sub child(2) as instance:0004:"), "{second:?}");
    assert_eq!(lines(&bench.turn(vec![sub_completed(4, "5")])), ["5 end COMPLETED 15"]);
}

#[test]
fn time_guids_and_custom_status_are_those_of_history() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        let first = (ctx.now(), ctx.new_guid());
        ctx.set_custom_status("scanning")?;
        ctx.call_activity::<()>("scan", &()).await?;
        assert!(!ctx.is_replaying());
        let now = ctx.now().duration_since(first.0).expect("time goes on").as_secs();
        Ok((now, first.1 == ctx.new_guid()))
    };
    let (mut bench, turn) = Bench::start(registry(code), "main", "null");
    assert_eq!(turn.custom_status.as_deref(), Some(r#""scanning""#));
    bench.turn(vec![]);
    let turn = bench.turn(vec![completed(1, "null")]);
    assert_eq!(lines(&turn), ["2 end COMPLETED [2,false]"]);
    assert_eq!(turn.custom_status.as_deref(), Some(r#""scanning""#));
}

#[test]
fn continue_as_new_carries_over_the_events_that_nobody_waited_for() {
    let code = |keep: bool| {
        move |ctx: OrchestrationContext, n: u32| async move {
            let more: u32 = ctx.external_event("more").await?;
            ctx.continue_as_new(&(n + more), keep)
        }
    };
    let carried = |keep| {
        let (mut bench, _) = Bench::start(registry(code(keep)), "main", "1");
        let turn =
            bench.turn(vec![raised("Other", "0"), raised("more", "2"), raised("more", "3"), raised("other", "4")]);
        assert_eq!(lines(&turn), ["1 end CONTINUED_AS_NEW 3"]);
        assert!(turn.ended);
        let Some(Action::CompleteOrchestration(end)) = &turn.actions[0].orchestrator_action_type else { panic!() };
        let events = end.carryover_events.clone();
        events.into_iter().map(|event| event.event_type.expect("an event has a kind")).collect::<Vec<_>>()
    };
    assert_eq!(carried(true), [raised("Other", "0"), raised("more", "3"), raised("other", "4")]);
    assert_eq!(carried(false), []);
}

#[test]
fn continue_as_new_takes_effect_when_the_code_waits_and_a_failure_wins() {
    let waits = |ctx: OrchestrationContext, (): ()| async move {
        ctx.continue_as_new(&(), false)?;
        ctx.external_event::<()>("never").await
    };
    let (_, turn) = Bench::start(registry(waits), "main", "null");
    assert_eq!(lines(&turn), ["1 end CONTINUED_AS_NEW null"]);

    let fails = |ctx: OrchestrationContext, (): ()| async move {
        ctx.continue_as_new(&(), false)?;
        Err::<(), _>(Failure::new("Broken", ""))
    };
    let (_, turn) = Bench::start(registry(fails), "main", "null");
    assert_eq!(failure(&turn).error_type, "Broken");
}

#[test]
fn a_suspended_instance_keeps_its_inputs_until_it_is_resumed() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        let a: u32 = ctx.call_activity("a", &()).await?;
        let b: u32 = ctx.call_activity("b", &()).await?;
        Ok(a + b)
    };
    let (mut bench, _) = Bench::start(registry(code), "main", "null");
    // The record of `b` comes after the suspension in history, and must still confirm it.
    let turn = bench.turn(vec![completed(1, "1"), suspended()]);
    assert_eq!(lines(&turn), ["2 activity b(null)"]);
    assert!(bench.turn(vec![completed(2, "2")]).actions.is_empty());
    assert!(bench.turn(vec![raised("unrelated", "0")]).actions.is_empty());
    assert_eq!(lines(&bench.turn(vec![resumed()])), ["3 end COMPLETED 3"]);
}

#[test]
fn a_terminated_instance_ends_at_once_even_when_suspended_or_continuing() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        ctx.external_event::<()>("go").await?;
        ctx.continue_as_new(&(), true)
    };
    let (mut bench, _) = Bench::start(registry(code), "main", "null");
    bench.turn(vec![suspended()]);
    assert_eq!(
        lines(&bench.turn(vec![raised("go", "null"), terminated(r#""enough""#)])),
        [r#"1 end TERMINATED "enough""#]
    );

    let (mut bench, _) = Bench::start(registry(code), "main", "null");
    let turn = bench.turn(vec![raised("go", "null"), terminated(r#""enough""#), raised("go", "null")]);
    assert_eq!(lines(&turn), [r#"1 end TERMINATED "enough""#]);
}

#[test]
fn events_are_sent_and_outcomes_that_come_twice_or_unasked_change_nothing() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        ctx.send_event("other", "Done", &[1, 2])?;
        let timer = ctx.timer(Duration::ZERO);
        let a: u32 = ctx.call_activity("a", &()).await?;
        timer.await;
        Ok(a)
    };
    let (mut bench, turn) = Bench::start(registry(code), "main", "null");
    assert_eq!(lines(&turn), ["1 event Done([1,2]) to other", "2 timer +1", "3 activity a(null)"]);
    // Wrong kinds, unknown ids, and a second answer.
    let noise = vec![completed(2, "9"), fired(3), completed(77, "9"), completed(3, "1"), completed(3, "2")];
    assert!(bench.turn(noise).actions.is_empty());
    assert_eq!(lines(&bench.turn(vec![fired(2)])), ["4 end COMPLETED 1"]);
}

#[test]
fn what_was_asked_for_before_the_end_is_still_sent() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        drop(ctx.call_activity::<()>("notify", &()));
        Ok(())
    };
    let (_, turn) = Bench::start(registry(code), "main", "null");
    assert_eq!(lines(&turn), ["1 activity notify(null)", "2 end COMPLETED null"]);
}

#[test]
fn ten_thousand_tasks_are_polled_once_each_and_once_more_when_they_end() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    const TASKS: i32 = 10_000;
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let mut registry = Registry::new();
    registry.orchestration("main", move |ctx: OrchestrationContext, (): ()| {
        let polls = Arc::clone(&counted);
        async move {
            let tasks: Vec<_> = (0..TASKS).map(|n| ctx.call_activity::<i32>("scan", &n)).collect();
            let mut all = Box::pin(ctx.all(tasks));
            let outputs = future::poll_fn(|cx| {
                polls.fetch_add(1, Ordering::Relaxed);
                if polls.load(Ordering::Relaxed) > 10 * TASKS as usize {
                    Poll::Ready(None)
                } else {
                    all.as_mut().poll(cx).map(Some)
                }
            })
            .await;
            outputs.expect("the join asks for no more polls than events").map(|outputs| outputs.len())
        }
    });
    let registry = Arc::new(registry);
    let mut execution = fresh(&registry);
    let mut bench = Bench::new(Registry::new());
    let new = bench.opened(vec![started("main", "null")]);
    let turn = execution.turn(&[], &new);
    assert_eq!(turn.actions.len(), TASKS as usize);
    bench.commit(new, &turn);
    for id in 1..=TASKS {
        let new = bench.opened(vec![completed(id, "1")]);
        let past = bench.past.len();
        assert!(execution.continues(past));
        let turn = execution.next_turn(past, &new);
        bench.commit(new, &turn);
        if id == TASKS {
            assert_eq!(lines(&turn), ["10001 end COMPLETED 10000"]);
        }
    }
    let sticky = polls.swap(0, Ordering::Relaxed);
    assert!(sticky <= 2 * TASKS as usize + 10, "{sticky} polls for {TASKS} tasks");
}
