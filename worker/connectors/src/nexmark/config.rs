//! [pure] Options and columns of a `nexmark` table.

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef, TimeUnit};
use rheos_dataflow::graph::SourceSpec;

use crate::options::{Options, Problems, did_you_mean};
use crate::sequence::Blocks;

/// Event time of the first event, unless told: 2015-07-15T00:00:00Z, ms.
const BASE_TIME: i64 = 1_436_918_400_000;
/// Splits, unless told: 1, 2, 3, 4, 6, 8, 12 or 24 workers share them evenly.
const SPLITS: i64 = 24;
/// Most splits.
const MAX_SPLITS: i64 = 4_096;
/// Largest proportion of an event type.
const MAX_PROPORTION: i64 = 10_000;
/// Largest average size of an event, bytes.
const MAX_AVERAGE_SIZE: u64 = 16 * 1024;

/// The options, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Number of events; `u64::MAX` without end.
    pub events: u64,
    /// Stay after the last event.
    pub keep_alive: bool,
    /// Event time between two events, microseconds.
    pub spacing_us: f64,
    /// Events for each second of wall time.
    pub rows_per_second: Option<f64>,
    /// Persons in a group.
    pub persons: u64,
    /// Auctions in a group.
    pub auctions: u64,
    /// Bids in a group.
    pub bids: u64,
    /// Average size of a person, bytes.
    pub person_size: u64,
    /// Average size of an auction, bytes.
    pub auction_size: u64,
    /// Average size of a bid, bytes.
    pub bid_size: u64,
    /// One bid in so many goes to an auction that is not hot.
    pub hot_auctions: u64,
    /// One bid in so many comes from a person who is not hot.
    pub hot_bidders: u64,
    /// One auction in so many comes from a person who is not hot.
    pub hot_sellers: u64,
    /// Event time of the first event, ms.
    pub base_time: i64,
    /// Chooses the events.
    pub seed: u64,
    /// Number of splits.
    pub splits: u64,
    /// The columns to make.
    pub schema: SchemaRef,
}

/// A type of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventType {
    /// A new person, `event_type` 0.
    Person,
    /// A new auction, `event_type` 1.
    Auction,
    /// A bid, `event_type` 2.
    Bid,
}

impl Config {
    /// Reads options and columns of a table.
    pub fn parse(spec: &SourceSpec) -> Result<Self, Problems> {
        let mut options = Options::new(&spec.table, &spec.options);
        check_columns(&mut options, &spec.declared);
        check_columns(&mut options, &spec.physical);
        let config = read(&mut options, spec);
        options.without_effect(&["rate.shape", "rate.period", "rate.limited"]);
        options.finish()?;
        Ok(config)
    }

    /// How events are dealt to splits: by groups.
    pub(crate) fn blocks(&self) -> Blocks {
        Blocks { rows: self.group_rows(), splits: self.splits }
    }

    /// Events of one round of the proportions.
    pub fn group_rows(&self) -> u64 {
        self.persons + self.auctions + self.bids
    }
}

fn read(options: &mut Options<'_>, spec: &SourceSpec) -> Config {
    let natural = 0..=i64::MAX;
    let events = options.integer("events.num", 0, natural.clone());
    let stop_at = options.integer("stop-at", -1, -1..=i64::MAX);
    let limits = [(events > 0).then_some(events), (stop_at >= 0).then_some(stop_at)];
    let events = limits.into_iter().flatten().min().map_or(u64::MAX, |n| n as u64);
    let next_rate = options.integer("next-event.rate", 10_000, 1..=1_000_000_000);
    let first_rate = options.integer("first-event.rate", next_rate, 1..=1_000_000_000);
    let paced = !options.boolean("max-emit-speed", true);
    let rows_per_second = options.integer("rows-per-second", 0, 1..=1_000_000_000);
    let proportion = |options: &mut Options<'_>, name, default| options.integer(name, default, 0..=MAX_PROPORTION) as u64;
    let persons = proportion(options, "person.proportion", 1);
    let auctions = proportion(options, "auction.proportion", 3);
    let bids = proportion(options, "bid.proportion", 46);
    if persons == 0 || auctions == 0 {
        // Auctions need a seller and bids an auction; ids are drawn from those that exist.
        options.problem("options 'person.proportion' and 'auction.proportion': expected at least 1 each");
    }
    let group_rows = (persons + auctions + bids).max(1);
    let splits = options.integer("splits", SPLITS, 1..=MAX_SPLITS) as u64;
    let size = |options: &mut Options<'_>, name: &str, default| {
        let bytes = options.bytes(name, default);
        if bytes > MAX_AVERAGE_SIZE {
            options.bad_value(name, format!("at most {} kb", MAX_AVERAGE_SIZE / 1024));
        }
        bytes.min(MAX_AVERAGE_SIZE)
    };
    let ratio = |options: &mut Options<'_>, name, default| options.integer(name, default, 1..=i64::from(i32::MAX)) as u64;
    Config {
        events,
        keep_alive: options.boolean("keep-alive", false),
        spacing_us: 1e6 / first_rate as f64,
        rows_per_second: (rows_per_second > 0).then_some(rows_per_second as f64).or(paced.then_some(first_rate as f64)),
        persons,
        auctions,
        bids,
        person_size: size(options, "person.avg-size", 200),
        auction_size: size(options, "auction.avg-size", 500),
        bid_size: size(options, "bid.avg-size", 100),
        hot_auctions: ratio(options, "bid.hot-ratio.auctions", 2),
        hot_bidders: ratio(options, "bid.hot-ratio.bidders", 4),
        hot_sellers: ratio(options, "auction.hot-ratio.sellers", 4),
        base_time: options.time("base-time", BASE_TIME),
        seed: options.integer("seed", 0, natural) as u64,
        splits: splits.min(events.div_ceil(group_rows)).max(1),
        schema: SchemaRef::clone(&spec.physical),
    }
}

/// Type of a field of `event`, by name; `None` when there is no such field.
fn field_type(event: EventType, name: &str) -> Option<DataType> {
    let timestamp = DataType::Timestamp(TimeUnit::Millisecond, None);
    let (numbers, times): (&[&str], &[&str]) = match event {
        EventType::Person => (&["id"], &["dateTime"]),
        EventType::Auction => (&["id", "initialBid", "reserve", "seller", "category"], &["dateTime", "expires"]),
        EventType::Bid => (&["auction", "bidder", "price"], &["dateTime"]),
    };
    if numbers.contains(&name) {
        return Some(DataType::Int64);
    }
    if times.contains(&name) {
        return Some(timestamp);
    }
    text_fields(event).contains(&name).then_some(DataType::Utf8)
}

fn text_fields(event: EventType) -> &'static [&'static str] {
    match event {
        EventType::Person => &["name", "emailAddress", "creditCard", "city", "state", "extra"],
        EventType::Auction => &["itemName", "description", "extra"],
        EventType::Bid => &["channel", "url", "extra"],
    }
}

/// The event type whose fields the column `name` holds.
pub(crate) fn event_of(name: &str) -> Option<EventType> {
    match name {
        "person" => Some(EventType::Person),
        "auction" => Some(EventType::Auction),
        "bid" => Some(EventType::Bid),
        _ => None,
    }
}

fn check_columns(options: &mut Options<'_>, schema: &SchemaRef) {
    for field in schema.fields() {
        if let Some(problem) = column_problem(field) {
            options.problem(problem);
        }
    }
}

fn column_problem(field: &Field) -> Option<String> {
    let name = field.name();
    if name == "event_type" {
        return (field.data_type() != &DataType::Int32).then(|| "column 'event_type' must be INT".to_owned());
    }
    let Some(event) = event_of(name) else {
        let names = ["event_type", "person", "auction", "bid"];
        let hint = did_you_mean(name, &names);
        return Some(format!("there is no column '{name}'{hint} A nexmark table has: {}", names.join(", ")));
    };
    let DataType::Struct(children) = field.data_type() else {
        return Some(format!("column '{name}' must be a ROW<…> of the fields of the event"));
    };
    children.iter().find_map(|child| child_problem(event, name, child))
}

fn child_problem(event: EventType, column: &str, child: &FieldRef) -> Option<String> {
    let name = child.name();
    let found = child.data_type();
    let expected = match field_type(event, name) {
        None => return Some(format!("column '{column}' has no field '{name}'")),
        Some(expected) if &expected == found => return None,
        Some(DataType::Int64) => "BIGINT",
        Some(DataType::Timestamp(..)) => "TIMESTAMP(3)",
        Some(_) => "VARCHAR",
    };
    Some(format!("field '{name}' of column '{column}' must be {expected}, found {found}"))
}
