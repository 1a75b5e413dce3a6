//! [pure] One stage's part of every checkpoint on one subtask: what must become durable, and what is reported.
//!
//! Whoever makes parts durable goes, for one snapshot after the other: [`StagePart::take`]; wait for the sinks' work
//! and hand its results to [`StagePart::staged`]; put [`StagePart::files`]; [`StagePart::report`]. When a put failed,
//! report that: the next files and the next report hold what these could not.

use std::collections::BTreeMap;
use std::ops::Range;

use rheos_checkpoint::manifest::{Manifest, StateFile};
use rheos_checkpoint::state_file::StateFileWriter;

use super::SplitState;
use super::ledger::StateLedger;
use super::restore::operators_of;
use crate::coordinator::{SnapshotParts, SnapshotReport};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::OperatorId;
use crate::key_group::Subtask;
use crate::plan::{ExecutionPlan, StageIndex};
use crate::sink::{Committable, Prepared};
use crate::stage::StageSnapshot;
use crate::time::Epoch;

/// Files of one stage, subtask and checkpoint, at most; see [`StagePart::files`].
pub const FILES_PER_STAGE: u32 = 1_024;

/// See the module's documentation.
#[derive(Debug)]
pub struct StagePart {
    stage: StageIndex,
    subtask: u32,
    state: StateLedger,
    epoch: Epoch,
    facts: BTreeMap<OperatorId, BTreeMap<String, serde_json::Value>>,
    splits: Vec<SplitState>,
    /// Staged output that no report has told yet.
    committables: Vec<Committable>,
}

impl StagePart {
    /// The part of `stage` on `subtask`, going on from a checkpoint if there is one.
    pub fn new(plan: &ExecutionPlan, stage: StageIndex, subtask: Subtask, restored: Option<&Manifest>) -> Self {
        Self {
            stage,
            subtask: subtask.index,
            state: StateLedger::new(subtask.key_groups(), operators_of(plan, stage), restored),
            epoch: 0,
            facts: BTreeMap::new(),
            splits: Vec::new(),
            committables: Vec::new(),
        }
    }

    /// Takes over a snapshot and encodes its state (CPU work, not for the worker's thread); gives the work of its sinks.
    ///
    /// # Errors
    /// When an operator's rows cannot be encoded: a fault of the operator.
    pub fn take(&mut self, snapshot: StageSnapshot) -> Result<Vec<(OperatorId, Prepared)>> {
        self.epoch = snapshot.epoch;
        self.splits = snapshot.splits;
        for (operator, export) in snapshot.operators {
            if let Some(whole) = snapshot.whole.get(&operator) {
                self.state.whole(&operator, whole);
            }
            for (table, rows) in export.tables {
                self.state.export(&operator, &table, &rows.encode()?)?;
            }
            self.facts.insert(operator, export.facts);
        }
        Ok(snapshot.sinks)
    }

    /// What the work of a sink gave.
    pub fn staged(&mut self, sink: &OperatorId, payloads: Vec<serde_json::Value>) {
        let (subtask, epoch) = (self.subtask, self.epoch);
        let made = payloads.into_iter().map(|payload| Committable { sink: sink.clone(), subtask, epoch, payload });
        self.committables.extend(made);
    }

    /// The files to put, with their indexes among the files of the subtask at this checkpoint; none when no state
    /// changed.
    ///
    /// # Errors
    /// When there is more than [`FILES_PER_STAGE`] files hold.
    pub fn files(&self) -> Result<Vec<(u32, StateFileWriter)>> {
        let files = self.state.files()?;
        if files.len() > FILES_PER_STAGE as usize {
            let message =
                format!("the state of one checkpoint fills {} files, more than {FILES_PER_STAGE}: raise the parallelism", files.len());
            return Err(DataflowError::new(format!("stage {}", self.stage), ErrorKind::State, message));
        }
        Ok((self.stage as u32 * FILES_PER_STAGE..).zip(files).collect())
    }

    /// The report for the coordinator, once the puts have ended. `confirmed`: up to which epoch the committables of
    /// each sink of this stage and subtask are committed.
    pub fn report(&mut self, put: Result<Vec<StateFile>, String>, confirmed: BTreeMap<OperatorId, Epoch>) -> SnapshotReport {
        let outcome = put.map(|files| {
            self.state.written(&files);
            SnapshotParts {
                files: self.state.live().clone(),
                facts: self.facts.clone(),
                splits: self.splits.clone(),
                committables: std::mem::take(&mut self.committables),
                confirmed,
                bytes_written: files.iter().map(|file| file.bytes).sum(),
            }
        });
        SnapshotReport { stage: self.stage, subtask: self.subtask, epoch: self.epoch, outcome }
    }

    /// Key groups to export whole at the next checkpoint, for [`crate::stage::StageTask::compact`].
    pub fn compaction(&mut self) -> Vec<(OperatorId, Range<u32>)> {
        self.state.compaction()
    }
}
