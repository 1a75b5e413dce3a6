//! [pure] The tables and views of a script.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion_expr::Expr;
use rheos_dataflow::graph::METADATA_KEY;

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
    pub(crate) primary_key: Vec<String>,
    /// Whether its rows, when it is read, update earlier ones.
    pub(crate) changelog: bool,
    /// Whether its connector can be asked for rows by key.
    pub(crate) looked_up: bool,
}

/// A column of a table.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) ty: DataType,
    pub(crate) not_null: bool,
    /// The expression of a computed column, over the physical columns.
    pub(crate) computed: Option<Expr>,
    /// What the connector knows it by, when it is not in the record.
    pub(crate) metadata: Option<Metadata>,
}

/// `METADATA [FROM 'key'] [VIRTUAL]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Metadata {
    pub(crate) key: String,
    /// Only read, never written.
    pub(crate) is_virtual: bool,
}

/// `WATERMARK FOR column AS expression`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Watermark {
    pub(crate) column: String,
    /// Over all columns of the table.
    pub(crate) expression: Expr,
}

impl TableColumn {
    /// As the connector sees it.
    pub(crate) fn field(&self) -> Field {
        let field = crate::types::field(&self.name, self.ty.clone()).with_nullable(!self.not_null);
        match &self.metadata {
            Some(metadata) => field.with_metadata([(METADATA_KEY.to_owned(), metadata.key.clone())].into()),
            None => field,
        }
    }
}

impl Table {
    pub(crate) fn connector(&self) -> &str {
        self.options.get("connector").map_or("", String::as_str)
    }

    /// Columns that the connector reads.
    pub(crate) fn physical(&self) -> impl Iterator<Item = &TableColumn> {
        self.columns.iter().filter(|column| column.computed.is_none())
    }

    /// Columns that the connector writes.
    pub(crate) fn written(&self) -> impl Iterator<Item = &TableColumn> {
        self.physical().filter(|column| column.metadata.as_ref().is_none_or(|metadata| !metadata.is_virtual))
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
