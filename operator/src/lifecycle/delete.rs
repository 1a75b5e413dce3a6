//! [pure] Deletion: a last savepoint where one is wanted, then the pods leave, then the job goes.
//!
//! It always ends: every step has a deadline, and what it waits for is named. The objects of the job go with it.

use std::time::Duration;

use crate::build::savepoint::Origin;
use crate::conditions::{self, Finding, reasons};
use crate::lifecycle::{Draft, is_set, savepoints};
use crate::reconcile::{Action, EventKind};
use crate::{build, labels, names, time};

/// Beyond all deadlines of the parts: what does not answer by then is left behind.
const MARGIN: Duration = Duration::from_secs(60);

/// Goes one step on.
pub(super) fn decide(draft: &mut Draft<'_>) {
    let observed = draft.observed;
    if !observed.job.finalizer {
        return;
    }
    if is_set(observed, labels::FORCE_DELETE) {
        draft.event(EventKind::Warning, reasons::DELETING, format!("annotation {} lets the job go at once", labels::FORCE_DELETE));
        draft.actions.push(Action::RemoveFinalizer);
        return;
    }
    draft.look();
    if let Some(blocker) = last_savepoint(draft) {
        savepoints::decide(draft);
        say(draft, &blocker);
        return;
    }
    let names: Vec<&str> = observed.pods.iter().map(|pod| pod.name.as_str()).collect();
    if names.is_empty() {
        draft.actions.push(Action::RemoveFinalizer);
        return;
    }
    for pod in &observed.pods {
        draft.delete_pod(pod, None);
    }
    let leave = draft.wanted_job().map_or(600, build::pod::leave_seconds);
    let limit = Duration::from_secs(leave) + MARGIN;
    let leaving = observed.pods.iter().filter_map(|pod| pod.deleting_since).min();
    if leaving.is_some_and(|since| time::since(since, draft.now) >= limit) {
        draft.event(EventKind::Warning, reasons::DELETING, format!("the job goes although its pods are still there: {}", names.join(", ")));
        draft.actions.push(Action::RemoveFinalizer);
        return;
    }
    let blocker = format!("waits for its pods to take a last checkpoint and leave: {}", names.join(", "));
    say(draft, &blocker);
}

/// Sees to the last savepoint; says what is waited for.
fn last_savepoint(draft: &mut Draft<'_>) -> Option<String> {
    let job = &draft.observed.job;
    let wanted = is_set(draft.observed, labels::SAVEPOINT_ON_DELETE) || draft.wanted_job().is_some_and(|job| job.savepoints.on_delete);
    let leaving = draft.observed.pods.iter().any(|pod| pod.deleting_since.is_some()) && !draft.is_running();
    if !wanted || leaving || !draft.is_active() || draft.coordinator().is_none() {
        return None;
    }
    let timeout = draft.wanted_job().map_or(Duration::from_secs(300), |job| job.checkpoint.timeout);
    let limit = (timeout + MARGIN).saturating_mul(savepoints::ATTEMPTS);
    let since = job.deleting_since.unwrap_or(draft.now);
    let uid: String = job.uid.chars().take(8).collect();
    let name = names::savepoint(&job.name, &format!("final-{}", uid.trim_end_matches('-')));
    let found = draft.observed.savepoints.iter().find(|savepoint| savepoint.name == name);
    let late = time::since(since, draft.now) >= limit || found.is_some_and(|found| savepoints::age(found, draft.now) >= limit);
    // In a namespace that goes away nothing can be made.
    let terminating = draft.observed.refusals.iter().any(|refusal| refusal.message.contains("being terminated"));
    let late = late || terminating;
    let failed = match savepoints::ask_for(draft, name.clone(), Origin::Delete) {
        savepoints::Saving::Done => return None,
        savepoints::Saving::Failed(message) => Some(message),
        savepoints::Saving::Waits if late => Some(format!("it was not complete within {}", rheos_api::duration::display(limit))),
        savepoints::Saving::Waits => None,
    };
    if let Some(message) = failed {
        draft.event(EventKind::Warning, reasons::SAVEPOINT_FAILED, format!("the job goes without a last savepoint: {message}"));
        return None;
    }
    draft.look_again(super::draft::SOON);
    Some(format!("waits for Savepoint {name}, up to {}", rheos_api::duration::display(limit)))
}

fn say(draft: &mut Draft<'_>, blocker: &str) {
    let (generation, now) = (draft.observed.job.spec_generation, draft.now);
    for (kind, status) in [(conditions::PROGRESSING, true), (conditions::READY, false)] {
        conditions::set(&mut draft.status.conditions, Finding::new(kind, status, reasons::DELETING, blocker), generation, now);
    }
}
