//! [io] The publishing side of a generation: records, and the collection of what they left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;

use super::{Created, Protocol, ProtocolError, ProtocolResult, RestorePoint};
use crate::codec;
use crate::manifest::Manifest;
use crate::paths::{self, ObjectPath};
use crate::permit::CommitPermit;
use crate::protocol::{Writer, publish, retain};
use crate::record::{ManifestRef, Record};
use crate::savepoint;
use crate::store::Store;

/// Earlier attempts, given up without an answer, that a publication may meet at its number, and one for itself.
const PUBLISH_ATTEMPTS: usize = 3;
/// Deletions and reads in flight.
const CONCURRENCY: usize = 16;

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Records deleted.
    pub records: usize,
    /// Manifests, state files and leftovers deleted.
    pub objects: usize,
    /// Bytes freed.
    pub bytes: u64,
}

/// Publishes the checkpoints of one generation. One process of the generation has it.
#[derive(Debug)]
pub struct Publisher {
    pub(super) protocol: Protocol,
    pub(super) writer: Writer,
    /// The newest record known to be ours.
    pub(super) last: Record,
    /// Of `last`; `None` while the job has no checkpoint.
    pub(super) manifest: Option<Arc<Manifest>>,
    start_permit: CommitPermit,
    /// Records and references that were read or written once: neither changes.
    records: BTreeMap<u64, Record>,
    references: BTreeMap<String, BTreeSet<String>>,
}

impl Publisher {
    pub(super) fn new(protocol: Protocol, point: &RestorePoint, start_permit: CommitPermit) -> Self {
        let writer = Writer::new(point.record.generation, protocol.nonce);
        let mut publisher = Self {
            protocol,
            writer,
            last: point.record.clone(),
            manifest: None,
            start_permit,
            records: BTreeMap::new(),
            references: BTreeMap::new(),
        };
        publisher.advance(point.record.clone(), point.manifest.clone().map(Arc::new));
        publisher
    }

    /// The permit for the committables of the start record.
    pub fn start_permit(&self) -> &CommitPermit {
        &self.start_permit
    }

    /// The same publisher over another view of its store (one that fails no longer, in tests and the simulator).
    pub fn with_store(mut self, store: Arc<dyn Store>) -> Self {
        self.protocol.store = store;
        self
    }

    /// The newest record that this generation is known to have written.
    pub fn last(&self) -> &Record {
        &self.last
    }

    /// Makes a checkpoint final: manifest, then record, then the look at the fence that earns the permit.
    ///
    /// `unconfirmed` is every committable that no sink has confirmed, those of earlier checkpoints included.
    ///
    /// # Errors
    /// `Fenced`: end without another write. After any other error the checkpoint may or may not be final: go on, keep
    /// its committables among the unconfirmed and its state among the changed; a later call finds out by itself.
    pub async fn publish(&mut self, manifest: &Manifest, unconfirmed: &[Value]) -> ProtocolResult<CommitPermit> {
        let mine = self.writer.generation();
        if manifest.generation != mine || manifest.job_uid != self.protocol.job.uid() || manifest.epoch <= self.last.epoch {
            return Err(ProtocolError::Refused(format!(
                "a manifest of job {:?}, generation {}, epoch {} cannot follow epoch {} of job {:?}, generation {mine}",
                manifest.job_uid,
                manifest.generation,
                manifest.epoch,
                self.last.epoch,
                self.protocol.job.uid(),
            )));
        }
        let reference = self.protocol.put_manifest(&mut self.writer, manifest).await?;
        for _ in 0..PUBLISH_ATTEMPTS {
            let token = self.writer.token();
            let record = publish::next_record(&self.last, manifest.epoch, reference.clone(), unconfirmed.to_vec(), token);
            match self.protocol.create_record(&record, &self.writer).await? {
                Created::Written => {
                    self.advance(record, Some(Arc::new(manifest.clone())));
                    return self.protocol.permit(&self.last).await;
                }
                Created::Earlier(found) => {
                    let manifest = self.protocol.manifest_of(&found).await?;
                    self.advance(*found, manifest.map(Arc::new));
                }
                Created::Beaten(by) => {
                    let current = self.protocol.fence().await?.generation.max(by);
                    return Err(ProtocolError::Fenced { mine, current });
                }
            }
        }
        Err(ProtocolError::Contended { what: "publishing a checkpoint", attempts: PUBLISH_ATTEMPTS })
    }

    /// Deletes what the newest `keep` checkpoints do not need: expired records and files, abandoned ones, and those
    /// that dead generations or an interrupted collection left. Savepoints are never touched.
    ///
    /// # Errors
    /// `Fenced`, or `Unusable` when a kept record or manifest cannot be read: then nothing is deleted.
    pub async fn collect(&mut self, keep: usize) -> ProtocolResult<Collected> {
        let mine = self.writer.generation();
        let current = self.protocol.fence().await?.generation;
        if current != mine {
            return Err(ProtocolError::Fenced { mine, current });
        }
        let listed = self.protocol.list_job(mine).await?;
        self.read_records(&listed).await?;
        let Some(first_kept) = retain::first_kept(&self.records, keep) else { return Ok(Collected::default()) };
        let referenced = self.read_references(first_kept).await?;
        let names: Vec<ObjectPath> = listed.keys().cloned().collect();
        let observed =
            retain::Observed { generation: mine, published: self.last.epoch, first_kept, listed: &names, referenced: &referenced };
        let mut collected = Collected::default();
        let (records, rest): (Vec<_>, Vec<_>) =
            retain::retain(&observed).into_iter().partition(|path| matches!(paths::kind_of(path), paths::Kind::Record(_)));
        // Records one after the other, so that a crash leaves a log without gaps; only then what they referenced.
        for path in &records {
            self.protocol.store.delete(&self.protocol.job.root().join(path)).await?;
        }
        let store = &self.protocol.store;
        let root = self.protocol.job.root();
        let delete = |path: ObjectPath| async move { store.delete(&root.join(&path)).await.map(|()| path) };
        let mut deletions = stream::iter(rest.into_iter().map(delete)).buffer_unordered(CONCURRENCY);
        while let Some(path) = deletions.try_next().await? {
            collected.objects += 1;
            collected.bytes += listed.get(&path).copied().unwrap_or(0);
        }
        collected.records = records.len();
        self.records.retain(|seq, _| *seq >= first_kept);
        self.references.retain(|path, _| referenced.contains(path));
        Ok(collected)
    }

    /// `record` is the newest one of this generation.
    fn advance(&mut self, record: Record, manifest: Option<Arc<Manifest>>) {
        if let (Some(reference), Some(manifest)) = (&record.manifest, &manifest) {
            self.references.insert(reference.path.clone(), paths_of(manifest));
        }
        self.records.insert(record.seq, record.clone());
        self.manifest = manifest;
        self.last = record;
    }

    async fn read_records(&mut self, listed: &BTreeMap<ObjectPath, u64>) -> ProtocolResult<()> {
        let numbers: BTreeSet<u64> = listed
            .keys()
            .filter_map(|path| match paths::kind_of(path) {
                paths::Kind::Record(seq) => Some(seq),
                _ => None,
            })
            .collect();
        self.records.retain(|seq, _| numbers.contains(seq));
        let missing: Vec<u64> = numbers.into_iter().filter(|seq| !self.records.contains_key(seq)).collect();
        let protocol = &self.protocol;
        let read = |seq: u64| async move { protocol.record(seq).await.map(|record| (seq, record)) };
        let read: Vec<_> = stream::iter(missing.into_iter().map(read)).buffer_unordered(CONCURRENCY).try_collect().await?;
        self.records.extend(read.into_iter().filter_map(|(seq, record)| Some((seq, record?))));
        Ok(())
    }

    async fn read_references(&mut self, first_kept: u64) -> ProtocolResult<BTreeSet<String>> {
        let kept: Vec<&Record> = self.records.range(first_kept..).map(|(_, record)| record).collect();
        let unknown: BTreeMap<&str, &Record> = kept
            .iter()
            .filter_map(|record| Some((record.manifest.as_ref()?.path.as_str(), *record)))
            .filter(|(path, _)| !self.references.contains_key(*path))
            .collect();
        let protocol = &self.protocol;
        let read = |record: Record| async move {
            let manifest = protocol.manifest_of(&record).await?;
            Ok::<_, ProtocolError>((record.manifest, manifest))
        };
        let unknown: Vec<Record> = unknown.into_values().cloned().collect();
        let read: Vec<_> = stream::iter(unknown.into_iter().map(read)).buffer_unordered(CONCURRENCY).try_collect().await?;
        for (reference, manifest) in read {
            if let (Some(reference), Some(manifest)) = (reference, manifest) {
                self.references.insert(reference.path, paths_of(&manifest));
            }
        }
        let mut referenced = BTreeSet::new();
        for (_, record) in self.records.range(first_kept..) {
            if let Some(reference) = &record.manifest {
                referenced.insert(reference.path.clone());
                referenced.extend(self.references.get(&reference.path).into_iter().flatten().cloned());
            }
        }
        Ok(referenced)
    }
}

impl Protocol {
    pub(super) async fn put_manifest(&self, writer: &mut Writer, manifest: &Manifest) -> ProtocolResult<ManifestRef> {
        let relative = paths::manifest(manifest.generation, manifest.epoch, writer.attempt());
        let path = self.job.root().join(&relative);
        let bytes = codec::encode(&path, manifest)?;
        let reference = ManifestRef { path: relative.as_str().to_string(), crc: crc32fast::hash(&bytes), bytes: bytes.len() as u64 };
        self.put_once(&path, bytes.into()).await?;
        Ok(reference)
    }

    /// Objects by relative path, with their sizes: the log, what generations up to `generation` wrote, leftovers.
    async fn list_job(&self, generation: u64) -> ProtocolResult<BTreeMap<ObjectPath, u64>> {
        let root = self.store.list(self.job.root()).await?;
        let old = |name: &&String| paths::generation_of_folder(name).is_some_and(|found| found <= generation);
        let generations = root.folders.iter().filter(old).filter_map(|name| ObjectPath::parse(name).ok());
        let folders: Vec<ObjectPath> = generations.map(|name| self.job.root().join(&name)).chain([self.job.log()]).collect();
        let list = |folder: ObjectPath| async move { self.store.list(&folder).await };
        let listings: Vec<_> = stream::iter(folders.into_iter().map(list)).buffer_unordered(CONCURRENCY).try_collect().await?;
        let entries = root.objects.into_iter().chain(listings.into_iter().flat_map(|listing| listing.objects));
        Ok(entries.filter_map(|entry| Some((self.job.root().relative(&entry.path)?, entry.bytes))).collect())
    }
}

fn paths_of(manifest: &Manifest) -> BTreeSet<String> {
    savepoint::files(manifest).into_iter().map(|file| file.path.clone()).collect()
}
