//! [pure] The inner loops: raw rows and partials into accumulators, one step over many rows at a time.
//!
//! One match a step and block of rows; each loop is compiled for its step, mask and sign.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Decimal128Type, Int64Type};

use super::exact::{Sum, add_in_place};
use super::inputs::{Inputs, double, ordered};
use super::plan::{Accumulator, Step};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::state::keys::{Kind, Words};
use crate::state::{KeyedTable, Slot};

/// Rows that all steps handle before the next ones: their words stay in the first-level cache from step to step.
pub(crate) const BLOCK_ROWS: usize = 1_024;

/// A step's input of one batch.
pub(crate) struct Prepared {
    step: Step,
    kind: Kind,
    accumulator: Accumulator,
    /// First word of the state.
    at: usize,
    values: Option<Words>,
    mask: Option<BooleanBuffer>,
}

impl Prepared {
    pub(crate) fn new(accumulator: &Accumulator, at: usize, inputs: &mut Inputs<'_>) -> Result<Self> {
        let values = match accumulator.argument {
            Some(column) if accumulator.step != Step::Count => Some(inputs.words(column)?),
            _ => None,
        };
        Ok(Self {
            step: accumulator.step,
            kind: Kind::of(&accumulator.argument_type)?,
            accumulator: accumulator.clone(),
            at,
            values,
            mask: inputs.mask(accumulator.argument, accumulator.filter)?,
        })
    }

    /// Takes in rows `range` of the batch; row i goes to `slots[i]`.
    pub(crate) fn update(&self, table: &mut KeyedTable, slots: &[Slot], signs: Option<&[i64]>, range: Range<usize>) -> Result<()> {
        let at = self.at;
        let mask = self.mask.as_ref();
        let sign = |i: usize| signs.map_or(1, |signs| signs[i]);
        match (self.step, &self.values) {
            (Step::Count, _) => match mask {
                None => range.for_each(|i| add(table.word_mut(slots[i], at), sign(i))),
                Some(mask) => range.for_each(|i| add(table.word_mut(slots[i], at), sign(i) * i64::from(mask.value(i)))),
            },
            (Step::Sum, Some(Words::One(words))) => {
                each(mask, range, |i| add(table.word_mut(slots[i], at), (words[i] as i64).wrapping_mul(sign(i))));
            }
            (Step::SumDouble, Some(Words::Two(values))) => each(mask, range, |i| {
                let (rows, base) = table.row_mut(slots[i]);
                add_double(&mut rows.words, base + at, values[i].wrapping_mul(i128::from(sign(i))));
            }),
            (Step::SumFloat, Some(Words::One(words))) => {
                for i in range.filter(|i| mask.is_none_or(|mask| mask.value(*i))) {
                    add_float(table, slots[i], at, double(words[i], &self.accumulator.argument_type), sign(i) < 0)?;
                }
            }
            (Step::Extreme { max }, Some(Words::One(words))) => {
                let kind = self.kind;
                if max {
                    each(mask, range, |i| raise(table.word_mut(slots[i], at), ordered(words[i], kind)));
                } else {
                    each(mask, range, |i| lower(table.word_mut(slots[i], at), ordered(words[i], kind)));
                }
            }
            (Step::Extreme { max }, Some(Words::Two(values))) => each(mask, range, |i| {
                let (rows, base) = table.row_mut(slots[i]);
                extreme_double(&mut rows.words, base + at, values[i], max);
            }),
            (Step::Extreme { max }, Some(Words::Bytes(bytes))) => {
                let mut scratch = Vec::new();
                for i in range.filter(|i| mask.is_none_or(|mask| mask.value(*i))) {
                    scratch.clear();
                    scratch.push(PRESENT);
                    scratch.extend_from_slice(bytes.get(i));
                    extreme_bytes(table, slots[i], at, &scratch, max)?;
                }
            }
            _ => return Err(mismatch(&self.accumulator)),
        }
        Ok(())
    }
}

/// Takes in a column of partials.
pub(crate) fn merge(accumulator: &Accumulator, at: usize, table: &mut KeyedTable, slots: &[Slot], partials: &ArrayRef) -> Result<()> {
    if partials.data_type() != &accumulator.data_type() || partials.len() != slots.len() {
        return Err(mismatch(accumulator));
    }
    match (accumulator.step, accumulator.data_type()) {
        (Step::SumFloat, _) => {
            for (slot, bytes) in slots.iter().zip(partials.as_binary::<i32>()) {
                merge_float(table, *slot, at, bytes.unwrap_or_default())?;
            }
        }
        (Step::Count | Step::Sum, _) => {
            let values = partials.as_primitive::<Int64Type>().values();
            slots.iter().zip(values).for_each(|(slot, value)| add(table.word_mut(*slot, at), *value));
        }
        (Step::SumDouble, _) => {
            for (slot, value) in slots.iter().zip(partials.as_primitive::<Decimal128Type>().values()) {
                let (rows, base) = table.row_mut(*slot);
                add_double(&mut rows.words, base + at, *value);
            }
        }
        (Step::Extreme { max }, arrow::datatypes::DataType::Int64) => {
            let values = partials.as_primitive::<Int64Type>().values();
            if max {
                slots.iter().zip(values).for_each(|(slot, value)| raise(table.word_mut(*slot, at), *value));
            } else {
                slots.iter().zip(values).for_each(|(slot, value)| lower(table.word_mut(*slot, at), *value));
            }
        }
        (Step::Extreme { max }, arrow::datatypes::DataType::Binary) => {
            for (slot, bytes) in slots.iter().zip(partials.as_binary::<i32>()) {
                if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
                    extreme_bytes(table, *slot, at, bytes, max)?;
                }
            }
        }
        (Step::Extreme { max }, _) => {
            for (slot, value) in slots.iter().zip(partials.as_primitive::<Decimal128Type>().values()) {
                let (rows, base) = table.row_mut(*slot);
                extreme_double(&mut rows.words, base + at, *value, max);
            }
        }
    }
    Ok(())
}

/// First byte of an extreme of bytes: tells the empty string from no value.
pub(crate) const PRESENT: u8 = 1;

#[inline]
fn each(mask: Option<&BooleanBuffer>, range: Range<usize>, mut f: impl FnMut(usize)) {
    match mask {
        None => range.for_each(f),
        Some(mask) => range.for_each(|i| {
            if mask.value(i) {
                f(i);
            }
        }),
    }
}

#[inline]
pub(crate) fn add(word: &mut u64, value: i64) {
    *word = word.wrapping_add(value as u64);
}

#[inline]
fn raise(word: &mut u64, value: i64) {
    *word = (*word as i64).max(value) as u64;
}

#[inline]
fn lower(word: &mut u64, value: i64) {
    *word = (*word as i64).min(value) as u64;
}

#[inline]
pub(crate) fn double_at(words: &[u64], at: usize) -> i128 {
    i128::from(words[at + 1] as i64) << 64 | i128::from(words[at])
}

#[inline]
pub(crate) fn set_double(words: &mut [u64], at: usize, value: i128) {
    words[at] = value as u64;
    words[at + 1] = (value >> 64) as u64;
}

#[inline]
pub(crate) fn add_double(words: &mut [u64], at: usize, value: i128) {
    set_double(words, at, double_at(words, at).wrapping_add(value));
}

#[inline]
fn extreme_double(words: &mut [u64], at: usize, value: i128, max: bool) {
    let old = double_at(words, at);
    set_double(words, at, if max { old.max(value) } else { old.min(value) });
}

fn extreme_bytes(table: &mut KeyedTable, slot: Slot, at: usize, value: &[u8], max: bool) -> Result<()> {
    let (rows, base) = table.row(slot);
    let old = rows.bytes(rows.words[base + at]);
    let better = old.is_empty() || if max { value > old } else { value < old };
    if better { table.set_bytes(slot, at, value) } else { Ok(()) }
}

/// Adds a float to an exact sum.
pub(crate) fn add_float(table: &mut KeyedTable, slot: Slot, at: usize, value: f64, subtract: bool) -> Result<()> {
    let (rows, base) = table.row_mut(slot);
    let word = rows.words[base + at];
    if add_in_place(rows.bytes_mut(word), value, subtract) {
        return Ok(());
    }
    let mut sum = Sum::unpack(rows.bytes(word))?;
    sum.add(value, subtract);
    let mut bytes = Vec::new();
    sum.pack(&mut bytes);
    table.set_bytes(slot, at, &bytes)
}

fn merge_float(table: &mut KeyedTable, slot: Slot, at: usize, partial: &[u8]) -> Result<()> {
    if partial.is_empty() {
        return Ok(());
    }
    let (rows, base) = table.row(slot);
    let word = rows.words[base + at];
    if rows.bytes(word).is_empty() {
        return table.set_bytes(slot, at, partial);
    }
    let mut sum = Sum::unpack(rows.bytes(word))?;
    sum.merge(&Sum::unpack(partial)?);
    let mut bytes = Vec::new();
    sum.pack(&mut bytes);
    table.set_bytes(slot, at, &bytes)
}

fn mismatch(accumulator: &Accumulator) -> DataflowError {
    let message = format!("the column of {:?} over {} has another type", accumulator.step, accumulator.argument_type);
    DataflowError::new("aggregate", ErrorKind::Bug, message)
}
