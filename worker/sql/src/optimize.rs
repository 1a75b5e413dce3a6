//! [pure] Rules over the relational plan: columns that nobody uses go, neighbouring Calcs become one.
//!
//! Neither rule moves an expression across an operator that has state, nor touches time or watermarks. A Calc is not
//! merged when that would compute an expression twice, so shared expressions of views are computed once and merging
//! never grows a plan.

pub(crate) mod share;

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion_common::DataFusionError;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_expr::Expr;
use datafusion_expr::sqlparser::tokenizer::Span;

use crate::bind::select::Simplifier;
use crate::functions::{choice, row};
use crate::rel::{Call, Op, Rel, column, used_columns};

/// Height of an expression that merging may build, at most: later steps recurse over it.
const MAX_EXPR_HEIGHT: usize = 200;

type Names = BTreeSet<String>;

/// Removes what does not reach the output, merges, then takes out what is computed twice.
pub(crate) fn optimize(rel: &Arc<Rel>) -> Arc<Rel> {
    let all = rel.columns.iter().map(|column| column.name.clone()).collect();
    share::share(&merge(&prune(rel, &all)))
}

fn add_used(expr: &Expr, names: &mut Names) {
    let mut used = Vec::new();
    used_columns(expr, &mut used);
    names.extend(used.into_iter().map(String::from));
}

/// The relation with at least the columns in `required`.
fn prune(rel: &Arc<Rel>, required: &Names) -> Arc<Rel> {
    match &rel.op {
        Op::Scan(_) => Arc::clone(rel),
        Op::Calc { input, filter, project } => {
            let kept = || project.iter().zip(&rel.columns).filter(|(_, column)| required.contains(&column.name));
            let mut below = Names::new();
            kept().map(|(expr, _)| expr).chain(filter).for_each(|expr| add_used(expr, &mut below));
            let (project, columns) = kept().map(|(expr, column)| (expr.clone(), column.clone())).unzip();
            Rel::new(Op::Calc { input: prune(input, &below), filter: filter.clone(), project }, columns)
        }
        Op::WindowAssign { input, window, time } => {
            let mut below: Names = required.clone();
            below.insert(time.clone());
            below.retain(|name| input.column(name).is_some());
            let input = exactly(prune(input, &below), &below);
            let bounds = rel.columns.iter().rev().take(3).rev().cloned();
            let kept = rel.columns.iter().filter(|column| input.column(&column.name).is_some());
            let columns = kept.cloned().chain(bounds).collect();
            Rel::new(Op::WindowAssign { input, window: *window, time: time.clone() }, columns)
        }
        // Aggregates stay even when nobody reads them: an edit of a later projection must not change their state.
        Op::WindowAggregate { input, time, keys, calls, .. } => {
            let below = aggregate_input(keys.iter().chain([time]), calls);
            with_input(rel, exactly(prune(input, &below), &below))
        }
        Op::GroupAggregate { input, keys, calls, .. } => {
            let below = aggregate_input(keys, calls);
            with_input(rel, exactly(prune(input, &below), &below))
        }
        Op::Lookup { input, table, outer, keys, columns } => {
            let mut below: Names = required.iter().filter(|name| input.column(name).is_some()).cloned().collect();
            below.extend(keys.iter().map(|(column, _)| column.clone()));
            let given = &rel.columns[input.columns.len()..];
            let input = exactly(prune(input, &below), &below);
            let kept = columns.iter().zip(given).filter(|(_, column)| required.contains(&column.name));
            let (columns, given): (_, Vec<_>) = kept.map(|(name, column)| (name.clone(), column.clone())).unzip();
            let all = input.columns.iter().cloned().chain(given).collect();
            Rel::new(Op::Lookup { input, table: Arc::clone(table), outer: *outer, keys: keys.clone(), columns }, all)
        }
        Op::Union { inputs } => {
            let inputs = inputs.iter().map(|input| exactly(prune(input, required), required)).collect();
            let columns = rel.columns.iter().filter(|column| required.contains(&column.name)).cloned().collect();
            Rel::new(Op::Union { inputs }, columns)
        }
    }
}

fn aggregate_input<'a>(columns: impl IntoIterator<Item = &'a String>, calls: &[Call]) -> Names {
    let mut names: Names = columns.into_iter().cloned().collect();
    names.extend(calls.iter().flat_map(|call| call.argument.iter().chain(&call.filter).cloned()));
    names
}

/// The same operator over another input with the columns it needs.
pub(super) fn with_input(rel: &Rel, input: Arc<Rel>) -> Arc<Rel> {
    let op = match &rel.op {
        Op::Scan(table) => Op::Scan(Arc::clone(table)),
        Op::Calc { filter, project, .. } => Op::Calc { input, filter: filter.clone(), project: project.clone() },
        Op::WindowAssign { window, time, .. } => Op::WindowAssign { input, window: *window, time: time.clone() },
        Op::WindowAggregate { window, time, keys, identity, calls, .. } => Op::WindowAggregate {
            input,
            window: *window,
            time: time.clone(),
            keys: keys.clone(),
            identity: identity.clone(),
            calls: calls.clone(),
        },
        Op::GroupAggregate { keys, identity, calls, .. } => {
            Op::GroupAggregate { input, keys: keys.clone(), identity: identity.clone(), calls: calls.clone() }
        }
        Op::Lookup { table, outer, keys, columns, .. } => {
            Op::Lookup { input, table: Arc::clone(table), outer: *outer, keys: keys.clone(), columns: columns.clone() }
        }
        Op::Union { .. } => Op::Union { inputs: vec![input] },
    };
    Rel::new(op, rel.columns.clone())
}

/// Drops columns beyond `required`.
fn exactly(rel: Arc<Rel>, required: &Names) -> Arc<Rel> {
    if rel.columns.iter().all(|column| required.contains(&column.name)) {
        return rel;
    }
    let columns: Vec<_> = rel.columns.iter().filter(|column| required.contains(&column.name)).cloned().collect();
    let project = columns.iter().map(|kept| column(&kept.name)).collect();
    Rel::new(Op::Calc { input: rel, filter: None, project }, columns)
}

/// Merges Calcs bottom-up.
fn merge(rel: &Arc<Rel>) -> Arc<Rel> {
    match &rel.op {
        Op::Scan(_) => Arc::clone(rel),
        Op::Calc { input, filter, project } => {
            let input = merge(input);
            if let Op::Calc { input: below, filter: first, project: inner } = &input.op
                && let Some((filter, project)) = merged(&input, inner, first.as_ref(), filter.as_ref(), project)
            {
                let filter = filter.and_then(|filter| simplified(below, vec![filter]).pop());
                let project = simplified(below, project);
                return drop_identity(Rel::new(Op::Calc { input: Arc::clone(below), filter, project }, rel.columns.clone()));
            }
            drop_identity(with_input(rel, input))
        }
        Op::WindowAssign { input, .. }
        | Op::WindowAggregate { input, .. }
        | Op::GroupAggregate { input, .. }
        | Op::Lookup { input, .. } => with_input(rel, merge(input)),
        Op::Union { inputs } => Rel::new(Op::Union { inputs: inputs.iter().map(merge).collect() }, rel.columns.clone()),
    }
}

/// A Calc that changes nothing is none. Scans keep theirs: other queries may need more of the source.
fn drop_identity(rel: Arc<Rel>) -> Arc<Rel> {
    match &rel.op {
        Op::Calc { input, filter: None, project }
            if !matches!(input.op, Op::Scan(_))
                && input.columns.len() == rel.columns.len()
                && project.iter().zip(&rel.columns).zip(&input.columns).all(|((expr, out), column)| {
                    out.name == column.name && matches!(expr, Expr::Column(reference) if reference.name == column.name)
                }) =>
        {
            Arc::clone(input)
        }
        _ => rel,
    }
}

type Merged = (Option<Expr>, Vec<Expr>);

/// The upper Calc over the lower one's input, unless an expression would be computed twice or grow too high.
fn merged(lower: &Rel, inner: &[Expr], first: Option<&Expr>, filter: Option<&Expr>, project: &[Expr]) -> Option<Merged> {
    let find = |name: &str| lower.columns.iter().position(|column| column.name == name).and_then(|index| inner.get(index));
    let mut used = Vec::new();
    project.iter().chain(filter).for_each(|expr| used_columns(expr, &mut used));
    let twice = |(place, name): (usize, &&str)| used[..place].contains(name) && find(name).is_none_or(|expr| !choice::is_at_hand(expr));
    if used.iter().enumerate().any(twice) {
        return None;
    }
    let replace = |expr: &Expr| -> Option<Expr> {
        let replaced = expr.clone().transform_up(|node| match &node {
            Expr::Column(reference) => match find(&reference.name) {
                Some(expr) => Ok(Transformed::yes(expr.clone())),
                None => Err(DataFusionError::Internal(format!("no column {}", reference.name))),
            },
            _ => match flattened(&node) {
                Some(path) => Ok(Transformed::yes(path)),
                None => Ok(Transformed::no(node)),
            },
        });
        replaced.ok().map(|replaced| replaced.data).filter(|expr| height(expr) <= MAX_EXPR_HEIGHT)
    };
    let project = project.iter().map(replace).collect::<Option<Vec<_>>>()?;
    let filter = match (first.cloned(), filter.map(replace)) {
        (first, None) => first,
        (None, Some(second)) => Some(second?),
        (Some(first), Some(second)) => Some(first.and(second?)),
    };
    if filter.as_ref().is_some_and(|filter| height(filter) > MAX_EXPR_HEIGHT) {
        return None;
    }
    Some((filter, project))
}

/// Constants that met through merging fold.
fn simplified(input: &Rel, exprs: Vec<Expr>) -> Vec<Expr> {
    let Ok(simplifier) = Simplifier::new(input, Span::empty()) else { return exprs };
    // What fails stays, and fails on a row if one comes.
    exprs.into_iter().map(|expr| simplifier.simplify(expr.clone()).unwrap_or(expr)).collect()
}

/// A field of a field becomes one path.
fn flattened(expr: &Expr) -> Option<Expr> {
    let (outer, rest) = row::as_field(expr)?;
    let (root, path) = row::as_field(outer)?;
    let Expr::ScalarFunction(function) = expr else { return None };
    let path: Vec<String> = path.into_iter().chain(rest).map(String::from).collect();
    let ty = function.func.return_type(&[]).ok()?;
    Some(row::field(root.clone(), &path, ty).expr)
}

fn height(expr: &Expr) -> usize {
    let mut children = Vec::new();
    let visited = expr.apply_children(|child| {
        children.push(height(child));
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "the visitor does not fail");
    1 + children.into_iter().max().unwrap_or(0)
}
