//! [pure] Tests of keyed state.
