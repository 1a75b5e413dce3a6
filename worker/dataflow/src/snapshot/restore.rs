//! [pure] From a manifest to what each stage imports: what fits the plan, which blocks to read, who gets what.

use std::collections::BTreeMap;
use std::ops::Range;

use rheos_checkpoint::manifest::{Manifest, StateFile};

use super::{OperatorImport, SplitState, codec};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::{DataflowGraph, OperatorId};
use crate::plan::{ExecutionPlan, StageIndex};
use crate::stage::StageImport;

/// A file to read for a restore.
#[derive(Debug, Clone, PartialEq)]
pub struct FileRead {
    /// Whose state it is.
    pub operator: OperatorId,
    /// Its table.
    pub table: String,
    /// The file, with the blocks to read.
    pub file: StateFile,
}

/// Checks that a manifest can be restored into a graph.
///
/// # Errors
/// [`ErrorKind::User`]: another layout of state, state that no operator takes (unless `allow_non_restored`), or
/// another number of key groups; the message names the operator.
pub fn check(graph: &DataflowGraph, groups: u32, manifest: &Manifest, allow_non_restored: bool) -> Result<()> {
    let refuse = |message: String| Err(DataflowError::new("restore", ErrorKind::User, message));
    if manifest.max_parallelism != groups {
        return refuse(format!(
            "the checkpoint has {} key groups, the job {groups}: maxParallelism cannot change",
            manifest.max_parallelism
        ));
    }
    for (id, state) in &manifest.operators {
        match graph.nodes.iter().find(|node| node.id.0 == *id) {
            None if allow_non_restored => {}
            None => {
                return refuse(format!(
                    "the checkpoint holds state of `{}` ({id}), which the job no longer has: set allowNonRestoredState to drop it",
                    state.title
                ));
            }
            Some(node) if node.state_schema.as_deref() != Some(state.state_schema.as_str()) => {
                return refuse(format!(
                    "the state of `{}` ({id}) has another layout than the job's (`{}` -> `{}`)",
                    state.title,
                    state.state_schema,
                    node.state_schema.as_deref().unwrap_or("none")
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// What a stage has to read on the subtask that owns `groups`: by table in the order to import it.
pub fn reads(plan: &ExecutionPlan, stage: StageIndex, groups: &Range<u32>, manifest: &Manifest) -> Vec<FileRead> {
    let mut reads = Vec::new();
    for operator in operators_of(plan, stage) {
        let Some(state) = manifest.operators.get(&operator.0) else { continue };
        for (table, files) in &state.tables {
            for file in files {
                let mut file = file.clone();
                file.blocks.retain(|b| u32::from(b.first_group) < groups.end && u32::from(b.last_group) >= groups.start);
                if !file.blocks.is_empty() {
                    reads.push(FileRead { operator: operator.clone(), table: table.clone(), file });
                }
            }
        }
    }
    reads
}

/// Puts a stage's import together from what [`reads`] named, in the same order, each with the bytes of its blocks.
///
/// # Errors
/// [`ErrorKind::State`] when bytes are not what was written; the message names the file.
pub fn import<B: AsRef<[u8]>>(
    plan: &ExecutionPlan,
    stage: StageIndex,
    groups: &Range<u32>,
    manifest: &Manifest,
    files: impl IntoIterator<Item = (FileRead, Vec<B>)>,
) -> Result<StageImport> {
    let mut import = StageImport { splits: splits(manifest)?, ..StageImport::default() };
    for id in operators_of(plan, stage) {
        if let Some(state) = manifest.operators.get(&id.0) {
            import.operators.insert(id, OperatorImport { facts: state.facts.clone(), tables: BTreeMap::new() });
        }
    }
    for (read, blocks) in files {
        let table = import.operators.entry(read.operator.clone()).or_default().tables.entry(read.table).or_default();
        for (block, bytes) in read.file.blocks.iter().zip(blocks) {
            let rows = codec::decode(block, bytes.as_ref(), groups);
            table.extend(rows.map_err(|e| DataflowError::new(format!("{} ({})", read.operator, read.file.path), e.kind, e.message))?);
        }
    }
    Ok(import)
}

/// The splits of a checkpoint.
///
/// # Errors
/// [`ErrorKind::State`] when they are in a form that this version cannot read.
pub fn splits(manifest: &Manifest) -> Result<Vec<SplitState>> {
    let read = |value: &serde_json::Value| {
        serde_json::from_value(value.clone()).map_err(|e| DataflowError::new("restore", ErrorKind::State, format!("unreadable split: {e}")))
    };
    manifest.splits.iter().map(read).collect()
}

/// Operators of a stage that have state.
pub fn operators_of(plan: &ExecutionPlan, stage: StageIndex) -> Vec<OperatorId> {
    let nodes = plan.stages[stage].nodes.iter().map(|node| &plan.graph.nodes[*node]);
    nodes.filter(|node| node.state_schema.is_some()).map(|node| node.id.clone()).collect()
}
