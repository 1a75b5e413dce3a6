//! What scenarios share.

use rheos_e2e::harness::space::LIMIT;
use rheos_e2e::harness::watch::until_object;
use rheos_e2e::harness::{JobSpec, Space};
use serde_json::{Value, json};

/// A job of two workers that has completed a checkpoint, and its generation.
pub(crate) async fn running(space: &Space, name: &str, shape: &str, seconds: u64, more: &Value) -> (JobSpec, u64) {
    let job = JobSpec::new(name, shape, seconds).with(more);
    space.submit(&job);
    let generation = space.until_checkpoint(&job.name, 0).await;
    (job, generation)
}

/// Whether one of a job's conditions is as asked.
pub(crate) fn any_condition(job: &Value, wanted: impl Fn(&Value) -> bool) -> Option<()> {
    job["status"]["conditions"].as_array()?.iter().any(wanted).then_some(())
}

/// The job with another text of its SQL, and so another revision, but the same operators and the same rows.
pub(crate) fn edited(job: &JobSpec, space: &Space, word: &str) -> JobSpec {
    const PLACE: &str = "CREATE VIEW bid AS";
    let sql = job.sql(&space.name);
    assert!(sql.contains(PLACE), "{sql}");
    job.clone().with(&json!({"sql": sql.replacen(PLACE, &format!("-- {word}\n{PLACE}"), 1)}))
}

/// Asks for a savepoint.
pub(crate) fn savepoint(space: &Space, name: &str, job: &str, disposal: &str) {
    space.apply(&json!({
        "apiVersion": "rheos.dev/v1alpha1", "kind": "Savepoint", "metadata": {"name": name, "namespace": space.name},
        "spec": {"job": job, "disposal": disposal},
    }));
}

/// Waits until a savepoint is complete: its status.
pub(crate) async fn completed(space: &Space, name: &str) -> Value {
    until_object(space.api("Savepoint"), name, "the savepoint to be complete", LIMIT, |savepoint| {
        let status = &savepoint?["status"];
        assert_ne!(status["phase"], "Failed", "{status:#}");
        (status["phase"] == "Completed").then(|| status.clone())
    })
    .await
}
