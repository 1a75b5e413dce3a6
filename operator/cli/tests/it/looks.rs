//! [io] Commands that only look: `list`, `status`, `events`, `logs`, `top`, `diff`, `explain`, completion.

use serde_json::{Value, json};

use crate::apiserver::Key;
use crate::cluster::{Cluster, SQL, alone, degraded};

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn list_tells_all_jobs_in_every_form() {
    let cluster = Cluster::with_job("bids").await;
    cluster.add_job("asks", "Failed");
    let table = cluster.run(&["list"]).await;
    assert_eq!(table.code, Some(0), "{table:?}");
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[1].starts_with("asks") && lines[2].starts_with("bids"), "{}", table.out);
    assert!(lines[2].contains("Running") && lines[2].contains("2/2") && !table.out.contains('\u{1b}'), "{}", table.out);
    let jobs = read(&cluster.run(&["list", "-o", "json"]).await.out);
    assert_eq!((&jobs[1]["name"], &jobs[1]["well"], &jobs[0]["well"]), (&json!("bids"), &json!(true), &json!(false)));
    let yaml = cluster.run(&["list", "-o", "yaml"]).await.out;
    assert!(yaml.contains("name: bids"), "{yaml}");
    assert!(cluster.run(&["list", "-A"]).await.out.starts_with("NAMESPACE"));
    let elsewhere = cluster.run(&["list", "-n", "empty"]).await;
    assert_eq!((elsewhere.code, elsewhere.out.as_str()), (Some(0), ""));
    assert!(elsewhere.err.contains("no StreamJobs in namespace empty"), "{}", elsewhere.err);
    assert!(cluster.run(&["--color", "always", "list"]).await.out.contains('\u{1b}'), "colours where they are asked for");
}

#[tokio::test]
async fn status_has_live_figures_through_a_forwarded_port() {
    let cluster = Cluster::with_job("bids").await;
    let page = cluster.run(&["status", "bids"]).await;
    assert_eq!(page.code, Some(0), "{page:?}");
    for words in
        ["shop/bids  Running", "12.3k rows/s read", "watermark 1.50 s behind", "3 complete, none failed", "▃█▆", "bids-0123abcd-0-1 *"]
    {
        assert!(page.out.contains(words), "{words}: {}", page.out);
    }
    let value = read(&cluster.run(&["status", "bids", "-o", "json"]).await.out);
    assert_eq!((&value["live"]["epoch"], &value["well"]), (&json!(42), &json!(true)));
}

#[tokio::test]
async fn status_without_the_right_to_the_figures_says_so_and_shows_the_rest() {
    let cluster = Cluster::with_job("bids").await;
    for right in ["/secrets/bids-token", "/portforward", "/events"] {
        cluster.pods.forbidden.lock().unwrap().push(right);
        let page = cluster.run(&["status", "bids"]).await;
        assert_eq!(page.code, Some(0), "{page:?}");
        assert!(page.out.contains("not known: ") && page.out.contains("you may not"), "{}", page.out);
        assert!(page.out.contains("the last known") && page.out.contains("bids-0123abcd-1-1"), "{}", page.out);
    }
    let page = cluster.run(&["status", "bids"]).await;
    assert!(page.err.contains("not shown: listing events"), "{}", page.err);
}

#[tokio::test]
async fn status_of_a_sick_job_says_what_to_do() {
    let cluster = Cluster::with_job("bids").await;
    assert_eq!(cluster.run(&["status", "bids", "--check"]).await.code, Some(0));
    cluster.set_status("bids", &degraded("bids", "Failing", 1, "OOMKilled", "worker 1 used more than 256Mi"));
    let page = cluster.run(&["status", "bids"]).await;
    assert_eq!(page.code, Some(0));
    assert!(
        page.out.contains("OOMKilled: worker 1") && page.out.contains("What to do next") && page.out.contains("limits.memory"),
        "{}",
        page.out
    );
    assert_eq!(cluster.run(&["status", "bids", "--check"]).await.code, Some(1));
}

#[tokio::test]
async fn events_of_a_job_are_told_and_those_of_others_are_not() {
    let cluster = Cluster::with_job("bids").await;
    for (name, about, note) in [("e1", "bids", "stable now"), ("e2", "other", "not this one")] {
        let event = json!({
            "metadata": {}, "regarding": {"kind": "StreamJob", "name": about}, "reason": "Stable", "note": note, "type": "Normal",
            "eventTime": "2023-11-14T22:13:20.000000Z",
        });
        cluster.server.state().create(&Key::new("events", "shop", name), event).unwrap();
    }
    let table = cluster.run(&["events", "bids"]).await;
    assert!(table.out.contains("stable now") && !table.out.contains("not this one"), "{}", table.out);
    assert_eq!(read(&cluster.run(&["events", "bids", "-o", "json"]).await.out)[0]["reason"], "Stable");
    assert_eq!(cluster.run(&["events", "bidz"]).await.code, Some(3));
}

#[tokio::test]
async fn logs_of_all_workers_are_one_story() {
    let cluster = Cluster::with_job("bids").await;
    let set = |index: usize, text: &str| cluster.pods.logs.lock().unwrap().insert(format!("bids-0123abcd-{index}-1"), text.into());
    set(
        0,
        "2026-01-01T00:00:01Z {\"level\":\"INFO\",\"message\":\"one\"}\n2026-01-01T00:00:03Z {\"level\":\"WARN\",\"message\":\"three\"}\n",
    );
    set(1, "2026-01-01T00:00:02Z {\"level\":\"INFO\",\"message\":\"two\",\"epoch\":7}\n");
    let ran = cluster.run(&["logs", "bids"]).await;
    assert_eq!(ran.out, "00:00:01.000 w0 INFO  one\n00:00:02.000 w1 INFO  two epoch=7\n00:00:03.000 w0 WARN  three\n", "{ran:?}");
    let one = cluster.run(&["logs", "bids", "--worker", "1", "-o", "raw"]).await;
    assert_eq!(one.out.lines().count(), 1);
    assert!(one.out.contains("bids-0123abcd-1-1 {\"level\""), "{}", one.out);
    cluster.pods.logs.lock().unwrap().remove("bids-0123abcd-1-1");
    let ran = cluster.run(&["logs", "bids"]).await;
    assert!(ran.code == Some(0) && ran.out.lines().count() == 2 && ran.err.contains("waiting to start"), "{ran:?}");
}

#[tokio::test]
async fn top_shows_rates_between_two_looks() {
    let cluster = Cluster::with_job("bids").await;
    let ran = cluster.run(&["top", "bids", "--interval", "100ms", "-o", "json"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let value = read(&ran.out);
    let rate = value["operators"][0]["rowsInPerSecond"].as_f64().unwrap();
    assert!((1_000.0..=11_000.0).contains(&rate), "1,000 rows in at least 100 ms: {rate}");
    let page = cluster.run(&["top", "bids", "--interval", "100ms"]).await;
    assert!(page.out.contains("group-aggregate:bid:2") && page.out.contains("no back-pressure"), "{}", page.out);
    cluster.pods.forbidden.lock().unwrap().push("/portforward");
    let ran = cluster.run(&["top", "bids"]).await;
    assert!(ran.code == Some(1) && ran.err.contains("no live figures"), "{ran:?}");
}

#[tokio::test]
async fn diff_tells_the_class_and_whether_state_carries_over() {
    let cluster = Cluster::with_job("bids").await;
    let manifest = |sql: &str, more: &str| {
        let spec =
            format!("{{sql: {}, {more} checkpoint: {{storage: {{uri: \"s3://b/p\", credentialsSecretRef: {{name: s3}}}}}}}}", json!(sql));
        cluster.file("job.yaml", &format!("apiVersion: rheos.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: bids}}\nspec: {spec}\n"))
    };
    let same = manifest(SQL, "parallelism: 2,");
    assert_eq!(cluster.run(&["diff", &same]).await.out, "no change\n");
    let rescaled = read(&cluster.run(&["diff", &manifest(SQL, "parallelism: 3,"), "-o", "json"]).await.out);
    assert_eq!((&rescaled["class"], &rescaled["state"]["carriesOver"]), (&json!("Rescale"), &json!(true)));
    let edited = SQL.replace("COUNT(*)", "SUM(price)");
    let ran = cluster.run(&["diff", &manifest(&edited, "parallelism: 2,")]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("This is: Redeploy") && ran.out.contains("does not fit"), "{}", ran.out);
    assert!(ran.out.contains("- INSERT INTO counts SELECT auction, COUNT(*)") && ran.out.contains("+ INSERT INTO counts"), "{}", ran.out);
    let refused = cluster.run(&["diff", &manifest(SQL, "parallelism: 2, maxParallelism: 64,")]).await;
    assert!(refused.code == Some(1) && refused.err.contains("maxParallelism cannot change"), "{refused:?}");
    assert_eq!(cluster.writes(), [""; 0]);
}

#[tokio::test]
async fn explain_needs_no_cluster() {
    let cluster = Cluster::start().await;
    let file = cluster.file(
        "job.yaml",
        &format!("apiVersion: rheos.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: a}}\nspec: {{sql: {}}}\n", json!(SQL)),
    );
    let text = alone(&["explain", &file]).await;
    assert!(text.code == Some(0) && text.out.starts_with("sink:counts"), "{text:?}");
    assert!(alone(&["explain", &file, "-o", "mermaid"]).await.out.starts_with("flowchart TD\n"));
    assert!(alone(&["explain", &file, "-o", "svg"]).await.out.starts_with("<svg "));
    assert!(read(&alone(&["explain", &file, "-o", "json"]).await.out)["nodes"].as_array().unwrap().len() >= 3);
}

#[tokio::test]
async fn completion_knows_commands_options_and_jobs() {
    let cluster = Cluster::with_job("bids").await;
    for shell in ["bash", "zsh", "fish"] {
        let script = alone(&["completion", shell]).await;
        assert!(script.code == Some(0) && script.out.contains("savepoint") && script.out.contains("kubectl-streamjob"), "{shell}");
    }
    assert!(alone(&["completion", "kubectl"]).await.out.starts_with("#!/bin/sh"));
    assert_eq!(cluster.run(&["__complete", "--", "status", "b"]).await.out, "bids\n:4\n");
    assert_eq!(cluster.run(&["__complete", "--", "res"]).await.out, "results\nresume\nrescale\nrestart\n:4\n");
    assert_eq!(cluster.run(&["__complete", "--", "delete", "bids", "--savep"]).await.out, "--savepoint\n:4\n");
    assert_eq!(cluster.run(&["__complete", "--", "submit", ""]).await.out, ":0\n");
}
