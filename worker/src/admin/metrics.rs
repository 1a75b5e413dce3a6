//! [pure] A job's view as OpenMetrics text. The view is the only truth; the registry lives for one answer.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use rheos_control_api::{JobView, OperatorView, Phase, WorkerView};

use crate::admin::metric_names as names;
use crate::results::Figures;

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

/// Renders the metrics of a job. `now` is in ms since 1970.
pub fn render(job: &JobView, results: Figures, now: i64) -> String {
    let mut registry = Registry::default();
    let constant = [(names::NAMESPACE.into(), job.namespace.clone().into()), (names::JOB.into(), job.name.clone().into())];
    let registry_of_job = registry.sub_registry_with_labels(constant.into_iter());
    of_job(job, now, registry_of_job);
    of_operators(job, registry_of_job);
    of_processes(job, registry_of_job);
    of_results(results, registry_of_job);
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

fn of_job(job: &JobView, now: i64, registry: &mut Registry) {
    let mut gauge = |name: &str, help: &str, value: f64| registry.register(name, help, ConstGauge::new(value));
    gauge(names::RUNNING, "Whether every engine runs", f64::from(u8::from(job.state == Phase::Running)));
    gauge(names::GENERATION, "Generation that runs", job.generation as f64);
    gauge(names::EPOCH, "Newest epoch that every worker has closed", job.epoch as f64);
    if let Some(lag) = job.watermark_lag_ms {
        gauge(names::WATERMARK_LAG, "Newest tick minus watermark", lag as f64 / 1e3);
    }
    if let Some(last) = job.checkpoints.history.last() {
        gauge(names::CHECKPOINT_DURATION, "Tick to record, newest checkpoint", last.duration_ms / 1e3);
        gauge(names::CHECKPOINT_BYTES, "Bytes newly written, newest checkpoint", last.bytes as f64);
        gauge(names::CHECKPOINT_AGE, "Since the newest checkpoint", now.saturating_sub(last.completed_at) as f64 / 1e3);
    }
    if let Some(first_row) = job.restarts.timings.last().and_then(|timing| timing.first_row_ms) {
        gauge(names::RESTART_DURATION, "Loss to first row, newest restart", first_row / 1e3);
    }
    let mut counter = |name: &str, help: &str, value: u64| registry.register(name, help, ConstCounter::new(value));
    counter(names::RESTARTS, "Generations lost", job.restarts.count);
    counter(names::ROWS_IN, "Rows read by sources", job.rows.read);
    counter(names::ROWS_OUT, "Rows given to sinks", job.rows.written);
    counter(names::CHECKPOINTS, "Complete checkpoints", job.checkpoints.completed);
    counter(names::CHECKPOINTS_FAILED, "Checkpoints given up", job.checkpoints.failed);
}

/// One figure of an operator: name, help, value.
type OperatorFigure = (&'static str, &'static str, fn(&OperatorView) -> f64);

// Gauges, not counters: they begin again with each generation, and rows that are read again are counted again.
const OPERATOR_FIGURES: &[OperatorFigure] = &[
    (names::OPERATOR_ROWS_IN, "Rows in, this generation", |operator| operator.rows_in as f64),
    (names::OPERATOR_ROWS_OUT, "Rows out, this generation", |operator| operator.rows_out as f64),
    (names::OPERATOR_BUSY, "Time spent, this generation", |operator| operator.busy_ms / 1e3),
    (names::OPERATOR_LATE, "Rows dropped as late, this generation", |operator| operator.late_rows as f64),
    (names::OPERATOR_SKIPPED, "Malformed records skipped, this generation", |operator| operator.skipped as f64),
    (names::OPERATOR_STATE_KEYS, "Keys in state", |operator| operator.state_keys as f64),
    (names::OPERATOR_STATE_BYTES, "Bytes in state", |operator| operator.state_bytes as f64),
];

fn of_operators(job: &JobView, registry: &mut Registry) {
    for (name, help, value) in OPERATOR_FIGURES {
        let family = Gauges::default();
        for (id, operator) in &job.operators {
            family.get_or_create(&vec![(names::OPERATOR, id.clone())]).set(value(operator));
        }
        registry.register(*name, *help, family);
    }
}

/// One figure of an engine process: name, help, value.
type ProcessFigure = (&'static str, &'static str, fn(&WorkerView) -> f64);

const PROCESS_FIGURES: &[ProcessFigure] = &[
    (names::PROCESS_IN_FLIGHT, "Bytes sent but not yet known to be consumed", |worker| worker.in_flight_bytes as f64),
    (names::PROCESS_EPOCH_LAG, "Epochs open behind the newest", |worker| worker.epoch_lag as f64),
    (names::PROCESS_PEAK_RSS, "Most memory held", |worker| worker.peak_rss_bytes as f64),
];

fn of_processes(job: &JobView, registry: &mut Registry) {
    for (name, help, value) in PROCESS_FIGURES {
        let family = Gauges::default();
        for worker in &job.workers {
            family.get_or_create(&vec![(names::PROCESS, worker.process.to_string())]).set(value(worker));
        }
        registry.register(*name, *help, family);
    }
}

fn of_results(results: Figures, registry: &mut Registry) {
    registry.register(names::RESULT_CLIENTS, "Clients of the results that are served now", ConstGauge::new(results.clients as f64));
    let mut counter = |name: &str, help: &str, value: u64| registry.register(name, help, ConstCounter::new(value));
    counter(names::RESULT_BYTES, "Bytes of results given to clients", results.sent_bytes);
    counter(names::RESULT_CLIENTS_CUT_OFF, "Clients cut off: too slow, or what came next was gone", results.cut_off);
    counter(names::RESULT_CLIENTS_REFUSED, "Clients refused: as many as may be were there", results.refused);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_carry_the_job_and_the_operator() {
        let mut job = JobView { name: "bids".into(), namespace: "local".into(), state: Phase::Running, ..JobView::default() };
        job.rows.read = 12;
        job.operators.insert("calc:bid:1".into(), OperatorView { rows_in: 7, ..OperatorView::default() });
        let results = Figures { clients: 3, cut_off: 2, ..Figures::default() };
        let text = render(&job, results, 0);
        for line in [
            r#"rheos_job_running{namespace="local",job="bids"} 1"#,
            r#"rheos_job_rows_in_total{namespace="local",job="bids"} 12"#,
            r#"rheos_operator_rows_in{namespace="local",job="bids",operator="calc:bid:1"} 7"#,
            r#"rheos_results_clients{namespace="local",job="bids"} 3"#,
            r#"rheos_results_clients_cut_off_total{namespace="local",job="bids"} 2"#,
        ] {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
