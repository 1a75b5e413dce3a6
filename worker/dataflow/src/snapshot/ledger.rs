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

use super::codec::{self, EncodedBlock};
use crate::error::Result;
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
    /// A file that is being written: its name, size, and how many of `unwritten` are in it.
    writing: Option<(String, u64, Vec<Block>)>,
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
        Self { groups, live, unwritten: Vec::new(), writing: None, compacting: BTreeMap::new() }
    }

    /// Takes the rows that an operator exported for one table (see [`super::TableExport::encode`]).
    ///
    /// # Errors
    /// When the rows are not what [`codec::encode`] takes.
    pub fn export(&mut self, operator: &OperatorId, table: &str, batches: &[RecordBatch]) -> Result<()> {
        for block in codec::encode(batches)? {
            let live = vec![u32::from(block.first_group)..u32::from(block.last_group) + 1];
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

    /// The file to write under `path`, with everything that is not durable yet; `None` when nothing changed. Follow it
    /// by [`StateLedger::written`], or not, if it failed; then the next file holds it again.
    pub fn file(&mut self, path: &str) -> Option<Vec<u8>> {
        let (mut bytes, mut blocks) = (Vec::new(), Vec::new());
        for Unwritten { block, .. } in &self.unwritten {
            blocks.push(Block {
                first_group: block.first_group,
                last_group: block.last_group,
                offset: bytes.len() as u64,
                length: block.bytes.len() as u64,
                crc: crc32fast::hash(&block.bytes),
                rows: block.rows,
            });
            bytes.extend_from_slice(&block.bytes);
        }
        self.writing = (!blocks.is_empty()).then(|| (path.to_string(), bytes.len() as u64, blocks));
        self.writing.is_some().then_some(bytes)
    }

    /// The file is durable.
    pub fn written(&mut self) {
        let Some((path, bytes, blocks)) = self.writing.take() else { return };
        for (unwritten, block) in self.unwritten.drain(..blocks.len()).zip(blocks) {
            let files = self.live.entry(unwritten.operator).or_default().entry(unwritten.table).or_default();
            if files.last().is_none_or(|file| file.path != path) {
                files.push(StateFile { path: path.clone(), bytes, blocks: Vec::new() });
            }
            if let Some(file) = files.last_mut() {
                file.blocks.extend(unwritten.live.iter().map(|live| narrowed(&block, live)));
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
