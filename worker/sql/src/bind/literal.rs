//! [pure] Literals and intervals.

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr::sqlparser::{
    ast::{self, Expr as Ast, Interval, Spanned, Value},
    tokenizer::Span,
};

use crate::coerce::{self, Typed};
use crate::error::{Fault, Result, fail, fail_hint};
use crate::functions::time::Unit;
use crate::types;

/// A value of the text.
pub(crate) fn value(value: &Value, span: Span) -> Result<Typed> {
    Ok(Typed::literal(match value {
        Value::Number(text, _) => number(text, span)?,
        Value::SingleQuotedString(text) => ScalarValue::from(text.as_str()),
        Value::Boolean(value) => ScalarValue::Boolean(Some(*value)),
        Value::Null => ScalarValue::Null,
        Value::DoubleQuotedString(_) => {
            return fail_hint(span, format!("{value} is neither a name nor a text"), "write `name` or 'text'");
        }
        other => return fail(span, format!("the literal {other} is not supported")),
    }))
}

/// INT, BIGINT, DECIMAL or, with an exponent, DOUBLE.
fn number(text: &str, span: Span) -> Result<ScalarValue> {
    if text.contains(['e', 'E']) {
        return match text.parse() {
            Ok(value) => Ok(ScalarValue::Float64(Some(value))),
            Err(_) => fail(span, format!("{text} is no number")),
        };
    }
    if let Ok(value) = text.parse::<i64>() {
        return Ok(match i32::try_from(value) {
            Ok(value) => ScalarValue::Int32(Some(value)),
            Err(_) => ScalarValue::Int64(Some(value)),
        });
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    // As Flink counts: a leading zero is a digit, 0.908 is DECIMAL(4, 3).
    let precision = whole.len().max(usize::from(fraction.is_empty())) + fraction.len();
    match format!("{whole}{fraction}").parse::<i128>() {
        Ok(value) if precision <= usize::from(types::MAX_DECIMAL_PRECISION) => {
            Ok(ScalarValue::Decimal128(Some(value), (precision as u8).max(1), fraction.len() as i8))
        }
        _ => fail(span, format!("{text} has more than {} digits", types::MAX_DECIMAL_PRECISION)),
    }
}

/// `DATE '…'`, `TIMESTAMP '…'`.
pub(crate) fn typed_string(typed: &ast::TypedString) -> Result<Typed> {
    let span = typed.value.span;
    let Value::SingleQuotedString(text) = &typed.value.value else { return fail(span, "a quoted text is expected") };
    let ty = match &typed.data_type {
        ast::DataType::Date => DataType::Date32,
        ast::DataType::Timestamp(..) => {
            let digits = text.split_once('.').map_or(0, |(_, fraction)| fraction.len() as u64);
            types::timestamp(digits, false).map_err(|message| Fault::new(span, message))?
        }
        other => return fail(span, format!("literals of type {other} are not supported")),
    };
    let cast = coerce::cast(Typed::literal(ScalarValue::from(text.as_str())), &ty, false);
    match cast.and_then(|cast| ScalarValue::from(text.as_str()).cast_to(&cast.ty).ok()) {
        Some(value) => Ok(Typed::literal(value)),
        None => fail(span, format!("'{text}' is no {}", types::name(&ty))),
    }
}

/// `INTERVAL '10' SECOND`, `INTERVAL '1:30' HOUR TO MINUTE`: a duration in milliseconds or a number of months.
pub(crate) fn interval(interval: &Interval) -> Result<Typed> {
    let span = interval.value.span();
    let text = match interval.value.as_ref() {
        Ast::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            Value::Number(text, _) => text.clone(),
            other => return fail(span, format!("{other} is no length of an interval")),
        },
        _ => return fail_hint(span, "an interval's length is a literal", "write INTERVAL '10' SECOND"),
    };
    let Some(leading) = &interval.leading_field else {
        return fail_hint(span, "the interval has no unit", "write INTERVAL '10' SECOND");
    };
    let unit = |field: &ast::DateTimeField| {
        Unit::parse(&field.to_string().to_uppercase())
            .filter(|unit| unit.months().is_some() || unit.millis().is_some())
            .ok_or_else(|| Fault::new(span, format!("{field} is no unit of an interval")))
    };
    let first = unit(leading)?;
    let last = interval.last_field.as_ref().map(unit).transpose()?;
    let Some((millis, months)) = length(text.trim(), first, last) else {
        return fail(span, format!("'{text}' is no length of an interval in {leading}"));
    };
    Ok(Typed::literal(match first.months() {
        Some(_) => ScalarValue::IntervalYearMonth(Some(months)),
        None => ScalarValue::DurationMillisecond(Some(millis)),
    }))
}

fn length(text: &str, first: Unit, last: Option<Unit>) -> Option<(i64, i32)> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(months) = first.months() {
        let parts: Vec<i64> = text.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let total = match (parts.as_slice(), last) {
            ([count], None) => count.checked_mul(months)?,
            ([years, rest], Some(Unit::Month)) if first == Unit::Year => years.checked_mul(12)?.checked_add(*rest)?,
            _ => return None,
        };
        return Some((0, i32::try_from(total * sign).ok()?));
    }
    let units = [Unit::Day, Unit::Hour, Unit::Minute, Unit::Second];
    let parts: Vec<&str> = text.split([' ', ':']).collect();
    let chosen: Vec<Unit> = match last {
        None => vec![first],
        Some(last) => {
            let (from, to) = (units.iter().position(|unit| *unit == first)?, units.iter().position(|unit| *unit == last)?);
            units.get(from..=to)?.to_vec()
        }
    };
    if parts.len() != chosen.len() {
        return None;
    }
    let mut total: i64 = 0;
    for (part, unit) in parts.iter().zip(chosen) {
        total = total.checked_add(part_millis(part, unit)?)?;
    }
    Some((total * sign, 0))
}

/// A part's milliseconds; seconds may have a fraction.
fn part_millis(part: &str, unit: Unit) -> Option<i64> {
    let (whole, fraction) = part.split_once('.').unwrap_or((part, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) || (!fraction.is_empty() && unit != Unit::Second) {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    whole.parse::<i64>().ok()?.checked_mul(unit.millis()?)?.checked_add(millis)
}

/// Milliseconds of a constant day-time interval.
pub(crate) fn duration(typed: &Typed) -> Option<i64> {
    match typed.value() {
        Some(ScalarValue::DurationMillisecond(millis)) => *millis,
        _ => None,
    }
}
