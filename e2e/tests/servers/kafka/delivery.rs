//! The three promises, each shown: one job, fifty kills of its engines at random moments; here from Kafka to Kafka.

use std::collections::BTreeMap;

use rheos_control_api::Client;
use rheos_e2e::kafka::Broker;
use rheos_e2e::oracle::{Difference, Multiset, compare};
use rheos_e2e::random::Random;
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::{Job, Run};

use super::{Feed, PARTITIONS, broker, filter_into, filtered, finish, orders, rows, until};
use crate::block_on;

/// Kills of a run.
const KILLS: u64 = 50;
/// Orders of a run, and how many come in a second while engines are killed.
pub(crate) const ORDERS: i64 = 60_000;
const PACE: i64 = 600;
/// Most time between all engines running again and the next kill, ms: before, within and after checkpoints.
const NEXT_KILL_MS: u64 = 400;

/// Messages lie in the client for a while, so that kills meet some that the brokers have not acknowledged.
const LINGER: &str = "'properties.linger.ms' = '100'";

/// Kills engines of a run of so many workers, one after the other, each when all run.
pub(crate) async fn kill_engines(run: &mut Run, client: &Client, workers: usize, kills: u64, random: &mut Random) {
    for kill in 0..kills {
        run.kill_an_engine(client, kill, workers, NEXT_KILL_MS, random).await;
    }
}

/// Runs a job that reads the topic `{name}-in`, until [`ORDERS`], through the kills. The last tenth of the orders was written when all
/// engines were well again.
pub(crate) async fn killed(broker: &Broker, name: &str, delivery: &str, checkpoint_ms: u32, sql: &str) {
    let from = format!("{name}-in");
    broker.create_topic(&from, PARTITIONS, &[]).await;
    let settings = Settings { checkpoint_ms, ..Settings::default() };
    let text = manifest(name, sql, &settings);
    let job = Job::new(&text.replace("spec:\n", &format!("spec:\n  delivery: {delivery}\n")));
    let feed = Feed::start(broker, &from, ORDERS, PACE);
    let mut run = job.start();
    let client = run.client().await;
    let mut random = Random(u64::from(checkpoint_ms) + delivery.len() as u64);
    kill_engines(&mut run, &client, 2, KILLS, &mut random).await;
    run.until_up(&client, KILLS, 2).await;
    let ends: Vec<Option<i64>> = broker.bounds(&from).values().map(|(_, end)| Some(*end)).collect();
    let read = || broker.committed(&format!("{from}-job"), &from, PARTITIONS).into_values().zip(&ends).all(|(at, end)| at > *end);
    run.until("a checkpoint of newer orders of each partition", async || read().then_some(())).await;
    feed.hurry();
    finish(&mut run, KILLS).await;
    drop(feed);
}

/// The output of a job from topic to topic, after the kills.
async fn from_topic_to_topic(broker: &Broker, name: &str, delivery: &str, checkpoint_ms: u32) -> Multiset {
    let to = format!("{name}-out");
    broker.create_topic(&to, 2, &[]).await;
    let sql = filter_into(broker, &format!("{name}-in"), &to, &until(ORDERS), LINGER);
    killed(broker, name, delivery, checkpoint_ms, &sql).await;
    rows(broker, &to)
}

#[test]
fn exactly_once_loses_nothing_and_repeats_nothing_in_fifty_kills() {
    let found = block_on(from_topic_to_topic(&broker(), "exactly", "ExactlyOnce", 150));
    assert_eq!(compare(&filtered(0..ORDERS), &found), Difference::default());
}

#[test]
fn at_least_once_loses_nothing_and_is_seen_to_repeat_in_fifty_kills() {
    let difference = compare(&filtered(0..ORDERS), &block_on(from_topic_to_topic(&broker(), "least", "AtLeastOnce", 300)));
    assert_eq!(difference.lost, 0, "{difference:?}");
    assert!(difference.repeated > 0, "nothing repeated: the kills showed nothing");
}

#[test]
fn at_most_once_repeats_nothing_and_is_seen_to_lose_in_fifty_kills() {
    let found = block_on(from_topic_to_topic(&broker(), "most", "AtMostOnce", 300));
    let difference = compare(&filtered(0..ORDERS), &found);
    assert_eq!(difference.repeated, 0, "{difference:?}");
    assert!(difference.lost > 0, "nothing lost: the kills showed nothing");
    let last = filtered(ORDERS - ORDERS / 10..ORDERS);
    let kept = found.into_iter().filter(|(row, _)| last.contains_key(row)).collect();
    assert_eq!(compare(&last, &kept), Difference::default(), "what came when all was well was lost");
}

/// Orders of a window of the tests, and those of one name among them.
const WINDOW: i64 = 100;
const OF_NAME: i64 = WINDOW / 4;

#[test]
fn at_most_once_fires_no_window_twice_in_fifty_kills() {
    let broker = broker();
    let found = block_on(async {
        broker.create_topic("most-windows-out", 2, &[]).await;
        let sql = format!(
            "{}CREATE TABLE out (second BIGINT, name STRING, n BIGINT) WITH ('connector' = 'kafka', 'topic' = 'most-windows-out',
               'properties.bootstrap.servers' = '{}', 'format' = 'json', {LINGER});
             INSERT INTO out SELECT EXTRACT(EPOCH FROM window_start), name, COUNT(*)
             FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(time), INTERVAL '1' SECOND)) GROUP BY window_start, window_end, name;",
            orders(&broker, "most-windows-in", &until(ORDERS)),
            broker.address()
        );
        killed(&broker, "most-windows", "AtMostOnce", 300, &sql).await;
        rows(&broker, "most-windows-out")
    });
    let mut windows: BTreeMap<(i64, String), i64> = BTreeMap::new();
    for (row, times) in found {
        let row: serde_json::Value = serde_json::from_str(&row).expect("a row");
        let number = |column: &str| row[column].as_i64().expect("a number");
        let (n, name) = (number("n"), row["name"].as_str().expect("a text").to_owned());
        let before = windows.insert((number("second"), name), n);
        assert!(before.is_none() && times == 1, "fired again, {times} times: {row}, before with {before:?}");
        assert!(n <= OF_NAME, "an order counts twice: {row}");
    }
    let (all, counted) = (ORDERS / WINDOW * 4, windows.values().sum::<i64>());
    println!("{} windows of {all}, {counted} orders of {ORDERS}", windows.len());
    assert!(counted < ORDERS, "nothing lost: the kills showed nothing");
    // The last tenth came when all was well.
    let first = (ORDERS - ORDERS / 10) / WINDOW;
    let last: Vec<i64> = windows.into_iter().filter(|((second, _), _)| *second >= first).map(|(_, n)| n).collect();
    assert_eq!(last, vec![OF_NAME; (ORDERS / 10 / WINDOW * 4) as usize]);
}
