//! Whole jobs in real processes: faults, rescale, savepoints, real data, bad input; and the rules of the house.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests: they fail by panicking, and run real files, clocks and processes"
)]

mod changes;
mod corpus;
mod flights;
mod house;
mod kills;
mod memory;
mod pods;
mod rescale;
mod results;
mod sources;
mod storage;
mod support;
