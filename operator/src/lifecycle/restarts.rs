//! [pure] Restarts of what runs: why the last one was, and whether they come again and again.

use std::time::Duration;

use rheos_api::status::RestartStatus;
use rheos_control_api::OUT_OF_MEMORY;

use super::problems;
use crate::conditions::reasons;
use crate::lifecycle::Draft;
use crate::reconcile::{EventKind, PodFacts};
use crate::time;

/// So many restarts within [`LOOP_WINDOW`] are too many: the job works between them, and comes to little.
pub(super) const LOOP_RESTARTS: usize = 3;
/// See [`LOOP_RESTARTS`]. A job that did not restart so often in this time is well again.
pub(super) const LOOP_WINDOW: Duration = Duration::from_secs(600);

/// Counts restarts that nobody asked for, and tells them.
pub(super) fn count(draft: &mut Draft<'_>, times: i64, cause: String) {
    draft.status.restarts = draft.status.restarts.saturating_add(times);
    let news = usize::try_from(times).unwrap_or(LOOP_RESTARTS).min(LOOP_RESTARTS);
    let now = draft.now_text();
    let recent = &mut draft.status.recent_restarts;
    recent.extend(std::iter::repeat_n(now, news));
    recent.drain(..recent.len().saturating_sub(LOOP_RESTARTS));
    let revision = draft.assigned().map(|assigned| assigned.run.revision.clone()).unwrap_or_default();
    // An end that was told before is not the cause of this restart.
    let told = draft.status.last_restart.as_ref().and_then(|last| time::read(&last.time));
    let fresh = |pod: &&PodFacts| pod.revision == revision && (told.is_none() || pod.container.ended_at.is_none_or(|at| Some(at) >= told));
    let killed = draft.observed.pods.iter().filter(fresh).find_map(problems::end_of);
    let engine = if cause.contains(OUT_OF_MEMORY) { reasons::OOM_KILLED } else { reasons::RESTARTING };
    let (reason, message) = killed.map_or((engine, cause), |note| (note.reason, note.message));
    note(draft, reason, message.clone());
    draft.event(EventKind::Warning, reason, format!("the job restarted from its last checkpoint: {message}"));
}

/// Writes down why the last restart was.
pub(super) fn note(draft: &mut Draft<'_>, reason: &'static str, message: String) {
    let time = draft.now_text();
    draft.status.last_restart = Some(RestartStatus { time, reason: reason.to_owned(), message });
}

/// Says that restarts come again and again, for as long as they do.
pub(super) fn say(draft: &mut Draft<'_>) {
    let recent = &draft.status.recent_restarts;
    let Some(oldest) = recent.first().filter(|_| recent.len() >= LOOP_RESTARTS && draft.is_active()).cloned() else { return };
    if draft.age(&oldest) >= LOOP_WINDOW {
        return;
    }
    let why = draft.status.last_restart.as_ref().map(|last| last.message.clone()).unwrap_or_default();
    let window = rheos_api::duration::display(LOOP_WINDOW);
    draft.trouble(reasons::RESTART_LOOP, format!("the job restarted {LOOP_RESTARTS} times or more within {window}, last because: {why}"));
    draft.look_at(&oldest, LOOP_WINDOW);
}
