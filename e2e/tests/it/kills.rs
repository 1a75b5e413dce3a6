//! `kill -9` at random moments: of engines, and of the supervisor with all of them. 0 rows lost, 0 repeated.

use std::time::Duration;

use rheos_e2e::shapes::{Settings, Shape};
use rheos_e2e::worker::{Job, Run, signal};

use crate::support::{Random, assert_same, block_on, outputs, reference};

/// Engine kills a shape; nine shapes make 63.
const KILLS: u64 = 7;
/// Events of a run, and their pace: about ten seconds, longer than the kills need.
const EVENTS: u64 = 200_000;
const PACE: u64 = 20_000;
/// Most time between an engine running again and its next kill, ms: before, within and after checkpoints.
const NEXT_KILL_MS: u64 = 500;

/// A moment that no condition describes: the kill has to come at a random time.
async fn random_moment(random: &mut Random) {
    let mut moment =
        tokio::time::interval_at(tokio::time::Instant::now() + Duration::from_millis(random.below(NEXT_KILL_MS)), Duration::from_secs(1));
    moment.tick().await;
}

fn survives_engine_kills(name: &str, parallelism: u32, seed: u64) {
    block_on(async {
        let shape = Shape::named(name).expect("a shape");
        let expected = reference(shape, EVENTS).await;
        let settings = Settings { events: EVENTS, events_per_second: Some(PACE), parallelism, ..Settings::default() };
        let job = Job::new(&shape.manifest(&settings));
        let mut run = job.start();
        let client = run.client().await;
        let mut random = Random(seed);
        for kill in 0..KILLS {
            run.kill_an_engine(&client, kill, parallelism as usize, NEXT_KILL_MS, &mut random).await;
        }
        let code = run.wait().await;
        assert_eq!(code, 0, "{name}: the run failed\n{}", run.log());
        assert_eq!(run.summary().restarts, KILLS, "{name}: each kill is one restart\n{}", run.log());
        assert_same(shape, &expected, &outputs(shape, &job), &run.log());
    });
}

#[test]
fn a_filter_survives_engine_kills() {
    survives_engine_kills("filter", 1, 1);
}

#[test]
fn tumbling_windows_survive_engine_kills() {
    survives_engine_kills("tumble", 2, 2);
}

#[test]
fn hopping_windows_survive_engine_kills() {
    survives_engine_kills("hop", 3, 3);
}

#[test]
fn cumulating_windows_survive_engine_kills() {
    survives_engine_kills("cumulate", 4, 4);
}

#[test]
fn distinct_counts_survive_engine_kills() {
    survives_engine_kills("distinct", 2, 5);
}

#[test]
fn an_updating_group_survives_engine_kills() {
    survives_engine_kills("group", 3, 6);
}

#[test]
fn a_group_over_a_group_survives_engine_kills() {
    survives_engine_kills("group-over-group", 2, 7);
}

#[test]
fn a_union_survives_engine_kills() {
    survives_engine_kills("union", 4, 8);
}

#[test]
fn two_sinks_survive_engine_kills() {
    survives_engine_kills("two-sinks", 1, 9);
}

#[test]
fn the_supervisor_is_killed_ten_times_and_the_job_goes_on() {
    const SUPERVISOR_KILLS: usize = 10;
    block_on(async {
        let shape = Shape::named("tumble").expect("a shape");
        let expected = reference(shape, EVENTS).await;
        let settings = Settings { events: EVENTS, events_per_second: Some(PACE), ..Settings::default() };
        let job = Job::new(&shape.manifest(&settings));
        let mut random = Random(10);
        for kill in 0..SUPERVISOR_KILLS {
            let mut run = job.start();
            let client = run.client().await;
            let view = run.until_job(&client, "a checkpoint", |job| job.checkpoints.completed > 0).await;
            random_moment(&mut random).await;
            assert!(run.is_running(), "the run ended before kill {kill}\n{}", run.log());
            let engines: Vec<u32> = view.workers.iter().filter_map(|worker| worker.pid).collect();
            run.kill().await;
            for pid in engines {
                until_gone(pid).await;
            }
        }
        let mut run: Run = job.start();
        let code = run.wait().await;
        assert_eq!(code, 0, "the last run failed\n{}", run.log());
        assert!(run.summary().generation > SUPERVISOR_KILLS as u64, "each start is a generation");
        assert_same(shape, &expected, &outputs(shape, &job), &run.log());
    });
}

/// The oracle of these tests is seen to fail: at least once is what it says, rows repeat and none is lost.
#[test]
fn at_least_once_repeats_rows_and_the_oracle_sees_it() {
    block_on(async {
        let shape = Shape::named("filter").expect("a shape");
        let expected = reference(shape, EVENTS).await;
        // Checkpoints are rare, so that each kill comes long after the last one.
        let settings = Settings { events: EVENTS, events_per_second: Some(PACE), checkpoint_ms: 3_000, ..Settings::default() };
        let job = Job::new(&shape.manifest(&settings).replace("spec:\n", "spec:\n  delivery: AtLeastOnce\n"));
        let mut run = job.start();
        let client = run.client().await;
        for kill in 0..3 {
            let out = job.path("out");
            let parts = rheos_e2e::oracle::part_files(&out).map_or(0, |files| files.len());
            let shown = async || rheos_e2e::oracle::part_files(&out).ok().filter(|files| files.len() > parts);
            run.until_job(&client, "all engines running", |job| {
                job.restarts.count >= kill && job.workers.iter().all(|worker| worker.running)
            })
            .await;
            run.until("rows shown since the last start", shown).await;
            let view = client.job().await.expect("the job");
            assert!(signal(view.workers[0].pid.expect("a process id"), "KILL"));
        }
        let code = run.wait().await;
        assert_eq!(code, 0, "{}", run.log());
        let difference = rheos_e2e::oracle::compare(&expected["out"], &outputs(shape, &job)["out"]);
        assert_eq!(difference.lost, 0, "{difference:?}");
        assert!(difference.repeated > 0, "nothing repeated: the kills showed nothing");
    });
}

/// An engine dies with its supervisor.
async fn until_gone(pid: u32) {
    let mut look = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..2_000 {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = state.rsplit(')').next().unwrap_or_default().trim_start();
        if state.is_empty() || state.starts_with('Z') {
            return;
        }
        look.tick().await;
    }
    panic!("engine {pid} outlived its supervisor");
}
