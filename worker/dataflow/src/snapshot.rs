//! [pure] What operators export at a checkpoint and import at a restore.
//!
//! State is a set of named tables. A table's rows begin with the columns [`GROUP_COLUMN`] and [`DELETED_COLUMN`], then
//! key columns, then value columns. A later row of the same key replaces an earlier one; a deleted row removes it.

pub mod codec;
pub mod ledger;
pub mod part;
pub mod restore;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::time::Epoch;

/// First column of every state batch: the row's key group (UInt16). Rows of a batch are sorted by it.
pub const GROUP_COLUMN: &str = "__group";
/// Second column of every state batch: true where the key was removed (Boolean).
pub const DELETED_COLUMN: &str = "__deleted";

/// What a snapshot must contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// The epoch that just closed.
    pub epoch: Epoch,
    /// Key groups to export whole (their older files are then dropped: this is compaction). The dirty rows of all
    /// other groups are exported as well. Empty: only what changed. Everything the subtask owns: a savepoint.
    pub whole: Range<u32>,
}

/// One operator's snapshot on one subtask.
pub struct OperatorExport {
    /// Small facts that are not keyed (a window operator's last watermark); merged over subtasks by the operator
    /// itself when it restores. At most 64 KiB.
    pub facts: BTreeMap<String, serde_json::Value>,
    /// The tables, by name; a table without dirty rows may be left out.
    pub tables: Vec<(String, Box<dyn TableExport>)>,
}

impl std::fmt::Debug for OperatorExport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorExport")
            .field("facts", &self.facts)
            .field("tables", &self.tables.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .finish()
    }
}

/// A table's exported rows: immutable buffers (copy-on-write), encoded off the worker thread.
pub trait TableExport: Send {
    /// The rows, sorted by key group, in batches of at most 65,536 rows. Empty when nothing changed.
    fn encode(self: Box<Self>) -> Result<Vec<RecordBatch>>;
}

/// What a checkpoint holds for one operator on one subtask.
#[derive(Debug, Default)]
pub struct OperatorImport {
    /// The facts of every subtask of the operator at the checkpoint, in no meaning order.
    pub facts: Vec<BTreeMap<String, serde_json::Value>>,
    /// The rows by table.
    pub tables: BTreeMap<String, TableImport>,
}

/// The rows of a table, in state batches, oldest first; read and decoded while they are taken. They may be of key
/// groups that the subtask does not own: skip them by [`GROUP_COLUMN`].
pub struct TableImport {
    rows: usize,
    batches: Box<dyn Iterator<Item = Result<RecordBatch>> + Send>,
}

impl TableImport {
    /// `rows` is how many there are, about: what to make room for.
    pub fn new(rows: usize, batches: impl Iterator<Item = Result<RecordBatch>> + Send + 'static) -> Self {
        Self { rows, batches: Box::new(batches) }
    }

    /// Tables that are in memory already.
    pub fn of_tables(tables: &BTreeMap<String, Vec<RecordBatch>>) -> BTreeMap<String, Self> {
        tables.iter().map(|(name, batches)| (name.clone(), batches.clone().into())).collect()
    }

    /// About how many rows there are in all.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

impl Default for TableImport {
    fn default() -> Self {
        Self::new(0, std::iter::empty())
    }
}

impl From<Vec<RecordBatch>> for TableImport {
    fn from(batches: Vec<RecordBatch>) -> Self {
        Self::new(batches.iter().map(RecordBatch::num_rows).sum(), batches.into_iter().map(Ok))
    }
}

impl Iterator for TableImport {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.next()
    }
}

impl std::fmt::Debug for TableImport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableImport").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// Progress of one split of a source, in the checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitState {
    /// Which split, and its place in the order of discovery.
    pub assignment: crate::source::SplitAssignment,
    /// Where to read on; the connector's own form. `None`: not begun, or nothing worth keeping of a split that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<serde_json::Value>,
    /// Its end was reached.
    pub finished: bool,
    /// Largest watermark that it gave, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<i64>,
}
