//! [io] A model of the Kubernetes API server: enough of it for an operator, behind a real `kube::Client`.
//!
//! What is modelled: resource versions, uids, `generation`, create, get, list, delete with preconditions, server-side
//! apply (a field that its manager no longer names goes away; lists are atomic), JSON merge patch, the `status` and
//! `scale` subresources, dry runs, finalizers and `deletionTimestamp`, the garbage collection of owned objects, graceful
//! deletion of pods, watches with bookmarks from a resource version, 404, 409 and 410. What is not: schemas,
//! admission (but [`State::deny`] refuses), field conflicts between managers, paging.

pub(crate) mod faults;
mod patch;
mod path;
mod service;
mod state;

pub(crate) use faults::{Faults, Position};
pub(crate) use service::ApiServer;
pub(crate) use state::{Bug, Change, Entry, Key, State};
