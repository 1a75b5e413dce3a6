//! Checkpoints on a server that speaks S3, in this process.

use rheos_e2e::s3::S3Server;
use rheos_e2e::storage::{carries_a_job, conforms};

use crate::support::block_on;

#[test]
fn the_store_conforms_on_s3() {
    let server = S3Server::start().expect("a server");
    block_on(conforms(&server.endpoint()));
    assert_eq!(server.with(|objects| objects.open_uploads()), 0, "an upload was left open");
}

#[test]
fn a_job_lives_on_s3_through_kills_a_stop_and_a_rescale() {
    let server = S3Server::start().expect("a server");
    block_on(carries_a_job(&server.endpoint()));
    let keys = server.with(|objects| objects.keys());
    assert!(keys.iter().any(|key| key.contains("/log/")), "nothing was kept there: {keys:?}");
}
