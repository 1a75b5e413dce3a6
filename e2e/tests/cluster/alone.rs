//! Scenarios that disturb what all share: the operator, a node, the S3 server. They come first and one by one.

use rheos_e2e::harness::kubectl::{apply, kubectl, must};
use rheos_e2e::harness::output::{fault_free, objects};
use rheos_e2e::harness::space::LIMIT;
use rheos_e2e::harness::watch::until_object;
use rheos_e2e::harness::{JobSpec, install, scenario_alone};
use serde_json::json;

use crate::support::{completed, running, savepoint};

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

/// The operator has no pods until this goes, however the scenario ends.
struct NoOperator(String);

impl NoOperator {
    fn new() -> Self {
        let replicas = must(&["get", "deployments", "-n", install::NAMESPACE, "-o", "jsonpath={.items[0].spec.replicas}"]);
        must(&["scale", "deployments", "-n", install::NAMESPACE, "--all", "--replicas=0"]);
        must(&["wait", "pods", "--all", "-n", install::NAMESPACE, "--for=delete", "--timeout=60s"]);
        Self(replicas)
    }
}

impl Drop for NoOperator {
    fn drop(&mut self) {
        let replicas = format!("--replicas={}", self.0);
        let _ = kubectl(&["scale", "deployments", "-n", install::NAMESPACE, "--all", &replicas]);
    }
}

#[test]
fn without_an_operator_a_crashed_engine_comes_back() {
    scenario_alone("no-operator", async |space| {
        let (job, generation) = running(space, "alone", "filter", 60, &json!({})).await;
        let away = NoOperator::new();
        for (index, generation) in [(0, generation + 1), (1, generation + 2)] {
            space.kill_process(&space.pod(&job.name, index), "rheos-worker engine");
            space.until_checkpoint(&job.name, generation).await;
        }
        drop(away);
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

/// The S3 server's Service leads nowhere until this goes.
struct Away;

impl Away {
    fn new() -> Self {
        select("nobody");
        Self
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        select("s3");
    }
}

fn select(app: &str) {
    let patch = json!({"spec": {"selector": {"app": app}}}).to_string();
    let _ = kubectl(&["patch", "service", "s3", "-n", install::S3_NAMESPACE, "-p", &patch]);
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
