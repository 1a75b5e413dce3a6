//! Tables and properties of the coordinator.
