//! [io] What generators share: numbered rows dealt to splits in blocks, random numbers by row, and a calm pace.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::source::Waker;
use tokio::runtime::Handle;

/// A paced reader sleeps at least this long, so that its batches hold more than a row.
const PACE_GRAIN: Duration = Duration::from_millis(20);

/// 64 bits that are a function of `salt` and `n`: one step of `wyrand` (Wang Yi).
#[inline]
pub(crate) fn draw(salt: u64, n: u64) -> u64 {
    let x = n.wrapping_mul(0xa076_1d64_78bd_642f).wrapping_add(salt);
    let product = u128::from(x) * u128::from(x ^ 0xe703_7ed1_a0b4_28db);
    (product >> 64) as u64 ^ product as u64
}

/// Rows `from..to` of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The block.
    pub(crate) block: u64,
    /// First place in the block.
    pub(crate) from: u32,
    /// Place behind the last.
    pub(crate) to: u32,
}

impl Span {
    /// Numbers of its rows, in blocks of `rows`.
    pub(crate) fn numbers(&self, rows: u64) -> Range<u64> {
        self.block * rows + u64::from(self.from)..self.block * rows + u64::from(self.to)
    }
}

/// Numbered rows in blocks; split `s` holds the blocks `b` with `b % splits == s`. An offset is the number of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocks {
    /// Rows of a block.
    pub(crate) rows: u64,
    /// Splits.
    pub(crate) splits: u64,
}

impl Blocks {
    /// Ids of the splits.
    pub(crate) fn ids(&self) -> Vec<String> {
        (0..self.splits).map(|split| split.to_string()).collect()
    }

    /// The number of the first row to read.
    pub(crate) fn open(&self, connector: &str, split: &str, offset: Option<&serde_json::Value>) -> Result<u64> {
        let bad = |message: String| DataflowError::new(connector, ErrorKind::State, message);
        let index = split.parse::<u64>().ok().filter(|index| *index < self.splits);
        let index = index.ok_or_else(|| {
            bad(format!("the checkpoint holds split '{split}', but there are {}; was option 'splits' changed?", self.splits))
        })?;
        let Some(offset) = offset else { return Ok(index * self.rows) };
        let next = offset.as_u64().filter(|n| n / self.rows % self.splits == index);
        next.ok_or_else(|| bad(format!("offset {offset} is not one of split '{split}'; were options of the table changed?")))
    }

    /// The next rows of the split that row `next` is of: about `rows`, none from `limit` on; and the row behind them.
    pub(crate) fn spans(&self, mut next: u64, rows: u64, limit: u64) -> (Vec<Span>, u64) {
        let mut spans = Vec::with_capacity((rows / self.rows) as usize + 2);
        let mut left = rows;
        while left > 0 && next < limit {
            let block = next / self.rows;
            let from = next - block * self.rows;
            let to = self.rows.min(limit - block * self.rows);
            spans.push(Span { block, from: from as u32, to: to as u32 });
            left = left.saturating_sub(to - from);
            next = if to == self.rows { (block + self.splits) * self.rows } else { block * self.rows + to };
        }
        (spans, next)
    }

    /// The first row of the round of all splits that row `next` is in.
    pub(crate) fn round_of(&self, next: u64) -> u64 {
        let round = self.rows * self.splits;
        next / round * round
    }

    /// About how many rows of a split are left from `next` to `end`: each split has one block of a round.
    pub(crate) fn backlog(&self, next: u64, end: u64) -> u64 {
        end.saturating_sub(next) / self.splits
    }
}

/// Holds a reader to a number of rows a second: row `first + k` is due `k / rate` seconds after it was opened.
pub(crate) struct Pace {
    rate: f64,
    started: Instant,
    first: u64,
    /// A wake-up is under way.
    waiting: Arc<AtomicBool>,
    runtime: Handle,
    waker: Waker,
}

impl Pace {
    pub(crate) fn new(rate: f64, first: u64, runtime: Handle, waker: Waker) -> Self {
        Self { rate, started: Instant::now(), first, waiting: Arc::default(), runtime, waker }
    }

    /// Rows below this number are due.
    pub(crate) fn due(&self) -> u64 {
        self.first.saturating_add((self.started.elapsed().as_secs_f64() * self.rate) as u64)
    }

    /// Calls the waker when row `number` is due.
    pub(crate) fn wake_at(&self, number: u64) {
        if self.waiting.swap(true, Ordering::AcqRel) {
            return;
        }
        let after = Duration::try_from_secs_f64((number + 1).saturating_sub(self.first) as f64 / self.rate);
        let Some(at) = after.ok().and_then(|after| self.started.checked_add(after)) else { return };
        let at = at.max(Instant::now() + PACE_GRAIN);
        let (waiting, waker) = (Arc::clone(&self.waiting), Waker::clone(&self.waker));
        self.runtime.spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            waiting.store(false, Ordering::Release);
            waker();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlog_is_a_splits_share_of_what_is_left() {
        let blocks = Blocks { rows: 10, splits: 4 };
        assert_eq!((blocks.backlog(0, 400), blocks.backlog(200, 400), blocks.backlog(400, 400)), (100, 50, 0));
    }
}
