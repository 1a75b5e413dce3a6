//! [pure] Cuts a dataflow graph into stages: what runs fused on one worker between two exchanges.
//!
//! A stage begins at a source, at an exchange that moves rows, or where streams of several stages meet; everything
//! reached from there by `Forward` edges of that stage alone is fused into it. So a stage has either one source or one
//! input for each incoming edge, and a chain like source -> calc -> sink is a single engine operator.

use crate::graph::{DataflowGraph, Exchange, NodeIndex, OperatorSpec};

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
#[derive(Debug, Clone, Default)]
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

impl ExecutionPlan {
    /// Cuts `graph`, which must satisfy [`DataflowGraph::validate`].
    pub fn cut(graph: DataflowGraph) -> Self {
        let mut plan = Self { stages: Vec::new(), channels: Vec::new(), graph };
        let mut stage_of: Vec<StageIndex> = Vec::with_capacity(plan.graph.nodes.len());
        for (index, node) in plan.graph.nodes.iter().enumerate() {
            let stage = match fusable_with(&plan.graph, index, &stage_of) {
                Some(stage) => stage,
                None => {
                    let stage = plan.stages.len();
                    plan.stages.push(Stage::default());
                    for edge in plan.graph.inputs(index) {
                        let channel = plan.channels.len();
                        let from = stage_of[edge.from];
                        plan.channels.push(Channel {
                            from,
                            to: stage,
                            from_node: edge.from,
                            to_node: index,
                            port: edge.port,
                            exchange: edge.exchange.clone(),
                        });
                        plan.stages[from].outputs.push(channel);
                        plan.stages[stage].inputs.push(channel);
                    }
                    stage
                }
            };
            stage_of.push(stage);
            let entry = &mut plan.stages[stage];
            entry.nodes.push(index);
            match node.spec {
                OperatorSpec::Source(_) => entry.source = Some(index),
                OperatorSpec::Sink(_) => entry.sinks.push(index),
                _ => {}
            }
        }
        plan
    }
}

/// The one stage that all inputs of `node` come from by `Forward`, if there is one.
fn fusable_with(graph: &DataflowGraph, node: NodeIndex, stage_of: &[StageIndex]) -> Option<StageIndex> {
    let mut inputs = graph.inputs(node).map(|edge| (edge.exchange == Exchange::Forward).then(|| stage_of[edge.from]));
    let first = inputs.next()??;
    inputs.all(|stage| stage == Some(first)).then_some(first)
}
