//! [pure] What there is: everything that a decision may look at, besides the time.
//!
//! Lists are sorted by name by whoever gathers them; decisions do not depend on any other order.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use rheos_api::savepoint::{SavepointSpec, SavepointStatus};
use rheos_api::status::StreamJobStatus;
use rheos_api::stream_job::StreamJobSpec;
use rheos_api::{FieldError, ValidatedJob};
use rheos_control_api::JobView;

/// A job and all that belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Who the job is.
    pub job: Identity,
    /// What its author wants.
    pub wanted: Wanted,
    /// What was written last.
    pub status: StreamJobStatus,
    /// The revisions whose ConfigMaps exist.
    pub snapshots: Vec<Snapshot>,
    /// The job's worker pods, by name.
    pub pods: Vec<PodFacts>,
    /// Whether the Service exists.
    pub service: bool,
    /// Whether the PodDisruptionBudget exists.
    pub budget: bool,
    /// The Savepoints of this job, and the one that `spec.restore` names, by name.
    pub savepoints: Vec<SavepointFacts>,
    /// What the apiserver or a coordinator refused when the last decision was applied; empty once it was applied whole.
    pub refusals: Vec<Refusal>,
    /// The image of workers whose job names none.
    pub default_image: String,
    /// Whether this process looks at the job for the first time.
    pub first_look: bool,
}

/// Who a job is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// `metadata.generation`.
    pub spec_generation: i64,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether our finalizer stands on it.
    pub finalizer: bool,
    /// Since when it is being deleted.
    pub deleting_since: Option<Timestamp>,
}

/// What the author of a job wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// A job that passes all checks.
    Valid {
        /// The spec as it was written, with the SQL in place (`sqlFrom` resolved).
        spec: Box<StreamJobSpec>,
        /// The same, read.
        job: Box<ValidatedJob>,
    },
    /// A spec that breaks rules.
    Invalid(Vec<FieldError>),
    /// The ConfigMap of `sqlFrom` or its key is not there (yet).
    SqlMissing(String),
}

/// The snapshot of a revision: the job as it was when its first pod was built.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The revision.
    pub revision: String,
    /// Name of the ConfigMap.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// The spec, with the SQL and the image in place.
    pub spec: StreamJobSpec,
    /// The same, read.
    pub job: ValidatedJob,
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
    /// Label `rheos.dev/revision`.
    pub revision: String,
    /// Label `rheos.dev/index`.
    pub index: u32,
    /// Label `rheos.dev/incarnation`.
    pub incarnation: i64,
    /// Since when it exists.
    pub created: Option<Timestamp>,
    /// Since when it is being deleted.
    pub deleting_since: Option<Timestamp>,
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: String,
    /// `status.reason`: `Evicted`, `NodeLost`, …
    pub reason: Option<String>,
    /// `status.message`.
    pub message: Option<String>,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Condition `Ready`.
    pub ready: bool,
    /// Why condition `PodScheduled` is false: reason and message.
    pub unscheduled: Option<(String, String)>,
    /// The container `worker`.
    pub container: Container,
    /// What the admin API answered; asked of every pod of index 0 that has an address.
    pub answer: Answer,
}

/// The state of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Why it waits: `ImagePullBackOff`, `CrashLoopBackOff`, `CreateContainerConfigError`, …
    pub waiting: Option<(String, String)>,
    /// How often it was restarted.
    pub restarts: i32,
    /// How it ended last: reason (`OOMKilled`, `Error`), exit code, termination message.
    pub last_end: Option<(String, i32, String)>,
    /// When that was.
    pub ended_at: Option<Timestamp>,
    /// Whether it runs.
    pub running: bool,
}

/// What a pod's admin API answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Answer {
    /// It was not asked.
    #[default]
    NotAsked,
    /// It answered.
    View(Box<JobView>),
    /// It did not, and why.
    Silent(String),
}

impl PodFacts {
    /// What the pod said of the job.
    pub fn view(&self) -> Option<&JobView> {
        match &self.answer {
            Answer::View(view) => Some(view),
            Answer::NotAsked | Answer::Silent(_) => None,
        }
    }
}

/// A Savepoint.
#[derive(Debug, Clone, PartialEq)]
pub struct SavepointFacts {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Since when it is being deleted.
    pub deleting_since: Option<Timestamp>,
    /// Whether our finalizer stands on it.
    pub finalizer: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// `spec`.
    pub spec: SavepointSpec,
    /// `status`.
    pub status: SavepointStatus,
}

/// What was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// [`crate::reconcile::Action::name`] of what was asked.
    pub action: &'static str,
    /// The object, or the pod that was asked.
    pub object: String,
    /// HTTP status, 0 where there was none.
    pub code: u16,
    /// `status.reason` of the apiserver's answer: `Forbidden`, `Invalid`, …
    pub reason: String,
    /// The answer's message.
    pub message: String,
}
