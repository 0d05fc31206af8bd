//! Clocks that jump: no timer is lost, none is early by the hub's time, and the times in a history never decrease.

use std::time::Duration;

use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_hub::core::{Moment, Request};

use crate::driver::*;

const TEN_YEARS: Duration = Duration::from_hours(10 * 365 * 24);

fn times_never_decrease(hub: &mut Driver, id: &str) {
    let times: Vec<_> = hub.history(id).iter().map(|event| Moment::from(&event.timestamp.unwrap())).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn a_jump_forwards_fires_timers_and_a_jump_back_loses_none() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    let due = hub.clock.plus(Duration::from_mins(1));
    hub.play("a", vec![timer(0, due)]);
    hub.pass(TEN_YEARS);
    let turn = hub.turn_of("a");
    // The orchestration counts from its own time, which is ten years on.
    let now = Moment::from(&turn.request.new_events[0].timestamp.unwrap());
    assert!(now >= due);
    let next = now.plus(Duration::from_mins(1));
    hub.clock = hub.clock.minus(TEN_YEARS);
    hub.finish_turn(&turn, vec![timer(1, next)]);
    assert!(hub.wake.unwrap().since(hub.clock) <= Duration::from_mins(1), "it need not wait for ten years");
    hub.pass(Duration::from_secs(50));
    assert!(hub.turns.is_empty());
    hub.pass(Duration::from_secs(20));
    let turn = hub.turn_of("a");
    assert!(Moment::from(&turn.request.new_events[0].timestamp.unwrap()) >= next, "not early");
    hub.finish_turn(&turn, vec![complete(2)]);
    times_never_decrease(&mut hub, "a");
}

#[test]
fn a_clock_that_is_behind_after_a_restart_does_not_turn_back_histories_or_stop_timers() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    let due = hub.clock.plus(Duration::from_mins(1));
    hub.play("a", vec![timer(0, due)]);
    hub.clock = hub.clock.minus(TEN_YEARS);
    let mut hub = hub.crash();
    hub.worker();
    hub.raise("a", "e").unwrap();
    hub.play("a", vec![]);
    assert!(hub.wake.unwrap().since(hub.clock) <= Duration::from_mins(1));
    hub.pass(Duration::from_secs(70));
    hub.play("a", vec![complete(1)]);
    times_never_decrease(&mut hub, "a");
}

#[test]
fn the_next_execution_of_an_instance_begins_no_earlier_than_the_one_before_ended() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    hub.play("a", vec![]);
    hub.pass(TEN_YEARS);
    hub.raise("a", "e").unwrap();
    let turn = hub.turn_of("a");
    let last = turn.request.new_events[0].timestamp.unwrap();
    hub.clock = hub.clock.minus(TEN_YEARS);
    hub.finish_turn(&turn, vec![end(0, Status::ContinuedAsNew, None)]);
    let next = hub.turn_of("a").request.new_events[0].timestamp.unwrap();
    assert!(Moment::from(&next) >= Moment::from(&last), "{next} is before {last}");
}

/// Symptom: the clock is ten years ahead, somebody schedules an operation for the next minute, the clock is put right, the
/// process dies; the operation then waits for ten years. Cause: a hub that is opened goes on from the latest time that it
/// has shown, and did not look for that at operations that wait for their time. Now it does.
#[test]
fn an_operation_that_was_scheduled_while_the_clock_was_ahead_comes_in_time_after_a_restart() {
    let mut hub = Driver::new();
    hub.pass(TEN_YEARS);
    let at = hub.clock.plus(Duration::from_mins(1));
    hub.ok(Request::SignalEntity(proto::SignalEntityRequest {
        instance_id: "@e@a".into(),
        name: "later".into(),
        scheduled_time: Some(at.to_timestamp()),
        ..Default::default()
    }));
    hub.clock = hub.clock.minus(TEN_YEARS);
    let mut hub = hub.crash();
    hub.worker();
    hub.pass(Duration::from_secs(50));
    assert!(hub.batches.is_empty(), "not early");
    hub.pass(Duration::from_secs(20));
    hub.finish_batch(Some("done"));
}

#[test]
fn a_message_that_came_before_the_turn_began_has_the_time_of_the_turn() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    hub.raise("a", "e").unwrap();
    hub.pass(Duration::from_secs(5));
    hub.worker();
    let turn = hub.play("a", vec![]);
    times_never_decrease(&mut hub, "a");
    assert_eq!(turn.request.new_events, hub.history("a")[..3], "the worker saw what was recorded");
}
