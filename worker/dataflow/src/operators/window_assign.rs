//! [pure] Appends `window_start`, `window_end` and `window_time` to each row, once for each window that holds it.
//!
//! Invariants: rows come out in the order of the input, a row's windows in order of end; `window_time` is the last
//! millisecond inside the window; a flat-map emits at most [`MAX_BATCH_ROWS`] rows a batch and one batch a call.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMillisecondArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};

use super::event_time::{check_time_column, event_times};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::{Window, WindowAssignSpec};
use crate::operator::{MAX_BATCH_ROWS, Operator, Output, Progress};
use crate::time::Millis;
use crate::window::Span;

/// Columns that a window adds to a row.
const WINDOW_COLUMNS: usize = 3;

/// See the module's documentation.
pub struct WindowAssign {
    title: String,
    window: Window,
    time: usize,
    schema: SchemaRef,
    pending: Option<Pending>,
}

/// A batch that is being flat-mapped.
struct Pending {
    batch: RecordBatch,
    /// Next row.
    row: usize,
    /// Windows of that row that were emitted already.
    skip: usize,
}

impl WindowAssign {
    /// Assigns the windows of `spec` to rows of `input`; `schema` is that of the output.
    ///
    /// # Errors
    /// `User` for a window that [`Window::validate`] refuses, `Bug` for schemas that do not fit.
    pub fn new(title: String, spec: &WindowAssignSpec, input: &SchemaRef, schema: &SchemaRef) -> Result<Self> {
        spec.window.validate().map_err(|message| DataflowError::new(title.clone(), ErrorKind::User, message))?;
        check_time_column(input, spec.time, &title)?;
        if schema.fields().len() != input.fields().len() + WINDOW_COLUMNS {
            return Err(DataflowError::new(title, ErrorKind::Bug, "the output is not the input and three window columns"));
        }
        Ok(Self { title, window: spec.window, time: spec.time, schema: Arc::clone(schema), pending: None })
    }

    /// Every row has exactly one window: the input's columns are shared.
    fn tumble(&self, batch: &RecordBatch, size: Millis) -> Result<RecordBatch> {
        let times = event_times(batch, self.time, &self.title)?;
        let grid = self.window.slices();
        let starts: Vec<Millis> = if times.min <= times.max && grid.floor(times.min) == grid.floor(times.max) {
            vec![grid.floor(times.min); times.values.len()]
        } else {
            times.values.iter().map(|time| grid.floor(*time)).collect()
        };
        let ends = starts.iter().map(|start| start + size).collect();
        self.batch(batch.columns().to_vec(), starts, ends)
    }

    /// The next batch of the pending flat-map; `None` when it has no more rows.
    fn flat_map(&self, pending: &mut Pending) -> Result<Option<RecordBatch>> {
        let times = event_times(&pending.batch, self.time, &self.title)?.values;
        let mut rows: Vec<u32> = Vec::with_capacity(MAX_BATCH_ROWS);
        let (mut starts, mut ends) = (Vec::with_capacity(MAX_BATCH_ROWS), Vec::with_capacity(MAX_BATCH_ROWS));
        while pending.row < times.len() {
            let room = MAX_BATCH_ROWS - rows.len();
            let mut windows = self.window.windows_of(times[pending.row]).skip(pending.skip);
            for Span { start, end } in windows.by_ref().take(room) {
                rows.push(pending.row as u32);
                starts.push(start);
                ends.push(end);
                pending.skip += 1;
            }
            if windows.next().is_some() {
                break;
            }
            pending.row += 1;
            pending.skip = 0;
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let rows = UInt32Array::from(rows);
        let columns = pending.batch.columns().iter().map(|column| take(column, &rows, None)).collect::<Result<_, _>>()?;
        self.batch(columns, starts, ends).map(Some)
    }

    fn batch(&self, mut columns: Vec<ArrayRef>, starts: Vec<Millis>, ends: Vec<Millis>) -> Result<RecordBatch> {
        let times = ends.iter().map(|end| end - 1).collect();
        let first = columns.len();
        for (n, values) in [starts, ends, times].into_iter().enumerate() {
            columns.push(timestamps(values, self.schema.field(first + n).data_type()));
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| DataflowError::new(self.title.clone(), ErrorKind::Bug, error))
    }
}

/// Millisecond timestamps of `data_type` (with its time zone, if any).
pub(super) fn timestamps(values: Vec<Millis>, data_type: &DataType) -> ArrayRef {
    let array = TimestampMillisecondArray::from(values);
    Arc::new(match data_type {
        DataType::Timestamp(TimeUnit::Millisecond, zone @ Some(_)) => array.with_timezone_opt(zone.clone()),
        _ => array,
    })
}

impl Operator for WindowAssign {
    fn on_batch(&mut self, _port: usize, batch: &RecordBatch, out: &mut Output) -> Result<Progress> {
        if let Window::Tumble { size, .. } = self.window {
            out.emit(self.tumble(batch, size)?);
            return Ok(Progress::Done);
        }
        self.pending = Some(Pending { batch: batch.clone(), row: 0, skip: 0 });
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(mut pending) = self.pending.take() else { return Ok(Progress::Done) };
        if let Some(batch) = self.flat_map(&mut pending)? {
            out.emit(batch);
        }
        if pending.row == pending.batch.num_rows() {
            return Ok(Progress::Done);
        }
        self.pending = Some(pending);
        Ok(Progress::More)
    }
}

#[cfg(test)]
mod tests;
