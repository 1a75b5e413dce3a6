//! [pure] What to do next, by what is wrong: a table over the reasons that the operator gives.

use rheos_api::StreamJobStatus;
use rheos_api::status::Phase;
use rheos_operator::conditions::{self, reasons};

use super::words;

/// Whom the advice is for.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Name of the job.
    pub job: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Whether the operator has seen the newest spec.
    pub seen: bool,
    /// What it says of the job.
    pub status: &'a StreamJobStatus,
}

/// The next steps, the first one first; none when there is nothing to do.
pub fn next(about: About<'_>) -> Vec<String> {
    let About { job, namespace, seen, status } = about;
    let command = |rest: &str| format!("kubectl streamjob {rest} {job} -n {namespace}");
    let mut steps = Vec::new();
    if words::holds(status, conditions::RECONCILIATION_PAUSED).is_some() {
        steps.push(format!("let the operator act again: kubectl annotate streamjob {job} -n {namespace} rheos.dev/paused-"));
    }
    if !seen {
        steps.push("the operator has not answered the newest spec; if that lasts: is it running? kubectl get pods -A -l app.kubernetes.io/name=rheos".into());
    }
    if let Some(trouble) = words::trouble(status) {
        steps.extend(of_reason(&trouble.reason, &command).into_iter().map(|step| step.replace("{job}", job).replace("{ns}", namespace)));
    }
    match status.phase {
        Phase::Failed => steps.push(format!("when the cause is gone, start it again from its last checkpoint: {}", command("restart"))),
        Phase::Suspended if steps.is_empty() => steps.push(format!("let it go on: {}", command("resume"))),
        Phase::Failing => steps.push(format!("see what the workers say: {}", command("logs"))),
        _ => {}
    }
    if words::trouble(status).is_some() {
        steps.push(format!("pack what helps others to help: {}", command("report")));
    }
    steps
}

/// The steps for a reason.
fn of_reason(reason: &str, command: &dyn Fn(&str) -> String) -> Vec<String> {
    let one = |step: &str| vec![step.to_owned()];
    match reason {
        reasons::INVALID_SPEC => one("correct the fields that are named above and submit the manifest again; the job goes on as it was"),
        reasons::SQL_NOT_FOUND => one("create the ConfigMap of spec.sqlFrom with its key, in the job's namespace"),
        reasons::CHANGE_REFUSED => one("set the field back, or do what the message says; the job goes on as it was"),
        reasons::RESTORE_SOURCE_MISSING => one("see which savepoints are complete: kubectl get savepoints -n {ns}"),
        reasons::CHECKPOINT_TOO_OLD => vec!["find out why checkpoints do not complete".into(), command("logs")],
        reasons::ROLLED_BACK | reasons::DEADLINE_EXCEEDED => {
            vec![
                format!("see why the new revision did not hold: {}", command("logs")),
                "then change the spec: the same one is not tried again".into(),
            ]
        }
        reasons::SAVEPOINT_FAILED => one("see why: kubectl get savepoints -n {ns}; the upgrade goes on when one is complete"),
        reasons::IMAGE_PULL => one("check spec.worker.image and the pull secrets in spec.worker.podTemplate"),
        reasons::CRASH_LOOP | reasons::CONTAINER_START | reasons::RESTARTING => {
            vec![format!("see how the worker ended: {} --previous", command("logs"))]
        }
        reasons::RESTART_LOOP => vec![
            format!("see what the worker says: {}", command("logs")),
            "check what the message names: brokers, databases and storage have to be reachable from the pods".into(),
        ],
        reasons::CONTAINER_CONFIG => one("create the Secret or the key that is missing: kubectl get secrets -n {ns}"),
        reasons::OOM_KILLED => one("raise spec.worker.resources.limits.memory, or give the job more workers"),
        reasons::UNSCHEDULABLE => one("make room: fewer requests in spec.worker.resources, fewer workers, or more nodes"),
        reasons::EVICTED | reasons::POD_LOST => one("nothing, if it passes: the pod is replaced. If it lasts: kubectl get nodes"),
        reasons::QUOTA_EXCEEDED => one("raise the namespace's quota, or ask for less: kubectl describe resourcequota -n {ns}"),
        reasons::POD_SECURITY => one("take what the message names out of spec.worker.podTemplate, or relax the namespace's Pod Security"),
        reasons::APPLY_REFUSED => one("read the message: an admission rule or a missing right of the operator"),
        reasons::COORDINATOR_SILENT | reasons::COORDINATOR_REFUSES => {
            vec![
                format!("see what the coordinator says: {}", command("logs")),
                "check that a NetworkPolicy lets the operator reach port 7180".into(),
            ]
        }
        reasons::BAD_DATA => one("look at the record that the message names; many connectors can skip such records by an option"),
        reasons::INVALID_JOB => one("correct the SQL or the option that the message names, and submit again"),
        reasons::BAD_STATE => one(
            "the saved state is of other SQL, or damaged: go back to the former SQL, restore a savepoint (spec.restore, nonce + 1), or begin \
             anew (spec.upgrade.mode: Stateless)",
        ),
        reasons::ACCESS_DENIED => {
            one("correct the Secret that spec.checkpoint.storage.credentialsSecretRef names; it is read again by itself")
        }
        reasons::TRANSIENT_FAILURE => one("check that storage and the connectors' systems can be reached from the pods"),
        reasons::CHECKPOINTS_LATE => {
            vec![
                format!("see which operator holds the rows up: {}", command("top")),
                "check that the checkpoint storage can be reached and written".into(),
            ]
        }
        reasons::DISPOSAL_FAILED => one("see why the data cannot be deleted: kubectl get savepoints -n {ns}"),
        _ => vec![format!("see what the workers say: {}", command("logs"))],
    }
}

#[cfg(test)]
mod tests {
    use rheos_api::status::Condition;

    use super::*;

    fn with(kind: &str, value: &str, reason: &str, phase: Phase) -> StreamJobStatus {
        let condition = Condition {
            kind: kind.into(),
            status: value.into(),
            reason: reason.into(),
            message: "m".into(),
            last_transition_time: "2026-01-01T00:00:00Z".into(),
            observed_generation: None,
        };
        StreamJobStatus { phase, conditions: vec![condition], ..StreamJobStatus::default() }
    }

    fn steps(status: &StreamJobStatus, seen: bool) -> Vec<String> {
        next(About { job: "bids", namespace: "shop", seen, status })
    }

    #[test]
    fn a_job_that_is_well_needs_nothing() {
        assert_eq!(steps(&with("Ready", "True", "Running", Phase::Running), true), [""; 0]);
    }

    #[test]
    fn every_trouble_has_a_step_of_its_own_and_names_the_job() {
        for reason in [reasons::OOM_KILLED, reasons::IMAGE_PULL, reasons::BAD_DATA, reasons::BAD_STATE, reasons::QUOTA_EXCEEDED, "Unknown"]
        {
            let steps = steps(&with("Degraded", "True", reason, Phase::Failing), true);
            assert!(steps.len() >= 3 && steps.iter().all(|step| !step.contains('{')), "{reason}: {steps:?}");
            assert!(steps.iter().any(|step| step.contains("logs bids -n shop")), "{steps:?}");
        }
        let late = steps(&with("CheckpointHealthy", "False", reasons::CHECKPOINTS_LATE, Phase::Running), true);
        assert!(late[0].contains("top bids -n shop"), "{late:?}");
    }

    #[test]
    fn what_failed_or_rests_can_go_on() {
        assert!(steps(&with("Ready", "False", "BadData", Phase::Failed), true)[0].contains("restart bids"));
        assert!(steps(&with("Ready", "False", "Suspended", Phase::Suspended), true)[0].contains("resume bids"));
        assert!(steps(&with("Ready", "True", "Running", Phase::Running), false)[0].contains("is it running"));
        let paused = with("ReconciliationPaused", "True", "Paused", Phase::Running);
        assert!(steps(&paused, true)[0].contains("rheos.dev/paused-"));
    }
}
