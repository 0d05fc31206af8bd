//! One condition over the columns of a record, as in a WHERE: true, false, or unknown for each row. It is planned and
//! evaluated as a SELECT of that one expression, so what holds for transforms holds here: a row's answer depends on that
//! row alone. Must never drop a row.

use std::fmt;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, as_boolean_array};
use arrow::datatypes::{DataType, SchemaRef};

use crate::error::{ErrorKind, Location, SqlError, TransformError};
use crate::projected::Projected;
use crate::transform::Transform;

/// What the expression is called while it is evaluated.
const NAME: &str = "condition";

/// A condition that is planned.
pub struct Condition {
    projected: Projected,
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("columns", &self.projected.input_columns()).finish_non_exhaustive()
    }
}

impl Condition {
    /// Plans `sql`, one expression over the columns of `records`.
    ///
    /// # Errors
    /// [`TransformError::Sql`] if it is wrong, not row-wise, or something else than true or false.
    pub fn new(sql: &str, records: SchemaRef) -> Result<Self, TransformError> {
        // On lines of its own: a comment at its end ends there, and places in it are one line off.
        let select = format!("SELECT (\n{sql}\n) AS {NAME} FROM source");
        let transform = Transform::new(&select, records).map_err(one_line_up)?;
        let schema = transform.schema();
        let is_one = schema.fields().len() == 1 && schema.field(0).name() == NAME && !transform.filters_rows();
        if !is_one {
            return Err(SqlError::new(ErrorKind::Syntax, "the condition is not one expression")
                .help("write what would stand in a WHERE, such as `price >= 0 AND currency IS NOT NULL`")
                .into());
        }
        let kind = schema.field(0).data_type();
        if *kind != DataType::Boolean {
            return Err(SqlError::new(
                ErrorKind::Type,
                format!("the condition is {kind}, where true or false is needed"),
            )
            .help("compare it with something: `quantity > 0`, `email IS NOT NULL`")
            .into());
        }
        Ok(Self { projected: transform.project(&[NAME])? })
    }

    /// The columns that it looks at.
    pub fn columns(&self) -> &[String] {
        self.projected.input_columns()
    }

    /// The answer for each row of a batch, which has these columns among others; null where it is unknown.
    ///
    /// # Errors
    /// As [`Projected::apply`].
    pub fn apply(&self, batch: &RecordBatch) -> Result<BooleanArray, TransformError> {
        let schema = batch.schema_ref();
        let places = self.columns().iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>();
        let places = places.map_err(|e| TransformError::Batch(e.to_string()))?;
        let fields: Vec<_> = places.iter().map(|&at| schema.field(at).clone()).collect();
        let columns: Vec<ArrayRef> = places.iter().map(|&at| batch.column(at).clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let own = RecordBatch::try_new_with_options(arrow::datatypes::Schema::new(fields).into(), columns, &options)
            .map_err(|e| TransformError::Batch(e.to_string()))?;
        let (answers, _) = self.projected.apply(&own)?;
        Ok(as_boolean_array(answers.column(0)).clone())
    }
}

fn one_line_up(error: TransformError) -> TransformError {
    match error {
        TransformError::Sql(mut sql) => {
            sql.location =
                sql.location.map(|Location { line, column }| Location { line: line.saturating_sub(1).max(1), column });
            TransformError::Sql(sql)
        }
        other => other,
    }
}
