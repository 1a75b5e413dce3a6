//! [io] What a caller gives to a run, and what it hears from it.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rheos_checkpoint::CommitPermit;
use rheos_dataflow::coordinator::{Action, Event, Publication, PublishFailure, SnapshotReport};
use rheos_dataflow::error::Result;
use rheos_dataflow::graph::{NodeIndex, OperatorId};
use rheos_dataflow::plan::{ExecutionPlan, StageIndex};
use rheos_dataflow::sink::Delivery;
use rheos_dataflow::stage::{Connectors, NodeStats, StageImport, StageSnapshot};
use rheos_dataflow::time::{Epoch, Millis, StopMode};

use crate::mailbox::Mailbox;

/// Bytes that one worker may have in flight before its sources stop reading, unless told otherwise.
pub const DEFAULT_BUDGET_BYTES: u64 = 64 * 1024 * 1024;

/// A future that a runtime's thread can drive.
pub type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

/// This process among its peers.
#[derive(Debug)]
pub struct Cluster {
    /// Its index.
    pub process: usize,
    /// Worker threads in each process; worker `i` runs in process `i / slots`.
    pub slots: usize,
    /// A connected and authenticated socket to every process, by index; `None` at its own.
    pub peers: Vec<Option<TcpStream>>,
}

impl Cluster {
    /// All workers in this process.
    pub fn single(slots: usize) -> Self {
        Self { process: 0, slots, peers: vec![None] }
    }

    /// Workers of the whole job.
    pub fn workers(&self) -> usize {
        self.slots * self.peers.len()
    }

    /// The workers of this process.
    pub fn local(&self) -> Range<usize> {
        self.process * self.slots..(self.process + 1) * self.slots
    }
}

/// Everything that a run needs to know.
pub struct Job {
    /// The stages.
    pub plan: Arc<ExecutionPlan>,
    /// The job's unique id.
    pub uid: String,
    /// The generation of this run.
    pub generation: u64,
    /// What is promised.
    pub delivery: Delivery,
    /// Key groups (`maxParallelism`).
    pub groups: u32,
    /// Sources and sinks.
    pub connectors: Connectors,
    /// The epoch to open first: 1, or the one after the restored checkpoint.
    pub first_epoch: Epoch,
    /// See [`DEFAULT_BUDGET_BYTES`].
    pub budget_bytes: u64,
    /// Called on each worker's thread with its index: what to restore, by stage; empty for a fresh start.
    pub imports: Arc<dyn Fn(u32) -> Result<Vec<StageImport>> + Send + Sync>,
    /// The checkpoint store.
    pub durability: Arc<dyn Durability>,
    /// From the generation's start record: the right to commit again what that record carries (process 0).
    pub start_permit: Option<CommitPermit>,
    /// Where uploads, records and commits run.
    pub runtime: tokio::runtime::Handle,
    /// Hears what happens; called from worker threads and the runtime's, must not block.
    pub events: Arc<dyn Fn(EngineEvent) + Send + Sync>,
    /// The way in from the supervisor.
    pub remote: Remote,
    /// Figures, for whoever looks.
    pub stats: Arc<StatsBoard>,
}

/// `Coordinator::handle`, or a test's stand-in; the time is the wall clock's, in milliseconds.
pub type Decide = Box<dyn FnMut(Event, Millis) -> Vec<Action> + Send>;

/// What makes snapshots and records durable; implemented by the engine process over the checkpoint store.
pub trait Durability: Send + Sync {
    /// Makes one stage's part of a checkpoint durable. State that could not be written is kept and written with the
    /// next checkpoint: the operators have forgotten that it changed.
    ///
    /// # Errors
    /// Only for what a later checkpoint cannot mend (staged output is lost): the job must restart.
    fn persist(&self, request: PersistRequest) -> BoxFuture<Result<Persisted>>;

    /// Writes manifest and record.
    fn publish(&self, publication: Publication) -> BoxFuture<std::result::Result<CommitPermit, PublishFailure>>;
}

/// One stage's part of a checkpoint.
#[derive(Debug)]
pub struct PersistRequest {
    /// The stage.
    pub stage: StageIndex,
    /// The subtask.
    pub subtask: u32,
    /// What it exported.
    pub snapshot: StageSnapshot,
    /// To be copied into the report: by sink of this stage, up to which epoch its committables are committed.
    pub confirmed: BTreeMap<OperatorId, Epoch>,
}

/// A durable part of a checkpoint.
#[derive(Debug)]
pub struct Persisted {
    /// For the coordinator.
    pub report: SnapshotReport,
    /// Key groups to export whole next time, so that older files can go.
    pub compact: Vec<(OperatorId, Range<u32>)>,
}

/// What a run tells its caller.
#[derive(Debug, Clone)]
pub enum EngineEvent {
    /// A local worker has restored its state and built its dataflow.
    Built {
        /// The worker.
        worker: u32,
    },
    /// A source of this process has read its first row.
    FirstRow,
    /// A checkpoint is complete and its record written (process 0).
    CheckpointCompleted {
        /// The proof.
        permit: CommitPermit,
        /// Bytes newly written.
        bytes: u64,
        /// From the tick to the record.
        duration: Duration,
        /// The savepoint that it was written as.
        savepoint: Option<String>,
    },
    /// A checkpoint was given up (process 0).
    CheckpointAbandoned {
        /// Its epoch.
        epoch: Epoch,
        /// The savepoint that it was to be.
        savepoint: Option<String>,
        /// Why.
        reason: String,
    },
    /// A savepoint was refused (process 0).
    SavepointRefused {
        /// Its id.
        savepoint: String,
        /// Why.
        reason: String,
    },
    /// No checkpoint to end with could be made (process 0); the job goes on.
    StopFailed {
        /// Which end was tried.
        mode: StopMode,
        /// Why the last try failed.
        reason: String,
    },
    /// Every local worker has answered a ping.
    Pong {
        /// The ping's.
        nonce: u64,
    },
}

/// Sends commands into a run; cheap to clone. What comes before the run begins is kept for it.
#[derive(Clone, Default)]
pub struct Remote {
    pub(crate) control: Arc<Mailbox<Event>>,
    pub(crate) agents: Arc<Mutex<Vec<Arc<Mailbox<crate::agent::Mail>>>>>,
}

impl Remote {
    pub(crate) fn register(&self, agent: Arc<Mailbox<crate::agent::Mail>>) {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner).push(agent);
    }

    /// To the coordinator (process 0): a savepoint, a checkpoint, a stop, new splits.
    pub fn send(&self, event: Event) {
        self.control.send(event);
    }

    /// Asks every local worker thread for a sign of life: [`EngineEvent::Pong`]. False while there is none to ask.
    pub fn ping(&self, nonce: u64) -> bool {
        let agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let left = Arc::new(std::sync::atomic::AtomicUsize::new(agents.len()));
        for agent in agents.iter() {
            agent.send(crate::agent::Mail::Ping { nonce, left: Arc::clone(&left) });
        }
        !agents.is_empty()
    }
}

/// The newest figures of each local worker.
#[derive(Debug, Default)]
pub struct StatsBoard {
    workers: Mutex<BTreeMap<u32, WorkerStats>>,
}

/// Figures of one worker since its start.
#[derive(Debug, Clone, Default)]
pub struct WorkerStats {
    /// Newest tick seen.
    pub tick: Epoch,
    /// Its wall time.
    pub wall_time: Millis,
    /// All epochs below are closed everywhere.
    pub closed: Epoch,
    /// Bytes sent in open epochs, now and at most.
    pub in_flight_bytes: (u64, u64),
    /// Operator schedules of this worker's stages; rises only when there is something to do.
    pub schedules: u64,
    /// By node of the graph.
    pub nodes: Vec<(NodeIndex, NodeStats)>,
    /// Time from tick to closed everywhere of the last epochs, milliseconds, in order (worker 0).
    pub epoch_ms: Vec<f64>,
}

impl StatsBoard {
    /// The newest figures, by worker.
    pub fn workers(&self) -> BTreeMap<u32, WorkerStats> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn put(&self, worker: u32, stats: WorkerStats) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).insert(worker, stats);
    }
}
