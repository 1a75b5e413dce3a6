//! [pure] The numbers of Nexmark events: ids, prices, times. Formulas of the Nexmark suite's generator.

use arrow::buffer::ScalarBuffer;

use super::config::Config;
use super::generator::{Item, Part, Run, salt};
use super::strings::below;
use crate::sequence::draw;

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

/// Makes the columns of numbers.
#[derive(Debug)]
pub(super) struct Numbers {
    config: Config,
    prices: Prices,
}

impl Numbers {
    pub(super) fn new(config: &Config) -> Self {
        Self { config: config.clone(), prices: Prices::new() }
    }

    /// Event time of event `n`, ms.
    #[inline]
    fn time(&self, n: u64) -> i64 {
        self.config.base_time + (n as f64 * self.config.spacing_us) as i64 / 1000
    }

    /// A column of `rows` values; zero outside of its run.
    pub(super) fn column(&self, item: Item, run: &Run, rows: usize) -> ScalarBuffer<i64> {
        let mut out: Vec<i64> = Vec::with_capacity(rows);
        out.resize(run.start, 0);
        let salt = salt(self.config.seed, item);
        for part in &run.parts {
            self.part(item, salt, part, &mut out);
        }
        out.resize(rows, 0);
        out.into()
    }

    fn part(&self, item: Item, own: u64, part: &Part, out: &mut Vec<i64>) {
        let numbers = part.first..part.first + part.count;
        let ids = Ids::new(&self.config, part.group);
        let index = part.index as i64;
        match item {
            Item::PersonTime | Item::AuctionTime | Item::BidTime => out.extend(numbers.map(|n| self.time(n))),
            Item::PersonId => out.extend((0..part.count as i64).map(|i| ids.first_person + index + i + FIRST_ID)),
            Item::AuctionId => out.extend((0..part.count as i64).map(|i| ids.first_auction + index + i + FIRST_ID)),
            Item::AuctionInitialBid | Item::BidPrice => out.extend(numbers.map(|n| self.prices.get(draw(own, n)))),
            Item::AuctionReserve => {
                let initial = salt(self.config.seed, Item::AuctionInitialBid);
                out.extend(numbers.map(|n| self.prices.get(draw(initial, n)) + self.prices.get(draw(own, n))));
            }
            Item::AuctionExpires => out.extend(numbers.map(|n| self.expires(own, n))),
            Item::AuctionCategory => out.extend(numbers.map(|n| FIRST_CATEGORY + below(draw(own, n), CATEGORIES) as i64)),
            Item::AuctionSeller => out.extend(numbers.map(|n| ids.person(draw(own, n), self.config.hot_sellers, 0))),
            Item::BidBidder => out.extend(numbers.map(|n| ids.person(draw(own, n), self.config.hot_bidders, 1))),
            Item::BidAuction => out.extend(numbers.map(|n| ids.auction(draw(own, n), self.config.hot_auctions))),
            _ => {}
        }
    }

    /// An auction lasts, on average, until as many others were opened as are in flight.
    fn expires(&self, own: u64, n: u64) -> i64 {
        let time = self.time(n);
        let events = AUCTIONS_IN_FLIGHT as u64 * self.config.group_rows() / self.config.auctions;
        let horizon = self.time(n + events) - time;
        // Years, at the lowest rates: more than 32 bits of milliseconds.
        time + 1 + ((u128::from(draw(own, n)) * (horizon * 2).max(1) as u128) >> 64) as i64
    }
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
