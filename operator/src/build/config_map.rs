//! [pure] The snapshot of a revision: an immutable ConfigMap with the whole job, as its pods read it and as a roll-back
//! needs it.
//!
//! The SQL is in it even where the job names a ConfigMap, and the image even where the job names none: pods of one
//! revision are alike, however long apart they are made and whichever operator makes them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use rheos_api::{StreamJob, StreamJobSpec};
use serde_json::json;

use crate::reconcile::{Identity, Snapshot};
use crate::{labels, names};

/// The key of the ConfigMap that holds the manifest.
pub const JOB_KEY: &str = "job.json";

/// The snapshot of a revision.
pub fn snapshot(job: &Identity, revision: &str, spec: &StreamJobSpec, default_image: &str) -> ConfigMap {
    let mut spec = spec.clone();
    spec.sql_from = None;
    spec.worker.image.get_or_insert_with(|| default_image.to_owned());
    let manifest = json!({
        "apiVersion": rheos_api::API_VERSION,
        "kind": rheos_api::KIND,
        "metadata": {"name": job.name, "namespace": job.namespace, "uid": job.uid},
        "spec": spec,
    });
    let mut metadata = super::owned(job, names::config_map(&job.name, revision));
    metadata.labels.get_or_insert_default().insert(labels::REVISION.to_owned(), revision.to_owned());
    ConfigMap {
        metadata,
        immutable: Some(true),
        data: Some(BTreeMap::from([(JOB_KEY.to_owned(), manifest.to_string())])),
        ..ConfigMap::default()
    }
}

/// Reads a snapshot back.
///
/// # Errors
/// It is none of ours, or was written by an operator whose specs this one cannot read.
pub fn read(object: &ConfigMap) -> Result<Snapshot, String> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let revision = object.metadata.labels.as_ref().and_then(|labels| labels.get(labels::REVISION)).cloned();
    let revision = revision.ok_or_else(|| format!("ConfigMap {name} has no label {}", labels::REVISION))?;
    let text = object.data.as_ref().and_then(|data| data.get(JOB_KEY));
    let text = text.ok_or_else(|| format!("ConfigMap {name} has no key {JOB_KEY}"))?;
    let manifest: StreamJob = serde_json::from_str(text).map_err(|error| format!("ConfigMap {name}: {error}"))?;
    let job = rheos_api::validate(&manifest).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("ConfigMap {name}: {}", errors.join("; "))
    })?;
    let created = object.metadata.creation_timestamp.as_ref();
    Ok(Snapshot {
        revision,
        name,
        uid: object.metadata.uid.clone().unwrap_or_default(),
        resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
        created: created.and_then(|time| Timestamp::from_second(time.0.as_second()).ok()),
        spec: manifest.spec,
        job,
    })
}
