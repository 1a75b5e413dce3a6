//! [pure] Options and columns of `filesystem` tables.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use regex::Regex;
use rheos_dataflow::graph::{SinkSpec, SourceSpec};

use super::location::path_problem;
use crate::format::Format;
use crate::options::{Options, Problems};

/// Shortest interval between two looks for new files.
const MIN_MONITOR_INTERVAL: Duration = Duration::from_millis(100);
/// Largest part file: what one copy of an S3 store can move, bytes.
const MAX_FILE_SIZE: u64 = 5 * 1024 * 1024 * 1024;
/// Parts begin another file at this size, unless told, bytes.
const DEFAULT_FILE_SIZE: u64 = 128 * 1024 * 1024;
/// Parts of jobs that are not exactly-once are shown after this time, unless told.
const DEFAULT_ROLLOVER: Duration = Duration::from_secs(1);

/// Options of Flink's that only move the time at which files are shown; here that is the checkpoint.
const SINK_TIMING: [&str; 3] = ["sink.rolling-policy.check-interval", "sink.rolling-policy.inactivity-interval", "sink.parallelism"];
/// Options of Flink's that nothing here does.
const SINK_UNSUPPORTED: [&str; 7] = [
    "auto-compaction",
    "sink.partition-commit.trigger",
    "sink.partition-commit.delay",
    "sink.partition-commit.policy.kind",
    "sink.partition-commit.policy.class",
    "sink.partition-commit.watermark-time-zone",
    "partition.time-extractor.timestamp-pattern",
];

/// How a file's bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// By the file's ending.
    ByName,
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
}

impl Packing {
    /// Whether `file` is gzip.
    pub(crate) fn is_gzip(self, file: &str) -> bool {
        match self {
            Self::ByName => file.ends_with(".gz") || file.ends_with(".gzip"),
            Self::Plain => false,
            Self::Gzip => true,
        }
    }
}

/// A table that is read.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    pub(crate) path: String,
    pub(crate) format: Format,
    pub(crate) packing: Packing,
    pub(crate) monitor: Option<Duration>,
    pub(crate) pattern: Option<Regex>,
    pub(crate) declared: SchemaRef,
    pub(crate) wanted: SchemaRef,
}

impl SourceConfig {
    /// Reads the options of a table.
    pub fn parse(spec: &SourceSpec) -> Result<Self, Problems> {
        let mut options = Options::new(&spec.table, &spec.options);
        let path = path(&mut options);
        let format = Format::parse(&mut options, &spec.declared);
        let packings = [("none", Packing::Plain), ("gzip", Packing::Gzip), ("gz", Packing::Gzip)];
        let packing = options.choice("compression", &packings, Packing::ByName);
        if packing == Packing::Gzip && matches!(format, Some(Format::Parquet(_))) {
            options.bad_value("compression", "none: Parquet files compress within");
        }
        let monitor = options.duration("source.monitor-interval");
        if monitor.is_some_and(|interval| interval < MIN_MONITOR_INTERVAL) {
            options.bad_value("source.monitor-interval", format!("at least {} ms", MIN_MONITOR_INTERVAL.as_millis()));
        }
        let pattern = options.parsed("source.path.regex-pattern", "a regular expression", |text| Regex::new(&format!("^(?:{text})$")).ok());
        options.without_effect(&["source.report-statistics"]);
        options.finish()?;
        // Without problems there is a format.
        let format = format.ok_or_else(Problems::new)?;
        let (declared, wanted) = (SchemaRef::clone(&spec.declared), SchemaRef::clone(&spec.physical));
        Ok(Self { path, format, packing, monitor, pattern, declared, wanted })
    }
}

/// A table that is written.
#[derive(Debug, Clone)]
pub struct SinkConfig {
    pub(crate) path: String,
    pub(crate) format: Format,
    pub(crate) file_size: u64,
    pub(crate) rollover: Duration,
    pub(crate) default_partition: String,
    /// Indexes of the partition columns in the table's schema, in the order of `PARTITIONED BY`.
    pub(crate) partition_by: Vec<usize>,
    /// Indexes of the columns that the files hold; of a change-log the kind column, too.
    pub(crate) columns: Vec<usize>,
    /// The columns that the files hold.
    pub(crate) file_schema: SchemaRef,
    /// All columns.
    pub(crate) schema: SchemaRef,
    pub(crate) table: String,
}

impl SinkConfig {
    /// Reads the options of a table.
    pub fn parse(spec: &SinkSpec) -> Result<Self, Problems> {
        let mut options = Options::new(&spec.table, &spec.options);
        let path = path(&mut options);
        let format = Format::parse(&mut options, &spec.schema);
        format.iter().for_each(|format| format.check_written(&mut options));
        let file_size = options.bytes("sink.rolling-policy.file-size", DEFAULT_FILE_SIZE);
        if file_size == 0 || file_size > MAX_FILE_SIZE {
            options.bad_value("sink.rolling-policy.file-size", "from 1b to 5gb");
        }
        let rollover = options.duration("sink.rolling-policy.rollover-interval").unwrap_or(DEFAULT_ROLLOVER);
        let default_partition = options.text("partition.default-name").unwrap_or("__DEFAULT_PARTITION__").to_owned();
        options.without_effect(&SINK_TIMING);
        options.unsupported(&SINK_UNSUPPORTED);
        let mut partition_by = Vec::new();
        for name in &spec.partition_by {
            match spec.schema.index_of(name) {
                Ok(index) => partition_by.push(index),
                Err(_) => options.problem(format!("PARTITIONED BY ({name}): the table has no such column")),
            }
        }
        let columns: Vec<usize> = (0..spec.schema.fields().len()).filter(|index| !partition_by.contains(index)).collect();
        if columns.is_empty() {
            options.problem("every column is in PARTITIONED BY; leave at least one for the files");
        }
        options.finish()?;
        let format = format.ok_or_else(Problems::new)?;
        let columns = if spec.changelog { [columns, vec![spec.schema.fields().len()]].concat() } else { columns };
        let fields: Vec<_> = columns
            .iter()
            .filter(|index| **index < spec.schema.fields().len())
            .map(|index| Arc::clone(&spec.schema.fields()[*index]))
            .collect();
        Ok(Self {
            path,
            format,
            file_size,
            rollover,
            default_partition,
            partition_by,
            columns,
            file_schema: SchemaRef::new(Schema::new(fields)),
            schema: SchemaRef::clone(&spec.schema),
            table: spec.table.clone(),
        })
    }
}

fn path(options: &mut Options<'_>) -> String {
    let path = options.required("path", "data/").unwrap_or_default();
    if let Some(expected) = path_problem(path).filter(|_| !path.is_empty()) {
        options.bad_value("path", expected);
    }
    path.to_owned()
}
