//! Tables over topics: where they begin and end, what their columns hold, what they write.

use std::collections::BTreeMap;

use rheos_e2e::kafka::Broker;
use rheos_e2e::oracle::{Difference, Multiset, compare};
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::{Job, Run};

use super::{Feed, PARTITIONS, broker, filter, filtered, finish, order, orders, price, rows, until};
use crate::block_on;

#[test]
fn a_bounded_topic_becomes_another() {
    const COUNT: i64 = 20_000;
    let broker = broker();
    block_on(async {
        broker.create_topic("plain-in", PARTITIONS, &[]).await;
        broker.create_topic("plain-out", 2, &[]).await;
        broker.fill("plain-in", (0..COUNT).map(order));
        let sql = filter(&broker, "plain-in", "plain-out", "'scan.bounded.mode' = 'latest-offset'");
        let job = Job::new(&manifest("plain", &sql, &Settings::default()));
        let mut run = job.start();
        assert_eq!(run.wait().await, 0, "{}", run.log());
        assert_eq!(compare(&filtered(0..COUNT), &rows(&broker, "plain-out")), Difference::default(), "{}", run.log());
        // The group knows how far the job has read, and every key is that of its row.
        assert_eq!(committed(&broker, "plain-in"), ends(&broker, "plain-in"));
        for record in broker.read("plain-out").iter().take(100) {
            let (key, value) = (record.key.as_deref().expect("a key"), record.value.as_deref().expect("a value"));
            assert!(value.starts_with(key.trim_end_matches('}')), "{key} {value}");
        }
    });
}

/// What the group of the job that reads `topic` has committed, by partition.
fn committed(broker: &Broker, topic: &str) -> Vec<Option<i64>> {
    let partitions = broker.bounds(topic).len() as i32;
    broker.committed(&format!("{topic}-job"), topic, partitions).into_values().collect()
}

fn ends(broker: &Broker, topic: &str) -> Vec<Option<i64>> {
    broker.bounds(topic).values().map(|(_, high)| Some(*high)).collect()
}

/// Each way to name a beginning and an end, by itself.
#[test]
fn a_table_begins_and_ends_where_its_options_say() {
    let broker = broker();
    block_on(async {
        broker.create_topic("modes-in", PARTITIONS, &[]).await;
        broker.fill("modes-in", (0..3_000).map(order));
        // The clock of the messages moves on.
        let began = now_ms();
        while now_ms() <= began + 1 {
            std::thread::yield_now();
        }
        let middle = now_ms();
        broker.fill("modes-in", (3_000..6_000).map(order));
        let from_middle = "'scan.startup.mode' = 'specific-offsets', 'scan.startup.specific-offsets' = 'partition:0,offset:1000;partition:1,offset:1000;partition:2,offset:1000'";
        let reset = "'properties.auto.offset.reset' = 'earliest'";
        let cases = [
            ("offsets", format!("{from_middle}, {}", until(4_500)), 3_000..4_500),
            (
                "time",
                format!("'scan.startup.mode' = 'timestamp', 'scan.startup.timestamp-millis' = '{middle}', {}", until(6_000)),
                3_000..6_000,
            ),
            ("until-time", format!("'scan.bounded.mode' = 'timestamp', 'scan.bounded.timestamp-millis' = '{middle}'"), 0..3_000),
            // The runs before this one have committed their ends to the group: that of the last one is 3,000.
            ("group", format!("'scan.startup.mode' = 'group-offsets', {reset}, 'scan.bounded.mode' = 'latest-offset'"), 3_000..6_000),
        ];
        for (name, options, expected) in cases {
            let to = format!("modes-{name}");
            broker.create_topic(&to, 1, &[]).await;
            let job = Job::new(&manifest(name, &filter(&broker, "modes-in", &to, &options), &Settings::default()));
            let mut run = job.start();
            finish(&mut run, 0).await;
            assert_eq!(compare(&filtered(expected), &rows(&broker, &to)), Difference::default(), "{name}\n{}", run.log());
        }
    });
}

fn now_ms() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time after 1970").as_millis()
}

/// A job that began at the newest message misses nothing after that: not what came while it was away, not what came into
/// partitions that were added.
#[test]
fn what_comes_after_the_beginning_is_read_also_when_nobody_ran() {
    let broker = broker();
    block_on(async {
        broker.create_topic("later-in", 2, &[]).await;
        broker.create_topic("later-out", 1, &[]).await;
        let into = |partitions: i64, ids: std::ops::Range<i64>| {
            broker.fill("later-in", ids.map(move |id| ((id % partitions) as i32, order(id).1)));
        };
        into(2, 0..500);
        let newest = "'scan.startup.mode' = 'latest-offset', 'scan.topic-partition-discovery.interval' = '200 ms'";
        let sql = filter(&broker, "later-in", "later-out", newest).replace("part FROM orders", "0 FROM orders");
        let job = Job::new(&manifest("later", &sql, &Settings { checkpoint_ms: 100, ..Settings::default() }));
        let expected = |ids: std::ops::Range<i64>| -> Multiset {
            let ids = ids.filter(|id| price(*id) >= 300);
            ids.map(|id| (format!("{{\"id\":{id},\"twice\":{},\"part\":0}}", price(id) * 2), 1)).collect()
        };
        let stop = async |run: &mut Run, until: i64| {
            let client = run.client().await;
            let count = expected(500..until).len();
            run.until("all rows", async || (rows(&broker, "later-out").len() >= count).then_some(())).await;
            client.stop().await.expect("a stop is taken");
            assert_eq!(run.wait().await, 0, "{}", run.log());
            let found = rows(&broker, "later-out");
            assert_eq!(compare(&expected(500..until), &found), Difference::default(), "until {until}\n{}", run.log());
        };
        let mut run = job.start();
        run.until("the beginning in a checkpoint", async || (committed(&broker, "later-in") == ends(&broker, "later-in")).then_some(()))
            .await;
        into(2, 500..1_000);
        stop(&mut run, 1_000).await;
        into(2, 1_000..1_500);
        let mut run = job.start();
        run.until("the first rows", async || (rows(&broker, "later-out").len() >= expected(500..1_500).len()).then_some(())).await;
        broker.add_partitions("later-in", 4).await;
        into(4, 1_500..2_000);
        stop(&mut run, 2_000).await;
        let mut run = job.start();
        into(4, 2_000..2_500);
        stop(&mut run, 2_500).await;
    });
}

#[test]
fn metadata_columns_tell_what_the_broker_knows() {
    const COUNT: i64 = 300;
    let broker = broker();
    block_on(async {
        broker.create_topic("meta-in", PARTITIONS, &[]).await;
        // Its messages are years old.
        broker.create_topic("meta-mid", 1, &[("retention.ms", "-1")]).await;
        broker.create_topic("meta-out", 1, &[]).await;
        broker.fill("meta-in", (0..COUNT).map(order));
        let servers = broker.address();
        // A sink writes key and time; the next table reads them back.
        let write = format!(
            "{}CREATE TABLE mid (id BIGINT, name STRING, at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp') WITH ('connector' = 'kafka', 'topic' = 'meta-mid',
               'properties.bootstrap.servers' = '{servers}', 'format' = 'json', 'key.format' = 'raw', 'key.fields' = 'name', 'value.fields-include' = 'EXCEPT_KEY');
             INSERT INTO mid SELECT id, name, TO_TIMESTAMP_LTZ(1700000000000 + id, 3) FROM orders;",
            orders(&broker, "meta-in", &until(COUNT))
        );
        let read = format!(
            "CREATE TABLE mid (id BIGINT, place BIGINT METADATA FROM 'offset' VIRTUAL, `partition` INT METADATA VIRTUAL, topic STRING METADATA VIRTUAL,
               at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL, name STRING METADATA FROM 'key' VIRTUAL) WITH ('connector' = 'kafka',
               'topic' = 'meta-mid', 'properties.bootstrap.servers' = '{servers}', 'format' = 'json', 'scan.startup.mode' = 'earliest-offset',
               'scan.bounded.mode' = 'latest-offset');
             CREATE TABLE out (id BIGINT, place BIGINT, part INT, topic STRING, at BIGINT, name STRING) WITH ('connector' = 'kafka',
               'topic' = 'meta-out', 'properties.bootstrap.servers' = '{servers}', 'format' = 'json');
             INSERT INTO out SELECT id, place, `partition`, topic, CAST(EXTRACT(EPOCH FROM at) AS BIGINT), name FROM mid;"
        );
        for (name, sql) in [("meta-write", write), ("meta-read", read)] {
            let job = Job::new(&manifest(name, &sql, &Settings { parallelism: 1, ..Settings::default() }));
            let mut run = job.start();
            finish(&mut run, 0).await;
        }
        let written = broker.read("meta-mid");
        let found = broker.read("meta-out");
        assert_eq!(found.len(), COUNT as usize);
        let mut places: Vec<i64> = Vec::new();
        for record in found {
            let row: serde_json::Value = serde_json::from_str(&record.value.expect("a value")).expect("JSON");
            let id = row["id"].as_i64().expect("an id");
            let name: serde_json::Value = serde_json::from_str::<serde_json::Value>(&order(id).1).expect("JSON")["name"].clone();
            assert_eq!((&row["name"], &row["topic"], &row["part"]), (&name, &"meta-mid".into(), &0.into()), "{row}");
            assert_eq!(row["at"], 1_700_000_000 + id / 1_000, "{row}");
            places.push(row["place"].as_i64().expect("an offset"));
        }
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), written.len(), "each message has an offset of its own");
        assert!(written.iter().all(|record| !record.value.as_deref().is_some_and(|value| value.contains("name"))), "EXCEPT_KEY");
    });
}

/// Each partition has a watermark of its own: whichever is read first, no row is late.
#[test]
fn windows_over_partitions_are_exact() {
    const COUNT: i64 = 20_000;
    let broker = broker();
    block_on(async {
        broker.create_topic("window-in", PARTITIONS, &[]).await;
        broker.create_topic("window-out", 1, &[]).await;
        // One partition after the other, so that a reader could run ahead in one.
        for partition in 0..PARTITIONS {
            broker.fill("window-in", (0..COUNT).map(order).filter(|(of, _)| *of == partition));
        }
        let sink = format!(
            "CREATE TABLE out (ends BIGINT, orders BIGINT, total BIGINT) WITH ('connector' = 'kafka', 'topic' = 'window-out',
               'properties.bootstrap.servers' = '{}', 'format' = 'csv');\n",
            broker.address()
        );
        let query = "INSERT INTO out SELECT EXTRACT(EPOCH FROM window_end), COUNT(*), SUM(price)
            FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(time), INTERVAL '2' SECOND)) GROUP BY window_start, window_end;";
        let sql = [&orders(&broker, "window-in", "'scan.bounded.mode' = 'latest-offset'"), sink.as_str(), query].concat();
        let job = Job::new(&manifest("window", &sql, &Settings::default()));
        let mut run = job.start();
        assert_eq!(run.wait().await, 0, "{}", run.log());
        let mut expected = BTreeMap::<i64, (i64, i64)>::new();
        for id in 0..COUNT {
            let window = expected.entry(id * 10 / 2_000 * 2 + 2).or_default();
            *window = (window.0 + 1, window.1 + price(id));
        }
        let expected: Multiset = expected.into_iter().map(|(end, (count, sum))| (format!("{end},{count},{sum}"), 1)).collect();
        assert_eq!(compare(&expected, &rows(&broker, "window-out")), Difference::default(), "{}", run.log());
    });
}

/// A change-log by key: the topic's newest messages are the result, whatever was killed between.
#[test]
fn the_newest_row_of_each_key_is_kept() {
    const COUNT: i64 = 12_000;
    let broker = broker();
    block_on(async {
        broker.create_topic("upsert-in", PARTITIONS, &[]).await;
        broker.create_topic("upsert-out", 2, &[("cleanup.policy", "compact")]).await;
        let sink = format!(
            "CREATE TABLE out (name STRING, orders BIGINT, total BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'upsert-kafka',
               'topic' = 'upsert-out', 'properties.bootstrap.servers' = '{}', 'key.format' = 'raw', 'value.format' = 'json');\n",
            broker.address()
        );
        let query =
            "INSERT INTO out SELECT name, COUNT(*), SUM(price) FROM orders GROUP BY name HAVING MOD(COUNT(*), 2) = 0 OR name <> 'Ada';";
        let sql = [&orders(&broker, "upsert-in", &until(COUNT)), sink.as_str(), query].concat();
        let job = Job::new(&manifest("upsert", &sql, &Settings { checkpoint_ms: 100, ..Settings::default() }));
        let feed = Feed::start(&broker, "upsert-in", COUNT, 6_000);
        let place = format!("kafka.marked={}", job.path("ended").display());
        let mut run = job.start_with(&[], &[("RHEOS_FAILPOINTS", place)]);
        run.until("an end", async || job.path("ended").exists().then_some(())).await;
        feed.hurry();
        finish(&mut run, 1).await;
        drop(feed);
        let records = broker.read("upsert-out");
        assert!(records.iter().any(|record| record.value.is_none()), "no row ever left the result");
        let mut newest = BTreeMap::new();
        for record in records {
            newest.insert(record.key.expect("a key"), record.value);
        }
        let found: Vec<String> = newest.into_values().flatten().collect();
        let mut expected = BTreeMap::<String, (i64, i64)>::new();
        for id in 0..COUNT {
            let value: serde_json::Value = serde_json::from_str(&order(id).1).expect("an order");
            let of = expected.entry(value["name"].as_str().expect("a name").to_owned()).or_default();
            *of = (of.0 + 1, of.1 + price(id));
        }
        let row = |(name, (count, sum))| serde_json::json!({"name": name, "orders": count, "total": sum}).to_string();
        let parsed = |text: &String| serde_json::from_str::<serde_json::Value>(text).expect("JSON").to_string();
        let expected: Vec<String> = expected.into_iter().map(row).collect();
        assert_eq!(found.iter().map(parsed).collect::<Vec<_>>(), expected, "{}", run.log());
    });
}
