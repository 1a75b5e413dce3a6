//! A job's life without faults: first start, scale, suspension.

use rheos_e2e::harness::kubectl::kubectl;
use rheos_e2e::harness::{JobSpec, scenario};
use serde_json::json;

#[test]
fn the_first_job_runs_and_finishes() {
    scenario("first-job", async |space| {
        let job = JobSpec::new("first", "tumble", 15);
        space.submit(&job);
        space.until_phase(&job.name, "Running").await;
        space.until_pods(&job.name, "two ready workers", |pods| (pods.len() == 2).then_some(())).await;
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn a_job_scales_from_one_to_three_to_two_to_its_maximum() {
    const MOST: u64 = 4;
    scenario("scale", async |space| {
        let job = JobSpec::new("scaled", "distinct", 80).with(&json!({"parallelism": 1, "maxParallelism": MOST}));
        space.submit(&job);
        let mut generation = space.until_checkpoint(&job.name, 0).await;
        for parallelism in [3, 2, MOST] {
            space.kubectl(&["scale", "streamjob", &job.name, &format!("--replicas={parallelism}")]);
            space
                .until_job(&job.name, &format!("{parallelism} workers"), |job| {
                    let status = &job["status"];
                    let done = status["phase"] == "Running" && status["observedGeneration"] == job["metadata"]["generation"];
                    (done && status["parallelism"]["running"].as_u64() == Some(parallelism)).then_some(())
                })
                .await;
            generation = space.until_checkpoint(&job.name, generation + 1).await;
        }
        space.until_pods(&job.name, "four pods", |pods| (pods.len() as u64 == MOST).then_some(())).await;
        let above = kubectl(&["scale", "streamjob", &job.name, "-n", &space.name, &format!("--replicas={}", MOST + 1)]);
        assert!(above.expect_err("more than the maximum is refused").contains("maxParallelism"));
        let restarts = space.until_job(&job.name, "the job", |job| Some(job["status"]["restarts"].as_u64())).await;
        assert_eq!(restarts.unwrap_or(0), 0, "what was asked for is no restart");
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn a_suspended_job_has_no_pods_and_goes_on_where_it_stopped() {
    scenario("suspend", async |space| {
        let job = JobSpec::new("paused", "group", 30);
        space.submit(&job);
        space.until_checkpoint(&job.name, 0).await;
        space.submit(&job.clone().with(&json!({"state": "Suspended"})));
        space.until_phase(&job.name, "Suspended").await;
        space.until_pods(&job.name, "no pods", |pods| pods.is_empty().then_some(())).await;
        space.submit(&job);
        space.until_phase(&job.name, "Running").await;
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn a_job_that_is_deleted_and_made_again_at_once_is_another_job() {
    scenario("again", async |space| {
        let job = JobSpec::new("phoenix", "tumble", 40);
        space.submit(&job);
        space.until_checkpoint(&job.name, 0).await;
        space.kubectl(&["delete", "streamjob", &job.name, "--timeout=60s"]);
        // Its ConfigMap, Service and Secret may be there for a while: the garbage collector is not waited for.
        let again = JobSpec { output: "again".into(), events: 40_000, ..job };
        space.submit(&again);
        space.finishes_exactly(&again).await;
    });
}
