//! [pure] Columns to the bytes of part files.

use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, StructArray, UInt8Array, cast::AsArray};
use arrow::buffer::NullBuffer;
use arrow::csv::WriterBuilder as CsvWriterBuilder;
use arrow::datatypes::{SchemaRef, UInt8Type};
use arrow::json::WriterBuilder as JsonWriterBuilder;
use arrow::json::writer::LineDelimited;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rheos_dataflow::changelog::{KIND_COLUMN, RowKind};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

use super::Format;
use super::csv::CsvOptions;
use super::json::JsonOptions;
use crate::options::Options;

/// A Parquet row group is closed when it takes so much memory, bytes.
const ROW_GROUP_BYTES: usize = 32 * 1024 * 1024;

/// Work that ends when a part file is durable.
pub(crate) type Durable = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A part file that is being written; nobody else sees it.
pub(crate) trait Part: Write + Send {
    /// No more bytes follow; the returned work makes the part durable.
    fn finish(self: Box<Self>) -> Durable;
}

/// Encodes rows into a part file.
pub(crate) trait Encoder {
    /// Appends rows.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Size so far, bytes.
    fn size(&self) -> u64;

    /// Ends the file.
    fn finish(self: Box<Self>) -> Result<Box<dyn Part>>;
}

/// The options of Parquet.
#[derive(Debug, Clone)]
pub(crate) struct ParquetOptions {
    compression: Compression,
}

impl ParquetOptions {
    pub(super) fn parse(options: &mut Options<'_>) -> Self {
        let choices = [
            ("snappy", Compression::SNAPPY),
            ("zstd", Compression::ZSTD(ZstdLevel::default())),
            ("lz4_raw", Compression::LZ4_RAW),
            ("uncompressed", Compression::UNCOMPRESSED),
        ];
        Self { compression: options.choice("parquet.compression", &choices, Compression::SNAPPY) }
    }
}

/// An encoder of `format` into `part`.
pub(crate) fn encoder(format: &Format, schema: &SchemaRef, part: Box<dyn Part>) -> Result<Box<dyn Encoder>> {
    Ok(match format {
        Format::Csv(_) | Format::Json(_) | Format::Debezium(_) => {
            Box::new(TextEncoder { form: format.clone(), part, buffer: Vec::new(), written: 0 })
        }
        Format::Parquet(options) => {
            let properties = WriterProperties::builder().set_compression(options.compression).build();
            let writer = ArrowWriter::try_new(part, SchemaRef::clone(schema), Some(properties)).map_err(parquet_error)?;
            Box::new(ParquetEncoder { writer })
        }
    })
}

struct TextEncoder {
    form: Format,
    part: Box<dyn Part>,
    /// Reused from batch to batch.
    buffer: Vec<u8>,
    written: u64,
}

impl Encoder for TextEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.buffer.clear();
        if let Format::Csv(options) = &self.form
            && options.header
            && self.written == 0
        {
            write_csv(options, true, batch, &mut self.buffer)?;
        } else {
            write_text(&self.form, batch, &mut self.buffer)?;
        }
        self.part.write_all(&self.buffer).map_err(|error| write_error(&error))?;
        self.written += self.buffer.len() as u64;
        Ok(())
    }

    fn size(&self) -> u64 {
        self.written
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn Part>> {
        Ok(self.part)
    }
}

/// Rows in a text format, one a line, without a header.
pub(crate) fn write_text(format: &Format, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
    match format {
        Format::Json(options) => write_json(options, batch, out),
        Format::Debezium(options) => write_json(&options.json, &change_events(batch)?, out),
        Format::Csv(options) => write_csv(options, false, batch, out),
        Format::Parquet(_) => Err(DataflowError::new("parquet", ErrorKind::Bug, "Parquet is not text")),
    }
}

fn write_json(options: &JsonOptions, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
    let time = if options.iso_timestamps { "%Y-%m-%dT%H:%M:%S%.f" } else { "%Y-%m-%d %H:%M:%S%.f" };
    let builder = JsonWriterBuilder::new()
        .with_explicit_nulls(!options.ignore_null_fields)
        .with_timestamp_format(time.to_owned())
        .with_timestamp_tz_format(format!("{time}Z"));
    let mut writer = builder.build::<_, LineDelimited>(out);
    writer.write(batch)?;
    Ok(writer.finish()?)
}

/// Rows of a change-log (or of inserts alone) as Debezium's change events: what joins the result is `after` of a `c`, what
/// leaves it `before` of a `d`, as Flink's `debezium-json` has it.
fn change_events(batch: &RecordBatch) -> Result<RecordBatch> {
    let (fields, mut columns) = (batch.schema().fields().clone(), batch.columns().to_vec());
    let is_changelog = fields.last().is_some_and(|field| field.name() == KIND_COLUMN);
    let kinds = match columns.pop() {
        Some(kinds) if is_changelog => kinds.as_primitive::<UInt8Type>().clone(),
        last => {
            columns.extend(last);
            UInt8Array::from(vec![RowKind::Insert as u8; batch.num_rows()])
        }
    };
    let joins: BooleanArray = kinds.values().iter().map(|kind| Some(RowKind::from_u8(*kind).is_none_or(|kind| kind.sign() > 0))).collect();
    let leaves = arrow::compute::not(&joins)?;
    let fields: arrow::datatypes::Fields = fields.iter().take(columns.len()).cloned().collect();
    let rows = |present: &BooleanArray| -> Result<ArrayRef> {
        let nulls = NullBuffer::new(present.values().clone());
        Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns.clone(), Some(nulls), batch.num_rows())?))
    };
    let ops: StringArray = joins.values().iter().map(|joins| Some(if joins { "c" } else { "d" })).collect();
    let (before, after): (ArrayRef, ArrayRef) = (rows(&leaves)?, rows(&joins)?);
    Ok(RecordBatch::try_from_iter_with_nullable([("before", before, true), ("after", after, true), ("op", Arc::new(ops), false)])?)
}

fn write_csv(options: &CsvOptions, header: bool, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
    let time = "%Y-%m-%d %H:%M:%S%.f";
    let mut builder = CsvWriterBuilder::new()
        .with_header(header)
        .with_delimiter(options.delimiter)
        .with_timestamp_format(time.to_owned())
        .with_timestamp_tz_format(format!("{time}Z"))
        .with_null(options.null_literal.clone().unwrap_or_default());
    if let Some(quote) = options.quote {
        builder = builder.with_quote(quote);
    }
    if let Some(escape) = options.escape {
        builder = builder.with_escape(escape).with_double_quote(false);
    }
    Ok(builder.build(out).write(batch)?)
}

struct ParquetEncoder {
    writer: ArrowWriter<Box<dyn Part>>,
}

impl Encoder for ParquetEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(batch).map_err(parquet_error)?;
        if self.writer.memory_size() > ROW_GROUP_BYTES {
            self.writer.flush().map_err(parquet_error)?;
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn Part>> {
        self.writer.into_inner().map_err(parquet_error)
    }
}

fn parquet_error(error: parquet::errors::ParquetError) -> DataflowError {
    DataflowError::new("filesystem", ErrorKind::Transient, format!("writing a Parquet part: {error}"))
}

/// A failed write in words: what to do about the usual reasons.
pub(crate) fn write_error(error: &std::io::Error) -> DataflowError {
    use std::io::ErrorKind as Io;
    let (kind, hint) = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded => (ErrorKind::Transient, "; free some space, the job goes on from its last checkpoint"),
        Io::PermissionDenied | Io::ReadOnlyFilesystem => (ErrorKind::User, "; give the worker the right to write there"),
        _ => (ErrorKind::Transient, ""),
    };
    DataflowError::new("filesystem", kind, format!("{error}{hint}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    fn written(batch: &RecordBatch) -> String {
        let options = JsonOptions { iso_timestamps: false, ignore_null_fields: false, on_error: super::super::OnError::Fail };
        let mut out = Vec::new();
        write_json(&options, &change_events(batch).unwrap(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_change_log_is_written_as_creations_and_deletions() {
        let (ids, kinds): (ArrayRef, ArrayRef) = (Arc::new(Int64Array::from(vec![1, 1, 2])), Arc::new(UInt8Array::from(vec![0, 1, 2])));
        let batch = RecordBatch::try_from_iter([("id", Arc::clone(&ids)), (KIND_COLUMN, kinds)]).unwrap();
        let (create, delete) =
            ("{\"before\":null,\"after\":{\"id\":1},\"op\":\"c\"}\n", "{\"before\":{\"id\":1},\"after\":null,\"op\":\"d\"}\n");
        assert_eq!(written(&batch), [create, delete, &create.replace(":1", ":2")].concat());
        let inserts = RecordBatch::try_from_iter([("id", ids)]).unwrap();
        assert!(written(&inserts).lines().all(|line| line.ends_with("\"op\":\"c\"}")));
    }
}
