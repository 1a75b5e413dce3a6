//! [pure] What a source may leave out: simple comparisons of the filters that stand directly above it.
//!
//! Only `column comparator literal`, both of the declared type, joined by AND; all else of a filter says nothing here. The
//! filters stay where they are. A table whose watermarks are used is read whole: its rows move event time.

use datafusion_expr::{Expr, Operator};
use rheos_dataflow::graph::{Comparator, Comparison, Pruning};

use crate::catalog::Table;

/// Readers of a table beyond which it is read whole.
const MAX_FILTERS: usize = 16;

/// What is known of the rows that all readers together use; each reads by its filter, if it has one.
pub(super) fn of(table: &Table, filters: &[Option<Expr>]) -> Pruning {
    let known = filters.iter().map(|filter| {
        let mut all = Vec::new();
        filter.iter().for_each(|filter| comparisons(table, filter, &mut all));
        all
    });
    let lists: Vec<_> = known.collect();
    // One that needs all rows, or may need any.
    if lists.len() > MAX_FILTERS || lists.iter().any(Vec::is_empty) { Pruning::default() } else { Pruning(lists) }
}

fn comparisons(table: &Table, filter: &Expr, found: &mut Vec<Comparison>) {
    let Expr::BinaryExpr(binary) = filter else { return };
    let comparator = match binary.op {
        Operator::And => {
            comparisons(table, &binary.left, found);
            return comparisons(table, &binary.right, found);
        }
        Operator::Eq => Comparator::Equal,
        Operator::Lt => Comparator::Less,
        Operator::LtEq => Comparator::LessOrEqual,
        Operator::Gt => Comparator::Greater,
        Operator::GtEq => Comparator::GreaterOrEqual,
        _ => return,
    };
    let (column, value, comparator) = match (&*binary.left, &*binary.right) {
        (Expr::Column(column), Expr::Literal(value, _)) => (column, value, comparator),
        (Expr::Literal(value, _), Expr::Column(column)) => (column, value, mirrored(comparator)),
        _ => return,
    };
    let physical = table.physical().find(|physical| physical.name == column.name && physical.metadata.is_none());
    if physical.is_some_and(|physical| physical.ty == value.data_type())
        && !value.is_null()
        && let Ok(value) = value.to_array()
    {
        found.push(Comparison { column: column.name.clone(), comparator, value });
    }
}

/// The comparator with its sides exchanged.
fn mirrored(comparator: Comparator) -> Comparator {
    match comparator {
        Comparator::Equal => Comparator::Equal,
        Comparator::Less => Comparator::Greater,
        Comparator::LessOrEqual => Comparator::GreaterOrEqual,
        Comparator::Greater => Comparator::Less,
        Comparator::GreaterOrEqual => Comparator::LessOrEqual,
    }
}
