//! [io] The adaptor that runs stages on timely dataflow: the only crate that names `timely`.
//!
//! Each worker thread builds the same operators:
//!
//! ```text
//! control --orders--> agent --reports--> monitor          control and monitor share the coordinator (worker 0)
//!                       :                   ^
//!     ticks, snapshots  :                   | frontier of closed epochs
//!                    stage --exchange--> stage
//! ```
//!
//! - **control** sends ticks and commit permits; **agent** spreads them over its worker's stages, has snapshots made
//!   durable and reports them; **monitor** sees which epochs are closed everywhere and which checkpoints are complete.
//! - Timely's timestamp is the epoch. Tracked streams carry what completeness depends on: data, closed epochs, reports.
//! - Nothing spins: operators run when a message, a frontier, a timer or another thread wakes them.
//!
//! Not here: what operators compute (`worker/dataflow`), what a checkpoint consists of on disk (`worker/checkpoint`).

#![allow(clippy::disallowed_methods, reason = "the edge: clock, files, processes and tasks are this crate's work")]

mod agent;
mod clock;
mod cluster;
mod control;
mod discovery;
pub mod exit;
pub mod handshake;
pub mod job;
mod ledger;
mod local;
mod mailbox;
mod parcel;
mod stage;

pub use cluster::run;
pub use discovery::discover;
pub use job::{Cluster, EngineEvent, Job};
pub use parcel::MAX_WIRE_BYTES;
