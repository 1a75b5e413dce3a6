//! [pure] Columns to the bytes of part files.

use std::future::Future;
use std::io::Write;
use std::pin::Pin;

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder as CsvWriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::json::WriterBuilder as JsonWriterBuilder;
use arrow::json::writer::LineDelimited;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
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
    let text = |form, part| TextEncoder { form, part, buffer: Vec::new(), written: 0 };
    Ok(match format {
        Format::Csv(options) => Box::new(text(TextForm::Csv(options.clone()), part)),
        Format::Json(options) => Box::new(text(TextForm::Json(options.clone()), part)),
        Format::Parquet(options) => {
            let properties = WriterProperties::builder().set_compression(options.compression).build();
            let writer = ArrowWriter::try_new(part, SchemaRef::clone(schema), Some(properties)).map_err(parquet_error)?;
            Box::new(ParquetEncoder { writer })
        }
    })
}

enum TextForm {
    Csv(CsvOptions),
    Json(JsonOptions),
}

struct TextEncoder {
    form: TextForm,
    part: Box<dyn Part>,
    /// Reused from batch to batch.
    buffer: Vec<u8>,
    written: u64,
}

impl Encoder for TextEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.buffer.clear();
        match &self.form {
            TextForm::Json(options) => write_json(options, batch, &mut self.buffer)?,
            TextForm::Csv(options) => write_csv(options, options.header && self.written == 0, batch, &mut self.buffer)?,
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
