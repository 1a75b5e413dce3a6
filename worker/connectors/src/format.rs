//! [pure] Formats of records: CSV, newline-delimited JSON, Parquet, Avro, and Debezium's change events.
//! Bytes to columns and back; no I/O here.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `format` | | `csv`, `json`, `parquet`; for change-logs `debezium-json`; in messages also `raw` and `avro` |
//! | `format.on-error` | `fail` | `skip`: leave out records that cannot be read, and count them |
//! | `csv.ignore-parse-errors`, `json.ignore-parse-errors` | `false` | `true`: the same as `'format.on-error' = 'skip'` |
//! | `csv.header` | `false` | the first line names the columns (read), is written (write); columns are found by name |
//! | `csv.ignore-first-line` | `false` | leave out the first line of each file |
//! | `csv.field-delimiter` | `,` | one character (`\t` for a tab) |
//! | `csv.quote-character` | `"` | one character |
//! | `csv.disable-quote-character` | `false` | no quoting |
//! | `csv.escape-character` | none | one character |
//! | `csv.allow-comments` | `false` | leave out lines that begin with `#` |
//! | `csv.null-literal` | none | text that stands for null; an empty field is null in any column but a text |
//! | `json.timestamp-format.standard` | `SQL` | `SQL` (`2013-01-01 10:00:00.123`) or `ISO-8601`, when writing; both are read |
//! | `json.encode.ignore-null-fields` | `false` | leave out fields that are null |
//! | `json.fail-on-missing-field` | `false` | nothing else: a field that is missing is null; `NOT NULL` refuses it |
//! | `json.encode.decimal-as-plain-number`, `json.map-null-key.mode`, `json.map-null-key.literal` | | of Flink's format; taken, and without effect |
//! | `debezium-json.…` | | those of `json` |
//! | `debezium-json.schema-include` | `false` | the event is the `payload` of an object that holds its `schema`, too (read only) |
//! | `avro.encoding` | `binary` | nothing else |
//! | `avro.codec`, `avro.timestamp_mapping.legacy` | | of Flink's format; taken, and without effect |
//! | `parquet.compression` | `snappy` | `snappy`, `zstd`, `lz4_raw` or `uncompressed` |
//!
//! Times are read with or without a zone (`2013-01-01T10:00:00Z`, `2013-01-01 10:00:00`); the instant counts as UTC.

pub(crate) mod avro;
pub(crate) mod csv;
pub(crate) mod debezium;
pub(crate) mod encode;
pub(crate) mod json;
pub(crate) mod message;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use rheos_dataflow::error::Result;

use crate::options::Options;

/// The longest record, bytes: a file without line ends or with a quote that never closes must not fill the memory.
pub const RECORD_LIMIT: usize = 2 * 1024 * 1024;
/// A malformed record's text is cut to this many characters in messages.
const SHOWN_TEXT: usize = 120;

/// What a table's `format` options say.
#[derive(Debug, Clone)]
pub(crate) enum Format {
    Csv(csv::CsvOptions),
    Json(json::JsonOptions),
    /// `{"before": …, "after": …, "op": …}`.
    Debezium(debezium::DebeziumOptions),
    Parquet(encode::ParquetOptions),
}

/// What to do with a record that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnError {
    /// Fail the job.
    Fail,
    /// Leave it out and count it.
    Skip,
}

/// What a decoder made of some input.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Bytes used, up to the end of a record.
    pub(crate) consumed: usize,
    /// Records in them, malformed ones too.
    pub(crate) records: u64,
    /// The good records, if there are any.
    pub(crate) batch: Option<RecordBatch>,
    /// How many the others are.
    pub(crate) malformed: u64,
    /// The first of them.
    pub(crate) first: Option<Malformed>,
}

/// A record that cannot be read.
#[derive(Debug)]
pub(crate) struct Malformed {
    /// Its number among the decoded ones, from 0.
    pub(crate) record: u64,
    /// Where it begins in the input.
    pub(crate) start: usize,
    /// Column, text and what is expected.
    pub(crate) reason: String,
}

/// Turns bytes that begin with a record into columns.
pub(crate) trait Decoder {
    /// Reads whole records from the front of `input`, at most `rows`; `last` tells that nothing follows. Uses nothing
    /// when there is no whole record.
    fn decode(&mut self, input: &[u8], last: bool, rows: usize) -> Result<Decoded>;

    /// Takes the head of a file (a header line, a byte order mark): bytes used, or `None` when more are needed.
    fn begin(&mut self, input: &[u8], last: bool) -> Result<Option<usize>>;

    /// What [`Decoder::begin`] learned and a decoder that starts in the middle of the file must be told.
    fn header(&self) -> Option<Vec<String>> {
        None
    }

    /// The header as an earlier decoder of this file read it.
    fn set_header(&mut self, _header: Vec<String>) -> Result<()> {
        Ok(())
    }
}

impl Format {
    /// Reads the options of a table, and checks the types of its columns.
    pub(crate) fn parse(options: &mut Options<'_>, schema: &Schema) -> Option<Self> {
        let name = options.required("format", "json")?;
        Self::named(options, "format", name, &["csv", "json", "parquet", "debezium-json"], schema)
    }

    /// The same for the format `name`, which option `option` gives and which is one of `choices`.
    pub(crate) fn named(options: &mut Options<'_>, option: &str, name: &str, choices: &[&str], schema: &Schema) -> Option<Self> {
        let format = match name {
            name if !choices.contains(&name) => {
                let mut listed = choices.iter().map(|choice| format!("'{choice}'")).collect::<Vec<_>>();
                let last = listed.pop().unwrap_or_default();
                options.bad_value(option, if listed.is_empty() { last } else { format!("{} or {last}", listed.join(", ")) });
                options.known_all();
                return None;
            }
            "csv" => Self::Csv(csv::CsvOptions::parse(options)),
            "json" => Self::Json(json::JsonOptions::parse(options, name)),
            "debezium-json" => Self::Debezium(debezium::DebeziumOptions::parse(options)),
            _ => Self::Parquet(encode::ParquetOptions::parse(options)),
        };
        for field in schema.fields() {
            if !format.supports(field.data_type()) {
                let kind = field.data_type();
                options.problem(format!("column '{}': format '{name}' has no form for the type {kind}", field.name()));
            }
        }
        Some(format)
    }

    /// Ending of files of this format.
    pub(crate) fn extension(&self) -> &'static str {
        match self {
            Self::Csv(_) => "csv",
            Self::Json(_) | Self::Debezium(_) => "json",
            Self::Parquet(_) => "parquet",
        }
    }

    /// Whether its records can say that a row is replaced or gone.
    pub(crate) fn carries_changes(&self) -> bool {
        matches!(self, Self::Debezium(_))
    }

    /// Notes what a table that is written cannot have.
    pub(crate) fn check_written(&self, options: &mut Options<'_>) {
        if matches!(self, Self::Debezium(debezium) if debezium.schema_include) {
            options.bad_value("debezium-json.schema-include", "'false' for a table that is written");
        }
    }

    fn supports(&self, kind: &DataType) -> bool {
        match kind {
            DataType::Struct(fields) => !matches!(self, Self::Csv(_)) && fields.iter().all(|field| self.supports(field.data_type())),
            DataType::List(item) => !matches!(self, Self::Csv(_)) && self.supports(item.data_type()),
            DataType::Map(entries, _) => !matches!(self, Self::Csv(_)) && self.supports(entries.data_type()),
            DataType::Boolean | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => true,
            DataType::Float32 | DataType::Float64 | DataType::Utf8 | DataType::Date32 => true,
            DataType::Timestamp(..) | DataType::Decimal128(..) => true,
            DataType::Time32(_) | DataType::Time64(_) => true,
            DataType::Binary => matches!(self, Self::Parquet(_)),
            _ => false,
        }
    }
}

/// Reads `format.on-error`.
pub(crate) fn stated_on_error(options: &mut Options<'_>) -> OnError {
    options.choice("format.on-error", &[("fail", OnError::Fail), ("skip", OnError::Skip)], OnError::Fail)
}

/// Reads `format.on-error` and its alias for one format.
pub(crate) fn on_error(options: &mut Options<'_>, format: &str) -> OnError {
    let stated = stated_on_error(options);
    if options.boolean(&format!("{format}.ignore-parse-errors"), false) { OnError::Skip } else { stated }
}

/// A record's text for a message: cut, and safe to print.
pub(crate) fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(SHOWN_TEXT * 4)]);
    let mut shown: String = text.chars().take(SHOWN_TEXT).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN_TEXT {
        shown.push('…');
    }
    shown
}
