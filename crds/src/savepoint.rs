//! [pure] `Savepoint`: a snapshot of a job that a person owns. The loose types, as a manifest or the apiserver gives them.
//!
//! Its status holds everything that its disposal needs, so that it can be disposed of when the job is gone.

use serde::{Deserialize, Serialize};

use crate::metadata::Metadata;
use crate::stream_job::Storage;

/// A snapshot of a job that never expires by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Savepoint {
    /// [`crate::API_VERSION`].
    pub api_version: String,
    /// [`crate::SAVEPOINT_KIND`].
    pub kind: String,
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: SavepointSpec,
    /// What was last seen; written by the operator only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<SavepointStatus>,
}

/// What is wanted of a savepoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(kube::CustomResource, schemars::JsonSchema))]
#[cfg_attr(
    feature = "kube",
    kube(
        group = "rheos.dev",
        version = "v1alpha1",
        kind = "Savepoint",
        root = "SavepointResource",
        doc = "A snapshot of a job that never expires by itself.",
        namespaced,
        derive = "PartialEq",
        status = "SavepointStatus",
        shortname = "sp",
        category = "rheos",
        selectable = ".spec.job",
        selectable = ".status.phase",
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SavepointSpec {
    /// The StreamJob of the same namespace. Immutable.
    pub job: String,
    /// What happens to the data when this resource is deleted.
    #[serde(default)]
    pub disposal: Disposal,
}

/// What happens to the data of a deleted savepoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum Disposal {
    /// It stays in the store.
    #[default]
    Retain,
    /// It is deleted from the store before the resource goes.
    Delete,
}

/// The states of a savepoint's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum SavepointPhase {
    /// Accepted; the job was not asked yet.
    #[default]
    Pending,
    /// The job was asked for it.
    InProgress,
    /// It is complete; a job can start from it.
    Completed,
    /// It was given up.
    Failed,
    /// Its data is being deleted.
    Disposing,
}

/// What was last seen of a savepoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SavepointStatus {
    /// Where it is in its life.
    #[serde(default)]
    pub phase: SavepointPhase,
    /// `metadata.generation` of the spec that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The id under which the job was asked; asking again under it has no second effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Times the job was asked under a new id.
    #[serde(default)]
    pub attempts: u32,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The epoch it closes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Its size, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// When the job was first asked, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it was complete or given up, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// One sentence for people: what it waits for, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The job's uid, as its storage knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_uid: Option<String>,
    /// The store it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// The worker image that wrote it and can delete it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}
