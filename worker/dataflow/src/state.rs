//! [pure] Keyed state: rows found by key, with snapshots that cost what changed.
//!
//! ```text
//! table    KeyedTable: find, insert, remove, track changes, export, import
//!   keys     columns as canonical words        index    hash -> slot
//!   rows     words and heap, in chunks         export, import
//! ```
//!
//! Invariants: slots never leave the process; a row that an export has seen leaves a tombstone for the next export;
//! what a snapshot holds does not depend on slots or on the order in which keys came.

pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod index;
pub(crate) mod keys;
pub(crate) mod rows;
mod table;
#[cfg(test)]
mod tests;

pub use table::KeyedTable;

/// A row's place in a [`KeyedTable`]; stable until the row is removed, never persisted.
pub type Slot = u32;

/// What lookups return for keys that are not there.
pub const NO_SLOT: Slot = Slot::MAX;

/// Key columns of a table, at most (their null bits share one word).
pub const MAX_KEY_COLUMNS: usize = 32;
