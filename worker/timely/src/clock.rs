//! [io] The wall clock that ticks carry: milliseconds since 1970 that never step back, and timers on the same scale.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rheos_dataflow::time::Millis;

/// The system's clock may run ahead of ours by this much before we follow it.
const TOLERANCE: Duration = Duration::from_secs(1);

/// Goes on at the rate of the monotonic clock, and follows the system's clock forward, never back.
#[derive(Debug)]
pub(crate) struct WallClock {
    /// What the system's clock said at `began`.
    base: Duration,
    began: Instant,
}

impl WallClock {
    pub(crate) fn new() -> Self {
        Self { base: system(), began: Instant::now() }
    }

    pub(crate) fn now(&mut self) -> Millis {
        let (mut ours, system) = (self.base + self.began.elapsed(), system());
        if system > ours + TOLERANCE {
            self.base += system - ours;
            ours = system;
        }
        ours.as_millis() as Millis
    }

    /// How long until [`WallClock::now`] reaches `at`.
    pub(crate) fn until(&self, at: Millis) -> Duration {
        Duration::from_millis(at.max(0) as u64).saturating_sub(self.base + self.began.elapsed())
    }
}

fn system() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
