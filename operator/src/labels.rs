//! [pure] Every label, annotation and other name that leaves the operator.

/// Field manager of everything that is applied.
pub const FIELD_MANAGER: &str = "rheos-operator";
/// The finalizer of a job and of a savepoint.
pub const FINALIZER: &str = "rheos.dev/finalizer";

/// Kubernetes' own.
pub const NAME: &str = "app.kubernetes.io/name";
/// Kubernetes' own.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Kubernetes' own.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`NAME`].
pub const WORKER_NAME: &str = "rheos-worker";
/// Value of [`NAME`] of pods that delete savepoints: no Service and no budget counts them.
pub const DISPOSAL_NAME: &str = "rheos-disposal";
/// Value of [`MANAGED_BY`].
pub const OPERATOR_NAME: &str = "rheos-operator";

/// The job that an object belongs to.
pub const JOB: &str = "rheos.dev/job";
/// The revision that a pod or a ConfigMap was built from.
pub const REVISION: &str = "rheos.dev/revision";
/// The process that a pod hosts.
pub const INDEX: &str = "rheos.dev/index";
/// How often the pod of this index was replaced.
pub const INCARNATION: &str = "rheos.dev/incarnation";
/// What a pod is for, where it is no worker: [`DISPOSAL`].
pub const ROLE: &str = "rheos.dev/role";
/// The Savepoint that a pod deletes.
pub const SAVEPOINT: &str = "rheos.dev/savepoint";
/// Value of [`ROLE`]: deletes one savepoint.
pub const DISPOSAL: &str = "disposal";
/// Why the operator asked for a savepoint itself.
pub const ORIGIN: &str = "rheos.dev/origin";

/// Annotation: `true` stops all acts on the job.
pub const PAUSED: &str = "rheos.dev/paused";
/// Annotation: `true` takes a savepoint before the job is deleted.
pub const SAVEPOINT_ON_DELETE: &str = "rheos.dev/savepoint-on-delete";
/// Annotation on a Savepoint: `true` lets it go without its data being deleted.
pub const ABANDON: &str = "rheos.dev/abandon-data";
/// Annotation: `true` lets the job go at once, whatever would still have to be done.
pub const FORCE_DELETE: &str = "rheos.dev/force-delete";
