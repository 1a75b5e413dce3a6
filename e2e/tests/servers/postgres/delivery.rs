//! The three promises from Kafka to PostgreSQL, through the kills of [`crate::kafka::delivery`]; and a change-log through
//! as many, at 2, 3 and 1 workers.

use rheos_e2e::oracle::{Difference, Multiset, compare};
use rheos_e2e::random::Random;
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::Job;

use super::{create_keyed, rows, server, summed, sums};
use crate::block_on;
use crate::kafka::delivery::{ORDERS, kill_engines, killed};
use crate::kafka::{broker, filtered, finish, orders, until};

/// Rows wait for a moment only, so that kills meet some that are written and not yet in a checkpoint.
const SOON: &str = "'sink.buffer-flush.interval' = '20 ms'";

/// The table after the kills.
fn table(name: &str, delivery: &str, checkpoint_ms: u32) -> Multiset {
    let (broker, server, table) = (broker(), server(), format!("delivery_{name}"));
    server.query(&format!("CREATE TABLE {table} (id bigint, twice bigint, part int)"));
    let sink = format!("CREATE TABLE out (id BIGINT, twice BIGINT, part INT) WITH ({}, {SOON});\n", server.options(&table));
    let from = format!("pg-{name}");
    let query = "INSERT INTO out SELECT id, price * 2, part FROM orders WHERE price >= 300;";
    let sql = format!("{}{sink}{query}", orders(&broker, &format!("{from}-in"), &until(ORDERS)));
    block_on(killed(&broker, &from, delivery, checkpoint_ms, &sql));
    rows(server, &table, r#"format('{"id":%s,"twice":%s,"part":%s}', id, twice, part)"#)
}

#[test]
fn exactly_once_loses_nothing_and_repeats_nothing_in_fifty_kills() {
    assert_eq!(compare(&filtered(0..ORDERS), &table("exactly", "ExactlyOnce", 150)), Difference::default());
}

#[test]
fn at_least_once_loses_nothing_and_is_seen_to_repeat_in_fifty_kills() {
    let difference = compare(&filtered(0..ORDERS), &table("least", "AtLeastOnce", 300));
    assert_eq!(difference.lost, 0, "{difference:?}");
    assert!(difference.repeated > 0, "nothing repeated: the kills showed nothing");
}

#[test]
fn at_most_once_repeats_nothing_and_is_seen_to_lose_in_fifty_kills() {
    let found = table("most", "AtMostOnce", 300);
    let difference = compare(&filtered(0..ORDERS), &found);
    assert_eq!(difference.repeated, 0, "{difference:?}");
    assert!(difference.lost > 0, "nothing lost: the kills showed nothing");
    let last = filtered(ORDERS - ORDERS / 10..ORDERS);
    let kept = found.into_iter().filter(|(row, _)| last.contains_key(row)).collect();
    assert_eq!(compare(&last, &kept), Difference::default(), "what came when all was well was lost");
}

/// Numbers come so fast that no part of the run ends before its kills.
const PACE: i64 = 1_500;
const NUMBERS: i64 = 120_000;

#[test]
fn a_change_log_is_exact_after_fifty_kills_and_two_rescales() {
    let server = server();
    create_keyed(server, "delivery_sums");
    let settings = Settings { checkpoint_ms: 150, ..Settings::default() };
    let job = Job::new(&manifest("sums", &sums(server, "delivery_sums", NUMBERS, PACE), &settings));
    let mut random = Random(11);
    block_on(async {
        for (workers, kills) in [(2, 20), (3, 15)] {
            let mut run = job.start_with(&["--parallelism", &workers.to_string()], &[]);
            let client = run.client().await;
            kill_engines(&mut run, &client, workers, kills, &mut random).await;
            run.until_job(&client, "a checkpoint after them", |job| job.restarts.count >= kills && job.checkpoints.completed > 0).await;
            client.stop().await.expect("a stop is taken");
            assert_eq!(run.wait().await, 0, "{}", run.log());
            assert_eq!((run.summary().state.as_str(), run.summary().restarts), ("Suspended", kills), "{}", run.log());
        }
        let mut run = job.start_with(&["--parallelism", "1"], &[]);
        let client = run.client().await;
        kill_engines(&mut run, &client, 1, 15, &mut random).await;
        finish(&mut run, 15).await;
        assert_eq!(compare(&summed(NUMBERS), &rows(server, "delivery_sums", "k, num, total")), Difference::default(), "{}", run.log());
    });
}
