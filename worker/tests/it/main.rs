//! The supervisor and the admin API over engines that are shell scripts speaking the wire.

#![allow(clippy::disallowed_methods, reason = "tests of real processes and files")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod command;
mod fake;
mod supervisor;
