//! What no later try would heal fails a job by name; and no password is ever shown.

use rheos_e2e::postgres::PASSWORD;
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::Job;

use super::{copy, server};
use crate::block_on;

/// Runs a job to its end; its exit code and what it said.
fn ended(job: &Job) -> (i32, String) {
    block_on(async {
        let mut run = job.start();
        (run.wait().await, run.log())
    })
}

/// Runs a job that fails; what it said, also in its folder.
pub(super) fn refused(sql: &str, delivery: &str) -> String {
    let text = manifest("refused", sql, &Settings { checkpoint_ms: 100, ..Settings::default() });
    let job = Job::new(&text.replace("spec:\n", &format!("spec:\n  delivery: {delivery}\n")));
    let (code, log) = ended(&job);
    assert_eq!(code, 1, "{log}");
    assert!(!log.contains(PASSWORD), "the log shows the password: {log}");
    log
}

#[test]
fn what_is_wrong_with_server_or_target_is_named() {
    let server = server();
    server.query(
        "CREATE TABLE refused_types (id int, twice bigint, part text, must text NOT NULL); \
         CREATE TABLE refused_rights (id bigint, twice bigint, part int); \
         CREATE TABLE refused_rows (id bigint CHECK (id < 100), twice bigint, part int); \
         CREATE TABLE refused_key (k bigint, num bigint, total bigint); \
         CREATE ROLE guest LOGIN PASSWORD 'guest-word'; GRANT SELECT ON refused_rights TO guest",
    );
    let endless = |table: &str| copy(server, table, 1_000_000, 1_000, "");
    let cases = [
        (
            endless("refused_none"),
            vec!["there is no table refused_none", "CREATE TABLE \"refused_none\" (\"id\" bigint, \"twice\" bigint, \"part\" integer)"],
        ),
        (
            endless("refused_types"),
            vec!["column 'id' is integer", "bigint would", "column 'part' is text", "column 'must' is NOT NULL and has no default"],
        ),
        (
            endless("refused_types").replace(&format!("'password' = '{PASSWORD}'"), "'password' = 'wr0ng-w0rd'"),
            vec!["password authentication failed", "access denied"],
        ),
        (endless("refused_types").replace("/shop'", "/none'"), vec!["database \"none\" does not exist"]),
        (
            endless("refused_rights").replace(PASSWORD, "guest-word").replace("'owner'", "'guest'"),
            vec!["may not INSERT", "GRANT INSERT ON \"refused_rights\" TO \"guest\""],
        ),
        (endless("refused_rows"), vec!["refused_rows_id_check", "bad data"]),
        (super::sums(server, "refused_key", 1_000_000, 1_000), vec!["ALTER TABLE \"refused_key\" ADD PRIMARY KEY (\"k\")"]),
    ];
    for (sql, parts) in cases {
        for delivery in ["ExactlyOnce", "AtLeastOnce"] {
            let log = refused(&sql, delivery);
            assert!(parts.iter().all(|part| log.contains(part)), "{delivery}: {parts:?}\n{log}");
            assert!(!log.contains("wr0ng-w0rd") && !log.contains("guest-word"), "{log}");
        }
    }
    // Who may write rows, but not make the table of commits, is told how to make it.
    server.query("GRANT INSERT ON refused_rights TO guest; CREATE SCHEMA closed; REVOKE CREATE ON SCHEMA closed FROM guest; GRANT USAGE ON SCHEMA closed TO guest");
    let sql =
        endless("refused_rights").replace(PASSWORD, "guest-word").replace("'owner'", "'guest', 'sink.commit-table' = 'closed.commits'");
    let log = refused(&sql, "ExactlyOnce");
    assert!(log.contains("CREATE TABLE \"closed\".\"commits\" (line text PRIMARY KEY") && log.contains("TO \"guest\""), "{log}");
}

#[test]
fn a_password_in_a_url_is_refused_before_anything_runs() {
    let server = server();
    let sql = copy(server, "none", 10, 10, "").replace("//127.0.0.1", &format!("//owner:{PASSWORD}@127.0.0.1"));
    let job = Job::new(&manifest("url", &sql, &Settings::default()));
    let (code, log) = ended(&job);
    assert_ne!(code, 0, "{log}");
    assert!(log.contains("'username' and 'password'") && !log.contains(PASSWORD), "{log}");
}

/// The password comes from a Secret; nothing that a job leaves behind holds it: no checkpoint, no staged object, no log.
#[test]
fn a_password_of_a_secret_is_nowhere() {
    let server = server();
    super::create(server, "hidden");
    let sql = copy(server, "hidden", 2_000, 1_000, "").replace(&format!("'{PASSWORD}'"), "'${secret:db/password}'");
    let job = Job::new(&manifest("hidden", &sql, &Settings { checkpoint_ms: 100, ..Settings::default() }));
    let secrets = tempfile::tempdir().unwrap();
    std::fs::create_dir(secrets.path().join("db")).unwrap();
    std::fs::write(secrets.path().join("db/password"), PASSWORD).unwrap();
    let status = block_on(async {
        let mut run = job.start_with(&[], &[("RHEOS_SECRETS", secrets.path().display().to_string())]);
        let client = run.client().await;
        let view = run.until_job(&client, "a checkpoint", |job| job.checkpoints.completed > 1).await;
        assert_eq!(run.wait().await, 0, "{}", run.log());
        format!("{view:?}")
    });
    assert!(!status.contains(PASSWORD));
    assert_eq!(server.number("SELECT COUNT(*) FROM hidden"), 2_000);
    let mut files = 0;
    let mut folders = vec![job.path("")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files += 1;
                let bytes = std::fs::read(&path).unwrap_or_default();
                assert!(!bytes.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()), "{} holds the password", path.display());
            }
        }
    }
    assert!(files > 3, "{files} files");
}
