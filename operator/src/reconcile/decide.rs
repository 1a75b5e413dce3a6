//! [pure] The decision: what is wanted and what there is, compared. See [`crate::lifecycle`].

pub use crate::lifecycle::decide;
