//! [pure] Streaming SQL text to a dataflow graph.
//!
//! The way of a text: [`limits`] (size, nesting, forbidden characters) -> `statement` and `ddl` (syntax, by
//! `sqlparser` with Flink's dialect) -> `bind` (names, types; expressions are DataFusion's) -> `rel` (the relational
//! plan) -> `optimize` (pruning, merging) -> `lower` (the [`DataflowGraph`], physical expressions, ids) -> `explain`.
//!
//! Invariants:
//! - No text makes the planner panic, recurse without bound or take long: everything recursive runs under [`limits`].
//! - Planning is a function of text and options: every process of a job plans for itself and gets the same graph.
//! - Names are case-sensitive, as in Flink; keywords and function names are not.
//! - Nothing that reads a clock or draws a random number gets into a plan.
//!
//! Not here: connectors (their options are carried along unread), evaluation (`worker/dataflow`).

mod bind;
mod catalog;
mod coerce;
mod ddl;
mod dialect;
mod error;
mod explain;
mod functions;
mod ids;
pub mod limits;
mod lower;
mod optimize;
mod rel;
mod show;
mod statement;
mod types;

use std::collections::BTreeMap;

use rheos_dataflow::graph::DataflowGraph;

use crate::bind::script::Script;
pub use crate::error::SqlError;
use crate::error::{Faults, SourceText, point};
pub use crate::explain::explain;

/// How to plan.
#[derive(Debug, Clone, Copy)]
pub struct PlanOptions {
    /// Whether sources deliver only the columns that the job uses. Benches turn it off.
    pub pushdown: bool,
    /// Whether a connector takes results that change, by its name and the table's options.
    pub accepts_changelog: fn(connector: &str, options: &BTreeMap<String, String>) -> bool,
    /// Whether a table that is read gives rows that update earlier ones, by the same.
    pub emits_changelog: fn(connector: &str, options: &BTreeMap<String, String>) -> bool,
    /// Whether a table can be asked for rows by key, by the same.
    pub looks_up: fn(connector: &str, options: &BTreeMap<String, String>) -> bool,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            pushdown: true,
            accepts_changelog: |connector, _| matches!(connector, "print" | "blackhole"),
            emits_changelog: |_, options| options.get("format").is_some_and(|format| format == "debezium-json"),
            looks_up: |connector, _| connector == "jdbc",
        }
    }
}

/// A planned script.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What the engine runs.
    pub graph: DataflowGraph,
    /// Where each table is declared: line and column, from 1.
    pub tables: BTreeMap<String, (u64, u64)>,
}

impl Planned {
    /// A problem of a table, behind its place in the text.
    pub fn locate(&self, table: &str, problem: impl std::fmt::Display) -> String {
        match self.tables.get(table) {
            Some((line, column)) => format!("{line}:{column}: {problem}"),
            None => problem.to_string(),
        }
    }
}

/// Plans a script: `CREATE TABLE`, `CREATE VIEW` and `INSERT INTO` statements, separated by semicolons.
///
/// # Errors
/// Every mistake that was found, in the order of the text; statements are checked independently of each other.
pub fn plan(sql: &str, options: &PlanOptions) -> Result<Planned, Vec<SqlError>> {
    let text = SourceText::new(sql);
    let mut errors = Vec::new();
    let mut report = |faults: Faults, statement| errors.extend(faults.0.into_iter().map(|fault| text.error(fault, statement)));
    let start = point(1, 1);
    let chunks = match limits::check_text(sql).and_then(|()| statement::split(sql)) {
        Ok(chunks) => chunks,
        Err(faults) => {
            report(faults, start);
            return Err(errors);
        }
    };
    let mut script = Script::default();
    let mut last = start;
    let mut tables = BTreeMap::new();
    for chunk in &chunks {
        last = chunk.span;
        if let Some(name) = statement::declared_name(chunk) {
            tables.insert(name.to_owned(), (chunk.span.start.line, chunk.span.start.column));
        }
        let added = match statement::parse(chunk) {
            Ok(Some(statement)) => script.add(statement, options),
            Ok(None) => Ok(()),
            Err(faults) => {
                if let Some(name) = statement::declared_name(chunk) {
                    script.declare_broken(name);
                }
                Err(faults)
            }
        };
        if let Err(faults) = added {
            report(faults, chunk.span);
        }
    }
    if errors.is_empty() && script.sinks.is_empty() {
        return Err(vec![SqlError {
            line: last.end.line.max(1),
            column: last.end.column.max(1),
            text: String::new(),
            message: "the script has no INSERT INTO, so there is nothing to run".into(),
            hint: Some("write INSERT INTO a table, for example with 'connector' = 'print'".into()),
        }]);
    }
    if !errors.is_empty() {
        errors.sort_by_key(|error| (error.line, error.column));
        errors.dedup();
        return Err(errors);
    }
    match lower::lower(&script.sinks, options) {
        Ok(graph) => Ok(Planned { graph, tables }),
        Err(faults) => Err(faults.0.into_iter().map(|fault| text.error(fault, last)).collect()),
    }
}
