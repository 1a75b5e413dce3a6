//! [pure] The relational plan to the dataflow graph: exchanges, phases, column numbers, physical expressions, ids.

mod pruning;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::DFSchema;
use datafusion_expr::Expr;
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use rheos_dataflow::aggregate::partial_fields;
use rheos_dataflow::changelog::KIND_COLUMN;
use rheos_dataflow::graph::{
    AggregateCall, CalcSpec, DataflowGraph, Edge, Exchange, GroupAggregateSpec, LookupJoinSpec, LookupSpec, Node, NodeIndex, OperatorSpec,
    SinkSpec, Window, WindowAggregateSpec, WindowAssignSpec,
};

use crate::PlanOptions;
use crate::bind::script::SinkPlan;
use crate::catalog::TableColumn;
use crate::error::{Fault, Result};
use crate::ids::{Ids, hash8};
use crate::lower::source::Usage;
use crate::rel::{Call, Op, Rel, Role};
use crate::{optimize, show, types};

/// Makes the graph of a script's sinks.
pub(crate) fn lower(sinks: &[SinkPlan], options: &PlanOptions) -> Result<DataflowGraph> {
    let plans: Vec<Arc<Rel>> = sinks.iter().map(|sink| optimize::optimize(&sink.rel)).collect();
    let mut usage = Usage::default();
    for (sink, plan) in sinks.iter().zip(&plans) {
        usage.add(plan, waits_for_event_time(sink));
    }
    let mut lowering =
        Lowering { graph: DataflowGraph::default(), ids: Ids::default(), usage, options, sources: BTreeMap::new(), made: vec![] };
    for (sink, plan) in sinks.iter().zip(&plans) {
        lowering.sink(sink, plan)?;
    }
    let mut graph = lowering.graph;
    graph.edges.sort_by_key(|edge| (edge.to, edge.port));
    graph.validate().map_err(internal)?;
    Ok(graph)
}

/// Whether the table says when its partitions are whole by what their names tell (Flink's option).
fn waits_for_event_time(sink: &SinkPlan) -> bool {
    sink.table.options.get("sink.partition-commit.trigger").is_some_and(|trigger| trigger.eq_ignore_ascii_case("partition-time"))
}

struct Lowering<'a> {
    graph: DataflowGraph,
    ids: Ids,
    usage: Usage,
    options: &'a PlanOptions,
    sources: BTreeMap<String, NodeIndex>,
    /// Every relation that has a node: equal ones share it.
    made: Vec<(Arc<Rel>, NodeIndex)>,
}

/// A mistake of ours, not of the text.
fn internal(message: impl std::fmt::Display) -> Fault {
    let fault = Fault::new(datafusion_expr::sqlparser::tokenizer::Span::empty(), format!("internal error of the planner: {message}"));
    fault.hint("this is a bug; please report it with the SQL text")
}

/// A kind of node with its inputs, before it has a place in the graph.
struct Draft {
    kind: &'static str,
    /// What the id's hash covers besides the kind.
    identity: String,
    title: String,
    spec: OperatorSpec,
    fields: Vec<Field>,
    changelog: bool,
    state_schema: Option<String>,
    inputs: Vec<(NodeIndex, Exchange)>,
}

impl Lowering<'_> {
    fn sink(&mut self, sink: &SinkPlan, plan: &Arc<Rel>) -> Result<()> {
        let input = self.node(plan)?;
        let table = &sink.table;
        let written: Vec<Field> = table.written().map(TableColumn::field).collect();
        let fields: Vec<Field> = written.iter().map(|field| field.clone().with_metadata(Default::default())).collect();
        let spec = OperatorSpec::Sink(SinkSpec {
            table: table.name.clone(),
            options: table.options.clone(),
            schema: Arc::new(Schema::new(written)),
            partition_by: table.partition_by.clone(),
            primary_key: table.primary_key.clone(),
            changelog: plan.changelog,
        });
        let schema = with_kind(fields, plan.changelog);
        let id = self.ids.unique(format!("sink:{}", table.name));
        let state_schema = Some(format!("sink {}", table.connector()));
        let title = format!("sink {} ({})", table.name, table.connector());
        let node = Node { id, title, spec, schema, changelog: plan.changelog, state_schema };
        self.push(node, vec![(input, Exchange::Forward)]);
        Ok(())
    }

    fn push(&mut self, node: Node, inputs: Vec<(NodeIndex, Exchange)>) -> NodeIndex {
        let to = self.graph.nodes.len();
        self.graph.nodes.push(node);
        let edges = inputs.into_iter().enumerate().map(|(port, (from, exchange))| Edge { from, to, port, exchange });
        self.graph.edges.extend(edges);
        to
    }

    fn add(&mut self, rel: &Rel, draft: Draft) -> NodeIndex {
        let name = format!("{}:{}:{}", draft.kind, tables(rel).join("+"), hash8(&format!("{}|{}", draft.kind, draft.identity)));
        let node = Node {
            id: self.ids.unique(name),
            title: draft.title,
            spec: draft.spec,
            schema: with_kind(draft.fields, draft.changelog),
            changelog: draft.changelog,
            state_schema: draft.state_schema,
        };
        self.push(node, draft.inputs)
    }

    /// The node of a relation; made once.
    fn node(&mut self, rel: &Arc<Rel>) -> Result<NodeIndex> {
        if let Some((_, node)) = self.made.iter().find(|(other, _)| other == rel) {
            return Ok(*node);
        }
        let node = match &rel.op {
            Op::Scan(table) => match self.sources.get(&table.name) {
                Some(node) => *node,
                None => {
                    let node = source::node(table, &self.usage, self.options.pushdown)?;
                    let node = Node { id: self.ids.unique(format!("source:{}", table.name)), ..node };
                    let index = self.push(node, vec![]);
                    self.sources.insert(table.name.clone(), index);
                    index
                }
            },
            Op::Calc { input, filter, project } => self.calc(rel, input, filter.as_ref(), project)?,
            Op::WindowAssign { input, window, time } => self.assign(rel, input, *window, time)?,
            Op::WindowAggregate { .. } => self.window_aggregate(rel)?,
            Op::GroupAggregate { .. } => self.group_aggregate(rel)?,
            Op::Lookup { .. } => self.lookup(rel)?,
            Op::Union { inputs } => {
                let ports = inputs.iter().map(|input| Ok((self.node(input)?, Exchange::Forward))).collect::<Result<Vec<_>>>()?;
                let draft = Draft {
                    kind: "union",
                    identity: lineage(rel),
                    title: format!("union of {}", ports.len()),
                    spec: OperatorSpec::Union,
                    fields: fields(rel),
                    changelog: rel.changelog,
                    state_schema: None,
                    inputs: ports,
                };
                self.add(rel, draft)
            }
        };
        self.made.push((Arc::clone(rel), node));
        Ok(node)
    }

    fn schema(&self, node: NodeIndex) -> SchemaRef {
        Arc::clone(&self.graph.nodes[node].schema)
    }

    fn calc(&mut self, rel: &Rel, input: &Arc<Rel>, filter: Option<&Expr>, project: &[Expr]) -> Result<NodeIndex> {
        let below = self.node(input)?;
        let schema = self.schema(below);
        if let (Some(filter), Op::Scan(_)) = (filter, &input.op)
            && source::copies_unused_text(&schema, project)
            && let Some(extracted) = optimize::share::extract(input, filter, project, rel)
        {
            return self.node(&extracted);
        }
        if let (None, true) = (filter, is_identity(rel, project, &schema)) {
            return Ok(below);
        }
        let compiler = Compiler::new(&schema)?;
        let spec = CalcSpec {
            filter: filter.map(|filter| compiler.compile(filter)).transpose()?,
            project: project.iter().map(|expr| compiler.compile(expr)).collect::<Result<_>>()?,
        };
        let title = calc_title(filter, project, rel);
        let fields = rel.columns.iter().zip(&spec.project).map(|(column, expr)| {
            // A row may have been pruned below: the type is what the expression gives.
            let ty = expr.data_type(&schema).map_err(internal)?;
            Ok(types::field(&column.name, ty))
        });
        let fields = fields.collect::<Result<Vec<_>>>()?;
        let draft = Draft {
            kind: "calc",
            identity: format!("{}|{title}", lineage(input)),
            title,
            spec: OperatorSpec::Calc(spec),
            fields,
            changelog: rel.changelog,
            state_schema: None,
            inputs: vec![(below, Exchange::Forward)],
        };
        Ok(self.add(rel, draft))
    }

    fn assign(&mut self, rel: &Rel, input: &Arc<Rel>, window: Window, time: &str) -> Result<NodeIndex> {
        let below = self.node(input)?;
        let schema = self.schema(below);
        let bounds = rel.columns.iter().filter(|column| matches!(column.role, Role::Window(_, w) if w == window)).rev().take(3);
        let mut bounds: Vec<Field> = bounds.map(|column| types::field(&column.name, column.ty.clone())).collect();
        bounds.reverse();
        let fields = schema.fields().iter().map(|field| field.as_ref().clone()).chain(bounds).collect();
        let title = format!("{} on {time}", show::window(window));
        let draft = Draft {
            kind: "window-assign",
            identity: format!("{}|{title}", lineage(input)),
            title,
            spec: OperatorSpec::WindowAssign(WindowAssignSpec { window, time: index(&schema, time)? }),
            fields,
            changelog: false,
            state_schema: None,
            inputs: vec![(below, Exchange::Forward)],
        };
        Ok(self.add(rel, draft))
    }

    fn lookup(&mut self, rel: &Rel) -> Result<NodeIndex> {
        let Op::Lookup { input, table, outer, keys, columns } = &rel.op else { return Err(internal("no lookup").into()) };
        let below = self.node(input)?;
        let schema = self.schema(below);
        let field = |name: &String| {
            let column = table.physical().find(|column| column.name == *name).ok_or_else(|| internal(format!("no column {name}")))?;
            Ok(types::field(name, column.ty.clone()))
        };
        let schema_of = |names: &mut dyn Iterator<Item = &String>| {
            Ok::<_, crate::error::Faults>(Arc::new(Schema::new(names.map(field).collect::<Result<Vec<_>>>()?)))
        };
        let spec = LookupSpec {
            table: table.name.clone(),
            options: table.options.clone(),
            keys: schema_of(&mut keys.iter().map(|(_, key)| key))?,
            columns: schema_of(&mut columns.iter())?,
        };
        let names: Vec<String> = keys.iter().map(|(column, _)| column.clone()).collect();
        let given = rel.columns[input.columns.len()..].iter();
        let added = given.clone().map(|column| types::field(&column.name, column.ty.clone()));
        let fields = schema.fields().iter().map(|field| field.as_ref().clone()).chain(added).collect();
        let on: Vec<String> = keys.iter().map(|(column, key)| format!("{column} = {}.{key}", table.name)).collect();
        let shown: Vec<String> = (columns.iter().zip(given))
            .map(|(name, column)| if *name == column.name { name.clone() } else { format!("{name} AS {}", column.name) })
            .collect();
        let join = if *outer { "LEFT JOIN" } else { "JOIN" };
        let title = format!("{join} {} ({}) ON {}: {}", table.name, table.connector(), on.join(" AND "), shown.join(", "));
        let draft = Draft {
            kind: "lookup-join",
            identity: lineage(rel),
            title,
            spec: OperatorSpec::LookupJoin(LookupJoinSpec { table: spec, keys: indexes(&schema, &names)?, outer: *outer }),
            fields,
            changelog: false,
            state_schema: None,
            inputs: vec![(below, Exchange::Forward)],
        };
        Ok(self.add(rel, draft))
    }

    fn window_aggregate(&mut self, rel: &Rel) -> Result<NodeIndex> {
        let Op::WindowAggregate { input, window, time, keys, calls, .. } = &rel.op else { return Err(internal("no window").into()) };
        let below = self.node(input)?;
        let schema = self.schema(below);
        let key_columns = indexes(&schema, keys)?;
        let spec =
            WindowAggregateSpec { keys: key_columns.clone(), time: index(&schema, time)?, window: *window, calls: bound(&schema, calls)? };
        let title = aggregate_title(&format!("{}, ", show::window(*window)), keys, calls);
        let identity = lineage(rel);
        let mut partial: Vec<Field> = key_columns.iter().map(|key| schema.field(*key).clone()).collect();
        partial.push(Field::new("__slice_end", DataType::Int64, false));
        partial.push(Field::new("__rows", DataType::Int64, false));
        partial.extend(partial_fields(&spec.calls).map_err(internal)?);
        let local = Draft {
            kind: "local-window-aggregate",
            identity: identity.clone(),
            title: format!("partial {title}"),
            spec: OperatorSpec::LocalWindowAggregate(spec.clone()),
            fields: partial,
            changelog: false,
            state_schema: None,
            inputs: vec![(below, Exchange::Forward)],
        };
        let local = self.add(rel, local);
        let state_schema = format!("{} {}", show::window(*window), state(&schema, &key_columns, calls));
        let global = Draft {
            kind: "window-aggregate",
            identity,
            title,
            spec: OperatorSpec::WindowAggregate(WindowAggregateSpec { keys: (0..keys.len()).collect(), ..spec }),
            fields: fields(rel),
            changelog: false,
            state_schema: Some(state_schema),
            inputs: vec![(local, Exchange::HashShuffle((0..keys.len()).collect()))],
        };
        Ok(self.add(rel, global))
    }

    fn group_aggregate(&mut self, rel: &Rel) -> Result<NodeIndex> {
        let Op::GroupAggregate { input, keys, calls, .. } = &rel.op else { return Err(internal("no grouping").into()) };
        let below = self.node(input)?;
        let schema = self.schema(below);
        let key_columns = indexes(&schema, keys)?;
        let two_phase = !input.changelog;
        let spec =
            GroupAggregateSpec { keys: key_columns.clone(), calls: bound(&schema, calls)?, two_phase, input_changelog: input.changelog };
        let title = aggregate_title("", keys, calls);
        let identity = lineage(rel);
        let (from, keys_there) = if two_phase {
            let mut partial: Vec<Field> = key_columns.iter().map(|key| schema.field(*key).clone()).collect();
            partial.push(Field::new("__rows", DataType::Int64, false));
            partial.extend(partial_fields(&spec.calls).map_err(internal)?);
            let local = Draft {
                kind: "local-group-aggregate",
                identity: identity.clone(),
                title: format!("partial {title}"),
                spec: OperatorSpec::LocalGroupAggregate(spec.clone()),
                fields: partial,
                changelog: false,
                state_schema: None,
                inputs: vec![(below, Exchange::Forward)],
            };
            (self.add(rel, local), (0..keys.len()).collect())
        } else {
            (below, key_columns.clone())
        };
        let retract = if input.changelog { "retracting " } else { "" };
        let global = Draft {
            kind: "group-aggregate",
            identity,
            title,
            spec: OperatorSpec::GroupAggregate(GroupAggregateSpec { keys: Vec::clone(&keys_there), ..spec }),
            fields: fields(rel),
            changelog: true,
            state_schema: Some(format!("{retract}{}", state(&schema, &key_columns, calls))),
            inputs: vec![(from, Exchange::HashShuffle(keys_there))],
        };
        Ok(self.add(rel, global))
    }
}

fn with_kind(mut fields: Vec<Field>, changelog: bool) -> SchemaRef {
    if changelog {
        fields.push(Field::new(KIND_COLUMN, DataType::UInt8, false));
    }
    Arc::new(Schema::new(fields))
}

fn fields(rel: &Rel) -> Vec<Field> {
    rel.columns.iter().map(|column| types::field(&column.name, column.ty.clone())).collect()
}

fn index(schema: &Schema, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|error| internal(error).into())
}

fn indexes(schema: &Schema, names: &[String]) -> Result<Vec<usize>> {
    names.iter().map(|name| index(schema, name)).collect()
}

/// Whether a Calc gives its input as it is. NOT NULL of a source ends at the Calc: the inputs of a union are alike.
fn is_identity(rel: &Rel, project: &[Expr], schema: &Schema) -> bool {
    let data = schema.fields().iter().filter(|field| field.name() != KIND_COLUMN);
    project.len() == data.clone().count()
        && project.iter().zip(&rel.columns).zip(data).all(|((expr, column), field)| {
            let same = matches!(expr, Expr::Column(reference) if reference.name == column.name);
            same && column.name == *field.name() && field.is_nullable()
        })
}

/// The calls with their columns' numbers.
fn bound(schema: &Schema, calls: &[Call]) -> Result<Vec<AggregateCall>> {
    for name in calls.iter().flat_map(|call| call.argument.iter().chain(&call.filter)) {
        index(schema, name)?;
    }
    Ok(calls.iter().map(|call| call.bind(|name| schema.index_of(name).ok())).collect())
}

/// The layout of an aggregate's state.
fn state(schema: &Schema, keys: &[usize], calls: &[Call]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| types::name(schema.field(*key).data_type())).collect();
    let calls: Vec<String> = calls
        .iter()
        .map(|call| {
            let argument = call.argument.as_ref().map_or_else(|| "*".into(), |_| types::name(&call.argument_type));
            let distinct = if call.distinct { "DISTINCT " } else { "" };
            let filter = if call.filter.is_some() { " FILTER" } else { "" };
            format!("{}({distinct}{argument}){filter}", show::function(call.function))
        })
        .collect();
    format!("keys({}) calls({})", keys.join(", "), calls.join(", "))
}

fn aggregate_title(window: &str, keys: &[String], calls: &[Call]) -> String {
    let calls =
        if calls.is_empty() { "DISTINCT".into() } else { calls.iter().map(|call| call.title.as_str()).collect::<Vec<_>>().join(", ") };
    let keys = if keys.is_empty() { String::new() } else { format!(" by {}", keys.join(", ")) };
    format!("{window}{calls}{keys}")
}

fn calc_title(filter: Option<&Expr>, project: &[Expr], rel: &Rel) -> String {
    let items: Vec<String> = project
        .iter()
        .zip(&rel.columns)
        .map(|(expr, column)| match show::expr(expr) {
            text if text == column.name => text,
            text => format!("{text} AS {}", column.name),
        })
        .collect();
    match filter {
        Some(filter) => format!("{} WHERE {}", items.join(", "), show::expr(filter)),
        None => items.join(", "),
    }
}

/// Tables that a relation reads, each once, in order of appearance.
fn tables(rel: &Rel) -> Vec<String> {
    let mut names = Vec::new();
    let mut stack = vec![rel];
    while let Some(rel) = stack.pop() {
        match &rel.op {
            Op::Scan(table) if !names.contains(&table.name) => names.push(table.name.clone()),
            Op::Lookup { input, table, .. } => {
                if !names.contains(&table.name) {
                    names.push(table.name.clone());
                }
                stack.push(input);
            }
            op => stack.extend(op.inputs().into_iter().rev().map(Arc::as_ref)),
        }
    }
    names
}

/// What an operator stems from: tables, operators with state, their keys and windows.
fn lineage(rel: &Rel) -> String {
    match &rel.op {
        Op::Scan(table) => format!("table {}", table.name),
        Op::Calc { input, .. } => lineage(input),
        Op::WindowAssign { input, window, .. } => format!("{} of {}", show::window(*window), lineage(input)),
        Op::WindowAggregate { input, window, identity, .. } => {
            format!("{} by [{}] of ({})", show::window(*window), identity.join(", "), lineage(input))
        }
        Op::GroupAggregate { input, identity, .. } => format!("by [{}] of ({})", identity.join(", "), lineage(input)),
        Op::Lookup { input, table, keys, .. } => {
            let keys: Vec<&str> = keys.iter().map(|(_, key)| key.as_str()).collect();
            format!("rows of {} by [{}] for ({})", table.name, keys.join(", "), lineage(input))
        }
        Op::Union { inputs } => inputs.iter().map(|input| lineage(input)).collect::<Vec<_>>().join(" + "),
    }
}

/// Makes physical expressions over one schema.
pub(crate) struct Compiler {
    schema: DFSchema,
}

impl Compiler {
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self> {
        Ok(Self { schema: DFSchema::try_from(Arc::clone(schema)).map_err(internal)? })
    }

    pub(crate) fn compile(&self, expr: &Expr) -> Result<Arc<dyn PhysicalExpr>> {
        create_physical_expr(expr, &self.schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
            .map_err(|error| internal(error.strip_backtrace()).into())
    }
}
