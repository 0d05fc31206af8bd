//! G5: a run that dies at any durable step and is taken up again ends with the bytes of a run that did not. A hub that
//! stops answering just before or just after a chosen step stands for the process that is no more: the runner, its
//! tasks and the hub are then dropped as they are, without a word. (The program's own tests kill the real process.)

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use seriatim_durable::hub::{HubResult, TaskHub, WorkItemStream};
use seriatim_durable::proto::{self, work_item};
use seriatim_hub::EmbeddedHub;
use seriatim_ingest::{Project, RunReport, Runner, RunnerOptions};
use seriatim_pipeline::model::{Adopt, Check, Id, OnConflict, OnNullKey, PerGroup, Pipeline, Severity, TextId};
use tokio::sync::Notify;

use crate::cells::{Cell, Kind};
use crate::files::{Column, Layout, write};
use crate::harness::{Failed, Place, audit, keyed, open_hub, options, outcome, pipeline, runtime};
use crate::oracle::Record;
use crate::outputs::{assert_same_tree, tree};
use crate::rng::{Rng, scaled, seed};

/// Where the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    Never,
    /// At its `step`-th durable step, before or after that is on disk.
    At {
        step: u64,
        committed: bool,
    },
    /// When a step of the run with this name is about to begin.
    Before(&'static str),
    /// When a step of the run with this name is done, and nothing but its files shows it.
    After(&'static str),
}

/// What is left of a process's life.
#[derive(Debug)]
struct Life {
    death: Death,
    over: AtomicBool,
    died: Notify,
    /// The token of the step that is done and never told of.
    last: Mutex<Option<String>>,
}

impl Life {
    fn new(death: Death) -> Self {
        Self { death, over: AtomicBool::new(false), died: Notify::new(), last: Mutex::default() }
    }

    fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.died.notify_one();
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Whether the process lives to see a piece of work.
    fn sees(&self, item: &proto::WorkItem) -> bool {
        let name = match &item.request {
            Some(work_item::Request::ActivityRequest(request)) => request.name.as_str(),
            _ => "",
        };
        match self.death {
            Death::Before(last) if last == name => self.end(),
            Death::After(last) if last == name => {
                *self.last.lock().expect("not poisoned") = Some(item.completion_token.clone());
            }
            _ => {}
        }
        !self.is_over()
    }
}

/// A hub that stops answering for good at a chosen step.
#[derive(Debug)]
struct DyingHub {
    hub: Arc<EmbeddedHub>,
    life: Arc<Life>,
    steps: AtomicU64,
}

impl DyingHub {
    /// A call that changes what is on disk.
    async fn step<T>(&self, call: impl Future<Output = HubResult<T>>) -> HubResult<T> {
        let step = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        if self.life.is_over() {
            return std::future::pending().await;
        }
        match self.life.death {
            Death::At { step: last, .. } if step > last => std::future::pending().await,
            Death::At { step: last, committed } if step == last => {
                self.life.over.store(true, Ordering::SeqCst);
                if committed {
                    _ = call.await;
                }
                self.life.end();
                std::future::pending().await
            }
            _ => call.await,
        }
    }

    /// A call that changes nothing.
    async fn look<T>(&self, call: impl Future<Output = HubResult<T>>) -> HubResult<T> {
        let result = call.await;
        if self.life.is_over() { std::future::pending().await } else { result }
    }
}

#[async_trait]
impl TaskHub for DyingHub {
    async fn start_instance(&self, r: proto::CreateInstanceRequest) -> HubResult<proto::CreateInstanceResponse> {
        self.step(self.hub.start_instance(r)).await
    }

    async fn get_instance(&self, r: proto::GetInstanceRequest) -> HubResult<proto::GetInstanceResponse> {
        self.look(self.hub.get_instance(r)).await
    }

    async fn wait_for_instance_start(&self, r: proto::GetInstanceRequest) -> HubResult<proto::GetInstanceResponse> {
        self.look(self.hub.wait_for_instance_start(r)).await
    }

    async fn wait_for_instance_completion(
        &self,
        r: proto::GetInstanceRequest,
    ) -> HubResult<proto::GetInstanceResponse> {
        self.look(self.hub.wait_for_instance_completion(r)).await
    }

    async fn raise_event(&self, r: proto::RaiseEventRequest) -> HubResult<proto::RaiseEventResponse> {
        self.step(self.hub.raise_event(r)).await
    }

    async fn terminate_instance(&self, r: proto::TerminateRequest) -> HubResult<proto::TerminateResponse> {
        self.step(self.hub.terminate_instance(r)).await
    }

    async fn suspend_instance(&self, r: proto::SuspendRequest) -> HubResult<proto::SuspendResponse> {
        self.step(self.hub.suspend_instance(r)).await
    }

    async fn resume_instance(&self, r: proto::ResumeRequest) -> HubResult<proto::ResumeResponse> {
        self.step(self.hub.resume_instance(r)).await
    }

    async fn query_instances(&self, r: proto::QueryInstancesRequest) -> HubResult<proto::QueryInstancesResponse> {
        self.look(self.hub.query_instances(r)).await
    }

    async fn purge_instances(&self, r: proto::PurgeInstancesRequest) -> HubResult<proto::PurgeInstancesResponse> {
        self.step(self.hub.purge_instances(r)).await
    }

    async fn instance_history(&self, r: proto::StreamInstanceHistoryRequest) -> HubResult<Vec<proto::HistoryEvent>> {
        self.look(self.hub.instance_history(r)).await
    }

    async fn signal_entity(&self, r: proto::SignalEntityRequest) -> HubResult<proto::SignalEntityResponse> {
        self.step(self.hub.signal_entity(r)).await
    }

    async fn get_entity(&self, r: proto::GetEntityRequest) -> HubResult<proto::GetEntityResponse> {
        self.look(self.hub.get_entity(r)).await
    }

    async fn query_entities(&self, r: proto::QueryEntitiesRequest) -> HubResult<proto::QueryEntitiesResponse> {
        self.look(self.hub.query_entities(r)).await
    }

    async fn work_items(&self, r: proto::GetWorkItemsRequest) -> HubResult<WorkItemStream> {
        let items = self.look(self.hub.work_items(r)).await?;
        let life = self.life.clone();
        let seen = move |item: HubResult<proto::WorkItem>| {
            let is_seen = item.as_ref().map_or(!life.is_over(), |item| life.sees(item));
            async move { if is_seen { item } else { std::future::pending().await } }
        };
        Ok(items.then(seen).boxed())
    }

    async fn complete_activity(&self, r: proto::ActivityResponse) -> HubResult<()> {
        if self.life.last.lock().expect("not poisoned").as_ref() == Some(&r.completion_token) {
            self.life.end();
        }
        self.step(self.hub.complete_activity(r)).await
    }

    async fn complete_orchestrator(&self, r: proto::OrchestratorResponse) -> HubResult<()> {
        self.step(self.hub.complete_orchestrator(r)).await
    }

    async fn complete_entity(&self, r: proto::EntityBatchResult) -> HubResult<()> {
        self.step(self.hub.complete_entity(r)).await
    }

    async fn abandon(&self, completion_token: &str) -> HubResult<()> {
        self.step(self.hub.abandon(completion_token)).await
    }
}

/// A hub that stops answering, for tests of several processes.
#[derive(Debug)]
pub(crate) struct Dying(Arc<DyingHub>);

impl Dying {
    pub(crate) fn new(hub: Arc<EmbeddedHub>, death: Death) -> Self {
        Self(Arc::new(DyingHub { hub, life: Arc::new(Life::new(death)), steps: AtomicU64::new(0) }))
    }

    /// The hub as the process sees it.
    pub(crate) fn hub(&self) -> Arc<dyn TaskHub> {
        self.0.clone()
    }

    /// Waits for the death.
    pub(crate) async fn died(&self) {
        self.0.life.died.notified().await;
    }
}

/// One life of a process: its run to the end, or to its death (`None`). Also how many durable steps it took.
pub(crate) fn live(place: &Place, options: &RunnerOptions, death: Death) -> (Option<Result<RunReport, Failed>>, u64) {
    live_with(place, &shop(), options, death)
}

/// The same with another pipeline.
pub(crate) fn live_with(
    place: &Place,
    pipeline: &Pipeline,
    options: &RunnerOptions,
    death: Death,
) -> (Option<Result<RunReport, Failed>>, u64) {
    live_on(place, &place.project(pipeline), options, death)
}

/// The same with a project of this place.
pub(crate) fn live_on(
    place: &Place,
    project: &Project,
    options: &RunnerOptions,
    death: Death,
) -> (Option<Result<RunReport, Failed>>, u64) {
    let runtime = runtime();
    let (ended, steps, progress) = runtime.block_on(async {
        let hub = open_hub(&place.state());
        let life = Arc::new(Life::new(death));
        let dying = Arc::new(DyingHub { hub, life: life.clone(), steps: AtomicU64::new(0) });
        let runner = Runner::start(dying.clone(), options.clone(), &place.state()).expect("a runner");
        let ended = tokio::select! {
            result = runner.run(project) => Some(outcome(result)),
            () = life.died.notified() => None,
        };
        (ended, dying.steps.load(Ordering::SeqCst), runner.progress())
    });
    // A dead process's threads do no more; here, steps that are under way still end, as if the death came later. They
    // must have ended before the next life, which has the same work folder. Every step holds the progress.
    drop(runtime);
    while Arc::strong_count(&progress) > 1 {
        std::thread::yield_now();
    }
    (ended, steps)
}

pub(crate) fn shop() -> Pipeline {
    let mut orders = keyed("orders", &["order"], &["customers"], &["amount"]);
    orders.on_null_key = OnNullKey::Quarantine;
    orders.on_conflict = OnConflict::Last;
    let per_amount = |number: &str| Some(PerGroup { columns: vec!["amount".to_owned()], number: number.to_owned() });
    let text = Some(TextId { column: "order_code".to_owned(), format: "{amount}/{:03}".to_owned() });
    orders.id = Some(Id { group: per_amount("with_amount"), text, ..Id::new("orders_id") });
    let mut lines = keyed("lines", &[], &["orders", "customers"], &["amount"]);
    lines.id = Some(Id { group: per_amount("line_with_amount"), ..Id::new("lines_id") });
    let mut customers = keyed("customers", &["customer"], &[], &["amount"]);
    let text = Some(TextId { column: "code".to_owned(), format: "C{:05}/{customer}".to_owned() });
    customers.id = Some(Id { text, ..Id::new("customers_id") });
    let files = vec!["existing/*.parquet".to_owned()];
    let (key, id) = (vec!["name".to_owned()], "number".to_owned());
    customers.adopt = Some(Adopt { files, key, id, start: None });
    let check = |name: &str, condition: &str, severity| Check {
        name: name.to_owned(),
        condition: condition.to_owned(),
        severity,
        at_most: None,
    };
    let checks = vec![
        check("not-these", "amount NOT IN (11, 37)", Severity::Quarantine),
        check("little", "amount < 50", Severity::Warn),
    ];
    Pipeline { checks, ..pipeline(vec![customers, orders, lines]) }
}

/// Some customers, whose names end so, have an ID already, with gaps between them.
pub(crate) fn write_existing(folder: &Path, end: &str) {
    let existing = [Column::new("name", Kind::Text), Column::new("number", Kind::I64)];
    let customer = |n: i128| vec![Cell::Text(format!("c{n}{end}")), Cell::Int(100 + n * n)];
    let path = folder.join("existing/customers.parquet");
    if !path.exists() {
        write(&path, &existing, &[3, 1, 69, 70].map(customer), &Layout::default());
    }
}

pub(crate) fn write_parts(folder: &Path, seed: u64, parts: std::ops::Range<u64>) {
    let columns =
        [Column::new("customer", Kind::Text), Column::new("order", Kind::I64), Column::new("amount", Kind::I64)];
    write_existing(folder, "");
    for part in parts {
        let mut rng = Rng::at(seed, &[part]);
        let order = |rng: &mut Rng| if rng.percent(2) { Cell::Null } else { Cell::Int(i128::from(rng.below(200))) };
        let record = |rng: &mut Rng| {
            vec![Cell::Text(format!("c{}", rng.below(70))), order(rng), Cell::Int(i128::from(rng.below(60)))]
        };
        let records: Vec<Record> = (0..120).map(|_| record(&mut rng)).collect();
        let path = folder.join(format!("data/part-{part}.parquet"));
        write(&path, &columns, &records, &Layout { row_group: 50, ..Layout::default() });
    }
}

/// What two undisturbed runs publish, and how many durable steps each takes.
pub(crate) fn undisturbed(seed: u64, options: &RunnerOptions) -> (BTreeMap<String, Vec<u8>>, [u64; 2]) {
    undisturbed_with(&shop(), seed, options)
}

/// The same with another pipeline.
pub(crate) fn undisturbed_with(
    pipeline: &Pipeline,
    seed: u64,
    options: &RunnerOptions,
) -> (BTreeMap<String, Vec<u8>>, [u64; 2]) {
    let place = Place::new();
    let steps = [0..3, 3..5].map(|parts| {
        write_parts(place.path(), seed, parts);
        let (ended, steps) = live_with(&place, pipeline, options, Death::Never);
        ended.expect("it never dies").expect("the run is done");
        steps
    });
    audit(&place, pipeline, 2).expect("the audit passes");
    (tree(&place.output()), steps)
}

/// Runs twice, and dies `deaths` times in run `in_run` before it may end.
fn disturbed(seed: u64, options: &RunnerOptions, in_run: usize, deaths: &[Death]) -> BTreeMap<String, Vec<u8>> {
    disturbed_with(&shop(), seed, options, in_run, deaths)
}

/// The same with another pipeline.
pub(crate) fn disturbed_with(
    pipeline: &Pipeline,
    seed: u64,
    options: &RunnerOptions,
    in_run: usize,
    deaths: &[Death],
) -> BTreeMap<String, Vec<u8>> {
    let place = Place::new();
    for (index, parts) in [0..3, 3..5].into_iter().enumerate() {
        write_parts(place.path(), seed, parts);
        let deaths = if index == in_run { deaths } else { &[] };
        for death in deaths.iter().chain([&Death::Never]) {
            if let (Some(ended), _) = live_with(&place, pipeline, options, *death) {
                // A run that died after its last step is found done: then there is nothing to do.
                ended.unwrap_or_else(|e| panic!("died at {deaths:?}: {e:?}"));
            }
        }
    }
    audit(&place, pipeline, 2).unwrap_or_else(|e| panic!("died at {deaths:?}: {e}"));
    tree(&place.output())
}

pub(crate) fn crash_options() -> RunnerOptions {
    RunnerOptions { chunk_rows: 100, shards: 2, memory: 1, ..options(2) }
}

#[test]
fn g5_a_run_that_dies_at_any_durable_step_ends_with_the_same_bytes() {
    let seed = seed("g5_a_run_that_dies_at_any_durable_step_ends_with_the_same_bytes");
    let options = crash_options();
    let (expected, steps) = undisturbed(seed, &options);
    let mut deaths: Vec<(usize, Death)> = Vec::new();
    for (in_run, steps) in steps.into_iter().enumerate() {
        for step in 1..=steps {
            deaths.extend([false, true].map(|committed| (in_run, Death::At { step, committed })));
        }
    }
    println!("{} durable steps in two runs", deaths.len() / 2);
    // All of them take a while; each test run takes another sample.
    Rng::new(seed).shuffle(&mut deaths);
    deaths.truncate(scaled(60) as usize);
    for (in_run, death) in deaths {
        let found = disturbed(seed, &options, in_run, &[death]);
        assert_same_tree(&expected, &found, &format!("died in run {in_run} at {death:?}"));
    }
}

#[test]
fn g5_a_run_that_dies_again_and_again_ends_with_the_same_bytes() {
    let seed = seed("g5_a_run_that_dies_again_and_again_ends_with_the_same_bytes");
    let options = crash_options();
    let (expected, steps) = undisturbed(seed, &options);
    for round in 0..scaled(8) {
        let mut rng = Rng::at(seed, &[u64::from(round)]);
        let in_run = rng.below(2) as usize;
        let death = |rng: &mut Rng| Death::At { step: 1 + rng.below(steps[in_run] / 2), committed: rng.percent(50) };
        let deaths: Vec<Death> = (0..4).map(|_| death(&mut rng)).collect();
        let found = disturbed(seed, &options, in_run, &deaths);
        assert_same_tree(&expected, &found, &format!("died in run {in_run} at {deaths:?}"));
    }
}
