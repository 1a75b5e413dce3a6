//! [pure] Jobs that came to rest by themselves: finished, or failed for good.
//!
//! Both are kept in status, so that a pod that is made anew does not bring them back to life. A finished job goes on when
//! its revision changes, a failed one with any edit of its spec.

use std::time::Duration;

use rheos_api::rollout::AssignedState;
use rheos_api::status::Phase;

use super::target::Plan;
use crate::conditions::reasons;
use crate::lifecycle::{Draft, failure, pods};

/// How long the pods of a failed job stay, for their logs and their admin API.
const FAILED_PODS: Duration = Duration::from_secs(60 * 60);

/// Whether the job is at rest, and nothing asks it to go on.
pub(super) fn stays_at_rest(draft: &mut Draft<'_>, plan: &Plan<'_>) -> bool {
    if draft.status.finished_at.is_none() || !matches!(draft.status.phase, Phase::Finished | Phase::Failed) {
        return false;
    }
    let edited = draft.observed.status.observed_generation != Some(draft.observed.job.spec_generation);
    let other =
        draft.assigned().is_none_or(|assigned| assigned.run.revision != plan.run.revision || assigned.run.state_id != plan.run.state_id);
    let goes_on = if draft.status.phase == Phase::Failed { edited || other } else { other };
    if !goes_on {
        return true;
    }
    leave(draft)
}

/// Gives a job that is at rest back to what starts jobs. One that failed gets new pods, which read anew whatever a person
/// has corrected beside the spec: says whether old ones have to go first.
fn leave(draft: &mut Draft<'_>) -> bool {
    let failed = draft.status.phase == Phase::Failed;
    draft.status.finished_at = None;
    draft.status.phase = Phase::Created;
    if draft.is_active() {
        draft.set_assigned_state(if failed { AssignedState::Broken } else { AssignedState::Stopped });
    }
    if failed {
        pods::clear(draft, |_| false);
        draft.progress(reasons::DEPLOYING, "the job starts again with new pods");
    }
    failed && !draft.observed.pods.is_empty()
}

/// Gives the job up, if its coordinator has.
pub(super) fn fails(draft: &mut Draft<'_>) -> bool {
    let Some(failure) = draft.view().and_then(failure) else { return false };
    let reason = reasons::of_failure(&failure.kind);
    let message = say(draft, failure);
    draft.status.phase = Phase::Failed;
    draft.status.finished_at = Some(draft.now_text());
    draft.status.rollout = None;
    draft.trouble(reason, message);
    true
}

/// Keeps a job at rest: says why, and removes its pods after a while.
pub(super) fn decide(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    if draft.status.finished_at.is_none() {
        return;
    }
    let ended = draft.status.finished_at.clone().unwrap_or_default();
    let stay = match draft.status.phase {
        Phase::Failed => {
            say_why(draft);
            FAILED_PODS
        }
        _ => plan.settings.ttl_after_finished,
    };
    if draft.age(&ended) >= stay {
        pods::clear(draft, |_| false);
    } else {
        let revision = draft.assigned().map(|assigned| assigned.run.revision.clone());
        pods::clear(draft, |pod| Some(&pod.revision) == revision.as_ref());
        draft.look_at(&ended, stay);
    }
}

/// The failure stays in the condition when the pods that could tell it are gone.
fn say_why(draft: &mut Draft<'_>) {
    match draft.view().and_then(failure) {
        Some(failure) => {
            let message = say(draft, failure);
            draft.trouble(reasons::of_failure(&failure.kind), message);
        }
        None => draft.keep_trouble(),
    }
}

fn say(draft: &Draft<'_>, failure: &rheos_control_api::Failure) -> String {
    let job = &draft.observed.job;
    let restart = format!("kubectl streamjob restart {} -n {}", job.name, job.namespace);
    format!("{failure}; any edit of the spec starts the job again from its last checkpoint, and so does: {restart}")
}
