//! [pure] Unbounded aggregation by key: keeps accumulators, emits what changed as a change-log.
//!
//! Reads partials of the local phase, or raw rows (a change-log or not). At the end of an epoch each key whose result
//! changed gives exactly one change, whatever happened to it within the epoch:
//!
//! | rows before | rows after | result | emitted |
//! |---|---|---|---|
//! | 0 | > 0 | | `+I` |
//! | > 0 | > 0 | differs | `-U`, `+U` |
//! | > 0 | > 0 | equal | nothing |
//! | > 0 | 0 | | `-D`, and the key's state goes |
//! | 0 | 0 | | nothing |
//!
//! Invariants:
//! - The changes of an epoch come in the canonical order of their keys: the output is a function of the input's rows.
//! - A key whose rows were taken back more often than they came (a broken change-log) counts as absent, and its state
//!   stays until the balance is 0.
//! - Without grouping columns all rows are one key; as in Flink nothing is emitted before the first row, and a `-D`
//!   when the last row goes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt8Array, UInt32Array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{interleave, or, take};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, UInt8Type};

use crate::aggregate::{Accumulators, Input, Touched};
use crate::changelog::RowKind;
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::GroupAggregateSpec;
use crate::hash::hash_columns;
use crate::key_group::Subtask;
use crate::operator::{MAX_BATCH_ROWS, Operator, OperatorStats, Output, Progress};
use crate::snapshot::{OperatorExport, OperatorImport, SnapshotRequest};
use crate::state::Slot;
use crate::time::EpochEnd;

/// Groups that one call emits: each gives two rows at most.
const GROUPS_PER_CALL: usize = MAX_BATCH_ROWS / 2;

/// See the module's documentation.
pub struct GroupAggregate {
    title: String,
    keys: Vec<usize>,
    two_phase: bool,
    input_changelog: bool,
    schema: SchemaRef,
    groups: Accumulators,
    /// The epoch's changed groups, and how many of them are emitted.
    emitting: Option<(Touched, usize)>,
    columns: Vec<ArrayRef>,
    hashes: Vec<u64>,
    slots: Vec<Slot>,
}

/// The changes of some groups, before they are columns.
#[derive(Default)]
struct Changes {
    kinds: Vec<u8>,
    /// Which group of the block.
    groups: Vec<u32>,
    /// Result before (0) or after (1), and which row of it.
    results: Vec<(usize, usize)>,
}

impl Changes {
    fn push(&mut self, kind: RowKind, group: usize) {
        let after = matches!(kind, RowKind::Insert | RowKind::UpdateAfter);
        self.kinds.push(kind as u8);
        self.groups.push(group as u32);
        self.results.push((usize::from(after), group));
    }
}

impl GroupAggregate {
    /// The aggregation `spec` over rows or partials of `input`; `schema` is that of the change-log it emits.
    ///
    /// # Errors
    /// `User` for keys or arguments of a type that cannot be one.
    pub fn new(title: String, spec: &GroupAggregateSpec, input: &SchemaRef, schema: &SchemaRef, subtask: Subtask) -> Result<Self> {
        let types: Vec<DataType> = spec.keys.iter().map(|key| input.field(*key).data_type().clone()).collect();
        let kind = if spec.input_changelog { Input::Changelog } else { Input::Insert };
        let mut groups = Accumulators::new(&types, &spec.calls, kind, subtask)?;
        groups.track();
        Ok(Self {
            title,
            keys: spec.keys.clone(),
            two_phase: spec.two_phase,
            input_changelog: spec.input_changelog,
            schema: Arc::clone(schema),
            groups,
            emitting: None,
            columns: Vec::new(),
            hashes: Vec::new(),
            slots: Vec::new(),
        })
    }

    fn merge(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows_column = self.keys.len();
        let rows = batch.columns().get(rows_column).and_then(|rows| rows.as_primitive_opt::<Int64Type>());
        let Some(rows) = rows.filter(|rows| rows.null_count() == 0) else {
            return Err(self.bug(&format!("column {rows_column} of the partials is not a plain Int64")));
        };
        self.groups.merge(&self.slots, rows.values(), &batch.columns()[rows_column + 1..])
    }

    fn update(&mut self, batch: &RecordBatch) -> Result<()> {
        if !self.input_changelog {
            return self.groups.update(&self.slots, batch, None);
        }
        let kinds = batch.columns().last().and_then(|kinds| kinds.as_primitive_opt::<UInt8Type>());
        let kinds = kinds.ok_or_else(|| self.bug("the change-log's last column is not a row kind"))?;
        let sign = |kind: &u8| RowKind::from_u8(*kind).map(RowKind::sign);
        let signs: Option<Vec<i64>> = kinds.values().iter().map(sign).collect();
        let signs = signs.ok_or_else(|| self.bug("a row kind is none of +I -U +U -D"))?;
        self.groups.update(&self.slots, batch, Some(&signs))
    }

    /// Emits the changes of the next groups.
    fn emit(&mut self, touched: &Touched, from: usize, to: usize, out: &mut Output) -> Result<()> {
        let slots = &touched.slots[from..to];
        let (rows_before, before) = self.groups.before(touched, from..to)?;
        let rows_after = self.groups.rows(slots);
        let after = self.groups.evaluate(slots)?;
        let differs = differing(&before, &after, slots.len())?;
        let mut changes = Changes::default();
        for group in 0..slots.len() {
            match (rows_before[group] > 0, rows_after[group] > 0) {
                (false, true) => changes.push(RowKind::Insert, group),
                (true, true) if differs.value(group) => {
                    changes.push(RowKind::UpdateBefore, group);
                    changes.push(RowKind::UpdateAfter, group);
                }
                (true, false) => changes.push(RowKind::Delete, group),
                _ => {}
            }
        }
        out.emit(self.batch(slots, changes, &before, &after)?);
        for (slot, rows) in slots.iter().zip(rows_after) {
            if rows == 0 {
                self.groups.remove(*slot);
            }
        }
        Ok(())
    }

    fn batch(&self, slots: &[Slot], changes: Changes, before: &[ArrayRef], after: &[ArrayRef]) -> Result<RecordBatch> {
        let groups = UInt32Array::from(changes.groups);
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for key in self.groups.keys(slots)? {
            columns.push(take(&key, &groups, None)?);
        }
        for (before, after) in before.iter().zip(after) {
            columns.push(interleave(&[before.as_ref(), after.as_ref()], &changes.results)?);
        }
        columns.push(Arc::new(UInt8Array::from(changes.kinds)));
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| self.bug(&error.to_string()))
    }

    fn bug(&self, message: &str) -> DataflowError {
        DataflowError::new(self.title.clone(), ErrorKind::Bug, message)
    }
}

/// Where any of the columns differ; two nulls are equal.
fn differing(before: &[ArrayRef], after: &[ArrayRef], rows: usize) -> Result<BooleanArray> {
    let mut differs = BooleanArray::from(vec![false; rows]);
    for (before, after) in before.iter().zip(after) {
        differs = or(&differs, &distinct(before, after)?)?;
    }
    Ok(differs)
}

impl Operator for GroupAggregate {
    fn on_batch(&mut self, _port: usize, batch: &RecordBatch, _out: &mut Output) -> Result<Progress> {
        self.columns.clear();
        self.columns.extend(self.keys.iter().map(|key| Arc::clone(batch.column(*key))));
        hash_columns(&self.columns, batch.num_rows(), &mut self.hashes)?;
        self.groups.slots(&self.columns, &self.hashes, &mut self.slots)?;
        if self.two_phase {
            self.merge(batch)?
        } else {
            self.update(batch)?
        }
        Ok(Progress::Done)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let Some((touched, from)) = self.emitting.take() else { return Ok(Progress::Done) };
        let to = touched.slots.len().min(from + GROUPS_PER_CALL);
        self.emit(&touched, from, to, out)?;
        if to == touched.slots.len() {
            return Ok(Progress::Done);
        }
        self.emitting = Some((touched, to));
        Ok(Progress::More)
    }

    fn on_epoch_end(&mut self, _end: &EpochEnd, out: &mut Output) -> Result<Progress> {
        let touched = self.groups.take_touched();
        if touched.slots.is_empty() {
            return Ok(Progress::Done);
        }
        self.groups.settle(&touched.slots)?;
        self.emitting = Some((touched, 0));
        self.resume(out)
    }

    fn snapshot(&mut self, request: &SnapshotRequest) -> Option<OperatorExport> {
        Some(OperatorExport { facts: Default::default(), tables: self.groups.export(&request.whole) })
    }

    fn restore(&mut self, import: OperatorImport) -> Result<()> {
        self.groups.import(import.tables)
    }

    fn stats(&self) -> OperatorStats {
        OperatorStats { late_rows: 0, state_keys: self.groups.len() as u64, state_bytes: self.groups.bytes() as u64 }
    }
}

#[cfg(test)]
mod tests;
