//! [pure] One SELECT: FROM, WHERE, GROUP BY, HAVING, the select list, DISTINCT.

use std::ops::Range;
use std::sync::Arc;

use datafusion_expr::Expr;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::sqlparser::{
    ast::{Distinct, Expr as Ast, GroupByExpr, Ident, Select, SelectItem, SelectItemQualifiedWildcardKind, Spanned, Value},
    tokenizer::Span,
};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use rheos_dataflow::graph::Window;

use crate::bind::aggregate::{self, Aggregates, Grouped, Grouping, Key};
use crate::bind::expr::Binder;
use crate::bind::query::Queries;
use crate::bind::scope::Scope;
use crate::bind::{join, window};
use crate::coerce::Typed;
use crate::error::{Fault, Faults, Result, collect, fail, fail_hint};
use crate::limits::MAX_COLUMNS;
use crate::rel::{self, Column, Op, Rel, Role, unique};
use crate::types;

/// An item of the select list.
struct Item {
    name: String,
    value: Typed,
    span: Span,
}

/// Binds a SELECT.
pub(crate) fn select(queries: &mut Queries<'_>, select: &Select) -> Result<Arc<Rel>> {
    let span = select.select_token.0.span;
    refuse(select, span)?;
    let scope = queries.from(&select.from, span)?;
    let filter = select.selection.as_ref().map(|filter| Binder::new(&scope, "WHERE").condition(filter));
    let mut aggregates = Aggregates::default();
    let items = items(&scope, &mut aggregates, &select.projection);
    let having = select.having.as_ref().map(|having| {
        let mut binder = Binder { scope: &scope, aggregates: Some(&mut aggregates), clause: "HAVING" };
        Ok((Typed::bool(binder.condition(having)?), having.span()))
    });
    let keys = keys(&scope, &select.group_by, &select.projection);
    // The parts are independent: report the faults of all.
    let (filter, items, having, keys) = all(filter.transpose(), items, having.transpose(), keys)?;
    let (keys, group_window) = keys;
    let grouped = !keys.is_empty() || group_window.is_some() || !aggregates.calls.is_empty() || having.is_some();
    let rel = if grouped {
        grouped_select(&scope, filter, items, having, keys, group_window, aggregates, span)?
    } else {
        let rel = Arc::clone(&scope.rel);
        calc(rel, filter, items.into_iter().map(|item| (item.name, item.value)).collect(), span)?
    };
    match &select.distinct {
        None | Some(Distinct::All) => Ok(rel),
        Some(Distinct::Distinct) => distinct(rel, span),
        Some(Distinct::On(_)) => fail(span, "DISTINCT ON is not supported"),
    }
}

/// Collects the faults of independent parts.
fn all<A, B, C, D>(a: Result<A>, b: Result<B>, c: Result<C>, d: Result<D>) -> Result<(A, B, C, D)> {
    match (a, b, c, d) {
        (Ok(a), Ok(b), Ok(c), Ok(d)) => Ok((a, b, c, d)),
        (a, b, c, d) => Err(Faults([a.err(), b.err(), c.err(), d.err()].into_iter().flatten().flat_map(|faults| faults.0).collect())),
    }
}

fn refuse(select: &Select, span: Span) -> Result<()> {
    let refused = [
        (select.top.is_some(), "TOP"),
        (select.into.is_some(), "SELECT INTO"),
        (!select.lateral_views.is_empty(), "LATERAL VIEW"),
        (select.prewhere.is_some(), "PREWHERE"),
        (!select.connect_by.is_empty(), "CONNECT BY"),
        (!select.cluster_by.is_empty() || !select.distribute_by.is_empty() || !select.sort_by.is_empty(), "CLUSTER BY"),
        (!select.named_window.is_empty(), "WINDOW"),
        (select.qualify.is_some(), "QUALIFY"),
        (select.value_table_mode.is_some(), "SELECT AS"),
        (select.exclude.is_some(), "EXCLUDE"),
    ];
    match refused.iter().find(|(found, _)| *found) {
        Some((_, name)) => fail(span, format!("{name} is not supported")),
        None => Ok(()),
    }
}

fn items(scope: &Scope, aggregates: &mut Aggregates, projection: &[SelectItem]) -> Result<Vec<Item>> {
    let mut results: Vec<Result<Item>> = Vec::new();
    for (index, item) in projection.iter().enumerate() {
        let mut binder = Binder { scope, aggregates: Some(aggregates), clause: "SELECT" };
        match item {
            SelectItem::UnnamedExpr(ast) => {
                let name = implied_name(ast).unwrap_or_else(|| format!("EXPR${index}"));
                results.push(binder.bind(ast).map(|value| Item { name, value, span: ast.span() }));
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                results.push(binder.bind(expr).map(|value| Item { name: alias.value.clone(), value, span: expr.span() }));
            }
            SelectItem::Wildcard(options) => results.extend(star(scope, 0..scope.names.len(), options.wildcard_token.0.span)),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => match name.0.as_slice() {
                [part] => match part.as_ident().and_then(|ident| scope.part(&ident.value)) {
                    Some(columns) => results.extend(star(scope, columns, name.span())),
                    None => results.extend(row_star(scope, part.as_ident(), name.span())),
                },
                _ => results.push(fail(name.span(), format!("unknown table {name}"))),
            },
            other => results.push(fail(other.span(), format!("{other} is not supported in SELECT"))),
        }
    }
    let items = collect(results)?;
    if let Some(item) = items.get(MAX_COLUMNS) {
        return fail(item.span, format!("a query has at most {MAX_COLUMNS} columns"));
    }
    Ok(items)
}

fn star(scope: &Scope, columns: Range<usize>, span: Span) -> Vec<Result<Item>> {
    let all = scope.names[columns.clone()].iter().zip(&scope.rel.columns[columns]);
    all.map(|(name, column)| Ok(Item { name: name.clone(), value: Typed::new(rel::column(&column.name), column.ty.clone()), span }))
        .collect()
}

/// `row.*`: the fields of a ROW column.
fn row_star(scope: &Scope, name: Option<&Ident>, span: Span) -> Vec<Result<Item>> {
    let fields = name.map(|name| scope.resolve(std::slice::from_ref(name)).map(|row| (name, row)));
    match fields {
        Some(Ok((name, row))) => match &row.ty {
            arrow::datatypes::DataType::Struct(fields) => fields
                .iter()
                .map(|field| {
                    let path = [name.clone(), Ident::new(field.name())];
                    Ok(Item { name: field.name().clone(), value: scope.resolve(&path)?, span })
                })
                .collect(),
            other => vec![fail(span, format!("{} has no fields", types::name(other)))],
        },
        Some(Err(faults)) => vec![Err(faults)],
        None => vec![fail(span, "unknown table")],
    }
}

fn implied_name(ast: &Ast) -> Option<String> {
    match ast {
        Ast::Identifier(ident) => Some(ident.value.clone()),
        Ast::CompoundIdentifier(path) => path.last().map(|ident| ident.value.clone()),
        Ast::Nested(inner) => implied_name(inner),
        _ => None,
    }
}

type Keys = (Vec<Key>, Option<(Window, String, Span)>);

fn keys(scope: &Scope, group_by: &GroupByExpr, projection: &[SelectItem]) -> Result<Keys> {
    let asts = match group_by {
        GroupByExpr::Expressions(asts, modifiers) if modifiers.is_empty() => asts,
        other => return fail(other.span(), "GROUP BY ALL and grouping modifiers are not supported"),
    };
    let mut group_window = None;
    let mut keys = Vec::new();
    let mut faults = Vec::new();
    for (index, ast) in asts.iter().enumerate() {
        let mut key = || -> Result<()> {
            if matches!(ast, Ast::GroupingSets(_) | Ast::Cube(_) | Ast::Rollup(_) | Ast::Tuple(_)) {
                return fail_hint(ast.span(), "GROUPING SETS, CUBE and ROLLUP are not supported", "write one INSERT for each grouping");
            }
            if let Ast::Value(value) = ast
                && matches!(value.value, Value::Number(..))
            {
                return fail_hint(value.span, "GROUP BY a position is not supported", "name the column");
            }
            let mut binder = Binder::new(scope, "GROUP BY");
            if let Some((window, time)) = window::group_window(&mut binder, ast)? {
                if group_window.replace((window, time, ast.span())).is_some() {
                    return fail(ast.span(), "a query has one group window");
                }
                return Ok(());
            }
            let value = binder.bind(ast).map_err(|faults| alias_hint(faults, ast, projection))?;
            if value.value().is_none() {
                let name = implied_name(ast).unwrap_or_else(|| alias_of(ast, projection).unwrap_or_else(|| format!("key{index}")));
                keys.push(Key { value, name });
            }
            Ok(())
        };
        if let Err(more) = key() {
            faults.extend(more.0);
        }
    }
    if faults.is_empty() { Ok((keys, group_window)) } else { Err(Faults(faults)) }
}

/// The name that the select list gives to a grouping expression.
fn alias_of(ast: &Ast, projection: &[SelectItem]) -> Option<String> {
    projection.iter().find_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } if expr == ast => Some(alias.value.clone()),
        _ => None,
    })
}

/// Names of the select list cannot be grouped by; people try.
fn alias_hint(mut faults: Faults, ast: &Ast, projection: &[SelectItem]) -> Faults {
    let Ast::Identifier(ident) = ast else { return faults };
    let aliased = projection.iter().find_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } if alias.value == ident.value => Some(expr),
        _ => None,
    });
    if let (Some(expr), Some(fault)) = (aliased, faults.0.first_mut()) {
        fault.hint = Some(format!("GROUP BY does not know names of the select list; repeat the expression: {expr}"));
    }
    faults
}

#[allow(clippy::too_many_arguments)]
fn grouped_select(
    scope: &Scope,
    filter: Option<Expr>,
    items: Vec<Item>,
    having: Option<(Typed, Span)>,
    keys: Vec<Key>,
    group_window: Option<(Window, String, Span)>,
    aggregates: Aggregates,
    span: Span,
) -> Result<Arc<Rel>> {
    for (window, time, at) in &aggregates.windows {
        if group_window.as_ref().is_none_or(|(w, t, _)| (w, t) != (window, time)) {
            return fail_hint(*at, "this window is not the one of GROUP BY", "repeat the window of GROUP BY");
        }
    }
    // An aggregate's column is called as in the select list, where it stands alone there.
    let names: Vec<String> = (0..aggregates.calls.len())
        .map(|index| {
            let placeholder = format!("{}{index}", aggregate::PLACEHOLDER);
            let alone = items.iter().find(|item| matches!(&item.value.expr, Expr::Column(column) if column.name == placeholder));
            alone.map_or_else(|| format!("agg{index}"), |item| item.name.clone())
        })
        .collect();
    let grouped = aggregate::group(Grouping {
        input: Arc::clone(&scope.rel),
        filter,
        keys,
        calls: aggregates.calls.into_iter().zip(names).collect(),
        window: group_window.map(|(window, time, _)| (window, time)),
        span,
    })?;
    let rewrite = |grouped: &Grouped, item: Item| {
        let value = grouped.rewrite(item.value).map_err(|faults| at(faults, item.span))?;
        Ok((item.name, value))
    };
    let items = collect(items.into_iter().map(|item| rewrite(&grouped, item)));
    let having = having.map(|(having, span)| grouped.rewrite(having).map(|having| having.expr).map_err(|faults| at(faults, span)));
    let (items, having, ..) = all(items, having.transpose(), Ok(()), Ok(()))?;
    calc(grouped.rel, having, items, span)
}

/// Gives faults without a place this one.
fn at(mut faults: Faults, span: Span) -> Faults {
    for fault in &mut faults.0 {
        if !crate::error::known(fault.span) {
            fault.span = span;
        }
    }
    faults
}

/// `SELECT DISTINCT`: a grouping by all columns.
pub(crate) fn distinct(rel: Arc<Rel>, span: Span) -> Result<Arc<Rel>> {
    let columns: Vec<(String, Typed)> =
        rel.columns.iter().map(|column| (column.name.clone(), Typed::new(rel::column(&column.name), column.ty.clone()))).collect();
    let keys = columns.iter().map(|(name, value)| Key { value: value.clone(), name: name.clone() }).collect();
    let grouped = aggregate::group(Grouping { input: rel, filter: None, keys, calls: vec![], window: None, span })?;
    let items = columns.into_iter().map(|(name, value)| Ok((name, grouped.rewrite(value)?))).collect::<Result<Vec<_>>>()?;
    calc(grouped.rel, None, items, span)
}

/// A filter and projection with simplified expressions; names that come twice are numbered.
pub(crate) fn calc(input: Arc<Rel>, filter: Option<Expr>, items: Vec<(String, Typed)>, span: Span) -> Result<Arc<Rel>> {
    filter
        .iter()
        .chain(items.iter().map(|(_, value)| &value.expr))
        .try_for_each(|expr| join::refuse_processing_time(&input, expr, span))?;
    let simplifier = Simplifier::new(&input, span)?;
    let filter = filter.map(|filter| simplifier.simplify(filter)).transpose()?;
    let mut names: Vec<String> = Vec::new();
    let mut columns = Vec::new();
    let mut project = Vec::new();
    for (name, value) in items {
        let name = unique(&name, &names);
        names.push(name.clone());
        let role = match &value.expr {
            Expr::Column(column) => input.column(&column.name).map_or(Role::Plain, |column| column.role),
            _ => Role::Plain,
        };
        columns.push(Column { name, ty: value.ty.clone(), role });
        let simple = simplifier.simplify(value.expr)?;
        project.push(simplifier.keep_type(simple, &value.ty));
    }
    // A filter that is always true is none.
    let filter = filter.filter(|filter| *filter != datafusion_expr::lit(true));
    Ok(Rel::new(Op::Calc { input, filter, project }, columns))
}

/// DataFusion's simplifier over the columns of one relation.
pub(crate) struct Simplifier {
    simplifier: ExprSimplifier,
    schema: datafusion_common::DFSchemaRef,
    span: Span,
}

impl Simplifier {
    pub(crate) fn new(input: &Rel, span: Span) -> Result<Self> {
        let schema = Arc::new(input.df_schema().map_err(|error| Fault::new(span, error.strip_backtrace()))?);
        let context = SimplifyContext::builder().with_schema(Arc::clone(&schema)).build();
        Ok(Self { simplifier: ExprSimplifier::new(context), schema, span })
    }

    /// Folds constants and simplifies. A constant that fails is an error of the text.
    pub(crate) fn simplify(&self, expr: Expr) -> Result<Expr> {
        self.simplifier.simplify(expr).map_err(|error| {
            let message = error.strip_backtrace();
            Fault::new(self.span, format!("an expression of this query fails: {message}")).into()
        })
    }

    /// Simplification may find an equal value of another type.
    fn keep_type(&self, expr: Expr, ty: &arrow::datatypes::DataType) -> Expr {
        use datafusion_expr::ExprSchemable;
        match expr.get_type(self.schema.as_ref()) {
            Ok(found) if found != *ty => Typed::new(expr, found).into_type(ty).expr,
            _ => expr,
        }
    }
}
