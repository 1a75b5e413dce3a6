//! The adaptor that runs stages on timely dataflow.

#![allow(clippy::disallowed_methods, reason = "the edge: clock, files, processes and tasks are this crate's work")]