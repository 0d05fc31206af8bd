//! Whole hubs: what survives, who owns a folder, what a storage failure does, and how commits are grouped.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use futures::StreamExt;
use seriatim_durable::hub::{HubError, TaskHub, WorkItemStream};
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_hub::core::{Batch, Moment, Snapshot};
use seriatim_hub::store::{HistoryReader, MemoryStore, Store, StoreError};
use seriatim_hub::{Clock, EmbeddedHub, HubOptions, ManualClock, OpenError};

use crate::driver::{complete, kinds, task, timer};

fn open(folder: &Path) -> Arc<EmbeddedHub> {
    EmbeddedHub::open(folder, HubOptions::default()).unwrap()
}

fn start(id: &str) -> proto::CreateInstanceRequest {
    proto::CreateInstanceRequest { instance_id: id.into(), name: "any".into(), ..Default::default() }
}

fn get(id: &str) -> proto::GetInstanceRequest {
    proto::GetInstanceRequest { instance_id: id.into(), get_inputs_and_outputs: true }
}

async fn worker(hub: &EmbeddedHub) -> WorkItemStream {
    hub.work_items(proto::GetWorkItemsRequest {
        max_concurrent_orchestration_work_items: 10,
        max_concurrent_activity_work_items: 10,
        max_concurrent_entity_work_items: 10,
        ..Default::default()
    })
    .await
    .unwrap()
}

/// The next item of a stream: its token and its request.
async fn next(stream: &mut WorkItemStream) -> (String, proto::work_item::Request) {
    // Far more than it takes: a hub that hands nothing out shall fail the test, not hang it.
    let item = tokio::time::timeout(Duration::from_mins(1), stream.next()).await.expect("there is something to do");
    let item = item.expect("the stream goes on").expect("the hub works");
    (item.completion_token, item.request.unwrap())
}

async fn next_turn(stream: &mut WorkItemStream) -> (String, proto::OrchestratorRequest) {
    match next(stream).await {
        (token, proto::work_item::Request::OrchestratorRequest(request)) => (token, request),
        other => panic!("{other:?}"),
    }
}

async fn next_activity(stream: &mut WorkItemStream) -> (String, proto::ActivityRequest) {
    match next(stream).await {
        (token, proto::work_item::Request::ActivityRequest(request)) => (token, request),
        other => panic!("{other:?}"),
    }
}

async fn finish(hub: &EmbeddedHub, token: &str, actions: Vec<proto::OrchestratorAction>) {
    let response = proto::OrchestratorResponse { actions, completion_token: token.to_owned(), ..Default::default() };
    hub.complete_orchestrator(response).await.unwrap();
}

async fn status(hub: &EmbeddedHub, id: &str) -> Option<Status> {
    hub.get_instance(get(id)).await.unwrap().orchestration_state.map(|state| state.orchestration_status())
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_hub_that_is_dropped_without_being_closed() {
    let folder = tempfile::tempdir().unwrap();
    let hub = open(folder.path());
    let mut stream = worker(&hub).await;
    hub.start_instance(start("a")).await.unwrap();
    let (token, _) = next_turn(&mut stream).await;
    finish(&hub, &token, vec![task(0, "t")]).await;
    let (token, _) = next_activity(&mut stream).await;
    drop((stream, hub));

    let hub = open(folder.path());
    let response = proto::ActivityResponse { completion_token: token, ..Default::default() };
    let stale = hub.complete_activity(response).await;
    assert!(matches!(stale, Err(HubError::FailedPrecondition(_))), "the new hub knows nothing of it");
    let mut stream = worker(&hub).await;
    let (token, activity) = next_activity(&mut stream).await;
    assert_eq!((activity.name.as_str(), activity.task_id), ("t", 0));
    hub.complete_activity(proto::ActivityResponse { completion_token: token, ..Default::default() }).await.unwrap();
    let (token, turn) = next_turn(&mut stream).await;
    assert_eq!(kinds(&turn.past_events), ["(", "start", "task", ")"]);
    finish(&hub, &token, vec![complete(1)]).await;
    hub.close().await.unwrap();

    let hub = open(folder.path());
    assert_eq!(status(&hub, "a").await, Some(Status::Completed));
    let history = proto::StreamInstanceHistoryRequest { instance_id: "a".into(), ..Default::default() };
    assert_eq!(hub.instance_history(history).await.unwrap().len(), 8);
}

#[tokio::test]
async fn a_closed_hub_leaves_one_file_and_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let hub = open(folder.path());
    let mut stream = worker(&hub).await;
    hub.start_instance(start("a")).await.unwrap();
    next_turn(&mut stream).await;
    let waiting = tokio::spawn({
        let hub = Arc::clone(&hub);
        async move { hub.wait_for_instance_completion(get("a")).await }
    });
    tokio::task::yield_now().await;
    hub.close().await.unwrap();
    assert!(stream.next().await.is_none(), "streams end");
    assert!(matches!(waiting.await.unwrap(), Err(HubError::Unavailable(_))));
    assert!(matches!(hub.start_instance(start("b")).await, Err(HubError::Unavailable(_))));
    assert!(matches!(hub.get_instance(get("a")).await, Err(HubError::Unavailable(_))));
    hub.close().await.unwrap();
    let wal = folder.path().join("hub.db-wal");
    assert!(!wal.exists() || wal.metadata().unwrap().len() == 0, "the log is tidied up");
    assert_eq!(status(&open(folder.path()), "a").await, Some(Status::Pending));
}

#[tokio::test]
async fn a_second_hub_on_the_same_folder_is_told_who_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    match EmbeddedHub::open(folder.path(), HubOptions::default()) {
        Err(OpenError::Held { owner, path }) => {
            assert_eq!(owner.pid, std::process::id());
            assert!(!owner.host.is_empty() && !owner.command.is_empty() && owner.started > 0);
            assert_eq!(path, folder.path().join("hub.lock"));
        }
        other => panic!("{other:?}"),
    }
    first.close().await.unwrap();
    open(folder.path());
}

/// Symptom: `run --no-wait` said now and then that a process had the state folder that had ended long ago. Cause: who asks
/// whether a folder has an owner (`seriatim runs`) shares the lock for a moment, and that was taken for an owner. Now a
/// lock that can be shared is nobody's, and is tried again.
#[tokio::test]
async fn who_only_looks_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).close().await.unwrap();
    let onlooker = std::fs::File::open(folder.path().join("hub.lock")).unwrap();
    onlooker.try_lock_shared().unwrap();
    let looking = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        drop(onlooker);
    });
    open(folder.path());
    looking.join().unwrap();
}

/// Symptom: of processes that began at once on a folder, one was told to wait for a process that had ended before. Cause:
/// the owner had the lock and had not written itself down yet. Now a name of a process that is gone is read again.
#[tokio::test]
async fn an_owner_is_named_that_has_only_just_become_one() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).close().await.unwrap();
    let path = folder.path().join("hub.lock");
    let this = std::fs::read_to_string(&path).unwrap();
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    std::fs::write(&path, this.replace(&std::process::id().to_string(), &gone.id().to_string())).unwrap();
    let owner = std::fs::File::open(&path).unwrap();
    owner.try_lock().unwrap();
    let writing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(&path, this).unwrap();
    });
    let refused = EmbeddedHub::open(folder.path(), HubOptions::default());
    assert!(matches!(&refused, Err(OpenError::Held { owner, .. }) if owner.pid == std::process::id()), "{refused:?}");
    writing.join().unwrap();
}

/// Names the folder that [`child`] opens, if this process was started to be one.
const CHILD: &str = "SERIATIM_HUB_TEST_CHILD";

/// Not a test of its own: the process that holds a folder for the next test.
#[tokio::test]
async fn child() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let hub = open(Path::new(&folder));
    for id in std::io::stdin().lines() {
        let id = id.unwrap();
        hub.start_instance(start(&id)).await.unwrap();
        println!("started {id}");
        std::io::stdout().flush().unwrap();
    }
}

#[tokio::test]
async fn another_process_that_holds_a_folder_is_named_and_its_death_frees_the_folder_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::child", "--nocapture"])
        .env(CHILD, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut orders = child.stdin.take().unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    for n in 0..20 {
        writeln!(orders, "i{n}").unwrap();
        // The test harness prints lines of its own.
        while told.next().unwrap().unwrap() != format!("started i{n}") {}
    }
    let refused = EmbeddedHub::open(folder.path(), HubOptions::default());
    assert!(matches!(&refused, Err(OpenError::Held { owner, .. }) if owner.pid == child.id()), "{refused:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    let hub = open(folder.path());
    for n in 0..20 {
        assert_eq!(status(&hub, &format!("i{n}")).await, Some(Status::Pending));
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_gives_its_activity_to_another() {
    let hub = EmbeddedHub::in_memory(HubOptions::default()).unwrap();
    let mut first = worker(&hub).await;
    hub.start_instance(start("a")).await.unwrap();
    let (token, _) = next_turn(&mut first).await;
    finish(&hub, &token, vec![task(0, "t")]).await;
    let (old, _) = next_activity(&mut first).await;
    let mut second = worker(&hub).await;
    drop(first);
    let (new, _) = next_activity(&mut second).await;
    assert_ne!(old, new);
    let response = |token: &str| proto::ActivityResponse { completion_token: token.into(), ..Default::default() };
    assert!(matches!(hub.complete_activity(response(&old)).await, Err(HubError::FailedPrecondition(_))));
    hub.complete_activity(response(&new)).await.unwrap();
    assert_eq!(kinds(&next_turn(&mut second).await.1.new_events), ["(", "task done"]);
}

#[tokio::test]
async fn timers_follow_the_injected_clock() {
    let clock = ManualClock::new(Moment::from_seconds(1_000_000));
    let options = HubOptions { clock: Arc::new(clock.clone()), ..HubOptions::default() };
    let hub = EmbeddedHub::in_memory(options).unwrap();
    let mut stream = worker(&hub).await;
    hub.start_instance(start("a")).await.unwrap();
    let (token, _) = next_turn(&mut stream).await;
    finish(&hub, &token, vec![timer(0, Moment::from_seconds(1_000_000 + 86_400))]).await;
    clock.advance(Duration::from_hours(24));
    assert_eq!(kinds(&next_turn(&mut stream).await.1.new_events), ["(", "timer fired"]);
}

/// A clock that counts how often it is asked to wait.
#[derive(Debug, Clone)]
struct Counted(ManualClock, Arc<AtomicUsize>);

impl Clock for Counted {
    fn now(&self) -> Moment {
        self.0.now()
    }

    fn sleep_until(&self, moment: Moment) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.sleep_until(moment)
    }
}

/// Symptom: one core was busy for as long as somebody held a hub that had been deleted. Cause: what is due when a hub ends
/// stays due, and the hub went on asking for it. Mend: a hub that takes nothing more is not asked.
#[tokio::test]
async fn a_closed_hub_does_not_wait_for_what_is_due() {
    let clock = Counted(ManualClock::new(Moment::from_seconds(1_000_000)), Arc::default());
    let options = HubOptions { clock: Arc::new(clock.clone()), ..HubOptions::default() };
    let hub = EmbeddedHub::in_memory(options).unwrap();
    let mut stream = worker(&hub).await;
    hub.start_instance(start("a")).await.unwrap();
    let (token, _) = next_turn(&mut stream).await;
    finish(&hub, &token, vec![timer(0, Moment::from_seconds(1_000_000 + 86_400))]).await;
    hub.close().await.unwrap();
    clock.0.advance(Duration::from_hours(24));
    let settle = async || {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        clock.1.load(Ordering::SeqCst)
    };
    let waits = settle().await;
    assert!(waits > 0, "it waited for the timer while it was open");
    assert_eq!(settle().await, waits);
}

#[tokio::test]
async fn waiting_is_over_when_the_instance_ends_and_can_be_given_up() {
    let hub = EmbeddedHub::in_memory(HubOptions::default()).unwrap();
    hub.start_instance(start("a")).await.unwrap();
    {
        let mut given_up = Box::pin(hub.wait_for_instance_completion(get("a")));
        assert!(futures::poll!(&mut given_up).is_pending());
    }
    let hub_too = Arc::clone(&hub);
    let waiting = tokio::spawn(async move { hub_too.wait_for_instance_completion(get("a")).await });
    let mut stream = worker(&hub).await;
    let (token, _) = next_turn(&mut stream).await;
    finish(&hub, &token, vec![complete(0)]).await;
    let state = waiting.await.unwrap().unwrap().orchestration_state.unwrap();
    assert_eq!(state.output.as_deref(), Some("\"out\""));
}

#[tokio::test]
async fn options_out_of_range_are_refused_by_name() {
    let wrong = HubOptions { items_per_worker: 0, ..HubOptions::default() };
    let error = EmbeddedHub::in_memory(wrong).unwrap_err();
    assert!(matches!(error, OpenError::InvalidOption { option: "items_per_worker", .. }), "{error}");
    let wrong = HubOptions { orchestrator_lease: Duration::ZERO, ..HubOptions::default() };
    assert!(EmbeddedHub::in_memory(wrong).unwrap_err().to_string().contains("orchestrator_lease"));
}

#[test]
fn a_hub_needs_a_runtime() {
    assert!(matches!(EmbeddedHub::in_memory(HubOptions::default()), Err(OpenError::NoRuntime)));
}

/// A store whose commits do what the test says.
struct Scripted<F> {
    inner: MemoryStore,
    commit: F,
}

impl<F: FnMut(&[Batch]) -> Result<(), StoreError> + Send + 'static> Store for Scripted<F> {
    fn load(&mut self) -> Result<Snapshot, StoreError> {
        self.inner.load()
    }

    fn commit(&mut self, group: &[Batch]) -> Result<(), StoreError> {
        (self.commit)(group)?;
        self.inner.commit(group)
    }

    fn reader(&self) -> Result<Box<dyn HistoryReader>, StoreError> {
        self.inner.reader()
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

#[tokio::test]
async fn the_first_failed_commit_fences_the_hub_and_nothing_after_it_is_acknowledged() {
    for nth in 1..8 {
        let inner = MemoryStore::new(1);
        let commits = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&commits);
        let commit = move |_: &[Batch]| {
            if count.fetch_add(1, Ordering::SeqCst) + 1 == nth {
                return Err(StoreError::Other("the disk is full".into()));
            }
            Ok(())
        };
        let store = Scripted { inner: inner.clone(), commit };
        let hub = EmbeddedHub::with_store(Box::new(store), HubOptions::default()).unwrap();
        let mut stream = worker(&hub).await;
        let mut acknowledged = Vec::new();
        let fenced = loop {
            let id = format!("i{}", acknowledged.len());
            match hub.start_instance(start(&id)).await {
                Ok(_) => acknowledged.push(id),
                Err(error) => break error,
            }
        };
        assert_eq!(acknowledged.len(), nth - 1);
        assert!(matches!(&fenced, HubError::Fenced(cause) if cause.contains("the disk is full")), "{fenced}");
        assert!(matches!(hub.get_instance(get("i0")).await, Err(HubError::Fenced(_))), "reads fail too");
        assert!(matches!(hub.abandon("x").await, Err(HubError::Fenced(_))));
        assert!(matches!(hub.close().await, Err(HubError::Fenced(_))));
        let mut last = None;
        while let Some(item) = stream.next().await {
            last = Some(item);
        }
        assert!(matches!(last, Some(Err(HubError::Fenced(_)))), "the stream ends with the cause");
        assert_eq!(commits.load(Ordering::SeqCst), nth, "a failed commit is not tried again");
        // Whoever opens the store again finds what was acknowledged.
        let hub = EmbeddedHub::with_store(Box::new(inner), HubOptions::default()).unwrap();
        for id in &acknowledged {
            assert_eq!(status(&hub, id).await, Some(Status::Pending));
        }
        assert_eq!(status(&hub, &format!("i{}", acknowledged.len())).await, None);
    }
}

#[tokio::test]
async fn what_arrives_during_a_commit_is_committed_together_and_in_order() {
    let (began, beginnings) = mpsc::channel();
    let (go, gate) = mpsc::channel::<()>();
    let groups = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&groups);
    let commit = move |group: &[Batch]| {
        seen.lock().unwrap().push(group.iter().map(|batch| batch.seq.0).collect::<Vec<_>>());
        began.send(()).unwrap();
        gate.recv().unwrap();
        Ok(())
    };
    let store = Scripted { inner: MemoryStore::new(1), commit };
    let hub = EmbeddedHub::with_store(Box::new(store), HubOptions::default()).unwrap();
    let mut first = Box::pin(hub.start_instance(start("a")));
    assert!(futures::poll!(&mut first).is_pending());
    beginnings.recv().unwrap();
    let mut others: Vec<_> = (0..5).map(|n| Box::pin(hub.start_instance(start(&format!("b{n}"))))).collect();
    let mut read = Box::pin(hub.get_instance(get("b0")));
    for other in &mut others {
        assert!(futures::poll!(other).is_pending());
    }
    assert!(futures::poll!(&mut read).is_pending(), "a read does not show what is not on disk");
    go.send(()).unwrap();
    first.await.unwrap();
    beginnings.recv().unwrap();
    go.send(()).unwrap();
    for other in others {
        other.await.unwrap();
    }
    assert!(read.await.unwrap().exists);
    assert_eq!(*groups.lock().unwrap(), [vec![1], vec![2, 3, 4, 5, 6]]);
    let stats = hub.journal_stats();
    assert_eq!((stats.commits, stats.batches), (2, 6));
}
