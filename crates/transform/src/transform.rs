//! A planned transform, and the questions that a pipeline asks about it before any row is read:
//! which columns come out, which are needed for some of them, and which pass through unchanged.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::{ErrorKind, SqlError, TransformError};
use crate::lookup::Lookup;
use crate::names;
use crate::plan::{self, Plan, Step};
use crate::projected::{self, Projected};
use crate::stack;

/// One row-wise SELECT over the table `source`. Cheap to clone.
#[derive(Clone)]
pub struct Transform {
    sql: Arc<str>,
    plan: Arc<Plan>,
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transform").field("sql", &self.sql).field("schema", &self.plan.schema).finish_non_exhaustive()
    }
}

impl Transform {
    /// Plans `sql`, one SELECT over the table `source`, which has the columns of `source`.
    ///
    /// # Errors
    /// [`TransformError::Sql`] if the SQL is wrong or not row-wise.
    pub fn new(sql: &str, source: SchemaRef) -> Result<Self, TransformError> {
        Self::with_lookups(sql, source, &[])
    }

    /// The same with tables that it joins. What they hold is brought by [`Self::fill`], before anything is evaluated.
    ///
    /// # Errors
    /// The same; also if it does not join one of them.
    pub fn with_lookups(sql: &str, source: SchemaRef, lookups: &[Lookup]) -> Result<Self, TransformError> {
        let plan = on_stack(|| plan::plan(sql, source, lookups))?;
        Ok(Self { sql: sql.into(), plan: Arc::new(plan) })
    }

    /// Brings what a look-up holds: its columns, as it was planned with, and no key twice. A second time nothing changes.
    ///
    /// # Errors
    /// [`TransformError::Evaluation`] if keys cannot be compared as they are joined.
    pub fn fill(&self, lookup: &str, rows: &RecordBatch) -> Result<(), TransformError> {
        self.plan.steps.iter().try_for_each(|step| match step {
            Step::Lookup { joined, .. } if joined.name == lookup => joined.fill(rows),
            _ => Ok(()),
        })
    }

    /// The columns of the result.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.schema)
    }

    /// Names, in source order, of the source columns that are needed to compute these output columns
    /// and all filters. Names that are no output columns need nothing.
    pub fn source_columns(&self, outputs: &[&str]) -> Vec<String> {
        let outputs: Vec<usize> = outputs.iter().filter_map(|name| self.plan.schema.index_of(name).ok()).collect();
        projected::sources(&self.plan.steps, &outputs)
            .into_iter()
            .map(|at| self.plan.source.field(at).name().clone())
            .collect()
    }

    /// Names, in source order, of the source columns that the SQL names in whatever way, also in `* EXCEPT`: where one of
    /// them is missing, the same SQL cannot be planned. Some may be named that are not meant, as those called like a table.
    pub fn named_columns(&self) -> Vec<String> {
        let words = plan::words(&self.sql);
        let is_named = |name: &String| words.iter().any(|word| names::may_mean(word, name));
        self.plan.source.fields().iter().map(|field| field.name().clone()).filter(is_named).collect()
    }

    /// The source column that this output column is, unchanged in value and type. Rows may still be
    /// missing: see [`Self::filters_rows`].
    pub fn pass_through(&self, output: &str) -> Option<&str> {
        let mut at = self.plan.schema.index_of(output).ok()?;
        for step in self.plan.steps.iter().rev() {
            match step {
                Step::Project { columns, .. } => at = columns.get(at)?.bare?,
                Step::Lookup { input, .. } if at >= input.fields().len() => return None,
                Step::Lookup { .. } | Step::Filter { .. } => {}
            }
        }
        let source = self.plan.source.field(at);
        let result = self.plan.schema.field_with_name(output).ok()?;
        (source.data_type() == result.data_type()).then_some(source.name())
    }

    /// Whether any row can be dropped.
    pub fn filters_rows(&self) -> bool {
        let is_filter = |step: &Step| matches!(step, Step::Filter { .. } | Step::Lookup { is_inner: true, .. });
        self.plan.steps.iter().any(is_filter)
    }

    /// A cheaper transform that computes just these output columns, in this order, from batches that
    /// hold the columns [`Self::source_columns`]`(outputs)`.
    ///
    /// # Errors
    /// [`TransformError::Sql`] if a name is not an output column, or an expression cannot be
    /// evaluated on columns of these types.
    pub fn project(&self, outputs: &[&str]) -> Result<Projected, TransformError> {
        let known: Vec<String> = self.plan.schema.fields().iter().map(|field| field.name().clone()).collect();
        let positions: Vec<usize> = outputs
            .iter()
            .map(|name| self.plan.schema.index_of(name).map_err(|_| unknown_output(name, &known)))
            .collect::<Result<_, _>>()?;
        on_stack(|| Projected::new(&self.plan, &positions))
    }
}

fn unknown_output(name: &str, known: &[String]) -> SqlError {
    let error = SqlError::new(ErrorKind::UnknownName, format!("the transform has no column `{name}`"));
    match names::nearest(name, known.iter().map(String::as_str)) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.help(format!("its columns are {}", known.join(", "))),
    }
}

fn on_stack<T: Send>(work: impl FnOnce() -> Result<T, SqlError> + Send) -> Result<T, TransformError> {
    match stack::run(work) {
        Ok(result) => Ok(result?),
        Err(panic) => Err(SqlError::new(ErrorKind::Unsupported, format!("the SQL planner gave up: {panic}"))
            .help("write the SQL in another way; this is a defect of the program, please report it")
            .into()),
    }
}
