//! Sources in whole jobs: fewer splits than workers, no split at all, malformed records.

use std::path::Path;

use rheos_e2e::oracle::{Multiset, read_folder};
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::{Job, binary};

use crate::support::block_on;

/// More workers than any source here has splits.
const WORKERS: u32 = 3;

/// Ten rows, one a minute, in one file: one split.
fn write_minutes(job: &Job) {
    let rows: String = (0..10).map(|minute| format!("{minute},2013-01-01 10:0{minute}:00\n")).collect();
    write(&job.path("minutes/a.csv"), &rows);
    std::fs::create_dir_all(job.path("nothing")).unwrap();
}

fn write(file: &Path, content: &str) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, content).unwrap();
}

/// Counts and adds up the rows of `view` in windows of two minutes. `more` are further options of both sources.
fn counting(view: &str, more: &str) -> String {
    let sql = format!(
        "CREATE TABLE minutes (n INT, t TIMESTAMP(3), WATERMARK FOR t AS t)
           WITH ('connector' = 'filesystem', 'path' = 'minutes', 'format' = 'csv'{more});
         CREATE TABLE nothing (n INT, t TIMESTAMP(3), WATERMARK FOR t AS t)
           WITH ('connector' = 'filesystem', 'path' = 'nothing', 'format' = 'csv'{more});
         CREATE VIEW everything AS {view};
         CREATE TABLE out (num BIGINT, total BIGINT, t TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');
         INSERT INTO out SELECT COUNT(*), SUM(n), window_end
           FROM TABLE(TUMBLE(TABLE everything, DESCRIPTOR(t), INTERVAL '2' MINUTE)) GROUP BY window_start, window_end;"
    );
    manifest("counting", &sql, &Settings { parallelism: WORKERS, ..Settings::default() })
}

/// The counts that are visible.
fn windows(job: &Job) -> usize {
    read_folder(&job.path("out")).map_or(0, |rows: Multiset| rows.values().map(|count| *count as usize).sum())
}

/// The program of `worker/examples/own_connector.rs`.
#[test]
fn a_connector_of_another_program_feeds_a_job() {
    let program = binary().with_file_name("examples").join("own_connector");
    let sql = "CREATE TABLE launch (n BIGINT) WITH ('connector' = 'countdown', 'from' = '10000');
         CREATE TABLE out (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');
         INSERT INTO out SELECT n FROM launch WHERE MOD(n, 1000) = 0;";
    let manifest = manifest("countdown", sql, &Settings { parallelism: 2, ..Settings::default() });
    let job = Job::of_program(&program, &manifest);
    block_on(async { assert_eq!(job.run(&[]).await, 0) });
    let expected: Multiset = (1..=10).map(|thousand| (format!("{{\"n\":{thousand}000}}"), 1)).collect();
    assert_eq!(read_folder(&job.path("out")).unwrap(), expected);
    let without = Job::new(&manifest);
    block_on(async { assert_eq!(without.run(&[]).await, 2, "the worker itself has no such connector") });
}

const UNION: &str = "SELECT n, t FROM minutes UNION ALL SELECT n, t FROM nothing";

#[test]
fn a_bounded_union_with_an_empty_source_fires_every_window() {
    block_on(async {
        for view in ["SELECT n, t FROM minutes", UNION] {
            let job = Job::new(&counting(view, ""));
            write_minutes(&job);
            let mut run = job.start();
            assert_eq!(run.wait().await, 0, "{}", run.log());
            assert_eq!(windows(&job), 5, "{view}\n{}", run.log());
        }
    });
}

#[test]
fn workers_and_sources_without_splits_hold_no_window_back() {
    block_on(async {
        for view in ["SELECT n, t FROM minutes", UNION] {
            // Never ends: only the watermark can make a window fire.
            let job = Job::new(&counting(view, ", 'source.monitor-interval' = '1 s'"));
            write_minutes(&job);
            let mut run = job.start();
            let client = run.client().await;
            // The last window is not over at 10:09.
            run.until("four windows", async || (windows(&job) == 4).then_some(())).await;
            client.stop().await.unwrap();
            assert_eq!(run.wait().await, 0, "{}", run.log());
            assert_eq!(windows(&job), 4, "{view}\n{}", run.log());
        }
    });
}

#[test]
fn a_malformed_record_fails_the_job_by_its_place_or_is_left_out() {
    block_on(async {
        for (on_error, code) in [("fail", 1), ("skip", 0)] {
            let job = Job::new(&counting("SELECT n, t FROM minutes", &format!(", 'format.on-error' = '{on_error}'")));
            write_minutes(&job);
            write(&job.path("minutes/b.csv"), "1,2013-01-01 10:00:00\nx,2013-01-01 10:01:00\n");
            let mut run = job.start();
            assert_eq!(run.wait().await, code, "{}", run.log());
            let place = "minutes/b.csv, line 2 (record 2): column 'n': expected INT, found 'x'";
            assert_eq!(run.log().contains(place), code == 1, "{}", run.log());
            assert_eq!(windows(&job), if code == 1 { 0 } else { 5 });
        }
    });
}

#[test]
fn skipped_records_are_still_counted_behind_the_end_of_their_file() {
    block_on(async {
        let options = ", 'format.on-error' = 'skip', 'source.monitor-interval' = '1 s'";
        let job = Job::new(&counting("SELECT n, t FROM minutes", options));
        write_minutes(&job);
        write(&job.path("minutes/b.csv"), "x,2013-01-01 10:01:00\n");
        let mut run = job.start();
        let client = run.client().await;
        run.until("the windows of all files", async || (windows(&job) == 4).then_some(())).await;
        run.until_job(&client, "a count of 1", |job| job.operators.values().any(|operator| operator.skipped == 1)).await;
        client.stop().await.unwrap();
        assert_eq!(run.wait().await, 0, "{}", run.log());
    });
}
