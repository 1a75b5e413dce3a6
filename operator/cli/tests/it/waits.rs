//! [io] Commands that change something and wait for it: what they send, when they end, and that Ctrl-C harms nothing.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::apiserver::Key;
use crate::cluster::{Cluster, SQL, degraded, end, status};

const PATCH: &str = "PATCH streamjobs/shop/bids";

fn manifest() -> String {
    let spec =
        json!({"sql": SQL, "parallelism": 2, "checkpoint": {"storage": {"uri": "s3://b/p", "credentialsSecretRef": {"name": "s3"}}}});
    json!({"apiVersion": "rheos.dev/v1alpha1", "kind": "StreamJob", "metadata": {"name": "bids", "uid": "from-get", "resourceVersion": "9"}, "spec": spec, "status": {"phase": "Failed"}}).to_string()
}

#[tokio::test]
async fn submit_applies_what_was_written_and_waits_until_it_runs() {
    let cluster = Cluster::start().await;
    let file = cluster.file("job.json", &manifest());
    let dry = cluster.run(&["submit", &file, "--dry-run"]).await;
    assert!(dry.code == Some(0) && dry.out.contains("nothing was changed"), "{dry:?}");
    assert!(cluster.writes().is_empty() && cluster.job("bids") == Value::Null);
    let child = cluster.spawn(&["submit", &file]);
    cluster.until_asked(PATCH).await;
    let job = cluster.job("bids");
    assert!(job["spec"].get("delivery").is_none() && job.get("status").is_none_or(Value::is_null), "only what was written: {job}");
    cluster.set_status("bids", &status("bids", "Deploying", 1));
    cluster.set_status("bids", &status("bids", "Running", 1));
    let ran = end(child).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "bids: runs on 2 workers\n"), "{}", ran.err);
    assert!(ran.err.contains("shop/bids created"), "{}", ran.err);
    assert!(cluster.run(&["submit", &file, "--no-wait"]).await.err.contains("unchanged"));
}

#[tokio::test]
async fn submit_ends_with_1_when_the_job_does_not_come_up() {
    for (status, words) in [
        (degraded("bids", "Failed", 1, "BadData", "a record is no JSON"), "a record is no JSON"),
        (degraded("bids", "Running", 1, "RolledBack", "revision x was taken back"), "taken back"),
        (degraded("bids", "Created", 1, "InvalidSpec", "spec.sql is wrong"), "spec.sql is wrong"),
    ] {
        let cluster = Cluster::start().await;
        let file = cluster.file("job.json", &manifest());
        let child = cluster.spawn(&["submit", &file]);
        cluster.until_asked(PATCH).await;
        cluster.set_status("bids", &status);
        let ran = end(child).await;
        assert!(ran.code == Some(1) && ran.err.contains(words) && ran.err.contains("kubectl streamjob status bids"), "{ran:?}");
    }
}

#[tokio::test]
async fn suspend_resume_rescale_and_restart_change_one_field_each() {
    let cluster = Cluster::with_job("bids").await;
    let mut generation = 1;
    for (arguments, pointer, value, phase, said) in [
        (&["suspend", "bids"][..], "/spec/state", json!("Suspended"), "Suspended", "bids: suspended\n"),
        (&["resume", "bids"], "/spec/state", json!("Running"), "Running", "bids: runs on 2 workers\n"),
        (&["rescale", "bids", "3"], "/spec/parallelism", json!(3), "Running", "bids: runs on 3 workers\n"),
    ] {
        let child = cluster.spawn(arguments);
        generation += 1;
        cluster.until("the field is changed", || cluster.job("bids")["metadata"]["generation"] == json!(generation)).await;
        assert_eq!(cluster.job("bids").pointer(pointer), Some(&value), "{arguments:?}");
        let mut now = status("bids", phase, generation);
        now["parallelism"]["running"] = cluster.job("bids")["spec"]["parallelism"].clone();
        cluster.set_status("bids", &now);
        let ran = end(child).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), said), "{}", ran.err);
    }
    assert_eq!(cluster.run(&["restart", "bids", "--no-wait"]).await.code, Some(0));
    let job = cluster.job("bids");
    assert!(job["spec"]["worker"]["podTemplate"]["metadata"]["annotations"]["rheos.dev/restarted-at"].is_string(), "{job}");
    assert_eq!(job["spec"]["sql"], json!(SQL));
}

#[tokio::test]
async fn ctrl_c_leaves_the_wait_and_nothing_else() {
    let cluster = Cluster::with_job("bids").await;
    let mut child = cluster.spawn(&["suspend", "bids"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // The first word of progress: it waits.
    let progress = lines.next_line().await.unwrap().unwrap();
    assert!(progress.contains("operator has not answered"), "{progress}");
    let before = (cluster.job("bids"), cluster.writes());
    let id = child.id().unwrap().to_string();
    assert!(tokio::process::Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
    let ran = end(child).await;
    assert_eq!(ran.code, Some(130));
    let mut rest = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        rest += &line;
    }
    assert!(rest.contains("goes on in the cluster") && rest.contains("kubectl streamjob status bids"), "{rest}");
    assert_eq!((cluster.job("bids"), cluster.writes()), before, "the wish stands, and nothing was taken back");
    assert_eq!(cluster.job("bids")["spec"]["state"], "Suspended");
}

#[tokio::test]
async fn following_logs_and_top_are_left_with_0() {
    let cluster = Cluster::with_job("bids").await;
    cluster.pods.logs.lock().unwrap().insert("bids-0123abcd-0-1".into(), "2026-01-01T00:00:01Z one\n".into());
    let mut child = cluster.spawn(&["logs", "bids", "--follow"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "00:00:01.000 w0 one");
    let id = child.id().unwrap().to_string();
    assert!(tokio::process::Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
    assert_eq!(end(child).await.code, Some(0));
}

#[tokio::test]
async fn a_wait_has_an_end_where_one_is_asked_for() {
    let cluster = Cluster::with_job("bids").await;
    let ran = cluster.run(&["suspend", "bids", "--timeout", "1s"]).await;
    assert!(ran.code == Some(6) && ran.err.contains("not within") && ran.err.contains("goes on in the cluster"), "{ran:?}");
}

#[tokio::test]
async fn a_savepoint_is_created_and_waited_for() {
    let cluster = Cluster::with_job("bids").await;
    let key = Key::new("savepoints", "shop", "nightly");
    let child = cluster.spawn(&["savepoint", "bids", "--name", "nightly", "--disposal", "Delete"]);
    cluster.until("it is created", || cluster.server.state().get(&key).is_ok()).await;
    let created = cluster.server.state().get(&key).unwrap();
    assert_eq!((&created["spec"]["job"], &created["spec"]["disposal"]), (&json!("bids"), &json!("Delete")));
    cluster.server.state().set_status(&key, &json!({"phase": "Completed", "uri": "s3://b/p/savepoints/x", "attempts": 1}));
    let ran = end(child).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "nightly: complete: s3://b/p/savepoints/x\n"), "{}", ran.err);
    let again = cluster.run(&["savepoint", "bids", "--name", "nightly"]).await;
    assert!(again.code == Some(1) && again.err.contains("already exists"), "{again:?}");
    let child = cluster.spawn(&["savepoint", "bids", "--name", "second"]);
    let key = Key::new("savepoints", "shop", "second");
    cluster.until("it is created", || cluster.server.state().get(&key).is_ok()).await;
    cluster.server.state().set_status(&key, &json!({"phase": "Failed", "message": "the store is full", "attempts": 3}));
    let ran = end(child).await;
    assert!(ran.code == Some(1) && ran.err.contains("the store is full"), "{ran:?}");
}

#[tokio::test]
async fn delete_takes_a_last_savepoint_where_it_is_asked_for() {
    for complete in [true, false] {
        let cluster = Cluster::with_job("bids").await;
        let job = Key::new("streamjobs", "shop", "bids");
        cluster.server.state().edit(&job, |job| job["metadata"]["finalizers"] = json!(["rheos.dev/finalizer"]));
        let child = cluster.spawn(&["delete", "bids", "--savepoint"]);
        cluster.until("it is being deleted", || cluster.job("bids")["metadata"].get("deletionTimestamp").is_some()).await;
        let deleted = cluster.job("bids");
        assert_eq!(deleted["metadata"]["annotations"]["rheos.dev/savepoint-on-delete"], "true");
        if complete {
            let key = Key::new("savepoints", "shop", "bids-final");
            let last = json!({"metadata": {"labels": {"rheos.dev/origin": "delete"}}, "spec": {"job": "bids"}});
            cluster.server.state().create(&key, last).unwrap();
            let done = json!({"phase": "Completed", "uri": "s3://b/p/last", "jobUid": deleted["metadata"]["uid"], "attempts": 1});
            cluster.server.state().set_status(&key, &done);
        }
        cluster.server.state().edit(&job, |job| job["metadata"]["finalizers"] = json!([]));
        let ran = end(child).await;
        match complete {
            true => {
                assert_eq!((ran.code, ran.out.as_str()), (Some(0), "bids: deleted\nsavepoint bids-final: s3://b/p/last\n"), "{}", ran.err)
            }
            false => assert!(ran.code == Some(1) && ran.err.contains("no last savepoint is complete"), "{ran:?}"),
        }
    }
}

#[tokio::test]
async fn delete_with_a_savepoint_that_cannot_be_taken_deletes_nothing() {
    let cluster = Cluster::with_job("bids").await;
    cluster.set_status("bids", &status("bids", "Suspended", 1));
    let ran = cluster.run(&["delete", "bids", "--savepoint"]).await;
    assert!(ran.code == Some(1) && ran.err.contains("was not deleted"), "{ran:?}");
    assert_eq!(cluster.writes(), [""; 0]);
    assert_eq!(cluster.run(&["delete", "bids"]).await.out, "bids: deleted\n");
}
