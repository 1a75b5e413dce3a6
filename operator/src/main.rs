//! [io] The operator's process.

fn main() {}
