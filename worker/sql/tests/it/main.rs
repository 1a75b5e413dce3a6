//! Tests of the planner through its public interface.

mod corpus;
mod explain;
mod functions;
mod fuzz;
mod ids;
mod limits;
mod nexmark;
mod support;
