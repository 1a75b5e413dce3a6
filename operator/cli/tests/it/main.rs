//! Integration tests of `kubectl-streamjob`: the program as a process, against the operator's model of the API server.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests: they fail by panicking, and run real files, clocks and processes"
)]

mod apiserver;
mod cluster;
mod looks;
mod refusals;
mod report;
mod results;
mod waits;
