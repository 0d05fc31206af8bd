//! The durable entities of an ingest: a *sequence* for each table, and one *catalog* for each pipeline. They are small:
//! numbers, names, the last ranges. What is large (key maps, ledgers) is in files that they name. An operation must
//! never do I/O, and asked twice by the same run it must give the same answer.

use serde::{Deserialize, Serialize};
use seriatim_durable::{Entity, EntityContext, EntityId, Failure, Operation};

use crate::drift::SourceTypes;
use crate::layout::TableSignature;

/// The entity name of sequences.
pub(crate) const SEQUENCE: &str = "sequence";
/// The entity name of catalogs.
pub(crate) const CATALOG: &str = "catalog";
/// How many of the last ranges an entity shows; the whole ledger is in the state folder.
const LEDGER: usize = 100;

/// The sequence of a pipeline's table.
pub(crate) fn sequence_id(pipeline: &str, table: &str) -> EntityId {
    EntityId::new(SEQUENCE, format!("{pipeline}.{table}"))
}

/// The catalog of a pipeline.
pub(crate) fn catalog_id(pipeline: &str) -> EntityId {
    EntityId::new(CATALOG, pipeline)
}

/// A sequence's state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SequenceState {
    /// How many IDs are given for good; the next one's place, counted from 0.
    pub(crate) next: u64,
    /// The block that a run has asked for and neither committed nor released.
    pub(crate) reserved: Option<Reservation>,
    /// The key map's segments, by file name.
    pub(crate) segments: Vec<String>,
    /// The last ranges that were given for good.
    pub(crate) ledger: Vec<Range>,
    /// How many places before `next` are not this pipeline's: others share the counter that IDs come from.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) others: u64,
    /// The counter that IDs come from, if it is not this entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// The segments that have the last number of each group, by file name, if rows are numbered within groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
    /// How many keys were taken over with their IDs from a table that existed before; their places are among the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) adopted: Option<u64>,
}

/// Keys that are taken over with their IDs from a table that existed before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AdoptedKeys {
    /// The key map's segment that has them.
    pub(crate) segment: String,
    pub(crate) keys: u64,
    /// The place of the first ID that comes after theirs.
    pub(crate) first: u64,
}

/// Whether a field that most pipelines do not need is left out.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A block of a sequence that is not given for good yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reservation {
    pub(crate) run: String,
    pub(crate) count: u64,
}

/// A block that was given for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    pub(crate) run: String,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// Input of `commit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommitSequence {
    pub(crate) run: String,
    /// The key map's segments from now on.
    pub(crate) segments: Vec<String>,
    /// The segments of groups from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
    /// Where the block is, if another counter has given it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outside: Option<Outside>,
    /// What the sequence begins with, if this is its first block and comes after IDs that existed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) adopted: Option<AdoptedKeys>,
}

/// A block that another counter has given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outside {
    /// The counter.
    pub(crate) source: String,
    /// The block's first place in it.
    pub(crate) first: u64,
}

/// Input of `restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestoreSequence {
    /// Where the sequence is now.
    pub(crate) before: u64,
    /// Where it has to go on.
    pub(crate) next: u64,
    /// The key map's segments from now on.
    pub(crate) segments: Vec<String>,
    /// How many places before `next` are others', if a counter outside gives the IDs.
    #[serde(default)]
    pub(crate) others: u64,
    /// That counter.
    #[serde(default)]
    pub(crate) source: Option<String>,
    /// The last block that it gave.
    #[serde(default)]
    pub(crate) last: Option<Range>,
    /// The segments of groups from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
    /// How many keys were taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) adopted: Option<u64>,
}

/// A table's sequence: hands out its IDs, one block per run.
#[derive(Debug)]
pub(crate) struct Sequence;

impl Entity for Sequence {
    type State = SequenceState;

    fn operation(
        &mut self,
        _: &mut EntityContext,
        state: &mut SequenceState,
        operation: &Operation,
    ) -> Result<serde_json::Value, Failure> {
        match operation.name() {
            "get" => operation.reply(state),
            "reserve" => {
                let asked: Reservation = operation.input()?;
                reserve(state, asked)?;
                operation.reply(&state.next)
            }
            "commit" => {
                commit(state, operation.input()?)?;
                operation.reply(&state.next)
            }
            "release" => {
                let run: String = operation.input()?;
                state.reserved.take_if(|r| r.run == run);
                operation.reply(&())
            }
            "restore" => {
                restore(state, operation.input()?)?;
                operation.reply(&())
            }
            _ => Err(operation.not_supported()),
        }
    }
}

/// A block is only marked here: `next` moves when it is committed, so a run that ends otherwise leaves no gap.
fn reserve(state: &mut SequenceState, asked: Reservation) -> Result<(), Failure> {
    match &state.reserved {
        Some(open) if open.run == asked.run && open.count != asked.count => Err(Failure::non_retriable(
            "InternalError",
            format!("run '{}' reserved {} IDs and now asks for {}", asked.run, open.count, asked.count),
        )),
        // Another run's open block: that run has lost the lock without a word, and gave none of it out.
        _ => {
            state.reserved = Some(asked);
            Ok(())
        }
    }
}

fn commit(state: &mut SequenceState, commit: CommitSequence) -> Result<(), Failure> {
    if state.ledger.last().is_some_and(|last| last.run == commit.run) {
        return Ok(());
    }
    let block = state.reserved.take_if(|r| r.run == commit.run).ok_or_else(|| {
        Failure::non_retriable("InternalError", format!("run '{}' commits IDs that it did not reserve", commit.run))
    })?;
    let first = match commit.outside {
        Some(outside) if outside.first < state.next => {
            return Err(Failure::non_retriable(
                "InternalError",
                format!("run '{}' commits IDs from place {} on; {} are given", block.run, outside.first, state.next),
            ));
        }
        Some(outside) => {
            state.others += outside.first - state.next;
            state.source = Some(outside.source);
            outside.first
        }
        None => state.next,
    };
    let first = match commit.adopted {
        Some(adopted) if state.next == 0 => {
            state.others = adopted.first;
            state.adopted = Some(adopted.keys);
            adopted.first
        }
        Some(_) => {
            let text = format!("run '{}' takes a table over that has given {} IDs", block.run, state.next);
            return Err(Failure::non_retriable("InternalError", text));
        }
        None => first,
    };
    state.ledger.push(Range { run: block.run, first, count: block.count });
    if state.ledger.len() > LEDGER {
        state.ledger.remove(0);
    }
    state.next = first + block.count;
    state.segments = commit.segments;
    state.groups = commit.groups;
    Ok(())
}

/// Goes forward only: an ID that was given must never be given again. What other state folders' runs have given stands
/// in their ledgers.
fn restore(state: &mut SequenceState, to: RestoreSequence) -> Result<(), Failure> {
    let RestoreSequence { before, next, segments, groups, others, source, last, adopted } = to;
    if (state.next, &state.segments, &state.groups) == (next, &segments, &groups) {
        return Ok(());
    }
    if state.next != before || next < before {
        return Err(Failure::non_retriable(
            "InternalError",
            format!("a sequence at {} is to be restored from {before} to {next}", state.next),
        ));
    }
    let ledger = last.into_iter().collect();
    *state = SequenceState { next, segments, groups, others, source, reserved: None, ledger, adopted };
    Ok(())
}

/// A catalog's state: what a pipeline's published runs have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CatalogState {
    /// How many runs are published.
    pub(crate) number: u64,
    /// The last of them.
    pub(crate) run: Option<String>,
    /// The columns of the published files.
    pub(crate) layout: Vec<TableSignature>,
    /// The types of the source's columns, where files may differ in them.
    #[serde(default, skip_serializing_if = "SourceTypes::is_empty")]
    pub(crate) source: SourceTypes,
}

/// Input of the catalog's `commit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommitCatalog {
    pub(crate) run: String,
    pub(crate) number: u64,
    pub(crate) layout: Vec<TableSignature>,
    #[serde(default, skip_serializing_if = "SourceTypes::is_empty")]
    pub(crate) source: SourceTypes,
}

/// Input of the catalog's `restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestoreCatalog {
    /// How many runs it knows now.
    pub(crate) before: u64,
    pub(crate) number: u64,
    pub(crate) layout: Vec<TableSignature>,
    #[serde(default, skip_serializing_if = "SourceTypes::is_empty")]
    pub(crate) source: SourceTypes,
}

/// A pipeline's catalog: counts its published runs.
#[derive(Debug)]
pub(crate) struct Catalog;

impl Entity for Catalog {
    type State = CatalogState;

    fn operation(
        &mut self,
        _: &mut EntityContext,
        state: &mut CatalogState,
        operation: &Operation,
    ) -> Result<serde_json::Value, Failure> {
        match operation.name() {
            "get" => operation.reply(state),
            "commit" => {
                let commit: CommitCatalog = operation.input()?;
                if commit.number == state.number + 1 {
                    let CommitCatalog { run, number, layout, source } = commit;
                    *state = CatalogState { number, run: Some(run), layout, source };
                } else if state.run.as_ref() != Some(&commit.run) {
                    return Err(Failure::non_retriable(
                        "InternalError",
                        format!("run '{}' commits as number {} after {}", commit.run, commit.number, state.number),
                    ));
                }
                operation.reply(&())
            }
            "restore" => {
                let RestoreCatalog { before, number, layout, source } = operation.input()?;
                if state.number == before && number > before {
                    *state = CatalogState { number, run: None, layout, source };
                } else if state.number != number {
                    return Err(Failure::non_retriable(
                        "InternalError",
                        format!("a catalog at {} is to be restored from {before} to {number}", state.number),
                    ));
                }
                operation.reply(&())
            }
            _ => Err(operation.not_supported()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(run: &str, count: u64) -> Reservation {
        Reservation { run: run.to_owned(), count }
    }

    fn done(run: &str) -> CommitSequence {
        CommitSequence {
            run: run.to_owned(),
            segments: vec![format!("{run}.parquet")],
            groups: Vec::new(),
            outside: None,
            adopted: None,
        }
    }

    #[test]
    fn g2_a_released_block_leaves_no_gap() {
        let mut state = SequenceState::default();
        reserve(&mut state, asked("a", 10)).unwrap();
        state.reserved.take_if(|r| r.run == "a");
        reserve(&mut state, asked("b", 5)).unwrap();
        commit(&mut state, done("b")).unwrap();
        assert_eq!((state.next, state.ledger[0].first), (5, 0));
    }

    #[test]
    fn g5_reserving_and_committing_twice_is_once() {
        let mut state = SequenceState::default();
        reserve(&mut state, asked("a", 10)).unwrap();
        reserve(&mut state, asked("a", 10)).unwrap();
        commit(&mut state, done("a")).unwrap();
        commit(&mut state, done("a")).unwrap();
        assert_eq!((state.next, state.ledger.len()), (10, 1));
        assert_eq!(state.segments, ["a.parquet"]);
    }

    #[test]
    fn g1_a_sequence_is_restored_forward_only() {
        let to = |before, next| RestoreSequence {
            before,
            next,
            segments: vec![format!("{next}.parquet")],
            others: 0,
            source: None,
            last: None,
            groups: Vec::new(),
            adopted: None,
        };
        let mut state = SequenceState::default();
        restore(&mut state, to(0, 10)).unwrap();
        restore(&mut state, to(0, 10)).expect("asked again, it is done");
        assert!(restore(&mut state, to(0, 20)).is_err(), "it is not where it was thought to be");
        assert!(restore(&mut state, to(10, 9)).is_err(), "an ID would be given twice");
        reserve(&mut state, asked("a", 5)).unwrap();
        restore(&mut state, to(10, 20)).unwrap();
        assert_eq!((state.next, state.segments, state.reserved), (20, vec!["20.parquet".to_owned()], None));
    }

    #[test]
    fn g1_a_block_of_a_shared_counter_is_where_the_counter_says() {
        let mut state = SequenceState::default();
        let outside = |first| Some(Outside { source: "postgres shop.orders".to_owned(), first });
        for (run, first) in [("a", 0), ("b", 25)] {
            reserve(&mut state, asked(run, 10)).unwrap();
            commit(&mut state, CommitSequence { outside: outside(first), ..done(run) }).unwrap();
        }
        assert_eq!((state.next, state.others, state.ledger[1].first), (35, 15, 25));
        reserve(&mut state, asked("c", 1)).unwrap();
        assert!(commit(&mut state, CommitSequence { outside: outside(34), ..done("c") }).is_err());
    }

    #[test]
    fn g1_a_sequence_begins_after_the_ids_of_a_table_that_it_takes_over() {
        let mut state = SequenceState::default();
        let adopted = AdoptedKeys { segment: "000000.parquet".to_owned(), keys: 7, first: 20 };
        for run in ["a", "b"] {
            reserve(&mut state, asked(run, 5)).unwrap();
            let adopted = Some(adopted.clone()).filter(|_| run == "a");
            commit(&mut state, CommitSequence { adopted, ..done(run) }).unwrap();
        }
        assert_eq!((state.next, state.others, state.adopted, state.ledger[0].first), (30, 20, Some(7), 20));
        reserve(&mut state, asked("c", 5)).unwrap();
        assert!(commit(&mut state, CommitSequence { adopted: Some(adopted), ..done("c") }).is_err());
    }

    /// What most pipelines do not need is not in their state, so that it is as it always was.
    #[test]
    fn a_sequence_that_is_not_shared_says_nothing_of_it() {
        let state = serde_json::to_string(&SequenceState::default()).unwrap();
        assert_eq!(state, r#"{"next":0,"reserved":null,"segments":[],"ledger":[]}"#);
        assert_eq!(serde_json::to_string(&done("a")).unwrap(), r#"{"run":"a","segments":["a.parquet"]}"#);
    }

    #[test]
    fn g1_a_block_that_was_not_reserved_is_not_committed() {
        let mut state = SequenceState::default();
        reserve(&mut state, asked("a", 10)).unwrap();
        assert!(commit(&mut state, done("b")).is_err());
        assert!(reserve(&mut state, asked("a", 11)).is_err());
        assert_eq!(state.next, 0);
    }
}
