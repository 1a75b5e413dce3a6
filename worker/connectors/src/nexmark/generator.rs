//! [pure] Makes Nexmark events column by column.
//!
//! Distributions follow the generator of the Nexmark suite for Apache Flink (its formulas for ids, hot keys, prices,
//! lengths), but each value is drawn by hashing (seed, field, event number): a field that is not asked for costs
//! nothing, none changes another, and any event can be made alone. The hash is one step of `wyrand` (Wang Yi).
//!
//! Rows of a batch stand in runs by type: bids, auctions, persons. Within a run the fields of the other types are
//! null throughout, so validity is a few runs of bits, and a filter on the type keeps one run. Event time is not
//! sorted within a batch, but nothing is late by it: a watermark is the maximum over *whole* batches, and each batch
//! of a split begins, in event time, where the one before ended.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBufferBuilder, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    TimestampMillisecondArray,
};

use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields};
use rheos_dataflow::error::Result;

use super::config::{Config, EventType, event_of};
use crate::sequence::{Span, draw};
use super::strings::{CITIES, FIRST_NAMES, LAST_NAMES, LONGEST_SLICE, STATES, Strings, below, extra_length};

/// Ids of auctions and persons begin here.
const FIRST_ID: i64 = 1_000;
/// Categories begin here.
const FIRST_CATEGORY: i64 = 10;
/// Number of categories.
const CATEGORIES: u64 = 5;
/// Auctions that a bid which is not hot is drawn from.
const AUCTIONS_IN_FLIGHT: i64 = 100;
/// Persons that a bidder or seller who is not hot is drawn from.
const ACTIVE_PERSONS: i64 = 1_000;
/// Ids drawn may be so many ahead of those that exist.
const ID_LEAD: i64 = 10;
/// One id in so many is hot.
const HOT_EVERY: i64 = 100;

/// A field of an event; its number keeps its random numbers apart from the others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum Item {
    PersonId,
    PersonName,
    PersonEmail,
    PersonCard,
    PersonCity,
    PersonState,
    PersonTime,
    PersonExtra,
    AuctionId,
    AuctionName,
    AuctionDescription,
    AuctionInitialBid,
    AuctionReserve,
    AuctionTime,
    AuctionExpires,
    AuctionSeller,
    AuctionCategory,
    AuctionExtra,
    BidAuction,
    BidBidder,
    BidPrice,
    BidChannel,
    BidUrl,
    BidTime,
    BidExtra,
}

/// A column of the physical schema.
#[derive(Debug)]
enum Column {
    EventType,
    Event { event: EventType, fields: Fields, items: Vec<Item> },
}

/// Makes the events of one table.
#[derive(Debug)]
pub(crate) struct Generator {
    config: Config,
    columns: Vec<Column>,
    strings: Strings,
    prices: Prices,
}

/// Events of one type in one group: numbers `first..first + count`.
#[derive(Debug, Clone, Copy)]
struct Part {
    group: u64,
    /// Number of the first event.
    first: u64,
    /// Place of the first event among those of its type in the group.
    index: u64,
    count: u64,
}

/// The rows of one type in a batch.
struct Run {
    start: usize,
    rows: usize,
    parts: Vec<Part>,
}

impl Generator {
    /// A generator of the columns that `config` asks for; the configuration was checked.
    pub(crate) fn new(config: &Config) -> Self {
        let columns = config.schema.fields().iter().map(|field| column(field)).collect();
        Self { config: config.clone(), columns, strings: Strings::new(config.seed), prices: Prices::new() }
    }

    /// The events of `spans`.
    ///
    /// # Errors
    /// A schema that was not checked.
    pub(crate) fn batch(&self, spans: &[Span]) -> Result<RecordBatch> {
        let (persons, auctions, bids) = (self.config.persons, self.config.auctions, self.config.bids);
        let mut start = 0;
        let mut run = |from: u64, to: u64| {
            let run = self.run(spans, from, to, start);
            start += run.rows;
            run
        };
        let bid_run = run(persons + auctions, persons + auctions + bids);
        let auction_run = run(persons, persons + auctions);
        let person_run = run(0, persons);
        let rows = start;
        let mut arrays = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            arrays.push(match column {
                Column::EventType => event_types(&bid_run, &auction_run, &person_run),
                Column::Event { event, fields, items } => {
                    let run = match event {
                        EventType::Person => &person_run,
                        EventType::Auction => &auction_run,
                        EventType::Bid => &bid_run,
                    };
                    self.event(fields, items, run, rows)?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.config.schema), arrays, &options)?)
    }

    /// The events of `spans` whose position in their group is in `from..to`.
    fn run(&self, spans: &[Span], from: u64, to: u64, start: usize) -> Run {
        let group_rows = self.config.group_rows();
        let parts = spans.iter().filter_map(|span| {
            let (low, high) = (from.max(u64::from(span.from)), to.min(u64::from(span.to)));
            (low < high).then(|| Part { group: span.block, first: span.block * group_rows + low, index: low - from, count: high - low })
        });
        let parts: Vec<Part> = parts.collect();
        let rows = parts.iter().map(|part| part.count as usize).sum();
        Run { start, rows, parts }
    }

    fn event(&self, fields: &Fields, items: &[Item], run: &Run, rows: usize) -> Result<ArrayRef> {
        let nulls = validity(run, rows);
        let mut children: Vec<ArrayRef> = Vec::with_capacity(items.len());
        for (item, field) in items.iter().zip(fields) {
            let nulls = if field.is_nullable() { nulls.clone() } else { None };
            children.push(self.child(*item, run, rows, nulls)?);
        }
        if children.is_empty() {
            return Ok(Arc::new(StructArray::new_empty_fields(rows, nulls)));
        }
        Ok(Arc::new(StructArray::try_new(fields.clone(), children, nulls)?))
    }

    fn child(&self, item: Item, run: &Run, rows: usize, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        Ok(match item {
            Item::PersonTime | Item::AuctionTime | Item::BidTime | Item::AuctionExpires => {
                let values = self.numbers(item, run, rows);
                Arc::new(TimestampMillisecondArray::try_new(values, nulls)?)
            }
            Item::PersonId
            | Item::AuctionId
            | Item::AuctionInitialBid
            | Item::AuctionReserve
            | Item::AuctionSeller
            | Item::AuctionCategory
            | Item::BidAuction
            | Item::BidBidder
            | Item::BidPrice => Arc::new(Int64Array::try_new(self.numbers(item, run, rows), nulls)?),
            _ => {
                let (offsets, values) = self.texts(item, run, rows);
                Arc::new(StringArray::try_new(offsets, values, nulls)?)
            }
        })
    }

    fn salt(&self, item: Item) -> u64 {
        draw(0x9e37_79b9_7f4a_7c15 ^ self.config.seed, item as u64 + 1)
    }

    /// Event time of event `n`, ms.
    #[inline]
    fn time(&self, n: u64) -> i64 {
        self.config.base_time + (n as f64 * self.config.spacing_us) as i64 / 1000
    }

    fn numbers(&self, item: Item, run: &Run, rows: usize) -> ScalarBuffer<i64> {
        let mut out: Vec<i64> = Vec::with_capacity(rows);
        out.resize(run.start, 0);
        let salt = self.salt(item);
        for part in &run.parts {
            self.part_numbers(item, salt, part, &mut out);
        }
        out.resize(rows, 0);
        out.into()
    }

    fn part_numbers(&self, item: Item, salt: u64, part: &Part, out: &mut Vec<i64>) {
        let numbers = part.first..part.first + part.count;
        let ids = Ids::new(&self.config, part.group);
        let index = part.index as i64;
        match item {
            Item::PersonTime | Item::AuctionTime | Item::BidTime => out.extend(numbers.map(|n| self.time(n))),
            Item::PersonId => out.extend((0..part.count as i64).map(|i| ids.first_person + index + i + FIRST_ID)),
            Item::AuctionId => out.extend((0..part.count as i64).map(|i| ids.first_auction + index + i + FIRST_ID)),
            Item::AuctionInitialBid | Item::BidPrice => out.extend(numbers.map(|n| self.prices.get(draw(salt, n)))),
            Item::AuctionReserve => {
                let initial = self.salt(Item::AuctionInitialBid);
                out.extend(numbers.map(|n| self.prices.get(draw(initial, n)) + self.prices.get(draw(salt, n))));
            }
            Item::AuctionExpires => out.extend(numbers.map(|n| self.expires(salt, n))),
            Item::AuctionCategory => out.extend(numbers.map(|n| FIRST_CATEGORY + below(draw(salt, n), CATEGORIES) as i64)),
            Item::AuctionSeller => out.extend(numbers.map(|n| ids.person(draw(salt, n), self.config.hot_sellers, 0))),
            Item::BidBidder => out.extend(numbers.map(|n| ids.person(draw(salt, n), self.config.hot_bidders, 1))),
            Item::BidAuction => out.extend(numbers.map(|n| ids.auction(draw(salt, n), self.config.hot_auctions))),
            _ => {}
        }
    }

    /// An auction lasts, on average, until as many others were opened as are in flight.
    fn expires(&self, salt: u64, n: u64) -> i64 {
        let time = self.time(n);
        let events = AUCTIONS_IN_FLIGHT as u64 * self.config.group_rows() / self.config.auctions;
        let horizon = self.time(n + events) - time;
        time + 1 + below(draw(salt, n), (horizon * 2).max(1) as u64) as i64
    }

    fn texts(&self, item: Item, run: &Run, rows: usize) -> (OffsetBuffer<i32>, Buffer) {
        let mut offsets: Vec<i32> = Vec::with_capacity(rows + 1);
        offsets.resize(run.start + 1, 0);
        let mut values: Vec<u8> = Vec::with_capacity(run.rows * self.expected_length(item));
        let salt = self.salt(item);
        for part in &run.parts {
            for n in part.first..part.first + part.count {
                self.text(item, salt, n, &mut values);
                offsets.push(values.len() as i32);
            }
        }
        offsets.resize(rows + 1, values.len() as i32);
        (OffsetBuffer::new(offsets.into()), Buffer::from_vec(values))
    }

    /// About the length of a string, for the first allocation.
    fn expected_length(&self, item: Item) -> usize {
        match item {
            Item::BidExtra => self.config.bid_size as usize,
            Item::AuctionExtra => self.config.auction_size as usize,
            Item::PersonExtra => self.config.person_size as usize,
            Item::BidUrl | Item::AuctionDescription => 72,
            _ => 20,
        }
    }

    #[inline]
    fn text(&self, item: Item, salt: u64, n: u64, out: &mut Vec<u8>) {
        let r = draw(salt, n);
        match item {
            Item::BidExtra => {
                let length = extra_length(r, 32, self.config.bid_size);
                out.extend_from_slice(self.strings.letters(r, length));
            }
            Item::BidChannel => {
                let (entry, length) = self.strings.channels.get(Strings::channel(r));
                out.extend_from_slice(&entry[..length]);
            }
            Item::BidUrl => {
                // The url belongs to the channel: the same draw.
                let r = draw(self.salt(Item::BidChannel), n);
                let (entry, length) = self.strings.urls.get(Strings::channel(r));
                out.extend_from_slice(&entry[..length]);
            }
            Item::AuctionName => out.extend_from_slice(self.strings.words(r, 20)),
            Item::AuctionDescription => out.extend_from_slice(self.strings.words(r, 100)),
            Item::AuctionExtra => {
                let name = self.strings.words(draw(self.salt(Item::AuctionName), n), 20).len();
                let description = self.strings.words(draw(self.salt(Item::AuctionDescription), n), 100).len();
                let length = extra_length(r, (48 + name + description) as u64, self.config.auction_size);
                out.extend_from_slice(self.strings.letters(r, length.min(LONGEST_SLICE)));
            }
            Item::PersonExtra => {
                let items = [Item::PersonName, Item::PersonEmail, Item::PersonCard, Item::PersonCity, Item::PersonState];
                let before = out.len();
                items.iter().for_each(|item| self.text(*item, self.salt(*item), n, out));
                let current = 8 + out.len() - before;
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

/// What ids are drawn from, as of one group.
struct Ids {
    first_person: i64,
    first_auction: i64,
    last_person: i64,
    last_auction: i64,
}

impl Ids {
    fn new(config: &Config, group: u64) -> Self {
        let first_person = (group * config.persons) as i64;
        let first_auction = (group * config.auctions) as i64;
        let (last_person, last_auction) = (first_person + config.persons as i64 - 1, first_auction + config.auctions as i64 - 1);
        Self { first_person, first_auction, last_person, last_auction }
    }

    /// The auction of a bid.
    #[inline]
    fn auction(&self, r: u64, ratio: u64) -> i64 {
        let hot = self.last_auction / HOT_EVERY * HOT_EVERY;
        let oldest = (self.last_auction - AUCTIONS_IN_FLIGHT).max(0);
        let span = (self.last_auction - oldest + 1 + ID_LEAD) as u64;
        let other = oldest + (((r & 0xffff_ffff) * span) >> 32) as i64;
        FIRST_ID + if below(r, ratio) > 0 { hot } else { other }
    }

    /// The bidder of a bid (hot ones: place 1 of each hundred) or the seller of an auction (place 0).
    #[inline]
    fn person(&self, r: u64, ratio: u64, place: i64) -> i64 {
        let hot = self.last_person / HOT_EVERY * HOT_EVERY + place;
        let active = (self.last_person + 1).min(ACTIVE_PERSONS);
        let span = (active + ID_LEAD) as u64;
        let other = self.last_person + 1 - active + (((r & 0xffff_ffff) * span) >> 32) as i64;
        FIRST_ID + if below(r, ratio) > 0 { hot } else { other }
    }
}

/// Prices: `round(100 * 10^(6u))` for `u` even in `[0, 1)`, by a table over the high bits of `u` and a series over the
/// low ones. Only additions and multiplications, which every machine rounds alike: replicas stay equal.
#[derive(Debug)]
struct Prices {
    steps: Vec<f64>,
}

impl Prices {
    const STEPS: usize = 256;
    /// 10^(6 / 256).
    const STEP: f64 = 1.055_449_600_878_603;
    /// ln(10) * 6 / 256.
    const LN_STEP: f64 = 0.053_966_938_117_047_95;

    fn new() -> Self {
        let mut price = 100.0;
        let mut step = || {
            let this = price;
            price *= Self::STEP;
            this
        };
        Self { steps: (0..Self::STEPS).map(|_| step()).collect() }
    }

    #[inline]
    fn get(&self, r: u64) -> i64 {
        let step = self.steps[(r >> 56) as usize & (Self::STEPS - 1)];
        // 32 further bits of u, as a part of one step.
        let x = ((r >> 24) & 0xffff_ffff) as f64 * (Self::LN_STEP / 4_294_967_296.0);
        let power = 1.0 + x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0))));
        (step * power + 0.5) as i64
    }
}

fn event_types(bids: &Run, auctions: &Run, persons: &Run) -> ArrayRef {
    let mut types: Vec<i32> = Vec::with_capacity(bids.rows + auctions.rows + persons.rows);
    for (run, event_type) in [(bids, 2), (auctions, 1), (persons, 0)] {
        types.resize(types.len() + run.rows, event_type);
    }
    Arc::new(Int32Array::from(types))
}

fn validity(run: &Run, rows: usize) -> Option<NullBuffer> {
    if run.rows == rows {
        return None;
    }
    let mut bits = BooleanBufferBuilder::new(rows);
    bits.append_n(run.start, false);
    bits.append_n(run.rows, true);
    bits.append_n(rows - run.start - run.rows, false);
    Some(NullBuffer::new(bits.finish()))
}

fn column(field: &FieldRef) -> Column {
    match (event_of(field.name()), field.data_type()) {
        (Some(event), DataType::Struct(fields)) => {
            let items = fields.iter().filter_map(|field| item(event, field.name())).collect();
            Column::Event { event, fields: fields.clone(), items }
        }
        _ => Column::EventType,
    }
}

fn item(event: EventType, name: &str) -> Option<Item> {
    Some(match (event, name) {
        (EventType::Person, "id") => Item::PersonId,
        (EventType::Person, "name") => Item::PersonName,
        (EventType::Person, "emailAddress") => Item::PersonEmail,
        (EventType::Person, "creditCard") => Item::PersonCard,
        (EventType::Person, "city") => Item::PersonCity,
        (EventType::Person, "state") => Item::PersonState,
        (EventType::Person, "dateTime") => Item::PersonTime,
        (EventType::Person, "extra") => Item::PersonExtra,
        (EventType::Auction, "id") => Item::AuctionId,
        (EventType::Auction, "itemName") => Item::AuctionName,
        (EventType::Auction, "description") => Item::AuctionDescription,
        (EventType::Auction, "initialBid") => Item::AuctionInitialBid,
        (EventType::Auction, "reserve") => Item::AuctionReserve,
        (EventType::Auction, "dateTime") => Item::AuctionTime,
        (EventType::Auction, "expires") => Item::AuctionExpires,
        (EventType::Auction, "seller") => Item::AuctionSeller,
        (EventType::Auction, "category") => Item::AuctionCategory,
        (EventType::Auction, "extra") => Item::AuctionExtra,
        (EventType::Bid, "auction") => Item::BidAuction,
        (EventType::Bid, "bidder") => Item::BidBidder,
        (EventType::Bid, "price") => Item::BidPrice,
        (EventType::Bid, "channel") => Item::BidChannel,
        (EventType::Bid, "url") => Item::BidUrl,
        (EventType::Bid, "dateTime") => Item::BidTime,
        (EventType::Bid, "extra") => Item::BidExtra,
        _ => return None,
    })
}
