//! Kafka in and out against a real broker, with real worker processes; outputs are compared with what this file computes
//! from the same input.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rheos_e2e::kafka::{Broker, LIBRARIES, send};
use rheos_e2e::oracle::{Difference, Multiset, compare};
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::{Job, Run, signal};

use crate::block_on;

/// Partitions of the topics.
const PARTITIONS: i32 = 3;
/// Messages of a run with kills, and how many come in a second.
const PACED: i64 = 36_000;
const PACE: i64 = 6_000;

/// One broker for all tests, until one of them needs it for itself.
fn broker() -> MutexGuard<'static, Broker> {
    static BROKER: OnceLock<Mutex<Broker>> = OnceLock::new();
    let start = || Mutex::new(Broker::start(&libraries()).expect("a Kafka broker"));
    BROKER.get_or_init(start).lock().unwrap_or_else(PoisonError::into_inner)
}

fn libraries() -> PathBuf {
    let folder = std::env::var(LIBRARIES).unwrap_or_else(|_| panic!("{LIBRARIES} names the broker's libraries: run `cargo xtask servers`"));
    Path::new(&folder).to_owned()
}

/// Order `id` as a message: partition and value.
fn order(id: i64) -> (i32, String) {
    let name = ["Ada", "Bō", "C\\\"c", "d\\n"][(id % 4) as usize];
    ((id % i64::from(PARTITIONS)) as i32, format!("{{\"id\":{id},\"price\":{},\"name\":\"{name}\",\"ts\":{}}}", price(id), id * 10))
}

fn price(id: i64) -> i64 {
    (id * 7919) % 1000
}

/// The rows that [`filter`] makes of orders below `count`.
fn filtered(count: i64) -> Multiset {
    let rows = (0..count).filter(|id| price(*id) >= 300);
    rows.map(|id| (format!("{{\"id\":{id},\"twice\":{},\"part\":{}}}", price(id) * 2, id % i64::from(PARTITIONS)), 1)).collect()
}

fn orders(broker: &Broker, topic: &str, more: &str) -> String {
    format!(
        "CREATE TABLE orders (id BIGINT, price BIGINT, name STRING, ts BIGINT, part INT METADATA FROM 'partition' VIRTUAL,
           time AS TO_TIMESTAMP_LTZ(ts, 3), WATERMARK FOR time AS time - INTERVAL '1' SECOND)
         WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{}', 'properties.group.id' = '{topic}-job',
               'format' = 'json', 'scan.startup.mode' = 'earliest-offset', {more});\n",
        broker.address()
    )
}

fn filter(broker: &Broker, from: &str, to: &str, bounded: &str) -> String {
    let sink = format!(
        "CREATE TABLE out (id BIGINT, twice BIGINT, part INT) WITH ('connector' = 'kafka', 'topic' = '{to}',
           'properties.bootstrap.servers' = '{}', 'format' = 'json', 'key.format' = 'json', 'key.fields' = 'id');\n",
        broker.address()
    );
    format!("{}{sink}INSERT INTO out SELECT id, price * 2, part FROM orders WHERE price >= 300;", orders(broker, from, bounded))
}

/// The values of a topic, as the oracle counts rows.
fn rows(broker: &Broker, topic: &str) -> Multiset {
    let mut rows = Multiset::new();
    for record in broker.read(topic) {
        *rows.entry(record.value.expect("a value")).or_default() += 1;
    }
    rows
}

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
        assert_eq!(compare(&filtered(COUNT), &rows(&broker, "plain-out")), Difference::default(), "{}", run.log());
        // The group knows how far the job has read, and every key is that of its row.
        let ends: Vec<Option<i64>> = broker.bounds("plain-in").values().map(|(_, high)| Some(*high)).collect();
        let committed: Vec<Option<i64>> = broker.committed("plain-in-job", "plain-in", PARTITIONS).into_values().collect();
        assert_eq!(committed, ends);
        for record in broker.read("plain-out").iter().take(100) {
            let (key, value) = (record.key.as_deref().expect("a key"), record.value.as_deref().expect("a value"));
            assert!(value.starts_with(key.trim_end_matches('}')), "{key} {value}");
        }
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
        let job = Job::new(&manifest("window", &sql, &Settings { parallelism: 2, ..Settings::default() }));
        let mut run = job.start();
        assert_eq!(run.wait().await, 0, "{}", run.log());
        let mut expected = std::collections::BTreeMap::<i64, (i64, i64)>::new();
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
        let feed = Feed::start(&broker, "upsert-in", COUNT);
        let place = format!("kafka.marked={}", job.path("ended").display());
        let mut run = job.start_with(&[], &[("RHEOS_FAILPOINTS", place)]);
        finish(&mut run, 1).await;
        drop(feed);
        let records = broker.read("upsert-out");
        assert!(records.iter().any(|record| record.value.is_none()), "no row ever left the result");
        let mut newest = std::collections::BTreeMap::new();
        for record in records {
            newest.insert(record.key.expect("a key"), record.value);
        }
        let found: Vec<String> = newest.into_values().flatten().collect();
        let mut expected = std::collections::BTreeMap::<String, (i64, i64)>::new();
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

#[test]
fn messages_that_were_deleted_before_they_were_read_fail_the_job_by_name() {
    let broker = broker();
    block_on(async {
        broker.create_topic("deleted-in", 1, &[]).await;
        broker.create_topic("deleted-out", 1, &[]).await;
        let one = |ids: std::ops::Range<i64>| ids.map(|id| (0, order(id).1));
        broker.fill("deleted-in", one(0..100));
        let job =
            Job::new(&manifest("deleted", &filter(&broker, "deleted-in", "deleted-out", "'scan.parallelism' = '1'"), &Settings::default()));
        let mut run = job.start();
        let client = run.client().await;
        run.until("all is read", async || (broker.committed("deleted-in-job", "deleted-in", 1)[&0] == Some(100)).then_some(())).await;
        client.stop().await.expect("a stop is taken");
        assert_eq!(run.wait().await, 0, "{}", run.log());
        broker.fill("deleted-in", one(100..200));
        broker.delete_below("deleted-in", 150).await;
        let mut run = job.start();
        assert_eq!(run.wait().await, 1, "{}", run.log());
        let log = run.log();
        assert!(log.contains("deleted-in:0") && log.contains("50 messages were deleted before they were read"), "{log}");
    });
}

/// Writes [`PACED`] orders at [`PACE`], from another thread.
struct Feed {
    thread: Option<std::thread::JoinHandle<()>>,
    written: Arc<AtomicI64>,
    over: Arc<AtomicBool>,
}

impl Feed {
    fn start(broker: &Broker, topic: &str, count: i64) -> Self {
        let (producer, topic) = (broker.producer(), topic.to_owned());
        let (written, over) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, stop) = (Arc::clone(&written), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let began = std::time::Instant::now();
            let mut next = 0;
            while next < count && !stop.load(Ordering::Relaxed) {
                let due = count.min((began.elapsed().as_secs_f64() * PACE as f64) as i64);
                (next..due).map(order).for_each(|(partition, value)| send(&producer, &topic, partition, &value));
                next = due;
                counter.store(next, Ordering::Relaxed);
                // The pace of the feed.
                std::thread::park_timeout(Duration::from_millis(5));
            }
            rdkafka::producer::Producer::flush(&producer, Duration::from_secs(60)).expect("all is written");
        });
        Self { thread: Some(thread), written, over }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(Err(_)) = self.thread.take().map(std::thread::JoinHandle::join)
            && !std::thread::panicking()
        {
            panic!("the feed ended early");
        }
    }
}

/// Where the table ends when all orders are there.
fn until(count: i64) -> String {
    let offsets: Vec<String> = (0..PARTITIONS)
        .map(|partition| {
            format!("partition:{partition},offset:{}", (count - i64::from(partition) + i64::from(PARTITIONS) - 1) / i64::from(PARTITIONS))
        })
        .collect();
    format!("'scan.bounded.mode' = 'specific-offsets', 'scan.bounded.specific-offsets' = '{}'", offsets.join(";"))
}

/// Kills engines when the feed has come so far, once each time; what the output lacks and has too much of.
async fn killed(broker: &Broker, name: &str, delivery: &str, checkpoint_ms: u32, kills: u64) -> Difference {
    let (from, to) = (format!("{name}-in"), format!("{name}-out"));
    broker.create_topic(&from, PARTITIONS, &[]).await;
    broker.create_topic(&to, 2, &[]).await;
    let settings = Settings { checkpoint_ms, ..Settings::default() };
    let text = manifest(name, &filter(broker, &from, &to, &until(PACED)), &settings);
    let job = Job::new(&text.replace("spec:\n", &format!("spec:\n  delivery: {delivery}\n")));
    let feed = Feed::start(broker, &from, PACED);
    let mut run = job.start();
    let client = run.client().await;
    for kill in 0..kills {
        let due = PACED / 10 + kill as i64 * (PACED * 8 / 10) / kills as i64;
        let fed = || feed.written.load(Ordering::Relaxed) >= due;
        let view = run
            .until_job(&client, "engines running and the feed at its place", |job| {
                fed() && job.restarts.count >= kill && job.workers.len() == 2 && job.workers.iter().all(|worker| worker.running)
            })
            .await;
        let victim = &view.workers[kill as usize % 2];
        assert!(signal(victim.pid.expect("a process id"), "KILL"), "{}", run.log());
    }
    finish(&mut run, kills).await;
    drop(feed);
    compare(&filtered(PACED), &rows(broker, &to))
}

async fn finish(run: &mut Run, restarts: u64) {
    assert_eq!(run.wait().await, 0, "{}", run.log());
    assert!(run.summary().restarts >= restarts, "each kill is a restart\n{}", run.log());
}

#[test]
fn exactly_once_survives_kills_of_engines() {
    let broker = broker();
    let difference = block_on(killed(&broker, "exactly", "ExactlyOnce", 150, 12));
    assert_eq!(difference, Difference::default());
}

#[test]
fn at_least_once_loses_nothing_and_repeats() {
    let broker = broker();
    let difference = block_on(killed(&broker, "least", "AtLeastOnce", 2_000, 4));
    assert_eq!(difference.lost, 0, "{difference:?}");
    assert!(difference.repeated > 0, "nothing repeated: the kills showed nothing");
}

#[test]
fn at_most_once_repeats_nothing_and_loses() {
    let broker = broker();
    let difference = block_on(killed(&broker, "most", "AtMostOnce", 2_000, 4));
    assert_eq!(difference.repeated, 0, "{difference:?}");
    assert!(difference.lost > 0, "nothing lost: the kills showed nothing");
}

/// The broker is killed twice, the second time for longer; sources and sinks wait for it.
#[test]
fn the_broker_is_killed_and_comes_back() {
    let mut broker = Broker::start(&libraries()).expect("a broker for this test alone");
    block_on(async {
        broker.create_topic("away-in", PARTITIONS, &[]).await;
        broker.create_topic("away-out", 2, &[]).await;
        let settings = Settings { checkpoint_ms: 200, ..Settings::default() };
        let job = Job::new(&manifest("away", &filter(&broker, "away-in", "away-out", &until(PACED)), &settings));
        let feed = Feed::start(&broker, "away-in", PACED);
        let mut run = job.start();
        for (kill, away) in [(1, 0), (2, 10)] {
            run.until("the feed at its place", async || (feed.written.load(Ordering::Relaxed) >= PACED * kill / 4).then_some(())).await;
            broker.kill();
            // Nothing else to wait for: the time is the fault.
            tokio::time::sleep(Duration::from_secs(away)).await;
            broker.up().expect("the broker again");
        }
        assert_eq!(run.wait().await, 0, "{}", run.log());
        drop(feed);
        assert_eq!(compare(&filtered(PACED), &rows(&broker, "away-out")), Difference::default(), "{}", run.log());
    });
}

/// Stages of a checkpoint and its commit, in order.
const STAGES: [&str; 9] =
    ["prepare", "prepared", "record", "recorded", "kafka.commit", "kafka.sent", "kafka.marked", "kafka.committed", "kafka.cleaned"];

/// Ends the process once at each of these places; the output stays exact.
fn survives_an_end_at(places: &[&str]) {
    const COUNT: i64 = 6_000;
    let broker = broker();
    block_on(async {
        let name = format!("end-{}", places.join("-").replace('.', "-"));
        let (from, to) = (format!("{name}-in"), format!("{name}-out"));
        broker.create_topic(&from, PARTITIONS, &[]).await;
        broker.create_topic(&to, 1, &[]).await;
        let settings = Settings { checkpoint_ms: 100, ..Settings::default() };
        let job = Job::new(&manifest(&name, &filter(&broker, &from, &to, &until(COUNT)), &settings));
        let feed = Feed::start(&broker, &from, COUNT);
        let files: Vec<String> = places.iter().map(|place| format!("{place}={}", job.path(place).display())).collect();
        let mut run = job.start_with(&[], &[("RHEOS_FAILPOINTS", files.join(";"))]);
        finish(&mut run, places.len() as u64).await;
        drop(feed);
        for place in places {
            assert!(job.path(place).exists(), "nobody came to {place}\n{}", run.log());
        }
        assert_eq!(compare(&filtered(COUNT), &rows(&broker, &to)), Difference::default(), "{places:?}\n{}", run.log());
    });
}

#[test]
fn an_end_at_any_stage_of_a_commit_changes_nothing() {
    STAGES.iter().for_each(|stage| survives_an_end_at(&[stage]));
}

#[test]
fn ends_at_two_stages_in_a_row_change_nothing() {
    STAGES.windows(2).for_each(survives_an_end_at);
}
