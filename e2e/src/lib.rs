//! End-to-end tests, faults, oracles and benches: real worker processes, looked at only from outside.

#![allow(clippy::disallowed_methods, reason = "the edge: clock, files, processes and tasks are this crate's work")]

pub mod authority;
pub mod bench;
pub mod changes;
pub mod chart;
pub mod cluster;
pub mod figures;
pub mod flights;
pub mod gateway;
pub mod harness;
pub mod kafka;
pub mod nexmark;
pub mod oci;
pub mod oracle;
pub mod pods;
pub mod postgres;
pub mod random;
pub mod results;
pub mod s3;
pub mod shapes;
pub mod shell;
pub mod storage;
pub mod worker;
