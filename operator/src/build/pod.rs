//! [pure] A worker pod.
//!
//! Built from the snapshot of its revision alone (and its index and incarnation), so that all pods of a revision are alike.
//! Kubernetes' Pod Security *restricted* takes it; it has no token of a service account and a read-only root.

use k8s_openapi::api::core::v1::Pod;
use rheos_api::validated::SqlSource;
use rheos_api::{ValidatedJob, secret_reference};
use serde_json::{Value, json};

use super::{ADMIN_PORT, CONTAINER, DATA_PORT, MEMBER_PORT, USER, template};
use crate::reconcile::{Identity, Snapshot};
use crate::{labels, names};

/// Time beyond a checkpoint that a pod has to leave, seconds.
const LEAVE_MARGIN: u64 = 30;
/// Longest time a pod has to leave, seconds.
const LEAVE_LIMIT: u64 = 600;
/// How long a node may be away before its pods are given up, seconds; Kubernetes' own default is 300.
const NODE_AWAY: i64 = 30;
/// How long a container may take to serve its admin API, seconds.
const START_LIMIT: i32 = 120;

/// Where the snapshot of the job is mounted.
pub(super) const JOB_DIR: &str = "/etc/rheos/job";
/// Where the token is mounted.
const TOKEN_DIR: &str = "/etc/rheos/token";
/// Where the Secrets are mounted that the SQL refers to, a folder each.
const SECRETS_DIR: &str = "/etc/rheos/secrets";
/// Where the worker keeps what survives its container.
pub(super) const DATA_DIR: &str = "/var/lib/rheos";

/// The pod of one process.
///
/// # Errors
/// The job's `podTemplate` holds something that no pod can have.
pub fn pod(job: &Identity, snapshot: &Snapshot, index: u32, incarnation: u32) -> Result<Pod, String> {
    let worker = &snapshot.job;
    let mut metadata = super::owned(job, names::pod(&job.name, &snapshot.revision, index, incarnation));
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(labels::REVISION.to_owned(), snapshot.revision.clone());
    labels.insert(labels::INDEX.to_owned(), index.to_string());
    labels.insert(labels::INCARNATION.to_owned(), incarnation.to_string());
    let mut ours = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": leave_seconds(worker),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": pod_security(),
            "containers": [container(job, worker, index)],
            "volumes": [
                {"name": "job", "configMap": {"name": snapshot.name}},
                {"name": "token", "secret": {"secretName": names::token(&job.name, &job.uid), "defaultMode": 0o400}},
                {"name": "data", "emptyDir": {}},
                {"name": "tmp", "emptyDir": {}},
            ],
            "topologySpreadConstraints": [{
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": super::selector_labels(&job.name)},
            }],
            "tolerations": tolerations(),
        },
    });
    mount_secrets(worker, &mut ours);
    merged(worker, &ours)
}

/// Mounts what the SQL refers to, into the worker's container only. A Secret that is not there does not hold the pod: its
/// worker says which it misses, and the kubelet mounts it when it comes.
fn mount_secrets(worker: &ValidatedJob, pod: &mut Value) {
    let SqlSource::Inline(sql) = &worker.sql else { return };
    for (index, name) in secret_reference::names(sql).into_iter().take(secret_reference::LIMIT).enumerate() {
        let volume = format!("secret-{index}");
        let mount = json!({"name": volume, "mountPath": format!("{SECRETS_DIR}/{name}"), "readOnly": true});
        let volume = json!({"name": volume, "secret": {"secretName": name, "defaultMode": 0o400, "optional": true}});
        for (list, entry) in [("/spec/volumes", volume), ("/spec/containers/0/volumeMounts", mount)] {
            if let Some(list) = pod.pointer_mut(list).and_then(Value::as_array_mut) {
                list.push(entry);
            }
        }
    }
}

/// A pod of a job with its template under it.
pub(super) fn merged(job: &ValidatedJob, ours: &Value) -> Result<Pod, String> {
    let theirs = job.worker.pod_template.as_ref().map_or(Value::Null, |template| {
        let known = ["metadata", "spec"].iter().filter_map(|name| Some(((*name).to_owned(), template.get(*name)?.clone())));
        Value::Object(known.collect())
    });
    let mut pod = match theirs {
        Value::Null => ours.clone(),
        theirs => template::merge(&theirs, ours),
    };
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata
            .retain(|name, _| matches!(name.as_str(), "name" | "namespace" | "labels" | "annotations" | "ownerReferences" | "finalizers"));
        metadata.remove("finalizers");
    }
    if let Some(spec) = pod.get_mut("spec") {
        template::floor(spec);
    }
    serde_json::from_value(pod).map_err(|error| format!("spec.worker.podTemplate: {error}; write it like spec.template of a Deployment"))
}

/// A pod on a lost node is given up soon: its successor goes on from the last checkpoint, and the fence holds it off.
fn tolerations() -> Vec<Value> {
    let toleration = |key| {
        let key = format!("node.kubernetes.io/{key}");
        json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": NODE_AWAY})
    };
    ["not-ready", "unreachable"].map(toleration).into()
}

/// The security context of a pod of ours.
pub(super) fn pod_security() -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// The security context of a container of ours.
pub(super) fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"]},
    })
}

/// `envFrom` of a container that opens the job's storage.
pub(super) fn credentials(secret: Option<&str>) -> Value {
    secret.map_or_else(|| json!([]), |secret| json!([{"secretRef": {"name": secret}}]))
}

fn container(job: &Identity, worker: &ValidatedJob, index: u32) -> Value {
    let secret = worker.checkpoint.storage.as_ref().and_then(|storage| storage.credentials.as_ref());
    let health = json!({"path": "/healthz", "port": "admin"});
    let mut container = json!({
        "name": CONTAINER,
        "image": worker.worker.image,
        "command": ["rheos-worker"],
        "args": [
            "pod", "--job", format!("{JOB_DIR}/{}", super::config_map::JOB_KEY),
            "--token", format!("{TOKEN_DIR}/{}", super::secret::TOKEN_KEY),
            "--index", index.to_string(), "--dir", DATA_DIR,
        ],
        "env": [
            {"name": "RHEOS_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "RHEOS_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "RHEOS_JOB", "value": job.name},
            {"name": "AWS_EC2_METADATA_DISABLED", "value": "true"},
        ],
        "envFrom": credentials(secret.map(|secret| secret.name.as_str())),
        "ports": [
            {"name": "data", "containerPort": DATA_PORT},
            {"name": "member", "containerPort": MEMBER_PORT},
            {"name": "admin", "containerPort": ADMIN_PORT},
        ],
        "startupProbe": {"httpGet": health, "periodSeconds": 1, "failureThreshold": START_LIMIT},
        "readinessProbe": {"httpGet": health, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 3},
        "livenessProbe": {"httpGet": health, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 6},
        "lifecycle": {"preStop": {"exec": {"command": [
            "rheos-worker", "leave", "--token", format!("{TOKEN_DIR}/{}", super::secret::TOKEN_KEY),
        ]}}},
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "job", "mountPath": JOB_DIR, "readOnly": true},
            {"name": "token", "mountPath": TOKEN_DIR, "readOnly": true},
            {"name": "data", "mountPath": DATA_DIR},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    });
    let resources = &worker.worker.resources;
    if (!resources.requests.is_empty() || !resources.limits.is_empty())
        && let Some(fields) = container.as_object_mut()
    {
        fields.insert("resources".to_owned(), json!({"requests": resources.requests, "limits": resources.limits}));
    }
    container
}

/// How long a pod of this job has to leave, seconds: a checkpoint and a margin.
pub fn leave_seconds(job: &ValidatedJob) -> u64 {
    (job.checkpoint.timeout.as_secs() + LEAVE_MARGIN).min(LEAVE_LIMIT)
}
