//! [pure] Runs one stage on one subtask: queues by epoch, feeds operators, closes epochs, collects snapshots.
//!
//! The driver (timely adaptor or simulator) hands in envelopes and ticks, calls [`StageTask::work`] until it is idle,
//! and ships what is in the outbox. All waiting, ordering and alignment is decided here, so both drivers share it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::envelope::Envelope;
use crate::error::Result;
use crate::graph::OperatorId;
use crate::key_group::Subtask;
use crate::operator::OperatorStats;
use crate::plan::{ExecutionPlan, StageIndex};
use crate::sink::{Prepared, Sink, SinkContext};
use crate::snapshot::{OperatorExport, OperatorImport, SplitState};
use crate::source::{Source, Waker};
use crate::time::{Epoch, Millis, Tick};

/// The outside world of a job, by operator id: made by `worker/connectors`, or by the simulator.
#[derive(Clone, Default)]
pub struct Connectors {
    /// Sources.
    pub sources: BTreeMap<OperatorId, Arc<dyn Source>>,
    /// Sinks.
    pub sinks: BTreeMap<OperatorId, Arc<dyn Sink>>,
}

/// A message that the driver must deliver.
#[derive(Debug)]
pub struct Outgoing {
    /// Output number of the stage.
    pub output: usize,
    /// The receiving subtask.
    pub target: u32,
    /// The epoch that it belongs to (the stage's open one).
    pub epoch: Epoch,
    /// The message.
    pub envelope: Envelope,
}

/// What one call of [`StageTask::work`] did.
#[derive(Debug)]
pub enum Work {
    /// One step; there may be more.
    Busy,
    /// Nothing to do until new input, a tick or a waker.
    Idle,
    /// The open epoch is closed: everything it emits is in the outbox, and its capability can go once that is sent.
    Closed {
        /// The epoch.
        epoch: Epoch,
        /// Present when the tick asked for a checkpoint.
        snapshot: Option<StageSnapshot>,
    },
}

/// What a stage hands out at a checkpoint; a driver makes it durable and reports to the coordinator.
pub struct StageSnapshot {
    /// The checkpoint's epoch.
    pub epoch: Epoch,
    /// State of the operators that have any.
    pub operators: Vec<(OperatorId, OperatorExport)>,
    /// The splits this subtask owns (source stages).
    pub splits: Vec<SplitState>,
    /// Work that makes the sinks' staged output durable.
    pub sinks: Vec<(OperatorId, Prepared)>,
}

impl std::fmt::Debug for StageSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StageSnapshot")
            .field("epoch", &self.epoch)
            .field("operators", &self.operators)
            .field("splits", &self.splits)
            .field("sinks", &self.sinks.iter().map(|(id, _)| id).collect::<Vec<_>>())
            .finish()
    }
}

/// What a stage is given when a job is restored.
#[derive(Debug, Default)]
pub struct StageImport {
    /// State by operator.
    pub operators: BTreeMap<OperatorId, OperatorImport>,
    /// All splits of the job's checkpoint; the stage keeps those it owns.
    pub splits: Vec<SplitState>,
}

/// How a call of [`StageTask::read`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// Rows were queued for the open epoch; read on when there is budget.
    Rows {
        /// Rows read.
        rows: usize,
        /// Their size in memory, bytes.
        bytes: usize,
    },
    /// All readers are pending; the waker tells.
    Pending,
    /// Every split that this subtask owns has reached its end.
    Finished,
}

/// Figures of one node of the stage.
#[derive(Debug, Clone, Default)]
pub struct NodeStats {
    /// Rows in (sources: rows read).
    pub rows_in: u64,
    /// Rows out.
    pub rows_out: u64,
    /// Time spent in the node, nanoseconds; filled in by drivers that have a clock (see [`StageTask::set_clock`]).
    pub busy_ns: u64,
    /// The operator's own figures.
    pub operator: OperatorStats,
    /// Records skipped as malformed (sources).
    pub skipped: u64,
    /// Watermark of the node's last closed epoch, if it has one.
    pub watermark: Option<Millis>,
}

/// See the module's documentation. The bodies live in `stage/`.
pub struct StageTask {
    // Filled in by its implementation.
}

#[allow(unused_variables, missing_docs, clippy::todo)]
impl StageTask {
    /// A stage that is about to open `first_epoch`.
    pub fn new(
        plan: &ExecutionPlan,
        stage: StageIndex,
        context: &SinkContext,
        connectors: &Connectors,
        first_epoch: Epoch,
        waker: Waker,
    ) -> Result<Self> {
        todo!()
    }

    /// Gives each node the state of a checkpoint. Before any other call.
    pub fn restore(&mut self, import: StageImport) -> Result<()> {
        todo!()
    }

    /// A monotonic nanosecond clock for busy times; without it they stay 0.
    pub fn set_clock(&mut self, now_ns: fn() -> u64) {
        todo!()
    }

    /// Queues a message of input `input`; of the open epoch or a later one.
    pub fn receive(&mut self, input: usize, epoch: Epoch, envelope: Envelope) {
        todo!()
    }

    /// Source stages: reads about one batch from the next split in turn into the open epoch. Not while a close waits.
    pub fn read(&mut self) -> Result<SourceStatus> {
        todo!()
    }

    /// All input of `tick.epoch` has been received; the epoch closes behind it. Epochs close in order, none is skipped.
    pub fn close(&mut self, tick: Tick) {
        todo!()
    }

    /// Exports these key groups whole at the next checkpoint (compaction, asked for by whoever keeps the files).
    pub fn compact(&mut self, operator: &OperatorId, whole: Range<u32>) {
        todo!()
    }

    /// Does one bounded step.
    pub fn work(&mut self) -> Result<Work> {
        todo!()
    }

    /// Messages to deliver, in order.
    pub fn outbox(&mut self) -> &mut Vec<Outgoing> {
        todo!()
    }

    /// The epoch that is open.
    pub fn open_epoch(&self) -> Epoch {
        todo!()
    }

    /// Source stages: whether every owned split has ended, as of the last close.
    pub fn finished(&self) -> bool {
        todo!()
    }

    /// Figures by node index.
    pub fn stats(&self) -> Vec<(usize, NodeStats)> {
        todo!()
    }

    /// This stage's place.
    pub fn subtask(&self) -> Subtask {
        todo!()
    }
}
