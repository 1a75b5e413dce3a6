//! What the tests share: planning with a check of the graph, and running a Calc on a batch.

use arrow::array::{ArrayRef, RecordBatch};
use rheos_dataflow::graph::{DataflowGraph, OperatorSpec};
use rheos_dataflow::key_group::Subtask;
use rheos_sql::{PlanOptions, Planned, explain, plan};

/// Plans a script that must be valid.
pub(crate) fn planned(sql: &str) -> Planned {
    let planned = plan(sql, &PlanOptions::default()).unwrap_or_else(|errors| panic!("{}", all(&errors)));
    planned.graph.validate().unwrap();
    check_operators(&planned.graph);
    planned
}

/// The engine takes every node: schemas, column numbers and types fit.
pub(crate) fn check_operators(graph: &DataflowGraph) {
    let subtask = Subtask { index: 0, workers: 1, groups: 4 };
    for (index, node) in graph.nodes.iter().enumerate() {
        if matches!(node.spec, OperatorSpec::Source(_) | OperatorSpec::Sink(_) | OperatorSpec::LookupJoin(_)) {
            continue;
        }
        let inputs: Vec<_> = graph.inputs(index).map(|edge| std::sync::Arc::clone(&graph.nodes[edge.from].schema)).collect();
        if let Err(error) = rheos_dataflow::operators::build(node, &inputs, subtask) {
            panic!("{}: {error}", node.id);
        }
    }
}

/// The plan of a script as text.
pub(crate) fn explained(sql: &str) -> String {
    explain(&planned(sql))
}

/// The errors of a script, one a line; empty when it is valid.
pub(crate) fn errors(sql: &str) -> String {
    plan(sql, &PlanOptions::default()).map_or_else(|errors| all(&errors), |_| String::new())
}

fn all(errors: &[rheos_sql::SqlError]) -> String {
    errors.iter().map(|error| format!("{error}\n")).collect()
}

/// Applies the script's Calcs, and the prelude of its only source, to a batch of the source's physical columns.
pub(crate) fn run_calcs(graph: &DataflowGraph, batch: &RecordBatch) -> datafusion_common::Result<Vec<ArrayRef>> {
    let mut batch = batch.clone();
    for node in &graph.nodes {
        let spec = match &node.spec {
            OperatorSpec::Source(source) => {
                let columns: Vec<&str> = source.physical.fields().iter().map(|field| field.name().as_str()).collect();
                let indexes: Vec<usize> = columns.iter().map(|name| batch.schema().index_of(name).unwrap()).collect();
                batch = batch.project(&indexes)?;
                source.prelude.as_ref()
            }
            OperatorSpec::Calc(spec) => Some(spec),
            OperatorSpec::Sink(_) => None,
            other => panic!("only Calcs here: {other:?}"),
        };
        let Some(spec) = spec else { continue };
        if let Some(filter) = &spec.filter {
            let keep = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
            batch = arrow::compute::filter_record_batch(&batch, keep.as_any().downcast_ref().unwrap())?;
        }
        let columns = spec.project.iter().map(|expr| expr.evaluate(&batch)?.into_array(batch.num_rows()));
        let columns = columns.collect::<datafusion_common::Result<Vec<_>>>()?;
        batch = RecordBatch::try_new(std::sync::Arc::clone(&node.schema), columns)?;
    }
    Ok(batch.columns().to_vec())
}
