//! [pure] Whole jobs in the simulator, and what must hold of them.

mod determinism;
mod simulation;
