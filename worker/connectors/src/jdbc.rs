//! [io] `jdbc`: tables of PostgreSQL, by its own protocol.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `url` | | `postgresql://host:port/database`, also with `jdbc:` in front; several hosts with `,` between them are tried in order. Parameters: `sslmode`, `sslrootcert` (a file, the text itself as `${secret:…}`, or `system`), `connect_timeout` (s), `application_name`, `options`, `currentSchema` |
//! | `table-name` | | `table` or `schema.table`; parts may stand between quotation marks. Letters keep their case |
//! | `username`, `password` | | values may hold `${secret:name/key}`; a URL may hold nothing else of this kind |
//! | `connection.max-retry-timeout` | `60 s` | how long something that may heal is tried again |
//! | `scan.fetch-size` | `10000` | rows of a page |
//! | `scan.partition.column`, `.num`, `.lower-bound`, `.upper-bound` | none | an integer column, and a number of parts between two values of it, both included; each part is read by one reader. Other rows are not read |
//! | `lookup.cache` | `NONE` | `PARTIAL`: rows that were asked for are kept |
//! | `lookup.partial-cache.max-rows` | `10000` | rows that each worker keeps; a key without rows counts as one, the key that was not used for longest goes first |
//! | `lookup.partial-cache.expire-after-write`, `.expire-after-access` | none | how long after they were asked for, or after they were last used, rows are asked for again; in processing time, which moves with the ticks |
//! | `lookup.partial-cache.cache-missing-key` | `true` | whether it is kept that a key has no rows |
//! | `lookup.max-retries` | none | a request is tried again at most so often, too |
//! | `sink.buffer-flush.max-rows` | `10000` | rows of a statement; when rows are written at once, so many make a transaction. `0`: 1,000,000 |
//! | `sink.buffer-flush.interval` | `1 s` | when rows are written at once, they wait so long at most |
//! | `sink.commit-table` | `rheos_commits` | where exactly-once commits are remembered; made when it is not there |
//! | `driver`, `sink.max-retries`, `sink.parallelism`, `scan.parallelism`, `scan.auto-commit` | | of Flink's connector; taken, and without effect |
//!
//! **Reading.** A table is read once, from end to end, in pages in the order of its primary key (`WHERE (k) > (last) ORDER BY
//! k LIMIT n`), so it needs one; only the columns that the query uses are read. The offset is the last row's key: a restart goes on
//! behind it, whatever has come before it meanwhile. Each page sees the table as it is then. A column can be declared as
//! STRING whatever its type there.
//!
//! **Writing.** A table with a `PRIMARY KEY` takes change-logs: a row takes the place of the one with its key, a row that is
//! gone is deleted, and of the changes of a key in a batch the last one is written. The target needs a primary key or unique
//! index over the same columns. A table without a key only adds rows. Columns are sent as arrays, some thousand rows a
//! statement. The target's columns are looked at before the first row is taken, and what is wrong with them is told all at once.
//!
//! `ExactlyOnce` is described, with its proof, in `commit`: all rows of a checkpoint become visible together. Otherwise rows are
//! written as they come; a checkpoint waits until they are. What fails in a way that may heal (the server is away or shuts
//! down, has too many connections, a deadlock, a serialization failure) is tried again; at most once nothing is written again
//! of which nobody knows whether it was written: the job starts again and goes on without it.
//!
//! **Asking** (lookup joins). Keys go as arrays, up to 1,000 distinct ones a statement, over one session a worker; the answer's
//! rows say which key they are for. Every request sees the table as it is then: nothing of it is in checkpoints, and rows that
//! are joined again after a failure may meet newer ones. Rows are kept for a time when `lookup.cache` says so, for each worker by
//! itself.

mod arrays;
mod catalog;
mod client;
mod commit;
mod config;
mod decode;
mod direct;
mod line;
mod lookup;
mod name;
mod session;
mod settle;
mod sink;
mod source;
mod statement;
mod tls;
mod types;
mod url;

use std::sync::Arc;

use rheos_dataflow::error::Result;
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::lookup::Lookup;
use rheos_dataflow::sink::Sink;
use rheos_dataflow::source::Source;

use crate::connector::{Connector, LookedUpTable, SinkTable, SourceTable};
use crate::environment::Environment;

pub use config::{LookupConfig, SinkConfig, SourceConfig};
pub use lookup::JdbcLookup;
pub use sink::JdbcSink;
pub use source::JdbcSource;

/// `jdbc`.
pub const CONNECTOR: Connector = Connector {
    source: Some(|spec| Ok(Box::new(SourceConfig::parse(spec)?))),
    sink: Some(|spec| Ok(Box::new(SinkConfig::parse(spec)?))),
    lookup: Some(|spec| Ok(Box::new(LookupConfig::parse(spec)?))),
    // With a key; the check of a table says so.
    accepts_changelog: |_| true,
    ..Connector::named("jdbc")
};

impl SourceTable for SourceConfig {
    fn build(self: Box<Self>, environment: &Environment) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(JdbcSource::new(*self, environment)?))
    }
}

impl SinkTable for SinkConfig {
    fn build(self: Box<Self>, id: &OperatorId, environment: &Environment) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(JdbcSink::new(*self, id, environment)?))
    }
}

impl LookedUpTable for LookupConfig {
    fn build(self: Box<Self>, environment: &Environment) -> Result<Arc<dyn Lookup>> {
        Ok(Arc::new(JdbcLookup::new(*self, environment)?))
    }
}
