//! [pure] How each sink keeps what the job promises.
//!
//! Only `AtMostOnce` is different from sink to sink. After a failure the job goes on with the state of the last record, say
//! of epoch e, and its sources go on behind all rows that are there: no row is read twice.
//!
//! (1) *Before any state* a sink writes at once: its rows are made of the rows of the open epoch only, and those come once.
//!
//! (2) *Behind state* it must not: restored state emits again what it emitted after e (a window fires again; a group takes
//! back a value that is already replaced). There the sink does what exactly-once asks for: it stages, and shows by permit.
//! Then output of epochs up to e is shown by the commit of a record, which is idempotent, and the state of e does not emit it
//! again, for a tick cuts state and output at the same place. Output of later epochs was in no record, so nobody has seen
//! it: what is emitted again is seen for the first time.
//!
//! (3) What the record carries is therefore committed again as with exactly-once, not dropped: this repeats nothing, and a
//! change-log whose last changes were dropped would take back rows that it never gave.
//!
//! So the loss is of input only: rows that came between e and the restart. The output is that of a fault-free run over the
//! other rows, except that what a sink of (1) had not yet written is lost, too.
//!
//! (1) rests on the end of the older generation: an engine that is cut off and lives on reads what its successor reads, and a
//! sink that writes at once has no fence. Staged output has one: an older generation gets no permit.

use super::Delivery;
use crate::graph::{DataflowGraph, NodeIndex, OperatorSpec};

impl Delivery {
    /// How the sink node `sink` keeps this promise of the job.
    pub fn of_sink(self, graph: &DataflowGraph, sink: NodeIndex) -> Self {
        match self {
            Self::AtMostOnce if behind_state(graph, sink) => Self::ExactlyOnce,
            promised => promised,
        }
    }
}

/// Whether rows reach `node` from an operator that may emit them again when its state is restored.
fn behind_state(graph: &DataflowGraph, node: NodeIndex) -> bool {
    graph.inputs(node).any(|edge| keeps_state(&graph.nodes[edge.from].spec) || behind_state(graph, edge.from))
}

/// Whether output depends on rows of earlier epochs.
fn keeps_state(spec: &OperatorSpec) -> bool {
    match spec {
        OperatorSpec::WindowAggregate(_) | OperatorSpec::GroupAggregate(_) => true,
        // The local phases give all that they have when an epoch closes.
        OperatorSpec::LocalWindowAggregate(_) | OperatorSpec::LocalGroupAggregate(_) => false,
        OperatorSpec::Source(_)
        | OperatorSpec::Calc(_)
        | OperatorSpec::WindowAssign(_)
        | OperatorSpec::LookupJoin(_)
        | OperatorSpec::Union
        | OperatorSpec::Sink(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::jobs::{Shape, SimJob};
    use crate::sim::source::Content;

    /// How the sinks of a job keep a promise, in the order of the graph.
    fn sinks(shape: Shape, promised: Delivery) -> Vec<Delivery> {
        let graph = SimJob::new(shape, Content { seed: 1, splits: 1, rows: 1, keys: 1 }).unwrap().graph;
        let sinks = (0..graph.nodes.len()).filter(|node| matches!(graph.nodes[*node].spec, OperatorSpec::Sink(_)));
        sinks.map(|sink| promised.of_sink(&graph, sink)).collect()
    }

    #[test]
    fn at_most_once_holds_back_what_comes_from_state_and_nothing_else() {
        use Delivery::{AtMostOnce, ExactlyOnce};
        for shape in [Shape::Filter, Shape::Rebalance, Shape::Lookup] {
            assert_eq!(sinks(shape, AtMostOnce), [AtMostOnce], "{shape:?}");
        }
        for shape in [Shape::Tumble, Shape::Hop, Shape::Cumulate, Shape::Union, Shape::Group, Shape::GroupOverGroup] {
            assert_eq!(sinks(shape, AtMostOnce), [ExactlyOnce], "{shape:?}");
        }
        assert_eq!(sinks(Shape::TwoSinks, AtMostOnce), [AtMostOnce, ExactlyOnce]);
    }

    #[test]
    fn state_is_found_behind_other_operators() {
        let mut graph = SimJob::new(Shape::Tumble, Content { seed: 1, splits: 1, rows: 1, keys: 1 }).unwrap().graph;
        let sink = graph.nodes.len() - 1;
        // What stands between the window and the sink is a union with a branch that has no state.
        let edge = graph.edges.iter_mut().find(|edge| edge.to == sink).unwrap();
        let window = std::mem::replace(&mut edge.from, sink + 1);
        let union = crate::graph::Node { spec: OperatorSpec::Union, ..graph.nodes[0].clone() };
        graph.nodes.push(union);
        let branch = |from, port| crate::graph::Edge { from, to: sink + 1, port, exchange: crate::graph::Exchange::Forward };
        graph.edges.extend([branch(0, 0), branch(window, 1)]);
        assert_eq!(Delivery::AtMostOnce.of_sink(&graph, sink), Delivery::ExactlyOnce);
        graph.edges.pop();
        assert_eq!(Delivery::AtMostOnce.of_sink(&graph, sink), Delivery::AtMostOnce);
    }

    #[test]
    fn the_other_promises_are_kept_by_every_sink_alike() {
        for shape in Shape::ALL {
            for promised in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
                assert!(sinks(shape, promised).iter().all(|sink| *sink == promised), "{shape:?}");
            }
        }
    }
}
