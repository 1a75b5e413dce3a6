//! [pure] What people and programs see of a job: reports of all engines, put together.
//!
//! Rows over restarts: what a lost generation read after its newest checkpoint is read again, so at a loss the totals go
//! back to where they were at that checkpoint. Engines give figures about once a second; that is the error.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rheos_control_api::limits::HISTORY_LIMIT;
use rheos_control_api::{CheckpointView, JobView, OperatorView, Phase, Rows, SavepointView, WorkerView};
use serde::{Deserialize, Serialize};

use crate::engine::wire::{EngineStats, Report};
use crate::supervise::decide::Outcome;

/// Rates are means over this time.
const RATE_WINDOW: Duration = Duration::from_secs(3);
/// Over less than this, a rate would be that of one report.
const RATE_LEAST: Duration = Duration::from_millis(500);
/// Checkpoint durations kept for quantiles.
const DURATIONS_LIMIT: usize = 10_000;

/// The view of a run as it grows.
#[derive(Debug, Clone)]
pub struct View {
    job: JobView,
    stats: BTreeMap<usize, EngineStats>,
    base: (u64, u64),
    at_checkpoint: (u64, u64),
    rates: VecDeque<(Duration, u64, u64)>,
    durations_ms: Vec<f64>,
    last_checkpoint_bytes: u64,
    epoch_ms: (f64, f64),
    first_start_ms: BTreeMap<String, f64>,
}

/// What `--summary` writes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// `Finished`, `Suspended`, `Failed`.
    pub state: Phase,
    /// The last generation.
    pub generation: u64,
    /// The newest epoch that every worker closed.
    pub epochs: u64,
    /// Rows read; see [`Rows::read`].
    pub rows_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// Generations that were lost.
    pub restarts: u64,
    /// Checkpoints.
    pub checkpoints: CheckpointSummary,
    /// From the start of the process to the end of the last engine.
    pub wall_seconds: f64,
    /// User and system time of all processes.
    pub cpu_seconds: f64,
    /// Supervisor and engines that lived together, each at its peak.
    pub peak_rss_bytes: u64,
    /// For each restart, from the loss to the first row, ms.
    pub restart_ms: Vec<f64>,
    /// From tick to closed epoch, ms.
    pub epoch_ms: Quantiles,
    /// Time of each part of the first start, ms; the slowest engine's.
    pub start_ms: BTreeMap<String, f64>,
    /// By operator id.
    pub operators: BTreeMap<String, OperatorView>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Checkpoints of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSummary {
    /// Complete ones.
    pub completed: u64,
    /// Given up.
    pub failed: u64,
    /// Bytes newly written by the last one.
    pub last_bytes: u64,
    /// Median of tick to record, ms.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// Two quantiles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl View {
    /// Of a job that has not begun; `job` holds what never changes.
    pub fn new(job: JobView) -> Self {
        Self {
            job: JobView { version: 1, ..job },
            stats: BTreeMap::new(),
            base: (0, 0),
            at_checkpoint: (0, 0),
            rates: VecDeque::new(),
            durations_ms: Vec::new(),
            last_checkpoint_bytes: 0,
            epoch_ms: (0.0, 0.0),
            first_start_ms: BTreeMap::new(),
        }
    }

    /// The view.
    pub fn job(&self) -> &JobView {
        &self.job
    }

    /// Changes what a decision could depend on.
    pub fn change(&mut self, change: impl FnOnce(&mut JobView)) {
        let before = self.job.clone();
        change(&mut self.job);
        if self.job != before {
            self.job.version += 1;
        }
    }

    /// A generation has drained: what it has read is not read again.
    pub fn drained(&mut self) {
        self.base = (self.job.rows.read, self.job.rows.written);
        self.at_checkpoint = self.base;
        self.stats.clear();
    }

    /// The engines of a generation were started; `planned`: after a change of members or settings, not after a loss.
    pub fn launched(&mut self, generation: u64, planned: bool, workers: Vec<WorkerView>) {
        self.stats.clear();
        self.change(|job| {
            job.generation = generation;
            if planned {
                job.restarts.moved = generation;
            }
            job.flowing_since = None;
            job.workers = workers;
        });
    }

    /// A generation was lost.
    pub fn lost(&mut self) {
        self.base = self.at_checkpoint;
        self.stats.clear();
        self.rates.clear();
        self.job.epoch = self.job.checkpoints.history.last().map_or(0, |checkpoint| checkpoint.epoch);
        self.totals();
        for worker in &mut self.job.workers {
            worker.running = false;
        }
    }

    /// An engine said something. `now` is the time since the supervisor began, `wall` since 1970 in ms.
    pub fn report(&mut self, process: usize, report: &Report, now: Duration, wall: i64) {
        match report {
            Report::Running { parts_ms } => {
                for (part, ms) in parts_ms {
                    let slowest = self.first_start_ms.entry(part.clone()).or_default();
                    *slowest = slowest.max(*ms);
                }
                self.change(|job| {
                    if let Some(worker) = job.workers.get_mut(process) {
                        worker.running = true;
                        worker.start_ms.clone_from(parts_ms);
                    }
                });
            }
            Report::Stats(stats) => {
                self.measured(&BTreeMap::from([(process, stats.peak_rss_bytes)]));
                self.stats.insert(process, stats.clone());
                self.totals();
                self.rate(now);
            }
            Report::CheckpointCompleted { epoch, record, bytes, duration_ms, savepoint } => {
                self.at_checkpoint = (self.job.rows.read, self.job.rows.written);
                self.last_checkpoint_bytes = *bytes;
                if self.durations_ms.len() < DURATIONS_LIMIT {
                    self.durations_ms.push(*duration_ms);
                }
                let view = CheckpointView {
                    generation: self.job.generation,
                    epoch: *epoch,
                    record: *record,
                    bytes: *bytes,
                    duration_ms: *duration_ms,
                    completed_at: wall,
                };
                self.change(|job| {
                    job.checkpoints.completed += 1;
                    job.checkpoints.history.push(view);
                    let extra = job.checkpoints.history.len().saturating_sub(HISTORY_LIMIT);
                    job.checkpoints.history.drain(..extra);
                    if let Some((id, uri)) = savepoint {
                        let done = SavepointView::Completed { uri: uri.clone(), epoch: *epoch };
                        job.savepoints.insert(id.clone(), done);
                    }
                });
            }
            Report::CheckpointFailed { epoch, reason } => self.change(|job| {
                job.checkpoints.failed += 1;
                job.checkpoints.last_failure = Some(format!("epoch {epoch}: {reason}"));
            }),
            Report::FirstRow => self.change(|job| {
                job.flowing_since.get_or_insert(wall);
            }),
            Report::Results(_) | Report::Pong { .. } | Report::Ended { .. } | Report::Failed { .. } => {}
        }
    }

    /// The most memory that each engine has held.
    pub fn measured(&mut self, peaks: &BTreeMap<usize, u64>) {
        for (process, bytes) in peaks {
            if let Some(worker) = self.job.workers.get_mut(*process) {
                worker.peak_rss_bytes = worker.peak_rss_bytes.max(*bytes);
            }
        }
    }

    /// Sums over the engines.
    fn totals(&mut self) {
        let stats = &self.stats;
        let job = &mut self.job;
        job.rows.read = self.base.0 + stats.values().map(|stats| stats.rows_in).sum::<u64>();
        job.rows.written = self.base.1 + stats.values().map(|stats| stats.rows_out).sum::<u64>();
        if let Some(epoch) = stats.values().map(|stats| stats.epoch).min() {
            job.epoch = job.epoch.max(epoch);
        }
        job.watermark = stats.values().filter_map(|stats| stats.watermark).min();
        let wall = stats.values().map(|stats| stats.wall_time).max();
        // A bounded input ends with the largest watermark there is: no lag is left to show.
        job.watermark_lag_ms = job.watermark.filter(|w| *w != i64::MAX && *w != i64::MIN).zip(wall).map(|(w, wall)| wall.saturating_sub(w));
        if let Some(first) = stats.get(&0) {
            self.epoch_ms = first.epoch_ms;
        }
        for (process, stats) in stats {
            if let Some(worker) = job.workers.get_mut(*process) {
                worker.epoch = stats.epoch;
                worker.epoch_lag = stats.epoch_lag;
                worker.in_flight_bytes = stats.in_flight_bytes;
            }
        }
        if stats.is_empty() {
            return;
        }
        job.operators.clear();
        for (id, figures) in stats.values().flat_map(|stats| &stats.operators) {
            let operator = job.operators.entry(id.clone()).or_default();
            operator.title.clone_from(&figures.title);
            operator.rows_in += figures.rows_in;
            operator.rows_out += figures.rows_out;
            operator.busy_ms += figures.busy_ms;
            operator.late_rows += figures.late_rows;
            operator.skipped += figures.skipped;
            operator.state_keys += figures.state_keys;
            operator.state_bytes += figures.state_bytes;
        }
    }

    fn rate(&mut self, now: Duration) {
        let Rows { read, written, .. } = self.job.rows;
        self.rates.push_back((now, read, written));
        while self.rates.len() > 2 && self.rates.get(1).is_some_and(|(at, ..)| *at + RATE_WINDOW <= now) {
            self.rates.pop_front();
        }
        let Some((at, first_read, first_written)) = self.rates.front() else { return };
        let seconds = now.saturating_sub(*at).as_secs_f64();
        if seconds >= RATE_LEAST.as_secs_f64() {
            self.job.rows.read_per_second = read.saturating_sub(*first_read) as f64 / seconds;
            self.job.rows.written_per_second = written.saturating_sub(*first_written) as f64 / seconds;
        }
    }

    /// The summary of a run that has ended. Time and memory are the driver's to add.
    pub fn summary(&self, outcome: &Outcome) -> Summary {
        let job = &self.job;
        let (state, failure) = match outcome {
            Outcome::Finished => (Phase::Finished, None),
            Outcome::Suspended => (Phase::Suspended, None),
            Outcome::Aborted => (Phase::Failed, Some("aborted".to_owned())),
            Outcome::Failed(failure) => (Phase::Failed, Some(failure.to_string())),
        };
        Summary {
            state,
            generation: job.generation,
            epochs: job.epoch,
            rows_in: job.rows.read,
            rows_out: job.rows.written,
            restarts: job.restarts.count,
            checkpoints: CheckpointSummary {
                completed: job.checkpoints.completed,
                failed: job.checkpoints.failed,
                last_bytes: self.last_checkpoint_bytes,
                p50_ms: quantile(&self.durations_ms, 0.5),
                p99_ms: quantile(&self.durations_ms, 0.99),
            },
            epoch_ms: Quantiles { p50: self.epoch_ms.0, p99: self.epoch_ms.1 },
            start_ms: self.first_start_ms.clone(),
            operators: job.operators.clone(),
            failure,
            ..Summary::default()
        }
    }
}

/// The value below which a share of the values lies (nearest rank); 0 for none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(rows_in: u64, rows_out: u64, epoch: u64) -> Report {
        Report::Stats(EngineStats { rows_in, rows_out, epoch, ..EngineStats::default() })
    }

    fn completed() -> Report {
        Report::CheckpointCompleted { epoch: 5, record: 2, bytes: 10, duration_ms: 3.0, savepoint: None }
    }

    const NOW: Duration = Duration::from_secs(1);

    #[test]
    fn rows_read_again_after_a_loss_count_once() {
        let mut view = View::new(JobView::default());
        view.report(0, &stats(100, 10, 4), NOW, 0);
        view.report(1, &stats(50, 5, 5), NOW, 0);
        view.report(0, &completed(), NOW, 0);
        view.report(0, &stats(400, 40, 9), NOW, 0);
        assert_eq!((view.job.rows.read, view.job.epoch), (450, 5));
        view.lost();
        assert_eq!((view.job.rows.read, view.job.epoch), (150, 5), "back to the checkpoint");
        view.report(0, &stats(7, 1, 6), NOW, 0);
        assert_eq!((view.job.rows.read, view.job.rows.written), (157, 16));
    }

    #[test]
    fn rows_of_a_generation_that_has_drained_stay_counted() {
        let mut view = View::new(JobView::default());
        view.report(0, &stats(100, 10, 4), NOW, 0);
        view.drained();
        view.launched(2, true, Vec::new());
        assert_eq!(view.job.restarts.moved, 2);
        assert_eq!(view.job.rows.read, 100);
        view.report(0, &stats(7, 1, 6), NOW, 0);
        view.lost();
        assert_eq!((view.job.rows.read, view.job.rows.written), (100, 10), "a loss goes back to where it drained");
    }

    #[test]
    fn the_version_rises_with_changes_that_matter_and_not_with_figures() {
        let mut view = View::new(JobView::default());
        view.report(0, &stats(1, 1, 1), NOW, 0);
        assert_eq!(view.job.version, 1);
        view.report(0, &completed(), NOW, 0);
        assert_eq!(view.job.version, 2);
        view.change(|job| job.stopping = false);
        assert_eq!(view.job.version, 2);
    }

    #[test]
    fn rows_flow_since_the_first_engine_says_so() {
        let mut view = View::new(JobView::default());
        view.report(1, &Report::FirstRow, NOW, 70);
        view.report(0, &Report::FirstRow, NOW, 80);
        assert_eq!(view.job.flowing_since, Some(70));
        view.launched(2, false, Vec::new());
        assert_eq!(view.job.restarts.moved, 0);
        assert_eq!(view.job.flowing_since, None);
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((quantile(&hundred, 0.5), quantile(&hundred, 0.99), quantile(&hundred, 1.0)), (50.0, 99.0, 100.0));
    }
}
