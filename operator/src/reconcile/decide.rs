//! [pure] The decision: what is wanted and what there is, compared.

use jiff::Timestamp;

use crate::reconcile::{Action, Decision, Observed};

/// Decides what to do next. Deterministic: the same arguments give the same decision.
pub fn decide(observed: &Observed, _now: Timestamp) -> Decision {
    let mut decision = Decision { actions: Vec::new(), status: observed.status.clone(), events: Vec::new(), requeue: None };
    match (observed.job.deleting_since, observed.job.finalizer) {
        (Some(_), true) => decision.actions.push(Action::RemoveFinalizer),
        (None, false) => decision.actions.push(Action::AddFinalizer),
        _ => {}
    }
    decision
}
