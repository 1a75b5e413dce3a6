//! How fast batches cross between processes: 5 columns (4 x i64 and a string), shuffled by key.
//!
//! `cargo run --release -p rheos-timely --example exchange [PROCESSES] [SLOTS] [SECONDS]`
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
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use rheos_dataflow::coordinator::Pacing;
use rheos_dataflow::error::Result;
use rheos_dataflow::graph::{DataflowGraph, Edge, Exchange, OperatorId};
use rheos_dataflow::plan::ExecutionPlan;
use rheos_dataflow::source::{Read, Source, SplitId, SplitReader, Start, Waker};
use rheos_dataflow::stage::Connectors;

/// Different batches that each reader repeats, so that making them costs nothing.
const BATCHES: usize = 16;

fn batch(seed: usize, rows: usize) -> RecordBatch {
    let ints =
        |factor: usize| -> ArrayRef { Arc::new(Int64Array::from_iter_values((0..rows).map(|row| ((row + seed * rows) * factor) as i64))) };
    let words: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("channel-{}", (row * 7 + seed) % 1000))));
    RecordBatch::try_from_iter([("key", ints(1)), ("a", ints(3)), ("b", ints(5)), ("c", ints(7)), ("word", words)]).expect("a batch")
}

struct Repeat {
    splits: usize,
}

struct RepeatReader {
    batches: Vec<RecordBatch>,
    next: usize,
}

impl Source for Repeat {
    fn discover(&self) -> Result<Vec<SplitId>> {
        Ok((0..self.splits).map(|split| split.to_string()).collect())
    }

    fn open(&self, split: &SplitId, _start: Start<'_>, _waker: Waker) -> Result<Box<dyn SplitReader>> {
        let seed = split.parse().unwrap_or(0) * BATCHES;
        Ok(Box::new(RepeatReader { batches: (seed..seed + BATCHES).map(|seed| batch(seed, 8_192)).collect(), next: 0 }))
    }
}

impl SplitReader for RepeatReader {
    fn read(&mut self, _rows: usize) -> Result<Read> {
        self.next += 1;
        Ok(Read::Rows(self.batches[self.next % BATCHES].clone()))
    }

    fn offset(&self) -> serde_json::Value {
        self.next.into()
    }
}

fn main() {
    let arguments: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let at = |index: usize, default| arguments.get(index).copied().unwrap_or(default);
    let (processes, slots, seconds) = (at(0, 2), at(1, 1), at(2, 5));
    let mut place = bench::Place::take(processes);
    let schema = batch(0, 1).schema();
    let plan = ExecutionPlan::cut(DataflowGraph {
        nodes: vec![
            graph::node("source", graph::source("repeat", &schema), &schema),
            graph::node("sink", graph::sink("count", &schema), &schema),
        ],
        edges: vec![Edge { from: 0, to: 1, port: 0, exchange: Exchange::HashShuffle(vec![0]) }],
    });
    let count = graph::Count::default();
    let mut connectors = Connectors::default();
    connectors.sources.insert(OperatorId("source".to_owned()), Arc::new(Repeat { splits: processes * slots }));
    connectors.sinks.insert(OperatorId("sink".to_owned()), Arc::new(count.clone()));
    let pacing = Pacing { epoch_min: 20, epoch_max: 200, checkpoint_interval: 1_000, checkpoint_timeout: 60_000, window: 16 };
    let stats = Arc::default();
    let took = bench::run(&place, slots, plan, connectors, pacing, Duration::from_secs(seconds as u64), &stats);
    let rows = count.0.load(Ordering::Relaxed) as f64;
    println!(
        "process {}: {:.1} M rows/s received per worker, {:.1} M rows a CPU second, in flight at most {} MiB, resident at most {} MiB",
        place.process,
        rows / took / slots as f64 / 1e6,
        rows / bench::cpu_seconds() / 1e6,
        stats.workers().values().map(|worker| worker.in_flight_bytes.1).max().unwrap_or(0) >> 20,
        bench::peak_mib(),
    );
    place.wait();
}
