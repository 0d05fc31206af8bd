//! Which writes of a group still matter when the whole group is written at once. Turns and entity batches run ahead of
//! the disk, so a group often makes a message and deals with it, or changes the same state a hundred times: of those only
//! the last word is written. This module must never change what a store holds after the group.

use std::collections::{HashMap, HashSet};

use crate::core::{Batch, EntityId, ExecutionNo, MessageSeq, Write};

/// A row that is made once and taken away once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Row {
    Execution(u64),
    Operation(u64),
    Activity(u64),
    Timer(u64),
}

/// Whether a write makes a row or takes it away.
fn row(write: &Write) -> Option<(Row, bool)> {
    Some(match write {
        Write::PutExecution { execution, .. } => (Row::Execution(execution.0), true),
        Write::DeleteExecution { execution } => (Row::Execution(execution.0), false),
        Write::PutOperation { message, .. } => (Row::Operation(message.0), true),
        Write::DeleteOperation { message } => (Row::Operation(message.0), false),
        Write::PutActivity { activity, .. } => (Row::Activity(activity.0), true),
        Write::DeleteActivity { activity } => (Row::Activity(activity.0), false),
        Write::PutTimer { timer, .. } => (Row::Timer(timer.0), true),
        Write::DeleteTimer { timer } => (Row::Timer(timer.0), false),
        _ => return None,
    })
}

/// The first and the last write of a row in the group.
struct Ends {
    first: usize,
    last: usize,
}

/// The writes of a group that matter, in order, for a store that writes a group all or not at all.
pub fn squeezed(group: &[Batch]) -> Vec<&Write> {
    let all: Vec<&Write> = group.iter().flat_map(|batch| &batch.writes).collect();
    let mut rows: HashMap<Row, Ends> = HashMap::new();
    for (index, write) in all.iter().enumerate() {
        if let Some((row, _)) = row(write) {
            rows.entry(row).and_modify(|ends| ends.last = index).or_insert(Ends { first: index, last: index });
        }
    }
    let mut later = Later::default();
    let mut kept = Vec::new();
    for (index, &write) in all.iter().enumerate().rev() {
        let matters = match row(write) {
            Some((row, makes)) => {
                later.pass(write);
                // A row is made for good by its last write, and there was one to take away only if that came first.
                let ends = &rows[&row];
                if makes { ends.last == index } else { ends.first == index }
            }
            None => later.matters(write),
        };
        if matters {
            kept.push(write);
        }
    }
    kept.reverse();
    kept
}

/// What is known of the writes after the one that is looked at.
#[derive(Default)]
struct Later<'a> {
    /// Executions that are forgotten.
    gone: HashSet<ExecutionNo>,
    states: HashSet<ExecutionNo>,
    /// Up to which message each inbox is dealt with.
    inboxes: HashMap<ExecutionNo, MessageSeq>,
    entities: HashSet<&'a EntityId>,
}

impl<'a> Later<'a> {
    /// Takes note of an execution's beginning or end.
    fn pass(&mut self, write: &Write) {
        match write {
            Write::DeleteExecution { execution } => _ = self.gone.insert(*execution),
            Write::PutExecution { execution, .. } => {
                // What is before it is of an earlier one.
                self.gone.remove(execution);
                self.states.remove(execution);
                self.inboxes.remove(execution);
            }
            _ => {}
        }
    }

    /// Whether nothing later undoes this write; notes what it undoes itself.
    fn matters(&mut self, write: &'a Write) -> bool {
        match write {
            Write::PutState { execution, .. } => !self.gone.contains(execution) && self.states.insert(*execution),
            Write::AppendHistory { execution, .. } => !self.gone.contains(execution),
            Write::PutMessage { execution, message, .. } => {
                !self.gone.contains(execution) && self.inboxes.get(execution).is_none_or(|up_to| message > up_to)
            }
            Write::DeleteMessages { execution, up_to } => {
                let covered = self.inboxes.get(execution).is_some_and(|later| later >= up_to);
                if !covered {
                    self.inboxes.insert(*execution, *up_to);
                }
                !covered && !self.gone.contains(execution)
            }
            Write::PutEntity { entity, .. } | Write::DeleteEntity { entity } => self.entities.insert(entity),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::{BatchSeq, InstanceId, InstanceState, OperationRecord};

    const ONE: ExecutionNo = ExecutionNo(1);

    fn state(history_len: u64) -> Write {
        Write::PutState { execution: ONE, state: InstanceState { history_len, ..Default::default() } }
    }

    fn append(first: u64) -> Write {
        Write::AppendHistory { execution: ONE, first, events: Vec::new() }
    }

    fn message(number: u64) -> Write {
        Write::PutMessage { execution: ONE, message: MessageSeq(number), event: Arc::default() }
    }

    fn put_operation(number: u64) -> Write {
        Write::PutOperation { message: MessageSeq(number), record: Arc::new(OperationRecord::default()) }
    }

    fn delete_operation(number: u64) -> Write {
        Write::DeleteOperation { message: MessageSeq(number) }
    }

    /// What is left of these writes, one batch for each.
    fn left(writes: Vec<Write>) -> Vec<String> {
        let batch = |(seq, write)| Batch { seq: BatchSeq(seq), counter: seq, writes: vec![write] };
        let group: Vec<Batch> = (1..).zip(writes).map(batch).collect();
        squeezed(&group).into_iter().map(|write| format!("{write:?}")).collect()
    }

    fn shown(writes: &[Write]) -> Vec<String> {
        writes.iter().map(|write| format!("{write:?}")).collect()
    }

    #[test]
    fn of_a_chain_only_its_events_and_its_last_state_are_left() {
        let dealt_with = |number| Write::DeleteMessages { execution: ONE, up_to: MessageSeq(number) };
        let chain = vec![
            message(1),
            dealt_with(1),
            append(0),
            state(1),
            put_operation(2),
            delete_operation(2),
            message(3),
            dealt_with(3),
            append(1),
            state(2),
            message(4),
        ];
        assert_eq!(left(chain), shown(&[append(0), dealt_with(3), append(1), state(2), message(4)]));
    }

    #[test]
    fn what_was_there_before_the_group_is_taken_away() {
        assert_eq!(left(vec![delete_operation(1)]), shown(&[delete_operation(1)]));
        let again = vec![delete_operation(1), put_operation(1), delete_operation(1), put_operation(1)];
        assert_eq!(left(again), shown(&[delete_operation(1), put_operation(1)]));
    }

    #[test]
    fn of_an_execution_that_only_passes_nothing_is_left() {
        let put = Write::PutExecution {
            execution: ONE,
            instance: InstanceId::from("a"),
            start: Arc::default(),
            state: InstanceState::default(),
        };
        let delete = Write::DeleteExecution { execution: ONE };
        let passing = vec![put.clone(), message(1), append(0), state(1), delete.clone()];
        assert_eq!(left(passing), Vec::<String>::new());
        let replaced = vec![append(5), state(6), delete.clone(), put.clone(), message(1), state(1)];
        assert_eq!(left(replaced), shown(&[delete, put, message(1), state(1)]));
    }
}
