//! Integration tests of the operator, on a model of the API server.

mod apiserver;
mod harness;
mod leader;
mod live;
mod model;
mod process;
mod sweep;
mod world;
