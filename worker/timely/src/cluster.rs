//! [io] Runs a job on the worker threads of this process, together with its peers.

use std::any::Any;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::key_group::Subtask;
use rheos_dataflow::sink::SinkContext;
use rheos_dataflow::stage::{StageImport, StageTask};
use rheos_dataflow::time::{Epoch, StopMode};
use timely::WorkerConfig;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::{AllocatorBuilder, Config, Hooks, initialize_from};
use timely::dataflow::Scope;
use timely::dataflow::operators::core::Concatenate;
use timely::worker::Worker;

use crate::job::{Cluster, Decide, EngineEvent, Job};
use crate::local::{Failure, Local};
use crate::stage::Surroundings;
use crate::{agent, control, stage};

/// Runs `job` until it has drained and all its output is committed; process 0 brings the coordinator. Blocks; the dataflow runs on `cluster.slots` threads of its own.
///
/// When a peer is lost, timely's threads panic: see [`crate::exit::on_panic`].
///
/// # Errors
/// The first error of any worker of this process. The caller must then exit: peers wait for this process, and its
/// network threads still run.
pub fn run(cluster: Cluster, job: Job, coordinator: Option<Decide>) -> Result<StopMode> {
    let failure = Arc::new(Failure::default());
    let coordinator = Mutex::new(coordinator);
    let (job, neighbours, slots) = (Arc::new(job), cluster.local(), cluster.slots);
    let (builders, guard) = allocators(cluster)?;
    let shared = Arc::clone(&failure);
    let guards = initialize_from(builders, guard, move |allocator| {
        let _finished = Finished(Arc::clone(&shared));
        let mut worker = Worker::new(WorkerConfig::default(), allocator, Some(Instant::now()));
        let decide = coordinator.lock().unwrap_or_else(PoisonError::into_inner).take_if(|_| worker.index() == 0);
        match build(&mut worker, &job, neighbours.clone(), decide, &shared) {
            Ok(local) => drive(&mut worker, &local),
            Err(error) => {
                shared.fail(error);
                None
            }
        }
    });
    let guards = guards.map_err(|message| DataflowError::new("engine", ErrorKind::Transient, message))?;
    if let Err(error) = failure.wait(slots) {
        // Peers wait for us, and our network threads for them: only the exit of the process ends that.
        std::mem::forget(guards);
        return Err(error);
    }
    let mut end = Err(bug("the dataflow drained before its last tick".to_owned()));
    for result in guards.join() {
        match result {
            Ok(Some(mode)) => end = Ok(mode),
            Ok(None) => {}
            Err(message) => return Err(bug(format!("a worker thread panicked: {message}"))),
        }
    }
    end
}

fn bug(message: String) -> DataflowError {
    DataflowError::new("engine", ErrorKind::Bug, message)
}

/// Counts a worker thread as done even when it panics.
struct Finished(Arc<Failure>);

impl Drop for Finished {
    fn drop(&mut self) {
        self.0.finished();
    }
}

fn allocators(cluster: Cluster) -> Result<(Vec<AllocatorBuilder>, Box<dyn Any + Send>)> {
    let broken = |message: String| DataflowError::new("engine", ErrorKind::Transient, message);
    let hooks = Hooks::default();
    if cluster.peers.len() == 1 {
        let config = if cluster.slots == 1 { Config::Thread } else { Config::Process(cluster.slots) };
        return config.try_build_with(hooks).map_err(broken);
    }
    let inner = ProcessBuilder::new_typed_vector(cluster.slots, hooks.refill.clone(), hooks.spill.clone());
    let (builders, guard) = initialize_networking_from_sockets(inner, cluster.peers, cluster.process, cluster.slots, hooks)
        .map_err(|error| broken(error.to_string()))?;
    Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)))
}

/// Steps the worker until its dataflow has drained or the process has failed. How the job ended.
fn drive(worker: &mut Worker, local: &Local) -> Option<StopMode> {
    while worker.has_dataflows() && !local.failure.failed() {
        worker.step_or_park(None);
    }
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
    local.ended.get()
}

fn build(
    worker: &mut Worker,
    job: &Arc<Job>,
    neighbours: std::ops::Range<usize>,
    decide: Option<Decide>,
    failure: &Arc<Failure>,
) -> Result<Rc<Local>> {
    let index = worker.index() as u32;
    let subtask = Subtask { index, workers: worker.peers() as u32, groups: job.groups };
    let context = SinkContext { job_uid: job.uid.clone(), generation: job.generation, subtask, delivery: job.delivery };
    let imports = (job.imports)(index)?;
    let local = Local::new(index, job, Arc::clone(failure));
    let around = Surroundings { plan: &job.plan, local: &local, neighbours, peers: worker.peers() };
    worker.dataflow::<Epoch, _, _>(|scope| assemble(scope, job, &around, &context, imports, decide))?;
    (job.events)(EngineEvent::Built { worker: index });
    Ok(local)
}

/// Builds the worker's dataflow: control, agent, the stages in order, monitor. The same on every worker.
fn assemble(
    scope: Scope<'_, Epoch>,
    job: &Arc<Job>,
    around: &Surroundings<'_>,
    context: &SinkContext,
    imports: Vec<StageImport>,
    decide: Option<Decide>,
) -> Result<()> {
    let local = around.local;
    let (orders, host) = control::build(scope, job, local, decide);
    let reports = agent::build(scope, job, local, orders);
    let mut imports = imports.into_iter();
    let (mut streams, mut ends) = (BTreeMap::new(), Vec::new());
    for stage in 0..job.plan.stages.len() {
        let import = imports.next();
        let make = |waker| {
            let mut task = StageTask::new(&job.plan, stage, context, &job.connectors, job.first_epoch, waker)?;
            task.set_clock(now_ns);
            if let Some(import) = import {
                task.restore(import)?;
            }
            Ok(task)
        };
        ends.extend(stage::build(scope, around, stage, &mut streams, make)?);
    }
    let closed = scope.concatenate(ends);
    control::watch(scope, local, host, closed, reports);
    Ok(())
}

/// Nanoseconds since the process first asked: the clock of busy times.
fn now_ns() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
