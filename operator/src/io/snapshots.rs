//! [io] The specs of a job's revisions, out of the ConfigMaps that keep them.
//!
//! These ConfigMaps are immutable, so what was read once under a uid is read for ever. At most [`KEPT`] are kept in
//! memory, and not the one that was asked for longest ago goes first but simply any: they are cheap to read again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::cache::Key;
use super::error::Error;
use super::facts::OwnedFacts;
use crate::build;
use crate::reconcile::Snapshot;

/// Snapshots that are kept in memory.
pub const KEPT: usize = 256;

/// Reads snapshots and keeps some.
#[derive(Debug, Default)]
pub struct Snapshots {
    known: Mutex<BTreeMap<String, Snapshot>>,
}

impl Snapshots {
    /// The snapshots in the ConfigMaps of a job, by name. One that cannot be read is left out, with a word in the log.
    ///
    /// # Errors
    /// The apiserver refused or did not answer.
    pub async fn read(&self, client: &Client, job: &Key, maps: &[OwnedFacts]) -> Result<Vec<Snapshot>, Error> {
        let mut found = Vec::with_capacity(maps.len());
        for map in maps.iter().filter(|map| !map.deleting) {
            let known = self.lock().get(&map.uid).cloned();
            if let Some(snapshot) = known {
                found.push(Snapshot { resource_version: map.version.clone(), ..snapshot });
                continue;
            }
            let api: Api<ConfigMap> = Api::namespaced(client.clone(), &job.namespace);
            let what = || format!("reading ConfigMap {}/{}", job.namespace, map.name);
            let Some(object) = api.get_opt(&map.name).await.map_err(Error::api(what()))? else { continue };
            found.extend(self.learn(job, &object));
        }
        Ok(found)
    }

    /// Keeps the snapshot in a ConfigMap that was read or made. `None`, with a word in the log, if it cannot be read.
    pub fn learn(&self, job: &Key, object: &ConfigMap) -> Option<Snapshot> {
        match build::config_map::read(object) {
            Ok(snapshot) => {
                let mut known = self.lock();
                if known.len() >= KEPT {
                    known.pop_first();
                }
                known.insert(snapshot.uid.clone(), snapshot.clone());
                Some(snapshot)
            }
            Err(message) => {
                tracing::warn!(job = %job, config_map = object.metadata.name, "no snapshot of a revision: {message}");
                None
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Snapshot>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
