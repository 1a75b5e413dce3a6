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
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, FieldRef, Fields};
use rheos_dataflow::error::Result;

use super::config::{Config, EventType, event_of};
use super::numbers::Numbers;
use super::texts::Texts;
use crate::sequence::{Span, draw};

/// A field of an event; its number keeps its random numbers apart from the others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Item {
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
    numbers: Numbers,
    texts: Texts,
}

/// Events of one type in one group: numbers `first..first + count`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) group: u64,
    /// Number of the first event.
    pub(super) first: u64,
    /// Place of the first event among those of its type in the group.
    pub(super) index: u64,
    pub(super) count: u64,
}

/// The rows of one type in a batch.
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) rows: usize,
    pub(super) parts: Vec<Part>,
}

impl Generator {
    /// A generator of the columns that `config` asks for; the configuration was checked.
    pub(crate) fn new(config: &Config) -> Self {
        let columns = config.schema.fields().iter().map(column).collect();
        Self { config: config.clone(), columns, numbers: Numbers::new(config), texts: Texts::new(config) }
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
                let values = self.numbers.column(item, run, rows);
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
            | Item::BidPrice => Arc::new(Int64Array::try_new(self.numbers.column(item, run, rows), nulls)?),
            _ => {
                let (offsets, values) = self.texts.column(item, run, rows);
                Arc::new(StringArray::try_new(offsets, values, nulls)?)
            }
        })
    }
}

/// What keeps the random numbers of one field and seed apart from the others'.
pub(super) fn salt(seed: u64, item: Item) -> u64 {
    draw(0x9e37_79b9_7f4a_7c15 ^ seed, item as u64 + 1)
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
