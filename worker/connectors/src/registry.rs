//! [io] From the tables of a graph to their connectors: the list of what exists, and all checks at planning time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use rheos_dataflow::error::{DataflowError, Result};
use rheos_dataflow::graph::{DataflowGraph, METADATA_KEY, Node, OperatorId, OperatorSpec, SinkSpec, SourceSpec};
use rheos_dataflow::sink::{Delivery, Sink};
use rheos_dataflow::source::Source;
use rheos_dataflow::stage::Connectors;

use crate::environment::Environment;
use crate::options::{Options, Problems, did_you_mean};
use crate::{blackhole, datagen, filesystem, kafka, nexmark, print, results};

/// Connectors that can be read.
const SOURCES: &[&str] = &["datagen", "filesystem", "kafka", "nexmark"];
/// Connectors that can be written.
const SINKS: &[&str] = &["blackhole", "filesystem", "kafka", "print", "results", "upsert-kafka"];

/// A source table whose options and columns are right.
enum SourceConfig {
    Datagen(datagen::Config),
    Filesystem(filesystem::SourceConfig),
    Kafka(Box<kafka::SourceConfig>),
    Nexmark(nexmark::Config),
}

/// A sink table whose options and columns are right.
enum SinkConfig {
    Blackhole(blackhole::Config),
    Filesystem(filesystem::SinkConfig),
    Kafka(Box<kafka::SinkConfig>),
    Print(print::Config),
    Results(results::Config),
}

/// The connectors of all source and sink nodes of `graph`.
///
/// # Errors
/// The first problem that [`check`] finds, or what an external system said.
pub fn connectors(graph: &DataflowGraph, environment: &Environment) -> Result<Connectors> {
    let mut connectors = Connectors::default();
    for node in &graph.nodes {
        match &node.spec {
            OperatorSpec::Source(spec) => {
                let source = source_config(spec).map_err(first)?.build(environment)?;
                connectors.sources.insert(node.id.clone(), source);
            }
            OperatorSpec::Sink(spec) => {
                let sink = sink_config(spec).map_err(first)?.build(&node.id, environment)?;
                connectors.sinks.insert(node.id.clone(), sink);
            }
            _ => {}
        }
    }
    Ok(connectors)
}

/// Everything that is wrong with the tables of `graph`: unknown connectors and options, bad values, columns that a
/// connector cannot give or take, change-logs into sinks that only append, promises that a sink cannot keep.
/// Each with the name of its table. Pure: no external system is touched.
pub fn check(graph: &DataflowGraph, delivery: Delivery) -> Vec<(String, DataflowError)> {
    let table = |node: &Node| match &node.spec {
        OperatorSpec::Source(spec) => spec.table.clone(),
        OperatorSpec::Sink(spec) => spec.table.clone(),
        _ => String::new(),
    };
    let of = |node| check_node(node, delivery).into_iter().map(move |problem| (table(node), problem));
    graph.nodes.iter().flat_map(of).chain(results::check_tables(graph)).collect()
}

fn check_node(node: &Node, delivery: Delivery) -> Problems {
    match &node.spec {
        OperatorSpec::Source(spec) => match source_config(spec) {
            Err(problems) => problems,
            Ok(config) => check_source(spec, &config, delivery),
        },
        OperatorSpec::Sink(spec) => match sink_config(spec) {
            Err(problems) => problems,
            Ok(config) => check_sink(spec, &config, delivery),
        },
        _ => Problems::new(),
    }
}

fn check_source(spec: &SourceSpec, config: &SourceConfig, delivery: Delivery) -> Problems {
    let mut options = Options::new(&spec.table, &spec.options);
    if delivery == Delivery::AtMostOnce && !matches!(config, SourceConfig::Kafka(_)) {
        options.problem(
            "spec.delivery is AtMostOnce, and this connector cannot go on from the newest row after a failure: it would \
             repeat rows; use ExactlyOnce or AtLeastOnce",
        );
    }
    if !matches!(config, SourceConfig::Kafka(_)) {
        refuse_metadata(&mut options, &spec.physical);
    }
    options.known_all();
    options.finish().err().unwrap_or_default()
}

fn check_sink(spec: &SinkSpec, config: &SinkConfig, delivery: Delivery) -> Problems {
    let mut options = Options::new(&spec.table, &spec.options);
    if spec.changelog && !config.accepts_changelog() {
        options.problem(
            "the query updates or deletes rows that it has already written, and this connector only appends; \
             aggregate over windows (TUMBLE, HOP, CUMULATE) so that each row is final, or write change events \
             ('connector' = 'filesystem', 'format' = 'debezium-json'; 'connector' = 'results' or 'print')",
        );
    }
    if !matches!(config, SinkConfig::Kafka(_)) {
        refuse_metadata(&mut options, &spec.schema);
    }
    if let SinkConfig::Kafka(config) = config
        && let Some(guarantee) = config.guarantee.filter(|guarantee| *guarantee != delivery)
    {
        options.problem(format!(
            "option 'sink.delivery-guarantee' is {guarantee:?} in a job that promises {delivery:?}, and a promise is of all sinks: remove the \
             option, or set spec.delivery: {guarantee:?}"
        ));
    }
    options.known_all();
    options.finish().err().unwrap_or_default()
}

fn refuse_metadata(options: &mut Options<'_>, schema: &Schema) {
    for field in schema.fields().iter().filter(|field| field.metadata().contains_key(METADATA_KEY)) {
        options.problem(format!("column '{}' is METADATA, of which this connector has none", field.name()));
    }
}

/// Whether a table with these options can take rows that update earlier rows. False for unknown connectors.
pub fn accepts_changelog(connector: &str, options: &BTreeMap<String, String>) -> bool {
    let format = options.get("value.format").filter(|_| connector == "kafka").or_else(|| options.get("format"));
    let changes = format.is_some_and(|format| format == "debezium-json");
    matches!(connector, "print" | "blackhole" | "results" | "upsert-kafka") || (matches!(connector, "filesystem" | "kafka") && changes)
}

fn first(mut problems: Problems) -> DataflowError {
    problems.swap_remove(0)
}

/// The problem of a table without a connector that exists.
fn no_connector(table: &str, given: &BTreeMap<String, String>, role: &str, list: &[&str], other: &[&str]) -> Problems {
    let mut options = Options::new(table, given);
    let list_text = list.join(", ");
    match options.required("connector", list[0]) {
        None => {}
        Some(name) if other.contains(&name) => {
            options.problem(format!("connector '{name}' cannot be {role}; connectors that can: {list_text}"));
        }
        Some(name) => {
            let hint = did_you_mean(name, list);
            options.problem(format!("unknown connector '{name}'{hint} Connectors that can be {role}: {list_text}"));
        }
    }
    options.known_all();
    options.finish().err().unwrap_or_default()
}

fn source_config(spec: &SourceSpec) -> Result<SourceConfig, Problems> {
    match spec.options.get("connector").map(String::as_str) {
        Some("datagen") => datagen::Config::parse(spec).map(SourceConfig::Datagen),
        Some("filesystem") => filesystem::SourceConfig::parse(spec).map(SourceConfig::Filesystem),
        Some("kafka") => kafka::SourceConfig::parse(spec).map(|config| SourceConfig::Kafka(Box::new(config))),
        Some("nexmark") => nexmark::Config::parse(spec).map(SourceConfig::Nexmark),
        _ => Err(no_connector(&spec.table, &spec.options, "read", SOURCES, SINKS)),
    }
}

fn sink_config(spec: &SinkSpec) -> Result<SinkConfig, Problems> {
    match spec.options.get("connector").map(String::as_str) {
        Some("blackhole") => blackhole::Config::parse(spec).map(SinkConfig::Blackhole),
        Some("filesystem") => filesystem::SinkConfig::parse(spec).map(SinkConfig::Filesystem),
        Some("kafka" | "upsert-kafka") => kafka::SinkConfig::parse(spec).map(|config| SinkConfig::Kafka(Box::new(config))),
        Some("print") => print::Config::parse(spec).map(SinkConfig::Print),
        Some("results") => results::Config::parse(spec).map(SinkConfig::Results),
        _ => Err(no_connector(&spec.table, &spec.options, "written", SINKS, SOURCES)),
    }
}

impl SourceConfig {
    fn build(self, environment: &Environment) -> Result<Arc<dyn Source>> {
        Ok(match self {
            Self::Datagen(config) => Arc::new(datagen::DatagenSource::new(config, environment)),
            Self::Filesystem(config) => Arc::new(filesystem::FilesystemSource::new(config, environment)?),
            Self::Kafka(config) => Arc::new(kafka::KafkaSource::new(*config, environment)?),
            Self::Nexmark(config) => Arc::new(nexmark::NexmarkSource::new(config, environment)),
        })
    }
}

impl SinkConfig {
    fn build(self, id: &OperatorId, environment: &Environment) -> Result<Arc<dyn Sink>> {
        Ok(match self {
            Self::Blackhole(config) => Arc::new(blackhole::BlackholeSink::new(config)),
            Self::Filesystem(config) => Arc::new(filesystem::FilesystemSink::new(config, id, environment)?),
            Self::Kafka(config) => Arc::new(kafka::KafkaSink::new(*config, id, environment)?),
            Self::Print(config) => Arc::new(print::PrintSink::new(config, environment)),
            Self::Results(config) => Arc::new(results::ResultsSink::new(config, environment)),
        })
    }

    fn accepts_changelog(&self) -> bool {
        match self {
            Self::Blackhole(_) | Self::Print(_) | Self::Results(_) => true,
            Self::Filesystem(config) => config.format.carries_changes(),
            Self::Kafka(config) => config.accepts_changelog(),
        }
    }
}
