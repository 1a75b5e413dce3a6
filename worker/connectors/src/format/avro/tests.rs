//! Against other implementations: datums of fastavro, and arrow-avro both ways; then what must not be read.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow_avro::reader::ReaderBuilder;
use arrow_avro::schema::{AvroSchema, SchemaStore};
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::{AvroBinaryFormat, AvroSoeFormat};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::testing::texts;

/// Rows of a generated batch; tests slice them.
const ROWS: usize = 12;
/// Bytes before a datum in single-object encoding.
const SINGLE_OBJECT: usize = 10;

fn place() -> Fields {
    vec![Field::new("city", DataType::Utf8, true), Field::new("zip", DataType::Int32, true)].into()
}

fn tag() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Utf8, true))
}

fn table() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("flag", DataType::Boolean, true),
        Field::new("tiny", DataType::Int8, true),
        Field::new("small", DataType::Int16, true),
        Field::new("n", DataType::Int32, true),
        Field::new("f", DataType::Float32, true),
        Field::new("d", DataType::Float64, true),
        Field::new("s", DataType::Utf8, true),
        Field::new("b", DataType::Binary, true),
        Field::new("price", DataType::Decimal128(10, 2), true),
        Field::new("day", DataType::Date32, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("fine", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("place", DataType::Struct(place()), true),
        Field::new("tags", DataType::List(tag()), true),
    ]))
}

fn read(wanted: &SchemaRef, messages: &[Vec<u8>]) -> (RecordBatch, Vec<String>) {
    let mut reader = RowReader::new(&table(), wanted);
    let faults = messages.iter().filter_map(|message| reader.push(message).err()).map(|fault| fault.to_string()).collect();
    (reader.finish().unwrap(), faults)
}

fn written(batch: &RecordBatch) -> Vec<Vec<u8>> {
    let schema = table();
    let writer = RowWriter::new(&schema, batch).unwrap();
    let row = |row| {
        let mut out = Vec::new();
        writer.write(row, &mut out).unwrap();
        out
    };
    (0..batch.num_rows()).map(row).collect()
}

fn fastavro() -> Vec<Vec<u8>> {
    let hex = |line: &str| (0..line.len() / 2).map(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap()).collect();
    include_str!("testdata/fastavro.txt").lines().filter(|line| !line.starts_with('#')).map(hex).collect()
}

#[test]
fn datums_of_another_writer_are_read_and_written_byte_for_byte() {
    let datums = fastavro();
    let (batch, faults) = read(&table(), &datums);
    assert!(faults.is_empty(), "{faults:?}");
    let expected = [
        "1, true, -128, 32767, -2147483648, 1.5, -0.25, héllo, 00ff, -1.29, 2015-07-15, 2015-07-15T01:02:03.004, \
         1969-12-31T23:59:59.999999Z, +I[Oslo, 150], [a, null, ]",
        "-9223372036854775808, false, 127, -32768, 2147483647, -3.4028235e38, 1e300, , , 99999999.99, 1969-12-31, 0001-01-01T00:00, \
         9999-12-31T23:59:59.999999Z, +I[null, null], []",
        "64, null, null, null, null, null, null, null, null, null, null, null, null, null, null",
        "0, null, 0, 0, 0, 0.0, 0.0, x, 79, 0.00, 1970-01-01, 1970-01-01T00:00, 1970-01-01T00:00:00Z, null, [z]",
    ];
    assert_eq!(texts(&batch), expected);
    assert_eq!(written(&batch), datums);
}

#[test]
fn only_wanted_columns_are_kept_also_inside_of_rows() {
    let all = table();
    let zip = Field::new("place", DataType::Struct(vec![Field::new("zip", DataType::Int32, true)].into()), true);
    let wanted: SchemaRef = Arc::new(Schema::new(vec![all.field_with_name("s").unwrap().clone(), zip]));
    let (batch, faults) = read(&wanted, &fastavro());
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(texts(&batch), ["héllo, +I[150]", ", +I[null]", "null, null", "x, null"]);
    let (nothing, faults) = read(&Arc::new(Schema::empty()), &fastavro());
    assert_eq!((nothing.num_rows(), faults.len()), (4, 0));
}

#[test]
fn a_record_that_is_cut_or_too_long_is_malformed_and_takes_no_other_with_it() {
    let (datums, all) = (fastavro(), table());
    for wanted in [&all, &Arc::new(Schema::empty())] {
        for (index, datum) in datums.iter().enumerate() {
            for cut in 0..datum.len() {
                let (batch, faults) = read(wanted, &[datums[0].clone(), datum[..cut].to_vec(), datums[3].clone()]);
                assert_eq!((batch.num_rows(), faults.len()), (2, 1), "datum {index}, {cut} bytes");
            }
            let (_, faults) = read(wanted, &[[&datum[..], &[0]].concat()]);
            assert!(faults[0].contains("1 bytes follow the record"), "{faults:?}");
        }
    }
    let (batch, _) = read(&all, &[datums[0].clone(), datums[1][..40].to_vec(), datums[3].clone()]);
    assert_eq!(written(&batch), [datums[0].clone(), datums[3].clone()]);
}

/// Fields that cannot be, told by the column; `prefix` nulls stand before them.
#[test]
fn what_a_schema_does_not_allow_is_told_with_the_column() {
    let case = |nulls: usize, bytes: &[u8]| {
        let message = [&[2], vec![0; nulls].as_slice(), bytes].concat();
        read(&table(), &[message]).1.pop().unwrap()
    };
    let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(case(0, &[4]), "column 'flag': 2 is no place in the union of null and a value");
    assert_eq!(case(0, &[2, 7]), "column 'flag': [7] is no boolean");
    assert_eq!(case(1, &[2, 0x80, 0x02]), "column 'tiny': 128 is no TINYINT");
    assert_eq!(case(3, &[&[2], &huge[..]].concat()), "column 'n': 9223372036854775807 is no int");
    assert_eq!(case(3, &[2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), "column 'n': a number of more than 64 bits");
    assert_eq!(case(6, &[2, 2, 0xff]), "column 's': the text is not UTF-8");
    assert!(case(6, &[&[2], &huge[..]].concat()).starts_with("column 's': the record ends"));
    assert_eq!(case(6, &[2, 1]), "column 's': -1 is no length");
    assert_eq!(case(8, &[2, 0]), "column 'price': a decimal of no bytes");
    assert_eq!(case(8, &[2, 10, 0x02, 0x54, 0x0b, 0xe4, 0x00]), "column 'price': the number has more than 10 digits");
    assert_eq!(case(12, &[2, 2, 6, b'a']), "column 'place.city': the record ends 2 bytes too early");
    assert_eq!(case(13, &[&[2], &huge[..]].concat()), "column 'tags': 9223372036854775807 items in 0 bytes");
    assert_eq!(case(13, &[2, 1, 0xfe, 0x01]), "column 'tags': a block of items ends behind the record");
}

#[test]
fn arrays_come_in_blocks_with_and_without_their_size() {
    let start = [&[2_u8][..], &[0; 13], &[2]].concat();
    // Two blocks: one of two items with its size of 6 bytes, one of one item; then the end.
    let message = [&start[..], &[3, 12, 2, 2, b'a', 2, 2, b'b'], &[2, 0], &[0]].concat();
    let (batch, faults) = read(&table(), std::slice::from_ref(&message));
    assert!(faults.is_empty(), "{faults:?}");
    assert!(texts(&batch)[0].ends_with("[a, b, null]"), "{:?}", texts(&batch));
    let (batch, faults) = read(&Arc::new(Schema::empty()), &[message]);
    assert_eq!((batch.num_rows(), faults), (1, vec![]));
}

#[test]
fn decimals_longer_than_they_need_be_are_read() {
    let wide = |bytes: &[u8]| {
        let mut reader = RowReader::new(&decimals(), &decimals());
        reader.push(&[&[(2 * bytes.len()) as u8], bytes].concat()).map_err(|fault| fault.to_string())?;
        Ok::<_, String>(texts(&reader.finish().unwrap())[0].clone())
    };
    assert_eq!(wide(&[&[0xff; 20][..], &[0x80]].concat()).unwrap(), "-128");
    assert_eq!(wide(&[&[0; 20][..], &[0x80]].concat()).unwrap(), "128");
    assert!(wide(&[&[1][..], &[0; 16]].concat()).is_err());
    assert!(wide(&[&[0xff][..], &[0x7f; 16]].concat()).is_err());
    let mut most = (10_i128.pow(38) - 1).to_be_bytes();
    assert_eq!(wide(&most).unwrap(), "9".repeat(38));
    most = 10_i128.pow(38).to_be_bytes();
    assert!(wide(&most).is_err());
}

fn decimals() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Decimal128(38, 0), false)]))
}

#[test]
fn a_null_does_not_enter_a_column_that_is_not_null() {
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, false)]);
    let batch = RecordBatch::try_from_iter_with_nullable([("id", Arc::new(Int64Array::from(vec![None])) as ArrayRef, true)]).unwrap();
    let error = RowWriter::new(&schema, &batch).unwrap().write(0, &mut Vec::new()).unwrap_err();
    assert!(error.message.contains("column 'id' is NOT NULL"), "{error}");
}

fn optional<T: Strategy>(values: T) -> impl Strategy<Value = Vec<Option<T::Value>>> {
    vec(option::of(values), ROWS)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-z]{0,6}", 1 => "\\PC{0,200}"]
}

/// Batches of the table, every column with nulls.
fn batches() -> impl Strategy<Value = RecordBatch> {
    let numbers = (vec(any::<i64>(), ROWS), optional(any::<bool>()), optional(any::<i8>()), optional(any::<i16>()), optional(any::<i32>()));
    let others = (optional(any::<f32>()), optional(any::<f64>()), optional(text()), optional(vec(any::<u8>(), 0..40)));
    let times = (optional(-9_999_999_999_i128..=9_999_999_999), optional(any::<i32>()), optional(any::<i64>()), optional(any::<i64>()));
    let nested = (optional((option::of(text()), option::of(any::<i32>()))), optional(vec(option::of(text()), 0..5)));
    (numbers, others, times, nested).prop_map(|(numbers, others, times, (places, tags))| {
        let (cities, zips): (Vec<_>, Vec<_>) = places.iter().cloned().map(Option::unwrap_or_default).unzip();
        let present = |nulls: Vec<bool>| Some(NullBuffer::from(nulls));
        let children: Vec<ArrayRef> = vec![Arc::new(StringArray::from(cities)), Arc::new(Int32Array::from(zips))];
        let place_nulls = present(places.iter().map(Option::is_some).collect());
        let offsets = OffsetBuffer::from_lengths(tags.iter().map(|tags| tags.as_ref().map_or(0, Vec::len)));
        let tag_nulls = present(tags.iter().map(Option::is_some).collect());
        let items = StringArray::from_iter(tags.into_iter().flatten().flatten());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(numbers.0)),
            Arc::new(BooleanArray::from(numbers.1)),
            Arc::new(Int8Array::from(numbers.2)),
            Arc::new(Int16Array::from(numbers.3)),
            Arc::new(Int32Array::from(numbers.4)),
            Arc::new(Float32Array::from(others.0)),
            Arc::new(Float64Array::from(others.1)),
            Arc::new(StringArray::from(others.2)),
            Arc::new(BinaryArray::from_iter(others.3)),
            Arc::new(Decimal128Array::from(times.0).with_precision_and_scale(10, 2).unwrap()),
            Arc::new(Date32Array::from(times.1)),
            Arc::new(TimestampMillisecondArray::from(times.2)),
            Arc::new(TimestampMicrosecondArray::from(times.3).with_timezone("UTC")),
            Arc::new(StructArray::new(place(), children, place_nulls)),
            Arc::new(ListArray::new(tag(), offsets, Arc::new(items), tag_nulls)),
        ];
        RecordBatch::try_new(table(), columns).unwrap()
    })
}

/// The rows by arrow-avro's writer.
fn others(batch: &RecordBatch) -> Vec<Vec<u8>> {
    let mut encoder = WriterBuilder::new(table().as_ref().clone()).build_encoder::<AvroBinaryFormat>().unwrap();
    encoder.encode(batch).unwrap();
    encoder.flush().iter().map(|row| row.to_vec()).collect()
}

/// The columns by arrow-avro's reader, in the table's types.
fn others_read(messages: &[Vec<u8>]) -> RecordBatch {
    let schema = AvroSchema::try_from(table().as_ref()).unwrap();
    let mut store = SchemaStore::new();
    store.register(schema).unwrap();
    let mut decoder = ReaderBuilder::new().with_batch_size(messages.len()).with_writer_schema_store(store).build_decoder().unwrap();
    // Its reader wants each datum behind the mark and fingerprint that its writer puts there.
    let mut framed = WriterBuilder::new(table().as_ref().clone()).build_encoder::<AvroSoeFormat>().unwrap();
    framed.encode(&read(&table(), &messages[..1]).0).unwrap();
    let first = framed.flush().row(0).unwrap();
    for message in messages {
        let whole = [&first[..SINGLE_OBJECT], message].concat();
        assert_eq!(decoder.decode(&whole).unwrap(), whole.len());
    }
    let batch = decoder.flush().unwrap().unwrap();
    let columns = batch.columns().iter().zip(table().fields()).map(|(column, field)| cast(column, field.data_type()).unwrap()).collect();
    RecordBatch::try_new(table(), columns).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_agree_with_another_implementation(batch in batches(), from in 0..ROWS) {
        let batch = batch.slice(from, ROWS - from);
        let messages = written(&batch);
        prop_assert_eq!(&messages, &others(&batch));
        let (back, faults) = read(&table(), &messages);
        prop_assert!(faults.is_empty(), "{:?}", faults);
        prop_assert_eq!(&back, &batch);
        prop_assert_eq!(texts(&others_read(&messages)), texts(&batch));
    }

    #[test]
    fn damaged_records_neither_panic_nor_touch_their_neighbours(
        batch in batches(), row in 0..ROWS, places in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let mut messages = written(&batch);
        for (place, byte) in places {
            let at = place.index(messages[row].len());
            messages[row][at] = byte;
        }
        let (back, faults) = read(&table(), &messages);
        prop_assert_eq!(back.num_rows() + faults.len(), ROWS);
        let others = |batch: &RecordBatch| {
            let mut texts = texts(batch);
            if texts.len() == ROWS {
                texts.remove(row);
            }
            texts
        };
        prop_assert_eq!(others(&back), others(&batch));
    }
}
