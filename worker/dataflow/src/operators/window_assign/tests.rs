//! Which windows a row gets.

use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::{Field, Schema, TimestampMillisecondType};
use proptest::prelude::*;

use super::*;
use crate::window::{EVENT_TIME_MAX, EVENT_TIME_MIN};

fn timestamp(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), true)
}

fn operator(window: Window) -> WindowAssign {
    let input = Schema::new(vec![Field::new("id", DataType::Int64, false), timestamp("ts")]);
    let added = ["window_start", "window_end", "window_time"].map(timestamp);
    let output = Schema::new(input.fields().iter().map(|field| field.as_ref().clone()).chain(added).collect::<Vec<_>>());
    let spec = WindowAssignSpec { window, time: 1 };
    WindowAssign::new("assign".into(), &spec, &Arc::new(input), &Arc::new(output)).unwrap()
}

fn batch(times: &[Option<Millis>]) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), timestamp("ts")]));
    let ids = Int64Array::from_iter_values(0..times.len() as i64);
    RecordBatch::try_new(schema, vec![Arc::new(ids), Arc::new(TimestampMillisecondArray::from(times.to_vec()))]).unwrap()
}

/// (id, start, end, time) of every emitted row.
fn run(operator: &mut WindowAssign, batch: &RecordBatch) -> Vec<(i64, Millis, Millis, Millis)> {
    let mut rows = Vec::new();
    let mut out = Output::default();
    let mut progress = operator.on_batch(0, batch, &mut out).unwrap();
    loop {
        for batch in out.batches.drain(..) {
            assert!(batch.num_rows() <= MAX_BATCH_ROWS);
            let time = |column: usize| batch.column(column).as_primitive::<TimestampMillisecondType>().clone();
            let ids = batch.column(0).as_primitive::<arrow::datatypes::Int64Type>();
            let (start, end, last) = (time(2), time(3), time(4));
            rows.extend((0..batch.num_rows()).map(|row| (ids.value(row), start.value(row), end.value(row), last.value(row))));
        }
        match progress {
            Progress::Done => return rows,
            Progress::More => progress = operator.resume(&mut out).unwrap(),
            Progress::Waiting { .. } => panic!("it waits for nothing"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_row_comes_out_once_for_each_of_its_windows(
        times in proptest::collection::vec(-10_000..10_000i64, 0..300),
        shape in 0..3u8, steps in 1..80i64, step in 1..500i64, offset in -50..50i64,
    ) {
        let window = match shape {
            0 => Window::Tumble { size: steps * step, offset },
            1 => Window::Hop { size: steps * step, slide: step, offset },
            _ => Window::Cumulate { max: steps * step, step, offset },
        };
        let expected: Vec<_> = times
            .iter()
            .enumerate()
            .flat_map(|(id, time)| window.windows_of(*time).map(move |span| (id as i64, span.start, span.end, span.end - 1)))
            .collect();
        let times: Vec<_> = times.into_iter().map(Some).collect();
        prop_assert_eq!(run(&mut operator(window), &batch(&times)), expected);
    }
}

#[test]
fn one_row_of_many_windows_comes_out_in_full_batches() {
    let mut operator = operator(Window::Hop { size: 20_000, slide: 1, offset: 0 });
    let mut out = Output::default();
    assert_eq!(operator.on_batch(0, &batch(&[Some(0)]), &mut out).unwrap(), Progress::More);
    assert_eq!(operator.resume(&mut out).unwrap(), Progress::More);
    assert_eq!(operator.resume(&mut out).unwrap(), Progress::Done);
    assert_eq!(out.batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [MAX_BATCH_ROWS, MAX_BATCH_ROWS, 3_616]);
}

#[test]
fn a_tumbling_window_shares_the_columns() {
    let batch = batch(&[Some(1), Some(2)]);
    let mut out = Output::default();
    let _ = operator(Window::Tumble { size: 10, offset: 0 }).on_batch(0, &batch, &mut out).unwrap();
    assert!(Arc::ptr_eq(batch.column(0), out.batches[0].column(0)));
}

#[test]
fn a_missing_or_absurd_event_time_is_bad_data_that_names_the_column() {
    for (time, says) in [
        (None, "event-time column ts is null in 1 of 2 rows"),
        (Some(EVENT_TIME_MAX + 1), "ts holds"),
        (Some(EVENT_TIME_MIN - 1), "ts holds"),
    ] {
        for window in [Window::Tumble { size: 10, offset: 0 }, Window::Hop { size: 10, slide: 5, offset: 0 }] {
            let error = operator(window).on_batch(0, &batch(&[Some(1), time]), &mut Output::default()).unwrap_err();
            assert_eq!((error.kind, error.place.as_str()), (ErrorKind::Data, "assign"));
            assert!(error.message.contains(says), "{error}");
        }
    }
    let ends = batch(&[Some(EVENT_TIME_MIN), Some(EVENT_TIME_MAX)]);
    assert_eq!(run(&mut operator(Window::Tumble { size: 10, offset: 3 }), &ends).len(), 2);
    assert_eq!(ends.column(1).null_count(), 0);
}
