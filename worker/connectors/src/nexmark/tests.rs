//! [io] The generator against its promises and against the reference generator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::Event;
use rheos_dataflow::source::Source;

use super::{Config, NexmarkSource};
use crate::testing::{Opened, assert_replays, environment, read_all, source_spec, texts};

const PERSON: [&str; 8] = ["id", "name", "emailAddress", "creditCard", "city", "state", "dateTime", "extra"];
const AUCTION: [&str; 10] =
    ["id", "itemName", "description", "initialBid", "reserve", "dateTime", "expires", "seller", "category", "extra"];
const BID: [&str; 7] = ["auction", "bidder", "price", "channel", "url", "dateTime", "extra"];

fn event(name: &str, fields: &[&str]) -> Field {
    let kind = |name: &str| match name {
        "dateTime" | "expires" => DataType::Timestamp(TimeUnit::Millisecond, None),
        "id" | "initialBid" | "reserve" | "seller" | "category" | "auction" | "bidder" | "price" => DataType::Int64,
        _ => DataType::Utf8,
    };
    let fields: Fields = fields.iter().map(|name| Field::new(*name, kind(name), true)).collect();
    Field::new(name, DataType::Struct(fields), true)
}

fn whole() -> SchemaRef {
    let event_type = Field::new("event_type", DataType::Int32, true);
    Arc::new(Schema::new(vec![event_type, event("person", &PERSON), event("auction", &AUCTION), event("bid", &BID)]))
}

fn source(options: &[(&str, &str)], physical: &SchemaRef) -> NexmarkSource {
    let given: Vec<_> = [("connector", "nexmark")].into_iter().chain(options.iter().copied()).collect();
    let config = Config::parse(&source_spec(&given, &whole(), physical)).unwrap();
    NexmarkSource::new(config, &environment(std::path::Path::new(".")))
}

fn batches(source: &NexmarkSource, rows: usize) -> Vec<RecordBatch> {
    let mut all = Vec::new();
    for split in source.discover().unwrap() {
        let mut opened = Opened::new(source, &split, None).unwrap();
        while let Some(batch) = opened.next(rows).unwrap() {
            all.push(batch);
        }
    }
    all
}

#[test]
fn reading_on_from_any_offset_gives_the_rows_that_follow() {
    for (events, splits) in [("1000", "3"), ("777", "2"), ("49", "24"), ("1", "1")] {
        assert_replays(&source(&[("events.num", events), ("splits", splits)], &whole()), 90, 64);
    }
}

#[test]
fn splits_hold_each_event_once_whatever_their_number() {
    let rows = |splits| {
        let mut rows = read_all(&source(&[("events.num", "3333"), ("splits", splits)], &whole()), 500).unwrap();
        rows.sort();
        rows
    };
    let one = rows("1");
    assert_eq!(one.len(), 3333);
    assert_eq!(one.iter().collect::<BTreeSet<_>>().len(), 3333, "events are told apart");
    assert_eq!(rows("7"), one);
    assert_eq!(rows("24"), one);
}

#[test]
fn few_events_make_few_splits() {
    assert_eq!(source(&[("events.num", "100")], &whole()).discover().unwrap().len(), 2);
    assert_eq!(source(&[("events.num", "0")], &whole()).discover().unwrap().len(), 24);
    assert_eq!(source(&[("stop-at", "0")], &whole()).discover().unwrap().len(), 1);
    assert_eq!(read_all(&source(&[("stop-at", "0")], &whole()), 10).unwrap().len(), 0);
}

#[test]
fn a_pruned_column_is_the_same_as_in_the_whole_event() {
    let all = batches(&source(&[("events.num", "5000"), ("splits", "1")], &whole()), 5000);
    for (column, fields) in [("person", &PERSON[..]), ("auction", &AUCTION[..]), ("bid", &BID[..])] {
        for field in fields {
            let physical = Arc::new(Schema::new(vec![event(column, &[field])]));
            let pruned = batches(&source(&[("events.num", "5000"), ("splits", "1")], &physical), 5000);
            assert_eq!(pruned[0].schema(), physical);
            let left = pruned[0].column(0).as_struct();
            let right = all[0].column_by_name(column).unwrap().as_struct();
            assert_eq!(left.column(0), right.column_by_name(field).unwrap(), "{column}.{field}");
            assert_eq!(left.nulls(), right.nulls());
        }
    }
}

#[test]
fn rows_without_columns_are_counted() {
    let none = Arc::new(Schema::empty());
    let rows: usize = batches(&source(&[("events.num", "777")], &none), 100).iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 777);
}

#[test]
fn event_time_moves_forward_from_batch_to_batch() {
    // A watermark is the maximum over whole batches: no later batch of the split may hold an earlier event.
    let source = source(&[("events.num", "100000"), ("first-event.rate", "1000")], &whole());
    for split in source.discover().unwrap() {
        let mut opened = Opened::new(&source, &split, None).unwrap();
        let mut newest = i64::MIN;
        while let Some(batch) = opened.next(1000).unwrap() {
            let mut times: Vec<i64> = Vec::new();
            for column in ["person", "auction", "bid"] {
                let times_of = batch.column_by_name(column).unwrap().as_struct().column_by_name("dateTime").unwrap();
                times.extend(times_of.as_primitive::<TimestampMillisecondType>().iter().flatten());
            }
            assert_eq!(times.len(), batch.num_rows());
            assert!(times.iter().min().unwrap() >= &newest);
            newest = *times.iter().max().unwrap();
        }
    }
}

#[test]
fn a_checkpoint_of_another_table_is_refused() {
    let source = source(&[("events.num", "10000"), ("splits", "4")], &whole());
    let offset = serde_json::json!(50);
    assert!(Opened::new(&source, &"1".to_owned(), Some(&offset)).is_ok());
    for (split, offset) in [("0", offset.clone()), ("4", offset.clone()), ("x", offset), ("1", serde_json::json!("a"))] {
        let error = Opened::new(&source, &split.to_owned(), Some(&offset)).err().unwrap();
        assert_eq!(error.kind, rheos_dataflow::error::ErrorKind::State, "{error}");
    }
}

#[allow(clippy::type_complexity, reason = "a table of cases")]
#[test]
fn wrong_tables_are_refused_by_name() {
    let cases: [(&[(&str, &str)], SchemaRef, &str); 6] = [
        (&[("events.nun", "5")], whole(), "unknown option 'events.nun'; did you mean 'events.num'?"),
        (&[("first-event.rate", "0")], whole(), "option 'first-event.rate' = '0': expected a whole number from 1 to"),
        (&[("person.proportion", "0")], whole(), "at least 1 each"),
        (&[("bid.avg-size", "1gb")], whole(), "option 'bid.avg-size' = '1gb': expected at most 16 kb"),
        (&[], Arc::new(Schema::new(vec![event("bids", &BID)])), "there is no column 'bids'; did you mean 'bid'?"),
        (&[], Arc::new(Schema::new(vec![event("bid", &["price", "cent"])])), "column 'bid' has no field 'cent'"),
    ];
    for (options, schema, expected) in cases {
        let given: Vec<_> = [("connector", "nexmark")].into_iter().chain(options.iter().copied()).collect();
        let problems = Config::parse(&source_spec(&given, &schema, &schema)).unwrap_err();
        assert!(problems[0].message.contains(expected), "{}", problems[0]);
    }
}

#[test]
fn a_paced_reader_waits_and_is_woken() {
    let source = source(&[("events.num", "120"), ("splits", "1"), ("rows-per-second", "1000")], &whole());
    let started = std::time::Instant::now();
    assert_eq!(read_all(&source, 8192).unwrap().len(), 120);
    assert!(started.elapsed() >= std::time::Duration::from_millis(119), "{:?}", started.elapsed());
}

/// Mean, and the value at some quantiles.
#[derive(Debug)]
struct Shape {
    mean: f64,
    quantiles: [f64; 3],
}

fn shape(values: &[f64]) -> Shape {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let quantile = |q: f64| sorted[(q * (sorted.len() - 1) as f64) as usize];
    Shape { mean: values.iter().sum::<f64>() / values.len() as f64, quantiles: [quantile(0.15), quantile(0.55), quantile(0.85)] }
}

/// The differences, if there are any.
fn unlike(what: &str, ours: &[f64], reference: &[f64], tolerance: f64) -> Option<String> {
    let (left, right) = (shape(ours), shape(reference));
    // In parts of the spread: figures are of all sizes.
    let alike = |a: f64, b: f64| (a - b).abs() <= tolerance * (b.abs() + right.quantiles[2] - right.quantiles[0]);
    // Of whole numbers a quantile may fall on either side of a step.
    let step = if reference.iter().all(|figure| figure.fract() == 0.0) { 1.0 } else { 0.0 };
    let quantiles = left.quantiles.iter().zip(right.quantiles).all(|(a, b)| alike(*a, b) || (a - b).abs() <= step);
    (!(alike(left.mean, right.mean) && quantiles)).then(|| format!("{what}: ours {left:?}, reference {right:?}"))
}

/// Figures of events by name; ids relative to the newest of their time, so that they can be compared.
#[derive(Default)]
struct Figures(BTreeMap<&'static str, Vec<f64>>);

impl Figures {
    fn add(&mut self, name: &'static str, value: f64) {
        self.0.entry(name).or_default().push(value);
    }
}

fn reference(events: usize) -> Figures {
    let mut figures = Figures::default();
    // The reference spaces events by 100 microseconds, too.
    let config = NexmarkConfig { base_time: 1_436_918_400_000, ..NexmarkConfig::default() };
    let (mut auctions, mut persons) = (999_i64, 999_i64);
    for event in EventGenerator::new(config).take(events) {
        match event {
            Event::Person(person) => {
                persons = person.id as i64;
                figures.add("person name", person.name.len() as f64);
                figures.add("person card", person.credit_card.len() as f64);
                figures.add("person city", person.city.len() as f64);
                let size = 8 + person.name.len() + person.email_address.len() + person.credit_card.len() + person.city.len() + 2;
                figures.add("person size", (size + person.extra.len()) as f64);
            }
            Event::Auction(auction) => {
                auctions = auction.id as i64;
                figures.add("auction price", (auction.initial_bid as f64).log10());
                figures.add("auction category", auction.category as f64);
                figures.add("auction seller", (persons - auction.seller as i64) as f64);
                figures.add("auction length", (auction.expires as i64 - auction.date_time as i64) as f64);
                let size = 48 + auction.item_name.len() + auction.description.len() + auction.extra.len();
                figures.add("auction size", size as f64);
            }
            Event::Bid(bid) => {
                figures.add("bid auction", (auctions - bid.auction as i64) as f64);
                figures.add("bid bidder", (persons - bid.bidder as i64) as f64);
                figures.add("bid price", (bid.price as f64).log10());
                figures.add("bid channel", bid.channel.len() as f64);
                figures.add("bid url", bid.url.len() as f64);
                figures.add("bid extra", bid.extra.len() as f64);
            }
        }
    }
    figures
}

fn ours(events: usize) -> Figures {
    let mut figures = Figures::default();
    let options = [("events.num", events.to_string()), ("splits", "1".to_owned())];
    let options: Vec<_> = options.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for batch in batches(&source(&options, &whole()), 50) {
        // One group: its newest ids are those of its own auctions and person.
        let column = |event: &str, field: &str| Arc::clone(batch.column_by_name(event).unwrap().as_struct().column_by_name(field).unwrap());
        let numbers =
            |event: &str, field: &str| -> Vec<i64> { column(event, field).as_primitive::<Int64Type>().iter().flatten().collect() };
        let lengths = |event: &str, field: &str| -> Vec<usize> {
            let strings = column(event, field);
            strings.as_string::<i32>().iter().flatten().map(str::len).collect()
        };
        let (persons, auctions) = (numbers("person", "id")[0], *numbers("auction", "id").last().unwrap());
        for (name, event, field) in [
            ("person name", "person", "name"),
            ("person card", "person", "creditCard"),
            ("person city", "person", "city"),
            ("bid channel", "bid", "channel"),
            ("bid url", "bid", "url"),
            ("bid extra", "bid", "extra"),
        ] {
            lengths(event, field).iter().for_each(|length| figures.add(name, *length as f64));
        }
        let sum = |event: &str, fields: &[&str], fixed: usize| -> Vec<f64> {
            let lengths: Vec<Vec<usize>> = fields.iter().map(|field| lengths(event, field)).collect();
            (0..lengths[0].len()).map(|row| (fixed + lengths.iter().map(|column| column[row]).sum::<usize>()) as f64).collect()
        };
        let person = sum("person", &["name", "emailAddress", "creditCard", "city", "state", "extra"], 8);
        person.iter().for_each(|size| figures.add("person size", *size));
        let auction = sum("auction", &["itemName", "description", "extra"], 48);
        auction.iter().for_each(|size| figures.add("auction size", *size));
        numbers("auction", "initialBid").iter().for_each(|price| figures.add("auction price", (*price as f64).log10()));
        numbers("auction", "category").iter().for_each(|category| figures.add("auction category", *category as f64));
        numbers("auction", "seller").iter().for_each(|seller| figures.add("auction seller", (persons - seller) as f64));
        numbers("bid", "auction").iter().for_each(|auction| figures.add("bid auction", (auctions - auction) as f64));
        numbers("bid", "bidder").iter().for_each(|bidder| figures.add("bid bidder", (persons - bidder) as f64));
        numbers("bid", "price").iter().for_each(|price| figures.add("bid price", (*price as f64).log10()));
        let time =
            |field: &str| -> Vec<i64> { column("auction", field).as_primitive::<TimestampMillisecondType>().iter().flatten().collect() };
        time("expires").iter().zip(time("dateTime")).for_each(|(end, begin)| figures.add("auction length", (end - begin) as f64));
    }
    figures
}

#[test]
fn statistics_are_those_of_the_reference_generator() {
    let (ours, reference) = (ours(200_000), reference(200_000));
    assert_eq!(ours.0.keys().collect::<Vec<_>>(), reference.0.keys().collect::<Vec<_>>());
    let mut differences = Vec::new();
    for (name, values) in &ours.0 {
        let expected = &reference.0[name];
        assert_eq!(values.len(), expected.len(), "{name}: the proportions of the types");
        differences.extend(unlike(name, values, expected, 0.05));
    }
    assert_eq!(differences, [""; 0], "{differences:#?}");
}

/// The reference makes these as long as they may be; Flink's generator draws a length from 3 on, and trims.
#[test]
fn names_have_the_lengths_of_flinks_generator() {
    let physical = Arc::new(Schema::new(vec![event("auction", &["itemName", "description"]), event("person", &["emailAddress"])]));
    let batch = &batches(&source(&[("events.num", "100000"), ("splits", "1")], &physical), 100_000)[0];
    let lengths = |column: usize, field: usize| -> Vec<f64> {
        let strings = Arc::clone(batch.column(column).as_struct().column(field));
        strings.as_string::<i32>().iter().flatten().map(|text| text.len() as f64).collect()
    };
    for (values, longest, mean) in [(lengths(0, 0), 19.0, 11.0), (lengths(0, 1), 99.0, 51.0), (lengths(1, 0), 15.0, 13.0)] {
        let found = shape(&values);
        assert!(values.iter().all(|length| *length <= longest), "{found:?}");
        // Trimming takes less than a quarter of a letter.
        assert!((mean - 0.9..mean + 0.6).contains(&found.mean), "{found:?}");
    }
}

#[test]
fn prices_reach_over_six_decades() {
    let physical = Arc::new(Schema::new(vec![event("bid", &["price"])]));
    let prices: Vec<i64> = batches(&source(&[("events.num", "100000")], &physical), 8192)
        .iter()
        .flat_map(|batch| batch.column(0).as_struct().column(0).as_primitive::<Int64Type>().iter().flatten().collect::<Vec<_>>())
        .collect();
    assert!(prices.iter().all(|price| (100..=100_000_000).contains(price)));
    assert!(prices.iter().min().unwrap() < &110 && prices.iter().max().unwrap() > &90_000_000);
}

#[test]
fn types_stand_in_runs_and_fill_only_their_own_column() {
    let batch = &batches(&source(&[("events.num", "500"), ("splits", "1")], &whole()), 500)[0];
    let types: Vec<i32> = batch.column(0).as_primitive::<Int32Type>().values().to_vec();
    let expected: Vec<i32> = [vec![2; 460], vec![1; 30], vec![0; 10]].concat();
    assert_eq!(types, expected);
    for (column, event_type) in [("person", 0), ("auction", 1), ("bid", 2)] {
        let column = batch.column_by_name(column).unwrap();
        for (row, found) in types.iter().enumerate() {
            assert_eq!(column.is_valid(row), *found == event_type);
        }
    }
}

/// The events of seed 0 are part of what a checkpoint means: these change only with the version of the generator.
#[test]
fn events_are_the_same_forever() {
    let batch = &batches(&source(&[("events.num", "50"), ("splits", "1")], &whole()), 50)[0];
    let rows = texts(batch);
    let expect = expect_test::expect_file!["testdata/events.txt"];
    expect.assert_eq(&[rows[0].as_str(), &rows[1], &rows[46], &rows[49], ""].join("\n"));
}
