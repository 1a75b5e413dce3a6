//! Files on a real S3 server: a folder that grows is read, a partitioned one is written, and everything is killed.
//!
//! What is right is computed here, from the numbers of the orders alone.

mod feed;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rheos_e2e::gateway::{Gateway, Kind};
use rheos_e2e::oracle::{Difference, Multiset, compare, count, read_folder};
use rheos_e2e::random::Random;
use rheos_e2e::s3::{ACCESS_KEY, BUCKET, SECRET_KEY};
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::{Job, Run};

use self::feed::{Bucket, Feed, order};
use crate::{block_on, s3};

/// Stages of a checkpoint and its commit, in order.
const STAGES: [&str; 9] =
    ["prepare", "prepared", "record", "recorded", "files.commit", "files.noted", "files.moved", "files.marked", "files.committed"];
/// Most time between an engine running again and its next kill, ms: before, within and after checkpoints.
const NEXT_KILL_MS: u64 = 400;

/// The row of order `id` in the output, if it is dear enough: its folder, and the line.
fn row(id: i64) -> Option<(String, String)> {
    let order = order(id);
    let kind = if id % 2 == 0 { "a%2Fb" } else { "c" };
    let folder = format!("hour={}/kind={kind}", order.hour);
    (order.price >= 300).then(|| (folder, format!("{{\"id\":{id},\"twice\":{}}}", order.price * 2)))
}

/// What the orders become, as the oracle counts rows.
fn expected(orders: i64) -> Multiset {
    (0..orders).filter_map(row).map(|(folder, line)| (format!("{folder} {line}"), 1)).collect()
}

/// Orders from a growing folder into a partitioned one.
fn sql(sink: &str) -> String {
    format!(
        "CREATE TABLE orders (id BIGINT, price BIGINT, at TIMESTAMP(3), `file.size` BIGINT METADATA VIRTUAL,
           WATERMARK FOR at AS at - INTERVAL '1' SECOND)
         WITH ('connector' = 'filesystem', 'path' = 's3://{BUCKET}/in', 'format' = 'json', 'source.monitor-interval' = '200 ms');
         CREATE TABLE out (id BIGINT, twice BIGINT, `hour` STRING, kind STRING) PARTITIONED BY (`hour`, kind)
         WITH ('connector' = 'filesystem', 'path' = 's3://{BUCKET}/out', 'format' = 'json', 'sink.rolling-policy.file-size' = '2 kb'{sink});
         INSERT INTO out SELECT id, price * 2, DATE_FORMAT(at, 'yyyy-MM-dd HH'), CASE WHEN MOD(id, 2) = 0 THEN 'a/b' ELSE 'c' END
         FROM orders WHERE price >= 300 AND `file.size` > 0;"
    )
}

/// Markers when the watermark has passed an hour.
const BY_TIME: &str = ", 'sink.partition-commit.policy.kind' = 'success-file', 'sink.partition-commit.trigger' = 'partition-time',
    'sink.partition-commit.delay' = '1 h', 'partition.time-extractor.timestamp-pattern' = '$hour:00:00'";

fn job(name: &str, gateway: &Gateway, sink: &str, settings: Settings) -> Job {
    let storage = Some(format!("{{uri: \"s3://{BUCKET}/jobs\", endpoint: \"{}\", region: us-east-1}}", gateway.endpoint()));
    Job::new(&manifest(name, &sql(sink), &Settings { storage, ..settings }))
}

fn environment() -> [(&'static str, String); 2] {
    [("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned())]
}

/// What a reader of the output sees: rows with their folders, and the folders that are marked to be whole.
async fn seen(bucket: &Bucket) -> (Multiset, BTreeSet<String>) {
    let (mut rows, mut marked) = (Multiset::new(), BTreeSet::new());
    // In the order of names a folder's marker comes before its parts, so parts that this listing lacks came after it.
    for name in bucket.names("out").await {
        let Some((folder, file)) = name.rsplit_once('/') else { continue };
        if file == "_SUCCESS" {
            marked.insert(folder.to_owned());
        } else if !folder.starts_with("_staging") {
            let mut here = Multiset::new();
            count(&mut here, &bucket.text(&format!("out/{name}")).await).expect("a committed file");
            here.into_iter().for_each(|(row, times)| *rows.entry(format!("{folder} {row}")).or_default() += times);
        }
    }
    (rows, marked)
}

/// A marker stands for all rows of its folder.
fn assert_marked_are_whole((rows, marked): &(Multiset, BTreeSet<String>), expected: &Multiset) {
    for folder in marked {
        let of = |all: &Multiset| {
            all.iter()
                .filter(|(row, _)| row.starts_with(&format!("{folder} ")))
                .map(|(row, times)| (row.clone(), *times))
                .collect::<Multiset>()
        };
        assert_eq!(compare(&of(expected), &of(rows)), Difference::default(), "{folder} is marked and not whole");
    }
}

/// Writes the rest of the orders, waits for all output and then for all markers, and stops the job.
async fn finish(run: &mut Run, feed: &mut Feed, bucket: &Bucket, expected: &Multiset) {
    let client = run.client().await;
    feed.all().await;
    let all = async || (seen(bucket).await.0.values().sum::<i64>() >= expected.len() as i64).then_some(());
    run.until("all output", all).await;
    feed.last().await;
    let folders: BTreeSet<String> = expected.keys().filter_map(|row| Some(row.split_once(" {")?.0.to_owned())).collect();
    run.until("all markers", async || (seen(bucket).await.1 == folders).then_some(())).await;
    client.stop().await.expect("a stop is taken");
    assert_eq!(run.wait().await, 0, "{}", run.log());
}

#[test]
fn a_growing_folder_becomes_a_partitioned_one_through_kills_and_an_absence_of_the_server() {
    const ORDERS: i64 = 9_000;
    const KILLS: u64 = 32;
    const AWAY: Duration = Duration::from_secs(10);
    let mut gateway = s3::start(Kind::Versitygw);
    block_on(async {
        let (bucket, expected) = (Bucket::of(&gateway), expected(ORDERS));
        let job = job("s3-to-s3", &gateway, BY_TIME, Settings { checkpoint_ms: 300, ..Settings::default() });
        let mut feed = Feed::new(&bucket, ORDERS);
        let mut run = job.start_with(&[], &environment());
        let (client, workers) = (run.client().await, Settings::default().parallelism as usize);
        let mut random = Random(5);
        for kill in 0..KILLS {
            feed.until(ORDERS * (kill as i64 + 1) / (KILLS as i64 + 1)).await;
            run.kill_an_engine(&client, kill, workers, NEXT_KILL_MS, &mut random).await;
            if kill == KILLS / 2 {
                gateway.kill();
                // Nothing else to wait for: the time is the fault.
                tokio::time::sleep(AWAY).await;
                gateway.up().expect("the server again");
            }
            if kill % 4 == 0 {
                assert_marked_are_whole(&seen(&bucket).await, &expected);
            }
        }
        finish(&mut run, &mut feed, &bucket, &expected).await;
        assert!(run.summary().restarts >= KILLS, "each kill is a restart\n{}", run.log());
        let (rows, _) = seen(&bucket).await;
        assert_eq!(compare(&expected, &rows), Difference::default(), "{}", run.log());
        assert!(!run.log().contains(SECRET_KEY), "the log shows a secret");
        // What the killed had staged goes with the first checkpoint of a generation that comes after them.
        let mut run = job.start_with(&[], &environment());
        let client = run.client().await;
        run.until_job(&client, "a checkpoint", |job| job.checkpoints.completed > 0).await;
        client.stop().await.expect("a stop is taken");
        assert_eq!(run.wait().await, 0, "{}", run.log());
        assert_eq!(bucket.names("out/_staging").await, [""; 0]);
        assert_eq!(compare(&expected, &seen(&bucket).await.0), Difference::default(), "{}", run.log());
        reads_back(&gateway, &expected).await;
    });
}

/// A table over the output, its partition columns from the path.
async fn reads_back(gateway: &Gateway, expected: &Multiset) {
    let columns = "id BIGINT, twice BIGINT, `hour` STRING, kind STRING";
    let sql = format!(
        "CREATE TABLE written ({columns}) PARTITIONED BY (`hour`, kind) WITH ('connector' = 'filesystem', 'path' = 's3://{BUCKET}/out', 'format' = 'json');
         CREATE TABLE back ({columns}) WITH ('connector' = 'filesystem', 'path' = 'back', 'format' = 'json');
         INSERT INTO back SELECT * FROM written;"
    );
    let storage = Some(format!("{{uri: \"s3://{BUCKET}/jobs\", endpoint: \"{}\", region: us-east-1}}", gateway.endpoint()));
    let job = Job::new(&manifest("back", &sql, &Settings { storage, ..Settings::default() }));
    let mut run = job.start_with(&[], &environment());
    assert_eq!(run.wait().await, 0, "{}", run.log());
    let rows = expected.keys().map(|row| {
        let (folder, line) = row.split_once(" {").expect("a row");
        let values: BTreeMap<&str, &str> = folder.split('/').filter_map(|part| part.split_once('=')).collect();
        let mut line: serde_json::Value = serde_json::from_str(&format!("{{{line}")).expect("a row");
        line["hour"] = values["hour"].into();
        line["kind"] = values["kind"].replace("%2F", "/").into();
        (line.to_string(), 1)
    });
    assert_eq!(compare(&rows.collect(), &read_folder(&job.path("back")).expect("the rows")), Difference::default(), "{}", run.log());
}

/// Ends an engine once at each of these places; the output stays exact, and every folder is marked.
fn survives_an_end_at(places: &[&str]) {
    const ORDERS: i64 = 1_500;
    let gateway = s3::start(Kind::Versitygw);
    block_on(async {
        let name = format!("end-{}", places.join("-").replace('.', "-"));
        let (bucket, expected) = (Bucket::of(&gateway), expected(ORDERS));
        // Two engines could come to two places at the same time.
        let parallelism = if places.len() == 1 { 2 } else { 1 };
        let job = job(&name, &gateway, BY_TIME, Settings { checkpoint_ms: 100, parallelism, ..Settings::default() });
        let files: Vec<String> = places.iter().map(|place| format!("{place}={}", job.path(place).display())).collect();
        let [key, secret] = environment();
        let mut feed = Feed::new(&bucket, ORDERS);
        feed.until(ORDERS / 3).await;
        let mut run = job.start_with(&[], &[key, secret, ("RHEOS_FAILPOINTS", files.join(";"))]);
        // The last order of all hours but the first is what lets those be marked.
        feed.until(ORDERS * 9 / 10).await;
        run.until("an end at each place", async || places.iter().all(|place| job.path(place).exists()).then_some(())).await;
        finish(&mut run, &mut feed, &bucket, &expected).await;
        assert!(run.summary().restarts >= places.len() as u64, "each end is a restart\n{}", run.log());
        let (rows, marked) = seen(&bucket).await;
        assert_eq!(compare(&expected, &rows), Difference::default(), "{places:?}\n{}", run.log());
        assert_marked_are_whole(&(rows, marked), &expected);
    });
}

#[test]
fn an_end_at_any_stage_of_a_commit_of_files_changes_nothing() {
    STAGES.iter().for_each(|stage| survives_an_end_at(&[stage]));
}

#[test]
fn ends_at_two_stages_in_a_row_of_a_commit_of_files_change_nothing() {
    STAGES.windows(2).for_each(survives_an_end_at);
}

/// Without exactly-once nothing is lost; and a promise that cannot be kept is refused by name.
#[test]
fn at_least_once_loses_nothing_and_at_most_once_is_refused() {
    const ORDERS: i64 = 3_000;
    const KILLS: u64 = 4;
    let gateway = s3::start(Kind::Versitygw);
    block_on(async {
        let (bucket, expected) = (Bucket::of(&gateway), expected(ORDERS));
        let of = |delivery: &str| {
            let job = job("at-least-once", &gateway, BY_TIME, Settings { checkpoint_ms: 1_000, ..Settings::default() });
            let text = std::fs::read_to_string(job.manifest()).expect("the manifest");
            job.edit(&text.replace("spec:\n", &format!("spec:\n  delivery: {delivery}\n")));
            job
        };
        let refused = of("AtMostOnce");
        let mut run = refused.start_with(&[], &environment());
        assert_ne!(run.wait().await, 0, "{}", run.log());
        assert!(run.log().contains("spec.delivery is AtMostOnce, and this connector cannot go on from the newest row"), "{}", run.log());

        let job = of("AtLeastOnce");
        let mut feed = Feed::new(&bucket, ORDERS);
        let mut run = job.start_with(&[], &environment());
        let (client, workers) = (run.client().await, Settings::default().parallelism as usize);
        let mut random = Random(7);
        for kill in 0..KILLS {
            feed.until(ORDERS * (kill as i64 + 1) / (KILLS as i64 + 1)).await;
            run.kill_an_engine(&client, kill, workers, NEXT_KILL_MS, &mut random).await;
        }
        finish(&mut run, &mut feed, &bucket, &expected).await;
        let difference = compare(&expected, &seen(&bucket).await.0);
        assert_eq!(difference.lost, 0, "{difference:?}\n{}", run.log());
    });
}
