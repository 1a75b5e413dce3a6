//! Restarts, heartbeats, crash loops, stops and savepoints, with real processes.

use rheos_control_api::{JobView, Phase, SavepointView};
use rheos_worker::supervise::decide::{HEARTBEAT_DEADLINE, Outcome};
use rustix::process::Signal;

use crate::fake::{Fake, lives, signal};

fn pids(view: &JobView) -> Vec<u32> {
    view.workers.iter().filter_map(|worker| worker.pid).collect()
}

fn running(generation: u64) -> impl FnMut(&std::sync::Arc<JobView>) -> bool {
    move |view| view.state == Phase::Running && view.generation == generation
}

#[tokio::test]
async fn a_stopped_job_leaves_no_process() {
    let fake = Fake::start(3, 3, true, "");
    let view = fake.until(running(1)).await;
    let pids = pids(&view);
    assert_eq!(pids.len(), 3);
    assert_eq!(view.workers[2].start_ms["plan"], 1.5);
    assert!(fake.handle.stop().await);
    let ended = fake.end().await;
    assert_eq!((ended.outcome, ended.summary.restarts), (Outcome::Suspended, 0));
    assert!(!pids.iter().any(|pid| lives(*pid)));
}

#[tokio::test]
async fn every_kill_is_followed_by_a_new_generation_of_new_processes() {
    let fake = Fake::start(2, 100, true, "");
    for generation in 1..=8_u64 {
        let view = fake.until(running(generation)).await;
        let pids = pids(&view);
        signal(pids[generation as usize % 2], Signal::KILL);
        let after = fake.until(running(generation + 1)).await;
        assert!(!pids.iter().any(|pid| lives(*pid)), "the rest of the generation was killed too");
        assert_eq!(after.restarts.count, generation);
        assert_eq!(after.restarts.timings.last().map(|timing| timing.generation), Some(generation + 1));
    }
    fake.handle.stop().await;
    let ended = fake.end().await;
    assert_eq!((ended.summary.restarts, ended.summary.generation, ended.summary.restart_ms.len()), (8, 9, 8));
}

#[tokio::test]
async fn an_engine_that_is_stopped_by_a_signal_is_found_and_replaced() {
    let fake = Fake::start(2, 3, false, "");
    let view = fake.until(running(1)).await;
    let begun = std::time::Instant::now();
    signal(pids(&view)[1], Signal::STOP);
    let view = fake.until(running(2)).await;
    assert!(begun.elapsed() >= HEARTBEAT_DEADLINE / 2);
    assert!(view.restarts.last_cause.as_ref().unwrap().contains("engine process 1"), "{:?}", view.restarts.last_cause);
    fake.handle.stop().await;
    assert_eq!(fake.end().await.outcome, Outcome::Suspended);
}

#[tokio::test]
async fn a_crash_loop_ends_with_its_cause() {
    let fake = Fake::start(2, 4, false, "begun() { [ $process = 1 ] && exit 3; }");
    let ended = fake.end().await;
    let Outcome::Failed(failure) = ended.outcome else { panic!("{:?}", ended.outcome) };
    assert!(failure.message.contains("exited with code 3") && failure.message.contains("4 restarts"), "{failure}");
    assert_eq!((ended.summary.state, ended.summary.generation), (Phase::Failed, 5));
}

#[tokio::test]
async fn a_failure_that_no_restart_helps_is_told_and_not_repeated() {
    let report = r#"{"report":"failed","kind":"bad state","place":"window","message":"schema differs","restartable":false}"#;
    let fake = Fake::start(2, 4, false, &format!("begun() {{ [ $process = 0 ] && {{ say '{report}'; exit 1; }}; }}"));
    let ended = fake.end().await;
    assert_eq!(ended.view.failure.as_ref().unwrap().to_string(), "window: bad state: schema differs");
    assert_eq!(ended.summary.generation, 1);
}

#[tokio::test]
async fn an_engine_that_talks_nonsense_is_replaced() {
    let fake = Fake::start(1, 4, false, "begun() { [ $generation = 1 ] && say nonsense; }");
    let view = fake.until(running(2)).await;
    assert!(view.restarts.last_cause.as_ref().unwrap().contains("cannot be read"), "{:?}", view.restarts.last_cause);
    fake.handle.abort().await;
    assert_eq!(fake.end().await.outcome, Outcome::Aborted);
}

#[tokio::test]
async fn a_program_that_cannot_be_started_fails_the_job() {
    let fake = Fake::start(1, 2, false, "exit 127");
    let ended = fake.end().await;
    assert!(matches!(ended.outcome, Outcome::Failed(failure) if failure.message.contains("exited with code 127")));
}

#[tokio::test]
async fn a_savepoint_is_taken_once_for_its_id() {
    let fake = Fake::start(1, 2, false, "");
    fake.until(running(1)).await;
    fake.handle.savepoint("before-upgrade".into()).await.unwrap();
    let done = |view: &std::sync::Arc<JobView>| matches!(view.savepoints.get("before-upgrade"), Some(SavepointView::Completed { .. }));
    let view = fake.until(done).await;
    assert_eq!(view.checkpoints.completed, 1);
    let again = fake.handle.savepoint("before-upgrade".into()).await.unwrap();
    assert_eq!(again, SavepointView::Completed { uri: "file:///s/before-upgrade".into(), epoch: 7 });
    fake.handle.stop().await;
    assert_eq!(fake.end().await.summary.checkpoints.completed, 1);
}
