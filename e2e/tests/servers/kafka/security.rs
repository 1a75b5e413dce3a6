//! Brokers that want TLS and a log-in: the password is a Secret, it stays one, and who is not let in is told why.

use std::path::Path;
use std::time::{Duration, Instant};

use rheos_e2e::authority::Authority;
use rheos_e2e::kafka::{Broker, Login};
use rheos_e2e::oracle::{Difference, compare};
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::{Job, Run};

use super::{PARTITIONS, filter_into, filtered, libraries, order, rows, until};
use crate::block_on;

const USER: &str = "rheos";
const PASSWORD: &str = "Zq7-the-right-one";
const WRONG: &str = "Zq7-the-wrong-one";
/// Within this a job that is not let in has told why: the 30 seconds of a question, and the start of processes.
const BOUND: Duration = Duration::from_secs(60);
/// How a table names its log-in; the mechanism stands in for `MECHANISM`.
const TLS: &str = "'properties.security.protocol' = 'SASL_SSL', 'properties.ssl.ca.pem' = '${secret:kafka/ca.pem}'";
const PAIR: &str =
    "'properties.sasl.mechanism' = 'PLAIN', 'properties.sasl.username' = 'rheos', 'properties.sasl.password' = '${secret:kafka/password}'";
const JAAS: &str = "'properties.sasl.mechanism' = 'SCRAM-SHA-512', 'properties.sasl.jaas.config' =
    'org.apache.kafka.common.security.scram.ScramLoginModule required username=\"rheos\" password=\"${secret:kafka/password}\";'";

/// The Secret `kafka`, mounted for a job.
fn secrets(authority: &Authority, password: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("kafka")).expect("a folder");
    std::fs::write(folder.path().join("kafka/ca.pem"), authority.certificate()).expect("a file");
    std::fs::write(folder.path().join("kafka/password"), password).expect("a file");
    folder
}

fn start(job: &Job, secrets: &tempfile::TempDir) -> Run {
    job.start_with(&[], &[("RHEOS_SECRETS", secrets.path().display().to_string()), ("RUST_LOG", "debug".to_owned())])
}

/// No file below the job's folder (log, summary, checkpoints, staged messages) holds any of `texts`.
fn assert_secret(folder: &Path, texts: &[&str]) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            assert_secret(&path, texts);
            continue;
        }
        let bytes = std::fs::read(&path).expect("a file");
        let found = texts.iter().find(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()));
        assert!(found.is_none(), "{} holds a password", path.display());
    }
}

/// Waits for the end of a job that is not let in; what it said.
async fn refused(name: &str, sql: &str, secrets: &tempfile::TempDir, delivery: &str) -> String {
    let text = manifest(name, sql, &Settings::default()).replace("maxRestarts: 1000", "maxRestarts: 0");
    let job = Job::new(&text.replace("spec:\n", &format!("spec:\n  delivery: {delivery}\n")));
    let (mut run, began) = (start(&job, secrets), Instant::now());
    assert_eq!(run.wait().await, 1, "{name}\n{}", run.log());
    assert!(began.elapsed() < BOUND, "{name}: only after {:?}\n{}", began.elapsed(), run.log());
    assert_secret(&job.path(""), &[PASSWORD, WRONG]);
    let summary = std::fs::read_to_string(job.path("summary.json")).expect("a summary");
    format!("{}\n{summary}", run.log())
}

#[test]
fn a_job_comes_in_by_tls_and_password_and_tells_nobody() {
    const ORDERS: i64 = 3_000;
    let authority = Authority::new();
    let broker = Broker::start_secured(&libraries(), &Login { authority: &authority, user: USER, password: PASSWORD }).expect("a broker");
    let by_tls = |sql: String| sql.replace(&broker.address(), &broker.secured_address());
    block_on(async {
        broker.create_topic("locked-in", PARTITIONS, &[]).await;
        broker.fill("locked-in", (0..ORDERS).map(order));
        let right = secrets(&authority, PASSWORD);
        for (name, login) in [("plain", PAIR), ("scram", JAAS)] {
            let to = format!("locked-{name}");
            broker.create_topic(&to, 1, &[]).await;
            let more = format!("{}, {TLS}, {login}", until(ORDERS));
            let sql = by_tls(filter_into(&broker, "locked-in", &to, &more, &format!("{TLS}, {login}")));
            let job = Job::new(&manifest(name, &sql, &Settings { checkpoint_ms: 100, ..Settings::default() }));
            let mut run = start(&job, &right);
            assert_eq!(run.wait().await, 0, "{}", run.log());
            assert_eq!(compare(&filtered(0..ORDERS), &rows(&broker, &to)), Difference::default(), "{name}\n{}", run.log());
            assert_secret(&job.path(""), &[PASSWORD]);
        }

        let reading = |login: &str| {
            by_tls(filter_into(&broker, "locked-in", "locked-plain", &format!("{}, {login}", until(10)), "'sink.parallelism' = '1'"))
        };
        let wrong = secrets(&authority, WRONG);
        for (name, login) in [("wrong-plain", PAIR), ("wrong-scram", JAAS)] {
            let said = refused(name, &reading(&format!("{TLS}, {login}")), &wrong, "ExactlyOnce").await;
            assert!(said.contains("access denied") && said.contains("check 'properties.sasl.*'"), "{name}: {said}");
        }
        let stranger = secrets(&Authority::new(), PASSWORD);
        let said = refused("stranger", &reading(&format!("{TLS}, {PAIR}")), &stranger, "ExactlyOnce").await;
        assert!(said.contains("access denied") && said.contains("certificate verify failed"), "{said}");
        let said = refused("plaintext", &reading("'scan.parallelism' = '1'"), &right, "ExactlyOnce").await;
        assert!(said.contains("asking for the topics") && said.contains("'properties.security.protocol'"), "{said}");

        // A sink alone comes to the brokers only when it writes, or commits.
        let writing = format!(
            "CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '1000');
             CREATE TABLE out (id BIGINT) WITH ('connector' = 'kafka', 'topic' = 'locked-plain', 'properties.bootstrap.servers' = '{}',
               'format' = 'json', {TLS}, {PAIR});
             INSERT INTO out SELECT id FROM numbers;",
            broker.secured_address()
        );
        for delivery in ["ExactlyOnce", "AtLeastOnce"] {
            let said = refused(&format!("writing-{}", delivery.to_lowercase()), &writing, &wrong, delivery).await;
            assert!(said.contains("access denied") && said.contains("check 'properties.sasl.*'"), "{delivery}: {said}");
        }
    });
}
