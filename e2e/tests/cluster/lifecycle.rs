//! A job's life without faults: first start, scale, suspension.

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
fn a_job_scales_from_one_to_three_to_two() {
    scenario("scale", async |space| {
        let job = JobSpec::new("scaled", "distinct", 60).with(&json!({"parallelism": 1}));
        space.submit(&job);
        let mut generation = space.until_checkpoint(&job.name, 0).await;
        for parallelism in [3_u64, 2] {
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
        space.until_pods(&job.name, "two pods", |pods| (pods.len() == 2).then_some(())).await;
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
