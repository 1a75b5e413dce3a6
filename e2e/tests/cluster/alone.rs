//! Scenarios that disturb what all share: the operator, a node, the S3 server. They come first and one by one.

use rheos_e2e::cluster::images::SEND;
use rheos_e2e::harness::kubectl::{apply, kubectl, must};
use rheos_e2e::harness::operator::{NoOperator, Stoppable, leader};
use rheos_e2e::harness::output::{fault_free, objects};
use rheos_e2e::harness::space::LIMIT;
use rheos_e2e::harness::watch::until_object;
use rheos_e2e::harness::{JobSpec, install, scenario_alone};
use serde_json::{Value, json};

use crate::support::{any_condition, completed, running, savepoint};

/// A node that takes pods again when this goes, however the scenario ends.
struct Drained(String);

impl Drop for Drained {
    fn drop(&mut self) {
        let _ = kubectl(&["uncordon", &self.0]);
    }
}

#[test]
fn a_drained_nodes_workers_move() {
    scenario_alone("drain", async |space| {
        let nodes = must(&["get", "nodes", "-o", "name"]);
        assert!(nodes.lines().count() > 1, "a pod that is drained needs another node: {nodes}");
        let (job, generation) = running(space, "drained", "union", 60, &json!({})).await;
        let pod = space.pod(&job.name, 1);
        let node = Drained(space.kubectl(&["get", "pod", &pod, "-o", "jsonpath={.spec.nodeName}"]));
        let selector = format!("--pod-selector=rheos.dev/job={}", job.name);
        must(&["drain", &node.0, &selector, "--delete-emptydir-data", "--timeout=50s"]);
        space.until_checkpoint(&job.name, generation + 1).await;
        let elsewhere = space.kubectl(&["get", "pods", "-l", "rheos.dev/job=drained", "-o", "jsonpath={.items[*].spec.nodeName}"]);
        assert!(!elsewhere.contains(&node.0), "{elsewhere}");
        drop(node);
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn the_operator_is_killed_and_jobs_do_not_notice() {
    scenario_alone("kill-operator", async |space| {
        let (job, generation) = running(space, "unwatched", "cumulate", 40, &json!({})).await;
        must(&["delete", "pods", "-n", install::NAMESPACE, "--all", "--force", "--grace-period=0", "--wait=false"]);
        // While it is away, a worker goes: the next operator brings it back.
        space.kill_pod(&space.pod(&job.name, 1));
        space.until_checkpoint(&job.name, generation + 1).await;
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn without_an_operator_crashed_engines_and_containers_come_back() {
    scenario_alone("no-operator", async |space| {
        // So that the first process of the container can be killed.
        let shared = json!({"worker": {"podTemplate": {"spec": {"shareProcessNamespace": true}}}});
        let (job, mut generation) = running(space, "alone", "filter", 70, &shared).await;
        let away = NoOperator::new();
        for (index, process) in [(0, "rheos-worker engine"), (1, "rheos-worker pod"), (0, "rheos-worker pod")] {
            space.kill_process(&space.pod(&job.name, index), process);
            generation = space.until_checkpoint(&job.name, generation + 1).await;
        }
        drop(away);
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn a_leader_that_was_paused_hands_over_and_harms_nothing_when_it_wakes() {
    scenario_alone("paused-leader", async |space| {
        let _stoppable = Stoppable::new();
        let (job, generation) = running(space, "unmoved", "tumble", 60, &json!({})).await;
        let old = leader().unwrap();
        let send = |signal: &str| must(&["exec", "-n", install::NAMESPACE, &old, "--", SEND, signal, "rheos-operator run"]);
        send("19");
        space.kubectl(&["scale", "streamjob", &job.name, "--replicas=3"]);
        space.until_pods(&job.name, "the next leader to act", |pods| (pods.len() == 3).then_some(())).await;
        assert_ne!(leader().unwrap(), old);
        send("18");
        let generation = space.until_checkpoint(&job.name, generation + 1).await;
        // It notices on waking, ends, and waits for the lease in its next life.
        let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
        must(&["wait", "pod", &old, "-n", install::NAMESPACE, &format!("--for={restarts}=1"), "--timeout=60s"]);
        assert_ne!(leader().unwrap(), old);
        assert_eq!(space.until_checkpoint(&job.name, generation).await, generation, "the job is left alone");
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn an_upgrade_of_the_chart_restarts_no_worker() {
    scenario_alone("chart-upgrade", async |space| {
        let (job, generation) = running(space, "untouched", "hop", 40, &json!({})).await;
        let pods = || space.kubectl(&["get", "pods", "-l", "rheos.dev/job=untouched", "-o", "jsonpath={.items[*].metadata.uid}"]);
        let before = pods();
        must(&["rollout", "restart", "deployment", "-n", install::NAMESPACE]);
        install::operator(&[]);
        must(&["rollout", "status", "deployment", "-n", install::NAMESPACE, "--timeout=50s"]);
        let after = space.until_checkpoint(&job.name, generation).await;
        assert_eq!((before, generation), (pods(), after));
        space.finishes_exactly(&job).await;
    });
}

/// The S3 server answers nobody until this goes: also what is connected to it waits.
struct Away;

impl Away {
    fn new() -> Self {
        signal("STOP").unwrap();
        Self
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        signal("CONT").unwrap();
    }
}

fn signal(name: &str) -> Result<String, String> {
    let number = if name == "STOP" { "19" } else { "18" };
    kubectl(&["exec", "-n", install::S3_NAMESPACE, "deployment/s3", "--", SEND, number, "s3 --port"])
}

#[test]
fn a_savepoint_waits_for_a_store_that_is_away() {
    scenario_alone("s3-away", async |space| {
        let job = JobSpec::new("cut-off", "cumulate", 40).with(&json!({"checkpoint": {"timeout": "120s"}}));
        space.submit(&job);
        space.until_checkpoint(&job.name, 0).await;
        let away = Away::new();
        savepoint(space, "late", &job.name, "Retain");
        until_object(space.api("Savepoint"), "late", "the savepoint to be tried", LIMIT, |savepoint| {
            savepoint?["status"]["phase"].as_str().filter(|phase| *phase != "Completed").map(drop)
        })
        .await;
        drop(away);
        completed(space, "late").await;
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn a_disposal_goes_on_when_the_store_is_back() {
    scenario_alone("disposal-away", async |space| {
        let job = JobSpec::new("cut-off", "filter", 15);
        space.submit(&job);
        space.until_checkpoint(&job.name, 0).await;
        savepoint(space, "gone", &job.name, "Delete");
        let uri = completed(space, "gone").await["uri"].as_str().unwrap().to_owned();
        space.finishes_exactly(&job).await;
        let away = Away::new();
        space.kubectl(&["delete", "savepoint", "gone", "--wait=false"]);
        until_object(space.api("Savepoint"), "gone", "the disposal to be told", LIMIT, |savepoint| {
            (savepoint?["status"]["phase"] == "Disposing").then_some(())
        })
        .await;
        drop(away);
        until_object(space.api("Savepoint"), "gone", "the savepoint to go", LIMIT, |savepoint| savepoint.is_none().then_some(())).await;
        let folder = uri.trim_start_matches("s3://rheos/").trim_end_matches('/').to_owned();
        assert!(objects(space.store().as_ref(), &folder).await.is_empty(), "the disposed savepoint is still there");
    });
}

#[test]
fn a_job_that_is_deleted_while_the_store_is_away_says_so_and_goes_when_it_is_back() {
    scenario_alone("delete-away", async |space| {
        let last = json!({"savepoints": {"onDelete": true}, "checkpoint": {"timeout": "120s"}});
        let (job, _) = running(space, "cut-off", "union", 120, &last).await;
        let away = Away::new();
        space.kubectl(&["delete", "streamjob", &job.name, "--wait=false"]);
        space
            .until_job(&job.name, "what it waits for to be told", |job| {
                any_condition(job, |it| it["reason"] == "Deleting" && it["message"].to_string().contains("Savepoint"))
            })
            .await;
        drop(away);
        until_object(space.api("StreamJob"), &job.name, "the job to go", LIMIT, |job| job.is_none().then_some(())).await;
        let savepoints: Value = serde_json::from_str(&space.kubectl(&["get", "savepoints", "-o", "json"])).unwrap();
        assert_eq!(savepoints["items"][0]["status"]["phase"], "Completed", "{savepoints:#}");
    });
}

#[test]
fn fifty_jobs_at_once_finish_beside_a_poisoned_one() {
    const JOBS: usize = 50;
    scenario_alone("fifty", async |space| {
        let jobs: Vec<JobSpec> = (0..JOBS)
            .map(|index| JobSpec { parallelism: 1, events: 20_000, pace: 20_000, ..JobSpec::new(&format!("job-{index}"), "filter", 1) })
            .collect();
        let poisoned = JobSpec::new("poisoned", "filter", 1).with(&json!({"sql": "INSERT INTO nowhere SELECT 1 FROM nothing;"}));
        let mut items: Vec<_> = jobs.iter().map(|job| job.manifest(&space.name, &space.endpoint)).collect();
        items.insert(JOBS / 2, poisoned.manifest(&space.name, &space.endpoint));
        apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()).unwrap();
        let expected = fault_free(jobs[0].shape, jobs[0].events).await;
        for job in &jobs {
            space.until_phase(&job.name, "Finished").await;
            space.holds_exactly(job, &expected).await;
        }
        assert_ne!(space.job("poisoned")["status"]["phase"], "Finished");
    });
}
