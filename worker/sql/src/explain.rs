//! [pure] A graph as text: one line a node, inputs indented below.

use std::fmt::Write;

use rheos_dataflow::graph::{DataflowGraph, Exchange, Node, NodeIndex, OperatorSpec};

use crate::Planned;

/// The plan as a tree from each sink to its sources. A node that several read is written out once.
#[must_use]
pub fn explain(planned: &Planned) -> String {
    let graph = &planned.graph;
    let mut text = String::new();
    let mut shown = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        if matches!(node.spec, OperatorSpec::Sink(_)) {
            tree(graph, index, None, 0, &mut shown, &mut text);
        }
    }
    text
}

/// Nodes are at most a few hundred deep: the relational plan's depth is bounded.
fn tree(graph: &DataflowGraph, index: NodeIndex, exchange: Option<&Exchange>, depth: usize, shown: &mut [bool], text: &mut String) {
    let node = &graph.nodes[index];
    let indent = "  ".repeat(depth);
    let exchange = exchange.map_or_else(String::new, |exchange| moved(graph, index, exchange));
    let again = std::mem::replace(&mut shown[index], true);
    let details = if again { " (see above)".into() } else { format!("  {}{}", node.title, marks(node)) };
    // Writing to a string does not fail.
    let _ = writeln!(text, "{indent}{}{details}{exchange}", node.id);
    if !again {
        for edge in graph.inputs(index) {
            tree(graph, edge.from, Some(&edge.exchange), depth + 1, shown, text);
        }
    }
}

fn marks(node: &Node) -> String {
    let mut marks = String::new();
    if node.changelog {
        marks += " [changes]";
    }
    if let (Some(state), false) = (&node.state_schema, matches!(node.spec, OperatorSpec::Source(_) | OperatorSpec::Sink(_))) {
        marks += &format!(" [state: {state}]");
    }
    marks
}

fn moved(graph: &DataflowGraph, from: NodeIndex, exchange: &Exchange) -> String {
    match exchange {
        Exchange::Forward => String::new(),
        Exchange::HashShuffle(columns) if columns.is_empty() => " => all to one".into(),
        Exchange::HashShuffle(columns) => {
            let schema = &graph.nodes[from].schema;
            let names: Vec<&str> = columns.iter().map(|column| schema.field(*column).name().as_str()).collect();
            format!(" => hash({})", names.join(", "))
        }
        Exchange::Rebalance => " => rebalance".into(),
        Exchange::Broadcast => " => broadcast".into(),
    }
}
