//! What both benches build their graphs of: nodes over one schema, and a sink that counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use rheos_dataflow::error::Result;
use rheos_dataflow::graph::{Node, OperatorId, OperatorSpec, Pruning, SinkSpec, SourceSpec};
use rheos_dataflow::sink::{Prepared, Sink, SinkContext, SinkWriter};

pub fn node(name: &str, spec: OperatorSpec, schema: &SchemaRef) -> Node {
    let (id, title) = (OperatorId(name.to_owned()), name.to_owned());
    Node { id, title, spec, schema: Arc::clone(schema), changelog: false, state_schema: None }
}

pub fn source(table: &str, schema: &SchemaRef) -> OperatorSpec {
    OperatorSpec::Source(SourceSpec {
        table: table.to_owned(),
        options: BTreeMap::new(),
        physical: Arc::clone(schema),
        declared: Arc::clone(schema),
        partition_by: Vec::new(),
        pruning: Pruning::default(),
        prelude: None,
        watermark: None,
    })
}

pub fn sink(table: &str, schema: &SchemaRef) -> OperatorSpec {
    OperatorSpec::Sink(SinkSpec {
        table: table.to_owned(),
        options: BTreeMap::new(),
        schema: Arc::clone(schema),
        primary_key: Vec::new(),
        partition_by: Vec::new(),
        changelog: false,
    })
}

/// Counts rows and keeps none.
#[derive(Clone, Default)]
pub struct Count(pub Arc<AtomicU64>);

impl Sink for Count {
    fn writer(&self, _context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(self.clone()))
    }
}

impl SinkWriter for Count {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.0.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn prepare(&mut self, _epoch: u64) -> Result<Prepared> {
        Ok(Box::pin(async { Ok(Vec::new()) }))
    }
}
