//! The operator: reconciles `StreamJob` and `Savepoint` into pods, and never touches data.
//!
//! [`reconcile`] names the five steps. What decides holds no client.

pub mod labels;
pub mod reconcile;
pub mod runtime;
