//! The ways of handing out IDs, side by side on a user's own records, in a scratch folder: the program itself, one step
//! after another and in parallel, and small programs as they are often written, each with its counter. What each gave is
//! audited, and so is what is left when a worker was killed in the middle. Must never touch the pipeline's own folders.

mod chart;
mod naive;
mod real;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use seriatim_counter::Secret;
use seriatim_counter::naive::{Etag, Naive, Sequence, Unguarded};
use seriatim_counter::services::{Azurite, Postgres, PostgresOptions};
use seriatim_counter::table::TableClient;
use seriatim_ingest::{Project, RunnerOptions, Things};

use crate::args::{CompareArgs, Service};
use crate::error::CliError;
use crate::ui::Ui;

pub(crate) use chart::write as write_chart;

/// What was found out about one way.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Way {
    /// Its name.
    #[serde(rename = "way")]
    pub(crate) name: &'static str,
    /// Whether it does the whole pipeline, or only finds the keys and hands out IDs, and writes no table.
    pub(crate) whole: bool,
    /// Whether it must not be done so.
    #[serde(rename = "unsafe")]
    pub(crate) hazard: bool,
    /// What was measured, or why nothing was.
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// What became of a way.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was measured.
    Measured(Measured),
    /// It was not, for this reason.
    Skipped(String),
}

/// The figures of a way.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Measured {
    /// Wall time for all records.
    pub(crate) seconds: f64,
    /// Records a second.
    pub(crate) records_per_second: f64,
    /// IDs that were handed out while it was measured.
    pub(crate) ids: u64,
    /// If only so many IDs were handed out: `seconds` is computed from the time that they took.
    pub(crate) sampled: Option<u64>,
    /// The share of the time in which the run waited for its IDs, if it is known.
    pub(crate) hand_out_share: Option<f64>,
    /// Changes that were refused because somebody else had been there, and were tried again.
    pub(crate) conflicts: u64,
    /// IDs that were given more than once.
    pub(crate) duplicates: u64,
    /// IDs that nobody got.
    pub(crate) gaps: u64,
    /// Whether a worker (or the program) could be killed in the middle; a run of a few milliseconds ends before.
    pub(crate) killed: bool,
    /// The gaps after a worker (or the program) was killed in the middle and started again.
    pub(crate) gaps_after_kill: u64,
    /// IDs given more than once in that case.
    pub(crate) duplicates_after_kill: u64,
}

/// The whole comparison.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Comparison {
    /// The pipeline's name.
    pub(crate) pipeline: String,
    /// Its records.
    pub(crate) records: u64,
    /// Workers of the parallel ways.
    pub(crate) workers: usize,
    /// The ways.
    pub(crate) ways: Vec<Way>,
}

/// What a naive way runs on.
pub(crate) struct Bench {
    pub(crate) things: Arc<Things>,
    pub(crate) workers: usize,
}

fn way(name: &'static str, outcome: Result<Measured, CliError>) -> Result<Way, CliError> {
    Ok(Way { name, whole: false, hazard: false, outcome: Outcome::Measured(outcome?) })
}

fn skipped(name: &'static str, why: &str) -> Way {
    Way { name, whole: false, hazard: false, outcome: Outcome::Skipped(why.to_owned()) }
}

/// Compares all ways.
pub(crate) fn compare(project: &Project, args: &CompareArgs, ui: &Ui) -> Result<Comparison, CliError> {
    let scratch = tempfile::tempdir().map_err(|e| CliError::io("make a folder in", &std::env::temp_dir(), &e))?;
    let default = RunnerOptions::default();
    let workers = args.workers.map_or_else(|| default.workers.max(4), usize::from);
    // Parts as small as a function's that is called for each blob, so that workers meet at the counter.
    let things = Things::open(project, &RunnerOptions { workers, ..default.clone() })?;
    let chunk_rows = (things.records() / (workers as u64 * 8)).clamp(1, default.chunk_rows.into()) as u32;
    let things = Arc::new(Things::open(project, &RunnerOptions { workers, chunk_rows, ..default })?);
    let mut ways = Vec::new();
    for (name, fan_out) in [("sequential", false), ("durable entity, per batch", true)] {
        ui.remark(format!("{name}: the whole pipeline, twice"));
        let measured = real::measure(args, project, &scratch.path().join(name.replace([' ', ','], "-")), fan_out)?;
        ways.push(Way { whole: true, ..way(name, Ok(measured))? });
    }
    let bench = Bench { things: things.clone(), workers };
    ui.remark("unsafe counter: do not do this");
    let counters = scratch.path().join("counters");
    std::fs::create_dir(&counters).map_err(|e| CliError::io("make the folder", &counters, &e))?;
    let unguarded: Arc<dyn Naive> = Arc::new(Unguarded::new(counters, ANSWER));
    let measured = naive::measure(&bench, &unguarded, None);
    ways.push(Way { hazard: true, ..way("unsafe counter, per batch", measured)? });
    ways.extend(with_azurite(&bench, args, ui)?);
    ways.push(with_postgres(&bench, args, ui)?);
    Ok(Comparison { pipeline: project.pipeline().name.clone(), records: things.records(), workers, ways })
}

/// How long the unguarded counter's storage takes to answer, in the middle of what services in one region take.
pub(crate) const ANSWER: Duration = Duration::from_millis(5);

const BATCH: &str = "e-tag on Table Storage, per batch";
const RECORD: &str = "e-tag on Table Storage, per record";
const SEQUENCE: &str = "PostgreSQL sequence, per batch";

fn with_azurite(bench: &Bench, args: &CompareArgs, ui: &Ui) -> Result<Vec<Way>, CliError> {
    let none = |why: &str| Ok(vec![skipped(BATCH, why), skipped(RECORD, why)]);
    if !args.with.contains(&Service::Azurite) {
        return none("needs `--with azurite`");
    }
    let azurite = match Azurite::start() {
        Ok(azurite) => azurite,
        Err(error) => return none(&error),
    };
    let counter = |table: &str| -> Result<Arc<dyn Naive>, CliError> {
        let client = TableClient::new(&azurite.table(table), &|_| None).map_err(|e| CliError::failed(e.message))?;
        Ok(Arc::new(Etag::new(client)))
    };
    ui.remark(BATCH);
    let batch = way(BATCH, naive::measure(bench, &counter("batch")?, None))?;
    ui.remark(format!("{RECORD}: {} IDs", args.sample));
    let record = way(RECORD, naive::measure(bench, &counter("record")?, Some(args.sample)))?;
    Ok(vec![batch, record])
}

fn with_postgres(bench: &Bench, args: &CompareArgs, ui: &Ui) -> Result<Way, CliError> {
    if !args.with.contains(&Service::Postgres) {
        return Ok(skipped(SEQUENCE, "needs `--with postgres`"));
    }
    let postgres = match Postgres::start(&PostgresOptions { durable: true, ..PostgresOptions::default() }) {
        Ok(postgres) => postgres,
        Err(error) => return Ok(skipped(SEQUENCE, &error)),
    };
    ui.remark(SEQUENCE);
    let sequence = Sequence::new(&Secret::new(postgres.url())).map_err(|e| CliError::failed(e.message))?;
    let sequence: Arc<dyn Naive> = Arc::new(sequence);
    way(SEQUENCE, naive::measure(bench, &sequence, None))
}
