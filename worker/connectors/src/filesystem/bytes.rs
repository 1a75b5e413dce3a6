//! [io] A file's bytes in pieces: local by bounded blocking reads, remote by a task with a bounded queue; gunzipped.

use std::fs::File;
use std::io::{Read as _, Seek, SeekFrom, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::source::Waker;
use tokio::sync::mpsc;

use super::location::{Location, Remote, local_error};
use super::split::{FileSplit, Version};

/// A local read takes at most this much, bytes: the longest block of a worker thread.
const LOCAL_READ: usize = 256 * 1024;
/// Gzip data is unpacked in steps of this size, bytes: it may grow a thousandfold.
const GZIP_STEP: usize = 4 * 1024;
/// Pieces of a remote file that wait to be decoded.
const REMOTE_QUEUE: usize = 8;

/// What [`FileBytes::fill`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Appended something, or at least came closer to it.
    More,
    /// Nothing has arrived; the waker will tell.
    Pending,
    /// The file's end.
    End,
}

/// The (decompressed) bytes of a file from some position on.
pub(crate) struct FileBytes {
    pieces: Pieces,
    gzip: Option<MultiGzDecoder<Vec<u8>>>,
    /// Gzip data that has arrived and is not yet unpacked.
    packed: Bytes,
    /// Decompressed bytes to drop before the wanted position.
    skip: u64,
    shown: String,
}

enum Pieces {
    Local { file: File, buffer: Vec<u8> },
    Remote(mpsc::Receiver<Result<Option<Bytes>>>),
}

impl FileBytes {
    /// Opens the file of `split` in `location` at `position` of its decompressed bytes.
    pub(crate) fn open(location: &Location, split: &FileSplit, gzip: bool, position: u64, waker: Waker) -> Result<Self> {
        let file = split.file.as_str();
        let shown = location.show(file);
        // A gzip stream cannot be entered in the middle: read on from its start.
        let (seek, skip) = if gzip { (0, position) } else { (position, 0) };
        let pieces = match location {
            Location::Local(base) => {
                let path = if file.is_empty() { base.clone() } else { base.join(file) };
                let mut handle = File::open(&path).map_err(|error| local_error("opening", &path, &error))?;
                let length = handle.metadata().map_err(|error| local_error("opening", &path, &error))?.len();
                if seek > length {
                    let message = format!("{shown}: it has {length} bytes, but was read up to {seek} before; files must not change");
                    return Err(DataflowError::new("filesystem", ErrorKind::State, message));
                }
                handle.seek(SeekFrom::Start(seek)).map_err(|error| local_error("reading", &path, &error))?;
                Pieces::Local { file: handle, buffer: vec![0; if gzip { GZIP_STEP } else { LOCAL_READ }] }
            }
            Location::Remote(remote) => Pieces::Remote(fetch(remote, split, seek, waker)),
        };
        Ok(Self { pieces, gzip: gzip.then(|| MultiGzDecoder::new(Vec::new())), packed: Bytes::new(), skip, shown })
    }

    /// Appends the next bytes to `out`.
    pub(crate) fn fill(&mut self, out: &mut Vec<u8>) -> Result<Fill> {
        let shown = &self.shown;
        let read_error =
            |error: &std::io::Error| DataflowError::new("filesystem", ErrorKind::Transient, format!("reading {shown}: {error}"));
        let remote;
        let piece: &[u8] = match &mut self.pieces {
            // What the last step has left.
            _ if !self.packed.is_empty() => {
                remote = self.packed.split_to(GZIP_STEP.min(self.packed.len()));
                &remote
            }
            Pieces::Local { file, buffer } => {
                let read = file.read(buffer).map_err(|error| read_error(&error))?;
                &buffer[..read]
            }
            Pieces::Remote(queue) => match queue.try_recv() {
                Ok(Ok(Some(bytes))) if bytes.is_empty() => return Ok(Fill::More),
                Ok(Ok(bytes)) => {
                    let mut bytes = bytes.unwrap_or_default();
                    if self.gzip.is_some() && bytes.len() > GZIP_STEP {
                        self.packed = bytes.split_off(GZIP_STEP);
                    }
                    remote = bytes;
                    &remote
                }
                Ok(Err(error)) => return Err(error),
                Err(mpsc::error::TryRecvError::Empty) => return Ok(Fill::Pending),
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    let message = format!("reading {shown}: the download ended without a word");
                    return Err(DataflowError::new("filesystem", ErrorKind::Transient, message));
                }
            },
        };
        let Some(gzip) = &mut self.gzip else {
            out.extend_from_slice(piece);
            return Ok(if piece.is_empty() { Fill::End } else { Fill::More });
        };
        let corrupt = |error: &std::io::Error| {
            DataflowError::new("filesystem", ErrorKind::Data, format!("{shown}: the gzip data is corrupt or cut off: {error}"))
        };
        let end = piece.is_empty();
        if end {
            gzip.try_finish().map_err(|error| corrupt(&error))?;
        } else {
            gzip.write_all(piece).map_err(|error| corrupt(&error))?;
            // Pushes what was decompressed into the vector.
            gzip.flush().map_err(|error| corrupt(&error))?;
        }
        let plain = gzip.get_mut();
        let dropped = self.skip.min(plain.len() as u64);
        self.skip -= dropped;
        out.extend_from_slice(&plain[dropped as usize..]);
        plain.clear();
        Ok(if end { Fill::End } else { Fill::More })
    }
}

/// A task that reads an object from `from` on into a bounded queue; `None` in it is the object's end.
fn fetch(remote: &Remote, split: &FileSplit, from: u64, waker: Waker) -> mpsc::Receiver<Result<Option<Bytes>>> {
    let (sender, receiver) = mpsc::channel(REMOTE_QUEUE);
    let (remote, split) = (remote.clone(), split.clone());
    remote.runtime.clone().spawn(async move {
        let mut stream = match pieces(&remote, &split, from).await {
            Ok(stream) => stream,
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        };
        while let Some(piece) = stream.next().await {
            let failed = piece.is_err();
            // The reader is gone: nobody waits for the rest.
            if sender.send(piece.map(Some)).await.is_err() || failed {
                return waker();
            }
            waker();
        }
        let _ = sender.send(Ok(None)).await;
        waker();
    });
    receiver
}

/// The bytes of an object, which is what was found: one answer of the store is of one content.
async fn pieces(remote: &Remote, split: &FileSplit, from: u64) -> Result<BoxStream<'static, Result<Bytes>>> {
    let object = remote.object(&split.file);
    let shown = Location::Remote(remote.clone()).show(&split.file);
    let range = (from > 0).then_some(GetRange::Offset(from));
    let store = Arc::clone(&remote.store);
    let result = match store.get_opts(&object, GetOptions { range, ..GetOptions::default() }).await {
        Ok(result) => result,
        // Behind the last byte there is nothing to get.
        Err(error) if from > 0 => {
            let meta = store.head(&object).await.map_err(|_| remote.error("reading", &split.file, &error))?;
            split.verify(&Version::of(&meta), &shown)?;
            let end = meta.size == from;
            return if end { Ok(futures::stream::empty().boxed()) } else { Err(remote.error("reading", &split.file, &error)) };
        }
        Err(error) => return Err(remote.error("reading", &split.file, &error)),
    };
    split.verify(&Version::of(&result.meta), &shown)?;
    let (remote, file) = (remote.clone(), split.file.clone());
    Ok(result.into_stream().map(move |piece| piece.map_err(|error| remote.error("reading", &file, &error))).boxed())
}
