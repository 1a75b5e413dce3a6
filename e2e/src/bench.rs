//! [io] The benches behind the README's tables. Each runs the release worker and prints the rows it measured.

pub mod kafka;
pub mod nexmark;
pub mod operator;
pub mod recovery;
pub mod results;
pub mod table;
