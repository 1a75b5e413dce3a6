//! [pure] When the next tick is due: a clock that never runs backwards, and epochs that adapt to the load.
//!
//! While sources read rows an epoch lasts `epoch_min`; each epoch without rows doubles the next one up to `epoch_max`,
//! so that an idle job costs next to nothing.

use super::Pacing;
use crate::time::Millis;

#[derive(Debug)]
pub(super) struct Pacer {
    /// The driver's clock at the last call.
    reading: Option<Millis>,
    /// Time passed since the first call; the sum of the forward steps of the driver's clock.
    now: Millis,
    wall_time: Millis,
    /// Length of the open epoch.
    length: Millis,
    last_tick: Millis,
    rows: u64,
    checkpoint_began: Millis,
    finish_not_before: Millis,
    /// The wake-up that the driver knows of, on this clock.
    armed: Option<Millis>,
}

impl Pacer {
    pub(super) fn new(pacing: &Pacing, wall_time: Millis) -> Self {
        Self {
            reading: None,
            now: 0,
            wall_time,
            length: pacing.epoch_min.max(1),
            last_tick: 0,
            rows: 0,
            checkpoint_began: 0,
            finish_not_before: 0,
            armed: None,
        }
    }

    pub(super) fn advance(&mut self, reading: Millis) {
        let last = self.reading.replace(reading).unwrap_or(reading);
        if reading < last {
            // What was armed was meant for the clock before its step back.
            self.armed = None;
        }
        self.now = self.now.saturating_add(reading.saturating_sub(last).max(0));
        self.wall_time = self.wall_time.max(reading);
    }

    /// Time since the start, ms; never falls.
    pub(super) fn now(&self) -> Millis {
        self.now
    }

    /// The driver's clock at this call.
    pub(super) fn reading(&self) -> Millis {
        self.reading.unwrap_or(self.wall_time)
    }

    /// For the tick; never falls, over restores neither.
    pub(super) fn wall_time(&self) -> Millis {
        self.wall_time
    }

    pub(super) fn load(&mut self, rows: u64, pacing: &Pacing) {
        self.rows = self.rows.saturating_add(rows);
        if rows > 0 {
            self.length = pacing.epoch_min.max(1);
        }
    }

    pub(super) fn next_tick(&self) -> Millis {
        self.last_tick.saturating_add(self.length)
    }

    pub(super) fn due(&self) -> bool {
        self.now >= self.next_tick()
    }

    pub(super) fn checkpoint_due(&self, pacing: &Pacing) -> bool {
        self.now >= self.checkpoint_began.saturating_add(pacing.checkpoint_interval)
    }

    pub(super) fn ticked(&mut self, checkpoint: bool, pacing: &Pacing) {
        let longest = pacing.epoch_max.max(pacing.epoch_min).max(1);
        self.length = if self.rows > 0 { pacing.epoch_min.max(1) } else { self.length.saturating_mul(2).min(longest) };
        self.rows = 0;
        self.last_tick = self.now;
        if checkpoint {
            self.checkpoint_began = self.now;
        }
    }

    pub(super) fn hold_finish(&mut self, span: Millis) {
        self.finish_not_before = self.now.saturating_add(span);
    }

    pub(super) fn finish_held(&self) -> bool {
        self.now < self.finish_not_before
    }

    /// The wake-up to ask for so that a call comes at `at`; `None` when one is on its way. A driver's timers cannot be
    /// taken back, so a later deadline is armed only once the earlier one has come.
    pub(super) fn arm(&mut self, at: Millis) -> Option<Millis> {
        if self.armed.is_some_and(|armed| armed > self.now && armed <= at) {
            return None;
        }
        let at = at.max(self.now + 1);
        self.armed = Some(at);
        Some(self.reading().saturating_add(at - self.now))
    }
}
