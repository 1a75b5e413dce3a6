//! Lookup joins against a real server: equal to what the server itself makes of the same rows, through kills of engines and an
//! absence of the server; and changes of the table are seen when rows have aged.

use std::time::Duration;

use rheos_e2e::postgres::Postgres;
use rheos_e2e::random::Random;
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::Job;

use super::{numbers, server};
use crate::block_on;
use crate::kafka::delivery::kill_engines;
use crate::kafka::finish;

/// The table that is asked: `c0` to `c29` have none, one or two rows; and what the orders are for the server.
fn create(server: &Postgres, name: &str, count: i64) {
    server.query(&format!(
        "CREATE TABLE {name}_rates (currency varchar(8), part int, rate numeric(10, 2)); \
         INSERT INTO {name}_rates SELECT 'c' || n, p, n + p / 4.0 FROM generate_series(0, 29) n, generate_series(1, 2) p WHERE p <= n % 3; \
         CREATE TABLE {name}_orders AS SELECT n::bigint AS id, CASE WHEN n % 11 <> 0 THEN 'c' || n % 40 END AS currency FROM generate_series(0, {count} - 1) n; \
         CREATE TABLE {name}_inner (id bigint, rate numeric(10, 2)); CREATE TABLE {name}_left (LIKE {name}_inner)"
    ));
}

/// Orders joined both ways.
fn joins(server: &Postgres, name: &str, count: i64, pace: i64, lookup: &str) -> String {
    let sink = |kind: &str| {
        format!("CREATE TABLE to_{kind} (id BIGINT, rate DECIMAL(10, 2)) WITH ({});\n", server.options(&format!("{name}_{kind}")))
    };
    let insert = |kind: &str, join: &str, more: &str| {
        format!(
            "INSERT INTO to_{kind} SELECT o.id, r.rate FROM orders AS o {join} rates FOR SYSTEM_TIME AS OF o.proc AS r ON o.currency = r.currency{more};\n"
        )
    };
    format!(
        "{}CREATE VIEW orders AS SELECT id, CASE WHEN MOD(id, 11) <> 0 THEN CONCAT('c', CAST(MOD(id, 40) AS STRING)) END AS currency, PROCTIME() AS proc FROM numbers;
         CREATE TABLE rates (currency STRING, part INT, rate DECIMAL(10, 2)) WITH ({}{lookup});
         {}{}{}{}",
        numbers(count, pace),
        server.options(&format!("{name}_rates")),
        sink("inner"),
        sink("left"),
        insert("inner", "JOIN", " AND r.part < 9"),
        insert("left", "LEFT JOIN", ""),
    )
}

/// Rows that the job has and the server's own join has not, or the other way round.
fn differences(server: &Postgres, name: &str) -> Vec<String> {
    let compare = |kind: &str, join: &str| {
        let expected = format!("SELECT o.id, r.rate FROM {name}_orders o {join} {name}_rates r ON o.currency = r.currency");
        server.query(&format!("({expected} EXCEPT ALL TABLE {name}_{kind}) UNION ALL (TABLE {name}_{kind} EXCEPT ALL {expected})"))
    };
    compare("inner", "JOIN").into_iter().chain(compare("left", "LEFT JOIN")).collect()
}

const CACHED: &str =
    ", 'lookup.cache' = 'PARTIAL', 'lookup.partial-cache.max-rows' = '20', 'lookup.partial-cache.expire-after-write' = '300 ms'";

#[test]
fn joins_are_what_the_server_makes_of_them_through_kills() {
    const COUNT: i64 = 40_000;
    const KILLS: u64 = 10;
    let server = server();
    create(server, "lookup", COUNT);
    let settings = Settings { checkpoint_ms: 100, ..Settings::default() };
    let job = Job::new(&manifest("lookup", &joins(server, "lookup", COUNT, 4_000, CACHED), &settings));
    block_on(async {
        let mut run = job.start();
        let client = run.client().await;
        let mut random = Random(7);
        kill_engines(&mut run, &client, 2, KILLS, &mut random).await;
        finish(&mut run, KILLS).await;
        let found = differences(server, "lookup");
        assert!(found.is_empty(), "{} rows, {:?}\n{}", found.len(), &found[..found.len().min(5)], run.log());
        assert!(server.number("SELECT COUNT(*) FROM lookup_inner") > COUNT / 2);
    });
}

/// Nothing is kept, so that every row needs the server. It stays away longer than an engine may go without a sign of life.
#[test]
fn an_absence_of_the_server_is_outlived_without_a_restart() {
    const COUNT: i64 = 20_000;
    let mut away = Postgres::start().expect("a server for this test alone");
    create(&away, "away", COUNT);
    let settings = Settings { checkpoint_ms: 200, ..Settings::default() };
    let job = Job::new(&manifest("away", &joins(&away, "away", COUNT, 2_500, ""), &settings));
    block_on(async {
        let mut run = job.start();
        let quarter = async || (away.number("SELECT COUNT(*) FROM away_left") >= COUNT / 4).then_some(());
        run.until("some of the rows", quarter).await;
        away.kill();
        tokio::time::sleep(Duration::from_secs(10)).await;
        away.up().expect("the server again");
        finish(&mut run, 0).await;
        assert_eq!(run.summary().restarts, 0, "lookups wait for their server\n{}", run.log());
        assert_eq!(differences(&away, "away"), Vec::<String>::new(), "{}", run.log());
    });
}

#[test]
fn a_lookup_that_may_not_be_tried_again_starts_the_job_again() {
    const COUNT: i64 = 20_000;
    let mut away = Postgres::start().expect("a server for this test alone");
    create(&away, "tries", COUNT);
    let settings = Settings { checkpoint_ms: 200, ..Settings::default() };
    let job = Job::new(&manifest("tries", &joins(&away, "tries", COUNT, 2_500, ", 'lookup.max-retries' = '0'"), &settings));
    block_on(async {
        let mut run = job.start();
        let client = run.client().await;
        run.until("some of the rows", async || (away.number("SELECT COUNT(*) FROM tries_left") >= COUNT / 4).then_some(())).await;
        away.kill();
        let cause = run.until_job(&client, "a restart", |job| job.restarts.count > 0).await.restarts.last_cause.unwrap_or_default();
        assert!(cause.contains("table rates (jdbc)"), "{cause}");
        away.up().expect("the server again");
        finish(&mut run, 1).await;
        assert_eq!(differences(&away, "tries"), Vec::<String>::new(), "{}", run.log());
    });
}

/// `value` as Rheos and as the server have it, of each type that a key may have; and what no row of a table may match.
#[test]
fn keys_of_every_type_find_the_rows_that_the_server_finds() {
    let types = [
        ("BOOLEAN", "boolean", "id > 2", "true"),
        ("SMALLINT", "smallint", "CAST(id AS SMALLINT)", "3"),
        ("INT", "integer", "CAST(id AS INT)", "3"),
        ("BIGINT", "bigint", "id", "3"),
        ("DECIMAL(10, 2)", "numeric(10, 2)", "CAST(id * 0.25 AS DECIMAL(10, 2))", "0.75"),
        ("DATE", "date", "CAST(CONCAT('2020-02-2', CAST(id AS STRING)) AS DATE)", "'2020-02-23'"),
        (
            "TIMESTAMP(3)",
            "timestamp",
            "CAST(CONCAT('2020-02-20 00:00:00.00', CAST(id AS STRING)) AS TIMESTAMP(3))",
            "'2020-02-20 00:00:00.003'",
        ),
        ("STRING", "text", "CAST(id AS STRING)", "'3'"),
        ("STRING", "char(5)", "CAST(id AS STRING)", "'3'"),
        (
            "STRING",
            "uuid",
            "CONCAT('0000000', CAST(id AS STRING), '-0000-0000-0000-000000000000')",
            "'00000003-0000-0000-0000-000000000000'",
        ),
    ];
    let server = server();
    for (number, (ours, theirs, value, stored)) in types.into_iter().enumerate() {
        let (asked, found) = (format!("key_{number}"), format!("found_{number}"));
        server.query(&format!(
            "CREATE TABLE {asked} (k {theirs}, name text); INSERT INTO {asked} VALUES ({stored}, 'it'); CREATE TABLE {found} (id bigint, name text)"
        ));
        let sql = format!(
            "CREATE TABLE ids (id BIGINT) WITH ('connector' = 'datagen', 'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '4');
             CREATE VIEW orders AS SELECT id, {value} AS k, PROCTIME() AS proc FROM ids;
             CREATE TABLE names (k {ours}, name STRING) WITH ({});
             CREATE TABLE found (id BIGINT, name STRING) WITH ({});
             INSERT INTO found SELECT o.id, r.name FROM orders AS o LEFT JOIN names FOR SYSTEM_TIME AS OF o.proc AS r ON o.k = r.k;",
            server.options(&asked),
            server.options(&found)
        );
        let job = Job::new(&manifest("keys", &sql, &Settings { parallelism: 1, ..Settings::default() }));
        block_on(async { finish(&mut job.start(), 0).await });
        let expected: Vec<String> =
            (0..5).map(|id| if id == 3 || (ours == "BOOLEAN" && id > 2) { format!("{id}|it") } else { format!("{id}|") }).collect();
        assert_eq!(server.query(&format!("SELECT id, name FROM {found} ORDER BY id")), expected, "{ours} and {theirs}");
    }
}

#[test]
fn a_change_of_the_table_is_seen_when_rows_have_aged() {
    let server = server();
    server.query(
        "CREATE TABLE aged_rates (k bigint, rate bigint); INSERT INTO aged_rates VALUES (0, 1); CREATE TABLE aged (id bigint, rate bigint)",
    );
    let sql = format!(
        "CREATE TABLE orders (id BIGINT, proc AS PROCTIME()) WITH ('connector' = 'datagen', 'fields.id.kind' = 'sequence', 'fields.id.start' = '0',
           'fields.id.end' = '999', 'rows-per-second' = '200');
         CREATE TABLE rates (k BIGINT, rate BIGINT) WITH ({}, 'lookup.cache' = 'PARTIAL', 'lookup.partial-cache.expire-after-write' = '2 s');
         CREATE TABLE aged (id BIGINT, rate BIGINT) WITH ({});
         INSERT INTO aged SELECT o.id, r.rate FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.proc AS r ON MOD(o.id, 1) = r.k;",
        server.options("aged_rates"),
        server.options("aged")
    );
    let job = Job::new(&manifest("aged", &sql, &Settings { checkpoint_ms: 100, parallelism: 1, ..Settings::default() }));
    block_on(async {
        let mut run = job.start();
        run.until("the first rows", async || (server.number("SELECT COUNT(*) FROM aged") > 0).then_some(())).await;
        server.query("UPDATE aged_rates SET rate = 2");
        let seen = server.number("SELECT MAX(id) FROM aged");
        finish(&mut run, 0).await;
        let of = |condition: &str| server.number(&format!("SELECT COUNT(*) FROM aged WHERE {condition}"));
        assert_eq!(of("true"), 1_000);
        let kept = of(&format!("rate = 1 AND id > {seen}"));
        assert!(kept >= 50, "only {kept} rows met what was kept");
        assert!(of("rate = 2") >= 300, "the change was not seen in time\n{}", run.log());
        // The first row of the new rate ends the old one.
        assert_eq!(of("rate = 1 AND id > (SELECT MIN(id) FROM aged WHERE rate = 2)"), 0);
    });
}

#[test]
fn what_is_wrong_with_a_looked_up_table_is_named() {
    let server = server();
    server.query("CREATE TABLE wrong_rates (currency text, rate text)");
    for (table, parts) in [
        ("wrong_rates", vec!["table rates (jdbc)", "column 'rate' is text"]),
        ("no_rates", vec!["table rates (jdbc)", "there is no table no_rates"]),
    ] {
        let sql = format!(
            "CREATE TABLE orders (currency STRING, proc AS PROCTIME()) WITH ('connector' = 'datagen', 'number-of-rows' = '10');
             CREATE TABLE rates (currency STRING, rate BIGINT) WITH ({});
             CREATE TABLE b (rate BIGINT) WITH ('connector' = 'blackhole');
             INSERT INTO b SELECT r.rate FROM orders JOIN rates FOR SYSTEM_TIME AS OF proc AS r ON orders.currency = r.currency;",
            server.options(table)
        );
        let log = super::refusals::refused(&sql, "ExactlyOnce");
        assert!(parts.iter().all(|part| log.contains(part)), "{parts:?}\n{log}");
    }
}
