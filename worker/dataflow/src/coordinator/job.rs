//! [pure] What the coordinator has to know of the job and of the checkpoint that it goes on from.

use std::collections::{BTreeMap, BTreeSet};

use rheos_checkpoint::manifest::Manifest;
use rheos_checkpoint::record::Record;
use serde::Serialize;

use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::{OperatorId, OperatorSpec};
use crate::plan::ExecutionPlan;
use crate::sink::Committable;
use crate::snapshot::SplitState;
use crate::time::{Epoch, Millis};

/// The job as the coordinator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFacts {
    /// The job's unique id.
    pub job_uid: String,
    /// The running generation.
    pub generation: u64,
    /// Workers.
    pub parallelism: u32,
    /// Key groups.
    pub max_parallelism: u32,
    /// Operators with state.
    pub operators: BTreeMap<OperatorId, OperatorFacts>,
    /// Sources, with their stages.
    pub sources: BTreeMap<OperatorId, usize>,
    /// Every (stage, subtask): who must report for a checkpoint to be complete.
    pub reporters: BTreeSet<(usize, u32)>,
}

/// One operator with state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorFacts {
    /// For messages.
    pub title: String,
    /// Fingerprint of the state's layout.
    pub state_schema: String,
}

impl JobFacts {
    /// The facts of `plan` run by `parallelism` workers.
    pub fn of(plan: &ExecutionPlan, job_uid: &str, generation: u64, parallelism: u32, max_parallelism: u32) -> Self {
        let nodes = &plan.graph.nodes;
        let operators = nodes.iter().filter_map(|node| {
            let state_schema = node.state_schema.clone()?;
            Some((node.id.clone(), OperatorFacts { title: node.title.clone(), state_schema }))
        });
        let sources = plan.stages.iter().enumerate().filter_map(|(stage, s)| {
            s.source.filter(|node| matches!(nodes[*node].spec, OperatorSpec::Source(_))).map(|node| (nodes[node].id.clone(), stage))
        });
        Self {
            job_uid: job_uid.into(),
            generation,
            parallelism,
            max_parallelism,
            operators: operators.collect(),
            sources: sources.collect(),
            reporters: (0..plan.stages.len()).flat_map(|stage| (0..parallelism).map(move |i| (stage, i))).collect(),
        }
    }

    /// Every (stage, subtask) that reads this source.
    pub(super) fn subtasks_of(&self, source: &OperatorId) -> impl Iterator<Item = (usize, u32)> {
        let stage = self.sources.get(source).copied();
        stage.into_iter().flat_map(|stage| (0..self.parallelism).map(move |i| (stage, i)))
    }
}

/// Where the generation goes on from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Restored {
    /// The checkpoint's epoch; 0 for a job without one.
    pub epoch: Epoch,
    /// The checkpoint's wall time; processing time goes on from here.
    pub wall_time: Millis,
    /// Splits known at the checkpoint.
    pub splits: Vec<SplitState>,
    /// What the record carries: not known to be visible.
    pub committables: Vec<Committable>,
}

impl Restored {
    /// Reads it from a start record and the manifest that the record names.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when they do not belong together or hold what this version cannot read.
    pub fn read(record: &Record, manifest: Option<&Manifest>) -> Result<Self> {
        let restored_epoch = manifest.map_or(0, |manifest| manifest.epoch);
        if record.epoch != restored_epoch {
            let message = format!("record {} is of epoch {}, its manifest of {restored_epoch}", record.seq, record.epoch);
            return Err(DataflowError::new("checkpoint", ErrorKind::State, message));
        }
        Ok(Self {
            epoch: record.epoch,
            wall_time: manifest.map_or(Millis::MIN, |manifest| manifest.wall_time),
            splits: manifest.map_or(Ok(Vec::new()), crate::snapshot::restore::splits)?,
            committables: record.committables.iter().map(committable).collect::<Result<_>>()?,
        })
    }
}

/// The JSON form of plain data of ours.
pub(super) fn to_json<T: Serialize>(value: &T) -> serde_json::Value {
    // Structs of strings, numbers and JSON values: this conversion has no way to fail.
    serde_json::to_value(value).unwrap_or_default()
}

fn committable(value: &serde_json::Value) -> Result<Committable> {
    serde_json::from_value(value.clone())
        .map_err(|e| DataflowError::new("checkpoint", ErrorKind::State, format!("unreadable committable: {e}")))
}
