//! [pure] What is to be reconciled, and when.
//!
//! Invariants: a key is handed out at most once at a time; a key that is asked for while it runs runs again when it
//! is done; a key waits for at most one time, the earliest that was asked for since it last ran; asking twice is asking
//! once. So the queue never holds more entries than there are objects, whatever the watches deliver.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Time on the process's monotonic clock, from any fixed start.
pub type Moment = Duration;

/// So many of those that were asked for first run before one of the others does.
pub const FIRST_IN_A_ROW: usize = 8;

#[derive(Debug, Default)]
struct Slot {
    ready: Option<Moment>,
    running: bool,
    again: bool,
    due: Option<Moment>,
}

impl Slot {
    fn is_idle(&self) -> bool {
        self.ready.is_none() && !self.running && self.due.is_none()
    }
}

/// The queue.
#[derive(Debug)]
pub struct Queue<K> {
    slots: BTreeMap<K, Slot>,
    first: VecDeque<K>,
    /// How many of `first` ran since one of `ready` did.
    in_a_row: usize,
    ready: VecDeque<K>,
    due: BTreeSet<(Moment, K)>,
    running: usize,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), first: VecDeque::new(), in_a_row: 0, ready: VecDeque::new(), due: BTreeSet::new(), running: 0 }
    }
}

impl<K: Ord + Clone> Queue<K> {
    /// Asks for a run as soon as possible.
    pub fn push(&mut self, key: K, now: Moment) {
        self.ask(key, now, false);
    }

    /// Asks for a run before those that only [`Self::push`] asked for.
    pub fn push_first(&mut self, key: K, now: Moment) {
        self.ask(key, now, true);
    }

    fn ask(&mut self, key: K, now: Moment, first: bool) {
        let slot = self.slots.entry(key.clone()).or_default();
        if let Some(due) = slot.due.take() {
            self.due.remove(&(due, key.clone()));
        }
        if slot.running {
            slot.again = true;
        } else if slot.ready.is_none() {
            slot.ready = Some(now);
            let queue = if first { &mut self.first } else { &mut self.ready };
            queue.push_back(key);
        }
    }

    /// Asks for a run at a time; an earlier one that was asked for stays.
    pub fn push_at(&mut self, key: K, at: Moment) {
        let slot = self.slots.entry(key.clone()).or_default();
        if slot.ready.is_some() || slot.again || slot.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(due) = slot.due.replace(at) {
            self.due.remove(&(due, key.clone()));
        }
        self.due.insert((at, key));
    }

    /// The next key that may run now; it counts as running until [`Self::done`].
    pub fn pop(&mut self, now: Moment) -> Option<K> {
        while let Some((at, key)) = self.due.first().cloned()
            && at <= now
        {
            self.due.remove(&(at, key.clone()));
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.due = None;
            }
            self.push(key, at);
        }
        let key = self.next()?;
        let slot = self.slots.entry(key.clone()).or_default();
        slot.ready = None;
        slot.running = true;
        self.running += 1;
        Some(key)
    }

    fn next(&mut self) -> Option<K> {
        if self.first.is_empty() || (self.in_a_row >= FIRST_IN_A_ROW && !self.ready.is_empty()) {
            self.in_a_row = 0;
            return self.ready.pop_front();
        }
        self.in_a_row += 1;
        self.first.pop_front()
    }

    /// A run has ended; `again` is when the next one shall be, if nothing asks for it earlier.
    pub fn done(&mut self, key: &K, now: Moment, again: Option<Moment>) {
        let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.running) else { return };
        slot.running = false;
        self.running -= 1;
        let asked = std::mem::take(&mut slot.again);
        if asked {
            self.push(key.clone(), now);
        } else if let Some(at) = again {
            self.push_at(key.clone(), at);
        } else if slot.is_idle() {
            self.slots.remove(key);
        }
    }

    /// When the next waiting key is due; `None` when no key waits for a time.
    pub fn next_due(&self) -> Option<Moment> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Keys that could run now.
    pub fn depth(&self) -> usize {
        self.first.len() + self.ready.len()
    }

    /// Keys that run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Since when the oldest ready key has been waiting.
    pub fn oldest(&self) -> Option<Moment> {
        let fronts = [self.first.front(), self.ready.front()];
        fronts.into_iter().flatten().filter_map(|key| self.slots.get(key)?.ready).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_key_that_runs_is_not_handed_out_and_runs_again_when_asked_for() {
        let mut queue = Queue::default();
        queue.push("a", at(0));
        queue.push("a", at(0));
        assert_eq!(queue.pop(at(0)), Some("a"));
        queue.push("a", at(1));
        queue.push("a", at(1));
        assert_eq!(queue.pop(at(1)), None);
        queue.done(&"a", at(2), Some(at(60)));
        assert_eq!(queue.pop(at(2)), Some("a"));
        queue.done(&"a", at(2), None);
        assert_eq!(queue.pop(at(100)), None);
        assert!(queue.slots.is_empty());
    }

    #[test]
    fn the_earliest_time_counts_and_a_push_ends_the_wait() {
        let mut queue = Queue::default();
        queue.push_at("a", at(10));
        queue.push_at("a", at(20));
        queue.push_at("a", at(5));
        assert_eq!(queue.next_due(), Some(at(5)));
        assert_eq!(queue.pop(at(4)), None);
        queue.push("a", at(4));
        assert_eq!(queue.next_due(), None);
        assert_eq!(queue.pop(at(4)), Some("a"));
    }

    #[test]
    fn what_is_new_goes_first_and_holds_nobody_up_for_ever() {
        let mut queue = Queue::default();
        (0..3).for_each(|old| queue.push(old, at(0)));
        (100..120).for_each(|new| queue.push_first(new, at(1)));
        assert_eq!((queue.depth(), queue.oldest()), (23, Some(at(0))));
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop(at(2))).collect();
        let mut expected: Vec<i32> = (100..120).collect();
        for (nth, old) in (0..3).enumerate() {
            expected.insert((FIRST_IN_A_ROW + (FIRST_IN_A_ROW + 1) * nth).min(expected.len()), old);
        }
        assert_eq!(order, expected);
    }

    proptest! {
        #[test]
        fn every_request_leads_to_a_run_and_no_key_runs_twice_at_once(
            steps in proptest::collection::vec((0_u8..5, 0_u8..3, 0_u64..20), 1..80),
        ) {
            let mut queue = Queue::default();
            let mut owed: BTreeSet<u8> = BTreeSet::new();
            let mut running: BTreeSet<u8> = BTreeSet::new();
            for (time, (what, key, delay)) in steps.into_iter().enumerate() {
                let now = at(time as u64);
                match what {
                    0 => { queue.push(key, now); owed.insert(key); }
                    1 => { queue.push_at(key, now + at(delay)); owed.insert(key); }
                    2 => if let Some(key) = queue.pop(now) {
                        prop_assert!(running.insert(key));
                        owed.remove(&key);
                    },
                    3 => { queue.push_first(key, now); owed.insert(key); }
                    _ => if running.remove(&key) { queue.done(&key, now, None); },
                }
                prop_assert_eq!(queue.running(), running.len());
            }
            for key in running { queue.done(&key, at(1000), None); }
            while let Some(key) = queue.pop(at(1000)) { owed.remove(&key); queue.done(&key, at(1000), None); }
            prop_assert!(owed.is_empty(), "never ran: {owed:?}");
            prop_assert!(queue.slots.is_empty() && queue.due.is_empty());
        }
    }
}
