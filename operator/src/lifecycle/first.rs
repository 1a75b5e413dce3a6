//! [pure] A new job's first pods, before all else that is written for its sake.
//!
//! Nothing has to be written down before them: as long as the status is empty, their names and their content follow from
//! the spec alone, so that whoever makes them again makes the same ones; and a pod does nothing before it is told to. The
//! status, the finalizer and what stands around the pods follow at the next look, when other new jobs have theirs.

use std::time::Duration;

use rheos_api::StreamJobStatus;

use crate::reconcile::{Action, Decision, Observed};

/// Of a decision on a new job, what its first pods need; any other decision as it is.
pub(super) fn pods_alone(observed: &Observed, decision: Decision) -> Decision {
    // Looked at again, it goes the ordinary way, whatever became of the pods: no view of them has to be fresh for that.
    let is_new = observed.first_look && observed.pods.is_empty() && observed.status == StreamJobStatus::default();
    if !is_new || !decision.actions.iter().any(|action| matches!(action, Action::CreatePod(_))) {
        return decision;
    }
    let for_pods = |action: &Action| matches!(action, Action::CreateConfigMap(_) | Action::CreateToken(_) | Action::CreatePod(_));
    let actions = decision.actions.into_iter().filter(for_pods).collect();
    Decision { actions, status: observed.status.clone(), events: Vec::new(), requeue: Some(Duration::ZERO) }
}
