//! [pure] A job that has passed validation: every value in range, every choice made, every default in place.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cron::CronText;
use crate::metadata::{ConfigMapKeyRef, SecretRef};
use crate::names::JobName;
use crate::savepoint::Disposal;
use crate::stream_job::{Delivery, DesiredState, Resources, UpgradeMode};

/// What [`crate::validate`](crate::validate()) gives.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedJob {
    /// The job's name.
    pub name: JobName,
    /// Its namespace, when the manifest names one.
    pub namespace: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The SQL, or where it is.
    pub sql: SqlSource,
    /// Whether it shall run.
    pub state: DesiredState,
    /// Workers, 1 to `max_parallelism`.
    pub parallelism: u32,
    /// Key groups, 1 to 32,768.
    pub max_parallelism: u32,
    /// What is promised.
    pub delivery: Delivery,
    /// How often state is saved, and where.
    pub checkpoint: CheckpointPolicy,
    /// What happens to the state when the job changes.
    pub upgrade: UpgradePolicy,
    /// What to start from.
    pub restore: Option<RestorePolicy>,
    /// How failures are answered.
    pub restart: RestartPolicy,
    /// Full sets of workers.
    pub replicas: u32,
    /// Bounds of autoscaling.
    pub autoscaling: Option<AutoscalingPolicy>,
    /// Savepoints that are taken without being asked for.
    pub savepoints: SavepointsPolicy,
    /// How long the pods of a finished job stay.
    pub ttl_after_finished: Duration,
    /// The worker pods.
    pub worker: WorkerPolicy,
}

/// The SQL, or where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlSource {
    /// The text.
    Inline(String),
    /// A key of a ConfigMap.
    ConfigMapKey(ConfigMapKeyRef),
}

/// See `spec.checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointPolicy {
    /// Between the starts of two checkpoints.
    pub interval: Duration,
    /// A checkpoint that takes longer is given up.
    pub timeout: Duration,
    /// Checkpoints to keep.
    pub retain: u32,
    /// Where they are kept.
    pub storage: Option<StoragePolicy>,
}

/// See `spec.checkpoint.storage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoragePolicy {
    /// `s3://…` or `file:///…`, without a slash at its end.
    pub uri: String,
    /// Address of the server.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Secret with the credentials.
    pub credentials: Option<SecretRef>,
}

/// See `spec.upgrade`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpgradePolicy {
    /// What a new revision starts from.
    pub mode: UpgradeMode,
    /// Take a savepoint before every upgrade.
    pub savepoint_on_upgrade: bool,
    /// Go back to the last stable revision when a new one fails.
    pub rollback: bool,
    /// A new revision that has not completed a checkpoint after this time has failed.
    pub deadline: Duration,
    /// No upgrade from a checkpoint older than this.
    pub max_checkpoint_age: Option<Duration>,
}

/// See `spec.savepoints`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavepointsPolicy {
    /// When periodic ones are taken; never when absent.
    pub schedule: Option<Schedule>,
    /// Periodic savepoints to keep.
    pub history_limit: u32,
    /// Periodic savepoints older than this go, but for the newest.
    pub max_age: Option<Duration>,
    /// Take one when the job is deleted.
    pub on_delete: bool,
}

/// When periodic savepoints are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Whenever this time has passed since the last one.
    Every(Duration),
    /// At the times of a crontab line, UTC.
    Cron(CronText),
}

/// What [`crate::validate_savepoint`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedSavepoint {
    /// Its name.
    pub name: String,
    /// The job that is saved.
    pub job: JobName,
    /// What happens to the data when the resource is deleted.
    pub disposal: Disposal,
}

/// See `spec.restore`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePolicy {
    /// The snapshot.
    pub from: RestoreSource,
    /// Start although state would be left behind.
    pub allow_non_restored_state: bool,
    /// Restore again when this rises.
    pub nonce: u64,
}

/// A snapshot to restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreSource {
    /// A `Savepoint` resource of the same namespace.
    Savepoint(String),
    /// A savepoint's place in a store.
    Uri(String),
}

/// See `spec.restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Restarts within `window` before the job fails.
    pub max_restarts: u32,
    /// The time in which restarts are counted.
    pub window: Duration,
    /// The first pause.
    pub backoff_initial: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
}

/// See `spec.autoscaling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoscalingPolicy {
    /// Fewest workers.
    pub min_parallelism: u32,
    /// Most workers.
    pub max_parallelism: u32,
    /// Busy time aimed at, per cent.
    pub target_utilization_percent: u32,
}

/// See `spec.worker`.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerPolicy {
    /// Container image.
    pub image: Option<String>,
    /// Worker threads a pod.
    pub slots: u32,
    /// Requests and limits.
    pub resources: Resources,
    /// Merged into the pods.
    pub pod_template: Option<serde_json::Map<String, serde_json::Value>>,
}
