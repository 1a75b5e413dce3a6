//! [pure] Avro's binary encoding of one record a message, without a header: the schema is the table's, as Flink derives it.
//!
//! | type | Avro |
//! |---|---|
//! | `BOOLEAN` | `boolean` |
//! | `TINYINT`, `SMALLINT`, `INT` | `int` |
//! | `BIGINT` | `long` |
//! | `FLOAT`, `DOUBLE` | `float`, `double` |
//! | `STRING`, `BYTES` | `string`, `bytes` |
//! | `DECIMAL(p, s)` | `bytes`, logical type `decimal` |
//! | `DATE` | `int`, logical type `date` |
//! | `TIMESTAMP(p)`, `TIMESTAMP_LTZ(p)` | `long`, logical type `timestamp-millis` (up to 3 digits) or `timestamp-micros` |
//! | `ROW<…>`, `ARRAY<…>` | `record`, `array` |
//!
//! What may be null is the union `["null", T]`; only a column that the table declares `NOT NULL` is plain `T`. A record's
//! fields come in the order of the table's columns. Names are not in the bytes, so any name will do.
//!
//! Source: the Apache Avro 1.12 specification, "Binary Encoding"; the mapping is that of Flink's `AvroSchemaConverter`.
//! Columns are filled and read directly: no value tree stands between them and the bytes.

mod read;
mod write;

use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};

pub(super) use self::read::RowReader;
pub(super) use self::write::RowWriter;
use super::OnError;
use crate::options::Options;

/// The format of a table's (or its keys') messages.
#[derive(Debug, Clone)]
pub(crate) struct AvroFormat {
    /// Fields of the record.
    pub(super) schema: SchemaRef,
    pub(super) on_error: OnError,
}

impl AvroFormat {
    /// Reads the options of the format, and checks the types of the record's columns.
    pub(super) fn parse(options: &mut Options<'_>, schema: &Schema) -> Self {
        if options.text("avro.encoding").is_some_and(|encoding| encoding != "binary") {
            options.bad_value("avro.encoding", "'binary'");
        }
        // Either way a timestamp is the same number; compression is for Avro's files.
        options.boolean("avro.timestamp_mapping.legacy", true);
        options.without_effect(&["avro.codec"]);
        for field in schema.fields() {
            if !supports(field.data_type()) {
                let kind = field.data_type();
                options.problem(format!("column '{}': format 'avro' has no form for the type {kind}", field.name()));
            }
        }
        Self { schema: SchemaRef::new(schema.clone()), on_error: super::stated_on_error(options) }
    }
}

fn supports(kind: &DataType) -> bool {
    match kind {
        DataType::Boolean | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => true,
        DataType::Float32 | DataType::Float64 | DataType::Utf8 | DataType::Binary | DataType::Date32 => true,
        DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, _) | DataType::Decimal128(..) => true,
        DataType::Struct(fields) => fields.iter().all(|field| supports(field.data_type())),
        DataType::List(item) => supports(item.data_type()),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
