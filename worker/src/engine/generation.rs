//! [io] One generation on one process, from its start line to its end.
//!
//! What can be done at the same time is: peers are dialled while the start record is read, state is read while peers are
//! waited for, and each worker decodes its state while others build their dataflow.

use std::net::TcpListener;
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rheos_checkpoint::manifest::Manifest;
use rheos_dataflow::coordinator::{Coordinator, JobFacts, Restored};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::time::StopMode;
use rheos_timely::handshake::{self, Identity};
use rheos_timely::job::{DEFAULT_BUDGET_BYTES, Decide, Remote, StatsBoard};
use rheos_timely::{Cluster, Job};

use super::channel::Reports;
use super::prepare::Prepared;
use super::stats::Figures;
use super::teller::{Clock, Teller};
use super::vault::Vault;
use super::wire::{EngineStats, Report, Start};
use super::{failure, restore};
use crate::supervise::usage;

/// Peers of a generation must have met within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Figures go to the supervisor this often.
const STATS_PERIOD: Duration = Duration::from_secs(1);

/// Runs it. Everything is committed and told when it returns.
pub(super) fn run(
    prepared: &Arc<Prepared>,
    start: &Start,
    listener: &TcpListener,
    reports: &Reports,
    remote: &Remote,
    mut clock: Clock,
) -> Result<()> {
    let runtime = prepared.runtime.handle();
    let workers = local_workers(prepared, start)?;
    let peers = dial(prepared, start, listener)?;
    let restored = runtime.block_on(restore::point(prepared, start))?;
    clock.part("record");
    let manifest = restored.point.manifest.clone().map(Arc::new);
    let imports = restore::imports(prepared, runtime, workers.clone(), manifest.clone());
    let peers = peers.recv().map_err(|_| DataflowError::new("data connection", ErrorKind::Bug, "its thread panicked"))??;
    clock.part("connect");

    let decide = (start.process == 0).then(|| coordinator(prepared, start, &restored)).transpose()?;
    if start.process == 0 {
        let reports = reports.clone();
        rheos_timely::discover(runtime, &prepared.connectors, remote, move |error| fail(&reports, &error));
    }
    let stats = Arc::new(StatsBoard::default());
    let vault = Arc::new(Vault::new(Arc::clone(prepared), start.generation, manifest.as_deref(), restored.publisher));
    let teller = Teller::new(reports.clone(), workers.len() as u32, Arc::clone(&vault), clock);
    let job = Job {
        plan: Arc::clone(&prepared.plan),
        uid: prepared.job.uid.clone(),
        generation: start.generation,
        delivery: prepared.job.delivery,
        groups: prepared.job.max_parallelism,
        connectors: prepared.connectors.clone(),
        first_epoch: restored.point.record.epoch + 1,
        budget_bytes: DEFAULT_BUDGET_BYTES,
        imports,
        start_permit: restored.permit,
        durability: vault,
        runtime: runtime.clone(),
        events: Arc::new(move |event| teller.tell(event)),
        remote: remote.clone(),
        stats: Arc::clone(&stats),
    };
    let figures = Figures::new(Arc::clone(prepared), stats);
    tell_figures(runtime, figures.clone(), reports.clone());
    let cluster = Cluster { process: start.process, slots: workers.len(), peers };
    let mode: StopMode = rheos_timely::run(cluster, job, decide)?;
    let _ = reports.send(&Report::Stats(measured(figures.collect())));
    let _ = reports.send(&Report::Ended { mode });
    Ok(())
}

/// Tells the supervisor why, and ends the process: network threads may still wait for peers.
pub(super) fn fail(reports: &Reports, error: &DataflowError) -> ! {
    tracing::error!(%error, "the engine failed");
    let _ = reports.send(&failure::report(error));
    std::process::exit(1)
}

fn local_workers(prepared: &Prepared, start: &Start) -> Result<Range<usize>> {
    let (slots, processes) = (prepared.job.slots.max(1) as usize, start.addresses.len());
    if slots * processes != prepared.job.parallelism as usize {
        let message = format!("{processes} processes of {slots} slots are not {} workers", prepared.job.parallelism);
        return Err(DataflowError::new("engine", ErrorKind::Bug, message));
    }
    Ok(start.process * slots..(start.process + 1) * slots)
}

/// What [`handshake::connect`] gives.
type Peers = Result<Vec<Option<std::net::TcpStream>>>;

/// Begins to connect.
fn dial(prepared: &Prepared, start: &Start, listener: &TcpListener) -> Result<mpsc::Receiver<Peers>> {
    let identity = Identity { uid: prepared.job.uid.clone(), generation: start.generation, process: start.process };
    let listener = listener.try_clone().map_err(|error| DataflowError::new("data connection", ErrorKind::Transient, error))?;
    let addresses = start.addresses.clone();
    let (sender, peers) = mpsc::channel();
    std::thread::spawn(move || sender.send(handshake::connect(&identity, &listener, &addresses, CONNECT_TIMEOUT)));
    Ok(peers)
}

fn coordinator(prepared: &Prepared, start: &Start, restored: &restore::Point) -> Result<Decide> {
    let job = &prepared.job;
    let facts = JobFacts::of(&prepared.plan, &job.uid, start.generation, job.parallelism, job.max_parallelism);
    let manifest: Option<&Manifest> = restored.point.manifest.as_ref();
    let from = Restored::read(&restored.point.record, manifest)?;
    for (id, source) in &prepared.connectors.sources {
        source.restored(&from.splits.iter().filter(|split| split.assignment.source == *id).collect::<Vec<_>>());
    }
    let mut coordinator = Coordinator::new(job.pacing.clone(), facts, from);
    Ok(Box::new(move |event, now| coordinator.handle(event, now)))
}

fn tell_figures(runtime: &tokio::runtime::Handle, figures: Figures, reports: Reports) {
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(STATS_PERIOD).await;
            let _ = reports.send(&Report::Stats(measured(figures.collect())));
        }
    });
}

/// With the memory that only this machine knows of.
fn measured(stats: EngineStats) -> EngineStats {
    EngineStats { peak_rss_bytes: usage::peak_rss_bytes(std::process::id()), ..stats }
}
