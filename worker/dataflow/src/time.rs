//! [pure] The one clock of a job: ticks close epochs, and carry everything that is decided once for the whole job.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::graph::OperatorId;
use crate::source::SplitAssignment;

/// The span between two ticks; tick `e` closes epoch `e`. Timely's timestamp. The first epoch of a job is 1.
pub type Epoch = u64;

/// Milliseconds since 1970-01-01T00:00:00Z, for event time, watermarks and the wall time of ticks.
pub type Millis = i64;

/// The watermark before any row was seen.
pub const WATERMARK_MIN: Millis = i64::MIN;
/// The watermark after the last row of a bounded input: every window fires.
pub const WATERMARK_MAX: Millis = i64::MAX;

/// One entry of the totally ordered stream that the coordinator sends to every worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// The epoch this tick closes.
    pub epoch: Epoch,
    /// Processing time of the epoch that this tick closes, for every operator of the job.
    pub wall_time: Millis,
    /// Whether the end of this epoch is a checkpoint.
    pub checkpoint: bool,
    /// The savepoint to take at the end of this epoch (implies `checkpoint`).
    pub savepoint: Option<String>,
    /// Whether the job ends with this epoch (implies `checkpoint`).
    pub stop: Option<StopMode>,
    /// Splits found since the last tick; they are read from the next epoch on. Decided in one place, so that no two
    /// workers disagree about who reads what.
    pub new_splits: Arc<Vec<SplitAssignment>>,
    /// Sources that were looked through for the first time since the last tick, and have no split: nobody waits for them.
    pub empty_sources: Arc<Vec<OperatorId>>,
}

impl Tick {
    /// A plain tick that only closes `epoch`.
    pub fn plain(epoch: Epoch, wall_time: Millis) -> Self {
        Self { epoch, wall_time, checkpoint: false, savepoint: None, stop: None, new_splits: Arc::default(), empty_sources: Arc::default() }
    }
}

/// Why a job ends with an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopMode {
    /// It was asked to stop and will go on later from this checkpoint.
    Suspend,
    /// Every source has reached its end and every window has fired.
    Finish,
}

/// What one sender says about the progress of its event time, as of the end of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Watermark {
    /// No row below this event time will follow (from this sender).
    Active(Millis),
    /// This sender has had nothing to say for its idle timeout, or has read all that is there: do not wait for it. Once
    /// all senders are idle, the greatest of these times counts, as in Flink.
    Idle(Millis),
}

impl Watermark {
    /// The event time that is said, whatever it counts for.
    pub fn time(self) -> Millis {
        match self {
            Self::Active(time) | Self::Idle(time) => time,
        }
    }
}

/// The end of an epoch as an operator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch that ends.
    pub epoch: Epoch,
    /// Processing time, the tick's.
    pub wall_time: Millis,
    /// Minimum over the operator's senders; never falls from one epoch to the next.
    pub watermark: Millis,
}
