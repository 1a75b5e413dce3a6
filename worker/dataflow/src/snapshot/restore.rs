//! [pure] From a manifest to what each stage imports: what fits the plan, which blocks to read, who gets what.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use rheos_checkpoint::manifest::{Manifest, StateFile};

use super::{OperatorImport, SplitState, TableImport, codec};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::{DataflowGraph, OperatorId};
use crate::plan::{ExecutionPlan, StageIndex};
use crate::stage::StageImport;

/// A table to read for a restore.
#[derive(Debug, Clone, PartialEq)]
pub struct TableRead {
    /// Whose state it is.
    pub operator: OperatorId,
    /// The table.
    pub table: String,
    /// Its files, oldest first, with the blocks to read.
    pub files: Vec<StateFile>,
}

impl TableRead {
    /// About how many rows it has.
    pub fn rows(&self) -> usize {
        let blocks = self.files.iter().flat_map(|file| &file.blocks);
        // A row has a key group, so a false number cannot ask for much more memory than the file takes.
        blocks.map(|block| block.rows.min(block.length / 2) as usize).sum()
    }
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

/// What a stage has to read on the subtask that owns `groups`.
pub fn reads(plan: &ExecutionPlan, stage: StageIndex, groups: &Range<u32>, manifest: &Manifest) -> Vec<TableRead> {
    let mut reads = Vec::new();
    for operator in operators_of(plan, stage) {
        let Some(state) = manifest.operators.get(&operator.0) else { continue };
        for (table, files) in &state.tables {
            let mut files = files.clone();
            for file in &mut files {
                file.blocks.retain(|b| u32::from(b.first_group) < groups.end && u32::from(b.last_group) >= groups.start);
            }
            files.retain(|file| !file.blocks.is_empty());
            if !files.is_empty() {
                reads.push(TableRead { operator: operator.clone(), table: table.clone(), files });
            }
        }
    }
    reads
}

/// The rows of one file of `operator`, from the bytes of its blocks.
///
/// # Errors
/// [`ErrorKind::State`] when bytes are not what was written; the message names the file.
pub fn decode(
    operator: &OperatorId,
    file: &StateFile,
    blocks: impl IntoIterator<Item = impl Into<Buffer>>,
    groups: &Range<u32>,
) -> Result<Vec<RecordBatch>> {
    let mut rows = Vec::new();
    for (block, bytes) in file.blocks.iter().zip(blocks) {
        let batches = codec::decode(block, bytes.into(), groups);
        rows.extend(batches.map_err(|e| DataflowError::new(format!("{operator} ({})", file.path), e.kind, e.message))?);
    }
    Ok(rows)
}

/// Puts a stage's import together from what [`reads`] named.
///
/// # Errors
/// As for [`splits`].
pub fn import(
    plan: &ExecutionPlan,
    stage: StageIndex,
    manifest: &Manifest,
    tables: impl IntoIterator<Item = (OperatorId, String, TableImport)>,
) -> Result<StageImport> {
    let mut import = StageImport { splits: splits(manifest)?, ..StageImport::default() };
    for id in operators_of(plan, stage) {
        if let Some(state) = manifest.operators.get(&id.0) {
            import.operators.insert(id, OperatorImport { facts: state.facts.clone(), tables: BTreeMap::new() });
        }
    }
    for (operator, table, rows) in tables {
        import.operators.entry(operator).or_default().tables.insert(table, rows);
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
