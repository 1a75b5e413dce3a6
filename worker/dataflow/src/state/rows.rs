//! [pure] Rows of words with a heap for bytes, how their columns lie in them, and chunks of them that copy on write.
//!
//! A row is `header, key words…, value words…`. The header holds the high half of the key's hash (so the key group)
//! over the null bits of the key columns. A word of bytes refers to the heap of its own chunk.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use super::Slot;
use super::keys::{Kind, array_of_bytes, array_of_doubles, array_of_words};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::hash;

/// Rows of a chunk: what is copied at once when a shared chunk is written to.
pub(crate) const CHUNK_ROWS: usize = 1 << CHUNK_SHIFT;
pub(crate) const CHUNK_SHIFT: u32 = 10;
/// A word of bytes: this many low bits are the offset in the heap (1 TiB), the others the length.
const OFFSET_BITS: u32 = 40;
/// One string in state, at most: 16 MiB.
pub(crate) const MAX_VALUE_BYTES: usize = (1 << (64 - OFFSET_BITS)) - 1;
/// Garbage below this is not worth a compaction.
const MIN_GARBAGE_BYTES: usize = 4_096;

/// A column's place in a row.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    pub(crate) kind: Kind,
    /// Its first word.
    pub(crate) at: usize,
}

/// A value column to be laid out.
#[derive(Debug, Clone)]
pub(crate) struct ValueSpec {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    /// What a new row holds (bytes: always nothing).
    pub(crate) initial: [u64; 2],
    /// Whether it goes into snapshots; those that do not come last.
    pub(crate) persisted: bool,
}

/// How the columns lie in a row.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) keys: Vec<Column>,
    pub(crate) values: Vec<Column>,
    /// The first of `values` that is not persisted.
    pub(crate) persisted: usize,
    /// Words of a row.
    pub(crate) stride: usize,
    /// First word of the values.
    pub(crate) values_at: usize,
    /// The value words of a new row.
    initial: Vec<u64>,
    /// Words that refer to the heap.
    bytes_at: Vec<usize>,
}

impl Layout {
    pub(crate) fn new(keys: &[DataType], values: &[ValueSpec]) -> Result<Self> {
        let mut at = 1;
        let mut bytes_at = Vec::new();
        let mut column = |name: String, data_type: &DataType| -> Result<Column> {
            let kind = Kind::of(data_type)?;
            let column = Column { name, data_type: data_type.clone(), kind, at };
            if kind == Kind::Bytes {
                bytes_at.push(at);
            }
            at += kind.words();
            Ok(column)
        };
        let key_columns = keys.iter().enumerate().map(|(i, key)| column(format!("k{i}"), key)).collect::<Result<Vec<_>>>()?;
        let values_at = 1 + key_columns.iter().map(|key| key.kind.words()).sum::<usize>();
        let value_columns = values.iter().map(|value| column(value.name.clone(), &value.data_type)).collect::<Result<Vec<_>>>()?;
        let mut initial = Vec::new();
        for (column, value) in value_columns.iter().zip(values) {
            initial.extend_from_slice(&value.initial[..column.kind.words()]);
        }
        let persisted = values.iter().take_while(|value| value.persisted).count();
        let stride = values_at + initial.len();
        Ok(Self { keys: key_columns, values: value_columns, persisted, stride, values_at, initial, bytes_at })
    }

    /// The hash of the key of the row that begins at word `base`.
    pub(crate) fn hash(&self, rows: &Rows, base: usize) -> u64 {
        let nulls = rows.words[base];
        let state = self.keys.iter().enumerate().fold(hash::EMPTY, |state, (c, key)| {
            let word = rows.words[base + key.at];
            match key.kind {
                _ if nulls >> c & 1 == 1 => hash::add_null(state),
                Kind::Double => hash::add(hash::add(state, word), rows.words[base + key.at + 1]),
                Kind::Bytes => hash::add_bytes(state, rows.bytes(word)),
                _ => hash::add(state, word),
            }
        });
        hash::finish(state)
    }

    /// Columns of all rows of a block.
    pub(crate) fn arrays(&self, columns: &[Column], block: &Rows) -> Result<Vec<ArrayRef>> {
        columns.iter().enumerate().map(|(c, column)| self.array(column, Some(c), block)).collect()
    }

    /// One column of all rows of a block. `null_bit`: the key column's number; values have no nulls.
    pub(crate) fn array(&self, column: &Column, null_bit: Option<usize>, block: &Rows) -> Result<ArrayRef> {
        let rows = block.words.chunks_exact(self.stride);
        let null_bit = null_bit.filter(|_| column.at < self.values_at);
        let nulls = null_bit.and_then(|bit| {
            let nulls: NullBuffer = rows.clone().map(|row| row[0] >> bit & 1 == 0).collect();
            (nulls.null_count() > 0).then_some(nulls)
        });
        match column.kind {
            Kind::Double => {
                let value = |row: &[u64]| i128::from(row[column.at + 1] as i64) << 64 | i128::from(row[column.at]);
                array_of_doubles(&column.data_type, rows.map(value).collect(), nulls)
            }
            Kind::Bytes => array_of_bytes(&column.data_type, rows.map(|row| block.bytes(row[column.at])), nulls),
            _ => array_of_words(&column.data_type, rows.map(|row| row[column.at]), nulls),
        }
    }
}

/// Some rows and their heap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) words: Vec<u64>,
    heap: Vec<u8>,
    /// Bytes of the heap that no word refers to, about.
    garbage: usize,
}

impl Rows {
    /// What a word of bytes refers to.
    #[inline]
    pub(crate) fn bytes(&self, word: u64) -> &[u8] {
        let (offset, length) = unpack(word);
        &self.heap[offset..offset + length]
    }

    /// The same, to be changed in place.
    #[inline]
    pub(crate) fn bytes_mut(&mut self, word: u64) -> &mut [u8] {
        let (offset, length) = unpack(word);
        &mut self.heap[offset..offset + length]
    }

    /// Makes the word at `at` refer to `bytes`.
    ///
    /// Errors: more than [`MAX_VALUE_BYTES`].
    pub(crate) fn set_bytes(&mut self, layout: &Layout, at: usize, bytes: &[u8]) -> Result<()> {
        if bytes.len() > MAX_VALUE_BYTES {
            let message = format!("a string of {} bytes cannot be a key or an extreme, at most {MAX_VALUE_BYTES}", bytes.len());
            return Err(DataflowError::new("keyed state", ErrorKind::Data, message));
        }
        let (offset, length) = unpack(self.words[at]);
        if bytes.len() <= length {
            self.heap[offset..offset + bytes.len()].copy_from_slice(bytes);
            self.garbage += length - bytes.len();
            self.words[at] = pack(offset, bytes.len());
            return Ok(());
        }
        self.garbage += length;
        self.words[at] = 0;
        let full = self.heap.len() + bytes.len() > self.heap.capacity();
        if full && self.garbage > MIN_GARBAGE_BYTES && self.garbage > self.heap.len() / 2 {
            self.compact(layout);
        }
        self.words[at] = pack(self.heap.len(), bytes.len());
        self.heap.extend_from_slice(bytes);
        Ok(())
    }

    fn compact(&mut self, layout: &Layout) {
        let old = std::mem::take(&mut self.heap);
        self.heap.reserve(old.len().saturating_sub(self.garbage) * 2);
        for row in self.words.chunks_exact_mut(layout.stride) {
            for at in &layout.bytes_at {
                let (offset, length) = unpack(row[*at]);
                row[*at] = pack(self.heap.len(), length);
                self.heap.extend_from_slice(&old[offset..offset + length]);
            }
        }
        self.garbage = 0;
    }

    /// Appends a copy of the row of `from` that begins at word `base`; its heap words from `first` on, the ones before
    /// are left empty.
    pub(crate) fn push_copy(&mut self, layout: &Layout, from: &Self, base: usize, first: usize) {
        let start = self.words.len();
        self.words.extend_from_slice(&from.words[base..base + layout.stride]);
        for at in &layout.bytes_at {
            let bytes = if *at < first { &[] } else { from.bytes(from.words[base + at]) };
            self.words[start + at] = pack(self.heap.len(), bytes.len());
            self.heap.extend_from_slice(bytes);
        }
    }

    /// Forgets all rows, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.words.clear();
        self.heap.clear();
        self.garbage = 0;
    }

    /// Bytes in use.
    pub(crate) fn memory(&self) -> usize {
        self.words.len() * size_of::<u64>() + self.heap.len()
    }
}

#[inline]
fn pack(offset: usize, length: usize) -> u64 {
    offset as u64 | (length as u64) << OFFSET_BITS
}

/// Offset and length.
#[inline]
fn unpack(word: u64) -> (usize, usize) {
    ((word & ((1 << OFFSET_BITS) - 1)) as usize, (word >> OFFSET_BITS) as usize)
}

/// A bit for each row of a chunk.
pub(crate) type Bits = [u64; CHUNK_ROWS / 64];

#[derive(Debug)]
enum Data {
    /// Written to in place.
    Owned(Rows),
    /// An export may still read it: copied before it is written to.
    Shared(Arc<Rows>),
}

/// Up to [`CHUNK_ROWS`] rows, and what is known of each.
#[derive(Debug)]
pub(crate) struct Chunk {
    data: Data,
    /// The row holds a key.
    pub(crate) live: Bits,
    /// The row changed since the last export.
    pub(crate) dirty: Bits,
    /// No export has seen the row's key.
    pub(crate) fresh: Bits,
    /// The row changed since the touched list was taken.
    pub(crate) touched: Bits,
}

impl Chunk {
    pub(crate) fn new() -> Self {
        Self::with_capacity(0)
    }

    /// Without rows, with room for this many words of them.
    pub(crate) fn with_capacity(words: usize) -> Self {
        let none = [0; CHUNK_ROWS / 64];
        let rows = Rows { words: Vec::with_capacity(words), ..Rows::default() };
        Self { data: Data::Owned(rows), live: none, dirty: none, fresh: none, touched: none }
    }

    #[inline]
    pub(crate) fn rows(&self) -> &Rows {
        match &self.data {
            Data::Owned(rows) => rows,
            Data::Shared(rows) => rows,
        }
    }

    #[inline]
    pub(crate) fn rows_mut(&mut self) -> &mut Rows {
        if matches!(self.data, Data::Shared(_)) {
            self.unshare();
        }
        match &mut self.data {
            Data::Owned(rows) => rows,
            Data::Shared(rows) => Arc::make_mut(rows),
        }
    }

    /// Forgets all rows, keeps the memory.
    pub(crate) fn clear(&mut self) {
        (self.live, self.dirty, self.fresh, self.touched) = Default::default();
        self.rows_mut().clear();
    }

    #[cold]
    fn unshare(&mut self) {
        if let Data::Shared(rows) = std::mem::replace(&mut self.data, Data::Owned(Rows::default())) {
            self.data = Data::Owned(Arc::unwrap_or_clone(rows));
        }
    }

    /// The rows as they are now, for reading elsewhere; the next write copies them if they are still read then.
    pub(crate) fn share(&mut self) -> Arc<Rows> {
        let rows = match std::mem::replace(&mut self.data, Data::Owned(Rows::default())) {
            Data::Owned(rows) => Arc::new(rows),
            Data::Shared(rows) => rows,
        };
        self.data = Data::Shared(Arc::clone(&rows));
        rows
    }

    /// Writes a new row with initial values and no key words yet; its place may have held another row.
    pub(crate) fn start_row(&mut self, layout: &Layout, row: usize, header: u64) -> &mut Rows {
        let rows = self.rows_mut();
        let base = row * layout.stride;
        if rows.words.len() <= base {
            rows.words.resize(base + layout.stride, 0);
        } else {
            let stale = layout.bytes_at.iter().map(|at| unpack(rows.words[base + at]).1).sum::<usize>();
            rows.garbage += stale;
            rows.words[base + 1..base + layout.values_at].fill(0);
        }
        rows.words[base] = header;
        rows.words[base + layout.values_at..base + layout.stride].copy_from_slice(&layout.initial);
        rows
    }
}

/// Chunk and row within it.
#[inline]
pub(crate) fn place(slot: Slot) -> (usize, usize) {
    (slot as usize >> CHUNK_SHIFT, slot as usize & (CHUNK_ROWS - 1))
}

#[inline]
pub(crate) fn get(bits: &Bits, row: usize) -> bool {
    bits[row / 64] >> (row % 64) & 1 == 1
}

#[inline]
pub(crate) fn set(bits: &mut Bits, row: usize, value: bool) {
    let bit = 1 << (row % 64);
    if value { bits[row / 64] |= bit } else { bits[row / 64] &= !bit }
}

/// Numbers of the set bits.
pub(crate) fn ones(bits: &Bits) -> impl Iterator<Item = usize> {
    bits.iter().enumerate().flat_map(|(i, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            (rest != 0).then(|| {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                i * 64 + bit
            })
        })
    })
}
