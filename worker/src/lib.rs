//! The worker: supervisor, coordinator, engine, admin API and local run.
//!
//! One binary, two kinds of process. `rheos-worker run` is a supervisor ([`supervise`]): it mints generations, starts
//! engine processes, and serves the admin API ([`admin`]); it holds no row. `rheos-worker engine` ([`engine`]) is what
//! it starts: the dataflow, which ends with its peers and with its supervisor. They share a socket and nothing else.

#![allow(clippy::disallowed_methods, reason = "the edge: clock, files, processes and tasks are this crate's work")]

pub mod admin;
pub mod cli;
pub mod engine;
pub mod explain;
pub mod logging;
pub mod manifest;
pub mod run;
pub mod supervise;
