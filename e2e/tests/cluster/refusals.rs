//! What cannot run says so in its conditions, and heals when it is put right.

use rheos_e2e::harness::kubectl::{apply, kubectl};
use rheos_e2e::harness::output::{committed, fault_free};
use rheos_e2e::harness::{JobSpec, Space, scenario};
use rheos_e2e::oracle::{Difference, compare};
use serde_json::{Value, json};

use crate::support::{any_condition, edited, running};

/// Waits until a condition that is not as it should be names `word`.
async fn told(space: &Space, job: &str, word: &str) {
    space
        .until_job(job, &format!("a condition that names {word}"), |job| {
            any_condition(job, |it| it["reason"].to_string().contains(word) || it["message"].to_string().contains(word))
        })
        .await;
}

#[test]
fn a_bad_spec_is_told_and_runs_when_it_is_fixed() {
    scenario("bad-spec", async |space| {
        let job = JobSpec::new("fixed", "tumble", 10);
        let refused = apply(&job.clone().with(&json!({"parallelism": 0})).manifest(&space.name, &space.endpoint).to_string());
        assert!(refused.expect_err("the apiserver takes no parallelism of 0").contains("parallelism"));
        let sql = "CREATE TABLE a (b BIGINT) WITH ('connector' = 'nowhere'); INSERT INTO a SELECT b FROM a;";
        space.submit(&job.clone().with(&json!({"sql": sql})));
        told(space, &job.name, "nowhere").await;
        space.submit(&job);
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn a_job_without_a_store_is_refused_until_it_names_one() {
    scenario("no-store", async |space| {
        let job = JobSpec::new("homeless", "filter", 10);
        space.submit(&job.clone().with(&json!({"checkpoint": {"storage": null}})));
        told(space, &job.name, "spec.checkpoint.storage").await;
        space.until_pods(&job.name, "no pods", |pods| pods.is_empty().then_some(())).await;
        space.submit(&job);
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn max_parallelism_never_changes() {
    scenario("immutable", async |space| {
        let job = JobSpec::new("fixed", "filter", 10);
        space.submit(&job);
        let refused = apply(&job.clone().with(&json!({"maxParallelism": 32})).manifest(&space.name, &space.endpoint).to_string());
        assert!(refused.expect_err("the apiserver refuses it").contains("maxParallelism"));
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn wrong_credentials_are_told_and_heal() {
    scenario("credentials", async |space| {
        let secret = |key: &str| {
            space.apply(&json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3", "namespace": space.name},
                "stringData": {"AWS_ACCESS_KEY_ID": "rheos-test", "AWS_SECRET_ACCESS_KEY": key},
            }));
        };
        secret("wrong");
        let job = JobSpec::new("locked-out", "filter", 10);
        space.submit(&job);
        told(space, &job.name, "AccessDenied").await;
        secret("rheos-test-secret");
        // Nobody touches the pods: their containers read the Secret again whenever they start.
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn a_secret_that_the_sql_names_and_nobody_made_is_told_and_heals() {
    scenario("no-secret", async |space| {
        // Nobody listens there: what comes after the Secret is another trouble.
        let sql = "CREATE TABLE orders (id BIGINT) WITH ('connector' = 'kafka', 'topic' = 'orders', 'format' = 'json',
              'scan.startup.mode' = 'earliest-offset', 'properties.bootstrap.servers' = '127.0.0.1:9',
              'properties.sasl.password' = '${secret:broker/password}');
            CREATE TABLE out (id BIGINT) WITH ('connector' = 'blackhole');
            INSERT INTO out SELECT id FROM orders;";
        let job = JobSpec::new("unnamed", "filter", 10).with(&json!({"sql": sql}));
        space.submit(&job);
        told(space, &job.name, "no key 'password' in a Secret 'broker'").await;
        space.kubectl(&["create", "secret", "generic", "broker", "--from-literal=password=broker-secret"]);
        let restarted = |job: &Value| job["status"]["lastRestart"]["message"].as_str().filter(|why| why.contains("kafka")).map(drop);
        space.until_job(&job.name, "a restart because of the brokers", restarted).await;
    });
}

#[test]
fn a_tight_quota_is_told_and_heals() {
    scenario("quota", async |space| {
        space.kubectl(&["create", "quota", "tight", "--hard=pods=1"]);
        let job = JobSpec::new("squeezed", "filter", 10);
        space.submit(&job);
        told(space, &job.name, "quota").await;
        space.kubectl(&["delete", "quota", "tight"]);
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn an_upgrade_without_room_for_both_stops_the_old_pods_first() {
    scenario("no-room", async |space| {
        let (job, generation) = running(space, "squeezed", "hop", 90, &json!({})).await;
        space.kubectl(&["create", "quota", "tight", "--hard=pods=3"]);
        space.submit(&edited(&job, space, "an edit"));
        space.until_event(&job.name, "MakingRoom").await;
        space.until_checkpoint(&job.name, generation + 1).await;
        space.until_pods(&job.name, "two pods", |pods| (pods.len() == 2).then_some(())).await;
        space.finishes_exactly(&job).await;
    });
}

#[test]
fn two_namespaces_hold_jobs_of_one_name() {
    scenario("twins-a", async |space| {
        let other = format!("{}-b", space.name);
        let _ = kubectl(&["delete", "namespace", &other, "--ignore-not-found", "--timeout=60s"]);
        let secret = space.kubectl(&["get", "secret", "s3", "-o", "json"]);
        let mut secret: Value = serde_json::from_str(&secret).unwrap();
        secret["metadata"] = json!({"name": "s3", "namespace": other});
        apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}}).to_string()).unwrap();
        apply(&secret.to_string()).unwrap();
        let job = JobSpec::new("twin", "filter", 15);
        let there = JobSpec::new("twin", "tumble", 15);
        space.submit(&job);
        apply(&there.manifest(&other, &space.endpoint).to_string()).unwrap();
        space.finishes_exactly(&job).await;
        let finished = "--for=jsonpath={.status.phase}=Finished";
        kubectl(&["wait", "-n", &other, "streamjob/twin", finished, "--timeout=55s"]).unwrap();
        let expected = fault_free(there.shape, there.events).await;
        let outputs = committed(space.store().as_ref(), there.shape, &there.folder(&other)).await.unwrap();
        for (table, rows) in &expected {
            assert_eq!(compare(rows, &outputs[table]), Difference::default(), "{table} of the other namespace");
        }
        kubectl(&["delete", "namespace", &other, "--wait=false"]).unwrap();
    });
}
