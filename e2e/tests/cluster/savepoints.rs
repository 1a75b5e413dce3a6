//! Savepoints: taken by a resource, started from, disposed of.

use rheos_e2e::harness::output::{fault_free, objects};
use rheos_e2e::harness::{JobSpec, scenario};
use rheos_e2e::oracle::{Difference, compare};
use serde_json::{Value, json};

use crate::support::{completed, savepoint};

/// The first job goes on after its savepoint, so both write what came in between; each window's row is one row of the
/// fault-free run, whoever writes it, with what the window held on both sides of the savepoint.
#[test]
fn a_deleted_job_is_made_again_from_its_savepoint() {
    scenario("savepoint", async |space| {
        let job = JobSpec::new("saved", "distinct", 30);
        let expected = fault_free(job.shape, job.events).await;
        space.submit(&job);
        // With rows from before it, the two outputs tell whether the second job begins where the savepoint is.
        space.until_committed(&job).await;
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
