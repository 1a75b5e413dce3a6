//! Whole jobs in real processes: faults, rescale, savepoints, real data, bad input; and the rules of the house.

#![allow(clippy::disallowed_methods, reason = "tests of real processes and files")]

mod corpus_manifests;
mod flights;
mod house;
mod kills;
mod memory;
mod rescale;
mod storage;
mod support;
