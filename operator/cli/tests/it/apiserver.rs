//! [io] The operator's model of the API server, from its own tests: one model for both.

#![allow(dead_code, unused_imports, reason = "the operator's tests use what these do not")]

#[path = "../../../tests/it/apiserver/faults.rs"]
pub(crate) mod faults;
#[path = "../../../tests/it/apiserver/patch.rs"]
mod patch;
#[path = "../../../tests/it/apiserver/path.rs"]
mod path;
#[path = "../../../tests/it/apiserver/service.rs"]
mod service;
#[path = "../../../tests/it/apiserver/state.rs"]
mod state;

pub(crate) use service::ApiServer;
pub(crate) use state::Key;
