//! What coordination costs when nearly no data flows: 8 workers in 2 processes, 30 operators, 50 epochs a second, three
//! of the operators behind an exchange (they hold a capability to the end of each epoch).
//!
//! `cargo run --release -p rheos-timely --example coordination [HOLDERS] [SECONDS]`
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a bench: it prints, reads clocks, and shares a module"
)]

#[path = "support/bench.rs"]
mod bench;
#[path = "support/graph.rs"]
mod graph;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use rheos_dataflow::coordinator::Pacing;
use rheos_dataflow::error::Result;
use rheos_dataflow::graph::{DataflowGraph, Edge, Exchange, OperatorId, OperatorSpec};
use rheos_dataflow::plan::ExecutionPlan;
use rheos_dataflow::source::{Read, Source, SplitId, SplitReader, Start, Waker};
use rheos_dataflow::stage::Connectors;

const OPERATORS: usize = 30;
const PROCESSES: usize = 2;
const SLOTS: usize = 4;
/// Between ticks, milliseconds: 50 epochs a second.
const EPOCH: i64 = 20;

fn batch(n: i64) -> RecordBatch {
    RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(n * 64..(n + 1) * 64)) as ArrayRef)]).expect("a batch")
}

/// A small batch each 10 ms from each split: some data in every epoch.
struct Trickle;

struct TrickleReader {
    began: Instant,
    next: i64,
    waker: Waker,
}

impl Source for Trickle {
    fn discover(&self) -> Result<Vec<SplitId>> {
        Ok((0..PROCESSES * SLOTS).map(|split| split.to_string()).collect())
    }

    fn open(&self, _split: &SplitId, _start: Start<'_>, waker: Waker) -> Result<Box<dyn SplitReader>> {
        Ok(Box::new(TrickleReader { began: Instant::now(), next: 0, waker }))
    }
}

impl SplitReader for TrickleReader {
    fn read(&mut self, _rows: usize) -> Result<Read> {
        if self.began.elapsed().as_millis() as i64 / 10 <= self.next {
            // Every tick wakes the source, which reads then.
            let _ = &self.waker;
            return Ok(Read::Pending);
        }
        self.next = self.began.elapsed().as_millis() as i64 / 10;
        Ok(Read::Rows(batch(self.next)))
    }

    fn offset(&self) -> serde_json::Value {
        self.next.into()
    }
}

fn main() {
    let arguments: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (holders, seconds) = (arguments.first().copied().unwrap_or(3), arguments.get(1).copied().unwrap_or(5));
    let mut place = bench::Place::take(PROCESSES);
    let schema = batch(0).schema();
    // A chain; `holders` of its edges, evenly spread, move rows between workers.
    let mut nodes = vec![graph::node("source", graph::source("trickle", &schema), &schema)];
    let mut edges = Vec::new();
    for n in 1..OPERATORS {
        let last = n + 1 == OPERATORS;
        let spec = if last { graph::sink("drop", &schema) } else { OperatorSpec::Union };
        nodes.push(graph::node(&format!("operator-{n}"), spec, &schema));
        let moves = n * holders / (OPERATORS - 1) > (n - 1) * holders / (OPERATORS - 1);
        edges.push(Edge { from: n - 1, to: n, port: 0, exchange: if moves { Exchange::HashShuffle(vec![0]) } else { Exchange::Forward } });
    }
    let plan = ExecutionPlan::cut(DataflowGraph { nodes, edges });
    let stages = plan.stages.len();
    let mut connectors = Connectors::default();
    connectors.sources.insert(OperatorId("source".to_owned()), Arc::new(Trickle));
    connectors.sinks.insert(OperatorId(format!("operator-{}", OPERATORS - 1)), Arc::new(graph::Count::default()));
    let pacing = Pacing { epoch_min: EPOCH, epoch_max: EPOCH, checkpoint_interval: 1_000, checkpoint_timeout: 60_000, window: 16 };
    let stats = Arc::default();
    let before = bench::cpu_seconds();
    let took = bench::run(&place, SLOTS, plan, connectors, pacing, Duration::from_secs(seconds as u64), &stats);
    let workers = stats.workers();
    let ticks = workers.values().map(|worker| worker.tick).max().unwrap_or(0);
    let mut times = workers.get(&0).map(|worker| worker.epoch_ms.clone()).unwrap_or_default();
    times.sort_by(f64::total_cmp);
    println!(
        "process {}: {stages} stages, {:.0} epochs/s, {:.1} % of a core, tick to closed p50 {:.2} ms",
        place.process,
        ticks as f64 / took,
        (bench::cpu_seconds() - before) / took * 100.0,
        times.get(times.len() / 2).copied().unwrap_or(0.0),
    );
    place.wait();
}
