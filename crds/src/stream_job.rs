//! [pure] `StreamJob`: the loose types, as a manifest or the apiserver gives them.
//!
//! Numbers are wide and durations are text, so that a value out of range is a field error and not the end of reading.
//! Defaults are here, once; [`crate::validate`] checks ranges. Unknown fields are refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cron::CronText;
use crate::duration::DurationText;
use crate::metadata::{ConfigMapKeyRef, Metadata, SecretRef};
use crate::quantity::Quantity;
use crate::status::StreamJobStatus;

/// A streaming SQL job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamJob {
    /// [`crate::API_VERSION`].
    pub api_version: String,
    /// [`crate::KIND`].
    pub kind: String,
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: StreamJobSpec,
    /// What was last seen; written by the operator only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StreamJobStatus>,
}

/// What is wanted of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(
    feature = "kube",
    derive(kube::CustomResource),
    kube(
        group = "rheos.dev",
        version = "v1alpha1",
        kind = "StreamJob",
        root = "StreamJobResource",
        doc = "A streaming SQL job.",
        namespaced,
        derive = "PartialEq",
        status = "StreamJobStatus",
        shortname = "sj",
        category = "rheos",
        scale(
            spec_replicas_path = ".spec.parallelism",
            status_replicas_path = ".status.parallelism.running",
            label_selector_path = ".status.selector"
        ),
        selectable = ".status.phase",
    )
)]
pub struct StreamJobSpec {
    /// The SQL script: `CREATE TABLE …`, `CREATE VIEW …`, `INSERT INTO …`. At most 64 KiB. Either this or `sqlFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Where the SQL script is, instead of `sql`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql_from: Option<SqlFrom>,
    /// Whether the job shall run.
    #[serde(default)]
    pub state: DesiredState,
    /// Workers; 1 to `maxParallelism`. Default 1.
    #[serde(default = "defaults::parallelism")]
    pub parallelism: i64,
    /// Key groups: the most workers the job can ever have, 1 to 32,768. Immutable. Default 128.
    #[serde(default = "defaults::max_parallelism")]
    pub max_parallelism: i64,
    /// What is promised. `AtMostOnce` needs tables to read whose connector can go on from the newest row (`kafka`).
    #[serde(default)]
    pub delivery: Delivery,
    /// How often state is saved, and where.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// What happens to the state when the job changes.
    #[serde(default)]
    pub upgrade: Upgrade,
    /// What to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
    /// How failures are answered.
    #[serde(default)]
    pub restart: Restart,
    /// State-machine replication.
    #[serde(default)]
    pub replication: Replication,
    /// Changes `parallelism` with the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Savepoints that are taken without being asked for. Taken by the operator only.
    #[serde(default)]
    pub savepoints: Savepoints,
    /// How long the pods of a finished job stay, for logs and the admin API. Default 10 min.
    #[serde(default = "defaults::ttl_after_finished")]
    pub ttl_after_finished: DurationText,
    /// The worker pods.
    #[serde(default)]
    pub worker: Worker,
}

/// Where a SQL script is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SqlFrom {
    /// A key of a ConfigMap in the job's namespace.
    pub config_map_key_ref: ConfigMapKeyRef,
}

/// Whether a job shall run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum DesiredState {
    /// It runs.
    #[default]
    Running,
    /// It is checkpointed and has no pods.
    Suspended,
}

/// What a job promises about every row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum Delivery {
    /// Nothing lost, nothing twice.
    #[default]
    ExactlyOnce,
    /// Nothing lost; rows since the last checkpoint may repeat after a failure.
    AtLeastOnce,
    /// Nothing twice; rows that came since the last checkpoint may be lost at a failure, and those that come until the job
    /// runs again are.
    AtMostOnce,
}

/// How often state is saved, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checkpoint {
    /// Between the starts of two checkpoints, at least 100 ms. Default 10 s.
    #[serde(default = "defaults::checkpoint_interval")]
    pub interval: DurationText,
    /// A checkpoint that takes longer is given up; at least `interval`. Default 5 min.
    #[serde(default = "defaults::checkpoint_timeout")]
    pub timeout: DurationText,
    /// Checkpoints to keep, 1 to 100. Default 3.
    #[serde(default = "defaults::retain")]
    pub retain: i64,
    /// Where they are kept. A run on one machine keeps them in its data directory when this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
}

/// An object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Storage {
    /// `s3://bucket/prefix` or `file:///path`.
    pub uri: String,
    /// Address of the server; the provider's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// A Secret with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, mounted into the workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// What happens to the state when the job changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upgrade {
    /// What the new revision starts from.
    #[serde(default)]
    pub mode: UpgradeMode,
    /// Take a savepoint before every upgrade.
    #[serde(default)]
    pub savepoint_on_upgrade: bool,
    /// Go back to the last stable revision when a new one fails.
    #[serde(default = "defaults::yes")]
    pub rollback: bool,
    /// A new revision that has not completed a checkpoint after this time has failed. Default 5 min.
    #[serde(default = "defaults::upgrade_deadline")]
    pub deadline: DurationText,
    /// No upgrade from a checkpoint older than this: a fresh one is taken first, or the upgrade waits. Any age when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_checkpoint_age: Option<DurationText>,
}

/// What a new revision starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum UpgradeMode {
    /// The latest checkpoint.
    #[default]
    LastState,
    /// A savepoint taken for the upgrade.
    Savepoint,
    /// Nothing.
    Stateless,
}

/// What to start from: for the first start, and again whenever `nonce` rises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restore {
    /// The snapshot.
    pub from: RestoreFrom,
    /// Start although the snapshot holds state of operators that the SQL no longer has.
    #[serde(default)]
    pub allow_non_restored_state: bool,
    /// Restore again when this rises.
    #[serde(default)]
    pub nonce: i64,
}

/// A snapshot; exactly one field is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreFrom {
    /// Name of a `Savepoint` of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
    /// Where a savepoint is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// Savepoints that are taken without being asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Savepoints {
    /// The time between two of them, at least 1 min. Not beside `cron`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<DurationText>,
    /// When they are taken: minute, hour, day of month, month, day of week, in UTC. Not beside `every`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronText>,
    /// Periodic savepoints to keep, 1 to 100; older ones are deleted with their data. Default 5.
    #[serde(default = "defaults::history_limit")]
    pub history_limit: i64,
    /// Periodic savepoints older than this are deleted with their data. The newest one is always kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<DurationText>,
    /// Take one when the job is deleted; its `Savepoint` stays.
    #[serde(default)]
    pub on_delete: bool,
}

/// How failures are answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restart {
    /// Restarts within `window` before the job fails, 0 to 10,000. Default 10.
    #[serde(default = "defaults::max_restarts")]
    pub max_restarts: i64,
    /// The time in which restarts are counted. Default 10 min.
    #[serde(default = "defaults::restart_window")]
    pub window: DurationText,
    /// The pause before a restart. The first one after a healthy time has none.
    #[serde(default)]
    pub backoff: Backoff,
}

/// A pause that doubles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backoff {
    /// The first pause. Default 1 s.
    #[serde(default = "defaults::backoff_initial")]
    pub initial: DurationText,
    /// The longest pause. Default 1 min.
    #[serde(default = "defaults::backoff_max")]
    pub max: DurationText,
}

/// State-machine replication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Replication {
    /// Full sets of workers, 1 or 2. Default 1.
    #[serde(default = "defaults::one")]
    pub replicas: i64,
}

/// Changes `parallelism` with the load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Autoscaling {
    /// Fewest workers. Default 1.
    #[serde(default = "defaults::one")]
    pub min_parallelism: i64,
    /// Most workers; at most `spec.maxParallelism`.
    pub max_parallelism: i64,
    /// Busy time that is aimed at, per cent of a worker, 10 to 95. Default 70.
    #[serde(default = "defaults::target_utilization")]
    pub target_utilization_percent: i64,
}

/// The worker pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Worker {
    /// Container image; the operator's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Worker threads a pod, 1 to 64. Default 1.
    #[serde(default = "defaults::one")]
    pub slots: i64,
    /// Requests and limits of the container.
    #[serde(default)]
    pub resources: Resources,
    /// Merged into the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "kube", schemars(schema_with = "crate::kube::any_object"))]
    pub pod_template: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Requests and limits, by resource name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// What is reserved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
    /// What is never exceeded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
}

impl Default for StreamJobSpec {
    fn default() -> Self {
        Self {
            sql: None,
            sql_from: None,
            state: DesiredState::default(),
            parallelism: defaults::parallelism(),
            max_parallelism: defaults::max_parallelism(),
            delivery: Delivery::default(),
            checkpoint: Checkpoint::default(),
            upgrade: Upgrade::default(),
            restore: None,
            restart: Restart::default(),
            replication: Replication::default(),
            autoscaling: None,
            savepoints: Savepoints::default(),
            ttl_after_finished: defaults::ttl_after_finished(),
            worker: Worker::default(),
        }
    }
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self {
            interval: defaults::checkpoint_interval(),
            timeout: defaults::checkpoint_timeout(),
            retain: defaults::retain(),
            storage: None,
        }
    }
}

impl Default for Upgrade {
    fn default() -> Self {
        Self {
            mode: UpgradeMode::default(),
            savepoint_on_upgrade: false,
            rollback: true,
            deadline: defaults::upgrade_deadline(),
            max_checkpoint_age: None,
        }
    }
}

impl Default for Savepoints {
    fn default() -> Self {
        Self { every: None, cron: None, history_limit: defaults::history_limit(), max_age: None, on_delete: false }
    }
}

impl Default for Restart {
    fn default() -> Self {
        Self { max_restarts: defaults::max_restarts(), window: defaults::restart_window(), backoff: Backoff::default() }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: defaults::backoff_initial(), max: defaults::backoff_max() }
    }
}

impl Default for Replication {
    fn default() -> Self {
        Self { replicas: 1 }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self { image: None, slots: 1, resources: Resources::default(), pod_template: None }
    }
}

/// Every default value, once.
mod defaults {
    use crate::duration::DurationText;

    pub(super) fn parallelism() -> i64 {
        1
    }
    pub(super) fn max_parallelism() -> i64 {
        128
    }
    pub(super) fn checkpoint_interval() -> DurationText {
        "10s".into()
    }
    pub(super) fn checkpoint_timeout() -> DurationText {
        "5m".into()
    }
    pub(super) fn retain() -> i64 {
        3
    }
    pub(super) fn max_restarts() -> i64 {
        10
    }
    pub(super) fn restart_window() -> DurationText {
        "10m".into()
    }
    pub(super) fn backoff_initial() -> DurationText {
        "1s".into()
    }
    pub(super) fn backoff_max() -> DurationText {
        "1m".into()
    }
    pub(super) fn upgrade_deadline() -> DurationText {
        "5m".into()
    }
    pub(super) fn history_limit() -> i64 {
        5
    }
    pub(super) fn ttl_after_finished() -> DurationText {
        "10m".into()
    }
    pub(super) fn target_utilization() -> i64 {
        70
    }
    pub(super) fn one() -> i64 {
        1
    }
    pub(super) fn yes() -> bool {
        true
    }
}
