//! [io] The protocol over a store: reads facts, asks [`crate::protocol`] what to do, does it.
//!
//! Who calls what:
//! - the supervisor that coordinates a job: [`Protocol::begin`], once for each generation;
//! - the engine process that hosts the coordinator: [`Protocol::attach`], then [`Publisher::publish`],
//!   [`Publisher::savepoint`] and [`Publisher::collect`];
//! - every engine process: [`Protocol::restore_point`], [`Protocol::put_state`], [`Protocol::read_state`].
//!
//! No call waits on purpose: retries here are immediate and few, those of the network are in the store.

mod publisher;
mod savepoint;
mod state;

use std::sync::Arc;

use crate::codec::{self, Document, ReadError, Reason};
use crate::manifest::Manifest;
use crate::paths::{JobPaths, Kind, ObjectPath, PathError, generation_of_folder, kind_of};
use crate::permit::CommitPermit;
use crate::protocol::fence::{self, Fence};
use crate::protocol::start::{self, Origin};
use crate::protocol::{PutOutcome, Writer, publish};
use crate::record::{Record, RecordKind};
use crate::store::{PutMode, Store, StoreError, Version};

pub use publisher::{Collected, Publisher};
pub use savepoint::{Restore, SavepointFound, SavepointTaken, dispose_at};

/// Fences minted by others that a beginner yields to before it gives up.
const MINT_ATTEMPTS: usize = 16;
/// Tries of one put whose answers are lost.
const PUT_ATTEMPTS: usize = 3;
/// Last records of a paused predecessor that may come in the way of a start record.
const START_ATTEMPTS: usize = 16;
/// Looks for the log's end, when retention removes what a listing showed.
const END_ATTEMPTS: usize = 8;

/// Why a step of the protocol failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProtocolError {
    /// A newer generation runs: this process must end without another write.
    #[error("generation {mine} is fenced: generation {current} has taken over")]
    Fenced {
        /// The caller's.
        mine: u64,
        /// The newer one.
        current: u64,
    },
    /// A coordinator that works by a newer order has begun: this one must end, and wait for an order of its own.
    #[error("order {claim} is fenced: generation {current} has begun by order {newer}")]
    Replaced {
        /// The caller's order.
        claim: u64,
        /// The newer one.
        newer: u64,
        /// The generation that it has begun.
        current: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object cannot be used.
    #[error(transparent)]
    Unusable(#[from] ReadError),
    /// A path or id cannot be used.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Others came first again and again.
    #[error("{what} failed {attempts} times because others came first: is another coordinator of this job restarting in a loop?")]
    Contended {
        /// What was tried.
        what: &'static str,
        /// How often.
        attempts: usize,
    },
    /// The call does not fit the protocol's state; a bug of the caller.
    #[error("{0}")]
    Refused(String),
}

impl ProtocolError {
    /// Whether a newer generation runs: end, and do not restart on one's own.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced { .. } | Self::Replaced { .. })
    }

    /// Whether the store refuses our credentials or our rights.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Store(StoreError::Denied { .. }))
    }

    /// Whether the same call may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Contended { .. }) || matches!(self, Self::Store(error) if error.is_transient())
    }
}

/// A result of a step.
pub type ProtocolResult<T> = Result<T, ProtocolError>;

/// What a generation restores.
#[derive(Debug, Clone, PartialEq)]
pub struct RestorePoint {
    /// The generation's start record: epoch, and committables to commit again before any new data flows.
    pub record: Record,
    /// The checkpoint; `None`: the job begins from nothing.
    pub manifest: Option<Manifest>,
}

/// A generation that has begun.
#[derive(Debug, Clone)]
pub struct Begun {
    /// Its number.
    pub generation: u64,
    /// The number of its start record; every engine of the generation is given it.
    pub start_record: u64,
    /// What to restore.
    pub point: RestorePoint,
    /// For the committables of the start record.
    pub permit: CommitPermit,
}

/// One job in a store. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Protocol {
    store: Arc<dyn Store>,
    job: JobPaths,
    nonce: u64,
    claim: u64,
}

impl Protocol {
    /// `nonce` must differ between any two processes that ever work on the job: draw it at random.
    pub fn new(store: Arc<dyn Store>, job: JobPaths, nonce: u64) -> Self {
        Self { store, job, nonce, claim: 0 }
    }

    /// The same by an order: see [`fence::may_mint`]. Where there is only ever one coordinator, none is needed.
    #[must_use]
    pub fn with_claim(self, claim: u64) -> Self {
        Self { claim, ..self }
    }

    /// The job's paths.
    pub fn job(&self) -> &JobPaths {
        &self.job
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Begins the next generation: mints it, reads the log's end once, writes its start record.
    ///
    /// With `restore`, the generation starts from that savepoint, unless the log's end already goes back to this very
    /// request: so a request is served once, however often the job restarts.
    ///
    /// # Errors
    /// `Fenced` when yet a newer generation began meanwhile; `Unusable` when the checkpoint to restore cannot be used, or
    /// the log is gone, before anything but the fence was changed.
    pub async fn begin(&self, restore: Option<&Restore>) -> ProtocolResult<Begun> {
        let mut writer = self.mint().await?;
        let mut imported: Option<Origin> = None;
        for _ in 0..START_ATTEMPTS {
            let end = self.log_end().await?;
            if let Some(end) = end.as_ref().filter(|end| !start::may_start(writer.generation(), Some(end))) {
                return Err(self.overtaken(&writer, end).await);
            }
            if end.is_none() && restore.is_none() && !self.is_new().await? {
                continue;
            }
            let origin = match (restore, &imported) {
                (Some(restore), None) if start::must_restore(&restore.request, restore.first, end.as_ref()) => {
                    let origin = self.import(&writer, restore).await?;
                    imported = Some(origin.clone());
                    origin
                }
                (Some(_), Some(origin)) => origin.clone(),
                _ => start::resume(end.as_ref()),
            };
            let record = start::start_record(end.map_or(0, |end| end.seq), writer.generation(), &origin, writer.token());
            let manifest = self.manifest_of(&record).await?;
            match self.create_record(&record, &writer).await? {
                Created::Written => {
                    let permit = self.permit(&record).await?;
                    let point = RestorePoint { record, manifest };
                    return Ok(Begun { generation: permit.generation(), start_record: permit.record(), point, permit });
                }
                Created::Earlier(_) | Created::Beaten(_) => {
                    let current = self.fence().await?.generation;
                    if start::after_beaten(writer.generation(), current) == start::BeatenDecision::Fenced {
                        return Err(ProtocolError::Fenced { mine: writer.generation(), current });
                    }
                }
            }
        }
        Err(ProtocolError::Contended { what: "writing the start record", attempts: START_ATTEMPTS })
    }

    /// Takes over the publishing of a generation that another process began. At most one process of a generation may.
    ///
    /// # Errors
    /// `Fenced` when a newer generation runs; `Unusable` when record or manifest cannot be used.
    pub async fn attach(&self, generation: u64, start_record: u64) -> ProtocolResult<(Publisher, RestorePoint)> {
        let point = self.restore_point(generation, start_record).await?;
        let permit = self.permit(&point.record).await?;
        Ok((Publisher::new(self.clone(), &point, permit), point))
    }

    /// What a generation restores; for engine processes that do not publish.
    pub async fn restore_point(&self, generation: u64, start_record: u64) -> ProtocolResult<RestorePoint> {
        let path = self.job.record(start_record);
        let Some(record) = self.record(start_record).await? else {
            // Only a newer generation's retention removes the start record of one that has not published yet.
            let current = self.fence().await?.generation;
            return Err(if current > generation {
                ProtocolError::Fenced { mine: generation, current }
            } else {
                ReadError::new(path, Reason::Missing).into()
            });
        };
        if record.generation != generation || record.kind != RecordKind::Start {
            let what = format!("it is no start record of generation {generation}, but {:?} of {}", record.kind, record.generation);
            return Err(ReadError::new(path, Reason::Corrupted(what)).into());
        }
        let manifest = self.manifest_of(&record).await?;
        Ok(RestorePoint { record, manifest })
    }

    /// The record at the log's end: what the next generation resumes.
    pub async fn log_end(&self) -> ProtocolResult<Option<Record>> {
        for _ in 0..END_ATTEMPTS {
            let listing = self.store.list(&self.job.log()).await?;
            let numbers = listing.objects.iter().filter_map(|entry| match kind_of(&self.job.root().relative(&entry.path)?) {
                Kind::Record(seq) => Some(seq),
                _ => None,
            });
            let Some(seq) = numbers.max() else { return Ok(None) };
            // Absent: retention was faster, so the log has a later end.
            if let Some(record) = self.record(seq).await? {
                return Ok(Some(record));
            }
        }
        Err(ProtocolError::Contended { what: "reading the log's end", attempts: END_ATTEMPTS })
    }

    /// Whether the job may begin from nothing, its log being empty: nobody writes a file before the first record (but a
    /// start from a savepoint, which comes back with its request). False: there is a log by now.
    ///
    /// # Errors
    /// There are files, and still no log: a lost log is no empty start.
    async fn is_new(&self) -> ProtocolResult<bool> {
        let folders = self.store.list(self.job.root()).await?.folders;
        let Some(generation) = folders.iter().filter_map(|folder| generation_of_folder(folder)).max() else { return Ok(true) };
        if self.log_end().await?.is_some() {
            return Ok(false);
        }
        let what = format!("it has no records, but there are files of generation {generation}: they were removed");
        Err(ReadError::new(self.job.log(), Reason::Corrupted(what)).into())
    }

    async fn mint(&self) -> ProtocolResult<Writer> {
        let path = self.job.fence();
        for _ in 0..MINT_ATTEMPTS {
            let before = self.read_fence().await?;
            let current = before.as_ref().map(|(fence, _)| fence);
            if let Some(fence) = current.filter(|fence| !fence::may_mint(Some(fence), self.claim)) {
                return Err(ProtocolError::Replaced { claim: self.claim, newer: fence.claim, current: fence.generation });
            }
            let generation = current.map_or(0, |fence| fence.generation) + 1;
            let mut writer = Writer::new(generation, self.nonce);
            let mine = fence::next_fence(current, self.job.uid(), self.claim, |_| writer.token());
            let bytes = codec::encode(&path, &mine)?;
            let mode = match &before {
                Some((_, version)) => PutMode::Replace(version.clone()),
                None => PutMode::Create,
            };
            for _ in 0..PUT_ATTEMPTS {
                let outcome = self.put(&path, bytes.clone(), mode.clone()).await?;
                if fence::after_put(outcome) == fence::MintDecision::Minted {
                    return Ok(writer);
                }
                let found = self.read_fence().await?;
                match fence::after_look(&mine, current, found.as_ref().map(|(fence, _)| fence)) {
                    fence::LookDecision::Minted => return Ok(writer),
                    fence::LookDecision::PutAgain => {}
                    fence::LookDecision::Next => break,
                }
            }
        }
        Err(ProtocolError::Contended { what: "minting a generation", attempts: MINT_ATTEMPTS })
    }

    /// The log's end is of our generation or a newer one, before we wrote anything.
    async fn overtaken(&self, writer: &Writer, end: &Record) -> ProtocolError {
        match self.fence().await {
            Ok(fence) if fence.generation > writer.generation() => {
                ProtocolError::Fenced { mine: writer.generation(), current: fence.generation }
            }
            Ok(fence) => {
                let what =
                    format!("it is at generation {}, behind the log's {}: it was restored or removed", fence.generation, end.generation);
                ReadError::new(self.job.fence(), Reason::Corrupted(what)).into()
            }
            Err(error) => error,
        }
    }

    /// Reads the fence after `record` was created, and makes the permit.
    async fn permit(&self, record: &Record) -> ProtocolResult<CommitPermit> {
        let fence = self.fence().await?;
        publish::permit(record, fence.generation).map_err(|current| ProtocolError::Fenced { mine: record.generation, current })
    }

    /// Creates a record; tells a lost reply from a lost race.
    async fn create_record(&self, record: &Record, writer: &Writer) -> ProtocolResult<Created> {
        let path = self.job.record(record.seq);
        let bytes = codec::encode(&path, record)?;
        for _ in 0..PUT_ATTEMPTS {
            let outcome = self.put(&path, bytes.clone(), PutMode::Create).await?;
            if publish::after_create(outcome) == publish::CreateDecision::Written {
                return Ok(Created::Written);
            }
            let found = self.record(record.seq).await?;
            match (publish::after_look(record, writer, found.as_ref()), found) {
                (publish::LookDecision::Written, _) => return Ok(Created::Written),
                (publish::LookDecision::Earlier, Some(found)) => return Ok(Created::Earlier(Box::new(found))),
                (publish::LookDecision::Beaten, Some(found)) => return Ok(Created::Beaten(found.generation)),
                _ => {}
            }
        }
        let (path, message) = (path.to_string(), format!("no answer to {PUT_ATTEMPTS} puts"));
        Err(StoreError::Indeterminate { action: crate::store::Action::Write, path, message }.into())
    }

    async fn fence(&self) -> ProtocolResult<Fence> {
        match self.read_fence().await? {
            Some((fence, _)) => Ok(fence),
            None => Err(ReadError::new(self.job.fence(), Reason::Missing).into()),
        }
    }

    async fn read_fence(&self) -> ProtocolResult<Option<(Fence, Version)>> {
        let path = self.job.fence();
        let read: Option<(Fence, Version)> = self.read(self.store.as_ref(), &path).await?;
        if let Some((fence, _)) = &read {
            self.own(&path, &fence.job_uid)?;
        }
        Ok(read)
    }

    async fn record(&self, seq: u64) -> ProtocolResult<Option<Record>> {
        let path = self.job.record(seq);
        let read: Option<(Record, Version)> = self.read(self.store.as_ref(), &path).await?;
        match read {
            Some((record, _)) if record.seq != seq => {
                let what = format!("it says to be record {}", record.seq);
                Err(ReadError::new(path, Reason::Corrupted(what)).into())
            }
            read => Ok(read.map(|(record, _)| record)),
        }
    }

    /// The manifest that a record names; `None` while the job has no checkpoint.
    pub async fn manifest_of(&self, record: &Record) -> ProtocolResult<Option<Manifest>> {
        let Some(reference) = &record.manifest else { return Ok(None) };
        let path = self.job.resolve(&reference.path)?;
        let object = match self.store.get(&path, Manifest::LIMIT).await {
            Err(StoreError::NotFound { .. }) => return Err(ReadError::new(path, Reason::Missing).into()),
            other => other?,
        };
        let manifest: Manifest = codec::decode(&path, &object.bytes)?;
        if object.bytes.len() as u64 != reference.bytes || crc32fast::hash(&object.bytes) != reference.crc {
            let what = "it is not the one that the log names".to_string();
            return Err(ReadError::new(path, Reason::Corrupted(what)).into());
        }
        self.own(&path, &manifest.job_uid)?;
        Ok(Some(manifest))
    }

    fn own(&self, path: &ObjectPath, uid: &str) -> Result<(), ReadError> {
        if uid == self.job.uid() {
            return Ok(());
        }
        Err(ReadError::new(path, Reason::ForeignJob { found: uid.to_string(), wanted: self.job.uid().to_string() }))
    }

    async fn read<D: Document>(&self, store: &dyn Store, path: &ObjectPath) -> ProtocolResult<Option<(D, Version)>> {
        match store.get(path, D::LIMIT).await {
            Ok(object) => Ok(Some((codec::decode(path, &object.bytes)?, object.version))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A put as the protocol sees it; an error changed nothing.
    async fn put(&self, path: &ObjectPath, bytes: Vec<u8>, mode: PutMode) -> ProtocolResult<PutOutcome> {
        match self.store.put(path, bytes.into(), mode).await {
            Ok(_) => Ok(PutOutcome::Done),
            Err(StoreError::Precondition { .. }) => Ok(PutOutcome::Refused),
            Err(StoreError::Indeterminate { .. }) => Ok(PutOutcome::Unknown),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts data under a name of its own; repeating it is harmless.
    async fn put_once(&self, path: &ObjectPath, bytes: bytes::Bytes) -> ProtocolResult<()> {
        let mut last = None;
        for _ in 0..PUT_ATTEMPTS {
            match self.store.put(path, bytes.clone(), PutMode::Once).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_transient() => last = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.map_or_else(|| ProtocolError::Refused("no put was tried".to_string()), ProtocolError::Store))
    }
}

/// How the creation of a record ended.
enum Created {
    Written,
    /// An earlier attempt of this writer has the number.
    Earlier(Box<Record>),
    /// A record of this generation has it.
    Beaten(u64),
}
