//! [io] Measures the `nexmark` source alone: nanoseconds for each event, by what is projected.
//!
//! `cargo run --release -p rheos-connectors --example nexmark_bench [MILLIONS OF EVENTS]`

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]
#![allow(clippy::print_stdout)] // a program's own output

use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use rheos_connectors::{Environment, connectors};
use rheos_dataflow::graph::{DataflowGraph, Node, OperatorId, OperatorSpec, Pruning, SourceSpec};
use rheos_dataflow::source::{Read, Start};

/// Rows of a batch, as the engine asks.
const ROWS: usize = 8_192;

fn fields(event: &str, names: &[&str]) -> Field {
    let kind = |name: &str| match name {
        "dateTime" | "expires" => DataType::Timestamp(TimeUnit::Millisecond, None),
        "id" | "initialBid" | "reserve" | "seller" | "category" | "auction" | "bidder" | "price" => DataType::Int64,
        _ => DataType::Utf8,
    };
    let children: Fields = names.iter().map(|name| Field::new(*name, kind(name), true)).collect();
    Field::new(event, DataType::Struct(children), true)
}

fn graph(schema: &SchemaRef, events: u64) -> DataflowGraph {
    let options = [("connector", "nexmark".to_owned()), ("events.num", events.to_string())];
    let source = SourceSpec {
        table: "datagen".to_owned(),
        options: options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        physical: Arc::clone(schema),
        declared: Arc::clone(schema),
        partition_by: Vec::new(),
        pruning: Pruning::default(),
        prelude: None,
        watermark: None,
    };
    let id = OperatorId("source".to_owned());
    let spec = OperatorSpec::Source(source);
    let node = Node { id, title: String::new(), spec, schema: Arc::clone(schema), changelog: false, state_schema: None };
    DataflowGraph { nodes: vec![node], edges: Vec::new() }
}

fn measure(name: &str, columns: Vec<Field>, events: u64, environment: &Environment) {
    let schema = Arc::new(Schema::new(columns));
    let made = connectors(&graph(&schema, events), environment).unwrap_or_else(|error| panic!("{error}"));
    let source = &made.sources[&OperatorId("source".to_owned())];
    let waker: rheos_dataflow::source::Waker = Arc::new(|| {});
    let splits = source.discover().unwrap_or_default();
    let mut readers: Vec<_> =
        splits.iter().filter_map(|split| source.open(split, Start::New { late: false }, Arc::clone(&waker)).ok()).collect();
    let (mut rows, mut bytes) = (0, 0);
    let started = Instant::now();
    while !readers.is_empty() {
        readers.retain_mut(|reader| match reader.read(ROWS) {
            Ok(Read::Rows(batch)) => {
                rows += batch.num_rows();
                bytes += batch.get_array_memory_size();
                true
            }
            _ => false,
        });
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{name:<34} {:>6.1} ns/event {:>6.1} M events/s {:>6.0} bytes/event",
        seconds * 1e9 / rows as f64,
        rows as f64 / seconds / 1e6,
        bytes as f64 / rows as f64
    );
}

fn main() {
    let millions: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20);
    let events = millions * 1_000_000;
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return };
    let environment = Environment::new(std::env::temp_dir(), runtime.handle().clone());
    let event_type = || Field::new("event_type", DataType::Int32, true);
    let time = |event| fields(event, &["dateTime"]);
    measure("event_type", vec![event_type()], events, &environment);
    for name in ["auction", "bidder", "price", "dateTime", "channel", "url", "extra"] {
        measure(&format!("bid.{name}"), vec![fields("bid", &[name])], events, &environment);
    }
    measure("bid: auction, price", vec![fields("bid", &["auction", "price"])], events, &environment);
    let q0 = ["auction", "bidder", "price", "dateTime", "extra"];
    measure("bid: the five columns of q0", vec![fields("bid", &q0)], events, &environment);
    measure(
        "q0 with event_type and all times",
        vec![event_type(), time("person"), time("auction"), fields("bid", &q0)],
        events,
        &environment,
    );
    let bid = ["auction", "bidder", "price", "channel", "url", "dateTime", "extra"];
    measure("bid, whole", vec![fields("bid", &bid)], events, &environment);
    let person = ["id", "name", "emailAddress", "creditCard", "city", "state", "dateTime", "extra"];
    measure("person, whole", vec![fields("person", &person)], events, &environment);
    let auction = ["id", "itemName", "description", "initialBid", "reserve", "dateTime", "expires", "seller", "category", "extra"];
    measure("auction, whole", vec![fields("auction", &auction)], events, &environment);
    let all = vec![event_type(), fields("person", &person), fields("auction", &auction), fields("bid", &bid)];
    measure("everything", all, events, &environment);
}
