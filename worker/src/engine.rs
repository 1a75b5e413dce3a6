//! The engine: the child process that runs the dataflow. It shares nothing with its supervisor but a pipe.

pub mod channel;
pub mod wire;
