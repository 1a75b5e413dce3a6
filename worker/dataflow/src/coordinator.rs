//! [pure] Decides when ticks go out, what a checkpoint consists of, and when a record may be written.
//!
//! A state machine without I/O: `handle(event, now) -> actions`. The timely adaptor and the simulator run it beside the
//! control source of worker 0. Completeness of a checkpoint is a frontier: when the snapshot stream has passed epoch e,
//! every report of e has been seen.

use std::collections::BTreeMap;

use rheos_checkpoint::CommitPermit;
use rheos_checkpoint::manifest::{Manifest, StateFile};
use rheos_checkpoint::record::Record;
use serde::{Deserialize, Serialize};

use crate::graph::OperatorId;
use crate::sink::Committable;
use crate::snapshot::SplitState;
use crate::source::SplitAssignment;
use crate::time::{Epoch, Millis, StopMode, Tick};

/// How a job's ticks are paced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pacing {
    /// Shortest epoch, ms (busy job).
    pub epoch_min: Millis,
    /// Longest epoch, ms (idle job).
    pub epoch_max: Millis,
    /// Between the starts of two checkpoints, ms.
    pub checkpoint_interval: Millis,
    /// A checkpoint that is not complete after this long is given up, ms.
    pub checkpoint_timeout: Millis,
    /// Epochs that may be open behind the newest one before ticks are held back (W).
    pub window: u64,
}

/// One subtask's part of a checkpoint, sent on the snapshot stream as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotReport {
    /// The stage.
    pub stage: usize,
    /// The subtask.
    pub subtask: u32,
    /// The checkpoint's epoch.
    pub epoch: Epoch,
    /// The parts, or why there are none (the checkpoint is then abandoned, later ones go on).
    pub outcome: Result<SnapshotParts, String>,
}

/// What a subtask's part of a checkpoint consists of, all of it durable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotParts {
    /// All live state files of this subtask, by operator and table, oldest first (carried ones too).
    pub files: BTreeMap<OperatorId, BTreeMap<String, Vec<StateFile>>>,
    /// Facts by operator.
    pub facts: BTreeMap<OperatorId, BTreeMap<String, serde_json::Value>>,
    /// Splits owned by this subtask.
    pub splits: Vec<SplitState>,
    /// Staged output of this checkpoint.
    pub committables: Vec<Committable>,
    /// By sink: this subtask's committables up to this epoch are known to be committed.
    pub confirmed: BTreeMap<OperatorId, Epoch>,
    /// Bytes written for this checkpoint (carried files not counted).
    pub bytes_written: u64,
}

/// What the coordinator is told.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time passed (also the answer to [`Action::WakeAt`]).
    Time,
    /// Every worker has closed all epochs below this one (the monitored frontier).
    Progress(Epoch),
    /// A report came on the snapshot stream.
    Report(SnapshotReport),
    /// The snapshot stream's frontier: all reports below this epoch have been delivered.
    Snapshots(Epoch),
    /// This subtask's sources have all ended, as of an epoch close.
    SourcesFinished {
        /// The stage.
        stage: usize,
        /// The subtask.
        subtask: u32,
    },
    /// Whether any source read rows in the newest closed epoch (adapts the epoch's length).
    Load {
        /// Rows read in that epoch over the reporting worker.
        rows: u64,
    },
    /// New splits were found.
    Splits(Vec<SplitAssignment>),
    /// A savepoint is wanted.
    Savepoint(String),
    /// A checkpoint is wanted now.
    Checkpoint,
    /// The job shall stop with a checkpoint.
    Stop,
    /// The answer to [`Action::Publish`].
    Published {
        /// The checkpoint's epoch.
        epoch: Epoch,
        /// The permit, or what went wrong; `fenced` in the error ends the generation.
        result: Result<CommitPermit, PublishFailure>,
    },
}

/// Why a record was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishFailure {
    /// A newer generation has taken over.
    pub fenced: bool,
    /// What happened.
    pub message: String,
}

/// What the driver must do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Send this tick to every worker.
    Tick(Tick),
    /// Call again with [`Event::Time`] at this time.
    WakeAt(Millis),
    /// Write manifest and record; answer with [`Event::Published`]. One at a time.
    Publish(Box<Publication>),
    /// Tell the sinks to commit what this record holds.
    Commit(CommitPermit),
    /// A checkpoint was abandoned.
    Abandoned {
        /// Its epoch.
        epoch: Epoch,
        /// Why.
        reason: String,
    },
    /// No more ticks: control drops its capabilities and the dataflow drains.
    End(StopMode),
    /// A newer generation runs: exit without another write.
    Fenced,
}

/// A complete checkpoint, ready to be made final.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The checkpoint's epoch.
    pub epoch: Epoch,
    /// Everything that a restore needs.
    pub manifest: Manifest,
    /// Committables of this and earlier checkpoints that no sink has confirmed.
    pub committables: Vec<Committable>,
    /// The savepoint to write it as, too.
    pub savepoint: Option<String>,
}

/// The record that a generation starts from; see `rheos_checkpoint::protocol`.
pub type StartRecord = Record;
