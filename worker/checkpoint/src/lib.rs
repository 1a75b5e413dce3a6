//! [pure] The checkpoint store protocol: who may write, what a checkpoint is, what a restore begins from.
//!
//! Layout under `<uri>/<namespace>/<job>/<uid>/` (nobody else formats a path, see [`paths`]):
//!
//! ```text
//! fence                     current generation; changed only by conditional put
//! g<generation>/…           state files and manifests; written once
//! log/<seq>                 the record: create-if-absent, dense, names epoch, generation and manifest
//! savepoints/<id>/…         self-contained, never expired by us
//! ```
//!
//! Decisions are pure functions over observed facts ([`protocol`]); I/O executes them ([`workflow`]). A generation, from
//! its beginning to its end:
//!
//! 1. The supervisor: `open(uri, options)`, [`Protocol::new`], [`Protocol::begin`] gives generation, number of the
//!    start record, and the permit for the committables that record carries.
//! 2. Each engine process: [`Protocol::restore_point`] with these two numbers; [`Protocol::read_state`] for each
//!    [`manifest::StateFile`] that it needs ([`chain::trim`] cuts them to its key groups).
//! 3. The process with the coordinator: [`Protocol::attach`] instead, which gives the [`Publisher`] as well.
//! 4. At a checkpoint each subtask fills a [`state_file::StateFileWriter`] and calls [`Protocol::put_state`]; when the
//!    snapshot stream has passed the epoch, [`Publisher::publish`] makes the checkpoint final and gives the
//!    [`CommitPermit`]. `Fenced` ends the process; other errors leave it running.
//! 5. After publishing, when wanted: [`Publisher::savepoint`], and [`Publisher::collect`] for retention.
//!
//! A simulator does the same on a [`store::memory::MemoryStore`], whose futures never wait, behind a
//! [`store::faulty::FaultyStore`] if it likes.

pub mod chain;
pub mod codec;
pub mod conformance;
pub mod manifest;
pub mod paths;
pub mod permit;
pub mod protocol;
pub mod record;
pub mod savepoint;
pub mod state_file;
pub mod store;
pub mod workflow;

pub use permit::CommitPermit;
pub use store::{Store, open};
pub use workflow::{Protocol, Publisher};
