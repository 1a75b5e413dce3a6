//! [io] The `print` sink: shows rows as Flink's does, `+I[1, abc]`, one a line. For debugging, so it may be used in
//! every job; rows appear when they are written, so what was shown since the last checkpoint may be shown again after
//! a failure (delivery at least once).
//!
//! ```sql
//! CREATE TABLE shown (auction BIGINT, price BIGINT) WITH ('connector' = 'print', 'print-identifier' = 'bids');
//! ```
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `print-identifier` | none | put before each row, with `> ` behind it |
//! | `standard-error` | `false` | print to standard error |

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt8Type;
use rheos_dataflow::changelog::RowKind;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::{OperatorId, SinkSpec};
use rheos_dataflow::sink::{Prepared, Sink, SinkContext, SinkWriter};
use rheos_dataflow::time::Epoch;

use crate::connector::{Connector, SinkTable};
use crate::environment::{Environment, PrintStream, PrintTarget};
use crate::options::{Options, Problems};
use crate::text::ValueText;

/// Lines are handed to the target when so many bytes are there, and at the end of each batch.
const BUFFER_BYTES: usize = 64 * 1024;

/// The connector.
pub const CONNECTOR: Connector =
    Connector { sink: Some(|spec| Ok(Box::new(Config::parse(spec)?))), accepts_changelog: |_| true, ..Connector::named("print") };

/// The options, checked.
#[derive(Debug, Clone)]
pub struct Config {
    identifier: Option<String>,
    stream: PrintStream,
    changelog: bool,
}

impl Config {
    /// Reads the options of a table.
    pub fn parse(spec: &SinkSpec) -> Result<Self, Problems> {
        let mut options = Options::new(&spec.table, &spec.options);
        let identifier = options.text("print-identifier").map(str::to_owned);
        let stream = if options.boolean("standard-error", false) { PrintStream::Error } else { PrintStream::Output };
        options.finish()?;
        Ok(Self { identifier, stream, changelog: spec.changelog })
    }
}

impl SinkTable for Config {
    fn build(self: Box<Self>, _id: &OperatorId, environment: &Environment) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(PrintSink::new(*self, environment)))
    }
}

/// See the module's documentation.
pub struct PrintSink {
    config: Config,
    target: PrintTarget,
}

impl PrintSink {
    /// A sink with these options, printing to the environment's target.
    pub fn new(config: Config, environment: &Environment) -> Self {
        Self { config, target: PrintTarget::clone(&environment.print) }
    }
}

impl Sink for PrintSink {
    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        // As Flink: the subtask is told when there are several; with an identifier `id:1> `, else `1> `.
        let subtask = (context.subtask.workers > 1).then(|| (context.subtask.index + 1).to_string());
        let parts: Vec<&str> = self.config.identifier.iter().map(String::as_str).chain(subtask.as_deref()).collect();
        let prefix = if parts.is_empty() { String::new() } else { format!("{}> ", parts.join(":")) };
        let target = PrintTarget::clone(&self.target);
        Ok(Box::new(Writer { prefix, config: self.config.clone(), target, lines: String::new(), rows: 0 }))
    }
}

struct Writer {
    prefix: String,
    config: Config,
    target: PrintTarget,
    lines: String,
    rows: u64,
}

impl Writer {
    fn flush(&mut self) {
        if !self.lines.is_empty() {
            (self.target)(self.config.stream, self.lines.as_bytes());
            self.lines.clear();
        }
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = batch.num_columns() - usize::from(self.config.changelog);
        let texts = batch.columns()[..columns].iter().map(|column| ValueText::new(column.as_ref())).collect::<Result<Vec<_>>>()?;
        let kinds = match self.config.changelog {
            true => Some(batch.column(columns).as_primitive_opt::<UInt8Type>().ok_or_else(|| no_kind("it is not a number"))?),
            false => None,
        };
        for row in 0..batch.num_rows() {
            let kind = match kinds {
                None => RowKind::Insert,
                Some(kinds) => RowKind::from_u8(kinds.value(row)).ok_or_else(|| no_kind(kinds.value(row)))?,
            };
            self.lines.push_str(&self.prefix);
            self.lines.push_str(kind.symbol());
            self.lines.push('[');
            for (index, text) in texts.iter().enumerate() {
                if index > 0 {
                    self.lines.push_str(", ");
                }
                text.write(row, &mut self.lines);
            }
            let _ = self.lines.write_str("]\n");
            if self.lines.len() >= BUFFER_BYTES {
                self.flush();
            }
        }
        self.flush();
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

fn no_kind(found: impl std::fmt::Display) -> DataflowError {
    DataflowError::new("print", ErrorKind::Bug, format!("the row kind column is not one: {found}"))
}
