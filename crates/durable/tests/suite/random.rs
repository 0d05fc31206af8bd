//! Random orchestrations against a random world. Whatever a program does and in whatever order and grouping history
//! answers: a copy that lives through all turns, a copy that is shown the history, and a replay of every prefix give the
//! same actions. The bench compares the three at every turn; this test adds copies that begin in the middle and live on.
//! `PROPTEST_RNG_SEED` replays a run, `PROPTEST_CASES` sets how many there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::proto::orchestrator_action::OrchestratorActionType as Action;
use seriatim_durable::proto::send_entity_message_action::EntityMessageType as Message;
use seriatim_durable::replay::Turn;
use seriatim_durable::{ActivityOptions, Either, EntityId, Failure, OrchestrationContext, Registry, RetryPolicy};

use crate::bench::*;

/// A step of a random program. Each leaves a line in the program's output of what it saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Step {
    Activity,
    Retried,
    Timer(u64),
    Event(u8),
    All(u8),
    FirstFailure(u8),
    EventOrTimer(u8),
    ActivityOrActivity,
    TwoAtOnce(Box<Step>, Box<Step>),
    Sub,
    Call(u8),
    Signal(u8),
    Locked(Vec<u8>),
    LockOrTimer(u8),
    Send,
    Guid,
    ContinueAsNew,
}

fn entity(n: u8) -> EntityId {
    EntityId::new("e", n.to_string())
}

fn told<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(failure) => failure.to_string(),
    }
}

async fn run(ctx: OrchestrationContext, step: Step) -> String {
    let activity = |n: u8| ctx.call_activity::<u32>("work", &n);
    match step {
        Step::Activity => told(activity(0).await),
        Step::Retried => {
            let retry = Some(RetryPolicy::exponential(3, Duration::from_secs(1), Duration::from_secs(3)));
            told(ctx.call_activity_with::<u32>("work", &1, ActivityOptions { retry, ..Default::default() }).await)
        }
        Step::Timer(seconds) => {
            ctx.timer(Duration::from_secs(seconds)).await;
            format!("{:?}", ctx.now())
        }
        Step::Event(n) => told(ctx.external_event::<u32>(&format!("event{n}")).await),
        Step::All(n) => told(ctx.all((0..n).map(activity).collect()).await),
        Step::FirstFailure(n) => told(ctx.all_or_first_failure((0..n).map(activity).collect()).await),
        Step::EventOrTimer(n) => {
            let event = ctx.external_event::<u32>(&format!("event{n}"));
            match ctx.race(event, ctx.timer(Duration::from_secs(3))).await {
                Either::Left(outcome) => told(outcome),
                Either::Right(()) => "timer".to_owned(),
            }
        }
        Step::ActivityOrActivity => match ctx.race(activity(1), activity(2)).await {
            Either::Left(outcome) => format!("left {}", told(outcome)),
            Either::Right(outcome) => format!("right {}", told(outcome)),
        },
        Step::TwoAtOnce(a, b) => {
            let (a, b) = futures::future::join(Box::pin(run(ctx.clone(), *a)), Box::pin(run(ctx.clone(), *b))).await;
            format!("({a}, {b})")
        }
        Step::Sub => told(ctx.call_sub_orchestration::<u32>("child", None, &()).await),
        Step::Call(n) => told(ctx.call_entity::<u32>(&entity(n), "get", &()).await),
        Step::Signal(n) => told(ctx.signal_entity(&entity(n), "set", &1)),
        Step::Locked(keys) => {
            let locks: Vec<_> = keys.iter().copied().map(entity).collect();
            match ctx.lock_entities(&locks).await {
                Ok(section) => {
                    let called = told(ctx.call_entity::<u32>(&locks[0], "reserve", &1).await);
                    section.release();
                    called
                }
                Err(failure) => failure.to_string(),
            }
        }
        Step::LockOrTimer(n) => {
            let request = ctx.lock_entities(&[entity(n)]);
            match ctx.race(request, ctx.timer(Duration::from_secs(2))).await {
                Either::Left(section) => told(section.map(drop)),
                Either::Right(()) => "gave up".to_owned(),
            }
        }
        Step::Send => told(ctx.send_event("other", "hello", &1)),
        Step::Guid => ctx.new_guid().to_string(),
        Step::ContinueAsNew => told(ctx.continue_as_new(&(), true)),
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.orchestration("main", |ctx: OrchestrationContext, program: Vec<Step>| async move {
        let mut seen = Vec::new();
        for (number, step) in program.into_iter().enumerate() {
            seen.push(run(ctx.clone(), step).await);
            ctx.set_custom_status(&number)?;
        }
        Ok(seen)
    });
    registry
}

fn step() -> impl Strategy<Value = Step> {
    let leaf = prop_oneof![
        3 => Just(Step::Activity),
        2 => Just(Step::Retried),
        2 => (0..5_u64).prop_map(Step::Timer),
        2 => (0..2_u8).prop_map(Step::Event),
        2 => (0..5_u8).prop_map(Step::All),
        2 => (0..5_u8).prop_map(Step::FirstFailure),
        2 => (0..2_u8).prop_map(Step::EventOrTimer),
        2 => Just(Step::ActivityOrActivity),
        1 => Just(Step::Sub),
        2 => (0..3_u8).prop_map(Step::Call),
        1 => (0..3_u8).prop_map(Step::Signal),
        2 => proptest::collection::vec(0..3_u8, 1..4).prop_map(Step::Locked),
        1 => (0..3_u8).prop_map(Step::LockOrTimer),
        1 => Just(Step::Send),
        1 => Just(Step::Guid),
    ];
    leaf.prop_recursive(2, 8, 2, |inner| {
        (inner.clone(), inner).prop_map(|(a, b)| Step::TwoAtOnce(Box::new(a), Box::new(b)))
    })
}

fn program() -> impl Strategy<Value = Vec<Step>> {
    (proptest::collection::vec(step(), 1..8), proptest::bool::weighted(0.1)).prop_map(|(mut steps, again)| {
        if again {
            steps.push(Step::ContinueAsNew);
        }
        steps
    })
}

/// How the world will answer an action, if it does.
fn answer(id: i32, action: &Action, lucky: bool) -> Option<EventType> {
    let broken = || Failure::new("Unlucky", format!("action {id}"));
    Some(match action {
        Action::ScheduleTask(_) if lucky => completed(id, &id.to_string()),
        Action::ScheduleTask(_) => failed(id, broken()),
        Action::CreateSubOrchestration(_) if lucky => sub_completed(id, "1"),
        Action::CreateSubOrchestration(_) => sub_failed(id, broken()),
        Action::CreateTimer(_) => fired(id),
        Action::SendEntityMessage(message) => match message.entity_message_type.as_ref()? {
            Message::EntityOperationCalled(e) if lucky => entity_completed(&e.request_id, "5"),
            Message::EntityOperationCalled(e) => entity_failed(&e.request_id, broken()),
            Message::EntityLockRequested(e) => granted(&e.critical_section_id),
            _ => return None,
        },
        _ => return None,
    })
}

/// The world's open ends: outcomes that could be the next in history.
#[derive(Default)]
struct World {
    open: BTreeMap<u32, EventType>,
    next: u32,
}

impl World {
    /// Takes note of what a turn asked for; `dice` decide how it will be answered.
    fn observe(&mut self, turn: &Turn, dice: &mut impl Iterator<Item = u8>) {
        for action in &turn.actions {
            let lucky = !dice.next().unwrap_or(9).is_multiple_of(4);
            let kind = action.orchestrator_action_type.as_ref().expect("a kind");
            if let Some(outcome) = answer(action.id, kind, lucky) {
                self.open.insert(self.next, outcome);
                self.next += 1;
            }
        }
    }

    /// The events of the next turn: one to three of those that are owed, in any order.
    fn next_events(&mut self, dice: &mut impl Iterator<Item = u8>) -> Vec<EventType> {
        let count = 1 + dice.next().unwrap_or(0) % 3;
        let mut events = Vec::new();
        for _ in 0..count {
            let chance = dice.next().unwrap_or(0);
            match chance % 16 {
                0 => events.push(raised("event0", &chance.to_string())),
                1 => events.push(raised("EVENT1", &chance.to_string())),
                2 => events.extend([suspended(), raised("event0", "1"), resumed()]),
                _ => {
                    let keys: Vec<u32> = self.open.keys().copied().collect();
                    if let Some(key) = keys.get(usize::from(chance) % keys.len().max(1)) {
                        events.extend(self.open.remove(key));
                    }
                }
            }
        }
        events
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sticky_and_replayed_turns_are_the_same(
        program in program(),
        dice in proptest::collection::vec(any::<u8>(), 64..256),
        middle in 0..12_usize,
    ) {
        let input = serde_json::to_string(&program).expect("a program is JSON");
        let mut dice = dice.into_iter().chain(std::iter::repeat_n(7, 400));
        let mut world = World::default();
        let mut bench = Bench::new(registry());
        // Each turn as it was: the length of the history before it, its new events, and what came out.
        let mut turns = Vec::new();
        let mut events = vec![started("main", &input)];
        for _ in 0..60 {
            let before = bench.past.len();
            let size = events.len() + 1;
            let turn = bench.turn(std::mem::take(&mut events));
            world.observe(&turn, &mut dice);
            turns.push((before, size, turn.clone()));
            if turn.ended {
                break;
            }
            events = world.next_events(&mut dice);
            // So that programs which wait for events come to an end as well.
            events.push(raised("event0", "0"));
            events.push(raised("event1", "0"));
        }
        prop_assert!(turns.last().is_some_and(|(_, _, turn)| turn.ended), "the program ends");

        let begin = middle % turns.len();
        let mut late = fresh(&Arc::clone(&bench.registry));
        for (number, (before, size, turn)) in turns.iter().enumerate().skip(begin) {
            let (past, new) = (&bench.past[..*before], &bench.past[*before..before + size]);
            let again = if number > begin && number % 2 == 0 {
                prop_assert!(late.continues(*before));
                late.next_turn(*before, new)
            } else {
                prop_assert!(late.fits(past));
                late.turn(past, new)
            };
            prop_assert_eq!(&again, turn, "turn {} of a copy that began at turn {}", number, begin);
        }
    }
}
