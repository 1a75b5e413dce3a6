//! [pure] Filter, then project, in one pass over a batch.
//!
//! Invariants:
//! - Projections see only rows that pass the filter, so an expression that the filter guards cannot fail.
//! - Only columns that a projection reads are filtered; plain columns of an unfiltered batch are shared, not copied.
//! - In a change-log the kind column is carried along, last.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::FilterBuilder;
use arrow::datatypes::SchemaRef;
use datafusion_common::ScalarValue;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::utils::collect_columns;

use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::CalcSpec;
use crate::operator::{Operator, Output, Progress};

/// A compiled filter and projection; an operator of its own, and the prelude of sources.
pub struct Calc {
    title: String,
    filter: Option<Arc<dyn PhysicalExpr>>,
    /// Input columns that projections read, ascending.
    needed: Vec<usize>,
    /// The input, cut to `needed`.
    cut_schema: SchemaRef,
    /// Over the cut input.
    project: Vec<Projection>,
    schema: SchemaRef,
}

enum Projection {
    /// Shares the column.
    Column(usize),
    Expression(Arc<dyn PhysicalExpr>),
}

/// Which rows of a batch pass the filter.
enum Selection {
    All,
    None,
    Some(BooleanArray),
}

impl Calc {
    /// Compiles `spec` over `input` to `schema`. With `changelog`, the last column of both is the kind column.
    ///
    /// # Errors
    /// `Bug` when the expressions do not give the columns of `schema`.
    pub fn new(title: String, spec: &CalcSpec, input: &SchemaRef, schema: &SchemaRef, changelog: bool) -> Result<Self> {
        let bug = |message: String| DataflowError::new(title.clone(), ErrorKind::Bug, message);
        let mut project = spec.project.clone();
        if changelog {
            let last = input.fields().len().checked_sub(1).ok_or_else(|| bug("a change-log without kind column".into()))?;
            project.push(Arc::new(Column::new(input.field(last).name(), last)));
        }
        if project.len() != schema.fields().len() {
            return Err(bug(format!("{} expressions for {} columns", project.len(), schema.fields().len())));
        }
        for (expr, field) in project.iter().zip(schema.fields()) {
            let data_type = expr.data_type(input).map_err(|error| bug(error.strip_backtrace()))?;
            if &data_type != field.data_type() {
                return Err(bug(format!("{} is {data_type}, but column {} is {}", sql(expr), field.name(), field.data_type())));
            }
        }
        let mut places: BTreeMap<usize, usize> = project.iter().flat_map(collect_columns).map(|column| (column.index(), 0)).collect();
        places.values_mut().enumerate().for_each(|(place, slot)| *slot = place);
        let needed: Vec<usize> = places.keys().copied().collect();
        let cut_schema = Arc::new(input.project(&needed)?);
        let project = project.into_iter().map(|expr| Projection::new(expr, &places)).collect::<Result<_>>()?;
        Ok(Self { title, filter: spec.filter.clone(), needed, cut_schema, project, schema: Arc::clone(schema) })
    }

    /// The rows of `batch` that pass, projected; `None` when none does.
    ///
    /// # Errors
    /// `Data` when an expression fails on a row (division by zero, cast of what is no number); it names the expression.
    pub fn apply(&self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let (columns, rows) = match self.select(batch)? {
            Selection::None => return Ok(None),
            Selection::All => (self.needed.iter().map(|i| Arc::clone(batch.column(*i))).collect(), batch.num_rows()),
            Selection::Some(mask) => {
                let mut filter = FilterBuilder::new(&mask);
                if self.needed.len() > 1 || self.needed.iter().any(|i| batch.column(*i).data_type().is_nested()) {
                    filter = filter.optimize();
                }
                let filter = filter.build();
                let columns = self.needed.iter().map(|i| filter.filter(batch.column(*i))).collect::<Result<Vec<ArrayRef>, _>>()?;
                (columns, filter.count())
            }
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        // `new_unchecked` is unsafe; the check is a few comparisons a column.
        let cut = RecordBatch::try_new_with_options(Arc::clone(&self.cut_schema), columns, &options)
            .map_err(|error| self.fail(ErrorKind::Bug, error))?;
        let columns = self.project.iter().map(|projection| self.evaluate(projection, &cut)).collect::<Result<_>>()?;
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map(Some)
            .map_err(|error| self.fail(ErrorKind::Data, error))
    }

    fn select(&self, batch: &RecordBatch) -> Result<Selection> {
        let Some(filter) = &self.filter else {
            return Ok(if batch.num_rows() == 0 { Selection::None } else { Selection::All });
        };
        let value = filter.evaluate(batch).map_err(|error| self.failed_expression(filter, error))?;
        let array = match value {
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => return Ok(Selection::All),
            ColumnarValue::Scalar(_) => return Ok(Selection::None),
            ColumnarValue::Array(array) => array,
        };
        let mask = array.as_boolean_opt().ok_or_else(|| self.fail(ErrorKind::Bug, format!("the filter {} is not boolean", sql(filter))))?;
        Ok(match mask.true_count() {
            0 => Selection::None,
            count if count == mask.len() => Selection::All,
            _ => Selection::Some(mask.clone()),
        })
    }

    fn evaluate(&self, projection: &Projection, cut: &RecordBatch) -> Result<ArrayRef> {
        match projection {
            Projection::Column(index) => Ok(Arc::clone(cut.column(*index))),
            Projection::Expression(expr) => {
                expr.evaluate(cut).and_then(|value| value.into_array(cut.num_rows())).map_err(|error| self.failed_expression(expr, error))
            }
        }
    }

    fn failed_expression(&self, expr: &Arc<dyn PhysicalExpr>, error: datafusion_common::DataFusionError) -> DataflowError {
        self.fail(ErrorKind::Data, format!("{}: {}", sql(expr), error.strip_backtrace()))
    }

    fn fail(&self, kind: ErrorKind, message: impl std::fmt::Display) -> DataflowError {
        DataflowError::new(self.title.clone(), kind, message)
    }
}

impl Operator for Calc {
    fn on_batch(&mut self, _port: usize, batch: &RecordBatch, out: &mut Output) -> Result<Progress> {
        if let Some(batch) = self.apply(batch)? {
            out.emit(batch);
        }
        Ok(Progress::Done)
    }
}

impl Projection {
    /// Moves `expr` from the input's columns to their `places` in the cut input.
    fn new(expr: Arc<dyn PhysicalExpr>, places: &BTreeMap<usize, usize>) -> Result<Self> {
        let moved = expr
            .transform_down(|expr| {
                Ok(match expr.downcast_ref::<Column>().and_then(|column| Some((column, places.get(&column.index())?))) {
                    Some((column, place)) => Transformed::yes(Arc::new(Column::new(column.name(), *place)) as _),
                    None => Transformed::no(expr),
                })
            })?
            .data;
        Ok(match moved.downcast_ref::<Column>() {
            Some(column) => Self::Column(column.index()),
            None => Self::Expression(moved),
        })
    }
}

/// The expression as a person would write it, without column numbers.
fn sql(expr: &Arc<dyn PhysicalExpr>) -> String {
    struct Sql<'a>(&'a dyn PhysicalExpr);
    impl std::fmt::Display for Sql<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fmt_sql(f)
        }
    }
    Sql(expr.as_ref()).to_string()
}

#[cfg(test)]
mod tests;
