//! End-to-end tests, faults, oracles and benches: real worker processes, looked at only from outside.

pub mod bench;
pub mod flights;
pub mod oracle;
pub mod s3;
pub mod shapes;
pub mod worker;
