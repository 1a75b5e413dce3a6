//! [pure] Flink's rules for the types of mixed expressions, and casts.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_expr::{Cast, Expr, TryCast, expr::FieldMetadata};

use crate::functions::time;
use crate::types::{self, MAX_DECIMAL_PRECISION};

/// An expression and its type.
#[derive(Debug, Clone)]
pub(crate) struct Typed {
    pub(crate) expr: Expr,
    pub(crate) ty: DataType,
}

impl Typed {
    pub(crate) fn new(expr: Expr, ty: DataType) -> Self {
        Self { expr, ty }
    }

    pub(crate) fn literal(value: ScalarValue) -> Self {
        let ty = value.data_type();
        Self { expr: Expr::Literal(value, None::<FieldMetadata>), ty }
    }

    pub(crate) fn bool(expr: Expr) -> Self {
        Self { expr, ty: DataType::Boolean }
    }

    /// The value of a literal.
    pub(crate) fn value(&self) -> Option<&ScalarValue> {
        match &self.expr {
            Expr::Literal(value, _) => Some(value),
            _ => None,
        }
    }

    /// The text of a string literal.
    pub(crate) fn text(&self) -> Option<&str> {
        match self.value() {
            Some(ScalarValue::Utf8(Some(text))) => Some(text),
            _ => None,
        }
    }

    /// Converts without loss of meaning; the caller has checked that `ty` is wider.
    pub(crate) fn into_type(self, ty: &DataType) -> Self {
        if self.ty == *ty {
            return self;
        }
        if let Some(value) = self.value()
            && let Ok(value) = value.cast_to(ty)
        {
            return Self::literal(value);
        }
        Self { expr: Expr::Cast(Cast::new(Box::new(self.expr), ty.clone())), ty: ty.clone() }
    }
}

/// Precision and scale of a number as a decimal.
pub(crate) fn as_decimal(ty: &DataType) -> Option<(u8, i8)> {
    Some(match ty {
        DataType::Int8 => (3, 0),
        DataType::Int16 => (5, 0),
        DataType::Int32 => (10, 0),
        DataType::Int64 => (19, 0),
        DataType::Decimal128(precision, scale) => (*precision, *scale),
        _ => return None,
    })
}

/// The type that holds the values of both, for comparisons, CASE, COALESCE, IN, UNION.
pub(crate) fn common(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::{Date32, Decimal128, Float32, Float64, Null, Timestamp};
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (Null, other) | (other, Null) => Some(other.clone()),
        (a, b) if a.is_integer() && b.is_integer() => Some(if width(a) >= width(b) { a.clone() } else { b.clone() }),
        (Float32, b) if b.is_integer() => Some(Float32),
        (a, Float32) if a.is_integer() => Some(Float32),
        (a, b) if types::is_number(a) && types::is_number(b) => match (as_decimal(a), as_decimal(b)) {
            (Some((p1, s1)), Some((p2, s2))) => {
                let scale = s1.max(s2);
                let digits = (p1 as i8 - s1).max(p2 as i8 - s2);
                Some(Decimal128(((digits + scale) as u8).min(MAX_DECIMAL_PRECISION), scale))
            }
            _ => Some(Float64),
        },
        (Timestamp(unit_a, zone_a), Timestamp(unit_b, zone_b)) if zone_a == zone_b => {
            let unit = if *unit_a == TimeUnit::Microsecond { unit_a } else { unit_b };
            Some(Timestamp(*unit, zone_a.clone()))
        }
        (Date32, other @ Timestamp(_, None)) | (other @ Timestamp(_, None), Date32) => Some(other.clone()),
        _ => None,
    }
}

fn width(integer: &DataType) -> usize {
    integer.primitive_width().unwrap_or(0)
}

/// The common type of all, if there is one.
pub(crate) fn common_of<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Option<DataType> {
    types.into_iter().try_fold(DataType::Null, |all, ty| common(&all, ty))
}

/// Whether a value of `from` goes into a column of type `to` without an explicit CAST.
pub(crate) fn is_implicit(from: &DataType, to: &DataType) -> bool {
    use DataType::{Date32, Decimal128, Float32, Float64, Null, Struct, Timestamp};
    match (from, to) {
        (a, b) if a == b => true,
        (Null, _) => true,
        (a, b) if a.is_integer() && b.is_integer() => width(a) <= width(b),
        (a, Decimal128(..)) if a.is_integer() => true,
        // As Flink: digits that do not fit become NULL, more of the scale are rounded.
        (Decimal128(..), Decimal128(..)) => true,
        (a, Float32 | Float64) if a.is_integer() || matches!(a, Decimal128(..)) => true,
        (Float32, Float64) => true,
        (Timestamp(_, _), Timestamp(_, _)) | (Date32, Timestamp(_, None)) => true,
        (Struct(a), Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_implicit(a.data_type(), b.data_type()) && a.name() == b.name())
        }
        _ => false,
    }
}

/// `CAST(value AS ty)` as Flink does it; `None` when there is no such cast.
pub(crate) fn cast(value: Typed, ty: &DataType, lenient: bool) -> Option<Typed> {
    use DataType::{Boolean, Date32, Struct, Timestamp, Utf8};
    let from = value.ty.clone();
    if from == *ty {
        return Some(value);
    }
    match (&from, ty) {
        (DataType::Null, _) => return Some(value.into_type(ty)),
        (Timestamp(..), Utf8) => return Some(time::timestamp_to_text(value)),
        (Boolean, Utf8) => return Some(boolean_to_text(value)),
        (Timestamp(..), to) if types::is_number(to) => return None,
        (from, Timestamp(..)) if types::is_number(from) => return None,
        (Date32, to) if types::is_number(to) => return None,
        (from, Date32) if types::is_number(from) => return None,
        (Struct(_) | DataType::List(_) | DataType::Map(..) | DataType::Binary, _) => return None,
        (_, Struct(_) | DataType::List(_) | DataType::Map(..)) => return None,
        (DataType::Duration(_) | DataType::Interval(_), _) => return None,
        (Boolean, Date32 | Timestamp(..)) | (Date32 | Timestamp(..), Boolean) => return None,
        _ => {}
    }
    let expr = match lenient {
        true => Expr::TryCast(TryCast::new(Box::new(value.expr), ty.clone())),
        false => Expr::Cast(Cast::new(Box::new(value.expr), ty.clone())),
    };
    Some(Typed::new(expr, ty.clone()))
}

/// Flink writes TRUE and FALSE.
fn boolean_to_text(value: Typed) -> Typed {
    let text = |text: &str| Box::new(Typed::literal(ScalarValue::from(text)).expr);
    let branches = vec![(Box::new(value.expr.clone()), text("TRUE")), (Box::new(Expr::Not(Box::new(value.expr))), text("FALSE"))];
    Typed::new(Expr::Case(datafusion_expr::Case::new(None, branches, None)), DataType::Utf8)
}

/// Type of `a op b` for decimals (Flink's `LogicalTypeMerging`).
pub(crate) fn decimal_result(op: char, (p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> (u8, i8) {
    let (p1, s1, p2, s2) = (i32::from(p1), i32::from(s1), i32::from(p2), i32::from(s2));
    let (precision, scale) = match op {
        '*' => (p1 + p2, s1 + s2),
        '/' => {
            let scale = (s1 + p2 + 1).max(6);
            (p1 - s1 + s2 + scale, scale)
        }
        '%' => {
            let scale = s1.max(s2);
            ((p1 - s1).min(p2 - s2) + scale, scale)
        }
        _ => {
            let scale = s1.max(s2);
            ((p1 - s1).max(p2 - s2) + scale + 1, scale)
        }
    };
    let most = i32::from(MAX_DECIMAL_PRECISION);
    if precision <= most {
        return (precision as u8, scale as i8);
    }
    let scale = (most - (precision - scale)).max(scale.min(6));
    (most as u8, scale as i8)
}
