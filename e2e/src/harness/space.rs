//! [io] A namespace for a scenario: restricted, with the credentials of the S3 server, gone at the end.

use std::panic::AssertUnwindSafe;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::DynamicObject;
use kube::runtime::watcher;
use kube::{Api, Client};
use rheos_checkpoint::Store;
use serde_json::{Value, json};

use super::install::{self, Audit};
use super::job::{Endpoint, JobSpec};
use super::kubectl::{Forward, apply, kubectl, must};
use super::output::{Outputs, committed, fault_free, store};
use super::watch::{resource, until, until_object};
use crate::cluster::images::SEND;
use crate::oracle::{Difference, compare};
use crate::s3::{ACCESS_KEY, SECRET_KEY};

/// How long a phase of a job may take to come.
pub const LIMIT: Duration = Duration::from_secs(120);
/// How often the store, which tells nobody, is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How long a namespace may take to go.
const GONE_LIMIT: &str = "--timeout=90s";

/// Scenarios run side by side, except those that disturb the operator itself.
static OPERATOR: RwLock<()> = RwLock::new(());

/// A scenario's own namespace.
pub struct Space {
    /// Its name.
    pub name: String,
    /// Where pods find the S3 server.
    pub endpoint: Endpoint,
    client: Client,
    s3: Forward,
}

/// Runs a scenario in a namespace of its own.
///
/// # Panics
/// When it does; or when the operator was refused something by its roles. What the namespace holds is printed first.
pub fn scenario(name: &str, test: impl AsyncFnOnce(&Space)) {
    let _others = OPERATOR.read().unwrap_or_else(PoisonError::into_inner);
    run(name, test);
}

/// Runs a scenario while no other does: it disturbs what all share.
///
/// # Panics
/// As [`scenario`].
pub fn scenario_alone(name: &str, test: impl AsyncFnOnce(&Space)) {
    let _others = OPERATOR.write().unwrap_or_else(PoisonError::into_inner);
    run(name, test);
}

fn run(name: &str, test: impl AsyncFnOnce(&Space)) {
    install::once();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let audit = Audit::now();
        let space = Space::open(name).await;
        let mut done = AssertUnwindSafe(test(&space)).catch_unwind().await;
        if done.is_ok() {
            let refused = audit.refused();
            done = AssertUnwindSafe(async { assert!(refused.is_empty(), "refused by RBAC:\n{}", refused.join("\n")) }).catch_unwind().await;
        }
        if done.is_err() {
            space.dump();
        }
        let gone = space.close();
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
        gone.unwrap_or_else(|error| panic!("the namespace does not go: {error}"));
    });
}

impl Space {
    async fn open(scenario: &str) -> Self {
        let name = format!("e2e-{scenario}");
        let _ = kubectl(&["delete", "namespace", &name, "--ignore-not-found", GONE_LIMIT]);
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3", "namespace": name},
             "stringData": {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}},
        ]});
        apply(&objects.to_string()).expect("a namespace");
        // Until it is there no pod is accepted.
        must(&["wait", "serviceaccount/default", "-n", &name, "--for=create", "--timeout=30s"]);
        let address = must(&["get", "service", "-n", install::S3_NAMESPACE, "s3", "-o", "jsonpath={.spec.clusterIP}"]);
        let s3 = Forward::open(install::S3_NAMESPACE, "deployment/s3", install::S3_PORT).expect("a way to the S3 server");
        let client = Client::try_default().await.expect("a client of the cluster");
        Self { name, endpoint: Endpoint(format!("http://{address}:{}", install::S3_PORT)), client, s3 }
    }

    fn close(self) -> Result<(), String> {
        // Savepoints before jobs before the namespace: as a person cleans up, and finalizers have their operator.
        for kind in ["savepoints.rheos.dev", "streamjobs.rheos.dev"] {
            kubectl(&["delete", kind, "--all", "-n", &self.name, "--ignore-not-found", GONE_LIMIT])?;
        }
        kubectl(&["delete", "namespace", &self.name, GONE_LIMIT]).map(drop)
    }

    /// Prints what the namespace holds, its events, and the logs of its pods and of the operator.
    fn dump(&self) {
        let name = self.name.as_str();
        let looks: [&[&str]; 5] = [
            &["get", "streamjobs,savepoints,pods,configmaps,services,poddisruptionbudgets", "-n", name, "-o", "wide"],
            &["get", "streamjobs,savepoints", "-n", name, "-o", "yaml"],
            &["describe", "pods", "-n", name],
            &["get", "events", "-n", name, "--sort-by=.lastTimestamp"],
            &["get", "pods", "-n", install::NAMESPACE, "-o", "wide"],
        ];
        for look in looks {
            eprintln!("--- kubectl {}\n{}", look.join(" "), kubectl(look).unwrap_or_else(|error| error));
        }
        for namespace in [name, install::NAMESPACE] {
            for pod in kubectl(&["get", "pods", "-n", namespace, "-o", "name"]).unwrap_or_default().lines() {
                for earlier in ["--previous=true", "--previous=false"] {
                    if let Ok(log) = kubectl(&["logs", "-n", namespace, pod, "--all-containers", "--tail=60", earlier]) {
                        eprintln!("--- log of {namespace}/{pod} {earlier}\n{log}");
                    }
                }
            }
        }
    }

    /// Applies one object of any kind.
    ///
    /// # Panics
    /// When the apiserver refuses it.
    pub fn apply(&self, object: &Value) {
        apply(&object.to_string()).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Applies a job as it is now.
    ///
    /// # Panics
    /// When the apiserver refuses it.
    pub fn submit(&self, job: &JobSpec) {
        self.apply(&job.manifest(&self.name, &self.endpoint));
    }

    /// The address of this machine that the pods of the cluster reach: the one from which it reaches a node.
    ///
    /// # Panics
    /// When there is no way to a node.
    pub fn here(&self) -> String {
        let path = r#"jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}"#;
        let node = must(&["get", "nodes", "-o", path]);
        let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
        socket.connect((node.as_str(), 9)).expect("a way to a node");
        let here = socket.local_addr().expect("an address").ip();
        // On the node itself, its own address is what others reach.
        if here.is_loopback() { node } else { here.to_string() }
    }

    /// `kubectl` in this namespace.
    ///
    /// # Panics
    /// When it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        must(&[&["-n", &self.name], arguments].concat())
    }

    /// A client of the S3 server.
    pub fn store(&self) -> std::sync::Arc<dyn Store> {
        store(&self.s3.endpoint())
    }

    /// A kind of ours in this namespace.
    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.name, &resource(kind))
    }

    /// Waits until a job looks as wanted.
    ///
    /// # Panics
    /// After [`LIMIT`].
    pub async fn until_job<T>(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> Option<T>) -> T {
        until_object(self.api("StreamJob"), name, what, LIMIT, |job| job.and_then(&wanted)).await
    }

    /// Waits until a job is in a phase, for its newest spec.
    ///
    /// # Panics
    /// After [`LIMIT`], or at once when the job fails instead.
    pub async fn until_phase(&self, name: &str, phase: &str) -> Value {
        let job = self
            .until_job(name, &format!("{name} to be {phase}"), |job| {
                let now = job["status"]["phase"].as_str().unwrap_or_default();
                let current = job["status"]["observedGeneration"] == job["metadata"]["generation"];
                (current && (now == phase || now == "Failed")).then(|| job.clone())
            })
            .await;
        assert_eq!(job["status"]["phase"], phase, "{name}: {:#}", job["status"]);
        job
    }

    /// The job as it is now.
    ///
    /// # Panics
    /// When it is not there.
    pub fn job(&self, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", "streamjob", name, "-o", "json"])).expect("kubectl prints JSON")
    }

    /// Waits until the pods of a job look as wanted.
    ///
    /// # Panics
    /// After [`LIMIT`].
    pub async fn until_pods<T>(&self, job: &str, what: &str, wanted: impl Fn(&[&Value]) -> Option<T>) -> T {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.name);
        let config = watcher::Config::default().labels(&format!("rheos.dev/job={job}"));
        until(pods, config, what, LIMIT, |pods| wanted(&pods.values().collect::<Vec<_>>())).await
    }

    /// Waits for an event about an object.
    ///
    /// # Panics
    /// After [`LIMIT`].
    pub async fn until_event(&self, object: &str, reason: &str) {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.name);
        let config = watcher::Config::default().fields(&format!("involvedObject.name={object}"));
        let told = |event: &Value| event["reason"] == reason;
        until(events, config, &format!("event {reason} about {object}"), LIMIT, |events| events.values().any(told).then_some(())).await;
    }

    /// The pod of this index that lives.
    ///
    /// # Panics
    /// When there is none.
    pub fn pod(&self, job: &str, index: u32) -> String {
        let selector = format!("rheos.dev/job={job},rheos.dev/index={index}");
        let names = self.kubectl(&["get", "pods", "-l", &selector, "--field-selector=status.phase=Running", "-o", "name"]);
        let name = names.lines().next().unwrap_or_else(|| panic!("no pod of {job} with index {index}"));
        name.trim_start_matches("pod/").to_owned()
    }

    /// Takes a pod away at once, as the loss of its machine does.
    ///
    /// # Panics
    /// When it cannot be deleted.
    pub fn kill_pod(&self, pod: &str) {
        self.kubectl(&["delete", "pod", pod, "--force", "--grace-period=0", "--wait=false"]);
    }

    /// `kill -9` of every process in a pod whose command line begins so.
    ///
    /// # Panics
    /// When there is none.
    pub fn kill_process(&self, pod: &str, words: &str) {
        self.kubectl(&["exec", pod, "-c", "worker", "--", SEND, "9", words]);
    }

    /// Waits for the job's end, and compares what it committed with a fault-free run.
    ///
    /// # Panics
    /// When it does not finish, or one row is lost or repeated.
    pub async fn finishes_exactly(&self, job: &JobSpec) {
        let expected = fault_free(job.shape, job.events).await;
        self.until_phase(&job.name, "Finished").await;
        self.holds_exactly(job, &expected).await;
    }

    /// What a job has committed so far.
    ///
    /// # Panics
    /// When a committed file holds what is no row.
    pub async fn committed(&self, job: &JobSpec) -> Outputs {
        committed(self.store().as_ref(), job.shape, &job.folder(&self.name)).await.expect("the job's output")
    }

    /// Waits until a job has committed rows of every table.
    ///
    /// # Panics
    /// After [`LIMIT`].
    pub async fn until_committed(&self, job: &JobSpec) {
        let committed = async {
            while self.committed(job).await.values().any(|rows| rows.is_empty()) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let done = tokio::time::timeout(LIMIT, committed).await;
        assert!(done.is_ok(), "{} has committed nothing", job.name);
    }

    /// Compares what a job committed with what was expected.
    ///
    /// # Panics
    /// When one row is lost or repeated.
    pub async fn holds_exactly(&self, job: &JobSpec, expected: &Outputs) {
        let outputs = self.committed(job).await;
        for (table, rows) in expected {
            let difference = compare(rows, &outputs[table]);
            assert_eq!(difference, Difference::default(), "{}: {table} differs from the fault-free run", job.name);
        }
    }
}
