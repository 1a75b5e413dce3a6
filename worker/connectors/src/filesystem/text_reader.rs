//! [io] Reads a split of text records (CSV, JSON): bytes in, whole records out, and the position between them.

use arrow::array::RecordBatch;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::source::{Read, SplitReader};
use serde::{Deserialize, Serialize};

use super::bytes::{FileBytes, Fill};
use crate::format::{Decoded, Decoder, Malformed, OnError, RECORD_LIMIT};

/// More bytes are taken while fewer than this wait to be decoded.
const LOW_WATER: usize = 512 * 1024;

/// A position between two records.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextOffset {
    /// Of the decompressed file.
    pub(crate) bytes: u64,
    /// Line ends before it, for messages.
    pub(crate) lines: u64,
    /// Records before it, malformed ones too.
    pub(crate) records: u64,
    /// Malformed records left out before it.
    #[serde(default)]
    pub(crate) skipped: u64,
    /// The file's header, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) header: Option<Vec<String>>,
}

/// Reads one file.
pub(crate) struct TextReader {
    bytes: FileBytes,
    decoder: Box<dyn Decoder>,
    on_error: OnError,
    shown: String,
    /// Bytes read; those from `start` on are not yet decoded.
    buffer: Vec<u8>,
    start: usize,
    end_of_file: bool,
    begun: bool,
    position: TextOffset,
}

impl TextReader {
    /// Reads on at `position`, where `bytes` stand.
    pub(crate) fn new(
        bytes: FileBytes,
        mut decoder: Box<dyn Decoder>,
        on_error: OnError,
        shown: String,
        position: TextOffset,
    ) -> Result<Self> {
        let begun = position.bytes > 0;
        if let Some(header) = &position.header {
            decoder.set_header(header.clone())?;
        }
        Ok(Self { bytes, decoder, on_error, shown, buffer: Vec::new(), start: 0, end_of_file: false, begun, position })
    }

    /// Passes over `count` bytes of the buffer.
    fn advance(&mut self, count: usize) {
        let passed = &self.buffer[self.start..self.start + count];
        self.position.lines += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.position.bytes += count as u64;
        self.start += count;
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
    }

    /// Takes the head of the file; false when more bytes are needed.
    fn begin(&mut self) -> Result<bool> {
        if !self.begun {
            let begun = self.decoder.begin(&self.buffer[self.start..], self.end_of_file).map_err(|error| self.place(error))?;
            let Some(used) = begun else { return Ok(false) };
            self.advance(used);
            self.position.header = self.decoder.header();
            self.begun = true;
        }
        Ok(true)
    }

    /// Decodes from the buffer: the good rows, and whether it came on at all.
    fn decode(&mut self, rows: usize) -> Result<(Option<RecordBatch>, bool)> {
        if !self.begin()? {
            return Ok((None, false));
        }
        let input = &self.buffer[self.start..];
        let decoded = self.decoder.decode(input, self.end_of_file, rows).map_err(|error| self.place(error))?;
        let Decoded { consumed, records, batch, malformed, first } = decoded;
        if self.on_error == OnError::Fail
            && let Some(first) = &first
        {
            return Err(self.malformed(first));
        }
        self.position.skipped += malformed;
        self.position.records += records;
        if consumed == 0 && input.len() > RECORD_LIMIT {
            let message = format!("record {}: longer than {RECORD_LIMIT} bytes", self.position.records + 1);
            return Err(self.place(DataflowError::new("", ErrorKind::Data, message)));
        }
        self.advance(consumed);
        Ok((batch, consumed > 0))
    }

    fn malformed(&self, bad: &Malformed) -> DataflowError {
        let before = &self.buffer[self.start..self.start + bad.start];
        let line = self.position.lines + before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        let record = self.position.records + bad.record + 1;
        let message = format!(
            "{}, line {line} (record {record}): {}. To leave such records out, and count them: 'format.on-error' = 'skip'",
            self.shown, bad.reason
        );
        DataflowError::new("filesystem", ErrorKind::Data, message)
    }

    fn place(&self, error: DataflowError) -> DataflowError {
        let message = format!("{}, from line {}: {}", self.shown, self.position.lines + 1, error.message);
        DataflowError::new("filesystem", error.kind, message)
    }
}

impl SplitReader for TextReader {
    fn read(&mut self, rows: usize) -> Result<Read> {
        // Decoding a small rest of the buffer would make small batches: fill up first, but stay short.
        while !self.end_of_file && self.buffer.len() - self.start < LOW_WATER {
            self.buffer.drain(..self.start);
            self.start = 0;
            match self.bytes.fill(&mut self.buffer)? {
                Fill::More => {}
                Fill::End => self.end_of_file = true,
                Fill::Pending => break,
            }
        }
        loop {
            match self.decode(rows.max(1))? {
                (Some(batch), _) => return Ok(Read::Rows(batch)),
                // Malformed records only.
                (None, true) => continue,
                (None, false) if self.end_of_file => return Ok(Read::End),
                (None, false) => {}
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            match self.bytes.fill(&mut self.buffer)? {
                Fill::Pending => return Ok(Read::Pending),
                Fill::More => {}
                Fill::End => self.end_of_file = true,
            }
        }
    }

    fn offset(&self) -> serde_json::Value {
        serde_json::to_value(&self.position).unwrap_or_default()
    }

    fn skipped(&self) -> u64 {
        self.position.skipped
    }
}
