//! [pure] Aggregates over keyed state: accumulators by key, partial results, retractions, distinct sets.
//!
//! ```text
//! plan     calls -> accumulators, sets, results      inputs  a batch's columns as words and masks
//! steps    the inner loops over rows                 values  sets of values by group
//! finish   accumulators -> result columns            exact   float sums without rounding
//! ```
//!
//! Invariants: nothing depends on the order in which rows or partials come, to the bit; a group's row in state and its
//! partial have the same columns, so merging partials is the only way that states meet.

mod exact;
mod finish;
mod inputs;
mod plan;
mod steps;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field};

use self::inputs::Inputs;
use self::plan::{AggregatePlan, ROWS, Step};
use self::steps::{BLOCK_ROWS, Prepared};
use self::values::ValueSet;
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::AggregateCall;
use crate::key_group::Subtask;
use crate::snapshot::{TableExport, TableImport};
use crate::state::rows::{Layout, Rows};
use crate::state::{KeyedTable, Slot};

/// Name of the exported table of the groups' rows; sets of values are `values0`, `values1`, …
const GROUPS_TABLE: &str = "groups";

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
pub fn partial_fields(calls: &[AggregateCall]) -> Result<Vec<Field>> {
    Ok(AggregatePlan::new(calls, Input::Insert)?.partial_fields())
}

/// The accumulators of a list of aggregate calls for every key.
///
/// Usage: `slots` finds the rows of a batch's keys, `update` (raw rows) or `merge` (partials) takes the batch in,
/// `evaluate` gives results, `partials` gives what `merge` takes.
pub struct Accumulators {
    plan: AggregatePlan,
    groups: KeyedTable,
    sets: Vec<ValueSet>,
    input: Input,
}

/// The groups that changed in an epoch (see [`Accumulators::take_touched`]).
pub(crate) struct Touched {
    /// In the canonical order.
    pub(crate) slots: Vec<Slot>,
    /// Their accumulators before the epoch, in the same order.
    before: Rows,
}

impl Accumulators {
    /// No keys yet. `keys` are the key columns' types; at most [`crate::state::MAX_KEY_COLUMNS`].
    ///
    /// Errors: a call over a type that its function does not take.
    pub fn new(keys: &[DataType], calls: &[AggregateCall], input: Input, subtask: Subtask) -> Result<Self> {
        let plan = AggregatePlan::new(calls, input)?;
        let layout = Layout::new(keys, &plan.values())?;
        let set = |number| ValueSet::new(&plan, number, &layout, input, subtask);
        let sets = (0..plan.sets.len()).map(set).collect::<Result<Vec<_>>>()?;
        Ok(Self { groups: KeyedTable::with_layout(layout, subtask), plan, sets, input })
    }

    /// From now on keeps track of the groups that change, for [`Self::take_touched`].
    pub(crate) fn track(&mut self) {
        self.groups.track();
    }

    /// Finds or inserts the accumulators of each key and marks them dirty; `slots` is cleared first. `hashes` are
    /// those of [`crate::hash::hash_columns`] over the same columns.
    pub fn slots(&mut self, keys: &[ArrayRef], hashes: &[u64], slots: &mut Vec<Slot>) -> Result<()> {
        self.groups.slots(keys, hashes, slots)
    }

    /// The accumulators of each key, or [`crate::state::NO_SLOT`].
    pub fn find(&self, keys: &[ArrayRef], hashes: &[u64], slots: &mut Vec<Slot>) -> Result<()> {
        self.groups.find(keys, hashes, slots)
    }

    /// Accumulators of `rows` rows, each its own group without a key, for an empty object that is cleared afterwards:
    /// the way to turn raw rows into partials without looking keys up.
    pub fn append(&mut self, rows: usize, slots: &mut Vec<Slot>) {
        self.groups.append(rows, slots);
    }

    /// Takes in raw rows: row i of `batch` goes to `slots[i]`, with `signs[i]` (+1 comes, -1 goes; none: all come).
    pub fn update(&mut self, slots: &[Slot], batch: &RecordBatch, signs: Option<&[i64]>) -> Result<()> {
        if slots.len() != batch.num_rows() || signs.is_some_and(|signs| signs.len() != slots.len()) {
            return Err(DataflowError::new("aggregate", ErrorKind::Bug, "slots, rows and signs differ in number"));
        }
        let mut inputs = Inputs::new(batch);
        let by_set = |step: Step| matches!(step, Step::Extreme { .. }) && self.input == Input::Changelog;
        let mut steps = Vec::with_capacity(self.plan.plain);
        for (i, accumulator) in self.plan.accumulators[..self.plan.plain].iter().enumerate() {
            if !by_set(accumulator.step) {
                steps.push(Prepared::new(accumulator, self.groups.layout.values[i].at, &mut inputs)?);
            }
        }
        for start in (0..slots.len()).step_by(BLOCK_ROWS) {
            let range = start..slots.len().min(start + BLOCK_ROWS);
            for step in &steps {
                step.update(&mut self.groups, slots, signs, range.clone())?;
            }
        }
        for set in &mut self.sets {
            set.update(&mut self.groups, slots, &mut inputs, signs)?;
        }
        Ok(())
    }

    /// Takes in partials: row i stands for `rows[i]` raw rows; `partials` are columns of [`partial_fields`].
    pub fn merge(&mut self, slots: &[Slot], rows: &[i64], partials: &[ArrayRef]) -> Result<()> {
        let plain = self.plan.plain - 1;
        if partials.len() != plain + self.sets.len() || rows.len() != slots.len() {
            let message = format!("{} partial columns, the plan has {}", partials.len(), plain + self.sets.len());
            return Err(DataflowError::new("aggregate", ErrorKind::Bug, message));
        }
        let rows_at = self.groups.layout.values[ROWS].at;
        slots.iter().zip(rows).for_each(|(slot, rows)| steps::add(self.groups.word_mut(*slot, rows_at), *rows));
        for (i, column) in partials[..plain].iter().enumerate() {
            let at = self.groups.layout.values[i + 1].at;
            steps::merge(&self.plan.accumulators[i + 1], at, &mut self.groups, slots, column)?;
        }
        for (set, column) in self.sets.iter_mut().zip(&partials[plain..]) {
            set.merge(&mut self.groups, slots, column)?;
        }
        Ok(())
    }

    /// Raw rows taken in (net), by slot: the `__rows` of partials.
    pub fn rows(&self, slots: &[Slot]) -> Vec<i64> {
        let at = self.groups.layout.values[ROWS].at;
        slots.iter().map(|slot| self.groups.word(*slot, at) as i64).collect()
    }

    /// Partial results, the columns of [`partial_fields`].
    pub fn partials(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let layout = &self.groups.layout;
        let block = self.groups.gather(slots);
        let mut columns = layout.arrays(&layout.values[1..self.plan.plain], &block)?;
        for set in &self.sets {
            columns.push(set.partials(&self.groups, slots)?);
        }
        Ok(columns)
    }

    /// Results, one column a call. After change-log input: as of the last [`Self::settle`] of these groups.
    pub fn evaluate(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        self.finish(&self.groups.gather(slots))
    }

    /// Key columns and results of these groups, from one pass over their rows.
    pub(crate) fn results(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let block = self.groups.gather(slots);
        let layout = &self.groups.layout;
        let mut columns = layout.arrays(&layout.keys, &block)?;
        columns.extend(self.finish(&block)?);
        Ok(columns)
    }

    /// Key columns, `__rows` and partials of these groups, from one pass over their rows.
    pub(crate) fn contents(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let block = self.groups.gather(slots);
        let layout = &self.groups.layout;
        let mut columns = layout.arrays(&layout.keys, &block)?;
        columns.extend(layout.arrays(&layout.values[..self.plan.plain], &block)?);
        for set in &self.sets {
            columns.push(set.partials(&self.groups, slots)?);
        }
        Ok(columns)
    }

    fn finish(&self, block: &Rows) -> Result<Vec<ArrayRef>> {
        self.plan.finishes.iter().map(|finish| finish.evaluate(&self.groups.layout, block)).collect()
    }

    /// Brings the extremes of these groups up to date; needed before `evaluate` when the input is a change-log.
    pub fn settle(&mut self, slots: &[Slot]) -> Result<()> {
        for set in &self.sets {
            set.settle_extremes(&mut self.groups, slots, &self.plan.accumulators)?;
        }
        Ok(())
    }

    /// Key columns.
    pub fn keys(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        self.groups.keys(slots)
    }

    /// The groups that changed since this was called last, in the canonical order of [`Self::sort`].
    pub(crate) fn take_touched(&mut self) -> Touched {
        let (slots, before) = self.groups.take_touched();
        Touched { slots, before }
    }

    /// Rows and results that groups `range` of the touched ones had before.
    pub(crate) fn before(&self, touched: &Touched, range: Range<usize>) -> Result<(Vec<i64>, Vec<ArrayRef>)> {
        let layout = &self.groups.layout;
        let mut block = Rows::default();
        for i in range {
            block.push_copy(layout, &touched.before, i * layout.stride, 0);
        }
        let at = layout.values[ROWS].at;
        let rows = block.words.chunks_exact(layout.stride).map(|row| row[at] as i64).collect();
        Ok((rows, self.finish(&block)?))
    }

    /// Removes the accumulators of a key, with all they hold.
    pub fn remove(&mut self, slot: Slot) {
        for set in &mut self.sets {
            set.remove(&self.groups, slot);
        }
        self.groups.remove(slot);
    }

    /// All keys' slots, in the order of their numbers.
    pub fn live(&self) -> Vec<Slot> {
        self.groups.live()
    }

    /// Puts slots in an order that depends on their keys only (by key group, hash and key), whatever the order in
    /// which the keys came: what is emitted in this order is the same on every run.
    pub fn sort(&self, slots: &mut [Slot]) {
        self.groups.sort(slots);
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Keys, and values in sets.
    pub fn entries(&self) -> usize {
        self.groups.len() + self.sets.iter().map(ValueSet::len).sum::<usize>()
    }

    /// Values behind a group on average, the group itself included; at least 1.
    pub(crate) fn weight(&self) -> usize {
        self.entries().checked_div(self.len()).unwrap_or(1).max(1)
    }

    /// Memory held, bytes, estimated.
    pub fn bytes(&self) -> usize {
        self.groups.bytes() + self.sets.iter().map(ValueSet::bytes).sum::<usize>()
    }

    /// Forgets everything without a trace; for accumulators that are never exported.
    pub fn clear(&mut self) {
        self.groups.clear();
        self.sets.iter_mut().for_each(ValueSet::clear);
    }

    /// What changed since the last export, and every row of the key groups in `whole`, as tables by name.
    pub fn export(&mut self, whole: &Range<u32>) -> Vec<(String, Box<dyn TableExport>)> {
        let mut tables = vec![(GROUPS_TABLE.to_owned(), self.groups.export(whole))];
        for (i, set) in self.sets.iter_mut().enumerate() {
            tables.push((format!("values{i}"), set.export(&mut self.groups, whole)));
        }
        tables
    }

    /// Loads what was exported (see [`crate::snapshot::OperatorImport::tables`]); into empty accumulators.
    ///
    /// Errors: batches of another plan.
    pub fn import(&mut self, mut tables: BTreeMap<String, TableImport>) -> Result<()> {
        let mut rows = |name: &str| tables.remove(name).unwrap_or_default();
        self.groups.import(rows(GROUPS_TABLE))?;
        for (i, set) in self.sets.iter_mut().enumerate() {
            set.import(&mut self.groups, rows(&format!("values{i}")))?;
        }
        Ok(())
    }
}
