//! A simulation of the hub. One seed is one world: clients with a script of ten minutes, workers, a disk, a clock, and
//! how likely each fault is. The core is driven on one thread, and after every transition what it has decided is held
//! against the reference in `model`: operations of entities take effect exactly once, an orchestration ends once, no
//! timer is left behind or lost, no message is lost, an activity's result is recorded once, accounts keep their sum; and
//! whatever anybody was told is on disk (`promises`).
//!
//! `SERIATIM_TEST_SCALE` (default 1) multiplies the number of seeds. A seed that fails is printed with the line that
//! replays it, `SERIATIM_SEED=N` (with `SERIATIM_SHOW=1` every input and all effects are printed); once the defect is mended it is added to `seeds.txt`, whose seeds run first for ever.

// A test that cannot go on panics: that is how it fails.
#![allow(clippy::unwrap_used)]

mod clients;
mod dice;
mod model;
mod open;
mod programs;
mod promises;
mod script;
mod store;
mod workers;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use dice::{Dice, Faults};
use world::{Plan, Seen, World};

/// Seeds that have failed once.
const COMMITTED: &str = include_str!("seeds.txt");

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}

/// Whether every input and all effects are to be printed.
fn shown() -> bool {
    std::env::var_os("SERIATIM_SHOW").is_some()
}

/// The seeds of a test: the one that is to be replayed, or the committed ones and so many others.
fn seeds(number: u64) -> Vec<u64> {
    if let Some(seed) = variable("SERIATIM_SEED") {
        return vec![seed];
    }
    let lines = COMMITTED.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let committed = lines.map(|line| line.split_whitespace().next().unwrap_or_default().parse().expect("a seed"));
    committed.chain(1..=number * variable("SERIATIM_TEST_SCALE").unwrap_or(1)).collect()
}

/// So many seeds that fail are enough to look at.
const ENOUGH: usize = 10;

/// Plays all seeds, one thread for each core and one seed at a time in each. Those that fail are named.
fn for_each_seed(test: &str, number: u64, play: impl Fn(u64) -> Result<Seen, String> + Sync) -> Vec<Seen> {
    let seeds = seeds(number);
    let next = AtomicUsize::new(0);
    let seen = Mutex::new(Vec::new());
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if failed.lock().unwrap().len() >= ENOUGH {
                        break;
                    }
                    match catch_unwind(AssertUnwindSafe(|| play(*seed))) {
                        Ok(Ok(one)) => seen.lock().unwrap().push(one),
                        Ok(Err(wrong)) => failed.lock().unwrap().push((*seed, wrong)),
                        Err(_) => failed.lock().unwrap().push((*seed, "it panicked; see above".to_owned())),
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    for (seed, wrong) in &failed {
        println!(
            "SERIATIM_SEED={seed} cargo nextest run --release --locked -p seriatim-hub --test sim -- {test}: {wrong}"
        );
    }
    assert!(failed.is_empty(), "{} of {} seeds failed; they are named above", failed.len(), seeds.len());
    seen.into_inner().unwrap()
}

fn play(seed: u64, faults: Faults, calm: bool) -> Result<Seen, String> {
    World::new(Plan { seed, faults, calm, traced: false, shown: shown() }).run()
}

fn drawn(seed: u64) -> Faults {
    Faults::drawn(&mut Dice::new(seed, "faults"))
}

/// R2: crashes, lost and repeated and reordered messages, slow and dying workers, a clock that jumps and stops, a disk
/// that fails.
#[test]
fn whatever_goes_wrong_nothing_is_lost_and_nothing_happens_twice() {
    let seen = for_each_seed("whatever_goes_wrong", 500, |seed| play(seed, drawn(seed), false));
    let sum = |of: fn(&Seen) -> u64| seen.iter().map(of).sum::<u64>();
    let (transitions, ended) = (sum(|one| one.transitions), sum(|one| one.ended));
    let (crashes, fenced) = (sum(|one| one.crashes), sum(|one| one.fenced));
    let (commits, refused) = (sum(|one| one.commits), sum(|one| one.refused));
    println!(
        "{} worlds: {transitions} transitions in {commits} commits, {crashes} crashes, {fenced} of them of the disk, \
         {refused} refusals, {ended} instances",
        seen.len()
    );
    // A simulation in which nothing happens proves nothing.
    assert!(variable("SERIATIM_SEED").is_some() || (crashes > 1_000 && fenced > 100 && ended > 20_000));
}

/// R3: the same seed gives the same world, down to every effect of every transition.
#[test]
fn a_seed_is_one_world() {
    for_each_seed("a_seed_is_one_world", 20, |seed| {
        let twice = [(); 2]
            .map(|()| World::new(Plan { seed, faults: drawn(seed), calm: false, traced: true, shown: shown() }).run());
        let [one, other] = twice;
        let (one, other) = (one?, other?);
        if one != other {
            return Err(format!("two runs have traces {:016x} and {:016x}", one.trace, other.trace));
        }
        Ok(one)
    });
}

/// R6: jumps of ten years both ways and times for which the clock stands still. No timer is early or lost, and the times
/// of a history never decrease: `model` looks at each.
#[test]
fn whatever_the_clock_does_timers_are_neither_lost_nor_early() {
    for_each_seed("whatever_the_clock_does", 100, |seed| {
        play(seed, Faults::of_clocks(&mut Dice::new(seed, "clocks")), false)
    });
}

/// R7: a world in which every message comes one to three times, late and out of order, ends with the histories and the
/// effects of one in which each comes once and in time.
#[test]
fn however_messages_come_histories_are_those_of_messages_that_come_once() {
    for_each_seed("however_messages_come", 100, |seed| {
        let once = play(seed, Faults::none(), true)?;
        let often = play(seed, Faults::of_delivery(&mut Dice::new(seed, "delivery")), true)?;
        if once.entities != often.entities {
            return Err(format!("entities are {:?}, not {:?}", often.entities, once.entities));
        }
        for (id, history) in &once.histories {
            if often.histories.get(id) != Some(history) {
                return Err(format!("the history of {id} is {:?}, not {history:?}", often.histories.get(id)));
            }
        }
        if once.histories.len() != often.histories.len() {
            return Err("there are other instances".to_owned());
        }
        Ok(often)
    });
}
