//! Symptom: somebody changes the code of an orchestration that is running (drops a step, adds one, turns two around), and
//! the running instances go on with it over histories that the old code has made. What is proved: twenty changes, drawn
//! at random and put at a random place of a random program, are all found when the history is replayed, and the message
//! shows what was recorded and what was attempted. `SERIATIM_TEST_SEED` replays one change, `SERIATIM_TEST_SCALE`
//! multiplies their number.

use std::sync::Arc;
use std::time::Duration;

use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::proto::orchestrator_action::OrchestratorActionType as Action;
use seriatim_durable::proto::send_entity_message_action::EntityMessageType as Message;
use seriatim_durable::replay::Turn;
use seriatim_durable::{EntityId, Failure, OrchestrationContext, Registry};

use crate::bench::*;

/// One line of an orchestration's code.
#[derive(Debug, Clone, PartialEq)]
enum Line {
    Activity(String),
    Timer,
    Sub(String),
    Call(String),
    Signal(String),
    Send(String),
}

/// What somebody does to the code.
#[derive(Debug, Clone, Copy)]
enum Change {
    Removes,
    Inserts,
    TurnsAround,
    Renames,
    /// Puts another kind of line there.
    Replaces,
    /// Returns there.
    Ends,
    /// Fails there.
    Fails,
}

const CHANGES: [Change; 7] = [
    Change::Removes,
    Change::Inserts,
    Change::TurnsAround,
    Change::Renames,
    Change::Replaces,
    Change::Ends,
    Change::Fails,
];

/// `SplitMix64`, so that a seed means the same for ever.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    /// A line; no two have the same name.
    fn line(&mut self, number: usize) -> Line {
        let name = format!("n{number}");
        match self.below(6) {
            0 => Line::Activity(name),
            1 => Line::Timer,
            2 => Line::Sub(name),
            3 => Line::Call(name),
            4 => Line::Signal(name),
            _ => Line::Send(name),
        }
    }
}

fn renamed(line: &Line) -> Option<Line> {
    let other = |name: &String| format!("{name}-renamed");
    Some(match line {
        Line::Activity(name) => Line::Activity(other(name)),
        Line::Sub(name) => Line::Sub(other(name)),
        Line::Call(name) => Line::Call(other(name)),
        Line::Signal(name) => Line::Signal(other(name)),
        Line::Send(name) => Line::Send(other(name)),
        Line::Timer => return None,
    })
}

/// Where code stops, and whether that is its end or a failure.
type Stop = Option<(usize, bool)>;

/// The code after the change at this place, and where it stops, and how; `None` if that changes nothing of what it does.
fn changed(code: &[Line], change: Change, at: usize, dice: &mut Dice) -> Option<(Vec<Line>, Stop)> {
    let mut new = code.to_vec();
    match change {
        Change::Removes => _ = new.remove(at),
        Change::Inserts => new.insert(at, dice.line(100)),
        Change::TurnsAround if at + 1 < code.len() => new.swap(at, at + 1),
        Change::TurnsAround => return None,
        Change::Renames => new[at] = renamed(&code[at])?,
        Change::Replaces => new[at] = dice.line(101),
        Change::Ends => return Some((new, Some((at, true)))),
        Change::Fails => return Some((new, Some((at, false)))),
    }
    (new != code).then_some((new, None))
}

fn registry(code: Vec<Line>, stops: Stop) -> Registry {
    let code = Arc::new(code);
    let mut registry = Registry::new();
    registry.orchestration("main", move |ctx: OrchestrationContext, (): ()| {
        let code = Arc::clone(&code);
        async move {
            for (number, line) in code.iter().enumerate() {
                match stops {
                    Some((at, true)) if at == number => return Ok(()),
                    Some((at, false)) if at == number => return Err(Failure::new("Changed", "it fails here now")),
                    _ => run(&ctx, line).await?,
                }
            }
            ctx.external_event::<()>("never").await
        }
    });
    registry
}

async fn run(ctx: &OrchestrationContext, line: &Line) -> Result<(), Failure> {
    let entity = EntityId::new("e", "k");
    match line {
        Line::Activity(name) => ctx.call_activity(name, &()).await,
        Line::Timer => {
            ctx.timer(Duration::from_secs(1)).await;
            Ok(())
        }
        Line::Sub(name) => ctx.call_sub_orchestration(name, None, &()).await,
        Line::Call(name) => ctx.call_entity(&entity, name, &()).await,
        Line::Signal(name) => ctx.signal_entity(&entity, name, &()),
        Line::Send(name) => ctx.send_event(name, "hello", &()),
    }
}

/// The outcomes of what a turn asked for.
fn outcomes(turn: &Turn) -> Vec<EventType> {
    let outcome = |action: &seriatim_durable::proto::OrchestratorAction| match &action.orchestrator_action_type {
        Some(Action::ScheduleTask(_)) => Some(completed(action.id, "null")),
        Some(Action::CreateTimer(_)) => Some(fired(action.id)),
        Some(Action::CreateSubOrchestration(_)) => Some(sub_completed(action.id, "null")),
        Some(Action::SendEntityMessage(message)) => match &message.entity_message_type {
            Some(Message::EntityOperationCalled(call)) => Some(entity_completed(&call.request_id, "null")),
            _ => None,
        },
        _ => None,
    };
    turn.actions.iter().filter_map(outcome).collect()
}

/// Lets the old code make a history, and the new one replay it.
fn replayed(seed: u64) -> (Vec<Line>, Change, usize, Failure) {
    let mut dice = Dice(seed);
    let code: Vec<Line> = (0..3 + dice.below(8)).map(|number| dice.line(number)).collect();
    let (change, at, (new, stops)) = loop {
        let (change, at) = (CHANGES[dice.below(CHANGES.len())], dice.below(code.len()));
        if let Some(found) = changed(&code, change, at, &mut dice) {
            break (change, at, found);
        }
    };
    let mut bench = Bench::new(registry(code.clone(), None));
    let mut events = vec![started("main", "null")];
    while !events.is_empty() {
        let turn = bench.turn(events);
        assert!(!turn.ended, "the old code waits at its end: {:?}", lines(&turn));
        events = outcomes(&turn);
    }
    let next = bench.opened(vec![raised("something", "null")]);
    let turn = fresh(&Arc::new(registry(new, stops))).turn(&bench.past, &next);
    assert!(turn.ended, "seed {seed}: {change:?} at {at} of {code:?} is not found: {:?}", lines(&turn));
    (code, change, at, failure(&turn))
}

#[test]
fn every_change_of_running_code_is_found_and_told() {
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a whole number"));
    let seeds = match variable("SERIATIM_TEST_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=20 * variable("SERIATIM_TEST_SCALE").unwrap_or(1),
    };
    for seed in seeds {
        println!("SERIATIM_TEST_SEED={seed} replays this change");
        let (code, change, at, failure) = replayed(seed);
        let what = format!("{change:?} at {at} of {code:?}: {failure}");
        assert_eq!(failure.error_type, Failure::NON_DETERMINISTIC, "{what}");
        assert!(failure.message.contains("recorded ") && failure.message.contains("attempted "), "{what}");
        for property in ["recorded", "attempted", "field"] {
            assert!(failure.properties.contains_key(property), "{what} says no {property}");
        }
        assert_ne!(failure.properties["recorded"], failure.properties["attempted"], "{what}");
    }
}
