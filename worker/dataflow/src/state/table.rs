//! [pure] `KeyedTable`: rows of 64-bit words found by key.

use std::ops::Range;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field};

use super::Slot;
use crate::error::Result;
use crate::key_group::Subtask;
use crate::snapshot::TableExport;

/// Rows `key columns -> value columns`, found by key; dirty rows are tracked for incremental snapshots.
///
/// Timers and other plain keyed state use it as it is; aggregates use [`crate::aggregate::Accumulators`], which is a
/// table whose value columns are accumulators.
pub struct KeyedTable {}

#[allow(clippy::todo, unused_variables)]
impl KeyedTable {
    /// An empty table. Value columns may be of the same types as keys and start out as null.
    pub fn new(keys: &[DataType], values: &[Field], subtask: Subtask) -> Result<Self> {
        todo!()
    }

    /// Finds or inserts the row of each key and marks it dirty; `slots` is cleared first. `hashes` are those of
    /// [`crate::hash::hash_columns`] over the same columns.
    pub fn slots(&mut self, keys: &[ArrayRef], hashes: &[u64], slots: &mut Vec<Slot>) -> Result<()> {
        todo!()
    }

    /// The row of each key, or [`super::NO_SLOT`]; marks nothing. `slots` is cleared first.
    pub fn find(&self, keys: &[ArrayRef], hashes: &[u64], slots: &mut Vec<Slot>) -> Result<()> {
        todo!()
    }

    /// Key columns of these rows.
    pub fn keys(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        todo!()
    }

    /// Value column `column` of these rows.
    pub fn values(&self, column: usize, slots: &[Slot]) -> Result<ArrayRef> {
        todo!()
    }

    /// Overwrites value column `column` of these rows and marks them dirty.
    pub fn set_values(&mut self, column: usize, slots: &[Slot], values: &ArrayRef) -> Result<()> {
        todo!()
    }

    /// Removes a row; its slot may be given to another key later.
    pub fn remove(&mut self, slot: Slot) {
        todo!()
    }

    /// The rows there are, in the order of their slots.
    pub fn live(&self) -> Vec<Slot> {
        todo!()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Memory held, bytes, estimated.
    pub fn bytes(&self) -> usize {
        todo!()
    }

    /// Removes all rows without a trace; for tables that are never exported.
    pub fn clear(&mut self) {
        todo!()
    }

    /// What changed since the last export, and every row of the key groups in `whole`. Costs O(chunks), copies no row.
    pub fn export(&mut self, whole: &Range<u32>) -> Box<dyn TableExport> {
        todo!()
    }

    /// Loads exported batches, oldest first; rows of key groups that this subtask does not own are skipped.
    pub fn import(&mut self, batches: &[RecordBatch]) -> Result<()> {
        todo!()
    }
}
