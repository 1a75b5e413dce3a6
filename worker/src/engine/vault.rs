//! [io] Makes checkpoints durable: state files of the local stages, and on process 0 records, savepoints and retention.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use futures::future::try_join_all;
use rheos_checkpoint::CommitPermit;
use rheos_checkpoint::manifest::Manifest;
use rheos_checkpoint::workflow::{ProtocolError, Publisher};
use rheos_connectors::failpoint;
use rheos_dataflow::coordinator::{Publication, PublishFailure};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::sink::Committable;
use rheos_dataflow::snapshot::part::StagePart;
use rheos_dataflow::stage::Connectors;
use rheos_timely::job::{BoxFuture, Durability, PersistRequest, Persisted};
use tokio::sync::Mutex;

use super::prepare::Prepared;
use super::restore::subtask;

/// One stage of one local worker.
type Place = (usize, u32);

/// See the module's documentation.
pub(super) struct Vault {
    prepared: Arc<Prepared>,
    generation: u64,
    restored: Option<Manifest>,
    /// Made at a stage's first snapshot. One checkpoint after the other goes through each.
    parts: std::sync::Mutex<BTreeMap<Place, Arc<Mutex<StagePart>>>>,
    publisher: Option<Arc<Mutex<Publisher>>>,
    savepoints: Arc<std::sync::Mutex<BTreeMap<String, String>>>,
}

impl Vault {
    pub(super) fn new(prepared: Arc<Prepared>, generation: u64, restored: Option<&Manifest>, publisher: Option<Publisher>) -> Self {
        Self {
            prepared,
            generation,
            restored: restored.cloned(),
            parts: std::sync::Mutex::default(),
            publisher: publisher.map(|publisher| Arc::new(Mutex::new(publisher))),
            savepoints: Arc::default(),
        }
    }

    /// Where a savepoint was written.
    pub(super) fn savepoint_uri(&self, id: &str) -> Option<String> {
        self.savepoints.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn part(&self, (stage, worker): Place) -> Arc<Mutex<StagePart>> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let part = parts.entry((stage, worker)).or_insert_with(|| {
            let part = StagePart::new(&self.prepared.plan, stage, subtask(&self.prepared, worker), self.restored.as_ref());
            Arc::new(Mutex::new(part))
        });
        Arc::clone(part)
    }
}

impl Durability for Vault {
    fn persist(&self, request: PersistRequest) -> BoxFuture<Result<Persisted>> {
        let PersistRequest { stage, subtask, snapshot, confirmed } = request;
        let part = self.part((stage, subtask));
        let (prepared, generation, epoch) = (Arc::clone(&self.prepared), self.generation, snapshot.epoch);
        Box::pin(async move {
            let mut part = part.lock_owned().await;
            // Encoding is work for a processor, not for the threads that wait for the network.
            let encoded = tokio::task::spawn_blocking(move || {
                let sinks = part.take(snapshot);
                let files = part.files();
                (part, sinks, files)
            });
            let (mut part, sinks, files) = encoded.await.map_err(|e| DataflowError::new("snapshot", ErrorKind::Bug, e))?;
            failpoint::pass("prepare");
            for (sink, work) in sinks? {
                part.staged(&sink, work.await?);
            }
            failpoint::pass("prepared");
            let puts = files?.into_iter().map(|(index, file)| prepared.protocol.put_state(generation, epoch, subtask, index, file));
            let put = try_join_all(puts).await.map_err(|error| error.to_string());
            let report = part.report(put, confirmed);
            Ok(Persisted { report, compact: part.compaction() })
        })
    }

    fn publish(&self, publication: Publication) -> BoxFuture<std::result::Result<CommitPermit, PublishFailure>> {
        let Some(publisher) = self.publisher.clone() else {
            let message = "only process 0 publishes".to_owned();
            return Box::pin(async { Err(PublishFailure { fenced: false, message }) });
        };
        let (prepared, savepoints) = (Arc::clone(&self.prepared), Arc::clone(&self.savepoints));
        Box::pin(async move {
            let mut held = Arc::clone(&publisher).lock_owned().await;
            let unconfirmed: std::result::Result<Vec<_>, _> = publication.committables.iter().map(serde_json::to_value).collect();
            let unconfirmed = unconfirmed.map_err(|error| PublishFailure { fenced: false, message: error.to_string() })?;
            failpoint::pass("record");
            let permit = held.publish(&publication.manifest, &unconfirmed).await.map_err(|error| failed(&error))?;
            failpoint::pass("recorded");
            gather(&prepared.connectors, &permit, publication.committables).await?;
            if let Some(id) = &publication.savepoint {
                match held.savepoint(id).await {
                    Ok(taken) => {
                        let uri = format!("{}/{}", prepared.job.storage_uri.trim_end_matches('/'), taken.folder.as_str());
                        savepoints.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), uri);
                    }
                    Err(error) if error.is_fenced() => return Err(failed(&error)),
                    Err(error) => tracing::error!(%error, savepoint = id, "the checkpoint is complete, its savepoint is not"),
                }
            }
            let keep = prepared.retain.load(Ordering::Relaxed).max(1) as usize;
            tokio::spawn(async move {
                match held.collect(keep).await {
                    Ok(_) => {}
                    // The next publication finds out and ends the process.
                    Err(error) if error.is_fenced() => {}
                    Err(error) => tracing::warn!(%error, "what expired checkpoints left could not be removed, trying after the next one"),
                }
            });
            Ok(permit)
        })
    }
}

/// Commits what has one order over all subtasks, before anybody else hears of the permit.
async fn gather(connectors: &Connectors, permit: &CommitPermit, committables: Vec<Committable>) -> std::result::Result<(), PublishFailure> {
    let mut by_sink: BTreeMap<OperatorId, Vec<Committable>> = BTreeMap::new();
    for committable in committables {
        if connectors.sinks.get(&committable.sink).is_some_and(|sink| sink.gathers()) {
            by_sink.entry(committable.sink.clone()).or_default().push(committable);
        }
    }
    for (id, committables) in by_sink {
        if let Some(sink) = connectors.sinks.get(&id) {
            let committed = sink.commit(permit, committables).await;
            committed.map_err(|error| PublishFailure { fenced: false, message: error.to_string() })?;
        }
    }
    Ok(())
}

fn failed(error: &ProtocolError) -> PublishFailure {
    PublishFailure { fenced: error.is_fenced(), message: error.to_string() }
}
