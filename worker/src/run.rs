//! [io] `rheos-worker run FILE`: a job on this machine, from its manifest to its end.
//!
//! Standard output belongs to the results of `print`; progress, log and the last word go to standard error. Ctrl-C or
//! SIGTERM stops with a checkpoint; a second one ends at once. Either way the same command goes on from the newest
//! checkpoint.

pub mod data_dir;
pub mod progress;
pub mod screen;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rheos_api::stream_job::DesiredState;
use rheos_api::validated::RestoreSource;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{EXIT_FAILED, EXIT_GOOD, EXIT_INVALID, RunArguments};
use crate::engine::wire::Job;
use crate::manifest::{self, Loaded};
use crate::run::data_dir::DataDir;
use crate::run::screen::Screen;
use crate::supervise::decide::{Outcome, Rules, STOP_GRACE};
use crate::supervise::driver::{Config, Ended, Supervisor};
use crate::supervise::handle::Handle;
use crate::supervise::mint::StoreMint;
use crate::supervise::process::Program;
use crate::supervise::roster::{Member, Place, Target};
use crate::{admin, logging};

/// At the end, clients of the results may take so long to get their last rows.
const LAST_ROWS: Duration = Duration::from_secs(5);
/// Namespace of jobs whose manifest names none.
const NAMESPACE: &str = "local";

/// Runs the command.
pub fn main(arguments: &RunArguments) -> ExitCode {
    let screen = Screen::of_this_process();
    logging::start(arguments.log_format, screen.is_live(), logging::LineWriter(screen.log()));
    let say = |problem: &str| screen.error_line(format!("error: {problem}\n").as_bytes());
    let loaded = match manifest::load(&arguments.file, arguments.parallelism) {
        Ok(loaded) => loaded,
        Err(errors) => {
            errors.iter().for_each(|error| say(error));
            return EXIT_INVALID.into();
        }
    };
    if let Err(problem) = runnable(&loaded) {
        say(&format!("{}: {problem}", arguments.file.display()));
        return EXIT_INVALID.into();
    }
    if loaded.job.state == DesiredState::Suspended {
        screen.error_line(b"spec.state is Suspended: nothing to run\n");
        return EXIT_GOOD.into();
    }
    let result = prepare(arguments, &loaded, &screen).and_then(|prepared| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        runtime.block_on(run(arguments, prepared, &screen))
    });
    match result {
        Ok(code) => code.into(),
        Err(problem) => {
            say(&problem);
            EXIT_FAILED.into()
        }
    }
}

/// Refuses by name what only a cluster can do.
fn runnable(loaded: &Loaded) -> Result<(), String> {
    if let Some(restore) = &loaded.job.restore
        && let RestoreSource::Savepoint(name) = &restore.from
    {
        return Err(format!("spec.restore.from.savepoint: {name:?} can only be found in a cluster; name its uri, or use --from"));
    }
    if loaded.job.replicas > 1 {
        return Err("spec.replication.replicas: more than one set of workers is not supported yet; use 1".to_owned());
    }
    Ok(())
}

/// What a run needs, all of it at hand.
struct Prepared {
    data: DataDir,
    target: Target,
    mint: StoreMint,
}

fn prepare(arguments: &RunArguments, loaded: &Loaded, screen: &Screen) -> Result<Prepared, String> {
    let spec = &loaded.job;
    let data = DataDir::open(&arguments.data_dir)?;
    let namespace = spec.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned());
    let identity = data.identity(&namespace, spec.name.as_str(), arguments.fresh)?;
    let (storage_uri, storage_options) =
        spec.checkpoint.storage.as_ref().map_or_else(|| (data.storage_uri(), BTreeMap::new()), manifest::storage);
    if let Some(left) = &identity.left {
        screen.error_line(
            format!("starting without state; what was there stays in {storage_uri}/{namespace}/{}/{left}\n", spec.name).as_bytes(),
        );
    }
    let restore = spec.restore.as_ref();
    let from = arguments.from.clone().or_else(|| match restore.map(|restore| &restore.from) {
        Some(RestoreSource::Uri(uri)) => Some(uri.clone()),
        _ => None,
    });
    let pacing = manifest::pacing(spec.checkpoint.interval, spec.checkpoint.timeout);
    let allow_non_restored_state = restore.is_some_and(|restore| restore.allow_non_restored_state);
    let members = manifest::members(spec.parallelism, spec.worker.slots)?;
    let job = Job {
        namespace,
        job: spec.name.to_string(),
        uid: identity.uid,
        sql: loaded.sql.clone(),
        pushdown: !arguments.no_pushdown,
        base_dir: loaded.base_dir.clone(),
        delivery: manifest::delivery(spec.delivery),
        parallelism: spec.parallelism,
        max_parallelism: spec.max_parallelism,
        slots: spec.parallelism / members,
        storage_uri,
        storage_options,
        retain: spec.checkpoint.retain,
        pacing,
        allow_non_restored_state,
    };
    let mint = StoreMint::new(&job, from.as_deref(), false)?;
    let roster = (0..members).map(|_| member()).collect::<Result<_, _>>()?;
    let rules = Rules { members: members as usize, restart: spec.restart, stop_deadline: spec.checkpoint.timeout + STOP_GRACE };
    let target = Target { assignment: None, rules, job, roster };
    Ok(Prepared { data, target, mint })
}

/// A member on this machine: its listener is bound once and lent to each generation.
fn member() -> Result<Member, String> {
    let bind = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok::<_, std::io::Error>(Member { pod: None, address: listener.local_addr()?, place: Place::Here(Arc::new(listener)) })
    };
    bind().map_err(|error| format!("cannot listen on the loopback: {error}"))
}

async fn run(arguments: &RunArguments, prepared: Prepared, screen: &Screen) -> Result<u8, String> {
    let Prepared { data, target, mint } = prepared;
    let job = &target.job;
    let storage = format!("{}/{}/{}/{}", job.storage_uri, job.namespace, job.job, job.uid);
    let name = job.job.clone();
    let program = Program {
        path: PathBuf::from("/proc/self/exe"),
        arguments: ["engine", "--log-format", arguments.log_format.as_str()].map(OsString::from).to_vec(),
        output: screen.lines(),
    };
    let config = Config { program, standby: !arguments.no_standby, target };
    let (supervisor, handle) = Supervisor::new(config, Arc::new(mint));
    let (address, serving) = admin::serve(arguments.admin, handle.clone()).await?;
    data.publish_admin(address).map_err(|error| format!("cannot write into {}: {error}", data.path().display()))?;
    begin(screen, &name, &storage, address);

    let progress = tokio::spawn(progress::follow(handle.watch(), screen.clone()));
    let results = handle.results().clone();
    let signals = tokio::spawn(follow_signals(handle, screen.clone()));
    let ended = supervisor.run().await;
    progress.abort();
    signals.abort();
    results.end(format!("{:?}", ended.view.state));
    serving.end(LAST_ROWS).await;
    data.withdraw_admin();
    screen.clear();
    if let Some(file) = &arguments.summary {
        let text = serde_json::to_vec_pretty(&ended.summary).map_err(|error| error.to_string())?;
        fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(conclude(screen, &ended, &storage))
}

fn begin(screen: &Screen, name: &str, storage: &str, address: SocketAddr) {
    screen.error_line(format!("job {name}; checkpoints in {storage}; admin API on http://{address}\n").as_bytes());
}

/// The first signal stops with a checkpoint, the second ends at once.
async fn follow_signals(handle: Handle, screen: Screen) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        tracing::warn!("signals cannot be followed; stop the job by its admin API");
        return;
    };
    for count in 0.. {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if count == 0 {
            screen.error_line(b"stopping with a checkpoint; once more ends at once\n");
            handle.stop().await;
        } else {
            handle.abort().await;
        }
    }
}

/// Says how it ended, where the state is and how to go on. Gives the exit code.
fn conclude(screen: &Screen, ended: &Ended, storage: &str) -> u8 {
    let summary = &ended.summary;
    let figures = format!(
        "{} rows read, {} written in {:.1} s; {} checkpoints, {} restarts",
        summary.rows_in, summary.rows_out, summary.wall_seconds, summary.checkpoints.completed, summary.restarts,
    );
    let newest = match ended.view.checkpoints.history.last() {
        Some(checkpoint) => format!("the checkpoint of epoch {} in {storage}", checkpoint.epoch),
        None => format!("where it began (no checkpoint was taken in this run; {storage})"),
    };
    let go_on = "the same command goes on from there, with any --parallelism; --fresh starts over";
    let (line, code) = match &ended.outcome {
        Outcome::Finished => (format!("finished: {figures}\n"), EXIT_GOOD),
        Outcome::Suspended => (format!("stopped: {figures}\nthe job stands at {newest}\n{go_on}\n"), EXIT_GOOD),
        Outcome::Aborted => (format!("ended at once: {figures}\nthe job stands at {newest}\n{go_on}\n"), EXIT_FAILED),
        Outcome::Failed(failure) => (format!("error: {failure}\nfailed: {figures}\nthe job stands at {newest}\n{go_on}\n"), EXIT_FAILED),
    };
    screen.error_line(line.as_bytes());
    code
}
