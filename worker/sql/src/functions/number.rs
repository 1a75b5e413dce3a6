//! [pure] Functions of numbers, exact decimal arithmetic, and choices between values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int32Type, Int64Type};
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::expr::Case;
use datafusion_expr::sqlparser::{ast::BinaryOperator, tokenizer::Span};
use datafusion_expr::{ColumnarValue, Expr, Operator};

use crate::bind::operator;
use crate::coerce::{self, Typed};
use crate::functions::text::Args;
use crate::functions::{Values, call, values};
use crate::types::{self, MAX_DECIMAL_PRECISION};

/// The functions of this table, for suggestions.
pub(crate) const NAMES: &[&str] = &[
    "ABS", "CEIL", "CEILING", "FLOOR", "ROUND", "TRUNCATE", "MOD", "POWER", "SQRT", "LN", "LOG10", "LOG2", "EXP", "SIGN", "SIN", "COS",
    "TAN", "ATAN", "ASIN", "ACOS", "DEGREES", "RADIANS", "PI", "GREATEST", "LEAST", "COALESCE", "IFNULL", "NULLIF", "IF",
];

/// Finds and applies a function; `None` when it is not one of this table.
pub(crate) fn lookup(name: &str, args: &[Typed]) -> Option<Result<Typed, String>> {
    let args = || Args { name, args };
    let float = |f: fn(f64) -> f64| args().all(1, 1).and_then(|args| unary(args, f));
    Some(match name {
        "ABS" => args().all(1, 1).and_then(abs),
        "CEIL" | "CEILING" => args().all(1, 1).and_then(|args| round_to_integer(args.number(0)?, true)),
        "FLOOR" => args().all(1, 1).and_then(|args| round_to_integer(args.number(0)?, false)),
        "ROUND" | "TRUNCATE" => args().all(1, 2).and_then(|args| round(args, name == "TRUNCATE")),
        "MOD" => args().all(2, 2).and_then(|args| modulo(args.number(0)?, args.number(1)?)),
        "POWER" => args().all(2, 2).and_then(power),
        "SQRT" => float(f64::sqrt),
        "LN" => float(f64::ln),
        "LOG10" => float(f64::log10),
        "LOG2" => float(f64::log2),
        "EXP" => float(f64::exp),
        "SIN" => float(f64::sin),
        "COS" => float(f64::cos),
        "TAN" => float(f64::tan),
        "ASIN" => float(f64::asin),
        "ACOS" => float(f64::acos),
        "ATAN" => float(f64::atan),
        "DEGREES" => float(f64::to_degrees),
        "RADIANS" => float(f64::to_radians),
        "PI" => args().all(0, 0).map(|_| Typed::literal(ScalarValue::Float64(Some(std::f64::consts::PI)))),
        "SIGN" => args().all(1, 1).and_then(sign),
        "GREATEST" | "LEAST" => args().all(1, usize::MAX).and_then(|args| extreme(args, name == "GREATEST")),
        "COALESCE" | "IFNULL" => args().all(1, usize::MAX).and_then(coalesce),
        "NULLIF" => args().all(2, 2).and_then(null_if),
        "IF" => args().all(3, 3).and_then(choose),
        _ => return None,
    })
}

fn unary(args: Args<'_>, f: fn(f64) -> f64) -> Result<Typed, String> {
    let name = args.name.to_lowercase();
    let value = args.number(0)?.into_type(&DataType::Float64);
    Ok(call(&name, vec![value.expr], DataType::Float64, move |args, rows| {
        let value = Values::<Float64Type>::of(&args[0])?;
        Ok(Arc::new(values::<Float64Type>(rows, |row| value.get(row).map(f))))
    }))
}

fn power(args: Args<'_>) -> Result<Typed, String> {
    let (base, exponent) = (args.number(0)?.into_type(&DataType::Float64), args.number(1)?.into_type(&DataType::Float64));
    Ok(call("power", vec![base.expr, exponent.expr], DataType::Float64, |args, rows| {
        let (base, exponent) = (Values::<Float64Type>::of(&args[0])?, Values::<Float64Type>::of(&args[1])?);
        Ok(Arc::new(values::<Float64Type>(rows, |row| Some(base.get(row)?.powf(exponent.get(row)?)))))
    }))
}

/// The value's own operators and a CASE do what is needed, with the type kept.
fn abs(args: Args<'_>) -> Result<Typed, String> {
    let value = args.number(0)?;
    let ty = value.ty.clone();
    let zero = Typed::literal(ScalarValue::Int32(Some(0))).into_type(&ty);
    let negative = Expr::Negative(Box::new(value.expr.clone()));
    let case = Case::new(None, vec![(Box::new(value.expr.clone().lt(zero.expr)), Box::new(negative))], Some(Box::new(value.expr)));
    Ok(Typed::new(Expr::Case(case), ty))
}

fn sign(args: Args<'_>) -> Result<Typed, String> {
    let value = args.number(0)?;
    let ty = value.ty.clone();
    let number = |n: i32| Typed::literal(ScalarValue::Int32(Some(n))).into_type(&ty).expr;
    let branches = vec![
        (Box::new(value.expr.clone().gt(number(0))), Box::new(number(1))),
        (Box::new(value.expr.clone().lt(number(0))), Box::new(number(-1))),
        (Box::new(value.expr.eq(number(0))), Box::new(number(0))),
    ];
    Ok(Typed::new(Expr::Case(Case::new(None, branches, None)), ty))
}

/// MOD is an integer remainder with the sign of the dividend; decimals and floats work alike.
fn modulo(a: Typed, b: Typed) -> Result<Typed, String> {
    let ty = b.ty.clone();
    let result = operator::binary(a, &BinaryOperator::Modulo, b, Span::empty())
        .map_err(|faults| faults.0.into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("; "))?;
    // Flink's MOD of integers has the type of the divisor.
    Ok(if ty.is_integer() && result.ty.is_integer() && ty != result.ty { result.into_type(&ty) } else { result })
}

/// FLOOR and CEIL: the type stays; decimals lose their scale.
pub(crate) fn round_to_integer(value: Typed, up: bool) -> Result<Typed, String> {
    let name = if up { "ceil" } else { "floor" };
    match value.ty.clone() {
        ty if ty.is_integer() => Ok(value),
        ty @ (DataType::Float32 | DataType::Float64) => {
            let wide = value.into_type(&DataType::Float64);
            let rounded = call(name, vec![wide.expr], DataType::Float64, move |args, rows| {
                let value = Values::<Float64Type>::of(&args[0])?;
                Ok(Arc::new(values::<Float64Type>(rows, |row| value.get(row).map(|value| if up { value.ceil() } else { value.floor() }))))
            });
            Ok(rounded.into_type(&ty))
        }
        DataType::Decimal128(precision, scale) => {
            let unit = pow10(scale.max(0) as u32);
            let round = move |value: i128| value.div_euclid(unit) + i128::from(up && value.rem_euclid(unit) != 0);
            Ok(decimal_map(name, vec![value.expr], precision, 0, round))
        }
        other => Err(format!("{} needs a number, not {}", name.to_uppercase(), types::name(&other))),
    }
}

/// ROUND half away from zero, TRUNCATE towards zero, at so many digits.
fn round(args: Args<'_>, truncate: bool) -> Result<Typed, String> {
    let value = args.number(0)?;
    let digits = match args.args.get(1) {
        None => 0,
        Some(_) => match args.integer(1)?.value() {
            Some(ScalarValue::Int64(Some(digits))) => (*digits).clamp(-38, 38) as i32,
            _ => return Err(format!("the digits of {} must be a literal", args.name)),
        },
    };
    let name = args.name.to_lowercase();
    let digits_expr = Expr::Literal(ScalarValue::Int32(Some(digits)), None);
    match value.ty.clone() {
        ty if ty.is_integer() => {
            let unit = i64::try_from(pow10(digits.min(0).unsigned_abs())).unwrap_or(i64::MAX);
            let wide = value.into_type(&DataType::Int64);
            let rounded = call(&name, vec![wide.expr, digits_expr], DataType::Int64, move |args, rows| {
                let value = Values::<Int64Type>::of(&args[0])?;
                let round = |value: i64| (round_div(i128::from(value), i128::from(unit), truncate) as i64).wrapping_mul(unit);
                Ok(Arc::new(values::<Int64Type>(rows, |row| value.get(row).map(round))))
            });
            Ok(rounded.into_type(&ty))
        }
        DataType::Decimal128(precision, scale) => {
            let kept = digits.clamp(0, i32::from(scale));
            let dropped = pow10((i32::from(scale) - digits.min(i32::from(scale))) as u32);
            let zeros = pow10((kept - digits.min(kept)) as u32);
            let whole = precision.saturating_sub(scale.max(0) as u8) + 1 + kept as u8;
            let round = move |value: i128| round_div(value, dropped, truncate).saturating_mul(zeros);
            Ok(decimal_map(&name, vec![value.expr, digits_expr], whole.clamp(1, MAX_DECIMAL_PRECISION), kept as i8, round))
        }
        ty => {
            let wide = value.into_type(&DataType::Float64);
            let rounded = call(&name, vec![wide.expr, digits_expr], DataType::Float64, move |args, rows| {
                let value = Values::<Float64Type>::of(&args[0])?;
                let unit = 10_f64.powi(digits);
                let round = |value: f64| {
                    let scaled = value * unit;
                    let rounded = if truncate { scaled.trunc() } else { scaled.round() };
                    if rounded.is_finite() { rounded / unit } else { value }
                };
                Ok(Arc::new(values::<Float64Type>(rows, |row| value.get(row).map(round))))
            });
            Ok(rounded.into_type(&ty))
        }
    }
}

fn pow10(exponent: u32) -> i128 {
    10_i128.checked_pow(exponent).unwrap_or(i128::MAX)
}

/// `value / by`, rounded half away from zero or cut.
#[inline]
fn round_div(value: i128, by: i128, truncate: bool) -> i128 {
    let (quotient, rest) = (value / by, value % by);
    match !truncate && rest.unsigned_abs() >= by.unsigned_abs().div_ceil(2) {
        true => quotient + if (value < 0) == (by < 0) { 1 } else { -1 },
        false => quotient,
    }
}

fn decimal_map(name: &str, args: Vec<Expr>, precision: u8, scale: i8, f: impl Fn(i128) -> i128 + Send + Sync + 'static) -> Typed {
    call(name, args, DataType::Decimal128(precision, scale), move |args, rows| {
        let value = Values::<Decimal128Type>::of(&args[0])?;
        finish(values::<Decimal128Type>(rows, |row| value.get(row).map(&f)), precision, scale)
    })
}

fn finish(array: PrimitiveArray<Decimal128Type>, precision: u8, scale: i8) -> Result<ArrayRef> {
    Ok(Arc::new(array.with_precision_and_scale(precision, scale)?))
}

/// An operand of decimal arithmetic: integers are read in place, without a column of decimals in between.
enum Operand<'a> {
    One(Option<i128>),
    Decimals(&'a PrimitiveArray<Decimal128Type>),
    Longs(&'a PrimitiveArray<Int64Type>),
    Ints(&'a PrimitiveArray<Int32Type>),
}

impl<'a> Operand<'a> {
    fn of(value: &'a ColumnarValue) -> Result<Self> {
        let unexpected = || DataFusionError::Internal("decimal arithmetic on another type".into());
        match value {
            ColumnarValue::Scalar(ScalarValue::Decimal128(value, ..)) => Ok(Self::One(*value)),
            ColumnarValue::Scalar(scalar) => match scalar.cast_to(&DataType::Int64)? {
                ScalarValue::Int64(value) => Ok(Self::One(value.map(i128::from))),
                _ => Err(unexpected()),
            },
            ColumnarValue::Array(array) => match array.data_type() {
                DataType::Decimal128(..) => Ok(Self::Decimals(array.as_primitive())),
                DataType::Int64 => Ok(Self::Longs(array.as_primitive())),
                DataType::Int32 => Ok(Self::Ints(array.as_primitive())),
                _ => Err(unexpected()),
            },
        }
    }

    #[inline]
    fn get(&self, row: usize) -> Option<i128> {
        match self {
            Self::One(value) => *value,
            Self::Decimals(array) => array.is_valid(row).then(|| array.value(row)),
            Self::Longs(array) => array.is_valid(row).then(|| i128::from(array.value(row))),
            Self::Ints(array) => array.is_valid(row).then(|| i128::from(array.value(row))),
        }
    }
}

/// `left op right` of decimals and integers. As in Flink, a result with too many digits is null; a division by zero
/// fails.
pub(crate) fn decimal(op: char, left: Typed, right: Typed, precision: u8, scale: i8) -> Typed {
    let widen = |value: Typed| match value.ty {
        DataType::Int8 | DataType::Int16 => value.into_type(&DataType::Int32),
        DataType::Null => value.into_type(&DataType::Int32),
        _ => value,
    };
    let (left, right) = (widen(left), widen(right));
    let scales = (coerce::as_decimal(&left.ty).map_or(0, |(_, s)| s), coerce::as_decimal(&right.ty).map_or(0, |(_, s)| s));
    let digits = coerce::as_decimal(&left.ty).map_or(0, |(p, _)| p) + coerce::as_decimal(&right.ty).map_or(0, |(p, _)| p);
    let exact = op == '*' && digits <= MAX_DECIMAL_PRECISION && scale == scales.0 + scales.1;
    let name = match op {
        '+' => "add",
        '-' => "subtract",
        '*' => "multiply",
        '/' => "divide",
        _ => "modulo",
    };
    let limit = pow10(u32::from(precision));
    call(name, vec![left.expr, right.expr], DataType::Decimal128(precision, scale), move |args, rows| {
        let (left, right) = (Operand::of(&args[0])?, Operand::of(&args[1])?);
        if exact && let Some(product) = scaled(&left, &right) {
            return finish(product, precision, scale);
        }
        let compute = Compute { op, scales, scale, limit };
        let mut zero = false;
        let array: PrimitiveArray<Decimal128Type> = (0..rows)
            .map(|row| {
                let (left, right) = (left.get(row)?, right.get(row)?);
                zero |= right == 0 && matches!(op, '/' | '%');
                compute.apply(left, right)
            })
            .collect();
        if zero {
            return Err(DataFusionError::Execution("division by zero".into()));
        }
        finish(array, precision, scale)
    })
}

/// A column times a constant, when no result can have too many digits: one pass without branches.
fn scaled(left: &Operand<'_>, right: &Operand<'_>) -> Option<PrimitiveArray<Decimal128Type>> {
    let (column, factor) = match (left, right) {
        (Operand::One(Some(factor)), column) | (column, Operand::One(Some(factor))) => (column, *factor),
        _ => return None,
    };
    Some(match column {
        Operand::Decimals(array) => array.unary(|value| value.wrapping_mul(factor)),
        Operand::Longs(array) => array.unary(|value| i128::from(value).wrapping_mul(factor)),
        Operand::Ints(array) => array.unary(|value| i128::from(value).wrapping_mul(factor)),
        Operand::One(_) => return None,
    })
}

struct Compute {
    op: char,
    scales: (i8, i8),
    scale: i8,
    limit: i128,
}

impl Compute {
    #[inline]
    fn apply(&self, left: i128, right: i128) -> Option<i128> {
        let (s1, s2) = (i32::from(self.scales.0), i32::from(self.scales.1));
        let scale = i32::from(self.scale);
        let value = match self.op {
            '*' => rescale(left.checked_mul(right)?, s1 + s2, scale)?,
            '/' => {
                if right == 0 {
                    return None;
                }
                // One digit more than asked for decides the rounding.
                let shifted = rescale(left, s1, scale + s2)?;
                round_div(shifted, right, false)
            }
            '%' => {
                let both = s1.max(s2);
                let right = rescale(right, s2, both)?;
                rescale(rescale(left, s1, both)?.checked_rem(right)?, both, scale)?
            }
            op => {
                let both = s1.max(s2);
                let (left, right) = (rescale(left, s1, both)?, rescale(right, s2, both)?);
                rescale(if op == '-' { left.checked_sub(right)? } else { left.checked_add(right)? }, both, scale)?
            }
        };
        (value.unsigned_abs() < self.limit.unsigned_abs()).then_some(value)
    }
}

#[inline]
fn rescale(value: i128, from: i32, to: i32) -> Option<i128> {
    match to - from {
        0 => Some(value),
        more @ 1.. => value.checked_mul(pow10(more as u32)),
        less => Some(round_div(value, pow10(less.unsigned_abs()), false)),
    }
}

/// All arguments in their common type.
fn unified(args: &Args<'_>) -> Result<(Vec<Typed>, DataType), String> {
    let Some(ty) = coerce::common_of(args.args.iter().map(|arg| &arg.ty)) else {
        let names: Vec<String> = args.args.iter().map(|arg| types::name(&arg.ty)).collect();
        return Err(format!("the arguments of {} have different types: {}", args.name, names.join(", ")));
    };
    let ty = if ty == DataType::Null { DataType::Utf8 } else { ty };
    Ok((args.args.iter().map(|arg| arg.clone().into_type(&ty)).collect(), ty))
}

/// Null when one argument is.
fn extreme(args: Args<'_>, greatest: bool) -> Result<Typed, String> {
    let (values, ty) = unified(&args)?;
    if !types::is_groupable(&ty) {
        return Err(format!("{} does not take {}", args.name, types::name(&ty)));
    }
    let any_null = values.iter().map(|value| value.expr.clone().is_null()).reduce(Expr::or);
    let mut branches: Vec<(Box<Expr>, Box<Expr>)> = Vec::new();
    let null = Typed::literal(ScalarValue::Null).into_type(&ty).expr;
    branches.extend(any_null.map(|any_null| (Box::new(any_null), Box::new(null))));
    let op = if greatest { Operator::GtEq } else { Operator::LtEq };
    let compare =
        |a: &Typed, b: &Typed| Expr::BinaryExpr(datafusion_expr::BinaryExpr::new(Box::new(a.expr.clone()), op, Box::new(b.expr.clone())));
    for (index, value) in values.iter().enumerate().take(values.len() - 1) {
        let best = values.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, other)| compare(value, other)).reduce(Expr::and);
        branches.extend(best.map(|best| (Box::new(best), Box::new(value.expr.clone()))));
    }
    let last = values.last().map(|value| Box::new(value.expr.clone()));
    Ok(Typed::new(Expr::Case(Case::new(None, branches, last)), ty))
}

fn coalesce(args: Args<'_>) -> Result<Typed, String> {
    let (values, ty) = unified(&args)?;
    let mut branches = Vec::new();
    for value in values.iter().take(values.len() - 1) {
        branches.push((Box::new(value.expr.clone().is_not_null()), Box::new(value.expr.clone())));
    }
    let last = values.last().map(|value| Box::new(value.expr.clone()));
    match branches.is_empty() {
        true => Ok(values.into_iter().next().unwrap_or_else(|| Typed::literal(ScalarValue::Null))),
        false => Ok(Typed::new(Expr::Case(Case::new(None, branches, last)), ty)),
    }
}

fn null_if(args: Args<'_>) -> Result<Typed, String> {
    let (a, b) = (args.args[0].clone(), args.args[1].clone());
    let ty = a.ty.clone();
    let equal = operator::compare(a.clone(), Operator::Eq, b, Span::empty())
        .map_err(|faults| faults.0.into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("; "))?;
    let null = Typed::literal(ScalarValue::Null).into_type(&ty).expr;
    let case = Case::new(None, vec![(Box::new(equal.expr), Box::new(null))], Some(Box::new(a.expr)));
    Ok(Typed::new(Expr::Case(case), ty))
}

fn choose(args: Args<'_>) -> Result<Typed, String> {
    let condition = args.args[0].clone();
    if condition.ty != DataType::Boolean {
        return Err(args.wrong(0, "a BOOLEAN"));
    }
    let rest = Args { name: args.name, args: &args.args[1..] };
    let (values, ty) = unified(&rest)?;
    let mut values = values.into_iter().map(|value| Box::new(value.expr));
    match (values.next(), values.next()) {
        (Some(then), otherwise) => Ok(Typed::new(Expr::Case(Case::new(None, vec![(Box::new(condition.expr), then)], otherwise)), ty)),
        _ => Err("IF takes a condition and two values".into()),
    }
}
