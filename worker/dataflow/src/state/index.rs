//! [pure] An open-addressing index from hashes to slots: linear probing over 8-byte entries.
//!
//! An entry holds the low half of the hash and the slot, so growing and removing never look at a row, and eight
//! candidates lie in one cache line. Removal shifts back what follows (Knuth, TAOCP 6.4, algorithm R): no tombstones.

use super::Slot;

/// No slot has this number, so no entry has these bits.
const EMPTY: u64 = u64::MAX;
const MIN_CAPACITY: usize = 16;
/// Entries that a cleared index keeps the memory of, at most (1 MiB).
const KEPT_CAPACITY: usize = 1 << 17;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Index {
    /// `hash as u32 << 32 | slot`, at or behind its home position `hash & mask`. A power of two long.
    entries: Vec<u64>,
    len: usize,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { entries: vec![EMPTY; MIN_CAPACITY], len: 0 }
    }

    #[inline]
    fn mask(&self) -> usize {
        self.entries.len() - 1
    }

    /// The entry at the home position of `hash`: what a lookup will see first.
    #[inline]
    pub(crate) fn home(&self, hash: u64) -> u64 {
        self.entries[hash as u32 as usize & self.mask()]
    }

    /// The slot of an entry as [`Self::home`] gives it, when it may be the one of `hash`.
    #[inline]
    pub(crate) fn candidate(entry: u64, hash: u64) -> Option<Slot> {
        // An empty entry's slot is one that no row has; the caller's row lookup must not meet it.
        (entry >> 32 == hash & 0xffff_ffff && entry != EMPTY).then_some(entry as Slot)
    }

    /// The first slot of this hash for which `same` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut same: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let mask = self.mask();
        let mut at = hash as u32 as usize & mask;
        loop {
            let entry = self.entries[at];
            if entry == EMPTY {
                return None;
            }
            if let Some(slot) = Self::candidate(entry, hash)
                && same(slot)
            {
                return Some(slot);
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds an entry; the slot must not be there yet.
    pub(crate) fn insert(&mut self, hash: u64, slot: Slot) {
        self.reserve(1);
        self.len += 1;
        self.place(hash << 32 | u64::from(slot));
    }

    /// Removes the entry of `slot`; whether it was there.
    pub(crate) fn remove(&mut self, hash: u64, slot: Slot) -> bool {
        let mask = self.mask();
        let wanted = hash << 32 | u64::from(slot);
        let mut hole = hash as u32 as usize & mask;
        while self.entries[hole] != wanted {
            if self.entries[hole] == EMPTY {
                return false;
            }
            hole = (hole + 1) & mask;
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let entry = self.entries[at];
            if entry == EMPTY {
                break;
            }
            let home = (entry >> 32) as usize & mask;
            // The entry may move into the hole unless its home lies behind the hole (cyclically).
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = EMPTY;
        self.len -= 1;
        true
    }

    /// Makes room for `more` entries, so that at most 5 of 8 places are taken.
    pub(crate) fn reserve(&mut self, more: usize) {
        let needed = (self.len + more) * 8 / 5 + 1;
        if needed <= self.entries.len() {
            return;
        }
        let capacity = needed.next_power_of_two();
        let old = std::mem::replace(&mut self.entries, vec![EMPTY; capacity]);
        for entry in old {
            if entry != EMPTY {
                self.place(entry);
            }
        }
    }

    #[inline]
    fn place(&mut self, entry: u64) {
        let mask = self.mask();
        let mut at = (entry >> 32) as usize & mask;
        while self.entries[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.entries[at] = entry;
    }

    /// Forgets all entries, keeps the memory unless it is much.
    pub(crate) fn clear(&mut self) {
        self.entries.truncate(KEPT_CAPACITY);
        self.entries.fill(EMPTY);
        self.len = 0;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.len() * size_of::<u64>()
    }
}
