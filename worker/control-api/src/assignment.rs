//! [pure] What the operator gives a coordinator: who its members are, and what they run.
//!
//! One pod of a job gets it, and is the coordinator from then on. Versions rise over the job's life, whichever pod they
//! are sent to: the higher one is the truth, and what is not higher changes nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::limits::{ID_LIMIT, MEMBERS_LIMIT, is_id};

/// Body of `PUT /v1/assignment`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// Above 0; rises with every change.
    pub version: u64,
    /// Last part of the job's place in the store: `<uri>/<namespace>/<job>/<state_id>/`.
    pub state_id: String,
    /// Workers of the job.
    pub parallelism: u32,
    /// Who hosts engine process `i`: as many as the parallelism needs at the job's slots.
    pub members: Vec<MemberAddress>,
    /// `spec.checkpoint`, as it is now.
    pub checkpoint: CheckpointSettings,
    /// `spec.restart`, as it is now.
    pub restart: RestartSettings,
    /// What to start from, if the job's place in the store has no checkpoint yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreOrder>,
}

/// A pod that hosts an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberAddress {
    /// Its name.
    pub pod: String,
    /// Its address; the ports are the same for all pods of a job.
    pub address: IpAddr,
}

/// `spec.checkpoint` without its storage, which is the revision's. Changes are taken without a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSettings {
    /// Between the starts of two checkpoints, ms.
    pub interval_ms: u64,
    /// A checkpoint that takes longer is given up, ms.
    pub timeout_ms: u64,
    /// Checkpoints to keep.
    pub retain: u32,
}

/// `spec.restart`. Changes are taken without a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartSettings {
    /// Restarts within the window before the job fails.
    pub max_restarts: u32,
    /// The time in which restarts are counted, ms.
    pub window_ms: u64,
    /// The first pause, ms.
    pub backoff_initial_ms: u64,
    /// The longest pause, ms.
    pub backoff_max_ms: u64,
}

/// A savepoint to start from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreOrder {
    /// Where it is, as it was reported.
    pub uri: String,
    /// Start although state would be left behind.
    #[serde(default)]
    pub allow_non_restored_state: bool,
}

/// What to do with an assignment that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It is new: carry it out.
    Take,
    /// It is the one in force: nothing to do.
    Known,
    /// It has the version in force and says something else: refuse it.
    Conflict,
    /// A higher one is in force: refuse it.
    Stale {
        /// Its version.
        known: u64,
    },
}

/// Judges an assignment by the one in force.
pub fn judge(known: Option<&Assignment>, new: &Assignment) -> Judgement {
    match known {
        Some(known) if new.version < known.version => Judgement::Stale { known: known.version },
        Some(known) if new.version > known.version => Judgement::Take,
        Some(known) if known == new => Judgement::Known,
        Some(_) => Judgement::Conflict,
        None => Judgement::Take,
    }
}

impl Assignment {
    /// What is wrong with it, whatever job it is for.
    pub fn problem(&self) -> Option<String> {
        let settings = &self.checkpoint;
        let mut seen = BTreeSet::new();
        if self.version == 0 {
            Some("version: versions begin at 1".to_owned())
        } else if !is_id(&self.state_id) {
            Some(format!("stateId: use 1 to {ID_LIMIT} lower-case letters, digits and inner dashes"))
        } else if self.parallelism == 0 || settings.interval_ms == 0 || settings.timeout_ms == 0 || settings.retain == 0 {
            Some("parallelism, checkpoint.intervalMs, checkpoint.timeoutMs and checkpoint.retain are above 0".to_owned())
        } else if self.members.is_empty() || self.members.len() > MEMBERS_LIMIT {
            Some(format!("members: {} are named; use 1 to {MEMBERS_LIMIT}", self.members.len()))
        } else {
            let twice = self.members.iter().find(|member| !seen.insert(&member.pod) || member.pod.is_empty());
            twice.map(|member| format!("members: the pod {:?} is named twice or has no name", member.pod))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(version: u64, pods: &[&str]) -> Assignment {
        let member = |(index, pod): (usize, &&str)| MemberAddress { pod: (*pod).to_owned(), address: [10, 0, 0, index as u8].into() };
        Assignment {
            version,
            state_id: "0b1c".to_owned(),
            parallelism: pods.len() as u32,
            members: pods.iter().enumerate().map(member).collect(),
            checkpoint: CheckpointSettings { interval_ms: 10_000, timeout_ms: 300_000, retain: 3 },
            restart: RestartSettings { max_restarts: 10, window_ms: 600_000, backoff_initial_ms: 1_000, backoff_max_ms: 60_000 },
            restore: None,
        }
    }

    #[test]
    fn only_what_is_higher_is_taken() {
        let known = assignment(5, &["a", "b"]);
        assert_eq!(judge(None, &known), Judgement::Take);
        assert_eq!(judge(Some(&known), &assignment(6, &["a", "b"])), Judgement::Take);
        assert_eq!(judge(Some(&known), &known.clone()), Judgement::Known);
        assert_eq!(judge(Some(&known), &assignment(5, &["a", "c"])), Judgement::Conflict);
        assert_eq!(judge(Some(&known), &assignment(4, &["a", "b"])), Judgement::Stale { known: 5 });
    }

    #[test]
    fn what_no_job_could_run_is_told() {
        assert_eq!(assignment(1, &["a"]).problem(), None);
        let mut state_id = assignment(1, &["a"]);
        state_id.state_id = "../x".to_owned();
        let mut retain = assignment(1, &["a"]);
        retain.checkpoint.retain = 0;
        for (wrong, word) in [
            (assignment(0, &["a"]), "version"),
            (Assignment { parallelism: 1, ..assignment(1, &[]) }, "members"),
            (assignment(1, &["a", "a"]), "twice"),
            (state_id, "stateId"),
            (retain, "retain"),
        ] {
            assert!(wrong.problem().is_some_and(|problem| problem.contains(word)), "{wrong:?}");
        }
    }

    #[test]
    fn it_is_camel_case_and_reads_over_what_it_does_not_know() {
        let mut wanted = assignment(7, &["a"]);
        wanted.restore = Some(RestoreOrder { uri: "s3://b/savepoints/x".to_owned(), allow_non_restored_state: true });
        let text = serde_json::to_string(&wanted).unwrap();
        for name in ["stateId", "intervalMs", "maxRestarts", "backoffInitialMs", "allowNonRestoredState"] {
            assert!(text.contains(name), "{text}");
        }
        assert_eq!(serde_json::from_str::<Assignment>(&text).unwrap(), wanted);
        assert!(serde_json::from_str::<Assignment>(&text.replace("stateId", "stateID")).is_err());
        let newer = text.replace("\"version\"", "\"added\":1,\"version\"");
        assert_eq!(serde_json::from_str::<Assignment>(&newer).unwrap(), wanted, "an operator may be newer than its workers");
    }
}
