//! [pure] CASE without copying: when looking at a branch costs nothing, all are looked at and each row picks its own.
//!
//! DataFusion's CASE filters the batch for each branch, with whole rows of nested columns; that pays when branches are
//! expensive and is needed when they can fail. A computed event time is neither, and runs over every row of a source.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType,
};
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::{ColumnarValue, Expr, Operator};

use crate::coerce::Typed;
use crate::functions::{Text, Values, call, row, slices};

/// Name of the function; its arguments are condition and value of each branch, and the value otherwise.
pub(crate) const CASE: &str = "case";
/// Branches, at most: every condition is evaluated on every row.
const MAX_BRANCHES: usize = 8;

/// The CASE of these branches, if every part is cheap and cannot fail.
pub(crate) fn case(branches: &[(Expr, Expr)], otherwise: Option<&Expr>, ty: &DataType) -> Option<Typed> {
    let otherwise = match otherwise {
        Some(expr) => expr.clone(),
        None => Typed::literal(ScalarValue::Null).into_type(ty).expr,
    };
    let cheap = branches.len() <= MAX_BRANCHES
        && is_supported(ty)
        && is_at_hand(&otherwise)
        && branches.iter().all(|(condition, value)| cannot_fail(condition) && is_at_hand(value));
    if !cheap {
        return None;
    }
    let args = branches.iter().flat_map(|(condition, value)| [condition.clone(), value.clone()]).chain([otherwise]).collect();
    let result = ty.clone();
    Some(call(CASE, args, ty.clone(), move |args, rows| pick(args, rows, &result)))
}

fn is_supported(ty: &DataType) -> bool {
    matches!(
        ty,
        DataType::Int32
            | DataType::Int64
            | DataType::Float64
            | DataType::Date32
            | DataType::Utf8
            | DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, _)
    )
}

/// A column, a constant or a field of a row.
pub(crate) fn is_at_hand(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) | Expr::Literal(..) => true,
        _ => row::as_field(expr).is_some_and(|(root, _)| is_at_hand(root)),
    }
}

/// Comparisons and logic over what is at hand, or over parts of a time.
fn cannot_fail(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(binary) => {
            use Operator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or};
            let total = matches!(binary.op, And | Or | Eq | NotEq | Lt | LtEq | Gt | GtEq);
            total && cannot_fail(&binary.left) && cannot_fail(&binary.right)
        }
        Expr::Not(inner) | Expr::IsNull(inner) | Expr::IsNotNull(inner) => cannot_fail(inner),
        Expr::ScalarFunction(function) if function.func.name().starts_with("extract_") => function.args.iter().all(cannot_fail),
        other => is_at_hand(other),
    }
}

fn pick(args: &[ColumnarValue], rows: usize, ty: &DataType) -> Result<ArrayRef> {
    let (branches, otherwise) = args.as_chunks::<2>();
    let mut choice = vec![branches.len() as u8; rows];
    // The first branch that holds wins, so it is written last.
    for (branch, [condition, _]) in branches.iter().enumerate().rev() {
        match condition {
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => choice.fill(branch as u8),
            ColumnarValue::Scalar(_) => {}
            ColumnarValue::Array(array) => {
                let holds = array.as_boolean_opt().ok_or_else(|| DataFusionError::Internal("a condition that is not boolean".into()))?;
                let mut write = |row: usize| choice[row] = branch as u8;
                match holds.nulls() {
                    None => holds.values().set_indices().for_each(&mut write),
                    Some(nulls) => (holds.values() & nulls.inner()).set_indices().for_each(&mut write),
                }
            }
        }
    }
    let sources: Vec<&ColumnarValue> = branches.iter().map(|[_, value]| value).chain(otherwise).collect();
    match ty {
        DataType::Int32 => gather::<Int32Type>(&sources, &choice, ty),
        DataType::Int64 => gather::<Int64Type>(&sources, &choice, ty),
        DataType::Float64 => gather::<Float64Type>(&sources, &choice, ty),
        DataType::Date32 => gather::<Date32Type>(&sources, &choice, ty),
        DataType::Timestamp(TimeUnit::Microsecond, _) => gather::<TimestampMicrosecondType>(&sources, &choice, ty),
        DataType::Timestamp(..) => gather::<TimestampMillisecondType>(&sources, &choice, ty),
        _ => {
            let sources = sources.into_iter().map(Text::of).collect::<Result<Vec<_>>>()?;
            let bytes = sources.iter().map(|source| source.bytes(rows)).max().unwrap_or(0);
            Ok(slices(rows, bytes, |row| sources[usize::from(choice[row])].get(row)))
        }
    }
}

fn gather<T: ArrowPrimitiveType>(sources: &[&ColumnarValue], choice: &[u8], ty: &DataType) -> Result<ArrayRef> {
    let sources = sources.iter().map(|source| Values::<T>::of(source)).collect::<Result<Vec<_>>>()?;
    // Values and validity one after the other: both loops are free of branches on nulls.
    let picked = choice.iter().enumerate().map(|(row, branch)| match &sources[usize::from(*branch)] {
        Values::One(value) => value.unwrap_or_default(),
        Values::Many(array) => array.value(row),
    });
    let picked: ScalarBuffer<T::Native> = picked.collect();
    let may_be_null = sources.iter().any(|source| match source {
        Values::One(value) => value.is_none(),
        Values::Many(array) => array.null_count() > 0,
    });
    let nulls = may_be_null.then(|| {
        let valid = |row: usize| match &sources[usize::from(choice[row])] {
            Values::One(value) => value.is_some(),
            Values::Many(array) => array.is_valid(row),
        };
        NullBuffer::new(BooleanBuffer::collect_bool(choice.len(), valid))
    });
    Ok(Arc::new(PrimitiveArray::<T>::new(picked, nulls).with_data_type(ty.clone())))
}
