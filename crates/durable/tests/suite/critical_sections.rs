//! Calls, signals and locks of entities: the messages that go out, and the rules of a critical section.

use seriatim_durable::{Either, EntityId, Failure, OrchestrationContext, Registry};
use std::time::Duration;

use crate::bench::*;

fn id(key: &str) -> EntityId {
    EntityId::new("Sequence", key)
}

fn registry<F, Fut, Out>(function: F) -> Registry
where
    F: Fn(OrchestrationContext, ()) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, Failure>> + Send + 'static,
    Out: serde::Serialize,
{
    let mut registry = Registry::new();
    registry.orchestration("main", function);
    registry
}

#[test]
fn an_entity_is_called_and_answers() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        ctx.signal_entity(&id("a"), "prepare", &1)?;
        match ctx.call_entity::<u32>(&id("a"), "reserve", &5).await {
            Ok(base) => Ok(base),
            Err(failure) => Err(failure),
        }
    };
    let (mut bench, turn) = Bench::start(registry(code), "main", "null");
    assert_eq!(lines(&turn), ["1 signal @sequence@a.prepare(1)", "2 call @sequence@a.reserve(5)"]);
    let turn = bench.turn(vec![entity_completed(&message_id(&turn.actions[1]), "100")]);
    assert_eq!(lines(&turn), ["3 end COMPLETED 100"]);

    let (mut bench, turn) = Bench::start(registry(code), "main", "null");
    let request = message_id(&turn.actions[1]);
    assert_eq!(failure(&bench.turn(vec![entity_failed(&request, Failure::new("Full", ""))])).error_type, "Full");
}

#[test]
fn an_answer_finds_its_call_by_the_recorded_id() {
    // A hub may record another request id than today's code derives: the recorded one counts.
    let code = |ctx: OrchestrationContext, (): ()| async move { ctx.call_entity::<u32>(&id("a"), "reserve", &5).await };
    let registry = std::sync::Arc::new(registry(code));
    let mut bench = Bench::new(Registry::new());
    let new = bench.opened(vec![started("main", "null")]);
    let mut turn = fresh(&registry).turn(&[], &new);
    let text = format!("{:?}", turn.actions[0]);
    let derived = message_id(&turn.actions[0]);
    assert!(text.contains(&derived));
    if let Some(seriatim_durable::proto::orchestrator_action::OrchestratorActionType::SendEntityMessage(message)) =
        &mut turn.actions[0].orchestrator_action_type
        && let Some(seriatim_durable::proto::send_entity_message_action::EntityMessageType::EntityOperationCalled(e)) =
            &mut message.entity_message_type
    {
        e.request_id = "recorded".to_owned();
    }
    bench.commit(new, &turn);
    let new = bench.opened(vec![entity_completed("recorded", "7")]);
    assert_eq!(lines(&fresh(&registry).turn(&bench.past, &new)), ["2 end COMPLETED 7"]);
}

#[test]
fn locks_are_sorted_distinct_and_released_by_the_guard() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        let section = ctx.lock_entities(&[id("b"), id("a"), id("b")]).await?;
        let base: u32 = ctx.call_entity(&id("b"), "reserve", &5).await?;
        section.release();
        ctx.call_activity::<()>("after", &()).await?;
        Ok(base)
    };
    let (mut bench, turn) = Bench::start(registry(code), "main", "null");
    assert_eq!(lines(&turn), ["1 lock @sequence@a @sequence@b at 0"]);
    let section = message_id(&turn.actions[0]);
    let turn = bench.turn(vec![granted(&section)]);
    assert_eq!(lines(&turn), ["2 call @sequence@b.reserve(5)"]);
    let turn = bench.turn(vec![entity_completed(&message_id(&turn.actions[0]), "1")]);
    assert_eq!(lines(&turn), ["3 unlock @sequence@a", "4 unlock @sequence@b", "5 activity after(null)"]);
    assert_eq!(message_id(&turn.actions[0]), section);
    assert_eq!(lines(&bench.turn(vec![completed(5, "null")])), ["6 end COMPLETED 1"]);
}

#[test]
fn locks_are_released_whatever_way_the_orchestration_ends() {
    let unlocks = ["2 unlock @sequence@a"];
    // By a failure inside, by a panic inside, by continue-as-new inside, by termination.
    let fails = |ctx: OrchestrationContext, (): ()| async move {
        let _section = ctx.lock_entities(&[id("a")]).await?;
        Err::<(), _>(Failure::new("Broken", ""))
    };
    let panics = |ctx: OrchestrationContext, (): ()| async move {
        let section = ctx.lock_entities(&[id("a")]).await?;
        assert!(format!("{section:?}").is_empty(), "boom");
        Ok(())
    };
    let continues = |ctx: OrchestrationContext, (): ()| async move {
        let _section = ctx.lock_entities(&[id("a")]).await?;
        ctx.continue_as_new(&(), false)?;
        ctx.external_event::<()>("never").await
    };
    let waits = |ctx: OrchestrationContext, (): ()| async move {
        let _section = ctx.lock_entities(&[id("a")]).await?;
        ctx.external_event::<()>("never").await
    };
    let ends = |(mut bench, turn): (Bench, seriatim_durable::replay::Turn), extra| {
        let mut events = vec![granted(&message_id(&turn.actions[0]))];
        events.extend(extra);
        lines(&bench.turn(events))
    };
    let start = |registry| Bench::start(registry, "main", "null");
    assert_eq!(ends(start(registry(fails)), None), [unlocks[0], "3 end FAILED  Broken"]);
    assert_eq!(ends(start(registry(panics)), None), [unlocks[0], "3 end FAILED  Panic"]);
    assert_eq!(ends(start(registry(continues)), None), [unlocks[0], "3 end CONTINUED_AS_NEW null"]);
    assert_eq!(ends(start(registry(waits)), Some(terminated("null"))), [unlocks[0], "3 end TERMINATED null"]);
    // Even one that waits for its locks still: the hub must not grant them to the dead.
    let (mut bench, _) = start(registry(waits));
    assert_eq!(lines(&bench.turn(vec![terminated("null")])), [unlocks[0], "3 end TERMINATED null"]);
}

#[test]
fn a_lock_request_that_was_given_up_is_released_when_it_is_granted() {
    let code = |ctx: OrchestrationContext, (): ()| async move {
        let request = ctx.lock_entities(&[id("a")]);
        let patience = ctx.timer(Duration::from_secs(5));
        if let Either::Left(section) = ctx.race(request, patience).await {
            drop(section?);
            return Ok("locked");
        }
        // Outside of any section again: everything is allowed.
        ctx.call_entity::<()>(&id("a"), "get", &()).await?;
        Ok("gave up")
    };
    let (mut bench, turn) = Bench::start(registry(code), "main", "null");
    let section = message_id(&turn.actions[0]);
    let call = bench.turn(vec![fired(2)]);
    assert_eq!(lines(&call), ["3 call @sequence@a.get(null)"]);
    assert_eq!(lines(&bench.turn(vec![granted(&section)])), ["4 unlock @sequence@a"]);
    let turn = bench.turn(vec![entity_completed(&message_id(&call.actions[0]), "null")]);
    assert_eq!(lines(&turn), [r#"5 end COMPLETED "gave up""#]);
}

#[test]
fn the_rules_of_a_critical_section_are_checked_and_broken_ones_send_nothing() {
    fn broken<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> String {
        let failure = outcome.expect_err("the rule is checked");
        assert_eq!(failure.error_type, Failure::CRITICAL_SECTION);
        assert!(failure.non_retriable);
        failure.message
    }
    let code = |ctx: OrchestrationContext, (): ()| async move {
        let mut told = vec![broken(ctx.lock_entities(&[]).await)];
        let request = ctx.lock_entities(&[id("a"), id("b")]);
        told.push(broken(ctx.call_entity::<()>(&id("a"), "get", &()).await));
        let section = request.await?;
        told.push(broken(ctx.lock_entities(&[id("c")]).await));
        told.push(broken(ctx.call_sub_orchestration::<()>("child", None, &()).await));
        told.push(broken(ctx.call_entity::<()>(&id("c"), "get", &()).await));
        told.push(broken(ctx.signal_entity(&id("a"), "get", &())));
        let running = ctx.call_entity::<()>(&id("a"), "get", &());
        told.push(broken(ctx.call_entity::<()>(&id("a"), "get", &()).await));
        running.await?;
        // Allowed: the same entity again, signals to others, activities.
        ctx.call_entity::<()>(&id("a"), "get", &()).await?;
        ctx.signal_entity(&id("c"), "get", &())?;
        ctx.call_activity::<()>("inside", &()).await?;
        section.release();
        Ok(told.len())
    };
    let (mut bench, turn) = Bench::start(registry(code), "main", "null");
    assert_eq!(lines(&turn), ["1 lock @sequence@a @sequence@b at 0"]);
    let turn = bench.turn(vec![granted(&message_id(&turn.actions[0]))]);
    assert_eq!(lines(&turn), ["2 call @sequence@a.get(null)"]);
    let turn = bench.turn(vec![entity_completed(&message_id(&turn.actions[0]), "null")]);
    assert_eq!(lines(&turn), ["3 call @sequence@a.get(null)"]);
    let turn = bench.turn(vec![entity_completed(&message_id(&turn.actions[0]), "null")]);
    assert_eq!(lines(&turn), ["4 signal @sequence@c.get(null)", "5 activity inside(null)"]);
    let turn = bench.turn(vec![completed(5, "null")]);
    assert_eq!(lines(&turn), ["6 unlock @sequence@a", "7 unlock @sequence@b", "8 end COMPLETED 7"]);
}
