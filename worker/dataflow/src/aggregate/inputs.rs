//! [pure] A batch of raw rows as accumulators want it: arguments as words, filters and nulls as one mask.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;

use crate::error::{DataflowError, ErrorKind, Result};
use crate::state::keys::{Kind, Words};

/// The columns that the accumulators of a plan read from a batch, each prepared once.
pub(crate) struct Inputs<'a> {
    batch: &'a RecordBatch,
    words: BTreeMap<usize, Words>,
    masks: BTreeMap<(Option<usize>, Option<usize>), Option<BooleanBuffer>>,
}

impl<'a> Inputs<'a> {
    pub(crate) fn new(batch: &'a RecordBatch) -> Self {
        Self { batch, words: BTreeMap::new(), masks: BTreeMap::new() }
    }

    pub(crate) fn column(&self, column: usize) -> Result<&'a ArrayRef> {
        self.batch.columns().get(column).ok_or_else(|| {
            let message = format!("column {column} of {} is not there", self.batch.num_columns());
            DataflowError::new("aggregate", ErrorKind::Bug, message)
        })
    }

    /// An argument in canonical words.
    pub(crate) fn words(&mut self, column: usize) -> Result<Words> {
        if let Some(words) = self.words.get(&column) {
            return Ok(words.clone());
        }
        let words = Words::new(self.column(column)?)?;
        self.words.insert(column, words.clone());
        Ok(words)
    }

    /// The rows whose argument is not null and whose filter is true; `None`: all.
    pub(crate) fn mask(&mut self, argument: Option<usize>, filter: Option<usize>) -> Result<Option<BooleanBuffer>> {
        if let Some(mask) = self.masks.get(&(argument, filter)) {
            return Ok(mask.clone());
        }
        let present = match argument {
            None => None,
            Some(column) => self.column(column)?.logical_nulls().filter(|nulls| nulls.null_count() > 0),
        };
        let passed = match filter {
            None => None,
            Some(column) => Some(truth(self.column(column)?)?),
        };
        let mask = match (present, passed) {
            (None, passed) => passed,
            (Some(present), None) => Some(present.into_inner()),
            (Some(present), Some(passed)) => Some(present.inner() & &passed),
        };
        self.masks.insert((argument, filter), mask.clone());
        Ok(mask)
    }
}

/// Where a boolean column is true (not null).
fn truth(array: &ArrayRef) -> Result<BooleanBuffer> {
    let Some(booleans) = array.as_boolean_opt() else {
        let message = format!("a filter is {}, not boolean", array.data_type());
        return Err(DataflowError::new("aggregate", ErrorKind::Bug, message));
    };
    Ok(match booleans.nulls() {
        Some(nulls) => booleans.values() & nulls.inner(),
        None => booleans.values().clone(),
    })
}

/// A float's word as a double.
#[inline]
pub(crate) fn double(word: u64, data_type: &DataType) -> f64 {
    if *data_type == DataType::Float32 { f64::from(f32::from_bits(word as u32)) } else { f64::from_bits(word) }
}

/// A one-word value as an integer of the same order (NaN above all numbers).
#[inline]
pub(crate) fn ordered(word: u64, kind: Kind) -> i64 {
    match kind {
        Kind::Unsigned(8) => (word ^ 1 << 63) as i64,
        Kind::Float(4) => {
            let bits = word as u32 as i32;
            i64::from(bits ^ ((bits >> 31) as u32 >> 1) as i32)
        }
        Kind::Float(_) => {
            let bits = word as i64;
            bits ^ ((bits >> 63) as u64 >> 1) as i64
        }
        _ => word as i64,
    }
}

/// The inverse of [`ordered`].
#[inline]
pub(crate) fn unordered(value: i64, kind: Kind) -> u64 {
    match kind {
        Kind::Unsigned(8) => value as u64 ^ 1 << 63,
        Kind::Float(4) => {
            let bits = value as i32;
            u64::from((bits ^ ((bits >> 31) as u32 >> 1) as i32) as u32)
        }
        Kind::Float(_) => (value ^ ((value >> 63) as u64 >> 1) as i64) as u64,
        _ => value as u64,
    }
}
