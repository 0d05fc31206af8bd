//! A small program as it is often written: workers take parts of the data, look which things nobody has met yet (they
//! share one set), and ask a counter for as many IDs. They write no table. A worker that is killed has kept nothing of its
//! part; started again, it does the part once more, and what it had taken is gone. Must never be kinder to a counter than
//! such a program is.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use seriatim_counter::naive::Naive;

use super::{Bench, Measured};
use crate::engine;
use crate::error::CliError;

/// What workers share.
struct Work<'a> {
    bench: &'a Bench,
    counter: &'a dyn Naive,
    /// Sequences begin with this, so that a second run begins anew.
    prefix: &'static str,
    /// IDs are asked for one by one, and this many of all.
    sample: Option<u64>,
    next: AtomicU32,
    taken: AtomicU64,
    /// Whether a worker is to be killed still.
    to_kill: AtomicBool,
    claimed: Mutex<HashSet<(usize, u64)>>,
    /// What was written: for each table its IDs.
    written: Mutex<HashMap<String, Vec<u64>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the program twice: undisturbed, and with a worker that is killed in the middle.
pub(super) fn measure(bench: &Bench, counter: &Arc<dyn Naive>, sample: Option<u64>) -> Result<Measured, CliError> {
    let (seconds, ids, duplicates, gaps) = run(bench, &**counter, "a", sample, false)?;
    let conflicts = counter.conflicts();
    let (_, _, duplicates_after_kill, gaps_after_kill) = run(bench, &**counter, "b", sample, true)?;
    let all = if sample.is_some() { things(bench)? } else { ids };
    // Of a sample, the time of all: as many times as there are more IDs to hand out.
    let seconds = if ids == 0 { 0.0 } else { seconds * all as f64 / ids as f64 };
    Ok(Measured {
        seconds,
        records_per_second: bench.things.records() as f64 / seconds.max(f64::MIN_POSITIVE),
        ids,
        sampled: sample.filter(|_| ids < all).map(|_| ids),
        hand_out_share: None,
        conflicts,
        duplicates,
        gaps,
        killed: true,
        gaps_after_kill,
        duplicates_after_kill,
    })
}

/// How many things there are in all.
fn things(bench: &Bench) -> Result<u64, CliError> {
    let mut seen = HashSet::new();
    for chunk in 0..bench.things.chunks() {
        for (table, found) in bench.things.in_chunk(chunk)?.into_iter().enumerate() {
            seen.extend(found.keys.into_iter().map(|key| (table, key)));
        }
    }
    Ok(seen.len() as u64)
}

/// Seconds, IDs written, duplicates, gaps.
fn run(
    bench: &Bench,
    counter: &dyn Naive,
    prefix: &'static str,
    sample: Option<u64>,
    kill: bool,
) -> Result<(f64, u64, u64, u64), CliError> {
    let runtime = engine::runtime()?;
    let tables = bench.things.tables();
    for table in &tables {
        runtime.block_on(counter.make(&sequence(prefix, table))).map_err(|e| CliError::failed(e.message))?;
    }
    let work = Work {
        bench,
        counter,
        prefix,
        sample,
        next: AtomicU32::new(0),
        taken: AtomicU64::new(0),
        to_kill: AtomicBool::new(kill),
        claimed: Mutex::default(),
        written: Mutex::default(),
    };
    let since = Instant::now();
    let outcomes: Vec<Result<(), CliError>> = std::thread::scope(|scope| {
        let start = |_| scope.spawn(|| work.take_parts(runtime.handle()));
        let workers: Vec<_> = (0..bench.workers).map(start).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(panicked()))).collect()
    });
    let seconds = since.elapsed().as_secs_f64();
    outcomes.into_iter().collect::<Result<(), _>>()?;
    let (mut ids, mut duplicates, mut gaps) = (0, 0, 0);
    for given in lock(&work.written).values() {
        let distinct: HashSet<u64> = given.iter().copied().collect();
        ids += given.len() as u64;
        duplicates += (given.len() - distinct.len()) as u64;
        gaps += distinct.iter().max().copied().unwrap_or_default() - distinct.len() as u64;
    }
    Ok((seconds, ids, duplicates, gaps))
}

fn panicked() -> CliError {
    CliError::failed("a worker of the comparison ended early")
}

/// A name of letters and digits, as all services take it.
fn sequence(prefix: &str, table: &str) -> String {
    table.bytes().fold(prefix.to_owned(), |mut name, byte| {
        // A String takes everything.
        let _ = write!(name, "{byte:02x}");
        name
    })
}

impl Work<'_> {
    fn take_parts(&self, runtime: &tokio::runtime::Handle) -> Result<(), CliError> {
        loop {
            let chunk = self.next.fetch_add(1, Relaxed);
            if chunk >= self.bench.things.chunks() || self.is_enough() {
                return Ok(());
            }
            // A worker that was killed is started again, on the same part.
            while !self.take_part(runtime, chunk)? {}
        }
    }

    fn is_enough(&self) -> bool {
        self.sample.is_some_and(|sample| self.taken.load(Relaxed) >= sample)
    }

    /// Whether it came to its end.
    fn take_part(&self, runtime: &tokio::runtime::Handle, chunk: u32) -> Result<bool, CliError> {
        let mut mine = Vec::new();
        for (index, mut found) in self.bench.things.in_chunk(chunk)?.into_iter().enumerate() {
            {
                let mut claimed = lock(&self.claimed);
                found.keys.retain(|key| claimed.insert((index, *key)));
            }
            let name = sequence(self.prefix, &found.table);
            let ids = runtime.block_on(self.take(&name, found.keys.len() as u64))?;
            if !ids.is_empty() && self.to_kill.swap(false, Relaxed) {
                // What it had met and taken was in its memory alone.
                let mut claimed = lock(&self.claimed);
                for (index, keys) in mine.iter().map(|(index, _, keys, _)| (*index, keys)).chain([(index, &found.keys)])
                {
                    for key in keys {
                        claimed.remove(&(index, *key));
                    }
                }
                return Ok(false);
            }
            mine.push((index, found.table, found.keys, ids));
        }
        let mut written = lock(&self.written);
        for (_, table, _, ids) in mine {
            written.entry(table).or_default().extend(ids);
        }
        Ok(true)
    }

    async fn take(&self, sequence: &str, count: u64) -> Result<Vec<u64>, CliError> {
        let failed = |error: seriatim_counter::CounterError| CliError::failed(error.message);
        if self.sample.is_none() {
            return if count == 0 { Ok(Vec::new()) } else { self.counter.take(sequence, count).await.map_err(failed) };
        }
        let mut ids = Vec::new();
        for _ in 0..count {
            if self.is_enough() {
                break;
            }
            self.taken.fetch_add(1, Relaxed);
            ids.extend(self.counter.take(sequence, 1).await.map_err(failed)?);
        }
        Ok(ids)
    }
}
