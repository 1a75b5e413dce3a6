//! [pure] A dataflow graph as a Mermaid flowchart, as an SVG picture, as JSON.

use std::fmt::Write;

use rheos_dataflow::graph::{DataflowGraph, Edge, Exchange, OperatorSpec};
use serde_json::{Value, json};

/// Width of a box, px.
const BOX_WIDTH: usize = 300;
/// Height of a box, px.
const BOX_HEIGHT: usize = 52;
/// Between two boxes of a row, px.
const GAP_X: usize = 40;
/// Between two rows, px.
const GAP_Y: usize = 56;
/// Around it all, px.
const MARGIN: usize = 20;
/// Characters of a line in a box.
const LINE: usize = 44;

/// What a node is, for its look.
fn kind(spec: &OperatorSpec) -> &'static str {
    match spec {
        OperatorSpec::Source(_) => "source",
        OperatorSpec::Sink(_) => "sink",
        _ => "operator",
    }
}

/// How rows move along an edge; nothing where they stay on their worker.
fn label(graph: &DataflowGraph, edge: &Edge) -> Option<String> {
    match &edge.exchange {
        Exchange::Forward => None,
        Exchange::HashShuffle(columns) if columns.is_empty() => Some("all to one".to_owned()),
        Exchange::HashShuffle(columns) => {
            let schema = &graph.nodes[edge.from].schema;
            let names: Vec<&str> = columns.iter().map(|column| schema.field(*column).name().as_str()).collect();
            Some(format!("hash({})", names.join(", ")))
        }
        Exchange::Rebalance => Some("rebalance".to_owned()),
        Exchange::Broadcast => Some("broadcast".to_owned()),
    }
}

/// A Mermaid flowchart.
pub fn mermaid(graph: &DataflowGraph) -> String {
    let quote =
        |text: &str| text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;").replace('#', "&num;");
    let mut text = "flowchart TD\n".to_owned();
    for (index, node) in graph.nodes.iter().enumerate() {
        let (open, close) = match kind(&node.spec) {
            "source" => ("[(", ")]"),
            "sink" => ("[/", "/]"),
            _ => ("[", "]"),
        };
        let changes = if node.changelog { "<br/>changes" } else { "" };
        let _ = writeln!(text, "  n{index}{open}\"{}<br/>{}{changes}\"{close}", quote(&node.id.0), quote(&node.title));
    }
    for edge in &graph.edges {
        let _ = match label(graph, edge) {
            Some(label) => writeln!(text, "  n{} -->|\"{}\"| n{}", edge.from, quote(&label), edge.to),
            None => writeln!(text, "  n{} --> n{}", edge.from, edge.to),
        };
    }
    text
}

/// Nodes and edges.
pub fn value(graph: &DataflowGraph) -> Value {
    let node = |node: &rheos_dataflow::graph::Node| {
        let columns: Vec<Value> = (node.schema.fields().iter())
            .map(|field| json!({"name": field.name(), "type": field.data_type().to_string(), "nullable": field.is_nullable()}))
            .collect();
        json!({
            "id": node.id, "title": node.title, "kind": kind(&node.spec), "columns": columns,
            "changes": node.changelog, "state": node.state_schema,
        })
    };
    let edge = |edge: &Edge| json!({"from": graph.nodes[edge.from].id, "to": graph.nodes[edge.to].id, "port": edge.port, "exchange": label(graph, edge).unwrap_or_else(|| "forward".into())});
    json!({"nodes": graph.nodes.iter().map(node).collect::<Vec<_>>(), "edges": graph.edges.iter().map(edge).collect::<Vec<_>>()})
}

/// The row of each node, sources in the first one: below everything that it reads.
fn rows(graph: &DataflowGraph) -> Vec<usize> {
    let mut rows = vec![0; graph.nodes.len()];
    // Nodes are in topological order.
    for index in 0..graph.nodes.len() {
        let above = graph.edges.iter().filter(|edge| edge.to == index).map(|edge| rows[edge.from] + 1);
        rows[index] = above.max().unwrap_or(0);
    }
    rows
}

/// Left upper corners: rows below each other, in a row each node near to what it reads.
fn places(graph: &DataflowGraph) -> Vec<(usize, usize)> {
    let rows = rows(graph);
    let mut columns = vec![0_usize; graph.nodes.len()];
    for row in 0..=rows.iter().copied().max().unwrap_or(0) {
        let mut members: Vec<usize> = (0..graph.nodes.len()).filter(|index| rows[*index] == row).collect();
        let wish = |index: &usize| {
            let above: Vec<usize> = graph.edges.iter().filter(|edge| edge.to == *index).map(|edge| columns[edge.from]).collect();
            (above.iter().sum::<usize>() * 1_000 / above.len().max(1), *index)
        };
        members.sort_by_key(wish);
        members.iter().enumerate().for_each(|(column, index)| columns[*index] = column);
    }
    let place = |index: usize| (MARGIN + columns[index] * (BOX_WIDTH + GAP_X), MARGIN + rows[index] * (BOX_HEIGHT + GAP_Y));
    (0..graph.nodes.len()).map(place).collect()
}

/// An SVG picture.
pub fn svg(graph: &DataflowGraph) -> String {
    let places = places(graph);
    let width = places.iter().map(|(x, _)| x + BOX_WIDTH + MARGIN).max().unwrap_or(MARGIN);
    let height = places.iter().map(|(_, y)| y + BOX_HEIGHT + MARGIN).max().unwrap_or(MARGIN);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" \
         markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0 8 4 0 8Z\" fill=\"#555\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for edge in &graph.edges {
        let ((from_x, from_y), (to_x, to_y)) = (places[edge.from], places[edge.to]);
        let (x1, y1, x2, y2) = (from_x + BOX_WIDTH / 2, from_y + BOX_HEIGHT, to_x + BOX_WIDTH / 2, to_y);
        let middle = y1.midpoint(y2);
        let _ = writeln!(
            text,
            "<path d=\"M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}\" fill=\"none\" stroke=\"#555\" marker-end=\"url(#tip)\"/>"
        );
        if let Some(label) = label(graph, edge) {
            let (x, y) = (x1.midpoint(x2) + 6, middle + 4);
            let _ = writeln!(text, "<text x=\"{x}\" y=\"{y}\" fill=\"#555\" font-size=\"11\">{}</text>", escape(&label));
        }
    }
    for (node, (x, y)) in graph.nodes.iter().zip(&places) {
        let (fill, line) = match kind(&node.spec) {
            "source" => ("#e3f2e6", "#3a7d44"),
            "sink" => ("#e4ecf7", "#35619f"),
            _ => ("#f6f6f6", "#888"),
        };
        let dash = if node.changelog { " stroke-dasharray=\"5 3\"" } else { "" };
        let (x_text, y_id, y_title) = (x + 10, y + 20, y + 39);
        let _ = writeln!(
            text,
            "<g><title>{}: {}</title><rect x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"6\" fill=\"{fill}\" \
             stroke=\"{line}\"{dash}/><text x=\"{x_text}\" y=\"{y_id}\" font-weight=\"bold\">{}</text><text x=\"{x_text}\" \
             y=\"{y_title}\">{}</text></g>",
            escape(&node.id.0),
            escape(&node.title),
            escape(&cut(&node.id.0)),
            escape(&cut(&node.title)),
        );
    }
    text + "</svg>\n"
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LINE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Text in XML; control characters have no place there.
fn escape(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
