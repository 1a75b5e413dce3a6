//! End-to-end tests, faults, oracles and benches.

pub mod s3;
