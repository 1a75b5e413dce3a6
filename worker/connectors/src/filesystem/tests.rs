//! [io] Files read and written: local, and through a store in memory.

mod growing;
mod partitions;
mod pruning;
mod sink;
mod source;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use object_store::memory::InMemory;

use super::location::{Listing, Location, Remote};
use crate::testing::runtime;

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn gzip(content: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content.as_ref()).unwrap();
    encoder.finish().unwrap()
}

/// The names of all files that a reader of a place sees.
fn names(location: &Location) -> Vec<String> {
    location.list(&Listing { pattern: None, most: 10_000 }).unwrap().into_keys().collect()
}

/// A place in a store in memory.
fn remote() -> (Arc<InMemory>, Location) {
    let store = Arc::new(InMemory::new());
    let remote = Remote {
        store: Arc::clone(&store) as Arc<dyn object_store::ObjectStore>,
        prefix: "data".into(),
        runtime: runtime(),
        shown: "s3://bucket/data".to_owned(),
    };
    (store, Location::Remote(remote))
}
