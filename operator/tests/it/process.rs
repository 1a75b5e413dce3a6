//! [io] The operator as a process, against the model of the apiserver over HTTP: what it weighs, how it hands over, and
//! that a leader that was paused does not act when it wakes.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::apiserver::{ApiServer, Key, State};

/// How long something may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked for.
const PERIOD: Duration = Duration::from_millis(5);
/// Jobs of the test that weighs.
const FLEET: usize = 1000;
/// What the process may hold with them, KiB.
const WEIGHT: u64 = 64 * 1024;
/// From the start of the process to its first status, with them.
const COLD_START: Duration = Duration::from_secs(2);
/// How long the fleet is watched at rest.
const AT_REST: Duration = Duration::from_secs(5);

/// A process; it is killed when it is dropped.
struct Process {
    child: Child,
    _home: TempDir,
}

impl Process {
    async fn start(server: &ApiServer, tag: &'static str) -> Self {
        let home = TempDir::new().unwrap();
        let address = server.serve(tag).await;
        let config = home.path().join("config");
        write_config(&config, &format!("http://{address}"));
        let child = Command::new(env!("CARGO_BIN_EXE_rheos-operator"))
            .args(["run", "--worker-image", "rheos/worker:test", "--listen", "127.0.0.1:0", "--identity", tag.trim()])
            .env("KUBECONFIG", &config)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, _home: home }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill {name}");
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    async fn end(&mut self) -> bool {
        let ended = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.success();
                }
                tokio::time::sleep(PERIOD).await;
            }
        });
        ended.await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_config(path: &Path, server: &str) {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "model",
        "clusters": [{"name": "model", "cluster": {"server": server}}],
        "users": [{"name": "model", "user": {}}],
        "contexts": [{"name": "model", "context": {"cluster": "model", "user": "model"}}],
    });
    std::fs::write(path, config.to_string()).unwrap();
}

async fn until(server: &ApiServer, what: &str, holds: impl Fn(&State) -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds(&server.state()) {
            tokio::time::sleep(PERIOD).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}

fn add(server: &ApiServer, name: &str) {
    let spec = json!({
        "sql": "CREATE TABLE a (x INT) WITH ('connector' = 'datagen'); INSERT INTO b SELECT x FROM a;",
        "state": "Suspended",
        "checkpoint": {"storage": {"uri": "s3://bucket/prefix"}},
    });
    let object = json!({"metadata": {"name": name}, "spec": spec});
    server.state().create(&Key::new("streamjobs", "default", name), object).unwrap();
}

fn is_known(object: &Value) -> bool {
    object["status"]["phase"] == "Suspended"
}

fn known(state: &State, name: &str) -> bool {
    state.get(&Key::new("streamjobs", "default", name)).is_ok_and(|object| is_known(&object))
}

fn holder(state: &State) -> String {
    let lease = state.get(&Key::new("leases", "rheos-system", "rheos-operator")).unwrap_or_default();
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

/// `a`, which leads and has worked, and `b`, which waits.
async fn leader_and_follower(server: &ApiServer) -> (Process, Process) {
    let a = Process::start(server, "a ").await;
    until(server, "a leads", |state| holder(state).starts_with("a-")).await;
    let b = Process::start(server, "b ").await;
    add(server, "first");
    // The last that it has to write about this job is the event: then nothing of its writes is on the way any more.
    until(server, "a works", |state| known(state, "first") && state.list("events").next().is_some()).await;
    (a, b)
}

/// Writes other than the lease's.
fn writes(server: &ApiServer) -> Vec<String> {
    server.faults.names().into_iter().filter(|name| !name.contains("leases")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_jobs_weigh_little_start_fast_and_cause_no_write_at_rest() {
    let server = ApiServer::default();
    for number in 0..FLEET {
        add(&server, &format!("job-{number}"));
    }
    let started = Instant::now();
    let process = Process::start(&server, "a ").await;
    until(&server, "a first status", |state| state.list("streamjobs").any(|(_, job)| is_known(job))).await;
    let first = started.elapsed();
    until(&server, "all statuses", |state| state.list("streamjobs").all(|(_, job)| is_known(job))).await;
    let all = started.elapsed();
    // The last finalizers and events come after the last status; then nothing may come for a whole span.
    let (mut settled, mut rest) = (writes(&server).len(), vec![String::new()]);
    let patience = Instant::now();
    while !rest.is_empty() && patience.elapsed() < 3 * AT_REST {
        tokio::time::sleep(AT_REST).await;
        rest = writes(&server).split_off(settled);
        settled += rest.len();
    }
    let weight = process.resident_kib();
    eprintln!("first status after {first:?}, {FLEET} after {all:?}, {weight} KiB resident, {} writes at rest", rest.len());
    assert_eq!(rest, [""; 0]);
    assert!(weight < WEIGHT, "{weight} KiB");
    assert!(first < COLD_START, "{first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_told_to_end_hands_over_at_once() {
    let server = ApiServer::default();
    let (mut a, _b) = leader_and_follower(&server).await;
    a.signal("-TERM");
    assert!(a.end().await, "an end that was asked for is a success");
    let ended = Instant::now();
    until(&server, "b leads", |state| holder(state).starts_with("b-")).await;
    assert!(ended.elapsed() < Duration::from_secs(5), "the lease was given back: {:?}", ended.elapsed());
    add(&server, "second");
    until(&server, "b works", |state| known(state, "second")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_paused_does_not_act_when_it_wakes() {
    let server = ApiServer::default();
    let (mut a, _b) = leader_and_follower(&server).await;
    a.signal("-STOP");
    add(&server, "second");
    let paused = Instant::now();
    until(&server, "b took over and works", |state| known(state, "second")).await;
    eprintln!("the next reconcile came {:?} after the leader was paused", paused.elapsed());
    assert!(paused.elapsed() < Duration::from_secs(20));
    let before = server.requests().len();
    a.signal("-CONT");
    assert!(!a.end().await, "who lost the lease ends with an error");
    let mut acts = server.requests().split_off(before);
    acts.retain(|name| name.starts_with("a ") && !name.starts_with("a GET"));
    assert_eq!(acts, [""; 0]);
}
