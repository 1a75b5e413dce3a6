//! [pure] Bringing what runs to a stop: with a checkpoint where that comes in time, by taking its pods away where not.

use std::time::Duration;

use rheos_api::status::Phase;

use super::assign;
use crate::conditions::reasons;
use crate::lifecycle::Draft;
use crate::reconcile::{Action, EventKind, PodFacts};
use crate::time;

/// Kind of the act in `status.pending`.
pub(super) const KIND: &str = "Stop";
/// Time beyond a checkpoint's own that a stop may take.
pub(super) const MARGIN: Duration = Duration::from_secs(60);
/// How long a pod that was killed is waited for; the fence in the store holds off what still lives then.
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// What a pod that is killed gets to end, seconds.
const KILL_GRACE: u32 = 1;

/// How far a stop is.
pub(super) enum Stop {
    /// Under way.
    Waits,
    /// The job stopped with a checkpoint, or had nothing to save.
    Clean,
    /// It ended without.
    Broken,
}

/// Stops what runs, with a checkpoint; takes its pods away when that lasts longer than a checkpoint may. Idempotent.
pub(super) fn with_checkpoint(draft: &mut Draft<'_>, since: &str, timeout: Duration) -> Stop {
    ask(draft, timeout + MARGIN, since)
}

/// Asks what runs to stop; after `limit` its pods are taken away.
pub(super) fn ask(draft: &mut Draft<'_>, limit: Duration, since: &str) -> Stop {
    draft.pending(format!("stop-{}", draft.status.assignment), KIND);
    let Some(leader) = draft.coordinator() else { return Stop::Broken };
    match leader.view().map(|view| (view.state, view.assignment)) {
        Some((Phase::Suspended | Phase::Finished, _)) => return Stop::Clean,
        // It was never told to run, or has forgotten it.
        Some((Phase::Failed, _) | (Phase::Created, None)) => return Stop::Broken,
        _ => {}
    }
    if draft.age(since) >= limit {
        draft.event(EventKind::Warning, reasons::STOP_TIMED_OUT, "the job did not stop in time; it goes on from its last checkpoint");
        return kill(draft);
    }
    if let (Some(address), Some(view)) = (leader.address, leader.view())
        && !view.stopping
    {
        draft.act(Action::Stop { pod: leader.name.clone(), address });
    }
    draft.look_at(since, limit);
    Stop::Waits
}

/// Takes the pods of what runs away.
pub(super) fn kill(draft: &mut Draft<'_>) -> Stop {
    let revision = draft.assigned().map(|assigned| assigned.run.revision.clone()).unwrap_or_default();
    if draft.coordinator().and_then(PodFacts::view).is_some_and(|view| !assign::is_live(view.state)) {
        return Stop::Broken;
    }
    let mut waits = false;
    for pod in draft.observed.pods.iter().filter(|pod| pod.revision == revision) {
        draft.delete_pod(pod, Some(KILL_GRACE));
        waits |= pod.deleting_since.is_none_or(|since| time::since(since, draft.now) < KILL_LIMIT);
    }
    if waits { Stop::Waits } else { Stop::Broken }
}
