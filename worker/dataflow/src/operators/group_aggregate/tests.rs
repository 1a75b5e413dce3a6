//! [pure] Tests of both phases of unbounded aggregation.
