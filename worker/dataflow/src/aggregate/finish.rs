//! [pure] Results out of accumulators: a block of groups' rows into one column a call.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, Float64Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, i256};

use super::exact::Sum;
use super::inputs::unordered;
use super::plan::{DECIMAL_DIGITS, Finish};
use super::steps::double_at;
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::AggregateFunction;
use crate::state::keys::{Kind, array_of_bytes, array_of_doubles, array_of_words};
use crate::state::rows::{Layout, Rows};

impl Finish {
    /// The results of all rows of a block.
    pub(crate) fn evaluate(&self, layout: &Layout, block: &Rows) -> Result<ArrayRef> {
        let rows = block.words.chunks_exact(layout.stride);
        let count_at = layout.values[self.count].at;
        if self.function == AggregateFunction::Count {
            return array_of_words(&self.result_type, rows.map(|row| row[count_at]), None);
        }
        let counts: Vec<i64> = rows.clone().map(|row| row[count_at] as i64).collect();
        let nulls: NullBuffer = counts.iter().map(|count| *count > 0).collect();
        let at = layout.values[self.value].at;
        let result = match self.function {
            AggregateFunction::Min | AggregateFunction::Max => self.extreme(layout, block, at, nulls)?,
            _ => match Kind::of(&self.argument_type)? {
                Kind::Double => self.decimal(rows.map(|row| double_at(row, at)), &counts)?,
                Kind::Float(_) => {
                    let sum = |row: &[u64]| Ok(Sum::unpack(block.bytes(row[at]))?.to_f64());
                    self.float(&rows.map(sum).collect::<Result<Vec<f64>>>()?, &counts)?
                }
                _ => self.integer(rows.map(|row| row[at] as i64), &counts, nulls)?,
            },
        };
        if result.data_type() == &self.result_type {
            return Ok(result);
        }
        Ok(arrow::compute::cast(&result, &self.result_type)?)
    }

    fn extreme(&self, layout: &Layout, block: &Rows, at: usize, nulls: NullBuffer) -> Result<ArrayRef> {
        let rows = block.words.chunks_exact(layout.stride);
        match Kind::of(&self.argument_type)? {
            Kind::Null => Ok(new_null_array(&self.result_type, rows.len())),
            Kind::Double => {
                let value = |(i, row): (usize, &[u64])| if nulls.is_valid(i) { double_at(row, at) } else { 0 };
                let values = rows.enumerate().map(value).collect();
                array_of_doubles(&self.argument_type, values, Some(nulls))
            }
            Kind::Bytes => {
                let values = rows.enumerate().map(
                    |(i, row)| {
                        if nulls.is_valid(i) { block.bytes(row[at]).get(1..).unwrap_or_default() } else { &[] }
                    },
                );
                array_of_bytes(&self.argument_type, values, Some(nulls.clone()))
            }
            kind => {
                let words = rows.map(|row| unordered(row[at] as i64, kind));
                array_of_words(&self.argument_type, words, Some(nulls))
            }
        }
    }

    fn integer(&self, sums: impl ExactSizeIterator<Item = i64>, counts: &[i64], nulls: NullBuffer) -> Result<ArrayRef> {
        let average = self.function == AggregateFunction::Avg;
        let integral = matches!(Kind::of(&self.result_type)?, Kind::Signed(_) | Kind::Unsigned(_));
        if integral {
            let words =
                sums.zip(counts).map(|(sum, count)| if average && *count > 0 { sum.wrapping_div(*count) as u64 } else { sum as u64 });
            return array_of_words(&self.result_type, words.collect::<Vec<u64>>().into_iter(), Some(nulls));
        }
        self.float(&sums.map(|sum| sum as f64).collect::<Vec<f64>>(), counts)
    }

    fn float(&self, sums: &[f64], counts: &[i64]) -> Result<ArrayRef> {
        let average = self.function == AggregateFunction::Avg;
        let result = |(sum, count): (&f64, &i64)| (*count > 0).then(|| if average { sum / *count as f64 } else { *sum });
        let results = sums.iter().zip(counts).map(result);
        Ok(if self.result_type == DataType::Float32 {
            Arc::new(results.map(|value| value.map(|value| value as f32)).collect::<Float32Array>())
        } else {
            Arc::new(results.collect::<Float64Array>())
        })
    }

    /// Sums and averages of decimals, rounded half up; null where they have more than 38 digits.
    fn decimal(&self, sums: impl Iterator<Item = i128>, counts: &[i64]) -> Result<ArrayRef> {
        let (DataType::Decimal128(_, from), DataType::Decimal128(_, to)) = (&self.argument_type, &self.result_type) else {
            let message = format!("{:?} of {} is {}", self.function, self.argument_type, self.result_type);
            return Err(DataflowError::new("aggregate", ErrorKind::Bug, message));
        };
        let average = self.function == AggregateFunction::Avg;
        let limit = 10i128.pow(u32::from(DECIMAL_DIGITS));
        let result = |(sum, count): (i128, &i64)| {
            if *count <= 0 {
                return None;
            }
            let divisor = if average { *count } else { 1 };
            rescale(sum, i32::from(*to) - i32::from(*from), divisor).filter(|value| -limit < *value && *value < limit)
        };
        let results: Vec<Option<i128>> = sums.zip(counts).map(result).collect();
        let nulls: NullBuffer = results.iter().map(Option::is_some).collect();
        array_of_doubles(&self.result_type, results.into_iter().map(Option::unwrap_or_default).collect(), Some(nulls))
    }
}

/// `value * 10^shift / divisor`, rounded half away from zero; `None` where 256 bits are not enough or 128 do not hold it.
fn rescale(value: i128, shift: i32, divisor: i64) -> Option<i128> {
    if shift == 0 && divisor == 1 {
        return Some(value);
    }
    let power = i256::from_i128(10).checked_pow(shift.unsigned_abs())?;
    let (numerator, divisor) = if shift >= 0 {
        (i256::from_i128(value).checked_mul(power)?, i256::from_i128(i128::from(divisor)))
    } else {
        (i256::from_i128(value), i256::from_i128(i128::from(divisor)).checked_mul(power)?)
    };
    let quotient = numerator.checked_div(divisor)?;
    let rest = numerator.checked_sub(quotient.checked_mul(divisor)?)?;
    let twice = rest.checked_mul(i256::from_i128(2))?.wrapping_abs();
    let away = if twice >= divisor { if value < 0 { -1 } else { 1 } } else { 0 };
    quotient.checked_add(i256::from_i128(away))?.to_i128()
}
