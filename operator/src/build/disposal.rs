//! [pure] The short-lived pod that deletes the data of a savepoint, and the ConfigMap that it reads.
//!
//! It has what the job had: namespace, image, storage, credentials. All of that stands in the Savepoint's status, so that it
//! works when the job is gone. Both objects belong to the Savepoint.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use super::pod::{JOB_DIR, container_security, credentials, pod_security};
use crate::reconcile::SavepointFacts;
use crate::{labels, names};

/// How long one try may take, seconds.
const DEADLINE: i64 = 300;
/// A manifest must hold some SQL; this one is never run.
const NO_SQL: &str = "-- the data of a savepoint is deleted; no job runs";

fn metadata(savepoint: &SavepointFacts, namespace: &str) -> ObjectMeta {
    let labels = BTreeMap::from([
        (labels::NAME.to_owned(), labels::DISPOSAL_NAME.to_owned()),
        (labels::MANAGED_BY.to_owned(), labels::OPERATOR_NAME.to_owned()),
        (labels::ROLE.to_owned(), labels::DISPOSAL.to_owned()),
        (labels::JOB.to_owned(), savepoint.spec.job.clone()),
        (labels::SAVEPOINT.to_owned(), names::label(&savepoint.name)),
    ]);
    let owner = OwnerReference {
        api_version: rheos_api::API_VERSION.to_owned(),
        kind: rheos_api::SAVEPOINT_KIND.to_owned(),
        name: savepoint.name.clone(),
        uid: savepoint.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    ObjectMeta {
        name: Some(names::disposal(&savepoint.name, &savepoint.uid)),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

/// The manifest that the pod reads: who the job was, and where its storage is.
pub fn config_map(savepoint: &SavepointFacts, namespace: &str) -> ConfigMap {
    let manifest = json!({
        "apiVersion": rheos_api::API_VERSION,
        "kind": rheos_api::KIND,
        "metadata": {"name": savepoint.spec.job, "namespace": namespace, "uid": savepoint.status.job_uid},
        "spec": {"sql": NO_SQL, "checkpoint": {"storage": savepoint.status.storage}},
    });
    ConfigMap {
        metadata: metadata(savepoint, namespace),
        immutable: Some(true),
        data: Some(BTreeMap::from([(super::config_map::JOB_KEY.to_owned(), manifest.to_string())])),
        ..ConfigMap::default()
    }
}

/// The pod.
///
/// # Errors
/// What the Savepoint's status lacks.
pub fn pod(savepoint: &SavepointFacts, namespace: &str, default_image: &str) -> Result<Pod, String> {
    let status = &savepoint.status;
    let uri = status.uri.as_ref().ok_or("its status names no uri")?;
    let storage = status.storage.as_ref().ok_or("its status names no storage")?;
    let secret = storage.credentials_secret_ref.as_ref().map(|secret| secret.name.as_str());
    let metadata = metadata(savepoint, namespace);
    let object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": DEADLINE,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": pod_security(),
            "containers": [{
                "name": "disposal",
                "image": status.image.as_deref().unwrap_or(default_image),
                "command": ["rheos-worker"],
                "args": ["dispose", "--job", format!("{JOB_DIR}/{}", super::config_map::JOB_KEY), "--uri", uri],
                "env": [{"name": "AWS_EC2_METADATA_DISABLED", "value": "true"}],
                "envFrom": credentials(secret),
                "securityContext": container_security(),
                "volumeMounts": [
                    {"name": "job", "mountPath": JOB_DIR, "readOnly": true},
                    {"name": "tmp", "mountPath": "/tmp"},
                ],
            }],
            "volumes": [
                {"name": "job", "configMap": {"name": metadata.name}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    });
    serde_json::from_value(object).map_err(|error| error.to_string())
}
