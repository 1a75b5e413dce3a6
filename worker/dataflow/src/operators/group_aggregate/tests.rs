//! [pure] Both phases of unbounded aggregation against a model that keeps all rows and follows the definitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, UInt8Array, UInt16Array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int64Type, Schema, SchemaRef, UInt8Type, UInt16Type};
use proptest::prelude::*;

use super::super::local_group_aggregate::{LocalGroupAggregate, MAX_LOCAL_ENTRIES, MIN_MEASURED_ROWS};
use super::*;
use crate::aggregate::partial_fields;
use crate::changelog::KIND_COLUMN;
use crate::graph::{AggregateCall, AggregateFunction};
use crate::key_group::{group_of, worker_of};
use crate::snapshot::TableImport;

const GROUPS: u32 = 8;

#[derive(Debug, Clone, PartialEq, PartialOrd)]
struct Row {
    key: Option<i64>,
    name: Option<String>,
    int: Option<i64>,
    float: Option<f64>,
    decimal: Option<i128>,
    flag: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Null,
    Int(i64),
    Float(u64),
    Decimal(i128),
    Text(String),
    Flag(bool),
}

type Key = Vec<Value>;
type Change = (Key, u8, Vec<Value>);

fn fields() -> Vec<Field> {
    vec![
        Field::new("key", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("int", DataType::Int64, true),
        Field::new("float", DataType::Float64, true),
        Field::new("decimal", DataType::Decimal128(10, 2), true),
        Field::new("flag", DataType::Boolean, true),
    ]
}

fn batch(rows: &[(i64, Row)], changelog: bool) -> RecordBatch {
    let of = |f: &dyn Fn(&Row) -> Option<i64>| rows.iter().map(|(_, row)| f(row)).collect::<Int64Array>();
    let decimals: Decimal128Array = rows.iter().map(|(_, row)| row.decimal).collect();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(of(&|row| row.key)),
        Arc::new(rows.iter().map(|(_, row)| row.name.clone()).collect::<StringArray>()),
        Arc::new(of(&|row| row.int)),
        Arc::new(rows.iter().map(|(_, row)| row.float).collect::<Float64Array>()),
        Arc::new(decimals.with_precision_and_scale(10, 2).unwrap()),
        Arc::new(rows.iter().map(|(_, row)| row.flag).collect::<BooleanArray>()),
    ];
    let mut fields = fields();
    if changelog {
        // Both ways to say that a row comes or goes.
        let kind = |(i, (sign, _)): (usize, &(i64, Row))| match (*sign > 0, i % 2) {
            (true, 0) => 0,
            (true, _) => 2,
            (false, 0) => 3,
            (false, _) => 1,
        };
        columns.push(Arc::new(rows.iter().enumerate().map(kind).collect::<UInt8Array>()));
        fields.push(Field::new(KIND_COLUMN, DataType::UInt8, false));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn calls() -> Vec<AggregateCall> {
    use AggregateFunction::{Avg, Count, Max, Min, Sum};
    let fields = fields();
    let call = |function, distinct, argument: Option<usize>, filter| {
        let argument_type = argument.map_or(DataType::Null, |column: usize| fields[column].data_type().clone());
        let result_type = match (&argument_type, function) {
            (_, Count) => DataType::Int64,
            (DataType::Decimal128(..), Sum) => DataType::Decimal128(38, 2),
            (DataType::Decimal128(..), Avg) => DataType::Decimal128(38, 6),
            (other, _) => other.clone(),
        };
        AggregateCall { function, distinct, argument, filter, argument_type, result_type, name: "call".into() }
    };
    let flag = Some(5);
    vec![
        call(Count, false, None, None),
        call(Count, false, None, flag),
        call(Count, false, Some(2), None),
        call(Sum, false, Some(2), None),
        call(Sum, false, Some(2), flag),
        call(Avg, false, Some(2), None),
        call(Min, false, Some(2), None),
        call(Max, false, Some(2), flag),
        call(Sum, false, Some(3), None),
        call(Avg, false, Some(3), flag),
        call(Min, false, Some(3), None),
        call(Sum, false, Some(4), None),
        call(Avg, false, Some(4), None),
        call(Max, false, Some(4), None),
        call(Min, false, Some(1), None),
        call(Max, false, Some(1), flag),
        call(Max, false, Some(5), None),
        call(Count, true, Some(2), None),
        call(Count, true, Some(2), flag),
        call(Sum, true, Some(2), None),
        call(Count, true, Some(1), flag),
        call(Avg, true, Some(4), None),
        call(Sum, true, Some(3), None),
        call(Max, true, Some(2), None),
    ]
}

fn value(row: &Row, column: usize) -> Value {
    match column {
        0 => row.key.map_or(Value::Null, Value::Int),
        1 => row.name.clone().map_or(Value::Null, Value::Text),
        2 => row.int.map_or(Value::Null, Value::Int),
        3 => row.float.map_or(Value::Null, |float| Value::Float(float.to_bits())),
        4 => row.decimal.map_or(Value::Null, Value::Decimal),
        _ => row.flag.map_or(Value::Null, Value::Flag),
    }
}

fn divide_half_up(value: i128, by: i128) -> i128 {
    let (quotient, rest) = (value / by, value % by);
    if rest.abs() * 2 >= by { quotient + value.signum() } else { quotient }
}

/// A call's result by its definition. Floats of the tests are multiples of 1/8, so their sums are exact in any order.
fn expected(call: &AggregateCall, rows: &[Row]) -> Value {
    let passed = rows.iter().filter(|row| call.filter.is_none_or(|column| value(row, column) == Value::Flag(true)));
    let Some(argument) = call.argument else { return Value::Int(passed.count() as i64) };
    let mut values: Vec<Value> = passed.map(|row| value(row, argument)).filter(|value| *value != Value::Null).collect();
    if call.distinct {
        values.sort();
        values.dedup();
    }
    let count = values.len() as i128;
    if call.function == AggregateFunction::Count {
        return Value::Int(count as i64);
    }
    if count == 0 {
        return Value::Null;
    }
    let float = |value: &Value| if let Value::Float(bits) = value { f64::from_bits(*bits) } else { 0.0 };
    match call.function {
        AggregateFunction::Min | AggregateFunction::Max => {
            values.sort_by(|a, b| match (a, b) {
                (Value::Float(_), _) => float(a).total_cmp(&float(b)),
                _ => a.cmp(b),
            });
            if call.function == AggregateFunction::Min { values[0].clone() } else { values[values.len() - 1].clone() }
        }
        function => {
            let average = function == AggregateFunction::Avg;
            match values[0] {
                Value::Int(_) => {
                    let sum: i64 = values.iter().map(|v| if let Value::Int(v) = v { *v } else { 0 }).sum();
                    Value::Int(if average { sum / count as i64 } else { sum })
                }
                Value::Decimal(_) => {
                    let sum: i128 = values.iter().map(|v| if let Value::Decimal(v) = v { *v } else { 0 }).sum();
                    Value::Decimal(if average { divide_half_up(sum * 10_000, count) } else { sum })
                }
                _ => {
                    let sum: f64 = values.iter().map(float).sum::<f64>() + 0.0;
                    Value::Float(if average { sum / count as f64 } else { sum }.to_bits())
                }
            }
        }
    }
}

fn cell(array: &ArrayRef, i: usize) -> Value {
    if array.is_null(i) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(i)),
        DataType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(i).to_bits()),
        DataType::Decimal128(..) => Value::Decimal(array.as_primitive::<Decimal128Type>().value(i)),
        DataType::Utf8 => Value::Text(array.as_string::<i32>().value(i).to_owned()),
        _ => Value::Flag(array.as_boolean().value(i)),
    }
}

fn changes_of(batches: &[RecordBatch], keys: usize) -> Vec<Change> {
    let mut changes = Vec::new();
    for batch in batches {
        let kinds = batch.columns().last().unwrap().as_primitive::<UInt8Type>();
        for i in 0..batch.num_rows() {
            let row = |columns: &[ArrayRef]| columns.iter().map(|column| cell(column, i)).collect::<Vec<_>>();
            let results = row(&batch.columns()[keys..batch.num_columns() - 1]);
            changes.push((row(&batch.columns()[..keys]), kinds.value(i), results));
        }
    }
    changes
}

/// How a job of the tests is put together.
#[derive(Debug, Clone, Copy)]
struct Shape {
    keys: &'static [usize],
    two_phase: bool,
    changelog: bool,
}

/// Some workers, and what they have made durable.
struct Job {
    shape: Shape,
    workers: Vec<(LocalGroupAggregate, GroupAggregate)>,
    stored: BTreeMap<String, Vec<RecordBatch>>,
    /// Snapshots that are not encoded yet, with the groups that they hold whole.
    pending: Vec<(std::ops::Range<u32>, Vec<OperatorExport>)>,
}

fn drain(operator: &mut dyn Operator, mut progress: Progress, out: &mut Output) {
    while progress == Progress::More {
        progress = operator.resume(out).unwrap();
    }
}

const END: EpochEnd = EpochEnd { epoch: 1, wall_time: 0, watermark: 0 };

impl Job {
    fn new(shape: Shape, workers: u32, stored: BTreeMap<String, Vec<RecordBatch>>) -> Self {
        let calls = calls();
        let input = batch(&[], shape.changelog).schema();
        let raw_keys: Vec<Field> = shape.keys.iter().map(|key| input.field(*key).clone()).collect();
        let mut partial = raw_keys.clone();
        partial.push(Field::new("__rows", DataType::Int64, false));
        partial.extend(partial_fields(&calls).unwrap());
        let partial: SchemaRef = Arc::new(Schema::new(partial));
        let mut output = raw_keys;
        output.extend(calls.iter().enumerate().map(|(i, call)| Field::new(format!("r{i}"), call.result_type.clone(), true)));
        output.push(Field::new(KIND_COLUMN, DataType::UInt8, false));
        let output: SchemaRef = Arc::new(Schema::new(output));
        let spec = GroupAggregateSpec { keys: shape.keys.to_vec(), calls, two_phase: shape.two_phase, input_changelog: shape.changelog };
        let global =
            if shape.two_phase { GroupAggregateSpec { keys: (0..shape.keys.len()).collect(), ..spec.clone() } } else { spec.clone() };
        let global_input = if shape.two_phase { &partial } else { &input };
        let worker = |index| {
            let subtask = Subtask { index, workers, groups: GROUPS };
            let local = LocalGroupAggregate::new("local".into(), &spec, &input, &partial, subtask).unwrap();
            let mut group = GroupAggregate::new("group".into(), &global, global_input, &output, subtask).unwrap();
            group.restore(OperatorImport { facts: Vec::new(), tables: TableImport::of_tables(&stored) }).unwrap();
            (local, group)
        };
        Self { shape, workers: (0..workers).map(worker).collect(), stored, pending: Vec::new() }
    }

    /// Routes rows (or partials) to the workers that own their keys.
    fn deliver(&mut self, batches: &[RecordBatch]) {
        let workers = self.workers.len() as u32;
        let keys: Vec<usize> = if self.shape.two_phase { (0..self.shape.keys.len()).collect() } else { self.shape.keys.to_vec() };
        for batch in batches {
            let columns: Vec<ArrayRef> = keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
            let mut hashes = Vec::new();
            hash_columns(&columns, batch.num_rows(), &mut hashes).unwrap();
            for (index, (_, operator)) in self.workers.iter_mut().enumerate() {
                let mine = |hash: &u64| Some(worker_of(group_of(*hash, GROUPS), workers, GROUPS) as usize == index);
                let rows = filter_record_batch(batch, &hashes.iter().map(mine).collect::<BooleanArray>()).unwrap();
                let progress = operator.on_batch(0, &rows, &mut Output::default()).unwrap();
                assert_eq!(progress, Progress::Done);
            }
        }
    }

    /// One epoch: rows cut into batches of `size`; worker i reads every i-th one. The workers' output.
    fn epoch(&mut self, rows: &[(i64, Row)], size: usize) -> Vec<RecordBatch> {
        let mut delivered = Vec::new();
        for (i, rows) in rows.chunks(size).enumerate() {
            let batch = batch(rows, self.shape.changelog);
            if self.shape.two_phase {
                let count = self.workers.len();
                let local = &mut self.workers[i % count].0;
                let mut out = Output::default();
                let progress = local.on_batch(0, &batch, &mut out).unwrap();
                drain(local, progress, &mut out);
                delivered.extend(out.batches);
            } else {
                delivered.push(batch);
            }
        }
        for (local, _) in &mut self.workers {
            let mut out = Output::default();
            let progress = local.on_epoch_end(&END, &mut out).unwrap();
            drain(local, progress, &mut out);
            delivered.extend(out.batches);
        }
        self.deliver(&delivered);
        let mut emitted = Vec::new();
        for (_, operator) in &mut self.workers {
            let mut out = Output::default();
            let progress = operator.on_epoch_end(&END, &mut out).unwrap();
            drain(operator, progress, &mut out);
            assert!(out.batches.iter().all(|batch| batch.num_rows() <= MAX_BATCH_ROWS));
            emitted.extend(out.batches);
        }
        emitted
    }

    fn snapshot(&mut self, whole: std::ops::Range<u32>) {
        let request = SnapshotRequest { epoch: 1, whole: whole.clone() };
        let exports = self.workers.iter_mut().map(|(_, operator)| operator.snapshot(&request).unwrap()).collect();
        self.pending.push((whole, exports));
    }

    /// Makes the snapshots durable, late: the state has moved on. What changed is appended to what is stored; groups
    /// that are exported whole replace theirs.
    fn store(&mut self) {
        for (whole, exports) in self.pending.drain(..) {
            for batch in self.stored.values_mut().flatten() {
                let groups: &UInt16Array = batch.column(0).as_primitive::<UInt16Type>();
                let kept = groups.values().iter().map(|group| Some(!whole.contains(&u32::from(*group)))).collect();
                *batch = filter_record_batch(batch, &kept).unwrap();
            }
            for (name, table) in exports.into_iter().flat_map(|export| export.tables) {
                let batches = table.encode().unwrap();
                self.stored.entry(name).or_default().extend(batches);
            }
        }
    }
}

/// The model: all rows by key, and the result that was last told.
#[derive(Default)]
struct Model {
    rows: BTreeMap<Key, Vec<Row>>,
    told: BTreeMap<Key, Vec<Value>>,
}

impl Model {
    fn apply(&mut self, keys: &[usize], sign: i64, row: &Row) {
        let key: Key = keys.iter().map(|column| value(row, *column)).collect();
        let rows = self.rows.entry(key).or_default();
        if sign > 0 {
            rows.push(row.clone());
        } else {
            let at = rows.iter().position(|there| there == row).expect("a row that is there");
            rows.remove(at);
        }
    }

    fn end_epoch(&mut self, calls: &[AggregateCall]) -> Vec<Change> {
        let mut changes = Vec::new();
        self.rows.retain(|_, rows| !rows.is_empty());
        let now: BTreeMap<Key, Vec<Value>> =
            self.rows.iter().map(|(key, rows)| (key.clone(), calls.iter().map(|call| expected(call, rows)).collect())).collect();
        for (key, old) in &self.told {
            match now.get(key) {
                None => changes.push((key.clone(), 3, old.clone())),
                Some(new) if new != old => {
                    changes.push((key.clone(), 1, old.clone()));
                    changes.push((key.clone(), 2, new.clone()));
                }
                Some(_) => {}
            }
        }
        let new = now.iter().filter(|(key, _)| !self.told.contains_key(*key));
        changes.extend(new.map(|(key, result)| (key.clone(), 0, result.clone())));
        self.told = now;
        changes.sort();
        changes
    }
}

fn row() -> impl Strategy<Value = Row> {
    let key = prop::option::weighted(0.9, 0i64..6);
    let name = prop::option::weighted(0.8, "[ab]{0,1}(longer-than-8-)?[a-c]?");
    let int = prop::option::weighted(0.8, prop_oneof![-3i64..4, Just(i64::MAX / 64), Just(i64::MIN / 64)]);
    let float = prop::option::weighted(0.8, (-40i32..40).prop_map(|n| f64::from(n) / 8.0 + 0.0));
    let decimal = prop::option::weighted(0.8, prop_oneof![-5i128..5, Just(9_999_999_999)]);
    (key, name, int, float, decimal, any::<Option<bool>>()).prop_map(|(key, name, int, float, decimal, flag)| Row {
        key,
        name,
        int,
        float,
        decimal,
        flag,
    })
}

/// What a step of a test does: a row comes, or (change-logs) the row with this number among those there goes.
fn steps() -> impl Strategy<Value = Vec<Vec<(Row, Option<prop::sample::Index>)>>> {
    let step = (row(), prop::option::weighted(0.4, any::<prop::sample::Index>()));
    prop::collection::vec(prop::collection::vec(step, 0..30), 1..7)
}

fn shape() -> impl Strategy<Value = Shape> {
    let keys = prop_oneof![Just(&[0][..]), Just(&[1][..]), Just(&[1, 0, 4][..]), Just(&[][..])];
    (keys, 0..3).prop_map(|(keys, kind)| Shape { keys, two_phase: kind == 0, changelog: kind == 2 })
}

/// The signed rows of each epoch.
fn epochs(shape: Shape, steps: Vec<Vec<(Row, Option<prop::sample::Index>)>>) -> Vec<Vec<(i64, Row)>> {
    let mut there: Vec<Row> = Vec::new();
    let mut epochs = Vec::new();
    for steps in steps {
        let mut rows = Vec::new();
        for (row, goes) in steps {
            match goes.filter(|_| shape.changelog && !there.is_empty()) {
                Some(index) => rows.push((-1, there.swap_remove(index.index(there.len())))),
                None => {
                    there.push(row.clone());
                    rows.push((1, row));
                }
            }
        }
        epochs.push(rows);
    }
    epochs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// The change-log is the model's, whatever the batches, the workers, the checkpoints, compactions and rescales.
    #[test]
    fn emits_what_the_model_says(
        shape in shape(),
        steps in steps(),
        size in 1usize..12,
        workers in prop::collection::vec(1u32..4, 7),
        restores in prop::collection::vec(any::<bool>(), 7),
        whole in prop::collection::vec((0u32..GROUPS, 0u32..4), 7),
    ) {
        let mut job = Job::new(shape, workers[0], BTreeMap::new());
        let mut model = Model::default();
        for (i, mut rows) in epochs(shape, steps).into_iter().enumerate() {
            // The model needs a row to be there before it goes; the operator does not.
            rows.iter().for_each(|(sign, row)| model.apply(shape.keys, *sign, row));
            rows.reverse();
            let mut changes = changes_of(&job.epoch(&rows, size), shape.keys.len());
            changes.sort();
            prop_assert_eq!(changes, model.end_epoch(&calls()));
            if restores[i] {
                job.snapshot(whole[i].0..(whole[i].0 + whole[i].1).min(GROUPS));
                if i % 3 != 1 {
                    job.store();
                    job = Job::new(shape, workers[i], job.stored);
                }
            }
        }
    }

    /// The output of an epoch is the same to the row's place, whatever the order and the batches of its input, and
    /// whether or not snapshots are taken.
    #[test]
    fn output_is_a_function_of_the_rows(shape in shape(), steps in steps(), sizes in (1usize..12, 1usize..12)) {
        let mut one = Job::new(shape, 1, BTreeMap::new());
        let mut other = Job::new(shape, 1, BTreeMap::new());
        for mut rows in epochs(shape, steps) {
            let output = one.epoch(&rows, sizes.0);
            rows.reverse();
            prop_assert_eq!(output, other.epoch(&rows, sizes.1));
            other.snapshot(0..0);
        }
    }
}

fn plain_row(key: i64, int: i64) -> Row {
    Row { key: Some(key), name: None, int: Some(int), float: None, decimal: None, flag: Some(true) }
}

#[test]
fn one_change_a_key_and_epoch() {
    let shape = Shape { keys: &[0], two_phase: false, changelog: true };
    let mut job = Job::new(shape, 1, BTreeMap::new());
    let kinds = |batches: Vec<RecordBatch>| changes_of(&batches, 1).into_iter().map(|change| change.1).collect::<Vec<_>>();
    let (a, b) = (plain_row(1, 10), plain_row(1, 20));
    assert_eq!(kinds(job.epoch(&[(1, a.clone()), (-1, a.clone()), (1, b.clone())], 1)), [0]);
    assert_eq!(kinds(job.epoch(&[(-1, b.clone()), (1, b.clone())], 1)), [] as [u8; 0], "equal results are no change");
    assert_eq!(kinds(job.epoch(&[(1, a.clone())], 1)), [1, 2]);
    assert_eq!(kinds(job.epoch(&[(-1, a.clone()), (-1, b.clone())], 1)), [3]);
    assert_eq!(kinds(job.epoch(&[(1, a.clone()), (-1, a)], 1)), [] as [u8; 0], "came and went unseen");
    assert_eq!(job.workers[0].1.stats().state_keys, 0);
}

#[test]
fn a_row_taken_back_too_often_is_not_a_result() {
    let shape = Shape { keys: &[0], two_phase: false, changelog: true };
    let mut job = Job::new(shape, 1, BTreeMap::new());
    let row = plain_row(1, 10);
    assert!(job.epoch(&[(-1, row.clone())], 1).is_empty());
    assert_eq!(job.workers[0].1.stats().state_keys, 1, "the debt is remembered");
    assert!(job.epoch(&[(1, row.clone())], 1).is_empty());
    assert_eq!(changes_of(&job.epoch(&[(1, row)], 1), 1).len(), 1);
}

#[test]
fn large_epochs_come_in_bounded_batches() {
    let shape = Shape { keys: &[0], two_phase: true, changelog: false };
    let mut job = Job::new(shape, 1, BTreeMap::new());
    let rows: Vec<_> = (0..MAX_BATCH_ROWS as i64 + 1).map(|key| (1, plain_row(key, key))).collect();
    let changes = changes_of(&job.epoch(&rows, 1_000), 1);
    assert_eq!(changes.len(), rows.len());
    let changes = changes_of(&job.epoch(&rows, 1_000), 1);
    assert_eq!(changes.len(), 2 * rows.len());
}

#[test]
fn keys_that_do_not_repeat_pass_through() {
    let shape = Shape { keys: &[0], two_phase: true, changelog: false };
    let mut job = Job::new(shape, 1, BTreeMap::new());
    let count = MIN_MEASURED_ROWS as i64;
    let rows: Vec<_> = (0..count).map(|key| (1, plain_row(key, 1))).collect();
    job.epoch(&rows, 1_000);
    let local = &mut job.workers[0].0;
    let mut out = Output::default();
    let repeated = batch(&[(1, plain_row(7, 1)), (1, plain_row(7, 1))], false);
    assert_eq!(local.on_batch(0, &repeated, &mut out).unwrap(), Progress::Done);
    assert_eq!(out.batches[0].num_rows(), 2, "at once and not grouped");
    // Fewer rows say nothing: grouping goes on.
    let mut job = Job::new(shape, 1, BTreeMap::new());
    job.epoch(&rows[1..], 1_000);
    let mut out = Output::default();
    assert_eq!(job.workers[0].0.on_batch(0, &repeated, &mut out).unwrap(), Progress::Done);
    assert!(out.batches.is_empty());
}

#[test]
fn many_keys_flush_early() {
    let shape = Shape { keys: &[0], two_phase: true, changelog: false };
    let mut job = Job::new(shape, 1, BTreeMap::new());
    let local = &mut job.workers[0].0;
    let calls_per_row = 2; // a key and its value in the set of distinct integers
    let rows: Vec<_> = (0..(MAX_LOCAL_ENTRIES / calls_per_row) as i64).map(|key| (1, plain_row(key, key))).collect();
    let mut out = Output::default();
    let (most, last) = rows.split_at(rows.len() - 1);
    let progress = local.on_batch(0, &batch(most, false), &mut out).unwrap();
    drain(local, progress, &mut out);
    assert!(out.batches.is_empty());
    let progress = local.on_batch(0, &batch(last, false), &mut out).unwrap();
    assert_eq!(progress, Progress::More);
    drain(local, progress, &mut out);
    assert_eq!(out.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), rows.len());
}
