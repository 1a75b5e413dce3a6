//! [pure] First phase of a windowed aggregation: partial aggregates by (keys, slice), before the exchange.
//!
//! Invariants:
//! - Holds nothing between epochs: what came in an epoch goes out when it closes, or before when there are many keys.
//! - What is emitted depends on batch boundaries, but its merge does not: partials are order-free.
//! - Where keys hardly repeat within an epoch, looking them up here only doubles the work of the second phase: rows then
//!   pass as partials of one row each for some epochs, until the next sample.
//!
//! Not here: lateness, which only the second phase knows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};

use super::event_time::{EventTimes, check_time_column, event_times};
use crate::aggregate::{Accumulators, Input};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::WindowAggregateSpec;
use crate::hash::hash_columns;
use crate::key_group::Subtask;
use crate::operator::{MAX_BATCH_ROWS, Operator, Output, Progress};
use crate::state::Slot;
use crate::time::{EpochEnd, Millis};
use crate::window::Grid;

/// Keys held before an early flush: what the tables of one worker may take of the processor's cache.
pub const MAX_LOCAL_KEYS: usize = 65_536;
/// Bytes held before an early flush.
pub const MAX_LOCAL_BYTES: usize = 64 << 20;

/// Rows that show whether keys repeat.
const SAMPLE_ROWS: usize = 4_096;
/// Keys in 100 rows of a sample from which on rows pass without being grouped.
const PASS_KEYS_PERCENT: usize = 80;
/// Epochs that rows pass until the next sample.
const PASS_EPOCHS: u32 = 64;

/// See the module's documentation.
pub struct LocalWindowAggregate {
    title: String,
    keys: Vec<usize>,
    time: usize,
    slices: Grid,
    schema: SchemaRef,
    /// By (keys, slice end).
    groups: Accumulators,
    /// Rows in `groups`.
    rows: usize,
    /// Epochs that rows still pass without being grouped.
    passing: u32,
    flush: Option<Flush>,
    columns: Vec<ArrayRef>,
    hashes: Vec<u64>,
    slots: Vec<Slot>,
    /// The last batch's slice ends, when they were all the same.
    ends: Int64Array,
}

/// Groups that are being emitted.
struct Flush {
    slots: Vec<Slot>,
    emitted: usize,
    /// Groups of one batch: fewer where sets of values hang on them.
    piece: usize,
}

impl LocalWindowAggregate {
    /// The first phase of `spec` over rows of `input`; `schema` is that of the partials.
    ///
    /// # Errors
    /// `User` for a window that [`crate::graph::Window::validate`] refuses or keys of a type that cannot be one.
    pub fn new(title: String, spec: &WindowAggregateSpec, input: &SchemaRef, schema: &SchemaRef, subtask: Subtask) -> Result<Self> {
        spec.window.validate().map_err(|message| DataflowError::new(title.clone(), ErrorKind::User, message))?;
        check_time_column(input, spec.time, &title)?;
        let mut types: Vec<DataType> = spec.keys.iter().map(|key| input.field(*key).data_type().clone()).collect();
        types.push(DataType::Int64);
        Ok(Self {
            groups: Accumulators::new(&types, &spec.calls, Input::Insert, subtask)?,
            title,
            keys: spec.keys.clone(),
            time: spec.time,
            slices: spec.window.slices(),
            schema: Arc::clone(schema),
            rows: 0,
            passing: 0,
            flush: None,
            columns: Vec::new(),
            hashes: Vec::new(),
            slots: Vec::new(),
            ends: Int64Array::from(Vec::<Millis>::new()),
        })
    }

    /// The end of each row's slice. Rows of a batch mostly share one, so divide only where that is not so.
    fn slice_ends(&mut self, times: &EventTimes<'_>) -> ArrayRef {
        let rows = times.values.len();
        let end = self.slices.next(times.min);
        if times.max < end {
            if self.ends.len() < rows || self.ends.value(0) != end {
                self.ends = Int64Array::from(vec![end; rows.max(MAX_BATCH_ROWS)]);
            }
            return Arc::new(self.ends.slice(0, rows));
        }
        let mut slice = end - self.slices.width..end;
        let ends = times.values.iter().map(|time| {
            if !slice.contains(time) {
                let end = self.slices.next(*time);
                slice = end - self.slices.width..end;
            }
            slice.end
        });
        Arc::new(Int64Array::from_iter_values(ends))
    }

    /// Rows as partials of their own.
    fn pass(&mut self, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        self.groups.append(batch.num_rows(), &mut self.slots);
        self.groups.update(&self.slots, batch, None)?;
        for (n, slots) in self.slots.chunks(MAX_BATCH_ROWS).enumerate() {
            let mut columns: Vec<ArrayRef> = self.columns.iter().map(|column| column.slice(n * MAX_BATCH_ROWS, slots.len())).collect();
            columns.push(Arc::new(Int64Array::from(self.groups.rows(slots))));
            columns.extend(self.groups.partials(slots)?);
            out.emit(self.batch(columns)?);
        }
        self.groups.clear();
        Ok(())
    }

    fn flush(&mut self, out: &mut Output) -> Result<Progress> {
        if self.rows >= SAMPLE_ROWS && self.groups.len() * 100 >= self.rows * PASS_KEYS_PERCENT {
            self.passing = PASS_EPOCHS;
        }
        self.rows = 0;
        let slots = self.groups.live();
        let piece = (MAX_BATCH_ROWS / self.groups.weight()).max(1);
        self.flush = Some(Flush { slots, emitted: 0, piece });
        self.resume(out)
    }

    fn batch(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| DataflowError::new(self.title.clone(), ErrorKind::Bug, error))
    }
}

impl Operator for LocalWindowAggregate {
    fn on_batch(&mut self, _port: usize, batch: &RecordBatch, out: &mut Output) -> Result<Progress> {
        if batch.num_rows() == 0 {
            return Ok(Progress::Done);
        }
        let times = event_times(batch, self.time, &self.title)?;
        let ends = self.slice_ends(&times);
        self.columns.clear();
        self.columns.extend(self.keys.iter().map(|key| Arc::clone(batch.column(*key))));
        self.columns.push(ends);
        if self.passing > 0 {
            self.pass(batch, out)?;
            return Ok(Progress::Done);
        }
        self.rows += batch.num_rows();
        hash_columns(&self.columns, batch.num_rows(), &mut self.hashes)?;
        self.groups.slots(&self.columns, &self.hashes, &mut self.slots)?;
        self.groups.update(&self.slots, batch, None)?;
        if self.groups.len() >= MAX_LOCAL_KEYS || self.groups.bytes() >= MAX_LOCAL_BYTES {
            return self.flush(out);
        }
        Ok(Progress::Done)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(Flush { slots, emitted, piece }) = self.flush.take() else { return Ok(Progress::Done) };
        let next = slots.len().min(emitted + piece);
        out.emit(self.batch(self.groups.contents(&slots[emitted..next])?)?);
        if next == slots.len() {
            self.groups.clear();
            return Ok(Progress::Done);
        }
        self.flush = Some(Flush { slots, emitted: next, piece });
        Ok(Progress::More)
    }

    fn on_epoch_end(&mut self, _end: &EpochEnd, out: &mut Output) -> Result<Progress> {
        self.passing = self.passing.saturating_sub(1);
        if self.groups.is_empty() {
            return Ok(Progress::Done);
        }
        self.flush(out)
    }
}

#[cfg(test)]
mod tests;
