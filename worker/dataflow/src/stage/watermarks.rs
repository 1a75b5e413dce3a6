//! [pure] Watermarks of a stage's inputs and nodes: a minimum over senders that moves only when an epoch closes.

use crate::time::{Millis, WATERMARK_MIN, Watermark};

/// The senders of one input.
#[derive(Debug)]
pub(super) struct InputWatermarks {
    /// By sender; nothing is known of a sender before its first message, so it holds the minimum back.
    senders: Vec<Watermark>,
    /// Said during the open epoch, in effect when it closes.
    next: Vec<(u32, Watermark)>,
}

impl InputWatermarks {
    pub(super) fn new(senders: usize) -> Self {
        Self { senders: vec![Watermark::Active(WATERMARK_MIN); senders], next: Vec::new() }
    }

    pub(super) fn said(&mut self, sender: u32, watermark: Watermark) {
        self.next.push((sender, watermark));
    }

    /// The input's watermark as of the epoch that closes now. `forward`: its one sender is this worker.
    pub(super) fn close(&mut self, forward: bool) -> Watermark {
        for (sender, watermark) in self.next.drain(..) {
            self.senders[if forward { 0 } else { sender as usize }] = watermark;
        }
        minimum(self.senders.iter().copied())
    }
}

/// The minimum over senders; idle ones do not hold it back, and all idle is idle, at the greatest of their times: nobody
/// is left who could be waited for. (Flink's `StatusWatermarkValve` says that greatest once.)
pub(super) fn minimum(watermarks: impl Iterator<Item = Watermark>) -> Watermark {
    watermarks.fold(Watermark::Idle(WATERMARK_MIN), |least, next| match (least, next) {
        (Watermark::Idle(a), Watermark::Idle(b)) => Watermark::Idle(a.max(b)),
        (Watermark::Idle(_), active) | (active, Watermark::Idle(_)) => active,
        (Watermark::Active(a), Watermark::Active(b)) => Watermark::Active(a.min(b)),
    })
}

/// What a node says after its inputs said `input`: as idle as they are, and its time never falls.
pub(super) fn advance(current: Millis, input: Watermark) -> Watermark {
    match input {
        Watermark::Active(time) => Watermark::Active(current.max(time)),
        Watermark::Idle(time) => Watermark::Idle(current.max(time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_sender_does_not_hold_the_minimum_back() {
        let mut input = InputWatermarks::new(2);
        input.said(0, Watermark::Active(10));
        assert_eq!(input.close(false), Watermark::Active(WATERMARK_MIN), "sender 1 has not spoken");
        input.said(1, Watermark::Idle(20));
        assert_eq!(input.close(false), Watermark::Active(10));
        input.said(1, Watermark::Active(3));
        assert_eq!(input.close(false), Watermark::Active(3));
        assert_eq!(advance(10, Watermark::Active(3)), Watermark::Active(10), "an operator's watermark never falls");
    }

    #[test]
    fn where_all_are_idle_the_greatest_time_counts() {
        assert_eq!(minimum([Watermark::Idle(3), Watermark::Idle(5)].into_iter()), Watermark::Idle(5));
        assert_eq!(advance(7, Watermark::Idle(5)), Watermark::Idle(7));
        assert_eq!(advance(4, Watermark::Idle(5)), Watermark::Idle(5));
        assert_eq!(minimum([].into_iter()), Watermark::Idle(WATERMARK_MIN), "without inputs nothing is known");
    }
}
