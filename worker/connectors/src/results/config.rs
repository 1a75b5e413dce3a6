//! [pure] The options of a results table.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use rheos_dataflow::error::DataflowError;
use rheos_dataflow::graph::{DataflowGraph, OperatorSpec, SinkSpec};

use super::index::Limits;
use crate::options::{Options, Problems};

/// What such a table's `connector` option says.
pub(super) const CONNECTOR: &str = "results";

/// See the options of [`crate::results`].
const RETAIN_ROWS: i64 = 1_000_000;
const RETAIN_BYTES: u64 = 256 * 1024 * 1024;
const RETAIN_CHECKPOINTS: i64 = 4_096;
/// More are more than a listing should have.
const MOST_CHECKPOINTS: i64 = 100_000;
const VIEW_ROWS: i64 = 100_000;
/// More would not fit into one object.
const MOST_VIEW_ROWS: i64 = 10_000_000;
const SLOW_CLIENT: Duration = Duration::from_secs(30);

/// A results table.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name.
    pub table: String,
    /// Its columns, without the kind column.
    pub schema: SchemaRef,
    /// Whether its rows say how they change it.
    pub changelog: bool,
    /// How much is kept.
    pub limits: Limits,
    /// A client that takes nothing for so long is cut off.
    pub slow_client: Duration,
}

impl Config {
    /// Reads the options of a table.
    pub fn parse(spec: &SinkSpec) -> Result<Self, Problems> {
        let mut options = Options::new(&spec.table, &spec.options);
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        let limits = Limits {
            rows: count(options.integer("results.retain-rows", RETAIN_ROWS, 1..=i64::MAX)),
            bytes: options.bytes("results.retain-bytes", RETAIN_BYTES),
            epochs: count(options.integer("results.retain-checkpoints", RETAIN_CHECKPOINTS, 1..=MOST_CHECKPOINTS)),
            view_rows: count(options.integer("results.view-rows", VIEW_ROWS, 1..=MOST_VIEW_ROWS)),
        };
        let slow_client = options.duration("results.slow-client-timeout").unwrap_or(SLOW_CLIENT);
        if slow_client.is_zero() {
            options.bad_value("results.slow-client-timeout", "a duration above 0");
        }
        if !spec.partition_by.is_empty() {
            options.problem("PARTITIONED BY has no meaning here; remove it");
        }
        options.finish()?;
        Ok(Self { table: spec.table.clone(), schema: SchemaRef::clone(&spec.schema), changelog: spec.changelog, limits, slow_client })
    }

    /// The results tables of a graph, by name.
    ///
    /// # Errors
    /// What is wrong with their options.
    pub fn of_graph(graph: &DataflowGraph) -> Result<BTreeMap<String, Self>, Problems> {
        sinks(graph).map(|spec| Ok((spec.table.clone(), Self::parse(spec)?))).collect()
    }
}

fn sinks(graph: &DataflowGraph) -> impl Iterator<Item = &SinkSpec> {
    graph.nodes.iter().filter_map(|node| match &node.spec {
        OperatorSpec::Sink(spec) if spec.options.get("connector").is_some_and(|name| name == CONNECTOR) => Some(spec),
        _ => None,
    })
}

/// What is wrong between the results tables of a graph.
pub(crate) fn check_tables(graph: &DataflowGraph) -> Vec<(String, DataflowError)> {
    let mut written: BTreeMap<&str, (usize, &SinkSpec)> = BTreeMap::new();
    for spec in sinks(graph) {
        written.entry(&spec.table).or_insert((0, spec)).0 += 1;
    }
    let mut problems = Vec::new();
    for (inserts, spec) in written.into_values().filter(|(inserts, _)| *inserts > 1) {
        let mut options = Options::new(&spec.table, &spec.options);
        options.problem(format!("{inserts} INSERTs write it, and its rows have one order: write one, with UNION ALL"));
        options.known_all();
        let found = options.finish().err().unwrap_or_default();
        problems.extend(found.into_iter().map(|problem| (spec.table.clone(), problem)));
    }
    problems
}
