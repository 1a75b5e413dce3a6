//! The operator as a process: lease, queue, probes, metrics, signals.

#![allow(clippy::disallowed_methods, reason = "the edge: clock and tasks are this module's work")]

pub mod backoff;
pub mod client;
pub mod config;
pub mod controllers;
pub mod gate;
pub mod health;
pub mod leader;
pub mod lease;
pub mod memory;
pub mod metrics;
pub mod process;
pub mod queue;
pub mod runner;
pub mod traces;
