//! The commit, ended at each of its stages.

use rheos_control_api::view::SavepointView;
use rheos_e2e::oracle::{Difference, compare};
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::{Job, Run};

use super::{copied, copy, create, create_keyed, failpoints, rows, server, summed, sums, until_rows};
use crate::block_on;
use crate::kafka::finish;

/// Stages of a checkpoint and its commit, in order.
const STAGES: [&str; 9] =
    ["prepare", "prepared", "record", "recorded", "jdbc.commit", "jdbc.written", "jdbc.marked", "jdbc.committed", "jdbc.cleaned"];

/// Ends an engine once at each of these places; the output stays exact. Of two places in a row the second is met by the
/// next generation, which commits what the record carries.
fn survives_an_end_at(places: &[&str]) {
    const COUNT: i64 = 2_000;
    let (server, name) = (server(), format!("end_{}", places.join("_").replace('.', "_")));
    create(server, &name);
    // Two engines could come to two places at the same time.
    let parallelism = if places.len() == 1 { 2 } else { 1 };
    let settings = Settings { checkpoint_ms: 100, parallelism, ..Settings::default() };
    let job = Job::new(&manifest("end", &copy(server, &name, COUNT, 4_000, ""), &settings));
    block_on(async {
        let mut run = job.start_with(&[], &[("RHEOS_FAILPOINTS", failpoints(&job, places))]);
        finish(&mut run, places.len() as u64).await;
        assert!(places.iter().all(|place| job.path(place).exists()), "nobody came to some of {places:?}\n{}", run.log());
        assert_eq!(compare(&copied(COUNT), &rows(server, &name, "*")), Difference::default(), "{places:?}\n{}", run.log());
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

/// A change-log by key, ended while its rows were written: no key is there that should have gone, none too old.
#[test]
fn the_newest_row_of_each_key_is_kept_through_ends() {
    const COUNT: i64 = 20_000;
    let server = server();
    create_keyed(server, "newest");
    let places = ["jdbc.written", "jdbc.committed"];
    let settings = Settings { checkpoint_ms: 100, ..Settings::default() };
    let job = Job::new(&manifest("newest", &sums(server, "newest", COUNT, 10_000), &settings));
    block_on(async {
        let mut run = job.start_with(&[], &[("RHEOS_FAILPOINTS", failpoints(&job, &places))]);
        finish(&mut run, places.len() as u64).await;
        assert_eq!(compare(&summed(COUNT), &rows(server, "newest", "k, num, total")), Difference::default(), "{}", run.log());
    });
}

/// A job that goes back gives the epochs behind the savepoint once more, for rows that are to be written once more.
#[test]
fn a_job_that_goes_back_to_a_savepoint_writes_again_what_came_behind_it() {
    const COUNT: i64 = 4_000;
    let server = server();
    create(server, "back");
    let settings = Settings { checkpoint_ms: 100, ..Settings::default() };
    let job = Job::new(&manifest("back", &copy(server, "back", COUNT, 2_000, ""), &settings));
    block_on(async {
        let mut run = job.start();
        let uri = savepoint(&mut run).await;
        let before = server.number("SELECT COUNT(*) FROM back");
        until_rows(&mut run, server, "back", before + 1).await;
        finish(&mut run, 0).await;
        assert_eq!(compare(&copied(COUNT), &rows(server, "back", "*")), Difference::default(), "{}", run.log());
        let mut run = job.start_with(&["--from", &uri], &[]);
        finish(&mut run, 0).await;
        let twice = rows(server, "back", "*");
        // The last tenth was certainly written behind the savepoint.
        let last: Vec<String> =
            copied(COUNT).into_keys().filter(|row| row.split('|').next().unwrap().parse::<i64>().unwrap() >= COUNT - COUNT / 10).collect();
        assert!(last.iter().all(|row| twice[row] == 2), "{}", run.log());
        assert!(twice.len() as i64 == COUNT && twice.values().all(|count| *count == 1 || *count == 2), "{}", run.log());
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
