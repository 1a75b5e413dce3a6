//! [pure] How often and how soon a failed generation is followed by another.

use std::collections::VecDeque;
use std::time::Duration;

use rheos_api::validated::RestartPolicy;

/// A generation that ran this long was healthy: what follows is no crash loop.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(1);
/// Data errors with the same text in a row, without a checkpoint between them, before the job fails.
pub const SAME_DATA_ERRORS: u32 = 2;

/// Counts failures against a [`RestartPolicy`].
#[derive(Debug, Clone)]
pub struct Restarts {
    policy: RestartPolicy,
    /// Times of the restarts that the window still holds.
    recent: VecDeque<Duration>,
    /// Times of the failures since the last healthy generation, as far as the window holds them.
    unhealthy: VecDeque<Duration>,
    last_data_error: Option<(String, u32)>,
}

/// What to do about a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Start the next generation at this time.
    RestartAt(Duration),
    /// Give up, for this reason.
    GiveUp(String),
}

impl Restarts {
    /// No failures yet.
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, recent: VecDeque::new(), unhealthy: VecDeque::new(), last_data_error: None }
    }

    /// A checkpoint was completed: the job makes progress.
    pub fn progressed(&mut self) {
        self.unhealthy.clear();
        self.last_data_error = None;
    }

    /// Another policy holds from now on; what was counted stays.
    pub fn set_policy(&mut self, policy: RestartPolicy) {
        self.policy = policy;
    }

    /// Bad data was met. Tells why to give up when it was the same as before.
    pub fn bad_data(&mut self, text: &str) -> Option<String> {
        let same = self.last_data_error.take().filter(|(last, _)| last == text).map_or(0, |(_, times)| times) + 1;
        self.last_data_error = Some((text.to_owned(), same));
        (same >= SAME_DATA_ERRORS).then(|| format!("the same bad data was met {same} times"))
    }

    /// A generation failed at `now` after running for `ran`.
    pub fn failed(&mut self, now: Duration, ran: Duration) -> Verdict {
        let window = self.policy.window;
        for times in [&mut self.recent, &mut self.unhealthy] {
            while times.front().is_some_and(|at| *at + window <= now) {
                times.pop_front();
            }
        }
        if self.recent.len() >= self.policy.max_restarts as usize {
            let count = self.recent.len();
            return Verdict::GiveUp(match count {
                0 => "spec.restart.maxRestarts is 0".to_owned(),
                _ => format!("{count} restarts within {} (spec.restart)", rheos_api::duration::display(window)),
            });
        }
        self.recent.push_back(now);
        if ran >= HEALTHY_AFTER {
            self.unhealthy.clear();
        }
        let pause = match self.unhealthy.len() {
            0 => Duration::ZERO,
            n => self.policy.backoff_initial.saturating_mul(1 << (n - 1).min(20)).min(self.policy.backoff_max),
        };
        self.unhealthy.push_back(now);
        Verdict::RestartAt(now + pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn restarts(max_restarts: u32) -> Restarts {
        Restarts::new(RestartPolicy { max_restarts, window: secs(600), backoff_initial: secs(1), backoff_max: secs(5) })
    }

    #[test]
    fn the_first_restart_is_immediate_and_a_crash_loop_slows_down() {
        let mut restarts = restarts(10);
        let mut now = secs(100);
        for pause in [0, 1, 2, 4, 5, 5] {
            assert_eq!(restarts.failed(now, Duration::ZERO), Verdict::RestartAt(now + secs(pause)));
            now += secs(10);
        }
        assert_eq!(restarts.failed(now, HEALTHY_AFTER), Verdict::RestartAt(now), "a healthy run ends the loop");
        restarts.progressed();
        assert_eq!(restarts.failed(now, Duration::ZERO), Verdict::RestartAt(now), "so does a checkpoint");
    }

    #[test]
    fn failures_that_the_window_has_left_slow_nothing_down() {
        let mut restarts = restarts(10);
        restarts.policy.window = secs(20);
        let pauses: Vec<_> = (0..8).map(|n| restarts.failed(secs(7 * n), Duration::ZERO)).collect();
        let expected = [0, 1, 2, 2, 2, 2, 2, 2].map(secs);
        let expected: Vec<_> = expected.iter().enumerate().map(|(n, pause)| Verdict::RestartAt(secs(7 * n as u64) + *pause)).collect();
        assert_eq!(pauses, expected);
    }

    #[test]
    fn the_window_holds_its_number_and_no_more() {
        let mut restarts = restarts(2);
        assert!(matches!(restarts.failed(secs(0), secs(9)), Verdict::RestartAt(_)));
        assert!(matches!(restarts.failed(secs(1), secs(9)), Verdict::RestartAt(_)));
        assert!(matches!(restarts.failed(secs(599), secs(9)), Verdict::GiveUp(_)));
        assert!(matches!(restarts.failed(secs(600), secs(9)), Verdict::RestartAt(_)), "the first has left the window");
    }

    #[test]
    fn without_restarts_the_first_failure_is_the_end() {
        assert!(matches!(restarts(0).failed(secs(0), secs(9)), Verdict::GiveUp(_)));
    }

    #[test]
    fn the_same_bad_data_twice_is_the_end_unless_a_checkpoint_came_between() {
        let mut restarts = restarts(10);
        assert_eq!(restarts.bad_data("a"), None);
        assert_eq!(restarts.bad_data("b"), None);
        restarts.progressed();
        assert_eq!(restarts.bad_data("b"), None);
        assert!(restarts.bad_data("b").is_some());
    }
}
