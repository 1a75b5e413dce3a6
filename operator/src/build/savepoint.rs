//! [pure] The Savepoints that the operator asks for itself.
//!
//! They belong to nobody: a savepoint outlives its job.

use rheos_api::savepoint::Disposal;
use serde_json::{Value, json};

use crate::labels;
use crate::reconcile::Identity;

/// Why the operator asks for a savepoint; value of the label [`labels::ORIGIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Its time has come.
    Periodic,
    /// An upgrade waits for it.
    Upgrade,
    /// The job is being deleted.
    Delete,
}

impl Origin {
    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Periodic => "periodic",
            Self::Upgrade => "upgrade",
            Self::Delete => "delete",
        }
    }
}

/// A Savepoint. Periodic ones go with their data, all others stay until a person deletes them.
pub fn savepoint(job: &Identity, name: &str, origin: Origin) -> Value {
    let disposal = match origin {
        Origin::Periodic => Disposal::Delete,
        Origin::Upgrade | Origin::Delete => Disposal::Retain,
    };
    json!({
        "apiVersion": rheos_api::API_VERSION,
        "kind": rheos_api::SAVEPOINT_KIND,
        "metadata": {
            "name": name,
            "namespace": job.namespace,
            "labels": {
                labels::MANAGED_BY: labels::OPERATOR_NAME,
                labels::JOB: job.name,
                labels::ORIGIN: origin.label(),
            },
        },
        "spec": {"job": job.name, "disposal": disposal},
    })
}
