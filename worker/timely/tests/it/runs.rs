//! The tests.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rheos_dataflow::error::ErrorKind;
use rheos_dataflow::sink::Committable;
use rheos_dataflow::time::StopMode;
use rheos_timely::EngineEvent;

use crate::harness::{Counts, Numbers, Trial, id, wait_until};

fn assert_each_once(trial: &Trial, rows: i64) {
    let committed = trial.counts.committed.lock().unwrap();
    let wrong: Vec<_> = (0..rows).filter(|n| committed.get(n) != Some(&1)).take(5).collect();
    assert!(wrong.is_empty(), "not committed exactly once: {wrong:?}");
    assert_eq!(committed.len() as i64, rows);
}

fn finishes_exactly(processes: usize, slots: usize) {
    let rows = 300_000;
    let trial = Trial::new(processes, slots, Numbers { splits: 3, rows: Some(rows), ends: true });
    let ends = trial.run();
    assert!(ends.iter().all(|end| *end.as_ref().unwrap() == StopMode::Finish));
    assert_each_once(&trial, rows as i64);
}

#[test]
fn a_bounded_job_finishes_exactly_on_one_worker() {
    finishes_exactly(1, 1);
}

#[test]
fn a_bounded_job_finishes_exactly_on_four_threads() {
    finishes_exactly(1, 4);
}

#[test]
fn a_bounded_job_finishes_exactly_on_two_processes() {
    finishes_exactly(2, 1);
}

#[test]
fn a_bounded_job_finishes_exactly_on_three_processes_of_two_threads() {
    finishes_exactly(3, 2);
}

#[test]
fn a_stop_drains_everything_and_commits_what_was_read() {
    let trial = Trial::new(2, 2, Numbers { splits: 4, rows: None, ends: false });
    let ends = trial.run_until(|trial| {
        wait_until("two checkpoints", || trial.memory.published.lock().unwrap().len() >= 2);
    });
    assert_eq!(*ends[0].as_ref().unwrap(), StopMode::Suspend);
    let committed = trial.counts.committed.lock().unwrap();
    assert!(committed.values().all(|count| *count == 1));
    assert_eq!(committed.len() as u64, trial.counts.written.load(Ordering::Relaxed), "everything written is committed");
    let published = trial.memory.published.lock().unwrap();
    assert!(published.windows(2).all(|pair| pair[0] < pair[1]));
    let completed = trial.events.lock().unwrap().iter().filter(|e| matches!(e, EngineEvent::CheckpointCompleted { .. })).count();
    assert_eq!(completed, published.len());
}

#[test]
fn a_stopped_job_goes_on_with_other_worker_counts() {
    let rows = 400_000;
    let source = || Numbers { splits: 3, rows: Some(rows), ends: true };
    let mut trial = Trial::new(2, 1, source());
    let counts = Arc::clone(&trial.counts);
    for (processes, slots) in [(1, 3), (1, 1), (3, 1)] {
        trial.run_until(|trial| wait_until("a checkpoint", || !trial.memory.published.lock().unwrap().is_empty()));
        let last = trial.memory.last.lock().unwrap().take().unwrap();
        trial = Trial::new(processes, slots, source());
        trial.counts = Arc::clone(&counts);
        trial.restored.epoch = last.epoch;
        trial.restored.wall_time = last.manifest.wall_time;
        trial.restored.splits = last.manifest.splits.into_iter().map(|split| serde_json::from_value(split).unwrap()).collect();
    }
    trial.run();
    assert_each_once(&trial, rows as i64);
}

#[test]
fn what_the_restored_record_carries_is_committed_before_the_first_tick() {
    let mut trial = Trial::new(1, 2, Numbers { splits: 2, rows: Some(1_000), ends: true });
    trial.restored.epoch = 41;
    trial.restored.committables = vec![Committable { sink: id("sink"), subtask: 9, epoch: 40, payload: vec![-5].into() }];
    trial.run();
    assert_eq!(trial.counts.commits.lock().unwrap()[0], (40, 9));
    assert_eq!(trial.counts.committed.lock().unwrap().remove(&-5), Some(1));
    assert_each_once(&trial, 1_000);
}

#[test]
fn failed_uploads_abandon_checkpoints_and_lose_nothing() {
    let rows = 200_000;
    let trial = Trial::new(2, 1, Numbers { splits: 2, rows: Some(rows), ends: true });
    trial.memory.fails_before.store(15, Ordering::Relaxed);
    let ends = trial.run();
    assert_eq!(*ends[0].as_ref().unwrap(), StopMode::Finish);
    let abandoned = trial.events.lock().unwrap().iter().filter(|e| matches!(e, EngineEvent::CheckpointAbandoned { .. })).count();
    assert!(abandoned > 0);
    assert!(*trial.memory.published.lock().unwrap().first().unwrap() >= 15);
    assert_each_once(&trial, rows as i64);
}

#[test]
fn a_slow_sink_bounds_what_is_in_flight() {
    let mut trial = Trial::new(1, 2, Numbers { splits: 2, rows: None, ends: false });
    trial.counts = Arc::new(Counts { slow: Duration::from_millis(2), ..Counts::default() });
    trial.budget_bytes = 512 * 1024;
    trial.run_until(|trial| {
        wait_until("some rows through a slow sink", || trial.counts.written.load(Ordering::Relaxed) > 2_000_000);
    });
    // A source may exceed the budget by the batch that it has just read, as it is cut for its targets.
    let slack = 8_192 * 8 * 2;
    for (worker, stats) in trial.stats.workers() {
        let peak = stats.in_flight_bytes.1;
        assert!(peak > trial.budget_bytes / 2, "worker {worker} never came near its budget: {peak}");
        assert!(peak <= trial.budget_bytes + slack, "worker {worker} had {peak} bytes in flight");
    }
}

#[test]
fn an_idle_job_is_not_scheduled_between_ticks() {
    let trial = Trial::new(2, 1, Numbers { splits: 2, rows: Some(100), ends: false });
    trial.run_until(|trial| {
        let seen = || trial.stats.workers().get(&0).map(|stats| (stats.tick, stats.schedules)).unwrap_or_default();
        wait_until("the rows are through", || trial.counts.written.load(Ordering::Relaxed) == 100 && seen().0 > 10);
        let (tick, schedules) = seen();
        wait_until("twenty idle ticks", || seen().0 >= tick + 20);
        let (later, more) = seen();
        // Two stages of one worker: a source is woken by its tick, a sink by its frontier; checkpoints wake no stage.
        let each = (more - schedules) as f64 / (later - tick) as f64;
        assert!(each < 8.0, "{each} schedules of stages a tick");
    });
}

#[test]
fn an_error_of_a_sink_ends_the_run_with_its_place() {
    let mut trial = Trial::new(1, 2, Numbers { splits: 2, rows: None, ends: false });
    trial.counts = Arc::new(Counts { poison: Some(77_777), ..Counts::default() });
    let error = trial.run().remove(0).unwrap_err();
    assert_eq!((error.kind, error.place.as_str()), (ErrorKind::Data, "counts"));
}

#[test]
fn pings_are_answered_by_the_worker_threads() {
    let trial = Trial::new(1, 2, Numbers { splits: 2, rows: Some(10), ends: false });
    trial.run_until(|trial| {
        wait_until("agents", || trial.remote.ping(4));
        let pong = |e: &EngineEvent| matches!(e, EngineEvent::Pong { nonce: 4 });
        wait_until("a pong", || trial.events.lock().unwrap().iter().any(pong));
    });
}
