//! [io] From the tables of a graph to their connectors: the list of what exists, and all checks at planning time.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::Schema;
use rheos_dataflow::error::{DataflowError, Result};
use rheos_dataflow::graph::{DataflowGraph, LookupSpec, METADATA_KEY, Node, OperatorId, OperatorSpec, SinkSpec, SourceSpec};
use rheos_dataflow::sink::{Delivery, Sink};
use rheos_dataflow::source::Source;
use rheos_dataflow::stage::Connectors;

use crate::connector::{Connector, LookedUpTable, SinkTable, SourceTable};
use crate::environment::Environment;
use crate::options::{Options, Problems, did_you_mean};
use crate::{blackhole, datagen, filesystem, jdbc, kafka, nexmark, print, results};

/// The connectors of this crate.
const OURS: &[&Connector] = &[
    &blackhole::CONNECTOR,
    &datagen::CONNECTOR,
    &filesystem::CONNECTOR,
    &jdbc::CONNECTOR,
    &kafka::CONNECTOR,
    &nexmark::CONNECTOR,
    &print::CONNECTOR,
    &results::CONNECTOR,
    &kafka::UPSERT_CONNECTOR,
];

/// Those that the program brought.
static INSTALLED: OnceLock<&'static [&'static Connector]> = OnceLock::new();

/// Adds connectors to this process; called once, before anything is planned. A name of ours stays ours.
///
/// # Errors
/// When it was called before.
pub fn install(connectors: &'static [&'static Connector]) -> Result<(), &'static str> {
    INSTALLED.set(connectors).map_err(|_| "connectors were installed before")
}

fn all() -> impl Iterator<Item = &'static Connector> {
    OURS.iter().chain(INSTALLED.get().into_iter().copied().flatten()).copied()
}

fn find(options: &BTreeMap<String, String>) -> Option<&'static Connector> {
    let name = options.get("connector")?;
    all().find(|connector| connector.name == name)
}

/// The connectors of all sources, sinks and lookup joins of `graph`.
///
/// # Errors
/// The first problem that [`check`] finds, or what an external system said.
pub fn connectors(graph: &DataflowGraph, environment: &Environment) -> Result<Connectors> {
    let mut connectors = Connectors::default();
    for node in &graph.nodes {
        match &node.spec {
            OperatorSpec::Source(spec) => {
                connectors.sources.insert(node.id.clone(), source(spec, environment)?);
            }
            OperatorSpec::Sink(spec) => {
                connectors.sinks.insert(node.id.clone(), sink(spec, &node.id, environment)?);
            }
            OperatorSpec::LookupJoin(spec) => {
                connectors.lookups.insert(node.id.clone(), lookup_table(&spec.table).map_err(first)?.build(environment)?);
            }
            _ => {}
        }
    }
    Ok(connectors)
}

fn source(spec: &SourceSpec, environment: &Environment) -> Result<Arc<dyn Source>> {
    source_table(spec).map_err(first)?.build(environment)
}

fn sink(spec: &SinkSpec, id: &OperatorId, environment: &Environment) -> Result<Arc<dyn Sink>> {
    sink_table(spec).map_err(first)?.build(id, environment)
}

fn first(mut problems: Problems) -> DataflowError {
    problems.swap_remove(0)
}

/// Everything that is wrong with the tables of `graph`: unknown connectors and options, bad values, columns that a
/// connector cannot give or take, change-logs into sinks that only append, promises that a sink cannot keep.
/// Each with the name of its table. Pure: no external system is touched.
pub fn check(graph: &DataflowGraph, delivery: Delivery) -> Vec<(String, DataflowError)> {
    let table = |node: &Node| match &node.spec {
        OperatorSpec::Source(spec) => spec.table.clone(),
        OperatorSpec::Sink(spec) => spec.table.clone(),
        OperatorSpec::LookupJoin(spec) => spec.table.table.clone(),
        _ => String::new(),
    };
    let of = |node| check_node(node, delivery).into_iter().map(move |problem| (table(node), problem));
    graph.nodes.iter().flat_map(of).chain(results::check_tables(graph)).collect()
}

fn check_node(node: &Node, delivery: Delivery) -> Problems {
    let checked = match &node.spec {
        OperatorSpec::Source(spec) => source_table(spec).and_then(|table| check_source(spec, &*table, delivery)),
        OperatorSpec::Sink(spec) => sink_table(spec).and_then(|table| check_sink(spec, &*table, delivery)),
        OperatorSpec::LookupJoin(spec) => lookup_table(&spec.table).map(drop),
        _ => Ok(()),
    };
    checked.err().unwrap_or_default()
}

fn check_source(spec: &SourceSpec, table: &dyn SourceTable, delivery: Delivery) -> Result<(), Problems> {
    let mut options = Options::new(&spec.table, &spec.options);
    if delivery == Delivery::AtMostOnce && !table.begins_at_newest() {
        options.problem(
            "spec.delivery is AtMostOnce, and this connector cannot go on from the newest row after a failure: it would \
             repeat rows; use ExactlyOnce or AtLeastOnce",
        );
    }
    refuse_metadata(&mut options, &spec.options, &spec.physical);
    options.known_all();
    options.finish()
}

fn check_sink(spec: &SinkSpec, table: &dyn SinkTable, delivery: Delivery) -> Result<(), Problems> {
    let mut options = Options::new(&spec.table, &spec.options);
    if spec.changelog && !find(&spec.options).is_some_and(|connector| (connector.accepts_changelog)(&spec.options)) {
        options.problem(
            "the query updates or deletes rows that it has already written, and this connector only appends; \
             aggregate over windows (TUMBLE, HOP, CUMULATE) so that each row is final, or write change events \
             ('connector' = 'filesystem', 'format' = 'debezium-json'; 'connector' = 'results' or 'print')",
        );
    }
    refuse_metadata(&mut options, &spec.options, &spec.schema);
    if let Some(problem) = table.cannot_promise(delivery) {
        options.problem(problem);
    }
    options.known_all();
    options.finish()
}

fn refuse_metadata(options: &mut Options<'_>, given: &BTreeMap<String, String>, schema: &Schema) {
    if find(given).is_some_and(|connector| connector.has_metadata) {
        return;
    }
    for field in schema.fields().iter().filter(|field| field.metadata().contains_key(METADATA_KEY)) {
        options.problem(format!("column '{}' is METADATA, of which this connector has none", field.name()));
    }
}

/// Whether a table with these options can take rows that update earlier rows. False for unknown connectors.
pub fn accepts_changelog(connector: &str, options: &BTreeMap<String, String>) -> bool {
    all().any(|known| known.name == connector && (known.accepts_changelog)(options))
}

/// Whether a table with these options gives rows that update earlier rows. False for unknown connectors.
pub fn emits_changelog(connector: &str, options: &BTreeMap<String, String>) -> bool {
    all().any(|known| known.name == connector && (known.emits_changelog)(options))
}

/// Whether a table with these options can be asked for rows by key. False for unknown connectors.
pub fn looks_up(connector: &str, _options: &BTreeMap<String, String>) -> bool {
    all().any(|known| known.name == connector && known.lookup.is_some())
}

fn lookup_table(spec: &LookupSpec) -> Result<Box<dyn LookedUpTable>, Problems> {
    match find(&spec.options).and_then(|connector| connector.lookup) {
        Some(check) => check(spec),
        None => Err(no_connector(&spec.table, &spec.options, "looked up", |connector| connector.lookup.is_some())),
    }
}

fn source_table(spec: &SourceSpec) -> Result<Box<dyn SourceTable>, Problems> {
    match find(&spec.options).and_then(|connector| connector.source) {
        Some(check) => check(spec),
        None => Err(no_connector(&spec.table, &spec.options, "read", |connector| connector.source.is_some())),
    }
}

fn sink_table(spec: &SinkSpec) -> Result<Box<dyn SinkTable>, Problems> {
    match find(&spec.options).and_then(|connector| connector.sink) {
        Some(check) => check(spec),
        None => Err(no_connector(&spec.table, &spec.options, "written", |connector| connector.sink.is_some())),
    }
}

/// The problem of a table without a connector that exists and `can`.
fn no_connector(table: &str, given: &BTreeMap<String, String>, role: &str, can: fn(&Connector) -> bool) -> Problems {
    let mut options = Options::new(table, given);
    let able: Vec<&str> = all().filter(|connector| can(connector)).map(|connector| connector.name).collect();
    let list = able.join(", ");
    match options.required("connector", able[0]) {
        None => {}
        Some(name) if find(given).is_some() => options.problem(format!("connector '{name}' cannot be {role}; connectors that can: {list}")),
        Some(name) => {
            let hint = did_you_mean(name, &able);
            options.problem(format!("unknown connector '{name}'{hint} Connectors that can be {role}: {list}"));
        }
    }
    options.known_all();
    options.finish().err().unwrap_or_default()
}
