//! [io] Rows a second of hashing, keyed state and aggregation on one core. `cargo run --release --example
//! aggregate_bench`; figures of a quiet machine only.

#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use rheos_dataflow::aggregate::{Accumulators, Input};
use rheos_dataflow::graph::{AggregateCall, AggregateFunction};
use rheos_dataflow::hash::hash_columns;
use rheos_dataflow::key_group::Subtask;
use rheos_dataflow::snapshot::TableImport;

const SUBTASK: Subtask = Subtask { index: 0, workers: 1, groups: 128 };
const BATCH: usize = 8_192;
const ROWS: usize = 16 << 20;

/// A cheap generator, so that its cost does not show (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % limit
    }
}

fn call(function: AggregateFunction, argument: Option<usize>, distinct: bool, filter: Option<usize>) -> AggregateCall {
    let data_type = argument.map_or(DataType::Null, |_| DataType::Int64);
    let name = "call".to_owned();
    AggregateCall { function, distinct, argument, filter, argument_type: data_type, result_type: DataType::Int64, name }
}

/// Columns: key, value, flag, string key.
fn batches(keys: u64, values: u64) -> Vec<RecordBatch> {
    let mut random = Random(1);
    let fields = vec![
        Field::new("key", DataType::Int64, false),
        Field::new("value", DataType::Int64, false),
        Field::new("flag", DataType::Boolean, false),
        Field::new("text", DataType::Utf8, false),
    ];
    let schema = Arc::new(Schema::new(fields));
    (0..256)
        .map(|_| {
            let key: Vec<i64> = (0..BATCH).map(|_| random.below(keys) as i64).collect();
            let text: StringArray = key.iter().map(|key| Some(format!("channel-{key}"))).collect();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(key)),
                Arc::new((0..BATCH).map(|_| Some(random.below(values) as i64)).collect::<Int64Array>()),
                Arc::new((0..BATCH).map(|_| Some(random.below(3) == 0)).collect::<BooleanArray>()),
                Arc::new(text),
            ];
            RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
        })
        .collect()
}

fn measure(name: &str, rows: usize, mut work: impl FnMut()) {
    let start = Instant::now();
    work();
    let seconds = start.elapsed().as_secs_f64();
    println!("{name:<52} {:>8.1} M rows/s {:>8.1} ns/row", rows as f64 / seconds / 1e6, seconds * 1e9 / rows as f64);
}

fn aggregate(name: &str, data: &[RecordBatch], key_columns: &[usize], calls: &[AggregateCall]) -> Accumulators {
    let types: Vec<DataType> = key_columns.iter().map(|key| data[0].column(*key).data_type().clone()).collect();
    let mut groups = Accumulators::new(&types, calls, Input::Insert, SUBTASK).unwrap();
    let (mut hashes, mut slots) = (Vec::new(), Vec::new());
    let mut run = |rows: usize| {
        for batch in data.iter().cycle().take(rows / BATCH) {
            let keys: Vec<ArrayRef> = key_columns.iter().map(|key| Arc::clone(batch.column(*key))).collect();
            hash_columns(&keys, BATCH, &mut hashes).unwrap();
            groups.slots(&keys, &hashes, &mut slots).unwrap();
            groups.update(&slots, batch, None).unwrap();
        }
    };
    run(data.len() * BATCH);
    measure(name, ROWS, || run(ROWS));
    groups
}

fn main() {
    use AggregateFunction::{Avg, Count, Max, Min, Sum};
    let count = [call(Count, None, false, None)];
    let small = batches(1_000, 1_000_000);
    let large = batches(1_000_000, 1_000_000);
    let mut hashes = Vec::new();
    for (name, column) in [("hash Int64", 0), ("hash Utf8 of 11 bytes", 3)] {
        measure(name, ROWS, || {
            for batch in small.iter().cycle().take(ROWS / BATCH) {
                hash_columns(&batch.columns()[column..=column], BATCH, &mut hashes).unwrap();
            }
        });
    }
    aggregate("COUNT(*) by Int64, 1 k keys", &small, &[0], &count);
    let mut state = aggregate("COUNT(*) by Int64, 1 M keys", &large, &[0], &count);
    aggregate("COUNT(*) by Utf8, 1 k keys", &small, &[3], &count);
    aggregate("COUNT(*) by Utf8, 1 M keys", &large, &[3], &count);
    aggregate("COUNT(*) by (Int64, Int64), 1 k x 1 M", &small, &[0, 1], &count);
    aggregate("COUNT(*) by (Utf8, Int64), 1 k keys", &small, &[3, 0], &count);
    let four = [Sum, Avg, Min, Max].map(|function| call(function, Some(1), false, None));
    aggregate("SUM, AVG, MIN, MAX by Int64, 1 k keys", &small, &[0], &four);
    aggregate("SUM, AVG, MIN, MAX by Int64, 1 M keys", &large, &[0], &four);
    let mut eight = four.to_vec();
    eight.push(call(Count, None, false, None));
    eight.extend((0..3).map(|_| call(Count, None, false, Some(2))));
    aggregate("8 aggregates, filters, by Int64, 1 k keys", &small, &[0], &eight);
    let distinct = [call(Count, Some(1), true, None), call(Count, Some(1), true, Some(2))];
    aggregate("COUNT(DISTINCT), 2 filters, 1 group, 1 M values", &small, &[], &distinct);
    aggregate("COUNT(DISTINCT), 2 filters, 1 k groups, 1 G pairs", &small, &[0], &distinct);

    let rows = state.len();
    let start = Instant::now();
    let exports = state.export(&(0..128));
    println!("export of {rows} rows: {:.3} ms", start.elapsed().as_secs_f64() * 1e3);
    let mut stored = BTreeMap::new();
    let start = Instant::now();
    for (name, table) in exports {
        stored.insert(name, table.encode().unwrap());
    }
    println!("encode: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    measure("import 1 M keys", rows, || {
        let mut restored = Accumulators::new(&[DataType::Int64], &count, Input::Insert, SUBTASK).unwrap();
        restored.import(TableImport::of_tables(&stored)).unwrap();
        assert_eq!(restored.len(), rows);
    });
}
