//! [pure] The dataflow graph: what the SQL planner hands to the engine.
//!
//! Every engine process plans the same text and gets the same graph, so the graph itself never travels; expressions
//! are DataFusion's physical expressions over the columns of the input.
//!
//! Invariants (checked by [`DataflowGraph::validate`]): nodes are in topological order; ports of a node are dense; an
//! edge's `HashShuffle` columns exist; a node with `changelog` ends in the kind column.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use datafusion_physical_expr::PhysicalExpr;
use serde::{Deserialize, Serialize};

use crate::time::Millis;

/// A stable name of an operator: kind, the tables it stems from and a hash of its structure, for example
/// `window-aggregate:bid:5f3a9c21`. Snapshots are keyed by it, so an edit elsewhere in the SQL keeps its state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperatorId(pub String);

impl std::fmt::Display for OperatorId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node's index in [`DataflowGraph::nodes`].
pub type NodeIndex = usize;

/// The compiled job.
#[derive(Debug, Clone, Default)]
pub struct DataflowGraph {
    /// Operators in topological order.
    pub nodes: Vec<Node>,
    /// Edges, ordered by (to, port).
    pub edges: Vec<Edge>,
}

/// One operator of the graph.
#[derive(Debug, Clone)]
pub struct Node {
    /// Stable across restarts, rescales and edits of other parts.
    pub id: OperatorId,
    /// One line for people: `TUMBLE 10s, COUNT(*) by auction`.
    pub title: String,
    /// What it does.
    pub spec: OperatorSpec,
    /// Columns of its output.
    pub schema: SchemaRef,
    /// Whether its output updates earlier rows (then the last column is the kind column).
    pub changelog: bool,
    /// Fingerprint of the state's layout (keys, aggregates, types); a snapshot restores only into the same one.
    /// `None` for operators without state.
    pub state_schema: Option<String>,
}

/// A directed edge.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Producer.
    pub from: NodeIndex,
    /// Consumer.
    pub to: NodeIndex,
    /// The consumer's input port.
    pub port: usize,
    /// How rows find their subtask.
    pub exchange: Exchange,
}

/// How rows of an edge are spread over the consumer's subtasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// Stay on the same worker.
    Forward,
    /// To the owner of the key group of these columns (indexes into the producer's schema; none: all to one group).
    HashShuffle(Vec<usize>),
    /// Evenly over all workers, batch by batch.
    Rebalance,
    /// To every worker.
    Broadcast,
}

/// What an operator does. Column numbers are indexes into its input schema.
#[derive(Debug, Clone)]
pub enum OperatorSpec {
    /// Reads an external system.
    Source(SourceSpec),
    /// Filter, then project, in one pass.
    Calc(CalcSpec),
    /// Adds `window_start`, `window_end`, `window_time` columns; one output row for each window of a row.
    WindowAssign(WindowAssignSpec),
    /// First phase of a windowed aggregation: partial aggregates by (keys, slice), flushed when the epoch closes.
    LocalWindowAggregate(WindowAggregateSpec),
    /// Second phase: merges partials by (keys, slice), emits windows as the watermark passes their end.
    WindowAggregate(WindowAggregateSpec),
    /// First phase of an unbounded aggregation: partial aggregates by key, flushed when the epoch closes.
    LocalGroupAggregate(GroupAggregateSpec),
    /// Unbounded aggregation by key; emits a change-log, one change a key and epoch.
    GroupAggregate(GroupAggregateSpec),
    /// Adds the columns of the rows that an external table has for a row's key at the moment.
    LookupJoin(LookupJoinSpec),
    /// All rows of all inputs. In a change-log, rows of an input without kind column are inserts.
    Union,
    /// Writes to an external system.
    Sink(SinkSpec),
}

/// Key in the metadata of a field of [`SourceSpec`] or [`SinkSpec`]: the column is not in the record; the connector
/// knows it by this name (`METADATA FROM`).
pub const METADATA_KEY: &str = "rheos.metadata";

/// A table of the SQL text that is read.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// The table's name.
    pub table: String,
    /// The `WITH` options, `connector` among them.
    pub options: BTreeMap<String, String>,
    /// The physical columns to produce, pruned (also inside structs) to what the job uses. The connector produces
    /// exactly these, by name; of a table whose rows are changes the kind column is the last of them.
    pub physical: SchemaRef,
    /// All declared physical columns, before pruning.
    pub declared: SchemaRef,
    /// Columns of `PARTITIONED BY`, which a connector may know from where a row lies.
    pub partition_by: Vec<String>,
    /// Which rows the job uses, where that is known.
    pub pruning: Pruning,
    /// Computes the node's output from the physical columns (computed columns); `None` when they are the same.
    pub prelude: Option<CalcSpec>,
    /// How watermarks come out of the node's output; `None` for tables without `WATERMARK FOR`.
    pub watermark: Option<WatermarkSpec>,
}

/// Every row that the job uses satisfies all comparisons of one of these lists at least; without lists nothing is known.
/// A connector may leave out rows that satisfy none; it need not, for filters stay where they are.
#[derive(Debug, Clone, Default)]
pub struct Pruning(pub Vec<Vec<Comparison>>);

/// `column comparator value`; a null in the column satisfies none.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// A physical column.
    pub column: String,
    /// How it compares.
    pub comparator: Comparator,
    /// One value of the column's declared type, not null.
    pub value: ArrayRef,
}

/// See [`Comparison`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparator {
    /// `=`
    Equal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// `WATERMARK FOR column AS column - delay`.
#[derive(Debug, Clone)]
pub struct WatermarkSpec {
    /// Evaluated over the node's output; a timestamp in milliseconds. The watermark is its running maximum, as in Flink.
    pub expression: Arc<dyn PhysicalExpr>,
    /// A split that has been silent this long does not hold the watermark back (`scan.watermark.idle-timeout`).
    pub idle_timeout: Option<Millis>,
}

/// A fused filter and projection.
#[derive(Debug, Clone)]
pub struct CalcSpec {
    /// Boolean expression over the input; rows where it is not true are dropped.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Output columns over the input, in the order of the output schema (without the kind column, which is carried
    /// along by the operator when the node is a change-log).
    pub project: Vec<Arc<dyn PhysicalExpr>>,
}

/// A table of the SQL text that is asked for rows by key.
#[derive(Debug, Clone)]
pub struct LookupSpec {
    /// The table's name.
    pub table: String,
    /// The `WITH` options, `connector` among them.
    pub options: BTreeMap<String, String>,
    /// Columns that are compared with the key, by their names and types there; a column may come twice.
    pub keys: SchemaRef,
    /// Columns to give, by their names there; maybe none.
    pub columns: SchemaRef,
}

/// See [`OperatorSpec::LookupJoin`]. Output: the input's columns, then the table's.
#[derive(Debug, Clone)]
pub struct LookupJoinSpec {
    /// The table.
    pub table: LookupSpec,
    /// Columns of the input, of the types of [`LookupSpec::keys`] and in their order.
    pub keys: Vec<usize>,
    /// Whether a row that finds nothing stays, with nulls (`LEFT JOIN`).
    pub outer: bool,
}

/// The shape of event-time windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Window {
    /// `[n * size + offset, (n + 1) * size + offset)`.
    Tumble {
        /// Length.
        size: Millis,
        /// Shift of the grid.
        offset: Millis,
    },
    /// A window of `size` starts every `slide`.
    Hop {
        /// Length.
        size: Millis,
        /// Distance between starts.
        slide: Millis,
        /// Shift of the grid.
        offset: Millis,
    },
    /// From each multiple of `max`, windows that grow by `step`.
    Cumulate {
        /// Longest length.
        max: Millis,
        /// Growth.
        step: Millis,
        /// Shift of the grid.
        offset: Millis,
    },
}

/// See [`OperatorSpec::WindowAssign`]. Output: the input's columns, then `window_start`, `window_end`, `window_time`.
#[derive(Debug, Clone)]
pub struct WindowAssignSpec {
    /// The windows.
    pub window: Window,
    /// The event-time column (timestamp in milliseconds); rows where it is null are refused as bad data.
    pub time: usize,
}

/// Both phases of a windowed aggregation share it.
///
/// The local phase reads raw rows (`keys`, `time`, aggregate inputs are columns of its input) and emits
/// `keys…, __slice_end (Int64 ms), __rows (Int64), partial columns…` ([`crate::aggregate::partial_fields`]).
/// The global phase reads those and emits `keys…, aggregates…, window_start, window_end, window_time`, then the planner
/// puts a Calc behind it that orders the columns. Rows are late when the last window of their slice has fired.
#[derive(Debug, Clone)]
pub struct WindowAggregateSpec {
    /// Grouping columns (of the raw input; in the global phase columns `0..keys.len()`).
    pub keys: Vec<usize>,
    /// The event-time column of the raw input.
    pub time: usize,
    /// The windows.
    pub window: Window,
    /// The aggregates, over the raw input.
    pub calls: Vec<AggregateCall>,
}

/// Both phases of an unbounded aggregation share it.
///
/// The local phase (left out when the input is a change-log) emits `keys…, __rows (Int64), partial columns…`. The
/// global phase emits `keys…, aggregates…, __kind`.
#[derive(Debug, Clone)]
pub struct GroupAggregateSpec {
    /// Grouping columns of the raw input (in the global phase after a local one: columns `0..keys.len()`).
    pub keys: Vec<usize>,
    /// The aggregates, over the raw input.
    pub calls: Vec<AggregateCall>,
    /// Whether the global phase reads partials of a local phase; else it reads raw rows, a change-log or not.
    pub two_phase: bool,
    /// Whether the raw input is a change-log (its last column is the kind).
    pub input_changelog: bool,
}

/// One aggregate of the select list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregateCall {
    /// The function.
    pub function: AggregateFunction,
    /// Only distinct arguments count.
    pub distinct: bool,
    /// The argument's column; `None` for `COUNT(*)`.
    pub argument: Option<usize>,
    /// A boolean column: only rows where it is true count.
    pub filter: Option<usize>,
    /// Type of the argument (`Null` for `COUNT(*)`).
    pub argument_type: arrow::datatypes::DataType,
    /// Type of the result, Flink's rules: COUNT BIGINT; SUM of the argument's type (DECIMAL(38, s) for decimals);
    /// AVG of the argument's type (integer division for integers; DECIMAL(38, max(s, 6)) for decimals).
    pub result_type: arrow::datatypes::DataType,
    /// Name of the output column.
    pub name: String,
}

/// The aggregate functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AggregateFunction {
    /// Rows, or rows whose argument is not null.
    Count,
    /// Sum; null over no rows. Integers wrap as Flink's do; floats are summed exactly, so the order is no matter.
    Sum,
    /// Smallest.
    Min,
    /// Largest.
    Max,
    /// Mean.
    Avg,
}

/// A table of the SQL text that is written.
#[derive(Debug, Clone)]
pub struct SinkSpec {
    /// The table's name.
    pub table: String,
    /// The `WITH` options, `connector` among them.
    pub options: BTreeMap<String, String>,
    /// Columns to write (without the kind column).
    pub schema: SchemaRef,
    /// Columns of `PARTITIONED BY`.
    pub partition_by: Vec<String>,
    /// Columns of `PRIMARY KEY`: which row of the result a change is about.
    pub primary_key: Vec<String>,
    /// Whether the rows carry a kind column, last.
    pub changelog: bool,
}

impl DataflowGraph {
    /// Edges into `node`, by port.
    pub fn inputs(&self, node: NodeIndex) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.to == node)
    }

    /// Edges out of `node`.
    pub fn outputs(&self, node: NodeIndex) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.from == node)
    }

    /// Checks the invariants of this module; the planner's tests call it on every graph.
    pub fn validate(&self) -> Result<(), String> {
        let mut ids = std::collections::BTreeSet::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if !ids.insert(&node.id) {
                return Err(format!("two operators share the id {}", node.id));
            }
            let last = node.schema.fields().last().map(|field| field.name().as_str());
            if node.changelog != (last == Some(crate::changelog::KIND_COLUMN)) {
                return Err(format!("{}: change-log flag and kind column disagree", node.id));
            }
            for (port, edge) in self.inputs(index).enumerate() {
                if edge.port != port {
                    return Err(format!("{}: input ports are not dense", node.id));
                }
                if edge.from >= index {
                    return Err(format!("{}: not in topological order", node.id));
                }
                if let Exchange::HashShuffle(columns) = &edge.exchange
                    && let Some(bad) = columns.iter().find(|c| **c >= self.nodes[edge.from].schema.fields().len())
                {
                    return Err(format!("{}: no column {bad} to shuffle by", node.id));
                }
            }
        }
        Ok(())
    }
}
