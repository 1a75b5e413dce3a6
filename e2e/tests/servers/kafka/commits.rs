//! The commit, ended at each of its stages, and what may happen to it while the job is away.

use rheos_control_api::view::SavepointView;
use rheos_e2e::kafka::Broker;
use rheos_e2e::oracle::{Difference, compare};
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::{Job, Run};

use super::{Feed, PARTITIONS, broker, filter, filter_into, filtered, finish, order, rows, until};
use crate::block_on;

/// Stages of a checkpoint and its commit, in order.
const STAGES: [&str; 9] =
    ["prepare", "prepared", "record", "recorded", "kafka.commit", "kafka.sent", "kafka.marked", "kafka.committed", "kafka.cleaned"];

/// Ends an engine once at each of these places; the output stays exact. Of two places in a row the second is met by the
/// next generation, whose coordinator commits what the record carries.
fn survives_an_end_at(places: &[&str]) {
    const ORDERS: i64 = 3_000;
    let broker = broker();
    block_on(async {
        let name = format!("end-{}", places.join("-").replace('.', "-"));
        let (from, to) = (format!("{name}-in"), format!("{name}-out"));
        broker.create_topic(&from, PARTITIONS, &[]).await;
        broker.create_topic(&to, 1, &[]).await;
        // Two engines could come to two places at the same time.
        let parallelism = if places.len() == 1 { 2 } else { 1 };
        let settings = Settings { checkpoint_ms: 100, parallelism, ..Settings::default() };
        let job = Job::new(&manifest(&name, &filter(&broker, &from, &to, &until(ORDERS)), &settings));
        let feed = Feed::start(&broker, &from, ORDERS, 6_000);
        let mut run = job.start_with(&[], &[("RHEOS_FAILPOINTS", failpoints(&job, places))]);
        run.until("an end at each place", async || places.iter().all(|place| job.path(place).exists()).then_some(())).await;
        feed.hurry();
        finish(&mut run, places.len() as u64).await;
        drop(feed);
        assert_eq!(compare(&filtered(0..ORDERS), &rows(&broker, &to)), Difference::default(), "{places:?}\n{}", run.log());
    });
}

fn failpoints(job: &Job, places: &[&str]) -> String {
    let files: Vec<String> = places.iter().map(|place| format!("{place}={}", job.path(place).display())).collect();
    files.join(";")
}

#[test]
fn an_end_at_any_stage_of_a_commit_changes_nothing() {
    STAGES.iter().for_each(|stage| survives_an_end_at(&[stage]));
}

#[test]
fn ends_at_two_stages_in_a_row_change_nothing() {
    STAGES.windows(2).for_each(survives_an_end_at);
}

/// A job that ends at `place` and is not started again by its supervisor; what it had to do.
async fn ended_for_good(broker: &Broker, name: &str, place: &str, sink: &str) -> (Job, i64) {
    const ORDERS: i64 = 3_000;
    let (from, to) = (format!("{name}-in"), format!("{name}-out"));
    broker.create_topic(&from, PARTITIONS, &[]).await;
    broker.create_topic(&to, 1, &[]).await;
    broker.fill(&from, (0..ORDERS).map(order));
    let sql = filter_into(broker, &from, &to, &until(ORDERS), sink);
    let job =
        Job::new(&manifest(name, &sql, &Settings { parallelism: 1, ..Settings::default() }).replace("maxRestarts: 1000", "maxRestarts: 0"));
    let mut run = job.start_with(&[], &[("RHEOS_FAILPOINTS", failpoints(&job, &[place]))]);
    assert_ne!(run.wait().await, 0, "{}", run.log());
    assert!(job.path(place).exists(), "nobody came to {place}\n{}", run.log());
    (job, ORDERS)
}

/// The brokers give up the transaction of a job that is away. Nothing lives in it alone.
#[test]
fn a_transaction_that_times_out_while_the_job_is_away_costs_nothing() {
    let broker = broker();
    block_on(async {
        let (job, orders) = ended_for_good(&broker, "timeout", "kafka.marked", "'properties.transaction.timeout.ms' = '1000'").await;
        let ends = || (broker.bounds("timeout-out")[&0].1, broker.uncommitted_end("timeout-out"));
        let (committed, all) = ends();
        assert!(committed < all, "no transaction is open: {committed}, {all}");
        let deadline = std::time::Instant::now() + rheos_e2e::worker::PATIENCE;
        while ends().0 < all {
            assert!(std::time::Instant::now() < deadline, "the transaction does not end");
        }
        assert_eq!(rows(&broker, "timeout-out").len(), 0, "it was given up");
        let mut run = job.start();
        finish(&mut run, 0).await;
        assert_eq!(compare(&filtered(0..orders), &rows(&broker, "timeout-out")), Difference::default(), "{}", run.log());
    });
}

/// Marker forgotten, messages still staged: the job says so and its owner decides.
#[test]
fn a_forgotten_marker_stops_the_job_by_name_until_its_owner_decides() {
    let broker = broker();
    for (decision, repeats) in [("drop", false), ("send", true)] {
        block_on(async {
            let name = format!("forgotten-{decision}");
            let (job, orders) = ended_for_good(&broker, &name, "kafka.committed", "'sink.parallelism' = '1'").await;
            let to = format!("{name}-out");
            assert!(!rows(&broker, &to).is_empty(), "nothing was committed");
            assert!(broker.forget_groups("rheos-").await > 0, "there was no marker");
            let edit = |from: &str, to: &str| {
                let text = std::fs::read_to_string(job.manifest()).expect("the manifest");
                job.edit(&text.replace(from, to));
            };
            edit("'sink.parallelism' = '1'", "'sink.marker-retention' = '1 ms'");
            let mut run = job.start();
            assert_eq!(run.wait().await, 1, "{}", run.log());
            let log = run.log();
            assert!(log.contains("the brokers have no marker 'rheos-") && log.contains("sink.expired-commits"), "{log}");
            edit("'1 ms'", &format!("'1 ms', 'sink.expired-commits' = '{decision}'"));
            let mut run = job.start();
            finish(&mut run, 0).await;
            let difference = compare(&filtered(0..orders), &rows(&broker, &to));
            assert_eq!((difference.lost, difference.repeated > 0), (0, repeats), "{decision}: {difference:?}\n{}", run.log());
        });
    }
}

/// A job that goes back gives the epochs behind the savepoint once more, for rows that are to be written once more.
#[test]
fn a_job_that_goes_back_to_a_savepoint_writes_again_what_came_behind_it() {
    const ORDERS: i64 = 6_000;
    let broker = broker();
    block_on(async {
        broker.create_topic("back-in", PARTITIONS, &[]).await;
        broker.create_topic("back-out", 1, &[]).await;
        let settings = Settings { checkpoint_ms: 100, ..Settings::default() };
        let job = Job::new(&manifest("back", &filter(&broker, "back-in", "back-out", &until(ORDERS)), &settings));
        let feed = Feed::start(&broker, "back-in", ORDERS, 3_000);
        let mut run = job.start();
        let uri = savepoint(&mut run).await;
        let end = broker.bounds("back-out")[&0].1;
        run.until("output behind the savepoint", async || (broker.bounds("back-out")[&0].1 > end).then_some(())).await;
        feed.hurry();
        finish(&mut run, 0).await;
        drop(feed);
        assert_eq!(compare(&filtered(0..ORDERS), &rows(&broker, "back-out")), Difference::default(), "{}", run.log());
        let mut run = job.start_with(&["--from", &uri], &[]);
        finish(&mut run, 0).await;
        // The last tenth was certainly written behind the savepoint.
        let twice = rows(&broker, "back-out");
        let times = |ids: std::ops::Range<i64>| filtered(ids).keys().map(|row| twice.get(row).copied().unwrap_or(0)).collect::<Vec<_>>();
        assert!(times(ORDERS - ORDERS / 10..ORDERS).iter().all(|count| *count == 2), "{}", run.log());
        assert!(times(0..ORDERS).iter().all(|count| *count == 1 || *count == 2), "{}", run.log());
    });
}

async fn savepoint(run: &mut Run) -> String {
    let client = run.client().await;
    run.until_job(&client, "a checkpoint", |job| job.checkpoints.completed > 1).await;
    client.savepoint(Some("before")).await.expect("a savepoint is taken");
    run.until("the savepoint", async || match client.job().await.ok()?.savepoints.get("before")? {
        SavepointView::Completed { uri, .. } => Some(uri.clone()),
        SavepointView::Failed { reason } => panic!("the savepoint failed: {reason}"),
        SavepointView::Pending => None,
    })
    .await
}
