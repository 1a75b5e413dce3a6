//! [pure] State files: blocks of opaque bytes (Arrow IPC streams, made elsewhere), one after the other, cut by key group.
//!
//! Version 1, integers little-endian:
//!
//! ```text
//! magic    8 bytes  "RHEOSTAT"
//! version  u32
//! blocks   the bytes of each block, in order
//! index    for each block: first group u16, last group u16, crc u32, offset u64, length u64, rows u64
//! footer   blocks u32, crc of index u32, version u32, magic 8 bytes
//! ```
//!
//! A manifest repeats the index of what is live, so a restore reads single blocks by range, and checks each against the
//! CRC-32 that the manifest holds before anything decodes it. The index in the file serves inspection and repair.
//! No length that is read is trusted before it was compared with what is there.

use bytes::Bytes;

use crate::codec::{ReadError, Reason};
use crate::manifest::{Block, StateFile};

/// Version of the form.
pub const STATE_FILE_VERSION: u32 = 1;
/// Largest block, bytes: what a reader holds at once.
pub const MAX_BLOCK_BYTES: u64 = 256 * 1024 * 1024;
/// Largest file, bytes: one put, in memory while it is written.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024 * 1024;
/// A writer does well to begin another file at this size, bytes: files are put and read side by side.
pub const TARGET_FILE_BYTES: u64 = 32 * 1024 * 1024;
/// Most blocks of a file: one for each key group, and as many again for tables that share the file.
pub const MAX_BLOCKS: usize = 65_536;

const MAGIC: &[u8; 8] = b"RHEOSTAT";
const HEADER_BYTES: usize = 12;
const ENTRY_BYTES: usize = 32;
const FOOTER_BYTES: usize = 20;

/// Why a block was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Above [`MAX_BLOCK_BYTES`].
    #[error("a state block of {0} bytes is above the limit of {MAX_BLOCK_BYTES} bytes: cut it by key group")]
    Block(u64),
    /// Above [`MAX_FILE_BYTES`] or [`MAX_BLOCKS`].
    #[error("the state file is full: begin another")]
    Full,
    /// First group behind the last one.
    #[error("a state block of the key groups {0} to {1} is empty")]
    Groups(u16, u16),
}

/// Collects blocks into one file.
#[derive(Debug)]
pub struct StateFileWriter {
    bytes: Vec<u8>,
    blocks: Vec<Block>,
}

impl Default for StateFileWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl StateFileWriter {
    /// An empty file.
    pub fn new() -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&STATE_FILE_VERSION.to_le_bytes());
        Self { bytes, blocks: Vec::new() }
    }

    /// Bytes so far; see [`TARGET_FILE_BYTES`].
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether there is no block yet.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Appends a block with the rows of these key groups (both inclusive).
    pub fn push(&mut self, first_group: u16, last_group: u16, rows: u64, block: &[u8]) -> Result<(), WriteError> {
        if first_group > last_group {
            return Err(WriteError::Groups(first_group, last_group));
        }
        let (offset, length) = (self.len(), block.len() as u64);
        if length > MAX_BLOCK_BYTES {
            return Err(WriteError::Block(length));
        }
        let index = ((self.blocks.len() + 1) * ENTRY_BYTES + FOOTER_BYTES) as u64;
        if self.blocks.len() == MAX_BLOCKS || offset + length + index > MAX_FILE_BYTES {
            return Err(WriteError::Full);
        }
        self.bytes.extend_from_slice(block);
        self.blocks.push(Block { first_group, last_group, offset, length, crc: crc32fast::hash(block), rows });
        Ok(())
    }

    /// The bytes to put, and the blocks for the manifest.
    pub fn finish(mut self) -> (Bytes, Vec<Block>) {
        let mut index = Vec::with_capacity(self.blocks.len() * ENTRY_BYTES);
        for block in &self.blocks {
            index.extend_from_slice(&block.first_group.to_le_bytes());
            index.extend_from_slice(&block.last_group.to_le_bytes());
            index.extend_from_slice(&block.crc.to_le_bytes());
            for number in [block.offset, block.length, block.rows] {
                index.extend_from_slice(&number.to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(&index);
        for number in [self.blocks.len() as u32, crc32fast::hash(&index), STATE_FILE_VERSION] {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.bytes.extend_from_slice(MAGIC);
        (self.bytes.into(), self.blocks)
    }
}

/// Checks that the manifest's words about a file can be true, before anything is read or allocated.
pub fn check_file(file: &StateFile) -> Result<(), ReadError> {
    let corrupted = |what: String| Err(ReadError::new(&file.path, Reason::Corrupted(what)));
    if file.bytes > MAX_FILE_BYTES {
        return Err(ReadError::new(&file.path, Reason::TooLarge(format!("a state file of {} bytes", file.bytes))));
    }
    for block in &file.blocks {
        if block.first_group > block.last_group {
            return corrupted(format!("a block of the key groups {} to {}", block.first_group, block.last_group));
        }
        if block.length > MAX_BLOCK_BYTES {
            return Err(ReadError::new(&file.path, Reason::TooLarge(format!("a block of {} bytes", block.length))));
        }
        let end = block.offset.checked_add(block.length);
        if block.offset < HEADER_BYTES as u64 || end.is_none_or(|end| end > file.bytes) {
            return corrupted(format!("a block at {} of {} bytes in a file of {}", block.offset, block.length, file.bytes));
        }
    }
    Ok(())
}

/// Checks the bytes that were read for a block. Only after this may they be decoded.
pub fn check_block(path: &str, block: &Block, bytes: &[u8]) -> Result<(), ReadError> {
    let at = format!("the block at {} of {} bytes", block.offset, block.length);
    if (bytes.len() as u64) < block.length {
        return Err(ReadError::new(path, Reason::Truncated(format!("{at} has only {}", bytes.len()))));
    }
    if bytes.len() as u64 > block.length || crc32fast::hash(bytes) != block.crc {
        return Err(ReadError::new(path, Reason::Corrupted(format!("{at} has a wrong checksum"))));
    }
    Ok(())
}

/// Reads the index of a whole file, and checks every block of it.
pub fn read_whole(path: &str, bytes: &[u8]) -> Result<Vec<Block>, ReadError> {
    parse(bytes)
        .and_then(|blocks| {
            for block in &blocks {
                // Ranges were compared with the length of the file.
                let range = block.offset as usize..(block.offset + block.length) as usize;
                check_block(path, block, &bytes[range]).map_err(|error| error.reason)?;
            }
            Ok(blocks)
        })
        .map_err(|reason| ReadError::new(path, reason))
}

fn parse(bytes: &[u8]) -> Result<Vec<Block>, Reason> {
    let truncated = || Reason::Truncated(format!("{} bytes without a footer at their end", bytes.len()));
    let corrupted = |what: &str| Reason::Corrupted(what.to_string());
    let begun = bytes.len().min(MAGIC.len());
    if bytes[..begun] != MAGIC[..begun] {
        return Err(corrupted("it does not begin as a state file"));
    }
    if bytes.len() < HEADER_BYTES {
        return Err(truncated());
    }
    let version = u32_at(bytes, MAGIC.len());
    if version > STATE_FILE_VERSION {
        return Err(Reason::NewerVersion { found: version, known: STATE_FILE_VERSION });
    }
    if bytes.len() < HEADER_BYTES + FOOTER_BYTES || !bytes.ends_with(MAGIC) {
        return Err(truncated());
    }
    let footer = bytes.len() - FOOTER_BYTES;
    let (count, crc) = (u32_at(bytes, footer) as usize, u32_at(bytes, footer + 4));
    if version == 0 || u32_at(bytes, footer + 8) != version {
        return Err(corrupted("header and footer tell different versions"));
    }
    if count > MAX_BLOCKS || count * ENTRY_BYTES > footer - HEADER_BYTES {
        return Err(corrupted("its footer tells more blocks than there is room for"));
    }
    let index = footer - count * ENTRY_BYTES;
    if crc32fast::hash(&bytes[index..footer]) != crc {
        return Err(corrupted("the checksum of its index is wrong"));
    }
    let mut end = HEADER_BYTES as u64;
    let mut blocks = Vec::with_capacity(count);
    for entry in bytes[index..footer].chunks_exact(ENTRY_BYTES) {
        let block = Block {
            first_group: u16::from_le_bytes([entry[0], entry[1]]),
            last_group: u16::from_le_bytes([entry[2], entry[3]]),
            crc: u32_at(entry, 4),
            offset: u64_at(entry, 8),
            length: u64_at(entry, 16),
            rows: u64_at(entry, 24),
        };
        // Blocks stand side by side, so no byte of the file goes unchecked.
        if block.offset != end || block.length > index as u64 - end || block.first_group > block.last_group {
            return Err(corrupted("its index does not fit its blocks"));
        }
        end += block.length;
        blocks.push(block);
    }
    if end != index as u64 {
        return Err(corrupted("there are bytes that no block holds"));
    }
    Ok(blocks)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}
