//! The worker: supervisor, coordinator, engine, admin API and local run.

pub mod engine;
