//! [io] Reads row groups of Parquet files: local ones in the worker's thread, remote ones on a thread of their own
//! with a bounded queue between.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read as StdRead;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use bytes::{Buf, Bytes};
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use rheos_dataflow::contain::contain;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::Pruning;
use rheos_dataflow::source::{Read, SplitReader, Waker};
use tokio::sync::mpsc;

use super::location::{Location, Remote, local_error, wait};
use super::prune;
use super::split::{FileSplit, Version};

/// Batches that a remote reader decodes ahead.
const REMOTE_QUEUE: usize = 4;
/// Rows of a batch that a remote reader decodes ahead.
const REMOTE_ROWS: usize = 8_192;
/// A remote file is fetched in blocks of this size, bytes.
const BLOCK_BYTES: u64 = 1024 * 1024;
/// Blocks of a remote file that are kept.
const BLOCKS: usize = 32;

/// The row groups of a file that may hold rows that the job uses. Blocks.
pub(crate) fn row_groups(location: &Location, split: &FileSplit, pruning: &Pruning) -> Result<Vec<usize>> {
    let shown = location.show(&split.file);
    Ok(match location {
        Location::Local(base) => {
            let footer = footer(open_local(base, &split.file)?, &shown)?;
            prune::kept(footer.metadata(), footer.schema(), pruning)
        }
        Location::Remote(remote) => {
            let file = RemoteFile::open(remote, split)?;
            let footer = footer(file.clone(), &shown).map_err(|error| file.blame(error))?;
            prune::kept(footer.metadata(), footer.schema(), pruning)
        }
    })
}

fn open_local(base: &Path, file: &str) -> Result<File> {
    let path = if file.is_empty() { base.to_owned() } else { base.join(file) };
    File::open(&path).map_err(|error| local_error("opening", &path, &error))
}

/// Reads a file's footer.
fn footer<T: ChunkReader + 'static>(file: T, shown: &str) -> Result<ParquetRecordBatchReaderBuilder<T>> {
    guarded(shown, || ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| data_error(shown, &error)))
}

/// What the Parquet reader gives; where it panics, the file is bad.
fn guarded<T>(shown: &str, read: impl FnOnce() -> Result<T>) -> Result<T> {
    contain(read).unwrap_or_else(|problem| Err(data_error(shown, &problem)))
}

/// Opens one row group behind its first `skip` rows.
pub(crate) fn open(
    location: &Location,
    split: &FileSplit,
    group: usize,
    skip: u64,
    wanted: &SchemaRef,
    waker: Waker,
) -> Result<Box<dyn SplitReader>> {
    let shown = location.show(&split.file);
    match location {
        Location::Local(base) => {
            let file = open_local(base, &split.file)?;
            Ok(Box::new(LocalReader { shown, wanted: SchemaRef::clone(wanted), open: Open::Not { file, group }, rows: skip }))
        }
        Location::Remote(remote) => {
            let (sender, batches) = mpsc::channel(REMOTE_QUEUE);
            let (remote, split, wanted) = (remote.clone(), split.clone(), SchemaRef::clone(wanted));
            remote.runtime.clone().spawn_blocking(move || {
                let ended = decode_remote(&remote, &split, group, skip, &wanted, &sender, &waker);
                let _ = sender.blocking_send(ended.map(|()| None));
                waker();
            });
            Ok(Box::new(RemoteReader { shown, batches, rows: skip }))
        }
    }
}

/// The rows of one row group from `skip` on, in the wanted columns.
struct Batches {
    reader: ParquetRecordBatchReader,
    shown: String,
    wanted: SchemaRef,
}

impl Batches {
    fn new<T: ChunkReader + 'static>(file: T, shown: &str, group: usize, skip: u64, rows: usize, wanted: &SchemaRef) -> Result<Self> {
        let builder = footer(file, shown)?;
        let found = builder.schema();
        let mut roots = Vec::with_capacity(wanted.fields().len());
        for field in wanted.fields() {
            let index = found.index_of(field.name()).map_err(|_| {
                let names: Vec<&str> = found.fields().iter().map(|field| field.name().as_str()).collect();
                let message = format!("{shown}: there is no column '{}'; the file has: {}", field.name(), names.join(", "));
                DataflowError::new("filesystem", ErrorKind::Data, message)
            })?;
            roots.push(index);
        }
        if group >= builder.metadata().num_row_groups() {
            let message = format!("{shown}: row group {group} is gone; files must not change");
            return Err(DataflowError::new("filesystem", ErrorKind::State, message));
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let builder = builder.with_projection(mask).with_row_groups(vec![group]).with_offset(skip as usize).with_batch_size(rows);
        let reader = guarded(shown, || builder.build().map_err(|error| data_error(shown, &error)))?;
        Ok(Self { reader, shown: shown.to_owned(), wanted: SchemaRef::clone(wanted) })
    }

    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let next = guarded(&self.shown, || self.reader.next().transpose().map_err(|error| data_error(&self.shown, &error)));
        let Some(batch) = next? else { return Ok(None) };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.wanted.fields().len());
        for field in self.wanted.fields() {
            let bad = |error: &dyn std::fmt::Display| {
                let message = format!("{}: column '{}' must be {}: {error}", self.shown, field.name(), field.data_type());
                DataflowError::new("filesystem", ErrorKind::Data, message)
            };
            let column = batch.column_by_name(field.name()).ok_or_else(|| bad(&"it is missing"))?;
            let options = CastOptions { safe: false, ..CastOptions::default() };
            columns.push(cast_with_options(column, field.data_type(), &options).map_err(|error| bad(&error))?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(SchemaRef::clone(&self.wanted), columns, &options);
        batch.map(Some).map_err(|error| data_error(&self.shown, &error))
    }
}

fn data_error(shown: &str, error: &dyn std::fmt::Display) -> DataflowError {
    DataflowError::new("filesystem", ErrorKind::Data, format!("{shown}: not a readable Parquet file: {error}"))
}

/// The reader is made at the first read, when the size of batches is known.
enum Open {
    Not { file: File, group: usize },
    Done(Batches),
}

struct LocalReader {
    shown: String,
    wanted: SchemaRef,
    open: Open,
    /// Rows of the row group given so far.
    rows: u64,
}

impl SplitReader for LocalReader {
    fn read(&mut self, rows: usize) -> Result<Read> {
        if let Open::Not { file, group } = &self.open {
            let file = file.try_clone().map_err(|error| data_error(&self.shown, &error))?;
            self.open = Open::Done(Batches::new(file, &self.shown, *group, self.rows, rows.max(1), &self.wanted)?);
        }
        let Open::Done(batches) = &mut self.open else { return Ok(Read::End) };
        let Some(batch) = batches.next()? else { return Ok(Read::End) };
        self.rows += batch.num_rows() as u64;
        Ok(Read::Rows(batch))
    }

    fn offset(&self) -> serde_json::Value {
        self.rows.into()
    }
}

struct RemoteReader {
    shown: String,
    /// `None` is the end.
    batches: mpsc::Receiver<Result<Option<RecordBatch>>>,
    rows: u64,
}

impl SplitReader for RemoteReader {
    fn read(&mut self, _rows: usize) -> Result<Read> {
        match self.batches.try_recv() {
            Ok(Ok(Some(batch))) => {
                self.rows += batch.num_rows() as u64;
                Ok(Read::Rows(batch))
            }
            Ok(Ok(None)) => Ok(Read::End),
            Ok(Err(error)) => Err(error),
            Err(mpsc::error::TryRecvError::Empty) => Ok(Read::Pending),
            Err(mpsc::error::TryRecvError::Disconnected) => {
                let message = format!("reading {}: the download ended without a word", self.shown);
                Err(DataflowError::new("filesystem", ErrorKind::Transient, message))
            }
        }
    }

    fn offset(&self) -> serde_json::Value {
        self.rows.into()
    }
}

fn decode_remote(
    remote: &Remote,
    split: &FileSplit,
    group: usize,
    skip: u64,
    wanted: &SchemaRef,
    sender: &mpsc::Sender<Result<Option<RecordBatch>>>,
    waker: &Waker,
) -> Result<()> {
    let shown = Location::Remote(remote.clone()).show(&split.file);
    let file = RemoteFile::open(remote, split)?;
    let read = || {
        let mut batches = Batches::new(file.clone(), &shown, group, skip, REMOTE_ROWS, wanted)?;
        while let Some(batch) = batches.next()? {
            if sender.blocking_send(Ok(Some(batch))).is_err() {
                break; // The reader is gone.
            }
            waker();
        }
        Ok(())
    };
    read().map_err(|error| file.blame(error))
}

/// A remote file as the Parquet reader wants it: random access that blocks, in cached blocks.
#[derive(Clone)]
struct RemoteFile {
    remote: Remote,
    split: FileSplit,
    size: u64,
    blocks: Arc<Mutex<VecDeque<(u64, Bytes)>>>,
    /// What the store said last that was no bytes; Parquet's errors are text.
    fault: Arc<Mutex<Option<DataflowError>>>,
}

impl RemoteFile {
    fn open(remote: &Remote, split: &FileSplit) -> Result<Self> {
        let (store, object) = (Arc::clone(&remote.store), remote.object(&split.file));
        let head = wait(&remote.runtime, async move { store.head(&object).await })?;
        let meta = head.map_err(|error| remote.error("opening", &split.file, &error))?;
        split.verify(&Version::of(&meta), &Location::Remote(remote.clone()).show(&split.file))?;
        Ok(Self { remote: remote.clone(), split: split.clone(), size: meta.size, blocks: Arc::default(), fault: Arc::default() })
    }

    fn range(&self, from: u64, to: u64) -> parquet::errors::Result<Bytes> {
        let (remote, split) = (self.remote.clone(), self.split.clone());
        let bytes = wait(&self.remote.runtime, async move { piece(&remote, &split, from..to).await });
        bytes.and_then(|bytes| bytes).map_err(|error| {
            let told = ParquetError::General(error.to_string());
            if let Ok(mut fault) = self.fault.lock() {
                *fault = Some(error);
            }
            told
        })
    }

    /// The store's fault behind `error`, if it is one.
    fn blame(&self, error: DataflowError) -> DataflowError {
        self.fault.lock().ok().and_then(|mut fault| fault.take()).unwrap_or(error)
    }

    /// The block that holds `position`.
    fn block(&self, position: u64) -> parquet::errors::Result<Bytes> {
        let index = position / BLOCK_BYTES;
        if let Ok(blocks) = self.blocks.lock()
            && let Some((_, bytes)) = blocks.iter().find(|(kept, _)| *kept == index)
        {
            return Ok(bytes.clone());
        }
        let bytes = self.range(index * BLOCK_BYTES, ((index + 1) * BLOCK_BYTES).min(self.size))?;
        if let Ok(mut blocks) = self.blocks.lock() {
            blocks.push_back((index, bytes.clone()));
            if blocks.len() > BLOCKS {
                blocks.pop_front();
            }
        }
        Ok(bytes)
    }
}

/// Some bytes of an object, which is what was found.
async fn piece(remote: &Remote, split: &FileSplit, range: Range<u64>) -> Result<Bytes> {
    let failed = |error: object_store::Error| remote.error("reading", &split.file, &error);
    let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
    let result = remote.store.get_opts(&remote.object(&split.file), options).await.map_err(failed)?;
    split.verify(&Version::of(&result.meta), &Location::Remote(remote.clone()).show(&split.file))?;
    result.bytes().await.map_err(failed)
}

impl Length for RemoteFile {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for RemoteFile {
    type T = RemoteCursor;

    fn get_read(&self, start: u64) -> parquet::errors::Result<RemoteCursor> {
        Ok(RemoteCursor { file: self.clone(), position: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let end = start + length as u64;
        if end > self.size {
            return Err(ParquetError::EOF(format!("{length} bytes at {start}, in a file of {}", self.size)));
        }
        if start / BLOCK_BYTES == end.saturating_sub(1) / BLOCK_BYTES {
            let mut block = self.block(start)?;
            block.advance((start % BLOCK_BYTES) as usize);
            return Ok(block.slice(..length));
        }
        self.range(start, end)
    }
}

struct RemoteCursor {
    file: RemoteFile,
    position: u64,
}

impl StdRead for RemoteCursor {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.position >= self.file.size {
            return Ok(0);
        }
        let block = self.file.block(self.position).map_err(std::io::Error::other)?;
        let rest = &block[(self.position % BLOCK_BYTES) as usize..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.position += count as u64;
        Ok(count)
    }
}
