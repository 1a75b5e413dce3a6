//! [pure] First phase of an unbounded aggregation: partial aggregates by key, before the exchange.
//!
//! Invariants:
//! - Holds nothing between epochs: what came in an epoch goes out when it closes, or before when there are many keys.
//! - What is emitted depends on batch boundaries, but its merge does not: partials are order-free.
//! - Keys that hardly repeat are not worth looking up: after an epoch that did not reduce its rows, rows become
//!   partials of one row each for [`PASS_EPOCHS`] epochs; then the ratio is measured again.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};

use crate::aggregate::{Accumulators, Input};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::GroupAggregateSpec;
use crate::hash::hash_columns;
use crate::key_group::Subtask;
use crate::operator::{MAX_BATCH_ROWS, Operator, Output, Progress};
use crate::state::Slot;
use crate::time::EpochEnd;

/// Keys and distinct values held before an early flush: what a worker's tables may take of the processor's cache.
pub const MAX_LOCAL_ENTRIES: usize = 65_536;
/// Bytes held before an early flush.
pub const MAX_LOCAL_BYTES: usize = 64 << 20;
/// Rows of an epoch below which its ratio says nothing.
pub const MIN_MEASURED_ROWS: u64 = 4_096;
/// An epoch that emits more than this share of its rows (percent) did not reduce them.
pub const MAX_KEPT_PERCENT: u64 = 70;
/// Epochs that pass rows through after one that did not reduce them.
pub const PASS_EPOCHS: u32 = 31;

/// See the module's documentation.
pub struct LocalGroupAggregate {
    title: String,
    keys: Vec<usize>,
    schema: SchemaRef,
    groups: Accumulators,
    /// Groups that are being emitted, and how many are.
    flush: Option<(Vec<Slot>, usize)>,
    /// Rows in and partials out of the open epoch, as far as they were grouped.
    rows_in: u64,
    rows_out: u64,
    /// Epochs that still pass rows through.
    passing: u32,
    columns: Vec<ArrayRef>,
    hashes: Vec<u64>,
    slots: Vec<Slot>,
}

impl LocalGroupAggregate {
    /// The first phase of `spec` over rows of `input`; `schema` is that of the partials.
    ///
    /// # Errors
    /// `User` for keys or arguments of a type that cannot be one.
    pub fn new(title: String, spec: &GroupAggregateSpec, input: &SchemaRef, schema: &SchemaRef, subtask: Subtask) -> Result<Self> {
        let types: Vec<DataType> = spec.keys.iter().map(|key| input.field(*key).data_type().clone()).collect();
        Ok(Self {
            groups: Accumulators::new(&types, &spec.calls, Input::Insert, subtask)?,
            title,
            keys: spec.keys.clone(),
            schema: Arc::clone(schema),
            flush: None,
            rows_in: 0,
            rows_out: 0,
            passing: 0,
            columns: Vec::new(),
            hashes: Vec::new(),
            slots: Vec::new(),
        })
    }

    /// Rows as partials of one row each.
    fn pass(&mut self, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        for start in (0..batch.num_rows()).step_by(MAX_BATCH_ROWS) {
            let rows = batch.slice(start, MAX_BATCH_ROWS.min(batch.num_rows() - start));
            self.groups.append(rows.num_rows(), &mut self.slots);
            self.groups.update(&self.slots, &rows, None)?;
            let keys = self.keys.iter().map(|key| Arc::clone(rows.column(*key))).collect();
            out.emit(self.partials(keys, &self.slots)?);
            self.groups.clear();
        }
        Ok(())
    }

    fn flush(&mut self, out: &mut Output) -> Result<Progress> {
        let slots = self.groups.live();
        self.rows_out += slots.len() as u64;
        self.flush = Some((slots, 0));
        self.resume(out)
    }

    fn partials(&self, mut columns: Vec<ArrayRef>, slots: &[Slot]) -> Result<RecordBatch> {
        columns.push(Arc::new(Int64Array::from(self.groups.rows(slots))));
        columns.extend(self.groups.partials(slots)?);
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| DataflowError::new(self.title.clone(), ErrorKind::Bug, error))
    }
}

impl Operator for LocalGroupAggregate {
    fn on_batch(&mut self, _port: usize, batch: &RecordBatch, out: &mut Output) -> Result<Progress> {
        if batch.num_rows() == 0 {
            return Ok(Progress::Done);
        }
        if self.passing > 0 {
            self.pass(batch, out)?;
            return Ok(Progress::Done);
        }
        self.rows_in += batch.num_rows() as u64;
        self.columns.clear();
        self.columns.extend(self.keys.iter().map(|key| Arc::clone(batch.column(*key))));
        hash_columns(&self.columns, batch.num_rows(), &mut self.hashes)?;
        self.groups.slots(&self.columns, &self.hashes, &mut self.slots)?;
        self.groups.update(&self.slots, batch, None)?;
        if self.groups.entries() >= MAX_LOCAL_ENTRIES || self.groups.bytes() >= MAX_LOCAL_BYTES {
            return self.flush(out);
        }
        Ok(Progress::Done)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let Some((slots, emitted)) = self.flush.take() else { return Ok(Progress::Done) };
        let next = slots.len().min(emitted + MAX_BATCH_ROWS);
        let piece = &slots[emitted..next];
        out.emit(self.partials(self.groups.keys(piece)?, piece)?);
        if next == slots.len() {
            self.groups.clear();
            return Ok(Progress::Done);
        }
        self.flush = Some((slots, next));
        Ok(Progress::More)
    }

    fn on_epoch_end(&mut self, _end: &EpochEnd, out: &mut Output) -> Result<Progress> {
        if self.passing > 0 {
            self.passing -= 1;
            return Ok(Progress::Done);
        }
        let progress = if self.groups.is_empty() { Progress::Done } else { self.flush(out)? };
        if self.rows_in >= MIN_MEASURED_ROWS && self.rows_out * 100 > self.rows_in * MAX_KEPT_PERCENT {
            self.passing = PASS_EPOCHS;
        }
        (self.rows_in, self.rows_out) = (0, 0);
        Ok(progress)
    }
}
