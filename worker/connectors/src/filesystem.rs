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
//! | `sink.rolling-policy.file-size` | `128mb` | begin another part file at about this size |
//! | `sink.rolling-policy.rollover-interval` | `1 s` | at-least-once and at-most-once jobs: a part older than this is shown at the end of an epoch |
//! | `partition.default-name` | `__DEFAULT_PARTITION__` | folder of rows whose partition column is null or empty |
//!
//! Reading: files and folders whose name begins with `.` or `_` are hidden, as in Flink. A file must not change once it
//! is there. A split is a file, or a row group of a Parquet file; its offset is exact.
//!
//! Writing, exactly once: rows go to staged files that readers do not see (`.staging/` in the folder, `_staging/` under
//! an `s3://` prefix). A checkpoint closes them and makes them durable; its record names each with its final name, and
//! the commit moves them there. Final names hold job, epoch, generation, subtask and number, so no two committables
//! share one, and a repeated commit finds its work done. A staged file without a record is never moved, whoever wrote
//! it; leftovers of older generations are removed at the first checkpoint of a new one.

pub(crate) mod bytes;
pub(crate) mod config;
pub(crate) mod location;
pub(crate) mod parquet_reader;
pub(crate) mod sink;
pub(crate) mod source;
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
