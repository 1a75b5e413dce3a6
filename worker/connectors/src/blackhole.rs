//! [io] The `blackhole` sink: takes rows and drops them. For measuring, and for jobs whose state is the result.
//!
//! ```sql
//! CREATE TABLE nothing (auction BIGINT) WITH ('connector' = 'blackhole');
//! ```
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `throttle.rows-per-second` | none | each subtask takes at most so many rows a second, by blocking: a slow sink for tests |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use rheos_dataflow::error::Result;
use rheos_dataflow::graph::{OperatorId, SinkSpec};
use rheos_dataflow::sink::{Prepared, Sink, SinkContext, SinkWriter};
use rheos_dataflow::time::Epoch;

use crate::connector::{Connector, SinkTable};
use crate::environment::Environment;
use crate::options::{Options, Problems};

/// The connector.
pub const CONNECTOR: Connector =
    Connector { sink: Some(|spec| Ok(Box::new(Config::parse(spec)?))), accepts_changelog: |_| true, ..Connector::named("blackhole") };

/// The options, checked.
#[derive(Debug, Clone)]
pub struct Config {
    rows_per_second: Option<i64>,
}

impl Config {
    /// Reads the options of a table.
    pub fn parse(spec: &SinkSpec) -> Result<Self, Problems> {
        let mut options = Options::new(&spec.table, &spec.options);
        let rows_per_second = options.integer("throttle.rows-per-second", 0, 1..=1_000_000_000);
        options.finish()?;
        Ok(Self { rows_per_second: (rows_per_second > 0).then_some(rows_per_second) })
    }
}

impl SinkTable for Config {
    fn build(self: Box<Self>, _id: &OperatorId, _environment: &Environment) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(BlackholeSink::new(*self)))
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct BlackholeSink {
    config: Config,
}

impl BlackholeSink {
    /// A sink with these options.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl Sink for BlackholeSink {
    fn writer(&self, _context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        let throttle = self.config.rows_per_second.map(|rows_per_second| Throttle { rows_per_second, free_at: Instant::now() });
        Ok(Box::new(Writer { rows: 0, throttle }))
    }
}

struct Throttle {
    rows_per_second: i64,
    free_at: Instant,
}

impl Throttle {
    /// Blocks until the rows before these have had their time; a batch is never cut.
    fn take(&mut self, rows: usize) {
        let now = Instant::now();
        if let Some(wait) = self.free_at.checked_duration_since(now) {
            std::thread::sleep(wait);
        }
        let cost = Duration::from_secs_f64(rows as f64 / self.rows_per_second as f64);
        self.free_at = self.free_at.max(now) + cost;
    }
}

struct Writer {
    rows: u64,
    throttle: Option<Throttle>,
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if let Some(throttle) = &mut self.throttle {
            throttle.take(batch.num_rows());
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Prepared> {
        Ok(Box::pin(async { Ok(Vec::new()) }))
    }

    fn stats(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([("rows", self.rows)])
    }
}
