//! Evaluating a transform, or some of its columns, on one batch after another. The good path works
//! on whole columns; only after a failure is the batch taken apart, to name the first row that
//! fails. A batch without rows is never evaluated: a constant that fails would fail without a row.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions, new_empty_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{FilterBuilder, cast, is_not_null, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion_common::cast::as_boolean_array;
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_physical_expr::PhysicalExpr;

use crate::error::{self, ErrorKind, SqlError, TransformError};
use crate::lookup::Joined;
use crate::plan::{Computed, Plan, Step};
use crate::{lower, stack};

/// Source values that an error shows, and how much of each.
const SHOWN_INPUTS: usize = 8;
const SHOWN_CHARS: usize = 60;

/// An expression ready to run.
#[derive(Debug)]
struct Expression {
    run: Arc<dyn PhysicalExpr>,
    text: String,
    /// Positions of the input columns that it depends on.
    inputs: BTreeSet<usize>,
}

#[derive(Debug)]
enum Stage {
    /// Keeps rows, and of these the columns at `keep`.
    Filter { predicate: Expression, schema: SchemaRef, keep: Vec<usize> },
    /// Looks the keys up, keeps the columns at `keep` and adds those of the look-up at `taken`; no keys: nothing is taken.
    Lookup {
        keys: Vec<Expression>,
        joined: Arc<Joined>,
        is_inner: bool,
        schema: SchemaRef,
        keep: Vec<usize>,
        taken: Vec<usize>,
    },
    /// Makes new columns.
    Project { columns: Vec<Expression>, schema: SchemaRef },
}

/// Some output columns of a transform, ready to be computed from batches that hold the source
/// columns that they need.
#[derive(Debug)]
pub struct Projected {
    input_columns: Vec<String>,
    /// The plain type of each input.
    input_types: Vec<DataType>,
    /// The type of each input as the source declares it.
    declared_types: Vec<DataType>,
    stages: Vec<Stage>,
    schema: SchemaRef,
}

/// Where an evaluation failed.
struct Failure {
    stage: usize,
    column: Option<usize>,
    reason: String,
}

type Evaluated = (RecordBatch, Option<BooleanArray>);

impl Projected {
    /// Prepares the output columns at these positions. Must run on a large stack.
    pub(crate) fn new(plan: &Plan, outputs: &[usize]) -> Result<Self, SqlError> {
        let needs = needs(&plan.steps, outputs);
        let sources: Vec<usize> = needs[0].iter().copied().collect();
        // Where the columns that are still alive lie in the step's full input, and which of the
        // inputs each depends on.
        let mut live = sources.clone();
        let mut lineage: Vec<BTreeSet<usize>> = (0..live.len()).map(|index| BTreeSet::from([index])).collect();
        let mut stages = Vec::with_capacity(plan.steps.len());
        for (index, step) in plan.steps.iter().enumerate() {
            let last = index + 1 == plan.steps.len();
            match step {
                Step::Filter { predicate, input, uses } => {
                    let shape = Shape::new(input, &live)?;
                    let predicate = shape.expression(predicate, uses, &lineage)?;
                    let keep: Vec<usize> = (0..live.len()).filter(|at| needs[index + 1].contains(&live[*at])).collect();
                    lineage = keep.iter().map(|at| lineage[*at].clone()).collect();
                    live = keep.iter().map(|at| live[*at]).collect();
                    let schema = shape.schema;
                    stages.push(Stage::Filter { predicate, schema, keep });
                }
                Step::Lookup { keys, joined, is_inner, input, uses } => {
                    let shape = Shape::new(input, &live)?;
                    let own = input.fields().len();
                    let after = &needs[index + 1];
                    let keep: Vec<usize> = (0..live.len()).filter(|at| after.contains(&live[*at])).collect();
                    let taken: Vec<usize> = after.iter().filter(|at| **at >= own).map(|at| at - own).collect();
                    let made: Vec<Expression> = if *is_inner || !taken.is_empty() {
                        keys.iter().map(|key| shape.expression(key, uses, &lineage)).collect::<Result<_, _>>()?
                    } else {
                        Vec::new()
                    };
                    let found: BTreeSet<usize> = made.iter().flat_map(|key| key.inputs.iter().copied()).collect();
                    lineage = keep.iter().map(|at| lineage[*at].clone()).collect();
                    lineage.extend(taken.iter().map(|_| found.clone()));
                    live = keep.iter().map(|at| live[*at]).chain(taken.iter().map(|at| at + own)).collect();
                    let (joined, is_inner, schema) = (Arc::clone(joined), *is_inner, shape.schema);
                    stages.push(Stage::Lookup { keys: made, joined, is_inner, schema, keep, taken });
                }
                Step::Project { columns, input } => {
                    let shape = Shape::new(input, &live)?;
                    let wanted: Vec<usize> =
                        if last { outputs.to_vec() } else { needs[index + 1].iter().copied().collect() };
                    let made: Vec<Expression> = wanted
                        .iter()
                        .map(|at| shape.expression(&columns[*at].expr, &columns[*at].uses, &lineage))
                        .collect::<Result<_, _>>()?;
                    lineage = made.iter().map(|it| it.inputs.clone()).collect();
                    live = wanted;
                    let schema = shape.schema;
                    stages.push(Stage::Project { columns: made, schema });
                }
            }
        }
        let field = |schema: &SchemaRef, at: &usize| schema.field(*at).clone();
        let types = |schema: &SchemaRef| -> Vec<DataType> {
            sources.iter().map(|at| schema.field(*at).data_type().clone()).collect()
        };
        let fields: Vec<Field> = outputs.iter().map(|at| field(&plan.schema, at)).collect();
        Ok(Self {
            input_columns: sources.iter().map(|at| plan.source.field(*at).name().clone()).collect(),
            input_types: types(&plan.plain),
            declared_types: types(&plan.source),
            stages,
            schema: Arc::new(Schema::new(fields)),
        })
    }

    /// The columns that [`Self::apply`] wants, by name, in source order.
    pub fn input_columns(&self) -> &[String] {
        &self.input_columns
    }

    /// The columns of the result.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Evaluates one batch; the order of the rows is kept. The second value says for every row of
    /// the batch whether it was kept; `None` means that all were.
    ///
    /// The batch holds exactly [`Self::input_columns`], with the types that the source declares or
    /// their plain forms (text for a dictionary of text). What a row gives does not depend on the
    /// other rows of the batch.
    ///
    /// # Errors
    /// [`TransformError::Row`] with the first row that fails; [`TransformError::Evaluation`] if none
    /// fails alone; [`TransformError::Batch`] if the batch holds other columns.
    pub fn apply(&self, batch: &RecordBatch) -> Result<Evaluated, TransformError> {
        let columns = self.inputs(batch)?;
        self.attempt(&columns, batch.num_rows()).map_err(|failure| self.explain(&columns, batch.num_rows(), failure))
    }

    /// Checks the batch and makes its columns plain.
    fn inputs(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, TransformError> {
        if batch.num_columns() != self.input_columns.len() {
            return Err(TransformError::Batch(format!(
                "it has {} columns, but {} are needed: {}",
                batch.num_columns(),
                self.input_columns.len(),
                self.input_columns.join(", ")
            )));
        }
        let schema = batch.schema_ref();
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (index, column) in batch.columns().iter().enumerate() {
            let name = &self.input_columns[index];
            let found = schema.field(index).name();
            if found != name {
                return Err(TransformError::Batch(format!(
                    "its column {index} is `{found}`, but `{name}` is needed there"
                )));
            }
            let plain = &self.input_types[index];
            if column.data_type() == plain {
                columns.push(Arc::clone(column));
            } else if *column.data_type() == self.declared_types[index] {
                let made = cast(column, plain).map_err(|error| {
                    TransformError::Batch(format!("its column `{name}` cannot be read as {plain}: {error}"))
                })?;
                columns.push(made);
            } else {
                return Err(TransformError::Batch(format!(
                    "its column `{name}` has the type {}, but {plain} is needed",
                    column.data_type()
                )));
            }
        }
        Ok(columns)
    }

    /// Evaluates, and turns a panic into a failure.
    fn attempt(&self, columns: &[ArrayRef], rows: usize) -> Result<Evaluated, Failure> {
        // Nothing is changed in place, so nothing is left half done by a panic.
        catch_unwind(AssertUnwindSafe(|| self.evaluate(columns.to_vec(), rows))).unwrap_or_else(|payload| {
            Err(Failure { stage: self.stages.len() - 1, column: None, reason: stack::message(payload.as_ref()) })
        })
    }

    fn evaluate(&self, mut columns: Vec<ArrayRef>, all_rows: usize) -> Result<Evaluated, Failure> {
        let mut rows = all_rows;
        let mut mask: Option<BooleanBuffer> = None;
        for (index, stage) in self.stages.iter().enumerate() {
            if rows == 0 {
                break;
            }
            let failed =
                |column| move |error: DataFusionError| Failure { stage: index, column, reason: error::reason(&error) };
            match stage {
                Stage::Filter { predicate, schema, keep } => {
                    let batch = batch(schema, columns, rows).map_err(failed(None))?;
                    let chosen = choose(predicate, &batch).map_err(failed(None))?;
                    let kept = chosen.true_count();
                    columns = keep.iter().map(|at| Arc::clone(batch.column(*at))).collect();
                    if kept < rows {
                        columns = filter(&columns, &chosen).map_err(failed(None))?;
                        mask = Some(compose(mask, chosen.values()));
                        rows = kept;
                    }
                }
                Stage::Lookup { keys, keep, .. } if keys.is_empty() => {
                    columns = keep.iter().map(|at| Arc::clone(&columns[*at])).collect();
                }
                Stage::Lookup { keys, joined, is_inner, schema, keep, taken } => {
                    let batch = batch(schema, columns, rows).map_err(failed(None))?;
                    let value = |(at, key): (usize, &Expression)| {
                        key.run.evaluate(&batch).and_then(|value| value.into_array(rows)).map_err(failed(Some(at)))
                    };
                    let values: Vec<ArrayRef> = keys.iter().enumerate().map(value).collect::<Result<_, _>>()?;
                    let found = joined.find(&values).map_err(failed(None))?;
                    columns = keep.iter().map(|at| Arc::clone(batch.column(*at))).collect();
                    for at in taken {
                        columns.push(joined.take(*at, &found).map_err(failed(None))?);
                    }
                    if *is_inner && found.null_count() > 0 {
                        let chosen = is_not_null(&found).map_err(|error| failed(None)(error.into()))?;
                        columns = filter(&columns, &chosen).map_err(failed(None))?;
                        mask = Some(compose(mask, chosen.values()));
                        rows = chosen.true_count();
                    }
                }
                Stage::Project { columns: made, schema } => {
                    let batch = batch(schema, columns, rows).map_err(failed(None))?;
                    columns = made
                        .iter()
                        .enumerate()
                        .map(|(column, expression)| {
                            expression
                                .run
                                .evaluate(&batch)
                                .and_then(|value| value.into_array(rows))
                                .map_err(failed(Some(column)))
                        })
                        .collect::<Result<_, _>>()?;
                }
            }
        }
        let result = self.result(columns, rows).map_err(|error| Failure {
            stage: self.stages.len() - 1,
            column: None,
            reason: error::reason(&error),
        })?;
        Ok((result, mask.map(|mask| BooleanArray::new(mask, None))))
    }

    fn result(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, DataFusionError> {
        let fields = self.schema.fields();
        let columns = match rows {
            0 => fields.iter().map(|it| new_empty_array(it.data_type())).collect(),
            _ => columns
                .into_iter()
                .zip(fields)
                .map(|(column, field)| {
                    let plain = column.data_type() == field.data_type();
                    if plain { Ok(column) } else { cast(&column, field.data_type()) }
                })
                .collect::<Result<_, _>>()?,
        };
        batch(&self.schema, columns, rows)
    }

    /// Finds the first row that fails. That is a search by halves because a row fails or not by
    /// itself: each round evaluates half as many rows as the one before.
    fn explain(&self, columns: &[ArrayRef], rows: usize, whole: Failure) -> TransformError {
        let slice =
            |from: usize, to: usize| -> Vec<ArrayRef> { columns.iter().map(|it| it.slice(from, to - from)).collect() };
        let (mut from, mut to) = (0, rows);
        while to - from > 1 {
            let middle = from + (to - from) / 2;
            match self.attempt(&slice(from, middle), middle - from) {
                Err(_) => to = middle,
                Ok(_) => from = middle,
            }
        }
        let one = slice(from, to);
        let name = |it: Option<&Expression>| it.map_or_else(|| "the transform".to_owned(), |it| it.text.clone());
        let Err(failure) = self.attempt(&one, to - from) else {
            return TransformError::Evaluation { expression: name(self.culprit(&whole).1), reason: whole.reason };
        };
        let (output, expression) = self.culprit(&failure);
        TransformError::Row {
            row: from,
            output,
            expression: name(expression),
            reason: failure.reason,
            inputs: expression.map_or_else(Vec::new, |it| self.shown(&one, &it.inputs)),
        }
    }

    fn culprit(&self, failure: &Failure) -> (Option<String>, Option<&Expression>) {
        match (&self.stages[failure.stage], failure.column) {
            (Stage::Filter { predicate, .. }, _) => (None, Some(predicate)),
            (Stage::Lookup { keys, .. }, at) => (None, keys.get(at.unwrap_or(0))),
            (Stage::Project { columns, .. }, Some(column)) => {
                let last = failure.stage + 1 == self.stages.len();
                let output = last.then(|| self.schema.field(column).name().clone());
                (output, columns.get(column))
            }
            (Stage::Project { .. }, None) => (None, None),
        }
    }

    /// Names and values of a one-row batch's columns.
    fn shown(&self, row: &[ArrayRef], inputs: &BTreeSet<usize>) -> Vec<(String, String)> {
        inputs.iter().take(SHOWN_INPUTS).map(|at| (self.input_columns[*at].clone(), show(&row[*at]))).collect()
    }
}

fn show(array: &ArrayRef) -> String {
    if array.is_null(0) {
        return "NULL".to_owned();
    }
    let value = array_value_to_string(array, 0).unwrap_or_else(|_| "?".to_owned());
    let mut shown: String = value.chars().take(SHOWN_CHARS).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => format!("'{shown}'"),
        _ => shown,
    }
}

/// The columns that each step needs of its input, as positions; the last entry is the outputs.
fn needs(steps: &[Step], outputs: &[usize]) -> Vec<BTreeSet<usize>> {
    let mut needs = vec![outputs.iter().copied().collect::<BTreeSet<usize>>()];
    for step in steps.iter().rev() {
        let after = needs.last().cloned().unwrap_or_default();
        needs.push(match step {
            Step::Filter { uses, .. } => after.union(uses).copied().collect(),
            Step::Lookup { input, uses, is_inner, .. } => {
                let own = input.fields().len();
                let is_used = *is_inner || after.iter().any(|at| *at >= own);
                let keys = uses.iter().filter(|_| is_used).copied();
                after.iter().filter(|at| **at < own).copied().chain(keys).collect()
            }
            Step::Project { columns, .. } => {
                let used = |at: &usize| columns.get(*at).map(|it: &Computed| it.uses.iter().copied());
                after.iter().filter_map(used).flatten().collect()
            }
        });
    }
    needs.reverse();
    needs
}

/// The positions in the source of the columns that these outputs, and all filters, need.
pub(crate) fn sources(steps: &[Step], outputs: &[usize]) -> BTreeSet<usize> {
    needs(steps, outputs).swap_remove(0)
}

/// The input of a step, without the columns that nothing needs.
struct Shape {
    named: DFSchema,
    schema: SchemaRef,
    /// From the position in the full input to the position here.
    places: BTreeMap<usize, usize>,
}

impl Shape {
    fn new(input: &DFSchema, live: &[usize]) -> Result<Self, SqlError> {
        let fields = live
            .iter()
            .map(|at| {
                let (qualifier, field) = input.qualified_field(*at);
                (qualifier.cloned(), Arc::clone(field))
            })
            .collect();
        let named = DFSchema::new_with_metadata(fields, std::collections::HashMap::new())?;
        // Between the stages every column may hold nulls: what a planner infers about an
        // intermediate result is no reason to refuse it.
        let nullable: Vec<Field> =
            named.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        Ok(Self {
            named,
            schema: Arc::new(Schema::new(nullable)),
            places: live.iter().enumerate().map(|(here, full)| (*full, here)).collect(),
        })
    }

    fn expression(
        &self,
        expr: &datafusion_expr::Expr,
        uses: &BTreeSet<usize>,
        lineage: &[BTreeSet<usize>],
    ) -> Result<Expression, SqlError> {
        let inputs = uses
            .iter()
            .filter_map(|full| self.places.get(full))
            .flat_map(|here| lineage[*here].iter().copied())
            .collect();
        let run = lower::lower(expr, &self.named).map_err(|error| {
            let error = SqlError::from(error);
            match error.kind {
                ErrorKind::Unsupported => error,
                _ => SqlError { kind: ErrorKind::Type, ..error },
            }
        })?;
        Ok(Expression { text: lower::text(&run), run, inputs })
    }
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, DataFusionError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// Which rows the predicate keeps; an unknown answer drops the row.
fn choose(predicate: &Expression, batch: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
    let answer = predicate.run.evaluate(batch)?.into_array(batch.num_rows())?;
    let answer = as_boolean_array(&answer)?;
    Ok(match answer.null_count() {
        0 => answer.clone(),
        _ => prep_null_mask_filter(answer),
    })
}

fn filter(columns: &[ArrayRef], chosen: &BooleanArray) -> Result<Vec<ArrayRef>, DataFusionError> {
    let mut builder = FilterBuilder::new(chosen);
    if columns.len() > 1 {
        builder = builder.optimize();
    }
    let filter = builder.build();
    columns.iter().map(|column| filter.filter(column).map_err(DataFusionError::from)).collect()
}

/// The rows kept so far, less those that a later filter drops.
fn compose(so_far: Option<BooleanBuffer>, chosen: &BooleanBuffer) -> BooleanBuffer {
    let Some(so_far) = so_far else {
        return chosen.clone();
    };
    let mut kept = BooleanBufferBuilder::new(so_far.len());
    kept.append_n(so_far.len(), false);
    for (row, still) in so_far.set_indices().zip(chosen) {
        if still {
            kept.set_bit(row, true);
        }
    }
    kept.finish()
}
