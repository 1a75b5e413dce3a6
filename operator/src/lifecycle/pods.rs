//! [pure] Which pods there have to be: replaces lost ones, removes those that nothing needs.
//!
//! A pod that is not there is created under the name that the status says, as often as needed: creating is idempotent. A
//! pod that is there and of no use makes way: the number in the status is raised first, so that whatever holds the old one
//! up holds up nothing else.

use crate::build;
use crate::conditions::reasons;
use crate::lifecycle::Draft;
use crate::names;
use crate::reconcile::{Action, EventKind, Observed, PodFacts, Snapshot};

/// Whether a pod can do its work, now or soon.
pub(super) fn is_usable(pod: &PodFacts) -> bool {
    pod.deleting_since.is_none() && !matches!(pod.phase.as_str(), "Failed" | "Succeeded" | "Unknown")
}

/// The pod of a place: the newest that can do its work.
pub(super) fn newest<'a>(observed: &'a Observed, revision: &str, index: u32) -> Option<&'a PodFacts> {
    let here = observed.pods.iter().filter(|pod| pod.revision == revision && pod.index == index && is_usable(pod));
    here.max_by_key(|pod| pod.incarnation)
}

/// The pods of a run, if all are ready to be told what to do.
pub(super) fn ready<'a>(observed: &'a Observed, revision: &str, count: u32) -> Option<Vec<&'a PodFacts>> {
    (0..count).map(|index| newest(observed, revision, index).filter(|pod| pod.ready && pod.address.is_some())).collect()
}

/// Asks for the pods of a run that are missing. Those that were made before there was a status are written down.
pub(super) fn ensure(draft: &mut Draft<'_>, snapshot: &Snapshot, count: u32) {
    let mut missing = Vec::new();
    for index in 0..count {
        match newest(draft.observed, &snapshot.revision, index) {
            Some(pod) => {
                let incarnation = u32::try_from(pod.incarnation).unwrap_or(1);
                draft.status.incarnations.entry(index).or_insert(incarnation);
            }
            None => missing.push(index),
        }
    }
    if missing.is_empty() {
        return;
    }
    ensure_snapshot(draft, snapshot);
    for index in missing {
        replace(draft, snapshot, index);
    }
}

fn replace(draft: &mut Draft<'_>, snapshot: &Snapshot, index: u32) {
    let job = &draft.observed.job;
    let mut incarnation = draft.status.incarnations.get(&index).copied().unwrap_or(1).max(1);
    let name = |incarnation| names::pod(&job.name, &snapshot.revision, index, incarnation);
    while let Some(old) = draft.observed.pods.iter().find(|pod| pod.name == name(incarnation)) {
        incarnation = incarnation.saturating_add(1);
        if draft.observed.status.incarnations.get(&index).is_none_or(|known| *known < incarnation) {
            lost(draft, old);
        }
    }
    draft.status.incarnations.insert(index, incarnation);
    match build::pod::pod(job, snapshot, index, incarnation) {
        Ok(pod) => {
            draft.actions.push(Action::CreatePod(Box::new(pod)));
            draft.look_again(super::draft::WATCHED);
        }
        Err(message) => draft.trouble(reasons::INVALID_SPEC, message),
    }
}

/// Tells people why a pod is replaced.
fn lost(draft: &mut Draft<'_>, pod: &PodFacts) {
    let (reason, why) = match (pod.reason.as_deref(), &pod.message) {
        (Some("Evicted"), message) => (reasons::EVICTED, message.clone().unwrap_or_else(|| "evicted".to_owned())),
        (Some(reason), message) => (reasons::POD_LOST, format!("{reason}: {}", message.as_deref().unwrap_or("no message"))),
        (None, _) if pod.deleting_since.is_some() => (reasons::POD_LOST, "it is being deleted".to_owned()),
        (None, _) => super::problems::end_of(pod).map_or((reasons::POD_LOST, pod.phase.clone()), |note| (note.reason, note.message)),
    };
    let message = format!("pod {} is replaced: {why}", pod.name);
    super::restarts::note(draft, reason, message.clone());
    draft.event(EventKind::Warning, reason, message);
}

/// Asks for what a pod mounts.
fn ensure_snapshot(draft: &mut Draft<'_>, snapshot: &Snapshot) {
    let job = &draft.observed.job;
    if !draft.observed.snapshots.iter().any(|known| known.revision == snapshot.revision) {
        let object = build::config_map::snapshot(job, &snapshot.revision, &snapshot.spec, &draft.observed.default_image);
        draft.actions.push(Action::CreateConfigMap(Box::new(object)));
    }
    // It cannot be seen whether it is there: Secrets are only ever created.
    if !draft.actions.iter().any(|action| matches!(action, Action::CreateToken(_))) {
        draft.actions.push(Action::CreateToken(Box::new(build::secret::token(job))));
    }
}

/// Asks for what stands around the pods.
pub(super) fn ensure_surroundings(draft: &mut Draft<'_>) {
    let job = &draft.observed.job;
    if !draft.observed.service {
        draft.actions.push(Action::CreateService(Box::new(build::service::service(job))));
    }
    if !draft.observed.budget {
        draft.actions.push(Action::CreatePdb(Box::new(build::pdb::budget(job))));
    }
}

/// Deletes what is of no use: pods that ended, older pods of a place, and all that `keep` does not want.
pub(super) fn clear(draft: &mut Draft<'_>, keep: impl Fn(&PodFacts) -> bool) {
    for pod in &draft.observed.pods {
        let newer = newest(draft.observed, &pod.revision, pod.index).is_some_and(|newest| newest.incarnation > pod.incarnation);
        if !is_usable(pod) || newer || !keep(pod) {
            draft.delete_pod(pod, None);
        }
    }
}
