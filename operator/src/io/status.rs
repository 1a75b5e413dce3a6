//! [io] Writes the status of a job, if it has changed and if the job is still the one that was read.

use kube::Client;
use rheos_api::StreamJobStatus;
use rheos_api::kube::StreamJob;

use super::cache::Key;
use super::error::Error;
use super::objects;
use crate::reconcile::action::Target;

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

impl Read {
    /// What a write names of the object under `key`.
    pub(super) fn target(&self, key: &Key) -> Target {
        Target { name: key.name.clone(), uid: self.uid.clone(), resource_version: self.resource_version.clone() }
    }
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
    let what = || format!("writing the status of {job}");
    let written = objects::write_status::<StreamJob>(client, &job.namespace, &read.target(job), new).await;
    Ok(Read { resource_version: written.map_err(Error::api(what()))?, ..read.clone() })
}
