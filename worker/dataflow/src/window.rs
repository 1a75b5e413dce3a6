//! [pure] Window arithmetic on milliseconds: windows of a row, slices, and which windows a watermark fires.
//!
//! A **slice** is the widest span that no window of the shape cuts: every window is a run of whole slices, so a row is
//! aggregated once, into its slice, and windows merge slices (the "panes" of Li et al., *No Pane, No Gain*, 2005).
//! A slice is named by its end. The grid is the multiples of the slice's width, shifted by the window's offset.
//!
//! Invariants:
//! - All arithmetic is exact in `i64`: event times lie in [`EVENT_TIME_MIN`]`..=`[`EVENT_TIME_MAX`] (operators refuse
//!   others as bad data), lengths in `1..=`[`MAX_LENGTH`], so no sum of a time and two lengths overflows. Watermarks
//!   may be any `i64`.
//! - The next window end after a watermark never falls as the slice grows, so the first live slice says what fires next.

use crate::graph::Window;
use crate::time::Millis;

/// Earliest event time that a window can hold: about 146 million years before 1970.
pub const EVENT_TIME_MIN: Millis = -(1 << 62);
/// Latest event time that a window can hold: about 146 million years after 1970.
pub const EVENT_TIME_MAX: Millis = 1 << 62;
/// Longest window, slide, step or offset: about 36 million years.
pub const MAX_LENGTH: Millis = 1 << 60;
/// Most windows that one row may belong to; bounds what one row can cost.
pub const MAX_WINDOWS_OF_A_ROW: i64 = 100_000;

/// Half-open span of event time `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First millisecond inside.
    pub start: Millis,
    /// First millisecond behind.
    pub end: Millis,
}

/// The regular grid on which slices (or window starts) lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Distance between two lines, at least 1.
    pub width: Millis,
    /// Place of one line, in `0..width`.
    pub offset: Millis,
}

impl Grid {
    fn new(width: Millis, offset: Millis) -> Self {
        Self { width, offset: offset.rem_euclid(width) }
    }

    /// The last line at or before `time`.
    #[inline]
    pub fn floor(self, time: Millis) -> Millis {
        time - (time - self.offset).rem_euclid(self.width)
    }

    /// The first line behind `time`: the end of the cell that holds it.
    #[inline]
    pub fn next(self, time: Millis) -> Millis {
        self.floor(time) + self.width
    }

    /// The first line at or behind `time`.
    #[inline]
    pub fn ceil(self, time: Millis) -> Millis {
        self.next(time - 1)
    }
}

impl Window {
    /// Checks what the arithmetic here relies on. The planner reports the message with the place in the SQL.
    pub fn validate(self) -> Result<(), String> {
        let (length, distance, offset) = match self {
            Self::Tumble { size, offset } => (size, size, offset),
            Self::Hop { size, slide, offset } => (size, slide, offset),
            Self::Cumulate { max, step, offset } => (max, step, offset),
        };
        for (what, value) in [("size", length), ("slide or step", distance)] {
            if !(1..=MAX_LENGTH).contains(&value) {
                return Err(format!("the window's {what} must be between 1 ms and {MAX_LENGTH} ms, not {value} ms"));
            }
        }
        if !(-MAX_LENGTH..=MAX_LENGTH).contains(&offset) {
            return Err(format!("the window's offset must be within {MAX_LENGTH} ms, not {offset} ms"));
        }
        if matches!(self, Self::Cumulate { .. }) && length % distance != 0 {
            return Err(format!("the window's size ({length} ms) must be a multiple of its step ({distance} ms)"));
        }
        if length / distance > MAX_WINDOWS_OF_A_ROW {
            return Err(format!(
                "each row would belong to {} windows; at most {MAX_WINDOWS_OF_A_ROW} are supported, use a longer slide or step",
                length / distance
            ));
        }
        Ok(())
    }

    /// The grid of slices.
    pub fn slices(self) -> Grid {
        match self {
            Self::Tumble { size, offset } => Grid::new(size, offset),
            Self::Hop { size, slide, offset } => Grid::new(gcd(size, slide), offset),
            Self::Cumulate { step, offset, .. } => Grid::new(step, offset),
        }
    }

    /// The grid of window starts.
    fn starts(self) -> Grid {
        match self {
            Self::Tumble { size, offset } => Grid::new(size, offset),
            Self::Hop { slide, offset, .. } => Grid::new(slide, offset),
            Self::Cumulate { max, offset, .. } => Grid::new(max, offset),
        }
    }

    /// End of the slice that holds `time`.
    #[inline]
    pub fn slice_end(self, time: Millis) -> Millis {
        self.slices().next(time)
    }

    /// Ends of the slices that make up `window`, ascending.
    pub fn slices_of(self, window: Span) -> impl Iterator<Item = Millis> {
        let width = self.slices().width;
        (1..=(window.end - window.start) / width).map(move |n| window.start + n * width)
    }

    /// The windows that hold this slice, in order of end. None for a slice in a gap (a hop longer than its window).
    pub fn windows_of_slice(self, slice_end: Millis) -> impl Iterator<Item = Span> {
        let (first, last) = self.end_range(slice_end);
        let grid = self.ends();
        (0..(last - first) / grid.width + 1).map(move |n| self.window_ending(first + n * grid.width))
    }

    /// The windows that hold `time`, in order of end.
    pub fn windows_of(self, time: Millis) -> impl Iterator<Item = Span> {
        self.windows_of_slice(self.slice_end(time))
    }

    /// End of the last window that holds this slice; `None` in a gap.
    pub fn last_window_end(self, slice_end: Millis) -> Option<Millis> {
        let (first, last) = self.end_range(slice_end);
        (first <= last).then_some(last)
    }

    /// The first window that holds this slice and has not fired at `watermark`, that is with `end - 1 > watermark`.
    /// `None` when all have: the slice is expired, and a row that comes for it now is late.
    pub fn first_open_window(self, slice_end: Millis, watermark: Millis) -> Option<Span> {
        let (first, last) = self.end_range(slice_end);
        let first = match watermark.checked_add(2) {
            None => return None,
            Some(least) if least <= first => first,
            Some(least) if least > last => return None,
            Some(least) => self.ends().ceil(least),
        };
        (first <= last).then(|| self.window_ending(first))
    }

    /// Whether all windows of this slice have fired at `watermark`.
    #[inline]
    pub fn is_expired(self, slice_end: Millis, watermark: Millis) -> bool {
        self.last_window_end(slice_end).is_none_or(|end| end - 1 <= watermark)
    }

    /// The grid of window ends.
    fn ends(self) -> Grid {
        match self {
            Self::Tumble { size, offset } => Grid::new(size, offset),
            Self::Hop { size, slide, offset } => Grid::new(slide, (offset % slide) + (size % slide)),
            Self::Cumulate { step, offset, .. } => Grid::new(step, offset),
        }
    }

    /// The window that ends at `end`, a line of [`Self::ends`].
    fn window_ending(self, end: Millis) -> Span {
        let start = match self {
            Self::Tumble { size, .. } | Self::Hop { size, .. } => end - size,
            Self::Cumulate { .. } => self.starts().floor(end - 1),
        };
        Span { start, end }
    }

    /// First and last end of the windows that hold the slice; the first is behind the last when there is none.
    fn end_range(self, slice_end: Millis) -> (Millis, Millis) {
        match self {
            Self::Tumble { .. } => (slice_end, slice_end),
            Self::Hop { size, slide, .. } => {
                // A window holds the slice when it starts at or before the slice and ends at or behind it.
                let last = self.starts().floor(slice_end - self.slices().width) + size;
                let first = self.ends().ceil(slice_end);
                if first > last { (last + slide, last) } else { (first, last) }
            }
            Self::Cumulate { max, .. } => (slice_end, self.starts().floor(slice_end - 1) + max),
        }
    }
}

fn gcd(a: Millis, b: Millis) -> Millis {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
