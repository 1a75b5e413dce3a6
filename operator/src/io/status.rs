//! [io] Writes the status of a job, if it has changed and if the job is still the one that was read.

use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use rheos_api::kube::StreamJob;
use rheos_api::{API_VERSION, KIND, StreamJobStatus};
use serde_json::json;

use super::cache::Key;
use super::error::Error;
use crate::labels::FIELD_MANAGER;

/// What was read of a job, as far as a write has to name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    /// Its uid.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
    /// Its finalizers.
    pub finalizers: Vec<String>,
}

/// Writes `new` over `old` by server-side apply on the status subresource; nothing when they are equal. The job's resource
/// version after it.
///
/// # Errors
/// [`Error::Stale`] when the job has changed since it was read: then nothing was written.
pub async fn write(client: &Client, job: &Key, read: &Read, old: &StreamJobStatus, new: &StreamJobStatus) -> Result<Read, Error> {
    if old == new {
        return Ok(read.clone());
    }
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": job.name, "uid": read.uid, "resourceVersion": read.resource_version},
        "status": new,
    });
    let api: Api<kube::core::PartialObjectMeta<StreamJob>> = Api::namespaced(client.clone(), &job.namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let what = || format!("writing the status of {job}");
    let written = api.patch_status(&job.name, &params, &Patch::Apply(&body)).await.map_err(Error::api(what()))?;
    Ok(Read { resource_version: written.metadata.resource_version.unwrap_or_default(), ..read.clone() })
}
