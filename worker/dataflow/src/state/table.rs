//! [pure] `KeyedTable`: rows found by key, with slots, dirty tracking and copy-on-write exports.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field};

use super::export::TableSnapshot;
use super::index::Index;
use super::keys::{Keys, Words};
use super::rows::{CHUNK_ROWS, Chunk, Layout, Rows, ValueSpec, get, ones, place, set};
use super::{NO_SLOT, Slot};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::key_group::Subtask;
use crate::snapshot::{TableExport, TableImport};

/// Lookups in flight together: their cache misses overlap.
const LOOKUP_ROWS: usize = 256;

/// Chunks that a cleared table keeps the memory of, at most.
const KEPT_CHUNKS: usize = 128;

/// Rows `key columns -> value columns`, found by key; changed rows are tracked for incremental snapshots.
///
/// Timers and other plain keyed state use it as it is; aggregates use [`crate::aggregate::Accumulators`], which is a
/// table whose value columns are accumulators. Rows live in chunks that an export shares and the next write copies,
/// so an export costs O(chunks) and never the rows.
///
/// Values are not nullable: numbers start at 0, strings empty.
pub struct KeyedTable {
    pub(crate) layout: Arc<Layout>,
    pub(crate) subtask: Subtask,
    pub(super) index: Index,
    pub(super) chunks: Vec<Chunk>,
    /// Slots ever used.
    next: Slot,
    /// Slots to be used again.
    free: Vec<Slot>,
    /// Removed rows that the next export has to report; their slots are free after it.
    leaving: Vec<Slot>,
    live: usize,
    /// Whether `touched` and `saved` are kept.
    tracking: bool,
    touched: Vec<Slot>,
    saved: Rows,
}

impl std::fmt::Debug for KeyedTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedTable").field("layout", &self.layout).field("rows", &self.live).finish_non_exhaustive()
    }
}

impl KeyedTable {
    /// An empty table.
    ///
    /// Errors: a type that cannot be held in a row; more than [`super::MAX_KEY_COLUMNS`] keys.
    pub fn new(keys: &[DataType], values: &[Field], subtask: Subtask) -> Result<Self> {
        let value = |field: &Field| ValueSpec {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            initial: [0, 0],
            persisted: true,
        };
        Ok(Self::with_layout(Layout::new(keys, &values.iter().map(value).collect::<Vec<_>>())?, subtask))
    }

    pub(crate) fn with_layout(layout: Layout, subtask: Subtask) -> Self {
        Self {
            layout: Arc::new(layout),
            subtask,
            index: Index::new(),
            chunks: Vec::new(),
            next: 0,
            free: Vec::new(),
            leaving: Vec::new(),
            live: 0,
            tracking: false,
            touched: Vec::new(),
            saved: Rows::default(),
        }
    }

    /// From now on keeps a list of the rows that change and a copy of each from before its first change.
    pub(crate) fn track(&mut self) {
        self.tracking = true;
    }

    /// Finds or inserts the row of each key and marks it dirty; `slots` is cleared first. `hashes` are those of
    /// [`crate::hash::hash_columns`] over the same columns.
    pub fn slots(&mut self, keys: &[ArrayRef], hashes: &[u64], slots: &mut Vec<Slot>) -> Result<()> {
        let keys = Keys::new(keys, hashes.len())?;
        self.slots_of::<true>(&keys, hashes, slots)
    }

    /// With `MARK` the rows that are there already are marked as changed, else only new ones are.
    pub(crate) fn slots_of<const MARK: bool>(&mut self, keys: &Keys, hashes: &[u64], slots: &mut Vec<Slot>) -> Result<()> {
        slots.clear();
        slots.reserve(hashes.len());
        match keys.columns.as_slice() {
            [Words::One(one)] => self.upsert::<_, MARK>(&(One { one }, keys), hashes, slots),
            [Words::One(one), Words::One(two)] => self.upsert::<_, MARK>(&(Two { one, two }, keys), hashes, slots),
            columns => self.upsert::<_, MARK>(&(Any { columns, layout: &Arc::clone(&self.layout) }, keys), hashes, slots),
        }
    }

    fn upsert<K: KeyColumns, const MARK: bool>(&mut self, keys: &(K, &Keys), hashes: &[u64], slots: &mut Vec<Slot>) -> Result<()> {
        let mut homes = [0u64; LOOKUP_ROWS];
        for start in (0..hashes.len()).step_by(LOOKUP_ROWS) {
            let end = hashes.len().min(start + LOOKUP_ROWS);
            for (home, hash) in homes.iter_mut().zip(&hashes[start..end]) {
                *home = self.index.home(*hash);
            }
            for i in start..end {
                let hash = hashes[i];
                let hit = Index::candidate(homes[i - start], hash).filter(|slot| self.is_key(*slot, keys, i, hash));
                let slot = match hit.or_else(|| self.index.find(hash, |slot| self.is_key(slot, keys, i, hash))) {
                    Some(slot) => {
                        if MARK {
                            self.mark(slot);
                        }
                        slot
                    }
                    None => self.insert(keys, i, hash)?,
                };
                slots.push(slot);
            }
        }
        Ok(())
    }

    #[inline]
    fn is_key<K: KeyColumns>(&self, slot: Slot, keys: &(K, &Keys), i: usize, hash: u64) -> bool {
        let (rows, base) = self.row(slot);
        rows.words[base] == header(hash, keys.1.null_bits(i)) && keys.0.equal(i, rows, base)
    }

    #[cold]
    fn insert<K: KeyColumns>(&mut self, keys: &(K, &Keys), i: usize, hash: u64) -> Result<Slot> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.next == NO_SLOT => {
                return Err(DataflowError::new("keyed state", ErrorKind::Data, "more than 2^32 keys on one worker"));
            }
            None => {
                self.next += 1;
                self.next - 1
            }
        };
        let (chunk, row) = place(slot);
        if chunk == self.chunks.len() {
            // Small tables grow by and by; in a large one a chunk is filled as soon as it is there.
            let words = if chunk == 0 { 0 } else { CHUNK_ROWS * self.layout.stride };
            self.chunks.push(Chunk::with_capacity(words));
        }
        let chunk = &mut self.chunks[chunk];
        let rows = chunk.start_row(&self.layout, row, header(hash, keys.1.null_bits(i)));
        keys.0.write(i, rows, row * self.layout.stride, &self.layout)?;
        set(&mut chunk.live, row, true);
        set(&mut chunk.fresh, row, true);
        self.index.insert(hash, slot);
        self.live += 1;
        self.mark(slot);
        Ok(slot)
    }

    /// The row of each key, or [`super::NO_SLOT`]; marks nothing. `slots` is cleared first.
    pub fn find(&self, keys: &[ArrayRef], hashes: &[u64], slots: &mut Vec<Slot>) -> Result<()> {
        let keys = Keys::new(keys, hashes.len())?;
        let keys = (Any { columns: &keys.columns, layout: &self.layout }, &keys);
        slots.clear();
        slots.extend(
            hashes.iter().enumerate().map(|(i, hash)| self.index.find(*hash, |slot| self.is_key(slot, &keys, i, *hash)).unwrap_or(NO_SLOT)),
        );
        Ok(())
    }

    /// The chunk rows that hold `slot`, and its first word there.
    #[inline]
    pub(crate) fn row(&self, slot: Slot) -> (&Rows, usize) {
        let (chunk, row) = place(slot);
        (self.chunks[chunk].rows(), row * self.layout.stride)
    }

    #[inline]
    pub(crate) fn row_mut(&mut self, slot: Slot) -> (&mut Rows, usize) {
        let (chunk, row) = place(slot);
        (self.chunks[chunk].rows_mut(), row * self.layout.stride)
    }

    /// Word `at` of a row; whoever changes it has marked the row by finding it.
    #[inline]
    pub(crate) fn word_mut(&mut self, slot: Slot, at: usize) -> &mut u64 {
        let (rows, base) = self.row_mut(slot);
        &mut rows.words[base + at]
    }

    #[inline]
    pub(crate) fn word(&self, slot: Slot, at: usize) -> u64 {
        let (rows, base) = self.row(slot);
        rows.words[base + at]
    }

    /// Makes a row's word `at` refer to `bytes`.
    pub(crate) fn set_bytes(&mut self, slot: Slot, at: usize, bytes: &[u8]) -> Result<()> {
        let (chunk, row) = place(slot);
        self.chunks[chunk].rows_mut().set_bytes(&self.layout, row * self.layout.stride + at, bytes)
    }

    /// Marks a row as changed.
    #[inline]
    pub(crate) fn mark(&mut self, slot: Slot) {
        let (chunk, row) = place(slot);
        let chunk = &mut self.chunks[chunk];
        chunk.dirty[row / 64] |= 1 << (row % 64);
        if self.tracking && !get(&chunk.touched, row) {
            set(&mut chunk.touched, row, true);
            self.touched.push(slot);
            let base = row * self.layout.stride;
            self.saved.push_copy(&self.layout, chunk.rows(), base, self.layout.values_at);
        }
    }

    /// Takes the list of rows that changed since it was taken last, in the order of [`Self::sort`], and their former
    /// selves (new rows: with initial values) in the same order.
    pub(crate) fn take_touched(&mut self) -> (Vec<Slot>, Rows) {
        let (slots, saved) = (std::mem::take(&mut self.touched), std::mem::take(&mut self.saved));
        for slot in &slots {
            let (chunk, row) = place(*slot);
            self.chunks[chunk].touched[row / 64] = 0;
        }
        let order = self.order(&slots);
        let mut sorted = Rows::default();
        sorted.words.reserve(saved.words.len());
        for i in &order {
            sorted.push_copy(&self.layout, &saved, *i as usize * self.layout.stride, self.layout.values_at);
        }
        (order.into_iter().map(|i| slots[i as usize]).collect(), sorted)
    }

    /// Copies rows into one block.
    pub(crate) fn gather(&self, slots: &[Slot]) -> Rows {
        let mut block = Rows::default();
        block.words.reserve(slots.len() * self.layout.stride);
        for slots in slots.chunks(LOOKUP_ROWS) {
            // One word of each row first: the cache misses of rows in no order overlap.
            std::hint::black_box(slots.iter().fold(0, |all, slot| all ^ self.word(*slot, 0)));
            for slot in slots {
                let (rows, base) = self.row(*slot);
                block.push_copy(&self.layout, rows, base, 0);
            }
        }
        block
    }

    /// Key columns of these rows.
    pub fn keys(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        self.layout.arrays(&self.layout.keys, &self.gather(slots))
    }

    /// Value column `column` of these rows.
    pub fn values(&self, column: usize, slots: &[Slot]) -> Result<ArrayRef> {
        self.layout.array(&self.layout.values[column], None, &self.gather(slots))
    }

    /// Overwrites value column `column` of these rows and marks them dirty. Nulls become 0 or empty.
    pub fn set_values(&mut self, column: usize, slots: &[Slot], values: &ArrayRef) -> Result<()> {
        slots.iter().for_each(|slot| self.mark(*slot));
        self.write_values(column, slots, values)
    }

    pub(super) fn write_values(&mut self, column: usize, slots: &[Slot], values: &ArrayRef) -> Result<()> {
        let layout = Arc::clone(&self.layout);
        let at = layout.values[column].at;
        match Words::new(values)? {
            Words::One(words) => {
                slots.iter().zip(words.iter()).for_each(|(slot, word)| *self.word_mut(*slot, at) = *word);
            }
            Words::Two(words) => {
                for (slot, word) in slots.iter().zip(words.iter()) {
                    *self.word_mut(*slot, at) = *word as u64;
                    *self.word_mut(*slot, at + 1) = (*word >> 64) as u64;
                }
            }
            Words::Bytes(bytes) => {
                for (i, slot) in slots.iter().enumerate() {
                    let (rows, base) = self.row_mut(*slot);
                    rows.set_bytes(&layout, base + at, bytes.get(i))?;
                }
            }
        }
        Ok(())
    }

    /// Removes a row; its slot may be given to another key later. A slot that holds no row is left alone.
    pub fn remove(&mut self, slot: Slot) {
        let (chunk, row) = place(slot);
        if self.chunks.get(chunk).is_none_or(|chunk| !get(&chunk.live, row)) {
            return;
        }
        let (rows, base) = self.row(slot);
        let hash = self.layout.hash(rows, base);
        self.index.remove(hash, slot);
        self.live -= 1;
        let chunk = &mut self.chunks[chunk];
        set(&mut chunk.live, row, false);
        let fresh = get(&chunk.fresh, row);
        set(&mut chunk.fresh, row, false);
        set(&mut chunk.dirty, row, !fresh);
        if fresh { self.free.push(slot) } else { self.leaving.push(slot) }
    }

    /// The rows there are, in the order of their slots.
    pub fn live(&self) -> Vec<Slot> {
        let slots = |(i, chunk): (usize, &Chunk)| -> Vec<Slot> { ones(&chunk.live).map(|row| (i * CHUNK_ROWS + row) as Slot).collect() };
        self.chunks.iter().enumerate().flat_map(slots).collect()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Memory held, bytes, estimated.
    pub fn bytes(&self) -> usize {
        let chunk = |chunk: &Chunk| size_of::<Chunk>() + chunk.rows().memory();
        self.index.bytes() + self.chunks.iter().map(chunk).sum::<usize>() + self.saved.memory()
    }

    /// Removes all rows without a trace; for tables that are never exported.
    pub fn clear(&mut self) {
        self.index.clear();
        self.chunks.truncate(KEPT_CHUNKS);
        self.chunks.iter_mut().for_each(Chunk::clear);
        self.next = 0;
        self.free.clear();
        self.leaving.clear();
        self.live = 0;
        self.touched.clear();
        self.saved.clear();
    }

    /// Puts slots in an order that depends on their keys only: by key group, then by hash, then by key.
    pub fn sort(&self, slots: &mut [Slot]) {
        let sorted: Vec<Slot> = self.order(slots).into_iter().map(|i| slots[i as usize]).collect();
        slots.copy_from_slice(&sorted);
    }

    /// The places of `slots` in the order of their keys.
    fn order(&self, slots: &[Slot]) -> Vec<u32> {
        let mut order: Vec<(u64, u32)> = slots.iter().zip(0..).map(|(slot, i)| (self.word(*slot, 0), i)).collect();
        order.sort_unstable_by(|(a, i), (b, j)| a.cmp(b).then_with(|| self.compare_keys(slots[*i as usize], slots[*j as usize])));
        order.into_iter().map(|(_, i)| i).collect()
    }

    fn compare_keys(&self, a: Slot, b: Slot) -> std::cmp::Ordering {
        let ((a, a_base), (b, b_base)) = (self.row(a), self.row(b));
        let key = |rows: &Rows, base: usize| -> Vec<Vec<u8>> {
            let bytes = |column: &super::rows::Column| match column.kind {
                super::keys::Kind::Bytes => rows.bytes(rows.words[base + column.at]).to_vec(),
                kind => (0..kind.words()).flat_map(|i| rows.words[base + column.at + i].to_be_bytes()).collect(),
            };
            self.layout.keys.iter().map(bytes).collect()
        };
        key(a, a_base).cmp(&key(b, b_base))
    }

    /// What changed since the last export, and every row of the key groups in `whole`. Costs O(chunks), copies no row.
    pub fn export(&mut self, whole: &Range<u32>) -> Box<dyn TableExport> {
        Box::new(self.snapshot(whole))
    }

    pub(crate) fn snapshot(&mut self, whole: &Range<u32>) -> TableSnapshot {
        let snapshot = TableSnapshot::new(Arc::clone(&self.layout), self.subtask.groups, whole, &mut self.chunks);
        self.free.append(&mut self.leaving);
        snapshot
    }

    /// Appends rows without keys, that only their slots find; for an empty table that is cleared afterwards.
    pub(crate) fn append(&mut self, rows: usize, slots: &mut Vec<Slot>) {
        slots.clear();
        slots.extend((0..rows).map(|i| self.next + i as Slot));
        for slot in slots.iter() {
            let (chunk, row) = place(*slot);
            if chunk == self.chunks.len() {
                self.chunks.push(Chunk::new());
            }
            self.chunks[chunk].start_row(&self.layout, row, 0);
        }
        self.next += rows as Slot;
    }

    /// All chunks as they are now (see [`TableSnapshot::with_parent`]).
    pub(crate) fn share(&mut self) -> Vec<Arc<Rows>> {
        self.chunks.iter_mut().map(Chunk::share).collect()
    }

    /// Makes room for `more` rows.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.index.reserve(more);
        self.chunks.reserve(more / CHUNK_ROWS);
    }

    /// Loads exported batches, oldest first; rows of key groups that this subtask does not own are skipped. Nothing
    /// is dirty afterwards.
    ///
    /// Errors: batches of another layout.
    pub fn import(&mut self, rows: TableImport) -> Result<()> {
        // Nobody asks what a row was before it was loaded.
        let tracking = std::mem::replace(&mut self.tracking, false);
        let imported = super::import::import(self, rows);
        self.tracking = tracking;
        imported
    }

    /// What is in the table is what storage holds.
    pub(crate) fn settle(&mut self) {
        for chunk in &mut self.chunks {
            (chunk.dirty, chunk.fresh, chunk.touched) = Default::default();
        }
        self.free.append(&mut self.leaving);
        self.touched.clear();
        self.saved.clear();
    }
}

/// A row's first word.
#[inline]
fn header(hash: u64, nulls: u32) -> u64 {
    hash & 0xffff_ffff_0000_0000 | u64::from(nulls)
}

/// Key columns of a batch, by how many and of what kind; null bits are compared with the header.
trait KeyColumns {
    fn equal(&self, i: usize, rows: &Rows, base: usize) -> bool;
    fn write(&self, i: usize, rows: &mut Rows, base: usize, layout: &Layout) -> Result<()>;
}

struct One<'a> {
    one: &'a [u64],
}

impl KeyColumns for One<'_> {
    #[inline]
    fn equal(&self, i: usize, rows: &Rows, base: usize) -> bool {
        rows.words[base + 1] == self.one[i]
    }

    fn write(&self, i: usize, rows: &mut Rows, base: usize, _: &Layout) -> Result<()> {
        rows.words[base + 1] = self.one[i];
        Ok(())
    }
}

struct Two<'a> {
    one: &'a [u64],
    two: &'a [u64],
}

impl KeyColumns for Two<'_> {
    #[inline]
    fn equal(&self, i: usize, rows: &Rows, base: usize) -> bool {
        rows.words[base + 1] == self.one[i] && rows.words[base + 2] == self.two[i]
    }

    fn write(&self, i: usize, rows: &mut Rows, base: usize, _: &Layout) -> Result<()> {
        rows.words[base + 1] = self.one[i];
        rows.words[base + 2] = self.two[i];
        Ok(())
    }
}

struct Any<'a> {
    columns: &'a [Words],
    layout: &'a Layout,
}

impl KeyColumns for Any<'_> {
    #[inline]
    fn equal(&self, i: usize, rows: &Rows, base: usize) -> bool {
        self.columns.iter().zip(&self.layout.keys).all(|(column, key)| {
            let at = base + key.at;
            match column {
                Words::One(words) => rows.words[at] == words[i],
                Words::Two(words) => rows.words[at] == words[i] as u64 && rows.words[at + 1] == (words[i] >> 64) as u64,
                Words::Bytes(bytes) => rows.bytes(rows.words[at]) == bytes.get(i),
            }
        })
    }

    fn write(&self, i: usize, rows: &mut Rows, base: usize, layout: &Layout) -> Result<()> {
        for (column, key) in self.columns.iter().zip(&layout.keys) {
            let at = base + key.at;
            match column {
                Words::One(words) => rows.words[at] = words[i],
                Words::Two(words) => {
                    rows.words[at] = words[i] as u64;
                    rows.words[at + 1] = (words[i] >> 64) as u64;
                }
                Words::Bytes(bytes) => rows.set_bytes(layout, at, bytes.get(i))?,
            }
        }
        Ok(())
    }
}
