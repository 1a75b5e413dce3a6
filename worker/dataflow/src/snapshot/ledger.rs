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
use rheos_checkpoint::chain;
use rheos_checkpoint::manifest::{Manifest, StateFile};
use rheos_checkpoint::state_file::{StateFileWriter, TARGET_FILE_BYTES};

use super::codec::{self, EncodedBlock};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::OperatorId;

/// Live files by operator and table, oldest first.
pub type LiveFiles = BTreeMap<OperatorId, BTreeMap<String, Vec<StateFile>>>;

/// See the module's documentation. Its user makes one checkpoint durable after the other.
#[derive(Debug)]
pub struct StateLedger {
    groups: Range<u32>,
    live: LiveFiles,
    unwritten: Vec<Unwritten>,
    /// What the checkpoint since [`StateLedger::compaction`] added, by operator.
    added: BTreeMap<OperatorId, Added>,
}

/// One operator's exports at one checkpoint.
#[derive(Debug, Default)]
struct Added {
    /// The key groups that were exported whole.
    whole: Range<u32>,
    /// Bytes of other groups: what changed.
    bytes: u64,
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
                tables.insert(table.clone(), chain::trim(files, &groups));
            }
            live.insert(operator, tables);
        }
        Self { groups, live, unwritten: Vec::new(), added: BTreeMap::new() }
    }

    /// Takes the rows that an operator exported for one table (see [`super::TableExport::encode`]).
    ///
    /// # Errors
    /// When the rows are not what [`codec::encode`] takes.
    pub fn export(&mut self, operator: &OperatorId, table: &str, batches: &[RecordBatch]) -> Result<()> {
        let added = self.added.entry(operator.clone()).or_default();
        for block in codec::encode(batches)? {
            let groups = u32::from(block.first_group)..u32::from(block.last_group) + 1;
            added.bytes += chain::bytes_outside(&groups, block.bytes.len() as u64, &added.whole);
            self.unwritten.push(Unwritten { operator: operator.clone(), table: table.into(), block, live: vec![groups] });
        }
        Ok(())
    }

    /// The operator is about to export these key groups whole, every table: what is known of them is dead. Before the
    /// [`StateLedger::export`]s of the same checkpoint.
    pub fn whole(&mut self, operator: &OperatorId, groups: &Range<u32>) {
        self.added.entry(operator.clone()).or_default().whole = groups.clone();
        for unwritten in self.unwritten.iter_mut().filter(|unwritten| unwritten.operator == *operator) {
            unwritten.live = unwritten.live.iter().flat_map(|live| chain::subtract(live, groups)).collect();
        }
        self.unwritten.retain(|unwritten| !unwritten.live.is_empty());
        for files in self.live.get_mut(operator).into_iter().flat_map(BTreeMap::values_mut) {
            *files = chain::drop_groups(files, groups);
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
                last.blocks.extend(unwritten.live.iter().map(|live| chain::narrow(block, live)));
            }
        }
    }

    /// What a report lists: every live file.
    pub fn live(&self) -> &LiveFiles {
        &self.live
    }

    /// Key groups that should be exported whole at the next checkpoint, for [`crate::stage::StageTask::compact`]; see
    /// [`chain`]. Once a checkpoint, after its exports.
    pub fn compaction(&mut self) -> Vec<(OperatorId, Range<u32>)> {
        let added = std::mem::take(&mut self.added);
        let bytes = |operator| added.get(operator).map_or(0, |added| added.bytes);
        let next = self.live.iter().map(|(operator, tables)| (operator.clone(), chain::next_whole(tables, &self.groups, bytes(operator))));
        next.filter(|(_, groups)| !groups.is_empty()).collect()
    }
}
