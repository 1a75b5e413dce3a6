//! [pure] Conditions: their types, and how they are kept.
//!
//! All of them are always there. `lastTransitionTime` moves only when `status` does, so that writing the same thing again
//! is no change.

use jiff::Timestamp;
use rheos_api::status::Condition;

pub mod reasons;

/// Rows flow.
pub const READY: &str = "Ready";
/// Something is changing.
pub const PROGRESSING: &str = "Progressing";
/// Something is wrong; the message says what and what to do.
pub const DEGRADED: &str = "Degraded";
/// Checkpoints complete in time.
pub const CHECKPOINT_HEALTHY: &str = "CheckpointHealthy";
/// There is something to start from.
pub const RESTORABLE: &str = "Restorable";
/// The job stands still, as wanted.
pub const SUSPENDED: &str = "Suspended";
/// An annotation stops all acts.
pub const RECONCILIATION_PAUSED: &str = "ReconciliationPaused";

/// Longest message of a condition, characters; what is longer is cut.
pub const MESSAGE_LIMIT: usize = 1024;

/// A condition without its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// One of the types above.
    pub kind: &'static str,
    /// What is the case; nothing: it cannot be said.
    pub status: Option<bool>,
    /// One of [`reasons`].
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

impl Finding {
    /// A finding.
    pub fn new(kind: &'static str, status: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: Some(status), reason, message: message.into() }
    }

    /// A finding that cannot be made.
    pub fn unknown(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: None, reason, message: message.into() }
    }
}

/// Puts a finding among conditions, in the place where one of its type is.
pub fn set(conditions: &mut Vec<Condition>, finding: Finding, spec_generation: i64, now: Timestamp) {
    let status = match finding.status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let mut new = Condition {
        kind: finding.kind.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.to_owned(),
        message: cut(finding.message),
        last_transition_time: crate::time::text(now),
        observed_generation: Some(spec_generation),
    };
    match conditions.iter_mut().find(|condition| condition.kind == new.kind) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time.clone_from(&old.last_transition_time);
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}

/// The condition of a type.
pub fn get<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

fn cut(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_LIMIT) {
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        set(&mut conditions, Finding::new(READY, false, reasons::DEPLOYING, "a"), 1, at(0));
        set(&mut conditions, Finding::new(DEGRADED, false, reasons::HEALTHY, ""), 1, at(0));
        set(&mut conditions, Finding::new(READY, false, reasons::RESTARTING, "b"), 2, at(10));
        assert_eq!(conditions[0].last_transition_time, "1970-01-01T00:00:00Z");
        assert_eq!((conditions[0].reason.as_str(), conditions[0].message.as_str()), ("Restarting", "b"));
        set(&mut conditions, Finding::new(READY, true, reasons::RUNNING, ""), 2, at(20));
        assert_eq!(conditions[0].last_transition_time, "1970-01-01T00:00:20Z");
        assert_eq!(conditions.len(), 2);
        let before = conditions.clone();
        set(&mut conditions, Finding::new(READY, true, reasons::RUNNING, ""), 2, at(30));
        assert_eq!(conditions, before, "the same again is no change");
    }

    #[test]
    fn a_message_has_an_end() {
        let mut conditions = Vec::new();
        set(&mut conditions, Finding::new(READY, false, reasons::DEPLOYING, "ä".repeat(MESSAGE_LIMIT)), 1, at(0));
        assert_eq!(conditions[0].message.chars().count(), MESSAGE_LIMIT);
        set(&mut conditions, Finding::new(READY, false, reasons::DEPLOYING, "ä".repeat(MESSAGE_LIMIT + 1)), 1, at(0));
        assert_eq!(conditions[0].message.chars().count(), MESSAGE_LIMIT + 1);
        assert!(conditions[0].message.ends_with('…'));
    }
}
