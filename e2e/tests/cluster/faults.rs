//! Workers and engines are killed; no row is lost or repeated.

use rheos_e2e::cluster::images::SEND;
use rheos_e2e::harness::{JobSpec, scenario};
use serde_json::{Value, json};

use crate::support::running;

/// Deletes pods at once, twice, and waits for checkpoints of what comes after them.
fn survives_the_loss_of(name: &str, shape: &str, indexes: &[u32]) {
    scenario(name, async |space| {
        let (job, mut generation) = running(space, name, shape, 40, &json!({})).await;
        for _ in 0..2 {
            let pods: Vec<String> = indexes.iter().map(|index| space.pod(&job.name, *index)).collect();
            pods.iter().for_each(|pod| space.kill_pod(pod));
            generation = space.until_checkpoint(&job.name, generation + 1).await;
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
        let (job, mut generation) = running(space, "kill-engine", "distinct", 30, &json!({})).await;
        let before = [space.pod(&job.name, 0), space.pod(&job.name, 1)];
        for pod in &before {
            space.kill_process(pod, "rheos-worker engine");
            generation = space.until_checkpoint(&job.name, generation + 1).await;
        }
        assert_eq!(before, [space.pod(&job.name, 0), space.pod(&job.name, 1)], "an engine's end needs no new pod");
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn a_workers_container_crashes_and_comes_back_in_its_pod() {
    scenario("kill-container", async |space| {
        // With one process namespace for the pod, the supervisor is no longer the process that cannot be killed.
        let shared = json!({"worker": {"podTemplate": {"spec": {"shareProcessNamespace": true}}}});
        let (job, mut generation) = running(space, "kill-container", "tumble", 40, &shared).await;
        for index in [1, 0] {
            let pod = space.pod(&job.name, index);
            space.kill_process(&pod, "rheos-worker pod");
            space
                .until_pods(&job.name, "the container's restart", |pods| {
                    let restarts = |pod: &&&Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default() > 0;
                    pods.iter().find(|it| it["metadata"]["name"] == pod.as_str()).filter(restarts).map(drop)
                })
                .await;
            generation = space.until_checkpoint(&job.name, generation + 1).await;
        }
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn an_engine_without_memory_is_told_and_heals() {
    scenario("out-of-memory", async |space| {
        let limited = |memory: &str| json!({"worker": {"resources": {"limits": {"memory": memory}, "requests": {"memory": "16Mi"}}}});
        // The rows that each engine must hold before it may give any out need several times that memory.
        let job = JobSpec { events: 500_000, pace: 50_000, ..JobSpec::new("starved", "hoard", 10) }.with(&limited("32Mi"));
        space.submit(&job);
        space
            .until_job(&job.name, "the lack of memory to be told", |job| job["status"].to_string().contains("OOMKilled").then_some(()))
            .await;
        let fed = job.with(&limited("1Gi"));
        space.submit(&fed);
        space.finishes_exactly(&fed).await;
    });
}

#[test]
fn a_pod_that_its_node_evicts_is_replaced() {
    scenario("evicted", async |space| {
        let little = json!({"worker": {"resources": {"limits": {"ephemeral-storage": "64Mi"}}}});
        // The job has to live until the kubelet looks at volumes: on the bare cluster every ten seconds, by default every minute.
        let (job, generation) = running(space, "evicted", "hop", 90, &little).await;
        let pod = space.pod(&job.name, 1);
        space.kubectl(&["exec", &pod, "-c", "worker", "--", SEND, "fill", "/tmp/fill"]);
        space.until_event(&pod, "Evicted").await;
        space.until_checkpoint(&job.name, generation + 1).await;
        assert_ne!(space.pod(&job.name, 1), pod);
        space.finishes_exactly(&job).await;
    });
}
