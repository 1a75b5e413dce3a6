//! [pure] What a status says, in a sentence.

use rheos_api::StreamJobStatus;
use rheos_api::status::{Condition, Phase};
use rheos_operator::conditions;

/// The condition of a type, if it says `True`.
pub fn holds<'a>(status: &'a StreamJobStatus, kind: &str) -> Option<&'a Condition> {
    conditions::get(&status.conditions, kind).filter(|condition| condition.status == "True")
}

/// What is wrong, if anything.
pub fn trouble(status: &StreamJobStatus) -> Option<&Condition> {
    let late = || conditions::get(&status.conditions, conditions::CHECKPOINT_HEALTHY).filter(|condition| condition.status == "False");
    holds(status, conditions::DEGRADED).or_else(late)
}

/// Why the job is where it is.
pub fn why(status: &StreamJobStatus) -> String {
    let message = |condition: Option<&Condition>| condition.map(|c| c.message.clone()).filter(|message| !message.is_empty());
    let ready = || message(conditions::get(&status.conditions, conditions::READY));
    let progress = || message(holds(status, conditions::PROGRESSING));
    if let Some(paused) = message(holds(status, conditions::RECONCILIATION_PAUSED)) {
        return paused;
    }
    let found = match status.phase {
        Phase::Running | Phase::Suspended | Phase::Finished => progress().or_else(ready),
        _ => message(trouble(status)).or_else(progress).or_else(ready),
    };
    found.unwrap_or_else(|| "the operator has not said anything yet".to_owned())
}

/// Since when the job is where it is, RFC 3339.
pub fn since(status: &StreamJobStatus) -> Option<&str> {
    if let Some(ended) = status.finished_at.as_deref() {
        return Some(ended);
    }
    let kind = match status.phase {
        Phase::Suspended => conditions::SUSPENDED,
        _ => conditions::READY,
    };
    conditions::get(&status.conditions, kind).map(|condition| condition.last_transition_time.as_str())
}

/// Whether all is as it should be, for scripts.
pub fn is_well(status: &StreamJobStatus) -> bool {
    !matches!(status.phase, Phase::Failed | Phase::Failing | Phase::RollingBack) && trouble(status).is_none()
}
