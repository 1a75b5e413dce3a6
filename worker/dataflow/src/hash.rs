//! [pure] The stable 64-bit hash of key columns: what sends a row to its key group and finds it in hash tables.
//!
//! Part of the state format, version 1: it must never change (golden values in the tests). Equal keys hash equal
//! whatever their batch, array offset or encoding: integers by value, floats with one zero and one NaN, strings and
//! binaries by their bytes, nulls by a word of their own. The mixing step is the folded 64x64 multiplication of
//! wyhash (public domain, Wang Yi); the constants are its first secrets.

use arrow::array::ArrayRef;

use crate::error::Result;
use crate::state::keys::{Keys, Words};

const SEED: u64 = 0xa076_1d64_78bd_642f;
const MIX: u64 = 0xe703_7ed1_a0b4_28db;
const FINAL: u64 = 0x8ebc_6af0_9c88_c6e3;
const NULL: u64 = 0x5899_65cc_7537_4cc3;

/// Writes the hash of each of the `rows` rows of `columns` to `hashes` (cleared first). Without columns all rows get
/// the same hash: one group, as SQL's global aggregates want.
///
/// Errors: a column of a type that cannot be a key (nested types, intervals).
pub fn hash_columns(columns: &[ArrayRef], rows: usize, hashes: &mut Vec<u64>) -> Result<()> {
    let keys = Keys::new(columns, rows)?;
    hash_keys(&keys, rows, hashes);
    Ok(())
}

pub(crate) fn hash_keys(keys: &Keys, rows: usize, hashes: &mut Vec<u64>) {
    hashes.clear();
    if let ([Words::One(words)], false) = (keys.columns.as_slice(), keys.has_nulls()) {
        hashes.extend(words.iter().map(|word| finish(add(SEED, *word))));
        return;
    }
    hashes.resize(rows, SEED);
    for (c, column) in keys.columns.iter().enumerate() {
        match column {
            Words::One(words) => each(hashes, keys, c, |state, i| add(state, words[i])),
            Words::Two(words) => each(hashes, keys, c, |state, i| add_double(state, words[i])),
            Words::Bytes(bytes) => each(hashes, keys, c, |state, i| add_bytes(state, bytes.get(i))),
        }
    }
    hashes.iter_mut().for_each(|hash| *hash = finish(*hash));
}

#[inline]
fn each(hashes: &mut [u64], keys: &Keys, column: usize, f: impl Fn(u64, usize) -> u64) {
    if keys.has_nulls() {
        for (i, hash) in hashes.iter_mut().enumerate() {
            *hash = if keys.null_bits(i) >> column & 1 == 1 { add_null(*hash) } else { f(*hash, i) };
        }
    } else {
        for (i, hash) in hashes.iter_mut().enumerate() {
            *hash = f(*hash, i);
        }
    }
}

/// The state of a hash over no columns.
pub(crate) const EMPTY: u64 = SEED;

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// One more word.
#[inline]
pub(crate) fn add(state: u64, word: u64) -> u64 {
    fold(state ^ word, MIX)
}

/// One more 128-bit value.
#[inline]
pub(crate) fn add_double(state: u64, value: i128) -> u64 {
    add(add(state, value as u64), (value >> 64) as u64)
}

/// One more null.
#[inline]
pub(crate) fn add_null(state: u64) -> u64 {
    fold(state ^ NULL, NULL)
}

/// One more string: 16 bytes a step, the rest padded with zeros, then the length.
#[inline]
pub(crate) fn add_bytes(mut state: u64, bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(16);
    for chunk in &mut chunks {
        state = fold(word(&chunk[..8]) ^ state, word(&chunk[8..]) ^ MIX);
    }
    let rest = chunks.remainder();
    let (low, high) = rest.split_at(rest.len().min(8));
    state = fold(word(low) ^ state, word(high) ^ FINAL);
    add(state, bytes.len() as u64)
}

/// Up to 8 bytes, little endian.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    if let Ok(whole) = <[u8; 8]>::try_from(bytes) {
        return u64::from_le_bytes(whole);
    }
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The hash of all that was added.
#[inline]
pub(crate) fn finish(state: u64) -> u64 {
    fold(state ^ FINAL, SEED)
}
