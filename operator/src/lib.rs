//! The operator: reconciles `StreamJob` and `Savepoint` into pods, and never touches data.
//!
//! [`reconcile`] names the five steps. What decides holds no client: [`build`], [`lifecycle`], [`conditions`], [`diff`].

pub mod build;
pub mod conditions;
pub mod diff;
pub mod hash;
pub mod io;
pub mod labels;
pub mod lifecycle;
pub mod names;
pub mod reconcile;
pub mod runtime;
mod time;
