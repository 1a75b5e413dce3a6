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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::*;
    use arrow::datatypes::DataType;

    use super::*;
    use crate::key_group::group_of;

    fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
        let mut hashes = Vec::new();
        hash_columns(columns, columns.first().map_or(1, |column| column.len()), &mut hashes).unwrap();
        hashes
    }

    fn one(array: impl Array + 'static) -> Vec<u64> {
        hashes(&[Arc::new(array)])
    }

    /// State on disk is cut by these: a change here loses the state of every job.
    #[test]
    fn golden_values_of_format_version_1() {
        let mut lines = Vec::new();
        let mut put = |name: &str, hashes: Vec<u64>| {
            let hashes: Vec<String> = hashes.iter().map(|hash| format!("{hash:016x}")).collect();
            lines.push(format!("{name}: {}", hashes.join(" ")));
        };
        put("none", hashes(&[]));
        put("int64", one(Int64Array::from(vec![Some(0), Some(1), Some(-1), Some(i64::MAX), None])));
        put("utf8", one(StringArray::from(vec!["", "a", "exactly8", "exactly-16-bytes", "more than sixteen bytes"])));
        put("boolean", one(BooleanArray::from(vec![false, true])));
        put("float64", one(Float64Array::from(vec![0.0, 1.5, f64::NAN, f64::INFINITY])));
        put("float32", one(Float32Array::from(vec![0.0, 1.5, f32::NAN])));
        put("decimal", one(Decimal128Array::from(vec![0, 1, -1, i128::MAX])));
        put("pair", hashes(&[Arc::new(Int64Array::from(vec![1, 2])), Arc::new(StringArray::from(vec![Some("x"), None]))]));
        expect_test::expect![[r#"
            none: 9960507cd3fa4327
            int64: 9a5177c020a3dfc0 f268e0c6afdfc862 49d2d265bb4e9b6f dfd4db8aeddfb10b 4e68b316e66dda72
            utf8: 463ff43eeb8cbd7b 280f01b09fa7568e 355d62d1a41b768b cc2db330dcc0cda9 5844e7e20e61f3fb
            boolean: 9a5177c020a3dfc0 f268e0c6afdfc862
            float64: 9a5177c020a3dfc0 1d4aa25c49319bca 3d90583fe9973a1c 93f1bb217606cb6d
            float32: 9a5177c020a3dfc0 06a459ea2f75d3ff 9835de50418b513f
            decimal: 50e3aa9b387dcbed 235282e501d7638e cb12ef762e7c8ad2 76ac81789477244d
            pair: a61e7b7f147b90a7 d0cc96eb40298287"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn equal_values_hash_equal_in_any_encoding() {
        let int = one(Int64Array::from(vec![7, -7]));
        assert_eq!(one(Int32Array::from(vec![7, -7])), int);
        assert_eq!(one(Int8Array::from(vec![7, -7])), int);
        assert_eq!(one(TimestampMillisecondArray::from(vec![7, -7])), int);
        assert_eq!(one(Int64Array::from(vec![None, Some(7), Some(-7)]).slice(1, 2)), int);
        let text = one(StringArray::from(vec!["seven", ""]));
        assert_eq!(one(LargeStringArray::from(vec!["seven", ""])), text);
        assert_eq!(one(StringViewArray::from(vec!["seven", ""])), text);
        assert_eq!(one(BinaryArray::from_vec(vec![b"seven", b""])), text);
        assert_eq!(one(Float64Array::from(vec![0.0, f64::NAN])), one(Float64Array::from(vec![-0.0, -f64::NAN])));
        // What lies under a null is no matter.
        let nulls = arrow::buffer::NullBuffer::from(vec![false, true]);
        let hidden = Int64Array::new(vec![99, 7].into(), Some(nulls));
        assert_eq!(one(hidden), one(Int64Array::from(vec![None, Some(7)])));
    }

    #[test]
    fn different_values_differ() {
        let text = one(StringArray::from(vec!["", "\0", "\0\0", "a", "a\0", "ab", "ba"]));
        let distinct: std::collections::BTreeSet<_> = text.iter().collect();
        assert_eq!(distinct.len(), text.len());
        let split = |a: &str, b: &str| hashes(&[Arc::new(StringArray::from(vec![a])), Arc::new(StringArray::from(vec![b]))]);
        assert_ne!(split("ab", "c"), split("a", "bc"));
        assert_ne!(split("a", "b"), split("b", "a"));
    }

    #[test]
    fn nested_types_are_refused() {
        let array: ArrayRef = new_null_array(&DataType::new_list(DataType::Int64, true), 1);
        assert!(hash_columns(&[array], 1, &mut Vec::new()).is_err());
    }

    #[test]
    fn consecutive_keys_spread_evenly() {
        let hashes = one(Int64Array::from_iter_values(0..128_000));
        let mut groups = [0u32; 128];
        let mut low = [0u32; 128];
        for hash in &hashes {
            groups[usize::from(group_of(*hash, 128))] += 1;
            low[*hash as usize % 128] += 1;
        }
        // A thousand each; 160 is five standard deviations.
        assert!(groups.iter().chain(&low).all(|count| (840..1_160).contains(count)), "{groups:?} {low:?}");
    }
}
