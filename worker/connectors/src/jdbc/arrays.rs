//! [pure] Columns as PostgreSQL's arrays in their binary form: what statements take, a whole column at a time.
//!
//! The form is that of `array_recv` and of the types' own `recv` functions. Each column goes as an array of one type that
//! holds all its values ([`element`]); the server brings them to the type of the target's column.

use std::error::Error;

use arrow::array::{Array, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType,
};
use arrow::json::writer::{EncoderOptions, make_encoder};
use bytes::{BufMut, Bytes, BytesMut};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// 2000-01-01 in days since 1970.
pub(super) const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Bytes before the first value.
const HEADER: usize = 20;
/// Bytes of a value with its length, most often.
const TYPICAL_VALUE: usize = 12;
/// A digit of a numeric.
const BASE: u128 = 10_000;
/// Decimal digits in one of them.
const BASE_DIGITS: u32 = 4;
/// Sign of a numeric below zero.
pub(super) const NEGATIVE: u16 = 0x4000;

/// The type that carries values of `ty`: its name, and its number.
pub(super) fn element(ty: &DataType) -> Option<(&'static str, Type)> {
    Some(match ty {
        DataType::Boolean => ("bool", Type::BOOL),
        DataType::Int8 | DataType::Int16 => ("int2", Type::INT2),
        DataType::Int32 => ("int4", Type::INT4),
        DataType::Int64 => ("int8", Type::INT8),
        DataType::Float32 => ("float4", Type::FLOAT4),
        DataType::Float64 => ("float8", Type::FLOAT8),
        DataType::Decimal128(..) => ("numeric", Type::NUMERIC),
        // What has parts goes as JSON.
        DataType::Utf8 | DataType::List(_) | DataType::Struct(_) => ("text", Type::TEXT),
        DataType::Binary => ("bytea", Type::BYTEA),
        DataType::Date32 => ("date", Type::DATE),
        DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, None) => ("timestamp", Type::TIMESTAMP),
        DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, Some(_)) => ("timestamptz", Type::TIMESTAMPTZ),
        _ => return None,
    })
}

/// A column, ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Param(Bytes);

impl Param {
    #[cfg(test)]
    pub(super) fn bytes(&self) -> Bytes {
        self.0.clone()
    }
}

impl ToSql for Param {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A column as an array.
///
/// # Errors
/// A time beyond what PostgreSQL's types hold.
pub(super) fn encode(field: &FieldRef, column: &dyn Array) -> Result<Param> {
    let wrong = |message: String| DataflowError::new("", ErrorKind::Data, format!("column '{}': {message}", field.name()));
    let (_, ty) = element(column.data_type()).ok_or_else(|| wrong(format!("type {} cannot be written", column.data_type())))?;
    let length = i32::try_from(column.len()).map_err(|_| wrong("too many rows at once".into()))?;
    let mut out = BytesMut::with_capacity(HEADER + TYPICAL_VALUE * column.len());
    out.put_i32(i32::from(length > 0));
    out.put_i32(i32::from(column.null_count() > 0));
    out.put_u32(ty.oid());
    if length > 0 {
        out.put_i32(length);
        out.put_i32(1);
    }
    match column.data_type() {
        DataType::Boolean => each(&mut out, column, |row, out| out.put_u8(column.as_boolean().value(row).into())),
        DataType::Int8 => primitive::<Int8Type>(&mut out, column, |value, out| out.put_i16(value.into())),
        DataType::Int16 => primitive::<Int16Type>(&mut out, column, |value, out| out.put_i16(value)),
        DataType::Int32 => primitive::<Int32Type>(&mut out, column, |value, out| out.put_i32(value)),
        DataType::Int64 => primitive::<Int64Type>(&mut out, column, |value, out| out.put_i64(value)),
        DataType::Float32 => primitive::<Float32Type>(&mut out, column, |value, out| out.put_f32(value)),
        DataType::Float64 => primitive::<Float64Type>(&mut out, column, |value, out| out.put_f64(value)),
        DataType::Decimal128(_, scale) => {
            let scale = u32::from(scale.unsigned_abs());
            primitive::<Decimal128Type>(&mut out, column, |value, out| numeric(value, scale, out));
        }
        DataType::Utf8 => each(&mut out, column, |row, out| out.put_slice(column.as_string::<i32>().value(row).as_bytes())),
        DataType::Binary => each(&mut out, column, |row, out| out.put_slice(column.as_binary::<i32>().value(row))),
        DataType::Date32 => {
            let mut beyond = false;
            primitive::<Date32Type>(&mut out, column, |value, out| {
                let days = value.checked_sub(EPOCH_DAYS);
                beyond |= days.is_none();
                out.put_i32(days.unwrap_or_default());
            });
            return if beyond { Err(wrong("a date before what PostgreSQL knows".into())) } else { Ok(Param(out.freeze())) };
        }
        DataType::Timestamp(unit, _) => {
            let mut beyond = false;
            let mut put = |micros: Option<i64>, out: &mut BytesMut| {
                let micros = micros.and_then(|micros| micros.checked_sub(EPOCH_MICROS));
                beyond |= micros.is_none();
                out.put_i64(micros.unwrap_or_default());
            };
            if *unit == TimeUnit::Millisecond {
                primitive::<TimestampMillisecondType>(&mut out, column, |value, out| put(value.checked_mul(1_000), out));
            } else {
                primitive::<TimestampMicrosecondType>(&mut out, column, |value, out| put(Some(value), out));
            }
            return if beyond { Err(wrong("a time beyond what PostgreSQL knows".into())) } else { Ok(Param(out.freeze())) };
        }
        _ => {
            let options = EncoderOptions::default().with_explicit_nulls(true);
            let mut encoder = make_encoder(field, column, &options)?;
            let mut text = Vec::new();
            each(&mut out, column, |row, out| {
                text.clear();
                encoder.encode(row, &mut text);
                out.put_slice(&text);
            });
        }
    }
    Ok(Param(out.freeze()))
}

/// Appends all values, each behind its length.
fn each(out: &mut BytesMut, column: &dyn Array, mut put: impl FnMut(usize, &mut BytesMut)) {
    for row in 0..column.len() {
        if column.is_null(row) {
            out.put_i32(-1);
            continue;
        }
        let at = out.len();
        out.put_i32(0);
        put(row, out);
        let length = (out.len() - at - 4) as i32;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
}

fn primitive<T: ArrowPrimitiveType>(out: &mut BytesMut, column: &dyn Array, mut put: impl FnMut(T::Native, &mut BytesMut)) {
    let values = column.as_primitive::<T>();
    each(out, column, |row, out| put(values.value(row), out));
}

/// `numeric_recv`: digits to the base 10,000, the place of the first, the sign, the decimal digits shown.
fn numeric(value: i128, scale: u32, out: &mut BytesMut) {
    let unit = 10_u128.pow(scale);
    let (mut whole, fraction) = (value.unsigned_abs() / unit, value.unsigned_abs() % unit);
    // 39 decimal digits before the point and 38 behind it are 10 digits each.
    let mut digits = [0_u16; 20];
    let (mut first, mut end) = (10, 10);
    while whole > 0 {
        first -= 1;
        digits[first] = (whole % BASE) as u16;
        whole /= BASE;
    }
    let weight = 10 - first as i16 - 1;
    let (mut rest, mut left) = (fraction, scale);
    while rest > 0 {
        // The last digit's missing decimals are zeroes.
        let (digit, after, decimals) = if left >= BASE_DIGITS {
            let unit = 10_u128.pow(left - BASE_DIGITS);
            (rest / unit, rest % unit, left - BASE_DIGITS)
        } else {
            (rest * 10_u128.pow(BASE_DIGITS - left), 0, 0)
        };
        digits[end] = digit as u16;
        end += 1;
        (rest, left) = (after, decimals);
    }
    let shown = &digits[first..end];
    out.put_i16(shown.len() as i16);
    out.put_i16(weight);
    out.put_u16(if value < 0 { NEGATIVE } else { 0 });
    out.put_u16(scale as u16);
    shown.iter().for_each(|digit| out.put_u16(*digit));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Int64Array, StringArray, TimestampMillisecondArray};
    use arrow::datatypes::Field;
    use proptest::prelude::*;

    use super::*;

    fn param(column: ArrayRef) -> Result<Vec<u8>> {
        let field = Arc::new(Field::new("c", column.data_type().clone(), true));
        encode(&field, column.as_ref()).map(|param| param.0.to_vec())
    }

    #[test]
    fn a_column_is_an_array_of_one_dimension() {
        let bytes = param(Arc::new(StringArray::from(vec![Some("ab"), None]))).unwrap();
        let expected: Vec<u8> =
            [1_i32, 1, 25, 2, 1, 2].iter().flat_map(|n| n.to_be_bytes()).chain(*b"ab").chain((-1_i32).to_be_bytes()).collect();
        assert_eq!(bytes, expected);
        let empty = param(Arc::new(Int64Array::from(Vec::<i64>::new()))).unwrap();
        assert_eq!(empty, [0_i32, 0, 20].iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<_>>());
    }

    #[test]
    fn times_count_from_2000_and_end_where_the_server_ends() {
        let value = |bytes: Vec<u8>| bytes[24..].to_vec();
        assert_eq!(value(param(Arc::new(Date32Array::from(vec![EPOCH_DAYS + 1]))).unwrap()), 1_i32.to_be_bytes());
        let millis = EPOCH_MICROS / 1_000 - 1;
        assert_eq!(value(param(Arc::new(TimestampMillisecondArray::from(vec![millis]))).unwrap()), (-1_000_i64).to_be_bytes());
        assert!(param(Arc::new(TimestampMillisecondArray::from(vec![i64::MAX / 1_000 + 1]))).is_err());
        assert!(param(Arc::new(Date32Array::from(vec![i32::MIN]))).is_err());
    }

    /// What `numeric_out` would make of the digits.
    fn shown(bytes: &[u8]) -> String {
        let word = |at: usize| i16::from_be_bytes([bytes[2 * at], bytes[2 * at + 1]]);
        let (count, weight, sign, scale) = (word(0), word(1), word(2) as u16, word(3) as usize);
        let digit = |place: i16| if (0..count).contains(&(weight - place)) { word(4 + (weight - place) as usize) } else { 0 };
        let whole: String = (0..=weight.max(0)).rev().map(|place| format!("{:04}", digit(place))).collect();
        let fraction: String = (1..=10).map(|place| format!("{:04}", digit(-place))).collect();
        let whole = whole.trim_start_matches('0');
        let sign = if sign == NEGATIVE { "-" } else { "" };
        let point = if scale > 0 { "." } else { "" };
        format!("{sign}{}{point}{}", if whole.is_empty() { "0" } else { whole }, &fraction[..scale])
    }

    proptest! {
        #[test]
        fn decimals_keep_every_digit(value in -(10_i128.pow(38) - 1)..10_i128.pow(38), shift in 0_u32..38, scale in 0_i8..=38) {
            let value = value / 10_i128.pow(shift);
            let column = Decimal128Array::from(vec![value]).with_precision_and_scale(38, scale).unwrap();
            let bytes = param(Arc::new(column.clone())).unwrap();
            prop_assert_eq!(shown(&bytes[24..]), column.value_as_string(0));
        }
    }
}
