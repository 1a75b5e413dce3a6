//! [io] `rheos-worker pod`: one pod of a job in a cluster.
//!
//! ```text
//!   operator ──► admin API ──► office ──► supervisor (while this pod coordinates) ──► engines here and in other pods
//!                                │                                                        ▲
//!   coordinator elsewhere ──► relay (member port) ──► engine processes here ─────────────┘ data port
//! ```
//!
//! Every pod of a job is started alike. The one that is given an assignment coordinates; the others give it engines.
//! The process lives on when its job has ended, and shows how, until it is told to go.

pub mod facts;
pub mod keep;
pub mod leave;
pub mod office;
pub mod relay;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rheos_control_api::EXIT_DENIED;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::{EXIT_FAILED, EXIT_GOOD, EXIT_INVALID, POD_IP, POD_NAME, PodArguments};
use crate::pod::facts::Facts;
use crate::pod::keep::Keep;
use crate::pod::office::Office;
use crate::pod::relay::Relay;
use crate::supervise::handle;
use crate::supervise::mint::random;
use crate::supervise::process::Program;
use crate::{admin, logging};

/// A port may be held by what a killed predecessor has left for this long.
const BIND_PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries to bind it.
const BIND_RETRY: Duration = Duration::from_millis(20);
/// The kubelet reads this much of a termination message, bytes.
const TERMINATION_LIMIT: usize = 4_096;

/// Runs the command.
pub fn main(arguments: &PodArguments) -> ExitCode {
    logging::start(arguments.log_format, false, io::stderr);
    let (problem, code) = match prepare(arguments) {
        Ok(facts) => match run(arguments, facts) {
            Ok(()) => return EXIT_GOOD.into(),
            Err(ended) => ended,
        },
        Err(problems) => (problems.join("\n"), EXIT_INVALID),
    };
    tracing::error!(problem, "this pod cannot run");
    tell_kubelet(&arguments.termination_log, &problem);
    code.into()
}

fn prepare(arguments: &PodArguments) -> Result<Facts, Vec<String>> {
    let one = |problem: String| vec![problem];
    let (job, uid) = facts::read_job(&arguments.job)?;
    let token = facts::read_token(&arguments.token).map_err(one)?;
    let pod = arguments.pod.clone().or_else(|| std::env::var(POD_NAME).ok()).filter(|pod| !pod.is_empty());
    let pod = pod.ok_or_else(|| one(format!("the pod has no name: set {POD_NAME}, or use --pod")))?;
    let data = SocketAddr::new(bind_address(arguments), arguments.data_port);
    let listener = bind(data).map_err(|error| one(format!("the data port {data} cannot be bound: {error}")))?;
    let program = Program {
        path: PathBuf::from("/proc/self/exe"),
        arguments: ["engine", "--log-format", arguments.log_format.as_str()].map(OsString::from).to_vec(),
        output: None,
    };
    Ok(Facts {
        job,
        uid,
        token,
        pod,
        data_port: arguments.data_port,
        member_port: arguments.member_port,
        admin_port: arguments.admin_port,
        listener: Arc::new(listener),
        program,
        standby: !arguments.no_standby,
        session: random(),
    })
}

/// Runs the pod; an error is what to say, and the exit code.
fn run(arguments: &PodArguments, facts: Facts) -> Result<(), (String, u8)> {
    let failed = |problem: String| (problem, EXIT_FAILED);
    let keep = Keep::open(&arguments.dir).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(error.to_string()))?;
    runtime.block_on(async {
        let facts = Arc::new(facts);
        let at = |port: u16| SocketAddr::new(bind_address(arguments), port);
        let member = listen(at(arguments.member_port)).map_err(|error| failed(format!("the member port cannot be bound: {error}")))?;
        let api = listen(at(arguments.admin_port)).map_err(|error| failed(format!("the admin port cannot be bound: {error}")))?;
        let signals = signals().map_err(|error| failed(format!("signals cannot be followed: {error}")))?;
        let (handle, desk) = handle::open();
        let (relay, events) = Relay::new(Arc::clone(&facts), desk.results.clone());
        let serving = tokio::spawn(admin::serve_on(api, handle, Some(facts.token.clone())));
        let giving = tokio::spawn(relay.clone().serve(member));
        tracing::info!(pod = facts.pod, index = arguments.index, job = %facts.job.job.name, "this pod waits for an assignment");
        let office = Office::new(facts, keep, desk, (relay, events), arguments.termination_log.clone());
        let ended = office.run(signals).await;
        serving.abort();
        giving.abort();
        ended.map_err(|denied| (denied, EXIT_DENIED))
    })
}

/// One message for each signal that asks for the end.
fn signals() -> io::Result<mpsc::Receiver<()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// All addresses, of the kind that the pod has.
fn bind_address(arguments: &PodArguments) -> IpAddr {
    let kind = || std::env::var(POD_IP).ok().and_then(|ip| ip.parse().ok());
    arguments.bind.unwrap_or_else(|| match kind() {
        Some(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    })
}

/// Binds a port that the engines of a killed predecessor may hold for a moment longer.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let deadline = Instant::now() + BIND_PATIENCE;
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => std::thread::sleep(BIND_RETRY),
            bound => return bound,
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let listener = bind(address)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Leaves a message where the kubelet looks for it. Without such a file, there is nobody to tell.
fn tell_kubelet(path: &Path, message: &str) {
    let end = message.floor_char_boundary(TERMINATION_LIMIT.min(message.len()));
    let written = File::options().write(true).truncate(true).open(path).and_then(|mut file| file.write_all(&message.as_bytes()[..end]));
    if let Err(error) = written {
        tracing::debug!(%error, "no termination message was left");
    }
}
