//! The objects as they are sent. `UPDATE_EXPECT=1 cargo test` rewrites the files.

use expect_test::{ExpectFile, expect_file};
use rheos_api::metadata::SecretRef;
use rheos_api::quantity::Quantity;
use rheos_api::savepoint::{Disposal, SavepointPhase, SavepointSpec, SavepointStatus};
use rheos_api::stream_job::{SqlFrom, Storage};
use rheos_api::{StreamJob, StreamJobSpec, metadata};
use serde::Serialize;
use serde_json::json;

use super::*;
use crate::reconcile::{SavepointFacts, Snapshot};

fn job() -> Identity {
    Identity { name: "q5".into(), namespace: "ns".into(), uid: "u".into(), spec_generation: 1, ..Identity::default() }
}

fn spec() -> StreamJobSpec {
    let mut spec = StreamJobSpec { sql: Some("SELECT 1".into()), ..StreamJobSpec::default() };
    spec.checkpoint.storage = Some(Storage {
        uri: "s3://bucket/prefix".into(),
        endpoint: Some("http://s3.ns.svc:9000".into()),
        region: None,
        credentials_secret_ref: Some(SecretRef { name: "s3".into() }),
    });
    spec.worker.resources.requests.insert("cpu".into(), Quantity("500m".into()));
    spec.worker.resources.limits.insert("memory".into(), Quantity("1Gi".into()));
    spec
}

fn snapshot(spec: &StreamJobSpec) -> Snapshot {
    let mut map = config_map::snapshot(&job(), "0123abcd", spec, "worker:1");
    map.metadata.uid = Some("m".into());
    config_map::read(&map).unwrap()
}

fn check(object: &impl Serialize, file: ExpectFile) {
    file.assert_eq(&format!("{}\n", serde_json::to_string_pretty(object).unwrap()));
}

#[test]
fn a_pod_is_as_it_was() {
    check(&pod::pod(&job(), &snapshot(&spec()), 3, 2).unwrap(), expect_file!["testdata/pod.json"]);
}

#[test]
fn secrets_of_the_sql_are_mounted_where_the_worker_looks_for_them() {
    let mut spec = spec();
    spec.sql =
        Some("… 'password' = '${secret:kafka/password}', 'ca' = '${secret:tls.ca/ca.crt}', 'user' = '${secret:kafka/user}' …".into());
    let pod = serde_json::to_value(pod::pod(&job(), &snapshot(&spec), 0, 1).unwrap()).unwrap();
    let named = |list: &str, field: &str| -> Vec<String> {
        let list = pod.pointer(list).and_then(serde_json::Value::as_array).unwrap();
        list.iter().filter_map(|entry| entry.pointer(field)?.as_str().map(str::to_owned)).filter(|name| !name.contains("token")).collect()
    };
    assert_eq!(named("/spec/volumes", "/secret/secretName"), ["kafka", "tls.ca"]);
    let mounts = named("/spec/containers/0/volumeMounts", "/mountPath");
    assert!(mounts.ends_with(&["/etc/rheos/secrets/kafka".into(), "/etc/rheos/secrets/tls.ca".into()]), "{mounts:?}");
}

#[test]
fn a_persons_template_is_under_ours() {
    let mut spec = spec();
    let template = json!({
        "metadata": {"name": "mine", "annotations": {"a": "b"}, "labels": {"team": "x", "rheos.dev/job": "other"}},
        "spec": {
            "nodeSelector": {"disk": "ssd"},
            "hostNetwork": true,
            "serviceAccountName": "reader",
            "automountServiceAccountToken": true,
            "containers": [
                {"name": "worker", "image": "theirs", "env": [{"name": "RUST_LOG", "value": "debug"}], "securityContext": {"privileged": true}},
                {"name": "side", "image": "side:1"},
            ],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
        },
    });
    spec.worker.pod_template = template.as_object().cloned();
    let pod = pod::pod(&job(), &snapshot(&spec), 0, 1).unwrap();
    assert_eq!(pod.metadata.name.as_deref(), Some("q5-0123abcd-0-1"));
    assert_eq!(pod.metadata.labels.as_ref().unwrap()["rheos.dev/job"], "q5");
    assert_eq!(pod.metadata.labels.as_ref().unwrap()["team"], "x");
    let spec = pod.spec.unwrap();
    assert_eq!((spec.host_network, spec.automount_service_account_token), (None, Some(false)));
    assert_eq!((spec.service_account_name.as_deref(), spec.containers.len()), (Some("reader"), 2));
    assert_eq!((spec.volumes.unwrap().len(), spec.tolerations.unwrap().len()), (5, 3));
    let worker = &spec.containers[0];
    assert_eq!((worker.name.as_str(), worker.image.as_deref()), ("worker", Some("worker:1")));
    assert!(worker.env.as_ref().unwrap().iter().any(|env| env.name == "RUST_LOG"));
    let context = worker.security_context.as_ref().unwrap();
    assert_eq!(
        (context.privileged, context.allow_privilege_escalation, context.read_only_root_filesystem),
        (None, Some(false), Some(true))
    );
    assert_eq!(spec.containers[1].security_context.as_ref().unwrap().run_as_non_root, Some(true));
}

#[test]
fn a_template_that_is_none_is_an_error_with_its_place() {
    let mut spec = spec();
    spec.worker.pod_template = json!({"spec": {"nodeSelector": "ssd"}}).as_object().cloned();
    let error = pod::pod(&job(), &snapshot(&spec), 0, 1).unwrap_err();
    assert!(error.contains("spec.worker.podTemplate"), "{error}");
}

#[test]
fn a_snapshot_is_read_back_with_its_sql_and_its_image() {
    let mut spec = spec();
    let reference = metadata::ConfigMapKeyRef { name: "sql".into(), key: "job.sql".into() };
    spec.sql_from = Some(SqlFrom { config_map_key_ref: reference });
    let map = config_map::snapshot(&job(), "0123abcd", &spec, "worker:1");
    let snapshot = config_map::read(&map).unwrap();
    assert_eq!((snapshot.name.as_str(), snapshot.revision.as_str()), ("q5-0123abcd", "0123abcd"));
    assert_eq!(snapshot.spec.sql_from, None);
    assert_eq!(snapshot.job.worker.image.as_deref(), Some("worker:1"));
    let manifest: StreamJob = serde_json::from_str(&map.data.as_ref().unwrap()[config_map::JOB_KEY]).unwrap();
    assert_eq!(manifest.spec, snapshot.spec);
    check(&map, expect_file!["testdata/config_map.json"]);
    let mut other = map.clone();
    other.data = None;
    assert!(config_map::read(&other).unwrap_err().contains("job.json"));
    other.metadata.labels = None;
    assert!(config_map::read(&other).unwrap_err().contains("rheos.dev/revision"));
}

#[test]
fn what_stands_around_the_pods_is_as_it_was() {
    let objects = json!([secret::token(&job()), service::service(&job()), pdb::budget(&job())]);
    check(&objects, expect_file!["testdata/surroundings.json"]);
}

#[test]
fn a_disposal_pod_has_what_the_job_had() {
    let status = SavepointStatus {
        phase: SavepointPhase::Completed,
        uri: Some("s3://bucket/prefix/ns/q5/u/savepoints/x".into()),
        job_uid: Some("u".into()),
        storage: spec().checkpoint.storage,
        image: Some("worker:1".into()),
        ..SavepointStatus::default()
    };
    let savepoint = SavepointFacts {
        name: "before.release".into(),
        uid: "s".into(),
        resource_version: "1".into(),
        created: None,
        deleting_since: None,
        finalizer: true,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        spec: SavepointSpec { job: "q5".into(), disposal: Disposal::Delete },
        status,
    };
    let pod = disposal::pod(&savepoint, "ns", "worker:0").unwrap();
    let map = disposal::config_map(&savepoint, "ns");
    let manifest: StreamJob = serde_json::from_str(&map.data.as_ref().unwrap()[config_map::JOB_KEY]).unwrap();
    assert!(rheos_api::validate(&manifest).is_ok());
    check(&json!([map, pod]), expect_file!["testdata/disposal.json"]);
}
