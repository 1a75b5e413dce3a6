//! [pure] The operators that run a graph's nodes, one file each.
