//! One suite for every store: what is committed is what is loaded, whichever store it is.

use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use seriatim_durable::proto;
use seriatim_durable::proto::history_event::EventType;
use seriatim_hub::core::{
    ActivityRecord, ActivitySeq, Batch, BatchSeq, EntityId, EntityRecord, ExecutionNo, HistoryRange, InstanceId,
    InstanceState, LockHolder, MessageSeq, OperationRecord, OrchestrationTimer, Snapshot, TimerKind, TimerRecord,
    TimerSeq, Write,
};
use seriatim_hub::store::{MemoryStore, SqliteStore, Store, StoreError};

const HUB_ID: u128 = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;

/// Opens the same contents again and again.
type Open = Box<dyn Fn() -> Box<dyn Store>>;

/// Every kind of store, each with what has to live as long as it.
fn stores() -> Vec<(Open, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("hub.db");
    let memory = MemoryStore::new(HUB_ID);
    vec![
        (Box::new(move || Box::new(memory.clone()) as Box<dyn Store>), None),
        (Box::new(move || Box::new(SqliteStore::open(&path, HUB_ID).unwrap()) as Box<dyn Store>), Some(folder)),
    ]
}

fn event(name: &str) -> proto::HistoryEvent {
    let raised = proto::EventRaisedEvent { name: name.into(), input: Some("é\0\u{10ffff}".into()) };
    proto::HistoryEvent { event_id: -1, timestamp: None, event_type: Some(EventType::EventRaised(raised)) }
}

fn put_execution(number: u64, id: &str) -> Write {
    let start = proto::ExecutionStartedEvent { name: "n".into(), input: Some("i".into()), ..Default::default() };
    Write::PutExecution {
        execution: ExecutionNo(number),
        instance: InstanceId::from(id),
        start: Arc::new(start),
        state: InstanceState { history_len: 3, ..Default::default() },
    }
}

fn put_message(execution: u64, message: u64) -> Write {
    Write::PutMessage {
        execution: ExecutionNo(execution),
        message: MessageSeq(message),
        event: Arc::new(event(&message.to_string())),
    }
}

fn append(execution: u64, first: u64, names: &[&str]) -> Write {
    let events = names.iter().map(|name| event(name)).collect();
    Write::AppendHistory { execution: ExecutionNo(execution), first, events }
}

fn put_entity(id: &str, state: Option<&str>) -> Write {
    let holder = LockHolder { execution: 1, instance: "a".into(), section: "s".into(), releasing: true };
    let record = EntityRecord { modified: Some(prost_types::Timestamp { seconds: 5, nanos: 6 }), holder: Some(holder) };
    Write::PutEntity { entity: EntityId::parse(id).unwrap(), state: state.map(Arc::from), record }
}

fn batch(seq: u64, writes: Vec<Write>) -> Batch {
    Batch { seq: BatchSeq(seq), counter: seq * 10, writes }
}

fn load(open: &Open) -> Snapshot {
    let mut snapshot = open().load().unwrap();
    snapshot.executions.sort_by_key(|stored| stored.execution);
    snapshot
}

fn history(open: &Open, execution: u64, len: u64) -> Vec<proto::HistoryEvent> {
    open().reader().unwrap().read(HistoryRange { execution: ExecutionNo(execution), len }).unwrap()
}

#[test]
fn an_empty_store_has_its_identity_and_nothing_else() {
    for (open, _folder) in stores() {
        assert_eq!(load(&open), Snapshot { hub_id: HUB_ID, ..Default::default() });
    }
}

#[test]
fn every_kind_of_record_comes_back() {
    let operation = OperationRecord { entity: "@e@k".into(), event: event("op"), sender: 9, ..Default::default() };
    let timers = [
        TimerKind::Orchestration(OrchestrationTimer { execution: 1, timer_id: 4 }),
        TimerKind::Start(1),
        TimerKind::Operation(operation.clone()),
    ];
    let timer = |kind| TimerRecord { due: prost_types::Timestamp { seconds: 1, nanos: 2 }, kind: Some(kind) };
    let activity = ActivityRecord {
        execution: 1,
        request: proto::ActivityRequest { name: "t".into(), task_id: 7, ..Default::default() },
    };
    for (open, _folder) in stores() {
        let mut writes = vec![
            put_execution(1, "a"),
            put_message(1, 20),
            put_message(1, 3),
            Write::PutActivity { activity: ActivitySeq(5), record: Arc::new(activity.clone()) },
            put_entity("@e@k", Some("state")),
            put_entity("@e@none", None),
            Write::PutOperation { message: MessageSeq(8), record: Arc::new(operation.clone()) },
            append(1, 0, &["x", "y"]),
        ];
        for (number, kind) in (30..).zip(timers.clone()) {
            writes.push(Write::PutTimer { timer: TimerSeq(number), record: Arc::new(timer(kind)) });
        }
        open().commit(&[batch(1, writes)]).unwrap();
        let snapshot = load(&open);
        assert_eq!(snapshot.counter, 10);
        assert_eq!((snapshot.executions.len(), snapshot.executions[0].state.history_len), (1, 3));
        assert_eq!(snapshot.executions[0].start.input.as_deref(), Some("i"));
        let messages: Vec<_> = snapshot.messages.iter().map(|(_, message, _)| message.0).collect();
        assert_eq!(messages, [3, 20], "an inbox is in order");
        assert_eq!(snapshot.activities, [(ActivitySeq(5), activity.clone())]);
        assert_eq!(snapshot.timers.len(), 3);
        assert_eq!(snapshot.timers[2], (TimerSeq(32), timer(timers[2].clone())));
        assert_eq!(snapshot.operations, [(MessageSeq(8), operation.clone())]);
        let states: Vec<_> = snapshot.entities.iter().map(|stored| stored.state.as_deref()).collect();
        assert_eq!(states, [Some("state"), None]);
        assert!(snapshot.entities[0].record.holder.as_ref().unwrap().releasing);
        assert_eq!(history(&open, 1, 2), [event("x"), event("y")]);
    }
}

#[test]
fn histories_grow_at_their_end_and_are_read_up_to_a_length() {
    for (open, _folder) in stores() {
        let mut store = open();
        store.commit(&[batch(1, vec![put_execution(1, "a"), append(1, 0, &["x", "y"])])]).unwrap();
        let mut reader = store.reader().unwrap();
        store.commit(&[batch(2, vec![append(1, 2, &["z"])])]).unwrap();
        let mut read = |len| reader.read(HistoryRange { execution: ExecutionNo(1), len }).unwrap().len();
        assert_eq!((read(0), read(2), read(3), read(u64::MAX)), (0, 2, 3, 3), "a reader sees what was committed since");
        assert!(history(&open, 2, 9).is_empty());
    }
}

#[test]
fn deletes_take_away_exactly_what_they_name() {
    for (open, _folder) in stores() {
        let first = vec![put_execution(1, "a"), put_execution(2, "b"), append(1, 0, &["x"]), append(2, 0, &["x"])];
        let messages = [(1, 3), (1, 4), (1, 5), (2, 3)].map(|(execution, message)| put_message(execution, message));
        let delete = Write::DeleteMessages { execution: ExecutionNo(1), up_to: MessageSeq(4) };
        open().commit(&[batch(1, first), batch(2, messages.into()), batch(3, vec![delete])]).unwrap();
        let left: Vec<_> = load(&open).messages.iter().map(|(e, m, _)| (e.0, m.0)).collect();
        assert_eq!(left, [(1, 5), (2, 3)]);
        let again = vec![Write::DeleteExecution { execution: ExecutionNo(1) }, put_execution(3, "a")];
        open().commit(&[batch(4, again)]).unwrap();
        let snapshot = load(&open);
        let left: Vec<_> =
            snapshot.executions.iter().map(|s| (s.execution.0, s.instance.as_str().to_owned())).collect();
        assert_eq!(left, [(2, "b".to_owned()), (3, "a".to_owned())]);
        assert_eq!(snapshot.messages.len(), 1);
        assert_eq!((history(&open, 1, 9).len(), history(&open, 2, 9).len()), (0, 1));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6u8, 0..4u8).prop_map(|(kind, key)| Step::Put(kind, key)),
        (0..6u8, 0..4u8).prop_map(|(kind, key)| Step::Delete(kind, key))
    ]
}

/// The write for a step, keeping to what the core does: nothing is put twice that is put once, histories grow.
fn write(step: &Step, alive: &mut std::collections::BTreeSet<(u8, u8)>) -> Option<Write> {
    let (Step::Put(kind, key) | Step::Delete(kind, key)) = step;
    let number = u64::from(*key) + 1;
    let id = format!("@e@{key}");
    let put = matches!(step, Step::Put(..));
    if put && *kind == 5 && !alive.contains(&(0, *key)) {
        return None;
    }
    if put != alive.insert((*kind, *key)) && *kind != 4 {
        return None;
    }
    if !put {
        alive.remove(&(*kind, *key));
        if *kind == 0 {
            alive.remove(&(5, *key));
        }
    }
    Some(match (kind, put) {
        (0, true) => put_execution(number, &id),
        (0, false) => Write::DeleteExecution { execution: ExecutionNo(number) },
        (1, true) => Write::PutActivity { activity: ActivitySeq(number), record: Arc::default() },
        (1, false) => Write::DeleteActivity { activity: ActivitySeq(number) },
        (2, true) => Write::PutTimer { timer: TimerSeq(number), record: Arc::default() },
        (2, false) => Write::DeleteTimer { timer: TimerSeq(number) },
        (3, true) => Write::PutOperation { message: MessageSeq(number), record: Arc::default() },
        (3, false) => Write::DeleteOperation { message: MessageSeq(number) },
        (4, true) => put_entity(&id, Some(&id)),
        (4, false) => Write::DeleteEntity { entity: EntityId::parse(&id).unwrap() },
        (_, true) => put_message(number, number),
        (_, false) => Write::DeleteMessages { execution: ExecutionNo(number), up_to: MessageSeq(number) },
    })
}

proptest! {
    #![proptest_config(crate::cases(24))]

    #[test]
    fn all_stores_hold_the_same_after_the_same_batches(groups in prop::collection::vec(
        prop::collection::vec(prop::collection::vec(step(), 0..6), 1..4), 1..6,
    )) {
        let stores = stores();
        let mut alive = std::collections::BTreeSet::new();
        let mut seq = 0;
        for group in groups {
            let mut batches = Vec::new();
            for steps in group {
                seq += 1;
                batches.push(batch(seq, steps.iter().filter_map(|step| write(step, &mut alive)).collect()));
            }
            for (open, _) in &stores {
                open().commit(&batches).unwrap();
            }
            prop_assert_eq!(load(&stores[0].0), load(&stores[1].0));
        }
    }
}

#[test]
fn a_database_of_something_else_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE precious (x)").unwrap();
    drop(other);
    let error = SqliteStore::open(&path, 1).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    std::fs::write(&path, "this is no database, however long it may be").unwrap();
    assert!(matches!(SqliteStore::open(&path, 1).unwrap_err(), StoreError::Database { .. }));
}

#[test]
fn a_database_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.db");
    drop(SqliteStore::open(&path, 1).unwrap());
    let later = rusqlite::Connection::open(&path).unwrap();
    later.pragma_update(None, "user_version", 99).unwrap();
    drop(later);
    match SqliteStore::open(&path, 1).unwrap_err() {
        StoreError::TooNew { found: 99, known, .. } => assert!(known < 99),
        other => panic!("{other}"),
    }
}

#[test]
fn damaged_records_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.db");
    let mut store = SqliteStore::open(&path, 1).unwrap();
    store.commit(&[batch(1, vec![put_execution(7, "a")])]).unwrap();
    drop(store);
    let editor = rusqlite::Connection::open(&path).unwrap();
    editor.execute("UPDATE states SET state = x'ffff'", []).unwrap();
    drop(editor);
    let error = SqliteStore::open(&path, 1).unwrap().load().unwrap_err().to_string();
    assert!(error.contains("row 7 of table states") && error.contains("restore"), "{error}");
}
