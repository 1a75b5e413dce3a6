//! [pure] Second phase of a windowed aggregation: merges partials by (keys, slice), fires windows by the watermark.
//!
//! Each slice has accumulators of its own (`panes`), so that dropping an expired slice costs nothing and a tumbling
//! window fires straight from its state. A window of several slices is merged when it fires.
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

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use self::panes::{Merge, Panes, Partials, Plan};
use super::window_assign::timestamps;
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::{Window, WindowAggregateSpec};
use crate::key_group::Subtask;
use crate::operator::{MAX_BATCH_ROWS, Operator, OperatorStats, Output, Progress};
use crate::snapshot::{OperatorExport, OperatorImport, SnapshotRequest};
use crate::state::Slot;
use crate::time::{EpochEnd, Millis, WATERMARK_MIN};
use crate::window::Span;

mod panes;
mod snapshot;

/// Rows merged or emitted in one call while windows fire; bounds how long a worker is held.
const FUEL_ROWS: usize = 4 * MAX_BATCH_ROWS;
/// What firing a window costs besides its rows, in rows.
const WINDOW_COST_ROWS: usize = 64;
/// Runs of equal slices in one batch above which its rows are sorted by slice first.
const MAX_RUNS: usize = 16;

/// See the module's documentation.
pub struct WindowAggregate {
    title: String,
    window: Window,
    schema: SchemaRef,
    panes: Panes,
    /// Every window with `end - 1 <= watermark` has fired, and no other.
    watermark: Millis,
    late_rows: u64,
    firing: Option<Firing>,
    ready: Ready,
}

/// Windows are being fired up to a watermark.
struct Firing {
    /// The epoch's watermark.
    target: Millis,
    current: Option<FiringWindow>,
}

struct FiringWindow {
    span: Span,
    plan: Plan,
    /// The step of the plan that is under way.
    merging: Option<(Merge, Cursor)>,
    emitting: Option<Cursor>,
}

/// Slots of some accumulators that are worked off piece by piece.
struct Cursor {
    slots: Vec<Slot>,
    done: usize,
    /// Values behind a slot, on average: what a slot costs in fuel.
    weight: usize,
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
        let key_types = (0..spec.keys.len()).map(|key| input.field(key).data_type().clone()).collect();
        Ok(Self {
            title,
            window: spec.window,
            schema: Arc::clone(schema),
            panes: Panes::new(spec.window, key_types, spec.calls.clone(), subtask)?,
            watermark: WATERMARK_MIN,
            late_rows: 0,
            firing: None,
            ready: Ready::default(),
        })
    }

    /// Takes in partials that all belong to one slice.
    fn take_in(&mut self, slice: Millis, batch: &RecordBatch) -> Result<()> {
        let keys = self.panes.keys();
        let rows = int64(batch, keys + 1, &self.title)?;
        let Some(last_end) = self.window.last_window_end(slice) else { return Ok(()) };
        if last_end - 1 <= self.watermark {
            self.late_rows += rows.iter().sum::<i64>().unsigned_abs();
            return Ok(());
        }
        let (keys, columns) = (&batch.columns()[..keys], &batch.columns()[keys + 2..]);
        self.panes.take_in(slice, &Partials { keys, rows, columns })
    }

    /// Fires windows until the target is reached or the fuel of one call is used up.
    fn fire(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(mut firing) = self.firing.take() else { return Ok(Progress::Done) };
        let mut fuel = FUEL_ROWS;
        while fuel > 0 && out.batches.is_empty() {
            let Some(current) = firing.current.as_mut() else {
                firing.current = self.next_window(firing.target)?;
                if firing.current.is_some() {
                    fuel = fuel.saturating_sub(WINDOW_COST_ROWS);
                    continue;
                }
                self.watermark = firing.target;
                self.ready.flush(out)?;
                return Ok(Progress::Done);
            };
            if self.merge_some(current, &mut fuel)? && self.emit_some(current, &mut fuel, out)? {
                self.watermark = current.span.end - 1;
                self.panes.drop_expired(self.watermark);
                firing.current = None;
            }
        }
        self.firing = Some(firing);
        Ok(Progress::More)
    }

    /// The next window to fire, in order of end.
    fn next_window(&mut self, target: Millis) -> Result<Option<FiringWindow>> {
        // No slice opens a window before the first slice does.
        let first = self.panes.slices.first_key_value().and_then(|(first, _)| self.window.first_open_window(*first, self.watermark));
        let Some(span) = first.filter(|span| span.end - 1 <= target) else { return Ok(None) };
        Ok(Some(FiringWindow { span, plan: self.panes.plan(span)?, merging: None, emitting: None }))
    }

    /// Goes on merging what makes up `current`; true when all is.
    fn merge_some(&mut self, current: &mut FiringWindow, fuel: &mut usize) -> Result<bool> {
        while *fuel > 0 {
            let Some((merge, cursor)) = &mut current.merging else {
                let Some(merge) = current.plan.merges.pop() else { return Ok(true) };
                current.merging = self.panes.get(merge.from).map(|from| (merge, Cursor::new(from.live(), from.weight())));
                continue;
            };
            let piece = cursor.next_piece();
            let piece = &cursor.slots[piece];
            if piece.is_empty() {
                current.merging = None;
            } else {
                self.panes.merge(*merge, piece)?;
                *fuel = fuel.saturating_sub(piece.len() * cursor.weight);
            }
        }
        Ok(false)
    }

    /// Goes on emitting the results of `current`; true when all are out.
    fn emit_some(&mut self, current: &mut FiringWindow, fuel: &mut usize, out: &mut Output) -> Result<bool> {
        let Some(accumulators) = self.panes.get(current.plan.result) else { return Ok(true) };
        let cursor = current.emitting.get_or_insert_with(|| {
            let mut slots = accumulators.live();
            accumulators.sort(&mut slots);
            Cursor::new(slots, 1)
        });
        while *fuel > 0 && out.batches.is_empty() {
            let piece = cursor.next_piece();
            let piece = &cursor.slots[piece];
            if piece.is_empty() {
                return Ok(true);
            }
            *fuel = fuel.saturating_sub(piece.len());
            let mut columns = accumulators.results(piece)?;
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
}

impl Operator for WindowAggregate {
    fn on_batch(&mut self, _port: usize, batch: &RecordBatch, _out: &mut Output) -> Result<Progress> {
        let slice_column = self.panes.keys();
        let mut batch = batch.clone();
        let mut runs = runs(int64(&batch, slice_column, &self.title)?);
        if runs.len() > MAX_RUNS {
            let order = arrow::compute::sort_to_indices(batch.column(slice_column), None, None)?;
            batch = take_record_batch(&batch, &order)?;
            runs = self::runs(int64(&batch, slice_column, &self.title)?);
        }
        for (slice, range) in runs {
            let rows = batch.slice(range.start, range.len());
            self.take_in(slice, &rows)?;
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
        let slices = || self.panes.slices.values();
        OperatorStats {
            late_rows: self.late_rows,
            state_keys: slices().map(|slice| slice.len() as u64).sum(),
            state_bytes: slices().map(|slice| slice.bytes() as u64).sum(),
        }
    }
}

impl Cursor {
    fn new(slots: Vec<Slot>, weight: usize) -> Self {
        Self { slots, done: 0, weight }
    }

    /// The next slots, with at most [`MAX_BATCH_ROWS`] values behind them (but one slot at least); none at the end.
    fn next_piece(&mut self) -> Range<usize> {
        let from = self.done;
        self.done = self.slots.len().min(from + (MAX_BATCH_ROWS / self.weight).max(1));
        from..self.done
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
fn runs(values: &[i64]) -> Vec<(i64, Range<usize>)> {
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
