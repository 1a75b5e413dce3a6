//! [pure] The figures of an engine process, from those of its workers.

use std::sync::Arc;

use rheos_dataflow::graph::OperatorSpec;
use rheos_timely::job::StatsBoard;

use super::prepare::Prepared;
use super::wire::EngineStats;

/// Collects what [`EngineStats`] tells.
#[derive(Clone)]
pub(super) struct Figures {
    prepared: Arc<Prepared>,
    board: Arc<StatsBoard>,
}

impl Figures {
    pub(super) fn new(prepared: Arc<Prepared>, board: Arc<StatsBoard>) -> Self {
        Self { prepared, board }
    }

    pub(super) fn collect(&self) -> EngineStats {
        let nodes = &self.prepared.plan.graph.nodes;
        let mut stats = EngineStats::default();
        let workers = self.board.workers();
        for worker in workers.values() {
            // At the end the frontier is empty: then the last tick is closed.
            let closed = worker.closed.min(worker.tick + 1);
            stats.epoch = stats.epoch.max(closed.saturating_sub(1));
            stats.epoch_lag = stats.epoch_lag.max(worker.tick + 1 - closed);
            stats.wall_time = stats.wall_time.max(worker.wall_time);
            stats.in_flight_bytes += worker.in_flight_bytes.0;
            if !worker.epoch_ms.is_empty() {
                stats.epoch_ms = (percentile(&worker.epoch_ms, 50), percentile(&worker.epoch_ms, 99));
            }
            for (index, figures) in &worker.nodes {
                let node = &nodes[*index];
                let operator = stats.operators.entry(node.id.0.clone()).or_default();
                operator.title.clone_from(&node.title);
                operator.rows_in += figures.rows_in;
                operator.rows_out += figures.rows_out;
                operator.busy_ms += figures.busy_ns as f64 / 1e6;
                operator.late_rows += figures.operator.late_rows;
                operator.skipped += figures.skipped;
                operator.state_keys += figures.operator.state_keys;
                operator.state_bytes += figures.operator.state_bytes;
                match node.spec {
                    OperatorSpec::Source(_) => {
                        stats.rows_in += figures.rows_in;
                        stats.watermark = match (stats.watermark, figures.watermark) {
                            (Some(a), Some(b)) => Some(a.min(b)),
                            (a, b) => a.or(b),
                        };
                    }
                    OperatorSpec::Sink(_) => stats.rows_out += figures.rows_in,
                    _ => {}
                }
            }
        }
        stats
    }
}

fn percentile(times: &[f64], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_of_few_and_many() {
        assert_eq!(percentile(&[7.0], 99), 7.0);
        let many: Vec<f64> = (0..200).rev().map(f64::from).collect();
        assert_eq!((percentile(&many, 50), percentile(&many, 99)), (100.0, 198.0));
    }
}
