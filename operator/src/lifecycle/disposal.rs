//! [pure] What happens to a Savepoint beside its job: its finalizer, and the deletion of its data.
//!
//! The data is deleted by a short-lived pod with the identity that the job had, so that it works when the job is gone. The
//! finalizer ends when the data is gone, when it is to stay, or when an annotation says so; until then the message says what
//! it waits for.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use rheos_api::savepoint::{Disposal, SavepointPhase, SavepointStatus};

use crate::build;
use crate::conditions::reasons;
use crate::labels;
use crate::reconcile::action::Target;
use crate::reconcile::{EventKind, EventNote, Refusal, SavepointFacts};
use crate::time;

/// The pause before data is tried to be deleted again.
const AGAIN: Duration = Duration::from_secs(30);
/// How soon to look again at a pod that deletes data; it is watched.
const LOOK: Duration = Duration::from_secs(30);
/// How soon to look whether a job has come.
const LATER: Duration = Duration::from_secs(300);

/// A Savepoint and what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct SavepointObserved {
    /// The Savepoint.
    pub savepoint: SavepointFacts,
    /// Its namespace.
    pub namespace: String,
    /// Whether the job that it names exists.
    pub job_exists: bool,
    /// The jobs of its namespace whose spec or status refers to it.
    pub referred_to_by: Vec<String>,
    /// The pod that deletes its data.
    pub pod: Option<DisposalPod>,
    /// What was refused when the last decision was applied.
    pub refusals: Vec<Refusal>,
    /// The image of a pod whose Savepoint names none.
    pub default_image: String,
}

/// A pod that deletes data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DisposalPod {
    /// As it was seen.
    pub target: Target,
    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    pub phase: String,
    /// Why it waits or failed.
    pub message: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// One thing to do about a Savepoint.
#[derive(Debug, Clone, PartialEq)]
pub enum SavepointAction {
    /// Puts our finalizer on it.
    AddFinalizer,
    /// Takes it away: the Savepoint may go.
    RemoveFinalizer,
    /// Creates what the pod reads; that it exists is success.
    CreateConfigMap(Box<ConfigMap>),
    /// Creates the pod that deletes the data; that it exists is success.
    CreateDisposalPod(Box<Pod>),
    /// Deletes a pod that failed, so that another can be made.
    DeletePod(Target),
}

impl SavepointAction {
    /// The action in one word, for metrics and [`Refusal`].
    pub fn name(&self) -> &'static str {
        match self {
            Self::AddFinalizer => "AddFinalizer",
            Self::RemoveFinalizer => "RemoveFinalizer",
            Self::CreateConfigMap(_) => "CreateConfigMap",
            Self::CreateDisposalPod(_) => "CreateDisposalPod",
            Self::DeletePod(_) => "DeletePod",
        }
    }
}

/// What shall be done about a Savepoint: `status` is written first.
#[derive(Debug, Clone, PartialEq)]
pub struct SavepointDecision {
    /// What to do, in this order.
    pub actions: Vec<SavepointAction>,
    /// What to write first; nothing is written when it equals what was read.
    pub status: SavepointStatus,
    /// What to tell people.
    pub events: Vec<EventNote>,
    /// When to look again.
    pub requeue: Option<Duration>,
}

/// Decides what to do next about a Savepoint.
pub fn decide(observed: &SavepointObserved, now: Timestamp) -> SavepointDecision {
    let savepoint = &observed.savepoint;
    let mut decision = SavepointDecision { actions: Vec::new(), status: savepoint.status.clone(), events: Vec::new(), requeue: None };
    match (savepoint.deleting_since.is_some(), savepoint.finalizer) {
        (false, false) => decision.actions.push(SavepointAction::AddFinalizer),
        (false, true) if !observed.job_exists => without_job(observed, now, &mut decision),
        (false, true) | (true, false) => {}
        (true, true) => delete(observed, now, &mut decision),
    }
    decision
}

fn without_job(observed: &SavepointObserved, now: Timestamp, decision: &mut SavepointDecision) {
    let job = &observed.savepoint.spec.job;
    match decision.status.phase {
        SavepointPhase::Pending => {
            decision.status.message = Some(format!("there is no StreamJob {job} in this namespace"));
            decision.requeue = Some(LATER);
        }
        SavepointPhase::InProgress => {
            decision.status.phase = SavepointPhase::Failed;
            decision.status.message = Some(format!("StreamJob {job} was deleted meanwhile"));
            decision.status.finished_at = Some(time::text(now));
        }
        SavepointPhase::Completed | SavepointPhase::Failed | SavepointPhase::Disposing => {}
    }
}

fn delete(observed: &SavepointObserved, now: Timestamp, decision: &mut SavepointDecision) {
    let savepoint = &observed.savepoint;
    let abandoned = savepoint.annotations.get(labels::ABANDON).is_some_and(|value| value == "true");
    let has_data = savepoint.spec.disposal == Disposal::Delete && savepoint.status.uri.is_some();
    if abandoned || !has_data {
        decision.actions.push(SavepointAction::RemoveFinalizer);
        return;
    }
    // In a namespace that goes away no pod can be made, and it would wait for us.
    if let Some(refusal) = observed.refusals.iter().find(|refusal| refusal.message.contains("being terminated")) {
        warn(decision, format!("the data at {} stays: {}", savepoint.status.uri.as_deref().unwrap_or("?"), refusal.message));
        decision.actions.push(SavepointAction::RemoveFinalizer);
        return;
    }
    decision.requeue = Some(LOOK);
    if !observed.referred_to_by.is_empty() {
        decision.status.message = Some(format!("is kept while StreamJob {} refers to it", observed.referred_to_by.join(", ")));
        return;
    }
    decision.status.phase = SavepointPhase::Disposing;
    match &observed.pod {
        None => dispose(observed, decision),
        Some(pod) if pod.deleting => {}
        Some(pod) if pod.phase == "Succeeded" => decision.actions.push(SavepointAction::RemoveFinalizer),
        Some(pod) if pod.phase == "Failed" => {
            let why = pod.message.as_deref().unwrap_or("no message");
            let message = format!("its data cannot be deleted: {why}; annotate it with {}=true to leave the data", labels::ABANDON);
            if decision.status.message.as_ref() != Some(&message) {
                warn(decision, message.clone());
            }
            decision.status.message = Some(message);
            let age = pod.created.map_or(AGAIN, |created| time::since(created, now));
            match AGAIN.checked_sub(age).filter(|rest| !rest.is_zero()) {
                Some(rest) => decision.requeue = Some(rest),
                None => decision.actions.push(SavepointAction::DeletePod(pod.target.clone())),
            }
        }
        Some(pod) => {
            let why = pod.message.as_ref().map_or_else(String::new, |message| format!(": {message}"));
            decision.status.message = Some(format!("its data is being deleted by pod {}{why}", pod.target.name));
        }
    }
}

fn dispose(observed: &SavepointObserved, decision: &mut SavepointDecision) {
    let savepoint = &observed.savepoint;
    match build::disposal::pod(savepoint, &observed.namespace, &observed.default_image) {
        Ok(pod) => {
            let config_map = build::disposal::config_map(savepoint, &observed.namespace);
            decision.actions.push(SavepointAction::CreateConfigMap(Box::new(config_map)));
            decision.actions.push(SavepointAction::CreateDisposalPod(Box::new(pod)));
            if let Some(refusal) = observed.refusals.first() {
                decision.status.message = Some(format!("its data cannot be deleted: {}", refusal.message));
            }
        }
        Err(why) => {
            decision.status.message =
                Some(format!("its data cannot be deleted: {why}; annotate it with {}=true to leave the data", labels::ABANDON));
        }
    }
}

fn warn(decision: &mut SavepointDecision, message: String) {
    decision.events.push(EventNote { kind: EventKind::Warning, reason: reasons::DISPOSAL_FAILED, message });
}

#[cfg(test)]
mod tests {
    use rheos_api::savepoint::SavepointSpec;
    use rheos_api::stream_job::Storage;

    use super::*;

    fn observed(edit: impl FnOnce(&mut SavepointObserved)) -> SavepointObserved {
        let storage = Storage { uri: "s3://b/p".into(), endpoint: None, region: None, credentials_secret_ref: None };
        let status = SavepointStatus {
            phase: SavepointPhase::Completed,
            uri: Some("s3://b/p/ns/q5/u/savepoints/x".into()),
            job_uid: Some("u".into()),
            storage: Some(storage),
            image: Some("worker:1".into()),
            ..SavepointStatus::default()
        };
        let savepoint = SavepointFacts {
            name: "sp".into(),
            uid: "1".into(),
            resource_version: "5".into(),
            created: Some(Timestamp::UNIX_EPOCH),
            deleting_since: Some(Timestamp::UNIX_EPOCH),
            finalizer: true,
            labels: Default::default(),
            annotations: Default::default(),
            spec: SavepointSpec { job: "q5".into(), disposal: Disposal::Delete },
            status,
        };
        let mut observed = SavepointObserved {
            savepoint,
            namespace: "ns".into(),
            job_exists: false,
            referred_to_by: Vec::new(),
            pod: None,
            refusals: Vec::new(),
            default_image: "worker:0".into(),
        };
        edit(&mut observed);
        observed
    }

    fn kinds(observed: &SavepointObserved, second: i64) -> Vec<&'static str> {
        let decision = decide(observed, Timestamp::from_second(second).unwrap());
        let name = |action: &SavepointAction| match action {
            SavepointAction::AddFinalizer => "add",
            SavepointAction::RemoveFinalizer => "remove",
            SavepointAction::CreateConfigMap(_) => "map",
            SavepointAction::CreateDisposalPod(_) => "pod",
            SavepointAction::DeletePod(_) => "delete",
        };
        decision.actions.iter().map(name).collect()
    }

    fn pod(phase: &str) -> Option<DisposalPod> {
        Some(DisposalPod { phase: phase.into(), created: Some(Timestamp::UNIX_EPOCH), ..DisposalPod::default() })
    }

    #[test]
    fn data_goes_before_the_savepoint_and_only_when_nothing_refers_to_it() {
        let annotate = |observed: &mut SavepointObserved| {
            observed.savepoint.annotations.insert(labels::ABANDON.into(), "true".into());
        };
        let refusal = |message: &str| Refusal { message: message.into(), code: 403, ..Refusal::default() };
        assert_eq!(kinds(&observed(|_| {}), 0), ["map", "pod"]);
        assert_eq!(kinds(&observed(|all| all.pod = pod("Running")), 0), [""; 0]);
        assert_eq!(kinds(&observed(|all| all.pod = pod("Succeeded")), 0), ["remove"]);
        assert_eq!(kinds(&observed(|all| all.pod = pod("Failed")), 10), [""; 0]);
        assert_eq!(kinds(&observed(|all| all.pod = pod("Failed")), 30), ["delete"]);
        assert_eq!(kinds(&observed(|all| all.referred_to_by = vec!["q6".into()]), 0), [""; 0]);
        assert_eq!(kinds(&observed(|all| all.savepoint.spec.disposal = Disposal::Retain), 0), ["remove"]);
        assert_eq!(kinds(&observed(|all| all.savepoint.status.uri = None), 0), ["remove"]);
        assert_eq!(kinds(&observed(annotate), 0), ["remove"]);
        let terminating = refusal("namespace ns is being terminated");
        assert_eq!(kinds(&observed(|all| all.refusals = vec![terminating]), 0), ["remove"]);
        assert_eq!(kinds(&observed(|all| all.refusals = vec![refusal("exceeded quota")]), 0), ["map", "pod"]);
        assert_eq!(kinds(&observed(|all| all.savepoint.finalizer = false), 0), [""; 0]);
    }

    #[test]
    fn what_it_waits_for_is_named() {
        let message =
            |edit: &dyn Fn(&mut SavepointObserved)| decide(&observed(edit), Timestamp::UNIX_EPOCH).status.message.unwrap_or_default();
        assert!(message(&|all| all.referred_to_by = vec!["q6".into()]).contains("q6"));
        let failed = message(&|all| all.pod = Some(DisposalPod { message: Some("no such bucket".into()), ..pod("Failed").unwrap() }));
        assert!(failed.contains("no such bucket") && failed.contains(labels::ABANDON), "{failed}");
        assert!(message(&|all| all.savepoint.status.storage = None).contains("storage"));
    }

    #[test]
    fn one_without_a_job_waits_or_has_failed() {
        let alive = |phase: SavepointPhase| {
            observed(|all| {
                all.savepoint.deleting_since = None;
                all.savepoint.status.phase = phase;
            })
        };
        let status = |observed: &SavepointObserved| decide(observed, Timestamp::UNIX_EPOCH).status;
        assert_eq!(status(&alive(SavepointPhase::Pending)).phase, SavepointPhase::Pending);
        assert_eq!(status(&alive(SavepointPhase::InProgress)).phase, SavepointPhase::Failed);
        let complete = alive(SavepointPhase::Completed);
        assert_eq!(status(&complete), complete.savepoint.status);
        let mut new = alive(SavepointPhase::Pending);
        new.savepoint.finalizer = false;
        assert_eq!(kinds(&new, 0), ["add"]);
    }
}
