//! Tables that are read: each row once, through ends of the engines, in parts, with columns of every type. The server itself
//! compares what came out.

use rheos_e2e::postgres::Postgres;
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::Job;

use super::{failpoints, server};
use crate::block_on;
use crate::kafka::finish;

/// Rows that are in one table and not in the other.
fn difference(server: &Postgres, one: &str, other: &str) -> Vec<String> {
    server.query(&format!("(TABLE {one} EXCEPT ALL TABLE {other}) UNION ALL (TABLE {other} EXCEPT ALL TABLE {one})"))
}

/// A table with a key of two columns, read in pages of a hundred rows; the engine ends twice on the way.
fn survives_ends(name: &str, parts: &str, condition: &str) {
    const COUNT: i64 = 60_000;
    let server = server();
    let (from, to) = (format!("{name}_in"), format!("{name}_out"));
    server.query(&format!(
        "CREATE TABLE {from} (id int, name text, unused bytea, PRIMARY KEY (name, id)); \
         INSERT INTO {from} SELECT n, 'n''\"' || (n * 7919) % 1000, '\\x00' FROM generate_series(1, {COUNT}) n; \
         CREATE TABLE {to} (id int, name text)"
    ));
    let sql = format!(
        "CREATE TABLE a (name STRING, id INT, unused BYTES) WITH ({}, 'scan.fetch-size' = '100'{parts});
         CREATE TABLE b (id INT, name STRING) WITH ({});
         INSERT INTO b SELECT id, name FROM a;",
        server.options(&from),
        server.options(&to)
    );
    let job = Job::new(&manifest("scan", &sql, &Settings { checkpoint_ms: 100, ..Settings::default() }));
    let places = ["recorded", "jdbc.committed"];
    block_on(async {
        let mut run = job.start_with(&[], &[("RHEOS_FAILPOINTS", failpoints(&job, &places))]);
        finish(&mut run, 2).await;
        let expected = format!("(SELECT id, name FROM {from} {condition}) e");
        let expected = format!("(SELECT * FROM {expected})");
        let rows = server.query(&format!("({expected} EXCEPT ALL TABLE {to}) UNION ALL (TABLE {to} EXCEPT ALL {expected})"));
        assert!(rows.is_empty(), "{} rows, {:?}\n{}", rows.len(), &rows[..rows.len().min(5)], run.log());
    });
}

#[test]
fn a_table_is_read_once_through_ends() {
    survives_ends("scan_whole", "", "");
}

#[test]
fn a_table_in_parts_is_read_once_through_ends() {
    let parts = ", 'scan.partition.column' = 'id', 'scan.partition.num' = '5', 'scan.partition.lower-bound' = '101', 'scan.partition.upper-bound' = '59000'";
    survives_ends("scan_parts", parts, "WHERE id BETWEEN 101 AND 59000");
}

#[test]
fn columns_of_every_type_are_read_and_written() {
    let server = server();
    let columns = "k uuid PRIMARY KEY, yes boolean, tiny smallint, whole integer, big bigint, single real, twice double precision, \
                   money numeric(30, 4), name text, raw bytea, day date, at timestamp(3), fine timestamp, instant timestamptz(3), doc jsonb";
    server.query(&format!(
        "CREATE TABLE types_in ({columns}); CREATE TABLE types_out (LIKE types_in INCLUDING ALL); \
         INSERT INTO types_in SELECT gen_random_uuid(), n % 2 = 0, n - 50, -n * 1000, n::bigint << 40, n / 3.0, n / 7.0, (n - 50) * 12345678901234.5678, \
           repeat('ä', n), decode(to_hex(n + 16), 'hex'), date '2000-02-28' + n * 100 - 5000, timestamp '1999-12-31 23:59:59.999' + n * interval '1.001 s', \
           timestamp '1970-01-01' - n * interval '1 us', timestamptz '2020-01-01 00:00:00.5+02' + n * interval '1 day', jsonb_build_object('n', n) \
         FROM generate_series(0, 99) n; \
         INSERT INTO types_in (k) VALUES (gen_random_uuid())"
    ));
    let declared = "k STRING, yes BOOLEAN, tiny SMALLINT, whole INT, big BIGINT, single FLOAT, twice DOUBLE, money DECIMAL(30, 4), name STRING, raw BYTES, \
                    `day` DATE, at TIMESTAMP(3), fine TIMESTAMP(6), instant TIMESTAMP_LTZ(3), doc STRING";
    let sql = format!(
        "CREATE TABLE a ({declared}) WITH ({}, 'scan.fetch-size' = '7');
         CREATE TABLE b ({declared}, PRIMARY KEY (k) NOT ENFORCED) WITH ({});
         INSERT INTO b SELECT * FROM a;",
        server.options("types_in"),
        server.options("types_out")
    );
    let job = Job::new(&manifest("types", &sql, &Settings::default()));
    block_on(async {
        let mut run = job.start();
        finish(&mut run, 0).await;
        assert_eq!(difference(server, "types_in", "types_out"), Vec::<String>::new(), "{}", run.log());
        assert_eq!(server.number("SELECT COUNT(*) FROM types_out"), 101);
    });
}

#[test]
fn a_table_that_cannot_be_read_in_pages_is_refused_by_name() {
    let server = server();
    server.query("CREATE TABLE keyless (id bigint, part int); CREATE TABLE typed (id text PRIMARY KEY, part int)");
    for (table, parts) in [
        ("keyless", vec!["table keyless has no PRIMARY KEY"]),
        ("typed", vec!["column 'id' is text", "there is no column 'parts'; did you mean 'part'?"]),
        ("nowhere", vec!["there is no table nowhere"]),
    ] {
        let column = if table == "typed" { "parts" } else { "part" };
        let sql = format!(
            "CREATE TABLE a (id BIGINT, {column} INT) WITH ({}); CREATE TABLE b (id BIGINT, part INT) WITH ('connector' = 'blackhole'); \
             INSERT INTO b SELECT id, {column} FROM a;",
            server.options(table)
        );
        let log = super::refusals::refused(&sql, "ExactlyOnce");
        assert!(parts.iter().all(|part| log.contains(part)), "{parts:?}\n{log}");
    }
}
