//! What every counter promises, as functions over the trait, to be run against each. They panic where a promise is
//! broken. A counter must never be left out of them.

use std::sync::Arc;
use std::time::Duration;

use crate::{Ask, Attempt, Counter, CounterErrorKind, Result};

/// Whether a block that is released leaves a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Density {
    /// It does not, and one block is open at a time.
    Dense,
    /// It does: the sequence moves at once.
    Gaps,
}

/// How long a run of these tests waits for its turn.
const PATIENCE: Duration = Duration::from_mins(2);

fn ask(sequence: &str, run: &str, count: u64) -> Ask {
    Ask { sequence: sequence.to_owned(), run: run.to_owned(), count, from: 0 }
}

async fn reserve(counter: &dyn Counter, sequence: &str, run: &str, count: u64) -> Result<u64> {
    counter.reserve(&ask(sequence, run, count), PATIENCE).await
}

/// Blocks follow each other without a gap, and are remembered.
pub async fn blocks_follow_each_other(counter: &dyn Counter, sequence: &str) {
    let mut next = 0;
    for (run, count) in [("a", 10), ("b", 1), ("c", 7)] {
        assert_eq!(reserve(counter, sequence, run, count).await, Ok(next), "the block of {run}");
        counter.commit(sequence, run).await.expect("it is reserved");
        next += count;
    }
    let look = counter.look(sequence).await.expect("it can be looked at");
    assert_eq!((look.next, look.open), (18, None));
    let ranges: Vec<_> = look.ranges.iter().map(|r| (r.run.as_str(), r.first, r.count)).collect();
    assert_eq!(ranges, [("a", 0, 10), ("b", 10, 1), ("c", 11, 7)]);
}

/// Every call may be made again, and then does nothing more.
pub async fn calls_may_be_made_again(counter: &dyn Counter, sequence: &str) {
    for _ in 0..3 {
        assert_eq!(reserve(counter, sequence, "a", 10).await, Ok(0));
    }
    for _ in 0..3 {
        counter.commit(sequence, "a").await.expect("it is reserved, or committed already");
    }
    assert_eq!(reserve(counter, sequence, "a", 10).await, Ok(0), "a committed block is the run's still");
    counter.release(sequence, "a").await.expect("nothing is open");
    assert_eq!(reserve(counter, sequence, "b", 5).await, Ok(10), "what is committed cannot be released");
    for _ in 0..3 {
        counter.release(sequence, "b").await.expect("it is open, or released already");
    }
    counter.release(sequence, "nobody").await.expect("nothing is open");
}

/// A call that makes no sense is refused, and changes nothing.
pub async fn wrong_calls_are_refused(counter: &dyn Counter, sequence: &str) {
    let kind = |result: Result<()>| result.map_err(|error| error.kind);
    let broken = Err(CounterErrorKind::Broken);
    assert_eq!(reserve(counter, sequence, "a", 10).await, Ok(0));
    assert_eq!(kind(reserve(counter, sequence, "a", 11).await.map(|_| ())), broken, "another number of IDs");
    assert_eq!(kind(counter.commit(sequence, "b").await), broken, "a commit without a block");
    counter.commit(sequence, "a").await.expect("it is reserved");
    let behind = Ask { from: 11, ..ask(sequence, "c", 1) };
    let refused = counter.try_reserve(&behind).await.map(|_| ());
    assert_eq!(kind(refused), Err(CounterErrorKind::NotFitting), "places that are given already");
    let huge = kind(reserve(counter, sequence, "d", u64::MAX).await.map(|_| ()));
    assert_eq!(huge, Err(CounterErrorKind::NotFitting), "more IDs than there are");
    assert_eq!(counter.look(sequence).await.expect("it can be looked at").next, 10);
}

/// A released block leaves no gap where the counter is dense; elsewhere it is one, and nothing is given twice.
pub async fn a_released_block_is_given_again(counter: &dyn Counter, sequence: &str, density: Density) {
    assert_eq!(reserve(counter, sequence, "a", 10).await, Ok(0));
    counter.release(sequence, "a").await.expect("it is open");
    let first = if density == Density::Dense { 0 } else { 10 };
    assert_eq!(reserve(counter, sequence, "b", 4).await, Ok(first));
    counter.commit(sequence, "b").await.expect("it is reserved");
    assert_eq!(reserve(counter, sequence, "a", 2).await, Ok(first + 4), "a run that released may ask anew");
    counter.commit(sequence, "a").await.expect("it is reserved");
}

/// While a block is open, others wait; who waits too long is told whom for.
pub async fn an_open_block_keeps_others_waiting(counter: &dyn Counter, sequence: &str) {
    assert_eq!(reserve(counter, sequence, "the-first", 10).await, Ok(0));
    let attempt = counter.try_reserve(&ask(sequence, "b", 1)).await.expect("an answer");
    let Attempt::Held(open) = attempt else { panic!("two blocks are open: {attempt:?}") };
    assert_eq!((open.run.as_str(), open.first, open.count), ("the-first", 0, 10));
    assert_eq!(counter.look(sequence).await.expect("it can be looked at").open, Some(open.clone()));
    let error = counter.reserve(&ask(sequence, "b", 1), Duration::ZERO).await.expect_err("it is held");
    assert_eq!(error.kind, CounterErrorKind::Held);
    assert!(error.message.contains("the-first") && error.message.contains(&open.since), "{error}");
    assert!(error.help.as_ref().is_some_and(|help| help.contains("seriatim cancel")), "{error:?}");
    counter.commit(sequence, "the-first").await.expect("it is reserved");
    assert_eq!(reserve(counter, sequence, "b", 1).await, Ok(10));
    counter.release(sequence, "b").await.expect("it is open");
}

/// A sequence that does not exist yet begins where its first run says.
pub async fn a_new_sequence_begins_where_it_is_told(counter: &dyn Counter, sequence: &str) {
    let first = Ask { from: 1_000, ..ask(sequence, "a", 5) };
    assert_eq!(counter.reserve(&first, PATIENCE).await, Ok(1_000));
    counter.commit(sequence, "a").await.expect("it is reserved");
    assert_eq!(reserve(counter, sequence, "b", 5).await, Ok(1_005));
    counter.commit(sequence, "b").await.expect("it is reserved");
}

/// Sixteen runs at once, some of which fail: no place is given twice, and none is left out where the counter is dense.
/// `counters` are connections to the same service; runs are spread over them.
pub async fn sixteen_runs_at_once(counters: &[Arc<dyn Counter>], sequence: &str, density: Density) {
    let runs = (0..16_u64).map(|run| {
        let (counter, sequence) = (counters[run as usize % counters.len()].clone(), sequence.to_owned());
        tokio::spawn(async move {
            let mut mine = Vec::new();
            for turn in 0..3_u64 {
                let (name, count) = (format!("run-{run}-{turn}"), 1 + (run * 7 + turn * 3) % 11);
                let first = reserve(&*counter, &sequence, &name, count).await.expect("its turn comes");
                if (run + turn).is_multiple_of(5) {
                    counter.release(&sequence, &name).await.expect("it is open");
                } else {
                    counter.commit(&sequence, &name).await.expect("it is reserved");
                    mine.push((first, count));
                }
            }
            mine
        })
    });
    let mut blocks = Vec::new();
    for run in runs.collect::<Vec<_>>() {
        blocks.extend(run.await.expect("it does not panic"));
    }
    blocks.sort_unstable();
    let mut next = 0;
    for (first, count) in &blocks {
        assert!(*first >= next, "{sequence}: place {first} is given twice: {blocks:?}");
        assert!(density == Density::Gaps || *first == next, "{sequence}: a gap before {first}: {blocks:?}");
        next = first + count;
    }
    let look = counters[0].look(sequence).await.expect("it can be looked at");
    assert!(look.next == next || density == Density::Gaps, "{look:?}");
    let kept: Vec<_> = look.ranges.iter().map(|range| (range.first, range.count)).collect();
    assert_eq!(kept, blocks, "the counter remembers what it gave");
}

/// A service that is away is an error that says so, and names it.
pub async fn a_service_that_is_away_is_named(counter: &dyn Counter, name: &str) {
    for error in [
        reserve(counter, "anything", "a", 1).await.expect_err("nobody is there"),
        counter.commit("anything", "a").await.expect_err("nobody is there"),
        counter.release("anything", "a").await.expect_err("nobody is there"),
        counter.look("anything").await.map(|_| ()).expect_err("nobody is there"),
    ] {
        assert_eq!(error.kind, CounterErrorKind::Unreachable, "{error}");
        assert!(error.message.contains(name), "{error}");
        assert!(error.help.is_some(), "{error}");
    }
}
