//! [pure] What crosses workers: one envelope a message, as typed value within a process and as Arrow IPC between.
//!
//! Invariants:
//! - The record count of a parcel is its rows (1 for a watermark), so it survives splitting and the wire.
//! - On each (channel, sender, target) the bytes form one Arrow IPC stream: schema first, then dictionaries and batches
//!   in order. One [`StreamEncoder`] a target writes it, one [`StreamDecoder`] a sender reads it.
//! - Encoding shares the batch's buffers until timely copies them into its slab; decoding shares the slab. Rows that
//!   are kept as state must be copied by whoever keeps them, or they pin a slab of 1 MiB.

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::{IpcWriteOptions, StreamEncoder};
use rheos_dataflow::envelope::{Envelope, Payload};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::time::Watermark;
use std::sync::Arc;
use timely::Accountable;
use timely::communication::Push;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};
use timely::progress::Stamp;

/// A batch whose encoding is larger is split by rows, bytes: a little below timely's slab, which would grow for good.
pub const MAX_WIRE_BYTES: usize = 960 * 1024;
/// Bytes of the header before the payload: kind, target, sender, sequence (u32 each), count (u64).
const HEADER: usize = 24;
/// Everything on the wire is a multiple of this, so that received columns stay aligned in the slab.
const ALIGNMENT: usize = 8;

/// One envelope on its way.
#[derive(Default)]
pub(crate) struct Parcel {
    target: u32,
    sender: u32,
    seq: u32,
    content: Content,
}

#[derive(Default)]
enum Content {
    #[default]
    Nothing,
    Watermark(Watermark),
    Rows(RecordBatch),
    /// Encoded for another process; the sum of the lengths is a multiple of [`ALIGNMENT`].
    Encoded {
        rows: usize,
        first: bool,
        buffers: Vec<Buffer>,
    },
    /// Came from another process; decoded by the operator that knows the sender's stream.
    Received {
        rows: usize,
        first: bool,
        bytes: Buffer,
    },
    /// Rows without columns.
    Count(usize),
}

const KIND_WATERMARK: u32 = 1;
const KIND_IDLE: u32 = 2;
const KIND_ROWS: u32 = 3;
const KIND_COUNT: u32 = 4;
/// Rows that begin a new IPC stream.
const KIND_FIRST_ROWS: u32 = 5;

impl Parcel {
    pub(crate) fn new(target: u32, envelope: Envelope) -> Self {
        let content = match envelope.payload {
            Payload::Watermark(watermark) => Content::Watermark(watermark),
            Payload::Rows(batch) => Content::Rows(batch),
        };
        Self { target, sender: envelope.sender, seq: envelope.seq, content }
    }

    fn with(&self, content: Content) -> Self {
        Self { target: self.target, sender: self.sender, seq: self.seq, content }
    }
}

impl Accountable for Parcel {
    fn record_count(&self) -> i64 {
        match &self.content {
            Content::Nothing => 0,
            Content::Watermark(_) => 1,
            Content::Rows(batch) => batch.num_rows() as i64,
            Content::Encoded { rows, .. } | Content::Received { rows, .. } | Content::Count(rows) => *rows as i64,
        }
    }
}

impl ContainerBytes for Parcel {
    fn from_bytes(bytes: timely::bytes::arc::Bytes) -> Self {
        let word = |at: usize| bytes.get(at..at + 4).map_or(0, |w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
        let (kind, target, sender, seq) = (word(0), word(4), word(8), word(12));
        let count = u64::from(word(16)) | u64::from(word(20)) << 32;
        let content = match kind {
            KIND_WATERMARK => Content::Watermark(Watermark::Active(count as i64)),
            KIND_IDLE => Content::Watermark(Watermark::Idle(count as i64)),
            KIND_COUNT => Content::Count(count as usize),
            _ => {
                let slab = Buffer::from(bytes::Bytes::from_owner(Slab(bytes)));
                Content::Received { rows: count as usize, first: kind == KIND_FIRST_ROWS, bytes: slab.slice(HEADER) }
            }
        };
        Self { target, sender, seq, content }
    }

    fn length_in_bytes(&self) -> usize {
        HEADER
            + match &self.content {
                Content::Encoded { buffers, .. } => buffers.iter().map(Buffer::len).sum(),
                Content::Received { bytes, .. } => bytes.len(),
                _ => 0,
            }
    }

    fn into_bytes<W: std::io::Write>(&self, writer: &mut W) {
        let (kind, count) = match &self.content {
            Content::Watermark(Watermark::Active(at)) => (KIND_WATERMARK, *at as u64),
            Content::Watermark(Watermark::Idle(at)) => (KIND_IDLE, *at as u64),
            Content::Count(rows) => (KIND_COUNT, *rows as u64),
            Content::Encoded { rows, first, .. } | Content::Received { rows, first, .. } => {
                (if *first { KIND_FIRST_ROWS } else { KIND_ROWS }, *rows as u64)
            }
            // The distributor encodes whatever leaves the process.
            Content::Nothing | Content::Rows(_) => panic!("a batch reached the wire without being encoded"),
        };
        let mut header = [0; HEADER];
        for (place, word) in header.chunks_exact_mut(4).zip([kind, self.target, self.sender, self.seq]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        header[16..].copy_from_slice(&count.to_le_bytes());
        let mut parts: Vec<&[u8]> = vec![&header];
        match &self.content {
            Content::Encoded { buffers, .. } => parts.extend(buffers.iter().map(Buffer::as_slice)),
            Content::Received { bytes, .. } => parts.push(bytes.as_slice()),
            _ => {}
        }
        for part in parts {
            // The writer is a slice of timely's slab, as long as `length_in_bytes` said.
            if let Err(error) = writer.write_all(part) {
                panic!("a parcel is longer than it said: {error}");
            }
        }
    }
}

/// Keeps timely's slab alive under an Arrow buffer.
struct Slab(timely::bytes::arc::Bytes);

impl AsRef<[u8]> for Slab {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Hands each parcel to its target; encodes those that leave the process.
pub(crate) struct Router {
    schema: SchemaRef,
    local: std::ops::Range<usize>,
    encoders: Vec<Option<StreamEncoder>>,
}

impl Router {
    /// For a channel of `schema`, on the process that runs the workers `local` of `peers`.
    pub(crate) fn new(schema: SchemaRef, local: std::ops::Range<usize>, peers: usize) -> Self {
        Self { schema, local, encoders: std::iter::repeat_with(|| None).take(peers).collect() }
    }

    fn encode(&mut self, target: usize, batch: &RecordBatch) -> Result<Vec<Content>, ArrowError> {
        if batch.num_columns() == 0 {
            return Ok(vec![Content::Count(batch.num_rows())]);
        }
        let first = self.encoders[target].is_none();
        let encoder = match &mut self.encoders[target] {
            Some(encoder) => encoder,
            slot => slot.insert(encoder(&self.schema)?),
        };
        let batch = &without_stray_views(batch)?;
        let rows = batch.num_rows();
        let buffers = encoder.encode(batch)?;
        let bytes: usize = buffers.iter().map(Buffer::len).sum();
        if bytes <= MAX_WIRE_BYTES || rows == 1 {
            return Ok(vec![Content::Encoded { rows, first, buffers: padded(buffers, bytes) }]);
        }
        // A stream cannot take back what it encoded (schema, dictionaries): the pieces begin a new one.
        self.encoders[target] = None;
        let pieces = bytes.div_ceil(MAX_WIRE_BYTES).min(rows);
        let step = rows.div_ceil(pieces);
        let mut contents = Vec::new();
        for from in (0..rows).step_by(step) {
            contents.extend(self.encode(target, &batch.slice(from, step.min(rows - from)))?);
        }
        Ok(contents)
    }
}

impl Distributor<Parcel> for Router {
    fn partition<T: Clone, P: Push<Message<T, Parcel>>>(&mut self, parcel: &mut Parcel, stamp: &Stamp<T>, pushers: &mut [P]) {
        let mut parcel = std::mem::take(parcel);
        let target = parcel.target as usize;
        let pusher = &mut pushers[target];
        match &parcel.content {
            Content::Rows(batch) if !self.local.contains(&target) => {
                let contents = match self.encode(target, batch) {
                    Ok(contents) => contents,
                    Err(error) => panic!("cannot encode a batch for worker {target}: {error}"),
                };
                for content in contents {
                    Message::push_at(&mut parcel.with(content), stamp.clone(), pusher);
                }
            }
            _ => Message::push_at(&mut parcel, stamp.clone(), pusher),
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Parcel>>>(&mut self, _stamp: &Stamp<T>, _pushers: &mut [P]) {}
}

fn encoder(schema: &Schema) -> Result<StreamEncoder, ArrowError> {
    StreamEncoder::try_new_with_options(schema, IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?)
}

fn padded(mut buffers: Vec<Buffer>, bytes: usize) -> Vec<Buffer> {
    let padding = bytes.next_multiple_of(ALIGNMENT) - bytes;
    if padding > 0 {
        buffers.push(Buffer::from(vec![0; padding]));
    }
    buffers
}

/// A view array shares its data buffers with everything it was cut from, and the IPC writer sends them whole.
fn without_stray_views(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let is_view = |data_type: &DataType| matches!(data_type, DataType::Utf8View | DataType::BinaryView);
    if !batch.columns().iter().any(|column| is_view(column.data_type())) {
        return Ok(batch.clone());
    }
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()) as _,
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()) as _,
        _ => Arc::clone(column),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns.collect(), &options)
}

/// Turns the parcels of one input back into envelopes.
pub(crate) struct Unpacker {
    schema: SchemaRef,
    decoders: Vec<StreamDecoder>,
}

impl Unpacker {
    pub(crate) fn new(schema: SchemaRef, peers: usize) -> Self {
        Self { schema, decoders: std::iter::repeat_with(StreamDecoder::new).take(peers).collect() }
    }

    /// # Errors
    /// The bytes are not what the sender's stream should hold.
    pub(crate) fn unpack(&mut self, parcel: Parcel) -> Result<Envelope> {
        let broken =
            |what: &dyn std::fmt::Display| DataflowError::new(format!("exchange from worker {}", parcel.sender), ErrorKind::Bug, what);
        let payload = match parcel.content {
            Content::Watermark(watermark) => Payload::Watermark(watermark),
            Content::Rows(batch) => Payload::Rows(batch),
            Content::Count(rows) => {
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                Payload::Rows(RecordBatch::try_new_with_options(Arc::clone(&self.schema), Vec::new(), &options)?)
            }
            Content::Received { rows, first, mut bytes } => {
                let decoder = self.decoders.get_mut(parcel.sender as usize).ok_or_else(|| broken(&"no such worker"))?;
                if first {
                    *decoder = StreamDecoder::new();
                }
                match decoder.decode(&mut bytes) {
                    Ok(Some(batch)) if batch.num_rows() == rows => Payload::Rows(batch),
                    Ok(_) => return Err(broken(&"a parcel does not hold the rows it announced")),
                    Err(error) => return Err(broken(&error)),
                }
            }
            Content::Nothing | Content::Encoded { .. } => return Err(broken(&"an empty parcel")),
        };
        Ok(Envelope { sender: parcel.sender, seq: parcel.seq, payload })
    }
}

/// Bytes of a batch's own rows, without what its buffers share with others; what the byte ledger counts.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| column_bytes(column.as_ref())).sum()
}

fn column_bytes(column: &dyn Array) -> usize {
    let rows = column.len();
    let span = |first: usize, last: usize| last - first;
    match column.data_type() {
        DataType::Boolean => rows / 8,
        DataType::Utf8 => {
            let offsets = column.as_string::<i32>().value_offsets();
            rows * 4 + span(offsets[0] as usize, offsets[rows] as usize)
        }
        data_type => match data_type.primitive_width() {
            Some(width) => rows * width,
            // Nested and rare types: exact, at the price of a few allocations.
            None => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()),
        },
    }
}

#[cfg(test)]
mod tests;
