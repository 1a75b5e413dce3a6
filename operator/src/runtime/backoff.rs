//! [pure] Pauses between attempts: they double, have a limit, and differ from object to object.
//!
//! The jitter is a function of the object and the attempt, not of chance: many objects that fail together come back
//! spread out, and a test can say when.

use std::time::Duration;

/// The first pause.
pub const INITIAL: Duration = Duration::from_millis(500);
/// The longest pause, before jitter.
pub const MAX: Duration = Duration::from_secs(60);

/// The pause before attempt `attempt + 1` of what `identity` names; `attempt` counts from 1. Between three quarters
/// and five quarters of `INITIAL * 2^(attempt - 1)`, which is at most [`MAX`].
pub fn delay(identity: &str, attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let pause = INITIAL.saturating_mul(1 << doublings).min(MAX);
    let share = spread(identity, attempt) % 512;
    pause.mul_f64(0.75 + f64::from(share) / 1024.0)
}

/// FNV-1a over identity and attempt, folded: bits that look random and are not.
fn spread(identity: &str, attempt: u32) -> u32 {
    let bytes = identity.bytes().chain(attempt.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    u32::try_from((hash ^ (hash >> 29)) & 0xffff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_objects_spread() {
        assert!(delay("a", 1) >= INITIAL.mul_f64(0.75) && delay("a", 1) <= INITIAL.mul_f64(1.25));
        assert!(delay("a", 1000) <= MAX.mul_f64(1.25) && delay("a", 1000) >= MAX.mul_f64(0.75));
        assert_eq!(delay("a", 3), delay("a", 3));
        let mut pauses: Vec<_> = (0..200).map(|n| delay(&format!("job-{n}"), 8).as_millis()).collect();
        pauses.sort_unstable();
        pauses.dedup();
        assert!(pauses.len() > 120, "{} different pauses", pauses.len());
        assert!(pauses[pauses.len() - 1] - pauses[0] > 25_000);
    }
}
