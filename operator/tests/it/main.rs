//! Integration tests of the operator, on a model of the API server.

mod apiserver;
mod leader;
mod model;
