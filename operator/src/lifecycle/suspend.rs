//! [pure] Suspension: the job stops with a checkpoint, then its pods go.

use rheos_api::rollout::AssignedState;
use rheos_api::status::Phase;

use super::stop::{self, Stop};
use crate::conditions::reasons;
use crate::lifecycle::{Draft, pods};
use crate::reconcile::EventKind;

/// Brings the job to a stand.
pub(super) fn decide(draft: &mut Draft<'_>) {
    draft.status.rollout = None;
    if draft.status.phase == Phase::Finished {
        pods::clear(draft, |_| false);
        return;
    }
    if draft.is_active() {
        let since = suspended_since(draft);
        let timeout = draft.wanted_job().map_or(std::time::Duration::from_secs(300), |job| job.checkpoint.timeout);
        let revision = draft.assigned().map(|assigned| assigned.run.revision.clone()).unwrap_or_default();
        match stop::with_checkpoint(draft, &since, timeout) {
            Stop::Waits => {
                draft.progress(reasons::STOPPING, "the job stops with a checkpoint");
                // What takes the checkpoint is kept; what is lost is not made again.
                pods::clear(draft, |pod| pod.revision == revision);
                return;
            }
            Stop::Clean => draft.set_assigned_state(AssignedState::Stopped),
            Stop::Broken => draft.set_assigned_state(AssignedState::Broken),
        }
    }
    if draft.status.phase != Phase::Suspended {
        draft.status.phase = Phase::Suspended;
        draft.status.finished_at = None;
        draft.event(EventKind::Normal, reasons::SUSPENDED, "the job stands still and goes on from its last checkpoint when asked to");
    }
    pods::clear(draft, |_| false);
}

/// When suspension began: when the act that waits for it was written down.
fn suspended_since(draft: &Draft<'_>) -> String {
    let pending = draft.observed.status.pending.as_ref();
    pending.filter(|pending| pending.kind == stop::KIND).map_or_else(|| draft.now_text(), |pending| pending.since.clone())
}
