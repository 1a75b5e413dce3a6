//! [pure] Bytes that a worker has sent in epochs not yet closed everywhere: what bounds memory in flight.
//!
//! Back-pressure is end to end. A source stops reading while its worker's total is over the budget and goes on when the
//! monitor sees an epoch close on every worker. Stages in the middle pause only at twice the budget and never in the
//! oldest open epoch, so that epoch can always close and nothing deadlocks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use rheos_dataflow::time::Epoch;

/// One worker's ledger; shared by its operators.
#[derive(Debug)]
pub(crate) struct Ledger {
    budget: u64,
    total: Cell<u64>,
    by_epoch: RefCell<BTreeMap<Epoch, u64>>,
    /// All epochs below are closed on every worker.
    closed: Cell<Epoch>,
    waiting: Cell<bool>,
    peak: Cell<u64>,
}

impl Ledger {
    pub(crate) fn new(budget: u64, first_epoch: Epoch) -> Self {
        Self {
            budget,
            total: Cell::new(0),
            by_epoch: RefCell::default(),
            closed: Cell::new(first_epoch),
            waiting: Cell::new(false),
            peak: Cell::new(0),
        }
    }

    /// Bytes were sent in `epoch`.
    pub(crate) fn sent(&self, epoch: Epoch, bytes: u64) {
        *self.by_epoch.borrow_mut().entry(epoch).or_default() += bytes;
        self.total.set(self.total.get() + bytes);
        self.peak.set(self.peak.get().max(self.total.get()));
    }

    /// Every worker has closed the epochs below `frontier`. Whether someone waits who may now go on.
    pub(crate) fn closed(&self, frontier: Epoch) -> bool {
        self.closed.set(frontier);
        let mut by_epoch = self.by_epoch.borrow_mut();
        let open = by_epoch.split_off(&frontier);
        let freed: u64 = by_epoch.values().sum();
        *by_epoch = open;
        self.total.set(self.total.get() - freed);
        self.waiting.take()
    }

    /// Whether a source may read; if not, it is woken when that may have changed.
    pub(crate) fn may_read(&self) -> bool {
        let may = self.total.get() < self.budget;
        self.waiting.set(self.waiting.get() || !may);
        may
    }

    /// Whether a stage that works on `epoch` may go on; if not, it is woken when that may have changed.
    pub(crate) fn may_work(&self, epoch: Epoch) -> bool {
        let may = self.total.get() < 2 * self.budget || epoch <= self.closed.get();
        self.waiting.set(self.waiting.get() || !may);
        may
    }

    /// The frontier of closed epochs.
    pub(crate) fn frontier(&self) -> Epoch {
        self.closed.get()
    }

    /// Bytes in flight now, and at most so far.
    pub(crate) fn in_flight(&self) -> (u64, u64) {
        (self.total.get(), self.peak.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_stops_at_the_budget_and_goes_on_when_an_epoch_has_closed_everywhere() {
        let ledger = Ledger::new(100, 1);
        ledger.sent(1, 99);
        assert!(ledger.may_read());
        ledger.sent(2, 1);
        assert!(!ledger.may_read());
        assert!(ledger.closed(2), "the source that waits is to be woken");
        assert!(ledger.may_read());
        assert!(!ledger.closed(3), "nobody waits");
        assert_eq!(ledger.in_flight(), (0, 100));
    }

    #[test]
    fn the_oldest_epoch_is_never_held_back() {
        let ledger = Ledger::new(100, 7);
        ledger.sent(7, 150);
        ledger.sent(8, 50);
        assert!(ledger.may_work(7));
        assert!(!ledger.may_work(8));
        assert!(ledger.closed(8));
        assert!(ledger.may_work(8));
    }
}
