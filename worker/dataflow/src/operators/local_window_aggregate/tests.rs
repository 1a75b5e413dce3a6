//! Partials of the first phase: by key and slice, and passed through.

use arrow::array::{Array, AsArray, TimestampMillisecondArray};
use arrow::datatypes::{Field, Int64Type, Schema, TimeUnit};

use super::*;
use crate::aggregate::partial_fields;
use crate::graph::{AggregateCall, AggregateFunction, Window};

fn operator(window: Window) -> LocalWindowAggregate {
    operator_of(window, AggregateFunction::Sum, false)
}

fn operator_of(window: Window, function: AggregateFunction, distinct: bool) -> LocalWindowAggregate {
    let call = AggregateCall {
        function,
        distinct,
        argument: Some(0),
        filter: None,
        argument_type: DataType::Int64,
        result_type: DataType::Int64,
        name: "sum".into(),
    };
    let spec = WindowAggregateSpec { keys: vec![0], time: 1, window, calls: vec![call] };
    let int = |name: &str| Field::new(name, DataType::Int64, false);
    let fields = vec![int("k"), int("__slice_end"), int("__rows")];
    let schema = Schema::new(fields.into_iter().chain(partial_fields(&spec.calls).unwrap()).collect::<Vec<_>>());
    let subtask = Subtask { index: 0, workers: 1, groups: 4 };
    LocalWindowAggregate::new("local".into(), &spec, &input(&[]).schema(), &Arc::new(schema), subtask).unwrap()
}

fn input(rows: &[(i64, Option<Millis>)]) -> RecordBatch {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let schema = Schema::new(vec![Field::new("k", DataType::Int64, false), Field::new("ts", time, true)]);
    let keys = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
    let times = TimestampMillisecondArray::from_iter(rows.iter().map(|row| row.1));
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(keys), Arc::new(times)]).unwrap()
}

fn end(operator: &mut LocalWindowAggregate) -> Vec<RecordBatch> {
    let mut out = Output::default();
    let mut progress = operator.on_epoch_end(&EpochEnd { epoch: 1, wall_time: 0, watermark: 0 }, &mut out).unwrap();
    while progress == Progress::More {
        progress = operator.resume(&mut out).unwrap();
    }
    out.batches
}

fn ints(batch: &RecordBatch, column: usize) -> Vec<i64> {
    batch.column(column).as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn an_epoch_leaves_one_row_a_key_and_slice() {
    let mut operator = operator(Window::Tumble { size: 10, offset: 0 });
    let mut out = Output::default();
    for rows in [&[(7, Some(-1)), (7, Some(0)), (8, Some(9))][..], &[(7, Some(10)), (7, Some(-10))], &[]] {
        assert_eq!(operator.on_batch(0, &input(rows), &mut out).unwrap(), Progress::Done);
    }
    assert!(out.batches.is_empty());
    let [batch] = &end(&mut operator)[..] else { panic!("one batch") };
    let (keys, ends, rows, sums) = (ints(batch, 0), ints(batch, 1), ints(batch, 2), batch.num_columns());
    let mut found: Vec<_> = keys.into_iter().zip(ends).zip(rows).collect();
    found.sort();
    assert_eq!(found, [((7, 0), 2), ((7, 10), 1), ((7, 20), 1), ((8, 10), 1)]);
    assert_eq!(sums, 5);
    assert!(end(&mut operator).is_empty());
}

#[test]
fn rows_pass_while_keys_do_not_repeat() {
    let mut operator = operator(Window::Tumble { size: 10, offset: 0 });
    let unlike: Vec<_> = (0..SAMPLE_ROWS as i64).map(|k| (k, Some(0))).collect();
    let mut out = Output::default();
    let _ = operator.on_batch(0, &input(&unlike), &mut out).unwrap();
    assert!(out.batches.is_empty());
    assert_eq!(end(&mut operator).iter().map(RecordBatch::num_rows).sum::<usize>(), SAMPLE_ROWS);
    for _ in 0..PASS_EPOCHS {
        let _ = operator.on_batch(0, &input(&[(5, Some(0)), (5, Some(10))]), &mut out).unwrap();
        let batch = out.batches.pop().unwrap();
        assert_eq!((ints(&batch, 0), ints(&batch, 1), ints(&batch, 2)), (vec![5, 5], vec![10, 20], vec![1, 1]));
        assert_eq!(ints(&batch, 4), [5, 5]);
        assert!(end(&mut operator).is_empty());
        assert_eq!(operator.slots, [0, 1], "what has passed is forgotten");
    }
    let _ = operator.on_batch(0, &input(&[(5, Some(0)), (5, Some(0))]), &mut out).unwrap();
    assert!(out.batches.is_empty());
    assert_eq!(ints(&end(&mut operator)[0], 2), [2]);
}

#[test]
fn a_sample_with_fewer_keys_goes_on_grouping() {
    let mut operator = operator(Window::Tumble { size: 10, offset: 0 });
    let keys = (SAMPLE_ROWS * PASS_KEYS_PERCENT / 100) as i64 - 1;
    let rows: Vec<_> = (0..SAMPLE_ROWS as i64).map(|n| (n % keys, Some(0))).collect();
    let mut out = Output::default();
    let _ = operator.on_batch(0, &input(&rows), &mut out).unwrap();
    assert_eq!(end(&mut operator)[0].num_rows() as i64, keys);
    let _ = operator.on_batch(0, &input(&rows), &mut out).unwrap();
    assert!(out.batches.is_empty());
}

#[test]
fn groups_with_sets_of_values_come_in_smaller_batches() {
    let mut operator = operator_of(Window::Tumble { size: 10, offset: 0 }, AggregateFunction::Count, true);
    let keys = MAX_BATCH_ROWS as i64;
    let rows: Vec<_> = (0..2 * keys).map(|n| (n % keys, Some(0))).collect();
    let _ = operator.on_batch(0, &input(&rows), &mut Output::default()).unwrap();
    // A group and its one value.
    assert_eq!(end(&mut operator).iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [MAX_BATCH_ROWS / 2; 2]);
}

#[test]
fn a_row_without_event_time_is_bad_data() {
    let error = operator(Window::Tumble { size: 10, offset: 0 })
        .on_batch(0, &input(&[(1, Some(1)), (1, None)]), &mut Output::default())
        .unwrap_err();
    assert_eq!((error.kind, error.place.as_str()), (ErrorKind::Data, "local"));
    assert!(error.message.contains("event-time column ts is null in 1 of 2 rows"), "{error}");
    assert_eq!(input(&[(1, None)]).column(1).null_count(), 1);
}

#[test]
fn a_window_without_length_is_refused() {
    let spec = WindowAggregateSpec { keys: vec![], time: 1, window: Window::Tumble { size: 0, offset: 0 }, calls: vec![] };
    let schema = input(&[]).schema();
    let subtask = Subtask { index: 0, workers: 1, groups: 4 };
    let error = LocalWindowAggregate::new("local".into(), &spec, &schema, &schema, subtask).err().unwrap();
    assert_eq!(error.kind, ErrorKind::User);
}
