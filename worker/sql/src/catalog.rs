//! [pure] The tables and views of a script.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_expr::Expr;

use crate::rel::Rel;

/// A declared table.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// All columns in the order of declaration.
    pub(crate) columns: Vec<TableColumn>,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) watermark: Option<Watermark>,
    pub(crate) partition_by: Vec<String>,
}

/// A column of a table.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) ty: DataType,
    pub(crate) not_null: bool,
    /// The expression of a computed column, over the physical columns.
    pub(crate) computed: Option<Expr>,
}

/// `WATERMARK FOR column AS expression`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Watermark {
    pub(crate) column: String,
    /// Over all columns of the table.
    pub(crate) expression: Expr,
}

impl Table {
    pub(crate) fn connector(&self) -> &str {
        self.options.get("connector").map_or("", String::as_str)
    }

    /// Columns that the connector reads or writes.
    pub(crate) fn physical(&self) -> impl Iterator<Item = &TableColumn> {
        self.columns.iter().filter(|column| column.computed.is_none())
    }
}

/// What a name in FROM stands for.
#[derive(Debug, Clone)]
pub(crate) enum Relation {
    Table(Arc<Table>),
    View(Arc<Rel>),
    /// Its definition is faulty and has been reported.
    Broken,
}

/// The names of a script.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) relations: BTreeMap<String, Relation>,
}
