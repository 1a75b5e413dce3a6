//! Tests against real servers and data from outside; `cargo xtask servers` installs and names them.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests: they fail by panicking, and run real files, clocks and processes"
)]

mod files;
mod kafka;
mod postgres;
mod s3;

use std::path::Path;

#[test]
fn a_year_of_departures_equals_sqlite() {
    let year = std::env::var("RHEOS_FLIGHTS_CSV").expect("RHEOS_FLIGHTS_CSV names the file: run `cargo xtask servers`");
    block_on(rheos_e2e::flights::equals_sqlite(Path::new(&year), 336_776));
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test)
}
