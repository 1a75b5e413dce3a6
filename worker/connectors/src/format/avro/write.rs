//! [pure] Columns to Avro records, row by row.

use arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray, ListArray, RecordBatch, StringArray, cast::AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType,
};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

/// Writes the rows of one batch.
pub(in crate::format) struct RowWriter<'a> {
    columns: Vec<Column<'a>>,
}

impl<'a> RowWriter<'a> {
    /// A writer of the rows of `batch` as records of `schema`; columns are matched by place.
    ///
    /// # Errors
    /// A bug: the types differ.
    pub(in crate::format) fn new(schema: &'a Schema, batch: &'a RecordBatch) -> Result<Self> {
        let columns = schema.fields().iter().zip(batch.columns()).map(|(field, array)| Column::new(field, array));
        Ok(Self { columns: columns.collect::<Result<_>>()? })
    }

    /// Appends the record of a row.
    ///
    /// # Errors
    /// A null in a `NOT NULL` column.
    pub(in crate::format) fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        self.columns.iter().try_for_each(|column| column.write(row, out))
    }
}

struct Column<'a> {
    name: &'a str,
    nullable: bool,
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    Boolean(&'a BooleanArray),
    Int8(&'a [i8]),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Decimal(&'a [i128]),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Row(Vec<Column<'a>>),
    List(&'a ListArray, Box<Column<'a>>),
}

impl<'a> Column<'a> {
    fn new(field: &'a Field, array: &'a ArrayRef) -> Result<Self> {
        let bug = || {
            DataflowError::new(
                "avro",
                ErrorKind::Bug,
                format!("column '{}': {} is no {}", field.name(), array.data_type(), field.data_type()),
            )
        };
        let values = match (field.data_type(), array.data_type()) {
            (DataType::Struct(fields), DataType::Struct(found)) if fields.len() == found.len() => {
                let columns = fields.iter().zip(array.as_struct().columns());
                Values::Row(columns.map(|(field, array)| Column::new(field, array)).collect::<Result<_>>()?)
            }
            (DataType::List(item), DataType::List(_)) => {
                let list = array.as_list::<i32>();
                Values::List(list, Box::new(Column::new(item, list.values())?))
            }
            (expected, found) if expected != found => return Err(bug()),
            (DataType::Boolean, _) => Values::Boolean(array.as_boolean()),
            (DataType::Int8, _) => Values::Int8(array.as_primitive::<Int8Type>().values()),
            (DataType::Int16, _) => Values::Int16(array.as_primitive::<Int16Type>().values()),
            (DataType::Int32, _) => Values::Int32(array.as_primitive::<Int32Type>().values()),
            (DataType::Date32, _) => Values::Int32(array.as_primitive::<Date32Type>().values()),
            (DataType::Int64, _) => Values::Int64(array.as_primitive::<Int64Type>().values()),
            (DataType::Timestamp(TimeUnit::Millisecond, _), _) => Values::Int64(array.as_primitive::<TimestampMillisecondType>().values()),
            (DataType::Timestamp(TimeUnit::Microsecond, _), _) => Values::Int64(array.as_primitive::<TimestampMicrosecondType>().values()),
            (DataType::Float32, _) => Values::Float32(array.as_primitive::<Float32Type>().values()),
            (DataType::Float64, _) => Values::Float64(array.as_primitive::<Float64Type>().values()),
            (DataType::Decimal128(..), _) => Values::Decimal(array.as_primitive::<Decimal128Type>().values()),
            (DataType::Utf8, _) => Values::Text(array.as_string()),
            (DataType::Binary, _) => Values::Bytes(array.as_binary()),
            _ => return Err(bug()),
        };
        Ok(Self { name: field.name(), nullable: field.is_nullable(), nulls: array.nulls(), values })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let present = self.nulls.is_none_or(|nulls| nulls.is_valid(row));
        if self.nullable {
            long(i64::from(present), out);
        } else if !present {
            let message = format!("column '{}' is NOT NULL, and gets a null", self.name);
            return Err(DataflowError::new("avro", ErrorKind::Data, message));
        }
        if !present {
            return Ok(());
        }
        match &self.values {
            Values::Boolean(values) => out.push(u8::from(values.value(row))),
            Values::Int8(values) => long(values[row].into(), out),
            Values::Int16(values) => long(values[row].into(), out),
            Values::Int32(values) => long(values[row].into(), out),
            Values::Int64(values) => long(values[row], out),
            Values::Float32(values) => out.extend_from_slice(&values[row].to_le_bytes()),
            Values::Float64(values) => out.extend_from_slice(&values[row].to_le_bytes()),
            Values::Decimal(values) => decimal(values[row], out),
            Values::Text(values) => bytes(values.value(row).as_bytes(), out),
            Values::Bytes(values) => bytes(values.value(row), out),
            Values::Row(fields) => fields.iter().try_for_each(|field| field.write(row, out))?,
            Values::List(list, items) => {
                let (from, to) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
                if from < to {
                    long((to - from) as i64, out);
                    (from..to).try_for_each(|item| items.write(item, out))?;
                }
                long(0, out);
            }
        }
        Ok(())
    }
}

/// A zigzag number of variable length.
fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn bytes(value: &[u8], out: &mut Vec<u8>) {
    long(value.len() as i64, out);
    out.extend_from_slice(value);
}

/// Big-endian two's complement in as few bytes as hold it, as Java writes it.
fn decimal(value: i128, out: &mut Vec<u8>) {
    let whole = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    let is_spare = |index: &usize| whole[*index] == sign && (whole[index + 1] ^ sign) & 0x80 == 0;
    let spare = (0..whole.len() - 1).take_while(is_spare).count();
    bytes(&whole[spare..], out);
}
