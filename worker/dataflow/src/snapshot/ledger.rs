//! [pure] Which state files of one stage on one subtask are live, what has still to be written, and what to compact.
//!
//! Files are written once; a checkpoint adds one with what changed. A key group that was exported whole makes its rows
//! in older blocks dead: such blocks are narrowed to the groups that are still live, and go when none is left.
//!
//! Invariants:
//! - What an operator exported is in `unwritten` or in a live file until a later whole export covers it: a checkpoint
//!   that failed loses nothing.
//! - Blocks of a table are in the order of their exports: later rows replace earlier ones.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::RecordBatch;
use rheos_checkpoint::manifest::{Block, Manifest, StateFile};
use rheos_checkpoint::state_file::{StateFileWriter, TARGET_FILE_BYTES};

use super::codec::{self, EncodedBlock};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::OperatorId;

/// Live files of a table at which its operator begins to export key groups whole, so that old files can go.
pub const COMPACT_FILES: usize = 32;
/// Checkpoints over which the whole exports of one compaction are spread.
pub const COMPACT_PARTS: u32 = 8;

/// Live files by operator and table, oldest first.
pub type LiveFiles = BTreeMap<OperatorId, BTreeMap<String, Vec<StateFile>>>;

/// See the module's documentation. Its user makes one checkpoint durable after the other.
#[derive(Debug)]
pub struct StateLedger {
    groups: Range<u32>,
    live: LiveFiles,
    unwritten: Vec<Unwritten>,
    /// By operator: the part of its key groups that is compacted next.
    compacting: BTreeMap<OperatorId, u32>,
}

#[derive(Debug)]
struct Unwritten {
    operator: OperatorId,
    table: String,
    block: EncodedBlock,
    /// The groups of the block that are still live; several when its middle was exported whole since.
    live: Vec<Range<u32>>,
}

impl StateLedger {
    /// The ledger of a stage with these operators on the subtask that owns `groups`, going on from a checkpoint.
    pub fn new(groups: Range<u32>, operators: impl IntoIterator<Item = OperatorId>, restored: Option<&Manifest>) -> Self {
        let mut live = LiveFiles::new();
        for operator in operators {
            let Some(state) = restored.and_then(|manifest| manifest.operators.get(&operator.0)) else { continue };
            let mut tables = BTreeMap::new();
            for (table, files) in &state.tables {
                let mut files = files.clone();
                narrow_files(&mut files, &(0..groups.start));
                narrow_files(&mut files, &(groups.end..u32::MAX));
                tables.insert(table.clone(), files);
            }
            live.insert(operator, tables);
        }
        Self { groups, live, unwritten: Vec::new(), compacting: BTreeMap::new() }
    }

    /// Takes the rows that an operator exported for one table (see [`super::TableExport::encode`]).
    ///
    /// # Errors
    /// When the rows are not what [`codec::encode`] takes.
    pub fn export(&mut self, operator: &OperatorId, table: &str, batches: &[RecordBatch]) -> Result<()> {
        for block in codec::encode(batches)? {
            let live = std::iter::once(u32::from(block.first_group)..u32::from(block.last_group) + 1).collect();
            self.unwritten.push(Unwritten { operator: operator.clone(), table: table.into(), block, live });
        }
        Ok(())
    }

    /// The operator is about to export these key groups whole, every table: what is known of them is dead. Before the
    /// [`StateLedger::export`]s of the same checkpoint.
    pub fn whole(&mut self, operator: &OperatorId, groups: &Range<u32>) {
        for unwritten in self.unwritten.iter_mut().filter(|unwritten| unwritten.operator == *operator) {
            unwritten.live = unwritten.live.iter().flat_map(|live| without(live, groups)).collect();
        }
        self.unwritten.retain(|unwritten| !unwritten.live.is_empty());
        for files in self.live.get_mut(operator).into_iter().flat_map(BTreeMap::values_mut) {
            narrow_files(files, groups);
        }
    }

    /// The files to write, with everything that is not durable yet; none when nothing changed. Follow it by
    /// [`StateLedger::written`], or not, if a write failed; then the next files hold it again.
    ///
    /// # Errors
    /// [`ErrorKind::Bug`] for a block that no file takes.
    pub fn files(&self) -> Result<Vec<StateFileWriter>> {
        let mut files: Vec<StateFileWriter> = Vec::new();
        for Unwritten { operator, block, .. } in &self.unwritten {
            if files.last().is_none_or(|file| file.len() + block.bytes.len() as u64 > TARGET_FILE_BYTES) {
                files.push(StateFileWriter::new());
            }
            if let Some(file) = files.last_mut() {
                file.push(block.first_group, block.last_group, block.rows, &block.bytes)
                    .map_err(|e| DataflowError::new(operator.0.clone(), ErrorKind::Bug, e))?;
            }
        }
        Ok(files)
    }

    /// All that [`StateLedger::files`] gave is durable, in these files, in that order.
    pub fn written(&mut self, files: &[StateFile]) {
        let blocks = files.iter().flat_map(|file| file.blocks.iter().map(move |block| (file, block)));
        for (unwritten, (file, block)) in self.unwritten.drain(..).zip(blocks) {
            let live = self.live.entry(unwritten.operator).or_default().entry(unwritten.table).or_default();
            if live.last().is_none_or(|last| last.path != file.path) {
                live.push(StateFile { path: file.path.clone(), bytes: file.bytes, blocks: Vec::new() });
            }
            if let Some(last) = live.last_mut() {
                last.blocks.extend(unwritten.live.iter().map(|live| narrowed(block, live)));
            }
        }
    }

    /// What a report lists: every live file.
    pub fn live(&self) -> &LiveFiles {
        &self.live
    }

    /// Key groups that should be exported whole at the next checkpoint, for [`crate::stage::StageTask::compact`].
    pub fn compaction(&mut self) -> Vec<(OperatorId, Range<u32>)> {
        let mut asked = Vec::new();
        for (operator, tables) in &self.live {
            let many = tables.values().any(|files| files.len() > COMPACT_FILES);
            let part = self.compacting.get(operator).copied().or(many.then_some(0));
            let Some(part) = part else { continue };
            let span = (self.groups.end - self.groups.start).div_ceil(COMPACT_PARTS).max(1);
            let start = (self.groups.start + part * span).min(self.groups.end);
            let end = (start + span).min(self.groups.end);
            if end < self.groups.end {
                self.compacting.insert(operator.clone(), part + 1);
            } else {
                self.compacting.remove(operator);
            }
            if start < end {
                asked.push((operator.clone(), start..end));
            }
        }
        asked
    }
}

/// Takes the key groups `dead` out of the files' blocks, and drops what is empty then.
fn narrow_files(files: &mut Vec<StateFile>, dead: &Range<u32>) {
    for file in files.iter_mut() {
        file.blocks = file
            .blocks
            .iter()
            .flat_map(|block| {
                let live = u32::from(block.first_group)..u32::from(block.last_group) + 1;
                without(&live, dead).map(|live| narrowed(block, &live)).collect::<Vec<_>>()
            })
            .collect();
    }
    files.retain(|file| !file.blocks.is_empty());
}

/// `range` without `dead`: none, one or two ranges.
fn without(range: &Range<u32>, dead: &Range<u32>) -> impl Iterator<Item = Range<u32>> + use<> {
    let dead = if dead.is_empty() { range.end..range.end } else { dead.clone() };
    let below = range.start..range.end.min(dead.start);
    let above = range.start.max(dead.end)..range.end;
    [below, above].into_iter().filter(|part| !part.is_empty())
}

fn narrowed(block: &Block, live: &Range<u32>) -> Block {
    // Groups are below 2^15, so both ends fit.
    Block { first_group: live.start as u16, last_group: (live.end - 1) as u16, ..block.clone() }
}
