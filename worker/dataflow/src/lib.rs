//! [pure] The engine-neutral heart of Rheos: epochs, operators, keyed state, and the stages that run them.
//!
//! Invariants:
//! - Nothing here reads a clock, draws a random number, spawns a thread or does I/O. Time comes with the [`time::Tick`].
//! - **The output of an epoch is a function of its input**: whatever the arrival interleaving, the batch boundaries
//!   and the number of workers. Replay, exactly-once and replication stand on it; `tests/it/determinism.rs` holds it.
//! - An operator sees one epoch at a time; the stage queues batches of later epochs.
//!
//!
//! Not here: timely (`worker/timely`), files and network (`worker/connectors`, `worker/checkpoint`), SQL (`worker/sql`).

pub mod aggregate;
pub mod changelog;
pub mod contain;
pub mod coordinator;
pub mod envelope;
pub mod error;
pub mod graph;
pub mod hash;
pub mod key_group;
pub mod lookup;
pub mod operator;
pub mod operators;
pub mod plan;
pub mod sim;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod stage;
pub mod state;
pub mod time;
pub mod window;
