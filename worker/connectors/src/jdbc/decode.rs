//! [pure] Values of PostgreSQL in their binary form to columns.

use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, Decimal128Array, PrimitiveArray, StringArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType,
};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use tokio_postgres::types::{FromSql, Type};

use super::arrays::{EPOCH_DAYS, EPOCH_MICROS, NEGATIVE};
use super::types::TargetColumn;

/// A value's bytes as they came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a>(pub(super) &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// The type that a column is cast to, to be read as `ty`; `None`: its values are no such.
pub(super) fn cast(column: &TargetColumn, ty: &DataType) -> Option<&'static str> {
    let is = |types: &[&str]| types.contains(&column.base.as_str());
    let (fits, cast) = match ty {
        DataType::Boolean => (is(&["bool"]), "bool"),
        DataType::Int8 | DataType::Int16 => (is(&["int2"]), "int2"),
        DataType::Int32 => (is(&["int2", "int4"]), "int4"),
        DataType::Int64 => (is(&["int2", "int4", "int8"]), "int8"),
        DataType::Float32 => (is(&["float4"]), "float4"),
        DataType::Float64 => (is(&["float4", "float8"]), "float8"),
        DataType::Decimal128(..) => (is(&["int2", "int4", "int8", "numeric"]), "numeric"),
        // Everything has a text.
        DataType::Utf8 => (true, "text"),
        DataType::Binary => (is(&["bytea"]), "bytea"),
        DataType::Date32 => (is(&["date"]), "date"),
        DataType::Timestamp(_, None) => (is(&["timestamp"]), "timestamp"),
        DataType::Timestamp(_, Some(_)) => (is(&["timestamptz"]), "timestamptz"),
        _ => (false, ""),
    };
    fits.then_some(cast)
}

/// A column of these values; missing ones are null.
///
/// # Errors
/// A value that the column's type does not hold.
pub(super) fn column(field: &Field, values: &[Option<Raw<'_>>]) -> Result<ArrayRef> {
    let wrong = |what: &str| DataflowError::new("", ErrorKind::Data, format!("column '{}': {what}", field.name()));
    let form = || wrong("a value is not in the form that the server announced");
    let ty = field.data_type();
    Ok(match ty {
        DataType::Boolean => {
            let values = values.iter().map(|value| value.map(|raw| raw.0.first().map(|byte| *byte != 0).ok_or_else(form)).transpose());
            Arc::new(values.collect::<Result<BooleanArray>>()?)
        }
        DataType::Int8 => primitive::<Int8Type>(ty, values, |raw| {
            i8::try_from(i16::from_be_bytes(bytes(raw).ok_or_else(form)?)).map_err(|_| wrong("a number is beyond TINYINT"))
        })?,
        DataType::Int16 => primitive::<Int16Type>(ty, values, |raw| bytes(raw).map(i16::from_be_bytes).ok_or_else(form))?,
        DataType::Int32 => primitive::<Int32Type>(ty, values, |raw| bytes(raw).map(i32::from_be_bytes).ok_or_else(form))?,
        DataType::Int64 => primitive::<Int64Type>(ty, values, |raw| bytes(raw).map(i64::from_be_bytes).ok_or_else(form))?,
        DataType::Float32 => primitive::<Float32Type>(ty, values, |raw| bytes(raw).map(f32::from_be_bytes).ok_or_else(form))?,
        DataType::Float64 => primitive::<Float64Type>(ty, values, |raw| bytes(raw).map(f64::from_be_bytes).ok_or_else(form))?,
        DataType::Decimal128(precision, scale) => {
            let limit = 10_i128.pow(u32::from(*precision));
            let decimal = |raw: &Raw<'_>| {
                let value = numeric(raw.0, u32::from(scale.unsigned_abs())).filter(|value| value.abs() < limit);
                value.ok_or_else(|| {
                    wrong(&format!("a number does not fit DECIMAL({precision}, {scale}), or has more digits behind the point"))
                })
            };
            let values = values.iter().map(|value| value.as_ref().map(decimal).transpose()).collect::<Result<Vec<_>>>()?;
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Utf8 => {
            let text = |raw: Raw<'_>| std::str::from_utf8(raw.0).map_err(|_| form()).map(str::to_owned);
            let values = values.iter().map(|value| value.map(text).transpose());
            Arc::new(values.collect::<Result<StringArray>>()?)
        }
        DataType::Binary => Arc::new(values.iter().map(|value| value.map(|raw| raw.0)).collect::<BinaryArray>()),
        DataType::Date32 => primitive::<Date32Type>(ty, values, |raw| {
            let days = i32::from_be_bytes(bytes(raw).ok_or_else(form)?);
            finite(days, i32::MIN, i32::MAX).and_then(|days| days.checked_add(EPOCH_DAYS)).ok_or_else(|| wrong("a date without end"))
        })?,
        DataType::Timestamp(unit, _) => {
            let micros = |raw: &Raw<'_>| {
                let micros = i64::from_be_bytes(bytes(raw).ok_or_else(form)?);
                let micros = finite(micros, i64::MIN, i64::MAX).and_then(|micros| micros.checked_add(EPOCH_MICROS));
                micros.ok_or_else(|| wrong("a time without end"))
            };
            if *unit == TimeUnit::Millisecond {
                primitive::<TimestampMillisecondType>(ty, values, |raw| micros(raw).map(|micros| micros.div_euclid(1_000)))?
            } else {
                primitive::<TimestampMicrosecondType>(ty, values, micros)?
            }
        }
        other => return Err(wrong(&format!("type {other} cannot be read"))),
    })
}

fn bytes<const N: usize>(raw: &Raw<'_>) -> Option<[u8; N]> {
    raw.0.try_into().ok()
}

/// The server's two values without end are the bounds of the type.
fn finite<T: PartialEq>(value: T, low: T, high: T) -> Option<T> {
    (value != low && value != high).then_some(value)
}

fn primitive<T: ArrowPrimitiveType>(
    ty: &DataType,
    values: &[Option<Raw<'_>>],
    value: impl Fn(&Raw<'_>) -> Result<T::Native>,
) -> Result<ArrayRef> {
    let values = values.iter().map(|raw| raw.as_ref().map(&value).transpose());
    // The type's time zone, where it has one.
    Ok(Arc::new(values.collect::<Result<PrimitiveArray<T>>>()?.with_data_type(ty.clone())))
}

/// `numeric_send` to a whole number of units of `scale` digits; `None` if it is no number or does not fit.
fn numeric(bytes: &[u8], scale: u32) -> Option<i128> {
    let word = |at: usize| bytes.get(2 * at..2 * at + 2)?.try_into().ok().map(i16::from_be_bytes);
    let (count, weight, sign) = (word(0)?, word(1)?, word(2)? as u16);
    if sign & !NEGATIVE != 0 {
        // NaN, infinities.
        return None;
    }
    let mut value = 0_i128;
    for place in 0..count {
        let digit = i128::from(word(4 + place as usize)?);
        // Decimals that the digit stands to the left of the last unit.
        let shift = i32::from(weight - place) * 4 + scale as i32;
        let part = if shift >= 0 {
            10_i128.checked_pow(shift as u32)?.checked_mul(digit)?
        } else {
            let unit = 10_i128.checked_pow(shift.unsigned_abs())?;
            if digit % unit != 0 {
                return None;
            }
            digit / unit
        };
        value = value.checked_add(part)?;
    }
    Some(if sign == NEGATIVE { -value } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::arrays::encode;
    use super::*;

    /// What the writing half makes of a column, taken apart again.
    fn back(column_in: &ArrayRef) -> ArrayRef {
        let field = Arc::new(Field::new("c", column_in.data_type().clone(), true));
        let bytes = encode(&field, column_in.as_ref()).unwrap().bytes();
        let (mut values, mut at) = (Vec::new(), 20);
        while at < bytes.len() {
            let length = i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            at += 4;
            values.push((length >= 0).then(|| Raw(&bytes[at..at + length as usize])));
            at += length.max(0) as usize;
        }
        column(&field, &values).unwrap()
    }

    proptest! {
        #[test]
        fn decimals_come_back(value in -(10_i128.pow(38) - 1)..10_i128.pow(38), shift in 0_u32..38, scale in 0_i8..=38) {
            let decimals = vec![Some(value / 10_i128.pow(shift)), None];
            let column: ArrayRef = Arc::new(Decimal128Array::from(decimals).with_precision_and_scale(38, scale).unwrap());
            prop_assert_eq!(&back(&column), &column);
        }

        #[test]
        fn times_come_back(millis in -62_135_596_800_000_i64..253_402_300_800_000) {
            let times = PrimitiveArray::<TimestampMillisecondType>::from(vec![Some(millis), None]).with_timezone("UTC");
            let column: ArrayRef = Arc::new(times);
            prop_assert_eq!(&back(&column), &column);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let words = |words: &[i16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
        // 1.5 has a digit behind the point; NaN is no number; 12,0000,0000 is beyond three digits.
        assert_eq!(numeric(&words(&[2, 0, 0, 1, 1, 5_000]), 0), None);
        assert_eq!(numeric(&words(&[2, 0, 0, 1, 1, 5_000]), 1), Some(15));
        assert_eq!(numeric(&words(&[0, 0, 0xC000_u16 as i16, 0]), 2), None);
        let field = Field::new("c", DataType::Decimal128(3, 0), true);
        assert!(column(&field, &[Some(Raw(&words(&[1, 2, 0, 0, 12])))]).is_err());
        let date = Field::new("c", DataType::Date32, true);
        assert!(column(&date, &[Some(Raw(&i32::MAX.to_be_bytes()))]).is_err());
        assert!(column(&date, &[Some(Raw(&[0, 0]))]).is_err());
    }
}
