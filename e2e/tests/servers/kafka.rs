//! Kafka in and out against a real broker, with real worker processes; outputs are compared with what these files compute
//! from the same input. Here: the input, the SQL and the feed that all of them share.

mod commits;
pub(crate) mod delivery;
mod formats;
mod outages;
mod security;
mod tables;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rheos_e2e::kafka::{Broker, LIBRARIES, send};
use rheos_e2e::oracle::Multiset;
use rheos_e2e::worker::Run;

/// Partitions of the topics.
const PARTITIONS: i32 = 3;

/// One broker for all tests, until one of them needs it for itself.
pub(crate) fn broker() -> MutexGuard<'static, Broker> {
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

/// The rows that [`filter`] makes of these orders.
pub(crate) fn filtered(ids: std::ops::Range<i64>) -> Multiset {
    let rows = ids.filter(|id| price(*id) >= 300);
    rows.map(|id| (format!("{{\"id\":{id},\"twice\":{},\"part\":{}}}", price(id) * 2, id % i64::from(PARTITIONS)), 1)).collect()
}

/// The table of orders, from its beginning on; `more` are further options, `'name' = 'value'`.
pub(crate) fn orders(broker: &Broker, topic: &str, more: &str) -> String {
    let start = if more.contains("scan.startup.mode") { "" } else { "'scan.startup.mode' = 'earliest-offset', " };
    format!(
        "CREATE TABLE orders (id BIGINT, price BIGINT, name STRING, ts BIGINT, part INT METADATA FROM 'partition' VIRTUAL,
           time AS TO_TIMESTAMP_LTZ(ts, 3), WATERMARK FOR time AS time - INTERVAL '1' SECOND)
         WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{}', 'properties.group.id' = '{topic}-job',
               'format' = 'json', {start}{more});\n",
        broker.address()
    )
}

/// Dear orders from one topic to another.
fn filter(broker: &Broker, from: &str, to: &str, more: &str) -> String {
    filter_into(broker, from, to, more, "'key.format' = 'json', 'key.fields' = 'id'")
}

/// The same with options of the sink.
fn filter_into(broker: &Broker, from: &str, to: &str, more: &str, sink: &str) -> String {
    let sink = format!(
        "CREATE TABLE out (id BIGINT, twice BIGINT, part INT) WITH ('connector' = 'kafka', 'topic' = '{to}',
           'properties.bootstrap.servers' = '{}', 'format' = 'json', {sink});\n",
        broker.address()
    );
    format!("{}{sink}INSERT INTO out SELECT id, price * 2, part FROM orders WHERE price >= 300;", orders(broker, from, more))
}

/// The option that ends the table where orders below `count` end.
pub(crate) fn until(count: i64) -> String {
    let each = i64::from(PARTITIONS);
    let offsets = (0..each).map(|partition| format!("partition:{partition},offset:{}", (count - partition + each - 1) / each));
    let offsets: Vec<String> = offsets.collect();
    format!("'scan.bounded.mode' = 'specific-offsets', 'scan.bounded.specific-offsets' = '{}'", offsets.join(";"))
}

/// The values of a topic, as the oracle counts rows.
fn rows(broker: &Broker, topic: &str) -> Multiset {
    let mut rows = Multiset::new();
    for record in broker.read(topic) {
        *rows.entry(record.value.expect("a value")).or_default() += 1;
    }
    rows
}

/// Waits for the end of a run that has ended well, after this many restarts at least.
pub(crate) async fn finish(run: &mut Run, restarts: u64) {
    assert_eq!(run.wait().await, 0, "{}", run.log());
    assert!(run.summary().restarts >= restarts, "each kill is a restart\n{}", run.log());
}

/// Writes orders in real time, from another thread.
struct Feed {
    thread: Option<std::thread::JoinHandle<()>>,
    written: Arc<AtomicI64>,
    hurry: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Feed {
    /// `count` orders, `pace` a second. The last tenth waits until [`Feed::hurry`].
    fn start(broker: &Broker, topic: &str, count: i64, pace: i64) -> Self {
        let (producer, topic) = (broker.producer(), topic.to_owned());
        let (written, hurry, over) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (counter, quickly, stop) = (Arc::clone(&written), Arc::clone(&hurry), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let began = std::time::Instant::now();
            let mut next = 0;
            while next < count && !stop.load(Ordering::Relaxed) {
                let paced = (began.elapsed().as_secs_f64() * pace as f64) as i64;
                let due = if quickly.load(Ordering::Relaxed) { count } else { paced.min(count - count / 10) };
                (next..due).map(order).for_each(|(partition, value)| send(&producer, &topic, partition, &value));
                next = next.max(due);
                counter.store(next, Ordering::Relaxed);
                // The pace of the feed.
                std::thread::park_timeout(Duration::from_millis(5));
            }
            rdkafka::producer::Producer::flush(&producer, Duration::from_secs(60)).expect("all is written");
        });
        Self { thread: Some(thread), written, hurry, over }
    }

    /// How many orders were written.
    fn written(&self) -> i64 {
        self.written.load(Ordering::Relaxed)
    }

    /// The rest at once.
    fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
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
