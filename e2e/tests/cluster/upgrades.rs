//! Changes of a running job: SQL that keeps its state, an image that does not exist, SQL that cannot run.

use rheos_e2e::harness::output::fault_free;
use rheos_e2e::harness::{JobSpec, scenario};
use serde_json::{Value, json};

use crate::support::{any_condition, edited};

fn revision(job: &Value) -> Option<String> {
    job["status"]["revision"].as_str().map(str::to_owned)
}

#[test]
fn a_new_sql_keeps_the_state() {
    scenario("upgrade", async |space| {
        let job = JobSpec::new("edited", "tumble", 40);
        space.submit(&job);
        let generation = space.until_checkpoint(&job.name, 0).await;
        let before = revision(&space.job(&job.name));
        space.submit(&edited(&job, space, "an edit"));
        space.until_checkpoint(&job.name, generation + 1).await;
        space.until_job(&job.name, "the new revision to be told", |job| (revision(job) != before).then_some(())).await;
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn an_image_that_does_not_exist_is_rolled_back() {
    scenario("bad-image", async |space| {
        let job = JobSpec::new("rolled-back", "hop", 100);
        space.submit(&job);
        let generation = space.until_checkpoint(&job.name, 0).await;
        let before = revision(&space.job(&job.name));
        space.submit(&job.clone().with(&json!({"worker": {"image": "rheos.dev/no-such-image:none"}})));
        space
            .until_job(&job.name, "the roll-back to be told", |job| {
                any_condition(job, |it| it["type"] == "Degraded" && it["reason"] == "RolledBack")?;
                (revision(job) == before && job["status"]["phase"] == "Running").then_some(())
            })
            .await;
        space.until_checkpoint(&job.name, generation).await;
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn twenty_edits_in_a_second_end_with_the_last() {
    scenario("many-edits", async |space| {
        let job = JobSpec::new("edited", "filter", 40);
        space.submit(&job);
        space.until_checkpoint(&job.name, 0).await;
        for edit in 0..20 {
            space.submit(&edited(&job, space, &format!("edit {edit}")));
        }
        space.submit(&job);
        space.until_phase(&job.name, "Running").await;
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn an_incompatible_change_is_refused_while_the_old_job_runs_on() {
    scenario("incompatible", async |space| {
        let job = JobSpec::new("kept", "tumble", 50);
        space.submit(&job);
        let generation = space.until_checkpoint(&job.name, 0).await;
        let expected = fault_free(job.shape, job.events).await;
        let other = job.sql(&space.name).replace("MAX(price)", "COUNT(DISTINCT price)");
        space.submit(&job.clone().with(&json!({"sql": other})));
        space.until_job(&job.name, "the refusal", |job| any_condition(job, |it| it["type"] == "Degraded" && it["status"] == "True")).await;
        space.submit(&job);
        space.until_checkpoint(&job.name, generation).await;
        space.until_phase(&job.name, "Finished").await;
        space.holds_exactly(&job, &expected).await;
    });
}
