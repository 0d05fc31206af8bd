//! What clients do in a simulation, drawn before it begins, so that the same script can be played in worlds with other
//! faults. This module must never depend on how a simulation goes.

use crate::dice::{Dice, MINUTE, SECOND, Time};
use crate::programs::{self, ACCOUNTS, LOGS, MAILBOXES, entity, mailbox_id};

/// One thing that a client does.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// Asked for again until there is an answer, unless it may replace an instance.
    Start {
        id: String,
        name: &'static str,
        input: String,
        after: Option<Time>,
        replaces: bool,
    },
    Raise {
        id: String,
        letter: String,
    },
    Signal {
        entity: String,
        request_id: String,
        after: Option<Time>,
    },
    Terminate {
        id: String,
        recursive: bool,
    },
    Suspend(String),
    Resume(String),
    Purge {
        id: String,
        recursive: bool,
    },
    PurgeEntity(String),
    Rewind(String),
    Restart {
        id: String,
        as_new: bool,
    },
    Skip(String),
    Clean,
    Get(String),
    /// Waits for its end, and gives up after a while.
    Wait(String),
    GetEntity(String),
    List,
}

/// How long clients are at work.
pub(crate) const LENGTH: Time = 10 * MINUTE;

/// What clients do in `LENGTH`. A `calm` script has nothing in it whose effect depends on when it comes.
pub(crate) fn drawn(dice: &mut Dice, calm: bool) -> Vec<(Time, Deed)> {
    let mut script: Vec<(Time, Deed)> = Vec::new();
    for n in 0..MAILBOXES {
        let input = "[]".to_owned();
        let start = Deed::Start { id: mailbox_id(n), name: "mailbox", input, after: None, replaces: false };
        script.push((dice.within(1..SECOND), start));
    }
    let deeds = dice.within(40..160);
    // A letter to a mailbox that is not there yet is refused: in a calm script that must not depend on delays.
    let from = if calm { 2 * MINUTE } else { SECOND };
    for number in 0..deeds {
        let at = dice.within(from..LENGTH);
        script.push((at, start(dice, number, calm)));
        let at = dice.within(from..LENGTH);
        script.push((at, message(dice, number)));
        if !calm {
            let at = dice.within(SECOND..LENGTH);
            script.push((at, meddle(dice, number)));
        }
    }
    script.sort_by_key(|(at, _)| *at);
    script
}

fn start(dice: &mut Dice, number: u64, calm: bool) -> Deed {
    let after = dice.chance(0.1).then(|| dice.within(SECOND..MINUTE));
    let (id, name, input) = match dice.below(10) {
        0..6 => {
            let program = programs::drawn(dice, 2, calm);
            (format!("p{number}"), "program", serde_json::to_string(&program).expect("a program is JSON"))
        }
        6..9 => {
            let from = dice.below(usize::from(ACCOUNTS)) as u8;
            let to = (from + 1 + dice.below(usize::from(ACCOUNTS) - 1) as u8) % ACCOUNTS;
            let nap = if dice.chance(0.5) { 0 } else { dice.within(1..3_000) };
            let input = format!("[{from},{to},{},{nap}]", dice.within(1..100));
            (format!("t{number}"), "transfer", input)
        }
        _ => (format!("a{number}"), "audit", "null".to_owned()),
    };
    Deed::Start { id, name, input, after, replaces: false }
}

fn message(dice: &mut Dice, number: u64) -> Deed {
    if dice.chance(0.5) {
        let id = mailbox_id(dice.below(usize::from(MAILBOXES)) as u8);
        return Deed::Raise { id, letter: format!("letter {number}") };
    }
    let after = dice.chance(0.3).then(|| dice.within(SECOND..MINUTE));
    let entity = entity(dice.below(usize::from(ACCOUNTS + LOGS)) as u8).to_string();
    Deed::Signal { entity, request_id: format!("c{number}"), after }
}

/// What may come at a bad moment. Only programs are ended from outside: transfers must keep the sum.
fn meddle(dice: &mut Dice, number: u64) -> Deed {
    let program = format!("p{}", dice.within(0..number + 5));
    let any = match dice.below(4) {
        0 => mailbox_id(dice.below(usize::from(MAILBOXES)) as u8),
        1 => format!("t{}", dice.within(0..number + 5)),
        _ => program.clone(),
    };
    match dice.below(20) {
        0 | 1 => Deed::Terminate { id: program, recursive: dice.chance(0.5) },
        2 | 3 => Deed::Suspend(any),
        4..6 => Deed::Resume(any),
        6 | 7 => Deed::Purge { id: program, recursive: dice.chance(0.5) },
        8 => Deed::PurgeEntity("@temp@0".to_owned()),
        9 | 10 => Deed::Rewind(program),
        11 => Deed::Restart { id: program, as_new: dice.chance(0.5) },
        12 => Deed::Skip(program),
        13 => Deed::Clean,
        14 => Deed::Get(any),
        15 => Deed::Wait(any),
        16 => Deed::GetEntity(entity(dice.below(usize::from(ACCOUNTS + LOGS)) as u8).to_string()),
        17 => Deed::List,
        18 => {
            let request_id = format!("x{number}");
            Deed::Signal { entity: "@temp@0".to_owned(), request_id, after: None }
        }
        _ => {
            let input = serde_json::to_string(&programs::drawn(dice, 1, false)).expect("a program is JSON");
            Deed::Start { id: program, name: "program", input, after: None, replaces: true }
        }
    }
}
