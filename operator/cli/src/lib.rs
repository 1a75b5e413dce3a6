//! `kubectl streamjob`: registers jobs, follows their lives, shows and changes them, with the rights of the person.
//!
//! What is shown is computed by [`pages`], what is waited for is judged by [`progress`], what a change means by
//! [`plan`] and [`carry`]: none of them holds a client. [`commands`] put them together with [`io`].
//!
//! Not here: data (only figures about it), the operator's decisions, Secrets other than a job's token, which is read for
//! one request and never written.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an edge: it reads files and clocks, waits, and spawns tasks; `[pure]` files are checked by the house's own test"
)]

pub mod args;
pub mod carry;
pub mod commands;
pub mod exit;
pub mod io;
pub mod pages;
pub mod plan;
pub mod progress;

/// Field manager of everything that is changed by hand or by file.
pub const FIELD_MANAGER: &str = "kubectl-streamjob";
