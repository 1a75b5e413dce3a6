//! [io] Minting generations in the checkpoint store.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use futures::future::BoxFuture;
use rheos_checkpoint::Protocol;
use rheos_checkpoint::paths::{JobPaths, ObjectPath};
use rheos_checkpoint::store::open;
use rheos_checkpoint::workflow::{ProtocolError, Restore};
use rheos_dataflow::error::ErrorKind;

use crate::engine::wire::Job;
use crate::supervise::decide::{Cause, Minted};
use crate::supervise::driver::{cause, transient};

/// What failures of the store are said to be of.
const PLACE: &str = "checkpoint store";

/// Mints generations. Guarantees: each call gives a higher generation than every earlier one of the job, whoever made
/// it, and its start record exists when it returns.
pub trait Mint: Send + Sync {
    /// Mints the next one.
    fn mint(&self) -> BoxFuture<'_, Result<Minted, Cause>>;
}

/// Mints in the job's store.
#[derive(Debug)]
pub struct StoreMint {
    protocol: Protocol,
    restore: Option<Restore>,
}

impl StoreMint {
    /// For a job; opens nothing yet. With `from`, the job's first generation starts from that savepoint, once.
    ///
    /// # Errors
    /// What is wrong with the storage URI, the options or the savepoint's URI.
    pub fn new(job: &Job, from: Option<&str>) -> Result<Self, String> {
        let store = open(&job.storage_uri, &job.storage_options).map_err(|error| error.to_string())?;
        let paths = JobPaths::new(&job.namespace, &job.job, &job.uid).map_err(|error| error.to_string())?;
        let restore = from.map(|uri| savepoint(uri, &job.storage_options)).transpose()?;
        Ok(Self { protocol: Protocol::new(store, paths, random()), restore })
    }
}

impl Mint for StoreMint {
    fn mint(&self) -> BoxFuture<'_, Result<Minted, Cause>> {
        Box::pin(async {
            match self.protocol.begin(self.restore.as_ref()).await {
                Ok(begun) => Ok(Minted { generation: begun.generation, start_record: begun.start_record }),
                Err(error) => Err(classify(&error)),
            }
        })
    }
}

fn classify(error: &ProtocolError) -> Cause {
    match error {
        ProtocolError::Fenced { .. } => cause(PLACE, ErrorKind::Fenced, error, false),
        ProtocolError::Unusable(_) => cause(PLACE, ErrorKind::State, error, false),
        _ if error.is_transient() => transient(PLACE, error),
        ProtocolError::Store(_) | ProtocolError::Path(_) => cause(PLACE, ErrorKind::User, error, false),
        _ => cause(PLACE, ErrorKind::Bug, error, false),
    }
}

/// A savepoint's URI is its folder in a store: everything before the last segment opens the store.
fn savepoint(uri: &str, options: &BTreeMap<String, String>) -> Result<Restore, String> {
    let uri = uri.trim_end_matches('/');
    let shape = || format!("{uri:?} is no savepoint; write the URI that the savepoint was reported with");
    let (parent, folder) = uri.rsplit_once('/').ok_or_else(shape)?;
    let store = open(parent, options).map_err(|error| error.to_string())?;
    let folder = ObjectPath::parse(folder).map_err(|error| error.to_string())?;
    Ok(Restore { request: uri.to_owned(), store: Some(Arc::clone(&store)), folder })
}

/// A number that no other process draws.
pub fn random() -> u64 {
    RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()))
}
