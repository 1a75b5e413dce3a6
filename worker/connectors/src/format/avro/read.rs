//! [pure] Avro records to columns. A record that cannot be read leaves nothing behind.
//!
//! Lengths and counts are checked against the bytes that are there before anything is allocated for them, and nesting is
//! that of the table's types.

use std::sync::Arc;

use arrow::array::{ArrayData, ArrayRef, BooleanBufferBuilder, RecordBatch, RecordBatchOptions, StructArray, make_array};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef};
use arrow::error::ArrowError;

/// Bytes of the longest number of variable length: 64 bits, 7 in a byte.
const MAX_VARINT_BYTES: usize = 10;

/// Why a record cannot be read: the way to the field, and what is wrong there.
#[derive(Debug)]
pub(in crate::format) struct Fault {
    path: String,
    reason: String,
}

type Outcome<T> = Result<T, Fault>;

fn fault<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Fault { path: String::new(), reason: reason.into() })
}

impl Fault {
    fn within(mut self, name: &str) -> Self {
        self.path = if self.path.is_empty() { name.to_owned() } else { format!("{name}.{}", self.path) };
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.reason),
            path => write!(f, "column '{path}': {}", self.reason),
        }
    }
}

/// Reads records of one schema; gives the columns that are wanted of it.
pub(in crate::format) struct RowReader {
    wanted: SchemaRef,
    parts: Vec<Part>,
    rows: usize,
}

impl RowReader {
    /// A reader of records with the fields `declared`; `wanted` is a part of them, in their order, also inside of rows.
    pub(in crate::format) fn new(declared: &SchemaRef, wanted: &SchemaRef) -> Self {
        Self { wanted: SchemaRef::clone(wanted), parts: parts(declared.fields(), wanted.fields()), rows: 0 }
    }

    /// Takes the record that these bytes are.
    pub(in crate::format) fn push(&mut self, record: &[u8]) -> Outcome<()> {
        let mut input = Input(record);
        let read = read_parts(&mut self.parts, &mut input).and_then(|()| match input.0.len() {
            0 => Ok(()),
            more => fault(format!("{more} bytes follow the record; was it written with this table's schema?")),
        });
        match read {
            Ok(()) => self.rows += 1,
            Err(_) => self.parts.iter_mut().for_each(|part| part.truncate(self.rows)),
        }
        read
    }

    /// The records so far.
    pub(in crate::format) fn finish(self) -> Result<RecordBatch, ArrowError> {
        let columns = build_parts(self.parts, self.wanted.fields(), self.rows)?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(self.wanted, columns, &options)
    }
}

/// A field of a record.
enum Part {
    Read(String, Column),
    Skip(FieldRef),
}

impl Part {
    fn truncate(&mut self, rows: usize) {
        if let Self::Read(_, column) = self {
            column.truncate(rows);
        }
    }
}

fn parts(declared: &Fields, wanted: &Fields) -> Vec<Part> {
    let part = |field: &FieldRef| match wanted.find(field.name()) {
        Some((_, wanted)) => Part::Read(field.name().clone(), Column::new(field, wanted.data_type())),
        None => Part::Skip(FieldRef::clone(field)),
    };
    declared.iter().map(part).collect()
}

fn read_parts(parts: &mut [Part], input: &mut Input<'_>) -> Outcome<()> {
    for part in parts {
        match part {
            Part::Read(name, column) => column.read(input).map_err(|fault| fault.within(name))?,
            Part::Skip(field) => skip(field, input).map_err(|fault| fault.within(field.name()))?,
        }
    }
    Ok(())
}

fn build_parts(parts: Vec<Part>, wanted: &Fields, rows: usize) -> Result<Vec<ArrayRef>, ArrowError> {
    let columns = parts.into_iter().filter_map(|part| match part {
        Part::Read(_, column) => Some(column),
        Part::Skip(_) => None,
    });
    columns.zip(wanted).map(|(column, field)| column.build(field.data_type(), rows)).collect()
}

/// Values of a column so far.
struct Column {
    /// Each value is a union with null.
    nullable: bool,
    valid: BooleanBufferBuilder,
    values: Values,
}

enum Values {
    Boolean(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8 },
    Bytes { ends: Vec<i32>, bytes: Vec<u8>, text: bool },
    Row(Vec<Part>),
    List { ends: Vec<i32>, items: Box<Column> },
}

impl Column {
    fn new(declared: &Field, wanted: &DataType) -> Self {
        Self { nullable: declared.is_nullable(), valid: BooleanBufferBuilder::new(0), values: Values::new(declared.data_type(), wanted) }
    }

    fn read(&mut self, input: &mut Input<'_>) -> Outcome<()> {
        let present = !self.nullable || input.present()?;
        if present {
            self.values.read(input)?;
        } else {
            self.values.null();
        }
        self.valid.append(present);
        Ok(())
    }

    fn null(&mut self) {
        self.values.null();
        self.valid.append(false);
    }

    fn truncate(&mut self, rows: usize) {
        self.valid.truncate(rows);
        self.values.truncate(rows);
    }

    fn build(mut self, kind: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
        let nulls = Some(NullBuffer::new(self.valid.finish())).filter(|nulls| nulls.null_count() > 0);
        let data = ArrayData::builder(kind.clone()).len(rows);
        let data = match self.values {
            Values::Boolean(mut values) => data.add_buffer(values.finish().into_inner()),
            Values::Int8(values) => data.add_buffer(Buffer::from_vec(values)),
            Values::Int16(values) => data.add_buffer(Buffer::from_vec(values)),
            Values::Int32(values) => data.add_buffer(Buffer::from_vec(values)),
            Values::Int64(values) => data.add_buffer(Buffer::from_vec(values)),
            Values::Float32(values) => data.add_buffer(Buffer::from_vec(values)),
            Values::Float64(values) => data.add_buffer(Buffer::from_vec(values)),
            Values::Decimal { values, .. } => data.add_buffer(Buffer::from_vec(values)),
            Values::Bytes { ends, bytes, .. } => data.add_buffer(Buffer::from_vec(ends)).add_buffer(Buffer::from_vec(bytes)),
            Values::Row(parts) => {
                let DataType::Struct(fields) = kind else { return Err(ArrowError::SchemaError(format!("{kind} is no row"))) };
                let columns = build_parts(parts, fields, rows)?;
                return Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, rows)?));
            }
            Values::List { ends, items } => {
                let DataType::List(item) = kind else { return Err(ArrowError::SchemaError(format!("{kind} is no array"))) };
                let count = ends.last().map_or(0, |end| *end as usize);
                data.add_buffer(Buffer::from_vec(ends)).add_child_data(items.build(item.data_type(), count)?.to_data())
            }
        };
        Ok(make_array(data.nulls(nulls).build()?))
    }
}

impl Values {
    fn new(declared: &DataType, wanted: &DataType) -> Self {
        match (declared, wanted) {
            (DataType::Boolean, _) => Self::Boolean(BooleanBufferBuilder::new(0)),
            (DataType::Int8, _) => Self::Int8(Vec::new()),
            (DataType::Int16, _) => Self::Int16(Vec::new()),
            (DataType::Int32 | DataType::Date32, _) => Self::Int32(Vec::new()),
            (DataType::Float32, _) => Self::Float32(Vec::new()),
            (DataType::Float64, _) => Self::Float64(Vec::new()),
            (DataType::Decimal128(precision, _), _) => Self::Decimal { values: Vec::new(), precision: *precision },
            (DataType::Utf8 | DataType::Binary, _) => Self::Bytes { ends: vec![0], bytes: Vec::new(), text: declared == &DataType::Utf8 },
            (DataType::Struct(fields), DataType::Struct(wanted)) => Self::Row(parts(fields, wanted)),
            (DataType::List(item), DataType::List(wanted)) => {
                Self::List { ends: vec![0], items: Box::new(Column::new(item, wanted.data_type())) }
            }
            // A longer number of its own kind, and what the options let through by mistake: it then fails as a column.
            _ => Self::Int64(Vec::new()),
        }
    }

    fn read(&mut self, input: &mut Input<'_>) -> Outcome<()> {
        match self {
            Self::Boolean(values) => values.append(input.boolean()?),
            Self::Int8(values) => values.push(input.integer("TINYINT")?),
            Self::Int16(values) => values.push(input.integer("SMALLINT")?),
            Self::Int32(values) => values.push(input.integer("int")?),
            Self::Int64(values) => values.push(input.long()?),
            Self::Float32(values) => values.push(f32::from_le_bytes(input.array()?)),
            Self::Float64(values) => values.push(f64::from_le_bytes(input.array()?)),
            Self::Decimal { values, precision } => values.push(decimal(input.bytes()?, *precision)?),
            Self::Bytes { ends, bytes, text } => {
                let value = input.bytes()?;
                if *text && std::str::from_utf8(value).is_err() {
                    return fault("the text is not UTF-8");
                }
                let end = i32::try_from(bytes.len() + value.len());
                let Ok(end) = end else { return fault("a batch of more than 2 GiB") };
                bytes.extend_from_slice(value);
                ends.push(end);
            }
            Self::Row(parts) => read_parts(parts, input)?,
            Self::List { ends, items } => {
                let mut count = ends.last().copied().unwrap_or(0);
                while let Some(block) = input.block()? {
                    let Some(end) = i32::try_from(block.items).ok().and_then(|items| count.checked_add(items)) else {
                        return fault("a batch of more than 2^31 items");
                    };
                    for _ in 0..block.items {
                        items.read(input)?;
                    }
                    count = end;
                }
                ends.push(count);
            }
        }
        Ok(())
    }

    fn null(&mut self) {
        match self {
            Self::Boolean(values) => values.append(false),
            Self::Int8(values) => values.push(0),
            Self::Int16(values) => values.push(0),
            Self::Int32(values) => values.push(0),
            Self::Int64(values) => values.push(0),
            Self::Float32(values) => values.push(0.0),
            Self::Float64(values) => values.push(0.0),
            Self::Decimal { values, .. } => values.push(0),
            Self::Bytes { ends, .. } | Self::List { ends, .. } => ends.push(ends.last().copied().unwrap_or(0)),
            Self::Row(parts) => parts.iter_mut().for_each(|part| {
                if let Part::Read(_, column) = part {
                    column.null();
                }
            }),
        }
    }

    /// Takes back what is behind the first `rows` values, a value begun among it.
    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Boolean(values) => values.truncate(rows),
            Self::Int8(values) => values.truncate(rows),
            Self::Int16(values) => values.truncate(rows),
            Self::Int32(values) => values.truncate(rows),
            Self::Int64(values) => values.truncate(rows),
            Self::Float32(values) => values.truncate(rows),
            Self::Float64(values) => values.truncate(rows),
            Self::Decimal { values, .. } => values.truncate(rows),
            Self::Bytes { ends, bytes, .. } => {
                ends.truncate(rows + 1);
                bytes.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Self::Row(parts) => parts.iter_mut().for_each(|part| part.truncate(rows)),
            Self::List { ends, items } => {
                ends.truncate(rows + 1);
                items.truncate(ends.last().map_or(0, |end| *end as usize));
            }
        }
    }
}

/// Passes over a value.
fn skip(field: &Field, input: &mut Input<'_>) -> Outcome<()> {
    if field.is_nullable() && !input.present()? {
        return Ok(());
    }
    match field.data_type() {
        DataType::Boolean => input.boolean().map(|_| ()),
        DataType::Float32 => input.take(size_of::<f32>()).map(|_| ()),
        DataType::Float64 => input.take(size_of::<f64>()).map(|_| ()),
        DataType::Utf8 | DataType::Binary | DataType::Decimal128(..) => input.bytes().map(|_| ()),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| skip(field, input).map_err(|fault| fault.within(field.name()))),
        DataType::List(item) => {
            while let Some(block) = input.block()? {
                match block.bytes {
                    Some(bytes) => drop(input.take(bytes)?),
                    None => (0..block.items).try_for_each(|_| skip(item, input))?,
                }
            }
            Ok(())
        }
        _ => input.long().map(|_| ()),
    }
}

/// A number of big-endian two's complement, of any length.
fn decimal(bytes: &[u8], precision: u8) -> Outcome<i128> {
    const SIZE: usize = size_of::<i128>();
    let Some(first) = bytes.first() else { return fault("a decimal of no bytes") };
    let sign = if first & 0x80 == 0 { 0 } else { 0xff };
    let (more, last) = bytes.split_at(bytes.len().saturating_sub(SIZE));
    let mut whole = [sign; SIZE];
    whole[SIZE - last.len()..].copy_from_slice(last);
    let value = i128::from_be_bytes(whole);
    let fits = more.iter().all(|byte| *byte == sign) && (value < 0) == (sign != 0);
    if !fits || value.unsigned_abs() >= 10_u128.saturating_pow(u32::from(precision)) {
        return fault(format!("the number has more than {precision} digits"));
    }
    Ok(value)
}

/// A block of an array's items.
struct Block {
    items: u64,
    /// Their size, where it is told.
    bytes: Option<usize>,
}

/// What is left of a record.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Outcome<&'a [u8]> {
        match self.0.split_at_checked(count) {
            Some((taken, rest)) => {
                self.0 = rest;
                Ok(taken)
            }
            None => fault(format!("the record ends {} bytes too early", count - self.0.len())),
        }
    }

    fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A zigzag number of variable length.
    fn long(&mut self) -> Outcome<i64> {
        let mut value: u64 = 0;
        for (index, byte) in self.0.iter().enumerate().take(MAX_VARINT_BYTES) {
            // Of the last byte there is room for one bit.
            if index == MAX_VARINT_BYTES - 1 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        if self.0.len() < MAX_VARINT_BYTES { fault("the record ends within a number") } else { fault("a number of more than 64 bits") }
    }

    fn integer<T: TryFrom<i64>>(&mut self, kind: &str) -> Outcome<T> {
        let value = self.long()?;
        T::try_from(value).or_else(|_| fault(format!("{value} is no {kind}")))
    }

    fn boolean(&mut self) -> Outcome<bool> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            other => fault(format!("{other:?} is no boolean")),
        }
    }

    /// Which side of the union of null and a value follows.
    fn present(&mut self) -> Outcome<bool> {
        match self.long()? {
            0 => Ok(false),
            1 => Ok(true),
            other => fault(format!("{other} is no place in the union of null and a value")),
        }
    }

    fn bytes(&mut self) -> Outcome<&'a [u8]> {
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) => self.take(length),
            Err(_) => fault(format!("{length} is no length")),
        }
    }

    /// The next block of an array; `None` at its end. An item takes a byte at least, as it can be null.
    fn block(&mut self) -> Outcome<Option<Block>> {
        let count = self.long()?;
        let bytes = match count < 0 {
            false => None,
            true => match usize::try_from(self.long()?) {
                Ok(bytes) if bytes <= self.0.len() => Some(bytes),
                _ => return fault("a block of items ends behind the record"),
            },
        };
        match count.unsigned_abs() {
            0 => Ok(None),
            items if items > self.0.len() as u64 => fault(format!("{items} items in {} bytes", self.0.len())),
            items => Ok(Some(Block { items, bytes })),
        }
    }
}
