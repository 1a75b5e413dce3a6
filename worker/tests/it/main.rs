//! The supervisor and the admin API over engines that are shell scripts speaking the wire.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests: they fail by panicking, and run real files, clocks and processes"
)]

mod admin;
mod command;
mod fake;
mod supervisor;
