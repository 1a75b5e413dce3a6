//! [pure] Accumulators by themselves: types, limits, shared columns, and sets under removal, export and import.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit};
use proptest::prelude::*;

use super::*;
use crate::graph::AggregateFunction::{self, Avg, Count, Max, Min, Sum};
use crate::hash::hash_columns;

const SUBTASK: Subtask = Subtask { index: 0, workers: 1, groups: 4 };

fn call(function: AggregateFunction, argument_type: &DataType, result_type: DataType) -> AggregateCall {
    AggregateCall {
        function,
        distinct: false,
        argument: Some(0),
        filter: None,
        argument_type: argument_type.clone(),
        result_type,
        name: "call".into(),
    }
}

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().enumerate().map(|(i, column)| Field::new(format!("c{i}"), column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// The results over one group, from rows and through partials of one row each.
fn results(calls: &[AggregateCall], column: &ArrayRef) -> Vec<ArrayRef> {
    let rows = column.len();
    let whole = {
        let mut accumulators = Accumulators::new(&[], calls, Input::Insert, SUBTASK).unwrap();
        let slots = find(&mut accumulators, &[], rows);
        accumulators.update(&slots, &batch(vec![Arc::clone(column)]), None).unwrap();
        accumulators.evaluate(&slots[..1]).unwrap()
    };
    let merged = {
        let mut single = Accumulators::new(&[], calls, Input::Insert, SUBTASK).unwrap();
        let mut slots = Vec::new();
        single.append(rows, &mut slots);
        single.update(&slots, &batch(vec![Arc::clone(column)]), None).unwrap();
        let partials = single.partials(&slots).unwrap();
        let types: Vec<_> = partials.iter().map(|column| column.data_type().clone()).collect();
        let fields: Vec<_> = partial_fields(calls).unwrap().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types, fields);
        let mut accumulators = Accumulators::new(&[], calls, Input::Insert, SUBTASK).unwrap();
        let merged = find(&mut accumulators, &[], rows);
        accumulators.merge(&merged, &single.rows(&slots), &partials).unwrap();
        assert_eq!(accumulators.rows(&merged[..1]), [rows as i64]);
        accumulators.evaluate(&merged[..1]).unwrap()
    };
    assert_eq!(whole, merged);
    whole
}

fn find(accumulators: &mut Accumulators, keys: &[ArrayRef], rows: usize) -> Vec<Slot> {
    let (mut hashes, mut slots) = (Vec::new(), Vec::new());
    hash_columns(keys, rows, &mut hashes).unwrap();
    accumulators.slots(keys, &hashes, &mut slots).unwrap();
    slots
}

#[test]
fn extremes_of_every_type() {
    let cases: Vec<(ArrayRef, ArrayRef, ArrayRef)> = vec![
        extremes(Int8Array::from(vec![Some(3), None, Some(-128), Some(127)]), 2, 3),
        extremes(Int16Array::from(vec![5, -7]), 1, 0),
        extremes(Int32Array::from(vec![i32::MAX, i32::MIN]), 1, 0),
        extremes(Int64Array::from(vec![0, i64::MIN, i64::MAX]), 1, 2),
        extremes(UInt8Array::from(vec![200, 100]), 1, 0),
        extremes(UInt64Array::from(vec![u64::MAX, 0, 1 << 63]), 1, 0),
        extremes(Float32Array::from(vec![1.5, -2.5, f32::NEG_INFINITY]), 2, 0),
        extremes(Float64Array::from(vec![Some(-0.5), Some(0.25), None, Some(f64::MIN)]), 3, 1),
        extremes(Float64Array::from(vec![1.0, f64::NAN]), 0, 1),
        extremes(Date32Array::from(vec![-1, 20_000]), 0, 1),
        extremes(TimestampMillisecondArray::from(vec![5, -5]).with_timezone("UTC"), 1, 0),
        extremes(BooleanArray::from(vec![Some(true), None, Some(false)]), 2, 0),
        extremes(Decimal128Array::from(vec![i128::MIN / 4, 7, i128::MAX / 4]), 0, 2),
        extremes(StringArray::from(vec![Some("b"), Some(""), None, Some("bb")]), 1, 3),
        extremes(LargeStringArray::from(vec!["b", "a"]), 1, 0),
        extremes(StringViewArray::from(vec!["short", "a string that is not inlined"]), 1, 0),
        extremes(BinaryArray::from_vec(vec![b"\xff", b"\x00"]), 1, 0),
        extremes(Int64Array::from(vec![None, None]), 0, 0),
    ];
    for (column, min, max) in cases {
        let data_type = column.data_type();
        let calls = [call(Min, data_type, data_type.clone()), call(Max, data_type, data_type.clone())];
        assert_eq!(results(&calls, &column), [min, max], "{data_type}");
    }
}

/// A column and the slices of it that are its smallest and largest value.
fn extremes(column: impl Array + 'static, min: usize, max: usize) -> (ArrayRef, ArrayRef, ArrayRef) {
    let column: ArrayRef = Arc::new(column);
    (Arc::clone(&column), column.slice(min, 1), column.slice(max, 1))
}

#[test]
fn sums_and_averages_have_the_types_of_flink() {
    let int: ArrayRef = Arc::new(Int32Array::from(vec![i32::MAX, 1, 2]));
    let calls = [call(Sum, &DataType::Int32, DataType::Int32), call(Avg, &DataType::Int32, DataType::Int32)];
    let wrapped = i32::MAX.wrapping_add(3);
    let average = ((i64::from(i32::MAX) + 3) / 3) as i32;
    let expected: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![wrapped])), Arc::new(Int32Array::from(vec![average]))];
    assert_eq!(results(&calls, &int), expected);
    let negative: ArrayRef = Arc::new(Int64Array::from(vec![-7, 0]));
    let calls = [call(Avg, &DataType::Int64, DataType::Int64), call(Avg, &DataType::Int64, DataType::Float64)];
    let expected: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![-3])), Arc::new(Float64Array::from(vec![-3.5]))];
    assert_eq!(results(&calls, &negative), expected);
}

#[test]
fn decimals_round_half_up_and_overflow_to_null() {
    let decimals = |values: Vec<i128>, precision, scale| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap())
    };
    let argument = DataType::Decimal128(10, 0);
    let average = [call(Avg, &argument, DataType::Decimal128(38, 6))];
    assert_eq!(results(&average, &decimals(vec![1, 1, 0], 10, 0)), [decimals(vec![666_667], 38, 6)]);
    assert_eq!(results(&average, &decimals(vec![-1, -1, 0], 10, 0)), [decimals(vec![-666_667], 38, 6)]);
    let big = DataType::Decimal128(38, 0);
    let most = 10i128.pow(38) - 1;
    let sum = [call(Sum, &big, DataType::Decimal128(38, 0))];
    assert_eq!(results(&sum, &decimals(vec![most], 38, 0)), [decimals(vec![most], 38, 0)]);
    assert!(results(&sum, &decimals(vec![most, 1], 38, 0))[0].is_null(0));
}

#[test]
fn float_sums_do_not_depend_on_the_order() {
    let float = DataType::Float64;
    let calls = [call(Sum, &float, DataType::Float64), call(Avg, &float, DataType::Float64)];
    let values = vec![1e300, 1.0, -1e300, 1e-300, f64::MAX, -f64::MAX];
    let column: ArrayRef = Arc::new(Float64Array::from(values.clone()));
    let reversed: ArrayRef = Arc::new(values.into_iter().rev().collect::<Float64Array>());
    assert_eq!(results(&calls, &column), results(&calls, &reversed));
    assert_eq!(results(&calls, &column)[0].as_primitive::<arrow::datatypes::Float64Type>().value(0), 1.0);
}

#[test]
fn calls_share_their_columns() {
    let int = DataType::Int64;
    let filtered = |call: AggregateCall| AggregateCall { filter: Some(1), ..call };
    let distinct = |call: AggregateCall| AggregateCall { distinct: true, ..call };
    let calls = [
        AggregateCall { argument: None, ..call(Count, &DataType::Null, int.clone()) },
        call(Sum, &int, int.clone()),
        call(Avg, &int, int.clone()),
        call(Min, &int, int.clone()),
        filtered(call(Count, &int, int.clone())),
        distinct(call(Count, &int, int.clone())),
        distinct(filtered(call(Count, &int, int.clone()))),
        distinct(call(Sum, &int, int.clone())),
    ];
    let names: Vec<_> = partial_fields(&calls).unwrap().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["count(0)", "sum(0)", "min(0)", "count(0) where 1", "values of 0"]);
}

#[test]
fn what_cannot_be_aggregated_is_refused_by_name() {
    let text = [call(Sum, &DataType::Utf8, DataType::Utf8)];
    assert!(partial_fields(&text).unwrap_err().to_string().contains("cannot add values of Utf8"));
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    assert!(partial_fields(&[call(Avg, &time, time.clone())]).is_err());
    let distinct = |filter| AggregateCall { distinct: true, filter: Some(filter), ..call(Count, &DataType::Int64, DataType::Int64) };
    let calls: Vec<_> = (0..plan::MAX_FILTERS + 1).map(distinct).collect();
    assert!(partial_fields(&calls[1..]).is_ok());
    assert!(partial_fields(&calls).is_err());
}

/// `COUNT(DISTINCT text), COUNT(DISTINCT text) FILTER (flag), MIN(text)` over (key, text, flag).
fn distinct_calls() -> Vec<AggregateCall> {
    let count = AggregateCall { distinct: true, argument: Some(1), ..call(Count, &DataType::Utf8, DataType::Int64) };
    vec![
        count.clone(),
        AggregateCall { filter: Some(2), ..count },
        AggregateCall { argument: Some(1), ..call(Min, &DataType::Utf8, DataType::Utf8) },
    ]
}

type TextRow = (i64, Option<String>, Option<bool>);

fn text_batch(rows: &[TextRow]) -> RecordBatch {
    batch(vec![
        Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.1.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<BooleanArray>()),
    ])
}

fn new_distinct(index: u32, workers: u32) -> Accumulators {
    let subtask = Subtask { index, workers, groups: 4 };
    Accumulators::new(&[DataType::Int64], &distinct_calls(), Input::Insert, subtask).unwrap()
}

type Results = BTreeMap<i64, (i64, i64, i64, Option<String>)>;

fn contents(accumulators: &Accumulators) -> Results {
    let mut slots = accumulators.live();
    accumulators.sort(&mut slots);
    let keys = accumulators.keys(&slots).unwrap();
    let results = accumulators.evaluate(&slots).unwrap();
    let rows = accumulators.rows(&slots);
    let number = |array: &ArrayRef, i: usize| array.as_primitive::<Int64Type>().value(i);
    (0..slots.len())
        .map(|i| {
            let min = results[2].as_string::<i32>();
            let min = min.is_valid(i).then(|| min.value(i).to_owned());
            (number(&keys[0], i), (rows[i], number(&results[0], i), number(&results[1], i), min))
        })
        .collect()
}

fn expected(model: &BTreeMap<i64, Vec<TextRow>>) -> Results {
    let count = |rows: &[TextRow], all: bool| {
        let texts: BTreeSet<_> = rows.iter().filter(|row| all || row.2 == Some(true)).filter_map(|row| row.1.clone()).collect();
        texts.len() as i64
    };
    let min = |rows: &[TextRow]| rows.iter().filter_map(|row| row.1.clone()).min();
    model.iter().map(|(key, rows)| (*key, (rows.len() as i64, count(rows, true), count(rows, false), min(rows)))).collect()
}

#[derive(Debug, Clone)]
enum Act {
    Rows(Vec<TextRow>),
    /// The same, through partials that are merged in reverse.
    Partials(Vec<TextRow>),
    Remove(i64),
    Export,
    Restore(u32),
}

fn act() -> impl Strategy<Value = Act> {
    let row = (0i64..8, prop::option::weighted(0.8, "[ab]{0,2}"), any::<Option<bool>>());
    let rows = prop::collection::vec(row, 0..12);
    prop_oneof![
        3 => rows.clone().prop_map(Act::Rows),
        3 => rows.prop_map(Act::Partials),
        2 => (0i64..8).prop_map(Act::Remove),
        2 => Just(Act::Export),
        1 => (1u32..4).prop_map(Act::Restore),
    ]
}

fn owned(accumulators: &Accumulators, rows: &[TextRow]) -> Vec<TextRow> {
    let subtask = accumulators.groups.subtask;
    let mine = |row: &&TextRow| {
        let mut hashes = Vec::new();
        hash_columns(&[Arc::new(Int64Array::from(vec![row.0]))], 1, &mut hashes).unwrap();
        subtask.key_groups().contains(&u32::from(crate::key_group::group_of(hashes[0], subtask.groups)))
    };
    rows.iter().filter(mine).cloned().collect()
}

fn take_rows(accumulators: &mut Accumulators, rows: &[TextRow]) {
    let batch = text_batch(rows);
    let slots = find(accumulators, &batch.columns()[..1], rows.len());
    accumulators.update(&slots, &batch, None).unwrap();
}

fn take_partials(accumulators: &mut Accumulators, rows: &[TextRow]) {
    let mut local = new_distinct(0, 1);
    take_rows(&mut local, rows);
    let mut slots = local.live();
    slots.reverse();
    let keys = local.keys(&slots).unwrap();
    let there = find(accumulators, &keys, slots.len());
    accumulators.merge(&there, &local.rows(&slots), &local.partials(&slots).unwrap()).unwrap();
}

type Pending = Vec<(String, Box<dyn TableExport>)>;

/// Exports are encoded late: the state has moved on by then.
fn encode(pending: &mut Pending, stored: &mut BTreeMap<String, Vec<RecordBatch>>) {
    for (name, table) in pending.drain(..) {
        stored.entry(name).or_default().extend(table.encode().unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Groups with sets come, go, are exported and restored at any number of workers, and are what the rows say.
    #[test]
    fn sets_follow_their_groups(acts in prop::collection::vec(act(), 1..24)) {
        let mut model: BTreeMap<i64, Vec<TextRow>> = BTreeMap::new();
        let mut workers = vec![new_distinct(0, 1)];
        let mut stored = BTreeMap::new();
        let mut pending = Pending::new();
        for act in acts {
            match act {
                Act::Rows(rows) => {
                    rows.iter().for_each(|row| model.entry(row.0).or_default().push(row.clone()));
                    workers.iter_mut().for_each(|one| { let rows = owned(one, &rows); take_rows(one, &rows) });
                }
                Act::Partials(rows) => {
                    rows.iter().for_each(|row| model.entry(row.0).or_default().push(row.clone()));
                    workers.iter_mut().for_each(|one| { let rows = owned(one, &rows); take_partials(one, &rows) });
                }
                Act::Remove(key) => {
                    model.remove(&key);
                    let column: ArrayRef = Arc::new(Int64Array::from(vec![key]));
                    let (mut hashes, mut slots) = (Vec::new(), Vec::new());
                    hash_columns(&[Arc::clone(&column)], 1, &mut hashes).unwrap();
                    for one in &mut workers {
                        one.find(&[Arc::clone(&column)], &hashes, &mut slots).unwrap();
                        if slots[0] != crate::state::NO_SLOT {
                            one.remove(slots[0]);
                        }
                    }
                }
                Act::Export => pending.extend(workers.iter_mut().flat_map(|one| one.export(&(0..0)))),
                Act::Restore(count) => {
                    pending.extend(workers.iter_mut().flat_map(|one| one.export(&(0..0))));
                    encode(&mut pending, &mut stored);
                    workers = (0..count).map(|index| new_distinct(index, count)).collect();
                    workers.iter_mut().for_each(|one| one.import(TableImport::of_tables(&stored)).unwrap());
                }
            }
            let mut there = Results::new();
            workers.iter().for_each(|one| there.extend(contents(one)));
            prop_assert_eq!(there, expected(&model));
            let values: usize = workers.iter().map(|one| one.entries() - one.len()).sum();
            let distinct: i64 = expected(&model).values().map(|result| result.1).sum();
            prop_assert_eq!(values, distinct as usize, "a removed group leaves no values");
        }
    }
}
