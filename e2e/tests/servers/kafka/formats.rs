//! Formats over the wire: Avro from one job to the next, a database's change-log into groups.

use std::collections::BTreeMap;

use rheos_e2e::changes::{COLUMNS, GROUPED, QUERY, changes};
use rheos_e2e::oracle::{Difference, Multiset, compare};
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::Job;

use super::{PARTITIONS, broker, finish, order, orders, price, rows, until};
use crate::block_on;

#[test]
fn avro_from_one_job_is_avro_for_the_next_and_what_is_none_is_named() {
    const COUNT: i64 = 5_000;
    let broker = broker();
    block_on(async {
        for (topic, partitions) in [("avro-in", PARTITIONS), ("avro-mid", 1), ("avro-out", 1)] {
            broker.create_topic(topic, partitions, &[]).await;
        }
        broker.fill("avro-in", (0..COUNT).map(order));
        let servers = broker.address();
        let mid = format!(
            "CREATE TABLE mid (id BIGINT NOT NULL, cheap BIGINT, name STRING, price DECIMAL(12, 2), time TIMESTAMP_LTZ(3)) WITH ('connector' = 'kafka',
               'topic' = 'avro-mid', 'properties.bootstrap.servers' = '{servers}', 'format' = 'avro'"
        );
        let write = format!(
            "{}{mid}, 'key.format' = 'avro', 'key.fields' = 'id');
             INSERT INTO mid SELECT id, CASE WHEN price < 300 THEN price END, name, CAST(price AS DECIMAL(12, 2)), time FROM orders;",
            orders(&broker, "avro-in", &until(COUNT))
        );
        let read = format!(
            "{mid}, 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset');
             CREATE TABLE out (id BIGINT, cheap BIGINT, name STRING, twice BIGINT, seconds BIGINT) WITH ('connector' = 'kafka', 'topic' = 'avro-out',
               'properties.bootstrap.servers' = '{servers}', 'format' = 'json');
             INSERT INTO out SELECT id, cheap, name, CAST(price AS BIGINT) * 2, CAST(EXTRACT(EPOCH FROM time) AS BIGINT) FROM mid;"
        );
        for (name, sql) in [("avro-write", &write), ("avro-read", &read)] {
            let job = Job::new(&manifest(name, sql, &Settings::default()));
            finish(&mut job.start(), 0).await;
        }
        let row = |id: i64| {
            let value: serde_json::Value = serde_json::from_str(&order(id).1).expect("an order");
            let cheap = Some(price(id)).filter(|price| *price < 300);
            serde_json::json!({"id": id, "cheap": cheap, "name": value["name"], "twice": price(id) * 2, "seconds": id / 100}).to_string()
        };
        let expected: Multiset = (0..COUNT).map(|id| (row(id), 1)).collect();
        let parsed = |(text, count): (String, i64)| (serde_json::from_str::<serde_json::Value>(&text).expect("JSON").to_string(), count);
        assert_eq!(compare(&expected, &rows(&broker, "avro-out").into_iter().map(parsed).collect()), Difference::default());

        broker.fill("avro-mid", [(0, "x".to_owned())]);
        let job = Job::new(&manifest("avro-none", &read, &Settings::default()).replace("maxRestarts: 1000", "maxRestarts: 0"));
        let mut run = job.start();
        assert_eq!(run.wait().await, 1, "{}", run.log());
        let log = run.log();
        assert!(log.contains("avro-mid:0, offset ") && log.contains("the record ends within a number"), "{log}");
        let skip = read.replace("'scan.bounded.mode'", "'format.on-error' = 'skip', 'scan.bounded.mode'");
        let job = Job::new(&manifest("avro-skip", &skip, &Settings::default()));
        finish(&mut job.start(), 0).await;
    });
}

#[test]
fn groups_over_a_change_log_hold_what_the_database_holds() {
    let changes = changes(30_000, 700, PARTITIONS as usize);
    let broker = broker();
    block_on(async {
        broker.create_topic("changes-in", PARTITIONS, &[]).await;
        broker.create_topic("changes-out", 2, &[("cleanup.policy", "compact")]).await;
        for (partition, log) in (0..).zip(&changes.logs) {
            broker.fill("changes-in", log.iter().map(|event| (partition, event.clone())));
        }
        let servers = broker.address();
        let sql = format!(
            "CREATE TABLE items ({COLUMNS}) WITH ('connector' = 'kafka', 'topic' = 'changes-in', 'properties.bootstrap.servers' = '{servers}',
               'format' = 'debezium-json', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset');
             CREATE TABLE out ({GROUPED}, PRIMARY KEY (kind) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'changes-out',
               'properties.bootstrap.servers' = '{servers}', 'key.format' = 'raw', 'value.format' = 'json');
             INSERT INTO out {QUERY};"
        );
        let job = Job::new(&manifest("changes", &sql, &Settings { checkpoint_ms: 100, ..Settings::default() }));
        let failpoint = ("RHEOS_FAILPOINTS", format!("kafka.marked={}", job.path("ended").display()));
        let mut run = job.start_with(&[], &[failpoint]);
        finish(&mut run, 1).await;
        let newest: BTreeMap<_, _> = broker.read("changes-out").into_iter().map(|record| (record.key, record.value)).collect();
        let parsed = |text: String| (serde_json::from_str::<serde_json::Value>(&text).expect("JSON").to_string(), 1);
        let found: Multiset = newest.into_values().flatten().map(parsed).collect();
        assert_eq!(compare(&changes.expected, &found), Difference::default(), "{}", run.log());
    });
}
