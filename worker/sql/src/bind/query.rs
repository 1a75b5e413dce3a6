//! [pure] Queries: FROM, set operations, WITH, and what is refused around them.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion_expr::sqlparser::{
    ast::{Expr as Ast, Ident, ObjectName, Query, SetExpr, SetOperator, SetQuantifier, Spanned, TableAlias, TableFactor, TableWithJoins},
    tokenizer::Span,
};

use crate::bind::call;
use crate::bind::scope::Scope;
use crate::bind::select::{self, calc};
use crate::bind::{join, window};
use crate::catalog::{Catalog, Relation, Table};
use crate::coerce::{self, Typed};
use crate::error::{Fault, Faults, Result, did_you_mean, fail, fail_hint};
use crate::limits::{MAX_PLAN_DEPTH, MAX_PLAN_NODES};
use crate::rel::{self, Column, Op, Rel, Role};
use crate::types;

/// Binds queries over a catalog.
pub(crate) struct Queries<'a> {
    catalog: &'a Catalog,
    /// Common table expressions in scope.
    local: BTreeMap<String, Arc<Rel>>,
}

impl<'a> Queries<'a> {
    pub(crate) fn new(catalog: &'a Catalog) -> Self {
        Self { catalog, local: BTreeMap::new() }
    }

    /// Binds a query.
    pub(crate) fn query(&mut self, query: &Query) -> Result<Arc<Rel>> {
        refuse(query)?;
        let outer = self.local.clone();
        let bound = self.with(query).and_then(|()| self.body(&query.body));
        self.local = outer;
        bound
    }

    fn with(&mut self, query: &Query) -> Result<()> {
        let Some(with) = &query.with else { return Ok(()) };
        if with.recursive {
            return fail(with.with_token.0.span, "WITH RECURSIVE is not supported");
        }
        for cte in &with.cte_tables {
            let rel = self.query(&cte.query)?;
            let names: Vec<Ident> = cte.alias.columns.iter().map(|column| column.name.clone()).collect();
            let rel = rename(rel, &names, cte.alias.name.span)?;
            self.local.insert(cte.alias.name.value.clone(), rel);
        }
        Ok(())
    }

    fn body(&mut self, body: &SetExpr) -> Result<Arc<Rel>> {
        let rel = match body {
            SetExpr::Select(select) => select::select(self, select)?,
            SetExpr::Query(query) => self.query(query)?,
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let span = right.span();
                let (SetOperator::Union, SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None) = (op, set_quantifier) else {
                    return fail_hint(span, format!("{op} is not supported"), "there are UNION ALL and UNION");
                };
                let sides = crate::error::collect([self.body(left), self.body(right)])?;
                let union = union(sides, span)?;
                match set_quantifier {
                    SetQuantifier::All => union,
                    _ => select::distinct(union, span)?,
                }
            }
            SetExpr::Values(_) => {
                return fail_hint(body.span(), "VALUES is not supported", "read from a table, for example 'connector' = 'datagen'");
            }
            other => return fail(other.span(), "a SELECT is expected"),
        };
        if rel.size > MAX_PLAN_NODES {
            return fail_hint(body.span(), format!("the query's plan has more than {MAX_PLAN_NODES} nodes"), "split the job");
        }
        if rel.depth > MAX_PLAN_DEPTH {
            return fail_hint(
                body.span(),
                format!("the query's plan is more than {MAX_PLAN_DEPTH} nodes deep"),
                "use fewer views of views",
            );
        }
        Ok(rel)
    }

    /// The relation of FROM, and what is looked up for its rows.
    pub(crate) fn from(&mut self, from: &[TableWithJoins], select: Span) -> Result<Scope> {
        match from {
            [] => fail_hint(select, "SELECT without FROM is not supported", "read from a table, for example 'connector' = 'datagen'"),
            [one] => one.joins.iter().try_fold(self.factor(&one.relation)?, |left, right| join::join(self, left, right)),
            [_, second, ..] => join::refuse(second.relation.span()),
        }
    }

    fn factor(&mut self, factor: &TableFactor) -> Result<Scope> {
        match factor {
            TableFactor::Table { name, alias, args, version, sample, partitions, with_hints, .. } => {
                let span = name.span();
                if version.is_some() {
                    return fail_hint(span, "FOR SYSTEM_TIME AS OF is only supported behind JOIN", join::HINT);
                }
                if sample.is_some() || !partitions.is_empty() || !with_hints.is_empty() {
                    return fail(span, "hints and samples of tables are not supported");
                }
                if let Some(args) = args {
                    return self.function(&name.to_string(), &args.args, alias.as_ref(), span);
                }
                let ident = simple(name)?;
                aliased(self.relation(ident)?, Some(&ident.value), alias.as_ref())
            }
            TableFactor::Derived { lateral: false, subquery, alias, sample: None } => aliased(self.query(subquery)?, None, alias.as_ref()),
            TableFactor::TableFunction { expr: Ast::Function(function), alias } => {
                let args = window::function_args(function);
                self.function(&call::simple_name(function), args, alias.as_ref(), function.name.span())
            }
            TableFactor::Function { name, args, alias, lateral: false, .. } => {
                self.function(&name.to_string(), args, alias.as_ref(), name.span())
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.from(std::slice::from_ref(table_with_joins), factor.span()),
            TableFactor::UNNEST { .. } => fail(factor.span(), "UNNEST is not supported yet"),
            TableFactor::MatchRecognize { .. } => fail(factor.span(), "MATCH_RECOGNIZE is not supported yet"),
            other => fail(other.span(), "this kind of table is not supported in FROM"),
        }
    }

    fn function(
        &mut self,
        name: &str,
        args: &[datafusion_expr::sqlparser::ast::FunctionArg],
        alias: Option<&TableAlias>,
        span: Span,
    ) -> Result<Scope> {
        let function = window::table_function(&name.to_uppercase(), args, span)?;
        let input = self.relation(function.table)?;
        aliased(function.apply(input)?, Some(&function.table.value), alias)
    }

    /// The table that can be asked for rows by key.
    pub(crate) fn table(&self, name: &Ident) -> Result<Arc<Table>> {
        self.relation(name)?;
        match (self.local.contains_key(&name.value), self.catalog.relations.get(&name.value)) {
            (false, Some(Relation::Table(table))) => Ok(Arc::clone(table)),
            _ => fail_hint(name.span, format!("\"{}\" is a view, which cannot be looked up", name.value), "look up a table"),
        }
    }

    fn relation(&self, name: &Ident) -> Result<Arc<Rel>> {
        if let Some(rel) = self.local.get(&name.value) {
            return Ok(Arc::clone(rel));
        }
        match self.catalog.relations.get(&name.value) {
            Some(Relation::Table(table)) => Ok(Rel::scan(table)),
            Some(Relation::View(rel)) => Ok(Arc::clone(rel)),
            // Reported where it is declared.
            Some(Relation::Broken) => Err(Faults::default()),
            None => {
                let names = self.catalog.relations.keys().chain(self.local.keys()).map(String::as_str);
                let hint = did_you_mean(&name.value, names).unwrap_or_else(|| "declare it above with CREATE TABLE or CREATE VIEW".into());
                Fault::new(name.span, format!("unknown table \"{}\"", name.value)).hint(hint).into()
            }
        }
    }
}

pub(crate) fn simple(name: &ObjectName) -> Result<&Ident> {
    match name.0.as_slice() {
        [part] if part.as_ident().is_some() => part.as_ident().ok_or_else(Faults::default),
        _ => fail_hint(name.span(), "names of catalogs and databases are not supported", "use the table's name alone"),
    }
}

fn refuse(query: &Query) -> Result<()> {
    let span = query.span();
    if let Some(order) = &query.order_by {
        return fail_hint(order.span(), "ORDER BY is not supported", "a stream has no end to sort at; sort where the result is read");
    }
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return fail_hint(span, "LIMIT is not supported", "Top-N is not supported yet");
    }
    if !query.locks.is_empty()
        || query.for_clause.is_some()
        || query.settings.is_some()
        || query.format_clause.is_some()
        || !query.pipe_operators.is_empty()
    {
        return fail(span, "what follows the query is not supported");
    }
    Ok(())
}

fn aliased(rel: Arc<Rel>, name: Option<&String>, alias: Option<&TableAlias>) -> Result<Scope> {
    let mut scope = Scope::new(rel, name.cloned());
    if let Some(alias) = alias {
        scope.parts = vec![(Some(alias.name.value.clone()), scope.names.len())];
        if !alias.columns.is_empty() {
            if alias.columns.len() != scope.names.len() {
                return fail(alias.name.span, format!("{} names for {} columns", alias.columns.len(), scope.names.len()));
            }
            scope.names = alias.columns.iter().map(|column| column.name.value.clone()).collect();
        }
    }
    Ok(scope)
}

/// Gives the columns of a view or a common table expression their listed names.
pub(crate) fn rename(rel: Arc<Rel>, names: &[Ident], span: Span) -> Result<Arc<Rel>> {
    if names.is_empty() {
        return Ok(rel);
    }
    if names.len() != rel.columns.len() {
        return fail(span, format!("{} names for {} columns", names.len(), rel.columns.len()));
    }
    let items =
        names.iter().zip(&rel.columns).map(|(name, column)| (name.value.clone(), Typed::new(rel::column(&column.name), column.ty.clone())));
    calc(Arc::clone(&rel), None, items.collect(), span)
}

/// All rows of all sides, with common types and the first side's names.
pub(crate) fn union(sides: Vec<Arc<Rel>>, span: Span) -> Result<Arc<Rel>> {
    let Some(first) = sides.first() else { return fail(span, "UNION of nothing") };
    if let Some(other) = sides.iter().find(|side| side.columns.len() != first.columns.len()) {
        let message = format!("the sides of UNION have {} and {} columns", first.columns.len(), other.columns.len());
        return fail(span, message);
    }
    let mut columns = Vec::new();
    for (index, column) in first.columns.iter().enumerate() {
        let here = || sides.iter().map(|side| &side.columns[index]);
        let Some(ty) = coerce::common_of(here().map(|column| &column.ty)) else {
            let names: Vec<String> = here().map(|column| types::name(&column.ty)).collect();
            return fail_hint(span, format!("column {} of UNION has different types: {}", index + 1, names.join(", ")), "CAST one of them");
        };
        let role = if here().all(|other| other.role == column.role && other.ty == ty) { column.role } else { Role::Plain };
        columns.push(Column { name: column.name.clone(), ty, role });
    }
    let mut inputs = Vec::new();
    for side in sides {
        if let Op::Union { inputs: nested } = &side.op
            && side.columns == columns
        {
            inputs.extend(nested.iter().cloned());
            continue;
        }
        let items = side.columns.iter().zip(&columns).map(|(from, to)| {
            let value = Typed::new(rel::column(&from.name), from.ty.clone());
            (to.name.clone(), value.into_type(&to.ty))
        });
        inputs.push(calc(Arc::clone(&side), None, items.collect(), span)?);
    }
    Ok(Rel::new(Op::Union { inputs }, columns))
}
