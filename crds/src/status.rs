//! [pure] `StreamJob.status`: what the operator last saw. For decisions and people, not telemetry.
//!
//! Unknown fields are read over, unlike those of `spec`: an operator that was rolled back reads what a newer one wrote.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rollout::{Assigned, Rejected, Rollout, Run};

/// The states of a job's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum Phase {
    /// Accepted; nothing runs yet.
    #[default]
    Created,
    /// Workers are being brought up, or restore their state.
    Deploying,
    /// Rows flow.
    Running,
    /// Checkpointed and stopped; goes on from there when asked to.
    Suspended,
    /// A new revision is taking over.
    Upgrading,
    /// The number of workers is changing.
    Rescaling,
    /// The last stable revision is coming back.
    RollingBack,
    /// An engine was lost; the next generation starts soon.
    Failing,
    /// Stopped for good by a failure.
    Failed,
    /// Every source has ended and everything is committed.
    Finished,
}

/// What was last seen of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StreamJobStatus {
    /// Where the job is in its life.
    #[serde(default)]
    pub phase: Phase,
    /// `metadata.generation` of the spec that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Progressing`, `Degraded`, `CheckpointHealthy`, `Restorable`, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation minted in the checkpoint store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Hash of what the pods were built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// What last ran and completed a checkpoint: where a roll-back goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<Run>,
    /// Which one of its kind each pod is, by index: raised before a replacement is created.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "by_index")]
    #[cfg_attr(feature = "kube", schemars(with = "BTreeMap<String, u32>"))]
    pub incarnations: BTreeMap<u32, u32>,
    /// Version of the latest assignment that was, or is about to be, given to the coordinator.
    #[serde(default)]
    pub assignment: u64,
    /// What that assignment says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned: Option<Assigned>,
    /// The change that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// What was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
    /// `spec.restore.nonce` that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_nonce: Option<i64>,
    /// When the job finished or failed for good, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// The latest complete checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<CheckpointStatus>,
    /// The latest complete savepoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_savepoint: Option<LastSavepoint>,
    /// Restarts since the job was created.
    #[serde(default)]
    pub restarts: i64,
    /// Why the last one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_restart: Option<RestartStatus>,
    /// When the newest restarts of this revision were, at most three, the oldest first, RFC 3339.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_restarts: Vec<String>,
    /// Workers.
    #[serde(default)]
    pub parallelism: ParallelismStatus,
    /// Label selector of the worker pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The one act with an outside effect that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
}

/// A restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RestartStatus {
    /// When, RFC 3339.
    pub time: String,
    /// One word for programs: `OOMKilled`, `PodLost`, …
    pub reason: String,
    /// One sentence for people.
    #[serde(default)]
    pub message: String,
}

/// A Kubernetes condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word for programs.
    pub reason: String,
    /// One sentence for people.
    #[serde(default)]
    pub message: String,
    /// When `status` last changed, RFC 3339.
    pub last_transition_time: String,
    /// `metadata.generation` that it was seen for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// A complete checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// The epoch it closes.
    pub epoch: i64,
    /// When it was complete, RFC 3339.
    pub time: String,
    /// Bytes newly written.
    pub bytes: i64,
    /// From tick to record, as text (`350ms`).
    pub duration: String,
}

/// A complete savepoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LastSavepoint {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub uri: String,
    /// The epoch it closes.
    pub epoch: i64,
    /// When it was complete, RFC 3339.
    pub time: String,
}

/// Workers wanted and running.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ParallelismStatus {
    /// Wanted.
    #[serde(default)]
    pub desired: i64,
    /// Running.
    #[serde(default)]
    pub running: i64,
}

/// An act that was written down before it was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// Names the act; repeating it under this id has no second effect.
    pub id: String,
    /// `Savepoint`, `Stop`, `Generation`, …
    pub kind: String,
    /// RFC 3339.
    pub since: String,
}

/// Numbers as keys, written as text: a reader that buffers an object (an error boundary around a watch) has no other keys.
mod by_index {
    use std::collections::BTreeMap;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<u32, u32>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(index, number)| (index.to_string(), number)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u32, u32>, D::Error> {
        let texts = BTreeMap::<String, u32>::deserialize(deserializer)?;
        let number = |(index, number): (String, u32)| match index.parse() {
            Ok(index) => Ok((index, number)),
            Err(_) => Err(D::Error::custom(format!("{index:?} is no index of a pod"))),
        };
        texts.into_iter().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_through_a_buffer_too() {
        #[derive(Deserialize)]
        struct Buffered {
            #[serde(flatten)]
            status: StreamJobStatus,
        }
        let status = StreamJobStatus { incarnations: BTreeMap::from([(0, 1), (11, 2)]), ..StreamJobStatus::default() };
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.contains(r#""incarnations":{"0":1,"11":2}"#), "{text}");
        assert_eq!(serde_json::from_str::<Buffered>(&text).unwrap().status, status);
        assert!(serde_json::from_str::<StreamJobStatus>(r#"{"incarnations":{"x":1}}"#).unwrap_err().to_string().contains("no index"));
    }
}
