//! [io] Lets a line through once in a while, so that a log stays readable while brokers are away.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of one kind are let through so far apart.
const APART: Duration = Duration::from_secs(10);
/// Kinds that are told apart; lines of more are all let through.
const MOST_KINDS: usize = 256;

/// What was let through, by kind.
#[derive(Debug)]
pub(super) struct Quiet(Mutex<BTreeMap<String, Kind>>);

#[derive(Debug)]
struct Kind {
    shown: Instant,
    /// Since then.
    held_back: u64,
}

impl Quiet {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Whether a line of this kind is to be shown: then, how many were held back since the last one.
    pub(super) fn ask(&self, kind: &str) -> Option<u64> {
        self.ask_at(kind, Instant::now())
    }

    fn ask_at(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kinds.get_mut(kind) {
            Some(known) if now.duration_since(known.shown) < APART => {
                known.held_back += 1;
                None
            }
            Some(known) => {
                known.shown = now;
                Some(std::mem::take(&mut known.held_back))
            }
            None => {
                if kinds.len() < MOST_KINDS {
                    kinds.insert(kind.to_owned(), Kind { shown: now, held_back: 0 });
                }
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_kind_is_shown_and_the_next_after_a_while_tells_of_the_others() {
        let (quiet, start) = (Quiet::new(), Instant::now());
        let at = |kind, ms| quiet.ask_at(kind, start + Duration::from_millis(ms));
        assert_eq!([at("FAIL", 0), at("FAIL", 1), at("FAIL", 9_999), at("ERROR", 2)], [Some(0), None, None, Some(0)]);
        assert_eq!([at("FAIL", 10_000), at("FAIL", 19_999), at("FAIL", 20_000)], [Some(2), None, Some(1)]);
    }

    #[test]
    fn kinds_beyond_the_limit_are_shown_and_not_kept() {
        let quiet = Quiet::new();
        let shown = (0..2 * MOST_KINDS).filter(|kind| quiet.ask(&kind.to_string()).is_some()).count();
        assert_eq!((shown, quiet.0.lock().unwrap().len()), (2 * MOST_KINDS, MOST_KINDS));
    }
}
