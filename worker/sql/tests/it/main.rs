//! Tests of the planner through its public interface.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests: they fail by panicking, and run real files, clocks and processes"
)]

mod corpus;
mod explain;
mod functions;
mod fuzz;
mod ids;
mod limits;
mod lookup;
mod nexmark;
mod pruning;
mod support;
