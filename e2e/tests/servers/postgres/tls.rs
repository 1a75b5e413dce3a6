//! Encrypted connections, and how much a server has to prove of itself.

use rheos_e2e::authority::Authority;
use rheos_e2e::postgres::{PASSWORD, Postgres};
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::Job;

use super::{copied, copy, create, rows};
use crate::block_on;

const COUNT: i64 = 2_000;

/// Copies into `table` over a connection with these parameters; the exit code and what the job said. `authority` is whom
/// the Secret `db` names.
fn run(server: &Postgres, table: &str, host: &str, parameters: &str, authority: &Authority) -> (i32, String) {
    let sql = copy(server, table, COUNT, 4_000, "");
    let sql = sql.replace("127.0.0.1", host).replace("/shop'", &format!("/shop?{parameters}'"));
    let sql = sql.replace(&format!("'{PASSWORD}'"), "'${secret:db/password}'");
    let secrets = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(secrets.path().join("db")).expect("a folder");
    std::fs::write(secrets.path().join("db/password"), PASSWORD).expect("a file");
    std::fs::write(secrets.path().join("db/ca.pem"), authority.certificate()).expect("a file");
    let job = Job::new(&manifest("tls", &sql, &Settings { checkpoint_ms: 200, ..Settings::default() }));
    block_on(async {
        let mut run = job.start_with(&[], &[("RHEOS_SECRETS", secrets.path().display().to_string())]);
        let code = run.wait().await;
        let log = run.log();
        assert!(!log.contains(PASSWORD) && !log.contains("BEGIN CERTIFICATE"), "{log}");
        (code, log)
    })
}

#[test]
fn a_server_proves_as_much_as_the_url_asks_for_and_nothing_goes_in_the_clear() {
    const OWN: &str = "sslrootcert=${secret:db/ca.pem}";
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = Postgres::start_encrypted(&authority).expect("a PostgreSQL server");
    let good = [
        ("proved_by_name", "127.0.0.1", format!("sslmode=verify-full&{OWN}"), &authority),
        ("ca", "127.0.0.2", format!("sslmode=verify-ca&{OWN}"), &authority),
        ("anybody", "127.0.0.2", "sslmode=require".to_owned(), &stranger),
        ("preferred", "127.0.0.1", "sslmode=prefer".to_owned(), &stranger),
    ];
    for (table, host, parameters, authority) in good {
        create(&server, table);
        let (code, log) = run(&server, table, host, &parameters, authority);
        assert_eq!(code, 0, "{parameters}: {log}");
        assert_eq!(rows(&server, table, "id, twice, part"), copied(COUNT), "{parameters}");
    }
    create(&server, "refused");
    let bad = [
        ("127.0.0.1", format!("sslmode=verify-full&{OWN}"), &stranger, "'sslrootcert'"),
        ("127.0.0.1", format!("sslmode=verify-ca&{OWN}"), &stranger, "'sslrootcert'"),
        ("127.0.0.2", format!("sslmode=verify-full&{OWN}"), &authority, "'sslmode'"),
        ("127.0.0.1", "sslmode=verify-full".to_owned(), &authority, "'sslrootcert'"),
        ("127.0.0.1", "sslmode=disable".to_owned(), &authority, "no encryption"),
    ];
    for (host, parameters, authority, part) in bad {
        let (code, log) = run(&server, "refused", host, &parameters, authority);
        assert_eq!(code, 1, "{parameters}: {log}");
        assert!(log.contains(part) && log.contains("access denied"), "{parameters}: {log}");
    }
    assert_eq!(server.number("SELECT COUNT(*) FROM refused"), 0);
}
