//! [io] The crate as the engine sees it: from a graph to connectors, and everything that planning refuses.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests: they fail by panicking, and run real files, clocks and processes"
)]

mod pages;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, TimestampMillisecondArray, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rheos_connectors::environment::PrintStream;
use rheos_connectors::{Environment, accepts_changelog, check, connectors, emits_changelog};
use rheos_dataflow::changelog::KIND_COLUMN;
use rheos_dataflow::graph::{DataflowGraph, Node, OperatorId, OperatorSpec, Pruning, SinkSpec, SourceSpec};
use rheos_dataflow::key_group::Subtask;
use rheos_dataflow::sink::{Delivery, SinkContext};
use rheos_dataflow::source::{Read, Start};

fn options(given: &[(&str, &str)]) -> BTreeMap<String, String> {
    given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8, true)]))
}

fn node(id: &str, spec: OperatorSpec) -> Node {
    Node { id: OperatorId(id.to_owned()), title: id.to_owned(), spec, schema: schema(), changelog: false, state_schema: None }
}

fn source(given: &[(&str, &str)]) -> Node {
    let spec = SourceSpec {
        table: "input".to_owned(),
        options: options(given),
        physical: schema(),
        declared: schema(),
        partition_by: Vec::new(),
        pruning: Pruning::default(),
        prelude: None,
        watermark: None,
    };
    node("source", OperatorSpec::Source(spec))
}

fn sink(given: &[(&str, &str)], changelog: bool) -> Node {
    sink_of(given, changelog, schema())
}

fn sink_of(given: &[(&str, &str)], changelog: bool, schema: SchemaRef) -> Node {
    let spec = SinkSpec {
        table: "output".to_owned(),
        options: options(given),
        schema,
        partition_by: Vec::new(),
        primary_key: Vec::new(),
        changelog,
    };
    node("sink", OperatorSpec::Sink(spec))
}

fn graph(nodes: Vec<Node>) -> DataflowGraph {
    DataflowGraph { nodes, edges: Vec::new() }
}

fn problems(node: Node, delivery: Delivery) -> Vec<String> {
    check(&graph(vec![node]), delivery).iter().map(|(_, problem)| problem.to_string()).collect()
}

/// What was printed, by stream.
type Printed = Arc<Mutex<Vec<(PrintStream, String)>>>;

fn environment(runtime: &tokio::runtime::Runtime) -> (Environment, Printed) {
    let printed = Printed::default();
    let target = Arc::clone(&printed);
    let environment = Environment {
        storage_options: options(&[("aws_secret_access_key", "hidden"), ("aws_region", "here")]),
        print: Arc::new(move |stream, lines| target.lock().unwrap().push((stream, String::from_utf8(lines.to_vec()).unwrap()))),
        ..Environment::new(std::env::temp_dir(), runtime.handle().clone())
    };
    (environment, printed)
}

fn context(index: u32, workers: u32) -> SinkContext {
    let subtask = Subtask { index, workers, groups: 8 };
    SinkContext { job_uid: "uid".to_owned(), generation: 1, subtask, delivery: Delivery::ExactlyOnce }
}

#[test]
fn wrong_connectors_are_refused_by_name() {
    let expected = "table input (nexmrk): invalid job: unknown connector 'nexmrk'; did you mean 'nexmark'? \
                    Connectors that can be read: datagen, filesystem, jdbc, kafka, nexmark";
    assert_eq!(problems(source(&[("connector", "nexmrk"), ("whatever", "1")]), Delivery::ExactlyOnce), [expected]);
    let found = problems(source(&[("connector", "print")]), Delivery::ExactlyOnce);
    assert!(
        found[0].contains("connector 'print' cannot be read; connectors that can: datagen, filesystem, jdbc, kafka, nexmark"),
        "{found:?}"
    );
    let found = problems(sink(&[("connector", "datagen")], false), Delivery::ExactlyOnce);
    assert!(found[0].contains("connector 'datagen' cannot be written"), "{found:?}");
    let found = problems(sink(&[], false), Delivery::ExactlyOnce);
    assert!(found[0].contains("table output: invalid job: option 'connector' is missing"), "{found:?}");
}

#[test]
fn a_change_log_into_a_sink_that_only_appends_is_refused() {
    let files = [("connector", "filesystem"), ("path", "out"), ("format", "json")];
    let found = problems(sink(&files, true), Delivery::ExactlyOnce);
    assert!(found[0].contains("table output (filesystem)") && found[0].contains("only appends"), "{found:?}");
    assert_eq!(problems(sink(&files, false), Delivery::ExactlyOnce), [""; 0]);
    assert_eq!(problems(sink(&[("connector", "print")], true), Delivery::ExactlyOnce), [""; 0]);
    assert_eq!(problems(sink(&[("connector", "blackhole")], true), Delivery::AtMostOnce), [""; 0]);
    assert!(accepts_changelog("print", &options(&[])) && !accepts_changelog("filesystem", &options(&[])));
    let changes = options(&[("format", "debezium-json")]);
    assert!(emits_changelog("filesystem", &changes) && emits_changelog("kafka", &changes) && !emits_changelog("print", &changes));
}

#[test]
fn a_promise_that_no_source_keeps_is_refused() {
    let found = problems(source(&[("connector", "datagen")]), Delivery::AtMostOnce);
    assert!(found[0].contains("AtMostOnce, and this connector cannot go on from the newest row"), "{found:?}");
    assert_eq!(problems(source(&[("connector", "datagen")]), Delivery::AtLeastOnce), [""; 0]);
}

#[test]
fn all_problems_of_all_tables_are_found_at_once() {
    let nodes = vec![
        source(&[("connector", "datagen"), ("rows-per-second", "many"), ("fields.m.min", "1")]),
        sink(&[("connector", "filesystem"), ("format", "xml")], false),
    ];
    let found = check(&graph(nodes), Delivery::ExactlyOnce);
    assert_eq!(found.len(), 4, "{found:#?}");
}

#[test]
fn a_source_is_made_from_its_node() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (environment, _) = environment(&runtime);
    let node = source(&[("connector", "datagen"), ("number-of-rows", "10"), ("rows-per-second", "-1")]);
    let made = connectors(&graph(vec![node]), &environment).unwrap();
    let source = &made.sources[&OperatorId("source".to_owned())];
    let splits = source.discover().unwrap();
    let mut reader = source.open(&splits[0], Start::New { late: false }, Arc::new(|| {})).unwrap();
    let Read::Rows(batch) = reader.read(100).unwrap() else { panic!("no rows") };
    assert_eq!((batch.num_rows(), batch.schema()), (10, schema()));
    assert!(matches!(reader.read(100).unwrap(), Read::End));
    assert!(connectors(&graph(vec![sink(&[("connector", "x")], false)]), &environment).is_err());
}

#[test]
fn credentials_are_not_shown() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut environment, _) = environment(&runtime);
    assert!(!format!("{environment:?}").contains("hidden"));
    environment.storage_options.insert("no_such_key".to_owned(), "hidden".to_owned());
    let node = sink(&[("connector", "filesystem"), ("format", "json"), ("path", "s3://bucket/x")], false);
    let error = connectors(&graph(vec![node]), &environment).err().unwrap();
    assert!(error.to_string().contains("no_such_key") && !error.to_string().contains("hidden"), "{error}");
}

#[test]
fn rows_are_printed_as_flink_prints_them() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (environment, printed) = environment(&runtime);
    let inner = Field::new("x", DataType::Int64, true);
    let columns = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("row", DataType::Struct(vec![inner.clone()].into()), true),
    ]));
    let node = sink_of(&[("connector", "print"), ("print-identifier", "id")], true, Arc::clone(&columns));
    let made = connectors(&graph(vec![node]), &environment).unwrap();
    let mut writer = made.sinks[&OperatorId("sink".to_owned())].writer(&context(1, 2)).unwrap();
    let with_kind: Vec<_> =
        columns.fields().iter().map(|field| field.as_ref().clone()).chain([Field::new(KIND_COLUMN, DataType::UInt8, false)]).collect();
    let row: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, None, Some(1)]));
    let batch = RecordBatch::try_new(
        Arc::new(Schema::new(with_kind)),
        vec![
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)])),
            Arc::new(StringArray::from(vec![Some("a, b"), None, Some(""), Some("é")])),
            Arc::new(TimestampMillisecondArray::from(vec![Some(1_357_034_400_000), Some(1_357_034_405_000), Some(250), None])),
            Arc::new(StructArray::from(vec![(Arc::new(inner), row)])),
            Arc::new(UInt8Array::from(vec![0, 1, 2, 3])),
        ],
    );
    writer.write(&batch.unwrap()).unwrap();
    let lines = "id:2> +I[1, a, b, 2013-01-01T10:00, +I[7]]\n\
                 id:2> -U[null, null, 2013-01-01T10:00:05, +I[null]]\n\
                 id:2> +U[3, , 1970-01-01T00:00:00.250, +I[null]]\n\
                 id:2> -D[4, é, null, +I[1]]\n";
    assert_eq!(*printed.lock().unwrap(), [(PrintStream::Output, lines.to_owned())]);
}

#[test]
fn print_writes_whole_lines_to_the_stream_that_was_asked_for() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (environment, printed) = environment(&runtime);
    let made = connectors(&graph(vec![sink(&[("connector", "print"), ("standard-error", "true")], false)]), &environment).unwrap();
    let mut writer = made.sinks[&OperatorId("sink".to_owned())].writer(&context(0, 1)).unwrap();
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..20_000));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..20_000).map(|n| n.to_string())));
    writer.write(&RecordBatch::try_new(schema(), vec![numbers, texts]).unwrap()).unwrap();
    let printed = printed.lock().unwrap();
    assert!(printed.len() > 2 && printed.iter().all(|(stream, lines)| *stream == PrintStream::Error && lines.ends_with("]\n")));
    let all: String = printed.iter().map(|(_, lines)| lines.as_str()).collect();
    assert_eq!((all.lines().count(), all.lines().last()), (20_000, Some("+I[19999, 19999]")));
}

#[test]
fn a_throttled_blackhole_takes_its_time() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (environment, _) = environment(&runtime);
    let made =
        connectors(&graph(vec![sink(&[("connector", "blackhole"), ("throttle.rows-per-second", "1000")], false)]), &environment).unwrap();
    let mut writer = made.sinks[&OperatorId("sink".to_owned())].writer(&context(0, 1)).unwrap();
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x"; 50]));
    let batch = RecordBatch::try_new(schema(), vec![numbers, texts]).unwrap();
    let started = std::time::Instant::now();
    (0..3).for_each(|_| writer.write(&batch).unwrap());
    assert!(started.elapsed() >= std::time::Duration::from_millis(99));
    assert_eq!(writer.stats()["rows"], 150);
}
