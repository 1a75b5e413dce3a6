//! [io] Sources, sinks and formats: the outside world of a job.
//!
//! [`connectors`] makes the sources and sinks of a planned graph, [`check`] finds everything that is wrong with their
//! options, columns and promises before anything runs. Option names are those of Flink's connectors.
//!
//! | connector | reads | writes | strongest delivery of the sink |
//! |---|---|---|---|
//! | [`nexmark`] | yes | | |
//! | [`datagen`] | yes | | |
//! | [`filesystem`] | yes | yes | exactly once |
//! | [`jdbc`] | yes, also by key (lookup joins) | yes | exactly once |
//! | [`kafka`] | yes | yes | exactly once |
//! | [`results`] | | yes | exactly once |
//! | [`print`] | | yes | at least once (a debugging sink: allowed in every job) |
//! | [`blackhole`] | | yes | exactly once (nothing is kept) |
//!
//! Invariants:
//! - A reader that is opened at an offset returns exactly the rows behind it, also in another process and at another
//!   parallelism.
//! - A sink's `commit` may be repeated; output that no record names never becomes visible.
//! - A lookup keeps nothing beyond its process, and an answer is about the keys that were asked for alone.
//! - Options are read in one place ([`options`]), which knows every name, so a misspelt one never passes unseen.

#![allow(clippy::disallowed_methods, reason = "the edge: clock, files, processes and tasks are this crate's work")]

pub mod blackhole;
pub mod connector;
pub mod datagen;
pub mod environment;
pub mod failpoint;
pub mod filesystem;
pub mod format;
pub mod jdbc;
pub mod kafka;
pub mod nexmark;
pub mod options;
pub mod print;
pub mod registry;
pub mod results;
pub mod secret;
mod sequence;
pub mod staged;
mod text;

#[cfg(test)]
mod testing;

pub use connector::Connector;
pub use environment::Environment;
pub use registry::{accepts_changelog, check, connectors, emits_changelog, install, looks_up};
