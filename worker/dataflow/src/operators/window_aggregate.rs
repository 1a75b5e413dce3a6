//! [pure] Second phase of a windowed aggregation: merges partials by (keys, slice), fires windows by the watermark.
//!
//! Each slice has accumulators of its own, so that dropping an expired slice costs nothing and a tumbling window fires
//! straight from its state. A window of several slices is merged when it fires; a cumulating window goes on from the
//! merge of the one before.
//!
//! Invariants:
//! - Windows fire in order of end, each once, when `end - 1 <= watermark`; rows of a window come in an order that
//!   depends on their keys only. The watermark moves only when an epoch closes, so what fires, and what is late, does
//!   not depend on the arrival within the epoch.
//! - A row is late when the last window of its slice has fired; it is dropped and counted. A row whose slice still has
//!   an open window counts there.
//! - A slice lives until the last window that holds it has fired. In a snapshot its end is implied by the watermark
//!   among the facts: no tombstones.
//!
//! Not here: event times and slices of raw rows (`local_window_aggregate`).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use super::window_assign::timestamps;
use crate::aggregate::{Accumulators, Input};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::{AggregateCall, Window, WindowAggregateSpec};
use crate::hash::hash_columns;
use crate::key_group::Subtask;
use crate::operator::{MAX_BATCH_ROWS, Operator, OperatorStats, Output, Progress};
use crate::snapshot::{OperatorExport, OperatorImport, SnapshotRequest};
use crate::state::Slot;
use crate::time::{EpochEnd, Millis, WATERMARK_MIN};
use crate::window::Span;

mod snapshot;

/// Rows merged in one call while a window of several slices fires; bounds how long a worker is held.
const MERGE_ROWS_PER_CALL: usize = 4 * MAX_BATCH_ROWS;
/// Runs of equal slices in one batch above which its rows are sorted by slice first.
const MAX_RUNS: usize = 16;

/// See the module's documentation.
pub struct WindowAggregate {
    title: String,
    window: Window,
    key_types: Vec<DataType>,
    calls: Vec<AggregateCall>,
    schema: SchemaRef,
    subtask: Subtask,
    /// Live slices by end.
    slices: BTreeMap<Millis, Accumulators>,
    /// Every window with `end - 1 <= watermark` has fired, and no other.
    watermark: Millis,
    late_rows: u64,
    merged: Merged,
    firing: Option<Firing>,
    ready: Ready,
    hashes: Vec<u64>,
    slots: Vec<Slot>,
}

/// Slices merged for the window that fires; kept for the next window when that one only grows.
struct Merged {
    accumulators: Accumulators,
    /// What it holds: every live slice with an end in `start + 1..=end`.
    span: Option<Span>,
}

/// Windows are being fired up to a watermark.
struct Firing {
    /// The epoch's watermark.
    target: Millis,
    current: Option<FiringWindow>,
}

struct FiringWindow {
    span: Span,
    /// Slices yet to merge, last first.
    to_merge: Vec<Millis>,
    /// The slice that is being merged.
    merging: Option<Cursor>,
    /// What is being emitted.
    emitting: Option<Cursor>,
    /// The only slice of the window: fired from its own accumulators.
    single: Option<Millis>,
}

/// Slots of some accumulators that are worked off piece by piece.
struct Cursor {
    slice: Millis,
    slots: Vec<Slot>,
    done: usize,
}

/// Rows of small windows, gathered into full batches.
#[derive(Default)]
struct Ready {
    batches: Vec<RecordBatch>,
    rows: usize,
}

impl WindowAggregate {
    /// The second phase of `spec` over partials of `input`; `schema` is that of the output.
    ///
    /// # Errors
    /// `User` for a window that [`Window::validate`] refuses or keys of a type that cannot be one.
    pub fn new(title: String, spec: &WindowAggregateSpec, input: &SchemaRef, schema: &SchemaRef, subtask: Subtask) -> Result<Self> {
        spec.window.validate().map_err(|message| DataflowError::new(title.clone(), ErrorKind::User, message))?;
        let key_types: Vec<DataType> = (0..spec.keys.len()).map(|key| input.field(key).data_type().clone()).collect();
        Ok(Self {
            merged: Merged { accumulators: Accumulators::new(&key_types, &spec.calls, Input::Insert, subtask)?, span: None },
            title,
            window: spec.window,
            key_types,
            calls: spec.calls.clone(),
            schema: Arc::clone(schema),
            subtask,
            slices: BTreeMap::new(),
            watermark: WATERMARK_MIN,
            late_rows: 0,
            firing: None,
            ready: Ready::default(),
            hashes: Vec::new(),
            slots: Vec::new(),
        })
    }

    /// Takes in partials that all belong to one slice.
    fn merge_run(&mut self, slice: Millis, batch: &RecordBatch) -> Result<()> {
        let keys = self.key_types.len();
        let rows = int64(batch, keys + 1, &self.title)?;
        let Some(last_end) = self.window.last_window_end(slice) else { return Ok(()) };
        if last_end - 1 <= self.watermark {
            self.late_rows += rows.iter().sum::<i64>().unsigned_abs();
            return Ok(());
        }
        let accumulators = match self.slices.entry(slice) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Accumulators::new(&self.key_types, &self.calls, Input::Insert, self.subtask)?)
            }
        };
        let (keys, partials) = (&batch.columns()[..keys], &batch.columns()[keys + 2..]);
        hash_columns(keys, batch.num_rows(), &mut self.hashes)?;
        accumulators.slots(keys, &self.hashes, &mut self.slots)?;
        accumulators.merge(&self.slots, rows, partials)?;
        if self.merged.span.is_some_and(|span| span.start < slice && slice <= span.end) {
            // Behind the watermark, but a longer cumulating window is still open.
            self.merged.accumulators.slots(keys, &self.hashes, &mut self.slots)?;
            self.merged.accumulators.merge(&self.slots, rows, partials)?;
        }
        Ok(())
    }

    /// Fires windows until the target is reached or the fuel of one call is used up.
    fn fire(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(mut firing) = self.firing.take() else { return Ok(Progress::Done) };
        let mut fuel = MERGE_ROWS_PER_CALL;
        while fuel > 0 && out.batches.is_empty() {
            let Some(current) = firing.current.as_mut() else {
                firing.current = self.next_window(firing.target);
                if firing.current.is_some() {
                    fuel -= 1;
                    continue;
                }
                self.watermark = firing.target;
                self.ready.flush(out)?;
                return Ok(Progress::Done);
            };
            if self.merge_some(current, &mut fuel)? && self.emit_some(current, &mut fuel, out)? {
                self.watermark = current.span.end - 1;
                self.drop_expired();
                firing.current = None;
            }
        }
        self.firing = Some(firing);
        Ok(Progress::More)
    }

    /// The next window to fire, in order of end.
    fn next_window(&mut self, target: Millis) -> Option<FiringWindow> {
        let (first, _) = self.slices.first_key_value()?;
        let span = self.window.first_open_window(*first, self.watermark).filter(|span| span.end - 1 <= target)?;
        // The first slice opens the next window, so the slices up to the window's end are its slices.
        let slices: Vec<Millis> = self.slices.range(..=span.end).rev().map(|(end, _)| *end).collect();
        if let [single] = slices[..] {
            return Some(FiringWindow { span, to_merge: Vec::new(), merging: None, emitting: None, single: Some(single) });
        }
        let held = match self.merged.span {
            Some(held) if held.start == span.start => held.end,
            _ => {
                self.merged.accumulators.clear();
                span.start
            }
        };
        let to_merge = slices.into_iter().take_while(|slice| *slice > held).collect();
        self.merged.span = Some(span);
        Some(FiringWindow { span, to_merge, merging: None, emitting: None, single: None })
    }

    /// Goes on merging the slices of `current`; true when all are.
    fn merge_some(&mut self, current: &mut FiringWindow, fuel: &mut usize) -> Result<bool> {
        while *fuel > 0 {
            let Some(mut cursor) = current.merging.take() else {
                let Some(slice) = current.to_merge.pop() else { return Ok(true) };
                let slots = self.slices.get(&slice).map(Accumulators::live).unwrap_or_default();
                current.merging = Some(Cursor { slice, slots, done: 0 });
                continue;
            };
            let Some(slice) = self.slices.get(&cursor.slice) else { continue };
            let piece = cursor.next_piece();
            if !piece.is_empty() {
                let keys = slice.keys(piece)?;
                hash_columns(&keys, piece.len(), &mut self.hashes)?;
                self.merged.accumulators.slots(&keys, &self.hashes, &mut self.slots)?;
                self.merged.accumulators.merge(&self.slots, &slice.rows(piece), &slice.partials(piece)?)?;
                *fuel = fuel.saturating_sub(piece.len());
                current.merging = Some(cursor);
            }
        }
        Ok(false)
    }

    /// Goes on emitting the results of `current`; true when all are out.
    fn emit_some(&mut self, current: &mut FiringWindow, fuel: &mut usize, out: &mut Output) -> Result<bool> {
        let accumulators = match current.single {
            Some(slice) => match self.slices.get(&slice) {
                Some(accumulators) => accumulators,
                None => return Ok(true),
            },
            None => &self.merged.accumulators,
        };
        let cursor = current.emitting.get_or_insert_with(|| {
            let mut slots = accumulators.live();
            accumulators.sort(&mut slots);
            Cursor { slice: 0, slots, done: 0 }
        });
        while *fuel > 0 && out.batches.is_empty() {
            let piece = cursor.next_piece();
            if piece.is_empty() {
                return Ok(true);
            }
            *fuel = fuel.saturating_sub(piece.len());
            let mut columns = accumulators.keys(piece)?;
            columns.extend(accumulators.evaluate(piece)?);
            let Span { start, end } = current.span;
            for time in [start, end, end - 1] {
                let data_type = self.schema.fields().get(columns.len()).map_or(&DataType::Null, |field| field.data_type());
                columns.push(timestamps(vec![time; piece.len()], data_type));
            }
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
                .map_err(|error| DataflowError::new(self.title.clone(), ErrorKind::Bug, error))?;
            self.ready.push(batch, out)?;
        }
        Ok(false)
    }

    /// Forgets slices that no open window holds.
    fn drop_expired(&mut self) {
        while let Some(entry) = self.slices.first_entry() {
            if !self.window.is_expired(*entry.key(), self.watermark) {
                break;
            }
            entry.remove();
        }
        // Only cumulating windows go on from the last merge, and only within their longest window.
        let grows = |span: Span| matches!(self.window, Window::Cumulate { max, .. } if span.end - span.start < max);
        if !self.merged.span.is_some_and(grows) {
            self.merged.accumulators.clear();
            self.merged.span = None;
        }
    }
}

impl Operator for WindowAggregate {
    fn on_batch(&mut self, _port: usize, batch: &RecordBatch, _out: &mut Output) -> Result<Progress> {
        let slice_column = self.key_types.len();
        let mut batch = batch.clone();
        let mut runs = runs(int64(&batch, slice_column, &self.title)?);
        if runs.len() > MAX_RUNS {
            let order = arrow::compute::sort_to_indices(batch.column(slice_column), None, None)?;
            batch = take_record_batch(&batch, &order)?;
            runs = self::runs(int64(&batch, slice_column, &self.title)?);
        }
        for (slice, range) in runs {
            let rows = batch.slice(range.start, range.len());
            self.merge_run(slice, &rows)?;
        }
        Ok(Progress::Done)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        self.fire(out)
    }

    fn on_epoch_end(&mut self, end: &EpochEnd, out: &mut Output) -> Result<Progress> {
        self.firing = Some(Firing { target: end.watermark.max(self.watermark), current: None });
        self.fire(out)
    }

    fn snapshot(&mut self, request: &SnapshotRequest) -> Option<OperatorExport> {
        Some(snapshot::export(self, request))
    }

    fn restore(&mut self, import: OperatorImport) -> Result<()> {
        snapshot::import(self, import)
    }

    fn stats(&self) -> OperatorStats {
        let slices = || self.slices.values();
        OperatorStats {
            late_rows: self.late_rows,
            state_keys: slices().map(|slice| slice.len() as u64).sum(),
            state_bytes: slices().map(|slice| slice.bytes() as u64).sum(),
        }
    }
}

impl Cursor {
    /// The next slots, at most [`MAX_BATCH_ROWS`]; none at the end.
    fn next_piece(&mut self) -> &[Slot] {
        let from = self.done;
        self.done = self.slots.len().min(from + MAX_BATCH_ROWS);
        &self.slots[from..self.done]
    }
}

impl Ready {
    /// Adds rows behind those that are there; emits what is there when they do not fit into one batch.
    fn push(&mut self, batch: RecordBatch, out: &mut Output) -> Result<()> {
        if self.rows + batch.num_rows() > MAX_BATCH_ROWS {
            self.flush(out)?;
        }
        self.rows += batch.num_rows();
        self.batches.push(batch);
        if self.rows == MAX_BATCH_ROWS { self.flush(out) } else { Ok(()) }
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.rows = 0;
        let batches = std::mem::take(&mut self.batches);
        match &batches[..] {
            [] => {}
            [batch] => out.emit(batch.clone()),
            [first, ..] => out.emit(concat_batches(first.schema_ref(), &batches)?),
        }
        Ok(())
    }
}

/// Runs of equal values, with their rows.
fn runs(values: &[i64]) -> Vec<(i64, std::ops::Range<usize>)> {
    let mut start = 0;
    values
        .chunk_by(|a, b| a == b)
        .map(|run| {
            let range = start..start + run.len();
            start = range.end;
            (run[0], range)
        })
        .collect()
}

/// The values of an Int64 column without nulls.
fn int64<'a>(batch: &'a RecordBatch, column: usize, place: &str) -> Result<&'a [i64]> {
    match batch.columns().get(column).and_then(|column: &ArrayRef| column.as_primitive_opt::<Int64Type>()) {
        Some(array) if array.null_count() == 0 => Ok(array.values()),
        _ => Err(DataflowError::new(place, ErrorKind::Bug, format!("column {column} of the partials is not a plain Int64"))),
    }
}

#[cfg(test)]
mod tests;
