//! Streaming SQL text to a dataflow graph.
