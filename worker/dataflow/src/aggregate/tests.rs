//! [pure] Tests of aggregates.
