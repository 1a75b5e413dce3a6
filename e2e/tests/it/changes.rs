//! A database's change-log in whole jobs: groups take its changes back, and hold what the database holds.

use rheos_e2e::changes::{COLUMNS, GROUPED, QUERY, changes};
use rheos_e2e::oracle::{Difference, compare, read_folder};
use rheos_e2e::shapes::{Settings, manifest};
use rheos_e2e::worker::Job;

use crate::support::block_on;

/// A job that groups the change-log in `items`; `more` are further options.
fn grouping(more: &str) -> String {
    let sql = format!(
        "CREATE TABLE items ({COLUMNS}) WITH ('connector' = 'filesystem', 'path' = 'items', 'format' = 'debezium-json'{more});
         CREATE TABLE out ({GROUPED}) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'debezium-json');
         INSERT INTO out {QUERY};"
    );
    manifest("changes", &sql, &Settings { checkpoint_ms: 100, ..Settings::default() })
}

fn write(job: &Job, logs: &[Vec<String>]) {
    std::fs::create_dir_all(job.path("items")).unwrap();
    for (index, log) in logs.iter().enumerate() {
        std::fs::write(job.path("items").join(format!("{index}.json")), log.join("\n")).unwrap();
    }
}

#[test]
fn groups_over_a_change_log_hold_what_the_database_holds_also_after_an_end() {
    let changes = changes(60_000, 900, 3);
    block_on(async {
        for place in [None, Some("record"), Some("recorded")] {
            let job = Job::new(&grouping(""));
            write(&job, &changes.logs);
            let failpoints = place.map(|place| ("RHEOS_FAILPOINTS", format!("{place}={}", job.path("ended").display())));
            let mut run = job.start_with(&[], failpoints.as_slice());
            assert_eq!(run.wait().await, 0, "{}", run.log());
            assert_eq!(run.summary().restarts > 0, place.is_some(), "{}", run.log());
            let found = read_folder(&job.path("out")).unwrap();
            assert_eq!(compare(&changes.expected, &found), Difference::default(), "{place:?}\n{}", run.log());
        }
    });
}

#[test]
fn an_event_that_cannot_be_taken_back_ends_the_job_by_name_or_is_left_out() {
    let changes = changes(3_000, 100, 1);
    block_on(async {
        for (more, code) in [("", 1), (", 'debezium-json.ignore-parse-errors' = 'true'", 0)] {
            let job = Job::new(&grouping(more).replace("maxRestarts: 1000", "maxRestarts: 0"));
            let mut logs = changes.logs.clone();
            logs[0].insert(1_000, r#"{"before":null,"after":{"id":1,"kind":"x","price":1},"op":"u"}"#.to_owned());
            write(&job, &logs);
            let mut run = job.start();
            assert_eq!(run.wait().await, code, "{}", run.log());
            match code {
                0 => assert_eq!(compare(&changes.expected, &read_folder(&job.path("out")).unwrap()), Difference::default()),
                _ => assert!(
                    run.log().contains("0.json, line 1001 (record 1001): \"before\" is null") && run.log().contains("REPLICA IDENTITY"),
                    "{}",
                    run.log()
                ),
            }
        }
    });
}
