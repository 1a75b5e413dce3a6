//! [pure] From a manifest to what each stage imports: what fits the plan, which blocks to read, who gets what.

use std::collections::BTreeMap;
use std::ops::Range;

use rheos_checkpoint::manifest::{Block, Manifest};

use super::{OperatorImport, SplitState, codec};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::{DataflowGraph, OperatorId};
use crate::plan::{ExecutionPlan, StageIndex};
use crate::stage::StageImport;

/// A block to read for a restore.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockRead {
    /// Whose state it is.
    pub operator: OperatorId,
    /// Its table.
    pub table: String,
    /// The file, relative to the job's root.
    pub path: String,
    /// Where in the file.
    pub block: Block,
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

/// The blocks that a stage has to read on the subtask that owns `groups`: by table in the order to import them.
pub fn reads(plan: &ExecutionPlan, stage: StageIndex, groups: &Range<u32>, manifest: &Manifest) -> Vec<BlockRead> {
    let mut reads = Vec::new();
    for id in operators_of(plan, stage) {
        let Some(state) = manifest.operators.get(&id.0) else { continue };
        for (table, files) in &state.tables {
            for (file, block) in files.iter().flat_map(|file| file.blocks.iter().map(move |block| (file, block))) {
                if u32::from(block.first_group) < groups.end && u32::from(block.last_group) >= groups.start {
                    let (table, path, block) = (table.clone(), file.path.clone(), block.clone());
                    reads.push(BlockRead { operator: id.clone(), table, path, block });
                }
            }
        }
    }
    reads
}

/// Puts a stage's import together from the blocks that [`reads`] named, with their bytes, in the same order.
///
/// # Errors
/// [`ErrorKind::State`] when bytes are not what was written; the message names the file.
pub fn import(
    plan: &ExecutionPlan,
    stage: StageIndex,
    groups: &Range<u32>,
    manifest: &Manifest,
    blocks: impl IntoIterator<Item = (BlockRead, impl AsRef<[u8]>)>,
) -> Result<StageImport> {
    let mut import = StageImport { splits: splits(manifest)?, ..StageImport::default() };
    for id in operators_of(plan, stage) {
        if let Some(state) = manifest.operators.get(&id.0) {
            import.operators.insert(id, OperatorImport { facts: state.facts.clone(), tables: BTreeMap::new() });
        }
    }
    for (read, bytes) in blocks {
        let rows = codec::decode(&read.block, bytes.as_ref(), groups)
            .map_err(|e| DataflowError::new(format!("{} ({})", read.operator, read.path), e.kind, e.message))?;
        let operator = import.operators.entry(read.operator).or_default();
        operator.tables.entry(read.table).or_default().extend(rows);
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
