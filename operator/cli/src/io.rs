//! [io] The edge: the cluster, the terminal, files.

pub mod cluster;
pub mod live;
pub mod manifest;
pub mod terminal;
pub mod wait;
