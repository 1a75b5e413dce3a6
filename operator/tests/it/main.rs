//! Integration tests of the operator, on a model of the API server.

mod apiserver;
mod harness;
mod leader;
mod model;
mod sweep;
mod world;
