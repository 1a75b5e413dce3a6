//! [pure] Keyed state: hash tables over row chunks that snapshot by copy-on-write and know what changed.

mod table;

pub use table::KeyedTable;

/// A row's place in a [`KeyedTable`]; stable until the row is removed, never persisted.
pub type Slot = u32;

/// What lookups return for keys that are not there.
pub const NO_SLOT: Slot = Slot::MAX;

/// Key columns of a table, at most (their null bits share one word).
pub const MAX_KEY_COLUMNS: usize = 32;
