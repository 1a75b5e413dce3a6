//! [pure] The source of a stage: readers of the splits it owns, computed columns, watermarks, offsets.
//!
//! Keeps true: a split's offset in a snapshot of epoch e is exactly behind the rows that went out in epochs up to e; a
//! split is owned by one subtask of the job.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch, cast::AsArray};
use arrow::compute;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMillisecondType};

use super::watermarks;
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::{Node, OperatorId, OperatorSpec, SourceSpec};
use crate::key_group::Subtask;
use crate::operator::{Operator, Output};
use crate::operators;
use crate::sink::{Delivery, SinkContext};
use crate::snapshot::SplitState;
use crate::source::{Read, Source, SplitReader, Start, Waker};
use crate::time::{Millis, Tick, WATERMARK_MAX, WATERMARK_MIN, Watermark};

/// Rows that one read asks a reader for.
pub const READ_ROWS: usize = 8_192;

pub(super) struct SourceTask {
    id: OperatorId,
    title: String,
    spec: SourceSpec,
    source: Arc<dyn Source>,
    prelude: Option<Box<dyn Operator>>,
    subtask: Subtask,
    /// Rows that may have been read before are left out.
    skips: bool,
    waker: Waker,
    splits: Vec<Split>,
    /// The split whose turn it is.
    turn: usize,
    /// Whether the job's first splits have been given out, or there are none.
    assigned: bool,
}

struct Split {
    state: SplitState,
    reader: Option<Box<dyn SplitReader>>,
    read_in_epoch: bool,
    /// Wall time of the last epoch in which it gave rows (or of its first epoch).
    active_at: Option<Millis>,
    idle: bool,
    /// It has ended, and does not hold the watermark back.
    over: bool,
    /// Malformed records that were left out, once the reader is gone.
    skipped: u64,
}

/// What a read gave.
pub(super) enum SourceRead {
    Rows { batch: RecordBatch, read: usize, bytes: usize },
    Pending,
    Finished,
}

impl SourceTask {
    pub(super) fn new(node: &Node, spec: &SourceSpec, source: Arc<dyn Source>, context: &SinkContext, waker: Waker) -> Result<Self> {
        let subtask = context.subtask;
        let prelude = match &spec.prelude {
            None => None,
            Some(calc) => {
                let calc = Node { spec: OperatorSpec::Calc(calc.clone()), ..node.clone() };
                Some(operators::build(&calc, &[Arc::clone(&spec.physical)], subtask)?)
            }
        };
        Ok(Self {
            id: node.id.clone(),
            title: node.title.clone(),
            spec: spec.clone(),
            source,
            prelude,
            subtask,
            skips: context.delivery == Delivery::AtMostOnce && context.generation > 1,
            waker,
            splits: Vec::new(),
            turn: 0,
            assigned: false,
        })
    }

    /// Takes over the splits of a checkpoint that this subtask owns.
    pub(super) fn restore(&mut self, splits: &[SplitState]) -> Result<()> {
        for split in splits {
            if split.assignment.source != self.id {
                continue;
            }
            self.assigned = true;
            if split.assignment.owner(self.subtask.workers) == self.subtask.index {
                self.open(split.clone())?;
            }
        }
        Ok(())
    }

    fn open(&mut self, state: SplitState) -> Result<()> {
        let reader = if state.finished {
            None
        } else {
            let start = match &state.offset {
                offset if self.skips => Start::Newest(offset.as_ref()),
                Some(offset) => Start::At(offset),
                None => Start::New { late: state.assignment.late },
            };
            Some(self.source.open(&state.assignment.split, start, Arc::clone(&self.waker))?)
        };
        let over = state.finished;
        self.splits.push(Split { state, reader, read_in_epoch: false, active_at: None, idle: false, over, skipped: 0 });
        Ok(())
    }

    /// Opens the splits of a tick that this subtask owns; they are read from the next epoch on.
    fn adopt(&mut self, tick: &Tick) -> Result<()> {
        self.assigned |= tick.empty_sources.contains(&self.id);
        for assignment in tick.new_splits.iter() {
            if assignment.source != self.id {
                continue;
            }
            self.assigned = true;
            let known = self.splits.iter().any(|split| split.state.assignment == *assignment);
            if !known && assignment.owner(self.subtask.workers) == self.subtask.index {
                let assignment = assignment.clone();
                self.open(SplitState { assignment, offset: None, finished: false, watermark: None })?;
            }
        }
        Ok(())
    }

    /// Reads one batch, from the next split in turn that has one.
    pub(super) fn read(&mut self) -> Result<SourceRead> {
        for _ in 0..self.splits.len() {
            let index = self.turn % self.splits.len();
            self.turn = index + 1;
            let Some(reader) = self.splits[index].reader.as_mut() else { continue };
            match reader.read(READ_ROWS)? {
                Read::Rows(batch) => return self.take(index, batch),
                Read::Pending => {}
                Read::End => {
                    let skipped = reader.skipped();
                    let split = &mut self.splits[index];
                    split.skipped = skipped;
                    split.state.offset = split.reader.take().map(|reader| reader.offset());
                    split.state.finished = true;
                }
            }
        }
        Ok(if self.all_finished() { SourceRead::Finished } else { SourceRead::Pending })
    }

    fn take(&mut self, index: usize, batch: RecordBatch) -> Result<SourceRead> {
        let (read, bytes) = (batch.num_rows(), batch.get_array_memory_size());
        let batch = match &mut self.prelude {
            None => batch,
            Some(prelude) => {
                let mut out = Output::default();
                let _ = prelude.on_batch(0, &batch, &mut out)?;
                match out.batches.pop() {
                    Some(batch) if out.batches.is_empty() => batch,
                    _ => return Err(self.error(ErrorKind::Bug, "computed columns must keep every row")),
                }
            }
        };
        let watermark = self.watermark_of(&batch)?;
        let split = &mut self.splits[index];
        split.read_in_epoch = true;
        split.state.watermark = split.state.watermark.max(watermark);
        Ok(SourceRead::Rows { batch, read, bytes })
    }

    /// The largest value of the watermark expression in a batch.
    fn watermark_of(&self, batch: &RecordBatch) -> Result<Option<Millis>> {
        let Some(spec) = &self.spec.watermark else { return Ok(None) };
        let array = spec.expression.evaluate(batch)?.into_array(batch.num_rows())?;
        match array.data_type() {
            DataType::Timestamp(TimeUnit::Millisecond, _) => Ok(compute::max(array.as_primitive::<TimestampMillisecondType>())),
            DataType::Int64 => Ok(compute::max(array.as_primitive::<Int64Type>())),
            other => Err(self.error(ErrorKind::Bug, format!("a watermark must be a timestamp in milliseconds, not {other}"))),
        }
    }

    /// Closes the epoch: idleness by the tick's wall time, then the subtask's watermark, then new splits.
    pub(super) fn close(&mut self, tick: &Tick) -> Result<Watermark> {
        let idle_timeout = self.spec.watermark.as_ref().and_then(|spec| spec.idle_timeout);
        // Where more splits may come, nobody says at the end that all windows may fire: what a split has seen must count
        // for one epoch, also when it ended in the epoch of its first row.
        let endless = self.source.discovery_interval().is_some();
        for split in &mut self.splits {
            let gave = std::mem::take(&mut split.read_in_epoch);
            split.over = split.state.finished && !(endless && gave);
            if gave || split.active_at.is_none() {
                split.active_at = Some(tick.wall_time);
            }
            let silent = tick.wall_time - split.active_at.unwrap_or(tick.wall_time);
            split.idle = idle_timeout.is_some_and(|timeout| silent >= timeout);
        }
        let watermark = self.watermark();
        self.adopt(tick)?;
        Ok(watermark)
    }

    fn watermark(&self) -> Watermark {
        if self.finished() {
            return Watermark::Active(WATERMARK_MAX);
        }
        if !self.assigned {
            return Watermark::Active(WATERMARK_MIN);
        }
        watermarks::minimum(self.splits.iter().map(|split| match split.state.watermark {
            _ if split.over || split.idle => Watermark::Idle,
            None => Watermark::Active(WATERMARK_MIN),
            Some(time) => Watermark::Active(time),
        }))
    }

    fn all_finished(&self) -> bool {
        self.assigned && self.splits.iter().all(|split| split.state.finished)
    }

    /// Whether nothing will come any more: the source is bounded and every owned split has ended.
    pub(super) fn finished(&self) -> bool {
        self.source.discovery_interval().is_none() && self.all_finished()
    }

    pub(super) fn snapshot(&self) -> Vec<SplitState> {
        let state = |split: &Split| {
            let offset = split.reader.as_ref().map(|reader| reader.offset()).filter(|offset| !offset.is_null());
            let offset = offset.or_else(|| split.state.offset.clone());
            SplitState { offset, ..split.state.clone() }
        };
        self.splits.iter().map(state).collect()
    }

    pub(super) fn skipped(&self) -> u64 {
        self.splits.iter().map(|split| split.reader.as_ref().map_or(split.skipped, |reader| reader.skipped())).sum()
    }

    fn error(&self, kind: ErrorKind, message: impl std::fmt::Display) -> DataflowError {
        DataflowError::new(&self.title, kind, message)
    }
}
