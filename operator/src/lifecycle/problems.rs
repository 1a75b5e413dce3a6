//! [pure] What keeps pods from working, in one word and one sentence.

use std::time::Duration;

use rheos_control_api::EXIT_DENIED;

use crate::conditions::reasons;
use crate::lifecycle::draft::Note;
use crate::reconcile::{PodFacts, Refusal};

/// How long a problem that nobody but a person can solve may last before a new revision is given up.
pub(super) const GRACE: Duration = Duration::from_secs(60);

/// Whether a problem is the revision's own: waiting for it to go away is no use.
pub(super) fn is_of_the_revision(reason: &str) -> bool {
    [
        reasons::IMAGE_PULL,
        reasons::CRASH_LOOP,
        reasons::CONTAINER_CONFIG,
        reasons::CONTAINER_START,
        reasons::OOM_KILLED,
        reasons::ACCESS_DENIED,
        reasons::POD_SECURITY,
    ]
    .contains(&reason)
}

/// Whether a pod waits for room that other pods take.
pub(super) fn is_want_of_room(reason: &str) -> bool {
    [reasons::UNSCHEDULABLE, reasons::QUOTA_EXCEEDED].contains(&reason)
}

/// What keeps a pod from being ready.
pub(super) fn of(pod: &PodFacts) -> Option<Note> {
    if pod.ready || pod.deleting_since.is_some() {
        return None;
    }
    let note = |reason, message: String| Some(Note { reason, message: format!("pod {}: {message}", pod.name) });
    if let Some((reason, message)) = &pod.container.waiting {
        let text = if message.is_empty() { reason.clone() } else { format!("{reason}: {message}") };
        match reason.as_str() {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" => {
                return note(reasons::IMAGE_PULL, text);
            }
            "CreateContainerConfigError" => return note(reasons::CONTAINER_CONFIG, text),
            "CreateContainerError" | "RunContainerError" => return note(reasons::CONTAINER_START, text),
            "CrashLoopBackOff" => {
                return end_of(pod).map_or_else(|| note(reasons::CRASH_LOOP, text), Some);
            }
            _ => {}
        }
    }
    if let Some((_, message)) = &pod.unscheduled {
        return note(reasons::UNSCHEDULABLE, message.clone());
    }
    match pod.reason.as_deref() {
        Some("Evicted") => note(reasons::EVICTED, pod.message.clone().unwrap_or_else(|| "evicted".to_owned())),
        Some(reason) if pod.phase == "Failed" => note(reasons::POD_LOST, reason.to_owned()),
        _ => None,
    }
}

/// How the container of a pod ended last.
pub(super) fn end_of(pod: &PodFacts) -> Option<Note> {
    let (reason, code, message) = pod.container.last_end.as_ref()?;
    let word = match reason.as_str() {
        "OOMKilled" => reasons::OOM_KILLED,
        _ if *code == i32::from(EXIT_DENIED) => reasons::ACCESS_DENIED,
        _ => reasons::CRASH_LOOP,
    };
    let message = match message.trim() {
        "" => format!("pod {}: the container ended with code {code} ({reason})", pod.name),
        message => format!("pod {}: the container ended with code {code} ({reason}): {message}", pod.name),
    };
    Some(Note { reason: word, message })
}

/// What the refusal of an object means.
pub(super) fn of_refusal(refusal: &Refusal) -> Note {
    let text = &refusal.message;
    let reason = match refusal.code {
        _ if matches!(refusal.action, "Assign" | "Stop" | "Savepoint") => reasons::COORDINATOR_REFUSES,
        403 if text.contains("exceeded quota") || text.contains("failed quota") => reasons::QUOTA_EXCEEDED,
        403 if text.contains("violates PodSecurity") => reasons::POD_SECURITY,
        _ => reasons::APPLY_REFUSED,
    };
    Note { reason, message: format!("{} {}: {text}", refusal.action, refusal.object) }
}

/// Whether something that was refused may be asked for again without looking: a conflict with a newer object, or nothing
/// that a person would have to act on.
pub(super) fn passes_by_itself(refusal: &Refusal) -> bool {
    refusal.code == 0 || matches!(refusal.code, 404 | 409 | 429) || refusal.code >= 500
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Container;

    fn waiting(reason: &str, message: &str) -> PodFacts {
        let container = Container { waiting: Some((reason.into(), message.into())), ..Container::default() };
        PodFacts { name: "p".into(), phase: "Pending".into(), container, ..PodFacts::default() }
    }

    #[test]
    fn every_way_to_be_stuck_has_its_word() {
        let crash = |reason: &str, message: &str| {
            let mut pod = waiting("CrashLoopBackOff", "back-off 10s");
            pod.container.last_end = Some((reason.into(), 137, message.into()));
            pod
        };
        let mut denied = crash("Error", "checkpoint store: access denied: 403");
        denied.container.last_end = Some(("Error".into(), i32::from(EXIT_DENIED), "checkpoint store: access denied: 403".into()));
        let unscheduled = PodFacts {
            name: "p".into(),
            unscheduled: Some(("Unschedulable".into(), "0/1 nodes: insufficient cpu".into())),
            ..PodFacts::default()
        };
        let evicted = PodFacts { name: "p".into(), phase: "Failed".into(), reason: Some("Evicted".into()), ..PodFacts::default() };
        for (pod, reason, word) in [
            (waiting("ErrImagePull", "not found"), reasons::IMAGE_PULL, "not found"),
            (waiting("ImagePullBackOff", ""), reasons::IMAGE_PULL, "ImagePullBackOff"),
            (waiting("InvalidImageName", ""), reasons::IMAGE_PULL, "InvalidImageName"),
            (waiting("CreateContainerConfigError", "secret \"s3\" not found"), reasons::CONTAINER_CONFIG, "s3"),
            (waiting("RunContainerError", "exec"), reasons::CONTAINER_START, "exec"),
            (waiting("CrashLoopBackOff", "back-off 10s"), reasons::CRASH_LOOP, "back-off"),
            (crash("Error", "spec.sql: no such table"), reasons::CRASH_LOOP, "no such table"),
            (crash("OOMKilled", ""), reasons::OOM_KILLED, "137"),
            (denied, reasons::ACCESS_DENIED, "403"),
            (unscheduled, reasons::UNSCHEDULABLE, "insufficient cpu"),
            (evicted, reasons::EVICTED, "evicted"),
        ] {
            let note = of(&pod).unwrap_or_else(|| panic!("{pod:?} has no problem"));
            assert_eq!(note.reason, reason);
            assert!(note.message.contains(word), "{}", note.message);
        }
        assert_eq!(of(&waiting("ContainerCreating", "")), None);
        assert_eq!(of(&PodFacts { ready: true, ..waiting("CrashLoopBackOff", "") }), None);
    }

    #[test]
    fn refusals_of_the_namespace_are_told_apart() {
        let refusal = |code, message: &str| Refusal {
            action: "CreatePod",
            object: "p".into(),
            code,
            reason: "Forbidden".into(),
            message: message.into(),
        };
        let quota = "pods \"p\" is forbidden: exceeded quota: tight, requested: pods=1, used: pods=2, limited: pods=2";
        let security = "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": hostPath volumes";
        assert_eq!(of_refusal(&refusal(403, quota)).reason, reasons::QUOTA_EXCEEDED);
        assert_eq!(of_refusal(&refusal(403, security)).reason, reasons::POD_SECURITY);
        assert_eq!(of_refusal(&refusal(422, "spec.containers[0].image: Required value")).reason, reasons::APPLY_REFUSED);
        assert!(passes_by_itself(&refusal(409, "")) && passes_by_itself(&refusal(503, "")) && !passes_by_itself(&refusal(403, "")));
    }
}
