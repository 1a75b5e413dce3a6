//! [pure] Common subexpressions: what a Calc would compute twice is computed once, by a Calc below it.
//!
//! Only expressions that cannot fail move, because moving one takes it out of the CASE or behind the filter that may
//! have guarded it. Conditions that do not need a moved expression go below with it, so that it is computed for the
//! rows that pass them.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_expr::utils::{conjunction, split_conjunction};
use datafusion_expr::{Expr, ExprSchemable, Operator};

use crate::functions::choice::is_at_hand;
use crate::functions::row;
use crate::rel::{Column, Op, Rel, Role, column, unique, used_columns};

/// Native functions that fail on some values.
const FALLIBLE: [&str; 3] = ["divide", "modulo", "not_null"];

/// Splits every Calc that would compute something twice.
pub(super) fn share(rel: &Arc<Rel>) -> Arc<Rel> {
    match &rel.op {
        Op::Scan(_) => Arc::clone(rel),
        Op::Calc { input, filter, project } => {
            let input = share(input);
            split(&input, filter.as_ref(), project, rel).unwrap_or_else(|| super::with_input(rel, input))
        }
        Op::WindowAssign { input, .. }
        | Op::WindowAggregate { input, .. }
        | Op::GroupAggregate { input, .. }
        | Op::Lookup { input, .. } => super::with_input(rel, share(input)),
        Op::Union { inputs } => Rel::new(Op::Union { inputs: inputs.iter().map(share).collect() }, rel.columns.clone()),
    }
}

/// Whether an expression is worth a column of its own.
fn is_costly(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(_) => !is_at_hand(expr),
        Expr::Like(_) | Expr::Case(_) => true,
        _ => false,
    }
}

fn cannot_fail(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::ScalarFunction(function) => !FALLIBLE.contains(&function.func.name()) && function.args.iter().all(cannot_fail),
        Expr::BinaryExpr(binary) => {
            !matches!(binary.op, Operator::Divide | Operator::Modulo) && cannot_fail(&binary.left) && cannot_fail(&binary.right)
        }
        Expr::Like(like) => cannot_fail(&like.expr) && cannot_fail(&like.pattern),
        Expr::Not(inner) | Expr::IsNull(inner) | Expr::IsNotNull(inner) => cannot_fail(inner),
        _ => false,
    }
}

/// Costly expressions that occur more than once, outermost first.
fn repeated(exprs: &[&Expr]) -> Vec<Expr> {
    let mut seen: Vec<(&Expr, usize)> = Vec::new();
    for expr in exprs {
        let visited = expr.apply(|node| {
            if is_costly(node) && cannot_fail(node) {
                match seen.iter_mut().find(|(other, _)| *other == node) {
                    // Its parts are the same as the first time.
                    Some((_, count)) => {
                        *count += 1;
                        return Ok(TreeNodeRecursion::Jump);
                    }
                    None => seen.push((node, 1)),
                }
            }
            Ok(TreeNodeRecursion::Continue)
        });
        debug_assert!(visited.is_ok(), "the visitor does not fail");
    }
    seen.into_iter().filter(|(_, count)| *count > 1).map(|(expr, _)| expr.clone()).collect()
}

/// The columns of the lower Calc, found by the expression that makes them.
struct Shared<'a> {
    input: &'a Rel,
    repeated: Vec<Expr>,
    made: Vec<(Expr, Column)>,
}

impl Shared<'_> {
    /// The column of an expression; made when it is the first time.
    fn column(&mut self, expr: &Expr, name: &str, ty: DataType) -> Expr {
        if let Some((_, made)) = self.made.iter().find(|(other, _)| other == expr) {
            return column(&made.name);
        }
        let taken: Vec<String> = self.made.iter().map(|(_, made)| made.name.clone()).collect();
        let name = unique(name, &taken);
        let role = match expr {
            Expr::Column(passed) => self.input.column(&passed.name).map_or(Role::Plain, |column| column.role),
            _ => Role::Plain,
        };
        self.made.push((expr.clone(), Column { name: name.clone(), ty, role }));
        column(name)
    }

    /// The expression over the lower Calc.
    fn rewrite(&mut self, expr: &Expr) -> Option<Expr> {
        let schema = self.input.df_schema().ok()?;
        let rewritten = expr.clone().transform_down(|node| {
            let name = match &node {
                node if self.repeated.contains(node) => "shared".to_string(),
                Expr::Column(column) => column.name.clone(),
                node => match row::as_field(node) {
                    Some((Expr::Column(root), path)) => format!("{}.{}", root.name, path.join(".")),
                    _ => return Ok(Transformed::no(node.clone())),
                },
            };
            let ty = node.get_type(&schema)?;
            Ok(Transformed::new(self.column(&node, &name, ty), true, TreeNodeRecursion::Jump))
        });
        rewritten.ok().map(|rewritten| rewritten.data)
    }
}

fn split(input: &Arc<Rel>, filter: Option<&Expr>, project: &[Expr], rel: &Rel) -> Option<Arc<Rel>> {
    let all: Vec<&Expr> = project.iter().chain(filter).collect();
    let repeated = repeated(&all);
    if repeated.is_empty() {
        return None;
    }
    let needs = |expr: &Expr| {
        let found = expr.exists(|node| Ok(repeated.contains(node)));
        found.unwrap_or(true)
    };
    let conditions: Vec<&Expr> = filter.map(split_conjunction).unwrap_or_default();
    let (above, below): (Vec<&Expr>, Vec<&Expr>) = conditions.into_iter().partition(|condition| needs(condition));
    let below = conjunction(below.into_iter().cloned());
    let mut shared = Shared { input, repeated, made: Vec::new() };
    let above = above.into_iter().map(|condition| shared.rewrite(condition)).collect::<Option<Vec<_>>>()?;
    let project = project.iter().map(|expr| shared.rewrite(expr)).collect::<Option<Vec<_>>>()?;
    let (exprs, columns) = shared.made.into_iter().unzip();
    let lower = Rel::new(Op::Calc { input: Arc::clone(input), filter: below, project: exprs }, columns);
    debug_assert!(project.iter().chain(&above).all(|expr| reads_only(expr, &lower)), "the upper Calc reads the lower one");
    Some(Rel::new(Op::Calc { input: lower, filter: conjunction(above), project }, rel.columns.clone()))
}

/// The same Calc over one that takes the used fields out of rows, so that its filter copies these and not whole rows.
pub(crate) fn extract(input: &Arc<Rel>, filter: &Expr, project: &[Expr], rel: &Rel) -> Option<Arc<Rel>> {
    let mut fields = Shared { input, repeated: Vec::new(), made: Vec::new() };
    let filter = fields.rewrite(filter)?;
    let project = project.iter().map(|expr| fields.rewrite(expr)).collect::<Option<Vec<_>>>()?;
    let (exprs, columns) = fields.made.into_iter().unzip();
    let lower = Rel::new(Op::Calc { input: Arc::clone(input), filter: None, project: exprs }, columns);
    Some(Rel::new(Op::Calc { input: lower, filter: Some(filter), project }, rel.columns.clone()))
}

fn reads_only(expr: &Expr, rel: &Rel) -> bool {
    let mut used = Vec::new();
    used_columns(expr, &mut used);
    used.into_iter().all(|name| rel.column(name).is_some())
}
