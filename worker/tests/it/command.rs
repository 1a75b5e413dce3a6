//! The command line: what is refused, how, and with which exit code. Nothing here starts an engine.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rheos_worker::run::data_dir::DataDir;

const HEAD: &str = "apiVersion: rheos.dev/v1alpha1\nkind: StreamJob\nmetadata: {name: job}\nspec:\n";
const GOOD: &str = "  sql: |\n    CREATE TABLE a (id BIGINT) WITH ('connector' = 'datagen');\n    CREATE TABLE b (id BIGINT) WITH ('connector' = 'blackhole');\n    INSERT INTO b SELECT id FROM a;\n";

fn worker(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rheos-worker")).args(arguments).current_dir(folder).output().unwrap()
}

/// Exit code and standard error of `run` over a manifest.
fn run(spec: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("job.yaml"), format!("{HEAD}{spec}")).unwrap();
    let output = worker(folder.path(), &[&["run", "job.yaml"], arguments].concat());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_invalid_manifest_ends_with_2_and_all_its_errors() {
    let (code, text) = run(&format!("{GOOD}  parallelism: 0\n  checkpoint: {{interval: 1ms, retain: 0}}\n"), &[]);
    assert_eq!(code, Some(2));
    for path in ["job.yaml: spec.parallelism: ", "job.yaml: spec.checkpoint.interval: ", "job.yaml: spec.checkpoint.retain: "] {
        assert!(text.contains(path), "{path}\n{text}");
    }
    let (code, text) = run(&format!("{GOOD}  paralelism: 2\n"), &[]);
    assert!(code == Some(2) && text.contains("did you mean \"parallelism\"?"), "{text}");
    let (code, text) = run(GOOD, &["--parallelism", "129"]);
    assert!(code == Some(2) && text.contains("spec.parallelism: 129"), "{text}");
}

#[test]
fn invalid_sql_ends_with_2_and_its_place() {
    let (code, text) = run("  sql: |\n    INSERT INTO a SELECT nothing;\n", &[]);
    assert!(code == Some(2) && text.contains("job.yaml: spec.sql: 1:"), "{text}");
    let (code, text) = run(&GOOD.replace("blackhole", "blackhall"), &[]);
    assert!(code == Some(2) && text.contains("blackhole"), "{text}");
}

#[test]
fn what_needs_a_cluster_is_refused_by_name() {
    for (spec, field) in [
        ("  sqlFrom: {configMapKeyRef: {name: a, key: b}}\n".to_owned(), "spec.sqlFrom"),
        (format!("{GOOD}  restore: {{from: {{savepoint: a}}}}\n"), "spec.restore.from.savepoint"),
        (format!("{GOOD}  replication: {{replicas: 2}}\n"), "spec.replication.replicas"),
    ] {
        let (code, text) = run(&spec, &[]);
        assert!(code == Some(2) && text.contains(field), "{text}");
    }
}

#[test]
fn a_file_that_is_not_there_and_a_wrong_option_end_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let output = worker(folder.path(), &["run", "nothing.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing.yaml"));
    assert_eq!(worker(folder.path(), &["run", "x.yaml", "--parallel", "2"]).status.code(), Some(2));
}

#[test]
fn a_data_directory_in_use_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("job.yaml"), format!("{HEAD}{GOOD}")).unwrap();
    let _data = DataDir::open(&folder.path().join(".rheos")).unwrap();
    let output = worker(folder.path(), &["run", "job.yaml"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("in use by another run"), "{text}");
    assert!(!folder.path().join(".rheos/jobs").exists());
}

#[test]
fn a_suspended_job_is_not_run() {
    let (code, text) = run(&format!("{GOOD}  state: Suspended\n"), &[]);
    assert!(code == Some(0) && text.contains("Suspended"), "{text}");
}

#[test]
fn explain_shows_the_graph_of_the_examples() {
    let examples = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../crds/examples");
    let expected = [
        ("bids-per-auction.yaml", ["busiest", "events", "TUMBLE"]),
        ("files.yaml", ["source orders (filesystem)", "sink dear (filesystem)", "watermark placed - 1min"]),
        ("postgres.yaml", ["source prices (jdbc)", "sink takings (jdbc)", "sink dear (jdbc)"]),
        ("lookup.yaml", ["source orders (datagen)", "LEFT JOIN rates (jdbc)", "sink priced (print)"]),
        ("kafka.yaml", ["source orders (kafka)", "sink dear (kafka)", "TUMBLE"]),
    ];
    for (example, words) in expected {
        let output = worker(&examples, &["explain", example]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for word in words {
            assert!(text.contains(word), "{word}\n{text}");
        }
    }
}

#[test]
fn a_pod_that_cannot_run_says_why_in_its_termination_message() {
    let folder = tempfile::tempdir().unwrap();
    let sql = "CREATE TABLE a (id BIGINT) WITH ('connector' = 'datagen'); CREATE TABLE b (id BIGINT) WITH ('connector' = 'blackhole'); \
               INSERT INTO b SELECT id FROM a;";
    let job = |metadata: &str, checkpoint: &str, sql: &str| {
        format!(
            r#"{{"apiVersion":"rheos.dev/v1alpha1","kind":"StreamJob","metadata":{{"name":"job"{metadata}}},"spec":{{"sql":"{sql}"{checkpoint}}}}}"#
        )
    };
    let storage = r#","checkpoint":{"storage":{"uri":"file:///tmp/nowhere"}}"#;
    let uid = r#","uid":"0b1c""#;
    let token = "0123456789abcdef";
    for (text, token, reason) in [
        (job(uid, "", sql), token, "spec.checkpoint.storage"),
        (job("", storage, sql), token, "metadata.uid"),
        (job(uid, storage, "SELECT nothing"), token, "spec.sql"),
        (job(uid, storage, sql), "hunter2", "token"),
    ] {
        fs::write(folder.path().join("job.json"), text).unwrap();
        fs::write(folder.path().join("token"), token).unwrap();
        fs::write(folder.path().join("termination"), "").unwrap();
        let arguments = "pod --pod p --bind 127.0.0.1 --job job.json --token token --dir d --termination-log termination";
        let output = worker(folder.path(), &arguments.split(' ').collect::<Vec<_>>());
        let message = fs::read_to_string(folder.path().join("termination")).unwrap();
        assert!(output.status.code() == Some(2) && message.contains(reason), "{reason}: {message}\n{output:?}");
        assert!(!message.contains("hunter2") && !String::from_utf8_lossy(&output.stderr).contains("hunter2"));
    }
}
