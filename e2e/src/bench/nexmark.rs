//! [io] Nexmark in Flink's text: events a second and events per CPU-second of all processes.

use super::table::{Table, amount};
use crate::shapes::{Settings, manifest};
use crate::worker::{Job, Summary};

/// One query.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    /// Its name in Nexmark.
    pub name: &'static str,
    /// Columns of the sink.
    pub sink: &'static str,
    /// The `SELECT`.
    pub select: &'static str,
    /// Events of a run.
    pub events: u64,
    /// Thousand events per CPU-second of Flink 2.3's task manager on a 2-core machine of the same kind (one slot, heap
    /// state, its own generator inside the slot, checkpoints every 10 s): from, to. 0: not measured.
    pub flink: (u64, u64),
    /// Measured without projection pushed into the generator, too.
    pub both_ways: bool,
}

const RANKS: &str = "count(*) AS total_bids,
  count(*) filter (where price < 10000) AS rank1_bids,
  count(*) filter (where price >= 10000 and price < 1000000) AS rank2_bids,
  count(*) filter (where price >= 1000000) AS rank3_bids";

const DISTINCTS: &str = "count(distinct bidder) AS total_bidders,
  count(distinct bidder) filter (where price < 10000) AS rank1_bidders,
  count(distinct bidder) filter (where price >= 10000 and price < 1000000) AS rank2_bidders,
  count(distinct bidder) filter (where price >= 1000000) AS rank3_bidders,
  count(distinct auction) AS total_auctions,
  count(distinct auction) filter (where price < 10000) AS rank1_auctions,
  count(distinct auction) filter (where price >= 10000 and price < 1000000) AS rank2_auctions,
  count(distinct auction) filter (where price >= 1000000) AS rank3_auctions";

/// The queries that are measured.
pub const QUERIES: &[Query] = &[
    Query {
        name: "q0",
        sink: "auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra VARCHAR",
        select: "SELECT auction, bidder, price, `dateTime`, extra FROM bid",
        events: 60_000_000,
        flink: (790, 930),
        both_ways: true,
    },
    Query {
        name: "q1",
        sink: "auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), `dateTime` TIMESTAMP(3), extra VARCHAR",
        select: "SELECT auction, bidder, 0.908 * price as price, `dateTime`, extra FROM bid",
        events: 60_000_000,
        flink: (820, 850),
        both_ways: true,
    },
    Query {
        name: "q2",
        sink: "auction BIGINT, price BIGINT",
        select: "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0",
        events: 60_000_000,
        flink: (720, 860),
        both_ways: true,
    },
    Query {
        name: "q5, inner aggregation",
        sink: "auction BIGINT, num BIGINT, starttime TIMESTAMP(3), endtime TIMESTAMP(3)",
        select: "SELECT auction, count(*) AS num, window_start AS starttime, window_end AS endtime
  FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
  GROUP BY auction, window_start, window_end",
        events: 60_000_000,
        flink: (260, 310),
        both_ways: false,
    },
    Query {
        name: "q7, inner aggregation",
        sink: "maxprice BIGINT, starttime TIMESTAMP(3), endtime TIMESTAMP(3)",
        select: "SELECT max(price) AS maxprice, window_start AS starttime, window_end AS endtime
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end",
        events: 60_000_000,
        flink: (52, 62),
        both_ways: false,
    },
    Query {
        name: "q14, without its UDF",
        sink: "auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), bidTimeType VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR",
        select: "SELECT auction, bidder, 0.908 * price as price,
  CASE WHEN HOUR(`dateTime`) >= 8 AND HOUR(`dateTime`) <= 18 THEN 'dayTime'
       WHEN HOUR(`dateTime`) <= 6 OR HOUR(`dateTime`) >= 20 THEN 'nightTime'
       ELSE 'otherTime' END AS bidTimeType,
  `dateTime`, extra
  FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000",
        events: 60_000_000,
        flink: (910, 910),
        both_ways: true,
    },
    Query {
        name: "q15",
        sink: "`day` VARCHAR, total_bids BIGINT, rank1_bids BIGINT, rank2_bids BIGINT, rank3_bids BIGINT, total_bidders BIGINT, rank1_bidders BIGINT, rank2_bidders BIGINT, rank3_bidders BIGINT, total_auctions BIGINT, rank1_auctions BIGINT, rank2_auctions BIGINT, rank3_auctions BIGINT",
        select: "SELECT DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') as `day`, $RANKS, $DISTINCTS FROM bid GROUP BY DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
        events: 30_000_000,
        flink: (200, 250),
        both_ways: false,
    },
    Query {
        name: "q16",
        sink: "channel VARCHAR, `day` VARCHAR, `minute` VARCHAR, total_bids BIGINT, rank1_bids BIGINT, rank2_bids BIGINT, rank3_bids BIGINT, total_bidders BIGINT, rank1_bidders BIGINT, rank2_bidders BIGINT, rank3_bidders BIGINT, total_auctions BIGINT, rank1_auctions BIGINT, rank2_auctions BIGINT, rank3_auctions BIGINT",
        select: "SELECT channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') as `day`, max(DATE_FORMAT(`dateTime`, 'HH:mm')) as `minute`, $RANKS, $DISTINCTS
  FROM bid GROUP BY channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
        events: 10_000_000,
        flink: (35, 35),
        both_ways: false,
    },
    Query {
        name: "q17",
        sink: "auction BIGINT, `day` VARCHAR, total_bids BIGINT, rank1_bids BIGINT, rank2_bids BIGINT, rank3_bids BIGINT, min_price BIGINT, max_price BIGINT, avg_price BIGINT, sum_price BIGINT",
        select: "SELECT auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') as `day`, $RANKS,
  min(price) AS min_price, max(price) AS max_price, avg(price) AS avg_price, sum(price) AS sum_price
  FROM bid GROUP BY auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
        events: 30_000_000,
        flink: (350, 380),
        both_ways: false,
    },
    Query {
        name: "q22",
        sink: "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, dir1 VARCHAR, dir2 VARCHAR, dir3 VARCHAR",
        select: "SELECT auction, bidder, price, channel,
  SPLIT_INDEX(url, '/', 3) as dir1, SPLIT_INDEX(url, '/', 4) as dir2, SPLIT_INDEX(url, '/', 5) as dir3 FROM bid",
        events: 30_000_000,
        flink: (0, 0),
        both_ways: false,
    },
    Query {
        name: "bids by bidder, tumbling 10 s",
        sink: "bidder BIGINT, num BIGINT, starttime TIMESTAMP(3)",
        select: "SELECT bidder, count(*) AS num, window_start AS starttime
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY bidder, window_start, window_end",
        events: 60_000_000,
        flink: (0, 0),
        both_ways: false,
    },
];

/// Nexmark's tables and views as in Flink's script.
const TABLES: &str = "
CREATE TABLE nexmark (
  event_type int,
  person ROW<id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR>,
  auction ROW<id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT, `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra VARCHAR>,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR>,
  `dateTime` AS CASE WHEN event_type = 0 THEN person.`dateTime` WHEN event_type = 1 THEN auction.`dateTime` ELSE bid.`dateTime` END,
  WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND
) WITH ('connector' = 'nexmark', 'next-event.rate' = '10000000', 'events.num' = '$EVENTS');
CREATE VIEW bid AS SELECT event_type, bid.auction, bid.bidder, bid.price, bid.channel, bid.url, `dateTime`, bid.extra FROM nexmark WHERE event_type = 2;
";

/// Runs the queries whose names contain one of `wanted` (none: all) with 1 and 2 workers; `scale` shortens the runs.
pub async fn run(wanted: &[String], scale: f64, print: &mut dyn FnMut(String)) {
    let heads = [
        "query",
        "workers",
        "pushdown",
        "events/s",
        "events per CPU-s",
        "Flink 2.3",
        "ratio",
        "peak memory",
        "checkpoints",
        "p50",
        "last bytes",
    ];
    for line in Table::new(&heads).to_string().lines() {
        print(line.to_owned());
    }
    for query in QUERIES.iter().filter(|query| wanted.is_empty() || wanted.iter().any(|name| query.name.split(',').next() == Some(name))) {
        for parallelism in [1, 2] {
            for pushdown in [true, false] {
                if pushdown || query.both_ways {
                    let events = (query.events as f64 * scale) as u64;
                    print(Table::line(&measure(query, events, parallelism, pushdown).await));
                }
            }
        }
    }
}

async fn measure(query: &Query, events: u64, parallelism: u32, pushdown: bool) -> Vec<String> {
    let settings = Settings { events, parallelism, checkpoint_ms: 10_000, ..Settings::default() };
    let tables = TABLES.replace("$EVENTS", &events.to_string());
    let select = query.select.replace("$RANKS", RANKS).replace("$DISTINCTS", DISTINCTS);
    let sql = format!("{tables}CREATE TABLE results ({}) WITH ('connector' = 'blackhole');\nINSERT INTO results {select};", query.sink);
    let job = Job::new(&manifest("nexmark", &sql, &settings));
    let mut run = job.start_with(if pushdown { &[] } else { &["--no-pushdown"] }, &[]);
    let code = run.wait().await;
    assert_eq!(code, 0, "{} failed\n{}", query.name, run.log());
    row(query, parallelism, pushdown, events, &run.summary())
}

fn row(query: &Query, parallelism: u32, pushdown: bool, events: u64, summary: &Summary) -> Vec<String> {
    assert_eq!(summary.rows_in, events, "{}: rows read", query.name);
    let per_cpu = events as f64 / summary.cpu_seconds;
    let (low, high) = query.flink;
    let (flink, ratio) = match (low, high) {
        (0, 0) => ("not measured".to_owned(), "-".to_owned()),
        _ => (format!("{low}-{high} k"), format!("{:.1}", per_cpu / 1e3 / high as f64)),
    };
    vec![
        query.name.to_owned(),
        parallelism.to_string(),
        if pushdown { "yes" } else { "no" }.to_owned(),
        amount(events as f64 / summary.wall_seconds),
        amount(per_cpu),
        flink,
        ratio,
        format!("{} MiB", summary.peak_rss_bytes >> 20),
        summary.checkpoints.completed.to_string(),
        format!("{:.0} ms", summary.checkpoints.p50_ms),
        amount(summary.checkpoints.last_bytes as f64),
    ]
}
