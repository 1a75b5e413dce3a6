//! [pure] Aggregates over keyed state: accumulators by key, partial results, retractions, distinct sets.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field};

use crate::error::Result;
use crate::graph::AggregateCall;
use crate::key_group::Subtask;
use crate::snapshot::TableExport;
use crate::state::Slot;

/// What kind of rows a set of accumulators takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Rows only come.
    Insert,
    /// Rows come and go: state is kept so that every aggregate can take a row back.
    Changelog,
}

/// Columns of the partial results of `calls`, after the keys and `__rows`. Calls share columns where they can (the
/// average of `x` is the sum and the count of `x`), so there is no fixed number of columns a call.
#[allow(clippy::todo)]
pub fn partial_fields(_calls: &[AggregateCall]) -> Result<Vec<Field>> {
    todo!()
}

/// The accumulators of a list of aggregate calls for every key.
///
/// Usage: `slots` finds the rows of a batch's keys, `update` (raw rows) or `merge` (partials) takes the batch in,
/// `evaluate` gives results, `partials` gives what `merge` takes.
pub struct Accumulators {}

#[allow(clippy::todo, unused_variables)]
impl Accumulators {
    /// No keys yet. `keys` are the key columns' types; at most [`crate::state::MAX_KEY_COLUMNS`].
    pub fn new(keys: &[DataType], calls: &[AggregateCall], input: Input, subtask: Subtask) -> Result<Self> {
        todo!()
    }

    /// Finds or inserts the accumulators of each key and marks them dirty and touched; `slots` is cleared first.
    pub fn slots(&mut self, keys: &[ArrayRef], hashes: &[u64], slots: &mut Vec<Slot>) -> Result<()> {
        todo!()
    }

    /// The accumulators of each key, or [`crate::state::NO_SLOT`].
    pub fn find(&self, keys: &[ArrayRef], hashes: &[u64], slots: &mut Vec<Slot>) -> Result<()> {
        todo!()
    }

    /// Takes in raw rows: row i of `batch` goes to `slots[i]`, with `signs[i]` (+1 comes, -1 goes; none: all come).
    pub fn update(&mut self, slots: &[Slot], batch: &RecordBatch, signs: Option<&[i64]>) -> Result<()> {
        todo!()
    }

    /// Takes in partials: row i stands for `rows[i]` raw rows; `partials` are columns of [`partial_fields`].
    pub fn merge(&mut self, slots: &[Slot], rows: &[i64], partials: &[ArrayRef]) -> Result<()> {
        todo!()
    }

    /// Raw rows taken in (net), by slot: the `__rows` of partials.
    pub fn rows(&self, slots: &[Slot]) -> Vec<i64> {
        todo!()
    }

    /// Partial results, the columns of [`partial_fields`].
    pub fn partials(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        todo!()
    }

    /// Results, one column a call.
    pub fn evaluate(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        todo!()
    }

    /// Key columns.
    pub fn keys(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        todo!()
    }

    /// Removes the accumulators of a key, with all they hold.
    pub fn remove(&mut self, slot: Slot) {
        todo!()
    }

    /// All keys' slots, in no meaning order.
    pub fn live(&self) -> Vec<Slot> {
        todo!()
    }

    /// Puts slots in an order that depends on their keys only (by hash, so by key group), whatever the order in which
    /// the keys came: what is emitted in this order is the same on every run.
    pub fn sort(&self, slots: &mut Vec<Slot>) {
        todo!()
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Memory held, bytes, estimated.
    pub fn bytes(&self) -> usize {
        todo!()
    }

    /// Forgets everything without a trace; for accumulators that are never exported.
    pub fn clear(&mut self) {
        todo!()
    }

    /// What changed since the last export, and every row of the key groups in `whole`, as tables by name.
    pub fn export(&mut self, whole: &Range<u32>) -> Vec<(String, Box<dyn TableExport>)> {
        todo!()
    }

    /// Loads what was exported (see [`crate::snapshot::OperatorImport::tables`]); into empty accumulators.
    pub fn import(&mut self, tables: &BTreeMap<String, Vec<RecordBatch>>) -> Result<()> {
        todo!()
    }
}
