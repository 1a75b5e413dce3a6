//! [pure] The Kubernetes objects of a job, one file a kind. The same input gives the same object, byte for byte.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::labels;
use crate::reconcile::Identity;

pub mod assignment;
pub mod config_map;
pub mod disposal;
pub mod pdb;
pub mod pod;
pub mod savepoint;
pub mod secret;
pub mod service;
mod template;

/// Port of the engines among themselves.
pub const DATA_PORT: i32 = 7100;
/// Port of the supervisors among themselves.
pub const MEMBER_PORT: i32 = 7101;
/// Port of the admin API.
pub const ADMIN_PORT: i32 = 7180;
/// User and group of the worker.
pub const USER: i64 = 65_532;
/// The one container of a worker pod.
pub const CONTAINER: &str = "worker";

/// Metadata of an object that a job owns.
fn owned(job: &Identity, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(job.namespace.clone()),
        labels: Some(common_labels(&job.name)),
        owner_references: Some(vec![OwnerReference {
            api_version: rheos_api::API_VERSION.to_owned(),
            kind: rheos_api::KIND.to_owned(),
            name: job.name.clone(),
            uid: job.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

/// The labels that all objects of a job carry.
pub fn common_labels(job: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::NAME.to_owned(), labels::WORKER_NAME.to_owned()),
        (labels::INSTANCE.to_owned(), job.to_owned()),
        (labels::MANAGED_BY.to_owned(), labels::OPERATOR_NAME.to_owned()),
        (labels::JOB.to_owned(), job.to_owned()),
    ])
}

/// The labels that tell a job's worker pods from all others.
pub fn selector_labels(job: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(labels::NAME.to_owned(), labels::WORKER_NAME.to_owned()), (labels::JOB.to_owned(), job.to_owned())])
}

/// [`selector_labels`] as the scale subresource wants it.
pub fn selector(job: &str) -> String {
    let pairs: Vec<String> = selector_labels(job).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests;
