//! The checkpoint store protocol: who may write, what a checkpoint is, what a restore begins from.
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
//! Decisions are pure functions over observed facts ([`protocol`]); I/O executes them.

pub mod manifest;
pub mod permit;
pub mod record;

pub use permit::CommitPermit;
