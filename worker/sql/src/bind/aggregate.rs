//! [pure] Aggregate calls, and the grouping of a query by plain keys or by windows.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::Expr;
use datafusion_expr::sqlparser::{
    ast::{DuplicateTreatment, Expr as Ast, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned},
    tokenizer::{Location, Span},
};
use rheos_dataflow::aggregate::partial_fields;
use rheos_dataflow::graph::{AggregateCall, AggregateFunction, Window};
use rheos_dataflow::state::MAX_KEY_COLUMNS;

use crate::bind::expr::Binder;
use crate::bind::select::calc;
use crate::bind::window;
use crate::coerce::Typed;
use crate::error::{Fault, Result, fail, fail_hint};
use crate::functions::time;
use crate::rel::{self, Bound, Call, Column, Op, Rel, Role, unique};
use crate::types;

/// The aggregate functions there are.
pub(crate) const NAMES: [&str; 5] = ["COUNT", "SUM", "MIN", "MAX", "AVG"];
/// Aggregate functions of Flink that are refused by name.
const REFUSED: [&str; 18] = [
    "FIRST_VALUE",
    "LAST_VALUE",
    "LISTAGG",
    "COLLECT",
    "ARRAY_AGG",
    "STDDEV_POP",
    "STDDEV_SAMP",
    "STDDEV",
    "VAR_POP",
    "VAR_SAMP",
    "VARIANCE",
    "JSON_OBJECTAGG",
    "JSON_ARRAYAGG",
    "RANK",
    "DENSE_RANK",
    "ROW_NUMBER",
    "APPROX_COUNT_DISTINCT",
    "PERCENTILE",
];
/// Starts the names of columns that stand for something until grouping puts them in; no SQL text can hold it.
pub(crate) const PLACEHOLDER: char = '\u{1}';

pub(crate) fn is_aggregate(name: &str) -> bool {
    NAMES.contains(&name) || REFUSED.contains(&name)
}

/// The aggregate calls of one SELECT, each once.
#[derive(Debug, Default)]
pub(crate) struct Aggregates {
    pub(crate) calls: Vec<Pending>,
    /// The windows that auxiliary functions name: they must be the grouped one.
    pub(crate) windows: Vec<(Window, String, Span)>,
}

/// A call whose argument is not a column yet.
#[derive(Debug, PartialEq)]
pub(crate) struct Pending {
    pub(crate) function: AggregateFunction,
    pub(crate) distinct: bool,
    pub(crate) argument: Option<(Expr, DataType)>,
    pub(crate) filter: Option<Expr>,
    pub(crate) result: DataType,
}

/// A grouping expression and the name of its column.
pub(crate) struct Key {
    pub(crate) value: Typed,
    pub(crate) name: String,
}

/// Binds an aggregate call to a placeholder column.
pub(crate) fn bind(binder: &mut Binder<'_>, name: &str, function: &Function) -> Result<Typed> {
    let span = function.name.span();
    if REFUSED.contains(&name) {
        return fail_hint(span, format!("aggregate function {name} is not supported"), "there are COUNT, SUM, MIN, MAX and AVG");
    }
    let scope = binder.scope;
    let Some(aggregates) = binder.aggregates.as_deref_mut() else {
        let hint = if binder.clause == "WHERE" { "use HAVING, or a subquery in FROM" } else { "use a subquery in FROM" };
        return fail_hint(span, format!("aggregate function {name} is not allowed in {}", binder.clause), hint);
    };
    if !function.within_group.is_empty() || function.null_treatment.is_some() {
        return fail(span, format!("WITHIN GROUP and IGNORE NULLS do not apply to {name}"));
    }
    let mut inner = Binder::new(scope, "the argument of an aggregate");
    let filter = function.filter.as_deref().map(|filter| inner.condition(filter)).transpose()?;
    let (distinct, argument) = argument(function, span)?;
    let argument = match argument {
        Some(ast) => {
            let value = inner.bind(ast)?;
            // COUNT(1) counts rows.
            (value.value().is_none_or(ScalarValue::is_null) || name != "COUNT").then_some((value, ast.span()))
        }
        None if name == "COUNT" => None,
        None => return fail(span, format!("{name}(*) is not supported")),
    };
    let (kind, result) = kind(name, argument.as_ref().map(|(value, span)| (&value.ty, *span)))?;
    let distinct = distinct && !matches!(kind, AggregateFunction::Min | AggregateFunction::Max);
    let argument = argument.map(|(value, _)| (value.expr, value.ty));
    let pending = Pending { function: kind, distinct, argument, filter, result: result.clone() };
    let index = aggregates.calls.iter().position(|call| *call == pending).unwrap_or_else(|| {
        aggregates.calls.push(pending);
        aggregates.calls.len() - 1
    });
    Ok(Typed::new(rel::column(format!("{PLACEHOLDER}{index}")), result))
}

fn argument(function: &Function, span: Span) -> Result<(bool, Option<&Ast>)> {
    let FunctionArguments::List(list) = &function.args else { return fail(span, "an aggregate needs an argument") };
    let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] if !distinct => Ok((false, None)),
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] if list.clauses.is_empty() => Ok((distinct, Some(expr))),
        _ => fail(span, format!("{} takes one argument", function.name)),
    }
}

/// The function and its result type.
fn kind(name: &str, argument: Option<(&DataType, Span)>) -> Result<(AggregateFunction, DataType)> {
    let Some((ty, span)) = argument else { return Ok((AggregateFunction::Count, DataType::Int64)) };
    let wrong = || fail(span, format!("{name} does not take {}", types::name(ty)));
    Ok(match name {
        "COUNT" if types::is_groupable(ty) && *ty != DataType::Null => (AggregateFunction::Count, DataType::Int64),
        "SUM" | "AVG" if !types::is_number(ty) => return wrong(),
        "SUM" => match ty {
            DataType::Decimal128(_, scale) => (AggregateFunction::Sum, DataType::Decimal128(types::MAX_DECIMAL_PRECISION, *scale)),
            _ => (AggregateFunction::Sum, ty.clone()),
        },
        "AVG" => match ty {
            DataType::Decimal128(_, scale) => (AggregateFunction::Avg, DataType::Decimal128(types::MAX_DECIMAL_PRECISION, (*scale).max(6))),
            _ => (AggregateFunction::Avg, ty.clone()),
        },
        "MIN" | "MAX" if types::is_groupable(ty) && !matches!(ty, DataType::Null | DataType::Binary | DataType::Boolean) => {
            (if name == "MIN" { AggregateFunction::Min } else { AggregateFunction::Max }, ty.clone())
        }
        _ => return wrong(),
    })
}

/// What a grouped query is made of.
pub(crate) struct Grouping {
    pub(crate) input: Arc<Rel>,
    pub(crate) filter: Option<Expr>,
    pub(crate) keys: Vec<Key>,
    pub(crate) calls: Vec<(Pending, String)>,
    /// `GROUP BY TUMBLE(time, …)`: the window and the column of event time.
    pub(crate) window: Option<(Window, String)>,
    pub(crate) span: Span,
}

/// The aggregated relation, and how expressions over the input find its columns.
pub(crate) struct Grouped {
    pub(crate) rel: Arc<Rel>,
    keys: Vec<(Expr, Expr)>,
    calls: Vec<String>,
    bounds: Option<[Expr; 3]>,
}

/// How the rows of a grouping belong to windows.
enum Windowing {
    None,
    /// By an event-time column of `input`.
    Time {
        input: Arc<Rel>,
        window: Window,
        time: Expr,
    },
    /// The input carries bounds: rows of one window meet again by their end.
    Attached {
        window: Window,
        end: Expr,
    },
}

/// Plans a grouping.
pub(crate) fn group(grouping: Grouping) -> Result<Grouped> {
    let span = grouping.span;
    let bounds: Vec<(usize, Bound, Window)> = grouping
        .keys
        .iter()
        .enumerate()
        .filter_map(|(index, key)| window_role(&grouping.input, &key.value.expr).map(|(bound, window)| (index, bound, window)))
        .collect();
    let end = bounds.iter().find(|(_, bound, _)| *bound == Bound::End);
    let start = bounds.iter().find(|(_, bound, _)| *bound == Bound::Start);
    let windowing = match (&grouping.window, start, end) {
        (Some((window, time)), ..) => Windowing::Time { input: Arc::clone(&grouping.input), window: *window, time: rel::column(time) },
        (None, Some((_, _, a)), Some((key, _, b))) if a == b => windowed(&grouping, *b, &grouping.keys[*key].value.expr),
        _ => Windowing::None,
    };
    if !matches!(windowing, Windowing::None) && grouping.input.changelog {
        return fail_hint(span, window::OVER_CHANGES, window::OVER_CHANGES_HINT);
    }
    let windowed = matches!(windowing, Windowing::Time { .. } | Windowing::Attached { .. });
    let (plain, window_keys): (Vec<_>, Vec<_>) =
        (0..grouping.keys.len()).partition(|i| !windowed || !bounds.iter().any(|(key, ..)| key == i));
    let (before, keys, time, calls) = prepare(&grouping, &windowing, &plain)?;
    let mut columns: Vec<Column> =
        keys.iter().filter_map(|key| before.column(key)).map(|column| Column { role: Role::Plain, ..column.clone() }).collect();
    columns.extend(calls.iter().map(|call| Column { name: call.name.clone(), ty: call.result_type.clone(), role: Role::Plain }));
    let key_names = keys.clone();
    let identity = plain.iter().map(|key| crate::show::expr(&grouping.keys[*key].value.expr)).collect();
    let call_names = calls.iter().map(|call| call.name.clone()).collect();
    let rel = match (&windowing, time) {
        (Windowing::None, _) => Rel::new(Op::GroupAggregate { input: before, keys, identity, calls }, columns),
        (Windowing::Time { window, .. } | Windowing::Attached { window, .. }, time) => {
            let time = time.unwrap_or_default();
            let shape = match windowing {
                Windowing::Attached { .. } => window::attached(*window),
                _ => *window,
            };
            let ty = before.column(&time).map_or(DataType::Null, |column| column.ty.clone());
            columns.extend(rel::bounds(*window, &ty, &columns));
            Rel::new(Op::WindowAggregate { input: before, window: shape, time, keys, identity, calls }, columns)
        }
    };
    let rel = match windowing {
        Windowing::Attached { window, .. } => restore_start(rel, window)?,
        _ => rel,
    };
    let mut replaced: Vec<(Expr, Expr)> =
        plain.iter().zip(&key_names).map(|(key, name)| (grouping.keys[*key].value.expr.clone(), rel::column(name))).collect();
    let bound = |bound: Bound| {
        let found = rel.columns.iter().rev().find(|column| matches!(column.role, Role::Window(b, _) if b == bound));
        found.map(|column| rel::column(&column.name)).unwrap_or_else(|| rel::column(""))
    };
    for key in window_keys {
        if let Some((_, kind, _)) = bounds.iter().find(|(index, ..)| *index == key) {
            replaced.push((grouping.keys[key].value.expr.clone(), bound(*kind)));
        }
    }
    let bounds = windowed.then(|| [bound(Bound::Start), bound(Bound::End), bound(Bound::Time)]);
    Ok(Grouped { rel, keys: replaced, calls: call_names, bounds })
}

fn window_role(input: &Rel, expr: &Expr) -> Option<(Bound, Window)> {
    let Expr::Column(column) = expr else { return None };
    match input.column(&column.name)?.role {
        Role::Window(bound, window) => Some((bound, window)),
        _ => None,
    }
}

/// Rows that a window table function duplicates are better counted once a slice: looks below the function.
fn windowed(grouping: &Grouping, window: Window, end: &Expr) -> Windowing {
    let attached = || Windowing::Attached { window, end: end.clone() };
    let mut used = Vec::new();
    let keys = grouping.keys.iter().map(|key| &key.value.expr).filter(|key| window_role(&grouping.input, key).is_none());
    let calls = grouping.calls.iter().flat_map(|(call, _)| call.argument.iter().map(|(expr, _)| expr).chain(&call.filter));
    for expr in keys.chain(calls).chain(&grouping.filter) {
        rel::used_columns(expr, &mut used);
    }
    let on_bounds = |name: &&str| grouping.input.column(name).is_some_and(|column| matches!(column.role, Role::Window(..)));
    if used.iter().any(on_bounds) {
        return attached();
    }
    match window::without_assign(&grouping.input) {
        Some((input, time)) => Windowing::Time { input, window, time: rel::column(time) },
        None => attached(),
    }
}

type Prepared = (Arc<Rel>, Vec<String>, Option<String>, Vec<Call>);

/// The Calc below an aggregate: keys, time, arguments and filters as columns.
fn prepare(grouping: &Grouping, windowing: &Windowing, plain: &[usize]) -> Result<Prepared> {
    let mut items: Vec<(String, Typed)> = Vec::new();
    let mut add = |name: &str, value: Typed| -> String {
        if let Some((name, _)) = items.iter().find(|(_, other)| other.expr == value.expr) {
            return name.clone();
        }
        let taken: Vec<String> = items.iter().map(|(name, _)| name.clone()).collect();
        let name = unique(name, &taken);
        items.push((name.clone(), value));
        name
    };
    let mut keys = Vec::new();
    for key in plain.iter().map(|index| &grouping.keys[*index]) {
        let name = add(&key.name, key.value.clone());
        if !keys.contains(&name) {
            keys.push(name);
        }
    }
    let time = match windowing {
        Windowing::None => None,
        Windowing::Time { input, time, .. } => {
            let ty = match time {
                Expr::Column(column) => input.column(&column.name).map(|column| column.ty.clone()),
                _ => None,
            };
            Some(add("rowtime", Typed::new(time.clone(), ty.unwrap_or(DataType::Null))))
        }
        Windowing::Attached { end, .. } => {
            let end = Typed::new(end.clone(), DataType::Timestamp(TimeUnit::Millisecond, None));
            Some(add("rowtime", time::shift(end, -1, 0)))
        }
    };
    let mut calls = Vec::new();
    for (call, name) in &grouping.calls {
        let argument = call.argument.as_ref().map(|(expr, ty)| add(&plain_name(expr, "arg"), Typed::new(expr.clone(), ty.clone())));
        let filter = call.filter.as_ref().map(|expr| add(&plain_name(expr, "filter"), Typed::bool(expr.clone())));
        let taken: Vec<String> = keys.iter().cloned().chain(calls.iter().map(|call: &Call| call.name.clone())).collect();
        calls.push(Call {
            function: call.function,
            distinct: call.distinct,
            argument,
            filter,
            argument_type: call.argument.as_ref().map_or(DataType::Null, |(_, ty)| ty.clone()),
            result_type: call.result.clone(),
            name: unique(name, &taken),
            title: crate::show::call(call),
        });
    }
    let input = match windowing {
        Windowing::Time { input, .. } => input,
        _ => &grouping.input,
    };
    if keys.len() > MAX_KEY_COLUMNS {
        return fail(grouping.span, format!("GROUP BY {} columns; the limit is {MAX_KEY_COLUMNS}", keys.len()));
    }
    // What the operators cannot do is found here, not when the job starts.
    let trial: Vec<AggregateCall> = calls.iter().map(|call| call.bind(|name| items.iter().position(|(item, _)| item == name))).collect();
    partial_fields(&trial).map_err(|error| Fault::new(grouping.span, error.message))?;
    for key in plain.iter().map(|index| &grouping.keys[*index].value) {
        if !types::is_groupable(&key.ty) || key.ty == DataType::Null {
            return fail(grouping.span, format!("cannot group by a value of type {}", types::name(&key.ty)));
        }
    }
    Ok((calc(Arc::clone(input), grouping.filter.clone(), items, grouping.span)?, keys, time, calls))
}

fn plain_name(expr: &Expr, otherwise: &str) -> String {
    match expr {
        Expr::Column(column) => column.name.clone(),
        _ => otherwise.into(),
    }
}

/// An attached window's end is right; its start follows from it.
fn restore_start(rel: Arc<Rel>, window: Window) -> Result<Arc<Rel>> {
    let end = rel.columns.iter().find(|column| matches!(column.role, Role::Window(Bound::End, _))).map(|column| column.name.clone());
    let end = Typed::new(rel::column(end.unwrap_or_default()), DataType::Timestamp(TimeUnit::Millisecond, None));
    let items = rel.columns.iter().map(|column| {
        let value = match (column.role, window) {
            (Role::Window(Bound::Start, _), Window::Tumble { size, .. } | Window::Hop { size, .. }) => time::shift(end.clone(), -size, 0),
            (Role::Window(Bound::Start, _), Window::Cumulate { max, offset, .. }) => time::cumulate_start(end.clone(), max, offset),
            _ => Typed::new(rel::column(&column.name), column.ty.clone()),
        };
        (column.name.clone(), value)
    });
    let roles: Vec<Role> = rel.columns.iter().map(|column| column.role).collect();
    let calc = calc(Arc::clone(&rel), None, items.collect(), Span::empty())?;
    let columns = calc.columns.iter().zip(roles).map(|(column, role)| Column { role, ..column.clone() }).collect();
    Ok(match &calc.op {
        Op::Calc { input, filter, project } => {
            let op = Op::Calc { input: Arc::clone(input), filter: filter.clone(), project: project.clone() };
            Rel::new(op, columns)
        }
        _ => calc,
    })
}

impl Grouped {
    /// Puts the output's columns where an expression over the input has keys, aggregates and bounds.
    pub(crate) fn rewrite(&self, value: Typed) -> Result<Typed> {
        let mut fault: Option<Fault> = None;
        let rewritten = value.expr.transform_down(|node| {
            if let Some((_, column)) = self.keys.iter().find(|(key, _)| *key == node) {
                return Ok::<_, DataFusionError>(Transformed::new(column.clone(), true, TreeNodeRecursion::Jump));
            }
            let Expr::Column(column) = &node else { return Ok(Transformed::no(node)) };
            match self.placeholder(&column.name) {
                Some(found) => return Ok(Transformed::new(found, true, TreeNodeRecursion::Jump)),
                None => {
                    let name = column.name.trim_start_matches(PLACEHOLDER);
                    let message = format!("column \"{name}\" is neither grouped by nor inside an aggregate");
                    fault.get_or_insert(Fault::new(span_of(column), message).hint("add it to GROUP BY, or use MIN or MAX"));
                }
            }
            Ok(Transformed::no(node))
        });
        match (fault, rewritten) {
            (None, Ok(rewritten)) => Ok(Typed::new(rewritten.data, value.ty)),
            (Some(fault), _) => Err(fault.into()),
            (None, Err(error)) => fail(Span::empty(), error.strip_backtrace()),
        }
    }

    fn placeholder(&self, name: &str) -> Option<Expr> {
        let name = name.strip_prefix(PLACEHOLDER)?;
        if let Ok(index) = name.parse::<usize>() {
            return self.calls.get(index).map(rel::column);
        }
        let [start, end, time] = self.bounds.as_ref()?;
        Some(match name {
            "start" => start.clone(),
            "end" => end.clone(),
            "time" => time.clone(),
            _ => return None,
        })
    }
}

/// Where a column was named in the text.
pub(crate) fn span_of(column: &datafusion_common::Column) -> Span {
    let location = |line, column| Location { line, column };
    column.spans.first().map_or(Span::empty(), |span| Span {
        start: location(span.start.line, span.start.column),
        end: location(span.end.line, span.end.column),
    })
}
