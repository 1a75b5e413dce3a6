//! What the tests share: reference runs and their comparison.

use std::collections::BTreeMap;
use std::path::Path;

use rheos_e2e::oracle::{Difference, Multiset, compare, part_files, read_folder};
pub(crate) use rheos_e2e::random::Random;
use rheos_e2e::shapes::{Settings, Shape};
use rheos_e2e::worker::Job;

/// Outputs by table.
pub(crate) type Outputs = BTreeMap<&'static str, Multiset>;

/// What the sinks of a shape hold now.
pub(crate) fn outputs(shape: &Shape, job: &Job) -> Outputs {
    outputs_in(shape, &job.path(""))
}

/// The same of sinks below a folder.
pub(crate) fn outputs_in(shape: &Shape, folder: &Path) -> Outputs {
    let read = |table: &'static str| read_folder(&folder.join(table)).unwrap_or_else(|error| panic!("{}: {error}", shape.name));
    shape.sinks.iter().map(|(table, _)| (*table, read(table))).collect()
}

/// Copies the committed output of a table up to an epoch: part files are named by it.
pub(crate) fn committed_until(from: &Path, epoch: u64, into: &Path) {
    std::fs::create_dir_all(into).expect("a folder");
    let mut kept = 0;
    for file in part_files(from).expect("a listing") {
        let name = file.file_name().expect("a file").to_string_lossy().into_owned();
        let of: u64 = name.split('-').nth(2).and_then(|part| part.parse().ok()).unwrap_or_else(|| panic!("{name} names no epoch"));
        if of <= epoch {
            std::fs::copy(&file, into.join(&name)).expect("a copy");
            kept += 1;
        }
    }
    assert!(kept > 0, "nothing was committed before the savepoint");
}

/// A fault-free run on one worker, as fast as it goes.
pub(crate) async fn reference(shape: &Shape, events: u64) -> Outputs {
    let settings = Settings { events, parallelism: 1, ..Settings::default() };
    let job = Job::new(&shape.manifest(&settings));
    let mut run = job.start();
    let code = run.wait().await;
    assert_eq!(code, 0, "{}: the fault-free run failed\n{}", shape.name, run.log());
    let outputs = outputs(shape, &job);
    for (table, rows) in &outputs {
        assert!(rows.len() > 10, "{}: {table} has only {} rows: nothing would be compared", shape.name, rows.len());
    }
    outputs
}

/// Panics with what differs.
pub(crate) fn assert_same(shape: &Shape, expected: &Outputs, actual: &Outputs, log: &str) {
    for (table, rows) in expected {
        let difference = compare(rows, &actual[table]);
        assert_eq!(difference, Difference::default(), "{}: {table} differs from the fault-free run\n{log}", shape.name);
    }
}

/// A runtime for one test.
pub(crate) fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test);
}
