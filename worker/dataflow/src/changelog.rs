//! [pure] Change-logs: how a row of an updating result says what it does to the result.
//!
//! On an edge whose node has `changelog: true`, the last column is [`KIND_COLUMN`], a non-null UInt8 of [`RowKind`].
//! Edges that only insert do not carry it.

/// Name of the column that carries a [`RowKind`]; always the last of its schema.
pub const KIND_COLUMN: &str = "__kind";

/// What a row does to the result it belongs to. The numbers are those of Flink's `RowKind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RowKind {
    /// A new row (`+I`).
    Insert = 0,
    /// The old version of a row that is being replaced (`-U`).
    UpdateBefore = 1,
    /// The new version of a row (`+U`).
    UpdateAfter = 2,
    /// A row that is gone (`-D`).
    Delete = 3,
}

impl RowKind {
    /// The kind with this number.
    pub fn from_u8(number: u8) -> Option<Self> {
        [Self::Insert, Self::UpdateBefore, Self::UpdateAfter, Self::Delete].into_iter().find(|kind| *kind as u8 == number)
    }

    /// `+I`, `-U`, `+U` or `-D`.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }

    /// +1 for a row that joins the result, -1 for one that leaves it.
    pub fn sign(self) -> i64 {
        match self {
            Self::Insert | Self::UpdateAfter => 1,
            Self::UpdateBefore | Self::Delete => -1,
        }
    }
}
