//! [pure] The operators, and the one factory that makes them from the graph.
//!
//! Not here: sources and sinks, which the stage drives through their own seams, and lookup joins, which it gives a table.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt8Array};
use arrow::datatypes::SchemaRef;

use self::calc::Calc;
use self::group_aggregate::GroupAggregate;
use self::local_group_aggregate::LocalGroupAggregate;
use self::local_window_aggregate::LocalWindowAggregate;
use self::window_aggregate::WindowAggregate;
use self::window_assign::WindowAssign;
use crate::changelog::RowKind;
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::{Node, OperatorSpec};
use crate::key_group::Subtask;
use crate::operator::{Operator, Output, Progress};

pub mod calc;
mod event_time;
pub mod group_aggregate;
pub mod local_group_aggregate;
pub mod local_window_aggregate;
pub mod lookup_join;
pub mod window_aggregate;
pub mod window_assign;

/// Makes the operator of `node` for one subtask. `input_schemas` are the schemas of its inputs, by port.
///
/// # Errors
/// `User` when the spec does not fit the schemas; `Bug` for nodes that need a connector (sources, sinks, lookup joins).
pub fn build(node: &Node, input_schemas: &[SchemaRef], subtask: Subtask) -> Result<Box<dyn Operator>> {
    let title = node.title.clone();
    let place = || node.title.clone();
    let input = || input_schemas.first().ok_or_else(|| DataflowError::new(place(), ErrorKind::Bug, "the operator has no input"));
    match &node.spec {
        OperatorSpec::Calc(spec) => Ok(Box::new(Calc::new(title, spec, input()?, &node.schema, node.changelog)?)),
        OperatorSpec::Union => Ok(Box::new(Union::new(node, input_schemas))),
        OperatorSpec::WindowAssign(spec) => Ok(Box::new(WindowAssign::new(title, spec, input()?, &node.schema)?)),
        OperatorSpec::LocalWindowAggregate(spec) => Ok(Box::new(LocalWindowAggregate::new(title, spec, input()?, &node.schema, subtask)?)),
        OperatorSpec::WindowAggregate(spec) => Ok(Box::new(WindowAggregate::new(title, spec, input()?, &node.schema, subtask)?)),
        OperatorSpec::LocalGroupAggregate(spec) => Ok(Box::new(LocalGroupAggregate::new(title, spec, input()?, &node.schema, subtask)?)),
        OperatorSpec::GroupAggregate(spec) => Ok(Box::new(GroupAggregate::new(title, spec, input()?, &node.schema, subtask)?)),
        OperatorSpec::Source(_) | OperatorSpec::Sink(_) | OperatorSpec::LookupJoin(_) => {
            Err(DataflowError::new(place(), ErrorKind::Bug, "sources, sinks and lookup joins need a connector"))
        }
    }
}

/// Passes all rows of all inputs through. Rows of an input that only inserts join a change-log as inserts.
struct Union {
    schema: SchemaRef,
    /// Whether the kind column is to be added, by port.
    add_kind: Vec<bool>,
}

impl Union {
    fn new(node: &Node, inputs: &[SchemaRef]) -> Self {
        let width = node.schema.fields().len();
        let add_kind = inputs.iter().map(|input| node.changelog && input.fields().len() + 1 == width).collect();
        Self { schema: SchemaRef::clone(&node.schema), add_kind }
    }
}

impl Operator for Union {
    fn on_batch(&mut self, port: usize, batch: &RecordBatch, out: &mut Output) -> Result<Progress> {
        if self.add_kind.get(port) == Some(&true) {
            let mut columns = batch.columns().to_vec();
            columns.push(Arc::new(UInt8Array::from_value(RowKind::Insert as u8, batch.num_rows())));
            out.emit(RecordBatch::try_new(SchemaRef::clone(&self.schema), columns)?);
        } else {
            out.emit(batch.clone());
        }
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Schema, UInt8Type};

    use super::*;
    use crate::changelog::KIND_COLUMN;
    use crate::graph::OperatorId;

    #[test]
    fn rows_without_a_kind_join_a_change_log_as_inserts() {
        let plain = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let changes = vec![Field::new("n", DataType::Int64, true), Field::new(KIND_COLUMN, DataType::UInt8, false)];
        let changes = Arc::new(Schema::new(changes));
        let node = Node {
            id: OperatorId("union".into()),
            title: "union".into(),
            spec: OperatorSpec::Union,
            schema: SchemaRef::clone(&changes),
            changelog: true,
            state_schema: None,
        };
        let mut union = Union::new(&node, &[SchemaRef::clone(&plain), SchemaRef::clone(&changes)]);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let kinds: ArrayRef = Arc::new(UInt8Array::from(vec![2, 3]));
        let mut out = Output::default();
        let batches = [
            RecordBatch::try_new(plain, vec![ArrayRef::clone(&values)]).unwrap(),
            RecordBatch::try_new(changes, vec![values, kinds]).unwrap(),
        ];
        for (port, batch) in batches.iter().enumerate() {
            assert_eq!(union.on_batch(port, batch, &mut out).unwrap(), Progress::Done);
        }
        let found: Vec<&[u8]> = out.batches.iter().map(|batch| batch.column(1).as_primitive::<UInt8Type>().values().as_ref()).collect();
        assert_eq!(found, vec![&[0, 0][..], &[2, 3]]);
        assert!(out.batches.iter().all(|batch| batch.column(0).len() == 2));
    }
}
