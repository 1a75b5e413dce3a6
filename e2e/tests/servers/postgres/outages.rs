//! Servers that are away, and sessions that end.

use std::time::Duration;

use rheos_e2e::oracle::{Difference, compare};
use rheos_e2e::postgres::Postgres;
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::Job;

use super::{copied, copy, create, rows};
use crate::block_on;
use crate::kafka::finish;

/// How long the server stays away, the second time; longer than an engine may go without a sign of life, so that one
/// that waited for the server would be killed.
const AWAY: Duration = Duration::from_secs(10);

/// The server is killed twice while a job writes.
fn survives_an_absence(delivery: &str) -> Difference {
    const COUNT: i64 = 40_000;
    let mut server = Postgres::start().expect("a server for this test alone");
    create(&server, "away");
    let settings = Settings { checkpoint_ms: 200, ..Settings::default() };
    let text = manifest("away", &copy(&server, "away", COUNT, 2_500, ", 'sink.buffer-flush.interval' = '50 ms'"), &settings);
    let job = Job::new(&text.replace("spec:\n", &format!("spec:\n  delivery: {delivery}\n")));
    block_on(async {
        let mut run = job.start();
        for (kill, away) in [(1, Duration::ZERO), (2, AWAY)] {
            let quarter = async || (server.number("SELECT COUNT(*) FROM away") >= COUNT * kill / 8).then_some(());
            run.until("some of the rows", quarter).await;
            server.kill();
            // Nothing else to wait for: the time is the fault.
            tokio::time::sleep(away).await;
            server.up().expect("the server again");
        }
        finish(&mut run, 0).await;
        assert_eq!(run.summary().restarts, 0, "the sink waits for its server\n{}", run.log());
        compare(&copied(COUNT), &rows(&server, "away", "*"))
    })
}

#[test]
fn exactly_once_outlives_an_absence_of_the_server() {
    assert_eq!(survives_an_absence("ExactlyOnce"), Difference::default());
}

#[test]
fn at_least_once_outlives_an_absence_of_the_server() {
    let difference = survives_an_absence("AtLeastOnce");
    assert_eq!(difference.lost, 0, "{difference:?}");
}
