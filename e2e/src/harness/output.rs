//! [io] A job's output: what its sinks committed to S3, and what a fault-free run on this machine gives.

use std::collections::BTreeMap;
use std::sync::Arc;

use rheos_checkpoint::paths::ObjectPath;
use rheos_checkpoint::{Store, open};

use crate::oracle::{Multiset, count, read_folder};
use crate::s3::{BUCKET, client_options};
use crate::shapes::{Settings, Shape};
use crate::worker::Job;

/// Largest output file that is read, bytes.
const FILE_LIMIT: u64 = 256 * 1024 * 1024;
/// Fewest rows of a table with which a comparison says something.
const ENOUGH: usize = 10;

/// Rows by table.
pub type Outputs = BTreeMap<&'static str, Multiset>;

/// A client of the S3 server at `endpoint`.
///
/// # Panics
/// When none can be made.
pub fn store(endpoint: &str) -> Arc<dyn Store> {
    open(&format!("s3://{BUCKET}"), &client_options(endpoint)).expect("a client of the S3 server")
}

/// All objects below a folder, hidden ones left out.
///
/// # Panics
/// When the server does not answer.
pub async fn objects(store: &dyn Store, folder: &str) -> Vec<ObjectPath> {
    let mut folders = vec![ObjectPath::parse(folder).expect("a path")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let listing = store.list(&folder).await.unwrap_or_else(|error| panic!("{folder}: {error}"));
        let shown = |name: &str| !name.starts_with('.') && !name.starts_with('_');
        found.extend(listing.objects.into_iter().map(|entry| entry.path).filter(|path| shown(path.name())));
        let below = listing.folders.iter().filter(|name| shown(name));
        folders.extend(below.map(|name| ObjectPath::parse(&format!("{folder}/{name}")).expect("a folder's name")));
    }
    found.sort();
    found
}

/// What the sinks of a shape have committed below `folder`.
///
/// # Errors
/// When a file holds what is no row.
pub async fn committed(store: &dyn Store, shape: &Shape, folder: &str) -> Result<Outputs, String> {
    let mut outputs = Outputs::new();
    for (table, _) in shape.sinks {
        let mut rows = Multiset::new();
        for path in objects(store, &format!("{folder}/{table}")).await {
            let object = store.get(&path, FILE_LIMIT).await.map_err(|error| error.to_string())?;
            count(&mut rows, &String::from_utf8_lossy(&object.bytes)).map_err(|error| format!("{path}: {error}"))?;
        }
        rows.retain(|_, count| *count != 0);
        outputs.insert(table, rows);
    }
    Ok(outputs)
}

/// What a fault-free run on one worker gives, as fast as it goes, on this machine.
///
/// # Panics
/// When it fails.
pub async fn fault_free(shape: &Shape, events: u64) -> Outputs {
    let job = Job::new(&shape.manifest(&Settings { events, parallelism: 1, ..Settings::default() }));
    let mut run = job.start();
    assert_eq!(run.wait().await, 0, "{}: the fault-free run failed\n{}", shape.name, run.log());
    let read = |table: &'static str| read_folder(&job.path(table)).unwrap_or_else(|error| panic!("{error}"));
    let outputs: Outputs = shape.sinks.iter().map(|(table, _)| (*table, read(table))).collect();
    for (table, rows) in &outputs {
        assert!(rows.len() > ENOUGH, "{}: {table} has only {} rows: nothing would be compared", shape.name, rows.len());
    }
    outputs
}
