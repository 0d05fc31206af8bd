//! From planned expressions to ones that can be evaluated, such that every value depends on its own
//! row alone: integer arithmetic that overflows is an error instead of a wrong number, and AND, OR
//! and IN decide row by row. Only pieces of the engine that look at a whole batch are replaced.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, ScalarValue};
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Expr, Operator, lit};
use datafusion_physical_expr::expressions::{BinaryExpr, Literal, NegativeExpr};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};

use crate::context;
use crate::guard::{Connective, Guarded};

type Result<T, E = DataFusionError> = std::result::Result<T, E>;

/// Makes an expression over columns that lie as in `input`.
pub(crate) fn lower(expr: &Expr, input: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    let expr = expr.clone().transform_up(|part| Ok(open_list(part)))?.data;
    let physical =
        create_physical_expr(&expr, input, &context::execution_props(), &PhysicalPlanningContext::default())?;
    let schema = input.as_arrow();
    Ok(physical.transform_up(|part| row_wise(part, schema))?.data)
}

/// An expression as SQL, as it is evaluated: with the casts that the planner put in.
pub(crate) fn text(expr: &Arc<dyn PhysicalExpr>) -> String {
    struct Sql<'a>(&'a dyn PhysicalExpr);
    impl fmt::Display for Sql<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt_sql(f)
        }
    }
    Sql(expr.as_ref()).to_string()
}

/// Computes an expression without columns; gives the expression as text if that fails, and why.
pub(crate) fn constant(expr: &Expr, input: &DFSchema) -> Result<(), (Option<String>, DataFusionError)> {
    let lowered = lower(expr, input).map_err(|error| (None, error))?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
        .map_err(DataFusionError::from)
        .and_then(|batch| lowered.evaluate(&batch))
        .map(|_| ())
        .map_err(|error| (Some(text(&lowered)), error))
}

/// `x IN (a, b)` over columns stops comparing once every row of a batch has a match, and so skips an
/// element that would fail or not, depending on the neighbours: written out as comparisons, it is
/// judged by row. A list of constants is a look-up and stays one.
fn open_list(expr: Expr) -> Transformed<Expr> {
    let Expr::InList(list) = expr else {
        return Transformed::no(expr);
    };
    if list.list.iter().all(|it| matches!(it, Expr::Literal(..))) {
        return Transformed::no(Expr::InList(list));
    }
    let mut found: Vec<Expr> = list.list.into_iter().map(|element| list.expr.as_ref().clone().eq(element)).collect();
    // Pairs of pairs, so that a long list does not become a deep expression. The order stays.
    while found.len() > 1 {
        let mut pairs = Vec::with_capacity(found.len().div_ceil(2));
        let mut rest = found.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => left.or(right),
                None => left,
            });
        }
        found = pairs;
    }
    let found = found.pop().unwrap_or_else(|| lit(false));
    Transformed::yes(if list.negated { Expr::Not(Box::new(found)) } else { found })
}

fn row_wise(part: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    if let Some(binary) = part.downcast_ref::<BinaryExpr>() {
        let (left, right) = (Arc::clone(binary.left()), Arc::clone(binary.right()));
        return Ok(match binary.op() {
            Operator::And => Transformed::yes(Arc::new(Guarded::new(left, Connective::And, right))),
            Operator::Or => Transformed::yes(Arc::new(Guarded::new(left, Connective::Or, right))),
            Operator::Plus | Operator::Minus | Operator::Multiply => {
                Transformed::yes(checked(left, *binary.op(), right))
            }
            _ => Transformed::no(part),
        });
    }
    if let Some(negative) = part.downcast_ref::<NegativeExpr>() {
        let data_type = negative.arg().data_type(schema)?;
        // The engine wraps the smallest integer around to itself. (For floating point, 0 - x would
        // lose the sign of zero, and cannot overflow.)
        if data_type.is_signed_integer() {
            let zero = Literal::new(ScalarValue::new_zero(&data_type)?);
            let negated = checked(Arc::new(zero), Operator::Minus, Arc::clone(negative.arg()));
            return Ok(Transformed::yes(negated));
        }
    }
    Ok(Transformed::no(part))
}

fn checked(left: Arc<dyn PhysicalExpr>, operator: Operator, right: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(left, operator, right).with_fail_on_overflow(true))
}
