//! [pure] The seam to external systems that are written: staging, committables, commits.

pub mod commits;
mod delivery;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::graph::OperatorId;
use crate::key_group::Subtask;
use crate::time::{Epoch, Watermark};

/// The right to make output visible: a durable checkpoint record proves that its committables are final.
pub use rheos_checkpoint::CommitPermit;

/// What a sink staged for one checkpoint on one subtask, in its own form. Carried in the record until confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Committable {
    /// The sink.
    pub sink: OperatorId,
    /// The subtask that staged it.
    pub subtask: u32,
    /// Epoch of the checkpoint that it belongs to.
    pub epoch: Epoch,
    /// The sink's own description (names of staged files and their final names); at most 1 MiB.
    pub payload: serde_json::Value,
}

/// What a job was promised; see `spec.delivery`, and [`Delivery::of_sink`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Delivery {
    /// Nothing lost, nothing twice.
    #[default]
    ExactlyOnce,
    /// Nothing lost, may repeat after a failure.
    AtLeastOnce,
    /// Never repeats, may lose after a failure.
    AtMostOnce,
}

/// Who and where a sink's writer is; used in the names of staged output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkContext {
    /// The job's unique id (`local` runs: derived from name and data directory).
    pub job_uid: String,
    /// The generation of this engine.
    pub generation: u64,
    /// This writer's place.
    pub subtask: Subtask,
    /// What the job promises; for a writer, how this sink keeps it ([`Delivery::of_sink`]): `ExactlyOnce` asks it to stage its
    /// output until its commit, whatever the job's promise.
    pub delivery: Delivery,
}

/// Durable work that a writer left to another thread, giving the committables of the checkpoint.
pub type Prepared = Pin<Box<dyn Future<Output = Result<Vec<serde_json::Value>>> + Send>>;

/// A configured sink: one a sink node and engine.
pub trait Sink: Send + Sync {
    /// A writer for one subtask.
    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>>;

    /// Makes staged output visible. **Idempotent**: it is called again after a crash with committables that may
    /// already be committed. Called only with a permit. Runs on an I/O thread. A sink without transactions has nothing
    /// to do.
    fn commit(&self, _permit: &CommitPermit, _committables: Vec<Committable>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        Box::pin(async { Ok(()) })
    }

    /// Whether the output has one order over all subtasks. Then [`Sink::commit`] is called in one place only, on process
    /// 0, with all that the record carries of this sink, before its permit goes to any worker. When it fails, the
    /// checkpoint counts as not known to be final: the next record carries the same committables again.
    fn gathers(&self) -> bool {
        false
    }
}

/// Writes one subtask's rows. Owned by a worker thread, which must not wait for an external system: a writer that has
/// too much on its way says so by [`SinkWriter::ready`], and its stage pauses.
pub trait SinkWriter {
    /// Whether it can take more, or close an epoch; asked again a little later when it cannot. This is its back-pressure.
    fn ready(&mut self) -> Result<bool> {
        Ok(true)
    }

    /// Rows of the open epoch (with the kind column, last, when the sink node is a change-log).
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// The progress of event time; said at the close of each epoch, before the calls below.
    fn watermark(&mut self, _watermark: Watermark) {}

    /// An epoch closed without a checkpoint. Sinks that are not transactional make their rows visible here.
    fn end_epoch(&mut self, _epoch: Epoch) -> Result<()> {
        Ok(())
    }

    /// A checkpoint closed `epoch`: everything written so far must become durable (not visible) by the returned work.
    /// Empty for sinks without transactions.
    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared>;

    /// Figures by name for metrics (`part_files`, `bytes`).
    fn stats(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }
}
