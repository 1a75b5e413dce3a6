//! [pure] The resource types of Rheos and their validation: one manifest for Kubernetes and for a run on one machine.
//!
//! Two steps, so that a broken resource never stops anybody else: reading gives the loose types of [`stream_job`], which
//! hold whatever the schema lets through; [`validate`](validate::validate) turns them into a [`ValidatedJob`], or into
//! every [`FieldError`] at once. Nothing behind validation looks at the loose types again.
//!
//! Not here: secret values (only references to them), Kubernetes clients, SQL (the planner's), files.

pub mod cron;
pub mod duration;
#[cfg(feature = "kube")]
pub mod kube;
pub mod manifest;
pub mod metadata;
pub mod names;
pub mod quantity;
pub mod rollout;
pub mod savepoint;
pub mod secret_reference;
pub mod status;
pub mod stream_job;
pub mod suggest;
pub mod uri;
pub mod validate;
pub mod validated;

pub use manifest::{ManifestError, parse_manifest, parse_savepoint};
pub use savepoint::{Savepoint, SavepointSpec, SavepointStatus};
pub use status::StreamJobStatus;
pub use stream_job::{StreamJob, StreamJobSpec};
pub use validate::{FieldError, validate, validate_savepoint};
pub use validated::ValidatedJob;

/// API group of every resource.
pub const GROUP: &str = "rheos.dev";
/// The version of the group that this crate holds.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of every manifest.
pub const API_VERSION: &str = "rheos.dev/v1alpha1";
/// `kind` of a job.
pub const KIND: &str = "StreamJob";
/// `kind` of a savepoint.
pub const SAVEPOINT_KIND: &str = "Savepoint";
