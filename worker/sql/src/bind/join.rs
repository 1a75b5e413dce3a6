//! [pure] Lookup joins: `JOIN t FOR SYSTEM_TIME AS OF o.proc AS r ON o.k = r.k`, and what is refused around them.
//!
//! Equalities with columns of the looked-up table are what it is asked by. What else an inner join says is a filter above
//! it; of an outer one it would decide whether a row has found something, and is refused.

use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_common::tree_node::TreeNode;
use datafusion_expr::Expr;
use datafusion_expr::sqlparser::{
    ast::{BinaryOperator, Expr as Ast, Ident, Join, JoinConstraint, JoinOperator, Spanned, TableFactor, TableVersion},
    tokenizer::Span,
};
use datafusion_expr::utils::conjunction;

use crate::bind::aggregate::span_of;
use crate::bind::expr::Binder;
use crate::bind::query::{Queries, simple};
use crate::bind::scope::Scope;
use crate::bind::select::calc;
use crate::catalog::{Table, TableColumn};
use crate::coerce::{self, Typed};
use crate::error::{Result, fail, fail_hint};
use crate::rel::{self, Column, Op, Rel, Role, unique, used_columns};
use crate::types::{self, PROCTIME};

/// The joins that there are.
pub(crate) const HINT: &str =
    "there are lookup joins: o JOIN t FOR SYSTEM_TIME AS OF o.proc AS r ON o.k = r.k, with proc AS PROCTIME() in the table of o";

/// A join of another kind.
pub(crate) fn refuse<T>(span: Span) -> Result<T> {
    fail_hint(span, "JOIN is not supported without FOR SYSTEM_TIME AS OF", HINT)
}

/// Binds one join of FROM.
pub(crate) fn join(queries: &Queries<'_>, left: Scope, join: &Join) -> Result<Scope> {
    let TableFactor::Table { name, alias, args: None, version: Some(TableVersion::ForSystemTimeAsOf(time)), .. } = &join.relation else {
        return refuse(join.relation.span());
    };
    let span = name.span();
    let ident = simple(name)?;
    let (outer, on) = match &join.join_operator {
        JoinOperator::Join(JoinConstraint::On(on)) | JoinOperator::Inner(JoinConstraint::On(on)) => (false, on),
        JoinOperator::Left(JoinConstraint::On(on)) | JoinOperator::LeftOuter(JoinConstraint::On(on)) => (true, on),
        _ => {
            return fail_hint(
                span,
                "a lookup join is JOIN … ON or LEFT JOIN … ON",
                "RIGHT, FULL, CROSS and USING are not supported with it",
            );
        }
    };
    let table = queries.table(ident)?;
    can_be_looked_up(&table, ident)?;
    is_processing_time(&left, time)?;
    if left.rel.changelog {
        let hint = "a row that is taken back would be joined with what the table holds then; join first, group afterwards";
        return fail_hint(span, "a lookup join of rows that change is not supported", hint);
    }
    let qualifier = alias.as_ref().map_or(ident, |alias| &alias.name);
    let mut names: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
    if let Some(alias) = alias.as_ref().filter(|alias| !alias.columns.is_empty()) {
        if alias.columns.len() != names.len() {
            return fail(alias.name.span, format!("{} names for {} columns", alias.columns.len(), names.len()));
        }
        names = alias.columns.iter().map(|column| column.name.value.clone()).collect();
    }
    if left.part(&qualifier.value).is_some() {
        return fail_hint(
            qualifier.span,
            format!("two tables of this query are called \"{}\"", qualifier.value),
            "give one an alias with AS",
        );
    }
    Lookup { left, table, outer, qualifier: qualifier.value.clone(), names }.bind(on)
}

fn can_be_looked_up(table: &Table, name: &Ident) -> Result<()> {
    if !table.looked_up {
        let message = format!("connector '{}' of \"{}\" cannot be asked for rows by key", table.connector(), table.name);
        return fail_hint(name.span, message, "a lookup join needs a table of a connector that can: jdbc");
    }
    match table.columns.iter().find(|column| column.computed.is_some() || column.metadata.is_some()) {
        Some(column) => {
            let message = format!("\"{}\" is looked up, and its column \"{}\" is computed or METADATA", table.name, column.name);
            fail_hint(name.span, message, "compute it in the query")
        }
        None => Ok(()),
    }
}

fn is_processing_time(left: &Scope, time: &Ast) -> Result<()> {
    let bound = Binder::new(left, "FOR SYSTEM_TIME AS OF").bind(time)?;
    if matches!(bound.expr, Expr::Column(_)) && bound.ty == PROCTIME {
        return Ok(());
    }
    let role = match &bound.expr {
        Expr::Column(column) => left.rel.column(&column.name).map(|column| column.role),
        _ => None,
    };
    let message = match role {
        Some(Role::EventTime) => "temporal joins by event time are not supported yet",
        _ => "FOR SYSTEM_TIME AS OF needs a processing-time column of the left side",
    };
    fail_hint(time.span(), message, "declare one, proc AS PROCTIME(), in the table on the left")
}

/// Columns of the input and of the table.
type Pairs = Vec<(String, String)>;

/// A join whose sides are known.
struct Lookup {
    left: Scope,
    table: Arc<Table>,
    outer: bool,
    qualifier: String,
    /// How the table's columns are called in the query.
    names: Vec<String>,
}

impl Lookup {
    fn bind(self, on: &Ast) -> Result<Scope> {
        let right = self.right();
        let both = self.scope(self.rel(Arc::clone(&self.left.rel), vec![], &right));
        let (mut keys, mut rest) = (Vec::new(), Vec::new());
        for condition in conjuncts(on) {
            // Types that cannot be compared are found here.
            let whole = Binder::new(&both, "ON").condition(condition)?;
            refuse_processing_time(&both.rel, &whole, condition.span())?;
            match self.equality(&both, &right, condition)? {
                Some(key) => keys.push(key),
                None if self.outer => {
                    let message = format!("LEFT JOIN takes equalities with columns of \"{}\" only", self.qualifier);
                    return fail_hint(condition.span(), message, "filter the left side in a view, or join with JOIN");
                }
                None => rest.push(whole),
            }
        }
        if keys.is_empty() {
            let message = format!("the join has no equality with a column of \"{}\"", self.qualifier);
            return fail_hint(on.span(), message, format!("write ON …= {}.{}", self.qualifier, self.names[0]));
        }
        let (input, keys) = self.input(keys, &right, on.span())?;
        let exact = input.columns.len() == self.left.rel.columns.len();
        let joined = self.rel(input, keys, &right);
        if exact && rest.is_empty() {
            return Ok(self.scope(joined));
        }
        // Columns that were only made to be compared go; the rest of the condition filters.
        let columns = self.left.rel.columns.iter().chain(&right);
        let items = columns.map(|column| (column.name.clone(), Typed::new(rel::column(&column.name), column.ty.clone())));
        let rel = calc(joined, conjunction(rest), items.collect(), on.span())?;
        Ok(self.scope(rel))
    }

    /// The table's columns behind those of the left side.
    fn right(&self) -> Vec<Column> {
        let mut taken: Vec<String> = self.left.rel.columns.iter().map(|column| column.name.clone()).collect();
        let column = |column: &TableColumn| {
            let name = unique(&column.name, &taken);
            taken.push(name.clone());
            Column { name, ty: column.ty.clone(), role: Role::Plain }
        };
        self.table.columns.iter().map(column).collect()
    }

    fn rel(&self, input: Arc<Rel>, keys: Pairs, right: &[Column]) -> Arc<Rel> {
        let all = input.columns.iter().chain(right).cloned().collect();
        let columns = self.table.columns.iter().map(|column| column.name.clone()).collect();
        Rel::new(Op::Lookup { input, table: Arc::clone(&self.table), outer: self.outer, keys, columns }, all)
    }

    fn scope(&self, rel: Arc<Rel>) -> Scope {
        let mut parts = self.left.parts.clone();
        parts.push((Some(self.qualifier.clone()), self.names.len()));
        Scope { rel, parts, names: self.left.names.iter().chain(&self.names).cloned().collect() }
    }

    /// What a column of the table is to be equal to, if the condition says that.
    fn equality(&self, both: &Scope, right: &[Column], condition: &Ast) -> Result<Option<(Typed, usize)>> {
        let Ast::BinaryOp { left: one, op: BinaryOperator::Eq, right: other } = condition else { return Ok(None) };
        let of_table = |name: &str| right.iter().position(|column| column.name == name);
        for (value, key) in [(one, other), (other, one)] {
            let (bound, key) = (Binder::new(both, "ON").bind(value)?, Binder::new(both, "ON").bind(key)?);
            let mut used = Vec::new();
            used_columns(&bound.expr, &mut used);
            let Expr::Column(column) = &key.expr else { continue };
            let Some(place) = of_table(&column.name).filter(|_| !used.iter().any(|name| of_table(name).is_some())) else { continue };
            if !types::is_groupable(&key.ty) {
                return fail(condition.span(), format!("a key cannot be of type {}", types::name(&key.ty)));
            }
            if coerce::common(&bound.ty, &key.ty).as_ref() != Some(&key.ty) {
                let (found, declared) = (types::name(&bound.ty), types::name(&key.ty));
                let message = format!("the value is {found}, the column of \"{}\" that it is compared with is {declared}", self.qualifier);
                return fail_hint(condition.span(), message, format!("CAST the value to {declared}"));
            }
            return Ok(Some((bound.into_type(&key.ty), place)));
        }
        Ok(None)
    }

    /// The left side with a column for each key.
    fn input(&self, keys: Vec<(Typed, usize)>, right: &[Column], span: Span) -> Result<(Arc<Rel>, Pairs)> {
        let columns = self.left.rel.columns.iter();
        let mut items: Vec<(String, Typed)> =
            columns.map(|column| (column.name.clone(), Typed::new(rel::column(&column.name), column.ty.clone()))).collect();
        let mut named = Vec::new();
        for (value, place) in keys {
            let key = self.table.columns[place].name.clone();
            if let Expr::Column(column) = &value.expr {
                named.push((column.name.clone(), key));
                continue;
            }
            let taken: Vec<String> = items.iter().map(|(name, _)| name).chain(right.iter().map(|column| &column.name)).cloned().collect();
            let name = unique(&format!("key_{key}"), &taken);
            named.push((name.clone(), key));
            items.push((name, value));
        }
        let input = Arc::clone(&self.left.rel);
        let input = if items.len() == input.columns.len() { input } else { calc(input, None, items, span)? };
        Ok((input, named))
    }
}

/// The conditions that AND joins, in the order of the text.
fn conjuncts(on: &Ast) -> Vec<&Ast> {
    let (mut found, mut stack) = (Vec::new(), vec![on]);
    while let Some(ast) = stack.pop() {
        match ast {
            Ast::BinaryOp { left, op: BinaryOperator::And, right } => stack.extend([&**right, &**left]),
            Ast::Nested(inner) => stack.push(inner),
            other => found.push(other),
        }
    }
    found
}

/// Refuses an expression that computes with processing time: it has no value.
pub(crate) fn refuse_processing_time(input: &Rel, expr: &Expr, span: Span) -> Result<()> {
    let here = |expr: &Expr| match expr {
        Expr::Column(column) => input.column(&column.name).is_some_and(|column| column.ty == PROCTIME).then(|| span_of(column)),
        Expr::Literal(ScalarValue::Time32Second(_), _) => Some(Span::empty()),
        _ => None,
    };
    // By itself it is passed on.
    if here(expr).is_some() {
        return Ok(());
    }
    let mut found = None;
    let visited = expr.exists(|node| {
        found = here(node);
        Ok(found.is_some())
    });
    debug_assert!(visited.is_ok(), "the visitor does not fail");
    match found {
        Some(place) => {
            let place = if crate::error::known(place) { place } else { span };
            fail_hint(place, "nothing can be computed from processing time", "it is only for FOR SYSTEM_TIME AS OF")
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    #[test]
    fn processing_time_is_of_a_type_of_its_own() {
        assert_eq!(types::name(&PROCTIME), "PROCTIME()");
        assert!(!types::is_groupable(&PROCTIME) && !types::is_event_time(&PROCTIME));
        assert_eq!(coerce::common(&PROCTIME, &DataType::Utf8), None);
    }
}
