//! [pure] Objects of Kubernetes, cut down to what decisions look at.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{Resource, ResourceExt};
use rheos_api::kube::Savepoint;

use super::cache::{Fact, Item, Key};
use crate::lifecycle::disposal::DisposalPod;
use crate::reconcile::action::Target;
use crate::reconcile::{Answer, Container, PodFacts, SavepointFacts};
use crate::{build, labels};

/// Name of the container of a pod that deletes a savepoint.
pub const DISPOSAL_CONTAINER: &str = "disposal";
/// Longest message that is kept of a pod or a container, bytes.
pub const MESSAGE_LIMIT: usize = 1024;

/// What a container waits for in the usual course of a start: nobody has to know.
const STARTS: [&str; 3] = ["", "ContainerCreating", "PodInitializing"];

/// What is kept of a job between reconciles: whether it has changed in a way that matters. Its status is not part of it,
/// so that no write of our own wakes us.
#[derive(Debug, Clone, PartialEq)]
pub struct JobMark {
    uid: Option<String>,
    generation: Option<i64>,
    annotations: Vec<(String, String)>,
    finalizers: Vec<String>,
    deleting: bool,
}

/// An object that a job owns, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnedFacts {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resource version.
    pub version: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl Fact for JobMark {
    fn is_news(&self, old: &Self) -> bool {
        self != old
    }
}

impl Fact for OwnedFacts {
    fn is_news(&self, old: &Self) -> bool {
        Self { version: old.version.clone(), ..self.clone() } != *old
    }
}

impl Fact for PodFacts {
    fn is_news(&self, old: &Self) -> bool {
        Self { resource_version: old.resource_version.clone(), ..self.clone() } != *old
    }
}

impl Fact for SavepointFacts {
    fn is_news(&self, old: &Self) -> bool {
        Self { resource_version: old.resource_version.clone(), ..self.clone() } != *old
    }
}

impl Fact for DisposalPod {
    fn is_news(&self, old: &Self) -> bool {
        let target = Target { resource_version: old.target.resource_version.clone(), ..self.target.clone() };
        Self { target, ..self.clone() } != *old
    }
}

/// A time stamp of Kubernetes.
pub fn time(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

/// Where an object is.
pub fn key(metadata: &ObjectMeta) -> Option<Key> {
    Some(Key::new(metadata.namespace.clone()?, metadata.name.clone()?))
}

fn item<F>(metadata: &ObjectMeta, owner: String, fact: F) -> Option<Item<F>> {
    Some(Item { key: key(metadata)?, owner, version: metadata.resource_version.clone().unwrap_or_default(), fact })
}

/// A job, as its metadata shows it.
pub fn job_mark(metadata: &ObjectMeta) -> Option<Item<JobMark>> {
    let mark = JobMark {
        uid: metadata.uid.clone(),
        generation: metadata.generation,
        annotations: metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        finalizers: metadata.finalizers.clone().unwrap_or_default(),
        deleting: metadata.deletion_timestamp.is_some(),
    };
    item(metadata, metadata.name.clone()?, mark)
}

/// An object with the label of its job.
pub fn owned(metadata: &ObjectMeta) -> Option<Item<OwnedFacts>> {
    let facts = OwnedFacts {
        name: metadata.name.clone()?,
        uid: metadata.uid.clone().unwrap_or_default(),
        version: metadata.resource_version.clone().unwrap_or_default(),
        created: time(metadata.creation_timestamp.as_ref()),
        deleting: metadata.deletion_timestamp.is_some(),
    };
    item(metadata, metadata.labels.as_ref()?.get(labels::JOB)?.clone(), facts)
}

/// A worker pod.
pub fn pod(pod: &Pod) -> Option<Item<PodFacts>> {
    let status = pod.status.clone().unwrap_or_default();
    let condition = |name: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == name);
    let number = |label: &str| pod.labels().get(label).and_then(|text| text.parse().ok());
    let facts = PodFacts {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        resource_version: pod.resource_version().unwrap_or_default(),
        revision: pod.labels().get(labels::REVISION).cloned().unwrap_or_default(),
        index: number(labels::INDEX)?,
        incarnation: number(labels::INCARNATION).map(i64::from)?,
        created: time(pod.meta().creation_timestamp.as_ref()),
        deleting_since: time(pod.meta().deletion_timestamp.as_ref()),
        phase: status.phase.clone().unwrap_or_default(),
        reason: status.reason.clone(),
        message: status.message.clone().map(cut),
        address: status.pod_ip.as_deref().and_then(|text| text.parse::<IpAddr>().ok()),
        ready: condition("Ready").is_some_and(|condition| condition.status == "True"),
        unscheduled: condition("PodScheduled").filter(|condition| condition.status == "False").map(reasons),
        container: container(pod, build::CONTAINER),
        answer: Answer::NotAsked,
    };
    item(pod.meta(), pod.labels().get(labels::JOB)?.clone(), facts)
}

fn reasons(condition: &PodCondition) -> (String, String) {
    (condition.reason.clone().unwrap_or_default(), cut(condition.message.clone().unwrap_or_default()))
}

fn container(pod: &Pod, name: &str) -> Container {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let Some(status) = statuses.into_iter().find(|status| status.name == name) else {
        return Container::default();
    };
    let ended = |state: &Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
    let waiting = status.state.as_ref().and_then(|state| state.waiting.clone());
    let last = ended(&status.state).or_else(|| ended(&status.last_state));
    Container {
        waiting: waiting
            .filter(|waiting| !STARTS.contains(&waiting.reason.as_deref().unwrap_or_default()))
            .map(|waiting| (waiting.reason.unwrap_or_default(), cut(waiting.message.unwrap_or_default()))),
        restarts: status.restart_count,
        ended_at: last.as_ref().and_then(|end| time(end.finished_at.as_ref())),
        last_end: last.map(|end| (end.reason.unwrap_or_default(), end.exit_code, cut(end.message.unwrap_or_default().trim().to_owned()))),
        running: status.state.as_ref().is_some_and(|state| state.running.is_some()),
    }
}

/// A pod that deletes a savepoint, found by the Savepoint.
pub fn disposal(pod: &Pod) -> Option<Item<DisposalPod>> {
    let status = pod.status.clone().unwrap_or_default();
    let container = container(pod, DISPOSAL_CONTAINER);
    let ended = container.last_end.filter(|(_, code, _)| *code != 0);
    let facts = DisposalPod {
        target: Target {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            resource_version: pod.resource_version().unwrap_or_default(),
        },
        phase: status.phase.unwrap_or_default(),
        message: match (container.waiting, ended) {
            (_, Some((reason, code, message))) => Some(format!("{reason} (exit code {code}): {message}")),
            (Some((reason, message)), None) => Some(format!("{reason}: {message}")),
            (None, None) => status.message.map(cut),
        },
        created: time(pod.meta().creation_timestamp.as_ref()),
        deleting: pod.meta().deletion_timestamp.is_some(),
    };
    let owner = pod.owner_references().iter().find(|owner| owner.kind == rheos_api::SAVEPOINT_KIND)?;
    item(pod.meta(), owner.name.clone(), facts)
}

/// A Savepoint, found by its job.
pub fn savepoint(object: Savepoint) -> Option<Item<SavepointFacts>> {
    let metadata = object.metadata;
    let facts = SavepointFacts {
        name: metadata.name.clone()?,
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        created: time(metadata.creation_timestamp.as_ref()),
        deleting_since: time(metadata.deletion_timestamp.as_ref()),
        finalizer: metadata.finalizers.iter().flatten().any(|finalizer| finalizer == labels::FINALIZER),
        labels: metadata.labels.clone().unwrap_or_default(),
        annotations: metadata.annotations.clone().unwrap_or_default(),
        spec: object.spec,
        status: object.status.unwrap_or_default(),
    };
    item(&metadata, facts.spec.job.clone(), facts)
}

/// Cuts a text to [`MESSAGE_LIMIT`] at a character.
pub fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_LIMIT {
        let end = (0..=MESSAGE_LIMIT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_cut_down_to_what_decisions_look_at() {
        let object: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": "j-ab-0-2", "namespace": "ns", "uid": "u", "resourceVersion": "5",
                "labels": {"rheos.dev/job": "j", "rheos.dev/revision": "ab", "rheos.dev/index": "0", "rheos.dev/incarnation": "2"},
            },
            "status": {
                "phase": "Running", "podIP": "10.0.0.1",
                "conditions": [{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "True"}],
                "containerStatuses": [
                    {"name": "sidecar", "restartCount": 9, "ready": true, "image": "", "imageID": ""},
                    {"name": "worker", "restartCount": 3, "ready": false, "image": "", "imageID": "",
                     "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                     "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "  x\n"}}},
                ],
            },
        }))
        .unwrap();
        let item = pod(&object).unwrap();
        assert_eq!((item.key, item.owner.as_str(), item.version.as_str()), (Key::new("ns", "j-ab-0-2"), "j", "5"));
        let facts = item.fact;
        assert_eq!((facts.index, facts.incarnation, facts.ready, facts.unscheduled.is_none()), (0, 2, false, true));
        assert_eq!(facts.address, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(facts.container.restarts, 3);
        assert_eq!(facts.container.last_end, Some(("OOMKilled".into(), 137, "x".into())));
        assert_eq!(facts.container.waiting.unwrap().0, "CrashLoopBackOff");
    }

    #[test]
    fn a_pod_without_our_labels_is_nobodys() {
        let object: Pod = serde_json::from_value(json!({"metadata": {"name": "x", "namespace": "ns"}})).unwrap();
        assert!(pod(&object).is_none() && disposal(&object).is_none());
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let long = cut("é".repeat(MESSAGE_LIMIT));
        assert!(long.len() <= MESSAGE_LIMIT + '…'.len_utf8() && long.ends_with('…'));
        assert_eq!(cut("short".into()), "short");
    }
}
