//! [io] The engine: the child process that runs the dataflow. It shares nothing with its supervisor but a socket.
//!
//! A life: read the [`wire::Job`], plan it and make its connectors (now it is a standby); read the [`wire::Start`];
//! restore and connect at the same time; run until the job ends, fails, or the socket is closed. What went wrong is told
//! in a [`Report::Failed`]; a peer that is lost or a panic only by the exit code (`rheos_timely::exit`).

pub mod channel;
mod failure;
mod generation;
mod prepare;
mod restore;
mod stats;
mod teller;
mod vault;
pub mod wire;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rheos_dataflow::coordinator::Event;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_timely::job::Remote;

use self::channel::{Channel, Reports};
use self::generation::fail;
use self::prepare::Prepared;
use self::teller::Clock;
use self::wire::{Command, Report};
use crate::cli::{EXIT_FAILED, EngineArguments};
use crate::logging;

/// Runs the command: everything else comes over the socket.
pub fn main(arguments: &EngineArguments) -> ExitCode {
    logging::start(arguments.log_format, false, std::io::stderr);
    rheos_timely::exit::on_panic();
    let mut channel = match Channel::open() {
        Ok(channel) => channel,
        Err(error) => {
            tracing::error!(%error, "standard input is no socket of a supervisor: the engine is started by `run` only");
            return EXIT_FAILED.into();
        }
    };
    let reports = channel.reports();
    match live(&mut channel, &reports) {
        Ok(()) => std::process::exit(0),
        Err(error) => fail(&reports, &error),
    }
}

fn live(channel: &mut Channel, reports: &Reports) -> Result<()> {
    let broken = |error: std::io::Error| DataflowError::new("supervisor", ErrorKind::Transient, error);
    let mut clock = Clock::new();
    let Some(job) = channel.job().map_err(broken)? else { return Ok(()) };
    let prepared = Arc::new(prepare::prepare(job, reports)?);
    clock.part("plan");
    let Some((start, listener)) = channel.start().map_err(broken)? else { return Ok(()) };
    clock.forget();
    let remote = Remote::default();
    let commands = Obey { prepared: Arc::clone(&prepared), remote: remote.clone(), reports: reports.clone() };
    std::thread::scope(|scope| {
        scope.spawn(move || commands.follow(channel));
        // The thread above waits for the supervisor for ever: end the process, not the scope.
        match generation::run(&prepared, &start, &listener, reports, &remote, clock) {
            Ok(()) => std::process::exit(0),
            Err(error) => fail(reports, &error),
        }
    })
}

/// Passes the supervisor's commands on. Ends the process with the supervisor.
struct Obey {
    prepared: Arc<Prepared>,
    remote: Remote,
    reports: Reports,
}

impl Obey {
    fn follow(&self, channel: &mut Channel) {
        loop {
            match channel.command() {
                Ok(Some(Command::Savepoint { id })) => self.remote.send(Event::Savepoint(id)),
                Ok(Some(Command::Checkpoint)) => self.remote.send(Event::Checkpoint),
                Ok(Some(Command::Stop)) => self.remote.send(Event::Stop),
                Ok(Some(Command::Settings { pacing, retain })) => {
                    self.prepared.retain.store(retain, Ordering::Relaxed);
                    self.remote.send(Event::Pace(pacing));
                }
                Ok(Some(Command::Ping { nonce })) => {
                    // Before there are workers, being able to read this is the sign of life.
                    if !self.remote.ping(nonce) {
                        let _ = self.reports.send(&Report::Pong { nonce });
                    }
                }
                Ok(None) => std::process::exit(0),
                Err(error) => {
                    tracing::error!(%error, "the supervisor's socket failed");
                    std::process::exit(1);
                }
            }
        }
    }
}
