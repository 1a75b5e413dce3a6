//! [pure] Tests of parcels: what is sent arrives, cut and whole.

use std::cell::RefCell;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Int64Array, StringArray, StringViewArray, StructArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{Field, Int32Type};

use super::*;

fn batch(rows: std::ops::Range<i64>) -> RecordBatch {
    let text = |n: i64| (n % 3 != 0).then(|| format!("a text that does not fit into a view, number {n}"));
    let ints: ArrayRef = Arc::new(Int64Array::from_iter(rows.clone().map(|n| (n % 5 != 0).then_some(n))));
    let nested = StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int64, true)), Arc::clone(&ints))]);
    let words: DictionaryArray<Int32Type> = rows.clone().map(|n| Some(if n % 2 == 0 { "even" } else { "odd" })).collect();
    RecordBatch::try_from_iter_with_nullable(vec![
        ("int", Arc::clone(&ints), true),
        ("text", Arc::new(StringArray::from_iter(rows.clone().map(text))) as _, true),
        ("view", Arc::new(StringViewArray::from_iter(rows.clone().map(text))) as _, true),
        ("flag", Arc::new(BooleanArray::from_iter(rows.clone().map(|n| Some(n % 2 == 0)))) as _, true),
        ("time", Arc::new(TimestampMillisecondArray::from_iter_values(rows.clone())) as _, true),
        ("price", Arc::new(Decimal128Array::from_iter_values(rows.clone().map(i128::from))) as _, true),
        ("nested", Arc::new(nested) as _, true),
        ("word", Arc::new(words) as _, true),
    ])
    .unwrap()
}

/// Keeps what is pushed, as bytes that went over a wire.
#[derive(Default)]
struct Wire(RefCell<Vec<(i64, Vec<u8>)>>);

impl Push<Message<u64, Parcel>> for Wire {
    fn push(&mut self, message: &mut Option<Message<u64, Parcel>>) {
        let Some(message) = message.take() else { return };
        let mut bytes = Vec::new();
        message.data.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), message.data.length_in_bytes());
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        self.0.borrow_mut().push((message.data.record_count(), bytes));
    }
}

fn received(bytes: Vec<u8>) -> Parcel {
    let bytes = timely::bytes::arc::BytesMut::from(bytes).freeze();
    Parcel::from_bytes(bytes)
}

fn send(router: &mut Router, wire: &mut [Wire], payload: Payload, seq: u32) {
    let target = wire.len() as u32 - 1;
    let mut parcel = Parcel::new(target, Envelope { sender: 2, seq, payload });
    router.partition(&mut parcel, &Stamp::from_elem(7), wire);
    assert_eq!(parcel.record_count(), 0, "an emptied container must not be counted again");
}

#[test]
fn batches_and_watermarks_cross_the_wire_unchanged_and_counted() {
    let mut router = Router::new(batch(0..1).schema(), 0..1, 2);
    let mut unpacker = Unpacker::new(batch(0..1).schema(), 3);
    let mut wire = [Wire::default(), Wire::default()];
    let whole = batch(0..1000);
    let none = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &RecordBatchOptions::new().with_row_count(Some(5)));
    let payloads = [
        Payload::Rows(whole.slice(0, 400)),
        Payload::Watermark(Watermark::Active(-12)),
        Payload::Rows(whole.slice(401, 1)),
        Payload::Watermark(Watermark::Idle(-13)),
        Payload::Rows(batch(7..9)),
    ];
    for (seq, payload) in payloads.iter().enumerate() {
        send(&mut router, &mut wire, payload.clone(), seq as u32);
    }
    for (seq, ((count, bytes), sent)) in wire[1].0.take().into_iter().zip(&payloads).enumerate() {
        let parcel = received(bytes);
        assert_eq!(parcel.record_count(), count);
        let envelope = unpacker.unpack(parcel).unwrap();
        assert_eq!((envelope.sender, envelope.seq), (2, seq as u32));
        match (&envelope.payload, sent) {
            (Payload::Rows(got), Payload::Rows(sent)) => {
                assert_eq!(got, sent);
                assert_eq!(count, sent.num_rows() as i64);
            }
            (Payload::Watermark(got), Payload::Watermark(sent)) => assert_eq!(got, sent),
            _ => panic!("another kind came out"),
        }
    }
    let none = none.unwrap();
    let mut router = Router::new(none.schema(), 0..1, 2);
    send(&mut router, &mut wire, Payload::Rows(none.clone()), 9);
    let (count, bytes) = wire[1].0.take().remove(0);
    assert_eq!(count, 5);
    let envelope = Unpacker::new(none.schema(), 3).unpack(received(bytes)).unwrap();
    assert!(matches!(envelope.payload, Payload::Rows(got) if got == none));
}

#[test]
fn a_batch_above_the_limit_is_split_and_the_stream_goes_on() {
    // One string column; its encoding is a little over 4 bytes offset and `width` bytes text a row.
    let strings = |rows: usize, width: usize| {
        let text = "x".repeat(width);
        RecordBatch::try_from_iter([("s", Arc::new(StringArray::from_iter_values((0..rows).map(|_| &text))) as ArrayRef)]).unwrap()
    };
    let schema = strings(1, 1).schema();
    let mut router = Router::new(Arc::clone(&schema), 0..1, 2);
    let mut unpacker = Unpacker::new(schema, 3);
    let mut wire = [Wire::default(), Wire::default()];
    let below = strings(100, 1000);
    let above = strings(2000, 1024);
    let one_row = strings(1, MAX_WIRE_BYTES + 1);
    for batch in [&below, &above, &below, &one_row] {
        send(&mut router, &mut wire, Payload::Rows(batch.clone()), 0);
    }
    let sent = wire[1].0.take();
    let pieces: Vec<usize> = sent.iter().map(|(count, _)| *count as usize).collect();
    assert_eq!(pieces.iter().sum::<usize>(), 100 + 2000 + 100 + 1);
    assert_eq!((pieces[0], pieces[pieces.len() - 2], pieces[pieces.len() - 1]), (100, 100, 1));
    let mut rows = Vec::new();
    for (_, bytes) in sent {
        assert!(bytes.len() <= MAX_WIRE_BYTES + HEADER || bytes.len() > one_row.get_array_memory_size() / 2);
        let Payload::Rows(batch) = unpacker.unpack(received(bytes)).unwrap().payload else { panic!("no rows") };
        rows.push(batch);
    }
    let all = arrow::compute::concat_batches(&below.schema(), &rows).unwrap();
    let expected = arrow::compute::concat_batches(&below.schema(), [&below, &above, &below, &one_row]).unwrap();
    assert_eq!(all, expected);
}

#[test]
fn a_parcel_that_is_cut_or_forged_is_an_error() {
    let mut router = Router::new(batch(0..1).schema(), 0..1, 2);
    let mut wire = [Wire::default(), Wire::default()];
    send(&mut router, &mut wire, Payload::Rows(batch(0..100)), 0);
    let (_, bytes) = wire[1].0.take().remove(0);
    let unpack = |bytes: Vec<u8>| Unpacker::new(batch(0..1).schema(), 3).unpack(received(bytes));
    assert!(unpack(bytes.clone()).is_ok());
    for cut in [HEADER, HEADER + 8, bytes.len() / 2, bytes.len() - 8] {
        assert!(unpack(bytes[..cut].to_vec()).is_err(), "cut at {cut}");
    }
    let mut foreign = bytes.clone();
    foreign[8] = 9; // a sender that does not exist
    assert!(unpack(foreign).is_err());
    let mut count = bytes;
    count[16] = 99; // announces fewer rows
    assert!(unpack(count).is_err());
}

#[test]
fn what_is_counted_is_what_the_rows_take() {
    let whole = batch(0..1000);
    let half = batch_bytes(&whole.slice(0, 500));
    assert!(half * 2 <= batch_bytes(&whole) + 100 && half * 2 + 100 >= batch_bytes(&whole) * 8 / 10, "{half}");
}
