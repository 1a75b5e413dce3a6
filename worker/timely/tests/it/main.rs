//! Runs whole jobs on timely: several workers in one process, and several processes' worth over loopback sockets.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests: they fail by panicking, and run real files, clocks and processes"
)]

mod harness;
mod runs;
