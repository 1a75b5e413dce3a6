//! [io] Tests of the resources: the definitions, and their agreement with the validation in Rust.

#![cfg(feature = "kube")]
// Tests read files of the repository.
#![allow(clippy::disallowed_methods)]

mod agreement;
mod apiserver;
mod cases;
mod definitions;
