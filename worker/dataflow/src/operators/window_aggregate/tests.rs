//! Both phases against a naive model: every window of every row, by brute force.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{BooleanArray, Int64Array, StringArray, TimestampMillisecondArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Field, Schema, TimeUnit, UInt16Type};
use arrow::util::display::array_value_to_string;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::aggregate::partial_fields;
use crate::graph::{AggregateCall, AggregateFunction};
use crate::hash::hash_columns;
use crate::key_group::{group_of, worker_of};
use crate::operators::local_window_aggregate::LocalWindowAggregate;
use crate::snapshot::TableImport;
use crate::time::WATERMARK_MAX;

const GROUPS: u32 = 16;

/// Columns of the raw input.
const COLUMNS: [&str; 5] = ["k", "name", "ts", "v", "flag"];

#[derive(Debug, Clone)]
struct Row {
    k: Option<i64>,
    name: u8,
    ts: Millis,
    v: Option<i64>,
    flag: Option<bool>,
}

/// What happens behind an epoch.
#[derive(Debug, Clone, Copy)]
enum Then {
    GoOn,
    /// An incremental checkpoint.
    Checkpoint,
    /// A checkpoint that exports some groups whole, and drops their older files.
    Compact,
    /// An incremental checkpoint, and all start again from it, on this many workers.
    Restore(u32),
}

#[derive(Debug, Clone)]
struct Epoch {
    rows: Vec<Row>,
    advance: Millis,
    then: Then,
}

fn timestamp(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), true)
}

fn input_schema() -> SchemaRef {
    let fields = [DataType::Int64, DataType::Utf8, DataType::Null, DataType::Int64, DataType::Boolean];
    let field = |(name, data_type): (&str, DataType)| match name {
        "ts" => timestamp(name),
        _ => Field::new(name, data_type, true),
    };
    Arc::new(Schema::new(COLUMNS.into_iter().zip(fields).map(field).collect::<Vec<_>>()))
}

fn input_batch(rows: &[Row]) -> RecordBatch {
    let name = |row: &Row| format!("name-{}-{}", row.name, "x".repeat(usize::from(row.name)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.k))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(name))),
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.ts))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.v))),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.flag))),
    ];
    RecordBatch::try_new(input_schema(), columns).unwrap()
}

fn calls() -> Vec<AggregateCall> {
    use AggregateFunction::{Avg, Count, Max, Min, Sum};
    let call = |function, distinct, argument: Option<usize>, filter: Option<usize>| AggregateCall {
        function,
        distinct,
        argument,
        filter,
        argument_type: argument.map_or(DataType::Null, |_| DataType::Int64),
        result_type: DataType::Int64,
        name: format!("{function:?}"),
    };
    vec![
        call(Count, false, None, None),
        call(Count, false, Some(3), None),
        call(Sum, false, Some(3), None),
        call(Min, false, Some(3), None),
        call(Max, false, Some(3), Some(4)),
        call(Avg, false, Some(3), None),
        call(Count, true, Some(3), None),
        call(Sum, true, Some(3), Some(4)),
        call(Count, false, None, Some(4)),
    ]
}

/// The result of `call` over rows, from its definition.
fn evaluate(call: &AggregateCall, rows: &[&Row]) -> Option<i64> {
    let taken = rows.iter().filter(|row| call.filter.is_none() || row.flag == Some(true));
    let mut values: Vec<i64> = match call.argument {
        None => return Some(taken.count() as i64),
        Some(_) => taken.filter_map(|row| row.v).collect(),
    };
    if call.distinct {
        values = values.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    }
    match call.function {
        AggregateFunction::Count => Some(values.len() as i64),
        _ if values.is_empty() => None,
        AggregateFunction::Sum => Some(values.iter().sum()),
        AggregateFunction::Min => values.into_iter().min(),
        AggregateFunction::Max => values.into_iter().max(),
        AggregateFunction::Avg => Some(values.iter().sum::<i64>() / values.len() as i64),
    }
}

fn key_text(row: &Row, key: usize) -> String {
    array_value_to_string(input_batch(std::slice::from_ref(row)).column(key), 0).unwrap()
}

/// Watermark at the end of each epoch; the first is still unset, the last ends the input.
fn watermarks(epochs: &[Epoch]) -> Vec<Millis> {
    let mut now = 0;
    let last = epochs.len() - 1;
    let step = |(n, epoch): (usize, &Epoch)| match n {
        n if n == last => WATERMARK_MAX,
        0 => WATERMARK_MIN,
        _ => {
            now += epoch.advance;
            now
        }
    };
    epochs.iter().enumerate().map(step).collect()
}

/// Rows of each epoch's output, sorted, and the late rows of all.
#[allow(clippy::type_complexity, reason = "windows to keys to rows")]
fn model(window: Window, keys: &[usize], epochs: &[Epoch]) -> (Vec<Vec<String>>, u64) {
    let calls = calls();
    let mut open: BTreeMap<(Millis, Millis), BTreeMap<Vec<String>, Vec<&Row>>> = BTreeMap::new();
    let (mut outputs, mut late, mut before) = (Vec::new(), 0, WATERMARK_MIN);
    for (epoch, after) in epochs.iter().zip(watermarks(epochs)) {
        for row in &epoch.rows {
            let spans: Vec<Span> = window.windows_of(row.ts).collect();
            late += u64::from(!spans.is_empty() && spans.iter().all(|span| span.end - 1 <= before));
            let key: Vec<String> = keys.iter().map(|key| key_text(row, *key)).collect();
            for span in spans.into_iter().filter(|span| span.end - 1 > before) {
                open.entry((span.end, span.start)).or_default().entry(key.clone()).or_default().push(row);
            }
        }
        let mut output = Vec::new();
        while let Some(entry) = open.first_entry().filter(|entry| entry.key().0 - 1 <= after) {
            let ((end, start), groups) = entry.remove_entry();
            for (key, rows) in groups {
                let results = calls.iter().map(|call| evaluate(call, &rows).map_or(String::new(), |value| value.to_string()));
                let times = [start, end, end - 1].map(|time| time.to_string());
                output.push(key.into_iter().chain(results).chain(times).collect::<Vec<_>>().join("|"));
            }
        }
        output.sort();
        outputs.push(output);
        before = after;
    }
    (outputs, late)
}

/// Choices of the run that must not matter: who gets which row, how batches are cut, in which order they arrive.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }
}

/// A job of both phases on some workers, with the files of its last checkpoint.
struct Job {
    spec: WindowAggregateSpec,
    chance: Chance,
    locals: Vec<LocalWindowAggregate>,
    globals: Vec<WindowAggregate>,
    late: u64,
    tables: BTreeMap<String, Vec<RecordBatch>>,
    facts: Vec<BTreeMap<String, serde_json::Value>>,
}

impl Job {
    fn new(spec: WindowAggregateSpec, seed: u64, workers: u32) -> Self {
        let mut job = Self {
            spec,
            chance: Chance(seed),
            locals: Vec::new(),
            globals: Vec::new(),
            late: 0,
            tables: BTreeMap::new(),
            facts: Vec::new(),
        };
        job.start(workers);
        job
    }

    fn start(&mut self, workers: u32) {
        let spec = &self.spec;
        let input = input_schema();
        let keys: Vec<Field> = spec.keys.iter().map(|key| input.field(*key).clone()).collect();
        let counts = ["__slice_end", "__rows"].map(|name| Field::new(name, DataType::Int64, false));
        let partials: Vec<Field> = keys.iter().cloned().chain(counts).chain(partial_fields(&spec.calls).unwrap()).collect();
        let results = spec.calls.iter().map(|call| Field::new(&call.name, call.result_type.clone(), true));
        let times = ["window_start", "window_end", "window_time"].map(timestamp);
        let output: Vec<Field> = keys.into_iter().chain(results).chain(times).collect();
        let (partials, output) = (Arc::new(Schema::new(partials)), Arc::new(Schema::new(output)));
        let subtasks = (0..workers).map(|index| Subtask { index, workers, groups: GROUPS });
        self.late += self.globals.iter().map(|global| global.stats().late_rows).sum::<u64>();
        (self.locals, self.globals) = subtasks
            .map(|subtask| {
                let local = LocalWindowAggregate::new("local".into(), spec, &input, &partials, subtask).unwrap();
                (local, WindowAggregate::new("global".into(), spec, &partials, &output, subtask).unwrap())
            })
            .unzip();
    }

    fn checkpoint(&mut self, compact: bool) {
        self.facts.clear();
        let workers = self.globals.len() as u32;
        for (index, global) in (0u32..).zip(&mut self.globals) {
            let subtask = Subtask { index, workers, groups: GROUPS };
            let owned = subtask.key_groups();
            let whole = if compact { owned.start + 1..owned.end } else { 0..0 };
            let export = global.snapshot(&SnapshotRequest { epoch: 0, whole: whole.clone() }).unwrap();
            self.facts.push(export.facts);
            for batches in self.tables.values_mut() {
                for batch in batches {
                    let groups = batch.column(0).as_primitive::<UInt16Type>().values();
                    let kept = (0u32..).zip(groups).filter(|(_, group)| !whole.contains(&u32::from(**group)));
                    *batch = take_record_batch(batch, &UInt32Array::from_iter_values(kept.map(|(row, _)| row))).unwrap();
                }
            }
            for (name, table) in export.tables {
                let batches = table.encode().unwrap();
                for batch in &batches {
                    let groups = batch.column(0).as_primitive::<UInt16Type>().values();
                    assert!(groups.is_sorted() && groups.iter().all(|group| owned.contains(&u32::from(*group))));
                }
                self.tables.entry(name).or_default().extend(batches);
            }
        }
    }

    fn restore(&mut self, workers: u32) {
        self.start(workers);
        for global in &mut self.globals {
            global.restore(OperatorImport { facts: self.facts.clone(), tables: TableImport::of_tables(&self.tables) }).unwrap();
        }
    }

    /// Runs one epoch; the output's rows as the workers emitted them, in order.
    fn epoch(&mut self, rows: &[Row], watermark: Millis) -> Vec<String> {
        let end = EpochEnd { epoch: 0, wall_time: 0, watermark };
        let workers = self.locals.len();
        let mut shares: Vec<Vec<Row>> = vec![Vec::new(); workers];
        for row in rows {
            shares[self.chance.below(workers)].push(row.clone());
        }
        let mut partials = Vec::new();
        for (local, share) in self.locals.iter_mut().zip(shares) {
            let mut rest = &share[..];
            while !rest.is_empty() {
                let (some, more) = rest.split_at(1 + self.chance.below(rest.len()));
                partials.extend(drive(local, |local, out| local.on_batch(0, &input_batch(some), out)));
                rest = more;
            }
            partials.extend(drive(local, |local, out| local.on_epoch_end(&end, out)));
        }
        // Interleave: rows one by one, in any order, then cut anew.
        let mut routed: Vec<RecordBatch> = Vec::new();
        for batch in partials {
            routed.extend((0..batch.num_rows()).map(|row| batch.slice(row, 1)));
        }
        for n in (1..routed.len()).rev() {
            routed.swap(n, self.chance.below(n + 1));
        }
        let mut rest = &routed[..];
        while !rest.is_empty() {
            let (some, more) = rest.split_at(1 + self.chance.below(rest.len()));
            self.deliver(&concat_batches(some[0].schema_ref(), some).unwrap());
            rest = more;
        }
        let mut rows = Vec::new();
        for global in &mut self.globals {
            for batch in drive(global, |global, out| global.on_epoch_end(&end, out)) {
                rows.extend((0..batch.num_rows()).map(|row| text(&batch, row)));
            }
        }
        rows
    }

    /// Each row to the worker that owns its key group.
    fn deliver(&mut self, batch: &RecordBatch) {
        let mut hashes = Vec::new();
        hash_columns(&batch.columns()[..self.spec.keys.len()], batch.num_rows(), &mut hashes).unwrap();
        let workers = self.globals.len() as u32;
        for (worker, global) in (0u32..).zip(&mut self.globals) {
            let mine = (0u32..).zip(&hashes).filter(|(_, hash)| worker_of(group_of(**hash, GROUPS), workers, GROUPS) == worker);
            let mine = take_record_batch(batch, &UInt32Array::from_iter_values(mine.map(|(row, _)| row))).unwrap();
            assert!(drive(global, |global, out| global.on_batch(0, &mine, out)).is_empty());
        }
    }

    fn late_rows(&self) -> u64 {
        self.late + self.globals.iter().map(|global| global.stats().late_rows).sum::<u64>()
    }
}

/// Makes a call and resumes it to its end; what it emitted.
fn drive<O: Operator>(operator: &mut O, call: impl FnOnce(&mut O, &mut Output) -> Result<Progress>) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    let mut out = Output::default();
    let mut progress = call(operator, &mut out).unwrap();
    loop {
        assert!(out.batches.iter().all(|batch| (1..=MAX_BATCH_ROWS).contains(&batch.num_rows())));
        batches.append(&mut out.batches);
        match progress {
            Progress::Done => return batches,
            Progress::More => progress = operator.resume(&mut out).unwrap(),
            Progress::Waiting { .. } => panic!("it waits for nothing"),
        }
    }
}

fn text(batch: &RecordBatch, row: usize) -> String {
    let value = |column: &ArrayRef| match column.data_type() {
        DataType::Timestamp(..) => column.as_primitive::<arrow::datatypes::TimestampMillisecondType>().value(row).to_string(),
        _ => array_value_to_string(column, row).unwrap(),
    };
    batch.columns().iter().map(value).collect::<Vec<_>>().join("|")
}

#[allow(clippy::type_complexity, reason = "a row is a tuple of its columns")]
fn rows() -> impl Strategy<Value = Vec<(Option<i64>, u8, Millis, Option<i64>, Option<bool>)>> {
    let value = prop_oneof![1 => Just(None), 6 => (-5..5i64).prop_map(Some)];
    vec((prop_oneof![1 => Just(None), 5 => (0..4i64).prop_map(Some)], 0..3u8, -70..60i64, value, any::<Option<bool>>()), 0..12)
}

/// Epochs whose rows lie around the watermark, some behind it.
fn epochs() -> impl Strategy<Value = Vec<Epoch>> {
    let then = prop_oneof![
        2 => Just(Then::GoOn),
        1 => Just(Then::Checkpoint),
        1 => Just(Then::Compact),
        2 => (1..4u32).prop_map(Then::Restore)
    ];
    vec((rows(), prop_oneof![Just(0), 0..15i64, 0..90i64], then), 1..10).prop_map(|epochs| {
        let mut now = 0;
        let mut made = Vec::new();
        for (n, (rows, advance, then)) in epochs.into_iter().enumerate() {
            let rows = rows.into_iter().map(|(k, name, at, v, flag)| Row { k, name, ts: now + at, v, flag }).collect();
            now += if n == 0 { 0 } else { advance };
            made.push(Epoch { rows, advance, then });
        }
        made
    })
}

fn windows() -> impl Strategy<Value = Window> {
    let offset = -20..20i64;
    prop_oneof![
        (1..40i64, offset.clone()).prop_map(|(size, offset)| Window::Tumble { size, offset }),
        (1..40i64, 2..20i64, offset.clone()).prop_map(|(size, slide, offset)| Window::Hop { size, slide, offset }),
        (1..6i64, 1..12i64, offset).prop_map(|(steps, step, offset)| Window::Cumulate { max: steps * step, step, offset }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn windows_hold_what_the_definition_says_whatever_the_run(
        window in windows(), epochs in epochs(), workers in 1..4u32, seed in any::<u64>(),
        keys in prop_oneof![Just(vec![]), Just(vec![0]), Just(vec![1, 0])],
    ) {
        let spec = WindowAggregateSpec { keys: keys.clone(), time: 2, window, calls: calls() };
        let (expected, late) = model(window, &keys, &epochs);
        let mut job = Job::new(spec, seed, workers);
        for ((epoch, watermark), expected) in epochs.iter().zip(watermarks(&epochs)).zip(expected) {
            let mut actual = job.epoch(&epoch.rows, watermark);
            actual.sort();
            prop_assert_eq!(actual, expected);
            match epoch.then {
                Then::GoOn => {}
                Then::Checkpoint => job.checkpoint(false),
                Then::Compact => job.checkpoint(true),
                Then::Restore(workers) => {
                    job.checkpoint(false);
                    job.restore(workers);
                }
            }
        }
        prop_assert_eq!(job.late_rows(), late);
        prop_assert!(job.globals.iter().all(|global| global.stats().state_keys == 0 && global.panes.blocks() == 0));
    }

    #[test]
    fn one_worker_emits_the_same_rows_in_the_same_order_on_every_run(window in windows(), epochs in epochs(), seeds in any::<[u64; 2]>()) {
        let spec = WindowAggregateSpec { keys: vec![0, 1], time: 2, window, calls: calls() };
        let [mut one, mut other] = seeds.map(|seed| Job::new(spec.clone(), seed, 1));
        for (epoch, watermark) in epochs.iter().zip(watermarks(&epochs)) {
            prop_assert_eq!(one.epoch(&epoch.rows, watermark), other.epoch(&epoch.rows, watermark));
        }
    }
}

/// `keys` keys in each of `slices` slices of 10 ms.
fn many(keys: i64, slices: i64) -> Vec<Row> {
    let row = |slice: i64, k: i64| Row { k: Some(k), name: 0, ts: slice * 10, v: Some(k), flag: None };
    (0..slices).flat_map(|slice| (0..keys).map(move |k| row(slice, k))).collect()
}

#[test]
fn large_windows_come_in_full_batches_and_small_ones_share_a_batch() {
    let run = |keys: i64, slices: i64, window: Window| {
        let spec = WindowAggregateSpec { keys: vec![0], time: 2, window, calls: calls()[..1].to_vec() };
        let mut job = Job::new(spec, 1, 1);
        for rows in many(keys, slices).chunks(5_000) {
            let partials = drive(&mut job.locals[0], |local, out| local.on_batch(0, &input_batch(rows), out));
            partials.iter().for_each(|batch| job.deliver(batch));
        }
        let end = EpochEnd { epoch: 1, wall_time: 0, watermark: WATERMARK_MAX };
        let partials = drive(&mut job.locals[0], |local, out| local.on_epoch_end(&end, out));
        partials.iter().for_each(|batch| job.deliver(batch));
        drive(&mut job.globals[0], |global, out| global.on_epoch_end(&end, out)).iter().map(RecordBatch::num_rows).collect::<Vec<_>>()
    };
    let tumble = Window::Tumble { size: 10, offset: 0 };
    assert_eq!(run(MAX_BATCH_ROWS as i64 + 1, 1, tumble), [MAX_BATCH_ROWS, 1]);
    assert_eq!(run(10, 100, tumble), [1_000]);
    assert_eq!(run(20_000, 2, Window::Hop { size: 20, slide: 10, offset: 0 }).iter().sum::<usize>(), 60_000);
    // More keys than the first phase holds.
    let early = crate::operators::local_window_aggregate::MAX_LOCAL_KEYS as i64 + 1;
    assert_eq!(run(early, 1, tumble).iter().sum::<usize>(), early as usize);
}

#[test]
fn a_snapshot_that_is_not_of_a_window_aggregation_is_refused() {
    let spec = WindowAggregateSpec { keys: vec![0], time: 2, window: Window::Tumble { size: 10, offset: 0 }, calls: calls() };
    let mut job = Job::new(spec, 1, 1);
    let import = OperatorImport { facts: vec![BTreeMap::new()], tables: BTreeMap::new() };
    assert_eq!(job.globals[0].restore(import).unwrap_err().kind, ErrorKind::State);
    let tables = BTreeMap::from([("t".to_owned(), vec![input_batch(&[])].into())]);
    let error = job.globals[0].restore(OperatorImport { facts: Vec::new(), tables }).unwrap_err();
    assert!(error.message.contains("no column for the slice"), "{error}");
}
