//! Operators, keyed state, epochs and the simulator.
