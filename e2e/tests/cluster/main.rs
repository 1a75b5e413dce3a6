//! Scenarios on a real Kubernetes: `cargo xtask e2e` runs them on whatever `KUBECONFIG` names.
//!
//! Each has a namespace of its own and ends with the job's exact output, read back from S3 and compared with a fault-free
//! run. What the operator was refused by its roles fails every scenario.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests: they fail by panicking, and run real files, clocks and processes"
)]

mod alone;
mod definitions;
mod faults;
mod images;
mod lifecycle;
mod refusals;
mod savepoints;
mod storm;
mod support;
mod upgrades;
