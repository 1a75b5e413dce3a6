//! [pure] The relational plan: what the binder makes of a query, before it becomes a dataflow.
//!
//! Columns are named, names are unique within a node, and expressions refer to the columns of the node's input by
//! name. Nodes are shared: a view is bound once and used wherever it is named.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion_common::{DFSchema, tree_node::TreeNode};
use datafusion_expr::Expr;
use rheos_dataflow::graph::{AggregateCall, AggregateFunction, Window};

use crate::catalog::Table;
use crate::types;

/// A node of the plan.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rel {
    pub(crate) op: Op,
    pub(crate) columns: Vec<Column>,
    /// Whether rows update earlier ones.
    pub(crate) changelog: bool,
    /// Nodes of the tree below, counting shared ones each time.
    pub(crate) size: usize,
    /// Nodes on the longest way down.
    pub(crate) depth: usize,
}

/// An output column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) ty: DataType,
    pub(crate) role: Role,
}

/// What the planner knows about a column beyond its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Plain,
    /// Event time: watermarks follow it.
    EventTime,
    /// A bound of the windows that the rows belong to.
    Window(Bound, Window),
}

/// Which bound of a window a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Bound {
    Start,
    End,
    /// `window_end` - 1 ms, itself event time.
    Time,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Scan(Arc<Table>),
    Calc {
        input: Arc<Rel>,
        filter: Option<Expr>,
        project: Vec<Expr>,
    },
    /// Output: the input's columns and the three bounds.
    WindowAssign {
        input: Arc<Rel>,
        window: Window,
        time: String,
    },
    /// Output: keys, calls and the three bounds. `identity` is what was grouped by, for the operator's id.
    WindowAggregate {
        input: Arc<Rel>,
        window: Window,
        time: String,
        keys: Vec<String>,
        identity: Vec<String>,
        calls: Vec<Call>,
    },
    /// Output: keys and calls.
    GroupAggregate {
        input: Arc<Rel>,
        keys: Vec<String>,
        identity: Vec<String>,
        calls: Vec<Call>,
    },
    /// Rows of `table` by key. Output: the input's columns, then these of the table, maybe under other names.
    Lookup {
        input: Arc<Rel>,
        table: Arc<Table>,
        /// Whether rows that find nothing stay.
        outer: bool,
        /// Columns of the input and of the table that have to be equal; of one type.
        keys: Vec<(String, String)>,
        columns: Vec<String>,
    },
    /// All inputs have the same column names and types.
    Union {
        inputs: Vec<Arc<Rel>>,
    },
}

/// An aggregate over columns of the input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    pub(crate) function: AggregateFunction,
    pub(crate) distinct: bool,
    pub(crate) argument: Option<String>,
    pub(crate) filter: Option<String>,
    pub(crate) argument_type: DataType,
    pub(crate) result_type: DataType,
    pub(crate) name: String,
    /// As a person wrote it.
    pub(crate) title: String,
}

impl Call {
    /// The call over numbered columns.
    pub(crate) fn bind(&self, index: impl Fn(&str) -> Option<usize>) -> AggregateCall {
        AggregateCall {
            function: self.function,
            distinct: self.distinct,
            argument: self.argument.as_deref().and_then(&index),
            filter: self.filter.as_deref().and_then(&index),
            argument_type: self.argument_type.clone(),
            result_type: self.result_type.clone(),
            name: self.name.clone(),
        }
    }
}

impl Op {
    pub(crate) fn inputs(&self) -> Vec<&Arc<Rel>> {
        match self {
            Self::Scan(_) => vec![],
            Self::Calc { input, .. }
            | Self::WindowAssign { input, .. }
            | Self::WindowAggregate { input, .. }
            | Self::GroupAggregate { input, .. }
            | Self::Lookup { input, .. } => vec![input],
            Self::Union { inputs } => inputs.iter().collect(),
        }
    }
}

impl Rel {
    pub(crate) fn new(op: Op, columns: Vec<Column>) -> Arc<Self> {
        let inputs = op.inputs();
        let size = inputs.iter().fold(1_usize, |size, input| size.saturating_add(input.size));
        let depth = 1 + inputs.iter().map(|input| input.depth).max().unwrap_or(0);
        let changelog = match &op {
            Op::Scan(table) => table.changelog,
            Op::GroupAggregate { .. } => true,
            _ => inputs.iter().any(|input| input.changelog),
        };
        Arc::new(Self { op, columns, changelog, size, depth })
    }

    pub(crate) fn scan(table: &Arc<Table>) -> Arc<Self> {
        let event_time = table.watermark.as_ref().map(|watermark| watermark.column.as_str());
        let columns = table.columns.iter().map(|column| Column {
            name: column.name.clone(),
            ty: column.ty.clone(),
            role: if event_time == Some(&column.name) { Role::EventTime } else { Role::Plain },
        });
        Self::new(Op::Scan(Arc::clone(table)), columns.collect())
    }

    /// Adds the bounds of `window`.
    pub(crate) fn assign(input: Arc<Self>, window: Window, time: String) -> Arc<Self> {
        let ty = input.column(&time).map_or(DataType::Null, |column| column.ty.clone());
        let mut columns = input.columns.clone();
        for column in &mut columns {
            // A row of several windows no longer follows the watermark by its own time.
            if column.role == Role::EventTime {
                column.role = Role::Plain;
            }
        }
        columns.extend(bounds(window, &ty, &input.columns));
        Self::new(Op::WindowAssign { input, window, time }, columns)
    }

    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The columns as a schema for DataFusion's expression planner.
    pub(crate) fn df_schema(&self) -> datafusion_common::Result<DFSchema> {
        DFSchema::try_from(self.schema())
    }

    pub(crate) fn schema(&self) -> Schema {
        Schema::new(self.columns.iter().map(|column| types::field(&column.name, column.ty.clone())).collect::<Vec<_>>())
    }
}

/// The columns that windowing adds to `existing` ones.
pub(crate) fn bounds(window: Window, time: &DataType, existing: &[Column]) -> Vec<Column> {
    let mut names: Vec<String> = existing.iter().map(|column| column.name.clone()).collect();
    [(Bound::Start, "window_start"), (Bound::End, "window_end"), (Bound::Time, "window_time")]
        .into_iter()
        .map(|(bound, name)| {
            let name = unique(name, &names);
            names.push(name.clone());
            // Bounds are local times even when the event time has a zone; window_time keeps it.
            let ty = match bound {
                Bound::Time => time.clone(),
                _ => DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None),
            };
            Column { name, ty, role: Role::Window(bound, window) }
        })
        .collect()
}

/// `name`, or `name0`, `name1`… when it is taken.
pub(crate) fn unique(name: &str, taken: &[String]) -> String {
    if !taken.iter().any(|other| other == name) {
        return name.into();
    }
    (0..=taken.len()).map(|i| format!("{name}{i}")).find(|name| !taken.contains(name)).unwrap_or_default()
}

/// A reference to an input column.
pub(crate) fn column(name: impl Into<String>) -> Expr {
    Expr::Column(datafusion_common::Column::new_unqualified(name))
}

/// Names of the input columns that `expr` uses, with repetition.
pub(crate) fn used_columns<'a>(expr: &'a Expr, used: &mut Vec<&'a str>) {
    let visited = expr.apply(|node| {
        if let Expr::Column(column) = node {
            used.push(&column.name);
        }
        Ok(datafusion_common::tree_node::TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "the visitor does not fail");
}
