//! [io] The `filesystem` connector: files as tables. Reads finished files of a folder, writes part files exactly once.
//!
//! ```sql
//! CREATE TABLE flights (origin STRING, dep_delay INT, time_hour TIMESTAMP(3)) WITH (
//!   'connector' = 'filesystem', 'path' = 'data/flights.csv.gz', 'format' = 'csv',
//!   'csv.header' = 'true', 'csv.null-literal' = 'NA');
//! CREATE TABLE delays (origin STRING, mean DOUBLE, day STRING) PARTITIONED BY (day) WITH (
//!   'connector' = 'filesystem', 'path' = 's3://bucket/delays', 'format' = 'json');
//! ```
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `path` | | a file or folder: relative to the manifest, absolute, `file:///…` or `s3://bucket/…` |
//! | `format` | | see [`crate::format`], with the options of each format |
//! | `compression` | by name | `none` or `gzip` (reading; by default files ending in `.gz` or `.gzip` are gzip) |
//! | `source.monitor-interval` | none | look for new files so often; without it the files that are there are all |
//! | `source.path.regex-pattern` | none | only files whose path matches wholly |
//! | `partition.default-name` | `__DEFAULT_PARTITION__` | folder of rows whose partition column is null or empty |
//! | `sink.rolling-policy.file-size` | `128mb` | begin another part file at about this size |
//! | `sink.rolling-policy.rollover-interval` | none | close a part that is so old at the end of an epoch; without exactly-once: show it, and `1 s` |
//! | `sink.rolling-policy.inactivity-interval` | none | the same for a part that got no rows for so long |
//! | `sink.partition-commit.policy.kind` | none | `success-file`: mark partitions that are whole |
//! | `sink.partition-commit.success-file.name` | `_SUCCESS` | name of the mark |
//! | `sink.partition-commit.trigger` | `process-time` | or `partition-time`: by the watermark and the time in the partition's name |
//! | `sink.partition-commit.delay` | `0 s` | after the partition's first commit, or after that time |
//! | `sink.partition-commit.watermark-time-zone` | `UTC` | nothing else |
//! | `partition.time-extractor.kind` | `default` | nothing else: times are found by the pattern |
//! | `partition.time-extractor.timestamp-pattern` | `$first_column` | such as `$day $hour:00:00` |
//! | `sink.rolling-policy.check-interval`, `sink.parallelism`, `source.report-statistics` | | of Flink's connector; taken, and without effect |
//!
//! # Reading
//!
//! Files and folders whose name begins with `.` or `_` are hidden, as in Flink, and so are names of work in progress. A
//! split is a file, or a row group of a Parquet file that the job's filters do not rule out; its offset is exact. A file
//! must not change once it is there: what tells its content from another is part of the split's name, and every read is
//! checked against it. What was found stays in the checkpoints, so that a folder that grows is read once.
//!
//! # Writing, exactly once
//!
//! Rows go to staged files that readers do not see (`.staging/` in the folder, `_staging/` under an `s3://` prefix). A
//! checkpoint closes them and makes them durable; its record names each with its final name, and the commit moves them
//! there. Final names hold job, epoch, subtask, a nonce and a number, so no two committables share one, and a repeated
//! commit finds its work done. A staged file without a record is never moved, whoever wrote it; leftovers of older
//! generations are removed at the first checkpoint of a new one.
//!
//! **Why parts do not outlive a checkpoint.** A part that went on growing would put an upload under way into the record
//! (its id, the marks of its pieces, the rest that is too small to be sent), and Parquet cannot go on from its middle at
//! all. A part that is closed is one name, for every format and store. The price is at least one file for each
//! checkpoint, subtask and partition that got rows.
//!
//! **Markers.** 1. Only process 0 commits, with all that the record carries (`Sink::gathers`), files before markers: when a
//! marker is put, every file of its partition that any record named is in place. 2. A partition is noted before its files
//! are moved and forgotten after its marker is there, so a crash anywhere leaves it noted, or the committables carried.
//! 3. By partition time, what each subtask has staged for a checkpoint and the watermark that it said at the same close go
//! into the same record: rows below the least of these watermarks are staged, and so in place before the marker is.

pub(crate) mod bytes;
pub(crate) mod columns;
pub(crate) mod commit;
pub(crate) mod config;
pub(crate) mod location;
pub(crate) mod markers;
pub(crate) mod parquet_reader;
pub(crate) mod prune;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod split;
pub(crate) mod staging;
pub(crate) mod text_reader;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use rheos_dataflow::error::Result;
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::sink::Sink;
use rheos_dataflow::source::Source;

use crate::connector::{Connector, SinkTable, SourceTable};
use crate::environment::Environment;

pub use config::{SinkConfig, SourceConfig};
pub use sink::FilesystemSink;
pub use source::FilesystemSource;

/// The connector.
pub const CONNECTOR: Connector = Connector {
    source: Some(|spec| Ok(Box::new(SourceConfig::parse(spec)?))),
    sink: Some(|spec| Ok(Box::new(SinkConfig::parse(spec)?))),
    accepts_changelog: carries_changes,
    emits_changelog: carries_changes,
    has_metadata: true,
    ..Connector::named("filesystem")
};

fn carries_changes(given: &BTreeMap<String, String>) -> bool {
    given.get("format").is_some_and(|format| format == "debezium-json")
}

impl SourceTable for SourceConfig {
    fn build(self: Box<Self>, environment: &Environment) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(FilesystemSource::new(*self, environment)?))
    }
}

impl SinkTable for SinkConfig {
    fn build(self: Box<Self>, id: &OperatorId, environment: &Environment) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(FilesystemSink::new(*self, id, environment)?))
    }
}
