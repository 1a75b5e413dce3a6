//! [io] Commits of one results table, in one process of the job: indexes, the kept view, and the end of what expires.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::sink::{CommitPermit, Committable};
use rheos_dataflow::time::Epoch;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::config::Config;
use super::fold::{Fold, Folded};
use super::index::{Chain, Entry, INDEX_VERSION, Index, Segment, ViewAt};
use super::segment;
use super::store::TableStore;
use super::view::View;
use crate::failpoint;

/// Reads of indexes in flight.
const CONCURRENCY: usize = 16;
/// A view is not made anew for fewer changes.
const LEAST_CHANGES: u64 = 10_000;
/// A longer list of segments is not announced: whoever needs it reads the index.
const ANNOUNCED_SEGMENTS: usize = 1_000;

/// What a committable says: segments of one subtask.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Payload {
    /// Orders the committables of a subtask.
    pub(super) part: u32,
    /// The job has begun with this checkpoint: nothing was there before.
    #[serde(default)]
    pub(super) begins: bool,
    /// In order.
    pub(super) segments: Vec<Segment>,
}

/// What has changed in the kept results of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The table.
    pub table: String,
    /// The line of checkpoints.
    pub line: u32,
    /// A new epoch. Without segments: its index has to be read.
    pub index: Option<Index>,
    /// The new epoch's rows and bytes.
    pub size: (u64, u64),
    /// The oldest kept epoch.
    pub oldest: Epoch,
    /// The kept view.
    pub view: Option<ViewAt>,
}

/// Hears of changes, from any thread. They are durable then.
pub type Announce = Arc<dyn Fn(Announcement) + Send + Sync>;

/// See the module's documentation.
pub(super) struct Keeper {
    config: Config,
    store: TableStore,
    announce: Announce,
    runtime: Handle,
    state: Mutex<State>,
    folding: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Read when the line is first met.
    line: Option<u32>,
    chain: Chain,
    swept: bool,
}

impl Keeper {
    pub(super) fn new(config: Config, store: TableStore, announce: Announce, runtime: Handle) -> Arc<Self> {
        Arc::new(Self { config, store, announce, runtime, state: Mutex::default(), folding: AtomicBool::new(false) })
    }

    /// Makes an index of each epoch that has none. The committables are all that a record carries of this table.
    pub(super) async fn commit(self: Arc<Self>, permit: CommitPermit, committables: Vec<Committable>) -> Result<()> {
        let epochs = by_epoch(&permit, committables)?;
        let line = permit.line();
        let mut state = self.state.lock().await;
        if state.line != Some(line) {
            state.chain = self.store.chain(line).await?;
            state.line = Some(line);
        }
        let mut news = Vec::new();
        for (epoch, Piece { begins, segments }) in epochs {
            if begins && self.config.changelog && state.chain.view.is_none() && state.chain.end() == 0 {
                let nothing = View::new(&self.config.schema)?.batch()?;
                let at = self.put_view(line, 0, 0, Some((0, segment::encode(&nothing)?))).await?;
                state.chain.renew(at);
            }
            let known = state.chain.entries().find(|entry| entry.epoch == epoch);
            if known.is_none() && state.chain.newest().is_some_and(|newest| epoch < newest.epoch) {
                continue; // it has expired already
            }
            let start = known.map_or(state.chain.end(), |entry| entry.start);
            let index = Index { version: INDEX_VERSION, epoch, start, segments };
            if index.entry().rows == 0 {
                continue;
            }
            if known.is_none() {
                failpoint::pass("results.index");
                self.store.put_index(line, &index).await?;
                failpoint::pass("results.indexed");
                let gap = |_| DataflowError::new("results", ErrorKind::Bug, format!("epoch {epoch} does not follow what is kept"));
                state.chain.push(index.entry()).map_err(gap)?;
            }
            news.push(index);
        }
        // What goes is told before it does.
        let expired = state.chain.expire(&self.config.limits, self.config.changelog);
        news.into_iter().for_each(|index| self.tell(line, &state.chain, Some(index)));
        self.remove_all(line, expired);
        if !std::mem::replace(&mut state.swept, true) {
            let (keeper, chain) = (Arc::clone(&self), state.chain.clone());
            self.runtime.spawn(async move {
                if let Err(error) = keeper.sweep(&permit, &chain).await {
                    tracing::warn!(%error, table = keeper.config.table, "what earlier generations left could not be removed");
                }
            });
        }
        if self.config.changelog && state.chain.wants_view(&self.config.limits, LEAST_CHANGES) && !self.folding.swap(true, Ordering::AcqRel)
        {
            let (keeper, chain) = (Arc::clone(&self), state.chain.clone());
            self.runtime.spawn(async move {
                if let Err(error) = keeper.fold(line, &chain).await {
                    tracing::warn!(%error, table = keeper.config.table, "the view could not be made anew, trying again later");
                }
                keeper.folding.store(false, Ordering::Release);
            });
        }
        Ok(())
    }

    fn tell(&self, line: u32, chain: &Chain, index: Option<Index>) {
        let size = index.as_ref().map(|index| index.entry()).map_or((0, 0), |entry| (entry.rows, entry.bytes));
        let index = index.map(|mut index| {
            if index.segments.len() > ANNOUNCED_SEGMENTS {
                index.segments.clear();
            }
            index
        });
        let oldest = chain.oldest().map_or(0, |oldest| oldest.epoch);
        (self.announce)(Announcement { table: self.config.table.clone(), line, index, size, oldest, view: chain.view });
    }

    /// Removes epochs that have expired. An index goes before its rows: what is listed is whole, or fails by name.
    fn remove_all(self: &Arc<Self>, line: u32, expired: Vec<Entry>) {
        if expired.is_empty() {
            return;
        }
        let keeper = Arc::clone(self);
        self.runtime.spawn(async move {
            for entry in expired {
                if let Err(error) = keeper.remove(line, &entry).await {
                    tracing::warn!(%error, table = keeper.config.table, epoch = entry.epoch, "expired results could not be removed; the next generation tries again");
                }
            }
        });
    }

    async fn remove(&self, line: u32, entry: &Entry) -> Result<()> {
        let index = self.store.index(line, entry).await?;
        let folder = self.store.line_folder(line)?;
        folder.delete(&folder.place(&entry.name())?).await?;
        for segment in index.into_iter().flat_map(|index| index.segments) {
            folder.delete(&segment.place).await?;
        }
        Ok(())
    }

    /// Makes the view anew and lets go of what it holds.
    async fn fold(self: &Arc<Self>, line: u32, chain: &Chain) -> Result<()> {
        let Some(mut fold) = Fold::begin(&self.store, &self.config, line, chain).await? else {
            return Err(DataflowError::new("results", ErrorKind::State, "the kept view is gone"));
        };
        let size = match fold.follow(&self.store, &self.config, chain).await? {
            Folded::Whole => {
                let rows = fold.batch()?;
                let bytes =
                    tokio::task::spawn_blocking(move || Ok::<_, DataflowError>((rows.num_rows() as u64, segment::encode(&rows)?))).await;
                Some(bytes.map_err(|error| DataflowError::new("results", ErrorKind::Bug, error))??)
            }
            Folded::Over => None,
            Folded::Gone => return Err(DataflowError::new("results", ErrorKind::State, "changes that the view needs are gone")),
        };
        let size: Option<(u64, Vec<u8>)> = size.filter(|(_, bytes)| (bytes.len() as u64) < crate::staged::MAX_BYTES);
        let at = self.put_view(line, fold.epoch, fold.position, size).await?;
        failpoint::pass("results.view");
        let mut state = self.state.lock().await;
        if state.line != Some(line) {
            return Ok(());
        }
        let before = state.chain.view;
        state.chain.renew(at);
        let expired = state.chain.expire(&self.config.limits, self.config.changelog);
        self.tell(line, &state.chain, None);
        drop(state);
        self.remove_all(line, expired);
        let folder = self.store.line_folder(line)?;
        match before.filter(|before| before.position < at.position) {
            Some(before) => folder.delete(&folder.place(&before.name())?).await,
            None => Ok(()),
        }
    }

    /// Keeps a view: its rows and bytes, or that there are too many.
    async fn put_view(&self, line: u32, epoch: Epoch, position: u64, view: Option<(u64, Vec<u8>)>) -> Result<ViewAt> {
        let at = ViewAt { epoch, position, size: view.as_ref().map(|(rows, bytes)| (*rows, bytes.len() as u64)) };
        self.store.line_folder(line)?.put(&at.name(), view.map(|(_, bytes)| bytes).unwrap_or_default().into()).await?;
        Ok(at)
    }

    /// Removes segments of earlier generations that no index names, and indexes and views that are out of use. What a
    /// record carried for this generation is indexed by now.
    async fn sweep(&self, permit: &CommitPermit, chain: &Chain) -> Result<()> {
        let folder = self.store.line_folder(permit.line())?;
        let oldest = chain.oldest().map_or(0, |oldest| oldest.epoch);
        for (name, place) in folder.names().await? {
            let alone = Chain::of_names([name.as_str()]);
            let old_index = alone.oldest().is_some_and(|entry| entry.epoch < oldest);
            let old_view = alone.view.zip(chain.view).is_some_and(|(view, kept)| view.position < kept.position);
            if old_index || old_view {
                folder.delete(&place).await?;
            }
        }
        let rows = self.store.rows_folder()?;
        let mut left: BTreeMap<String, String> = rows.names().await?.into_iter().map(|(name, place)| (place, name)).collect();
        left.retain(|_, name| generation_of(name).is_some_and(|generation| generation < permit.generation()));
        if left.is_empty() {
            return Ok(());
        }
        let entries: Vec<Entry> = chain.entries().collect();
        let mut indexes =
            futures::stream::iter(entries.into_iter().map(|entry| async move { self.store.index(permit.line(), &entry).await }))
                .buffer_unordered(CONCURRENCY);
        while let Some(index) = indexes.next().await {
            // One that is gone has expired meanwhile, and its rows with it.
            for segment in index?.into_iter().flat_map(|index| index.segments) {
                left.remove(&segment.place);
            }
        }
        drop(indexes);
        let garbage: BTreeSet<&String> = left.keys().collect();
        for place in garbage {
            rows.delete(place).await?;
        }
        Ok(())
    }
}

/// What a record carries of an epoch, in the order of its index.
#[derive(Debug, Default)]
struct Piece {
    begins: bool,
    segments: Vec<Segment>,
}

fn by_epoch(permit: &CommitPermit, committables: Vec<Committable>) -> Result<BTreeMap<Epoch, Piece>> {
    let mut payloads: BTreeMap<(Epoch, u32, u32), Payload> = BTreeMap::new();
    for committable in committables {
        if committable.epoch > permit.epoch() {
            let message = format!("asked to commit epoch {} with a permit for {}", committable.epoch, permit.epoch());
            return Err(DataflowError::new("results", ErrorKind::Bug, message));
        }
        let payload: Payload = serde_json::from_value(committable.payload).map_err(|error| {
            DataflowError::new("results", ErrorKind::State, format!("a committable of {} cannot be read: {error}", committable.sink))
        })?;
        payloads.insert((committable.epoch, committable.subtask, payload.part), payload);
    }
    let mut pieces: BTreeMap<Epoch, Piece> = BTreeMap::new();
    for ((epoch, ..), payload) in payloads {
        let piece = pieces.entry(epoch).or_default();
        piece.begins |= payload.begins;
        piece.segments.extend(payload.segments);
    }
    Ok(pieces)
}

/// The stem of segments that a writer names.
pub(super) fn stem(generation: u64, subtask: u32, nonce: u32) -> String {
    format!("g{generation}.{subtask}-{nonce:08x}")
}

fn generation_of(name: &str) -> Option<u64> {
    name.strip_prefix('g')?.split_once('.')?.0.parse().ok()
}
