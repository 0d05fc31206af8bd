//! What is run in the simulation: orchestrations written against `seriatim-durable`, and what each must come to whatever
//! happens on the way. A program is a list of steps that is its input, so that its outcome can be foretold from the
//! input alone. This module must never look at the simulation.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use seriatim_durable::{ActivityOptions, Either, EntityId, Failure, OrchestrationContext, Registry, RetryPolicy};

use crate::dice::Dice;

pub(crate) const ACCOUNTS: u8 = 4;
pub(crate) const LOGS: u8 = 3;
pub(crate) const MAILBOXES: u8 = 3;

/// The failure of an activity that fails by chance.
pub(crate) const FLAKY: &str = "Flaky";

/// One step of a program. It waits for what it asks for before the next one begins, except for signals and messages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Step {
    Work(u64),
    Fan(u64),
    /// Tried again three times.
    Flaky(u64),
    Sleep(u64),
    Sub(Vec<Step>),
    Call(u8),
    Signal(u8),
    SignalLater(u8, u64),
    Locked(Vec<u8>, u64),
    /// Gives up a lock request after so many milliseconds.
    LockOrSleep(u8, u64),
    Tell(u8),
    /// The entity signals another one.
    Relay(u8, u8),
    /// The entity starts an orchestration.
    Launch(u8),
}

/// The entities that programs touch: accounts and logs, by one number.
pub(crate) fn entity(n: u8) -> EntityId {
    if n < ACCOUNTS { EntityId::new("acct", n.to_string()) } else { EntityId::new("log", (n - ACCOUNTS).to_string()) }
}

pub(crate) fn mailbox_id(n: u8) -> String {
    format!("m{n}")
}

/// What the activity `work` gives for an input.
pub(crate) fn work(n: u64) -> u64 {
    n * 3 + 1
}

/// What a program comes to.
pub(crate) fn sum(steps: &[Step]) -> u64 {
    let one = |step: &Step| match step {
        Step::Work(n) | Step::Flaky(n) => work(*n),
        Step::Fan(n) => (0..*n).map(work).sum(),
        Step::Sub(steps) => sum(steps),
        _ => 0,
    };
    steps.iter().map(one).sum()
}

/// Whether a program may fail by chance.
pub(crate) fn may_fail(steps: &[Step]) -> bool {
    steps.iter().any(|step| match step {
        Step::Flaky(_) => true,
        Step::Sub(steps) => may_fail(steps),
        _ => false,
    })
}

/// A program of a few steps; `calm` ones leave nothing to chance, so that two runs have the same history.
pub(crate) fn drawn(dice: &mut Dice, depth: u32, calm: bool) -> Vec<Step> {
    let steps = 1 + dice.below(5);
    (0..steps).map(|_| step(dice, depth, calm)).collect()
}

fn step(dice: &mut Dice, depth: u32, calm: bool) -> Step {
    let any = |dice: &mut Dice| dice.below(usize::from(ACCOUNTS + LOGS)) as u8;
    let millis = |dice: &mut Dice| dice.spread(1.0..40_000.0) as u64;
    match dice.below(16) {
        2 => Step::Fan(dice.within(0..6)),
        3 if !calm => Step::Flaky(dice.within(0..100)),
        4 | 5 => Step::Sleep(millis(dice)),
        6 if depth > 0 => Step::Sub(drawn(dice, depth - 1, calm)),
        7 | 8 => Step::Call(any(dice)),
        9 => Step::Signal(any(dice)),
        10 => Step::SignalLater(any(dice), millis(dice)),
        11 => {
            let locks = (0..=dice.below(3)).map(|_| any(dice)).collect();
            Step::Locked(locks, dice.within(0..3_000))
        }
        12 if !calm => Step::LockOrSleep(any(dice), dice.within(0..2_000)),
        13 => Step::Tell(dice.below(usize::from(MAILBOXES)) as u8),
        14 => Step::Relay(any(dice), any(dice)),
        15 if depth > 0 => Step::Launch(any(dice)),
        _ => Step::Work(dice.within(0..100)),
    }
}

pub(crate) fn registry() -> Registry {
    let mut registry = Registry::new();
    registry
        .orchestration("program", program)
        .orchestration("mailbox", mailbox)
        .orchestration("transfer", transfer)
        .orchestration("audit", audit);
    registry
}

async fn program(ctx: OrchestrationContext, steps: Vec<Step>) -> Result<u64, Failure> {
    let mut sum = 0;
    for (number, step) in steps.into_iter().enumerate() {
        sum += run(&ctx, number, step).await?;
        ctx.set_custom_status(&number)?;
    }
    Ok(sum)
}

async fn sleep(ctx: &OrchestrationContext, millis: u64) -> Result<(), Failure> {
    let due = ctx.now() + Duration::from_millis(millis);
    ctx.timer(Duration::from_millis(millis)).await;
    not_before(ctx, due)
}

fn not_before(ctx: &OrchestrationContext, due: SystemTime) -> Result<(), Failure> {
    if ctx.now() < due {
        return Err(Failure::new("Early", format!("it is {:?}, and the timer was for {due:?}", ctx.now())));
    }
    Ok(())
}

async fn run(ctx: &OrchestrationContext, number: usize, step: Step) -> Result<u64, Failure> {
    let name = || format!("{}-{number}", ctx.instance_id());
    match step {
        Step::Work(n) => return ctx.call_activity("work", &n).await,
        Step::Fan(n) => {
            let tasks = (0..n).map(|n| ctx.call_activity::<u64>("work", &n)).collect();
            return Ok(ctx.all(tasks).await?.iter().sum());
        }
        Step::Flaky(n) => {
            let retry = Some(RetryPolicy::exponential(3, Duration::from_secs(1), Duration::from_secs(5)));
            return ctx.call_activity_with("flaky", &n, ActivityOptions { retry, ..Default::default() }).await;
        }
        Step::Sleep(millis) => sleep(ctx, millis).await?,
        Step::Sub(steps) => return ctx.call_sub_orchestration("program", None, &steps).await,
        Step::Call(n) => drop(ctx.call_entity::<i64>(&entity(n), "touch", &()).await?),
        Step::Signal(n) => ctx.signal_entity(&entity(n), "touch", &())?,
        Step::SignalLater(n, millis) => {
            ctx.signal_entity_at(&entity(n), "touch", &(), ctx.now() + Duration::from_millis(millis))?;
        }
        Step::Locked(set, millis) => {
            let set: Vec<_> = set.into_iter().map(entity).collect();
            let section = ctx.lock_entities(&set).await?;
            for entity in &set {
                ctx.call_entity::<i64>(entity, "touch", &()).await?;
            }
            sleep(ctx, millis).await?;
            section.release();
        }
        Step::LockOrSleep(n, millis) => {
            let request = ctx.lock_entities(&[entity(n)]);
            if let Either::Left(section) = ctx.race(request, ctx.timer(Duration::from_millis(millis))).await {
                section?.release();
            }
        }
        Step::Tell(n) => ctx.send_event(&mailbox_id(n), "mail", &name())?,
        Step::Relay(n, to) => drop(ctx.call_entity::<i64>(&entity(n), "relay", &entity(to)).await?),
        Step::Launch(n) => drop(ctx.call_entity::<i64>(&entity(n), "launch", &name()).await?),
    }
    Ok(0)
}

/// Collects letters until one says `stop`; every few letters it continues as new.
async fn mailbox(ctx: OrchestrationContext, mut seen: Vec<String>) -> Result<Vec<String>, Failure> {
    for _ in 0..4 {
        let letter: String = ctx.external_event("mail").await?;
        if letter == "stop" {
            return Ok(seen);
        }
        seen.push(letter);
    }
    ctx.continue_as_new(&seen, true)?;
    Ok(seen)
}

/// Moves money from one account to another, in a critical section. The sum over all accounts is always 0.
async fn transfer(ctx: OrchestrationContext, (from, to, amount, nap): (u8, u8, i64, u64)) -> Result<bool, Failure> {
    let (from, to) = (entity(from), entity(to));
    let section = ctx.lock_entities(&[from.clone(), to.clone()]).await?;
    ctx.call_entity::<i64>(&from, "add", &-amount).await?;
    if nap > 0 {
        sleep(&ctx, nap).await?;
    } else {
        ctx.call_activity::<u64>("work", &0).await?;
    }
    ctx.call_entity::<i64>(&to, "add", &amount).await?;
    section.release();
    ctx.signal_entity(&entity(ACCOUNTS), "touch", &())?;
    Ok(true)
}

/// The sum over all accounts, at one moment.
async fn audit(ctx: OrchestrationContext, (): ()) -> Result<i64, Failure> {
    let accounts: Vec<_> = (0..ACCOUNTS).map(entity).collect();
    let section = ctx.lock_entities(&accounts).await?;
    let mut sum = 0;
    for account in &accounts {
        sum += ctx.call_entity::<i64>(account, "get", &()).await?;
    }
    section.release();
    Ok(sum)
}
