//! [pure] Columns as canonical words: the one form in which keys are hashed, compared and stored.
//!
//! Invariant: two values are equal as keys exactly when their words (or bytes) and null bits are equal. So integers
//! are extended to 64 bits, floats have one zero and one NaN, the words under a null are 0 and its bytes are empty.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, BooleanArray, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType};

use super::MAX_KEY_COLUMNS;
use crate::error::{DataflowError, ErrorKind, Result};

/// How a value of a type is held in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing but nulls.
    Null,
    /// One word, 0 or 1.
    Boolean,
    /// One word, sign-extended from this many bytes.
    Signed(usize),
    /// One word, zero-extended from this many bytes.
    Unsigned(usize),
    /// One word: the bits of a normalised float of this many bytes.
    Float(usize),
    /// Two words, the low one first.
    Double,
    /// One word: offset and length of bytes in the heap.
    Bytes,
}

impl Kind {
    /// The kind of a type that can be held in a table.
    pub(crate) fn of(data_type: &DataType) -> Result<Self> {
        use DataType as T;
        Ok(match data_type {
            T::Null => Self::Null,
            T::Boolean => Self::Boolean,
            T::Int8 => Self::Signed(1),
            T::Int16 => Self::Signed(2),
            T::Int32 | T::Date32 | T::Time32(_) => Self::Signed(4),
            T::Int64 | T::Date64 | T::Time64(_) | T::Timestamp(..) | T::Duration(_) => Self::Signed(8),
            T::UInt8 => Self::Unsigned(1),
            T::UInt16 => Self::Unsigned(2),
            T::UInt32 => Self::Unsigned(4),
            T::UInt64 => Self::Unsigned(8),
            T::Float32 => Self::Float(4),
            T::Float64 => Self::Float(8),
            T::Decimal128(..) => Self::Double,
            T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Binary | T::LargeBinary | T::BinaryView => Self::Bytes,
            other => {
                return Err(DataflowError::new(
                    "keyed state",
                    ErrorKind::User,
                    format!("{other} cannot be a key or an argument of an aggregate; cast it to a plain type"),
                ));
            }
        })
    }

    /// Words of a row that it takes.
    pub(crate) fn words(self) -> usize {
        if self == Self::Double { 2 } else { 1 }
    }
}

/// Strings or binaries of a column, nulls as empty.
#[derive(Debug, Clone)]
pub(crate) struct Bytes {
    offsets: OffsetBuffer<i32>,
    values: Buffer,
    nulls: Option<NullBuffer>,
}

impl Bytes {
    /// The bytes of row `i`.
    #[inline]
    pub(crate) fn get(&self, i: usize) -> &[u8] {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(i)) {
            return &[];
        }
        &self.values[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }
}

/// A column in canonical form.
#[derive(Debug, Clone)]
pub(crate) enum Words {
    /// One word a row.
    One(ScalarBuffer<u64>),
    /// Two words a row.
    Two(ScalarBuffer<i128>),
    /// Bytes.
    Bytes(Bytes),
}

impl Words {
    /// The canonical form of a column; shares the buffer where the form is already canonical.
    pub(crate) fn new(array: &ArrayRef) -> Result<Self> {
        let kind = Kind::of(array.data_type())?;
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        Ok(match kind {
            Kind::Bytes => return bytes(array),
            Kind::Null => Self::One(ScalarBuffer::from(vec![0; array.len()])),
            Kind::Boolean => {
                let values = array.as_boolean().values();
                Self::One(values.iter().enumerate().map(|(i, v)| u64::from(v && valid(nulls, i))).collect())
            }
            Kind::Signed(8) | Kind::Unsigned(8) => match nulls {
                None => Self::One(native::<u64>(array)),
                Some(_) => Self::One(map::<u64>(array, nulls, |v| v)),
            },
            Kind::Signed(1) => Self::One(map::<i8>(array, nulls, |v| v as i64 as u64)),
            Kind::Signed(2) => Self::One(map::<i16>(array, nulls, |v| v as i64 as u64)),
            Kind::Signed(_) => Self::One(map::<i32>(array, nulls, |v| v as i64 as u64)),
            Kind::Unsigned(1) => Self::One(map::<u8>(array, nulls, u64::from)),
            Kind::Unsigned(2) => Self::One(map::<u16>(array, nulls, u64::from)),
            Kind::Unsigned(_) => Self::One(map::<u32>(array, nulls, u64::from)),
            Kind::Float(4) => Self::One(map::<f32>(array, nulls, |v| u64::from(if v.is_nan() { f32::NAN } else { v + 0.0 }.to_bits()))),
            Kind::Float(_) => Self::One(map::<f64>(array, nulls, |v| if v.is_nan() { f64::NAN } else { v + 0.0 }.to_bits())),
            Kind::Double => match nulls {
                None => Self::Two(native::<i128>(array)),
                Some(_) => {
                    let values = native::<i128>(array);
                    Self::Two(values.iter().enumerate().map(|(i, v)| if valid(nulls, i) { *v } else { 0 }).collect())
                }
            },
        })
    }
}

#[inline]
fn valid(nulls: Option<&NullBuffer>, i: usize) -> bool {
    nulls.is_none_or(|nulls| nulls.is_valid(i))
}

/// The value buffer of a primitive array, whatever its logical type.
fn native<T: ArrowNativeType>(array: &ArrayRef) -> ScalarBuffer<T> {
    let data = array.to_data();
    ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len())
}

fn map<T: ArrowNativeType>(array: &ArrayRef, nulls: Option<&NullBuffer>, f: impl Fn(T) -> u64) -> ScalarBuffer<u64> {
    let values = native::<T>(array);
    match nulls {
        None => values.iter().map(|v| f(*v)).collect(),
        Some(nulls) => values.iter().zip(nulls.iter()).map(|(v, valid)| if valid { f(*v) } else { 0 }).collect(),
    }
}

fn bytes(array: &ArrayRef) -> Result<Words> {
    let plain = match array.data_type() {
        DataType::Utf8 | DataType::Binary => Arc::clone(array),
        DataType::LargeUtf8 | DataType::Utf8View => arrow::compute::cast(array, &DataType::Utf8)?,
        _ => arrow::compute::cast(array, &DataType::Binary)?,
    };
    let nulls = plain.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
    let (offsets, values) = match plain.as_string_opt::<i32>() {
        Some(strings) => (strings.offsets().clone(), strings.values().clone()),
        None => (plain.as_binary::<i32>().offsets().clone(), plain.as_binary::<i32>().values().clone()),
    };
    Ok(Words::Bytes(Bytes { offsets, values, nulls }))
}

/// The key columns of a batch in canonical form.
pub(crate) struct Keys {
    pub(crate) columns: Vec<Words>,
    /// Bit c of row i: column c is null there. Empty when nothing is.
    nulls: Vec<u32>,
}

impl Keys {
    /// Canonical key columns of `rows` rows.
    pub(crate) fn new(arrays: &[ArrayRef], rows: usize) -> Result<Self> {
        if arrays.len() > MAX_KEY_COLUMNS {
            let message = format!("{} key columns, at most {MAX_KEY_COLUMNS} are possible", arrays.len());
            return Err(DataflowError::new("keyed state", ErrorKind::User, message));
        }
        let columns = arrays.iter().map(Words::new).collect::<Result<Vec<_>>>()?;
        let mut nulls = Vec::new();
        for (c, array) in arrays.iter().enumerate() {
            if array.len() != rows {
                let message = format!("key column {c} has {} rows, the batch {rows}", array.len());
                return Err(DataflowError::new("keyed state", ErrorKind::Bug, message));
            }
            if let Some(column) = array.logical_nulls().filter(|column| column.null_count() > 0) {
                nulls.resize(rows, 0u32);
                nulls.iter_mut().zip(column.iter()).for_each(|(bits, valid)| *bits |= u32::from(!valid) << c);
            }
        }
        Ok(Self { columns, nulls })
    }

    /// Key columns without nulls.
    pub(crate) fn of_words(columns: Vec<Words>) -> Self {
        Self { columns, nulls: Vec::new() }
    }

    /// Null bits of row `i`.
    #[inline]
    pub(crate) fn null_bits(&self, i: usize) -> u32 {
        self.nulls.get(i).copied().unwrap_or(0)
    }

    /// Whether any key is null.
    pub(crate) fn has_nulls(&self) -> bool {
        !self.nulls.is_empty()
    }
}

/// An array of `data_type` from words that were made by [`Words::new`] of the same type.
pub(crate) fn array_of_words(
    data_type: &DataType,
    words: impl ExactSizeIterator<Item = u64>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let rows = words.len();
    let buffer = match Kind::of(data_type)? {
        Kind::Null => return Ok(arrow::array::new_null_array(data_type, rows)),
        Kind::Boolean => {
            let values: BooleanBuffer = words.map(|word| word != 0).collect();
            return Ok(Arc::new(BooleanArray::new(values, nulls)));
        }
        Kind::Signed(8) | Kind::Unsigned(8) | Kind::Float(8) => Buffer::from_vec(words.collect::<Vec<u64>>()),
        Kind::Signed(1) | Kind::Unsigned(1) => Buffer::from_vec(words.map(|word| word as u8).collect::<Vec<u8>>()),
        Kind::Signed(2) | Kind::Unsigned(2) => Buffer::from_vec(words.map(|word| word as u16).collect::<Vec<u16>>()),
        Kind::Signed(_) | Kind::Unsigned(_) | Kind::Float(_) => Buffer::from_vec(words.map(|word| word as u32).collect::<Vec<u32>>()),
        Kind::Double | Kind::Bytes => {
            return Err(DataflowError::new("keyed state", ErrorKind::Bug, format!("{data_type} is not one word")));
        }
    };
    Ok(primitive(data_type, rows, buffer, nulls)?)
}

/// An array of a 16-byte type.
pub(crate) fn array_of_doubles(data_type: &DataType, values: Vec<i128>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    Ok(primitive(data_type, values.len(), Buffer::from_vec(values), nulls)?)
}

fn primitive(data_type: &DataType, rows: usize, buffer: Buffer, nulls: Option<NullBuffer>) -> Result<ArrayRef, arrow::error::ArrowError> {
    Ok(make_array(ArrayData::builder(data_type.clone()).len(rows).add_buffer(buffer).nulls(nulls).build()?))
}

/// An array of a string or binary type.
pub(crate) fn array_of_bytes<'a>(
    data_type: &DataType,
    values: impl ExactSizeIterator<Item = &'a [u8]>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let mut offsets = Vec::with_capacity(values.len() + 1);
    let mut data = Vec::new();
    offsets.push(0i32);
    for value in values {
        data.extend_from_slice(value);
        let end = i32::try_from(data.len())
            .map_err(|_| DataflowError::new("keyed state", ErrorKind::Data, "strings of one batch exceed 2 GiB"))?;
        offsets.push(end);
    }
    let direct =
        if matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) { DataType::Utf8 } else { DataType::Binary };
    let array = make_array(
        ArrayData::builder(direct.clone())
            .len(offsets.len() - 1)
            .add_buffer(Buffer::from_vec(offsets))
            .add_buffer(Buffer::from_vec(data))
            .nulls(nulls)
            .build()?,
    );
    Ok(if &direct == data_type { array } else { arrow::compute::cast(&array, data_type)? })
}
