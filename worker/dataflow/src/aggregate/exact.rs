//! [pure] Sums of floats without rounding: a windowed superaccumulator (Kulisch), kept as a string of bytes.
//!
//! Every finite double is an integer multiple of 2^-1074, so a sum of doubles is a big integer: added exactly, in any
//! order, with one rounding at the end. Only the range of 64-bit limbs that values have touched is kept.
//!
//! Form: nothing (zero); or `number of the first limb (u8), specials (u8: 0 or 1)`, then if specials is 1 three counts
//! (i64: NaN, +inf, -inf), then the limbs (u64, two's complement, low first). All little endian. Invariant: the last
//! limb lies above every value that was added, so it moves by at most one with each and cannot overflow.

use crate::error::{DataflowError, ErrorKind, Result};

/// Limbs of a sum, at most: doubles have 2,098 bits, and one limb takes the carries.
const MAX_LIMBS: usize = 34;
const HEAD_BYTES: usize = 2;
const SPECIAL_BYTES: usize = 24;

/// A sum, unpacked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sum {
    /// How many NaN, +inf and -inf it has.
    specials: [i64; 3],
    /// Number of the first limb.
    base: usize,
    limbs: Vec<u64>,
}

/// A finite double as `integer * 2^-1074`: number of its low limb, and its two limbs from there.
#[inline]
fn split(value: f64) -> (usize, [u64; 2]) {
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as usize;
    let fraction = bits & ((1 << 52) - 1);
    let (mantissa, position) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
    let wide = u128::from(mantissa) << (position % 64);
    (position / 64, [wide as u64, (wide >> 64) as u64])
}

/// One limb of an addition or subtraction, with the carry or borrow out.
#[inline]
fn step(limb: u64, part: u64, carry: bool, subtract: bool) -> (u64, bool) {
    let carry = u64::from(carry);
    if subtract {
        let (once, first) = limb.overflowing_sub(part);
        let (twice, second) = once.overflowing_sub(carry);
        (twice, first | second)
    } else {
        let (once, first) = limb.overflowing_add(part);
        let (twice, second) = once.overflowing_add(carry);
        (twice, first | second)
    }
}

/// Adds (or with `subtract` takes away) a double to a packed sum where it lies; false if the sum has no room for it
/// (then nothing was done: see [`Sum::add`]).
#[inline]
pub(crate) fn add_in_place(bytes: &mut [u8], value: f64, subtract: bool) -> bool {
    if bytes.len() < HEAD_BYTES || !value.is_finite() {
        return false;
    }
    let base = usize::from(bytes[0]);
    let limbs_at = HEAD_BYTES + usize::from(bytes[1]) * SPECIAL_BYTES;
    let (first, parts) = split(value);
    let (limbs, _) = bytes[limbs_at..].as_chunks_mut::<8>();
    if first < base || first - base + 2 >= limbs.len() {
        return false;
    }
    let subtract = subtract != value.is_sign_negative();
    let mut carry = false;
    for (i, limb) in limbs[first - base..].iter_mut().enumerate() {
        if i >= 2 && !carry {
            break;
        }
        let part = parts.get(i).copied().unwrap_or(0);
        let (sum, out) = step(u64::from_le_bytes(*limb), part, carry, subtract);
        *limb = sum.to_le_bytes();
        carry = out;
    }
    true
}

impl Sum {
    /// Reads a packed sum.
    ///
    /// Errors: bytes that are not one (damaged state).
    pub(crate) fn unpack(bytes: &[u8]) -> Result<Self> {
        let broken = || DataflowError::new("keyed state", ErrorKind::State, "a float sum is damaged");
        let Some((&[base, special], mut rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return if bytes.is_empty() { Ok(Self::default()) } else { Err(broken()) };
        };
        let mut specials = [0; 3];
        if special == 1 {
            let (counts, limbs) = rest.split_at_checked(SPECIAL_BYTES).ok_or_else(broken)?;
            let (counts, _) = counts.as_chunks::<8>();
            specials.iter_mut().zip(counts).for_each(|(special, count)| *special = i64::from_le_bytes(*count));
            rest = limbs;
        }
        let (limbs, tail) = rest.as_chunks::<8>();
        let base = usize::from(base);
        if special > 1 || !tail.is_empty() || base + limbs.len() > MAX_LIMBS {
            return Err(broken());
        }
        Ok(Self { specials, base, limbs: limbs.iter().map(|limb| u64::from_le_bytes(*limb)).collect() })
    }

    /// Writes the packed form to `bytes` (cleared first).
    pub(crate) fn pack(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        let special = self.specials != [0; 3];
        if self.limbs.is_empty() && !special {
            return;
        }
        bytes.extend([self.base as u8, u8::from(special)]);
        if special {
            bytes.extend(self.specials.iter().flat_map(|count| count.to_le_bytes()));
        }
        bytes.extend(self.limbs.iter().flat_map(|limb| limb.to_le_bytes()));
    }

    /// Adds a double, or with `subtract` takes it away.
    pub(crate) fn add(&mut self, value: f64, subtract: bool) {
        if !value.is_finite() {
            let which = if value.is_nan() { 0 } else { 1 + usize::from(value < 0.0) };
            self.specials[which] += if subtract { -1 } else { 1 };
            return;
        }
        let (first, parts) = split(value);
        self.cover(first, first + 3);
        self.add_parts(first, &parts, 0, subtract != value.is_sign_negative());
    }

    /// Adds another sum.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.specials.iter_mut().zip(other.specials).for_each(|(mine, theirs)| *mine += theirs);
        if let Some(last) = other.limbs.last() {
            self.cover(other.base, other.base + other.limbs.len());
            let sign = ((*last as i64) >> 63) as u64;
            self.add_parts(other.base, &other.limbs, sign, false);
        }
    }

    /// Makes the window reach over limbs `from..to`.
    fn cover(&mut self, from: usize, to: usize) {
        if self.limbs.is_empty() {
            self.base = from;
        }
        if from < self.base {
            self.limbs.splice(..0, std::iter::repeat_n(0, self.base - from));
            self.base = from;
        }
        let sign = self.limbs.last().map_or(0, |last| ((*last as i64) >> 63) as u64);
        if to > self.base + self.limbs.len() {
            self.limbs.resize(to - self.base, sign);
        }
    }

    /// Adds `parts` from limb `first` on, continued upwards by `sign`.
    fn add_parts(&mut self, first: usize, parts: &[u64], sign: u64, subtract: bool) {
        let mut carry = false;
        for (i, limb) in self.limbs[first - self.base..].iter_mut().enumerate() {
            let part = parts.get(i).copied().unwrap_or(sign);
            (*limb, carry) = step(*limb, part, carry, subtract);
        }
    }

    /// The double nearest to the sum, ties to even.
    pub(crate) fn to_f64(&self) -> f64 {
        let [nan, plus, minus] = self.specials.map(|count| count > 0);
        match (nan, plus, minus) {
            (true, _, _) | (_, true, true) => return f64::NAN,
            (_, true, _) => return f64::INFINITY,
            (_, _, true) => return f64::NEG_INFINITY,
            _ => {}
        }
        let negative = self.limbs.last().is_some_and(|last| (*last as i64) < 0);
        let mut limbs = vec![0; self.base];
        limbs.extend_from_slice(&self.limbs);
        if negative {
            let mut carry = true;
            for limb in &mut limbs {
                (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
            }
        }
        let magnitude = f64::from_bits(round(&limbs));
        if negative { -magnitude } else { magnitude }
    }
}

/// The bits of the double nearest to `limbs * 2^-1074`.
fn round(limbs: &[u64]) -> u64 {
    const INFINITY: u64 = 0x7ff << 52;
    let Some(top) = limbs.iter().rposition(|limb| *limb != 0) else { return 0 };
    let high_bit = top * 64 + 63 - limbs[top].leading_zeros() as usize;
    if high_bit <= 52 {
        // Subnormals and the lowest normals: their bits are the integer itself.
        return limbs[0];
    }
    // The 53 bits from `low_bit` on are the mantissa; what lies below decides the rounding.
    let low_bit = high_bit - 52;
    let (limb, shift) = (low_bit / 64, low_bit % 64);
    let wide = u128::from(limbs[limb]) | u128::from(limbs.get(limb + 1).copied().unwrap_or(0)) << 64;
    let mantissa = (wide >> shift) as u64 & ((1 << 53) - 1);
    let half_bit = low_bit - 1;
    let half = limbs[half_bit / 64] >> (half_bit % 64) & 1 == 1;
    let below = limbs[half_bit / 64] & ((1 << (half_bit % 64)) - 1) != 0 || limbs[..half_bit / 64].iter().any(|limb| *limb != 0);
    let up = half && (below || mantissa & 1 == 1);
    // A mantissa that rounds up to 2^53 carries into the exponent, and the last exponent into infinity.
    let bits = ((low_bit as u64) << 52) + mantissa + u64::from(up);
    bits.min(INFINITY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum_of(values: &[f64]) -> Sum {
        let mut bytes = Vec::new();
        for value in values {
            if !add_in_place(&mut bytes, *value, false) {
                let mut sum = Sum::unpack(&bytes).unwrap();
                sum.add(*value, false);
                sum.pack(&mut bytes);
            }
        }
        Sum::unpack(&bytes).unwrap()
    }

    #[test]
    fn known_sums() {
        let max = f64::MAX;
        let tiny = f64::from_bits(1);
        for (values, expected) in [
            (vec![], 0.0),
            (vec![1e100, 1.0, -1e100], 1.0),
            (vec![0.1; 10], 1.0),
            (vec![max, max, -max], max),
            (vec![max, max], f64::INFINITY),
            (vec![-max, -max], f64::NEG_INFINITY),
            (vec![tiny, tiny], f64::from_bits(2)),
            (vec![1.0, tiny, -1.0], tiny),
            (vec![1.0, f64::EPSILON / 2.0], 1.0),
            (vec![1.0, f64::EPSILON / 2.0, tiny], 1.0 + f64::EPSILON),
            (vec![1.0 + f64::EPSILON, f64::EPSILON / 2.0], 1.0 + 2.0 * f64::EPSILON),
            (vec![f64::MIN_POSITIVE, -tiny], f64::from_bits(f64::MIN_POSITIVE.to_bits() - 1)),
            (vec![f64::INFINITY, 1.0], f64::INFINITY),
        ] {
            assert_eq!(sum_of(&values).to_f64().to_bits(), f64::to_bits(expected), "{values:?}");
        }
        assert!(sum_of(&[f64::INFINITY, f64::NEG_INFINITY]).to_f64().is_nan());
        assert!(sum_of(&[1.0, f64::NAN]).to_f64().is_nan());
    }

    fn double() -> impl Strategy<Value = f64> {
        prop_oneof![any::<f64>().prop_filter("finite", |v| v.is_finite()), -1e6f64..1e6, Just(0.1), Just(-1e300)]
    }

    proptest! {
        #[test]
        fn one_value_is_itself_and_two_round_as_the_machine_does(a in double(), b in double()) {
            prop_assert_eq!(sum_of(&[a]).to_f64(), a);
            prop_assert_eq!(sum_of(&[a, b]).to_f64(), a + b);
        }

        #[test]
        fn neither_order_nor_grouping_nor_retraction_matters(values in prop::collection::vec(double(), 0..40), cut in 0usize..40) {
            let whole = sum_of(&values);
            let mut reversed = values.clone();
            reversed.reverse();
            prop_assert_eq!(sum_of(&reversed).to_f64().to_bits(), whole.to_f64().to_bits());
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut merged = sum_of(left);
            merged.merge(&sum_of(right));
            prop_assert_eq!(merged.to_f64().to_bits(), whole.to_f64().to_bits());
            right.iter().for_each(|value| merged.add(*value, true));
            prop_assert_eq!(merged.to_f64().to_bits(), sum_of(left).to_f64().to_bits());
        }

        #[test]
        fn integers_sum_as_integers(values in prop::collection::vec(-(1i64 << 52)..1 << 52, 0..200)) {
            let floats: Vec<f64> = values.iter().map(|v| *v as f64).collect();
            let exact: i128 = values.iter().map(|v| i128::from(*v)).sum();
            prop_assert_eq!(sum_of(&floats).to_f64(), exact as f64);
        }
    }
}
