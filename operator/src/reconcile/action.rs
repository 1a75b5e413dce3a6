//! [pure] Everything that the operator can do: a closed list, executed by `apply` without a decision of its own.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use rheos_api::savepoint::SavepointStatus;
use rheos_control_api::Assignment;
use serde_json::Value;

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Puts our finalizer on the job.
    AddFinalizer,
    /// Takes it away: the job may go.
    RemoveFinalizer,
    /// Creates the snapshot of a revision; that it exists is success (it is immutable).
    CreateConfigMap(Box<ConfigMap>),
    /// Creates the job's token; `apply` puts the data in. That it exists is success.
    CreateToken(Box<Secret>),
    /// Creates the Service; that it exists is success.
    CreateService(Box<Service>),
    /// Creates the disruption budget; that it exists is success.
    CreatePdb(Box<PodDisruptionBudget>),
    /// Creates a pod; that it exists is success.
    CreatePod(Box<Pod>),
    /// Deletes a pod, if it is still the one that was seen.
    DeletePod {
        /// Which.
        target: Target,
        /// Less than the pod's own grace period, seconds.
        grace_seconds: Option<u32>,
    },
    /// Deletes the snapshot of a revision that nothing needs any more.
    DeleteConfigMap(Target),
    /// Tells a pod what the job runs with; makes it the coordinator.
    Assign {
        /// The pod.
        pod: String,
        /// Its address.
        address: IpAddr,
        /// What it is told.
        assignment: Box<Assignment>,
    },
    /// Stops the job with a checkpoint.
    Stop {
        /// The coordinator.
        pod: String,
        /// Its address.
        address: IpAddr,
    },
    /// Takes a savepoint.
    Savepoint {
        /// The coordinator.
        pod: String,
        /// Its address.
        address: IpAddr,
        /// Under which id.
        id: String,
    },
    /// Creates a Savepoint; that it exists is success.
    CreateSavepoint {
        /// Its name.
        name: String,
        /// The whole object.
        object: Box<Value>,
    },
    /// Writes the status of a Savepoint, if it is still the one that was seen.
    WriteSavepoint {
        /// Which.
        target: Target,
        /// Its status, whole.
        status: Box<SavepointStatus>,
    },
    /// Deletes a Savepoint that its history limit leaves out.
    DeleteSavepoint(Target),
}

/// An object, as it was seen: deletes and writes carry both as preconditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
}

impl Action {
    /// The action in one word, for logs, metrics and [`crate::reconcile::Refusal`].
    pub fn name(&self) -> &'static str {
        match self {
            Self::AddFinalizer => "AddFinalizer",
            Self::RemoveFinalizer => "RemoveFinalizer",
            Self::CreateConfigMap(_) => "CreateConfigMap",
            Self::CreateToken(_) => "CreateToken",
            Self::CreateService(_) => "CreateService",
            Self::CreatePdb(_) => "CreatePdb",
            Self::CreatePod(_) => "CreatePod",
            Self::DeletePod { .. } => "DeletePod",
            Self::DeleteConfigMap(_) => "DeleteConfigMap",
            Self::Assign { .. } => "Assign",
            Self::Stop { .. } => "Stop",
            Self::Savepoint { .. } => "Savepoint",
            Self::CreateSavepoint { .. } => "CreateSavepoint",
            Self::WriteSavepoint { .. } => "WriteSavepoint",
            Self::DeleteSavepoint(_) => "DeleteSavepoint",
        }
    }

    /// The order of actions: first what the others rely on. What runs is told before anything is made, for that something
    /// cannot be created must not keep a job from healing; pods come before what only stands around them.
    pub fn rank(&self) -> u8 {
        match self {
            Self::AddFinalizer => 0,
            Self::WriteSavepoint { .. } => 1,
            Self::Assign { .. } | Self::Stop { .. } | Self::Savepoint { .. } => 2,
            Self::DeletePod { .. } | Self::DeleteConfigMap(_) | Self::DeleteSavepoint(_) => 3,
            Self::CreateConfigMap(_) | Self::CreateToken(_) => 4,
            Self::CreateSavepoint { .. } => 5,
            Self::CreatePod(_) => 6,
            Self::CreateService(_) | Self::CreatePdb(_) => 7,
            Self::RemoveFinalizer => 8,
        }
    }

    /// Whether it makes an object that no other of its rank relies on: such actions may run at the same time.
    pub fn makes(&self) -> bool {
        matches!(self, Self::CreateConfigMap(_) | Self::CreateToken(_) | Self::CreatePod(_) | Self::CreateService(_) | Self::CreatePdb(_))
    }

    /// Whether it acts on a running job: at most one of these in a decision.
    pub fn is_act(&self) -> bool {
        matches!(self, Self::Assign { .. } | Self::Stop { .. } | Self::Savepoint { .. })
    }
}
