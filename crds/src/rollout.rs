//! [pure] The part of `StreamJob.status` that the operator keeps for itself: what runs, and what is taking over.
//!
//! It is written before anything is done, so that an operator that starts anew goes on where the last one was.

use serde::{Deserialize, Serialize};

/// A revision with its workers and its state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Hash of what the pods are built from.
    pub revision: String,
    /// Workers.
    pub parallelism: i64,
    /// Last part of the storage path.
    pub state_id: String,
}

/// What the coordinator was last told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Assigned {
    /// What runs.
    pub run: Run,
    /// The pod that leads.
    pub coordinator: String,
    /// Hash of all that it was told.
    pub digest: String,
    /// When that was decided, RFC 3339.
    pub since: String,
    /// Whether it runs.
    #[serde(default)]
    pub state: AssignedState,
    /// Sum of its members' incarnations: members of the same run with a smaller one are those of an older view.
    #[serde(default)]
    pub incarnations: i64,
    /// The newest generation that was seen under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Whether its state begins with what `spec.restore` names.
    #[serde(default)]
    pub restore: bool,
}

/// Whether what was assigned runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum AssignedState {
    /// It runs, or is about to.
    #[default]
    Active,
    /// It ended with a checkpoint.
    Stopped,
    /// It ended without one.
    Broken,
}

/// A change of what runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// What shall run.
    pub to: Run,
    /// Why.
    pub kind: RolloutKind,
    /// How far it is.
    pub stage: RolloutStage,
    /// When it began, RFC 3339.
    pub since: String,
    /// When the stage began, RFC 3339.
    pub stage_since: String,
    /// Whether its state begins with what `spec.restore` names.
    #[serde(default)]
    pub restore: bool,
    /// Whether the old pods go before the new ones start, for want of room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop_first: bool,
    /// The Savepoint that is taken for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
}

/// Why something takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum RolloutKind {
    /// The job starts: for the first time, or after it was at rest.
    Start,
    /// The spec asks for another revision.
    Upgrade,
    /// What took over did not become stable.
    RollBack,
}

/// How far a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum RolloutStage {
    /// The new pods start; the old ones run.
    Preparing,
    /// A savepoint or a fresh checkpoint is waited for.
    Saving,
    /// The old job stops with a checkpoint.
    Stopping,
    /// The new pods were assigned; the job is not stable yet.
    Starting,
}

/// What was rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// The revision; not tried again while the spec asks for it without a break.
    pub revision: String,
    /// Its workers.
    pub parallelism: i64,
    /// One word for programs.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
    /// When, RFC 3339.
    pub at: String,
}
