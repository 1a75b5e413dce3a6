//! The worker: supervisor, coordinator, engine, admin API, local run and pods.
//!
//! One binary, two kinds of process. `rheos-worker run` is a supervisor ([`supervise`]): it mints generations, starts
//! engine processes, and serves the admin API ([`admin`]); it holds no row. `rheos-worker engine` ([`engine`]) is what
//! it starts: the dataflow, which ends with its peers and with its supervisor. They share a socket and nothing else.
//! `rheos-worker pod` ([`pod`]) is the same supervisor with a roster of other pods, or the host of an engine for one.

#![allow(clippy::disallowed_methods, reason = "the edge: clock, files, processes and tasks are this crate's work")]

pub mod admin;
pub mod cli;
pub mod dispose;
pub mod engine;
pub mod explain;
pub mod logging;
pub mod manifest;
pub mod pod;
pub mod results;
pub mod run;
pub mod supervise;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// The whole program, from its command line to its exit code: for binaries that bring connectors of their own.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(arguments) => run::main(&arguments),
        Command::Explain(arguments) => explain::main(&arguments),
        Command::Pod(arguments) => pod::main(&arguments),
        Command::Leave(arguments) => pod::leave::main(&arguments),
        Command::Dispose(arguments) => dispose::main(&arguments),
        Command::Engine(arguments) => engine::main(&arguments),
    }
}
