//! [io] What the operators of one worker thread share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rheos_dataflow::error::DataflowError;
use rheos_dataflow::plan::StageIndex;
use rheos_dataflow::stage::{StageSnapshot, StageTask};
use rheos_dataflow::time::{Epoch, StopMode, Tick};
use timely::scheduling::{Activator, SyncActivator};

use crate::agent::Upward;
use crate::job::{EngineEvent, Job};
use crate::ledger::Ledger;

/// One worker's shared state. Operators of a worker run on one thread, one at a time.
pub(crate) struct Local {
    pub(crate) worker: u32,
    /// Ticks that some stage of this worker has still to close. A frontier past e implies that the local sources have
    /// closed e, so whoever needs tick e finds it here.
    pub(crate) ticks: RefCell<BTreeMap<Epoch, Tick>>,
    pub(crate) ledger: Ledger,
    /// Wakes each stage, by index.
    pub(crate) stages: RefCell<Vec<Activator>>,
    /// The stages, for figures and compaction.
    pub(crate) tasks: RefCell<Vec<Rc<RefCell<StageTask>>>>,
    /// Snapshots on their way to the agent.
    pub(crate) snapshots: RefCell<VecDeque<(StageIndex, StageSnapshot)>>,
    /// Messages for the coordinator, on their way to the agent.
    pub(crate) upward: RefCell<Vec<Upward>>,
    /// Wakes the agent.
    pub(crate) agent: RefCell<Option<Activator>>,
    /// Rows read by the sources of this worker in the epoch that closes next.
    pub(crate) rows_read: Cell<u64>,
    pub(crate) read_any: Cell<bool>,
    /// What the coordinator knows: whether the sources of this worker read rows.
    pub(crate) busy: Cell<bool>,
    pub(crate) schedules: Cell<u64>,
    /// How the job ends, once nothing more comes.
    pub(crate) ended: Cell<Option<StopMode>>,
    /// Tick-to-closed times of the last epochs, milliseconds (worker 0).
    pub(crate) epoch_ms: RefCell<VecDeque<f64>>,
    pub(crate) events: Arc<dyn Fn(EngineEvent) + Send + Sync>,
    pub(crate) failure: Arc<Failure>,
}

impl Local {
    pub(crate) fn new(worker: u32, job: &Job, failure: Arc<Failure>) -> Rc<Self> {
        Rc::new(Self {
            worker,
            events: Arc::clone(&job.events),
            ticks: RefCell::default(),
            ledger: Ledger::new(job.budget_bytes, job.first_epoch),
            stages: RefCell::default(),
            tasks: RefCell::default(),
            snapshots: RefCell::default(),
            upward: RefCell::default(),
            agent: RefCell::default(),
            rows_read: Cell::new(0),
            read_any: Cell::new(false),
            busy: Cell::new(false),
            schedules: Cell::new(0),
            ended: Cell::new(None),
            epoch_ms: RefCell::default(),
            failure,
        })
    }

    pub(crate) fn tick(&self, epoch: Epoch) -> Option<Tick> {
        self.ticks.borrow().get(&epoch).cloned()
    }

    /// Drops the ticks that every stage of this worker has closed.
    pub(crate) fn forget_ticks(&self) {
        let open = self.tasks.borrow().iter().map(|task| task.borrow().open_epoch()).min();
        let mut ticks = self.ticks.borrow_mut();
        while let Some(oldest) = ticks.first_entry()
            && open.is_some_and(|open| *oldest.key() < open)
        {
            oldest.remove();
        }
    }

    pub(crate) fn wake_agent(&self) {
        if let Some(agent) = &*self.agent.borrow() {
            agent.activate();
        }
    }

    pub(crate) fn wake_stages(&self) {
        for stage in &*self.stages.borrow() {
            stage.activate();
        }
    }
}

/// How the workers of a process fare: the first error ends them all.
#[derive(Default)]
pub(crate) struct Failure {
    failed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    workers: Mutex<Vec<SyncActivator>>,
}

#[derive(Default)]
struct State {
    error: Option<DataflowError>,
    finished: usize,
}

impl Failure {
    /// Wakes this worker when any fails.
    pub(crate) fn watch(&self, worker: SyncActivator) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
    }

    /// Keeps the first error and stops the workers of this process.
    pub(crate) fn fail(&self, error: DataflowError) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).error.get_or_insert(error);
        self.failed.store(true, Ordering::Release);
        self.changed.notify_all();
        for worker in &*self.workers.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = worker.activate();
        }
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// One worker thread is done, in whichever way.
    pub(crate) fn finished(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).finished += 1;
        self.changed.notify_all();
    }

    /// Blocks until all `workers` are done or one has failed.
    pub(crate) fn wait(&self, workers: usize) -> Result<(), DataflowError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_while(state, |state| state.error.is_none() && state.finished < workers);
        waited.unwrap_or_else(PoisonError::into_inner).error.take().map_or(Ok(()), Err)
    }
}
