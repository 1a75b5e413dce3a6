//! [pure] A whole script: tables and views into the catalog, every INSERT INTO to a plan for its sink.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::Expr;
use datafusion_expr::sqlparser::{
    ast::{Expr as Ast, Ident, Query, Spanned},
    tokenizer::Span,
};

use crate::PlanOptions;
use crate::bind::expr::Binder;
use crate::bind::query::{Queries, rename, union};
use crate::bind::scope::Scope;
use crate::bind::select::{Simplifier, calc};
use crate::catalog::{Catalog, Relation, Table, TableColumn, Watermark};
use crate::coerce::{self, Typed};
use crate::ddl::{ColumnDef, ColumnKind, TableDef};
use crate::error::{Fault, Faults, Result, collect, did_you_mean, fail, fail_hint};
use crate::functions::row;
use crate::limits::MAX_PLAN_NODES;
use crate::rel::{self, Op, Rel};
use crate::statement::Statement;
use crate::types;

/// The plan of one sink.
#[derive(Debug, Clone)]
pub(crate) struct SinkPlan {
    pub(crate) table: Arc<Table>,
    /// Columns are the table's physical ones.
    pub(crate) rel: Arc<Rel>,
}

/// Binds statements one after the other.
#[derive(Default)]
pub(crate) struct Script {
    catalog: Catalog,
    pub(crate) sinks: Vec<SinkPlan>,
    /// Plan nodes of all queries together.
    nodes: usize,
}

impl Script {
    /// Takes in a statement. A faulty table or view is known by name afterwards, so that its users stay silent.
    pub(crate) fn add(&mut self, statement: Statement, options: &PlanOptions) -> Result<()> {
        match statement {
            Statement::CreateTable(def) => {
                let name = def.name.clone();
                self.declare(&name)?;
                let table = table(*def, options)?;
                self.catalog.relations.insert(name.value, Relation::Table(Arc::new(table)));
                Ok(())
            }
            Statement::CreateView { name, columns, query } => {
                self.declare(&name)?;
                let rel = Queries::new(&self.catalog).query(&query)?;
                let rel = rename(rel, &columns, name.span)?;
                self.catalog.relations.insert(name.value, Relation::View(rel));
                Ok(())
            }
            Statement::Insert { table, columns, query } => self.insert(&table, &columns, &query, options),
        }
    }

    /// A statement that could not be read still declares its name.
    pub(crate) fn declare_broken(&mut self, name: &str) {
        self.catalog.relations.entry(name.into()).or_insert(Relation::Broken);
    }

    fn declare(&mut self, name: &Ident) -> Result<()> {
        if self.catalog.relations.insert(name.value.clone(), Relation::Broken).is_some() {
            return fail(name.span, format!("\"{}\" is declared twice", name.value));
        }
        Ok(())
    }

    fn insert(&mut self, name: &Ident, columns: &[Ident], query: &Query, options: &PlanOptions) -> Result<()> {
        let rel = Queries::new(&self.catalog).query(query);
        let table = match self.catalog.relations.get(&name.value) {
            Some(Relation::Table(table)) => Arc::clone(table),
            Some(Relation::Broken) => return rel.map(|_| ()),
            Some(Relation::View(_)) => return fail_hint(name.span, format!("\"{}\" is a view", name.value), "insert into a table"),
            None => {
                let hint = did_you_mean(&name.value, self.catalog.relations.keys().map(String::as_str));
                let unknown = Fault::new(name.span, format!("unknown table \"{}\"", name.value))
                    .hint(hint.unwrap_or_else(|| "declare it above with CREATE TABLE".into()));
                return Err(Faults(rel.err().unwrap_or_default().0.into_iter().chain([unknown]).collect()));
            }
        };
        let rel = to_sink(&table, columns, rel?, name.span)?;
        if rel.changelog && !(options.accepts_changelog)(table.connector(), &table.options) {
            let message = format!(
                "the result of this query changes, but connector '{}' of \"{}\" only takes new rows",
                table.connector(),
                table.name
            );
            return fail_hint(name.span, message, "aggregate over a window, or write to a connector that takes updates (print, blackhole)");
        }
        self.nodes = self.nodes.saturating_add(rel.size);
        if self.nodes > MAX_PLAN_NODES {
            return fail_hint(name.span, format!("the job's plan has more than {MAX_PLAN_NODES} nodes"), "split the job");
        }
        match self.sinks.iter_mut().find(|sink| sink.table.name == table.name) {
            Some(sink) => {
                sink.rel = union(vec![Arc::clone(&sink.rel), rel], name.span)?;
                Ok(())
            }
            None => {
                self.sinks.push(SinkPlan { table, rel });
                Ok(())
            }
        }
    }
}

/// Casts the query's columns to the table's, by position.
fn to_sink(table: &Table, columns: &[Ident], rel: Arc<Rel>, span: Span) -> Result<Arc<Rel>> {
    let physical: Vec<&TableColumn> = table.written().collect();
    let targets: Vec<&TableColumn> = if columns.is_empty() {
        physical.clone()
    } else {
        let find = |name: &Ident| match physical.iter().find(|column| column.name == name.value) {
            Some(column) => Ok(*column),
            None => {
                let hint = did_you_mean(&name.value, physical.iter().map(|column| column.name.as_str()));
                Fault::new(name.span, format!("table \"{}\" has no column \"{}\"", table.name, name.value)).maybe_hint(hint).into()
            }
        };
        collect(columns.iter().map(find))?
    };
    if targets.len() != rel.columns.len() {
        let names = |names: Vec<&str>| names.join(", ");
        let message = format!(
            "the query has {} columns ({}), the table \"{}\" takes {} ({})",
            rel.columns.len(),
            names(rel.columns.iter().map(|column| column.name.as_str()).collect()),
            table.name,
            targets.len(),
            names(targets.iter().map(|column| column.name.as_str()).collect()),
        );
        return fail(span, message);
    }
    let items = physical.iter().map(|column| {
        let Some(index) = targets.iter().position(|target| target.name == column.name) else {
            if column.not_null {
                return fail(span, format!("column \"{}\" of \"{}\" is NOT NULL and gets no value", column.name, table.name));
            }
            return Ok((column.name.clone(), Typed::literal(datafusion_common::ScalarValue::Null).into_type(&column.ty)));
        };
        let from = &rel.columns[index];
        let value = Typed::new(rel::column(&from.name), from.ty.clone());
        if from.ty == types::PROCTIME {
            let message = format!("column {} of the query, \"{}\", is processing time, which cannot be written", index + 1, from.name);
            return fail_hint(span, message, "it is only for FOR SYSTEM_TIME AS OF; leave it out");
        }
        if !coerce::is_implicit(&from.ty, &column.ty) {
            let message = format!(
                "column {} of the query, \"{}\" {}, does not fit \"{}\" {} of table \"{}\"",
                index + 1,
                from.name,
                types::name(&from.ty),
                column.name,
                types::name(&column.ty),
                table.name
            );
            return fail_hint(span, message, format!("CAST it to {}", types::name(&column.ty)));
        }
        let value = value.into_type(&column.ty);
        Ok((column.name.clone(), if column.not_null { row::not_null(value, &column.name) } else { value }))
    });
    calc(Arc::clone(&rel), None, collect(items)?, span)
}

/// A table of these columns and nothing else.
fn columns_only(name: &str, columns: Vec<TableColumn>) -> Table {
    Table {
        name: name.to_owned(),
        columns,
        options: Default::default(),
        watermark: None,
        partition_by: vec![],
        primary_key: vec![],
        changelog: false,
        looked_up: false,
    }
}

/// Binds the expressions of a table.
fn table(def: TableDef, options: &PlanOptions) -> Result<Table> {
    let span = def.name.span;
    let mut table = columns_only(&def.name.value, vec![]);
    table.options = def.options;
    table.changelog = (options.emits_changelog)(table.connector(), &table.options);
    table.looked_up = (options.looks_up)(table.connector(), &table.options);
    table.partition_by = def.partition_by.into_iter().map(|name| name.value).collect();
    table.primary_key = def.primary_key.into_iter().map(|name| name.value).collect();
    let physical = |column: &ColumnDef, ty: &DataType, not_null: bool| TableColumn {
        name: column.name.value.clone(),
        ty: ty.clone(),
        not_null,
        computed: None,
        metadata: column.metadata.clone(),
    };
    let base = def.columns.iter().filter_map(|column| match &column.kind {
        ColumnKind::Physical { ty, not_null } => Some(physical(column, ty, *not_null)),
        ColumnKind::Computed(_) => None,
    });
    let base = Arc::new(columns_only(&table.name, base.collect()));
    if base.columns.is_empty() {
        return fail(span, format!("table \"{}\" has no physical columns", table.name));
    }
    let scope = Scope::new(Rel::scan(&base), None);
    let columns = def.columns.iter().map(|column| match &column.kind {
        ColumnKind::Physical { ty, not_null } => Ok(physical(column, ty, *not_null)),
        ColumnKind::Computed(ast) => {
            let value = bind_simplified(&scope, ast, "a computed column")?;
            if value.ty == DataType::Null {
                return fail(ast.span(), "a computed column needs a type; CAST the NULL");
            }
            let (name, computed) = (column.name.value.clone(), Some(value.expr));
            Ok(TableColumn { name, ty: value.ty, not_null: false, computed, metadata: None })
        }
    });
    table.columns = collect(columns)?;
    if let Some(watermark) = def.watermark {
        table.watermark = Some(self::watermark(&table, &watermark.column, &watermark.expression)?);
    }
    Ok(table)
}

fn watermark(table: &Table, column: &Ident, ast: &Ast) -> Result<Watermark> {
    let all = table.columns.iter().map(|column| TableColumn {
        name: column.name.clone(),
        ty: column.ty.clone(),
        not_null: false,
        computed: None,
        metadata: None,
    });
    let scope = Scope::new(Rel::scan(&Arc::new(columns_only(&table.name, all.collect()))), None);
    let found = scope.resolve(std::slice::from_ref(column))?;
    if !types::is_event_time(&found.ty) {
        let message = format!("the watermark's column \"{}\" is {}", column.value, types::name(&found.ty));
        return fail_hint(
            column.span,
            message,
            "it must be TIMESTAMP(3) or TIMESTAMP_LTZ(3); compute such a column with TO_TIMESTAMP_LTZ or CAST",
        );
    }
    let value = bind_simplified(&scope, ast, "WATERMARK")?;
    if value.ty != found.ty {
        let message = format!("the watermark is {}, its column \"{}\" is {}", types::name(&value.ty), column.value, types::name(&found.ty));
        return fail_hint(ast.span(), message, format!("write {} - INTERVAL '5' SECOND", column.value));
    }
    let mut uses_column = false;
    let visited = value.expr.apply(|node| {
        uses_column |= matches!(node, Expr::Column(_));
        Ok(TreeNodeRecursion::Continue)
    });
    if visited.is_err() || !uses_column {
        return fail_hint(ast.span(), "the watermark does not follow the rows", format!("write {} - INTERVAL '5' SECOND", column.value));
    }
    Ok(Watermark { column: column.value.clone(), expression: value.expr })
}

fn bind_simplified(scope: &Scope, ast: &Ast, clause: &'static str) -> Result<Typed> {
    let value = Binder::new(scope, clause).bind(ast)?;
    let calc = calc(Arc::clone(&scope.rel), None, vec![("value".into(), value.clone())], ast.span())?;
    match &calc.op {
        Op::Calc { project, .. } => match project.first() {
            Some(expr) => Ok(Typed::new(expr.clone(), value.ty)),
            None => Ok(value),
        },
        _ => Simplifier::new(&scope.rel, ast.span())?.simplify(value.expr).map(|expr| Typed::new(expr, value.ty)),
    }
}
