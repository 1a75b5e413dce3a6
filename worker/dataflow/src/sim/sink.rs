//! [pure] A simulated external system to write: what is staged under a name becomes visible by a commit of that name.
//!
//! It outlives every crash. A commit of a name that is visible already changes nothing; one of a name that was never
//! staged is lost output and fails the run. A writer that is not asked for exactly-once shows an epoch when it closes.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;

use super::executor::Delays;
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::OperatorId;
use crate::sink::{CommitPermit, Committable, Delivery, Prepared, Sink, SinkContext, SinkWriter};
use crate::time::Epoch;

/// Rows that one writer staged for one checkpoint.
#[derive(Debug, Clone)]
pub struct Part {
    /// The checkpoint.
    pub epoch: Epoch,
    /// Who wrote it.
    pub subtask: u32,
    /// In the order of writing.
    pub batches: Vec<RecordBatch>,
}

/// Everything that sinks ever wrote, by sink and name.
#[derive(Debug, Default)]
pub struct Warehouse {
    staged: BTreeMap<(OperatorId, String), Part>,
    visible: BTreeMap<(OperatorId, String), Part>,
    /// Commits of names that were visible already.
    repeated: u64,
}

impl Warehouse {
    /// What is visible of a sink, in the order of epochs, then of writers.
    pub fn visible(&self, sink: &OperatorId) -> Vec<&Part> {
        let mut parts: Vec<&Part> = self.visible.iter().filter(|((id, _), _)| id == sink).map(|(_, part)| part).collect();
        parts.sort_by_key(|part| (part.epoch, part.subtask));
        parts
    }

    /// How often a name was committed again.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }
}

/// The warehouse, shared by all generations.
pub(super) type SharedWarehouse = Arc<Mutex<Warehouse>>;

pub(super) fn lock(warehouse: &SharedWarehouse) -> MutexGuard<'_, Warehouse> {
    warehouse.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct SimSink {
    pub(super) id: OperatorId,
    pub(super) warehouse: SharedWarehouse,
    pub(super) delays: Delays,
    /// The planted bug of a sink whose second commit makes a second copy.
    pub(super) copies: bool,
    /// The planted bug of a sink that holds nothing back.
    pub(super) hasty: bool,
}

impl Sink for SimSink {
    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(SimWriter {
            id: self.id.clone(),
            warehouse: Arc::clone(&self.warehouse),
            delays: self.delays.clone(),
            prefix: format!("g{}-s{}", context.generation, context.subtask.index),
            subtask: context.subtask.index,
            at_once: self.hasty || context.delivery != Delivery::ExactlyOnce,
            rows: Vec::new(),
        }))
    }

    fn commit(&self, _permit: &CommitPermit, committables: Vec<Committable>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        let (id, warehouse, delays, copies) = (self.id.clone(), Arc::clone(&self.warehouse), self.delays.clone(), self.copies);
        Box::pin(async move {
            for committable in committables {
                delays.rest().await;
                let name = committable.payload.as_str().unwrap_or_default().to_string();
                let mut warehouse = lock(&warehouse);
                let key = (id.clone(), name.clone());
                if let Some(part) = warehouse.visible.get(&key).cloned() {
                    warehouse.repeated += 1;
                    if copies {
                        warehouse.visible.insert((id.clone(), format!("{name}-again")), part);
                    }
                } else if let Some(part) = warehouse.staged.remove(&key) {
                    warehouse.visible.insert(key, part);
                } else {
                    return Err(DataflowError::new(id.0.clone(), ErrorKind::State, format!("{name} was never staged")));
                }
            }
            delays.rest().await;
            Ok(())
        })
    }
}

struct SimWriter {
    id: OperatorId,
    warehouse: SharedWarehouse,
    delays: Delays,
    prefix: String,
    subtask: u32,
    /// Nothing is staged.
    at_once: bool,
    rows: Vec<RecordBatch>,
}

impl SimWriter {
    fn show(&mut self, epoch: Epoch) {
        let batches = std::mem::take(&mut self.rows);
        if !batches.is_empty() {
            let key = (self.id.clone(), format!("{}-e{epoch}", self.prefix));
            lock(&self.warehouse).visible.insert(key, Part { epoch, subtask: self.subtask, batches });
        }
    }
}

impl SinkWriter for SimWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows.push(batch.clone());
        Ok(())
    }

    fn end_epoch(&mut self, epoch: Epoch) -> Result<()> {
        if self.at_once {
            self.show(epoch);
        }
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared> {
        if self.at_once {
            self.show(epoch);
        }
        let batches = std::mem::take(&mut self.rows);
        let name = format!("{}-e{epoch}", self.prefix);
        let (id, warehouse, delays, subtask) = (self.id.clone(), Arc::clone(&self.warehouse), self.delays.clone(), self.subtask);
        Ok(Box::pin(async move {
            if batches.is_empty() {
                return Ok(Vec::new());
            }
            delays.rest().await;
            lock(&warehouse).staged.insert((id, name.clone()), Part { epoch, subtask, batches });
            delays.rest().await;
            Ok(vec![serde_json::Value::from(name)])
        }))
    }
}
