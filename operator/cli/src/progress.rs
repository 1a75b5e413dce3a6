//! [pure] Whether what was asked for has come about: judged from what the cluster says, again and again.

use kube::ResourceExt;
use rheos_api::kube::{Savepoint, StreamJob};
use rheos_api::savepoint::SavepointPhase;
use rheos_api::status::Phase;
use rheos_operator::conditions::{self, reasons};

use crate::pages::words;

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Not yet; what is waited for.
    Waits(String),
    /// It has come about.
    Done(String),
    /// It will not.
    Fails(String),
}

/// Troubles that do not pass while the spec is as it is.
const LASTING: [&str; 4] = [reasons::INVALID_SPEC, reasons::SQL_NOT_FOUND, reasons::CHANGE_REFUSED, reasons::ROLLED_BACK];

/// Whether a job runs as its spec of `generation` says, stable: it has completed a checkpoint since.
pub fn runs(job: &StreamJob, generation: i64) -> Progress {
    let status = match answered(job, generation) {
        Ok(status) => status,
        Err(waits) => return waits,
    };
    match status.phase {
        Phase::Finished => Progress::Done("finished: every source has ended and everything is committed".to_owned()),
        Phase::Running if status.rollout.is_none() && status.parallelism.running == job.spec.parallelism => {
            Progress::Done(format!("runs on {} workers", status.parallelism.running))
        }
        Phase::Running if status.rollout.is_none() && job.spec.autoscaling.is_some() => Progress::Done("runs".to_owned()),
        phase => Progress::Waits(format!("{phase:?}: {}", words::why(&status))),
    }
}

/// Whether a job stands still, with a checkpoint, as its spec of `generation` says.
pub fn stands(job: &StreamJob, generation: i64) -> Progress {
    let status = match answered(job, generation) {
        Ok(status) => status,
        Err(waits) => return waits,
    };
    match status.phase {
        Phase::Suspended => Progress::Done("suspended".to_owned()),
        Phase::Finished => Progress::Done("finished".to_owned()),
        phase => Progress::Waits(format!("{phase:?}: {}", words::why(&status))),
    }
}

/// The status that answers a spec; or what is waited for, or what stands in the way.
fn answered(job: &StreamJob, generation: i64) -> Result<rheos_api::StreamJobStatus, Progress> {
    if job.metadata.deletion_timestamp.is_some() {
        return Err(Progress::Fails("the job is being deleted".to_owned()));
    }
    let status = job.status.clone().unwrap_or_default();
    if let Some(paused) = words::holds(&status, conditions::RECONCILIATION_PAUSED) {
        return Err(Progress::Fails(format!("the operator leaves this job alone: {}", paused.message)));
    }
    if status.observed_generation.is_none_or(|seen| seen < generation) {
        return Err(Progress::Waits("the operator has not answered yet".to_owned()));
    }
    if status.phase == Phase::Failed {
        return Err(Progress::Fails(format!("the job has failed: {}", words::why(&status))));
    }
    match words::holds(&status, conditions::DEGRADED) {
        Some(trouble) if LASTING.contains(&trouble.reason.as_str()) => {
            Err(Progress::Fails(format!("{}: {}", trouble.reason, trouble.message)))
        }
        _ => Ok(status),
    }
}

/// Whether a savepoint is complete.
pub fn saved(savepoint: &Savepoint) -> Progress {
    let status = savepoint.status.clone().unwrap_or_default();
    let message = || status.message.clone().unwrap_or_default();
    match status.phase {
        SavepointPhase::Completed => Progress::Done(format!("complete: {}", status.uri.clone().unwrap_or_default())),
        SavepointPhase::Failed => Progress::Fails(format!("the savepoint failed: {}", message())),
        SavepointPhase::Disposing => Progress::Fails("the savepoint is being deleted".to_owned()),
        phase => {
            let message = message();
            Progress::Waits(if message.is_empty() { format!("{phase:?}") } else { format!("{phase:?}: {message}") })
        }
    }
}

/// Whether a job is gone; `uid` tells it from one of the same name that came after it.
pub fn gone(job: Option<&StreamJob>, uid: &str) -> Progress {
    match job {
        Some(job) if job.uid().as_deref() == Some(uid) => {
            let why = job.status.as_ref().and_then(|status| words::holds(status, conditions::PROGRESSING));
            let why = why.filter(|condition| condition.reason == reasons::DELETING).map(|condition| condition.message.clone());
            Progress::Waits(format!("Deleting: {}", why.unwrap_or_else(|| "the operator has not answered yet".to_owned())))
        }
        _ => Progress::Done("deleted".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use rheos_api::status::{Condition, ParallelismStatus};
    use serde_json::json;

    use super::*;

    fn job(generation: i64, edit: impl FnOnce(&mut rheos_api::StreamJobStatus)) -> StreamJob {
        let mut job: StreamJob = serde_json::from_value(json!({
            "apiVersion": "rheos.dev/v1alpha1", "kind": "StreamJob",
            "metadata": {"name": "a", "uid": "u1"}, "spec": {"sql": "x", "parallelism": 2},
        }))
        .unwrap();
        let mut status = rheos_api::StreamJobStatus {
            observed_generation: Some(generation),
            phase: Phase::Running,
            parallelism: ParallelismStatus { desired: 2, running: 2 },
            ..Default::default()
        };
        edit(&mut status);
        job.status = Some(status);
        job
    }

    fn trouble(reason: &str) -> Condition {
        Condition {
            kind: "Degraded".into(),
            status: "True".into(),
            reason: reason.into(),
            message: "because".into(),
            last_transition_time: String::new(),
            observed_generation: None,
        }
    }

    #[test]
    fn an_answer_to_an_older_spec_is_no_answer() {
        assert!(matches!(runs(&job(1, |_| {}), 2), Progress::Waits(_)));
        assert!(matches!(runs(&job(2, |_| {}), 2), Progress::Done(_)));
        assert!(matches!(runs(&StreamJob { status: None, ..job(1, |_| {}) }, 1), Progress::Waits(_)));
    }

    #[test]
    fn a_job_runs_only_when_its_change_is_over_and_all_workers_do() {
        let fewer = job(1, |status| status.parallelism.running = 1);
        assert!(matches!(runs(&fewer, 1), Progress::Waits(_)));
        let rollout = json!({"to": {"revision": "r", "parallelism": 2, "stateId": "s"}, "kind": "Upgrade", "stage": "Starting", "since": "", "stageSince": ""});
        let changing = job(1, |status| status.rollout = Some(serde_json::from_value(rollout).unwrap()));
        assert!(matches!(runs(&changing, 1), Progress::Waits(_)));
        assert!(matches!(runs(&job(1, |status| status.phase = Phase::Finished), 1), Progress::Done(_)));
    }

    #[test]
    fn what_does_not_pass_ends_the_wait() {
        for reason in LASTING {
            assert_eq!(runs(&job(1, |status| status.conditions.push(trouble(reason))), 1), Progress::Fails(format!("{reason}: because")));
        }
        let passing = job(1, |status| {
            status.phase = Phase::Deploying;
            status.conditions.push(trouble(reasons::UNSCHEDULABLE));
        });
        assert!(matches!(runs(&passing, 1), Progress::Waits(why) if why.contains("because")));
        assert!(matches!(runs(&job(1, |status| status.phase = Phase::Failed), 1), Progress::Fails(_)));
        let paused = Condition { kind: "ReconciliationPaused".into(), ..trouble("Paused") };
        assert!(matches!(stands(&job(1, |status| status.conditions.push(paused)), 1), Progress::Fails(_)));
    }

    #[test]
    fn a_job_stands_and_goes() {
        assert!(matches!(stands(&job(1, |_| {}), 1), Progress::Waits(_)));
        assert!(matches!(stands(&job(1, |status| status.phase = Phase::Suspended), 1), Progress::Done(_)));
        assert!(matches!(gone(Some(&job(1, |_| {})), "u1"), Progress::Waits(_)));
        assert!(matches!(gone(Some(&job(1, |_| {})), "u0"), Progress::Done(_)));
        assert!(matches!(gone(None, "u1"), Progress::Done(_)));
    }

    #[test]
    fn a_savepoint_is_complete_or_given_up() {
        let savepoint = |phase: &str| {
            let value = json!({
                "apiVersion": "rheos.dev/v1alpha1", "kind": "Savepoint", "metadata": {"name": "s"},
                "spec": {"job": "a"}, "status": {"phase": phase, "uri": "s3://b/x", "message": "why"},
            });
            serde_json::from_value::<Savepoint>(value).unwrap()
        };
        assert_eq!(saved(&savepoint("Completed")), Progress::Done("complete: s3://b/x".into()));
        assert_eq!(saved(&savepoint("Failed")), Progress::Fails("the savepoint failed: why".into()));
        assert_eq!(saved(&savepoint("Pending")), Progress::Waits("Pending: why".into()));
    }
}
