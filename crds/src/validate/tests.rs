//! Every rule of validation at its limit, and all errors at once.

use super::*;
use crate::parse_manifest;

fn job() -> StreamJob {
    parse_manifest("apiVersion: rheos.dev/v1alpha1\nkind: StreamJob\nmetadata: {name: a}\nspec: {sql: SELECT}\n").unwrap()
}

/// The paths of all violations after a change.
fn paths(change: impl FnOnce(&mut StreamJob)) -> Vec<String> {
    let mut job = job();
    change(&mut job);
    match validate(&job) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.into_iter().map(|error| error.path).collect(),
    }
}

#[test]
fn defaults_are_valid() {
    let job = validate(&job()).unwrap();
    assert_eq!((job.parallelism, job.max_parallelism, job.checkpoint.retain, job.restart.max_restarts), (1, 128, 3, 10));
    assert_eq!(job.checkpoint.interval, Duration::from_secs(10));
}

#[test]
fn every_limit_holds_exactly() {
    let sql = |bytes| paths(|job| job.spec.sql = Some("x".repeat(bytes)));
    assert_eq!((sql(SQL_LIMIT), sql(SQL_LIMIT + 1)), (vec![], vec!["spec.sql".into()]));
    let workers = |n, max| paths(|job| (job.spec.parallelism, job.spec.max_parallelism) = (n, max));
    for (n, max, good) in
        [(1, 1, true), (8, 8, true), (9, 8, false), (0, 8, false), (-1, 8, false), (i64::MAX, 8, false), (32_768, 32_768, true)]
    {
        assert_eq!(workers(n, max).is_empty(), good, "{n} of {max}");
    }
    assert_eq!(workers(1, 32_769), ["spec.maxParallelism"]);
    assert_eq!(workers(1, 0), ["spec.maxParallelism"]);
    let interval = |text: &str| paths(|job| job.spec.checkpoint.interval = text.into());
    assert_eq!((interval("100ms"), interval("99ms")), (vec![], vec!["spec.checkpoint.interval".into()]));
    let timeout = |text: &str| paths(|job| job.spec.checkpoint.timeout = text.into());
    assert_eq!((timeout("10s"), timeout("9s")), (vec![], vec!["spec.checkpoint.timeout".into()]));
    let retain = |n| paths(|job| job.spec.checkpoint.retain = n);
    assert_eq!((retain(1), retain(100)), (vec![], vec![]));
    assert_eq!((retain(0), retain(101)), (vec!["spec.checkpoint.retain".into()], vec!["spec.checkpoint.retain".into()]));
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_fields() {
    let errors = paths(|job| {
        job.api_version = "rheos.dev/v1".into();
        job.metadata.name = "A".into();
        job.spec.sql = None;
        job.spec.parallelism = 0;
        job.spec.checkpoint.interval = "soon".into();
        job.spec.checkpoint.retain = 0;
        job.spec.restart.backoff.max = "1ms".into();
        job.spec.worker.slots = 0;
    });
    let expected = [
        "apiVersion",
        "metadata.name",
        "spec.sql",
        "spec.parallelism",
        "spec.checkpoint.interval",
        "spec.checkpoint.retain",
        "spec.restart.backoff.max",
        "spec.worker.slots",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn one_of_two_is_exactly_one() {
    let from = |savepoint: Option<&str>, uri: Option<&str>| {
        paths(|job| {
            job.spec.restore = Some(Restore {
                from: crate::stream_job::RestoreFrom { savepoint: savepoint.map(Into::into), uri: uri.map(Into::into) },
                allow_non_restored_state: false,
                nonce: 0,
            });
        })
    };
    assert!(from(Some("sp-1"), None).is_empty() && from(None, Some("s3://b/x")).is_empty());
    assert_eq!(from(None, None), ["spec.restore.from"]);
    assert_eq!(from(Some("a"), Some("s3://b/x")), ["spec.restore.from"]);
    assert_eq!(from(Some("../a"), None), ["spec.restore.from.savepoint"]);
    assert_eq!(from(None, Some("s3://b/../x")), ["spec.restore.from.uri"]);
}
