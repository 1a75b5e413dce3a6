//! [pure] The seam to external systems that are read: splits, offsets, readers.

use std::sync::Arc;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::OperatorId;
use crate::snapshot::SplitState;

/// A part of a source that is read in order by one reader: a file, a partition, one of n generator sequences.
pub type SplitId = String;

/// A split given to the job. Its owner is worker `ordinal % workers`, so a rescale needs no table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitAssignment {
    /// The source.
    pub source: OperatorId,
    /// The split.
    pub split: SplitId,
    /// Dense by source, in the order of discovery.
    pub ordinal: u32,
    /// Found after the job's first look at the source: nothing in it is older than the job.
    #[serde(default)]
    pub late: bool,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// Where the table's options say: nobody has read the split for this job.
    New {
        /// See [`SplitAssignment::late`].
        late: bool,
    },
    /// At an offset that an earlier reader returned.
    At(&'a serde_json::Value),
    /// Behind everything that is there now, because rows behind the offset may have been read: `AtMostOnce` after a
    /// restart. The offset is the last known, if there is one.
    Newest(Option<&'a serde_json::Value>),
}

impl<'a> Start<'a> {
    /// The offset, `None` for the split's beginning: for sources that know no other place to begin at.
    ///
    /// # Errors
    /// When the job is to go on at the newest row.
    pub fn offset(self) -> Result<Option<&'a serde_json::Value>> {
        match self {
            Self::New { .. } => Ok(None),
            Self::At(offset) => Ok(Some(offset)),
            Self::Newest(_) => {
                let message = "this source cannot go on at the newest row, which AtMostOnce asks for";
                Err(DataflowError::new("", ErrorKind::User, message))
            }
        }
    }
}

impl SplitAssignment {
    /// The worker that reads this split.
    pub fn owner(&self, workers: u32) -> u32 {
        self.ordinal % workers
    }
}

/// Wakes the stage that owns a reader; called from any thread when a reader that said `Pending` has data.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// A configured source: one a source node and engine. Implementations do I/O; the simulator has its own.
pub trait Source: Send + Sync {
    /// The splits that exist now, in a stable order; later looks may leave out what an earlier one told. Called where the
    /// coordinator runs, at the start of a job and then every `discovery_interval`; blocking is allowed.
    fn discover(&self) -> Result<Vec<SplitId>>;

    /// The splits of the checkpoint that the job goes on from. Called once, before the first look, where the coordinator
    /// runs.
    fn restored(&self, _splits: &[&SplitState]) {}

    /// How often to look for new splits; `None`: once.
    fn discovery_interval(&self) -> Option<std::time::Duration> {
        None
    }

    /// Splits that one subtask reads side by side; the others wait in the order of discovery, and hold the watermark back.
    fn open_limit(&self) -> usize {
        usize::MAX
    }

    /// Opens a split. Must not block: it is called on a worker's thread.
    fn open(&self, split: &SplitId, start: Start<'_>, waker: Waker) -> Result<Box<dyn SplitReader>>;

    /// A checkpoint is final that holds these offsets of splits that this process reads: a courtesy to whoever watches
    /// the external system; nothing depends on it. Must not block.
    fn checkpointed(&self, _offsets: &[(&SplitId, &serde_json::Value)]) {}
}

/// What a reader has to give.
#[derive(Debug)]
pub enum Read {
    /// Rows of the source's pruned physical schema, not empty.
    Rows(RecordBatch),
    /// Nothing now; the waker is called when that changes.
    Pending,
    /// The split's end. Final.
    End,
}

/// Reads one split in order. Owned by one worker thread; not `Send`.
///
/// Guarantee: reading on from [`SplitReader::offset`] gives exactly the rows that follow those already returned.
pub trait SplitReader {
    /// The next batch, of about `rows` rows. Must not wait for data; may do short local work.
    fn read(&mut self, rows: usize) -> Result<Read>;

    /// The position behind the last batch returned. Null while a reader that was opened anew does not know where it
    /// begins: a checkpoint then holds the split as one that was never opened.
    fn offset(&self) -> serde_json::Value;

    /// Records skipped by `'format.on-error' = 'skip'` so far.
    fn skipped(&self) -> u64 {
        0
    }

    /// Rows between this position and the end of the split, where the system knows it (lag).
    fn backlog(&self) -> Option<u64> {
        None
    }
}
