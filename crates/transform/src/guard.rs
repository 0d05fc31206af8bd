//! AND and OR whose right side only matters where the left side leaves the answer open. The engine's
//! own operators look at a whole batch to decide whether to evaluate the right side, so `x <> 0 AND
//! 1 / x > 2` fails or not depending on which rows happen to share a batch. Here a row is judged by
//! itself: evaluating a batch in pieces must give the same values and the same errors.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::boolean::{and_kleene, or_kleene};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::{Result, cast::as_boolean_array};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;

/// Which of the two operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Connective {
    /// Decided where the left side is false.
    And,
    /// Decided where the left side is true.
    Or,
}

impl fmt::Display for Connective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::And => "AND",
            Self::Or => "OR",
        })
    }
}

/// `left AND right` or `left OR right`, judged row by row.
#[derive(Debug)]
pub(crate) struct Guarded {
    left: Arc<dyn PhysicalExpr>,
    connective: Connective,
    right: Arc<dyn PhysicalExpr>,
}

impl Guarded {
    pub(crate) fn new(left: Arc<dyn PhysicalExpr>, connective: Connective, right: Arc<dyn PhysicalExpr>) -> Self {
        Self { left, connective, right }
    }

    /// Rows whose answer the left side leaves open.
    fn open(&self, left: &BooleanArray) -> BooleanBuffer {
        let open_values = match self.connective {
            Connective::And => left.values().clone(),
            Connective::Or => !left.values(),
        };
        match left.nulls() {
            Some(nulls) => &open_values | &!nulls.inner(),
            None => open_values,
        }
    }
}

impl PhysicalExpr for Guarded {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, input_schema: &Schema) -> Result<bool> {
        Ok(self.left.nullable(input_schema)? || self.right.nullable(input_schema)?)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let left = self.left.evaluate(batch)?.into_array(rows)?;
        let left = as_boolean_array(&left)?;
        let open = self.open(left);
        let open_rows = open.count_set_bits();
        if open_rows == 0 {
            return Ok(ColumnarValue::Array(Arc::new(left.clone())));
        }
        // Evaluating the right side everywhere is one pass without copies, and right whenever it
        // succeeds: the rows already decided ignore it. Only if it fails is it asked again, for the
        // open rows alone.
        let right = match self.right.evaluate(batch) {
            Ok(right) => right,
            Err(_) if open_rows < rows => {
                let open = BooleanArray::new(open, None);
                self.right.evaluate_selection(batch, &open)?
            }
            Err(error) => return Err(error),
        };
        let right = right.into_array(rows)?;
        let right = as_boolean_array(&right)?;
        let result = match self.connective {
            Connective::And => and_kleene(left, right)?,
            Connective::Or => or_kleene(left, right)?,
        };
        Ok(ColumnarValue::Array(Arc::new(result)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 2]>::try_from(children) {
            Ok([left, right]) => Ok(Arc::new(Self::new(left, self.connective, right))),
            Err(other) => {
                datafusion_common::internal_err!("a connective has two sides, not {}", other.len())
            }
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        self.left.fmt_sql(f)?;
        write!(f, " {} ", self.connective)?;
        self.right.fmt_sql(f)?;
        f.write_str(")")
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {} {})", self.left, self.connective, self.right)
    }
}

// Written out because the derived versions would move out of the trait objects.
impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.connective == other.connective && self.left.eq(&other.left) && self.right.eq(&other.right)
    }
}

impl Eq for Guarded {}

impl Hash for Guarded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.left.hash(state);
        self.connective.hash(state);
        self.right.hash(state);
    }
}
