//! [pure] A job's life, one file a concern. [`decide`] is the whole of it.
//!
//! Invariants:
//! - What runs is in `status.assigned`, what shall run is in `status.rollout`; both are written before anything is done, but
//!   for the first pods of a new job ([`first`]).
//! - One act on a coordinator a decision ([`Draft::act`]), and none beside a pod that still leads another run of the same
//!   state, unless that one had its time to stop.
//! - A wish that cannot be met (broken spec, missing image, no room) never stops what runs.
//! - Every wait is for something that is watched, or has a time in `requeue`.

use jiff::Timestamp;

use crate::reconcile::{Decision, Observed};
use crate::{conditions::reasons, labels};

mod assign;
mod delete;
mod draft;
mod first;
mod pods;
mod problems;
mod report;
mod rest;
mod restarts;
mod rollout;
mod savepoints;
mod schedule;
mod stop;
mod suspend;
mod target;

pub mod disposal;

pub(crate) use draft::Draft;

use target::Goal;

/// Decides what to do next. Deterministic: the same arguments give the same decision.
pub fn decide(observed: &Observed, now: Timestamp) -> Decision {
    let mut draft = Draft::new(observed, now);
    if observed.job.deleting_since.is_some() {
        delete::decide(&mut draft);
        return draft.finish();
    }
    if is_set(observed, labels::PAUSED) {
        report::paused(&mut draft);
        return draft.finish();
    }
    if !observed.job.finalizer {
        draft.actions.push(crate::reconcile::Action::AddFinalizer);
    }
    draft.look();
    match target::goal(&mut draft) {
        Goal::Nothing => {}
        Goal::Suspended => suspend::decide(&mut draft),
        Goal::Run(plan) => match rest::stays_at_rest(&mut draft, &plan) {
            true => rest::decide(&mut draft, &plan),
            false => rollout::decide(&mut draft, &plan),
        },
    }
    savepoints::decide(&mut draft);
    report::refusals(&mut draft);
    restarts::say(&mut draft);
    report::report(&mut draft);
    first::pods_alone(observed, draft.finish())
}

/// Whether an annotation of the job says `true`.
fn is_set(observed: &Observed, annotation: &str) -> bool {
    observed.job.annotations.get(annotation).is_some_and(|value| value == "true")
}

/// The reason of the failure that a view reports, where there is one that neither another assignment nor the restart of
/// the container heals.
fn failure(view: &rheos_control_api::JobView) -> Option<&rheos_control_api::Failure> {
    let failed = view.state == rheos_api::status::Phase::Failed;
    let heals = [reasons::FENCED_KIND, reasons::DENIED_KIND];
    view.failure.as_ref().filter(|failure| failed && !heals.contains(&failure.kind.as_str()))
}

#[cfg(test)]
mod tests;
