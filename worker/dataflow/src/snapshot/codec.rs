//! [pure] State batches as bytes and back: Arrow IPC streams cut at key groups.
//!
//! A block is one IPC stream with the rows of some key groups. A state file holds blocks of any operators and tables;
//! the manifest says what is where. Checksums are checked by `rheos_checkpoint`, before anything is decoded here.

use std::ops::Range;

use arrow::array::{AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, UInt16Type};
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::root_as_message;
use arrow::ipc::writer::StreamWriter;
use rheos_checkpoint::manifest::Block;

use super::GROUP_COLUMN;
use crate::contain::contain;
use crate::error::{DataflowError, ErrorKind, Result};

/// A block is closed at the end of the key group in which it reaches this size, bytes in memory.
pub const BLOCK_BYTES: usize = 1024 * 1024;

/// A block that is not in a file yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedBlock {
    /// First key group in it.
    pub first_group: u16,
    /// Last key group in it.
    pub last_group: u16,
    /// Rows in it.
    pub rows: u64,
    /// An Arrow IPC stream.
    pub bytes: Vec<u8>,
}

/// Encodes a table's rows, which are sorted by key group over all batches, into blocks by rising group.
///
/// # Errors
/// [`ErrorKind::Bug`] when the group column is missing or the rows are not sorted by it.
pub fn encode(batches: &[RecordBatch]) -> Result<Vec<EncodedBlock>> {
    let mut blocks = Vec::new();
    let mut open: Option<OpenBlock> = None;
    for batch in batches {
        let groups = groups_of(batch)?;
        let row_bytes = batch.get_array_memory_size() / batch.num_rows().max(1) + 1;
        let mut start = 0;
        while start < groups.len() {
            let group = groups[start];
            let end = start + groups[start..].iter().take_while(|other| **other == group).count();
            let last = open.as_ref().map(|block| block.last_group);
            if last.is_some_and(|last| last > group) {
                return Err(bug("state rows are not sorted by key group"));
            }
            if last.is_some_and(|last| last < group)
                && let Some(full) = open.take_if(|block| block.size >= BLOCK_BYTES)
            {
                blocks.push(full.encode()?);
            }
            let block = open.get_or_insert_with(|| OpenBlock::new(group));
            block.last_group = group;
            block.size += (end - start) * row_bytes;
            block.push(batch, start..end);
            start = end;
        }
    }
    if let Some(block) = open {
        blocks.push(block.encode()?);
    }
    Ok(blocks)
}

/// The rows of a block whose checksum holds, without those of key groups outside of `groups` or of the block's own
/// (narrowed) range. Columns lie where `bytes` has them: nothing is copied when that is aligned.
///
/// # Errors
/// [`ErrorKind::State`] when the bytes are no such rows.
pub fn decode(block: &Block, bytes: Buffer, groups: &Range<u32>) -> Result<Vec<RecordBatch>> {
    check_lengths(&bytes)?;
    contain(|| read_stream(block, bytes, groups)).unwrap_or_else(|problem| Err(no_stream(&problem)))
}

/// Compares every length that a stream claims with what is there, because the reader allocates what is claimed. That the
/// checksum of a block is right does not make it ours.
fn check_lengths(mut rest: &[u8]) -> Result<()> {
    /// Stands before the length of a message, since version 0.15 of the format.
    const CONTINUES: u32 = u32::MAX;
    let cut = || no_stream(&"a message is longer than what is left of the block");
    let word = |rest: &mut &[u8]| -> Result<u32> {
        let (word, after) = rest.split_first_chunk().ok_or_else(cut)?;
        *rest = after;
        Ok(u32::from_le_bytes(*word))
    };
    while !rest.is_empty() {
        let mut length = word(&mut rest)?;
        if length == CONTINUES {
            length = word(&mut rest)?;
        }
        if length == 0 {
            break;
        }
        let (head, after) = rest.split_at_checked(length as usize).ok_or_else(cut)?;
        let message = root_as_message(head).map_err(|error| no_stream(&error))?;
        let body = usize::try_from(message.bodyLength()).map_err(|_| cut())?;
        rest = after.get(body..).ok_or_else(cut)?;
    }
    Ok(())
}

fn read_stream(block: &Block, mut bytes: Buffer, groups: &Range<u32>) -> Result<Vec<RecordBatch>> {
    let wanted = groups.start.max(u32::from(block.first_group))..groups.end.min(u32::from(block.last_group) + 1);
    let mut decoder = StreamDecoder::new();
    let (mut batches, mut rows) = (Vec::new(), 0);
    while !bytes.is_empty() {
        let Some(batch) = decoder.decode(&mut bytes).map_err(bad)? else { continue };
        rows += batch.num_rows() as u64;
        let kept = of_groups(&batch, &wanted)?;
        if kept.num_rows() > 0 {
            batches.push(kept);
        }
    }
    decoder.finish().map_err(bad)?;
    if rows != block.rows {
        return Err(bad(format!("a block of {} rows holds {rows}", block.rows)));
    }
    Ok(batches)
}

/// The rows of a state batch, which is sorted by key group, that belong to `groups`.
///
/// # Errors
/// [`ErrorKind::State`] when it has no key groups or is not sorted by them.
pub(crate) fn of_groups(batch: &RecordBatch, groups: &Range<u32>) -> Result<RecordBatch> {
    let rows = groups_of(batch)?;
    if !rows.is_sorted() {
        return Err(bad("state rows are not sorted by key group"));
    }
    let from = rows.partition_point(|group| u32::from(*group) < groups.start);
    let to = rows.partition_point(|group| u32::from(*group) < groups.end);
    Ok(batch.slice(from, to.saturating_sub(from)))
}

/// Runs of rows of consecutive groups, still unencoded.
struct OpenBlock {
    first_group: u16,
    last_group: u16,
    size: usize,
    runs: Vec<(RecordBatch, Range<usize>)>,
}

impl OpenBlock {
    fn new(group: u16) -> Self {
        Self { first_group: group, last_group: group, size: 0, runs: Vec::new() }
    }

    fn push(&mut self, batch: &RecordBatch, rows: Range<usize>) {
        match self.runs.last_mut() {
            // A run that goes on in the same batch; one at row 0 begins the next batch.
            Some((_, run)) if rows.start > 0 && run.end == rows.start => run.end = rows.end,
            _ => self.runs.push((batch.clone(), rows)),
        }
    }

    fn encode(self) -> Result<EncodedBlock> {
        let Some((first, _)) = self.runs.first() else { return Err(bug("an empty block")) };
        let mut writer = StreamWriter::try_new(Vec::new(), &first.schema())?;
        let mut rows = 0;
        for (batch, run) in &self.runs {
            writer.write(&batch.slice(run.start, run.len()))?;
            rows += run.len() as u64;
        }
        let bytes = writer.into_inner()?;
        Ok(EncodedBlock { first_group: self.first_group, last_group: self.last_group, rows, bytes })
    }
}

fn groups_of(batch: &RecordBatch) -> Result<&[u16]> {
    match batch.column_by_name(GROUP_COLUMN) {
        Some(column) if *column.data_type() == DataType::UInt16 => Ok(column.as_primitive::<UInt16Type>().values()),
        _ => Err(bad(format!("state rows without their {GROUP_COLUMN} column"))),
    }
}

fn bug(message: &str) -> DataflowError {
    DataflowError::new("snapshot", ErrorKind::Bug, message)
}

fn no_stream(problem: &dyn std::fmt::Display) -> DataflowError {
    bad(format!("the block is no Arrow stream: {problem}"))
}

fn bad(message: impl std::fmt::Display) -> DataflowError {
    DataflowError::new("snapshot", ErrorKind::State, message)
}
