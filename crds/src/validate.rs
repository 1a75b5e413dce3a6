//! [pure] Every rule about a job's fields; all violations at once, each with its path and what would be right.
//!
//! The same function runs before each decision of the operator, in the command line tool and in a run on one machine.
//! It never stops at the first error, and it says nothing about the SQL but its size: that is the planner's.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::duration::{self, DurationText};
use crate::names::{self, JOB_NAME_LIMIT, JobName, LABEL_LIMIT};
use crate::stream_job::{Autoscaling, Checkpoint, Restart, Restore, Storage, StreamJob, StreamJobSpec, Upgrade, Worker};
use crate::validated::{
    AutoscalingPolicy, CheckpointPolicy, RestartPolicy, RestorePolicy, RestoreSource, SqlSource, StoragePolicy, UpgradePolicy,
    ValidatedJob, WorkerPolicy,
};
use crate::{API_VERSION, KIND};
use crate::{secret_reference, uri};

mod savepoint;

pub use savepoint::{HISTORY_LIMIT, MIN_SAVEPOINT_PERIOD, validate_savepoint};

/// Longest SQL text, bytes.
pub const SQL_LIMIT: usize = 64 * 1024;
/// Most key groups.
pub const MAX_PARALLELISM_LIMIT: i64 = 32_768;
/// Shortest checkpoint interval.
pub const MIN_CHECKPOINT_INTERVAL: Duration = Duration::from_millis(100);
/// Most checkpoints to keep.
pub const RETAIN_LIMIT: i64 = 100;
/// Shortest time in which a new revision has to become stable.
pub const MIN_UPGRADE_DEADLINE: Duration = Duration::from_secs(10);
/// Most names of resources in `requests` and in `limits`.
pub const RESOURCES_LIMIT: usize = 32;
/// Most restarts in a window.
pub const RESTARTS_LIMIT: i64 = 10_000;
/// Most worker threads a pod.
pub const SLOTS_LIMIT: i64 = 64;
/// Longest name of a region or an image, bytes.
pub const TEXT_LIMIT: usize = 255;

/// One violated rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field, from the root of the manifest: `spec.checkpoint.interval`.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub hint: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path, self.problem, self.hint)
    }
}

/// Checks a job.
///
/// # Errors
/// Every violated rule, in the order of the fields.
pub fn validate(job: &StreamJob) -> Result<ValidatedJob, Vec<FieldError>> {
    let mut errors = Errors::default();
    errors.head((&job.api_version, API_VERSION), (&job.kind, KIND));
    let name = JobName::new(&job.metadata.name);
    if let Err(problem) = &name {
        let hint = format!("use 1 to {JOB_NAME_LIMIT} lower-case letters, digits and inner dashes");
        errors.add("metadata.name", problem, hint);
    }
    if let Some(namespace) = &job.metadata.namespace
        && let Err(problem) = names::label(namespace, LABEL_LIMIT)
    {
        let hint = format!("use 1 to {LABEL_LIMIT} lower-case letters, digits and inner dashes");
        errors.add("metadata.namespace", problem, hint);
    }
    let spec = &job.spec;
    let sql = sql(spec, &mut errors);
    let max_parallelism = errors.integer("spec.maxParallelism", spec.max_parallelism, 1..=MAX_PARALLELISM_LIMIT, "a number of key groups");
    let most = i64::from(max_parallelism.unwrap_or(MAX_PARALLELISM_LIMIT as u32));
    let parallelism = errors.integer("spec.parallelism", spec.parallelism, 1..=most, "spec.maxParallelism is the most");
    let checkpoint = checkpoint(&spec.checkpoint, &mut errors);
    let upgrade = upgrade(&spec.upgrade, &mut errors);
    let restore = spec.restore.as_ref().and_then(|restore| self::restore(restore, &job.metadata.name, &mut errors));
    let restart = restart(&spec.restart, &mut errors);
    let replicas = errors.integer("spec.replication.replicas", spec.replication.replicas, 1..=2, "two sets at most");
    let autoscaling = spec.autoscaling.as_ref().and_then(|autoscaling| self::autoscaling(autoscaling, most, &mut errors));
    let savepoints = savepoint::periodic(&spec.savepoints, &mut errors);
    let ttl_after_finished = errors.duration("spec.ttlAfterFinished", &spec.ttl_after_finished, Duration::ZERO);
    let worker = worker(&spec.worker, &mut errors);
    let validated = || {
        Some(ValidatedJob {
            name: name.ok()?,
            namespace: job.metadata.namespace.clone(),
            labels: job.metadata.labels.clone(),
            sql: sql?,
            state: spec.state,
            parallelism: parallelism?,
            max_parallelism: max_parallelism?,
            delivery: spec.delivery,
            checkpoint: checkpoint?,
            upgrade: upgrade?,
            restore,
            restart: restart?,
            replicas: replicas?,
            autoscaling,
            savepoints: savepoints?,
            ttl_after_finished: ttl_after_finished?,
            worker: worker?,
        })
    };
    match validated() {
        Some(job) if errors.0.is_empty() => Ok(job),
        _ => Err(errors.0),
    }
}

/// Collects violations.
#[derive(Debug, Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    /// `apiVersion` and `kind`, each beside what it should be.
    fn head(&mut self, api_version: (&str, &str), kind: (&str, &str)) {
        for (path, (found, right)) in [("apiVersion", api_version), ("kind", kind)] {
            if found != right {
                self.add(path, format!("{found:?} is not known"), format!("write {right}"));
            }
        }
    }

    fn add(&mut self, path: &str, problem: impl fmt::Display, hint: impl fmt::Display) {
        self.0.push(FieldError { path: path.to_owned(), problem: problem.to_string(), hint: hint.to_string() });
    }

    /// A whole number in `range`.
    fn integer(&mut self, path: &str, value: i64, range: RangeInclusive<i64>, reason: &str) -> Option<u32> {
        if range.contains(&value) {
            return u32::try_from(value).ok();
        }
        self.add(path, format!("{value} is out of range"), format!("use {} to {} ({reason})", range.start(), range.end()));
        None
    }

    /// A duration of at least `least`.
    fn duration(&mut self, path: &str, text: &DurationText, least: Duration) -> Option<Duration> {
        match text.parse() {
            Ok(value) if value >= least => return Some(value),
            Ok(_) => self.add(path, format!("{text} is too short"), format!("use at least {}", duration::display(least))),
            Err(problem) => self.add(path, problem, "write numbers with d, h, m, s, ms in this order, for example 10s or 1h30m"),
        }
        None
    }
}

fn sql(spec: &StreamJobSpec, errors: &mut Errors) -> Option<SqlSource> {
    match (&spec.sql, &spec.sql_from) {
        (Some(_), Some(_)) => {
            errors.add("spec.sqlFrom", "stands beside spec.sql", "remove one of the two");
            None
        }
        (None, None) => {
            errors.add("spec.sql", "is missing", "write the SQL script there, or name it in spec.sqlFrom");
            None
        }
        (Some(text), None) => {
            if text.chars().all(|c| c.is_whitespace() || c.is_control()) && !text.contains('\0') {
                errors.add("spec.sql", "is empty", "write CREATE TABLE and INSERT INTO statements");
                return None;
            }
            if text.len() > SQL_LIMIT {
                errors.add("spec.sql", format!("has {} bytes", text.len()), format!("use at most {SQL_LIMIT} bytes"));
                return None;
            }
            if text.contains('\0') {
                errors.add("spec.sql", "holds a NUL character", "remove it");
                return None;
            }
            let secrets = secret_reference::names(text).len();
            if secrets > secret_reference::LIMIT {
                errors.add("spec.sql", format!("refers to {secrets} Secrets"), format!("use at most {}", secret_reference::LIMIT));
                return None;
            }
            Some(SqlSource::Inline(text.clone()))
        }
        (None, Some(from)) => {
            let reference = &from.config_map_key_ref;
            let mut good = true;
            if let Err(problem) = names::subdomain(&reference.name) {
                errors.add("spec.sqlFrom.configMapKeyRef.name", problem, "name a ConfigMap of the job's namespace");
                good = false;
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if reference.key.is_empty() || reference.key.len() > names::SUBDOMAIN_LIMIT || !reference.key.chars().all(plain) {
                let hint = "use letters, digits, dashes, underscores and dots";
                errors.add("spec.sqlFrom.configMapKeyRef.key", format!("{:?} is no key", reference.key), hint);
                good = false;
            }
            good.then(|| SqlSource::ConfigMapKey(reference.clone()))
        }
    }
}

fn checkpoint(checkpoint: &Checkpoint, errors: &mut Errors) -> Option<CheckpointPolicy> {
    let interval = errors.duration("spec.checkpoint.interval", &checkpoint.interval, MIN_CHECKPOINT_INTERVAL);
    let timeout = errors.duration("spec.checkpoint.timeout", &checkpoint.timeout, MIN_CHECKPOINT_INTERVAL);
    if let (Some(interval), Some(timeout)) = (interval, timeout)
        && timeout < interval
    {
        let problem = format!("{} is shorter than spec.checkpoint.interval", checkpoint.timeout);
        errors.add("spec.checkpoint.timeout", problem, format!("use at least {}", checkpoint.interval));
    }
    let retain = errors.integer("spec.checkpoint.retain", checkpoint.retain, 1..=RETAIN_LIMIT, "checkpoints to keep");
    let storage = checkpoint.storage.as_ref().map(|storage| self::storage(storage, errors));
    Some(CheckpointPolicy { interval: interval?, timeout: timeout?, retain: retain?, storage })
}

fn storage(storage: &Storage, errors: &mut Errors) -> StoragePolicy {
    if let Err((problem, hint)) = uri::storage(&storage.uri) {
        errors.add("spec.checkpoint.storage.uri", problem, hint);
    }
    if let Some(endpoint) = &storage.endpoint {
        if let Err((problem, hint)) = uri::endpoint(endpoint) {
            errors.add("spec.checkpoint.storage.endpoint", problem, hint);
        } else if storage.uri.starts_with("file:") {
            errors.add("spec.checkpoint.storage.endpoint", "means nothing for file://", "remove it");
        }
    }
    if let Some(region) = &storage.region
        && (region.is_empty() || region.len() > TEXT_LIMIT || !region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
    {
        errors.add("spec.checkpoint.storage.region", format!("{region:?} is no region"), "write it like eu-central-1");
    }
    if let Some(secret) = &storage.credentials_secret_ref
        && let Err(problem) = names::subdomain(&secret.name)
    {
        errors.add("spec.checkpoint.storage.credentialsSecretRef.name", problem, "name a Secret of the job's namespace");
    }
    StoragePolicy {
        uri: storage.uri.trim_end_matches('/').to_owned(),
        endpoint: storage.endpoint.clone(),
        region: storage.region.clone(),
        credentials: storage.credentials_secret_ref.clone(),
    }
}

fn upgrade(upgrade: &Upgrade, errors: &mut Errors) -> Option<UpgradePolicy> {
    let deadline = errors.duration("spec.upgrade.deadline", &upgrade.deadline, MIN_UPGRADE_DEADLINE);
    let age = upgrade.max_checkpoint_age.as_ref();
    let max_checkpoint_age = age.map(|age| errors.duration("spec.upgrade.maxCheckpointAge", age, Duration::from_secs(1)));
    Some(UpgradePolicy {
        mode: upgrade.mode,
        savepoint_on_upgrade: upgrade.savepoint_on_upgrade,
        rollback: upgrade.rollback,
        deadline: deadline?,
        max_checkpoint_age: max_checkpoint_age.flatten(),
    })
}

fn restore(restore: &Restore, job: &str, errors: &mut Errors) -> Option<RestorePolicy> {
    let nonce = u64::try_from(restore.nonce).ok();
    if nonce.is_none() {
        errors.add("spec.restore.nonce", format!("{} is negative", restore.nonce), "use 0 or more");
    }
    let from = match (&restore.from.savepoint, &restore.from.uri) {
        (Some(name), None) => match names::subdomain(name) {
            Ok(()) => Some(RestoreSource::Savepoint(name.clone())),
            Err(problem) => {
                errors.add("spec.restore.from.savepoint", problem, format!("name a Savepoint of {job}'s namespace"));
                None
            }
        },
        (None, Some(uri)) => match uri::storage(uri) {
            Ok(()) => Some(RestoreSource::Uri(uri.trim_end_matches('/').to_owned())),
            Err((problem, hint)) => {
                errors.add("spec.restore.from.uri", problem, hint);
                None
            }
        },
        (Some(_), Some(_)) => {
            errors.add("spec.restore.from", "names both a savepoint and a uri", "remove one of the two");
            None
        }
        (None, None) => {
            errors.add("spec.restore.from", "names nothing", "set savepoint or uri");
            None
        }
    };
    Some(RestorePolicy { from: from?, allow_non_restored_state: restore.allow_non_restored_state, nonce: nonce? })
}

fn restart(restart: &Restart, errors: &mut Errors) -> Option<RestartPolicy> {
    let max_restarts = errors.integer("spec.restart.maxRestarts", restart.max_restarts, 0..=RESTARTS_LIMIT, "0: never restart");
    let window = errors.duration("spec.restart.window", &restart.window, Duration::from_secs(1));
    let initial = errors.duration("spec.restart.backoff.initial", &restart.backoff.initial, Duration::from_millis(1));
    let max = errors.duration("spec.restart.backoff.max", &restart.backoff.max, Duration::from_millis(1));
    if let (Some(initial), Some(max)) = (initial, max)
        && max < initial
    {
        let problem = format!("{} is shorter than spec.restart.backoff.initial", restart.backoff.max);
        errors.add("spec.restart.backoff.max", problem, format!("use at least {}", restart.backoff.initial));
    }
    Some(RestartPolicy { max_restarts: max_restarts?, window: window?, backoff_initial: initial?, backoff_max: max? })
}

fn autoscaling(autoscaling: &Autoscaling, most: i64, errors: &mut Errors) -> Option<AutoscalingPolicy> {
    let max = errors.integer("spec.autoscaling.maxParallelism", autoscaling.max_parallelism, 1..=most, "spec.maxParallelism is the most");
    let least = max.map_or(most, i64::from);
    let min = errors.integer("spec.autoscaling.minParallelism", autoscaling.min_parallelism, 1..=least, "maxParallelism is the most");
    let percent = autoscaling.target_utilization_percent;
    let target = errors.integer("spec.autoscaling.targetUtilizationPercent", percent, 10..=95, "per cent");
    Some(AutoscalingPolicy { min_parallelism: min?, max_parallelism: max?, target_utilization_percent: target? })
}

fn worker(worker: &Worker, errors: &mut Errors) -> Option<WorkerPolicy> {
    if let Some(image) = &worker.image
        && (image.is_empty() || image.len() > TEXT_LIMIT || !image.bytes().all(|b| b.is_ascii_graphic()))
    {
        errors.add("spec.worker.image", format!("{image:?} is no image"), "write registry/name:tag or registry/name@sha256:…");
    }
    let slots = errors.integer("spec.worker.slots", worker.slots, 1..=SLOTS_LIMIT, "worker threads a pod");
    for (kind, quantities) in [("requests", &worker.resources.requests), ("limits", &worker.resources.limits)] {
        if quantities.len() > RESOURCES_LIMIT {
            let path = format!("spec.worker.resources.{kind}");
            errors.add(&path, format!("names {} resources", quantities.len()), format!("use at most {RESOURCES_LIMIT}"));
        }
        for (name, quantity) in quantities {
            if !quantity.is_valid() {
                let path = format!("spec.worker.resources.{kind}.{name}");
                errors.add(&path, format!("{:?} is no quantity", quantity.0), "write it like 500m, 2 or 4Gi");
            }
        }
    }
    Some(WorkerPolicy {
        image: worker.image.clone(),
        slots: slots?,
        resources: worker.resources.clone(),
        pod_template: worker.pod_template.clone(),
    })
}

#[cfg(test)]
mod tests;
