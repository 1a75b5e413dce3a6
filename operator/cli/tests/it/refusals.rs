//! [io] Bad input and bad luck: every one has its exit code and says what to do, and nothing is changed.

use serde_json::json;

use crate::cluster::{Cluster, SQL, alone};

fn manifest(sql: &str, more: &str) -> String {
    let storage = "checkpoint: {storage: {uri: \"s3://b/p\", credentialsSecretRef: {name: s3}}}";
    format!("apiVersion: rheos.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: bids}}\nspec: {{sql: {}, {more} {storage}}}\n", json!(sql))
}

#[tokio::test]
async fn a_manifest_or_sql_that_is_wrong_is_refused_before_anything_is_sent() {
    let cluster = Cluster::start().await;
    for (text, words) in [
        (manifest(&SQL.replace("COUNT(*)", "NOPE(*)"), ""), vec!["spec.sql: 3:", "NOPE"]),
        (manifest(&SQL.replace("'print'", "'prinnt'"), ""), vec!["spec.sql", "prinnt", "print"]),
        (manifest(SQL, "parallelism: 0,"), vec!["spec.parallelism"]),
        (manifest(SQL, "parallelism: 5, worker: {slots: 2},"), vec!["spread evenly"]),
        (manifest(SQL, "paralelism: 2,"), vec!["paralelism", "did you mean"]),
        ("kind: Pod\n".to_owned(), vec!["StreamJob"]),
        (String::new(), vec!["empty"]),
        ("\u{0}\u{1}{{{{".to_owned(), vec!["line 1"]),
        (format!("{}: 1\n", "a".repeat(2 << 20)), vec!["bytes"]),
    ] {
        let file = cluster.file("bad.yaml", &text);
        for command in ["submit", "diff", "explain"] {
            let ran = cluster.run(&[command, &file]).await;
            assert_eq!(ran.code, Some(2), "{command} {text:.200}: {}", ran.err);
            for words in &words {
                assert!(ran.err.contains(words), "{command}: {words:?} is not in {}", ran.err);
            }
            assert!(ran.out.is_empty(), "{}", ran.out);
        }
    }
    assert_eq!(cluster.writes(), [""; 0]);
    assert_eq!(cluster.run(&["submit", "/nonexistent.yaml"]).await.code, Some(2));
}

#[tokio::test]
async fn a_command_line_that_is_wrong_is_refused() {
    for arguments in [
        &["sttus"][..],
        &["status"],
        &["rescale", "bids", "many"],
        &["rescale", "bids"],
        &["top", "bids", "--interval", "0s"],
        &["list", "-o", "xml"],
        &["suspend", "bids", "--timeout", "soon"],
    ] {
        let ran = alone(arguments).await;
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains("error:"), "{}", ran.err);
    }
    assert_eq!(alone(&["--version"]).await.code, Some(0));
}

#[tokio::test]
async fn a_job_that_is_not_there_is_told_with_the_nearest_name() {
    let cluster = Cluster::with_job("bids").await;
    for arguments in [
        &["status", "bidz"][..],
        &["suspend", "bidz"],
        &["rescale", "bidz", "3"],
        &["delete", "bidz"],
        &["savepoint", "bidz"],
        &["logs", "bidz"],
        &["top", "bidz"],
        &["report", "bidz"],
    ] {
        let ran = cluster.run(arguments).await;
        assert_eq!(ran.code, Some(3), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains("no StreamJob bidz in namespace shop") && ran.err.contains("did you mean bids?"), "{}", ran.err);
    }
    assert_eq!(cluster.writes(), [""; 0]);
}

#[tokio::test]
async fn without_a_cluster_or_the_right_there_is_a_code_for_each() {
    let nowhere = alone(&["list"]).await;
    assert!(nowhere.code == Some(4) && nowhere.err.contains("KUBECONFIG"), "{nowhere:?}");
    let cluster = Cluster::with_job("bids").await;
    let config = cluster.file("dead", &json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "m", "users": [{"name": "m", "user": {}}],
        "clusters": [{"name": "m", "cluster": {"server": "http://127.0.0.1:1"}}], "contexts": [{"name": "m", "context": {"cluster": "m", "user": "m"}}],
    }).to_string());
    let dead = cluster.run(&["--kubeconfig", &config, "list"]).await;
    assert!(dead.code == Some(4) && dead.err.contains("listing StreamJobs"), "{dead:?}");
    cluster.pods.forbidden.lock().unwrap().push("/streamjobs/bids");
    let forbidden = cluster.run(&["suspend", "bids"]).await;
    assert!(forbidden.code == Some(5) && forbidden.err.contains("you may not") && forbidden.err.contains("README"), "{forbidden:?}");
}

#[tokio::test]
async fn a_number_of_workers_that_cannot_be_is_refused() {
    let cluster = Cluster::with_job("bids").await;
    for number in ["0", "129", "40000"] {
        let ran = cluster.run(&["rescale", "bids", number]).await;
        assert!(ran.code == Some(2) && ran.err.contains("spec.parallelism"), "{number}: {ran:?}");
    }
    assert_eq!(cluster.writes(), [""; 0]);
}

#[tokio::test]
async fn namespaces_that_disagree_are_refused() {
    let cluster = Cluster::start().await;
    let file = cluster.file("job.yaml", &manifest(SQL, "").replace("{name: bids}", "{name: bids, namespace: here}"));
    let ran = cluster.run(&["submit", &file, "-n", "there"]).await;
    assert!(ran.code == Some(2) && ran.err.contains("here") && ran.err.contains("there"), "{ran:?}");
}
