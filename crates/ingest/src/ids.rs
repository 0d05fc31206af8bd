//! IDs from a counter outside the task hub, which others may share. The pipeline's own entities stay the memory of its runs:
//! a block is marked in them before the counter is asked for it, so that whoever comes after a run that died knows what to
//! give back; and it is committed in them before it is committed there. Nothing of this is done where IDs come from the
//! entities alone. Must never keep an address with its placeholders filled in.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use seriatim_counter::postgres::{NextvalCounter, RowCounter};
use seriatim_counter::table::TableCounter;
use seriatim_counter::{Ask, Counter, CounterError, CounterErrorKind, Look};
use seriatim_durable::EntityId;
use seriatim_pipeline::fill_in;
use seriatim_pipeline::model::{Id, IdSource, Pipeline, Table};

use crate::engine::{Engine, Step};
use crate::error::{ErrorKind, IngestError, Result};
use crate::number::{Reserved, ReservedTable};
use crate::orchestration::{RunInput, to_all};
use crate::process::{Doable, Steps};
use crate::progress::Step as Stage;
use crate::sequence::{Outside, SequenceState};
use crate::steps::step;

/// How long one step asks a counter that does not answer, or that another run holds. The pauses between steps are durable,
/// and a process that is to stop waits for none of them.
const PATIENCE: Duration = Duration::from_secs(2);

/// A name for a run that no other has, whatever the machine and the state folder: a block outside belongs to a name.
pub(crate) fn holder(pipeline: &Pipeline, run: &str) -> Option<String> {
    if pipeline.ids.is_entity() {
        return None;
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '.' }).collect();
    let random = uuid::Uuid::new_v4().simple().to_string();
    Some(format!("{run}~{host}~{}", &random[..16]))
}

/// Connects to the counter of a pipeline.
pub(crate) fn counter(pipeline: &Pipeline) -> Result<Box<dyn Counter>> {
    let env = |name: &str| std::env::var(name).ok();
    let url = fill_in(&pipeline.ids.url, &env).map_err(|what| {
        IngestError::new(ErrorKind::State, format!("the address of the counter that IDs come from: {what}"))
            .help("set it in the environment of every process that works on the pipeline")
    })?;
    Ok(match pipeline.ids.from {
        IdSource::Entity => return Err(IngestError::internal("the entities are no counter outside")),
        IdSource::Table => Box::new(TableCounter::new(&url, &env)?.patience(PATIENCE)),
        IdSource::Postgres => Box::new(RowCounter::new(&url, &env)?.patience(PATIENCE)),
        IdSource::Nextval => Box::new(NextvalCounter::new(&url, &env)?.patience(PATIENCE)),
    })
}

impl From<CounterError> for IngestError {
    fn from(error: CounterError) -> Self {
        let kind = match error.kind {
            // What passes: the step is tried again.
            CounterErrorKind::Unreachable | CounterErrorKind::Held => ErrorKind::System,
            CounterErrorKind::NotFitting => ErrorKind::Pipeline,
            CounterErrorKind::Refused | CounterErrorKind::Broken => ErrorKind::State,
        };
        Self { kind, message: error.message, help: error.help, file: None }
    }
}

/// Where a table's IDs come from, as its entity remembers it; `None` if from the entity itself.
pub(crate) fn source(pipeline: &Pipeline, table: &Table) -> Option<String> {
    let kind = match pipeline.ids.from {
        IdSource::Entity => return None,
        IdSource::Table => "table",
        IdSource::Postgres => "postgres",
        IdSource::Nextval => "nextval",
    };
    pipeline.sequence(table).map(|sequence| format!("{kind} {sequence}"))
}

/// A pipeline that shares a counter must go on with it: another one could give what others have taken meanwhile.
pub(crate) fn check_sources(pipeline: &Pipeline, sequences: &[SequenceState]) -> Result<()> {
    for (table, state) in pipeline.tables.iter().zip(sequences) {
        let Some(before) = &state.source else { continue };
        let now = source(pipeline, table);
        if now.as_ref() != Some(before) {
            let now = now.unwrap_or_else(|| "the pipeline's own entities".to_owned());
            return Err(IngestError::pipeline(format!(
                "the IDs of table '{}' came from {before}, and would now come from {now}",
                table.name
            ))
            .help("change `ids` and `sequence` back: others may have taken IDs there that would be given again"));
        }
    }
    Ok(())
}

/// What a run asks of a counter for one table: a block, or with a count of 0 only that the last one is given for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AskIds {
    table: u32,
    count: u64,
    /// The place that the pipeline's next ID has, at least.
    from: u64,
    /// The last run that has committed here. Its block may be open out there still, if the state folder was lost meanwhile.
    before: Option<String>,
}

step!(
    /// Reserves a block for each table, once the last run's are given for good; gives their first places.
    ReserveIds, "reserve-ids", Vec<u64>, { run: String, holder: String, asks: Vec<AskIds> });

step!(
    /// Gives the blocks of a run that is published for good.
    CommitIds, "commit-ids", (), { run: String, holder: String, tables: Vec<u32> });

step!(
    /// Gives the blocks of a run that is not published back.
    ReleaseIds, "release-ids", (), { run: String, holder: String, tables: Vec<u32> });

/// Lets people know what a step is tried again for.
fn told<T>(steps: &Steps, outcome: Result<T>) -> Result<T> {
    let passing = outcome.as_ref().err().filter(|error| error.kind == ErrorKind::System);
    steps.progress.set_trouble(passing.map(|error| error.message.clone()));
    outcome
}

impl Doable for ReserveIds {
    fn run(self, steps: &Steps) -> Result<Vec<u64>> {
        let run = steps.run(&self.run)?;
        steps.progress.enter(Stage::Reserve, self.asks.len() as u64);
        let pipeline = &run.plan.pipeline;
        let counter = counter(pipeline)?;
        // In the order of their names: two runs that share several sequences then never wait for each other.
        let mut order: Vec<usize> = (0..self.asks.len()).collect();
        order.sort_by_key(|&at| pipeline.sequence(&pipeline.tables[self.asks[at].table as usize]));
        let mut firsts = vec![0; self.asks.len()];
        for at in order {
            let ask = &self.asks[at];
            firsts[at] = told(steps, steps.wait(reserve_one(&*counter, pipeline, &self.holder, ask))?)?;
        }
        Ok(firsts)
    }
}

async fn reserve_one(counter: &dyn Counter, pipeline: &Pipeline, holder: &str, ask: &AskIds) -> Result<u64> {
    let table = &pipeline.tables[ask.table as usize];
    let (Some(sequence), Some(id)) = (pipeline.sequence(table), &table.id) else {
        return Err(IngestError::internal("a table without IDs asks for some"));
    };
    check_shape(counter, &sequence, table, id).await?;
    if let Some(before) = &ask.before {
        match counter.commit(&sequence, before).await {
            // The counter has forgotten it, as it does with old ones, or somebody has cleared it.
            Err(error) if error.kind == CounterErrorKind::Broken => {}
            committed => committed?,
        }
    }
    if ask.count == 0 {
        return Ok(ask.from);
    }
    let wanted = Ask { sequence, run: holder.to_owned(), count: ask.count, from: ask.from };
    counter.reserve(&wanted, PATIENCE).await.map_err(IngestError::from)
}

/// An existing sequence has a shape of its own, and a place of it must be the same ID on both sides.
async fn check_shape(counter: &dyn Counter, sequence: &str, table: &Table, id: &Id) -> Result<()> {
    let Some(shape) = counter.shape(sequence).await? else { return Ok(()) };
    if (shape.start, shape.step) == (id.start, id.step) {
        return Ok(());
    }
    Err(IngestError::pipeline(format!(
        "the sequence '{sequence}' starts at {} and counts by {}, the IDs of table '{}' start at {} and count by {}",
        shape.start, shape.step, table.name, id.start, id.step
    ))
    .help(format!(
        "write `id: {{column: {}, sequence: {sequence}, start: {}, step: {}}}`",
        id.column, shape.start, shape.step
    )))
}

/// Does something to the sequences of some of a run's tables.
fn settle(
    steps: &Steps,
    run: &str,
    tables: &[u32],
    work: &impl AsyncFn(&dyn Counter, &str) -> Result<(), CounterError>,
) -> Result<()> {
    let run = steps.uncancelled(run)?;
    let pipeline = &run.plan.pipeline;
    let counter = counter(pipeline)?;
    let all = async {
        for sequence in tables.iter().filter_map(|&table| pipeline.sequence(&pipeline.tables[table as usize])) {
            work(&*counter, &sequence).await?;
        }
        Ok(())
    };
    told(steps, steps.wait(all)?)
}

impl Doable for CommitIds {
    fn run(self, steps: &Steps) -> Result<()> {
        settle(steps, &self.run, &self.tables, &async |counter, sequence| counter.commit(sequence, &self.holder).await)
    }
}

impl Doable for ReleaseIds {
    fn run(self, steps: &Steps) -> Result<()> {
        settle(steps, &self.run, &self.tables, &async |counter, sequence| counter.release(sequence, &self.holder).await)
    }
}

/// Where the sequences of a pipeline's tables stand, as the counter outside says it; `None` for a table without. For who
/// only looks; it waits on a thread of its own.
pub(crate) fn look(pipeline: &Pipeline) -> Result<Vec<Option<Look>>> {
    let asking = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|e| IngestError::new(ErrorKind::System, format!("cannot start a runtime: {e}")))?;
        runtime.block_on(async {
            let counter = counter(pipeline)?;
            let mut looks = Vec::with_capacity(pipeline.tables.len());
            for table in &pipeline.tables {
                looks.push(match pipeline.sequence(table) {
                    Some(sequence) => Some(counter.look(&sequence).await?),
                    None => None,
                });
            }
            Ok(looks)
        })
    };
    // Whoever calls this may be within a runtime already.
    std::thread::scope(|scope| scope.spawn(asking).join())
        .unwrap_or_else(|_| Err(IngestError::internal("a look at the counter ended early")))
}

/// The tables whose IDs come from a counter outside.
fn outside_tables(pipeline: &Pipeline) -> Vec<u32> {
    let tables = (0..).zip(&pipeline.tables);
    tables.filter(|(_, table)| pipeline.sequence(table).is_some()).map(|(index, _)| index).collect()
}

/// Gives back what a run before this one has left reserved: it ended while the counter was out of reach.
pub(crate) async fn give_back_stale<E: Engine>(engine: &E, input: &RunInput, states: &[SequenceState]) -> Result<()> {
    for table in outside_tables(&input.pipeline) {
        let left = states[table as usize].reserved.as_ref().filter(|left| left.run != input.holder());
        if let Some(left) = left {
            let step = ReleaseIds { run: input.run.clone(), holder: left.run.clone(), tables: vec![table] };
            engine.persist(step, Some(patience(input))).await?;
        }
    }
    Ok(())
}

fn patience(input: &RunInput) -> Duration {
    Duration::from_secs(input.pipeline.ids.wait_seconds.into())
}

/// Asks the counter for the blocks of the tables that have IDs from it; their first places go into `firsts`.
pub(crate) async fn reserve<E: Engine>(
    engine: &E,
    input: &RunInput,
    states: &[SequenceState],
    counts: &[u64],
    firsts: &mut [u64],
) -> Result<()> {
    let ask = |table: u32| {
        let state = &states[table as usize];
        // What the entity gave by itself, before there was a counter, the counter has never heard of.
        let before = state.ledger.last().filter(|_| state.source.is_some()).map(|last| last.run.clone());
        AskIds { table, count: counts[table as usize], from: state.next, before }
    };
    let asks: Vec<AskIds> = outside_tables(&input.pipeline).into_iter().map(ask).collect();
    let asks: Vec<AskIds> = asks.into_iter().filter(|ask| ask.count > 0 || ask.before.is_some()).collect();
    if asks.is_empty() {
        return Ok(());
    }
    let step = ReserveIds { run: input.run.clone(), holder: input.holder(), asks: asks.clone() };
    let given = engine.persist(step, Some(patience(input))).await?;
    for (ask, first) in asks.iter().zip(given).filter(|(ask, _)| ask.count > 0) {
        firsts[ask.table as usize] = first;
    }
    Ok(())
}

/// What a table's entity is told of its block.
pub(crate) fn outside(pipeline: &Pipeline, table: &Table, block: &ReservedTable) -> Option<Outside> {
    let source = source(pipeline, table).filter(|_| block.count > 0)?;
    Some(Outside { source, first: block.first })
}

/// Gives the blocks of a published run for good. It takes as long as it takes: the run is published.
pub(crate) async fn commit<E: Engine>(engine: &E, input: &RunInput, reserved: &Reserved) -> Result<()> {
    let tables = outside_tables(&input.pipeline);
    let tables: Vec<u32> = tables.into_iter().filter(|&table| reserved.tables[table as usize].count > 0).collect();
    if tables.is_empty() {
        return Ok(());
    }
    engine.persist(CommitIds { run: input.run.clone(), holder: input.holder(), tables }, None).await
}

/// Gives back what a run has reserved that failed of `error`, which is what there is to tell. What could not be
/// `withdrawn` may be published for all that is known, and others must not get its IDs.
pub(crate) async fn give_back<E: Engine, T>(
    engine: &E,
    input: &RunInput,
    error: IngestError,
    entities: &[EntityId],
    counts: &[u64],
    withdrawn: bool,
) -> Result<T> {
    let tables = outside_tables(&input.pipeline);
    let tables: Vec<u32> = tables.into_iter().filter(|&table| counts[table as usize] > 0).collect();
    if !tables.is_empty() {
        let step = ReleaseIds { run: input.run.clone(), holder: input.holder(), tables };
        if !withdrawn || engine.step(step).await.is_err() {
            // The entities keep the marks, by which the next run knows what to give back.
            let left =
                "its IDs could not be given back, and keep others waiting: the next run of this pipeline does it";
            let help = error.help.as_ref().map_or_else(|| left.to_owned(), |help| format!("{help}; {left}"));
            return Err(error.help(help));
        }
    }
    let _: Vec<()> = engine.call("release", to_all(entities, &input.holder())).await?;
    Err(error)
}
