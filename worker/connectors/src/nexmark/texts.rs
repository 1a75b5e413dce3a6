//! [pure] The text columns of Nexmark events.
//!
//! Nine of ten events are bids, so their texts have loops of their own: each copies a constant number of bytes for each
//! string, a few moves of words, and lets the next string overwrite what was too much.

use arrow::buffer::{Buffer, OffsetBuffer};

use super::config::Config;
use super::generator::{Item, Run, salt};
use super::strings::{CITIES, FIRST_NAMES, LAST_NAMES, LONGEST_SLICE, STATES, Strings, Table, below, extra_length};
use crate::sequence::draw;

/// Bytes that are copied for each `extra` of a bid, when all are at most so long.
const EXTRA_BYTES: usize = 96;
/// What a bid holds beside its `extra`, bytes.
const BID_FIXED_SIZE: u64 = 32;
/// What an auction holds beside its texts, bytes.
const AUCTION_FIXED_SIZE: usize = 48;
/// What a person holds beside its texts, bytes.
const PERSON_FIXED_SIZE: usize = 8;

/// Makes the text columns.
#[derive(Debug)]
pub(super) struct Texts {
    config: Config,
    strings: Strings,
}

/// Strings one behind the other, and their ends.
struct Column {
    ends: Vec<i32>,
    bytes: Vec<u8>,
}

impl Column {
    /// Of `rows` rows whose first `start` are empty; for strings of at most `longest` bytes on average.
    fn new(start: usize, run_rows: usize, rows: usize, longest: usize) -> Self {
        let mut ends: Vec<i32> = Vec::with_capacity(rows + 1);
        ends.resize(start + 1, 0);
        Self { ends, bytes: Vec::with_capacity(run_rows * longest + LONGEST_COPY) }
    }

    /// Appends the first `length` bytes of `word`.
    #[inline]
    fn push<const W: usize>(&mut self, word: &[u8; W], length: usize) -> i32 {
        self.bytes.extend_from_slice(word);
        self.bytes.truncate(self.bytes.len() - (W - length));
        self.bytes.len() as i32
    }

    fn finish(mut self, rows: usize) -> (OffsetBuffer<i32>, Buffer) {
        self.ends.resize(rows + 1, self.bytes.len() as i32);
        (OffsetBuffer::new(self.ends.into()), Buffer::from_vec(self.bytes))
    }
}

/// Room behind the last string for a copy of constant length.
const LONGEST_COPY: usize = 128;

impl Texts {
    pub(super) fn new(config: &Config) -> Self {
        Self { config: config.clone(), strings: Strings::new(config.seed) }
    }

    fn salt(&self, item: Item) -> u64 {
        salt(self.config.seed, item)
    }

    /// A column of `rows` strings; empty outside of its run.
    pub(super) fn column(&self, item: Item, run: &Run, rows: usize) -> (OffsetBuffer<i32>, Buffer) {
        match item {
            Item::BidChannel => self.of_table(&self.strings.channels, run, rows),
            // The url belongs to the channel: the same draw.
            Item::BidUrl => self.of_table(&self.strings.urls, run, rows),
            Item::BidExtra if extra_length(u64::MAX, BID_FIXED_SIZE, self.config.bid_size) <= EXTRA_BYTES => self.bid_extras(run, rows),
            _ => self.others(item, run, rows),
        }
    }

    fn of_table<const W: usize>(&self, table: &Table<W>, run: &Run, rows: usize) -> (OffsetBuffer<i32>, Buffer) {
        let mut column = Column::new(run.start, run.rows, rows, W);
        let salt = self.salt(Item::BidChannel);
        for part in &run.parts {
            for n in part.first..part.first + part.count {
                let (word, length) = table.get(Strings::channel(draw(salt, n)));
                let end = column.push(word, length);
                column.ends.push(end);
            }
        }
        column.finish(rows)
    }

    fn bid_extras(&self, run: &Run, rows: usize) -> (OffsetBuffer<i32>, Buffer) {
        let mut column = Column::new(run.start, run.rows, rows, EXTRA_BYTES);
        let salt = self.salt(Item::BidExtra);
        for part in &run.parts {
            for n in part.first..part.first + part.count {
                let r = draw(salt, n);
                let length = extra_length(r, BID_FIXED_SIZE, self.config.bid_size);
                let end = column.push::<EXTRA_BYTES>(self.strings.window(r), length);
                column.ends.push(end);
            }
        }
        column.finish(rows)
    }

    fn others(&self, item: Item, run: &Run, rows: usize) -> (OffsetBuffer<i32>, Buffer) {
        let mut column = Column::new(run.start, run.rows, rows, self.expected_length(item));
        let salt = self.salt(item);
        for part in &run.parts {
            for n in part.first..part.first + part.count {
                self.text(item, salt, n, &mut column.bytes);
                column.ends.push(column.bytes.len() as i32);
            }
        }
        column.finish(rows)
    }

    /// About the length of a string, for the first allocation.
    fn expected_length(&self, item: Item) -> usize {
        match item {
            Item::BidExtra => self.config.bid_size as usize,
            Item::AuctionExtra => self.config.auction_size as usize,
            Item::PersonExtra => self.config.person_size as usize,
            Item::AuctionDescription => 60,
            _ => 20,
        }
    }

    fn text(&self, item: Item, salt: u64, n: u64, out: &mut Vec<u8>) {
        let r = draw(salt, n);
        match item {
            Item::BidExtra => {
                let length = extra_length(r, BID_FIXED_SIZE, self.config.bid_size);
                out.extend_from_slice(self.strings.letters(r, length.min(LONGEST_SLICE)));
            }
            Item::AuctionName => out.extend_from_slice(self.strings.words(r, 20)),
            Item::AuctionDescription => out.extend_from_slice(self.strings.words(r, 100)),
            Item::AuctionExtra => {
                let name = self.strings.words(draw(self.salt(Item::AuctionName), n), 20).len();
                let description = self.strings.words(draw(self.salt(Item::AuctionDescription), n), 100).len();
                let length = extra_length(r, (AUCTION_FIXED_SIZE + name + description) as u64, self.config.auction_size);
                out.extend_from_slice(self.strings.letters(r, length.min(LONGEST_SLICE)));
            }
            Item::PersonExtra => {
                let items = [Item::PersonName, Item::PersonEmail, Item::PersonCard, Item::PersonCity, Item::PersonState];
                let before = out.len();
                items.iter().for_each(|item| self.text(*item, self.salt(*item), n, out));
                let current = PERSON_FIXED_SIZE + out.len() - before;
                out.truncate(before);
                let length = extra_length(r, current as u64, self.config.person_size);
                out.extend_from_slice(self.strings.letters(r, length.min(LONGEST_SLICE)));
            }
            Item::PersonName => {
                out.extend_from_slice(pick(&FIRST_NAMES, r));
                out.push(b' ');
                out.extend_from_slice(pick(&LAST_NAMES, r << 32));
            }
            Item::PersonEmail => {
                out.extend_from_slice(self.strings.words(r, 7));
                out.push(b'@');
                out.extend_from_slice(self.strings.words(r.rotate_right(24), 5));
                out.extend_from_slice(b".com");
            }
            Item::PersonCard => {
                for i in 0..4 {
                    if i > 0 {
                        out.push(b' ');
                    }
                    // Four digits from each 16 bits.
                    let number = (((r >> (16 * i)) & 0xffff) * 10_000) >> 16;
                    let digit = |unit: u64| b'0' + (number / unit % 10) as u8;
                    out.extend_from_slice(&[digit(1000), digit(100), digit(10), digit(1)]);
                }
            }
            Item::PersonCity => out.extend_from_slice(pick(&CITIES, r)),
            Item::PersonState => out.extend_from_slice(pick(&STATES, r)),
            _ => {}
        }
    }
}

fn pick<'a>(list: &[&'a str], r: u64) -> &'a [u8] {
    list[below(r, list.len() as u64) as usize].as_bytes()
}
