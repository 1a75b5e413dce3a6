//! [io] What an engine does before it is given a generation: planning, connectors, the store's client.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use rheos_checkpoint::Protocol;
use rheos_checkpoint::paths::JobPaths;
use rheos_connectors::Environment;
use rheos_connectors::environment::PrintStream;
use rheos_connectors::secret::Secrets;
use rheos_connectors::staged::StagedStore;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::plan::ExecutionPlan;
use rheos_dataflow::stage::Connectors;

use super::channel::Reports;
use super::wire::{Job, Report};

/// Threads for uploads, records and commits: the dataflow has its own.
const IO_THREADS: usize = 2;

/// Names the folder of the Secrets that options refer to; see `rheos_connectors::secret`.
const SECRETS: &str = "RHEOS_SECRETS";
/// Where the operator mounts them, one folder a Secret.
const SECRETS_FOLDER: &str = "/etc/rheos/secrets";

/// A planned job, ready for any generation.
pub(super) struct Prepared {
    pub(super) job: Job,
    pub(super) plan: Arc<ExecutionPlan>,
    pub(super) connectors: Connectors,
    pub(super) protocol: Protocol,
    pub(super) runtime: tokio::runtime::Runtime,
    /// Checkpoints to keep; the job's at first.
    pub(super) retain: AtomicU32,
}

pub(super) fn prepare(job: Job, reports: &Reports) -> Result<Prepared> {
    let invalid = |error: &dyn std::fmt::Display| DataflowError::new("job", ErrorKind::User, error);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|error| DataflowError::new("engine", ErrorKind::Transient, error))?;
    ignore_termination(&runtime);
    let options = rheos_sql::PlanOptions {
        pushdown: job.pushdown,
        accepts_changelog: rheos_connectors::accepts_changelog,
        emits_changelog: rheos_connectors::emits_changelog,
        looks_up: rheos_connectors::looks_up,
    };
    let planned = rheos_sql::plan(&job.sql, &options).map_err(|errors| {
        let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
        invalid(&all.join("\n"))
    })?;
    let store = rheos_checkpoint::open(&job.storage_uri, &job.storage_options).map_err(|error| invalid(&error))?;
    let paths = JobPaths::new(&job.namespace, &job.job, &job.uid).map_err(|error| invalid(&error))?;
    let environment = Environment {
        storage_options: job.storage_options.clone(),
        print: Arc::new(print),
        secrets: Secrets::in_folder(std::env::var_os(SECRETS).map_or_else(|| SECRETS_FOLDER.into(), PathBuf::from)),
        staged: Some(StagedStore::new(Arc::clone(&store), &paths)?),
        announce: announcer(reports.clone()),
        ..Environment::new(&job.base_dir, runtime.handle().clone())
    };
    let connectors = rheos_connectors::connectors(&planned.graph, &environment)?;
    let protocol = Protocol::new(store, paths, nonce());
    let retain = AtomicU32::new(job.retain);
    Ok(Prepared { plan: Arc::new(ExecutionPlan::cut(planned.graph)), connectors, protocol, runtime, job, retain })
}

/// Tells the supervisor of new results.
fn announcer(reports: Reports) -> rheos_connectors::results::Announce {
    Arc::new(move |announcement| {
        // An error means that the supervisor is gone, and this process with it.
        let _ = reports.send(&Report::Results(announcement));
    })
}

/// Standard output belongs to the `print` sink.
fn print(stream: PrintStream, lines: &[u8]) {
    // A reader that is gone is no reason to fail the job: its results are a courtesy.
    let _ = match stream {
        PrintStream::Output => std::io::stdout().lock().write_all(lines),
        PrintStream::Error => std::io::stderr().lock().write_all(lines),
    };
}

/// The supervisor decides when an engine ends; a signal to the whole group is its to handle.
fn ignore_termination(runtime: &tokio::runtime::Runtime) {
    use tokio::signal::unix::{SignalKind, signal};
    let _context = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        // Once registered, the signal's default action never comes back.
        if let Err(error) = signal(kind) {
            tracing::warn!(%error, "cannot ignore a signal");
        }
    }
}

/// Differs between any two processes that ever work on a job.
fn nonce() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Seeded by the operating system's randomness.
    RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()))
}
