//! [io] The support bundle: it holds what helps, and none of the secrets that are all around.

use serde_json::json;

use crate::apiserver::Key;
use crate::cluster::{Cluster, SQL, TOKEN};

/// Secrets in all the places where people put them.
const SECRETS: [&str; 7] = [TOKEN, "hunter2-env", "hunter2-sql", "hunter2-url", "hunter2-log", "hunter2-template", "AKIAIOSFODNN7EXAMPLE"];

#[tokio::test]
async fn a_report_holds_what_helps_and_no_secret() {
    let cluster = Cluster::with_job("bids").await;
    let job = Key::new("streamjobs", "shop", "bids");
    let sql = SQL.replace("'datagen')", "'datagen', 'password' = 'hunter2-sql', 'url' = 'postgres://me:hunter2-url@db/x')");
    cluster.server.state().edit(&job, |job| {
        job["spec"]["sql"] = json!(sql);
        job["spec"]["worker"] =
            json!({"podTemplate": {"spec": {"containers": [{"name": "worker", "env": [{"name": "X", "value": "hunter2-template"}]}]}}});
    });
    let manifest = cluster.job("bids").to_string();
    let snapshot = json!({
        "metadata": {"labels": {"rheos.dev/job": "bids", "rheos.dev/revision": "0123abcd"}}, "data": {"job.json": manifest},
    });
    cluster.server.state().create(&Key::new("configmaps", "shop", "bids-0123abcd"), snapshot).unwrap();
    let log = format!(
        "2026-01-01T00:00:01Z {{\"level\":\"ERROR\",\"message\":\"refused: password=hunter2-log AKIAIOSFODNN7EXAMPLE {TOKEN}\"}}\n"
    );
    cluster.pods.logs.lock().unwrap().insert("bids-0123abcd-0-1".into(), log);
    let ran = cluster.run(&["report", "bids", "--file", "out.tar"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "out.tar\n"), "{}", ran.err);
    let bytes = std::fs::read(cluster.home.path().join("out.tar")).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    for secret in SECRETS {
        let place = text.find(secret).map(|at| text[at.saturating_sub(200)..at + 40].to_owned());
        assert_eq!(place, None, "{secret} is in the report");
    }
    for (name, words) in [
        ("status.txt", "shop/bids"),
        ("job.yaml", "COUNT(*)"),
        ("revisions/bids-0123abcd.yaml", "parallelism: 2"),
        ("pods/bids-0123abcd-0-1.log", "refused: password=***"),
        ("pods/bids-0123abcd-1-1.yaml", "nodeName: node0"),
        ("live/job.yaml", "epoch: 42"),
        ("live/metrics.txt", "rheos_job_running 1"),
        ("missing.txt", "pods/bids-0123abcd-1-1.log"),
        ("about.txt", "v1.34.0"),
    ] {
        assert!(text.contains(name) && text.contains(words), "{name}: {words}");
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(cluster.home.path().join("out.tar")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = cluster.run(&["report", "bids", "--file", "out.tar"]).await;
    assert!(again.code == Some(1) && again.err.contains("--file"), "no file is written over: {again:?}");
    assert_eq!(cluster.writes(), [""; 0]);
}
