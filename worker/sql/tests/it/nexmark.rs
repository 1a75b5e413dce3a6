//! Nexmark's queries in Flink's own text plan as they are.

use std::path::Path;

use expect_test::{Expect, expect};
use rheos_dataflow::graph::OperatorSpec;
use rheos_sql::{PlanOptions, plan};

use crate::support::explained;

/// Source, views and query, with the placeholders of the table's name and numbers filled in.
fn script(query: &str) -> String {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../crds/examples/nexmark");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let text = [read("source.sql"), read("views.sql"), read(&format!("{query}.sql"))].join("\n");
    text.replace("${NEXMARK_TABLE}", "datagen")
}

fn check(query: &str, expected: Expect) {
    expected.assert_eq(&explained(&script(query)));
}

#[test]
fn q0_passes_through() {
    check(
        "q0",
        expect![[r#"
            sink:nexmark_q0  sink nexmark_q0 (blackhole)
              calc:datagen:cab96a44  bid.auction AS auction, bid.bidder AS bidder, bid.price AS price, dateTime, bid.extra AS extra WHERE event_type = 2
                source:datagen  source datagen (nexmark): event_type, person{dateTime}, auction{dateTime}, bid{auction, bidder, price, dateTime, extra}, dateTime AS CASE WHEN event_type = 0 THEN person.dateTime WHEN event_type = 1 THEN auction.dateTime ELSE bid.dateTime END
        "#]],
    );
}

#[test]
fn q1_multiplies_decimals_exactly_as_its_sink_declares() {
    check(
        "q1",
        expect![[r#"
            sink:nexmark_q1  sink nexmark_q1 (blackhole)
              calc:datagen:30802c9f  bid.auction AS auction, bid.bidder AS bidder, MULTIPLY(0.908, bid.price) AS price, dateTime, bid.extra AS extra WHERE event_type = 2
                source:datagen  source datagen (nexmark): event_type, person{dateTime}, auction{dateTime}, bid{auction, bidder, price, dateTime, extra}, dateTime AS CASE WHEN event_type = 0 THEN person.dateTime WHEN event_type = 1 THEN auction.dateTime ELSE bid.dateTime END
        "#]],
    );
}

#[test]
fn q2_reads_two_columns() {
    check(
        "q2",
        expect![[r#"
        sink:nexmark_q2  sink nexmark_q2 (blackhole)
          calc:datagen:1ce0559d  bid.auction AS auction, bid.price AS price WHERE (event_type = 2) AND ((bid.auction % 123) = 0)
            source:datagen  source datagen (nexmark): event_type, bid{auction, price}
    "#]],
    );
}

#[test]
fn q5_counts_in_hopping_windows() {
    check(
        "q5-inner",
        expect![[r#"
            sink:nexmark_q5_inner  sink nexmark_q5_inner (blackhole)
              calc:datagen:b54a61ae  auction, num, window_start AS starttime, window_end AS endtime
                window-aggregate:datagen:da1aba0f  HOP 10s every 2s, COUNT(*) by auction [state: HOP 10s every 2s keys(BIGINT) calls(COUNT(*))]
                  local-window-aggregate:datagen:89558d11  partial HOP 10s every 2s, COUNT(*) by auction => hash(auction)
                    calc:datagen:ea90fe2e  bid.auction AS auction, dateTime AS rowtime WHERE event_type = 2
                      source:datagen  source datagen (nexmark): event_type, person{dateTime}, auction{dateTime}, bid{auction, dateTime}, dateTime AS CASE WHEN event_type = 0 THEN person.dateTime WHEN event_type = 1 THEN auction.dateTime ELSE bid.dateTime END, watermark dateTime - 4s
        "#]],
    );
}

#[test]
fn q7_takes_the_maximum_of_tumbling_windows() {
    check(
        "q7-inner",
        expect![[r#"
            sink:nexmark_q7_inner  sink nexmark_q7_inner (blackhole)
              calc:datagen:76d31712  maxprice, window_end AS dateTime
                window-aggregate:datagen:2590bc8c  TUMBLE 10s, MAX(price) [state: TUMBLE 10s keys() calls(MAX(BIGINT))]
                  local-window-aggregate:datagen:c8281b2b  partial TUMBLE 10s, MAX(price) => all to one
                    calc:datagen:4a51f8e4  dateTime AS rowtime, bid.price AS price WHERE event_type = 2
                      source:datagen  source datagen (nexmark): event_type, person{dateTime}, auction{dateTime}, bid{price, dateTime}, dateTime AS CASE WHEN event_type = 0 THEN person.dateTime WHEN event_type = 1 THEN auction.dateTime ELSE bid.dateTime END, watermark dateTime - 4s
        "#]],
    );
}

#[test]
fn q14_computes() {
    check(
        "q14",
        expect![[r#"
            sink:nexmark_q14  sink nexmark_q14 (blackhole)
              calc:datagen:0051f4b2  bid.auction AS auction, bid.bidder AS bidder, shared AS price, CASE WHEN (shared0 >= 8) AND (shared0 <= 18) THEN 'dayTime' WHEN (shared0 <= 6) OR (shared0 >= 20) THEN 'nightTime' ELSE… AS bidTimeType, dateTime, bid.extra AS extra WHERE (shared > 1000000.000) AND (shared < 50000000.000)
                calc:datagen:d6401ef7  MULTIPLY(0.908, bid.price) AS shared, bid.auction, bid.bidder, EXTRACT_HOUR(dateTime) AS shared0, dateTime, bid.extra WHERE event_type = 2
                  source:datagen  source datagen (nexmark): event_type, person{dateTime}, auction{dateTime}, bid{auction, bidder, price, dateTime, extra}, dateTime AS CASE WHEN event_type = 0 THEN person.dateTime WHEN event_type = 1 THEN auction.dateTime ELSE bid.dateTime END
        "#]],
    );
}

#[test]
fn q15_counts_distinct_with_filters() {
    check(
        "q15",
        expect![[r#"
            sink:nexmark_q15  sink nexmark_q15 (blackhole) [changes]
              group-aggregate:datagen:8a228910  COUNT(*), COUNT(*) FILTER (WHERE price < 10000), COUNT(*) FILTER (WHERE (price >= 10000) AND (price < 1000000)), COUNT(*) FILTER (WHERE price >= 1000000), COUNT(DISTINCT bidder), COUNT(DISTINCT bidder) FILTER (WHERE price < 10000), COUNT(DISTINCT bidder) FILTER (WHERE (price >= 10000) AND (price < 1000000)), COUNT(DISTINCT bidder) FILTER (WHERE price >= 1000000), COUNT(DISTINCT auction), COUNT(DISTINCT auction) FILTER (WHERE price < 10000), COUNT(DISTINCT auction) FILTER (WHERE (price >= 10000) AND (price < 1000000)), COUNT(DISTINCT auction) FILTER (WHERE price >= 1000000) by day [changes] [state: keys(STRING) calls(COUNT(*), COUNT(*) FILTER, COUNT(*) FILTER, COUNT(*) FILTER, COUNT(DISTINCT BIGINT), COUNT(DISTINCT BIGINT) FILTER, COUNT(DISTINCT BIGINT) FILTER, COUNT(DISTINCT BIGINT) FILTER, COUNT(DISTINCT BIGINT), COUNT(DISTINCT BIGINT) FILTER, COUNT(DISTINCT BIGINT) FILTER, COUNT(DISTINCT BIGINT) FILTER)]
                local-group-aggregate:datagen:b7a10aab  partial COUNT(*), COUNT(*) FILTER (WHERE price < 10000), COUNT(*) FILTER (WHERE (price >= 10000) AND (price < 1000000)), COUNT(*) FILTER (WHERE price >= 1000000), COUNT(DISTINCT bidder), COUNT(DISTINCT bidder) FILTER (WHERE price < 10000), COUNT(DISTINCT bidder) FILTER (WHERE (price >= 10000) AND (price < 1000000)), COUNT(DISTINCT bidder) FILTER (WHERE price >= 1000000), COUNT(DISTINCT auction), COUNT(DISTINCT auction) FILTER (WHERE price < 10000), COUNT(DISTINCT auction) FILTER (WHERE (price >= 10000) AND (price < 1000000)), COUNT(DISTINCT auction) FILTER (WHERE price >= 1000000) by day => hash(day)
                  calc:datagen:270e0254  DATE_FORMAT(dateTime, 'yyyy-MM-dd') AS day, bid.price < 10000 AS filter, (bid.price >= 10000) AND (bid.price < 1000000) AS filter0, bid.price >= 1000000 AS filter1, bid.bidder AS bidder, bid.auction AS auction WHERE event_type = 2
                    source:datagen  source datagen (nexmark): event_type, person{dateTime}, auction{dateTime}, bid{auction, bidder, price, dateTime}, dateTime AS CASE WHEN event_type = 0 THEN person.dateTime WHEN event_type = 1 THEN auction.dateTime ELSE bid.dateTime END
        "#]],
    );
}

#[test]
fn q16_groups_by_two_keys() {
    check(
        "q16",
        expect![[r#"
            sink:nexmark_q16  sink nexmark_q16 (blackhole) [changes]
              group-aggregate:datagen:206f7abe  MAX(DATE_FORMAT(dateTime, 'HH:mm')), COUNT(*), COUNT(*) FILTER (WHERE price < 10000), COUNT(*) FILTER (WHERE (price >= 10000) AND (price < 1000000)), COUNT(*) FILTER (WHERE price >= 1000000), COUNT(DISTINCT bidder), COUNT(DISTINCT bidder) FILTER (WHERE price < 10000), COUNT(DISTINCT bidder) FILTER (WHERE (price >= 10000) AND (price < 1000000)), COUNT(DISTINCT bidder) FILTER (WHERE price >= 1000000), COUNT(DISTINCT auction), COUNT(DISTINCT auction) FILTER (WHERE price < 10000), COUNT(DISTINCT auction) FILTER (WHERE (price >= 10000) AND (price < 1000000)), COUNT(DISTINCT auction) FILTER (WHERE price >= 1000000) by channel, day [changes] [state: keys(STRING, STRING) calls(MAX(STRING), COUNT(*), COUNT(*) FILTER, COUNT(*) FILTER, COUNT(*) FILTER, COUNT(DISTINCT BIGINT), COUNT(DISTINCT BIGINT) FILTER, COUNT(DISTINCT BIGINT) FILTER, COUNT(DISTINCT BIGINT) FILTER, COUNT(DISTINCT BIGINT), COUNT(DISTINCT BIGINT) FILTER, COUNT(DISTINCT BIGINT) FILTER, COUNT(DISTINCT BIGINT) FILTER)]
                local-group-aggregate:datagen:a917a5d0  partial MAX(DATE_FORMAT(dateTime, 'HH:mm')), COUNT(*), COUNT(*) FILTER (WHERE price < 10000), COUNT(*) FILTER (WHERE (price >= 10000) AND (price < 1000000)), COUNT(*) FILTER (WHERE price >= 1000000), COUNT(DISTINCT bidder), COUNT(DISTINCT bidder) FILTER (WHERE price < 10000), COUNT(DISTINCT bidder) FILTER (WHERE (price >= 10000) AND (price < 1000000)), COUNT(DISTINCT bidder) FILTER (WHERE price >= 1000000), COUNT(DISTINCT auction), COUNT(DISTINCT auction) FILTER (WHERE price < 10000), COUNT(DISTINCT auction) FILTER (WHERE (price >= 10000) AND (price < 1000000)), COUNT(DISTINCT auction) FILTER (WHERE price >= 1000000) by channel, day => hash(channel, day)
                  calc:datagen:5cdd6a08  bid.channel AS channel, DATE_FORMAT(dateTime, 'yyyy-MM-dd') AS day, DATE_FORMAT(dateTime, 'HH:mm') AS arg, bid.price < 10000 AS filter, (bid.price >= 10000) AND (bid.price < 1000000) AS filter0, bid.price >= 1000000 AS filter1, bid.bidder AS bidder, bid.auction AS auction WHERE event_type = 2
                    source:datagen  source datagen (nexmark): event_type, person{dateTime}, auction{dateTime}, bid{auction, bidder, price, channel, dateTime}, dateTime AS CASE WHEN event_type = 0 THEN person.dateTime WHEN event_type = 1 THEN auction.dateTime ELSE bid.dateTime END
        "#]],
    );
}

#[test]
fn q17_aggregates_prices() {
    check(
        "q17",
        expect![[r#"
            sink:nexmark_q17  sink nexmark_q17 (blackhole) [changes]
              group-aggregate:datagen:4b7ed610  COUNT(*), COUNT(*) FILTER (WHERE price < 10000), COUNT(*) FILTER (WHERE (price >= 10000) AND (price < 1000000)), COUNT(*) FILTER (WHERE price >= 1000000), MIN(price), MAX(price), AVG(price), SUM(price) by auction, day [changes] [state: keys(BIGINT, STRING) calls(COUNT(*), COUNT(*) FILTER, COUNT(*) FILTER, COUNT(*) FILTER, MIN(BIGINT), MAX(BIGINT), AVG(BIGINT), SUM(BIGINT))]
                local-group-aggregate:datagen:2e247169  partial COUNT(*), COUNT(*) FILTER (WHERE price < 10000), COUNT(*) FILTER (WHERE (price >= 10000) AND (price < 1000000)), COUNT(*) FILTER (WHERE price >= 1000000), MIN(price), MAX(price), AVG(price), SUM(price) by auction, day => hash(auction, day)
                  calc:datagen:dfe3da22  bid.auction AS auction, DATE_FORMAT(dateTime, 'yyyy-MM-dd') AS day, bid.price < 10000 AS filter, (bid.price >= 10000) AND (bid.price < 1000000) AS filter0, bid.price >= 1000000 AS filter1, bid.price AS price WHERE event_type = 2
                    source:datagen  source datagen (nexmark): event_type, person{dateTime}, auction{dateTime}, bid{auction, price, dateTime}, dateTime AS CASE WHEN event_type = 0 THEN person.dateTime WHEN event_type = 1 THEN auction.dateTime ELSE bid.dateTime END
        "#]],
    );
}

#[test]
fn q22_splits_urls() {
    check(
        "q22",
        expect![[r#"
        sink:nexmark_q22  sink nexmark_q22 (blackhole)
          calc:datagen:9581cdca  bid.auction AS auction, bid.bidder AS bidder, bid.price AS price, bid.channel AS channel, SPLIT_INDEX(bid.url, '/', 3) AS dir1, SPLIT_INDEX(bid.url, '/', 4) AS dir2, SPLIT_INDEX(bid.url, '/', 5) AS dir3 WHERE event_type = 2
            source:datagen  source datagen (nexmark): event_type, bid{auction, bidder, price, channel, url}
    "#]],
    );
}

#[test]
fn without_pushdown_the_source_delivers_every_column() {
    let options = PlanOptions { pushdown: false, ..PlanOptions::default() };
    let planned = plan(&script("q2"), &options).unwrap();
    let OperatorSpec::Source(source) = &planned.graph.nodes[0].spec else { panic!("the source comes first") };
    assert_eq!(source.physical, source.declared);
    assert_eq!(planned.graph.nodes[0].schema.fields().len(), 4, "computed columns that nobody reads stay out");
}

#[test]
fn a_filter_does_not_copy_strings_that_nobody_reads() {
    let options = PlanOptions { pushdown: false, ..PlanOptions::default() };
    let text = rheos_sql::explain(&plan(&script("q1"), &options).unwrap());
    expect![[r#"
        sink:nexmark_q1  sink nexmark_q1 (blackhole)
          calc:datagen:30802c9f  bid.auction AS auction, bid.bidder AS bidder, MULTIPLY(0.908, bid.price) AS price, dateTime, bid.extra AS extra WHERE event_type = 2
            calc:datagen:feb06c14  event_type, bid.auction, bid.bidder, bid.price, dateTime, bid.extra
              source:datagen  source datagen (nexmark): event_type, person{id, name, emailAddress, creditCard, city, state, dateTime, extra}, auction{id, itemName, description, initialBid, reserve, dateTime, expires, seller, category, extra}, bid{auction, bidder, price, channel, url, dateTime, extra}, dateTime AS CASE WHEN event_type = 0 THEN person.dateTime WHEN event_type = 1 THEN auction.dateTime ELSE bid.dateTime END
    "#]].assert_eq(&text);
}
