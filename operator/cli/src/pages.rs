//! [pure] What is shown: pages as functions of data.

pub mod advice;
pub mod diff;
pub mod events;
pub mod figures;
pub mod graph;
pub mod list;
pub mod logs;
pub mod paint;
pub mod redact;
pub mod results;
pub mod status;
pub mod table;
pub mod top;
pub mod words;
