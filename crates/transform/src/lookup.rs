//! Look-ups: small tables that records are joined with by key. A record finds one row at the most, because no key is there
//! twice, so what comes out for it still depends on it alone. What a look-up holds is brought once, before anything is
//! evaluated; this module must never read a file, and never see a record's neighbours.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion_common::{DFSchemaRef, DataFusionError};
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{BinaryExpr, Expr, Join, JoinType, LogicalPlan, Operator};
use datafusion_physical_expr::PhysicalExpr;

use crate::error::{self, ErrorKind, SqlError, TransformError};
use crate::{lower, types};

/// A table that a transform may join, as it is planned with.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// What the SQL calls it.
    pub name: String,
    /// The columns that tell its rows apart.
    pub key: Vec<String>,
    /// Its columns.
    pub schema: SchemaRef,
}

/// One join of a look-up.
pub(crate) struct Joined {
    /// The look-up's name.
    pub(crate) name: String,
    /// Its columns, as expressions see them.
    plain: SchemaRef,
    /// What of each of its rows is compared.
    keys: Vec<Arc<dyn PhysicalExpr>>,
    rows: OnceLock<Rows>,
}

/// What a look-up holds, for one join.
struct Rows {
    converter: RowConverter,
    places: HashMap<Box<[u8]>, u32>,
    columns: Vec<ArrayRef>,
}

impl fmt::Debug for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a planned join compares.
pub(crate) struct Condition {
    /// Expressions of the record.
    pub(crate) record: Vec<Expr>,
    pub(crate) joined: Joined,
    /// Whether records that find nothing are dropped.
    pub(crate) is_inner: bool,
}

impl Joined {
    /// Takes a planned join apart. Its form was checked where it was written; this makes sure.
    pub(crate) fn of(join: &Join, lookups: &[Lookup]) -> Result<Condition, SqlError> {
        let strange = || {
            SqlError::new(ErrorKind::NotRowWise, "the SQL is not row-wise: it joins something else than look-ups")
                .help("write `LEFT JOIN countries ON source.country = countries.code`")
        };
        let name = scanned(&join.right).ok_or_else(strange)?;
        let lookup = lookups.iter().find(|lookup| lookup.name == name).ok_or_else(strange)?;
        let is_inner = match join.join_type {
            JoinType::Inner => true,
            JoinType::Left => false,
            _ => return Err(strange()),
        };
        let (Some(filter), true) = (&join.filter, join.on.is_empty()) else { return Err(strange()) };
        let (left, right): (&DFSchemaRef, &DFSchemaRef) = (join.left.schema(), join.right.schema());
        let (mut record, mut keys) = (Vec::new(), Vec::new());
        let is_of = |expr: &Expr, schema: &DFSchemaRef| {
            expr.column_refs().into_iter().all(|column| schema.index_of_column(column).is_ok())
        };
        for part in split_conjunction(filter) {
            let Expr::BinaryExpr(BinaryExpr { left: one, op: Operator::Eq, right: other }) = part else {
                return Err(strange());
            };
            let is_key = |expr: &Expr| !expr.column_refs().is_empty() && is_of(expr, right);
            let (own, key) = if is_key(other) && is_of(one, left) {
                (one, other)
            } else if is_key(one) && is_of(other, left) {
                (other, one)
            } else {
                return Err(strange());
            };
            record.push(own.as_ref().clone());
            keys.push(lower::lower(key, right).map_err(SqlError::from)?);
        }
        let plain = types::plain_schema(&lookup.schema);
        let joined = Self { name, plain, keys, rows: OnceLock::new() };
        Ok(Condition { record, joined, is_inner })
    }

    /// Brings what the look-up holds.
    pub(crate) fn fill(&self, batch: &RecordBatch) -> Result<(), TransformError> {
        if self.rows.get().is_some() {
            return Ok(());
        }
        let failed = |reason: String| TransformError::Evaluation { expression: self.name.clone(), reason };
        let rows = self.rows(batch).map_err(|error| failed(error::reason(&error)))?;
        // Who comes second brings the same.
        let _ = self.rows.set(rows);
        Ok(())
    }

    fn rows(&self, batch: &RecordBatch) -> Result<Rows, DataFusionError> {
        let fields = self.plain.fields().iter();
        let plain = |(column, field): (&ArrayRef, &arrow::datatypes::FieldRef)| match column.data_type() {
            own if own == field.data_type() => Ok(Arc::clone(column)),
            _ => cast(column, field.data_type()),
        };
        let columns: Vec<ArrayRef> = batch.columns().iter().zip(fields).map(plain).collect::<Result<_, _>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&self.plain), columns.clone())?;
        let keys = evaluate(&self.keys, &batch)?;
        let converter = RowConverter::new(keys.iter().map(|key| SortField::new(key.data_type().clone())).collect())?;
        let rows = converter.convert_columns(&keys)?;
        let mut places: HashMap<Box<[u8]>, u32> = HashMap::with_capacity(batch.num_rows());
        for (row, key) in rows.iter().enumerate() {
            if keys.iter().any(|key| key.is_null(row)) {
                continue;
            }
            // Keys that are compared as another type may become alike.
            if let Some(first) = places.insert(key.as_ref().into(), row as u32) {
                return Err(DataFusionError::Execution(format!(
                    "rows {first} and {row} have the same key, as it is compared here"
                )));
            }
        }
        Ok(Rows { converter, places, columns })
    }

    /// For each record the row that it finds.
    pub(crate) fn find(&self, keys: &[ArrayRef]) -> Result<UInt32Array, DataFusionError> {
        let rows = self.held()?;
        let converted = rows.converter.convert_columns(keys)?;
        let find = |(row, key): (usize, arrow::row::Row<'_>)| {
            if keys.iter().any(|key| key.is_null(row)) { None } else { rows.places.get(key.as_ref()).copied() }
        };
        Ok(converted.iter().enumerate().map(find).collect())
    }

    /// The values of a column in these rows.
    pub(crate) fn take(&self, column: usize, rows: &UInt32Array) -> Result<ArrayRef, DataFusionError> {
        Ok(take(&self.held()?.columns[column], rows, None)?)
    }

    fn held(&self) -> Result<&Rows, DataFusionError> {
        let missing = || DataFusionError::Internal(format!("the look-up `{}` was not loaded", self.name));
        self.rows.get().ok_or_else(missing)
    }
}

pub(crate) fn evaluate(
    expressions: &[Arc<dyn PhysicalExpr>],
    batch: &RecordBatch,
) -> Result<Vec<ArrayRef>, DataFusionError> {
    expressions.iter().map(|it| it.evaluate(batch)?.into_array(batch.num_rows())).collect()
}

/// The table that a plan reads, if it does nothing else.
fn scanned(plan: &LogicalPlan) -> Option<String> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => scanned(&alias.input),
        LogicalPlan::TableScan(scan) if scan.projection.is_none() && scan.filters.is_empty() => {
            Some(scan.table_name.table().to_owned())
        }
        _ => None,
    }
}
