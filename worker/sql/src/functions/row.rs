//! [pure] Access to fields of ROW columns, and the NOT NULL check.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{is_null, nullif};
use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::Expr;

use crate::coerce::Typed;
use crate::functions::call;

/// Name of the field function; its arguments are the row and the path of field names.
pub(crate) const FIELD: &str = "field";

/// `row.path[0].path[1]…`; a field of a null row is null. Fields are found by name when a batch comes, because the
/// planner prunes fields that nobody uses.
pub(crate) fn field(row: Expr, path: &[String], ty: DataType) -> Typed {
    let mut args = vec![row];
    args.extend(path.iter().map(|name| Expr::Literal(ScalarValue::from(name.as_str()), None)));
    let path = path.to_vec();
    call(FIELD, args, ty, move |args, rows| {
        let mut array = args[0].to_array(rows)?;
        for name in &path {
            array = child(&array, name)?;
        }
        Ok(array)
    })
}

fn child(array: &ArrayRef, name: &str) -> datafusion_common::Result<ArrayRef> {
    let row = array.as_struct_opt().ok_or_else(|| DataFusionError::Internal("field access on a type that is no row".into()))?;
    let child = row.column_by_name(name).ok_or_else(|| DataFusionError::Internal(format!("a row without its field {name}")))?;
    if row.null_count() == 0 {
        return Ok(Arc::clone(child));
    }
    Ok(nullif(child, &is_null(row)?)?)
}

/// The row and the path of a field access.
pub(crate) fn as_field(expr: &Expr) -> Option<(&Expr, Vec<&str>)> {
    let Expr::ScalarFunction(function) = expr else { return None };
    let (row, path) = function.args.split_first().filter(|_| function.func.name() == FIELD)?;
    let path = path.iter().map(|name| match name {
        Expr::Literal(ScalarValue::Utf8(Some(name)), _) => Some(name.as_str()),
        _ => None,
    });
    Some((row, path.collect::<Option<_>>()?))
}

/// The value itself; fails the row's epoch when it is null.
pub(crate) fn not_null(value: Typed, column: &str) -> Typed {
    let name = column.to_string();
    let args = vec![value.expr, Expr::Literal(ScalarValue::from(column), None)];
    call("not_null", args, value.ty, move |args, rows| {
        let array = args[0].to_array(rows)?;
        if array.null_count() > 0 {
            return Err(DataFusionError::Execution(format!("column {name} is NOT NULL, but a row has NULL in it")));
        }
        Ok(array)
    })
}
