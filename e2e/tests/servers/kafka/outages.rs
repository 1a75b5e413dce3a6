//! Brokers that are away, slow, or have forgotten something.

use std::time::Duration;

use rheos_e2e::kafka::Broker;
use rheos_e2e::oracle::{Difference, compare};
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::Job;

use super::{Feed, PARTITIONS, broker, filter, filter_into, filtered, finish, libraries, order, rows, until};
use crate::block_on;

/// Longer than an engine may go without a sign of life, so that one that waited for the broker would be killed.
const AWAY: Duration = Duration::from_secs(10);
/// Longer than any single question to the brokers may take.
const MINUTE: Duration = Duration::from_secs(60);

/// The broker is killed, and stays away so long each time; sources and sinks wait for it. What differs in the end, and how
/// often the job started again.
fn survives_absences(name: &str, delivery: &str, absences: &[Duration]) -> (Difference, u64) {
    const ORDERS: i64 = 12_000;
    let (from, to) = (format!("{name}-in"), format!("{name}-out"));
    let mut broker = Broker::start(&libraries()).expect("a broker for this test alone");
    block_on(async {
        broker.create_topic(&from, PARTITIONS, &[]).await;
        broker.create_topic(&to, 2, &[]).await;
        let settings = Settings { checkpoint_ms: 200, ..Settings::default() };
        let text = manifest(name, &filter(&broker, &from, &to, &until(ORDERS)), &settings);
        let job = Job::new(&text.replace("spec:\n", &format!("spec:\n  delivery: {delivery}\n")));
        let feed = Feed::start(&broker, &from, ORDERS, 3_000);
        let mut run = job.start();
        // A start without brokers is another matter.
        run.until("the first commit", async || broker.bounds(&to).values().any(|(_, high)| *high > 0).then_some(())).await;
        for (kill, away) in (1..).zip(absences) {
            run.until("the feed at its place", async || (feed.written() >= ORDERS * kill / 4).then_some(())).await;
            broker.kill();
            // Nothing else to wait for: the time is the fault.
            tokio::time::sleep(*away).await;
            broker.up().expect("the broker again");
        }
        feed.hurry();
        finish(&mut run, 0).await;
        drop(feed);
        (compare(&filtered(0..ORDERS), &rows(&broker, &to)), run.summary().restarts)
    })
}

#[test]
fn exactly_once_outlives_absences_of_the_broker() {
    assert_eq!(survives_absences("away", "ExactlyOnce", &[Duration::ZERO, AWAY]).0, Difference::default());
}

#[test]
fn at_least_once_outlives_absences_of_the_broker() {
    let (difference, _) = survives_absences("away", "AtLeastOnce", &[Duration::ZERO, AWAY]);
    assert_eq!(difference.lost, 0, "{difference:?}");
}

#[test]
fn a_minute_without_the_broker_is_waited_for() {
    let (difference, restarts) = survives_absences("minute", "ExactlyOnce", &[MINUTE]);
    assert_eq!(difference, Difference::default());
    // A transaction that was under way when the broker went may have to be begun anew.
    assert!(restarts <= 1, "{restarts} restarts");
}

/// A client that takes 500 messages a second, and a batch of thousands: the sink holds its stage back, and no thread waits, or the engine would
/// be taken for dead.
#[test]
fn a_slow_broker_holds_the_job_back_and_kills_no_engine() {
    const ORDERS: i64 = 9_000;
    let broker = broker();
    block_on(async {
        broker.create_topic("slow-in", 1, &[]).await;
        broker.create_topic("slow-out", 1, &[]).await;
        broker.fill("slow-in", (0..ORDERS).map(|id| (0, order(id).1)));
        let slow = "'properties.queue.buffering.max.messages' = '500', 'properties.linger.ms' = '1000'";
        let sql = filter_into(&broker, "slow-in", "slow-out", "'scan.bounded.mode' = 'latest-offset'", slow);
        let sql = sql.replace("price * 2, part", "price * 2, CAST(MOD(id, 3) AS INT)");
        let text = manifest("slow", &sql, &Settings { parallelism: 1, ..Settings::default() });
        let job = Job::new(&text.replace("spec:\n", "spec:\n  delivery: AtLeastOnce\n"));
        let mut run = job.start();
        assert_eq!(run.wait().await, 0, "{}", run.log());
        assert_eq!(run.summary().restarts, 0, "{}", run.log());
        assert!(run.summary().wall_seconds > 6.0, "the client was not slow: the run showed nothing");
        assert_eq!(compare(&filtered(0..ORDERS), &rows(&broker, "slow-out")), Difference::default(), "{}", run.log());
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
