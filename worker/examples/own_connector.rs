//! [io] A worker with a connector of its own: `countdown`, which gives the numbers from `from` down to 1.
//!
//! This program is `rheos-worker` and one connector more: it runs manifests, in pods too, whose SQL says
//! `CREATE TABLE launch (n BIGINT) WITH ('connector' = 'countdown', 'from' = '10')`.

use std::process::ExitCode;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use rheos_connectors::connector::{Connector, SourceTable};
use rheos_connectors::environment::Environment;
use rheos_connectors::options::{Options, Problems};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::SourceSpec;
use rheos_dataflow::source::{Read, Source, SplitId, SplitReader, Start, Waker};
use serde_json::{Value, json};

const COUNTDOWN: Connector = Connector { source: Some(|spec| Ok(Box::new(Countdown::parse(spec)?))), ..Connector::named("countdown") };

fn main() -> ExitCode {
    if let Err(message) = rheos_connectors::install(&[&COUNTDOWN]) {
        unreachable!("{message}");
    }
    rheos_worker::main()
}

/// A table whose options and columns are right.
#[derive(Clone)]
struct Countdown {
    from: i64,
    /// The columns that the query reads.
    schema: SchemaRef,
}

impl Countdown {
    fn parse(spec: &SourceSpec) -> Result<Self, Problems> {
        let mut options = Options::new(&spec.table, &spec.options);
        let from = options.integer("from", 10, 1..=1_000_000_000);
        if spec.declared.fields().iter().any(|field| *field.data_type() != DataType::Int64) {
            options.problem("a countdown gives whole numbers: declare the columns BIGINT");
        }
        options.finish()?;
        Ok(Self { from, schema: SchemaRef::clone(&spec.physical) })
    }
}

impl SourceTable for Countdown {
    fn build(self: Box<Self>, _environment: &Environment) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(*self))
    }
}

impl Source for Countdown {
    fn discover(&self) -> Result<Vec<SplitId>> {
        Ok(vec!["all".to_owned()])
    }

    fn open(&self, _split: &SplitId, start: Start<'_>, _waker: Waker) -> Result<Box<dyn SplitReader>> {
        let wrong = || DataflowError::new("countdown", ErrorKind::State, "the offset is no number");
        let next = start.offset()?.map_or(Ok(self.from), |offset| offset.as_i64().ok_or_else(wrong))?;
        Ok(Box::new(Reader { next, schema: SchemaRef::clone(&self.schema) }))
    }
}

struct Reader {
    /// The offset: the next number.
    next: i64,
    schema: SchemaRef,
}

impl SplitReader for Reader {
    fn read(&mut self, rows: usize) -> Result<Read> {
        let rows = self.next.min(rows.try_into().unwrap_or(i64::MAX));
        if rows == 0 {
            return Ok(Read::End);
        }
        let numbers = Arc::new(Int64Array::from_iter_values((0..rows).map(|below| self.next - below)));
        self.next -= rows;
        let columns = self.schema.fields().iter().map(|_| Arc::clone(&numbers) as _).collect();
        let batch = RecordBatch::try_new(SchemaRef::clone(&self.schema), columns);
        batch.map(Read::Rows).map_err(|error| DataflowError::new("countdown", ErrorKind::Bug, error))
    }

    fn offset(&self) -> Value {
        json!(self.next)
    }
}
