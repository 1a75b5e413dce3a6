//! Workers, engines and the operator are killed; no row is lost or repeated.

use rheos_e2e::harness::{JobSpec, Space, install, kubectl, scenario, scenario_alone};
use serde_json::{Value, json};

/// A job of two workers that has completed a checkpoint.
async fn running(space: &Space, name: &str, shape: &str, seconds: u64, more: &Value) -> (JobSpec, u64) {
    let job = JobSpec::new(name, shape, seconds).with(more);
    space.submit(&job);
    let epoch = space.until_checkpoint(&job.name, 0).await;
    (job, epoch)
}

/// Deletes pods at once, twice, and waits for checkpoints of what comes after them.
fn survives_the_loss_of(name: &str, shape: &str, indexes: &[u32]) {
    scenario(name, async |space| {
        let (job, mut epoch) = running(space, name, shape, 40, &json!({})).await;
        for _ in 0..2 {
            let pods: Vec<String> = indexes.iter().map(|index| space.pod(&job.name, *index)).collect();
            let generation = space.job(&job.name)["status"]["generation"].as_u64().unwrap_or_default();
            pods.iter().for_each(|pod| space.kill_pod(pod));
            space
                .until_job(&job.name, "a later generation", |job| {
                    (job["status"]["generation"].as_u64()? > generation && job["status"]["phase"] == "Running").then_some(())
                })
                .await;
            epoch = space.until_checkpoint(&job.name, epoch).await;
        }
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn worker_0_is_killed() {
    survives_the_loss_of("kill-first", "tumble", &[0]);
}

#[test]
fn another_worker_is_killed() {
    survives_the_loss_of("kill-other", "hop", &[1]);
}

#[test]
fn all_workers_are_killed() {
    survives_the_loss_of("kill-all", "group", &[0, 1]);
}

#[test]
fn an_engine_is_killed_inside_a_pod_and_no_pod_is_replaced() {
    scenario("kill-engine", async |space| {
        let (job, mut epoch) = running(space, "kill-engine", "distinct", 30, &json!({})).await;
        let before = [space.pod(&job.name, 0), space.pod(&job.name, 1)];
        for pod in &before {
            space.kill_process(pod, "rheos-worker engine");
            epoch = space.until_checkpoint(&job.name, epoch + 1).await;
        }
        assert_eq!(before, [space.pod(&job.name, 0), space.pod(&job.name, 1)], "an engine's end needs no new pod");
        assert!(space.job(&job.name)["status"]["restarts"].as_u64().is_some_and(|restarts| restarts >= 2));
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn a_workers_container_crashes_and_comes_back_in_its_pod() {
    scenario("kill-container", async |space| {
        // With one process namespace for the pod, the supervisor is no longer the process that cannot be killed.
        let shared = json!({"worker": {"podTemplate": {"spec": {"shareProcessNamespace": true}}}});
        let (job, mut epoch) = running(space, "kill-container", "tumble", 40, &shared).await;
        for index in [1, 0] {
            let pod = space.pod(&job.name, index);
            space.kill_process(&pod, "rheos-worker pod");
            space
                .until_pods(&job.name, "the container's restart", |pods| {
                    let restarts = |pod: &&&Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default() > 0;
                    pods.iter().find(|it| it["metadata"]["name"] == pod.as_str()).filter(restarts).map(drop)
                })
                .await;
            epoch = space.until_checkpoint(&job.name, epoch + 1).await;
        }
        space.finishes_exactly(&job).await;
    });
}

/// A node that takes pods again when this goes, however the scenario ends.
struct Drained(String);

impl Drop for Drained {
    fn drop(&mut self) {
        let _ = kubectl::kubectl(&["uncordon", &self.0]);
    }
}

#[test]
fn a_drained_nodes_workers_move() {
    scenario_alone("drain", async |space| {
        let nodes = kubectl::must(&["get", "nodes", "-o", "name"]);
        assert!(nodes.lines().count() > 1, "a pod that is drained needs another node: {nodes}");
        let (job, epoch) = running(space, "drained", "union", 60, &json!({})).await;
        let pod = space.pod(&job.name, 1);
        let node = Drained(space.kubectl(&["get", "pod", &pod, "-o", "jsonpath={.spec.nodeName}"]));
        let selector = format!("--pod-selector=rheos.dev/job={}", job.name);
        kubectl::must(&["drain", &node.0, &selector, "--delete-emptydir-data", "--timeout=50s"]);
        space.until_checkpoint(&job.name, epoch + 1).await;
        let elsewhere = space.kubectl(&["get", "pods", "-l", "rheos.dev/job=drained", "-o", "jsonpath={.items[*].spec.nodeName}"]);
        assert!(!elsewhere.contains(&node.0), "{elsewhere}");
        drop(node);
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn the_operator_is_killed_and_jobs_do_not_notice() {
    scenario_alone("kill-operator", async |space| {
        let (job, epoch) = running(space, "unwatched", "cumulate", 40, &json!({})).await;
        kubectl::must(&["delete", "pods", "-n", install::NAMESPACE, "--all", "--force", "--grace-period=0", "--wait=false"]);
        // While it is away, a worker goes: the next operator brings it back.
        space.kill_pod(&space.pod(&job.name, 1));
        space.until_checkpoint(&job.name, epoch).await;
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn without_an_operator_a_crashed_engine_comes_back() {
    scenario_alone("no-operator", async |space| {
        let (job, _) = running(space, "alone", "filter", 40, &json!({})).await;
        let before = space.job(&job.name)["status"]["generation"].as_u64().unwrap_or_default();
        let replicas = kubectl::must(&["get", "deployments", "-n", install::NAMESPACE, "-o", "jsonpath={.items[0].spec.replicas}"]);
        let scale = |replicas: &str| {
            kubectl::must(&["scale", "deployments", "-n", install::NAMESPACE, "--all", &format!("--replicas={replicas}")]);
        };
        scale("0");
        kubectl::must(&["wait", "pods", "--all", "-n", install::NAMESPACE, "--for=delete", "--timeout=60s"]);
        space.kill_process(&space.pod(&job.name, 0), "rheos-worker engine");
        scale(&replicas);
        space
            .until_job(&job.name, "the generation that came without it", |job| {
                (job["status"]["generation"].as_u64()? > before).then_some(())
            })
            .await;
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn an_upgrade_of_the_chart_restarts_no_worker() {
    scenario_alone("chart-upgrade", async |space| {
        let (job, epoch) = running(space, "untouched", "hop", 40, &json!({})).await;
        let pods = || space.kubectl(&["get", "pods", "-l", "rheos.dev/job=untouched", "-o", "jsonpath={.items[*].metadata.uid}"]);
        let (before, generation) = (pods(), space.job(&job.name)["status"]["generation"].clone());
        kubectl::must(&["rollout", "restart", "deployment", "-n", install::NAMESPACE]);
        install::operator(&[]);
        kubectl::must(&["rollout", "status", "deployment", "-n", install::NAMESPACE, "--timeout=50s"]);
        space.until_checkpoint(&job.name, epoch + 1).await;
        assert_eq!((before, generation), (pods(), space.job(&job.name)["status"]["generation"].clone()));
        space.finishes_exactly(&job).await;
    });
}
