//! [pure] The operators, and the one factory that makes them from the graph.
//!
//! Not here: sources and sinks, which the stage drives through their own seams.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use self::calc::Calc;
use self::group_aggregate::GroupAggregate;
use self::local_group_aggregate::LocalGroupAggregate;
use self::local_window_aggregate::LocalWindowAggregate;
use self::window_aggregate::WindowAggregate;
use self::window_assign::WindowAssign;
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::{Node, OperatorSpec};
use crate::key_group::Subtask;
use crate::operator::{Operator, Output, Progress};

pub mod calc;
mod event_time;
pub mod group_aggregate;
pub mod local_group_aggregate;
pub mod local_window_aggregate;
pub mod window_aggregate;
pub mod window_assign;

/// Makes the operator of `node` for one subtask. `input_schemas` are the schemas of its inputs, by port.
///
/// # Errors
/// `User` when the spec does not fit the schemas; `Bug` for nodes that are no operators (sources, sinks).
pub fn build(node: &Node, input_schemas: &[SchemaRef], subtask: Subtask) -> Result<Box<dyn Operator>> {
    let title = node.title.clone();
    let place = || node.title.clone();
    let input = || input_schemas.first().ok_or_else(|| DataflowError::new(place(), ErrorKind::Bug, "the operator has no input"));
    match &node.spec {
        OperatorSpec::Calc(spec) => Ok(Box::new(Calc::new(title, spec, input()?, &node.schema, node.changelog)?)),
        OperatorSpec::Union => Ok(Box::new(Union)),
        OperatorSpec::WindowAssign(spec) => Ok(Box::new(WindowAssign::new(title, spec, input()?, &node.schema)?)),
        OperatorSpec::LocalWindowAggregate(spec) => Ok(Box::new(LocalWindowAggregate::new(title, spec, input()?, &node.schema, subtask)?)),
        OperatorSpec::WindowAggregate(spec) => Ok(Box::new(WindowAggregate::new(title, spec, input()?, &node.schema, subtask)?)),
        OperatorSpec::LocalGroupAggregate(spec) => Ok(Box::new(LocalGroupAggregate::new(title, spec, input()?, &node.schema, subtask)?)),
        OperatorSpec::GroupAggregate(spec) => Ok(Box::new(GroupAggregate::new(title, spec, input()?, &node.schema, subtask)?)),
        OperatorSpec::Source(_) | OperatorSpec::Sink(_) => {
            Err(DataflowError::new(place(), ErrorKind::Bug, "sources and sinks are not operators"))
        }
    }
}

/// Passes all rows of all inputs through.
struct Union;

impl Operator for Union {
    fn on_batch(&mut self, _port: usize, batch: &RecordBatch, out: &mut Output) -> Result<Progress> {
        out.emit(batch.clone());
        Ok(Progress::Done)
    }
}
