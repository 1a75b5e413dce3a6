//! [pure] The jobs that the simulator runs, built by hand as the SQL planner would.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_expr::Operator as Op;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, Literal};

use super::lookup;
use super::oracle::{Identity, SEPARATOR};
use super::source::{Content, DISORDER, schema};
use crate::aggregate::partial_fields;
use crate::changelog::KIND_COLUMN;
use crate::error::Result;
use crate::graph::{
    AggregateCall, AggregateFunction, CalcSpec, DataflowGraph, Edge, Exchange, GroupAggregateSpec, LookupJoinSpec, LookupSpec, Node,
    NodeIndex, OperatorId, OperatorSpec, Pruning, SinkSpec, SourceSpec, WatermarkSpec, Window, WindowAggregateSpec,
};

/// The last columns of a window's row.
const WINDOWS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// A job's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// `SELECT id, k, v WHERE v > 0`, in one stage.
    Filter,
    /// The same behind a rebalance.
    Rebalance,
    /// `TUMBLE` with every function over integers, floats and texts.
    Tumble,
    /// `HOP`, keyed by a text.
    Hop,
    /// `CUMULATE`, without keys.
    Cumulate,
    /// `GROUP BY k`, updating, two phases.
    Group,
    /// How many keys have how many rows: a change-log over a change-log.
    GroupOverGroup,
    /// Two sources, one window.
    Union,
    /// One source into a filter's sink and an updating one.
    TwoSinks,
    /// `LEFT JOIN` of a table that is asked by `v`, then, behind a rebalance, `JOIN` of one that is asked by `k`.
    Lookup,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Filter,
        Self::Rebalance,
        Self::Tumble,
        Self::Hop,
        Self::Cumulate,
        Self::Group,
        Self::GroupOverGroup,
        Self::Union,
        Self::TwoSinks,
        Self::Lookup,
    ];
}

/// A job to simulate.
#[derive(Debug, Clone)]
pub struct SimJob {
    /// Its shape.
    pub shape: Shape,
    /// The graph.
    pub graph: DataflowGraph,
    /// What the sources hold.
    pub sources: BTreeMap<OperatorId, Content>,
    /// The sinks.
    pub sinks: Vec<OperatorId>,
    /// The lookup joins.
    pub lookups: Vec<OperatorId>,
}

impl SimJob {
    /// A job of this shape; all its sources are of the size of `content`.
    ///
    /// # Errors
    /// When an aggregate has no partial form: a fault of the aggregates.
    pub fn new(shape: Shape, content: Content) -> Result<Self> {
        let mut b = Builder::default();
        match shape {
            Shape::Filter | Shape::Rebalance => {
                let source = b.source("a", content);
                let exchange = if shape == Shape::Filter { Exchange::Forward } else { Exchange::Rebalance };
                let calc = b.filter(source, exchange);
                b.sink("out", calc);
            }
            Shape::Tumble | Shape::Hop | Shape::Cumulate => {
                let source = b.source("a", content);
                let windows = b.windows(source, shape)?;
                b.sink("out", windows);
            }
            Shape::Union => {
                let first = b.source("a", content);
                let second = b.source("b", Content { seed: content.seed ^ 0xb, ..content });
                let union = b.union(first, second);
                let windows = b.windows(union, shape)?;
                b.sink("out", windows);
            }
            Shape::Group | Shape::GroupOverGroup => {
                let source = b.source("a", content);
                let mut group = b.group(source)?;
                if shape == Shape::GroupOverGroup {
                    group = b.group_over(group);
                }
                b.sink("out", group);
            }
            Shape::TwoSinks => {
                let source = b.source("a", content);
                let calc = b.filter(source, Exchange::Forward);
                b.sink("rows", calc);
                let group = b.group(source)?;
                b.sink("groups", group);
            }
            Shape::Lookup => {
                let source = b.source("a", content);
                let outer = b.lookup(source, "v", true, Exchange::Forward);
                let inner = b.lookup(outer, "k", false, Exchange::Rebalance);
                b.sink("out", inner);
            }
        }
        Ok(Self { shape, graph: b.graph, sources: b.sources, sinks: b.sinks, lookups: b.lookups })
    }

    /// The sinks in the graph.
    pub(super) fn sink_nodes(&self) -> impl Iterator<Item = NodeIndex> {
        self.sinks.iter().filter_map(|id| self.graph.nodes.iter().position(|node| node.id == *id))
    }

    /// What tells a row of `sink` from its others: a group's keys, a window with its keys, all of any other row.
    pub(super) fn identity(&self, sink: &OperatorId, row: &str) -> Identity {
        let node = self.sink_nodes().find(|node| self.graph.nodes[*node].id == *sink);
        let from = node.and_then(|node| self.graph.inputs(node).next()).map(|edge| &self.graph.nodes[edge.from].spec);
        let values: Vec<&str> = row.split(SEPARATOR).collect();
        let kept = match from {
            Some(OperatorSpec::GroupAggregate(spec)) => values[..spec.keys.len()].to_vec(),
            Some(OperatorSpec::WindowAggregate(spec)) => [&values[..spec.keys.len()], &values[values.len() - WINDOWS.len()..]].concat(),
            _ => return Identity { text: row.into(), unique: false },
        };
        Identity { text: kept.join(SEPARATOR), unique: true }
    }
}

#[derive(Default)]
struct Builder {
    graph: DataflowGraph,
    sources: BTreeMap<OperatorId, Content>,
    sinks: Vec<OperatorId>,
    lookups: Vec<OperatorId>,
}

impl Builder {
    fn node(&mut self, title: &str, spec: OperatorSpec, fields: Vec<Field>, stateful: bool, inputs: &[(NodeIndex, Exchange)]) -> NodeIndex {
        let index = self.graph.nodes.len();
        let id = OperatorId(format!("{title}:{index}"));
        let changelog = fields.last().is_some_and(|field| field.name() == KIND_COLUMN);
        let state_schema = stateful.then(|| format!("{title}/1"));
        let schema = Arc::new(Schema::new(fields));
        self.graph.nodes.push(Node { id, title: title.into(), spec, schema, changelog, state_schema });
        for (port, (from, exchange)) in inputs.iter().enumerate() {
            self.graph.edges.push(Edge { from: *from, to: index, port, exchange: exchange.clone() });
        }
        index
    }

    fn schema(&self, node: NodeIndex) -> SchemaRef {
        Arc::clone(&self.graph.nodes[node].schema)
    }

    fn fields(&self, node: NodeIndex) -> Vec<Field> {
        self.graph.nodes[node].schema.fields().iter().map(|field| field.as_ref().clone()).collect()
    }

    fn source(&mut self, table: &str, content: Content) -> NodeIndex {
        let schema = schema();
        let delay = literal(ScalarValue::DurationMillisecond(Some(DISORDER)));
        let spec = SourceSpec {
            table: table.into(),
            options: BTreeMap::new(),
            physical: Arc::clone(&schema),
            declared: Arc::clone(&schema),
            partition_by: Vec::new(),
            pruning: Pruning::default(),
            prelude: None,
            watermark: Some(WatermarkSpec { expression: binary(column(&schema, "ts"), Op::Minus, delay), idle_timeout: None }),
        };
        let fields = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        let node = self.node(&format!("source-{table}"), OperatorSpec::Source(spec), fields, false, &[]);
        self.sources.insert(self.graph.nodes[node].id.clone(), content);
        node
    }

    fn sink(&mut self, table: &str, input: NodeIndex) {
        let fields = self.fields(input);
        let changelog = self.graph.nodes[input].changelog;
        let columns = if changelog { &fields[..fields.len() - 1] } else { &fields[..] };
        let spec = SinkSpec {
            table: table.into(),
            options: BTreeMap::new(),
            schema: Arc::new(Schema::new(columns.to_vec())),
            partition_by: Vec::new(),
            primary_key: Vec::new(),
            changelog,
        };
        let node = self.node(&format!("sink-{table}"), OperatorSpec::Sink(spec), fields, false, &[(input, Exchange::Forward)]);
        self.sinks.push(self.graph.nodes[node].id.clone());
    }

    /// `SELECT id, k, v WHERE v > 0`
    fn filter(&mut self, input: NodeIndex, exchange: Exchange) -> NodeIndex {
        let schema = self.schema(input);
        let filter = binary(column(&schema, "v"), Op::Gt, literal(ScalarValue::Int64(Some(0))));
        let project = ["id", "k", "v"].map(|name| column(&schema, name)).to_vec();
        let fields = self.fields(input)[..3].to_vec();
        self.node("calc", OperatorSpec::Calc(CalcSpec { filter: Some(filter), project }), fields, false, &[(input, exchange)])
    }

    fn union(&mut self, first: NodeIndex, second: NodeIndex) -> NodeIndex {
        let fields = self.fields(first);
        self.node("union", OperatorSpec::Union, fields, false, &[(first, Exchange::Forward), (second, Exchange::Forward)])
    }

    /// The rows that a table has for the key in column `by`.
    fn lookup(&mut self, input: NodeIndex, by: &str, outer: bool, exchange: Exchange) -> NodeIndex {
        let (keys, columns) = (lookup::key_schema(), lookup::schema());
        let mut fields = self.fields(input);
        fields.extend(columns.fields().iter().map(|field| Field::clone(field).with_name(format!("{}_{by}", field.name()))));
        let place = self.schema(input).index_of(by).unwrap_or_default();
        let table = LookupSpec { table: by.into(), options: BTreeMap::new(), keys, columns };
        let spec = OperatorSpec::LookupJoin(LookupJoinSpec { table, keys: vec![place], outer });
        let node = self.node("lookup-join", spec, fields, false, &[(input, exchange)]);
        self.lookups.push(self.graph.nodes[node].id.clone());
        node
    }

    /// Both phases of a windowed aggregation.
    fn windows(&mut self, input: NodeIndex, shape: Shape) -> Result<NodeIndex> {
        let schema = self.schema(input);
        let (window, keys) = match shape {
            Shape::Hop => (Window::Hop { size: 300, slide: 100, offset: 0 }, vec!["s"]),
            Shape::Cumulate => (Window::Cumulate { max: 400, step: 100, offset: 0 }, vec![]),
            _ => (Window::Tumble { size: 200, offset: 30 }, vec!["k"]),
        };
        let keys: Vec<usize> = keys.into_iter().filter_map(|name| schema.index_of(name).ok()).collect();
        let calls = vec![
            call(AggregateFunction::Count, None, &schema, "n"),
            call(AggregateFunction::Sum, Some("v"), &schema, "sum_v"),
            call(AggregateFunction::Avg, Some("x"), &schema, "avg_x"),
            call(AggregateFunction::Sum, Some("x"), &schema, "sum_x"),
            call(AggregateFunction::Min, Some("v"), &schema, "min_v"),
            call(AggregateFunction::Max, Some("x"), &schema, "max_x"),
            AggregateCall { distinct: true, ..call(AggregateFunction::Count, Some("s"), &schema, "distinct_s") },
        ];
        let key_fields: Vec<Field> = keys.iter().map(|key| schema.field(*key).clone()).collect();
        let time = schema.index_of("ts").unwrap_or_default();

        let mut fields = key_fields.clone();
        fields.push(Field::new("__slice_end", DataType::Int64, false));
        fields.push(Field::new("__rows", DataType::Int64, false));
        fields.extend(partial_fields(&calls)?);
        let spec = WindowAggregateSpec { keys: keys.clone(), time, window, calls: calls.clone() };
        let local = self.node("local-window", OperatorSpec::LocalWindowAggregate(spec), fields, false, &[(input, Exchange::Forward)]);

        let mut fields = key_fields;
        fields.extend(calls.iter().map(result_field));
        for name in WINDOWS {
            fields.push(Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), false));
        }
        let by = Exchange::HashShuffle((0..keys.len()).collect());
        let keys = (0..keys.len()).collect();
        let spec = WindowAggregateSpec { keys, time, window, calls };
        Ok(self.node("window", OperatorSpec::WindowAggregate(spec), fields, true, &[(local, by)]))
    }

    /// `SELECT k, COUNT(*), SUM(v), SUM(x), MAX(v), COUNT(DISTINCT s) GROUP BY k`, both phases.
    fn group(&mut self, input: NodeIndex) -> Result<NodeIndex> {
        let schema = self.schema(input);
        let keys = vec![schema.index_of("k").unwrap_or_default()];
        let calls = vec![
            call(AggregateFunction::Count, None, &schema, "n"),
            call(AggregateFunction::Sum, Some("v"), &schema, "sum_v"),
            call(AggregateFunction::Sum, Some("x"), &schema, "sum_x"),
            call(AggregateFunction::Max, Some("v"), &schema, "max_v"),
            AggregateCall { distinct: true, ..call(AggregateFunction::Count, Some("s"), &schema, "distinct_s") },
        ];
        let key = schema.field(keys[0]).clone();
        let mut fields = vec![key.clone(), Field::new("__rows", DataType::Int64, false)];
        fields.extend(partial_fields(&calls)?);
        let spec = GroupAggregateSpec { keys, calls: calls.clone(), two_phase: true, input_changelog: false };
        let local = OperatorSpec::LocalGroupAggregate(spec.clone());
        let local = self.node("local-group", local, fields, false, &[(input, Exchange::Forward)]);
        let mut fields = vec![key];
        fields.extend(calls.iter().map(result_field));
        fields.push(kind_field());
        let spec = OperatorSpec::GroupAggregate(GroupAggregateSpec { keys: vec![0], ..spec });
        Ok(self.node("group", spec, fields, true, &[(local, Exchange::HashShuffle(vec![0]))]))
    }

    /// `SELECT n, COUNT(*), SUM(max_v), MIN(k) GROUP BY n` over the group aggregation's change-log.
    fn group_over(&mut self, input: NodeIndex) -> NodeIndex {
        let schema = self.schema(input);
        let keys = vec![schema.index_of("n").unwrap_or_default()];
        let calls = vec![
            call(AggregateFunction::Count, None, &schema, "keys"),
            call(AggregateFunction::Sum, Some("max_v"), &schema, "sum_max"),
            call(AggregateFunction::Min, Some("k"), &schema, "min_k"),
        ];
        let mut fields = vec![schema.field(keys[0]).clone()];
        fields.extend(calls.iter().map(result_field));
        fields.push(kind_field());
        let by = Exchange::HashShuffle(keys.clone());
        let spec = GroupAggregateSpec { keys, calls, two_phase: false, input_changelog: true };
        self.node("group-over", OperatorSpec::GroupAggregate(spec), fields, true, &[(input, by)])
    }
}

fn call(function: AggregateFunction, argument: Option<&str>, schema: &Schema, name: &str) -> AggregateCall {
    let argument = argument.and_then(|argument| schema.index_of(argument).ok());
    let argument_type = argument.map_or(DataType::Null, |argument| schema.field(argument).data_type().clone());
    let result_type = if function == AggregateFunction::Count { DataType::Int64 } else { argument_type.clone() };
    AggregateCall { function, distinct: false, argument, filter: None, argument_type, result_type, name: name.into() }
}

fn result_field(call: &AggregateCall) -> Field {
    Field::new(&call.name, call.result_type.clone(), call.function != AggregateFunction::Count)
}

fn kind_field() -> Field {
    Field::new(KIND_COLUMN, DataType::UInt8, false)
}

fn column(schema: &Schema, name: &str) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, schema.index_of(name).unwrap_or_default()))
}

fn literal(value: ScalarValue) -> Arc<dyn PhysicalExpr> {
    Arc::new(Literal::new(value))
}

fn binary(left: Arc<dyn PhysicalExpr>, op: Op, right: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(left, op, right))
}
