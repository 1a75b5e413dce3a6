//! [io] Nexmark in Flink's text: events a second and events per CPU-second of all processes.

use super::table::{Table, amount};
use crate::nexmark;
use crate::shapes::{Settings, manifest};
use crate::worker::{Job, Summary};

/// One query.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    /// What the table calls it.
    pub name: &'static str,
    /// Its text, from the examples.
    pub sql: &'static str,
    /// Events of a run.
    pub events: u64,
    /// Thousand events per CPU-second of Flink 2.3's task manager on a 2-core machine of the same kind (one slot, heap
    /// state, its own generator inside the slot, checkpoints every 10 s): from, to. `None`: not measured.
    pub flink: Option<(u64, u64)>,
    /// Measured without projection pushed into the generator, too.
    pub both_ways: bool,
}

/// The text of an example.
macro_rules! example {
    ($name:literal) => {
        include_str!(concat!("../../../crds/examples/nexmark/", $name, ".sql"))
    };
}

/// The queries that are measured.
#[rustfmt::skip]
pub const QUERIES: &[Query] = &[
    Query { name: "q0", sql: example!("q0"), events: 60_000_000, flink: Some((790, 930)), both_ways: true },
    Query { name: "q1", sql: example!("q1"), events: 60_000_000, flink: Some((820, 850)), both_ways: true },
    Query { name: "q2", sql: example!("q2"), events: 60_000_000, flink: Some((720, 860)), both_ways: true },
    Query { name: "q5, inner aggregation", sql: example!("q5-inner"), events: 60_000_000, flink: Some((260, 310)), both_ways: false },
    Query { name: "q7, inner aggregation", sql: example!("q7-inner"), events: 60_000_000, flink: Some((52, 62)), both_ways: false },
    Query { name: "q14, without its UDF", sql: example!("q14"), events: 60_000_000, flink: Some((910, 910)), both_ways: true },
    Query { name: "q15", sql: example!("q15"), events: 30_000_000, flink: Some((200, 250)), both_ways: false },
    Query { name: "q16", sql: example!("q16"), events: 10_000_000, flink: Some((35, 35)), both_ways: false },
    Query { name: "q17", sql: example!("q17"), events: 30_000_000, flink: Some((350, 380)), both_ways: false },
    Query { name: "q22", sql: example!("q22"), events: 30_000_000, flink: None, both_ways: false },
    Query { name: "bids by bidder, tumbling 10 s", sql: example!("bids-per-bidder"), events: 60_000_000, flink: None, both_ways: false },
];

/// Events a second of event time: a window of 10 s holds as many as in the published runs of 10 million a second.
const EVENTS_RATE: u64 = 10_000_000;

/// Runs the queries whose names contain one of `wanted` (none: all) with 1 and 2 workers; `scale` shortens the runs.
pub async fn run(wanted: &[String], scale: f64, print: &mut dyn FnMut(String)) {
    let heads = [
        "query",
        "workers",
        "pushdown",
        "events/s",
        "events per CPU-s",
        "Flink 2.3",
        "ratio",
        "peak memory",
        "checkpoints",
        "p50",
        "last bytes",
    ];
    for line in Table::new(&heads).to_string().lines() {
        print(line.to_owned());
    }
    for query in QUERIES.iter().filter(|query| wanted.is_empty() || wanted.iter().any(|name| query.name.split(',').next() == Some(name))) {
        for parallelism in [1, 2] {
            for pushdown in [true, false] {
                if pushdown || query.both_ways {
                    let events = (query.events as f64 * scale) as u64;
                    print(Table::line(&measure(query, events, parallelism, pushdown).await));
                }
            }
        }
    }
}

async fn measure(query: &Query, events: u64, parallelism: u32, pushdown: bool) -> Vec<String> {
    let settings = Settings { events, parallelism, checkpoint_ms: 10_000, ..Settings::default() };
    let sql = nexmark::tables(EVENTS_RATE, events, "") + query.sql;
    let job = Job::new(&manifest("nexmark", &sql, &settings));
    let mut run = job.start_with(if pushdown { &[] } else { &["--no-pushdown"] }, &[]);
    let code = run.wait().await;
    assert_eq!(code, 0, "{} failed\n{}", query.name, run.log());
    row(query, parallelism, pushdown, events, &run.summary())
}

fn row(query: &Query, parallelism: u32, pushdown: bool, events: u64, summary: &Summary) -> Vec<String> {
    assert_eq!(summary.rows_in, events, "{}: rows read", query.name);
    let per_cpu = events as f64 / summary.cpu_seconds;
    let (flink, ratio) = match query.flink {
        None => ("not measured".to_owned(), "-".to_owned()),
        Some((low, high)) => (format!("{low}-{high} k"), format!("{:.1}", per_cpu / 1e3 / high as f64)),
    };
    vec![
        query.name.to_owned(),
        parallelism.to_string(),
        if pushdown { "yes" } else { "no" }.to_owned(),
        amount(events as f64 / summary.wall_seconds),
        amount(per_cpu),
        flink,
        ratio,
        format!("{} MiB", summary.peak_rss_bytes >> 20),
        summary.checkpoints.completed.to_string(),
        format!("{:.0} ms", summary.checkpoints.p50_ms),
        amount(summary.checkpoints.last_bytes as f64),
    ]
}
