//! [pure] The source of a stage: readers of the splits it owns, computed columns, watermarks, offsets.
//!
//! Keeps true: a split's offset in a snapshot of epoch e is exactly behind the rows that went out in epochs up to e; a
//! split is owned by one subtask of the job; a split that waits for its turn holds the watermark back, however long.

use std::collections::{BTreeSet, VecDeque};
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
    /// Being read, or ended in this epoch.
    splits: Vec<Split>,
    /// The split whose turn it is.
    turn: usize,
    /// Not opened yet: no more are than the source allows.
    waiting: VecDeque<SplitState>,
    /// Read to their ends.
    done: Vec<SplitState>,
    /// The largest watermark of those.
    seen: Millis,
    /// Ordinals of all splits that this subtask has.
    known: BTreeSet<u32>,
    /// Malformed records that were left out of splits that are done.
    skipped: u64,
    /// Whether the job's first splits have been given out, or there are none.
    assigned: bool,
}

struct Split {
    state: SplitState,
    /// None behind its end.
    reader: Option<Box<dyn SplitReader>>,
    read_in_epoch: bool,
    /// Wall time of the last epoch in which it gave rows (or of its first epoch).
    active_at: Option<Millis>,
    idle: bool,
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
            waiting: VecDeque::new(),
            done: Vec::new(),
            seen: WATERMARK_MIN,
            known: BTreeSet::new(),
            skipped: 0,
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
                self.own(split.clone());
            }
        }
        self.open_waiting()
    }

    fn own(&mut self, state: SplitState) {
        self.known.insert(state.assignment.ordinal);
        if state.finished {
            self.end(state);
        } else {
            self.waiting.push_back(state);
        }
    }

    fn end(&mut self, state: SplitState) {
        self.seen = self.seen.max(time(&state));
        self.done.push(state);
    }

    /// Opens as many splits as may be read side by side.
    fn open_waiting(&mut self) -> Result<()> {
        while !self.waiting.is_empty() && self.splits.iter().filter(|split| split.reader.is_some()).count() < self.source.open_limit() {
            let Some(state) = self.waiting.pop_front() else { break };
            let start = match &state.offset {
                offset if self.skips => Start::Newest(offset.as_ref()),
                Some(offset) => Start::At(offset),
                None => Start::New { late: state.assignment.late },
            };
            let reader = Some(self.source.open(&state.assignment.split, start, Arc::clone(&self.waker))?);
            self.splits.push(Split { state, reader, read_in_epoch: false, active_at: None, idle: false });
        }
        Ok(())
    }

    /// Takes the splits of a tick that this subtask owns; they are read from the next epoch on.
    fn adopt(&mut self, tick: &Tick) -> Result<()> {
        self.assigned |= tick.empty_sources.contains(&self.id);
        for assignment in tick.new_splits.iter() {
            if assignment.source != self.id {
                continue;
            }
            self.assigned = true;
            let owned = assignment.owner(self.subtask.workers) == self.subtask.index;
            if owned && !self.known.contains(&assignment.ordinal) {
                self.own(SplitState { assignment: assignment.clone(), offset: None, finished: false, watermark: None });
            }
        }
        self.open_waiting()
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
                    self.skipped += reader.skipped();
                    let offset = reader.offset();
                    let split = &mut self.splits[index];
                    split.reader = None;
                    split.state.offset = Some(offset).filter(|offset| !offset.is_null());
                    split.state.finished = true;
                    self.open_waiting()?;
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
        for split in self.splits.extract_if(.., |split| split.state.finished).collect::<Vec<_>>() {
            self.end(split.state);
        }
        for split in &mut self.splits {
            if std::mem::take(&mut split.read_in_epoch) || split.active_at.is_none() {
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
        let done = Watermark::Idle(self.seen);
        let read = self.splits.iter().map(|split| match time(&split.state) {
            time if split.idle => Watermark::Idle(time),
            time => Watermark::Active(time),
        });
        let waiting = self.waiting.iter().map(|state| Watermark::Active(time(state)));
        watermarks::minimum(std::iter::once(done).chain(read).chain(waiting))
    }

    fn all_finished(&self) -> bool {
        self.assigned && self.waiting.is_empty() && self.splits.iter().all(|split| split.state.finished)
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
        self.done.iter().cloned().chain(self.splits.iter().map(state)).chain(self.waiting.iter().cloned()).collect()
    }

    pub(super) fn skipped(&self) -> u64 {
        self.skipped + self.splits.iter().filter_map(|split| Some(split.reader.as_ref()?.skipped())).sum::<u64>()
    }

    fn error(&self, kind: ErrorKind, message: impl std::fmt::Display) -> DataflowError {
        DataflowError::new(&self.title, kind, message)
    }
}

/// What a split has seen.
fn time(split: &SplitState) -> Millis {
    split.watermark.unwrap_or(WATERMARK_MIN)
}
