//! The operator's edge: what it reads, what it executes, what wakes it. Nothing here decides about a job.
//!
//! Reads: the job itself is read afresh before every decision, so no decision rests on a status that was written over
//! since. Pods, revisions, Services, budgets and Savepoints come from watches ([`cache`]); they may be a moment old, and
//! everything that is done because of them is idempotent by name or carries uid and resource version as preconditions.

#![allow(clippy::disallowed_methods, reason = "the edge: clock and tasks are this module's work")]

pub mod apply;
pub mod cache;
pub mod error;
pub mod events;
pub mod facts;
pub mod followers;
pub mod gather;
mod objects;
pub mod operator;
pub mod savepoint;
pub mod snapshots;
pub mod sources;
pub mod status;
pub mod stream_job;
pub mod token;
pub mod watches;
pub mod workers;

pub use error::Error;
pub use operator::Operator;
