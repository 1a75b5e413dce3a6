//! [io] Minting generations in the checkpoint store.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use futures::future::BoxFuture;
use rheos_checkpoint::paths::{JobPaths, ObjectPath};
use rheos_checkpoint::store::open;
use rheos_checkpoint::workflow::{ProtocolError, Restore};
use rheos_checkpoint::{Protocol, Store};
use rheos_control_api::SavepointView;
use rheos_dataflow::error::ErrorKind;

use crate::engine::wire::Job;
use crate::supervise::decide::{Cause, Minted};
use crate::supervise::driver::{cause, transient};

/// What failures of the store are said to be of.
const PLACE: &str = "checkpoint store";

/// Mints generations. Guarantees: each call gives a higher generation than every earlier one of the job, whoever made
/// it, and its start record exists when it returns.
pub trait Mint: Send + Sync {
    /// Mints the next one, by an order (0 where there is only ever one coordinator). Where one was minted by a higher
    /// order, the caller is fenced.
    fn mint(&self, order: u64) -> BoxFuture<'_, Result<Minted, Cause>>;
}

/// Mints in the job's store.
#[derive(Debug)]
pub struct StoreMint {
    protocol: Protocol,
    restore: Option<Restore>,
    storage_uri: String,
}

impl StoreMint {
    /// For a job; opens nothing yet. With `from`, the next generation starts from that savepoint, once; when it is
    /// `first`, only if the job has no checkpoint yet.
    ///
    /// # Errors
    /// What is wrong with the storage URI, the options or the savepoint's URI.
    pub fn new(job: &Job, from: Option<&str>, first: bool) -> Result<Self, String> {
        let store = open(&job.storage_uri, &job.storage_options).map_err(|error| error.to_string())?;
        let paths = JobPaths::new(&job.namespace, &job.job, &job.uid).map_err(|error| error.to_string())?;
        let restore = from.map(|uri| savepoint(uri, &job.storage_options, first)).transpose()?;
        let storage_uri = job.storage_uri.trim_end_matches('/').to_owned();
        Ok(Self { protocol: Protocol::new(store, paths, random()), restore, storage_uri })
    }

    /// A savepoint of the job that was taken under this id, by whomever: its URI and epoch.
    pub async fn find_savepoint(&self, id: &str) -> Option<SavepointView> {
        let folder = self.protocol.job().savepoint(id).ok()?;
        let uri = format!("{}/{}", self.storage_uri, folder.as_str());
        let wanted = Restore { request: uri.clone(), store: None, folder, first: false };
        // What cannot be read now is taken anew, and refused there if the id is in use after all.
        let found = self.protocol.read_savepoint(&wanted).await.ok()?;
        Some(SavepointView::Completed { uri, epoch: found.manifest.epoch })
    }
}

impl Mint for StoreMint {
    fn mint(&self, order: u64) -> BoxFuture<'_, Result<Minted, Cause>> {
        Box::pin(async move {
            match self.protocol.clone().with_claim(order).begin(self.restore.as_ref()).await {
                Ok(begun) => Ok(Minted { generation: begun.generation, start_record: begun.start_record }),
                Err(error) => Err(classify(&error)),
            }
        })
    }
}

fn classify(error: &ProtocolError) -> Cause {
    match error {
        _ if error.is_fenced() => cause(PLACE, ErrorKind::Fenced, error, false),
        ProtocolError::Unusable(_) => cause(PLACE, ErrorKind::State, error, false),
        _ if error.is_transient() => transient(PLACE, error),
        _ if error.is_denied() => cause(PLACE, ErrorKind::Denied, error, false),
        ProtocolError::Store(_) | ProtocolError::Path(_) => cause(PLACE, ErrorKind::User, error, false),
        _ => cause(PLACE, ErrorKind::Bug, error, false),
    }
}

fn savepoint(uri: &str, options: &BTreeMap<String, String>, first: bool) -> Result<Restore, String> {
    let (store, folder) = open_savepoint(uri, options)?;
    Ok(Restore { request: uri.trim_end_matches('/').to_owned(), store: Some(store), folder, first })
}

/// A savepoint's URI is its folder in a store: everything before the last segment opens the store.
///
/// # Errors
/// What is wrong with the URI.
pub fn open_savepoint(uri: &str, options: &BTreeMap<String, String>) -> Result<(Arc<dyn Store>, ObjectPath), String> {
    let uri = uri.trim_end_matches('/');
    let shape = || format!("{uri:?} is no savepoint; write the URI that the savepoint was reported with");
    let (parent, folder) = uri.rsplit_once('/').ok_or_else(shape)?;
    let store = open(parent, options).map_err(|error| error.to_string())?;
    let folder = ObjectPath::parse(folder).map_err(|error| error.to_string())?;
    Ok((store, folder))
}

/// A number that no other process draws.
pub fn random() -> u64 {
    RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()))
}
