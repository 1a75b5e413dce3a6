//! Columns of every type, through the connector itself, as `psql` shows them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type};
use rheos_connectors::Environment;
use rheos_connectors::jdbc::{JdbcSink, SinkConfig};
use rheos_dataflow::error::{ErrorKind, Result};
use rheos_dataflow::graph::{OperatorId, SinkSpec};
use rheos_dataflow::key_group::Subtask;
use rheos_dataflow::sink::{Delivery, Sink, SinkContext};

use super::server;

/// Writes rows at once into a table.
fn write(table: &str, batch: &RecordBatch, key: &[&str]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let spec = SinkSpec {
        table: "out".to_owned(),
        options: [
            option("connector", "jdbc"),
            option("url", &server().url()),
            option("table-name", table),
            option("username", "owner"),
            option("password", rheos_e2e::postgres::PASSWORD),
            option("sink.buffer-flush.max-rows", "3"),
        ]
        .into(),
        schema: batch.schema(),
        partition_by: Vec::new(),
        primary_key: key.iter().map(ToString::to_string).collect(),
        changelog: false,
    };
    let environment = Environment::new(".", runtime.handle().clone());
    let sink = JdbcSink::new(SinkConfig::parse(&spec).unwrap(), &OperatorId("sink:out".into()), &environment).unwrap();
    let subtask = Subtask { index: 0, workers: 1, groups: 1 };
    let context = SinkContext { job_uid: "uid".into(), generation: 1, subtask, delivery: Delivery::AtLeastOnce };
    let mut writer = sink.writer(&context)?;
    assert!(writer.ready()?);
    writer.write(batch)?;
    runtime.block_on(writer.prepare(1)?).map(drop)
}

fn every_type() -> Vec<(&'static str, &'static str, ArrayRef)> {
    let micros = vec![Some(1_700_000_000_123_456), Some(-1), None];
    let millis = vec![Some(1_700_000_000_123), Some(-62_135_596_800_000), None];
    let decimals =
        Decimal128Array::from(vec![Some(-1_234_567_890_123_456_789_i128), Some(5), None]).with_precision_and_scale(38, 4).unwrap();
    let structs = StructArray::from(vec![
        (Arc::new(Field::new("a", DataType::Int64, true)), Arc::new(Int64Array::from(vec![Some(1), None, None])) as ArrayRef),
        (Arc::new(Field::new("b", DataType::Utf8, true)), Arc::new(StringArray::from(vec![Some("x\"y"), Some(""), None])) as ArrayRef),
    ]);
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None, Some(3)]), Some(vec![]), None]);
    vec![
        ("yes", "boolean", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("tiny", "smallint", Arc::new(Int8Array::from(vec![Some(-128), Some(127), None]))),
        ("small", "bigint", Arc::new(Int16Array::from(vec![Some(-32_768), Some(0), None]))),
        ("whole", "integer", Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), None]))),
        ("big", "numeric", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None]))),
        ("single", "real", Arc::new(Float32Array::from(vec![Some(0.1), Some(f32::INFINITY), None]))),
        ("double", "double precision", Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN), None]))),
        ("money", "numeric(38, 4)", Arc::new(decimals)),
        ("text", "varchar(20)", Arc::new(StringArray::from(vec![Some("a'b\\\"c,{}"), Some("Bō\t😀"), None]))),
        ("uuid", "uuid", Arc::new(StringArray::from(vec![Some("0f14d0ab-9605-4a62-a9e4-5ed26688389b"), None, None]))),
        ("json", "jsonb", Arc::new(StringArray::from(vec![Some("{\"a\": [1, null]}"), None, None]))),
        ("Bytes", "bytea", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\x00\xff"), Some(b""), None]))),
        ("day", "date", Arc::new(Date32Array::from(vec![Some(0), Some(-1), None]))),
        ("at", "timestamp(3)", Arc::new(TimestampMillisecondArray::from(millis.clone()))),
        ("fine", "timestamp", Arc::new(TimestampMicrosecondArray::from(micros.clone()))),
        ("instant", "timestamptz", Arc::new(TimestampMillisecondArray::from(millis).with_timezone("UTC"))),
        ("row", "jsonb", Arc::new(structs)),
        ("list", "bigint[]", Arc::new(list)),
        ("mood", "mood", Arc::new(StringArray::from(vec![Some("glad"), Some("sad"), None]))),
        ("domain", "short", Arc::new(StringArray::from(vec![Some("abc"), None, None]))),
    ]
}

#[test]
fn every_type_is_written_as_it_is() {
    let columns = every_type();
    let server = server();
    server.query("CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN short AS varchar(3)");
    let declared: Vec<String> = columns.iter().map(|(name, ty, _)| format!("\"{name}\" {ty}")).collect();
    server.query(&format!("CREATE SCHEMA \"My schema\"; CREATE TABLE \"My schema\".\"Every type\" ({})", declared.join(", ")));
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, _, column)| (name, column, true))).unwrap();
    write("My schema.Every type", &batch, &[]).unwrap();
    let found = server.query("SET bytea_output = 'hex'; SELECT * FROM \"My schema\".\"Every type\"");
    let expected = [
        "t|-128|-32768|-2147483648|-9223372036854775808|0.1|0.1|-123456789012345.6789|a'b\\\"c,{}|0f14d0ab-9605-4a62-a9e4-5ed26688389b|\
         {\"a\": [1, null]}|\\x00ff|1970-01-01|2023-11-14 22:13:20.123|2023-11-14 22:13:20.123456|2023-11-14 22:13:20.123+00|\
         {\"a\": 1, \"b\": \"x\\\"y\"}|{1,NULL,3}|glad|abc",
        "f|127|0|2147483647|9223372036854775807|Infinity|NaN|0.0005|Bō\t😀|||\\x|1969-12-31|0001-01-01 00:00:00|1969-12-31 23:59:59.999999|\
         0001-01-01 00:00:00+00|{\"a\": null, \"b\": \"\"}|{}|sad|",
        "|||||||||||||||||{\"a\": null, \"b\": null}||",
    ];
    // The struct itself is not null in the last row, only its parts.
    for (row, expected) in found.iter().zip(expected) {
        let nulls = expected.starts_with('|');
        if nulls {
            assert!(row.trim_matches('|') == "{\"a\": null, \"b\": null}", "{row}");
        } else {
            assert_eq!(row, expected);
        }
    }
    assert_eq!(found.len(), 3);
}

#[test]
fn rows_with_a_key_take_the_place_of_those_that_are_there() {
    let server = server();
    server.query(
        "CREATE TABLE places (v text, b int, a char(4), PRIMARY KEY (a, b)); INSERT INTO places VALUES ('old', 1, 'x'), ('other', 2, 'x')",
    );
    let column = |name, array: ArrayRef| (name, array, true);
    let batch = RecordBatch::try_from_iter_with_nullable([
        column("a", Arc::new(StringArray::from(vec!["x", "y", "x", "z"]))),
        column("b", Arc::new(Int32Array::from(vec![1, 1, 1, 1]))),
        column("v", Arc::new(StringArray::from(vec![Some("new"), Some("first"), Some("newest"), None]))),
    ]);
    write("places", &batch.unwrap(), &["b", "a"]).unwrap();
    assert_eq!(server.query("SELECT a, b, v FROM places ORDER BY 1, 2"), ["x   |1|newest", "x   |2|other", "y   |1|first", "z   |1|"]);
}

/// A value that is too long is refused, not cut off.
#[test]
fn nothing_is_cut_off() {
    let server = server();
    server.query("CREATE TABLE cut (v varchar(3))");
    let batch = RecordBatch::try_from_iter_with_nullable([("v", Arc::new(StringArray::from(vec!["abcd"])) as ArrayRef, true)]).unwrap();
    let error = write("cut", &batch, &[]).unwrap_err();
    assert!(error.kind == ErrorKind::Data && error.message.contains("too long"), "{error}");
    assert_eq!(server.number("SELECT COUNT(*) FROM cut"), 0);
}
