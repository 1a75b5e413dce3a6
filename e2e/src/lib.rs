//! End-to-end tests, faults, oracles and benches.
