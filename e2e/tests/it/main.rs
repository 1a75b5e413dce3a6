//! Whole jobs in real processes: faults, rescale, savepoints, real data, bad input.

mod flights;
mod kills;
mod memory;
mod rescale;
mod storage;
mod support;
