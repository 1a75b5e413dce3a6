//! [pure] Puts the subtasks' parts together into one manifest. Independent of the order in which they came.

use std::collections::BTreeMap;

use rheos_checkpoint::manifest::{MANIFEST_VERSION, Manifest, OperatorState};

use super::{JobFacts, SnapshotParts};
use crate::time::{Epoch, Millis};

/// The manifest of checkpoint `epoch` from the parts by (stage, subtask).
pub(super) fn manifest(job: &JobFacts, epoch: Epoch, wall_time: Millis, reports: BTreeMap<(usize, u32), SnapshotParts>) -> Manifest {
    let mut operators: BTreeMap<String, OperatorState> = job
        .operators
        .iter()
        .map(|(id, facts)| {
            let state = OperatorState { title: facts.title.clone(), state_schema: facts.state_schema.clone(), ..OperatorState::default() };
            (id.0.clone(), state)
        })
        .collect();
    let mut splits = Vec::new();
    // An operator lives in one stage, so its subtasks come in rising order here.
    for parts in reports.into_values() {
        for (id, facts) in parts.facts {
            operators.entry(id.0).or_default().facts.push(facts);
        }
        for (id, tables) in parts.files {
            let state = operators.entry(id.0).or_default();
            for (table, files) in tables {
                state.tables.entry(table).or_default().extend(files);
            }
        }
        splits.extend(parts.splits);
    }
    splits.sort_by(|a, b| (&a.assignment.source, a.assignment.ordinal).cmp(&(&b.assignment.source, b.assignment.ordinal)));
    Manifest {
        version: MANIFEST_VERSION,
        job_uid: job.job_uid.clone(),
        generation: job.generation,
        epoch,
        wall_time,
        parallelism: job.parallelism,
        max_parallelism: job.max_parallelism,
        operators,
        splits: splits.iter().map(super::job::to_json).collect(),
    }
}
