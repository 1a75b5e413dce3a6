//! Savepoints: taken by a resource, started from, disposed of.

use rheos_e2e::harness::kubectl::kubectl;
use rheos_e2e::harness::output::{fault_free, objects};
use rheos_e2e::harness::space::LIMIT;
use rheos_e2e::harness::watch::until_object;
use rheos_e2e::harness::{JobSpec, Space, install, scenario, scenario_alone};
use rheos_e2e::oracle::{Difference, compare};
use serde_json::{Value, json};

fn savepoint(space: &Space, name: &str, job: &str, disposal: &str) {
    space.apply(&json!({
        "apiVersion": "rheos.dev/v1alpha1", "kind": "Savepoint", "metadata": {"name": name, "namespace": space.name},
        "spec": {"job": job, "disposal": disposal},
    }));
}

async fn completed(space: &Space, name: &str) -> Value {
    until_object(space.api("Savepoint"), name, "the savepoint to be complete", LIMIT, |savepoint| {
        let status = &savepoint?["status"];
        assert_ne!(status["phase"], "Failed", "{status:#}");
        (status["phase"] == "Completed").then(|| status.clone())
    })
    .await
}

/// The first job goes on after its savepoint, so both write what came in between; each window's row is one row of the
/// fault-free run, whoever writes it, with what the window held on both sides of the savepoint.
#[test]
fn a_deleted_job_is_made_again_from_its_savepoint() {
    scenario("savepoint", async |space| {
        let job = JobSpec::new("saved", "distinct", 30);
        let expected = fault_free(job.shape, job.events).await;
        space.submit(&job);
        space.until_checkpoint(&job.name, 0).await;
        savepoint(space, "before", &job.name, "Retain");
        completed(space, "before").await;
        space.kubectl(&["delete", "streamjob", &job.name, "--timeout=90s"]);
        space.until_pods(&job.name, "no pods", |pods| pods.is_empty().then_some(())).await;
        let again = JobSpec { output: "again".into(), parallelism: 3, ..job.clone() };
        let again = again.with(&json!({"restore": {"from": {"savepoint": "before"}}}));
        space.submit(&again);
        space.until_phase(&again.name, "Finished").await;
        let (first, second) = (space.committed(&job).await, space.committed(&again).await);
        for (table, expected) in &expected {
            let mut together = second[table].clone();
            together.extend(first[table].clone());
            assert_eq!(compare(expected, &together), Difference::default(), "{table}: the two jobs together");
            assert!(second[table].values().all(|count| *count == 1), "{table}: a row is repeated");
            assert!(second[table].len() < expected.len(), "{table}: the second job began anew");
        }
    });
}

#[test]
fn a_savepoint_that_is_deleted_is_disposed_of_also_when_its_job_is_gone() {
    scenario("disposal", async |space| {
        let job = JobSpec::new("saved", "filter", 20);
        space.submit(&job);
        space.until_checkpoint(&job.name, 0).await;
        savepoint(space, "kept", &job.name, "Retain");
        savepoint(space, "gone", &job.name, "Delete");
        let folder = |status: &Value| status["uri"].as_str().unwrap().trim_start_matches("s3://rheos/").to_owned();
        let (kept, gone) = (folder(&completed(space, "kept").await), folder(&completed(space, "gone").await));
        space.kubectl(&["delete", "streamjob", &job.name, "--timeout=90s"]);
        space.kubectl(&["delete", "savepoint", "gone", "--timeout=90s"]);
        space.kubectl(&["delete", "savepoint", "kept", "--timeout=90s"]);
        let store = space.store();
        assert!(objects(store.as_ref(), gone.trim_end_matches('/')).await.is_empty(), "the disposed savepoint is still there");
        assert!(!objects(store.as_ref(), kept.trim_end_matches('/')).await.is_empty(), "the retained savepoint is gone");
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
