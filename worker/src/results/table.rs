//! [io] What is kept of one table, as its clients need it: which epochs, their rows encoded, the current view.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use rheos_checkpoint::Protocol;
use rheos_connectors::results::encode::{ResultFormat, Shown};
use rheos_connectors::results::index::{Chain, Cursor, Entry, Index, Segment};
use rheos_connectors::results::{Announcement, Config, Fold, Folded, TableStore};
use rheos_connectors::staged::StagedStore;
use rheos_control_api::ResultsTable;
use rheos_dataflow::changelog::{KIND_COLUMN, RowKind};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::time::Epoch;
use tokio::sync::watch;

use super::Refusal;
use super::cache::{Cache, Chunk};

/// About so many bytes of a segment make one chunk: what a client is given at once.
const CHUNK_BYTES: u64 = 128 * 1024;
/// What is kept is listed again so often when it changes meanwhile.
const LOADS: u32 = 5;
/// Views are begun anew so often when what they need goes meanwhile.
const VIEWS: u32 = 3;

/// Which epochs are kept.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The line of checkpoints; none before the first record.
    pub(super) line: Option<u32>,
    pub(super) chain: Chain,
    /// Whether the storage was listed.
    loaded: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) config: Config,
    store: TableStore,
    protocol: Protocol,
    /// Makes the line of a cursor one of this job.
    job: u32,
    state: watch::Sender<State>,
    loading: tokio::sync::Mutex<()>,
    /// Indexes that were announced or read.
    indexes: Mutex<BTreeMap<(u32, Epoch), Arc<Index>>>,
    cache: Arc<Cache>,
    view: tokio::sync::Mutex<Option<Viewed>>,
}

/// A view that follows, and what was made of it.
#[derive(Debug)]
struct Viewed {
    fold: Fold,
    pages: BTreeMap<ResultFormat, Arc<Page>>,
}

/// A view as it is sent.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) line: u32,
    /// Where changes begin.
    pub(super) position: u64,
    pub(super) cursor: Cursor,
    pub(super) rows: usize,
    pub(super) chunks: Vec<Bytes>,
}

impl Table {
    pub(super) fn new(config: Config, staged: &StagedStore, protocol: Protocol, uid: &str, cache: Arc<Cache>) -> Arc<Self> {
        Arc::new(Self {
            store: TableStore::new(staged, &config.table),
            config,
            protocol,
            job: crc32fast::hash(uid.as_bytes()),
            state: watch::Sender::default(),
            loading: tokio::sync::Mutex::default(),
            indexes: Mutex::default(),
            cache,
            view: tokio::sync::Mutex::default(),
        })
    }

    /// Follows what is kept.
    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// A cursor of this job.
    pub(super) fn cursor(&self, line: Option<u32>, (epoch, sequence): (Epoch, u64)) -> Cursor {
        Cursor { epoch, sequence, line: line.map(|line| line ^ self.job) }
    }

    /// What people see of it.
    pub(super) fn shown(&self) -> ResultsTable {
        let state = self.state.borrow();
        let columns = self.config.schema.fields().iter().map(|field| field.name().clone()).collect();
        ResultsTable {
            name: self.config.table.clone(),
            columns,
            changelog: self.config.changelog,
            rows: state.chain.end() - state.chain.start(),
            first_epoch: state.chain.oldest().map(|oldest| oldest.epoch),
            last: state.chain.newest().map(|_| self.cursor(state.line, state.chain.before(state.chain.end())).to_string()),
        }
    }

    /// Takes an announcement in.
    pub(super) fn announced(self: &Arc<Self>, announcement: Announcement) {
        let Announcement { line, index, size: (rows, bytes), oldest, view, .. } = announcement;
        let entry = index.as_ref().map(|index| Entry { epoch: index.epoch, start: index.start, rows, bytes });
        if let Some(index) = index.filter(|index| !index.segments.is_empty()) {
            self.remember(line, index);
        }
        let mut whole = true;
        self.state.send_modify(|state| {
            if state.line != Some(line) {
                // What was kept before it is listed, unless it is the first of all.
                let first = entry.is_some_and(|entry| entry.start == 0);
                *state = State { line: Some(line), chain: Chain::default(), loaded: first };
            }
            if entry.is_some_and(|entry| state.chain.push(entry).is_err()) {
                state.loaded = false;
            }
            state.chain.forget_before(oldest);
            if let Some(view) = view {
                state.chain.renew(view);
            }
            whole = state.loaded;
        });
        if !whole {
            let table = Arc::clone(self);
            tokio::spawn(async move { table.load().await });
        }
    }

    /// Lists what is kept, unless that is known.
    pub(super) async fn load(&self) -> Result<(), Refusal> {
        let away = |error: &dyn std::fmt::Display| Refusal::Busy(format!("the job's storage does not answer: {error}"));
        let _one_at_a_time = self.loading.lock().await;
        for _ in 0..LOADS {
            if self.state.borrow().loaded {
                return Ok(());
            }
            let line = self.protocol.log_end().await.map_err(|error| away(&error))?.map(|record| record.line());
            let listed = match line {
                Some(line) => self.store.chain(line).await.map_err(|error| away(&error))?,
                None => Chain::default(),
            };
            self.state.send_modify(|state| {
                if state.line.is_some() && state.line != line {
                    return; // a new line began meanwhile
                }
                let announced = std::mem::replace(&mut state.chain, listed);
                state.loaded = announced.entries().all(|entry| state.chain.push(entry).is_ok());
                if let Some(view) = announced.view {
                    state.chain.renew(view);
                }
                state.line = line;
            });
        }
        match self.state.borrow().loaded {
            true => Ok(()),
            false => Err(away(&"what it holds changes too quickly")),
        }
    }

    /// The chunk with a row of an epoch, from that row on. Nothing: it is not kept any more.
    pub(super) async fn chunk(&self, line: u32, entry: Entry, sequence: u64, format: ResultFormat) -> Result<Option<Chunk>> {
        let Some(index) = self.index(line, entry).await? else { return Ok(None) };
        let Some((segment, first)) = index.segment(sequence) else {
            return Err(DataflowError::new("results", ErrorKind::State, format!("epoch {} has no row {sequence}", entry.epoch)));
        };
        let all = first..first + segment.rows;
        let whole = async || Ok::<_, DataflowError>(self.encode(line, entry.epoch, segment, first, all, format).await?.map(Arc::new));
        let Some(chunks) = self.cache.get((segment.place.clone(), format), whole).await? else { return Ok(None) };
        let at = chunks.partition_point(|chunk| chunk.first + chunk.rows <= sequence);
        match chunks.get(at) {
            Some(chunk) if chunk.first == sequence => Ok(Some(chunk.clone())),
            Some(chunk) => {
                // In the middle of it, which happens to a client once.
                let rest = sequence..chunk.first + chunk.rows;
                let part = self.encode(line, entry.epoch, segment, first, rest, format).await?;
                Ok(part.and_then(|chunks| chunks.into_iter().next()))
            }
            None => Err(DataflowError::new("results", ErrorKind::Bug, format!("row {sequence} is in no chunk of {}", segment.place))),
        }
    }

    /// Rows of a segment, by their sequences, in chunks.
    async fn encode(
        &self,
        line: u32,
        epoch: Epoch,
        segment: &Segment,
        first: u64,
        wanted: Range<u64>,
        format: ResultFormat,
    ) -> Result<Option<Vec<Chunk>>> {
        let Some(bytes) = self.store.segment(segment).await? else { return Ok(None) };
        let (config, segment, line) = (self.config.clone(), segment.clone(), line ^ self.job);
        blocking(move || {
            let rows = TableStore::decode(&segment, &bytes)?;
            let step = chunk_rows(segment.rows, segment.bytes);
            let mut chunks = Vec::new();
            let mut at = wanted.start;
            while at < wanted.end {
                let count = step.min(wanted.end - at);
                let part = rows.slice((at - first) as usize, count as usize);
                let shown = Shown { rows: &part, changelog: config.changelog, epoch, first: Some(at), line };
                chunks.push(Chunk { first: at, rows: count, bytes: format.rows(&config.schema, &shown)?.into() });
                at += count;
            }
            Ok(Some(chunks))
        })
        .await
    }

    async fn index(&self, line: u32, entry: Entry) -> Result<Option<Arc<Index>>> {
        if let Some(index) = self.indexes().get(&(line, entry.epoch)) {
            return Ok(Some(Arc::clone(index)));
        }
        let Some(index) = self.store.index(line, &entry).await? else { return Ok(None) };
        Ok(Some(self.remember(line, index)))
    }

    fn remember(&self, line: u32, index: Index) -> Arc<Index> {
        let (line_now, oldest) = {
            let state = self.state.borrow();
            (state.line, state.chain.oldest().map_or(0, |oldest| oldest.epoch))
        };
        let index = Arc::new(index);
        let mut indexes = self.indexes();
        indexes.insert((line, index.epoch), Arc::clone(&index));
        // Those of epochs that are not kept any more.
        indexes.retain(|(line, epoch), _| line_now.is_none_or(|now| now == *line) && *epoch >= oldest);
        index
    }

    fn indexes(&self) -> std::sync::MutexGuard<'_, BTreeMap<(u32, Epoch), Arc<Index>>> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current view.
    pub(super) async fn page(&self, format: ResultFormat) -> Result<Arc<Page>, Refusal> {
        let failed = |error: DataflowError| Refusal::Busy(format!("the view cannot be read: {}", error.message));
        let mut held = self.view.lock().await;
        for _ in 0..VIEWS {
            let State { line, chain, .. } = self.state.borrow().clone();
            let Some(line) = line else {
                return Err(Refusal::Busy("the job has no checkpoint yet: there is no view".to_owned()));
            };
            let viewed = match held.take().filter(|viewed| viewed.fold.line() == line) {
                Some(viewed) => viewed,
                None => match Fold::begin(&self.store, &self.config, line, &chain).await.map_err(failed)? {
                    Some(fold) => Viewed { fold, pages: BTreeMap::new() },
                    None if chain.end() == 0 => return Err(Refusal::Busy("nothing was committed yet: there is no view".to_owned())),
                    None if chain.view.is_none() => return Err(self.unknown()),
                    None if chain.view.is_some_and(|view| view.size.is_none()) => return Err(self.over()),
                    None => continue,
                },
            };
            let Viewed { mut fold, mut pages } = viewed;
            let before = fold.position;
            match fold.follow(&self.store, &self.config, &chain).await.map_err(failed)? {
                Folded::Whole => {}
                Folded::Over => return Err(self.over()),
                Folded::Gone => continue,
            }
            if fold.position != before {
                pages.clear();
            }
            let page = match pages.get(&format) {
                Some(page) => Arc::clone(page),
                None => {
                    let page = Arc::new(self.make_page(&fold, &chain, format).await.map_err(failed)?);
                    pages.insert(format, Arc::clone(&page));
                    page
                }
            };
            *held = Some(Viewed { fold, pages });
            return Ok(page);
        }
        Err(Refusal::Busy("the view changes too quickly; try again".to_owned()))
    }

    fn over(&self) -> Refusal {
        let limit = self.config.limits.view_rows;
        Refusal::Conflict(format!(
            "the view of {} has had more than {limit} different rows ('results.view-rows'): it is not kept; \
             its changes can be followed without it",
            self.config.table
        ))
    }

    fn unknown(&self) -> Refusal {
        Refusal::Conflict(format!(
            "the view of {} is not known: the job had run before it had this table, or began from a savepoint; \
             changes can be followed without it",
            self.config.table
        ))
    }

    async fn make_page(&self, fold: &Fold, chain: &Chain, format: ResultFormat) -> Result<Page> {
        let rows = fold.whole()?;
        let (config, epoch) = (self.config.clone(), fold.epoch);
        let count = rows.num_rows();
        let chunks = blocking(move || {
            let rows = inserted(&rows)?;
            let step = chunk_rows(rows.num_rows() as u64, rows.get_array_memory_size() as u64) as usize;
            let parts = (0..rows.num_rows()).step_by(step).map(|at| {
                let part = rows.slice(at, step.min(rows.num_rows() - at));
                format.rows(&config.schema, &Shown { rows: &part, changelog: true, epoch, first: None, line: 0 }).map(Bytes::from)
            });
            parts.collect()
        });
        let cursor = self.cursor(Some(fold.line()), chain.before(fold.position));
        Ok(Page { line: fold.line(), position: fold.position, cursor, rows: count, chunks: chunks.await? })
    }
}

/// Rows of a chunk of something with so many rows and bytes.
fn chunk_rows(rows: u64, bytes: u64) -> u64 {
    (rows * CHUNK_BYTES / bytes.max(1)).clamp(1, rows.max(1))
}

/// Rows as changes that insert them.
fn inserted(rows: &RecordBatch) -> Result<RecordBatch> {
    let mut fields: Vec<Field> = rows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new(KIND_COLUMN, DataType::UInt8, false));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(UInt8Array::from(vec![RowKind::Insert as u8; rows.num_rows()])) as ArrayRef);
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Work that would keep others waiting.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| DataflowError::new("results", ErrorKind::Bug, error))?
}
