//! [pure] Which epochs of a table's results are kept, in which order their rows stand, and what a cursor means.
//!
//! Every epoch that has rows has one *index*: its segments in the order (subtask, part, number), which the checkpoint's
//! record fixes, and the number that its first row has among all rows of the line. So the place of each row, (epoch,
//! sequence), is a function of the record: the same after a crash, at another parallelism, for whoever reads.
//!
//! Invariants:
//! - A [`Chain`] has no gaps: each epoch begins at the row where the one before it ends. What an index that came too late
//!   would join to (its neighbours are gone) is not part of it.
//! - The newest epoch is always kept, so a reader that has all rows is never behind what is kept.
//! - Of a change-log with a view, what the kept view does not hold yet is not removed.
//! - A view is known from the job's very beginning on (an empty one is kept then), or not at all: a table that comes to a
//!   job that has run, or a job that begins from a savepoint, has changes of rows that nobody has seen.
//!
//! Names say what listing must know without reading: `e<epoch>-<start>-<rows>-<bytes>.index` and
//! `v<epoch>-<position>-<rows>-<bytes>.view` (`…-over.view`: the view became too large and is not kept).

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use rheos_dataflow::time::Epoch;
use serde::{Deserialize, Serialize};

/// Version of an index's form.
pub const INDEX_VERSION: u32 = 1;

/// An object with rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Where it is in the job's storage.
    pub place: String,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

/// The rows of one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// [`INDEX_VERSION`].
    pub version: u32,
    /// The epoch of the checkpoint that made them final.
    pub epoch: Epoch,
    /// Rows of all epochs before.
    pub start: u64,
    /// In order.
    pub segments: Vec<Segment>,
}

impl Index {
    /// What its name says.
    pub fn entry(&self) -> Entry {
        let sum = |of: fn(&Segment) -> u64| self.segments.iter().map(of).sum();
        Entry { epoch: self.epoch, start: self.start, rows: sum(|segment| segment.rows), bytes: sum(|segment| segment.bytes) }
    }

    /// The segment that holds a row of the epoch, by its sequence, and the sequence of that segment's first row.
    pub fn segment(&self, sequence: u64) -> Option<(&Segment, u64)> {
        let mut first = 0;
        for segment in &self.segments {
            if sequence < first + segment.rows {
                return Some((segment, first));
            }
            first += segment.rows;
        }
        None
    }
}

/// An epoch of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The epoch.
    pub epoch: Epoch,
    /// Rows of all epochs before.
    pub start: u64,
    /// Its rows; not 0.
    pub rows: u64,
    /// Bytes of its segments.
    pub bytes: u64,
}

impl Entry {
    /// The row behind its last one.
    pub fn end(&self) -> u64 {
        self.start + self.rows
    }

    /// The name of its index.
    pub fn name(&self) -> String {
        let Self { epoch, start, rows, bytes } = self;
        format!("e{epoch:020}-{start}-{rows}-{bytes}.index")
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix('e')?.strip_suffix(".index")?.split('-').map(number);
        let [epoch, start, rows, bytes] = [parts.next()??, parts.next()??, parts.next()??, parts.next()??];
        (parts.next().is_none() && rows > 0).then_some(Self { epoch, start, rows, bytes })
    }
}

/// A view that is kept: every row of the result as of the end of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewAt {
    /// The epoch.
    pub epoch: Epoch,
    /// Rows of the change-log that it holds: those before this number.
    pub position: u64,
    /// Different rows and bytes; nothing: it had too many, and is not kept from here on.
    pub size: Option<(u64, u64)>,
}

impl ViewAt {
    /// The name of its object.
    pub fn name(&self) -> String {
        let Self { epoch, position, size } = self;
        match size {
            Some((rows, bytes)) => format!("v{epoch:020}-{position}-{rows}-{bytes}.view"),
            None => format!("v{epoch:020}-{position}-over.view"),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix('v')?.strip_suffix(".view")?;
        let (epoch, rest) = rest.split_once('-')?;
        let (position, size) = rest.split_once('-')?;
        let size = match size.split_once('-') {
            Some((rows, bytes)) => Some((number(rows)?, number(bytes)?)),
            None if size == "over" => None,
            None => return None,
        };
        Some(Self { epoch: number(epoch)?, position: number(position)?, size })
    }
}

fn number(text: &str) -> Option<u64> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows of all kept epochs.
    pub rows: u64,
    /// Bytes of their segments.
    pub bytes: u64,
    /// Epochs that have rows.
    pub epochs: u64,
    /// Different rows of the view of a change-log.
    pub view_rows: u64,
}

/// What is kept of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    entries: VecDeque<Entry>,
    /// Of a change-log, if it is known.
    pub view: Option<ViewAt>,
}

/// Where a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// At a row: the epoch, and the row's sequence in it.
    Row(Entry, u64),
    /// Behind the newest row.
    End,
    /// At a row that is not kept any more.
    Gone,
}

/// An epoch does not follow the newest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap;

impl Chain {
    /// What the names in a table's folder say. Names of others are passed over.
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut chain = Self::default();
        let mut entries = Vec::new();
        for name in names {
            match (Entry::parse(name), ViewAt::parse(name)) {
                (Some(entry), _) => entries.push(entry),
                (None, Some(view)) => chain.view = chain.view.max_by_position(view),
                (None, None) => {}
            }
        }
        entries.sort_by_key(|entry| entry.epoch);
        for entry in entries.into_iter().rev() {
            match chain.entries.front() {
                Some(next) if entry.end() != next.start => break,
                _ => chain.entries.push_front(entry),
            }
        }
        chain
    }

    /// Appends an epoch; one that is there already changes nothing.
    ///
    /// # Errors
    /// Rows are missing between the newest epoch and this one.
    pub fn push(&mut self, entry: Entry) -> Result<(), Gap> {
        match self.entries.back() {
            Some(newest) if entry.epoch <= newest.epoch => Ok(()),
            Some(newest) if entry.start != newest.end() => Err(Gap),
            _ => {
                self.entries.push_back(entry);
                Ok(())
            }
        }
    }

    /// Another view is kept now, if it is newer.
    pub fn renew(&mut self, view: ViewAt) {
        self.view = self.view.max_by_position(view);
    }

    /// The oldest epoch.
    pub fn oldest(&self) -> Option<Entry> {
        self.entries.front().copied()
    }

    /// The newest epoch.
    pub fn newest(&self) -> Option<Entry> {
        self.entries.back().copied()
    }

    /// The epochs, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.entries.iter().copied()
    }

    /// The epochs that hold rows from `position` on.
    pub fn from(&self, position: u64) -> impl Iterator<Item = Entry> {
        self.entries().filter(move |entry| entry.end() > position)
    }

    /// The row behind the newest one.
    pub fn end(&self) -> u64 {
        self.newest().map_or(0, |newest| newest.end())
    }

    /// The first kept row.
    pub fn start(&self) -> u64 {
        self.oldest().map_or(0, |oldest| oldest.start)
    }

    /// What a reader at this row finds.
    pub fn at(&self, position: u64) -> At {
        if position < self.start() {
            return At::Gone;
        }
        let index = self.entries.partition_point(|entry| entry.end() <= position);
        self.entries.get(index).map_or(At::End, |entry| At::Row(*entry, position - entry.start))
    }

    /// The row behind the one that a cursor names.
    ///
    /// # Errors
    /// The rows behind it are not all kept, or it names no row.
    pub fn behind(&self, epoch: Epoch, sequence: u64) -> Result<u64, BadCursor> {
        if epoch == 0 {
            // Before the first row of all.
            return if self.start() == 0 { Ok(0) } else { Err(BadCursor::Gone) };
        }
        match self.entries.binary_search_by_key(&epoch, |entry| entry.epoch) {
            Ok(index) if sequence < self.entries[index].rows => Ok(self.entries[index].start + sequence + 1),
            Err(0) if !self.entries.is_empty() => Err(BadCursor::Gone),
            _ => Err(BadCursor::Unknown),
        }
    }

    /// The cursor of the row before `position`: who has it has everything before.
    pub fn before(&self, position: u64) -> (Epoch, u64) {
        let index = self.entries.partition_point(|entry| entry.end() < position);
        match self.entries.get(index).filter(|entry| entry.start < position) {
            Some(entry) => (entry.epoch, position - entry.start - 1),
            None => (0, 0),
        }
    }

    /// Forgets the epochs before this one.
    pub fn forget_before(&mut self, epoch: Epoch) {
        while self.entries.len() > 1 && self.entries.front().is_some_and(|oldest| oldest.epoch < epoch) {
            self.entries.pop_front();
        }
    }

    /// Takes out the epochs that are beyond the limits, oldest first. `changelog`: of a change-log.
    pub fn expire(&mut self, limits: &Limits, changelog: bool) -> Vec<Entry> {
        let mut rows: u64 = self.entries.iter().map(|entry| entry.rows).sum();
        let mut bytes: u64 = self.entries.iter().map(|entry| entry.bytes).sum();
        let mut expired = Vec::new();
        while self.entries.len() > 1 && (rows > limits.rows || bytes > limits.bytes || self.entries.len() as u64 > limits.epochs) {
            let held = |entry: &Entry| self.view.is_some_and(|view| view.size.is_some() && entry.end() > view.position);
            let Some(oldest) = self.entries.front().filter(|oldest| !(changelog && held(oldest))).copied() else { break };
            self.entries.pop_front();
            rows -= oldest.rows;
            bytes -= oldest.bytes;
            expired.push(oldest);
        }
        expired
    }

    /// Whether a change-log's view should be made anew: as many changes have come since as it has rows (so the work for
    /// each change stays the same on average), or what it does not hold fills half of what may be kept.
    pub fn wants_view(&self, limits: &Limits, least_changes: u64) -> bool {
        let Some(ViewAt { position, size: Some((rows, _)), .. }) = self.view else { return false };
        let changes = self.end().saturating_sub(position);
        let (bytes, epochs) = self.from(position).fold((0, 0), |(bytes, epochs), entry| (bytes + entry.bytes, epochs + 1));
        changes >= rows.max(least_changes) || changes > limits.rows / 2 || bytes > limits.bytes / 2 || epochs > limits.epochs / 2
    }
}

trait NewerView {
    fn max_by_position(self, other: ViewAt) -> Self;
}

impl NewerView for Option<ViewAt> {
    fn max_by_position(self, other: ViewAt) -> Self {
        match self {
            Some(view) if view.position >= other.position => Some(view),
            _ => Some(other),
        }
    }
}

/// Why a cursor cannot be gone on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadCursor {
    /// Rows behind it are not kept any more.
    Gone,
    /// No row ever had it.
    Unknown,
}

/// The place of a row in a table's results, as clients see it: `<epoch>-<sequence>-<line>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Epoch of the checkpoint that made it final; 0: before the first row.
    pub epoch: Epoch,
    /// Its number in the epoch, from 0.
    pub sequence: u64,
    /// Which line of checkpoints: changes when a job begins anew, or from a savepoint. A client may leave it away.
    pub line: Option<u32>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.sequence)?;
        self.line.map_or(Ok(()), |line| write!(f, "-{line:08x}"))
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("{:?} is no cursor; write the cursor of a row, such as 42-7-1a2b3c4d", text.chars().take(80).collect::<String>());
        let mut parts = text.split('-');
        let (epoch, sequence) = (parts.next().and_then(number).ok_or_else(bad)?, parts.next().and_then(number).ok_or_else(bad)?);
        let hex = |line: &str| line.len() == 8 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        let line = parts.next().map(|line| if hex(line) { u32::from_str_radix(line, 16).ok() } else { None });
        match (line, parts.next()) {
            (Some(None), _) | (_, Some(_)) => Err(bad()),
            (line, None) => Ok(Self { epoch, sequence, line: line.flatten() }),
        }
    }
}

#[cfg(test)]
mod tests;
