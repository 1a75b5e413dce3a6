//! [io] How long a failure and a rescale last, what a checkpoint of much state costs, what an idle job costs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::table::{Table, amount, percentile};
use crate::shapes::{Settings, Shape, manifest};
use crate::worker::{Job, signal};

/// Kills of one measurement.
const KILLS: u64 = 20;

/// Prints one line a measurement.
pub async fn run(wanted: &[String], print: &mut dyn FnMut(String)) {
    for line in Table::new(&["what", "figure"]).to_string().lines() {
        print(line.to_owned());
    }
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|other| other == name);
    if is_wanted("kill") {
        print(kill_to_first_row().await);
    }
    if is_wanted("rescale") {
        print(rescale().await);
    }
    if is_wanted("idle") {
        print(idle().await);
    }
    if is_wanted("state") {
        for workers in [1, 2] {
            for line in large_state(workers).await {
                print(line);
            }
        }
    }
}

fn wall_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn line(what: &str, figure: String) -> String {
    Table::line(&[what.to_owned(), figure])
}

async fn kill_to_first_row() -> String {
    let settings = Settings { events: 100_000_000, events_per_second: Some(50_000), ..Settings::default() };
    let job = Job::new(&Shape::named("tumble").expect("a shape").manifest(&settings));
    let mut run = job.start();
    let client = run.client().await;
    for kill in 0..KILLS {
        let view = run
            .until_job(&client, "all engines running and a checkpoint", |job| {
                job.restarts.count >= kill
                    && job.restarts.timings.iter().all(|timing| timing.first_row_ms.is_some())
                    && job.workers.iter().all(|worker| worker.running)
                    && job.checkpoints.history.last().is_some_and(|checkpoint| checkpoint.generation == job.generation)
            })
            .await;
        let victim = &view.workers[kill as usize % view.workers.len()];
        assert!(signal(victim.pid.expect("a process id"), "KILL"));
    }
    let view = run
        .until_job(&client, "the last recovery", |job| {
            job.restarts.count >= KILLS && job.restarts.timings.iter().all(|timing| timing.first_row_ms.is_some())
        })
        .await;
    let figures: Vec<f64> = view.restarts.timings.iter().filter_map(|timing| timing.first_row_ms).collect();
    line(
        "kill -9 of an engine to the first row after recovery, small state, 2 workers",
        format!("p50 {:.0} ms, max {:.0} ms of {}", percentile(&figures, 0.5), percentile(&figures, 1.0), figures.len()),
    )
}

async fn rescale() -> String {
    const ROUNDS: usize = 6;
    let settings = Settings { events: 100_000_000, events_per_second: Some(50_000), ..Settings::default() };
    let job = Job::new(&Shape::named("tumble").expect("a shape").manifest(&settings));
    let mut figures = Vec::new();
    let mut stopped: Option<i64> = None;
    for round in 0..=ROUNDS {
        let parallelism = ["1", "2", "3"][round % 3];
        let mut run = job.start_with(&["--parallelism", parallelism], &[]);
        let client = run.client().await;
        let view = run.until_job(&client, "rows", |job| job.flowing_since.is_some()).await;
        figures.extend(stopped.zip(view.flowing_since).map(|(asked, flowing)| (flowing - asked) as f64));
        run.until_job(&client, "a checkpoint", |job| job.checkpoints.completed > 0).await;
        stopped = Some(wall_millis());
        client.stop().await.expect("a stop is taken");
        assert_eq!(run.wait().await, 0, "{}", run.log());
    }
    line(
        "rescale: stop asked to first row, small state, both runs of the command and their start within",
        format!("p50 {:.0} ms, max {:.0} ms of {}", percentile(&figures, 0.5), percentile(&figures, 1.0), figures.len()),
    )
}

async fn idle() -> String {
    const SECONDS: u64 = 30;
    let settings = Settings { checkpoint_ms: 10_000, ..Settings::default() };
    let sql = "CREATE TABLE slow (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1');
        CREATE TABLE out (id BIGINT, num BIGINT) WITH ('connector' = 'blackhole');
        INSERT INTO out SELECT id, COUNT(*) FROM slow GROUP BY id;";
    let job = Job::new(&manifest("idle", sql, &settings));
    let mut run = job.start();
    let client = run.client().await;
    run.until_job(&client, "running", |job| job.workers.iter().all(|worker| worker.running)).await;
    let pids: Vec<u32> = client.job().await.expect("the job").workers.iter().filter_map(|worker| worker.pid).chain([run.pid()]).collect();
    let before = cpu_seconds(&pids);
    tokio::time::interval_at(tokio::time::Instant::now() + Duration::from_secs(SECONDS), Duration::from_secs(1)).tick().await;
    let share = (cpu_seconds(&pids) - before) / SECONDS as f64;
    client.stop().await.expect("a stop is taken");
    assert_eq!(run.wait().await, 0, "{}", run.log());
    line("an idle job of 2 workers (1 row/s), supervisor included", format!("{:.2} % of a core", share * 100.0))
}

/// User and system time of processes so far.
fn cpu_seconds(pids: &[u32]) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let ticks = |pid: &u32| -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum()
    };
    pids.iter().map(ticks).sum::<f64>() / TICKS_PER_SECOND
}

/// Fills about 1 GB of keyed state, then touches 5 % of the keys between two checkpoints.
async fn large_state(parallelism: u32) -> Vec<String> {
    const KEYS: u64 = 8_000_000;
    const INTERVAL_MS: u32 = 10_000;
    /// Random rows a second: 5 % of the keys in an interval.
    const PACE: u64 = KEYS / 20 / (INTERVAL_MS as u64 / 1_000);
    let settings = Settings { checkpoint_ms: INTERVAL_MS, parallelism, ..Settings::default() };
    let columns = "id BIGINT, a BIGINT, b BIGINT";
    let fields = "'fields.a.kind' = 'random', 'fields.a.min' = '0', 'fields.a.max' = '1000000', 'fields.b.kind' = 'random', 'fields.b.min' = '0', 'fields.b.max' = '1000'";
    let sql = format!(
        "CREATE TABLE fill ({columns}) WITH ('connector' = 'datagen', 'rows-per-second' = '1000000', 'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '{}', {fields});
        CREATE TABLE touch ({columns}) WITH ('connector' = 'datagen', 'rows-per-second' = '{PACE}', 'fields.id.kind' = 'random', 'fields.id.min' = '0', 'fields.id.max' = '{}', {fields});
        CREATE TABLE out (id BIGINT, n BIGINT, sa BIGINT, mi BIGINT, ma BIGINT, av BIGINT, sb BIGINT, mib BIGINT, mab BIGINT, avb BIGINT) WITH ('connector' = 'blackhole');
        CREATE VIEW both_tables AS SELECT * FROM fill UNION ALL SELECT * FROM touch;
        INSERT INTO out SELECT id, COUNT(*), SUM(a), MIN(a), MAX(a), AVG(a), SUM(b), MIN(b), MAX(b), AVG(b) FROM both_tables GROUP BY id;",
        KEYS - 1,
        KEYS - 1
    );
    let job = Job::new(&manifest("large-state", &sql, &settings));
    let mut run = job.start();
    let client = run.client().await;
    // With several workers an operator's figures are sums.
    let keys = |job: &rheos_control_api::view::JobView| job.operators.values().map(|operator| operator.state_keys).max().unwrap_or(0);
    let full = run.until_job(&client, "full state", |job| keys(job) >= KEYS).await;
    let settled = full.checkpoints.completed + 2;
    run.until_job(&client, "the load written", |job| job.checkpoints.completed >= settled).await;
    let mut view = full;
    for measured in 1..=4 {
        view = run.until_job(&client, "a measured checkpoint", |job| job.checkpoints.completed >= settled + measured).await;
    }
    let newest: Vec<_> = view.checkpoints.history.iter().rev().take(4).collect();
    let durations: Vec<f64> = newest.iter().map(|checkpoint| checkpoint.duration_ms).collect();
    let bytes: Vec<f64> = newest.iter().map(|checkpoint| checkpoint.bytes as f64).collect();
    let state: u64 = view.operators.values().map(|operator| operator.state_bytes).sum();
    let mut lines = vec![line(
        &format!("checkpoint of {} of keyed state ({} keys, workers: {parallelism}), 5 % dirty", amount(state as f64), amount(KEYS as f64)),
        format!(
            "p50 {:.0} ms, max {:.0} ms, {} written",
            percentile(&durations, 0.5),
            percentile(&durations, 1.0),
            amount(percentile(&bytes, 0.5))
        ),
    )];
    client.stop().await.expect("a stop is taken");
    assert_eq!(run.wait().await, 0, "{}", run.log());
    if let Some(epoch) = run.summary().rest.get("epochMs") {
        lines.push(line("time from tick to closed epoch in that run, its checkpoints within", format!("{} ms", epoch)));
    }
    let mut run = job.start();
    let client = run.client().await;
    let view = run.until_job(&client, "rows", |job| job.flowing_since.is_some()).await;
    assert!(signal(view.workers[0].pid.expect("a process id"), "KILL"));
    let view =
        run.until_job(&client, "the recovery", |job| job.restarts.timings.last().is_some_and(|timing| timing.first_row_ms.is_some())).await;
    let timing = view.restarts.timings.last().copied().unwrap_or_default();
    lines.push(line(
        &format!("kill -9 to the first row, {} of state on local disk, workers: {parallelism}", amount(state as f64)),
        format!("{:.0} ms (running after {:.0} ms)", timing.first_row_ms.unwrap_or(0.0), timing.running_ms.unwrap_or(0.0)),
    ));
    client.stop().await.expect("a stop is taken");
    assert_eq!(run.wait().await, 0, "{}", run.log());
    lines
}
