//! Integration tests of the operator, on a model of the API server.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests: they fail by panicking, and run real files, clocks and processes"
)]

mod apiserver;
mod harness;
mod leader;
mod live;
mod model;
mod process;
mod requests;
mod sweep;
mod world;
