//! A job with its checkpoints on versitygw.

use std::path::Path;

use rheos_e2e::gateway::Gateway;
use rheos_e2e::storage::carries_a_job;

use crate::block_on;

fn gateway() -> Gateway {
    let binary = std::env::var("RHEOS_VERSITYGW").expect("RHEOS_VERSITYGW names the server: run `cargo xtask servers`");
    Gateway::start(Path::new(&binary)).expect("the S3 server")
}

#[test]
fn a_job_lives_on_versitygw() {
    let gateway = gateway();
    block_on(carries_a_job(&gateway.endpoint()));
}
