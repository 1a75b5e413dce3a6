//! [pure] Options and columns of `filesystem` tables.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use regex::Regex;
use rheos_dataflow::graph::{METADATA_KEY, Pruning, SinkSpec, SourceSpec};

use super::columns::{DEFAULT_PARTITION, FileColumns};
use super::commit::PartitionCommit;
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
pub(crate) const DEFAULT_ROLLOVER: Duration = Duration::from_secs(1);

/// Options of Flink's that change nothing here: intervals are looked at when an epoch closes.
const SINK_TIMING: [&str; 2] = ["sink.rolling-policy.check-interval", "sink.parallelism"];
/// Options of Flink's that nothing here does.
const SINK_UNSUPPORTED: [&str; 4] = [
    "auto-compaction",
    "sink.partition-commit.policy.class",
    "partition.time-extractor.class",
    "partition.time-extractor.timestamp-formatter",
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
    /// Columns of the files.
    pub(crate) declared: SchemaRef,
    /// Those of them that are read.
    pub(crate) wanted: SchemaRef,
    /// All wanted columns.
    pub(crate) columns: FileColumns,
    /// Which rows the job uses.
    pub(crate) pruning: Pruning,
}

impl SourceConfig {
    /// Reads the options of a table.
    pub fn parse(spec: &SourceSpec) -> Result<Self, Problems> {
        let mut options = Options::new(&spec.table, &spec.options);
        let path = path(&mut options);
        let columns = FileColumns::parse(&mut options, spec);
        let declared = FileColumns::in_files(&spec.declared, &spec.partition_by);
        let format = Format::parse(&mut options, &declared);
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
        let wanted = FileColumns::in_files(&spec.physical, &spec.partition_by);
        Ok(Self { path, format, packing, monitor, pattern, declared, wanted, columns, pruning: spec.pruning.clone() })
    }
}

/// A table that is written.
#[derive(Debug, Clone)]
pub struct SinkConfig {
    pub(crate) path: String,
    pub(crate) format: Format,
    pub(crate) file_size: u64,
    /// A part older than this is closed when an epoch closes.
    pub(crate) rollover: Option<Duration>,
    /// The same for one that got no rows for so long.
    pub(crate) inactivity: Option<Duration>,
    /// How partitions are made known to be whole.
    pub(crate) commit: Option<PartitionCommit>,
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
        let rollover = options.duration("sink.rolling-policy.rollover-interval");
        let inactivity = options.duration("sink.rolling-policy.inactivity-interval");
        let commit = PartitionCommit::parse(&mut options, &spec.partition_by);
        let default_partition = options.text("partition.default-name").unwrap_or(DEFAULT_PARTITION).to_owned();
        options.without_effect(&SINK_TIMING);
        options.unsupported(&SINK_UNSUPPORTED);
        for field in spec.schema.fields().iter().filter(|field| field.metadata().contains_key(METADATA_KEY)) {
            options.problem(format!("column '{}' is METADATA, which is never written: declare it VIRTUAL", field.name()));
        }
        let mut partition_by = Vec::new();
        for name in &spec.partition_by {
            match spec.schema.index_of(name) {
                Ok(_) if name.starts_with(['.', '_']) => {
                    options.problem(format!("PARTITIONED BY ({name}): folders whose names begin with '.' or '_' are hidden from readers"));
                }
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
            inactivity,
            commit,
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
