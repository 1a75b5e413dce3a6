//! [pure] The seam between operators and what drives them.
//!
//! Operators are synchronous, see one epoch at a time, and have no clock, no randomness and no I/O. The same
//! operators run under timely dataflow and under the simulator.

use arrow::array::RecordBatch;

use crate::error::Result;
use crate::snapshot::{OperatorExport, OperatorImport, SnapshotRequest};
use crate::time::EpochEnd;

/// Rows in one batch that an operator emits, at most: bounds the memory of flat-maps and window firings.
pub const MAX_BATCH_ROWS: usize = 8_192;

/// Where an operator puts its output; the stage drains it after each call.
#[derive(Debug, Default)]
pub struct Output {
    /// Batches in the order of emission, none empty, each of at most [`MAX_BATCH_ROWS`] rows unless passed through.
    pub batches: Vec<RecordBatch>,
}

impl Output {
    /// Emits a batch; empty ones are dropped.
    pub fn emit(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.batches.push(batch);
        }
    }
}

/// Whether an operator has more to emit for the call just made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// The call is complete.
    Done,
    /// Out of fuel: the stage drains the output and calls [`Operator::resume`].
    More,
    /// Something outside has to come first: [`Operator::resume`] is called when its waker has been, and now and then. The
    /// epoch stays open, and the worker's other operators have their turn.
    Waiting {
        /// Whether the operator takes more batches meanwhile.
        room: bool,
    },
}

/// One operator's logic on one subtask.
///
/// Call order: `restore` at most once, first; then for each epoch any number of `on_batch`, one `on_epoch_end`, and at
/// a checkpoint one `snapshot` after it. After any call that returns [`Progress::More`], `resume` until `Done`; after one
/// that returns [`Progress::Waiting`] nothing but `resume` and, where there is room, `on_batch`.
pub trait Operator {
    /// Rows of the open epoch on input `port`.
    fn on_batch(&mut self, port: usize, batch: &RecordBatch, out: &mut Output) -> Result<Progress>;

    /// Goes on with the call that ran out of fuel.
    fn resume(&mut self, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    /// The open epoch has no more input.
    fn on_epoch_end(&mut self, _end: &EpochEnd, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    /// Whether the result could depend on the order of the input within an epoch. The stage then delivers the epoch's
    /// batches sorted by (port, sender, sequence) when it closes, instead of at once.
    fn ordered(&self) -> bool {
        false
    }

    /// What changed since the last snapshot, as immutable buffers; O(dirty), encoded later on another thread.
    /// `None` from operators without state.
    fn snapshot(&mut self, _request: &SnapshotRequest) -> Option<OperatorExport> {
        None
    }

    /// Loads state: called with the parts that a checkpoint holds for this subtask's key groups, oldest first.
    fn restore(&mut self, _import: OperatorImport) -> Result<()> {
        Ok(())
    }

    /// Figures for metrics.
    fn stats(&self) -> OperatorStats {
        OperatorStats::default()
    }
}

/// Figures of one operator on one subtask, since the engine started (state: now).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OperatorStats {
    /// Rows dropped because they came after their last window had fired.
    pub late_rows: u64,
    /// Keys held in state.
    pub state_keys: u64,
    /// Bytes held in state, estimated.
    pub state_bytes: u64,
}
