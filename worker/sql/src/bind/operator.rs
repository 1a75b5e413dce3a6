//! [pure] Operators: arithmetic, comparison, logic, with Flink's result types.

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr::sqlparser::{
    ast::{BinaryOperator, UnaryOperator},
    tokenizer::Span,
};
use datafusion_expr::{BinaryExpr, Expr, Operator};

use crate::coerce::{self, Typed};
use crate::error::{Result, fail, fail_hint};
use crate::functions::{number, text, time};
use crate::types;

fn binary_expr(left: Typed, op: Operator, right: Typed, ty: DataType) -> Typed {
    Typed::new(Expr::BinaryExpr(BinaryExpr::new(Box::new(left.expr), op, Box::new(right.expr))), ty)
}

/// `left op right`.
pub(crate) fn binary(left: Typed, op: &BinaryOperator, right: Typed, span: Span) -> Result<Typed> {
    use BinaryOperator::{And, Divide, Eq, Gt, GtEq, Lt, LtEq, Minus, Modulo, Multiply, NotEq, Or, Plus, StringConcat};
    match op {
        And => logic(left, Operator::And, right, span),
        Or => logic(left, Operator::Or, right, span),
        Eq => compare(left, Operator::Eq, right, span),
        NotEq => compare(left, Operator::NotEq, right, span),
        Lt => compare(left, Operator::Lt, right, span),
        LtEq => compare(left, Operator::LtEq, right, span),
        Gt => compare(left, Operator::Gt, right, span),
        GtEq => compare(left, Operator::GtEq, right, span),
        Plus | Minus | Multiply | Divide | Modulo => arithmetic(left, op, right, span),
        StringConcat => text::concat("||", vec![left, right]).or_else(|message| fail_hint(span, message, "CAST it to STRING")),
        other => fail(span, format!("operator {other} is not supported")),
    }
}

fn logic(left: Typed, op: Operator, right: Typed, span: Span) -> Result<Typed> {
    let (left, right) = (boolean(left, span, &op.to_string())?, boolean(right, span, &op.to_string())?);
    Ok(binary_expr(left, op, right, DataType::Boolean))
}

/// `value` as a condition.
pub(crate) fn boolean(value: Typed, span: Span, place: &str) -> Result<Typed> {
    match value.ty {
        DataType::Boolean | DataType::Null => Ok(value.into_type(&DataType::Boolean)),
        ref other => fail(span, format!("{place} needs a BOOLEAN, not {}", types::name(other))),
    }
}

/// A comparison of two values of comparable types.
pub(crate) fn compare(left: Typed, op: Operator, right: Typed, span: Span) -> Result<Typed> {
    let (left, right) = (read_text_as(left, &right.ty, span)?, right);
    let right = read_text_as(right, &left.ty, span)?;
    let ordered = !matches!(op, Operator::Eq | Operator::NotEq | Operator::IsDistinctFrom | Operator::IsNotDistinctFrom);
    let ty = coerce::common(&left.ty, &right.ty).filter(|ty| types::is_groupable(ty) && !(ordered && *ty == DataType::Null));
    let Some(ty) = ty else {
        let message = format!("cannot compare {} with {}", types::name(&left.ty), types::name(&right.ty));
        return fail_hint(span, message, "CAST one of them");
    };
    let ty = if ty == DataType::Null { DataType::Boolean } else { ty };
    Ok(binary_expr(left.into_type(&ty), op, right.into_type(&ty), DataType::Boolean))
}

/// A string literal beside a date or timestamp is one.
fn read_text_as(value: Typed, other: &DataType, span: Span) -> Result<Typed> {
    let (Some(text), DataType::Timestamp(..) | DataType::Date32) = (value.text(), other) else { return Ok(value) };
    match ScalarValue::from(text).cast_to(other) {
        Ok(literal) => Ok(Typed::literal(literal)),
        Err(_) => fail(span, format!("'{text}' is no {}", types::name(other))),
    }
}

fn arithmetic(left: Typed, op: &BinaryOperator, right: Typed, span: Span) -> Result<Typed> {
    if let Some(shifted) = shift(&left, op, &right) {
        return Ok(shifted);
    }
    let numbers = |ty: &DataType| types::is_number(ty) || *ty == DataType::Null;
    if !numbers(&left.ty) || !numbers(&right.ty) {
        let message = format!("cannot compute {} {op} {}", types::name(&left.ty), types::name(&right.ty));
        let strings = left.ty == DataType::Utf8 && right.ty == DataType::Utf8 && *op == BinaryOperator::Plus;
        return fail_hint(span, message, if strings { "use || to join strings" } else { "CAST it to a number" });
    }
    let (symbol, operator) = match op {
        BinaryOperator::Minus => ('-', Operator::Minus),
        BinaryOperator::Multiply => ('*', Operator::Multiply),
        BinaryOperator::Divide => ('/', Operator::Divide),
        BinaryOperator::Modulo => ('%', Operator::Modulo),
        _ => ('+', Operator::Plus),
    };
    if let (Some(a), Some(b)) = (coerce::as_decimal(&left.ty), coerce::as_decimal(&right.ty))
        && matches!((&left.ty, &right.ty), (DataType::Decimal128(..), _) | (_, DataType::Decimal128(..)))
    {
        let (precision, scale) = coerce::decimal_result(symbol, a, b);
        return Ok(number::decimal(symbol, left, right, precision, scale));
    }
    let ty = coerce::common(&left.ty, &right.ty).unwrap_or(DataType::Float64);
    let ty = if ty == DataType::Null { DataType::Int32 } else { ty };
    Ok(binary_expr(left.into_type(&ty), operator, right.into_type(&ty), ty))
}

/// Timestamp plus or minus an interval, intervals with each other, interval times a number.
fn shift(left: &Typed, op: &BinaryOperator, right: &Typed) -> Option<Typed> {
    let parts = |typed: &Typed| match typed.value() {
        Some(ScalarValue::DurationMillisecond(Some(millis))) => Some((*millis, 0)),
        Some(ScalarValue::IntervalYearMonth(Some(months))) => Some((0, i64::from(*months))),
        _ => None,
    };
    let is_time = |typed: &Typed| matches!(typed.ty, DataType::Timestamp(..) | DataType::Date32);
    let constant = |millis: i64, months: i64| {
        Some(Typed::literal(match months {
            0 => ScalarValue::DurationMillisecond(Some(millis)),
            _ => ScalarValue::IntervalYearMonth(Some(i32::try_from(months).ok()?)),
        }))
    };
    match (op, parts(left), parts(right)) {
        (BinaryOperator::Plus, None, Some((millis, months))) if is_time(left) => Some(time::shift(left.clone(), millis, months)),
        (BinaryOperator::Minus, None, Some((millis, months))) if is_time(left) => {
            Some(time::shift(left.clone(), millis.checked_neg()?, months.checked_neg()?))
        }
        (BinaryOperator::Plus, Some((millis, months)), None) if is_time(right) => Some(time::shift(right.clone(), millis, months)),
        (BinaryOperator::Plus, Some((a, 0)), Some((b, 0))) => constant(a.checked_add(b)?, 0),
        (BinaryOperator::Minus, Some((a, 0)), Some((b, 0))) => constant(a.checked_sub(b)?, 0),
        (BinaryOperator::Multiply, Some((millis, months)), None) => {
            let Some(ScalarValue::Int32(Some(times))) = right.value() else { return None };
            constant(millis.checked_mul(i64::from(*times))?, months.checked_mul(i64::from(*times))?)
        }
        _ => None,
    }
}

/// `op value`.
pub(crate) fn unary(op: &UnaryOperator, value: Typed, span: Span) -> Result<Typed> {
    match op {
        UnaryOperator::Not => {
            let value = boolean(value, span, "NOT")?;
            Ok(Typed::bool(Expr::Not(Box::new(value.expr))))
        }
        UnaryOperator::Plus if types::is_number(&value.ty) => Ok(value),
        UnaryOperator::Minus if types::is_number(&value.ty) => {
            if let Some(negative) = value.value().and_then(|literal| literal.arithmetic_negate().ok()) {
                return Ok(Typed::literal(negative));
            }
            Ok(Typed::new(Expr::Negative(Box::new(value.expr)), value.ty))
        }
        UnaryOperator::Minus => match value.value() {
            Some(ScalarValue::DurationMillisecond(Some(millis))) => {
                Ok(Typed::literal(ScalarValue::DurationMillisecond(Some(millis.wrapping_neg()))))
            }
            _ => fail(span, format!("cannot negate {}", types::name(&value.ty))),
        },
        other => fail(span, format!("operator {other} does not take {}", types::name(&value.ty))),
    }
}
