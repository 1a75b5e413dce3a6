//! [pure] Runs one stage on one subtask: queues by epoch, feeds operators, closes epochs, collects snapshots.
//!
//! The driver (timely adaptor or simulator) hands in envelopes and ticks, calls [`StageTask::work`] until it is idle,
//! and ships what is in the outbox. All waiting, ordering and alignment is decided here, so both drivers share it.

mod output;
mod source;
mod watermarks;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;

use self::output::StageOutput;
pub use self::source::READ_ROWS;
use self::source::{SourceRead, SourceTask};
use self::watermarks::InputWatermarks;
use crate::envelope::{Envelope, Payload};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::{Exchange, Node, NodeIndex, OperatorId, OperatorSpec};
use crate::key_group::Subtask;
use crate::lookup::Lookup;
use crate::operator::{Operator, OperatorStats, Output, Progress};
use crate::operators::{self, lookup_join::LookupJoin};
use crate::plan::{ExecutionPlan, StageIndex};
use crate::sink::{Prepared, Sink, SinkContext, SinkWriter};
use crate::snapshot::{OperatorExport, OperatorImport, SnapshotRequest, SplitState};
use crate::source::{Source, Waker};
use crate::time::{Epoch, EpochEnd, Millis, Tick, WATERMARK_MIN, Watermark};

/// The outside world of a job, by operator id: made by `worker/connectors`, or by the simulator.
#[derive(Clone, Default)]
pub struct Connectors {
    /// Sources.
    pub sources: BTreeMap<OperatorId, Arc<dyn Source>>,
    /// Sinks.
    pub sinks: BTreeMap<OperatorId, Arc<dyn Sink>>,
    /// Tables of lookup joins.
    pub lookups: BTreeMap<OperatorId, Arc<dyn Lookup>>,
}

/// A message that the driver must deliver.
#[derive(Debug)]
pub struct Outgoing {
    /// Output number of the stage.
    pub output: usize,
    /// The receiving subtask.
    pub target: u32,
    /// The epoch that it belongs to (the stage's open one).
    pub epoch: Epoch,
    /// The message.
    pub envelope: Envelope,
}

/// What one call of [`StageTask::work`] did.
#[derive(Debug)]
pub enum Work {
    /// One step; there may be more.
    Busy,
    /// Nothing to do until new input, a tick or a waker.
    Idle,
    /// A sink can take nothing now: to be called again a little later, and nothing is to be read meanwhile.
    Blocked,
    /// An operator waits for something outside and nothing else can be done: its waker tells when to go on.
    Waiting {
        /// Whether more may be read meanwhile.
        room: bool,
    },
    /// The open epoch is closed: everything it emits is in the outbox, and its capability can go once that is sent.
    Closed {
        /// The epoch.
        epoch: Epoch,
        /// Present when the tick asked for a checkpoint.
        snapshot: Option<StageSnapshot>,
    },
}

/// What a stage hands out at a checkpoint; a driver makes it durable and reports to the coordinator.
pub struct StageSnapshot {
    /// The checkpoint's epoch.
    pub epoch: Epoch,
    /// State of the operators that have any.
    pub operators: Vec<(OperatorId, OperatorExport)>,
    /// Key groups that are in it whole, by operator: what older files hold of them is dead.
    pub whole: BTreeMap<OperatorId, Range<u32>>,
    /// The splits this subtask owns (source stages).
    pub splits: Vec<SplitState>,
    /// Work that makes the sinks' staged output durable.
    pub sinks: Vec<(OperatorId, Prepared)>,
}

impl std::fmt::Debug for StageSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StageSnapshot")
            .field("epoch", &self.epoch)
            .field("operators", &self.operators)
            .field("splits", &self.splits)
            .field("sinks", &self.sinks.iter().map(|(id, _)| id).collect::<Vec<_>>())
            .finish()
    }
}

/// What a stage is given when a job is restored.
#[derive(Debug, Default)]
pub struct StageImport {
    /// State by operator.
    pub operators: BTreeMap<OperatorId, OperatorImport>,
    /// All splits of the job's checkpoint; the stage keeps those it owns.
    pub splits: Vec<SplitState>,
}

/// How a call of [`StageTask::read`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// Rows were queued for the open epoch; read on when there is budget.
    Rows {
        /// Rows read.
        rows: usize,
        /// Their size in memory, bytes.
        bytes: usize,
    },
    /// All readers are pending; the waker tells.
    Pending,
    /// Every split that this subtask owns has reached its end.
    Finished,
}

/// Figures of one node of the stage.
#[derive(Debug, Clone, Default)]
pub struct NodeStats {
    /// Rows in (sources: rows read).
    pub rows_in: u64,
    /// Rows out.
    pub rows_out: u64,
    /// Time spent in the node, nanoseconds; filled in by drivers that have a clock (see [`StageTask::set_clock`]).
    pub busy_ns: u64,
    /// The operator's own figures.
    pub operator: OperatorStats,
    /// Records skipped as malformed (sources).
    pub skipped: u64,
    /// Watermark of the node's last closed epoch, if it has one.
    pub watermark: Option<Millis>,
}

/// See the module's documentation.
pub struct StageTask {
    subtask: Subtask,
    nodes: Vec<StageNode>,
    inputs: Vec<StageInput>,
    outputs: Vec<StageOutput>,
    source: Option<SourceTask>,
    open: Epoch,
    /// Rows are held until the epoch closes, then fed sorted by (input, sender, sequence): some operator minds the order.
    held: bool,
    /// Received and not yet fed, by epoch.
    queue: BTreeMap<Epoch, VecDeque<(usize, Envelope)>>,
    closes: VecDeque<Tick>,
    /// The close under way: its tick and the next node to end.
    closing: Option<(Tick, usize)>,
    compactions: BTreeMap<OperatorId, Range<u32>>,
    outbox: Vec<Outgoing>,
    scratch: Output,
    now_ns: Option<fn() -> u64>,
}

/// Where rows enter from a channel.
struct StageInput {
    node: usize,
    port: usize,
    /// A channel that stays on this worker.
    forward: bool,
    watermarks: InputWatermarks,
}

struct StageNode {
    index: NodeIndex,
    id: OperatorId,
    title: String,
    logic: Logic,
    /// (node of this stage, port)
    successors: Vec<(usize, usize)>,
    outputs: Vec<usize>,
    /// Nodes of this stage whose output it reads.
    predecessors: Vec<usize>,
    inputs: Vec<usize>,
    pending: VecDeque<(usize, RecordBatch)>,
    /// How its last call ended.
    called: Progress,
    /// What it says of its event time; never falls.
    status: Watermark,
    rows_in: u64,
    rows_out: u64,
    busy_ns: u64,
}

enum Logic {
    Source,
    Operator(Box<dyn Operator>),
    Sink(Box<dyn SinkWriter>),
}

impl StageTask {
    /// A stage that is about to open `first_epoch`.
    pub fn new(
        plan: &ExecutionPlan,
        stage: StageIndex,
        context: &SinkContext,
        connectors: &Connectors,
        first_epoch: Epoch,
        waker: Waker,
    ) -> Result<Self> {
        let (graph, stage) = (&plan.graph, &plan.stages[stage]);
        let subtask = context.subtask;
        let local = |node: NodeIndex| stage.nodes.iter().position(|other| *other == node);
        let mut nodes = Vec::with_capacity(stage.nodes.len());
        let mut source = None;
        for index in &stage.nodes {
            let node = &graph.nodes[*index];
            let logic = match &node.spec {
                OperatorSpec::Source(spec) => {
                    let connector = connectors.sources.get(&node.id).ok_or_else(|| missing(node))?;
                    source = Some(SourceTask::new(node, spec, Arc::clone(connector), context, Arc::clone(&waker))?);
                    Logic::Source
                }
                OperatorSpec::Sink(_) => {
                    let connector = connectors.sinks.get(&node.id).ok_or_else(|| missing(node))?;
                    let delivery = context.delivery.of_sink(graph, *index);
                    Logic::Sink(connector.writer(&SinkContext { delivery, ..context.clone() })?)
                }
                OperatorSpec::LookupJoin(spec) => {
                    let lookup = connectors.lookups.get(&node.id).ok_or_else(|| missing(node))?;
                    let input = graph.inputs(*index).next().ok_or_else(|| missing(node))?;
                    let input = &graph.nodes[input.from].schema;
                    let table = lookup.open(Arc::clone(&waker))?;
                    Logic::Operator(Box::new(LookupJoin::new(node.title.clone(), spec, input, &node.schema, table, lookup.cache())?))
                }
                _ => {
                    let schemas: Vec<_> = graph.inputs(*index).map(|edge| Arc::clone(&graph.nodes[edge.from].schema)).collect();
                    Logic::Operator(operators::build(node, &schemas, subtask)?)
                }
            };
            nodes.push(StageNode::new(*index, node, logic));
        }
        for edge in &graph.edges {
            if let (Some(from), Some(to)) = (local(edge.from), local(edge.to))
                && !stage.inputs.iter().any(|c| plan.channels[*c].to_node == edge.to && plan.channels[*c].port == edge.port)
            {
                nodes[from].successors.push((to, edge.port));
                nodes[to].predecessors.push(from);
            }
        }
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for (number, channel) in stage.inputs.iter().map(|channel| &plan.channels[*channel]).enumerate() {
            let node = local(channel.to_node).ok_or_else(|| missing(&graph.nodes[channel.to_node]))?;
            nodes[node].inputs.push(number);
            let forward = channel.exchange == Exchange::Forward;
            let senders = if forward { 1 } else { subtask.workers as usize };
            inputs.push(StageInput { node, port: channel.port, forward, watermarks: InputWatermarks::new(senders) });
        }
        for (number, channel) in stage.outputs.iter().map(|channel| &plan.channels[*channel]).enumerate() {
            let node = local(channel.from_node).ok_or_else(|| missing(&graph.nodes[channel.from_node]))?;
            nodes[node].outputs.push(number);
            outputs.push(StageOutput::new(number, channel.exchange.clone(), subtask));
        }
        let held = nodes.iter().any(|node| matches!(&node.logic, Logic::Operator(operator) if operator.ordered()));
        Ok(Self {
            subtask,
            nodes,
            inputs,
            outputs,
            source,
            open: first_epoch,
            held,
            queue: BTreeMap::new(),
            closes: VecDeque::new(),
            closing: None,
            compactions: BTreeMap::new(),
            outbox: Vec::new(),
            scratch: Output::default(),
            now_ns: None,
        })
    }

    /// Gives each node the state of a checkpoint. Before any other call.
    pub fn restore(&mut self, mut import: StageImport) -> Result<()> {
        for node in &mut self.nodes {
            if let (Logic::Operator(operator), Some(state)) = (&mut node.logic, import.operators.remove(&node.id)) {
                operator.restore(state).map_err(|error| error.at(&node.title))?;
            }
        }
        match &mut self.source {
            Some(source) => source.restore(&import.splits),
            None => Ok(()),
        }
    }

    /// A monotonic nanosecond clock for busy times; without it they stay 0.
    pub fn set_clock(&mut self, now_ns: fn() -> u64) {
        self.now_ns = Some(now_ns);
    }

    /// Queues a message of input `input`; of the open epoch or a later one.
    pub fn receive(&mut self, input: usize, epoch: Epoch, envelope: Envelope) {
        debug_assert!(epoch >= self.open, "epoch {epoch} is closed");
        self.queue.entry(epoch).or_default().push_back((input, envelope));
    }

    /// Source stages: reads about one batch from the next split in turn into the open epoch. Not while a close waits.
    pub fn read(&mut self) -> Result<SourceStatus> {
        let Some(source) = &mut self.source else { return Ok(SourceStatus::Finished) };
        debug_assert!(self.closes.is_empty() && self.closing.is_none(), "the open epoch is being closed");
        let started = self.now_ns.map(|now| now());
        let read = source.read();
        let node = &mut self.nodes[0];
        if let (Some(now), Some(started)) = (self.now_ns, started) {
            node.busy_ns += now() - started;
        }
        match read.map_err(|error| error.at(&node.title))? {
            SourceRead::Pending => Ok(SourceStatus::Pending),
            SourceRead::Finished => Ok(SourceStatus::Finished),
            SourceRead::Rows { batch, read, bytes } => {
                node.rows_in += read as u64;
                self.scratch.batches.push(batch);
                self.forward(0)?;
                Ok(SourceStatus::Rows { rows: read, bytes })
            }
        }
    }

    /// All input of `tick.epoch` has been received; the epoch closes behind it. Epochs close in order, none is skipped.
    pub fn close(&mut self, tick: Tick) {
        debug_assert_eq!(tick.epoch, self.open + self.closes.len() as u64 + u64::from(self.closing.is_some()));
        self.closes.push_back(tick);
    }

    /// Exports these key groups whole at the next checkpoint (compaction, asked for by whoever keeps the files).
    pub fn compact(&mut self, operator: &OperatorId, whole: Range<u32>) {
        self.compactions.insert(operator.clone(), whole);
    }

    /// Does one bounded step: deepest node first, so that what is under way ends before more is begun.
    pub fn work(&mut self) -> Result<Work> {
        for node in &mut self.nodes {
            if let Logic::Sink(writer) = &mut node.logic
                && !writer.ready().map_err(|error| error.at(&node.title))?
            {
                return Ok(Work::Blocked);
            }
        }
        // Whether those that wait have room, if any waits.
        let mut room = None;
        for node in (0..self.nodes.len()).rev() {
            let before = self.nodes[node].called;
            if before != Progress::Done {
                let emitted = self.step(node, true)?;
                if before == Progress::More || emitted || self.nodes[node].called != before {
                    return Ok(Work::Busy);
                }
            }
            let full = self.nodes[node].called == Progress::Waiting { room: false };
            if !full && !self.nodes[node].pending.is_empty() {
                self.step(node, false)?;
                return Ok(Work::Busy);
            }
            if before != Progress::Done {
                room = Some(room.unwrap_or(true) && !full);
            }
        }
        if room == Some(false) || (room.is_some() && self.closing.is_some()) {
            return Ok(Work::Waiting { room: false });
        }
        if self.closing.is_some() {
            return self.go_on_closing();
        }
        if !self.held
            && let Some((input, envelope)) = self.queue.get_mut(&self.open).and_then(VecDeque::pop_front)
        {
            self.feed(input, envelope);
            return Ok(Work::Busy);
        }
        let Some(tick) = self.closes.pop_front() else { return Ok(room.map_or(Work::Idle, |room| Work::Waiting { room })) };
        self.begin_close();
        self.closing = Some((tick, 0));
        Ok(Work::Busy)
    }

    /// Messages to deliver, in order.
    pub fn outbox(&mut self) -> &mut Vec<Outgoing> {
        &mut self.outbox
    }

    /// The epoch that is open.
    pub fn open_epoch(&self) -> Epoch {
        self.open
    }

    /// Source stages: whether every owned split has ended, as of the last close.
    pub fn finished(&self) -> bool {
        self.source.as_ref().is_none_or(SourceTask::finished)
    }

    /// This stage's place.
    pub fn subtask(&self) -> Subtask {
        self.subtask
    }

    /// Figures by node index.
    pub fn stats(&self) -> Vec<(NodeIndex, NodeStats)> {
        let figures = |node: &StageNode| NodeStats {
            rows_in: node.rows_in,
            rows_out: node.rows_out,
            busy_ns: node.busy_ns,
            operator: match &node.logic {
                Logic::Operator(operator) => operator.stats(),
                _ => OperatorStats::default(),
            },
            skipped: match &node.logic {
                Logic::Source => self.source.as_ref().map_or(0, SourceTask::skipped),
                _ => 0,
            },
            watermark: Some(node.status.time()).filter(|time| *time > WATERMARK_MIN),
        };
        self.nodes.iter().map(|node| (node.index, figures(node))).collect()
    }

    /// Hands a message of the open epoch to its node.
    fn feed(&mut self, input: usize, envelope: Envelope) {
        let input = &mut self.inputs[input];
        match envelope.payload {
            Payload::Rows(batch) => self.nodes[input.node].pending.push_back((input.port, batch)),
            Payload::Watermark(watermark) => input.watermarks.said(envelope.sender, watermark),
        }
    }

    /// One call of one node: goes on with its last one, or hands it the next batch. Whether it emitted anything.
    fn step(&mut self, index: usize, resume: bool) -> Result<bool> {
        let node = &mut self.nodes[index];
        let started = self.now_ns.map(|now| now());
        let called = match (&mut node.logic, resume) {
            (Logic::Operator(operator), true) => operator.resume(&mut self.scratch),
            (logic, _) => match node.pending.pop_front() {
                None => Ok(Progress::Done),
                Some((port, batch)) => {
                    node.rows_in += batch.num_rows() as u64;
                    match logic {
                        Logic::Operator(operator) => operator.on_batch(port, &batch, &mut self.scratch),
                        Logic::Sink(writer) => writer.write(&batch).map(|()| Progress::Done),
                        Logic::Source => Ok(Progress::Done),
                    }
                }
            },
        };
        if let (Some(now), Some(started)) = (self.now_ns, started) {
            node.busy_ns += now() - started;
        }
        node.called = called.map_err(|error| error.at(&node.title))?;
        let emitted = !self.scratch.batches.is_empty();
        self.forward(index)?;
        Ok(emitted)
    }

    /// Hands what a node emitted to its successors and outputs.
    fn forward(&mut self, index: usize) -> Result<()> {
        let mut batches = std::mem::take(&mut self.scratch.batches);
        for batch in batches.drain(..) {
            self.nodes[index].rows_out += batch.num_rows() as u64;
            for output in 0..self.nodes[index].outputs.len() {
                let output = self.nodes[index].outputs[output];
                self.outputs[output].rows(self.open, &batch, &mut self.outbox)?;
            }
            for successor in 0..self.nodes[index].successors.len() {
                let (to, port) = self.nodes[index].successors[successor];
                self.nodes[to].pending.push_back((port, batch.clone()));
            }
        }
        self.scratch.batches = batches;
        Ok(())
    }

    /// Everything of the open epoch has arrived: feeds what is still queued, in order where that matters.
    fn begin_close(&mut self) {
        let mut rest: Vec<_> = self.queue.remove(&self.open).unwrap_or_default().into();
        rest.sort_by_key(|(input, envelope)| (*input, envelope.sender, envelope.seq));
        for (input, envelope) in rest {
            self.feed(input, envelope);
        }
    }

    /// Ends the epoch node by node: all that a node emits is consumed before its successors end theirs.
    fn go_on_closing(&mut self) -> Result<Work> {
        let Some((tick, next)) = self.closing.take() else { return Ok(Work::Idle) };
        if next < self.nodes.len() {
            self.end_node(next, &tick)?;
            self.closing = Some((tick, next + 1));
            return Ok(Work::Busy);
        }
        for node in &self.nodes {
            for output in &node.outputs {
                self.outputs[*output].close(self.open, node.status, &mut self.outbox);
            }
        }
        let snapshot = if tick.checkpoint { Some(self.snapshot(&tick)?) } else { None };
        let epoch = self.open;
        self.open += 1;
        Ok(Work::Closed { epoch, snapshot })
    }

    fn end_node(&mut self, index: usize, tick: &Tick) -> Result<()> {
        let status = match (&self.nodes[index].logic, &mut self.source) {
            (Logic::Source, Some(source)) => source.close(tick).map_err(|error| error.at(&self.nodes[index].title))?,
            _ => {
                let node = &self.nodes[index];
                let inner = node.predecessors.iter().map(|node| self.nodes[*node].status);
                let outer = node.inputs.iter().map(|input| {
                    let input = &mut self.inputs[*input];
                    input.watermarks.close(input.forward)
                });
                watermarks::minimum(inner.chain(outer))
            }
        };
        let node = &mut self.nodes[index];
        node.status = watermarks::advance(node.status.time(), status);
        let end = EpochEnd { epoch: tick.epoch, wall_time: tick.wall_time, watermark: node.status.time() };
        let started = self.now_ns.map(|now| now());
        let called = match &mut node.logic {
            Logic::Source => Ok(Progress::Done),
            Logic::Operator(operator) => operator.on_epoch_end(&end, &mut self.scratch),
            Logic::Sink(writer) => {
                writer.watermark(node.status);
                writer.end_epoch(tick.epoch).map(|()| Progress::Done)
            }
        };
        if let (Some(now), Some(started)) = (self.now_ns, started) {
            node.busy_ns += now() - started;
        }
        node.called = called.map_err(|error| error.at(&node.title))?;
        self.forward(index)
    }

    /// The state as of the epoch that just ended, without a pause: buffers are shared, not copied.
    fn snapshot(&mut self, tick: &Tick) -> Result<StageSnapshot> {
        let mut snapshot =
            StageSnapshot { epoch: tick.epoch, operators: Vec::new(), whole: BTreeMap::new(), splits: Vec::new(), sinks: Vec::new() };
        for node in &mut self.nodes {
            match &mut node.logic {
                Logic::Source => {}
                Logic::Operator(operator) => {
                    let asked = self.compactions.remove(&node.id).unwrap_or(0..0);
                    let whole = if tick.savepoint.is_some() { self.subtask.key_groups() } else { asked };
                    let request = SnapshotRequest { epoch: tick.epoch, whole };
                    if let Some(export) = operator.snapshot(&request) {
                        snapshot.operators.push((node.id.clone(), export));
                        snapshot.whole.insert(node.id.clone(), request.whole);
                    }
                }
                Logic::Sink(writer) => {
                    let prepared = writer.prepare(tick.epoch).map_err(|error| error.at(&node.title))?;
                    snapshot.sinks.push((node.id.clone(), prepared));
                }
            }
        }
        snapshot.splits = self.source.as_ref().map(SourceTask::snapshot).unwrap_or_default();
        Ok(snapshot)
    }
}

impl StageNode {
    fn new(index: NodeIndex, node: &Node, logic: Logic) -> Self {
        Self {
            index,
            id: node.id.clone(),
            title: node.title.clone(),
            logic,
            successors: Vec::new(),
            outputs: Vec::new(),
            predecessors: Vec::new(),
            inputs: Vec::new(),
            pending: VecDeque::new(),
            called: Progress::Done,
            status: Watermark::Active(WATERMARK_MIN),
            rows_in: 0,
            rows_out: 0,
            busy_ns: 0,
        }
    }
}

fn missing(node: &Node) -> DataflowError {
    DataflowError::new(&node.title, ErrorKind::Bug, "no connector or place in the plan was made for it")
}
