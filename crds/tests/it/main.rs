//! [io] Tests of the resources: the definitions, and their agreement with the validation in Rust.

#![cfg(feature = "kube")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests: they fail by panicking, and read files of the repository")]

mod agreement;
mod apiserver;
mod cases;
mod definitions;
