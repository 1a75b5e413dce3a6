//! [pure] Runs a job with its ticks at given positions of its sources, and tells what came out in each epoch.
//!
//! For the property that the output of an epoch is a function of its input: positions and rows are given; workers, the
//! interleaving of messages and the boundaries of batches are free.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;

use super::executor::Delays;
use super::fabric::{Fabric, Happened, Move};
use super::jobs::{Shape, SimJob};
use super::lookup::SimLookup;
use super::oracle::Multiset;
use super::random::Random;
use super::source::{Content, SimSource};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::OperatorId;
use crate::plan::ExecutionPlan;
use crate::sink::{CommitPermit, Committable, Delivery, Prepared, Sink, SinkContext, SinkWriter};
use crate::source::{Read, Source, SplitAssignment, SplitId, SplitReader, Start, Waker};
use crate::stage::Connectors;
use crate::time::{Epoch, Tick};

/// Moves after which a run is given up.
const MAX_MOVES: u64 = 1_000_000;

/// A job with its ticks.
#[derive(Debug, Clone)]
pub struct Epochs {
    /// The job.
    pub shape: Shape,
    /// Its input.
    pub content: Content,
    /// Rows that a split gives in an epoch: by epoch, then split (the last number for all further splits). The rest of
    /// the input comes in one epoch more.
    pub rows: Vec<Vec<u64>>,
}

/// What a run is free to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freedom {
    /// Workers.
    pub workers: u32,
    /// Decides interleavings and batch sizes.
    pub seed: u64,
}

/// What came out: by sink and epoch, every row with its kind.
pub type Outputs = BTreeMap<(OperatorId, Epoch), Multiset>;

impl Epochs {
    /// Rows of a split up to the end of an epoch; the first epoch only gives out the splits.
    fn limit(&self, split: u32, epoch: Epoch) -> u64 {
        let given = self.rows.iter().take(epoch.saturating_sub(1) as usize);
        let rows = given.map(|splits| splits.get(split as usize).or(splits.last()).copied().unwrap_or(0)).sum::<u64>();
        if epoch > self.rows.len() as u64 + 1 { self.content.rows } else { rows.min(self.content.rows) }
    }

    /// Runs the job.
    ///
    /// # Errors
    /// What the engine reported.
    pub fn run(&self, freedom: Freedom) -> Result<Outputs> {
        let mut random = Random::new(freedom.seed);
        let job = SimJob::new(self.shape, self.content)?;
        let gate = Gate::default();
        let outputs = Arc::new(Mutex::new(Outputs::new()));
        let connectors = self.connectors(&job, &gate, &outputs, &mut random);
        let plan = Arc::new(ExecutionPlan::cut(job.graph.clone()));
        let mut fabric = Fabric::new(&plan, freedom.workers, 1, Delivery::ExactlyOnce, &connectors, 1, None)?;
        let last = self.rows.len() as Epoch + 3;
        for epoch in 1..=last {
            let mut tick = Tick::plain(epoch, epoch as i64 * 10);
            if epoch == 1 {
                let of = |id: &OperatorId| {
                    let id = id.clone();
                    (0..self.content.splits).map(move |n| SplitAssignment {
                        source: id.clone(),
                        split: n.to_string(),
                        ordinal: n,
                        late: false,
                    })
                };
                tick.new_splits = Arc::new(job.sources.keys().flat_map(of).collect());
            }
            fabric.tick(tick);
        }
        let mut moves = Vec::new();
        for _ in 0..MAX_MOVES {
            if fabric.progress() > last {
                drop(fabric);
                return Ok(std::mem::take(&mut lock(&outputs)));
            }
            moves.clear();
            fabric.moves(true, &mut moves);
            moves.retain(|choice| match choice {
                Move::Close(node) => fabric.source(*node).is_none_or(|id| gate.reached(&id, fabric.nodes[*node].worker, freedom.workers)),
                Move::Read(node) => fabric.source(*node).is_some_and(|id| !gate.reached(&id, fabric.nodes[*node].worker, freedom.workers)),
                _ => true,
            });
            let Some(choice) = random.pick(&moves).copied() else { break };
            if let Happened::Closed { node, epoch, .. } = fabric.make(choice)?
                && let Some(id) = fabric.source(node)
            {
                let worker = fabric.nodes[node].worker;
                for split in (0..self.content.splits).filter(|split| split % freedom.workers == worker) {
                    gate.open(&id, split, self.limit(split, epoch + 1));
                }
            }
        }
        Err(DataflowError::new("simulator", ErrorKind::Bug, "the epochs do not close"))
    }

    fn connectors(&self, job: &SimJob, gate: &Gate, outputs: &Arc<Mutex<Outputs>>, random: &mut Random) -> Connectors {
        let mut connectors = Connectors::default();
        for (id, content) in &job.sources {
            let rows = SimSource::new(*content, Delays::new(random.fork(), 0));
            let source = GatedSource { id: id.clone(), rows, gate: gate.clone() };
            connectors.sources.insert(id.clone(), Arc::new(source));
        }
        for id in &job.sinks {
            let sink = Recorder { id: id.clone(), outputs: Arc::clone(outputs) };
            connectors.sinks.insert(id.clone(), Arc::new(sink) as Arc<dyn Sink>);
        }
        for id in &job.lookups {
            connectors.lookups.insert(id.clone(), Arc::new(SimLookup { chance: Delays::new(random.fork(), 0) }));
        }
        connectors
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far each split has been read, may be read now, and whether its end was seen.
#[derive(Debug, Clone, Default)]
struct Gate(Arc<Mutex<BTreeMap<(OperatorId, u32), Place>>>);

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    position: u64,
    limit: u64,
    ends_at: u64,
    ended: bool,
}

impl Gate {
    fn open(&self, source: &OperatorId, split: u32, limit: u64) {
        lock(&self.0).entry((source.clone(), split)).or_default().limit = limit;
    }

    /// Whether a worker's splits have given all that they may in this epoch.
    fn reached(&self, source: &OperatorId, worker: u32, workers: u32) -> bool {
        lock(&self.0).iter().filter(|((id, split), _)| id == source && split % workers == worker).all(|(_, place)| {
            // A split that may give all its rows must show its end: that, too, is input of the epoch.
            place.position == place.limit && (place.ended || place.position < place.ends_at)
        })
    }
}

#[derive(Debug)]
struct GatedSource {
    id: OperatorId,
    rows: SimSource,
    gate: Gate,
}

impl Source for GatedSource {
    fn discover(&self) -> Result<Vec<SplitId>> {
        self.rows.discover()
    }

    fn open(&self, split: &SplitId, start: Start<'_>, waker: Waker) -> Result<Box<dyn SplitReader>> {
        let reader = self.rows.open(split, start, waker)?;
        let key = (self.id.clone(), split.parse().unwrap_or_default());
        lock(&self.gate.0).entry(key.clone()).or_default().ends_at = self.rows.content.rows;
        Ok(Box::new(GatedReader { key, reader, gate: self.gate.clone() }))
    }
}

struct GatedReader {
    key: (OperatorId, u32),
    reader: Box<dyn SplitReader>,
    gate: Gate,
}

impl SplitReader for GatedReader {
    fn read(&mut self, _rows: usize) -> Result<Read> {
        let mut places = lock(&self.gate.0);
        let place = places.entry(self.key.clone()).or_default();
        if place.position == place.limit && place.position < place.ends_at {
            return Ok(Read::Pending);
        }
        let read = self.reader.read((place.limit - place.position).max(1) as usize)?;
        match &read {
            Read::Rows(batch) => place.position += batch.num_rows() as u64,
            Read::End => place.ended = true,
            Read::Pending => {}
        }
        Ok(read)
    }

    fn offset(&self) -> serde_json::Value {
        self.reader.offset()
    }
}

/// A sink that notes what it was given in which epoch.
#[derive(Debug)]
struct Recorder {
    id: OperatorId,
    outputs: Arc<Mutex<Outputs>>,
}

impl Sink for Recorder {
    fn writer(&self, _context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(RecorderWriter { id: self.id.clone(), outputs: Arc::clone(&self.outputs), batches: Vec::new() }))
    }

    fn commit(&self, _: &CommitPermit, _: Vec<Committable>) -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

struct RecorderWriter {
    id: OperatorId,
    outputs: Arc<Mutex<Outputs>>,
    batches: Vec<RecordBatch>,
}

impl SinkWriter for RecorderWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.batches.push(batch.clone());
        Ok(())
    }

    fn end_epoch(&mut self, epoch: Epoch) -> Result<()> {
        let mut outputs = lock(&self.outputs);
        for batch in self.batches.drain(..) {
            for row in super::oracle::texts(&batch)? {
                *outputs.entry((self.id.clone(), epoch)).or_default().entry(row).or_default() += 1;
            }
        }
        Ok(())
    }

    fn prepare(&mut self, _: Epoch) -> Result<Prepared> {
        Ok(Box::pin(std::future::ready(Ok(Vec::new()))))
    }
}
