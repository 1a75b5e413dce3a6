//! [pure] Sources: what each table has to deliver, pruned to what the job uses, also inside rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::Expr;
use rheos_dataflow::changelog::KIND_COLUMN;
use rheos_dataflow::graph::{CalcSpec, Node, OperatorId, OperatorSpec, Pruning, SourceSpec, WatermarkSpec};
use rheos_dataflow::time::Millis;

use crate::catalog::{Table, TableColumn};
use crate::error::{Fault, Result};
use crate::functions::row;
use crate::lower::{Compiler, internal, pruning, with_kind};
use crate::rel::{self, Op, Rel};
use crate::types;

/// Whether filtering rows of `schema` for these expressions would copy strings inside of rows that nobody reads.
pub(super) fn copies_unused_text(schema: &Schema, project: &[Expr]) -> bool {
    let mut used = Paths::new();
    project.iter().for_each(|expr| paths(expr, &mut used));
    schema.fields().iter().any(|field| {
        let is_read = used.iter().any(|path| path[0] == *field.name());
        let texts = |field: &Arc<Field>| text_fields(field.data_type());
        is_read && pruned(field, &used, 0).is_some_and(|kept| texts(&kept) < texts(field))
    })
}

fn text_fields(ty: &DataType) -> usize {
    match ty {
        DataType::Struct(fields) => fields.iter().map(|field| text_fields(field.data_type())).sum(),
        ty => usize::from(matches!(ty, DataType::Utf8 | DataType::Binary) || ty.is_nested()),
    }
}

/// Flink's option for idle splits.
const IDLE_TIMEOUT: &str = "scan.watermark.idle-timeout";

/// Paths of used fields: `[bid]` is the whole row, `[bid, price]` one field of it.
type Paths = BTreeSet<Vec<String>>;

/// What all queries together use of each table.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    tables: BTreeMap<String, TableUsage>,
}

#[derive(Debug, Default)]
struct TableUsage {
    paths: Paths,
    /// Whether an operator above works on event time.
    event_time: bool,
    /// What each reader filters by; one without a filter needs all rows.
    filters: Vec<Option<Expr>>,
}

impl Usage {
    /// Adds what `rel` uses; `timed` says that an operator above needs watermarks.
    pub(crate) fn add(&mut self, rel: &Rel, timed: bool) {
        let timed = timed || matches!(rel.op, Op::WindowAssign { .. } | Op::WindowAggregate { .. });
        for input in rel.op.inputs() {
            if let Op::Scan(table) = &input.op {
                let usage = self.tables.entry(table.name.clone()).or_default();
                usage.event_time |= timed;
                usage.filters.push(match &rel.op {
                    Op::Calc { filter, .. } => filter.clone(),
                    _ => None,
                });
                match &rel.op {
                    Op::Calc { filter, project, .. } => project.iter().chain(filter).for_each(|expr| paths(expr, &mut usage.paths)),
                    _ => usage.paths.extend(input.columns.iter().map(|column| vec![column.name.clone()])),
                }
            }
            self.add(input, timed);
        }
        if let Op::Scan(table) = &rel.op {
            self.tables.entry(table.name.clone()).or_default();
        }
    }
}

/// Collects the longest paths that an expression reads.
fn paths(expr: &Expr, found: &mut Paths) {
    let visited = expr.apply(|node| {
        if let Some((Expr::Column(root), path)) = row::as_field(node) {
            found.insert(std::iter::once(root.name.clone()).chain(path.into_iter().map(String::from)).collect());
            return Ok(TreeNodeRecursion::Jump);
        }
        if let Expr::Column(column) = node {
            found.insert(vec![column.name.clone()]);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "the visitor does not fail");
}

/// The source node of a table, without its id.
pub(crate) fn node(table: &Table, usage: &Usage, pushdown: bool) -> Result<Node> {
    let empty = TableUsage::default();
    let usage = usage.tables.get(&table.name).unwrap_or(&empty);
    let mut output = usage.paths.clone();
    let watermark = table.watermark.as_ref().filter(|_| usage.event_time);
    if let Some(watermark) = watermark {
        paths(&watermark.expression, &mut output);
    }
    if !pushdown {
        output.extend(table.physical().map(|column| vec![column.name.clone()]));
    }
    // Rows are counted even when no column is used: the first one that costs little stands for them.
    if output.is_empty()
        && let Some(column) = table.physical().min_by_key(|column| types::width(&column.ty) + usize::from(column.ty == DataType::Utf8))
    {
        output.insert(vec![column.name.clone()]);
    }
    let is_used = |column: &&TableColumn| output.iter().any(|path| path[0] == column.name);
    let columns: Vec<&TableColumn> = table.columns.iter().filter(is_used).collect();
    let mut reads: Paths = Paths::new();
    for column in &columns {
        match &column.computed {
            Some(expr) => paths(expr, &mut reads),
            None => reads.extend(output.iter().filter(|path| path[0] == column.name).cloned()),
        }
    }
    let declared = Schema::new(table.physical().map(TableColumn::field).collect::<Vec<_>>());
    let physical: Fields = declared.fields().iter().filter_map(|field| pruned(field, &reads, 0)).collect();
    let plain = columns.iter().all(|column| column.computed.is_none()) && columns.len() == physical.len();
    let physical = with_kind(physical.iter().map(|field| field.as_ref().clone()).collect(), table.changelog);
    let compiler = Compiler::new(&physical)?;
    let project = columns.iter().map(|column| match &column.computed {
        Some(expr) => compiler.compile(expr),
        None => compiler.compile(&rel::column(&column.name)),
    });
    let project = project.collect::<Result<Vec<_>>>()?;
    let fields = columns.iter().zip(&project).map(|(column, expr)| {
        let ty = expr.data_type(&physical).map_err(internal)?;
        let nullable = column.computed.is_some() || !column.not_null;
        Ok(types::field(&column.name, ty).with_nullable(nullable))
    });
    let schema = with_kind(fields.collect::<Result<Vec<_>>>()?, table.changelog);
    let watermark = match watermark {
        Some(watermark) => Some(WatermarkSpec {
            expression: Compiler::new(&schema)?.compile(&watermark.expression)?,
            idle_timeout: table.options.get(IDLE_TIMEOUT).map(|text| idle_timeout(text)).transpose()?,
        }),
        None => None,
    };
    Ok(Node {
        id: OperatorId(String::new()),
        title: title(table, &columns, &physical, watermark.is_some()),
        spec: OperatorSpec::Source(SourceSpec {
            table: table.name.clone(),
            options: table.options.clone(),
            physical,
            declared: Arc::new(declared),
            partition_by: table.partition_by.clone(),
            pruning: if pushdown && watermark.is_none() { pruning::of(table, &usage.filters) } else { Pruning::default() },
            prelude: (!plain).then_some(CalcSpec { filter: None, project }),
            watermark,
        }),
        schema,
        changelog: table.changelog,
        state_schema: Some(format!("source {} {}", table.connector(), table.name)),
    })
}

fn title(table: &Table, used: &[&TableColumn], physical: &Schema, watermark: bool) -> String {
    let data = physical.fields().iter().filter(|field| field.name() != KIND_COLUMN);
    let mut columns: Vec<String> = data.map(|field| shown(field)).collect();
    let computed = used.iter().filter_map(|column| Some((&column.name, column.computed.as_ref()?)));
    columns.extend(computed.map(|(name, expr)| format!("{name} AS {}", crate::show::expr(expr))));
    let watermark = match (&table.watermark, watermark) {
        (Some(watermark), true) => format!(", watermark {}", crate::show::expr(&watermark.expression)),
        _ => String::new(),
    };
    format!("source {} ({}): {}{watermark}", table.name, table.connector(), columns.join(", "))
}

/// A column and, for rows, the fields that are left.
fn shown(field: &Field) -> String {
    match field.data_type() {
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|field| shown(field)).collect();
            format!("{}{{{}}}", field.name(), fields.join(", "))
        }
        _ => field.name().clone(),
    }
}

/// The part of a field that `reads` names at `depth`.
fn pruned(field: &Arc<Field>, reads: &Paths, depth: usize) -> Option<Arc<Field>> {
    let here: Paths = reads.iter().filter(|path| path.get(depth) == Some(field.name())).cloned().collect();
    if here.is_empty() {
        return None;
    }
    match field.data_type() {
        DataType::Struct(fields) if here.iter().all(|path| path.len() > depth + 1) => {
            let fields: Fields = fields.iter().filter_map(|child| pruned(child, &here, depth + 1)).collect();
            Some(Arc::new(field.as_ref().clone().with_data_type(DataType::Struct(fields))))
        }
        _ => Some(Arc::clone(field)),
    }
}

/// `30 s`, `500 ms`, `1 min`: a duration in Flink's notation.
fn idle_timeout(text: &str) -> Result<Millis> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match text[digits..].trim().to_lowercase().as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => 0,
    };
    match text[..digits].parse::<Millis>().ok().and_then(|count| count.checked_mul(unit)) {
        Some(millis) if unit > 0 => Ok(millis),
        _ => {
            let span = datafusion_expr::sqlparser::tokenizer::Span::empty();
            Fault::new(span, format!("'{IDLE_TIMEOUT}' = '{text}' is no duration")).hint("write '30 s'").into()
        }
    }
}
