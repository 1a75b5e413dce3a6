//! [io] Kafka JSON in, Kafka JSON out: events per CPU-second, beside Flink's, and latency, under each promise.

mod flink;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;

use super::table::{Table, amount, percentile};
use crate::kafka::{Broker, send};
use crate::shapes::{Settings, manifest};
use crate::worker::Job;

/// Partitions of the topics.
const PARTITIONS: i32 = 4;
/// Orders of a run for throughput.
const ORDERS: i64 = 4_000_000;
/// Orders a second, seconds that count, and seconds before them, of a run for latency.
const PACE: i64 = 10_000;
const SECONDS: i64 = 20;
const WARM_UP: i64 = 5;
/// Between checkpoints, ms.
const CHECKPOINT_MS: u32 = 1_000;

const PROMISES: [&str; 3] = ["ExactlyOnce", "AtLeastOnce", "AtMostOnce"];

/// Prints a table a part: `throughput`, `latency`, and `flink`, which is the throughput of Flink and only measured when
/// it is named. `libraries` are the broker's, `flink` those of Flink's SQL client.
///
/// # Errors
/// When there is no broker.
pub async fn run(wanted: &[String], libraries: &Path, flink: Option<&Path>, print: &mut dyn FnMut(String)) -> Result<(), String> {
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|other| other == name);
    let broker = Broker::start(libraries)?;
    if is_wanted("throughput") || flink.is_some() {
        broker.create_topic("throughput-in", PARTITIONS, &[]).await;
        broker.fill("throughput-in", (0..ORDERS).map(|id| order(id, 0)));
    }
    if is_wanted("throughput") {
        heads(print, &["promise", "workers", "events/s", "events per CPU-second of the workers", "memory"]);
        for promise in PROMISES {
            for workers in [1, 2] {
                print(throughput(&broker, promise, workers).await);
            }
        }
    }
    if let Some(flink) = flink {
        heads(print, &["Flink 2.3", "slots", "events/s", "events per CPU-second of its process"]);
        for workers in [1, 2] {
            print(flink::throughput(&broker, flink, workers).await?);
        }
    }
    if is_wanted("latency") {
        heads(print, &["promise", "checkpoint", "p50", "p99", "rows"]);
        for promise in PROMISES {
            print(latency(&broker, promise).await);
        }
    }
    Ok(())
}

fn heads(print: &mut dyn FnMut(String), heads: &[&str]) {
    for line in Table::new(heads).to_string().lines() {
        print(line.to_owned());
    }
}

fn order(id: i64, sent: i64) -> (i32, String) {
    let value = format!(
        "{{\"id\":{id},\"customer\":{},\"price\":{},\"sent\":{sent},\"channel\":\"channel-{}\",\"url\":\"https://example.com/item/{id}\"}}",
        id * 31 % 100_000,
        id * 7919 % 1000,
        id % 20
    );
    ((id % i64::from(PARTITIONS)) as i32, value)
}

/// Seven of ten orders, some of their columns. `source` and `sink` are more options.
fn query(broker: &Broker, from: &str, to: &str, source: &str, sink: &str) -> String {
    let servers = broker.address();
    format!(
        "CREATE TABLE orders (id BIGINT, customer BIGINT, price BIGINT, sent BIGINT, channel STRING, url STRING) WITH ('connector' = 'kafka',
           'topic' = '{from}', 'properties.bootstrap.servers' = '{servers}', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json'{source});
         CREATE TABLE dear (id BIGINT, price DOUBLE, sent BIGINT, url STRING) WITH ('connector' = 'kafka', 'topic' = '{to}',
           'properties.bootstrap.servers' = '{servers}', 'format' = 'json'{sink});
         INSERT INTO dear SELECT id, price * 0.908, sent, url FROM orders WHERE price >= 300;"
    )
}

fn job(broker: &Broker, from: &str, to: &str, promise: &str, workers: u32, more: &str) -> Job {
    let sql = query(broker, from, to, more, "");
    let settings = Settings { parallelism: workers, checkpoint_ms: CHECKPOINT_MS, ..Settings::default() };
    Job::new(&manifest("bench", &sql, &settings).replace("spec:\n", &format!("spec:\n  delivery: {promise}\n")))
}

async fn throughput(broker: &Broker, promise: &str, workers: u32) -> String {
    let to = format!("throughput-{promise}-{workers}");
    broker.create_topic(&to, PARTITIONS, &[]).await;
    let job = job(broker, "throughput-in", &to, promise, workers, ", 'scan.bounded.mode' = 'latest-offset'");
    let mut run = job.start();
    assert_eq!(run.wait().await, 0, "{}", run.log());
    let summary = run.summary();
    let of = |seconds: f64| amount(summary.rows_in as f64 / seconds);
    let memory = format!("{:.0} MiB", summary.peak_rss_bytes as f64 / 1_048_576.0);
    Table::line(&[promise.to_owned(), workers.to_string(), of(summary.wall_seconds), of(summary.cpu_seconds), memory])
}

fn micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// From the moment when an order is handed to its producer to the moment when a reader of committed messages has the row.
async fn latency(broker: &Broker, promise: &str) -> String {
    let (from, to) = (format!("latency-{promise}-in"), format!("latency-{promise}-out"));
    broker.create_topic(&from, PARTITIONS, &[]).await;
    broker.create_topic(&to, PARTITIONS, &[]).await;
    let job = job(broker, &from, &to, promise, 1, "");
    let mut run = job.start();
    let client = run.client().await;
    run.until_job(&client, "a checkpoint", |job| job.checkpoints.completed > 0).await;
    let over = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (over, consumer) = (Arc::clone(&over), reader(broker, &to));
        move || latencies(&consumer, &over)
    });
    let producer = broker.producer();
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    let (began, mut next) = (std::time::Instant::now(), 0);
    while next < PACE * (WARM_UP + SECONDS) {
        tick.tick().await;
        let due = (began.elapsed().as_secs_f64() * PACE as f64) as i64;
        for id in next..due {
            // Those that do not count carry no time.
            let sent = if id < PACE * WARM_UP { 0 } else { micros() };
            let (partition, value) = order(id, sent);
            send(&producer, &from, partition, &value);
        }
        next = next.max(due);
    }
    let complete = client.job().await.map_or(0, |job| job.checkpoints.completed) + 3;
    run.until_job(&client, "the last rows", |job| job.checkpoints.completed >= complete).await;
    over.store(true, Ordering::Relaxed);
    let figures = reader.join().expect("the reader ends");
    client.stop().await.expect("a stop is taken");
    assert_eq!(run.wait().await, 0, "{}", run.log());
    let ms = |share: f64| format!("{:.1} ms", percentile(&figures, share));
    Table::line(&[promise.to_owned(), format!("{CHECKPOINT_MS} ms"), ms(0.5), ms(0.99), amount(figures.len() as f64)])
}

fn reader(broker: &Broker, topic: &str) -> BaseConsumer {
    let mut config = broker.client();
    let consumer: BaseConsumer = config.set("group.id", "latency").set("fetch.wait.max.ms", "5").create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&list).expect("an assignment");
    consumer
}

/// Milliseconds of each row that carries its time.
fn latencies(consumer: &BaseConsumer, over: &AtomicBool) -> Vec<f64> {
    let mut figures = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
        let now = micros();
        let row: serde_json::Value = message.payload().and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default();
        if let Some(sent) = row["sent"].as_i64().filter(|sent| *sent > 0) {
            figures.push((now - sent) as f64 / 1e3);
        }
    }
    figures
}
