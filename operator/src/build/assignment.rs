//! [pure] What a coordinator is told, and its digest.

use rheos_api::ValidatedJob;
use rheos_control_api::{Assignment, CheckpointSettings, MemberAddress, RestartSettings, RestoreOrder};
use serde_json::json;

use crate::hash;
use crate::reconcile::PodFacts;

/// Hex digits of a digest.
const DIGEST_DIGITS: usize = 16;

/// An assignment of version 0; the version is put in once it is written down.
pub fn assignment(
    job: &ValidatedJob,
    state_id: &str,
    parallelism: u32,
    members: &[&PodFacts],
    restore: Option<RestoreOrder>,
) -> Assignment {
    let address = |pod: &&PodFacts| pod.address.map(|address| MemberAddress { pod: pod.name.clone(), address });
    Assignment {
        version: 0,
        state_id: state_id.to_owned(),
        parallelism,
        members: members.iter().filter_map(address).collect(),
        checkpoint: CheckpointSettings {
            interval_ms: millis(job.checkpoint.interval),
            timeout_ms: millis(job.checkpoint.timeout),
            retain: job.checkpoint.retain,
        },
        restart: RestartSettings {
            max_restarts: job.restart.max_restarts,
            window_ms: millis(job.restart.window),
            backoff_initial_ms: millis(job.restart.backoff_initial),
            backoff_max_ms: millis(job.restart.backoff_max),
        },
        restore,
    }
}

/// Tells assignments apart by what would have to be told anew: not by the version, and not by the restore order, which
/// means nothing once the job has a checkpoint. A pod that took the name and the address of a lost one is another pod.
pub fn digest(assignment: &Assignment, members: &[&PodFacts]) -> String {
    let uids: Vec<&str> = members.iter().map(|pod| pod.uid.as_str()).collect();
    let content = Assignment { version: 0, restore: None, ..assignment.clone() };
    hash::of_json(&json!({"content": content, "uids": uids}), DIGEST_DIGITS)
}

/// Pods that a parallelism needs.
pub fn members(parallelism: u32, slots: u32) -> u32 {
    parallelism.div_ceil(slots.max(1)).max(1)
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
