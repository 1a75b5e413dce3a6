//! [pure] Answers that a lookup join keeps: bounded in rows, forgotten by age, the key that was not used for longest first.
//!
//! Rows stay in the columns that they came in. What evicted keys leave behind there is bounded, too: when it is more than
//! what is kept, or lies in many small pieces, the kept rows move together. Time is processing time, so that it is known without a clock; before the
//! first tick it is 0, and what was kept then has expired by the second.

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use hashbrown::HashTable;

use crate::error::Result;
use crate::lookup::CachePolicy;
use crate::time::Millis;

/// No slot.
const NONE: u32 = u32::MAX;
/// Rows of evicted keys that are not worth a move.
const SPARE_ROWS: usize = 4_096;
/// Batches that are not worth one, and how many kept rows allow one more: answers to a few keys are small.
const SPARE_CHUNKS: usize = 64;
const ROWS_PER_CHUNK: usize = 64;

/// Rows of a key: a part of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rows {
    /// The batch.
    pub(super) chunk: u32,
    pub(super) start: u32,
    pub(super) len: u32,
}

/// A key and what was found, in the list of all keys by use.
#[derive(Debug)]
struct Slot {
    key: Box<[u8]>,
    hash: u64,
    rows: Rows,
    written: Millis,
    used: Millis,
    newer: u32,
    older: u32,
}

#[derive(Debug)]
struct Chunk {
    rows: RecordBatch,
    /// Rows that some key has; one more while keys are added.
    live: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Cache {
    policy: CachePolicy,
    index: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    chunks: Vec<Option<Chunk>>,
    used_chunks: usize,
    /// What counts against the policy's rows.
    weight: usize,
    /// Rows in all chunks, and those that some key has.
    held: usize,
    live: usize,
    newest: u32,
    oldest: u32,
}

impl Cache {
    pub(super) fn new(policy: CachePolicy) -> Self {
        Self {
            policy,
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            chunks: Vec::new(),
            used_chunks: 0,
            weight: 0,
            held: 0,
            live: 0,
            newest: NONE,
            oldest: NONE,
        }
    }

    /// What is known of a key.
    pub(super) fn get(&mut self, hash: u64, key: &[u8], now: Millis) -> Option<Rows> {
        let slot = *self.index.find(hash, |slot| &*self.slots[*slot as usize].key == key)?;
        let found = &self.slots[slot as usize];
        let over = |since: Millis, limit: Option<Millis>| limit.is_some_and(|limit| now.saturating_sub(since) >= limit);
        if over(found.written, self.policy.expire_after_write) || over(found.used, self.policy.expire_after_access) {
            self.remove(slot);
            return None;
        }
        self.unlink(slot);
        self.link_newest(slot);
        self.slots[slot as usize].used = now;
        Some(self.slots[slot as usize].rows)
    }

    /// The rows that a [`Rows`] is a part of.
    pub(super) fn chunk(&self, chunk: u32) -> Option<&RecordBatch> {
        self.chunks.get(chunk as usize)?.as_ref().map(|chunk| &chunk.rows)
    }

    /// Keeps an answer: for each key its hash, its bytes, and where its rows begin and end.
    pub(super) fn put(&mut self, rows: &RecordBatch, keys: impl Iterator<Item = (u64, Box<[u8]>, u32, u32)>, now: Millis) -> Result<()> {
        let chunk = self.chunks.iter().position(Option::is_none).unwrap_or(self.chunks.len());
        if chunk == self.chunks.len() {
            self.chunks.push(None);
        }
        self.chunks[chunk] = Some(Chunk { rows: rows.clone(), live: 1 });
        self.used_chunks += 1;
        self.held += rows.num_rows();
        for (hash, key, start, end) in keys {
            let rows = Rows { chunk: chunk as u32, start, len: end - start };
            let weight = weight(rows);
            if (rows.len == 0 && !self.policy.missing) || weight > self.policy.max_rows {
                continue;
            }
            while self.weight + weight > self.policy.max_rows && self.oldest != NONE {
                self.remove(self.oldest);
            }
            self.insert(Slot { key, hash, rows, written: now, used: now, newer: NONE, older: NONE });
        }
        self.release(chunk, 1);
        let scattered = self.used_chunks > SPARE_CHUNKS + self.live / ROWS_PER_CHUNK;
        if scattered || self.held > 2 * self.live + SPARE_ROWS { self.compact() } else { Ok(()) }
    }

    fn insert(&mut self, slot: Slot) {
        let (hash, rows) = (slot.hash, slot.rows);
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.index.insert_unique(hash, number, |slot| slots[*slot as usize].hash);
        self.link_newest(number);
        self.weight += weight(rows);
        self.live += rows.len as usize;
        if let Some(Some(chunk)) = self.chunks.get_mut(rows.chunk as usize) {
            chunk.live += rows.len as usize;
        }
    }

    fn remove(&mut self, number: u32) {
        self.unlink(number);
        let slot = &mut self.slots[number as usize];
        let (hash, rows) = (slot.hash, slot.rows);
        slot.key = Box::default();
        if let Ok(entry) = self.index.find_entry(hash, |slot| *slot == number) {
            entry.remove();
        }
        self.free.push(number);
        self.weight -= weight(rows);
        // Where a key without rows has none may be another batch by now.
        if rows.len > 0 {
            self.live -= rows.len as usize;
            self.release(rows.chunk as usize, rows.len as usize);
        }
    }

    /// So many rows of a batch are nobody's any more; it goes with the last.
    fn release(&mut self, number: usize, rows: usize) {
        let Some(Some(chunk)) = self.chunks.get_mut(number) else { return };
        chunk.live -= rows;
        if chunk.live == 0 {
            self.held -= chunk.rows.num_rows();
            self.used_chunks -= 1;
            self.chunks[number] = None;
        }
    }

    /// Moves all kept rows into one batch.
    fn compact(&mut self) -> Result<()> {
        let batches: Vec<&RecordBatch> = self.chunks.iter().flatten().map(|chunk| &chunk.rows).collect();
        let mut place = 0;
        let places: Vec<usize> = (self.chunks.iter())
            .map(|chunk| {
                place += usize::from(chunk.is_some());
                place.saturating_sub(1)
            })
            .collect();
        let (mut picked, mut moved, mut slot) = (Vec::with_capacity(self.live), Vec::new(), self.oldest);
        while slot != NONE {
            let Slot { rows, newer, .. } = &self.slots[slot as usize];
            moved.push((slot, picked.len() as u32));
            picked.extend((rows.start..rows.start + rows.len).map(|row| (places[rows.chunk as usize], row as usize)));
            slot = *newer;
        }
        let rows = interleave_record_batch(&batches, &picked)?;
        for (slot, start) in moved {
            let rows = &mut self.slots[slot as usize].rows;
            (rows.chunk, rows.start) = (0, start);
        }
        (self.held, self.used_chunks) = (picked.len(), 1);
        self.chunks = vec![Some(Chunk { rows, live: picked.len() })];
        self.release(0, 0);
        Ok(())
    }

    fn link_newest(&mut self, number: u32) {
        let before = std::mem::replace(&mut self.newest, number);
        (self.slots[number as usize].older, self.slots[number as usize].newer) = (before, NONE);
        match before {
            NONE => self.oldest = number,
            before => self.slots[before as usize].newer = number,
        }
    }

    fn unlink(&mut self, number: u32) {
        let Slot { newer, older, .. } = self.slots[number as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.weight, self.held)
    }
}

/// What a key counts as.
fn weight(rows: Rows) -> usize {
    rows.len.max(1) as usize
}
