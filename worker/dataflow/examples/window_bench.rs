//! [io] Events per second of processor time through the two phases of window aggregation, one thread, no exchange.
//!
//! The rows have the shape of Nexmark's bids: half of them go to one hot auction that changes every 100 auctions, the
//! others to the last 100; one event a microsecond of event time. `cargo run --release --example window_bench [EVENTS [PART OF A TITLE]]`.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods)]

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arrow::array::{Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rheos_dataflow::aggregate::partial_fields;
use rheos_dataflow::graph::{AggregateCall, AggregateFunction, Window, WindowAggregateSpec};
use rheos_dataflow::key_group::Subtask;
use rheos_dataflow::operator::{Operator, Output, Progress};
use rheos_dataflow::operators::local_window_aggregate::LocalWindowAggregate;
use rheos_dataflow::operators::window_aggregate::WindowAggregate;
use rheos_dataflow::snapshot::SnapshotRequest;
use rheos_dataflow::time::{EpochEnd, Millis};

const BATCH_ROWS: i64 = 8_192;
/// Events of one epoch: 100 ms at a million events a second.
const EPOCH_ROWS: i64 = 100_000;
const SUBTASK: Subtask = Subtask { index: 0, workers: 1, groups: 128 };

fn main() {
    let events: i64 = std::env::args().nth(1).map_or(20_000_000, |text| text.parse().unwrap());
    let count = |distinct, argument| call(AggregateFunction::Count, distinct, argument);
    let second = 1_000;
    let shapes = [
        (
            "q5: HOP 10 s / 2 s, count by auction",
            Window::Hop { size: 10 * second, slide: 2 * second, offset: 0 },
            vec![0],
            vec![count(false, None)],
        ),
        (
            "q7: TUMBLE 10 s, max of price",
            Window::Tumble { size: 10 * second, offset: 0 },
            vec![],
            vec![call(AggregateFunction::Max, false, Some(2))],
        ),
        ("by bidder: TUMBLE 10 s, count", Window::Tumble { size: 10 * second, offset: 0 }, vec![1], vec![count(false, None)]),
        (
            "by auction: CUMULATE 10 s / 1 s, sum, avg",
            Window::Cumulate { max: 10 * second, step: second, offset: 0 },
            vec![0],
            vec![call(AggregateFunction::Sum, false, Some(2)), call(AggregateFunction::Avg, false, Some(2))],
        ),
        (
            "by auction: TUMBLE 10 s, count distinct bidders",
            Window::Tumble { size: 10 * second, offset: 0 },
            vec![0],
            vec![count(true, Some(1))],
        ),
        (
            "by auction: HOP 60 s / 1 s, count",
            Window::Hop { size: 60 * second, slide: second, offset: 0 },
            vec![0],
            vec![count(false, None)],
        ),
        (
            "keys that never repeat: TUMBLE 10 s, sum",
            Window::Tumble { size: 10 * second, offset: 0 },
            vec![0, 1, 2],
            vec![call(AggregateFunction::Sum, false, Some(2))],
        ),
        ("by auction: TUMBLE 1 ms, count", Window::Tumble { size: 1, offset: 0 }, vec![0], vec![count(false, None)]),
    ];
    println!("{:48} {:>12} {:>10} {:>10} {:>10} {:>12}", "", "events/s", "local ms", "merge ms", "fire ms", "rows out");
    let wanted = std::env::args().nth(2).unwrap_or_default();
    for (title, window, keys, calls) in shapes.into_iter().filter(|shape| shape.0.contains(&wanted)) {
        run(title, &WindowAggregateSpec { keys, time: 3, window, calls }, events);
    }
}

fn call(function: AggregateFunction, distinct: bool, argument: Option<usize>) -> AggregateCall {
    let argument_type = argument.map_or(DataType::Null, |_| DataType::Int64);
    AggregateCall { function, distinct, argument, filter: None, argument_type, result_type: DataType::Int64, name: "result".into() }
}

fn run(title: &str, spec: &WindowAggregateSpec, events: i64) {
    let input = input_schema();
    let (partials, output) = schemas(spec, &input);
    let mut local = LocalWindowAggregate::new("local".into(), spec, &input, &partials, SUBTASK).unwrap();
    let mut global = WindowAggregate::new("global".into(), spec, &partials, &output, SUBTASK).unwrap();
    let [mut local_time, mut merge_time, mut fire_time] = [Duration::ZERO; 3];
    let mut rows = 0;
    for epoch in 0..events / EPOCH_ROWS {
        let from = epoch * EPOCH_ROWS;
        let batches: Vec<RecordBatch> =
            (0..EPOCH_ROWS).step_by(BATCH_ROWS as usize).map(|at| bids(&input, from + at, BATCH_ROWS.min(EPOCH_ROWS - at))).collect();
        let watermark = (from + EPOCH_ROWS) / 1_000 - 4_000;
        let end = EpochEnd { epoch: epoch as u64, wall_time: 0, watermark };
        let (partials, time) = timed(|| {
            let mut partials: Vec<RecordBatch> =
                batches.iter().flat_map(|batch| drive(&mut local, |op, out| op.on_batch(0, batch, out))).collect();
            partials.extend(drive(&mut local, |op, out| op.on_epoch_end(&end, out)));
            partials
        });
        local_time += time;
        let ((), time) = timed(|| partials.iter().for_each(|batch| drop(drive(&mut global, |op, out| op.on_batch(0, batch, out)))));
        merge_time += time;
        let (fired, time) = timed(|| {
            let fired = drive(&mut global, |op, out| op.on_epoch_end(&end, out));
            if epoch % 100 == 99 {
                global.snapshot(&SnapshotRequest { epoch: epoch as u64, whole: 0..0 });
            }
            fired
        });
        fire_time += time;
        rows += fired.iter().map(RecordBatch::num_rows).sum::<usize>();
    }
    let total = local_time + merge_time + fire_time;
    println!(
        "{title:48} {:>12.0} {:>10} {:>10} {:>10} {rows:>12}",
        events as f64 / total.as_secs_f64(),
        local_time.as_millis(),
        merge_time.as_millis(),
        fire_time.as_millis()
    );
}

/// Processor time, so that a busy machine does not blur the figures.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = processor_time();
    let result = work();
    (result, processor_time() - start)
}

/// Of this thread; wall time where the system does not tell.
fn processor_time() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.as_deref().and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

fn drive<O: Operator>(
    operator: &mut O,
    call: impl FnOnce(&mut O, &mut Output) -> rheos_dataflow::error::Result<Progress>,
) -> Vec<RecordBatch> {
    let mut out = Output::default();
    let mut progress = call(operator, &mut out).unwrap();
    let mut batches = std::mem::take(&mut out.batches);
    while progress == Progress::More {
        progress = operator.resume(&mut out).unwrap();
        batches.append(&mut out.batches);
    }
    batches
}

fn timestamp(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), false)
}

fn input_schema() -> SchemaRef {
    let int = |name: &str| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![int("auction"), int("bidder"), int("price"), timestamp("ts")]))
}

fn schemas(spec: &WindowAggregateSpec, input: &SchemaRef) -> (SchemaRef, SchemaRef) {
    let keys: Vec<Field> = spec.keys.iter().map(|key| input.field(*key).clone()).collect();
    let counts = ["__slice_end", "__rows"].map(|name| Field::new(name, DataType::Int64, false));
    let partials: Vec<Field> = keys.iter().cloned().chain(counts).chain(partial_fields(&spec.calls).unwrap()).collect();
    let results = spec.calls.iter().map(|call| Field::new(&call.name, call.result_type.clone(), true));
    let times = ["window_start", "window_end", "window_time"].map(timestamp);
    let output: Vec<Field> = keys.into_iter().chain(results).chain(times).collect();
    (Arc::new(Schema::new(partials)), Arc::new(Schema::new(output)))
}

/// Bids number `from..from + rows`.
fn bids(schema: &SchemaRef, from: i64, rows: i64) -> RecordBatch {
    let random = |n: i64, salt: u64| {
        let mut x = (n as u64).wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (x ^ (x >> 32)) as i64 & i64::MAX
    };
    // Of 50 events 3 are auctions, 1 is a person.
    let auction = |n: i64| {
        let last = n * 3 / 50;
        if random(n, 1) % 2 == 0 { last / 100 * 100 } else { last - random(n, 2) % 100 }
    };
    let bidder = |n: i64| {
        let last = n / 50;
        if random(n, 3) % 4 != 0 { last / 100 * 100 + 1 } else { last - random(n, 4) % 1_000 }
    };
    let events = from..from + rows;
    let times: Vec<Millis> = events.clone().map(|n| n / 1_000).collect();
    RecordBatch::try_new(
        Arc::clone(schema),
        vec![
            Arc::new(Int64Array::from_iter_values(events.clone().map(auction))),
            Arc::new(Int64Array::from_iter_values(events.clone().map(bidder))),
            Arc::new(Int64Array::from_iter_values(events.map(|n| random(n, 5) % 10_000))),
            Arc::new(TimestampMillisecondArray::from(times)),
        ],
    )
    .unwrap()
}
