//! [pure] Cuts a dataflow graph into stages: what runs fused on one worker between two exchanges.
//!
//! A stage begins at a source, at an exchange that moves rows, or where streams of several stages meet; everything
//! reached from there by `Forward` edges of that stage alone is fused into it. So a stage has either one source or one
//! input port for each incoming edge, and a chain like source -> calc -> sink is a single engine operator.

use crate::graph::{DataflowGraph, Exchange, NodeIndex};

/// A stage's index in [`ExecutionPlan::stages`].
pub type StageIndex = usize;
/// An edge's index in [`ExecutionPlan::channels`].
pub type ChannelIndex = usize;

/// The graph, cut.
#[derive(Debug, Clone)]
pub struct ExecutionPlan {
    /// The graph it was cut from.
    pub graph: DataflowGraph,
    /// In topological order.
    pub stages: Vec<Stage>,
    /// Edges between stages.
    pub channels: Vec<Channel>,
}

/// A fused part of the graph.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its nodes, in topological order.
    pub nodes: Vec<NodeIndex>,
    /// The source that it begins with, if it does.
    pub source: Option<NodeIndex>,
    /// Incoming channels; a channel's place here is the stage's input number.
    pub inputs: Vec<ChannelIndex>,
    /// Outgoing channels; a channel's place here is the stage's output number.
    pub outputs: Vec<ChannelIndex>,
    /// Its sinks.
    pub sinks: Vec<NodeIndex>,
}

/// An edge between two stages.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Producing stage.
    pub from: StageIndex,
    /// Consuming stage.
    pub to: StageIndex,
    /// Producing node.
    pub from_node: NodeIndex,
    /// Consuming node.
    pub to_node: NodeIndex,
    /// The consuming node's port.
    pub port: usize,
    /// How rows find their subtask (`Forward` where stages meet on the same worker).
    pub exchange: Exchange,
}
