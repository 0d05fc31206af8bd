//! A queue of what is ready to be handed out, in order, which a worker can draw from by its filter without looking at
//! what it cannot do. This module must never decide whether an item is still wanted: who draws checks that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use seriatim_durable::proto;

use super::ids::WorkerId;

/// The name and version that work items are filtered by; the version of an entity is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskName {
    pub(super) name: String,
    pub(super) version: String,
}

impl TaskName {
    pub(super) fn new(name: &str, version: Option<&str>) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), version: version.unwrap_or_default().to_owned() })
    }
}

/// What one worker takes of one kind: everything, or certain names (with certain versions, or any).
#[derive(Debug, Clone)]
pub(super) enum Filter {
    Everything,
    Names(BTreeMap<String, BTreeSet<String>>),
}

impl Filter {
    fn names<'a>(entries: impl Iterator<Item = (&'a str, &'a [String])>) -> Self {
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, versions) in entries {
            names.entry(name.to_owned()).or_default().extend(versions.iter().cloned());
        }
        Self::Names(names)
    }

    /// The filters of a worker for orchestrations, activities and entities.
    pub(super) fn of(filters: Option<&proto::WorkItemFilters>) -> [Self; 3] {
        let Some(filters) = filters else {
            return [Self::Everything, Self::Everything, Self::Everything];
        };
        let orchestrations = filters.orchestrations.iter().map(|f| (f.name.as_str(), f.versions.as_slice()));
        let activities = filters.activities.iter().map(|f| (f.name.as_str(), f.versions.as_slice()));
        let entities: Vec<String> = filters.entities.iter().map(|f| f.name.to_lowercase()).collect();
        [
            Self::names(orchestrations),
            Self::names(activities),
            Self::names(entities.iter().map(|name| (name.as_str(), [].as_slice()))),
        ]
    }

    fn accepts(&self, task: &TaskName) -> bool {
        match self {
            Self::Everything => true,
            Self::Names(names) => {
                names.get(&task.name).is_some_and(|versions| versions.is_empty() || versions.contains(&task.version))
            }
        }
    }
}

/// Items of one kind that are ready, oldest first.
#[derive(Debug)]
pub(super) struct ReadyQueue<K> {
    by_name: BTreeMap<Arc<TaskName>, BTreeMap<u64, K>>,
    /// Items that one worker alone may draw, because it still knows the instance.
    reserved: BTreeMap<WorkerId, BTreeMap<u64, K>>,
    last: u64,
}

impl<K> Default for ReadyQueue<K> {
    fn default() -> Self {
        Self { by_name: BTreeMap::new(), reserved: BTreeMap::new(), last: 0 }
    }
}

impl<K> ReadyQueue<K> {
    pub(super) fn push(&mut self, task: &Arc<TaskName>, key: K) {
        self.last += 1;
        self.by_name.entry(Arc::clone(task)).or_default().insert(self.last, key);
    }

    pub(super) fn push_for(&mut self, worker: WorkerId, key: K) {
        self.last += 1;
        self.reserved.entry(worker).or_default().insert(self.last, key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.reserved.is_empty()
    }

    /// The oldest item that this worker may have.
    pub(super) fn pop(&mut self, worker: WorkerId, filter: &Filter) -> Option<K> {
        let named = self
            .by_name
            .iter()
            .filter(|(task, _)| filter.accepts(task))
            .filter_map(|(task, keys)| keys.first_key_value().map(|(order, _)| (*order, Arc::clone(task))))
            .min_by_key(|(order, _)| *order);
        let reserved = self.reserved.get(&worker).and_then(|keys| keys.first_key_value()).map(|(order, _)| *order);
        match (named, reserved) {
            (Some((order, task)), reserved) if reserved.is_none_or(|reserved| order < reserved) => {
                pop_first(&mut self.by_name, &task)
            }
            (_, Some(_)) => pop_first(&mut self.reserved, &worker),
            _ => None,
        }
    }

    /// Everything that was reserved for this worker.
    pub(super) fn take_reserved(&mut self, worker: WorkerId) -> Vec<K> {
        self.reserved.remove(&worker).map(|keys| keys.into_values().collect()).unwrap_or_default()
    }
}

fn pop_first<N: Ord, K>(queues: &mut BTreeMap<N, BTreeMap<u64, K>>, name: &N) -> Option<K> {
    let keys = queues.get_mut(name)?;
    let key = keys.pop_first().map(|(_, key)| key);
    if keys.is_empty() {
        queues.remove(name);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const W1: WorkerId = WorkerId(1);
    const W2: WorkerId = WorkerId(2);

    fn filter(entries: &[(&str, &[&str])]) -> Filter {
        let orchestrations = entries
            .iter()
            .map(|(name, versions)| proto::OrchestrationFilter {
                name: (*name).to_owned(),
                versions: versions.iter().map(|v| (*v).to_owned()).collect(),
            })
            .collect();
        let [filter, _, _] = Filter::of(Some(&proto::WorkItemFilters { orchestrations, ..Default::default() }));
        filter
    }

    #[test]
    fn draws_in_order_over_all_names_and_reservations() {
        let mut queue = ReadyQueue::default();
        let (a, b) = (TaskName::new("a", None), TaskName::new("b", Some("2")));
        queue.push(&a, 1);
        queue.push_for(W1, 2);
        queue.push(&b, 3);
        queue.push(&a, 4);
        assert_eq!(queue.pop(W2, &Filter::Everything), Some(1));
        assert_eq!(queue.pop(W1, &Filter::Everything), Some(2));
        assert_eq!(queue.pop(W1, &filter(&[("a", &[])])), Some(4));
        assert_eq!(queue.pop(W1, &filter(&[("a", &[])])), None);
        assert_eq!(queue.pop(W1, &Filter::Everything), Some(3));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_filter_takes_any_version_only_if_it_names_none() {
        let (v1, none) = (TaskName::new("a", Some("1")), TaskName::new("a", None));
        assert!(filter(&[("a", &[])]).accepts(&v1));
        assert!(filter(&[("a", &["1"]), ("a", &["2"])]).accepts(&v1));
        assert!(!filter(&[("a", &["2"])]).accepts(&v1));
        assert!(!filter(&[("a", &["1"])]).accepts(&none));
        assert!(!filter(&[]).accepts(&none));
    }

    #[test]
    fn what_was_reserved_for_a_worker_comes_back() {
        let mut queue = ReadyQueue::default();
        queue.push_for(W1, 1);
        queue.push_for(W1, 2);
        assert_eq!(queue.pop(W2, &Filter::Everything), None);
        assert_eq!(queue.take_reserved(W1), vec![1, 2]);
        assert!(queue.is_empty());
    }
}
