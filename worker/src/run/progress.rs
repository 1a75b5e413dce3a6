//! Live progress: one status line, refreshed on a terminal, else a plain line every few seconds.
//!
//! [`line`] is pure; [`follow`] waits and writes.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use rheos_control_api::{JobView, Phase};
use tokio::sync::watch;

use crate::run::screen::Screen;
use crate::supervise::driver::wall_millis;

/// Between two refreshes on a terminal.
const REFRESH: Duration = Duration::from_millis(250);
/// Between two plain lines.
const PLAIN: Duration = Duration::from_secs(5);
/// A watermark further behind than this belongs to data of old: its lag tells nothing.
const LAG_LIMIT_MS: i64 = 86_400_000;

/// Shows progress until it is aborted.
pub async fn follow(view: watch::Receiver<Arc<JobView>>, screen: Screen) {
    let mut interval = tokio::time::interval(if screen.is_live() { REFRESH } else { PLAIN });
    if !screen.is_live() {
        interval.tick().await; // the first tick is at once, when there is nothing to tell
    }
    loop {
        interval.tick().await;
        let text = line(&view.borrow(), wall_millis());
        if screen.is_live() {
            screen.show_status(&text);
        } else {
            screen.error_line(format!("{text}\n").as_bytes());
        }
    }
}

/// The status of a job in one line. `now` is in ms since 1970.
pub fn line(job: &JobView, now: i64) -> String {
    let mut text = String::new();
    let state = if job.stopping { "Stopping".to_owned() } else { format!("{:?}", job.state) };
    let _ = write!(text, "{state}  generation {}  epoch {}", job.generation, job.epoch);
    let rows = &job.rows;
    let _ = write!(text, "  in {}/s ({})", count(rows.read_per_second as u64), count(rows.read));
    let _ = write!(text, "  out {}/s ({})", count(rows.written_per_second as u64), count(rows.written));
    match job.watermark {
        Some(i64::MAX) => text.push_str("  watermark at the end"),
        Some(i64::MIN) | None => {}
        Some(watermark) => {
            let _ = write!(text, "  watermark {}", instant(watermark));
            if let Some(lag) = job.watermark_lag_ms.filter(|lag| *lag < LAG_LIMIT_MS) {
                let _ = write!(text, " (lag {})", span(lag));
            }
        }
    }
    if let Some(last) = job.checkpoints.history.last() {
        let age = span(now.saturating_sub(last.completed_at));
        let _ = write!(text, "  checkpoint {age} ago, {} in {:.0} ms", bytes(last.bytes), last.duration_ms);
    }
    if job.checkpoints.failed > 0 {
        let _ = write!(text, "  {} checkpoints failed", job.checkpoints.failed);
    }
    if job.restarts.count > 0 {
        let _ = write!(text, "  restarts {}", job.restarts.count);
    }
    if let (Phase::Failing, Some(cause)) = (job.state, &job.restarts.last_cause) {
        let _ = write!(text, "  after {cause}");
    }
    text
}

fn count(n: u64) -> String {
    scaled(n as f64, 1000.0, &["", " k", " M", " G", " T"])
}

fn bytes(n: u64) -> String {
    scaled(n as f64, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

fn scaled(mut n: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while n >= step && unit + 1 < units.len() {
        n /= step;
        unit += 1;
    }
    let digits = if unit == 0 || n >= 100.0 { 0 } else { 1 };
    format!("{n:.digits$}{}", units[unit])
}

/// A time span for people.
fn span(millis: i64) -> String {
    match millis {
        ..0 => format!("-{}", span(millis.saturating_neg())),
        0..10_000 => format!("{:.1} s", millis as f64 / 1e3),
        10_000..120_000 => format!("{} s", millis / 1_000),
        120_000..7_200_000 => format!("{} min", millis / 60_000),
        7_200_000..172_800_000 => format!("{} h", millis / 3_600_000),
        _ => format!("{} d", millis / 86_400_000),
    }
}

fn instant(millis: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(millis) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S").to_string(),
        None => millis.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rheos_control_api::{CheckpointView, Checkpoints, Rows};

    use super::*;

    #[test]
    fn a_running_job_in_one_line() {
        let checkpoint = CheckpointView { generation: 1, epoch: 90, record: 4, bytes: 12_595, duration_ms: 17.6, completed_at: 5_900 };
        let job = JobView {
            state: Phase::Running,
            generation: 2,
            epoch: 99,
            watermark: Some(1_357_000_000_000),
            watermark_lag_ms: Some(4_200),
            rows: Rows { read: 1_234_567, written: 890, read_per_second: 45_600.0, written_per_second: 7.0 },
            checkpoints: Checkpoints { completed: 1, history: vec![checkpoint], ..Checkpoints::default() },
            ..JobView::default()
        };
        assert_eq!(
            line(&job, 10_000),
            "Running  generation 2  epoch 99  in 45.6 k/s (1.2 M)  out 7/s (890)  watermark 2013-01-01 00:26:40 (lag 4.2 s)  \
             checkpoint 4.1 s ago, 12.3 KiB in 18 ms"
        );
    }

    #[test]
    fn spans_and_counts_read_well() {
        assert_eq!(
            [span(0), span(59_999), span(600_000), span(-1_500), span(i64::MAX)].join(", "),
            "0.0 s, 59 s, 10 min, -1.5 s, 106751991167 d"
        );
        assert_eq!([count(999), count(1_000), count(123_456), count(u64::MAX)].join(", "), "999, 1.0 k, 123 k, 18446744 T");
    }
}
