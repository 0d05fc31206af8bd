//! What records must meet besides having keys: the pipeline's checks, evaluated for each chunk, counted, and judged once
//! all chunks are counted. Whether a record fails depends on that record alone. Must never decide what happens to a file.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Field, Schema};
use serde::{Deserialize, Serialize};
use seriatim_pipeline::model::{Check, Pipeline, Severity};
use seriatim_transform::{Condition, TransformError};

use crate::error::{ErrorKind, IngestError, Result};
use crate::report::{CheckOutcome, Place};

/// The checks of a pipeline, planned for its records.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checks {
    all: Vec<(Check, Arc<Condition>)>,
}

/// How a chunk did in one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Failed {
    /// Records that failed.
    pub(crate) count: u32,
    /// The first of them: its row in the chunk.
    pub(crate) first: u32,
}

/// How some chunks did in one check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct CheckFacts {
    /// Records that failed.
    pub(crate) failed: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first: Option<Place>,
}

impl Checks {
    /// Plans the checks for records with these columns.
    pub(crate) fn new(pipeline: &Pipeline, records: &Schema) -> Result<Self> {
        if pipeline.checks.is_empty() {
            return Ok(Self::default());
        }
        let fields: Vec<Field> = records.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let records = Arc::new(Schema::new(fields));
        let plan = |check: &Check| {
            let condition = Condition::new(&check.condition, records.clone()).map_err(|e| wrong(check, &e))?;
            Ok((check.clone(), Arc::new(condition)))
        };
        Ok(Self { all: pipeline.checks.iter().map(plan).collect::<Result<_>>()? })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The columns of the records that they look at.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &String> {
        self.all.iter().flat_map(|(_, condition)| condition.columns())
    }

    /// Whether a record can go to quarantine by one of them.
    pub(crate) fn set_aside(&self) -> bool {
        self.all.iter().any(|(check, _)| check.severity == Severity::Quarantine)
    }

    /// A check, by its place in the pipeline file.
    pub(crate) fn get(&self, index: usize) -> &Check {
        &self.all[index].0
    }

    /// For each check the records that fail it; `place` says where a record of the batch is, for people.
    pub(crate) fn evaluate(&self, batch: &RecordBatch, place: impl Fn(usize) -> String) -> Result<Vec<BooleanBuffer>> {
        let evaluate = |(check, condition): &(Check, Arc<Condition>)| {
            let answers = condition.apply(batch).map_err(|e| failed(check, &e, &place))?;
            Ok(fails(&answers))
        };
        self.all.iter().map(evaluate).collect()
    }

    /// Of each record that goes to quarantine the first check that says so.
    pub(crate) fn first_reasons(&self, failed: &[BooleanBuffer]) -> Vec<(u32, u32)> {
        let mut first: Vec<(u32, u32)> = Vec::new();
        for (index, (of, (check, _))) in (0..).zip(failed.iter().zip(&self.all)) {
            if check.severity == Severity::Quarantine {
                first.extend(of.set_indices().map(|record| (record as u32, index)));
            }
        }
        first.sort_unstable();
        first.dedup_by_key(|(record, _)| *record);
        first
    }
}

/// What is known to be false; where the answer is unknown, the record passes, as in SQL's own `CHECK`.
fn fails(answers: &BooleanArray) -> BooleanBuffer {
    let not = !answers.values();
    match answers.nulls() {
        Some(known) => &not & known.inner(),
        None => not,
    }
}

fn wrong(check: &Check, error: &TransformError) -> IngestError {
    let e = IngestError::pipeline(format!("check '{}': {error}", check.name));
    match error.help() {
        Some(help) => e.help(help),
        None => e,
    }
}

fn failed(check: &Check, error: &TransformError, place: impl Fn(usize) -> String) -> IngestError {
    match error {
        TransformError::Row { row, .. } => {
            let told = wrong(check, error);
            IngestError { kind: ErrorKind::Input, message: format!("{}: {}", place(*row), told.message), ..told }
        }
        _ => wrong(check, error),
    }
}

/// How all chunks did, check by check, from what steps have counted in their order.
pub(crate) fn sum<'a>(pipeline: &Pipeline, facts: impl Iterator<Item = &'a [CheckFacts]>) -> Vec<CheckOutcome> {
    let begin =
        |check: &Check| CheckOutcome { check: check.name.clone(), severity: check.severity, failed: 0, first: None };
    let mut outcomes: Vec<CheckOutcome> = pipeline.checks.iter().map(begin).collect();
    for of_step in facts {
        for (sum, facts) in outcomes.iter_mut().zip(of_step) {
            sum.failed += facts.failed;
            sum.first = sum.first.take().or_else(|| facts.first.clone());
        }
    }
    outcomes
}

/// The first check that lets the run fail: what is to be said of it. Of a `replay` many may fail: that is why they waited.
pub(crate) fn verdict(
    pipeline: &Pipeline,
    outcomes: &[CheckOutcome],
    records: u64,
    replay: bool,
) -> Option<IngestError> {
    pipeline.checks.iter().zip(outcomes).find_map(|(check, outcome)| {
        let limit = match check.severity {
            Severity::Fail if outcome.failed == 0 => return None,
            Severity::Fail => String::new(),
            Severity::Warn | Severity::Quarantine => {
                let limit = check.at_most.filter(|limit| !replay && limit.is_exceeded(outcome.failed, records))?;
                format!(", and {limit} may")
            }
        };
        let first = outcome.first.as_ref().map(|at| format!("; the first is {}, row {}", at.file, at.row));
        Some(
            IngestError::input(format!(
                "check '{}': {} of {records} records fail `{}`{limit}{}",
                check.name,
                outcome.failed,
                check.condition.trim(),
                first.unwrap_or_default()
            ))
            .help(match check.severity {
                Severity::Fail => {
                    "mend the records, or the check; with `severity: quarantine` they are set aside, with `warn` counted"
                }
                _ => "mend the records, or the check, or raise its `at_most`; nothing of this run was published",
            }),
        )
    })
}
