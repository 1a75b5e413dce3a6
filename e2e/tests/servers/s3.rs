//! The store's conformance suite and a job with its checkpoints on real S3 servers.

use std::path::Path;

use rheos_e2e::gateway::{Gateway, Kind};
use rheos_e2e::storage::{carries_a_job, conformance_of, conforms};

use crate::block_on;

pub(crate) fn start(kind: Kind) -> Gateway {
    let name = match kind {
        Kind::Versitygw | Kind::VersitygwSidecar => "RHEOS_VERSITYGW",
        Kind::Minio => "RHEOS_MINIO",
    };
    let binary = std::env::var(name).unwrap_or_else(|_| panic!("{name} names the server: run `cargo xtask servers`"));
    Gateway::start(Path::new(&binary), kind).expect("the S3 server")
}

#[test]
fn the_store_conforms_on_versitygw() {
    let gateway = start(Kind::Versitygw);
    block_on(conforms(&gateway.endpoint()));
}

#[test]
fn a_job_lives_on_versitygw() {
    let gateway = start(Kind::Versitygw);
    block_on(carries_a_job(&gateway.endpoint()));
}

/// The suite can fail on a real server, and names the guarantee that is broken.
#[test]
fn the_suite_sees_the_updates_that_versitygw_loses_with_a_sidecar() {
    let gateway = start(Kind::VersitygwSidecar);
    let broken = block_on(conformance_of(&gateway.endpoint())).expect_err("a server that loses updates passed");
    assert_eq!(broken.guarantee, "no replacement is lost under concurrency", "{broken}");
}

#[test]
fn the_store_conforms_on_minio() {
    let gateway = start(Kind::Minio);
    block_on(conforms(&gateway.endpoint()));
}

#[test]
fn a_job_lives_on_minio() {
    let gateway = start(Kind::Minio);
    block_on(carries_a_job(&gateway.endpoint()));
}
