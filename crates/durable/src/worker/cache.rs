//! The living executions that a worker keeps between turns, the least recently used ones dropped first. This module
//! must never decide whether a copy is still right: the turn does.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::replay::Execution;

/// Which execution a copy belongs to: instance id and execution id.
pub(super) type Key = (String, String);

/// A bounded store of living executions.
#[derive(Debug)]
pub(super) struct Cache {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    kept: HashMap<Key, (u64, Execution)>,
    /// By age: the first is the least recently used.
    ages: BTreeMap<u64, Key>,
}

impl Cache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the copy out, if there is one: whoever has it is the only one to use it.
    pub(super) fn take(&self, key: &Key) -> Option<Execution> {
        let mut inner = self.inner();
        let (age, execution) = inner.kept.remove(key)?;
        inner.ages.remove(&age);
        Some(execution)
    }

    /// Keeps a copy and returns the number under which [`Cache::forget`] knows it.
    pub(super) fn put(&self, key: Key, execution: Execution) -> u64 {
        let mut dropped = Vec::new();
        let mut inner = self.inner();
        let age = inner.next;
        inner.next += 1;
        if let Some((old, execution)) = inner.kept.insert(key.clone(), (age, execution)) {
            inner.ages.remove(&old);
            dropped.push(execution);
        }
        inner.ages.insert(age, key);
        while inner.kept.len() > self.capacity {
            let Some((_, oldest)) = inner.ages.pop_first() else {
                break;
            };
            dropped.extend(inner.kept.remove(&oldest).map(|(_, execution)| execution));
        }
        // Destructors of the user's values run outside the lock.
        drop(inner);
        drop(dropped);
        age
    }

    /// Drops the copy that was put under this number, unless it was used since.
    pub(super) fn forget(&self, key: &Key, number: u64) {
        let mut inner = self.inner();
        if inner.kept.get(key).is_some_and(|(age, _)| *age == number) {
            inner.ages.remove(&number);
            let dropped = inner.kept.remove(key);
            drop(inner);
            drop(dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::registry::Registry;

    fn key(name: &str) -> Key {
        (name.to_owned(), String::new())
    }

    fn execution(name: &str) -> Execution {
        Execution::new(Arc::new(Registry::new()), name, "")
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = Cache::new(2);
        cache.put(key("a"), execution("a"));
        cache.put(key("b"), execution("b"));
        let a = cache.take(&key("a")).expect("a is kept");
        cache.put(key("a"), a);
        cache.put(key("c"), execution("c"));
        assert!(cache.take(&key("b")).is_none());
        assert!(cache.take(&key("a")).is_some());
        assert!(cache.take(&key("c")).is_some());
    }

    #[test]
    fn a_copy_that_was_used_since_is_not_forgotten() {
        let cache = Cache::new(2);
        let first = cache.put(key("a"), execution("a"));
        let a = cache.take(&key("a")).expect("a is kept");
        let second = cache.put(key("a"), a);
        cache.forget(&key("a"), first);
        assert!(cache.take(&key("a")).is_some());
        cache.put(key("a"), execution("a"));
        cache.forget(&key("a"), second + 1);
        assert!(cache.take(&key("a")).is_none());
    }

    #[test]
    fn without_capacity_nothing_is_kept() {
        let cache = Cache::new(0);
        cache.put(key("a"), execution("a"));
        assert!(cache.take(&key("a")).is_none());
    }
}
