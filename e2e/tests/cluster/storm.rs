//! Everything at once, for five minutes: Kafka to Kafka under load while pods, engine, operator and broker are killed in
//! turn and the job is rescaled; a client follows the results through the apiserver all the while. What is committed, and
//! what the client has, equals what this file computes from the same events.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rheos_e2e::harness::kubectl::must;
use rheos_e2e::harness::space::LIMIT;
use rheos_e2e::harness::{JobSpec, Space, install, scenario_alone};
use rheos_e2e::kafka::{Broker, LIBRARIES, send};
use rheos_e2e::oracle::{Difference, Multiset, compare};
use rheos_e2e::results::Copy;
use serde_json::{Value, json};

/// How long events come.
const DURATION: Duration = Duration::from_secs(300);
/// Events a second.
const PACE: i64 = 2_000;
/// All of them.
const EVENTS: i64 = PACE * DURATION.as_secs() as i64;
/// Partitions of the topics.
const PARTITIONS: i32 = 4;
/// Auctions.
const AUCTIONS: i64 = 37;
/// How long the broker is away.
const AWAY: Duration = Duration::from_secs(5);
/// Between two looks at a topic, which tells nobody.
const LOOK: Duration = Duration::from_millis(500);
const JOB: &str = "storm";

/// An event's time, ms: an even stream.
fn time(event: i64) -> i64 {
    event * 1_000 / PACE
}

fn auction(event: i64) -> i64 {
    event * 7_919 % AUCTIONS
}

fn price(event: i64) -> i64 {
    event * 104_729 % 1_009
}

fn message(event: i64) -> String {
    format!("{{\"auction\":{},\"price\":{},\"ts\":{}}}", auction(event), price(event), time(event))
}

/// Bids and takings of each auction in each second.
fn expected() -> Multiset {
    let mut seconds = std::collections::BTreeMap::<(i64, i64), (i64, i64)>::new();
    for event in 0..EVENTS {
        let (bids, total) = seconds.entry((auction(event), time(event) / 1_000)).or_default();
        *bids += 1;
        *total += price(event);
    }
    let row = |((auction, second), (bids, total))| json!({"auction": auction, "newest": second, "bids": bids, "total": total}).to_string();
    seconds.into_iter().map(|entry| (row(entry), 1)).collect()
}

fn sql(brokers: &str) -> String {
    let kafka = format!("'connector' = 'kafka', 'properties.bootstrap.servers' = '{brokers}', 'format' = 'json'");
    let columns = "auction BIGINT, newest BIGINT, bids BIGINT, total BIGINT";
    format!(
        "CREATE TABLE bids (auction BIGINT, price BIGINT, ts BIGINT,
           at AS TO_TIMESTAMP_LTZ(ts, 3), WATERMARK FOR at AS at - INTERVAL '1' SECOND)
         WITH ({kafka}, 'topic' = 'bids', 'scan.startup.mode' = 'earliest-offset');
         CREATE TABLE takings ({columns}) WITH ({kafka}, 'topic' = 'takings');
         CREATE TABLE live ({columns}) WITH ('connector' = 'results');
         CREATE VIEW seconds AS SELECT auction, MAX(ts) / 1000 AS newest, COUNT(*) AS bids, SUM(price) AS total
           FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(at), INTERVAL '1' SECOND)) GROUP BY auction, window_start, window_end;
         INSERT INTO takings SELECT * FROM seconds;
         INSERT INTO live SELECT * FROM seconds;"
    )
}

/// Writes the events in real time, then one of the far future into each partition, so that every window ends.
fn feed(broker: &Broker) -> std::thread::JoinHandle<()> {
    let producer = broker.producer();
    std::thread::spawn(move || {
        let began = Instant::now();
        let mut next = 0;
        while next < EVENTS {
            let due = ((began.elapsed().as_secs_f64() * PACE as f64) as i64).min(EVENTS);
            (next..due).for_each(|event| send(&producer, "bids", (event % i64::from(PARTITIONS)) as i32, &message(event)));
            next = due;
            // The pace of the feed.
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let far = format!("{{\"auction\":0,\"price\":0,\"ts\":{}}}", time(EVENTS) + 3_600_000);
        (0..PARTITIONS).for_each(|partition| send(&producer, "bids", partition, &far));
        rdkafka::producer::Producer::flush(&producer, LIMIT).expect("all is written");
    })
}

/// `kubectl streamjob results`, as a person runs it.
struct Follower {
    child: Child,
    rows: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Follower {
    fn start(space: &Space) -> Self {
        let me = std::env::current_exe().unwrap();
        let program = me.ancestors().find(|folder| folder.join("deps").is_dir()).unwrap().join("kubectl-streamjob");
        assert!(program.exists(), "{} is not there: build the whole workspace", program.display());
        let folder = tempfile::tempdir().unwrap();
        let rows = folder.path().join("rows");
        let said = std::fs::File::create(folder.path().join("said")).unwrap();
        let mut command = Command::new(program);
        command.args(["-n", &space.name, "results", JOB, "live", "--follow", "--output", "json"]);
        let child = command.stdin(Stdio::null()).stdout(std::fs::File::create(&rows).unwrap()).stderr(said).spawn().unwrap();
        Self { child, rows, _folder: folder }
    }

    /// What it has been told so far; panics when a row does not follow the one before it.
    fn copy(&self) -> Copy {
        let text = std::fs::read_to_string(&self.rows).unwrap();
        let mut copy = Copy::default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().for_each(|line| assert_eq!(copy.line(line), Ok(None), "{line}"));
        copy
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Newest complete checkpoint, as generation and epoch.
fn newest(view: &Value) -> Option<(u64, u64)> {
    let last = view["checkpoints"]["history"].as_array()?.last()?;
    Some((last["generation"].as_u64()?, last["epoch"].as_u64()?))
}

/// Waits for two checkpoints that began after now, of a generation from `least` on, with so many workers.
async fn goes_on(space: &Space, least: u64, workers: u64) -> u64 {
    let what = format!("checkpoints of generation {least} or later on {workers} workers");
    let ready = |view: &Value| {
        let all = view["workers"].as_array()?;
        let running = all.len() as u64 == workers && all.iter().all(|worker| worker["running"] == true);
        newest(view).filter(|(generation, _)| running && *generation >= least && view["generation"] == *generation)
    };
    let (_, epoch) = space.until_view(JOB, &what, ready).await;
    space.until_view(JOB, &what, |view| ready(view).filter(|(_, later)| *later > epoch)).await.0
}

/// One blow after another until the feed ends; the faults and rescales there were.
async fn blows(space: &Space, broker: &mut Broker, feed: &std::thread::JoinHandle<()>) -> (u32, u32) {
    let (mut workers, mut generation) = (2, goes_on(space, 0, 2).await);
    let (mut faults, mut rescales) = (0, 0);
    while !feed.is_finished() {
        let blow = faults + rescales;
        match blow % 7 {
            0 => space.kill_pod(&space.pod(JOB, 1)),
            1 | 5 => {
                workers = if blow % 7 == 1 { 3 } else { 2 };
                space.kubectl(&["scale", "streamjob", JOB, &format!("--replicas={workers}")]);
            }
            2 => drop(must(&["delete", "pods", "-n", install::NAMESPACE, "--all", "--force", "--grace-period=0", "--wait=false"])),
            3 => {
                broker.kill();
                // How long an outage lasts, no condition.
                tokio::time::sleep(AWAY).await;
                broker.up().unwrap();
            }
            4 => space.kill_pod(&space.pod(JOB, 0)),
            _ => space.kill_process(&space.pod(JOB, 0), "rheos-worker engine"),
        }
        let restarts = !matches!(blow % 7, 2 | 3);
        if matches!(blow % 7, 1 | 5) {
            rescales += 1
        } else {
            faults += 1
        }
        generation = goes_on(space, generation + u64::from(restarts), workers).await;
    }
    (faults, rescales)
}

/// The rows that are committed in the output topic.
fn rows(broker: &Broker) -> Multiset {
    let mut rows = Multiset::new();
    for record in broker.read("takings") {
        let value: Value = serde_json::from_str(&record.value.expect("a value")).unwrap();
        *rows.entry(value.to_string()).or_default() += 1;
    }
    rows
}

#[test]
fn a_storm_of_five_minutes_loses_nothing_and_repeats_nothing_for_brokers_and_clients() {
    let libraries = std::env::var(LIBRARIES).unwrap_or_else(|_| panic!("{LIBRARIES} names the broker's libraries: run `cargo xtask e2e`"));
    scenario_alone("storm", async |space| {
        let mut broker = Broker::start_at(&space.here(), Path::new(&libraries)).unwrap();
        broker.create_topic("bids", PARTITIONS, &[]).await;
        broker.create_topic("takings", 2, &[]).await;
        let job = JobSpec::new(JOB, "tumble", 1).with(&json!({"sql": sql(&broker.address())}));
        space.submit(&job);
        let feed = feed(&broker);
        goes_on(space, 0, 2).await;
        let follower = Follower::start(space);
        let (faults, rescales) = blows(space, &mut broker, &feed).await;
        feed.join().unwrap();
        assert!(faults >= 5 && rescales >= 2, "{faults} faults and {rescales} rescales in {DURATION:?}");
        let expected = expected();
        let whole = async {
            while rows(&broker).len() < expected.len() || follower.copy().rows.len() < expected.len() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let done = tokio::time::timeout(LIMIT, whole).await;
        // Nothing more can come once the job is stopped.
        space.kubectl(&["patch", "streamjob", JOB, "--type=merge", "-p", r#"{"spec":{"state":"Suspended"}}"#]);
        space.until_phase(JOB, "Suspended").await;
        let copy = follower.copy();
        println!("{faults} faults, {rescales} rescales, {EVENTS} events, {} rows", expected.len());
        assert_eq!(compare(&expected, &rows(&broker)), Difference::default(), "the topic; in time: {}", done.is_ok());
        assert_eq!(compare(&expected, &copy.rows), Difference::default(), "the client; in time: {}", done.is_ok());
    });
}
