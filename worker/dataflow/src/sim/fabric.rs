//! [pure] The stages of all workers and what is on its way between them, moved one seeded choice at a time.
//!
//! Messages of one sender to one receiver keep their order; everything else may happen in any order. An epoch closes at
//! a stage when its tick has come (sources) or when every sender has closed it and nothing of it is on its way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::generation::GROUPS;
use crate::envelope::Envelope;
use crate::error::Result;
use crate::graph::{Exchange, OperatorId};
use crate::key_group::Subtask;
use crate::plan::{ExecutionPlan, StageIndex};
use crate::sink::{Delivery, SinkContext};
use crate::stage::{Connectors, SourceStatus, StageImport, StageSnapshot, StageTask, Work};
use crate::time::{Epoch, Tick};

/// The job's id in the simulator.
pub(super) const JOB_UID: &str = "simulated";

/// Something that can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    /// One step of a stage.
    Work(usize),
    /// A stage learns that its open epoch is complete.
    Close(usize),
    /// A source reads.
    Read(usize),
    /// The oldest message of a queue arrives.
    Deliver(usize),
    /// A worker's oldest tick arrives.
    Tick(usize),
}

/// What a move brought about, for the driver.
#[derive(Debug)]
pub(super) enum Happened {
    /// Nothing that the driver has to know.
    Nothing,
    /// A stage closed an epoch.
    Closed { node: usize, epoch: Epoch, snapshot: Option<StageSnapshot>, rows_read: u64 },
}

pub(super) struct NodeState {
    pub(super) stage: StageIndex,
    pub(super) worker: u32,
    pub(super) task: StageTask,
    is_source: bool,
    busy: bool,
    /// A tick was given and its end has not come.
    closing: bool,
    /// The epoch that it closed last is to be the job's last: it reads nothing before the next one closes.
    paused: bool,
    /// It left out a snapshot, and takes it one epoch later (a planted bug).
    pub(super) late: bool,
    rows_read: u64,
}

/// See the module's documentation.
pub(super) struct Fabric {
    pub(super) plan: Arc<ExecutionPlan>,
    pub(super) workers: u32,
    /// By stage, then worker.
    pub(super) nodes: Vec<NodeState>,
    /// By channel, then sender, then receiver.
    queues: Vec<VecDeque<(Epoch, Envelope)>>,
    ticks: BTreeMap<Epoch, Tick>,
    /// By worker: ticks that have come, and those on their way.
    arrived: Vec<Epoch>,
    on_their_way: Vec<VecDeque<Epoch>>,
    /// Sources stop reading.
    pub(super) dry: bool,
    /// A planted bug: stages behind an exchange take their snapshots one epoch late.
    pub(super) late_snapshots: bool,
}

impl Fabric {
    /// The stages of `workers` workers, about to open `first_epoch`. `imports`: by stage, then worker.
    pub(super) fn new(
        plan: &Arc<ExecutionPlan>,
        workers: u32,
        generation: u64,
        delivery: Delivery,
        connectors: &Connectors,
        first_epoch: Epoch,
        imports: Option<Vec<StageImport>>,
    ) -> Result<Self> {
        let mut imports = imports.unwrap_or_default().into_iter();
        let mut nodes = Vec::new();
        for (stage, cut) in plan.stages.iter().enumerate() {
            for worker in 0..workers {
                let subtask = Subtask { index: worker, workers, groups: GROUPS };
                let context = SinkContext { job_uid: JOB_UID.into(), generation, subtask, delivery };
                let mut task = StageTask::new(plan, stage, &context, connectors, first_epoch, Arc::new(|| {}))?;
                if let Some(import) = imports.next() {
                    task.restore(import)?;
                }
                let is_source = cut.source.is_some();
                nodes.push(NodeState {
                    stage,
                    worker,
                    task,
                    is_source,
                    busy: true,
                    closing: false,
                    paused: false,
                    late: false,
                    rows_read: 0,
                });
            }
        }
        let queues = plan.channels.len() * (workers * workers) as usize;
        Ok(Self {
            plan: Arc::clone(plan),
            workers,
            nodes,
            queues: (0..queues).map(|_| VecDeque::new()).collect(),
            ticks: BTreeMap::new(),
            arrived: vec![first_epoch.saturating_sub(1); workers as usize],
            on_their_way: vec![VecDeque::new(); workers as usize],
            dry: false,
            late_snapshots: false,
        })
    }

    /// Sends a tick to every worker.
    pub(super) fn tick(&mut self, tick: Tick) {
        self.on_their_way.iter_mut().for_each(|ticks| ticks.push_back(tick.epoch));
        self.ticks.insert(tick.epoch, tick);
    }

    /// Every worker has closed all epochs below this one.
    pub(super) fn progress(&self) -> Epoch {
        self.nodes.iter().map(|node| node.task.open_epoch()).min().unwrap_or(Epoch::MAX)
    }

    /// The source that a node reads, if it does.
    pub(super) fn source(&self, node: usize) -> Option<OperatorId> {
        let source = self.plan.stages[self.nodes[node].stage].source?;
        Some(self.plan.graph.nodes[source].id.clone())
    }

    /// Adds what can happen next. Sources read only when `reading`.
    pub(super) fn moves(&self, reading: bool, moves: &mut Vec<Move>) {
        for (index, node) in self.nodes.iter().enumerate() {
            if node.busy {
                moves.push(Move::Work(index));
            }
            if reading && node.is_source && !node.closing && !node.paused && !self.dry {
                moves.push(Move::Read(index));
            }
            if !node.closing && self.complete(node) {
                moves.push(Move::Close(index));
            }
        }
        moves.extend((0..self.queues.len()).filter(|queue| !self.queues[*queue].is_empty()).map(Move::Deliver));
        moves.extend((0..self.on_their_way.len()).filter(|w| !self.on_their_way[*w].is_empty()).map(Move::Tick));
    }

    /// Whether all input of the node's open epoch has come.
    fn complete(&self, node: &NodeState) -> bool {
        let open = node.task.open_epoch();
        if node.is_source {
            return self.arrived[node.worker as usize] >= open;
        }
        self.ticks.contains_key(&open)
            && self.plan.stages[node.stage].inputs.iter().all(|channel| {
                let from = &self.plan.channels[*channel];
                let senders = if from.exchange == Exchange::Forward { node.worker..node.worker + 1 } else { 0..self.workers };
                senders.into_iter().all(|sender| {
                    let sent = self.nodes[from.from * self.workers as usize + sender as usize].task.open_epoch() > open;
                    let queue = &self.queues[self.queue(*channel, sender, node.worker)];
                    sent && queue.front().is_none_or(|(epoch, _)| *epoch > open)
                })
            })
    }

    fn queue(&self, channel: usize, from: u32, to: u32) -> usize {
        (channel * self.workers as usize + from as usize) * self.workers as usize + to as usize
    }

    /// Does one of [`Fabric::moves`].
    pub(super) fn make(&mut self, choice: Move) -> Result<Happened> {
        match choice {
            Move::Work(index) => return self.work(index),
            Move::Close(index) => {
                let node = &mut self.nodes[index];
                let mut tick = self.ticks[&node.task.open_epoch()].clone();
                if node.late {
                    tick.checkpoint = true;
                } else if self.late_snapshots && !node.is_source && tick.stop.is_none() {
                    node.late = tick.checkpoint;
                    tick.checkpoint = false;
                }
                (node.closing, node.busy) = (true, true);
                node.task.close(tick);
            }
            Move::Read(index) => {
                let node = &mut self.nodes[index];
                if let SourceStatus::Rows { rows, .. } = node.task.read()? {
                    node.rows_read += rows as u64;
                }
                node.busy = true;
                self.ship(index);
            }
            Move::Deliver(index) => {
                if let Some((epoch, envelope)) = self.queues[index].pop_front() {
                    let workers = self.workers as usize;
                    let (channel, to) = (index / workers / workers, index % workers);
                    let stage = self.plan.channels[channel].to;
                    let input = self.plan.stages[stage].inputs.iter().position(|c| *c == channel).unwrap_or_default();
                    let node = &mut self.nodes[stage * workers + to];
                    node.task.receive(input, epoch, envelope);
                    node.busy = true;
                }
            }
            Move::Tick(worker) => {
                if let Some(epoch) = self.on_their_way[worker].pop_front() {
                    self.arrived[worker] = epoch;
                }
            }
        }
        Ok(Happened::Nothing)
    }

    fn work(&mut self, index: usize) -> Result<Happened> {
        let node = &mut self.nodes[index];
        let work = node.task.work()?;
        let happened = match work {
            Work::Busy | Work::Blocked | Work::Waiting { .. } => Happened::Nothing,
            Work::Idle => {
                node.busy = false;
                Happened::Nothing
            }
            Work::Closed { epoch, mut snapshot } => {
                node.closing = false;
                node.paused = self.ticks.get(&epoch).is_some_and(|tick| tick.stop.is_some());
                // The tick that it should have been taken at is the last one that asked for a checkpoint.
                if let Some(snapshot) = snapshot.as_mut().filter(|_| self.late_snapshots)
                    && let Some((asked, _)) = self.ticks.range(..=epoch).rev().find(|(_, tick)| tick.checkpoint)
                {
                    snapshot.epoch = *asked;
                    node.late = false;
                }
                Happened::Closed { node: index, epoch, snapshot, rows_read: std::mem::take(&mut node.rows_read) }
            }
        };
        self.ship(index);
        Ok(happened)
    }

    /// Puts what a stage sends on its way.
    fn ship(&mut self, index: usize) {
        let (stage, from) = (self.nodes[index].stage, self.nodes[index].worker);
        for sent in std::mem::take(self.nodes[index].task.outbox()) {
            let queue = self.queue(self.plan.stages[stage].outputs[sent.output], from, sent.target);
            self.queues[queue].push_back((sent.epoch, sent.envelope));
        }
    }
}
